//! Two outcomes of one request, compared as structures. Differences are named by the JSON pointer of the place in the
//! message; where a list is one of named things (tools, prompts, resources), the name stands in the pointer and the
//! order does not matter.
//!
//! What is not a difference:
//!
//! - ids of messages, `progressToken`, cursors, session ids, `requestState`, and `_meta` of a result;
//! - two date-times (RFC 3339), also within longer texts; two numbers or numeric texts under a name whose last word is one
//!   of time (`timestamp`, `createdAt`, `expires`, …);
//! - two ids drawn at random (UUIDs, long hexadecimal numbers, and well mixed letters and digits without words), also
//!   within longer texts (`varying`);
//! - what the tap has redacted, compared with the new value redacted likewise. A recorded value that is nothing but a
//!   placeholder agrees with any; in a longer text what stands around it has to agree (`texts`). A placeholder in the new
//!   value alone is a difference: what stood there was no secret;
//! - members that only 2026-07-28 has (`resultType`, `ttlMs`, `cacheScope`);
//! - how a number is written, and the order of members; a text that is JSON is compared as JSON;
//! - what `--ignore` names.
//!
//! The server's own version is told as a note, and so is the protocol version where the recorded client did not come by
//! the old transport, as the replay does.

mod texts;
mod varying;

use std::collections::BTreeMap;

use serde_json::Value;

use super::recording::Outcome;
use crate::tap::record::Front;
use crate::tap::redact::Redactor;
use varying::is_name_of_time;

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
    /// There is no outcome to compare with; what came instead, in words.
    Nothing(String),
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

    /// What is said of a request that got no outcome.
    pub(super) fn nothing(&self, why: &str) -> Comparison {
        let difference = Difference {
            path: String::new(),
            change: Change::Nothing(self.redactor.text(why)),
        };
        Comparison {
            differences: vec![difference],
            ..Comparison::default()
        }
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
                "progressToken"
                    | "cursor"
                    | "nextCursor"
                    | "sessionId"
                    | "session_id"
                    | "requestState"
            ),
        }
    }

    fn texts(&mut self, old: &str, new: &str) {
        if texts::is_placeholder(old) || texts::agree(old, new) {
            return;
        }
        let both_numbers = old.parse::<f64>().is_ok() && new.parse::<f64>().is_ok();
        if both_numbers && self.path.last().is_some_and(|name| is_name_of_time(name)) {
            return;
        }
        if let (Some(old), Some(new)) = (structure(old), structure(new)) {
            self.values(&old, &new);
        } else {
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

/// Equal, however numbers are written. Integers are compared as such: as floating-point numbers two large ones may be
/// the same.
fn same(recorded: &Value, now: &Value) -> bool {
    let is_integer = |value: &Value| value.is_i64() || value.is_u64();
    recorded == now
        || !(is_integer(recorded) && is_integer(now))
            && recorded
                .as_f64()
                .is_some_and(|number| now.as_f64() == Some(number))
}

fn is_redacted(value: &Value) -> bool {
    value.as_str().is_some_and(texts::is_placeholder)
}

/// An object or list in a text.
fn structure(text: &str) -> Option<Value> {
    let begins = text.trim_start().starts_with(['{', '[']);
    serde_json::from_str(text).ok().filter(|_| begins)
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
