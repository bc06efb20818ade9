//! How the demo prints what crosses: one line a message, three columns for the three parties.

use serde_json::Value;
use tokio::time::Instant;

use crate::tap::{Seen, Text, What};

/// Characters of a message that a line has room for.
const ROOM: usize = 72;

/// Prints events with the time since the start.
#[derive(Debug)]
pub(super) struct Show {
    start: Instant,
}

impl Show {
    pub(super) fn new() -> Self {
        Self {
            start: Instant::now(),
        }
    }

    pub(super) fn heading() -> String {
        format!(
            "{:>9}  {:<14} {:<9} {:<14}  what",
            "ms", "old client", "mcp-ferry", "modern server"
        )
    }

    pub(super) fn line(&self, seen: &Seen) -> String {
        let event = match seen {
            Seen::Event(event) => event,
            Seen::Missed(missed) => return format!("{:>9}  … {missed} events were not shown", ""),
        };
        let (left, right, what) = match &event.what {
            What::Opened => (
                "GET /sse ────▶",
                "",
                "the client opens its stream".to_owned(),
            ),
            What::Closed => (
                "              ",
                "",
                "the connection is over, upstream too".to_owned(),
            ),
            What::FromClient(text) => ("POST ────────▶", "", summary(text)),
            What::ToClient(text) => ("◀────── event:", "", summary(text)),
            What::ToUpstream {
                method,
                text: Some(text),
                ..
            } => ("", arrow_to(method), summary(text)),
            What::ToUpstream {
                method, text: None, ..
            } => ("", arrow_to(method), purpose(method).to_owned()),
            What::Status { status, .. } => ("", "◀───── status", format!("HTTP {status}")),
            What::FromUpstream { text, .. } => ("", "◀──── message", summary(text)),
            What::Failed { why, .. } => ("", "◀──────── ✗", why.clone()),
        };
        let millis = event.at.saturating_duration_since(self.start).as_secs_f64() * 1000.0;
        format!(
            "{millis:>9.1}  {left:<14} {:<9} {right:<14}  {what}",
            format!("({})", event.connection)
        )
    }
}

fn arrow_to(method: &str) -> &'static str {
    match method {
        "POST" => "POST ────────▶",
        "GET" => "GET ─────────▶",
        _ => "DELETE ──────▶",
    }
}

fn purpose(method: &str) -> &'static str {
    match method {
        "GET" => "listens for what the server sends unasked",
        _ => "ends the session",
    }
}

/// A message in a few words: what it is, and the beginning of what it carries.
fn summary(text: &Text) -> String {
    let Ok(message) = serde_json::from_slice::<Value>(&text.head) else {
        return format!("{} bytes", text.size);
    };
    let member = |name: &str| message.get(name).filter(|value| !value.is_null());
    let id = member("id").map_or_else(String::new, |id| format!(" id={id}"));
    let (kind, rest) = match (member("method"), member("result"), member("error")) {
        (Some(method), _, _) => (
            method.as_str().unwrap_or_default().to_owned(),
            member("params"),
        ),
        (None, Some(result), _) => ("result".to_owned(), Some(result)),
        (None, None, error) => ("error".to_owned(), error),
    };
    let rest = rest.map(Value::to_string).unwrap_or_default();
    let line: String = format!("{kind}{id} {rest}")
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    match line.char_indices().nth(ROOM) {
        Some((end, _)) => format!("{}…", line.get(..end).unwrap_or_default()),
        None => line,
    }
}
