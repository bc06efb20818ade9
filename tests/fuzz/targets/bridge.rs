//! Any course of things around one connection's state machine.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| checks::bridge::check(input));
