//! Requests that pass: their answers, and whose they are.

use super::*;
use crate::tap::record::ConnectionRow;

const RESULT: &str = r#"{"jsonrpc":"2.0","id":5,"result":{}}"#;

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
