//! Any bytes of an upstream as JSON lines.
//!
//! The first byte of the input chooses the decoder's bound, the second the pieces in which the rest arrives. However it
//! arrives, the same lines come out; blank ones do not, and those over the bound are reported and not kept.

use mcp_ferry::proto::json_lines::{Decoded, Decoder};

use super::{Decisions, pieces};

pub fn check(input: &[u8]) {
    let mut decisions = Decisions::new(input);
    let limit = usize::from(decisions.byte());
    let seed = decisions.byte();
    let body = decisions.rest();
    let whole = decode(limit, &[body]);
    assert_eq!(decode(limit, &pieces(body, seed)), whole, "in pieces");
    let single: Vec<&[u8]> = body.chunks(1).collect();
    assert_eq!(decode(limit, &single), whole, "byte by byte");
    let expected: Vec<Decoded> = body
        .split(|byte| *byte == b'\n')
        .filter_map(|line| match line {
            _ if line.len() > limit => Some(Decoded::Oversized),
            _ if line.iter().all(u8::is_ascii_whitespace) => None,
            _ => Some(Decoded::Line(line.to_vec().into())),
        })
        .collect();
    assert_eq!(whole, expected, "line by line");
}

fn decode(limit: usize, pieces: &[&[u8]]) -> Vec<Decoded> {
    let mut decoder = Decoder::new(limit);
    let mut found = Vec::new();
    for piece in pieces {
        decoder.push(piece, |decoded| found.push(decoded));
    }
    decoder.finish(|decoded| found.push(decoded));
    found
}
