//! Messages that are longer than what is kept of one.

use super::*;
use crate::tap::terminal::{Printer, Style};

/// A text too long to be kept, as the last member of what is told about it.
fn long() -> String {
    "x".repeat(DEFAULT_MAX_BODY)
}

#[test]
fn a_message_that_is_cut_is_known_for_what_it_is() {
    let mut story = Story::new();
    story.opened();
    let long = long();
    let answers = [
        (
            format!(r#"{{"jsonrpc":"2.0","id":5,"result":{{"content":["{long}"]}}}}"#),
            (Outcome::Result, None, MessageKind::Result),
        ),
        (
            format!(r#"{{"jsonrpc":"2.0","id":5,"result":{{"x":"{long}","isError":true}}}}"#),
            (Outcome::ToolError, None, MessageKind::Result),
        ),
        (
            format!(r#"{{"id":5,"error":{{"message":"{long}","code":-32602}},"jsonrpc":"2.0"}}"#),
            (Outcome::Error, Some(-32602), MessageKind::Error),
        ),
    ];
    for (call, (answer, told)) in (1..).zip(&answers) {
        story.posts(call, CALL);
        story.sends(call, Cause::Request(Id::Number(5)), CALL);
        story.hears(call, answer);
        story.delivers(About::Outcome(Id::Number(5)), answer);
        let row = story.rows.last().expect("a row");
        let record = story.records.last().expect("a record");
        let message = record.message.as_ref().expect("a message");
        assert!(record.cut && record.text.is_some());
        assert_eq!(message.id.as_ref().map(|id| id.get()), Some("5"));
        assert_eq!((row.outcome, row.code, message.kind), *told);
        assert!(row.upstream_ms.is_some(), "an answer");
    }
    assert_eq!(story.recorder.open_rows().0[0].errors, 2);
}

#[test]
fn cut_notifications_and_questions_are_paired_on_both_legs() {
    let mut story = Story::new();
    story.opened();
    let long = long();
    let notice = format!(
        r#"{{"jsonrpc":"2.0","params":{{"data":"{long}","level":"info"}},"method":"notifications/message"}}"#
    );
    story.hears(1, &notice);
    story.delivers(About::Nothing, &notice);
    let row = story.row("notifications/message");
    assert_eq!(
        (row.kind, row.outcome),
        (MessageKind::Notification, Outcome::Sent)
    );
    assert_eq!(
        (row.name.as_deref(), row.direction),
        (Some("info"), Direction::ToClient)
    );
    assert_eq!(story.legs(row.exchange).len(), 2);
    let question = |id| {
        format!(
            r#"{{"jsonrpc":"2.0","params":{{"x":"{long}"}},"id":{id},"method":"sampling/createMessage"}}"#
        )
    };
    story.hears(1, &question("7"));
    story.delivers(About::Nothing, &question("\"f1\""));
    let answer = |id| format!(r#"{{"jsonrpc":"2.0","result":{{"x":"{long}"}},"id":{id}}}"#);
    story.posts(1, &answer("\"f1\""));
    story.sends(2, Cause::Notice, &answer("7"));
    let row = story.row("sampling/createMessage");
    assert_eq!(
        (row.outcome, story.legs(row.exchange).len()),
        (Outcome::Result, 4)
    );
}

#[test]
fn of_a_passed_message_that_is_cut_its_beginning_tells_what_it_is() {
    let mut story = Story::new();
    let long = long();
    let error =
        format!(r#"{{"jsonrpc":"2.0","id":5,"error":{{"code":-32000,"message":"{long}"}}}}"#);
    let failed = format!(r#"{{"id":5,"result":{{"isError":true,"content":["{long}"]}}}}"#);
    let result = format!(r#"{{"id":5,"result":{{"content":["{long}"]}}}}"#);
    for (answer, outcome, code) in [
        (&error, Outcome::Error, Some(-32000)),
        (&failed, Outcome::ToolError, None),
        (&result, Outcome::Result, None),
    ] {
        for form in [answer.clone(), format!("data: {answer}\n\n")] {
            story.passes(1, Some("s"), CALL, (200, &form));
            let row = story.rows.last().expect("a row");
            assert_eq!((row.outcome, row.code), (outcome, code));
            let message = story
                .records
                .iter()
                .rev()
                .find_map(|it| it.message.as_ref());
            let kind = message.expect("a message").kind;
            assert_eq!(
                kind == MessageKind::Error,
                outcome == Outcome::Error,
                "{kind:?}"
            );
            assert_ne!(kind, MessageKind::Unknown);
        }
    }
    let notice =
        format!(r#"{{"jsonrpc":"2.0","method":"notifications/x","params":{{"x":"{long}"}}}}"#);
    story.passes(2, Some("s"), &notice, (202, ""));
    let row = story.row("notifications/x");
    assert_eq!(
        (row.kind, row.outcome),
        (MessageKind::Notification, Outcome::Sent)
    );
}

#[test]
fn a_cut_result_is_printed_as_a_result() {
    let mut story = Story::new();
    story.opened();
    story.posts(1, CALL);
    let result = format!(
        r#"{{"jsonrpc":"2.0","id":5,"result":{{"content":["{}"]}}}}"#,
        long()
    );
    story.delivers(About::Outcome(Id::Number(5)), &result);
    let mut printer = Printer::new(Style {
        full: false,
        color: false,
        width: usize::MAX,
    });
    let lines: String = story.records.iter().map(|it| printer.text(it)).collect();
    let last = lines.lines().last().expect("a line");
    assert!(last.contains(" result       id=5 64 KiB"), "{last}");
}
