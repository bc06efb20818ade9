//! What must not stay open: questions that are withdrawn or never reach the client, notifications that it is not given, and
//! whatever is beyond the bounds.

use super::super::MAX_OPEN;
use super::*;
use crate::tap::terminal::{Printer, Style};
use crate::tap::{CLIENT_LEFT, FERRY_ENDED};

fn ask(id: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"sampling/createMessage","params":{{}}}}"#)
}

fn cancel(id: &str) -> String {
    format!(
        r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":{id}}}}}"#
    )
}

/// A story in which the server has asked, and the client knows the question by an id of the ferry's.
fn asked() -> Story {
    let mut story = Story::new();
    story.opened();
    story.posts(1, CALL);
    story.sends(1, Cause::Request(Id::Number(5)), CALL);
    story.hears(1, &ask("0"));
    story.delivers(About::During(Id::Number(5)), &ask("\"ferry-1\""));
    story
}

fn in_flight(story: &Story) -> u32 {
    story.recorder.open_rows().0[0].in_flight
}

#[test]
fn a_question_that_the_server_takes_back_is_cancelled() {
    let mut story = asked();
    assert_eq!(in_flight(&story), 2);
    story.hears(1, &cancel("0"));
    story.delivers(About::During(Id::Number(5)), &cancel("\"ferry-1\""));
    let row = story.row("sampling/createMessage").clone();
    assert_eq!(row.outcome, Outcome::Cancelled);
    assert_eq!(in_flight(&story), 1);
    // Both legs of the cancel belong to what it cancels.
    assert_eq!(story.legs(row.exchange).len(), 4);
    assert_eq!(story.rows.len(), 2, "{:?}", story.rows);
}

#[test]
fn a_question_that_the_ferry_takes_back_is_cancelled() {
    let mut story = asked();
    story.delivers(About::During(Id::Number(5)), &cancel("\"ferry-1\""));
    let outcome = story.row("sampling/createMessage").outcome;
    assert_eq!(outcome, Outcome::Cancelled);
    // A cancel of what nobody asked has its own row.
    story.hears(1, &cancel("77"));
    story.delivers(About::Nothing, &cancel("77"));
    assert_eq!(story.row("tools/call").outcome, Outcome::Open);
}

#[test]
fn who_ended_a_call_is_who_its_end_comes_from() {
    let mut story = asked();
    let why = Some(FERRY_ENDED.to_owned());
    story.on(Crossing::Ended { call: 1, why });
    let head = head(Method::POST, "/mcp", &[]);
    story.passing(1, Passing::Began { peer: PEER, head });
    let why = Some(CLIENT_LEFT.to_owned());
    story.passing(1, Passing::Ended { why });
    let ends = story.records.iter().filter(|it| it.kind == Kind::Ended);
    let parties: Vec<_> = ends.map(|it| (it.from, it.to)).collect();
    let server = Some(Party::Server);
    assert_eq!(
        parties,
        [(Some(Party::Ferry), server), (Some(Party::Client), server)]
    );
    let mut printer = Printer::new(Style {
        full: false,
        color: false,
        width: usize::MAX,
    });
    let ends = story.records.iter().filter(|it| it.kind == Kind::Ended);
    let lines: String = ends.map(|it| printer.text(it)).collect();
    assert!(
        lines.contains("ferry ───▶ server the ferry ended it\n"),
        "{lines}"
    );
    assert!(
        lines.contains("client ──────────────▶ server the client gave it up\n"),
        "{lines}"
    );
}

#[test]
fn a_question_that_the_ferry_answers_itself_has_that_outcome() {
    let mut story = Story::new();
    story.opened();
    story.hears(1, &ask("0"));
    let refusal = r#"{"jsonrpc":"2.0","id":0,"error":{"code":-32603,"message":"nobody listens"}}"#;
    story.sends(2, Cause::Notice, refusal);
    let row = story.row("sampling/createMessage");
    assert_eq!((row.outcome, row.code), (Outcome::Error, Some(-32603)));
    assert_eq!(in_flight(&story), 0);
}

