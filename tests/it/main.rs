//! The integration tests, one binary: every module is a kind of test.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may stop at the first surprise, and so may what tests share"
)]

mod bad_input;
mod bad_upstream;
mod credentials;
mod endpoint;
mod headers;
mod holds;
mod identity;
mod legacy_front;
mod passthrough;
mod posts;
mod recovery;
mod redirects;
mod support;
