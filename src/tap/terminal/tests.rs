//! Lines as they are printed, to the character.

use serde_json::json;

use super::*;
use crate::tap::record::{RequestHead, Summary};

const PLAIN: Style = Style {
    full: false,
    color: false,
    width: usize::MAX,
};

fn record(seq: u64, micros: u64, from: Party, to: Party, message: serde_json::Value) -> Record {
    Record {
        v: 1,
        seq,
        time: format!("2026-11-21T16:40:00.{micros:06}Z"),
        connection: Some("c3".to_owned()),
        exchange: Some(12),
        kind: Kind::Message,
        from: Some(from),
        to: Some(to),
        call: Some(4),
        message: Some(serde_json::from_value(message).unwrap()),
        size: Some(312),
        ..Record::default()
    }
}

#[test]
fn a_call_is_five_aligned_lines_with_the_times_of_both_legs() {
    use Party::{Client, Ferry, Server};
    let request = json!({"type": "request", "id": 5, "method": "tools/call", "name": "echo"});
    let result = json!({"type": "result", "id": 5});
    let status = Record {
        kind: Kind::Status,
        message: None,
        status: Some(200),
        ..record(3, 2000, Server, Ferry, result.clone())
    };
    let mut printer = Printer::new(PLAIN);
    let mut text = String::new();
    for record in [
        record(1, 0, Client, Ferry, request.clone()),
        record(2, 500, Ferry, Server, request),
        status,
        record(4, 2500, Server, Ferry, result.clone()),
        record(5, 123_000, Ferry, Client, result),
        Record {
            kind: Kind::Missed,
            count: Some(3),
            from: None,
            to: None,
            exchange: None,
            ..record(9, 0, Client, Ferry, json!({"type": "error"}))
        },
    ] {
        text.push_str(&printer.text(&record));
    }
    assert_eq!(
        text,
        "\
16:40:00.000 c3    #12    client ───▶ ferry             request      tools/call echo id=5 312 B
16:40:00.000 c3    #12                ferry ───▶ server request      tools/call echo id=5 312 B
16:40:00.002 c3    #12                ferry ◀─── server result       id=5 HTTP 200 312 B 2.0 ms
16:40:00.123 c3    #12    client ◀─── ferry             result       id=5 312 B 123 ms
… 3 records were not shown
16:40:00.000 c3                                         … 3 events were lost
"
    );
}

#[test]
fn what_a_peer_chose_cannot_play_tricks() {
    let hostile = "a\nb\r\u{1b}[31mc\u{9b}2J\u{202e}d\u{2028}e\u{7f}";
    let request = json!({"type": "request", "id": hostile, "method": hostile, "name": hostile});
    let mut record = record(1, 0, Party::Client, Party::Server, request);
    record.http = Some(RequestHead {
        method: hostile.to_owned(),
        target: hostile.to_owned(),
        headers: vec![(hostile.to_owned(), hostile.to_owned())],
    });
    record.body = Some(serde_json::value::to_raw_value(&json!({hostile: [hostile]})).unwrap());
    record.purpose = Some(hostile.to_owned());
    record.why = Some(hostile.to_owned());
    record.peer = Some(hostile.to_owned());
    record.connection = Some(hostile.to_owned());
    let full = Style {
        full: true,
        ..PLAIN
    };
    for kind in [
        Kind::Message,
        Kind::Opened,
        Kind::Refused,
        Kind::Ended,
        Kind::Closed,
    ] {
        record.kind = kind;
        let text = Printer::new(full).text(&record);
        assert!(text.contains("a\\nb"), "{text}");
        let bad = text
            .chars()
            .find(|char| *char != '\n' && crate::logging::is_hidden(*char));
        assert_eq!(bad, None, "{text}");
        assert!(text.lines().all(|line| !line.starts_with('b')), "{text}");
    }
}

#[test]
fn a_line_is_cut_to_the_width_and_coloured_only_on_demand() {
    let name = "n".repeat(300);
    let request = json!({"type": "request", "id": 5, "method": "tools/call", "name": name});
    let record = record(1, 0, Party::Client, Party::Ferry, request);
    let text = |style| Printer::new(style).text(&record);
    let cut = text(Style { width: 80, ..PLAIN });
    assert_eq!(cut.trim_end().chars().count(), 80, "{cut}");
    assert!(cut.ends_with("…\n"), "{cut}");
    assert!(!text(PLAIN).contains('\u{1b}'));
    let color = text(Style {
        width: 80,
        color: true,
        ..PLAIN
    });
    let mut bare = color.clone();
    for code in [1, 2, 36, 0] {
        bare = bare.replace(&format!("\u{1b}[{code}m"), "");
    }
    assert_eq!(bare, cut);
    assert_ne!(color, cut);
}

