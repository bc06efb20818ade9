//! What the fuzzer has found worth keeping, as ordinary tests: each target's function over its committed corpus.
//!
//! `FUZZ_INPUT=path` runs a single file instead, for instance one that the fuzzer has just called a crash.

use std::fs;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};

use crate::fuzz::{bridge, envelope, http_routes, json_lines, sse_in, sse_out};

/// Runs `check` over every file of the target's corpus, and names the one that fails.
fn corpus(target: &str, check: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fuzz/corpus")
        .join(target);
    let files: Vec<PathBuf> = match std::env::var_os("FUZZ_INPUT") {
        Some(file) => vec![file.into()],
        None => {
            let entries = fs::read_dir(&folder).expect("the target's corpus");
            entries
                .map(|entry| entry.expect("readable").path())
                .collect()
        }
    };
    for file in &files {
        let input = fs::read(file).expect("readable");
        let shown = file.display();
        assert!(
            catch_unwind(|| check(&input)).is_ok(),
            "{shown} fails, see above"
        );
    }
    eprintln!("{} files of {target}", files.len());
    assert!(!files.is_empty());
}

#[test]
fn any_bytes_of_an_upstream_are_the_events_of_the_standard() {
    corpus("sse_in", sse_in::check);
}

#[test]
fn any_text_is_one_event_of_the_client_s_stream() {
    corpus("sse_out", sse_out::check);
}

#[test]
fn any_bytes_are_a_message_exactly_when_they_should_be() {
    corpus("envelope", envelope::check);
}

#[test]
fn any_bytes_of_an_upstream_are_its_lines() {
    corpus("json_lines", json_lines::check);
}

#[test]
fn any_course_of_things_keeps_the_ledger() {
    corpus("bridge", bridge::check);
}

#[test]
fn any_bytes_on_a_socket_are_answered_or_refused() {
    corpus("http_routes", http_routes::check);
}
