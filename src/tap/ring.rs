//! What the tap keeps: the last records, and the rows of the last exchanges and connections.
//!
//! Bounds: [`MAX_BYTES`] of records, [`MAX_EXCHANGES`] rows of exchanges, [`MAX_CLOSED`] rows of connections that are over.
//! The oldest go first. Everything in it is redacted already.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use super::record::{ConnectionRow, ExchangeRow, Headers, Outcome, Record};
use super::recorder::Change;

/// Bytes of records that are kept, what each needs besides its texts included.
pub(crate) const MAX_BYTES: usize = 16 * 1024 * 1024;
/// Rows of exchanges that are kept.
pub(crate) const MAX_EXCHANGES: usize = 20_000;
/// Rows of connections that are over and kept. Those that are open are all kept.
pub(crate) const MAX_CLOSED: usize = 2_000;
/// What a record weighs beside its texts.
const RECORD: usize = 640;

/// Which records are wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Those of this exchange.
    pub exchange: Option<u64>,
    /// Those of this connection.
    pub connection: Option<String>,
    /// Those after this one.
    pub after: u64,
}

impl Filter {
    fn wants(&self, record: &Record) -> bool {
        let is = |wanted: bool| !wanted;
        let other = is(self.exchange.is_none_or(|it| record.exchange == Some(it)));
        let foreign = is(self.connection.is_none() || record.connection == self.connection);
        record.seq > self.after && !other && !foreign
    }
}

/// The rows of the lists.
#[derive(Clone, Debug, Default, serde::Serialize)]
pub struct Rows {
    /// The number of the last record that they know of.
    pub seq: u64,
    /// The connections.
    pub connections: Vec<ConnectionRow>,
    /// The exchanges, oldest first.
    pub exchanges: Vec<ExchangeRow>,
}

#[derive(Debug, Default)]
pub(super) struct Ring {
    records: VecDeque<Arc<Record>>,
    bytes: usize,
    seq: u64,
    exchanges: BTreeMap<u64, ExchangeRow>,
    connections: HashMap<String, ConnectionRow>,
    /// Those that are over, in the order of their ends.
    closed: VecDeque<String>,
}

impl Ring {
    pub(super) fn put(&mut self, change: &Change) {
        match change {
            Change::Record(record) => self.put_record(Arc::clone(record)),
            Change::Exchange(row) => {
                self.exchanges.insert(row.exchange, (**row).clone());
                while self.exchanges.len() > MAX_EXCHANGES {
                    self.exchanges.pop_first();
                }
            }
            Change::Connection(row) => self.put_connection(row),
            Change::Cleared => {}
        }
    }

    fn put_record(&mut self, record: Arc<Record>) {
        self.seq = record.seq;
        self.bytes += weight(&record);
        self.records.push_back(record);
        while self.bytes > MAX_BYTES {
            let Some(oldest) = self.records.pop_front() else {
                break;
            };
            self.bytes = self.bytes.saturating_sub(weight(&oldest));
        }
    }

    fn put_connection(&mut self, row: &ConnectionRow) {
        let label = row.connection.clone();
        if row.closed.is_some() {
            self.closed.push_back(label.clone());
        }
        self.connections.insert(label, row.clone());
        while self.closed.len() > MAX_CLOSED {
            if let Some(oldest) = self.closed.pop_front() {
                self.connections.remove(&oldest);
            }
        }
    }

    /// Forgets what is over.
    pub(super) fn clear(&mut self) {
        self.records = VecDeque::new();
        self.bytes = 0;
        self.exchanges.retain(|_, row| row.outcome == Outcome::Open);
        self.connections.retain(|_, row| row.closed.is_none());
        self.closed.clear();
    }

    pub(super) fn rows(&self) -> Rows {
        let mut connections: Vec<_> = self.connections.values().cloned().collect();
        connections.sort_by(|a, b| a.opened.total_cmp(&b.opened));
        Rows {
            seq: self.seq,
            connections,
            exchanges: self.exchanges.values().cloned().collect(),
        }
    }

    pub(super) fn records(&self, filter: &Filter) -> Vec<Arc<Record>> {
        let wanted = self.records.iter().filter(|record| filter.wants(record));
        wanted.cloned().collect()
    }

    /// How many records are kept, and their bytes.
    pub(super) fn size(&self) -> (usize, usize) {
        (self.records.len(), self.bytes)
    }
}

/// What a record needs of memory, nearly.
fn weight(record: &Record) -> usize {
    let fields = |headers: Option<&Headers>| {
        let headers = headers.into_iter().flatten();
        headers
            .map(|(name, value)| name.len() + value.len() + 64)
            .sum::<usize>()
    };
    let body = record.body.as_ref().map_or(0, |body| body.get().len());
    let text = record.text.as_ref().map_or(0, String::len);
    let why = record.why.as_ref().map_or(0, String::len);
    let head = record.http.as_ref();
    let target = head.map_or(0, |head| head.target.len());
    let of = |text: Option<&String>| text.map_or(0, String::len);
    let message = record.message.as_ref().map_or(0, |message| {
        let id = message.id.as_ref().map_or(0, |id| id.get().len());
        id + of(message.method.as_ref()) + of(message.name.as_ref())
    });
    let heads = fields(head.map(|head| &head.headers)) + fields(record.headers.as_ref());
    RECORD + body + text + why + target + heads + message
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(seq: u64, text: usize) -> Change {
        Change::Record(Arc::new(Record {
            seq,
            exchange: Some(seq % 2),
            connection: Some("c1".to_owned()),
            text: Some("x".repeat(text)),
            ..Record::default()
        }))
    }

    #[test]
    fn records_are_kept_within_their_bytes_and_the_oldest_go_first() {
        let mut ring = Ring::default();
        for seq in 1..=40 {
            ring.put(&record(seq, 1024 * 1024));
            assert!(ring.size().1 <= MAX_BYTES);
        }
        let kept: Vec<u64> = ring
            .records(&Filter::default())
            .iter()
            .map(|it| it.seq)
            .collect();
        assert_eq!(kept, (26..=40).collect::<Vec<_>>());
        let odd = Filter {
            exchange: Some(1),
            after: 36,
            ..Filter::default()
        };
        let odd = ring.records(&odd);
        assert_eq!(odd.iter().map(|it| it.seq).collect::<Vec<_>>(), [37, 39]);
        let other = Filter {
            connection: Some("c2".to_owned()),
            ..Filter::default()
        };
        assert!(ring.records(&other).is_empty());
        ring.clear();
        assert_eq!(ring.size(), (0, 0));
    }

    #[test]
    fn a_record_alone_beyond_the_bound_is_not_kept_and_nothing_breaks() {
        let mut ring = Ring::default();
        ring.put(&record(1, MAX_BYTES + 1));
        assert_eq!(ring.size(), (0, 0));
        ring.put(&record(2, 1));
        assert_eq!(ring.size().0, 1);
    }
}
