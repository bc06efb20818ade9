//! Files of the tap become connections: the requests of their clients in order, each with its outcome, and the clients'
//! answers to what servers asked.
//!
//! A file may hold several runs of the ferry one after the other; numbers begin anew in each. Files are put in the order
//! of their first records. What cannot be read is counted: lines that are no JSON, a last line that is cut, JSON that is
//! no record, records of a format that is newer. Bounds: [`LONGEST_LINE`]; what is kept is the requests, their outcomes
//! and the answers.

use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};

use hyper::header::{HeaderName, HeaderValue};
use serde_json::Value;

use crate::tap::record::{FORMAT, Front, Headers, Kind, MessageKind, Party, Record};
use crate::tap::redact;

/// Bytes of one line; a longer one is not read.
const LONGEST_LINE: u64 = 64 * 1024 * 1024;

/// What was read.
#[derive(Debug, Default)]
pub(super) struct Recording {
    pub(super) connections: Vec<Connection>,
    pub(super) read: Read,
}

/// How much of the files could be used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Read {
    pub(super) records: u64,
    /// Lines that are no JSON, or too long.
    pub(super) unreadable: u64,
    /// Last lines that are cut.
    pub(super) half_written: u64,
    /// Lines of JSON that are no records.
    pub(super) foreign: u64,
    /// Records of a newer format.
    pub(super) newer: u64,
    /// Records that the tap itself says it lost.
    pub(super) lost: u64,
}

impl Read {
    pub(super) fn complaints(&self) -> Vec<String> {
        [
            (self.unreadable, "unreadable"),
            (self.half_written, "half-written"),
            (self.foreign, "JSON but no record of the tap"),
            (self.newer, "of a newer format"),
        ]
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, what)| format!("{count} {what}"))
        .collect()
    }
}

/// One recorded connection.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) label: String,
    pub(super) front: Option<Front>,
    /// The parameters of its handshake.
    pub(super) initialize: Option<Value>,
    pub(super) calls: Vec<Call>,
    /// What the client answered, in this order.
    pub(super) answers: Vec<Answer>,
}

/// What a client answered when the server asked it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Answer {
    /// What it was asked.
    pub(super) method: String,
    /// The whole answer.
    pub(super) message: Value,
    /// The exchanges during which it was asked: the one whose call carried the question, or else all that were in flight.
    pub(super) during: Vec<u64>,
}

/// One recorded request of the client.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) exchange: u64,
    pub(super) method: String,
    pub(super) name: Option<String>,
    pub(super) params: Option<Value>,
    /// Of a request of 2026-07-28, the headers that belong to it.
    pub(super) headers: Option<Headers>,
    /// Why it cannot be sent again.
    pub(super) unplayable: Option<&'static str>,
    pub(super) outcome: Option<Outcome>,
}

/// How a recorded request went.
#[derive(Debug)]
pub(super) enum Outcome {
    /// The message: a result or an error.
    Message(Value),
    /// Its text was cut, compressed or not kept.
    Unreadable,
}

impl Recording {
    /// Reads files, whose order does not matter.
    pub(super) fn read(paths: &[PathBuf]) -> Result<Self, String> {
        let mut recording = Self::default();
        let mut files = Vec::with_capacity(paths.len());
        for path in paths {
            let records = read_file(path, &mut recording.read);
            files.push(records.map_err(|error| format!("{}: {error}", path.display()))?);
        }
        // Times of one clock in one form: they sort as text. Empty files come first and do no harm.
        files.sort_by(|a, b| first_time(a).cmp(first_time(b)));
        let mut builder = Builder::default();
        for record in files.into_iter().flatten() {
            recording.read.records = recording.read.records.saturating_add(1);
            if record.kind == Kind::Missed {
                let count = record.count.unwrap_or_default();
                recording.read.lost = recording.read.lost.saturating_add(count);
            }
            builder.take(record);
        }
        if recording.read.records == 0 {
            let complaints = recording.read.complaints();
            return Err(match complaints.is_empty() {
                true => "the files are empty".to_owned(),
                false => format!("no line is a record of the tap: {}", complaints.join(", ")),
            });
        }
        recording.connections = builder.connections;
        Ok(recording)
    }
}

fn first_time(records: &[Record]) -> &str {
    records.first().map_or("", |record| record.time.as_str())
}

fn read_file(path: &Path, read: &mut Read) -> io::Result<Vec<Record>> {
    if path.is_dir() {
        return Err(io::Error::other("it is a directory"));
    }
    let mut file = BufReader::new(File::open(path)?);
    let mut records = Vec::new();
    let mut line = Vec::new();
    loop {
        line.clear();
        let length = file
            .by_ref()
            .take(LONGEST_LINE)
            .read_until(b'\n', &mut line)?;
        if length == 0 {
            return Ok(records);
        }
        let whole = line.ends_with(b"\n");
        if !whole && u64::try_from(length).is_ok_and(|length| length == LONGEST_LINE) {
            read.unreadable = read.unreadable.saturating_add(1);
            skip_line(&mut file)?;
        } else if !line.trim_ascii().is_empty() {
            records.extend(parse(&line, whole, read));
        }
    }
}

