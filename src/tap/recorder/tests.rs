//! Little stories of what crosses, and what the recorder makes of them.

mod cut;
mod open;
mod packed;
mod passed;
mod refused;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hyper::Method;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use time::OffsetDateTime;
use tokio::time::Instant;

use super::{Change, Recorder};
use crate::proto::bridge::{About, Cause};
use crate::proto::jsonrpc::{Id, MAX_DEPTH, Message};
use crate::tap::record::{
    Direction, ExchangeRow, Front, Kind, MessageKind, Outcome, Party, Record,
};
use crate::tap::redact::Redactor;
use crate::tap::{Crossing, DEFAULT_MAX_BODY, Event, Head, Keep, Label, Lost, Passing, Text, What};

const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

struct Story {
    recorder: Recorder,
    at: Instant,
    records: Vec<Arc<Record>>,
    rows: Vec<ExchangeRow>,
    changes: Vec<Change>,
}

impl Story {
    fn new() -> Self {
        let at = Instant::now();
        let moment = (at, OffsetDateTime::UNIX_EPOCH);
        Self {
            recorder: Recorder::new(Redactor::new(&[]), true, DEFAULT_MAX_BODY, moment),
            at,
            records: Vec::new(),
            rows: Vec::new(),
            changes: Vec::new(),
        }
    }

    fn happens(&mut self, what: What) {
        self.at += Duration::from_millis(1);
        let event = Event { at: self.at, what };
        self.recorder.take(event);
        let changes: Vec<Change> = self.recorder.changes().collect();
        for change in changes {
            match &change {
                Change::Record(record) => self.records.push(Arc::clone(record)),
                Change::Exchange(row) => {
                    self.rows.retain(|old| old.exchange != row.exchange);
                    self.rows.push((**row).clone());
                }
                _ => {}
            }
            self.changes.push(change);
        }
    }

    fn on(&mut self, crossing: Crossing) {
        self.happens(What::On(Label(1), crossing));
    }

    fn opened(&mut self) {
        self.on(Crossing::Opened {
            front: Front::Sse,
            peer: PEER,
            head: Some(head(Method::GET, "/sse", &[])),
        });
    }

    fn posts(&mut self, post: u64, message: &str) {
        let message =
            Message::parse(Bytes::copy_from_slice(message.as_bytes())).expect("a message");
        let head = head(Method::POST, "/messages", &[]);
        self.on(Keep::new(DEFAULT_MAX_BODY).posted(post, Some(&head), &message));
    }

    fn sends(&mut self, call: u64, cause: Cause, message: &str) {
        let version = [
            ("mcp-protocol-version", "2025-06-18"),
            ("mcp-session-id", "s1"),
        ];
        self.on(Crossing::ToUpstream {
            call,
            cause,
            head: head(Method::POST, "/mcp", &version),
            text: Some(text(message)),
        });
    }

    fn hears(&mut self, call: u64, message: &str) {
        let text = text(message);
        self.on(Crossing::FromUpstream { call, text });
    }

    fn delivers(&mut self, about: About, message: &str) {
        let text = text(message);
        self.on(Crossing::ToClient { about, text });
    }

    fn passing(&mut self, number: u64, passing: Passing) {
        self.happens(What::Passing(number, passing));
    }

    /// A passed-through POST and its answer.
    fn passes(&mut self, number: u64, session: Option<&str>, message: &str, answer: (u16, &str)) {
        let given: Vec<_> = session.iter().map(|it| ("mcp-session-id", *it)).collect();
        let head = head(Method::POST, "/mcp", &given);
        self.passing(number, Passing::Began { peer: PEER, head });
        self.passing(number, Passing::Upload(piece(message)));
        self.passing(number, Passing::Sent);
        let kind = if answer.1.starts_with("data") {
            "text/event-stream"
        } else {
            "application/json"
        };
        let mut pairs = vec![("content-type", kind)];
        if message.contains("initialize") {
            pairs.push(("mcp-session-id", "s2"));
        }
        let headers = Arc::new(headers(&pairs));
        let status = answer.0;
        self.passing(number, Passing::Status { status, headers });
        for part in answer.1.as_bytes().chunks(7) {
            let part = String::from_utf8_lossy(part);
            self.passing(number, Passing::Download(piece(&part)));
        }
        self.passing(number, Passing::Ended { why: None });
    }

    fn row(&self, method: &str) -> &ExchangeRow {
        let mut rows = self.rows.iter().filter(|row| row.method == method);
        let row = rows.next().expect("a row");
        assert!(rows.next().is_none(), "one row of {method}");
        row
    }

    fn legs(&self, exchange: u64) -> Vec<(Kind, Option<Party>, Option<Party>)> {
        let records = self.records.iter();
        records
            .filter(|it| it.exchange == Some(exchange))
            .map(|it| (it.kind, it.from, it.to))
            .collect()
    }
}

