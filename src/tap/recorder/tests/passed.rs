//! Requests that pass: answers that are not one JSON text, what is cancelled or refused, batches, and whose they are.

use super::*;
use crate::tap::CLIENT_LEFT;
use crate::tap::record::ConnectionRow;
use crate::tap::recorder::MAX_OPEN;

const RESULT: &str = r#"{"jsonrpc":"2.0","id":5,"result":{}}"#;
const TOLD: &str = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;
/// As gzip begins, with bytes that are no text.
const PACKED: &[u8] = &[0x1f, 0x8b, 0x08, 0x00, 0xff, 0x0a, 0xc3, 0x28];

impl Story {
    /// A POST begins to pass, and its body has come.
    fn asks(&mut self, number: u64, pairs: &[(&'static str, &str)], body: &[u8]) -> Arc<Head> {
        let head = head(Method::POST, "/mcp", pairs);
        let began = Passing::Began {
            peer: PEER,
            head: Arc::clone(&head),
        };
        self.passing(number, began);
        self.passing(number, Passing::Upload(bytes(body)));
        self.passing(number, Passing::Sent);
        head
    }

    fn answer_begins(&mut self, number: u64, status: u16, pairs: &[(&'static str, &str)]) {
        let headers = Arc::new(headers(pairs));
        self.passing(number, Passing::Status { status, headers });
    }

    fn ends(&mut self, number: u64, why: Option<&str>) {
        let why = why.map(str::to_owned);
        self.passing(number, Passing::Ended { why });
    }

    /// The answer to it, whole.
    fn is_answered(
        &mut self,
        number: u64,
        status: u16,
        pairs: &[(&'static str, &str)],
        body: &[u8],
    ) {
        self.answer_begins(number, status, pairs);
        for part in body.chunks(7) {
            self.passing(number, Passing::Download(bytes(part)));
        }
        self.ends(number, None);
    }

    /// The ferry refuses the request with this head.
    fn is_refused(&mut self, number: u64, head: Arc<Head>) {
        let why = "nobody is there";
        self.ends(number, Some(why));
        self.happens(What::Refused {
            peer: PEER,
            head,
            status: 502,
            why: why.to_owned(),
        });
    }

    fn last(&self) -> &ExchangeRow {
        let newest = self.rows.iter().max_by_key(|row| row.exchange);
        newest.expect("a row")
    }

    fn only_connection(&self) -> ConnectionRow {
        let (connections, open) = self.recorder.open_rows();
        assert!(open.is_empty(), "{open:?}");
        let [connection] = &connections[..] else {
            panic!("{connections:?}");
        };
        connection.clone()
    }
}

fn bytes(piece: &[u8]) -> Text {
    Keep::new(DEFAULT_MAX_BODY).piece(piece)
}

#[test]
fn a_compressed_answer_is_unread_and_nothing_of_it_is_shown() {
    for (number, kind, coding) in [
        (1, "application/json", "gzip"),
        (2, "text/event-stream", "identity, br"),
    ] {
        let mut story = Story::new();
        story.asks(number, &[], CALL.as_bytes());
        let pairs = [("content-type", kind), ("content-encoding", coding)];
        story.is_answered(number, 200, &pairs, PACKED);
        let row = story.last();
        assert_eq!((row.outcome, row.status), (Outcome::Unread, Some(200)));
        assert_eq!((row.response_bytes, row.messages), (PACKED.len(), 2));
        assert!(row.upstream_ms.is_some_and(|waited| waited > 0.0));
        let mut records = story.records.iter().rev();
        let record = records.find(|it| it.kind == Kind::Message);
        let record = record.expect("a record");
        assert_eq!(record.size, Some(PACKED.len()));
        assert!(record.text.is_none() && record.body.is_none() && !record.cut);
        let message = record.message.as_ref().expect("what it is");
        assert_eq!(message.kind, MessageKind::Unknown);
        let coding = coding.trim_start_matches("identity, ");
        let why = format!("the body is compressed ({coding}): the tap does not read it");
        assert_eq!(record.why.as_deref(), Some(why.as_str()));
        assert_eq!(story.only_connection().errors, 0);
    }
}

#[test]
fn a_compressed_answer_that_failed_or_broke_off_is_told_by_its_status_and_its_end() {
    let mut story = Story::new();
    let gzip = [("content-encoding", "gzip")];
    story.asks(1, &[], CALL.as_bytes());
    story.is_answered(1, 500, &gzip, PACKED);
    assert_eq!(story.last().outcome, Outcome::Error);
    assert_eq!(story.last().response_bytes, PACKED.len());
    let stream = [gzip[0], ("content-type", "text/event-stream")];
    for (number, pairs, outcome) in [
        (2, &gzip[..], Outcome::Lost),
        // Clients leave a stream when they have their answer, and nobody knows what this holds.
        (3, &stream[..], Outcome::Unread),
    ] {
        story.asks(number, &[], CALL.as_bytes());
        story.answer_begins(number, 200, pairs);
        story.passing(number, Passing::Download(bytes(PACKED)));
        story.ends(number, Some(CLIENT_LEFT));
        assert_eq!(story.last().outcome, outcome);
    }
    // What is said to be `identity` is read.
    story.asks(4, &[], CALL.as_bytes());
    let plain = [("content-encoding", "Identity")];
    story.is_answered(4, 200, &plain, RESULT.as_bytes());
    assert_eq!(story.last().outcome, Outcome::Result);
}

#[test]
fn a_compressed_request_is_named_by_its_headers() {
    let mut story = Story::new();
    let long = "x".repeat(60_000);
    let gzip = ("content-encoding", "gzip");
    let named = [gzip, ("mcp-method", "tools/call"), ("mcp-name", &long)];
    story.asks(1, &named, PACKED);
    story.is_answered(1, 200, &[], RESULT.as_bytes());
    let row = story.last();
    assert_eq!(
        (row.method.as_str(), row.outcome),
        ("tools/call", Outcome::Result)
    );
    let name = row.name.as_deref().expect("a name");
    assert_eq!(name.chars().count(), 201, "cut, and a sign of it");
    let record = &story.records[1];
    assert!(record.text.is_none() && record.body.is_none() && record.why.is_some());
    let message = record.message.as_ref().expect("what it is");
    assert_eq!(message.kind, MessageKind::Request);
    let told = [gzip, ("mcp-method", "notifications/x")];
    story.asks(2, &told, PACKED);
    story.is_answered(2, 202, &[], b"");
    assert_eq!(story.row("notifications/x").outcome, Outcome::Sent);
    story.asks(3, &[gzip], PACKED);
    story.is_answered(3, 202, &[], b"");
    assert_eq!(story.row("POST /mcp").outcome, Outcome::Sent);
    let head = story.records.iter().rev().find_map(|it| it.http.as_ref());
    let header = |name| {
        let mut headers = head.into_iter().flat_map(|it| &it.headers);
        headers.find(|(it, _)| it == name)
    };
    assert!(header("content-encoding").is_some(), "it says how");
}

#[test]
fn what_a_client_says_in_headers_is_not_kept_at_any_length() {
    let mut story = Story::new();
    let long = "y".repeat(60_000);
    let pairs = [
        ("mcp-method", long.as_str()),
        ("mcp-protocol-version", &long),
    ];
    story.asks(1, &pairs, b"{");
    story.is_answered(1, 200, &[], RESULT.as_bytes());
    assert_eq!(story.last().method.chars().count(), 201);
    let protocol = story.only_connection().protocol.expect("a version");
    assert_eq!(protocol.chars().count(), 201);
}

#[test]
fn each_line_of_json_lines_is_a_message() {
    let told = r#"{"jsonrpc":"2.0","method":"notifications/progress"}"#;
    let body = format!("{told}\r\n\n{told}\n{RESULT}");
    for kind in [
        "application/json-lines",
        "Application/X-NDJSON; charset=utf-8",
    ] {
        let mut story = Story::new();
        story.asks(1, &[], CALL.as_bytes());
        story.is_answered(1, 200, &[("content-type", kind)], body.as_bytes());
        let row = story.row("tools/call");
        assert_eq!((row.outcome, row.messages), (Outcome::Result, 4));
        let records = story.records.iter();
        let kinds: Vec<_> = records
            .filter(|it| it.from == Some(Party::Server) && it.body.is_some())
            .filter_map(|it| Some((it.message.as_ref()?.kind, it.size?)))
            .collect();
        let notice = MessageKind::Notification;
        assert_eq!(
            kinds,
            [
                (notice, told.len() + 1),
                (notice, told.len()),
                (MessageKind::Result, RESULT.len())
            ]
        );
    }
}

#[test]
fn a_long_line_is_cut_and_what_follows_a_gap_is_read() {
    let mut story = Story::new();
    let lines = [("content-type", "application/jsonl")];
    let long = "x".repeat(DEFAULT_MAX_BODY);
    let noise = format!(r#"{{"method":"notifications/x","params":{{"x":"{long}"}}}}"#);
    story.asks(1, &[], CALL.as_bytes());
    let body = format!("{noise}\n{RESULT}\n");
    story.is_answered(1, 200, &lines, body.as_bytes());
    assert_eq!(story.last().outcome, Outcome::Result);
    let cut = story.records.iter().find(|it| it.cut).expect("a record");
    assert_eq!(cut.size, Some(noise.len()));
    story.asks(2, &[], CALL.as_bytes());
    story.answer_begins(2, 200, &lines);
    story.passing(2, Passing::Gap);
    let rest = format!("of a line\"}}\n{RESULT}\n");
    story.passing(2, Passing::Download(bytes(rest.as_bytes())));
    story.ends(2, None);
    let row = story.last();
    assert_eq!((row.outcome, row.messages), (Outcome::Result, 2));
}

#[test]
fn an_event_that_is_cut_has_its_own_size_and_one_without_data_is_no_answer() {
    let mut story = Story::new();
    let stream = [("content-type", "text/event-stream")];
    let long = "x".repeat(3 * DEFAULT_MAX_BODY);
    let result = format!(r#"{{"id":5,"result":{{"content":["{long}"]}}}}"#);
    for (number, body, outcome, size) in [
        (
            1,
            format!("data: {result}\n\n"),
            Outcome::Result,
            result.len(),
        ),
        (2, format!(": {long}\n\n"), Outcome::Lost, 0),
    ] {
        story.asks(number, &[], CALL.as_bytes());
        story.answer_begins(number, 200, &stream);
        for part in body.as_bytes().chunks(10_000) {
            story.passing(number, Passing::Download(bytes(part)));
        }
        story.ends(number, None);
        let row = story.last();
        assert_eq!((row.outcome, row.response_bytes), (outcome, size));
    }
    let cut = story.records.iter().filter(|it| it.cut).map(|it| it.size);
    assert_eq!(cut.collect::<Vec<_>>(), [Some(result.len())]);
}

#[test]
fn a_notification_that_is_not_taken_is_an_error_and_one_that_is_has_its_status() {
    let mut story = Story::new();
    story.asks(1, &[], TOLD.as_bytes());
    story.is_answered(1, 202, &[], b"");
    let row = story.last();
    assert_eq!((row.outcome, row.status), (Outcome::Sent, Some(202)));
    story.asks(2, &[], TOLD.as_bytes());
    let error = r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":""}}"#;
    story.is_answered(2, 404, &[], error.as_bytes());
    let row = story.last();
    assert_eq!((row.outcome, row.status), (Outcome::Error, Some(404)));
    assert_eq!((row.code, row.response_bytes), (Some(-32600), error.len()));
    let head = story.asks(3, &[], TOLD.as_bytes());
    story.is_refused(3, head);
    let row = story.last();
    assert_eq!((row.outcome, row.status), (Outcome::Refused, Some(502)));
    assert_eq!(story.rows.len(), 3);
    let connection = story.only_connection();
    assert_eq!((connection.errors, connection.in_flight), (2, 0));
}

#[test]
fn a_request_that_the_ferry_refuses_says_so_and_is_one_error() {
    let mut story = Story::new();
    for (number, body) in [(1, CALL), (2, "no message"), (3, "[]")] {
        let head = story.asks(number, &[], body.as_bytes());
        story.is_refused(number, head);
        let row = story.last();
        assert_eq!((row.outcome, row.status), (Outcome::Refused, Some(502)));
        let record = story.records.last().expect("a record");
        assert_eq!(record.exchange, Some(row.exchange));
    }
    // One that the client gave up is lost.
    story.asks(4, &[], CALL.as_bytes());
    story.ends(4, Some(CLIENT_LEFT));
    assert_eq!(story.last().outcome, Outcome::Lost);
    assert_eq!(story.rows.len(), 4);
    let connection = story.only_connection();
    assert_eq!((connection.errors, connection.in_flight), (4, 0));
}

#[test]
fn a_client_of_the_modern_revision_cancels_by_leaving() {
    let mut story = Story::new();
    let modern = [("mcp-protocol-version", "2026-07-28")];
    story.asks(1, &modern, CALL.as_bytes());
    story.ends(1, Some(CLIENT_LEFT));
    assert_eq!(story.last().outcome, Outcome::Cancelled);
    // The server going is another thing, and what the ferry refuses stays refused.
    story.asks(2, &modern, CALL.as_bytes());
    story.ends(2, Some("the upstream went away"));
    assert_eq!(story.last().outcome, Outcome::Lost);
    let head = story.asks(3, &modern, CALL.as_bytes());
    story.is_refused(3, head);
    assert_eq!(story.last().outcome, Outcome::Refused);
    let old = [("mcp-protocol-version", "2025-11-25")];
    story.asks(4, &old, CALL.as_bytes());
    story.ends(4, Some(CLIENT_LEFT));
    assert_eq!(story.last().outcome, Outcome::Lost);
    let connection = story.only_connection();
    assert_eq!((connection.errors, connection.in_flight), (3, 0));
}

#[test]
fn a_batch_to_which_nothing_is_to_be_answered_is_sent() {
    let mut story = Story::new();
    let answer = r#"{"jsonrpc":"2.0","id":7,"result":{}}"#;
    story.asks(1, &[], CALL.as_bytes());
    story.answer_begins(1, 200, &[("content-type", "text/event-stream")]);
    let question = r#"{"jsonrpc":"2.0","id":7,"method":"roots/list"}"#;
    let question = format!("data: {question}\n\n");
    story.passing(1, Passing::Download(bytes(question.as_bytes())));
    let batches = [format!("[{TOLD},{TOLD}]"), format!("[{TOLD},{answer}]")];
    for (number, batch) in (2..).zip(&batches) {
        story.asks(number, &[], batch.as_bytes());
        story.is_answered(number, 202, &[], b"");
        let row = story.last();
        assert_eq!((row.method.as_str(), row.outcome), ("batch", Outcome::Sent));
        assert_eq!(row.kind, MessageKind::Notification);
    }
    assert_eq!(story.row("roots/list").outcome, Outcome::Result);
    story.asks(4, &[], batches[0].as_bytes());
    story.is_answered(4, 400, &[], b"");
    assert_eq!(story.last().outcome, Outcome::Error);
    // One of which the end is missing may hold anything.
    let long = "x".repeat(DEFAULT_MAX_BODY);
    let cut = format!(r#"[{{"method":"notifications/x","params":"{long}"}}]"#);
    story.asks(5, &[], cut.as_bytes());
    story.is_answered(5, 202, &[], b"");
    assert_eq!(story.last().outcome, Outcome::Sent);
    story.passing(
        1,
        Passing::Download(bytes(format!("data: {RESULT}\n\n").as_bytes())),
    );
    story.ends(1, None);
    assert_eq!(story.only_connection().errors, 1);
}

#[test]
fn a_batch_with_a_request_waits_for_its_answer() {
    let mut story = Story::new();
    for (number, batch, answer, outcome) in [
        (
            1,
            format!("[{TOLD},{CALL}]"),
            format!("[{RESULT}]"),
            Outcome::Result,
        ),
        (2, format!("[{CALL}]"), String::new(), Outcome::Lost),
        (3, "[1]".to_owned(), String::new(), Outcome::Lost),
        (4, "[]".to_owned(), String::new(), Outcome::Lost),
    ] {
        story.asks(number, &[], batch.as_bytes());
        assert_eq!(story.last().outcome, Outcome::Open);
        story.is_answered(number, 200, &[], answer.as_bytes());
        assert_eq!(story.last().outcome, outcome, "{batch}");
    }
}

#[test]
fn a_passing_request_is_cancelled_by_its_own_client_only() {
    let mut story = Story::new();
    let cancel = r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":5}}"#;
    let [a, b] = [[("mcp-session-id", "a")], [("mcp-session-id", "b")]];
    for (number, session) in [(1, &a), (2, &b)] {
        story.asks(number, session, CALL.as_bytes());
        story.answer_begins(number, 200, &[("content-type", "text/event-stream")]);
    }
    story.asks(3, &a, cancel.as_bytes());
    story.is_answered(3, 202, &[], b"");
    story.ends(1, None);
    let outcomes: Vec<_> = story.rows.iter().map(|it| it.outcome).collect();
    assert_eq!(story.rows.len(), 2, "it belongs to what it cancels");
    assert!(outcomes.contains(&Outcome::Cancelled) && outcomes.contains(&Outcome::Open));
    let cancelled = story
        .rows
        .iter()
        .find(|it| it.outcome == Outcome::Cancelled);
    let records = story.legs(cancelled.expect("a row").exchange);
    let messages = records.iter().filter(|it| it.0 == Kind::Message);
    assert_eq!(messages.count(), 2);
    // Too late, it is a notification like any other.
    story.passing(
        2,
        Passing::Download(bytes(format!("data: {RESULT}\n\n").as_bytes())),
    );
    story.ends(2, None);
    story.asks(4, &b, cancel.as_bytes());
    story.is_answered(4, 202, &[], b"");
    assert_eq!(story.row("notifications/cancelled").outcome, Outcome::Sent);
    let (connections, _) = story.recorder.open_rows();
    assert!(
        connections
            .iter()
            .all(|it| it.errors == 0 && it.in_flight == 0)
    );
    let later = story.at + Duration::from_secs(600);
    story.recorder.close_idle(later);
    assert!(
        story.recorder.passages.is_empty(),
        "nothing is left of them"
    );
}

#[test]
fn of_a_passing_server_s_questions_the_oldest_are_not_waited_for() {
    let mut story = Story::new();
    story.asks(1, &[], CALL.as_bytes());
    story.answer_begins(1, 200, &[("content-type", "text/event-stream")]);
    for id in 0..1000 {
        let event = format!("data: {{\"id\":{id},\"method\":\"roots/list\"}}\n\n");
        story.passing(1, Passing::Download(bytes(event.as_bytes())));
    }
    let open = story.rows.iter().filter(|it| it.outcome == Outcome::Open);
    assert!((2..300).contains(&open.count()));
}

#[test]
fn of_one_client_so_many_sessions_are_known_and_the_oldest_go_first() {
    let mut story = Story::new();
    let call = |story: &mut Story, number: u64, session: &str, given: &str| {
        let asked = [("mcp-session-id", session)];
        story.asks(number, &asked, CALL.as_bytes());
        story.is_answered(number, 200, &[("mcp-session-id", given)], RESULT.as_bytes());
        story.last().connection.clone().expect("a connection")
    };
    let names: Vec<String> = (0..1000).map(|it| format!("s{it}")).collect();
    let first = call(&mut story, 1, "s0", "s1");
    for (number, pair) in (2..).zip(names[1..].windows(2)) {
        assert_eq!(call(&mut story, number, &pair[0], &pair[1]), first);
    }
    assert!(
        story.recorder.passages.size() < 20,
        "of a thousand sessions"
    );
    assert_eq!(call(&mut story, 2000, "s999", "s999"), first);
    let stranger = call(&mut story, 2001, "s0", "s0");
    assert_ne!(stranger, first, "it is long ago");
    // A session that another has taken over stays with that.
    assert_eq!(call(&mut story, 2002, "s0", "s999"), stranger);
    for number in 2003..2013 {
        call(
            &mut story,
            number,
            "s998",
            &names[usize::try_from(number - 2003).expect("few")],
        );
    }
    assert_eq!(call(&mut story, 2013, "s999", "s999"), stranger);
}

#[test]
fn sessions_whose_short_hashes_are_alike_are_two_clients() {
    // Of so many, some have the same six digits: by chance there are 75 pairs of them.
    let redactor = Redactor::new(&[]);
    let names: Vec<String> = (0..50_000).map(|it| format!("session {it}")).collect();
    let mut seen = std::collections::HashMap::new();
    let alike = names
        .iter()
        .find_map(|name| Some((seen.insert(redactor.hash(name), name)?, name)));
    let (one, other) = alike.expect("a pair");
    let mut story = Story::new();
    for (number, session) in [(1, one), (2, other)] {
        story.asks(number, &[("mcp-session-id", session)], CALL.as_bytes());
        story.is_answered(number, 200, &[], RESULT.as_bytes());
    }
    let (connections, _) = story.recorder.open_rows();
    assert_eq!(connections.len(), 2);
    assert_eq!(connections[0].session, connections[1].session);
}

#[test]
fn of_too_many_passing_requests_nothing_is_remembered_for_a_cancel() {
    let mut story = Story::new();
    let most = u64::try_from(MAX_OPEN).expect("not too many");
    // Without the story's own lists, which are searched for each change.
    let mut passing = |number, passing| {
        let what = What::Passing(number, passing);
        story.recorder.take(Event { at: story.at, what });
        story.recorder.changes().for_each(drop);
    };
    let head = head(Method::POST, "/mcp", &[]);
    for number in 1..=most + 10 {
        let call = CALL.replace(":5", &format!(":{number}"));
        let head = Arc::clone(&head);
        passing(number, Passing::Began { peer: PEER, head });
        passing(number, Passing::Upload(piece(&call)));
        passing(number, Passing::Sent);
    }
    assert_eq!(story.recorder.passages.asking(), MAX_OPEN);
}
