//! Answers that pass compressed: what can be unpacked is read like any other, as it comes.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};

use super::*;
use crate::tap::recorder::passed::packed::MAX_UNPACKING;

const JSON: &str = "application/json";
const EVENTS: &str = "text/event-stream";
const RESULT: &str = r#"{"jsonrpc":"2.0","id":5,"result":{"content":[],"isError":true}}"#;

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(text).expect("memory");
    encoder.finish().expect("memory")
}

fn deflate(text: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(text).expect("memory");
    encoder.finish().expect("memory")
}

impl Story {
    /// A call passes, and the head of its answer.
    fn calls(&mut self, number: u64, kind: &str, coding: &str) {
        let head = head(Method::POST, "/mcp", &[]);
        self.passing(number, Passing::Began { peer: PEER, head });
        self.passing(number, Passing::Upload(piece(CALL)));
        self.passing(number, Passing::Sent);
        let pairs = [("content-type", kind), ("content-encoding", coding)];
        let headers = Arc::new(headers(&pairs));
        let status = 200;
        self.passing(number, Passing::Status { status, headers });
    }

    fn comes(&mut self, number: u64, bytes: &[u8]) {
        let piece = Keep::new(DEFAULT_MAX_BODY).piece(bytes);
        self.passing(number, Passing::Download(piece));
    }

    fn is_over(&mut self, number: u64) {
        self.passing(number, Passing::Ended { why: None });
    }

    fn newest(&self) -> &ExchangeRow {
        let newest = self.rows.iter().max_by_key(|row| row.exchange);
        newest.expect("a row")
    }
}

#[test]
fn an_answer_is_unpacked_whatever_its_pieces_are() {
    for (coding, packed) in [
        ("gzip", gzip(RESULT.as_bytes())),
        ("x-gzip", gzip(RESULT.as_bytes())),
        ("GZIP", gzip(RESULT.as_bytes())),
        ("deflate", deflate(RESULT.as_bytes())),
    ] {
        for size in [1, 3, packed.len()] {
            let mut story = Story::new();
            story.calls(1, JSON, coding);
            packed.chunks(size).for_each(|part| story.comes(1, part));
            story.is_over(1);
            let row = story.newest();
            assert_eq!(row.outcome, Outcome::ToolError, "{coding} by {size}");
            assert_eq!(row.response_bytes, RESULT.len());
            let mut bodies = story.records.iter().filter_map(|it| it.body.as_ref());
            assert_eq!(bodies.next_back().expect("a body").get(), RESULT);
        }
    }
}

#[test]
fn events_of_a_compressed_stream_are_seen_as_they_come() {
    let mut story = Story::new();
    story.calls(1, EVENTS, "gzip");
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    let note = r#"{"jsonrpc":"2.0","method":"notifications/progress"}"#;
    for text in [note, RESULT] {
        write!(encoder, "data: {text}\n\n").expect("memory");
        encoder.flush().expect("memory");
        let piece = std::mem::take(encoder.get_mut());
        story.comes(1, &piece);
        let mut messages = story.records.iter().filter_map(|it| it.message.as_ref());
        let last = messages.next_back().expect("a message");
        assert_eq!(last.tool_error, text == RESULT);
    }
    // Its end is never needed.
    assert_eq!(story.newest().outcome, Outcome::ToolError);
}

#[test]
fn what_cannot_be_unpacked_is_unread_from_there_on() {
    let bomb = gzip(&vec![b' '; 200 << 20]);
    assert!(bomb.len() < 300_000, "as large as a few pieces");
    let mut broken = gzip(RESULT.as_bytes());
    // Its check sum stands in the last eight bytes.
    let sum = broken.len() - 8;
    broken[sum] ^= 1;
    let raw = deflate(RESULT.as_bytes());
    for (coding, packed) in [
        ("gzip", bomb.as_slice()),
        ("gzip", &broken),
        ("gzip", RESULT.as_bytes()),
        ("deflate", raw.get(2..).expect("without its head")),
        ("br", RESULT.as_bytes()),
        ("gzip, gzip", &gzip(&gzip(RESULT.as_bytes()))),
    ] {
        let mut story = Story::new();
        story.calls(1, JSON, coding);
        packed.chunks(65_536).for_each(|part| story.comes(1, part));
        story.is_over(1);
        let row = story.newest();
        assert_eq!(row.outcome, Outcome::Unread, "{coding}");
        assert_eq!(row.response_bytes, packed.len());
        let record = story.records.iter().rev().find(|it| it.size.is_some());
        let record = record.expect("a record");
        assert!(record.text.is_none() && record.body.is_none());
        let why = record.why.as_deref().expect("why");
        assert!(why.contains(coding), "{why}");
    }
}

#[test]
fn one_that_breaks_off_is_lost_and_what_follows_a_gap_is_unread() {
    let packed = gzip(RESULT.as_bytes());
    let (first, second) = packed.split_at(packed.len() / 2);
    let mut story = Story::new();
    story.calls(1, JSON, "gzip");
    story.comes(1, first);
    let why = Some("the upstream went away".to_owned());
    story.passing(1, Passing::Ended { why });
    assert_eq!(story.newest().outcome, Outcome::Lost);
    story.calls(2, JSON, "gzip");
    story.comes(2, first);
    story.passing(2, Passing::Gap);
    story.comes(2, second);
    story.is_over(2);
    assert_eq!(story.newest().outcome, Outcome::Unread);
}

#[test]
fn so_many_are_unpacked_at_once_and_their_places_come_back() {
    let packed = gzip(RESULT.as_bytes());
    let most = u64::try_from(MAX_UNPACKING).expect("few");
    let mut story = Story::new();
    for round in 0..3 {
        let from = round * 1000;
        for number in from..=from + most {
            story.calls(number, JSON, "gzip");
        }
        for number in from..=from + most {
            story.comes(number, &packed);
            story.is_over(number);
        }
    }
    let count = |outcome| story.rows.iter().filter(|it| it.outcome == outcome).count();
    assert_eq!(count(Outcome::Unread), 3);
    assert_eq!(count(Outcome::ToolError), 3 * MAX_UNPACKING);
}
