//! Log lines stay lines, whatever a peer has put into them.

use std::io;
use std::sync::{Arc, Mutex};

use mcp_ferry::config::{Log, LogFormat};
use mcp_ferry::logging;
use serde_json::Value;

/// Ends a line, moves the cursor, reverses the reading order, in the ways that there are.
const HOSTILE: &str =
    "a\nb\r\nc\u{1b}[2J\u{9b}31m\u{7}\u{7f}\u{202e}d\u{2066}e\u{200b}f\u{2028}g\u{85}h\" i=\"1\\";

#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<u8>>>);

impl io::Write for Kept {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn logged(format: LogFormat, filter: &str, color: bool, events: impl FnOnce()) -> String {
    let log = Log {
        filter: filter.to_owned(),
        format,
        color,
    };
    let kept = Kept::default();
    let writer = kept.clone();
    let subscriber = logging::subscriber(&log, color, move || writer.clone());
    tracing::subscriber::with_default(subscriber, events);
    String::from_utf8(kept.0.lock().unwrap().clone()).unwrap()
}

/// Every way in which a value gets into a line.
fn hostile_event() {
    let cause = io::Error::other(HOSTILE);
    let error: &dyn std::error::Error = &cause;
    let span = tracing::info_span!("conn", id = HOSTILE, late = tracing::field::Empty);
    span.record("late", HOSTILE);
    span.in_scope(|| {
        tracing::info!(
            text = HOSTILE,
            shown = %HOSTILE,
            debug = ?HOSTILE,
            error,
            number = 7,
            "message {HOSTILE}"
        );
    });
}

fn assert_one_clean_line(line: &str) {
    let inner = line.strip_suffix('\n').unwrap();
    for char in inner.chars() {
        assert!(
            !char.is_control() && !"\u{202e}\u{2066}\u{200b}\u{2028}".contains(char),
            "{char:?} in {inner:?}"
        );
    }
}

#[test]
fn hostile_text_stays_in_its_field() {
    let line = logged(LogFormat::Text, "info", false, hostile_event);
    assert_one_clean_line(&line);
    let quoted = r#""a\nb\r\nc\u{1b}[2J\u{9b}31m\u{7}\u{7f}\u{202e}d\u{2066}e\u{200b}f\u{2028}g\u{85}h\" i=\"1\\""#;
    for field in ["text", "shown", "error"] {
        assert!(
            line.contains(&format!(" {field}={quoted}")),
            "{field} in {line}"
        );
    }
    assert!(
        line.contains(&format!(" conn{{id={quoted} late={quoted}}}: ")),
        "{line}"
    );
    assert!(line.contains(" number=7"), "{line}");
    assert!(line.contains(" message a\\nb\\r\\nc\\u{1b}[2J"), "{line}");
}

#[test]
fn hostile_json_is_one_line_and_loses_nothing() {
    let line = logged(LogFormat::Json, "info", true, hostile_event);
    assert_one_clean_line(&line);
    let event: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(event["level"], "INFO");
    assert_eq!(event["message"], format!("message {HOSTILE}"));
    assert_eq!(event["target"], module_path!());
    assert_eq!(event["fields"]["text"], HOSTILE);
    assert_eq!(event["fields"]["shown"], HOSTILE);
    assert_eq!(event["fields"]["error"], HOSTILE);
    assert_eq!(event["fields"]["number"], 7);
    assert!(event["spans"][0].as_str().unwrap().starts_with("conn{id="));
    assert!(event["timestamp"].as_str().unwrap().ends_with('Z'));
}

#[test]
fn one_value_cannot_fill_the_log() {
    let long = "é".repeat(1 << 20);
    for format in [LogFormat::Text, LogFormat::Json] {
        let line = logged(format, "info", false, || {
            tracing::info!(tool = long, "called")
        });
        assert!(line.len() < 2000, "{} bytes", line.len());
        assert!(line.contains("more bytes]"), "{line}");
    }
}

#[test]
fn colours_are_used_only_when_allowed() {
    let event = || tracing::warn!(tool = "x", "called");
    assert!(logged(LogFormat::Text, "info", true, event).contains("\u{1b}[33m WARN\u{1b}[0m"));
    assert!(!logged(LogFormat::Text, "info", false, event).contains('\u{1b}'));
}

#[test]
fn the_filter_holds() {
    let event = || {
        tracing::info!("quiet");
        tracing::warn!("loud");
    };
    let said = logged(LogFormat::Text, "warn", false, event);
    assert!(said.contains("loud") && !said.contains("quiet"), "{said}");
}