fn text(text: &str) -> Text {
    Keep::new(DEFAULT_MAX_BODY).text(text.as_bytes())
}

fn piece(text: &str) -> Text {
    Keep::new(DEFAULT_MAX_BODY).piece(text.as_bytes())
}

fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
    let pairs = pairs.iter();
    pairs
        .map(|(name, value)| {
            let value = HeaderValue::from_str(value).expect("a value");
            (HeaderName::from_static(name), value)
        })
        .collect()
}

fn head(method: Method, target: &str, pairs: &[(&'static str, &str)]) -> Arc<Head> {
    Arc::new(Head::new(method, target.to_owned(), headers(pairs)))
}

const CALL: &str = r#"{"jsonrpc":"2.0","id":5,"method":"tools/call","params":{"name":"ask"}}"#;

#[test]
fn both_legs_of_a_call_are_one_exchange_with_its_latencies_and_sizes() {
    let mut story = Story::new();
    story.opened();
    story.posts(1, CALL);
    story.on(Crossing::Answered {
        post: 1,
        status: 202,
    });
    story.sends(1, Cause::Request(Id::Number(5)), CALL);
    story.on(Crossing::Status {
        call: 1,
        status: 200,
        headers: Arc::default(),
    });
    let result = r#"{"jsonrpc":"2.0","id":5,"result":{"content":[]}}"#;
    story.hears(
        1,
        r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{}}"#,
    );
    story.delivers(
        About::During(Id::Number(5)),
        r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{}}"#,
    );
    story.hears(1, result);
    story.delivers(About::Outcome(Id::Number(5)), result);
    story.on(Crossing::Ended { call: 1, why: None });
    let row = story.row("tools/call").clone();
    assert_eq!(
        (row.outcome, row.name.as_deref()),
        (Outcome::Result, Some("ask"))
    );
    assert_eq!((row.calls, row.messages, row.status), (1, 6, Some(200)));
    assert_eq!(
        (row.request_bytes, row.response_bytes),
        (CALL.len(), result.len())
    );
    assert_eq!(row.upstream_ms, Some(4.0), "sent at 4 ms, answered at 8 ms");
    assert_eq!(row.ended.map(|ended| ended - row.started), Some(7.0));
    use Kind::{Ended, Message, Status};
    use Party::{Client, Ferry, Server};
    let way = |kind, from, to| (kind, Some(from), Some(to));
    assert_eq!(
        story.legs(row.exchange),
        [
            way(Message, Client, Ferry),
            way(Status, Ferry, Client),
            way(Message, Ferry, Server),
            way(Status, Server, Ferry),
            way(Message, Server, Ferry),
            way(Message, Ferry, Client),
            way(Message, Server, Ferry),
            way(Message, Ferry, Client),
            way(Ended, Server, Ferry),
        ]
    );
    assert!(story.recorder.open.is_empty(), "nothing stays open");
}

