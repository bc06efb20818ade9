//! The integration tests, one binary: every module is a kind of test.

#![allow(
    clippy::panic,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test may stop at the first surprise, in its helpers too"
)]
#![allow(unreachable_pub, reason = "modules of one binary")]

mod admin;
mod bad_http;
mod bad_input;
mod bad_upstream;
mod cli;
mod complaints;
mod credentials;
mod endpoint;
mod faults;
mod footprint;
mod fuzz;
mod fuzz_corpora;
mod guards;
mod headers;
mod holds;
mod identity;
mod ids;
mod injection;
mod isolation;
mod keep_alive;
mod layers;
mod leaving;
mod legacy_front;
mod listening;
mod malformed;
mod mcp_front;
mod memory;
mod modern_bad_input;
mod passthrough;
mod paths;
mod posts;
mod prefixes;
mod promises;
mod recovery;
mod redirects;
mod replay;
mod replicas;
mod secrecy;
mod shutdown;
mod slow_clients;
mod smuggling;
mod store;
mod stream_injection;
mod streaming;
mod support;
mod tap_output;
mod tls;
mod transcripts;
mod transcripts_sockets;
