//! The rules of the tap: from events to records and rows. Everything gets a number; what belongs to one JSON-RPC request
//! gets the number of its exchange; what is secret goes. Pure: no clock, no IO, and nothing kept but what is open.
//!
//! | file | what it does |
//! | --- | --- |
//! | this one | the vocabulary, time, and the making of records |
//! | `rows` | what is open: exchanges and connections, and their rows |
//! | `translated` | what crosses on the connections that the ferry translates |
//! | `passed` | requests that pass through, whose bodies are read here first |
//!
//! Bounds: [`MAX_OPEN`] exchanges and passing requests; of what is beyond, the end of the oldest is missed. Connections are as
//! many as the server admits: their beginnings and ends are never lost.

mod passed;
mod rows;
#[cfg(test)]
mod tests;
mod translated;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::num::NonZero;
use std::sync::Arc;

use time::format_description::well_known::Iso8601;
use time::format_description::well_known::iso8601::{Config, EncodedConfig, TimePrecision};
use time::{Duration, OffsetDateTime};
use tokio::time::Instant;

use super::record::{
    ConnectionRow, ExchangeRow, FORMAT, Headers, Kind, Outcome, Party, Record, RequestHead,
};
use super::redact::Redactor;
use super::summary::Read;
use super::{CLIENT_LEFT, Event, FERRY_ENDED, Head, Lost, Text, What};
use hyper::header::HeaderMap;
use passed::Passages;
use rows::{Connection, Open};

/// Exchanges and passing requests that may be open, each.
pub(crate) const MAX_OPEN: usize = 20_000;

/// RFC 3339 with six digits of a second's fraction, so that times sort as text.
const MICROSECONDS: EncodedConfig = Config::DEFAULT
    .set_time_precision(TimePrecision::Second {
        decimal_digits: NonZero::new(6),
    })
    .encode();

/// Something new for those who watch.
#[derive(Clone, Debug)]
pub enum Change {
    /// Something crossed.
    Record(Arc<Record>),
    /// An exchange began or changed.
    Exchange(Box<ExchangeRow>),
    /// A connection began or changed.
    Connection(Box<ConnectionRow>),
    /// What was stored is forgotten.
    Cleared,
}

/// Turns events into changes.
#[derive(Debug)]
pub(crate) struct Recorder {
    redactor: Redactor,
    bodies: bool,
    max_body: usize,
    /// A moment on both clocks.
    moment: (Instant, OffsetDateTime),
    records: u64,
    exchanges: u64,
    connections: BTreeMap<Arc<str>, Connection>,
    open: BTreeMap<u64, Open>,
    /// Whose rows have changed.
    touched: Vec<u64>,
    touched_connections: Vec<Arc<str>>,
    passages: Passages,
    changes: Vec<Change>,
}

/// What a record of a message is made of, beside the message.
#[derive(Debug)]
struct Leg {
    connection: Option<Arc<str>>,
    exchange: Option<u64>,
    from: Party,
    to: Party,
    call: Option<u64>,
}

impl Recorder {
    /// `moment` is one on both clocks. Without `bodies` no text of a message is recorded; of each text `max_body` bytes
    /// are.
    pub(crate) fn new(
        redactor: Redactor,
        bodies: bool,
        max_body: usize,
        moment: (Instant, OffsetDateTime),
    ) -> Self {
        Self {
            redactor,
            bodies,
            max_body,
            moment,
            records: 0,
            exchanges: 0,
            connections: BTreeMap::new(),
            open: BTreeMap::new(),
            touched: Vec::new(),
            touched_connections: Vec::new(),
            passages: Passages::default(),
            changes: Vec::new(),
        }
    }

    /// Takes in an event. What it changes is among the next [`Self::changes`].
    pub(crate) fn take(&mut self, event: Event) {
        let at = event.at;
        match event.what {
            What::On(label, crossing) => self.cross(at, &label.to_string().into(), crossing),
            What::Passing(number, passing) => self.pass(at, number, passing),
            What::Refused {
                peer,
                head,
                status,
                why,
            } => self.refused(at, peer, &head, status, &why),
        }
    }

    /// Gives a refused request a row. One that had begun to pass has its row already.
    fn refused(&mut self, at: Instant, peer: IpAddr, head: &Arc<Head>, status: u16, why: &str) {
        let (label, exchange) = self.refused_after_all(head, status).unwrap_or_else(|| {
            let label = head.connection().map(|label| label.to_string().into());
            let exchange = self.refusal(at, label.as_ref(), head, status);
            (label, Some(exchange))
        });
        let mut record = self.record(at, Kind::Refused);
        record.connection = label.map(|label| label.as_ref().to_owned());
        record.exchange = exchange;
        record.peer = Some(peer.to_string());
        record.http = Some(self.head(head));
        record.status = Some(status);
        record.why = Some(self.redactor.text(why));
        self.push(record);
    }

    fn refusal(&mut self, at: Instant, label: Option<&Arc<str>>, head: &Head, status: u16) -> u64 {
        let exchange = self.begin_unread(at, label, head, 0, Outcome::Refused);
        if let Some(row) = self.row(Some(exchange)) {
            row.status = Some(status);
        }
        if let Some(row) = label.and_then(|label| self.connection_row(label)) {
            row.errors += 1;
        }
        exchange
    }

