//! Any text as a message of the client's stream.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| checks::sse_out::check(input));
