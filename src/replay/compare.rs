//! Two outcomes of one request, compared as structures. Differences are named by the JSON pointer of the place in the
//! message; where a list is one of named things (tools, prompts, resources), the name stands in the pointer and the
//! order does not matter.
//!
//! What is not a difference:
//!
//! - ids of messages, `progressToken`, cursors, session ids, and `_meta` of a result;
//! - two date-times (RFC 3339), also within longer texts; two numbers or numeric texts under a name of time
//!   (`timestamp`, `createdAt`, `expires`, …);
//! - two ids drawn at random (UUIDs, and texts of 16 and more characters that look so), also within longer texts;
//! - what the tap has redacted, compared with the new value redacted likewise;
//! - members that only 2026-07-28 has (`resultType`, `ttlMs`, `cacheScope`);
//! - how a number is written, and the order of members; a text that is JSON is compared as JSON;
//! - what `--ignore` names.
//!
//! The server's own version is told as a note, and so is the protocol version where the recorded client did not come by
//! the old transport, as the replay does.

use std::collections::BTreeMap;

use serde_json::Value;

use super::recording::Outcome;
use crate::tap::record::Front;
use crate::tap::redact::{self, Redactor};

/// Differences that are kept of one outcome; the others are counted.
const MOST: usize = 200;

/// One difference.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Difference {
    pub(super) path: String,
    pub(super) change: Change,
}

/// What it is.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Change {
    /// The recorded value, and the new one.
    Changed(Value, Value),
    /// The new value.
    Added(Value),
    /// The recorded value.
    Removed(Value),
}

/// What came of a comparison.
#[derive(Debug, Default)]
pub(super) struct Comparison {
    pub(super) differences: Vec<Difference>,
    /// Differences that do not count.
    pub(super) notes: Vec<Difference>,
    /// Differences beyond those that are kept.
    pub(super) more: usize,
}

/// What is compared, and what is not.
#[derive(Debug)]
pub(super) struct Rules {
    ignored: Vec<Vec<String>>,
    redactor: Redactor,
}

impl Rules {
    pub(super) fn new(ignored: &[String]) -> Self {
        let segments = |path: &String| path.split('/').skip(1).map(unescaped).collect();
        Self {
            ignored: ignored.iter().map(segments).collect(),
            redactor: Redactor::default(),
        }
    }

    /// Compares the outcomes of one request.
    pub(super) fn outcomes(
        &self,
        method: &str,
        front: Option<Front>,
        recorded: &Outcome,
        now: &Value,
    ) -> Comparison {
        let Outcome::Message(recorded) = recorded else {
            return Comparison::default();
        };
        // What was recorded is redacted, so the new one has to be.
        let clean = self.redactor.text(&now.to_string());
        let now = serde_json::from_str(&clean).unwrap_or_else(|_| now.clone());
        let mut walk = Walk {
            rules: self,
            initialize: method == "initialize",
            front,
            path: Vec::new(),
            found: Comparison::default(),
        };
        walk.objects(recorded, &now);
        walk.found
    }

    fn ignores(&self, path: &[String]) -> bool {
        let fits = |ignored: &Vec<String>| {
            ignored.len() <= path.len()
                && ignored
                    .iter()
                    .zip(path)
                    .all(|(own, segment)| own == "*" || own == segment)
        };
        self.ignored.iter().any(fits)
    }
}

struct Walk<'r> {
    rules: &'r Rules,
    initialize: bool,
    front: Option<Front>,
    path: Vec<String>,
    found: Comparison,
}

