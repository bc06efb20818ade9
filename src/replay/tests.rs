//! What is played, and what is said of a server that is not there.

use serde_json::json;

use super::*;

fn call(method: &str, outcome: Option<Outcome>) -> Call {
    Call {
        exchange: 1,
        method: method.to_owned(),
        name: None,
        params: None,
        headers: None,
        unplayable: None,
        outcome,
    }
}

#[test]
fn a_request_is_skipped_for_its_own_reason() {
    let list = |outcome| reason_not_to(&call("tools/list", outcome), false);
    assert_eq!(list(Some(Outcome::Message(json!({})))), None);
    assert_eq!(list(Some(Outcome::Unreadable)), Some(CUT));
    assert_eq!(list(None), Some("has no recorded outcome"));
}

#[test]
fn a_server_that_is_away_refuses_nothing() {
    let translated = json!({"id": 1, "error": {
        "message": "mcp-ferry: the upstream cannot be reached (refused); the request was not sent. Is the server running?",
        "data": {"ferry": {"reason": "upstream_unreachable"}},
    }});
    let passed = json!({"id": null, "error": {
        "message": "mcp-ferry: the upstream http://127.0.0.1:1/mcp cannot be reached (refused)",
    }});
    for (answer, begins) in [
        (translated, "the server cannot be reached (refused); "),
        (
            passed,
            "the server http://127.0.0.1:1/mcp cannot be reached (refused)",
        ),
    ] {
        for told in [refusal(&Came::Message(answer.clone())).err(), away(&answer)] {
            assert!(
                told.is_some_and(|told| told.starts_with(begins)),
                "{answer}"
            );
        }
    }
    let own = json!({"id": 1, "error": {"message": "mcp-ferry: the upstream of this tool cannot be reached"}});
    assert_eq!(away(&own), None);
    for (came, why) in [
        (
            Came::Message(own),
            "mcp-ferry: the upstream of this tool cannot be reached",
        ),
        (
            Came::Message(json!({"error": {"code": 1}})),
            "it gives no reason",
        ),
        (Came::Nothing("none in time".to_owned()), "none in time"),
    ] {
        let told = refusal(&came).expect("a server");
        assert_eq!(told, format!("the server refuses the handshake: {why}"));
    }
}

#[test]
fn what_was_skipped_because_its_outcome_was_cut_is_in_the_headline() {
    let connection = Connection {
        label: "c1".to_owned(),
        front: None,
        initialize: None,
        calls: Vec::new(),
        answers: Vec::new(),
    };
    let mut report = Report::new(recording::Read::default(), "http://x/mcp".to_owned());
    report.played = 1;
    let of = |why| Skipped::of(&connection, &call("tools/list", None), why);
    report
        .skipped
        .push(of("may change something; --all plays it too"));
    let told = report.text();
    assert!(told.contains("\nagrees: 1 played against http://x/mcp, 0 differ, 1 skipped\n"));
    report.skipped.push(of(CUT));
    let told = report.text();
    assert!(
        told.contains(
            "\nagrees as far as it was played: 1 played against http://x/mcp, 0 differ, 2 skipped\n"
        ),
        "{told}"
    );
    assert!(report.agrees());
}
