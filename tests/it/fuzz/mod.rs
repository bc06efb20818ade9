//! The functions that the fuzzer drives, one module for each target of `tests/fuzz/`.
//!
//! Each takes any bytes and panics when something does not hold that must. They stand here, and not beside the targets,
//! so that the ordinary tests run them over the committed corpora too (`fuzz_corpora.rs`). What they hold the ferry
//! against is written anew from the standards, and shares no code with it.

pub mod bridge;
pub mod envelope;
pub mod event_stream;
pub mod http_routes;
pub mod json;
pub mod json_lines;
pub mod raw;
pub mod recorder;
pub mod sse_in;
pub mod sse_out;

/// Reads an input as decisions; when it is used up, every decision is zero.
#[derive(Debug)]
pub struct Decisions<'a>(&'a [u8]);

impl<'a> Decisions<'a> {
    pub fn new(input: &'a [u8]) -> Self {
        Self(input)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else {
            return 0;
        };
        self.0 = rest;
        *first
    }

    /// A number below `end`, which must not be zero.
    pub fn below(&mut self, end: usize) -> usize {
        usize::from(self.byte()) % end
    }

    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    /// A piece of the input as it is; its length comes first.
    pub fn piece(&mut self) -> &'a [u8] {
        let length = usize::from(self.byte()).min(self.0.len());
        let (piece, rest) = self.0.split_at(length);
        self.0 = rest;
        piece
    }

    /// Everything that is left.
    pub fn rest(self) -> &'a [u8] {
        self.0
    }
}

/// Takes `bytes` apart into pieces whose lengths follow from `seed`, some of them empty.
pub fn pieces(bytes: &[u8], seed: u8) -> Vec<&[u8]> {
    let mut rest = bytes;
    let mut state = u32::from(seed);
    let mut pieces = Vec::new();
    while !rest.is_empty() {
        // The linear congruential step of Numerical Recipes.
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let longest = if seed.is_multiple_of(2) { 4 } else { 64 };
        let length = usize::try_from(state >> 16).unwrap_or(1) % longest;
        let (piece, tail) = rest.split_at(length.min(rest.len()));
        pieces.push(piece);
        rest = tail;
    }
    pieces
}
