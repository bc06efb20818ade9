//! What is told about a replay: short and clear for people, complete for machines. Values and names are the peers', so
//! that nothing of them reaches a terminal as it is.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::{Value, json};

use super::compare::{Change, Difference};
use super::recording::{Call, Connection, Read};
use crate::logging::shown;

/// Characters of a value that a line shows.
const LONGEST: usize = 100;

/// Everything that came of a replay.
#[derive(Debug)]
pub(super) struct Report {
    read: Read,
    upstream: String,
    pub(super) played: u64,
    pub(super) differ: Vec<Told>,
    /// What differs and does not count.
    pub(super) notes: Vec<Told>,
    pub(super) skipped: Vec<Skipped>,
    /// How the server refused a handshake, the first time.
    pub(super) refused: Option<String>,
    /// Why not everything was played.
    pub(super) stopped: Option<String>,
}

/// What is said about one request.
#[derive(Debug)]
pub(super) struct Told {
    connection: String,
    exchange: u64,
    method: String,
    name: Option<String>,
    differences: Vec<Difference>,
    /// How many differences were left out.
    more: usize,
}

impl Told {
    pub(super) fn of(
        connection: &Connection,
        call: &Call,
        differences: Vec<Difference>,
        more: usize,
    ) -> Self {
        Self {
            connection: connection.label.clone(),
            exchange: call.exchange,
            method: call.method.clone(),
            name: call.name.clone(),
            differences,
            more,
        }
    }

    fn what(&self) -> String {
        what(&self.method, self.name.as_deref())
    }

    fn json(&self) -> Value {
        let differences = self.differences.iter().map(Difference::json);
        json!({
            "connection": self.connection,
            "exchange": self.exchange,
            "method": self.method,
            "name": self.name,
            "differences": differences.collect::<Value>(),
            "more": self.more,
        })
    }
}

/// A request that was not played, and why.
#[derive(Debug)]
pub(super) struct Skipped {
    connection: String,
    exchange: u64,
    method: String,
    name: Option<String>,
    why: &'static str,
}

impl Skipped {
    pub(super) fn of(connection: &Connection, call: &Call, why: &'static str) -> Self {
        Self {
            connection: connection.label.clone(),
            exchange: call.exchange,
            method: call.method.clone(),
            name: call.name.clone(),
            why,
        }
    }
}

fn what(method: &str, name: Option<&str>) -> String {
    match name {
        Some(name) => format!("{method} {}", cut(name)),
        None => method.to_owned(),
    }
}

impl Difference {
    fn json(&self) -> Value {
        let path = &self.path;
        match &self.change {
            Change::Changed(recorded, now) => {
                json!({"path": path, "recorded": recorded, "now": now})
            }
            Change::Added(now) => json!({"path": path, "now": now}),
            Change::Removed(recorded) => json!({"path": path, "recorded": recorded}),
            Change::Nothing(why) => json!({"path": path, "no_answer": why}),
        }
    }

    fn text(&self) -> String {
        let path = cut(&self.path);
        match &self.change {
            Change::Changed(recorded, now) => {
                let (recorded, now) = apart(&recorded.to_string(), &now.to_string());
                format!("~ {path}: {recorded} -> {now}")
            }
            Change::Added(now) => format!("+ {path}: {}", cut(&now.to_string())),
            Change::Removed(recorded) => format!("- {path}: {}", cut(&recorded.to_string())),
            Change::Nothing(why) => format!("! no answer: {}", cut(why)),
        }
    }
}

/// Two values, each cut where it is long: around the first place where they differ.
fn apart(recorded: &str, now: &str) -> (String, String) {
    let same = recorded
        .chars()
        .zip(now.chars())
        .take_while(|(a, b)| a == b)
        .count();
    let skip = same.saturating_sub(LONGEST / 3);
    let long = recorded.chars().count().max(now.chars().count()) > LONGEST;
    let skip = if long { skip } else { 0 };
    let side = |text: &str| {
        let rest: String = text.chars().skip(skip).collect();
        format!("{}{}", if skip > 0 { "…" } else { "" }, cut(&rest))
    };
    (side(recorded), side(now))
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", shown(text.get(..end).unwrap_or_default())),
        None => shown(text),
    }
}