#[test]
fn a_question_of_the_server_is_one_exchange_though_its_id_changes_on_the_way() {
    let mut story = Story::new();
    story.opened();
    story.posts(1, CALL);
    story.sends(1, Cause::Request(Id::Number(5)), CALL);
    let ask = |id: &str| {
        format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"sampling/createMessage","params":{{}}}}"#)
    };
    story.hears(1, &ask("0"));
    story.delivers(About::During(Id::Number(5)), &ask("\"ferry-1\""));
    story.posts(2, r#"{"jsonrpc":"2.0","id":"ferry-1","result":{}}"#);
    story.sends(2, Cause::Notice, r#"{"jsonrpc":"2.0","id":0,"result":{}}"#);
    let row = story.row("sampling/createMessage").clone();
    assert_eq!(
        (row.direction, row.outcome),
        (Direction::ToClient, Outcome::Result)
    );
    let messages = story
        .records
        .iter()
        .filter(|it| it.exchange == Some(row.exchange));
    assert_eq!(messages.filter(|it| it.kind == Kind::Message).count(), 4);
    story.on(Crossing::Closed);
    assert_eq!(story.row("tools/call").outcome, Outcome::Lost);
    let last = story.changes.iter().rev().find_map(|change| match change {
        Change::Connection(row) => Some(row.clone()),
        _ => None,
    });
    let last = last.expect("a row of the connection");
    assert_eq!((last.in_flight, last.calls, last.errors), (0, 2, 1));
    assert!(last.closed.is_some());
    assert!(story.recorder.connections.is_empty());
}

#[test]
fn a_cancel_is_the_outcome_and_belongs_to_what_it_cancels() {
    let mut story = Story::new();
    story.opened();
    story.posts(1, CALL);
    story.sends(1, Cause::Request(Id::Number(5)), CALL);
    story.posts(
        2,
        r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":5}}"#,
    );
    story.sends(
        2,
        Cause::Cancel,
        r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":5}}"#,
    );
    let row = story.row("tools/call").clone();
    assert_eq!(row.outcome, Outcome::Cancelled);
    assert_eq!(story.legs(row.exchange).len(), 4);
}

#[test]
fn initialize_tells_who_speaks_to_whom() {
    let mut story = Story::new();
    story.opened();
    let initialize = r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2024-11-05","capabilities":{},"clientInfo":{"name":"old","version":"1"}}}"#;
    story.posts(1, initialize);
    story.sends(1, Cause::Request(Id::Number(0)), initialize);
    let answer = r#"{"jsonrpc":"2.0","id":0,"result":{"protocolVersion":"2024-11-05","serverInfo":{"name":"new","version":"2"}}}"#;
    story.hears(1, answer);
    story.delivers(About::Outcome(Id::Number(0)), answer);
    let (connections, _) = story.recorder.open_rows();
    let row = &connections[0];
    assert_eq!(row.client.as_ref().map(|it| it.name.as_str()), Some("old"));
    assert_eq!(row.server.as_ref().map(|it| it.name.as_str()), Some("new"));
    assert_eq!(row.protocol.as_deref(), Some("2024-11-05"));
    assert_eq!(row.upstream_protocol.as_deref(), Some("2025-06-18"));
    assert_eq!(row.era.as_deref(), Some("handshake"));
    assert!(row.session.as_ref().is_some_and(|it| !it.contains("s1")));
}

#[test]
fn passing_requests_are_read_from_their_pieces_and_grouped_by_their_session() {
    let mut story = Story::new();
    let initialize = r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"clientInfo":{"name":"new","version":"1"}}}"#;
    story.passes(
        1,
        None,
        initialize,
        (200, r#"{"jsonrpc":"2.0","id":0,"result":{}}"#),
    );
    let events = "data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/progress\"}\n\ndata: {\"jsonrpc\":\"2.0\",\"id\":5,\"result\":{\"isError\":true}}\n\n";
    story.passes(2, Some("s2"), CALL, (200, events));
    story.passes(
        3,
        Some("s2"),
        r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#,
        (202, ""),
    );
    story.passes(
        4,
        Some("other"),
        CALL.replace('5', "6").as_str(),
        (404, "gone"),
    );
    let (connections, open) = story.recorder.open_rows();
    assert!(open.is_empty());
    assert_eq!(connections.len(), 2);
    assert_eq!(connections[0].calls, 2);
    assert_eq!(connections[0].errors, 1);
    let calls: Vec<_> = story
        .rows
        .iter()
        .filter(|row| row.method == "tools/call")
        .collect();
    assert_eq!(calls[0].outcome, Outcome::ToolError);
    assert_eq!(
        (calls[1].outcome, calls[1].status),
        (Outcome::Error, Some(404))
    );
    let kinds = story
        .records
        .iter()
        .filter(|it| it.exchange == Some(calls[0].exchange));
    let kinds: Vec<_> = kinds
        .filter_map(|it| Some(it.message.as_ref()?.kind))
        .collect();
    assert_eq!(
        kinds,
        [
            MessageKind::Request,
            MessageKind::Notification,
            MessageKind::Result
        ]
    );
}

#[test]
fn what_follows_a_gap_is_read_and_what_fell_into_it_is_not_taken_for_lost() {
    let mut story = Story::new();
    let answers = |story: &mut Story, number, kind, pieces: [&str; 2]| {
        let head = head(Method::POST, "/mcp", &[]);
        story.passing(number, Passing::Began { peer: PEER, head });
        story.passing(number, Passing::Upload(piece(CALL)));
        story.passing(number, Passing::Sent);
        let headers = Arc::new(headers(&[("content-type", kind)]));
        story.passing(
            number,
            Passing::Status {
                status: 200,
                headers,
            },
        );
        for (place, part) in pieces.into_iter().enumerate() {
            if place > 0 {
                story.passing(number, Passing::Gap);
            }
            story.passing(number, Passing::Download(piece(part)));
        }
        story.passing(number, Passing::Ended { why: None });
        let row = story.rows.last().expect("a row");
        (row.outcome, row.messages)
    };
    let events = "text/event-stream";
    let result = "\"cut\"}\n\ndata: {\"jsonrpc\":\"2.0\",\"id\":5,\"result\":{}}\n\n";
    let began = "data: {\"jsonrpc\":\"2.0\",\"id\":5,";
    let told = answers(&mut story, 1, events, [began, result]);
    assert_eq!(told, (Outcome::Result, 2), "the call and its result");
    let told = answers(&mut story, 2, events, [began, "\"result\":{}}\n\n"]);
    assert_eq!(told, (Outcome::Missed, 1), "the call alone");
    let told = answers(&mut story, 3, "application/json", ["", ""]);
    assert_eq!(told, (Outcome::Missed, 1), "the call alone");
}