#[test]
fn of_questions_without_number_the_oldest_are_not_waited_for() {
    let mut story = Story::new();
    story.opened();
    for id in 0..1000 {
        story.hears(1, &ask(&id.to_string()));
    }
    let open = story.rows.iter().filter(|row| row.outcome == Outcome::Open);
    let open = open.count();
    assert!((1..1000).contains(&open), "{open}");
    assert_eq!(usize::try_from(in_flight(&story)), Ok(open));
    story.on(Crossing::Closed);
    let open = story.rows.iter().filter(|row| row.outcome == Outcome::Open);
    assert_eq!(open.count(), 0);
}

#[test]
fn notifications_that_the_client_was_never_given_do_not_take_the_place_of_others() {
    let mut story = Story::new();
    story.opened();
    let note = |data: &str| {
        format!(
            r#"{{"jsonrpc":"2.0","method":"notifications/message","params":{{"data":"{data}"}}}}"#
        )
    };
    for data in ["dropped", "too", "first", "second"] {
        story.hears(1, &note(data));
    }
    story.delivers(About::Nothing, &note("first"));
    story.delivers(About::Nothing, &note("second"));
    let legs: Vec<_> = story
        .rows
        .iter()
        .map(|row| story.legs(row.exchange).len())
        .collect();
    assert_eq!(legs, [1, 1, 2, 2], "{:?}", story.rows);
    // One whose text was changed on the way is the first of its method, as ever.
    story.hears(1, &note("third"));
    story.delivers(About::Nothing, &note("changed"));
    let last = story.rows.last().expect("a row");
    assert_eq!(story.legs(last.exchange).len(), 2);
}

#[test]
fn an_id_of_any_length_finds_its_outcome_and_is_kept_by_nobody() {
    let mut story = Story::new();
    story.opened();
    let long = "x".repeat(20_000);
    story.posts(1, &CALL.replace('5', &format!("\"{long}\"")));
    let row = story.row("tools/call");
    assert_eq!((row.outcome, &row.id), (Outcome::Open, &None));
    let result = format!(r#"{{"jsonrpc":"2.0","id":"{long}","result":{{}}}}"#);
    story.delivers(About::Outcome(Id::String(long.into())), &result);
    assert_eq!(story.row("tools/call").outcome, Outcome::Result);
}

#[test]
fn of_exchanges_beyond_the_bound_the_oldest_has_a_missed_end() {
    let mut story = Story::new();
    story.opened();
    for id in 0..=MAX_OPEN {
        // A connection has less than that.
        if id % 5000 == 0 {
            let label = Label(100 + u64::try_from(id).expect("small"));
            story.happens(What::On(
                label,
                Crossing::Opened {
                    front: Front::Sse,
                    peer: PEER,
                    head: None,
                },
            ));
        }
        let label = Label(100 + u64::try_from(id / 5000 * 5000).expect("small"));
        let message = CALL.replace('5', &id.to_string());
        let message = Message::parse(message.into()).expect("a message");
        let posted = Keep::new(DEFAULT_MAX_BODY).posted(1, None, &message);
        let at = story.at;
        let what = What::On(label, posted);
        story.recorder.take(Event { at, what });
        if id % 64 == 0 {
            story.changes.extend(story.recorder.changes());
        }
    }
    story.changes.extend(story.recorder.changes());
    let ends = story.changes.iter().filter_map(|change| match change {
        Change::Exchange(row) if row.outcome != Outcome::Open => Some((row.exchange, row.outcome)),
        _ => None,
    });
    assert_eq!(ends.collect::<Vec<_>>(), [(1, Outcome::Missed)]);
    assert_eq!(story.recorder.open_rows().1.len(), MAX_OPEN);
}