impl Walk<'_> {
    fn values(&mut self, recorded: &Value, now: &Value) {
        match (recorded, now) {
            (Value::Object(_), Value::Object(_)) => self.objects(recorded, now),
            (Value::Array(old), Value::Array(new)) => match (by_name(old), by_name(new)) {
                (Some(old), Some(new)) => self.members(&old, &new),
                _ => self.lists(old, new),
            },
            (Value::String(old), Value::String(new)) => self.texts(old, new),
            _ if same(recorded, now) || self.is_time(recorded, now) || is_redacted(recorded) => {}
            _ => self.add(Change::Changed(recorded.clone(), now.clone())),
        }
    }

    fn objects(&mut self, recorded: &Value, now: &Value) {
        let members = |value| -> BTreeMap<String, Value> {
            let members: Option<&serde_json::Map<_, _>> = Value::as_object(value);
            let members = members.into_iter().flatten();
            members
                .map(|(name, value)| (name.clone(), value.clone()))
                .collect()
        };
        self.members(&members(recorded), &members(now));
    }

    fn lists(&mut self, old: &[Value], new: &[Value]) {
        for at in 0..old.len().max(new.len()) {
            self.member(&at.to_string(), old.get(at), new.get(at));
        }
    }

    fn members(&mut self, old: &BTreeMap<String, Value>, new: &BTreeMap<String, Value>) {
        for (name, recorded) in old {
            self.member(name, Some(recorded), new.get(name));
        }
        for (name, now) in new.iter().filter(|(name, _)| !old.contains_key(*name)) {
            self.member(name, None, Some(now));
        }
    }

    fn member(&mut self, name: &str, recorded: Option<&Value>, now: Option<&Value>) {
        self.path.push(name.to_owned());
        if !self.is_left_out(name) && !self.rules.ignores(&self.path) {
            match (recorded, now) {
                (Some(recorded), Some(now)) => self.values(recorded, now),
                (Some(recorded), None) => self.add(Change::Removed(recorded.clone())),
                (None, Some(now)) => self.add(Change::Added(now.clone())),
                (None, None) => {}
            }
        }
        self.path.pop();
    }

    /// Members that say nothing about the server.
    fn is_left_out(&self, name: &str) -> bool {
        let depth = self.path.len();
        match depth {
            1 => matches!(name, "jsonrpc" | "id"),
            2 if matches!(name, "_meta" | "resultType" | "ttlMs" | "cacheScope") => true,
            _ => matches!(
                name,
                "progressToken" | "cursor" | "nextCursor" | "sessionId" | "session_id"
            ),
        }
    }

    fn texts(&mut self, old: &str, new: &str) {
        if old == new || plain(old) == plain(new) {
            return;
        }
        let both_numbers = old.parse::<f64>().is_ok() && new.parse::<f64>().is_ok();
        if both_numbers && self.path.last().is_some_and(|name| is_name_of_time(name)) {
            return;
        }
        if let (Some(old), Some(new)) = (structure(old), structure(new)) {
            self.values(&old, &new);
        } else if !redact::is_redacted(old) {
            self.add(Change::Changed(old.into(), new.into()));
        }
    }

    fn is_time(&self, recorded: &Value, now: &Value) -> bool {
        let numbers = recorded.is_number() && now.is_number();
        numbers && self.path.last().is_some_and(|name| is_name_of_time(name))
    }

    fn add(&mut self, change: Change) {
        let path = pointer(&self.path);
        let version = match path.as_str() {
            "/result/serverInfo/version" => true,
            "/result/protocolVersion" => self.front != Some(Front::Sse),
            _ => false,
        };
        let difference = Difference { path, change };
        if version && self.initialize {
            self.found.notes.push(difference);
        } else if self.found.differences.len() < MOST {
            self.found.differences.push(difference);
        } else {
            self.found.more = self.found.more.saturating_add(1);
        }
    }
}

/// The elements of a list by their names, if each has one of its own.
fn by_name(values: &[Value]) -> Option<BTreeMap<String, Value>> {
    let names = ["name", "uri", "uriTemplate"];
    for key in names {
        let name = |value: &Value| {
            value
                .get(key)
                .and_then(Value::as_str)
                .map(ToOwned::to_owned)
        };
        let named: Option<BTreeMap<_, _>> = values
            .iter()
            .map(|value| name(value).map(|name| (name, value.clone())))
            .collect();
        if let Some(named) = named.filter(|named| named.len() == values.len()) {
            return Some(named);
        }
    }
    None
}