fn skip_line(file: &mut BufReader<File>) -> io::Result<()> {
    loop {
        let buffer = file.fill_buf()?;
        if buffer.is_empty() {
            return Ok(());
        }
        let end = memchr::memchr(b'\n', buffer);
        let length = end.map_or(buffer.len(), |end| end.saturating_add(1));
        file.consume(length);
        if end.is_some() {
            return Ok(());
        }
    }
}

fn parse(line: &[u8], whole: bool, read: &mut Read) -> Option<Record> {
    let counter = match serde_json::from_slice::<Record>(line) {
        Ok(record) if record.v == FORMAT && record.seq > 0 => return Some(record),
        Ok(record) if record.v > FORMAT => &mut read.newer,
        Ok(_) => &mut read.foreign,
        // A later format may have kinds that this one does not know.
        Err(_) => match serde_json::from_slice::<Value>(line) {
            Ok(other) if other.get("v").and_then(Value::as_u64) > Some(FORMAT.into()) => {
                &mut read.newer
            }
            Ok(_) => &mut read.foreign,
            Err(_) if !whole => &mut read.half_written,
            Err(_) => &mut read.unreadable,
        },
    };
    *counter = counter.saturating_add(1);
    None
}

/// Puts records together.
#[derive(Default)]
struct Builder {
    connections: Vec<Connection>,
    /// Of this run of the ferry: where a connection is in the list.
    labels: HashMap<String, usize>,
    /// Likewise, where an exchange's request is: connection and call.
    calls: HashMap<u64, (usize, usize)>,
    /// Likewise, what a server asks.
    questions: HashMap<u64, Question>,
    /// Likewise, which exchange's request a call carries, by connection and number of the call.
    carried: HashMap<(usize, u64), u64>,
    /// Likewise, which exchange's call carried a question, by the question's own exchange.
    askers: HashMap<u64, u64>,
    /// Likewise, the exchanges of a connection that have no outcome yet.
    in_flight: HashMap<usize, BTreeSet<u64>>,
    last: u64,
}

/// A question of a server that has no answer yet.
struct Question {
    connection: usize,
    method: String,
    during: Vec<u64>,
}

impl Builder {
    fn take(&mut self, record: Record) {
        if record.seq <= self.last {
            // Another run of the ferry.
            *self = Self {
                connections: std::mem::take(&mut self.connections),
                ..Self::default()
            };
        }
        self.last = record.seq;
        let Some(at) = self.connection(&record) else {
            return;
        };
        let Some(exchange) = record.exchange else {
            return;
        };
        let from_client = record.from == Some(Party::Client);
        let to_client = record.to == Some(Party::Client);
        let failed = record.status.is_some_and(|status| status >= 400);
        if to_client && (failed || record.kind == Kind::Ended) {
            self.over(at, exchange);
        }
        let Some(message) = &record.message else {
            return;
        };
        self.trace(at, exchange, &record, message.kind);
        match message.kind {
            MessageKind::Request if from_client && !self.calls.contains_key(&exchange) => {
                self.request(at, exchange, &record);
            }
            // Both legs carry it; the client's is the one that it answers.
            MessageKind::Request if to_client => {
                let method = message.method.clone().unwrap_or_default();
                self.question(at, exchange, method);
            }
            MessageKind::Result | MessageKind::Error if to_client => {
                self.outcome(exchange, &record)
            }
            MessageKind::Result | MessageKind::Error if from_client => {
                self.answer(exchange, &record)
            }
            // The tap could not tell what it is; an outcome, unless one that can be told comes after it.
            MessageKind::Unknown if to_client && (record.cut || record.why.is_some()) => {
                self.outcome(exchange, &record);
            }
            MessageKind::Batch if from_client => self.request(at, exchange, &record),
            // A cancel has the exchange of what it cancels.
            MessageKind::Notification if from_client => self.over(at, exchange),
            _ => {}
        }
    }

    /// Takes note of which call carries a request, to the server or from it.
    fn trace(&mut self, at: usize, exchange: u64, record: &Record, kind: MessageKind) {
        let Some(call) = record.call.filter(|_| kind == MessageKind::Request) else {
            return;
        };
        if record.to == Some(Party::Server) {
            self.carried.insert((at, call), exchange);
        } else if let Some(asker) = self.carried.get(&(at, call)) {
            self.askers.insert(exchange, *asker);
        }
    }

    fn over(&mut self, at: usize, exchange: u64) {
        if let Some(in_flight) = self.in_flight.get_mut(&at) {
            in_flight.remove(&exchange);
        }
    }

    fn question(&mut self, at: usize, exchange: u64, method: String) {
        let asker = self.askers.remove(&exchange);
        let asker = asker.filter(|asker| self.calls.contains_key(asker));
        let in_flight = self.in_flight.get(&at);
        let during = match asker {
            Some(asker) => vec![asker],
            None => in_flight.into_iter().flatten().copied().collect(),
        };
        let question = Question {
            connection: at,
            method,
            during,
        };
        self.questions.insert(exchange, question);
    }

