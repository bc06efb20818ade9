//! The pure core: every rule of the protocol, and nothing else.
//!
//! Nothing below this module touches a socket, a task, a clock or a source of randomness; `tests/it/layers.rs` fails
//! when it does. Time comes in as an argument, bytes come in as slices, and effects leave as values, so that a rule
//! can be read as a transcript (`fixtures/transcripts/`) and tried under any interleaving.

pub mod bridge;
pub mod era;
pub mod json_lines;
pub mod jsonrpc;
pub mod mirror;
pub mod object;
pub mod sse;