    /// What has changed since the last time: records in their order, then each row that they touched, once.
    pub(crate) fn changes(&mut self) -> impl Iterator<Item = Change> {
        self.show_rows();
        self.changes.drain(..)
    }

    /// This was lost. What was open may have ended with lost events: nobody knows, and nothing waits for it.
    pub(crate) fn missed(&mut self, at: Instant, lost: Lost) {
        let mut record = self.record(at, Kind::Missed);
        record.count = Some(lost.count());
        self.push(record);
        if lost.events == 0 {
            return;
        }
        let open: Vec<u64> = self.open.keys().copied().collect();
        for exchange in open {
            self.settle(at, Some(exchange), Outcome::Missed, None, 0);
        }
        self.connections.values_mut().for_each(Connection::forget);
        self.passages.forget();
    }

    /// The rows of what is open.
    #[cfg(test)]
    pub(crate) fn open_rows(&self) -> (Vec<ConnectionRow>, Vec<ExchangeRow>) {
        let connections = self.connections.values();
        let exchanges = self.open.values();
        (
            connections.map(|it| it.row.clone()).collect(),
            exchanges.map(|it| it.row.clone()).collect(),
        )
    }

    fn time(&self, at: Instant) -> OffsetDateTime {
        let (instant, wall) = self.moment;
        let passed = Duration::try_from(at.saturating_duration_since(instant));
        wall + passed.unwrap_or_default()
    }

    /// Milliseconds since 1970, to the microsecond.
    fn millis(&self, at: Instant) -> f64 {
        #[expect(
            clippy::cast_precision_loss,
            reason = "microseconds of this age fit 53 bits"
        )]
        let micros = (self.time(at).unix_timestamp_nanos() / 1000) as f64;
        micros / 1000.0
    }

    fn record(&mut self, at: Instant, kind: Kind) -> Record {
        self.records += 1;
        let time = self.time(at);
        Record {
            v: FORMAT,
            seq: self.records,
            time: time.format(&Iso8601::<MICROSECONDS>).unwrap_or_default(),
            kind,
            ..Record::default()
        }
    }

    fn record_on(&mut self, at: Instant, kind: Kind, leg: Leg) -> Record {
        let mut record = self.record(at, kind);
        record.connection = leg.connection.map(|label| label.as_ref().to_owned());
        record.exchange = leg.exchange;
        record.from = Some(leg.from);
        record.to = Some(leg.to);
        record.call = leg.call;
        record
    }

    /// A record of a message.
    fn message(&mut self, at: Instant, leg: Leg, text: &Text, read: Read) -> Record {
        if let Some(row) = self.row(leg.exchange) {
            row.messages = row.messages.saturating_add(1);
        }
        let mut record = self.record_on(at, Kind::Message, leg);
        record.size = Some(text.size);
        record.cut = text.is_cut();
        record.message = Some(read.summary);
        self.redact_summary(&mut record);
        if self.bodies {
            let text = String::from_utf8_lossy(&text.head);
            if record.cut {
                record.text = Some(self.redactor.text(&text));
            } else {
                match self.redactor.json(&text) {
                    Ok(body) => record.body = Some(body),
                    Err(shown) => record.text = Some(shown),
                }
            }
        }
        record
    }

    /// What a peer calls its things may hold secrets too: the query of a resource's address.
    fn redact_summary(&self, record: &mut Record) {
        let name = record.message.as_mut().and_then(|it| it.name.as_mut());
        if let Some(name) = name {
            *name = self.redactor.text(name);
        }
    }

    fn status(&mut self, at: Instant, leg: Leg, status: u16, headers: Option<&HeaderMap>) {
        let exchange = leg.exchange.filter(|_| leg.from == Party::Server);
        if let Some(row) = self.row(exchange) {
            row.status = Some(status);
        }
        let mut record = self.record_on(at, Kind::Status, leg);
        record.status = Some(status);
        record.headers = headers.map(|headers| self.headers(headers));
        self.push(record);
    }

    /// An answer is over. It is the server's doing, unless `why` says whose.
    fn ended(&mut self, at: Instant, mut leg: Leg, why: Option<&str>) {
        match why {
            Some(FERRY_ENDED) => (leg.from, leg.to) = (Party::Ferry, Party::Server),
            Some(CLIENT_LEFT) => (leg.from, leg.to) = (Party::Client, Party::Server),
            _ => {}
        }
        let mut record = self.record_on(at, Kind::Ended, leg);
        record.why = why.map(|why| self.redactor.text(why));
        self.push(record);
    }

    fn push(&mut self, record: Record) {
        self.changes.push(Change::Record(Arc::new(record)));
    }

    fn head(&self, head: &Head) -> RequestHead {
        RequestHead {
            method: head.method.to_string(),
            target: self.redactor.target(&head.target),
            headers: self.headers(&head.headers),
        }
    }

    fn headers(&self, headers: &HeaderMap) -> Headers {
        let fields = headers.iter();
        fields
            .map(|(name, value)| {
                let value = self.redactor.header(name.as_str(), value.as_bytes());
                (name.as_str().to_owned(), value)
            })
            .collect()
    }
}
