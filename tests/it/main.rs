//! The integration tests, one binary: every module is a kind of test.

mod support;
mod transcripts;
