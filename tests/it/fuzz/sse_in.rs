//! Any bytes of an upstream as an event stream.
//!
//! The first byte of the input chooses the decoder's bound, the second the pieces in which the rest arrives. However it
//! arrives, the same events come out, they are those of the standard, and what is over the bound is reported and not
//! kept.

use bytes::Bytes;
use mcp_ferry::proto::sse::{Decoded, Decoder};

use super::event_stream::{Block, blocks};
use super::{Decisions, pieces};

pub fn check(input: &[u8]) {
    let mut decisions = Decisions::new(input);
    // At least a byte order mark fits.
    let limit = match decisions.byte() {
        0xff => 1 << 20,
        byte => 3 + usize::from(byte),
    };
    let seed = decisions.byte();
    let stream = decisions.rest();
    let whole = decode(limit, &[stream]);
    assert_eq!(decode(limit, &pieces(stream, seed)), whole, "in pieces");
    let single: Vec<&[u8]> = stream.chunks(1).collect();
    assert_eq!(decode(limit, &single), whole, "byte by byte");
    let expected: Vec<Decoded> = blocks(stream)
        .into_iter()
        .filter_map(|block| reported(limit, &block))
        .collect();
    assert_eq!(whole, expected, "against the standard");
}

fn decode(limit: usize, pieces: &[&[u8]]) -> Vec<Decoded> {
    let mut decoder = Decoder::new(limit);
    let mut found = Vec::new();
    for piece in pieces {
        decoder.push(piece, |decoded| {
            if let Decoded::Event(event) = &decoded {
                assert!(event.data.len() <= limit, "more data than the bound");
                // A byte that is not UTF-8 becomes a character of three.
                let id = event.id.as_deref().unwrap_or_default();
                assert!(event.name.len() <= 3 * limit && id.len() <= 3 * limit);
            }
            found.push(decoded);
        });
    }
    found
}

/// What the decoder is to make of a block.
fn reported(limit: usize, block: &Block) -> Option<Decoded> {
    if block.size > limit {
        return Some(Decoded::Oversized {
            beginning: Bytes::new(),
            size: block.data.as_ref().map_or(0, Vec::len),
        });
    }
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned().into_boxed_str();
    let number = |digits: &Vec<u8>| std::str::from_utf8(digits).ok()?.parse().ok();
    let event = mcp_ferry::proto::sse::Event {
        name: text(&block.name),
        data: block.data.clone().unwrap_or_default().into(),
        id: block.id.as_deref().map(text),
        retry: block.retry.as_ref().and_then(number),
    };
    let says = block.data.is_some() || event.id.is_some() || event.retry.is_some();
    says.then_some(Decoded::Event(event))
}