    fn connection(&mut self, record: &Record) -> Option<usize> {
        let label = record.connection.clone()?;
        let next = self.connections.len();
        let at = *self.labels.entry(label.clone()).or_insert(next);
        if at == next {
            self.connections.push(Connection {
                label,
                front: None,
                initialize: None,
                calls: Vec::new(),
                answers: Vec::new(),
            });
        }
        let connection = self.connections.get_mut(at)?;
        connection.front = record.front.or(connection.front);
        Some(at)
    }

    fn request(&mut self, at: usize, exchange: u64, record: &Record) {
        let (Some(connection), Some(message)) = (self.connections.get_mut(at), &record.message)
        else {
            return;
        };
        let method = message.method.clone().unwrap_or_default();
        let body = value(record);
        let params = body.as_ref().and_then(|body| body.get("params")).cloned();
        let headers = params
            .as_ref()
            .is_some_and(is_modern)
            .then(|| mirrors(record));
        if method == "initialize" && connection.initialize.is_none() {
            connection.initialize = params.clone();
        }
        let secret = || {
            let mut headers = headers.iter().flatten();
            method != "initialize"
                && (params.as_ref().is_some_and(is_redacted)
                    || headers.any(|(_, value)| redact::is_redacted(value)))
        };
        let unplayable = match &body {
            _ if message.kind == MessageKind::Batch => Some("is a batch"),
            None if record.cut => Some("was cut by --tap-max-body"),
            None if record.why.is_some() => Some("is compressed"),
            None => Some("its text was not kept (--tap-bodies off)"),
            Some(_) if params.as_ref().is_some_and(goes_on) => {
                Some("answers what the server asked in an earlier round")
            }
            Some(_) if secret() => Some("has a redacted secret in its parameters"),
            Some(_) if !headers.iter().flatten().all(can_be_sent) => {
                Some("has a header that cannot be sent again")
            }
            Some(_) => None,
        };
        let place = (at, connection.calls.len());
        self.calls.insert(exchange, place);
        if message.kind == MessageKind::Request {
            self.in_flight.entry(at).or_default().insert(exchange);
        }
        connection.calls.push(Call {
            exchange,
            method,
            name: message.name.clone(),
            params,
            headers,
            unplayable,
            outcome: None,
        });
    }

    fn outcome(&mut self, exchange: u64, record: &Record) {
        let place = self.calls.get(&exchange).copied();
        if let Some((connection, _)) = place {
            self.over(connection, exchange);
        }
        let call = place.and_then(|(connection, call)| {
            self.connections.get_mut(connection)?.calls.get_mut(call)
        });
        if let Some(call) = call
            && !matches!(call.outcome, Some(Outcome::Message(_)))
        {
            call.outcome = Some(value(record).map_or(Outcome::Unreadable, Outcome::Message));
        }
    }

    fn answer(&mut self, exchange: u64, record: &Record) {
        let Some(question) = self.questions.remove(&exchange) else {
            return;
        };
        let connection = self.connections.get_mut(question.connection);
        if let (Some(connection), Some(message)) = (connection, value(record)) {
            connection.answers.push(Answer {
                method: question.method,
                message,
                during: question.during,
            });
        }
    }
}

fn value(record: &Record) -> Option<Value> {
    let body = record.body.as_ref().filter(|_| !record.cut)?;
    serde_json::from_str(body.get()).ok()
}

/// Whether something in it was taken out. Nesting is bounded by the reader of JSON.
fn is_redacted(value: &Value) -> bool {
    match value {
        Value::String(text) => {
            redact::is_redacted(text)
                || text.contains("%5Bredacted%5D")
                || text.contains("%5Bhash%20")
        }
        Value::Array(values) => values.iter().any(is_redacted),
        Value::Object(members) => members.values().any(is_redacted),
        _ => false,
    }
}

/// Whether a request says its protocol version itself.
fn is_modern(params: &Value) -> bool {
    let meta = params.get("_meta");
    meta.is_some_and(|meta| {
        meta.get("io.modelcontextprotocol/protocolVersion")
            .is_some()
    })
}

/// Whether a request is the next round of a call, with answers to what the server has asked. What it goes on with is the
/// server's of then.
fn goes_on(params: &Value) -> bool {
    params.get("inputResponses").is_some() || params.get("requestState").is_some()
}

/// The headers that repeat parts of a request of 2026-07-28.
fn mirrors(record: &Record) -> Headers {
    let headers = record.http.iter().flat_map(|http| &http.headers);
    headers
        .filter(|(name, _)| name.starts_with("mcp-"))
        .cloned()
        .collect()
}

/// Whether a header is as it was sent. Of bytes that are no text the tap has kept a mark only.
fn can_be_sent((name, value): &(String, String)) -> bool {
    HeaderName::from_bytes(name.as_bytes()).is_ok()
        && HeaderValue::from_bytes(value.as_bytes()).is_ok()
        && !value.contains(char::REPLACEMENT_CHARACTER)
}

#[cfg(test)]
mod tests;