impl Report {
    pub(super) fn new(read: Read, upstream: String) -> Self {
        Self {
            read,
            upstream,
            played: 0,
            differ: Vec::new(),
            notes: Vec::new(),
            skipped: Vec::new(),
            refused: None,
            stopped: None,
        }
    }

    pub(super) fn agrees(&self) -> bool {
        self.differ.is_empty()
    }

    /// Whether something was skipped that would have been compared, had its outcome been recorded whole.
    fn has_gaps(&self) -> bool {
        self.skipped.iter().any(|skipped| skipped.why == super::CUT)
    }

    /// Why the replay could not be done, if so.
    pub(super) fn undone(&self) -> Option<String> {
        let nothing_played = || match (&self.refused, self.skipped.is_empty()) {
            (Some(why), _) => why.clone(),
            (None, true) => "the recording has no request of a client".to_owned(),
            (None, false) => "every recorded request was skipped".to_owned(),
        };
        let stopped = self.stopped.clone();
        stopped.or_else(|| (self.played == 0).then(nothing_played))
    }

    /// Why, and how many of which method.
    fn reasons(&self) -> BTreeMap<(&'static str, String), u64> {
        let mut reasons = BTreeMap::new();
        for skipped in &self.skipped {
            let what = what(&skipped.method, skipped.name.as_deref());
            let count: &mut u64 = reasons.entry((skipped.why, what)).or_default();
            *count = count.saturating_add(1);
        }
        reasons
    }

    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a string does not fail.
        let complaints = self.read.complaints();
        if !complaints.is_empty() {
            let _ = writeln!(
                text,
                "not used of the files: {} lines",
                complaints.join(", ")
            );
        }
        if self.read.lost > 0 {
            let _ = writeln!(
                text,
                "the recording itself has lost {} records",
                self.read.lost
            );
        }
        for told in &self.differ {
            let place = format!("{}, exchange {}", shown(&told.connection), told.exchange);
            let _ = writeln!(text, "differs: {} ({place})", shown(&told.what()));
            for difference in &told.differences {
                let _ = writeln!(text, "  {}", difference.text());
            }
            if told.more > 0 {
                let _ = writeln!(text, "  … and {} more", told.more);
            }
        }
        for told in &self.notes {
            for difference in &told.differences {
                let _ = writeln!(text, "note: {} {}", shown(&told.what()), difference.text());
            }
        }
        for ((why, what), count) in self.reasons() {
            let _ = writeln!(text, "skipped: {count} x {}: {why}", shown(&what));
        }
        let differ = self.differ.len();
        let verdict = match (self.played, differ) {
            (0, _) => "nothing played",
            _ if self.stopped.is_some() => "stopped",
            (_, 0) if self.has_gaps() => "agrees as far as it was played",
            (_, 0) => "agrees",
            _ => "differs",
        };
        let _ = writeln!(
            text,
            "{verdict}: {} played against {}, {differ} differ, {} skipped",
            self.played,
            self.upstream,
            self.skipped.len()
        );
        text
    }

    pub(super) fn json(&self) -> String {
        let skipped = self.skipped.iter().map(|skipped| {
            json!({
                "connection": skipped.connection,
                "exchange": skipped.exchange,
                "method": skipped.method,
                "name": skipped.name,
                "why": skipped.why,
            })
        });
        let told = |all: &[Told]| all.iter().map(Told::json).collect::<Value>();
        let read = &self.read;
        let report = json!({
            "upstream": self.upstream,
            "agrees": self.agrees() && self.undone().is_none(),
            "undone": self.undone(),
            "played": self.played,
            "differ": told(&self.differ),
            "notes": told(&self.notes),
            "skipped": skipped.collect::<Value>(),
            "files": {
                "records": read.records,
                "unreadable": read.unreadable,
                "half_written": read.half_written,
                "foreign": read.foreign,
                "newer": read.newer,
                "lost": read.lost,
            },
        });
        format!("{report}\n")
    }
}