#[test]
fn a_client_of_passing_requests_ends_with_its_session_or_when_it_is_idle() {
    let mut story = Story::new();
    story.passes(1, Some("a"), CALL, (200, "{}"));
    story.passes(2, Some("b"), CALL, (200, "{}"));
    let given = [("mcp-session-id", "a")];
    let head = head(Method::DELETE, "/mcp", &given);
    story.passing(3, Passing::Began { peer: PEER, head });
    story.passing(3, Passing::Sent);
    story.passing(
        3,
        Passing::Status {
            status: 200,
            headers: Arc::default(),
        },
    );
    story.passing(3, Passing::Ended { why: None });
    assert_eq!(story.recorder.open_rows().0.len(), 1);
    let later = story.at + Duration::from_secs(599);
    story.recorder.close_idle(later);
    assert_eq!(story.recorder.changes().count(), 0);
    let later = story.at + Duration::from_secs(600);
    story.recorder.close_idle(later);
    assert!(story.recorder.changes().count() > 0);
    assert!(story.recorder.open_rows().0.is_empty());
    assert!(
        story.recorder.passages.is_empty(),
        "nothing is left of them"
    );
}

#[test]
fn without_bodies_a_record_says_what_a_message_is_and_nothing_of_what_it_holds() {
    let mut story = Story::new();
    story.recorder.bodies = false;
    story.opened();
    story.posts(1, CALL);
    let record = story.records.last().expect("a record");
    assert_eq!(record.time, "1970-01-01T00:00:00.002000Z");
    assert!(record.body.is_none() && record.text.is_none());
    assert_eq!(record.size, Some(CALL.len()));
    let line = serde_json::to_string(&**record).expect("JSON");
    assert!(line.contains("tools/call") && !line.contains('\n'));
    let back: Record = serde_json::from_str(&line).expect("the format reads itself");
    assert_eq!(serde_json::to_string(&back).expect("JSON"), line);
}

#[test]
fn json_that_is_nested_too_deep_is_kept_as_text() {
    let nested = |levels: usize| {
        let (open, close) = ("[".repeat(levels), "]".repeat(levels));
        format!(r#"{{"id":{open}{close},"method":"x","token":"hunter2"}}"#)
    };
    for (levels, is_text) in [(MAX_DEPTH - 1, false), (MAX_DEPTH, true), (30_000, true)] {
        let mut story = Story::new();
        let asked = nested(levels);
        story.passes(1, None, &asked, (200, &asked));
        let messages = story.records.iter().filter(|it| it.message.is_some());
        for record in messages.clone() {
            let kept = match is_text {
                true => record.text.as_deref().expect("a text"),
                false => record.body.as_ref().expect("a body").get(),
            };
            assert_eq!(kept, asked.replace("hunter2", "[redacted]"));
            let line = serde_json::to_string(&**record).expect("JSON");
            let value: Result<serde_json::Value, _> = serde_json::from_str(&line);
            // This reader refuses what is deeper than 127 levels, and the record is one of them.
            assert_eq!(value.is_ok(), is_text, "{levels}");
        }
        assert_eq!(messages.count(), 2);
    }
}

#[test]
fn what_was_open_when_events_were_lost_has_an_unknown_end() {
    let mut story = Story::new();
    story.opened();
    story.posts(1, CALL);
    story.sends(1, Cause::Request(Id::Number(5)), CALL);
    let at = story.at;
    let beside = Lost {
        events: 0,
        passing: 3,
    };
    story.recorder.missed(at, beside);
    assert_eq!(
        story.recorder.open_rows().1[0].outcome,
        Outcome::Open,
        "requests of which nothing is known end nothing"
    );
    let lost = Lost {
        events: 4,
        passing: 3,
    };
    story.recorder.missed(at, lost);
    let changes: Vec<Change> = story.recorder.changes().collect();
    let told = changes.iter().any(
        |it| matches!(it, Change::Record(it) if it.kind == Kind::Missed && it.count == Some(7)),
    );
    let unknown = changes
        .iter()
        .any(|it| matches!(it, Change::Exchange(row) if row.outcome == Outcome::Missed));
    assert!(told && unknown, "{changes:?}");
    let result = r#"{"jsonrpc":"2.0","id":5,"result":{}}"#;
    story.delivers(About::Outcome(Id::Number(5)), result);
    assert_eq!(story.recorder.open_rows().0[0].in_flight, 0);
    assert!(story.recorder.open_rows().1.is_empty());
}
