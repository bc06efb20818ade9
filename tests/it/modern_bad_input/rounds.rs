//! Questions without number and without end, and what is held for them.

use std::fmt::Write as _;
use std::time::Duration;

use mcp_ferry::proto::bridge::{MAX_ASKED, MAX_QUESTIONS, MAX_ROUNDS};

use super::{Talk, get};

/// A result that asks for the roots so many times at once.
fn questions(count: usize) -> String {
    let mut asked = String::new();
    for number in 0..count {
        let comma = if number > 0 { "," } else { "" };
        write!(asked, r#"{comma}"q{number}":{{"method":"roots/list"}}"#).expect("a string grows");
    }
    format!(r#"{{"resultType":"input_required","inputRequests":{{{asked}}}}}"#)
}

#[test]
fn more_questions_than_a_round_may_have_are_not_put() {
    let mut talk = Talk::with(r#"{"prompts":{}}"#);
    talk.post(&get(1));
    talk.answer(&questions(MAX_QUESTIONS + 1));
    talk.fails("1", "asks for 33 things at once");
    talk.goes_on();

    talk.post(&get(2));
    talk.answer(&questions(MAX_QUESTIONS));
    assert_eq!(talk.delivered.len(), MAX_QUESTIONS);
}

#[test]
fn a_client_is_asked_so_much_at_once_by_all_its_calls_together() {
    let mut talk = Talk::with(r#"{"prompts":{}}"#);
    let calls = MAX_ASKED / MAX_QUESTIONS;
    for id in 0..calls {
        talk.post(&get(id));
        talk.answer(&questions(MAX_QUESTIONS));
    }
    assert_eq!(talk.delivered.len(), MAX_ASKED);
    talk.delivered.clear();
    talk.post(&get(calls));
    talk.answer(&questions(1));
    let error = talk.next_delivered();
    assert!(error.contains(r#""id":8,"error""#), "{error}");

    // The end of one call makes room for another one's questions.
    talk.post(r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":0}}"#);
    assert_eq!(talk.delivered.len(), MAX_QUESTIONS);
    talk.delivered.clear();
    talk.post(&get(calls));
    talk.answer(&questions(1));
    assert!(talk.next_delivered().contains("roots/list"));
}

#[test]
fn a_call_that_is_asked_about_without_end_ends() {
    let mut talk = Talk::with(r#"{"prompts":{}}"#);
    talk.post(&get(1));
    for round in 1..=MAX_ROUNDS {
        talk.answer(&questions(1));
        let question = talk.next_delivered();
        assert!(
            question.contains(&format!(r#""id":"ferry:{round}""#)),
            "{question}"
        );
        talk.post(&format!(
            r#"{{"jsonrpc":"2.0","id":"ferry:{round}","result":{{"roots":[]}}}}"#
        ));
    }
    talk.answer(&questions(1));
    talk.fails("1", "asked for more input 32 times");
    talk.goes_on();
}

#[test]
fn a_call_that_is_only_put_off_without_end_ends() {
    let mut talk = Talk::with(r#"{"prompts":{}}"#);
    talk.post(&get(1));
    let started = talk.now;
    for _ in 0..=MAX_ROUNDS {
        if talk.sent.is_empty() {
            talk.wait(Duration::from_secs(7));
        }
        talk.answer(r#"{"resultType":"input_required","requestState":"s"}"#);
    }
    talk.fails("1", "asked for more input 32 times");
    assert!(
        talk.now - started > Duration::from_secs(60),
        "the upstream is not pressed"
    );
    talk.goes_on();
}

#[test]
fn a_state_of_megabytes_comes_back_byte_for_byte_and_is_not_kept() {
    let mut talk = Talk::with(r#"{"prompts":{}}"#);
    let state = format!(r#""{}\u0041 é""#, "x".repeat(4 << 20));
    talk.post(&get(1));
    talk.answer(&format!(
        r#"{{"resultType":"input_required","inputRequests":{{"r":{{"method":"roots/list"}}}},"requestState":{state}}}"#
    ));
    talk.next_delivered();
    assert!(talk.bridge.held_bytes() >= state.len(), "it is counted");
    talk.post(r#"{"jsonrpc":"2.0","id":"ferry:1","result":{"roots":[]}}"#);
    let retry = talk.answer(r#"{"resultType":"complete","messages":[]}"#);
    assert!(retry.ends_with(&format!(r#""requestState":{state}}}}}"#)));
    talk.next_delivered();
    talk.goes_on();
}