/// Equal, however numbers are written.
fn same(recorded: &Value, now: &Value) -> bool {
    recorded == now
        || recorded
            .as_f64()
            .is_some_and(|number| now.as_f64() == Some(number))
}

fn is_redacted(value: &Value) -> bool {
    value.as_str().is_some_and(redact::is_redacted)
}

/// An object or list in a text.
fn structure(text: &str) -> Option<Value> {
    let begins = text.trim_start().starts_with(['{', '[']);
    serde_json::from_str(text).ok().filter(|_| begins)
}

fn is_name_of_time(name: &str) -> bool {
    let lower = name.to_ascii_lowercase();
    let ends = [
        "time",
        "timestamp",
        "date",
        "elapsed",
        "duration",
        "uptime",
        "created",
        "updated",
        "modified",
        "expires",
        "age",
        "now",
    ];
    ends.iter().any(|end| lower.ends_with(end))
        || name.ends_with("At")
        || name.ends_with("_at")
        || lower.ends_with("_ms")
        || name.ends_with("Ms")
}

/// The text with what differs every time made the same: date-times, random ids, and hashes of the tap.
fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while !rest.is_empty() {
        let inside = |char: char| {
            char.is_ascii_alphanumeric() || matches!(char, '-' | ':' | '.' | '+' | '_')
        };
        let end = rest.find(|char| !inside(char)).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        out.push_str(&plain_word(word));
        let next = after.find(inside).unwrap_or(after.len());
        let (between, after) = after.split_at(next);
        out.push_str(between);
        rest = after;
    }
    // Hashes are those of one process.
    let mut clean = String::with_capacity(out.len());
    let mut pieces = out.split(redact::HASHED);
    clean.push_str(pieces.next().unwrap_or_default());
    for piece in pieces {
        clean.push_str(redact::HASHED);
        clean.push_str(piece.trim_start_matches(|char: char| char.is_ascii_hexdigit()));
    }
    clean
}

fn plain_word(word: &str) -> String {
    let bare = word.trim_end_matches(['.', ':', '-']);
    let after = word.get(bare.len()..).unwrap_or_default();
    if is_date_time(bare) {
        return format!("<time>{after}");
    }
    if is_random_id(bare) {
        return format!("<id>{after}");
    }
    word.to_owned()
}

/// `2026-11-21T16:40:00`, with or without a fraction and a zone.
fn is_date_time(word: &str) -> bool {
    const FORM: &[u8] = b"dddd-dd-ddTdd:dd:dd";
    let bytes = word.as_bytes();
    bytes.len() >= FORM.len()
        && bytes.iter().zip(FORM).all(|(byte, form)| match form {
            b'd' => byte.is_ascii_digit(),
            form => byte == form,
        })
}

/// Drawn at random: a UUID, or long and with letters and digits well mixed.
fn is_random_id(word: &str) -> bool {
    let letters = word.bytes().filter(u8::is_ascii_alphabetic).count();
    let digits = word.bytes().filter(u8::is_ascii_digit).count();
    let bytes = word.as_bytes();
    let changes = bytes
        .windows(2)
        .filter(|pair| matches!(pair, [a, b] if a.is_ascii_digit() != b.is_ascii_digit()))
        .count();
    word.len() >= 16 && letters > 0 && digits >= 4 && changes.saturating_mul(8) >= word.len()
}

/// The path as a JSON pointer (RFC 6901).
fn pointer(path: &[String]) -> String {
    let segments = path
        .iter()
        .map(|name| name.replace('~', "~0").replace('/', "~1"));
    segments.fold(String::new(), |path, segment| format!("{path}/{segment}"))
}

fn unescaped(segment: &str) -> String {
    segment.replace("~1", "/").replace("~0", "~")
}

#[cfg(test)]
mod tests;
