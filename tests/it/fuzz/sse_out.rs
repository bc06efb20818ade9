//! Any text as a message of the client's stream.
//!
//! The input is a list of texts with a byte 0xff between them, which no text in UTF-8 holds. Whatever they are, a
//! reader that follows the standard finds each of them in an event of its own, unchanged but for line breaks, and
//! nothing else; keep-alives between them change nothing.

use bytes::Bytes;
use mcp_ferry::proto::jsonrpc::Message;
use mcp_ferry::proto::sse::{self, Decoded, Decoder};

use super::event_stream::dispatched;

pub fn check(input: &[u8]) {
    let texts: Vec<&[u8]> = input.split(|byte| *byte == 0xff).collect();
    let uri = String::from_utf8_lossy(texts[0]);
    let mut stream = narrow(&sse::endpoint(&uri)).to_vec();
    let mut expected = vec![(b"endpoint".to_vec(), one_line(uri.as_bytes()))];
    for text in &texts {
        stream.extend_from_slice(&sse::KEEP_ALIVE);
        stream.extend_from_slice(narrow(&sse::message(text)));
        expected.push((b"message".to_vec(), one_line(text)));
        check_message(text);
    }
    assert_eq!(dispatched(&stream), expected, "by the standard");
    let mut found = Vec::new();
    Decoder::new(usize::MAX).push(&stream, |decoded| found.push(decoded));
    let found: Vec<_> = found
        .into_iter()
        .map(|decoded| match decoded {
            Decoded::Event(event) => (event.name.as_bytes().to_vec(), event.data.to_vec()),
            Decoded::Oversized { .. } => panic!("nothing is too large"),
        })
        .collect();
    assert_eq!(found, expected, "by the ferry's own decoder");
}

/// The narrow form that every known client takes: an event line, a data line, an empty line, `\n` ends.
fn narrow(frame: &Bytes) -> &[u8] {
    let lines: Vec<&[u8]> = frame.split(|byte| *byte == b'\n').collect();
    let [event, data, b"", b""] = lines[..] else {
        panic!("{} lines", lines.len());
    };
    assert!(event.starts_with(b"event: ") && data.starts_with(b"data: "));
    assert!(!frame.contains(&b'\r'));
    frame
}

fn one_line(text: &[u8]) -> Vec<u8> {
    let space = |byte: &u8| {
        if matches!(byte, b'\r' | b'\n') {
            b' '
        } else {
            *byte
        }
    };
    text.iter().map(space).collect()
}

/// What is a message stays the same message on the way.
fn check_message(text: &[u8]) {
    let Ok(message) = Message::parse(Bytes::copy_from_slice(text)) else {
        return;
    };
    let stream = sse::message(message.text());
    let [(_, data)] = &dispatched(&stream)[..] else {
        panic!("not one event");
    };
    assert_eq!(data, message.text(), "the line breaks were gone already");
    let again = Message::parse(Bytes::copy_from_slice(data)).expect("still a message");
    assert_eq!(
        (again.kind(), again.id(), again.method(), again.params()),
        (
            message.kind(),
            message.id(),
            message.method(),
            message.params()
        )
    );
}