#[test]
fn a_body_that_was_not_read_says_why() {
    let packed = Record {
        why: Some("the body is compressed (gzip)".to_owned()),
        ..record(
            1,
            0,
            Party::Server,
            Party::Client,
            json!({"type": "unknown"}),
        )
    };
    let line = Printer::new(PLAIN).text(&packed);
    assert!(
        line.contains(" not read     312 B the body is compressed (gzip)"),
        "{line}"
    );
}

#[test]
fn a_wide_character_takes_two_columns_and_no_line_is_wider_than_the_terminal() {
    for name in [
        "日本語の長い名前ツール".repeat(8),
        "👩‍💻🚢".repeat(40),
        "x日".repeat(60),
    ] {
        let request = json!({"type": "request", "id": 5, "method": "tools/call", "name": name});
        let record = record(1, 0, Party::Client, Party::Ferry, request);
        for width in 60..130 {
            let line = Printer::new(Style { width, ..PLAIN }).text(&record);
            let columns = line.trim_end().width();
            assert!(columns <= width, "{columns} in {width}: {line}");
            assert!(columns + 2 >= width, "{columns} in {width}: {line}");
        }
    }
}

#[test]
fn sizes_are_said_as_on_the_page() {
    for (size, said) in [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 KiB"),
        (10_239, "10.0 KiB"),
        (10_240, "10 KiB"),
        (65_536, "64 KiB"),
        (1_024_000, "1.0 MiB"),
        (1_048_576, "1.0 MiB"),
        (17_500_000, "16.7 MiB"),
    ] {
        assert_eq!(bytes(size), said);
    }
}

#[test]
fn in_few_columns_why_something_was_refused_comes_before_its_target() {
    let refused = Record {
        kind: Kind::Refused,
        message: None,
        status: Some(404),
        why: Some("no such connection".to_owned()),
        http: Some(RequestHead {
            method: "POST".to_owned(),
            target: "/messages?sessionId=%5Bhash%203fa2c1%5D&more=of-it".to_owned(),
            headers: Vec::new(),
        }),
        from: None,
        to: None,
        ..record(1, 0, Party::Client, Party::Ferry, json!({"type": "error"}))
    };
    let line = Printer::new(Style { width: 80, ..PLAIN }).text(&refused);
    let said = "refused HTTP 404 no such connection: POST";
    assert!(line.contains(said), "{line}");
}

#[test]
fn eighty_columns_have_room_for_the_name_of_a_tool() {
    let request =
        json!({"type": "request", "id": 5, "method": "tools/call", "name": "create_issue"});
    for (from, to, arrow) in [
        (Party::Client, Party::Ferry, "client ▶"),
        (Party::Ferry, Party::Server, " ▶ server"),
    ] {
        let style = Style { width: 80, ..PLAIN };
        let line = Printer::new(style).text(&record(1, 0, from, to, request.clone()));
        assert!(line.contains("tools/call create_issue"), "{line}");
        assert!(line.contains(arrow) && !line.contains('…'), "{line}");
    }
}

#[test]
fn a_message_is_spread_over_lines_without_being_changed() {
    let mut out = String::new();
    pretty::write(
        r#"{"b":1.0e2, "a":[],"a":{"x":"},\"[ \u202e"},"c":[1, {}]}"#,
        "> ",
        &mut out,
    );
    assert_eq!(
        out,
        "\
> {
>   \"b\": 1.0e2,
>   \"a\": [],
>   \"a\": {
>     \"x\": \"},\\\"[ \\u202e\"
>   },
>   \"c\": [
>     1,
>     {}
>   ]
> }
"
    );
}

#[test]
fn what_is_remembered_is_bounded() {
    let mut printer = Printer::new(PLAIN);
    let request: Summary = serde_json::from_value(json!({"type": "request", "id": 5})).unwrap();
    for number in 0..MAX_OPEN as u64 * 2 {
        let mut record = record(
            number,
            0,
            Party::Server,
            Party::Ferry,
            json!({"type": "request"}),
        );
        record.message = Some(request.clone());
        record.exchange = Some(number);
        printer.text(&record);
        record.kind = Kind::Status;
        record.status = Some(200);
        record.call = Some(number);
        printer.text(&record);
    }
    assert!(printer.begun.len() <= MAX_OPEN && printer.statuses.len() <= MAX_OPEN);
}
