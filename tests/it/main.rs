//! The integration tests, one binary: every module is a kind of test.

#![allow(
    clippy::panic,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test may stop at the first surprise, in its helpers too"
)]
#![allow(unreachable_pub, reason = "modules of one binary")]

mod cli;
mod credentials;
mod headers;
mod holds;
mod identity;
mod interleavings;
mod legacy_front;
mod posts;
mod support;
mod transcripts;
