//! How the demo prints what crosses: one line a message, three columns for the three parties.

use tokio::time::Instant;

use crate::tap::Change;
use crate::tap::record::{Kind, Party, Record};

/// Characters of a message that a line has room for.
const ROOM: usize = 72;

/// Prints records with the time since the start.
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

    pub(super) fn line(&self, change: &Change) -> Option<String> {
        let Change::Record(record) = change else {
            return None;
        };
        let millis = self.start.elapsed().as_secs_f64() * 1000.0;
        let connection = record.connection.as_deref().unwrap_or("-");
        let (left, right) = arrows(record);
        let what = what(record);
        Some(format!(
            "{millis:>9.1}  {left:<14} ({connection}) {right:<14}  {what}"
        ))
    }
}

fn arrows(record: &Record) -> (&'static str, &'static str) {
    match (record.from, record.to) {
        (Some(Party::Client), _) => ("POST ────────▶", ""),
        (_, Some(Party::Client)) => ("◀────── event:", ""),
        (_, Some(Party::Server)) => ("", "POST ────────▶"),
        (Some(Party::Server), _) => ("", "◀──── message"),
        _ => ("", ""),
    }
}

fn what(record: &Record) -> String {
    let text = match record.kind {
        Kind::Message => {
            let body = record.body.as_ref().map(|body| body.get());
            body.or(record.text.as_deref())
                .unwrap_or_default()
                .to_owned()
        }
        kind => format!("{kind:?} {}", record.status.unwrap_or_default()),
    };
    match text.char_indices().nth(ROOM) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text,
    }
}
