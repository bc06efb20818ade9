//! Any bytes as a JSON-RPC message, or as a batch of them.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| checks::envelope::check(input));
