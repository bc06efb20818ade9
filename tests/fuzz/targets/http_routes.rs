//! Any bytes on a socket of the real server.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| checks::http_routes::check(input));
