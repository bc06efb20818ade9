//! Any bytes of an upstream as an event stream.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| checks::sse_in::check(input));
