//! Any bytes of an upstream as JSON lines.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| checks::json_lines::check(input));
