//! Requests that pass through: their bodies come in pieces, and are read here, after they have passed.
//!
//! Both legs are one, so a message goes from client to server directly. Whose a request is, is a guess where nothing says
//! it: requests with the same session are one client's; so are those without one from the same address and with the same
//! `User-Agent`. Bounds: [`MAX_CLIENTS`] clients, of which one that is idle for [`IDLE`] is taken for gone; of each body
//! that is not read to its end yet, the bytes that the tap keeps of a message;
//! [`MAX_FAILED`] heads of requests that ended without an answer.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::header::{self, HeaderMap};
use hyper::{Method, StatusCode};
use tokio::time::Instant;

use super::rows::{Asked, add};
use super::translated::{outcome, read};
use super::{Kind, Leg, MAX_OPEN, Recorder};
use crate::proto::era::{self, METHOD_HEADER, SESSION_HEADER, VERSION_HEADER};
use crate::proto::jsonrpc::Id;
use crate::proto::sse;
use crate::tap::record::{Direction, Front, Implementation, MessageKind, Outcome, Party};
use crate::tap::summary::Read;
use crate::tap::{Head, Passing, Text};

/// Clients of passed-through traffic that are told apart at once.
const MAX_CLIENTS: usize = 2_000;
/// How long such a client may be quiet before its connection counts as closed.
const IDLE: Duration = Duration::from_secs(600);

/// Requests that ended without an answer and are remembered until the ferry says why: the next thing that it says of them.
const MAX_FAILED: usize = 32;

/// The requests that are passing, and whose they are.
#[derive(Debug, Default)]
pub(super) struct Passages {
    open: BTreeMap<u64, Passage>,
    clients: u64,
    by_session: HashMap<String, Arc<str>>,
    by_peer: HashMap<(IpAddr, String), Arc<str>>,
    seen: HashMap<Arc<str>, Instant>,
    /// Those that ended last without an answer of the upstream. The ferry may have refused them then, and says so.
    failed: VecDeque<Failed>,
}

/// A request that ended before it was answered.
#[derive(Debug)]
struct Failed {
    head: Arc<Head>,
    label: Arc<str>,
    exchange: Option<u64>,
}

#[derive(Debug)]
struct Passage {
    began: Instant,
    peer: IpAddr,
    head: Arc<Head>,
    upload: Collected,
    /// Whose it is, once its body has come.
    label: Option<Arc<str>>,
    exchange: Option<u64>,
    status: Option<u16>,
    answer: Answer,
    /// Bytes of the answer that have come.
    came: usize,
    /// Pieces of the answer are left out.
    gap: bool,
}

/// What has come of the answer.
#[derive(Debug, Default)]
enum Answer {
    #[default]
    Nothing,
    Events(Box<sse::Decoder>),
    Whole(Collected),
}

/// The beginning of a body, and the size of what has come.
#[derive(Debug, Default)]
struct Collected {
    bytes: Vec<u8>,
    size: usize,
}

impl Passages {
    /// What is under way is not known any more.
    pub(super) fn forget(&mut self) {
        self.open.clear();
        self.failed.clear();
    }

    /// Whose this request was and its exchange, if it ended just now without an answer. Its head is shared by all who tell
    /// of it.
    pub(super) fn failed(&mut self, head: &Arc<Head>) -> Option<(Option<Arc<str>>, Option<u64>)> {
        let mut failed = self.failed.iter();
        let place = failed.position(|it| Arc::ptr_eq(&it.head, head))?;
        let failed = self.failed.remove(place)?;
        Some((Some(failed.label), failed.exchange))
    }

    /// Remembers a request that ended without an answer.
    pub(super) fn fails(&mut self, head: Arc<Head>, label: &Arc<str>, exchange: Option<u64>) {
        if self.failed.len() >= MAX_FAILED {
            self.failed.pop_front();
        }
        self.failed.push_back(Failed {
            head,
            label: Arc::clone(label),
            exchange,
        });
    }

    /// Whether nothing is kept of anybody.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        let clients = self.by_session.len() + self.by_peer.len() + self.seen.len();
        self.open.is_empty() && clients == 0
    }
}

impl Passage {
    /// Whether the answer's status says that it failed.
    fn is_refused(&self) -> bool {
        let status = self.status.and_then(|it| StatusCode::from_u16(it).ok());
        status.is_some_and(|it| it.is_client_error() || it.is_server_error())
    }

    /// Pieces are left out, of the answer if it has begun.
    fn skip(&mut self, max_body: usize) {
        self.gap = self.status.is_some();
        match &mut self.answer {
            Answer::Nothing => self.upload.skip(),
            Answer::Whole(collected) => collected.skip(),
            // What is left of an event that was cut is no message.
            Answer::Events(decoder) => **decoder = sse::Decoder::keeping_beginnings(max_body),
        }
    }
}

impl Collected {
    fn push(&mut self, piece: &Text, limit: usize) {
        let room = limit.saturating_sub(self.bytes.len());
        // After a piece that was cut there is a gap: what follows is not kept.
        let whole = self.bytes.len() == self.size;
        let kept = piece.head.get(..piece.head.len().min(room));
        self.bytes
            .extend_from_slice(kept.filter(|_| whole).unwrap_or_default());
        self.size += piece.size;
    }

    /// A piece is left out; how large it was is not known.
    fn skip(&mut self) {
        self.size += 1;
    }

    fn text(&mut self) -> Text {
        Text {
            head: std::mem::take(&mut self.bytes).into(),
            size: self.size,
            told: None,
        }
    }
}

impl Recorder {
    pub(super) fn pass(&mut self, at: Instant, number: u64, passing: Passing) {
        if let Passing::Began { peer, head } = passing {
            return self.begin_passage(at, number, peer, head);
        }
        let Some(mut passage) = self.passages.open.remove(&number) else {
            return;
        };
        let more = matches!(passing, Passing::Upload(_) | Passing::Gap);
        if !more && passage.label.is_none() {
            self.request_passed(number, &mut passage);
        }
        match passing {
            Passing::Began { .. } | Passing::Sent => {}
            Passing::Upload(piece) => passage.upload.push(&piece, self.max_body),
            Passing::Gap => passage.skip(self.max_body),
            Passing::Status { status, headers } => {
                self.passage_status(at, number, &mut passage, status, &headers);
            }
            Passing::Download(piece) => self.downloaded(at, number, &mut passage, &piece),
            Passing::Ended { why } => {
                return self.passage_ended(at, number, passage, why.as_deref());
            }
        }
        self.passages.open.insert(number, passage);
    }

    fn begin_passage(&mut self, at: Instant, number: u64, peer: IpAddr, head: Arc<Head>) {
        let passage = Passage {
            began: at,
            peer,
            head,
            upload: Collected::default(),
            label: None,
            exchange: None,
            status: None,
            answer: Answer::default(),
            came: 0,
            gap: false,
        };
        self.passages.open.insert(number, passage);
        while self.passages.open.len() > MAX_OPEN {
            self.passages.open.pop_first();
        }
    }

    /// The client's part is known: whose it is, and what.
    fn request_passed(&mut self, number: u64, passage: &mut Passage) {
        let text = passage.upload.text();
        let mut read = read(&text);
        name_by_headers(&mut read, &passage.head);
        let label = self.client_of(passage, &read);
        let at = passage.began;
        passage.exchange = match read.summary.kind {
            MessageKind::Request | MessageKind::Notification => {
                Some(self.begin(at, &label, Direction::ToServer, &read.summary, text.size))
            }
            MessageKind::Batch => {
                let mut summary = read.summary.clone();
                summary.kind = MessageKind::Request;
                summary.method = Some("batch".to_owned());
                Some(self.begin(at, &label, Direction::ToServer, &summary, text.size))
            }
            MessageKind::Result | MessageKind::Error => {
                let connection = self.connections.get_mut(&label);
                let asked = connection
                    .zip(read.id.as_ref())
                    .and_then(|(connection, id)| connection.answered_to_server(id));
                self.settle(at, asked, outcome(&read), read.summary.code, text.size);
                asked
            }
            // A GET or DELETE has no message and needs none.
            MessageKind::Unknown if text.size == 0 && passage.head.method != Method::POST => None,
            MessageKind::Unknown => {
                let (head, outcome) = (&passage.head, Outcome::Open);
                Some(self.begin_unread(at, Some(&label), head, text.size, outcome))
            }
        };
        self.called(at, passage.exchange);
        passage.label = Some(Arc::clone(&label));
        let leg = leg(passage, number, Party::Client);
        let mut record = if text.size > 0 {
            self.message(at, leg, &text, read)
        } else {
            self.record_on(at, Kind::Message, leg)
        };
        record.purpose = match passage.head.method {
            Method::GET => Some("listen".to_owned()),
            Method::DELETE => Some("farewell".to_owned()),
            _ => None,
        };
        record.http = Some(self.head(&passage.head));
        self.push(record);
    }

    /// The connection that a request is shown on.
    fn client_of(&mut self, passage: &Passage, read: &Read) -> Arc<str> {
        let header = |name: &str| passage.head.headers.get(name)?.to_str().ok();
        let session = header(SESSION_HEADER).map(|it| self.redactor.hash(it));
        let agent = header(header::USER_AGENT.as_str()).unwrap_or_default();
        let agent: String = agent.chars().take(200).collect();
        let begins = read.summary.method.as_deref() == Some("initialize");
        let key = (passage.peer, agent);
        let known = match &session {
            _ if begins => None,
            Some(session) => self.passages.by_session.get(session),
            None => self.passages.by_peer.get(&key),
        };
        let known = known.filter(|label| self.connections.contains_key(*label));
        let label = known
            .cloned()
            .unwrap_or_else(|| self.new_client(passage, session.clone()));
        if session.is_none() {
            self.passages.by_peer.insert(key, Arc::clone(&label));
        }
        self.passages.seen.insert(Arc::clone(&label), passage.began);
        let version = header(VERSION_HEADER)
            .map(str::to_owned)
            .or_else(|| read.version.clone());
        self.learn_of_client(&label, read.speaker.clone(), version);
        label
    }

    fn learn_of_client(
        &mut self,
        label: &Arc<str>,
        client: Option<Implementation>,
        version: Option<String>,
    ) {
        let Some(row) = self.connections.get(label).map(|it| &it.row) else {
            return;
        };
        let old = (&row.client, &row.protocol);
        let known = client.is_none() || old.0 == &client;
        if known && (version.is_none() || old.1 == &version) {
            return;
        }
        let Some(row) = self.connection_row(label) else {
            return;
        };
        row.client = client.or_else(|| row.client.take());
        if let Some(version) = version {
            let modern = era::is_modern_version(&version);
            row.era = Some(if modern { "modern" } else { "handshake" }.to_owned());
            row.upstream_protocol = Some(version.clone());
            row.protocol = Some(version);
        }
    }

    fn new_client(&mut self, passage: &Passage, session: Option<String>) -> Arc<str> {
        let at = passage.began;
        if self.passages.seen.len() >= MAX_CLIENTS {
            let oldest = self.passages.seen.iter().min_by_key(|(_, seen)| **seen);
            if let Some(label) = oldest.map(|(label, _)| Arc::clone(label)) {
                self.close_client(at, &label);
            }
        }
        self.passages.clients += 1;
        let label: Arc<str> = format!("p{}", self.passages.clients).into();
        let peer = passage.peer.to_string();
        let connection = self.connect(at, &label, Front::Pass, peer.clone());
        connection.row.session.clone_from(&session);
        if let Some(session) = session {
            self.passages.by_session.insert(session, Arc::clone(&label));
        }
        let mut record = self.record(at, Kind::Opened);
        record.connection = Some(label.as_ref().to_owned());
        record.front = Some(Front::Pass);
        record.peer = Some(peer);
        self.push(record);
        label
    }

    fn passage_status(
        &mut self,
        at: Instant,
        number: u64,
        passage: &mut Passage,
        status: u16,
        headers: &HeaderMap,
    ) {
        passage.status = Some(status);
        let kind = headers.get(header::CONTENT_TYPE);
        let kind = kind.and_then(|it| it.to_str().ok()).unwrap_or_default();
        passage.answer = if kind.trim_start().starts_with("text/event-stream") {
            Answer::Events(Box::new(sse::Decoder::keeping_beginnings(self.max_body)))
        } else {
            Answer::Whole(Collected::default())
        };
        let session = headers.get(SESSION_HEADER).and_then(|it| it.to_str().ok());
        if let (Some(session), Some(label)) = (session, &passage.label) {
            let session = self.redactor.hash(session);
            let sessions = &mut self.passages.by_session;
            sessions.insert(session.clone(), Arc::clone(label));
            if let Some(row) = self.connection_row(label) {
                row.session = Some(session);
            }
        }
        self.status(
            at,
            leg(passage, number, Party::Server),
            status,
            Some(headers),
        );
    }

    fn downloaded(&mut self, at: Instant, number: u64, passage: &mut Passage, piece: &Text) {
        passage.came = passage.came.saturating_add(piece.size);
        let mut found = Vec::new();
        match &mut passage.answer {
            Answer::Nothing => {}
            Answer::Whole(collected) => collected.push(piece, self.max_body),
            Answer::Events(decoder) => decoder.push(&piece.head, |decoded| {
                let (head, size) = match decoded {
                    sse::Decoded::Event(event) => (event.data.clone(), event.data.len()),
                    sse::Decoded::Oversized { beginning, size } => (beginning, size),
                };
                found.push(Text {
                    head,
                    size,
                    told: None,
                });
            }),
        }
        for text in found.iter().filter(|text| text.size > 0) {
            self.server_said(at, number, passage, text);
        }
    }

    fn server_said(&mut self, at: Instant, number: u64, passage: &Passage, text: &Text) {
        let Some(label) = passage.label.clone() else {
            return;
        };
        let read = read(text);
        let mut leg = leg(passage, number, Party::Server);
        match read.summary.kind {
            MessageKind::Request => {
                leg.exchange = Some(self.passing_question(at, &label, &read, text.size));
            }
            MessageKind::Notification if leg.exchange.is_none() => {
                let direction = Direction::ToClient;
                let new = self.begin(at, &label, direction, &read.summary, text.size);
                leg.exchange = Some(new);
            }
            MessageKind::Notification => {}
            // What is no message is no outcome either; the end says how it went. Too little may have come to be told.
            MessageKind::Unknown if !text.is_cut() || passage.is_refused() => {}
            _ => {
                self.answered(at, leg.exchange);
                self.learn_of_server(&label, leg.exchange, &read);
                let code = read.summary.code;
                self.settle(at, leg.exchange, outcome(&read), code, text.size);
            }
        }
        let record = self.message(at, leg, text, read);
        self.push(record);
    }

    fn passing_question(&mut self, at: Instant, label: &Arc<str>, read: &Read, size: usize) -> u64 {
        let exchange = self.begin(at, label, Direction::ToClient, &read.summary, size);
        let id: Option<Id> = read.id.clone();
        let asked = Asked {
            exchange,
            method: read.summary.method.clone().unwrap_or_default(),
            server_id: id.clone(),
            client_id: id,
        };
        if let Some(connection) = self.connections.get_mut(label) {
            add(&mut connection.asked, asked);
        }
        exchange
    }

    fn learn_of_server(&mut self, label: &Arc<str>, exchange: Option<u64>, read: &Read) {
        let method = exchange.and_then(|it| Some(self.open.get(&it)?.row.method.as_str()));
        let introduces = matches!(method, Some("initialize" | "server/discover"));
        if let Some(row) = self.connection_row(label).filter(|_| introduces) {
            row.server.clone_from(&read.speaker);
            if let Some(version) = &read.version {
                row.protocol = Some(version.clone());
                row.upstream_protocol = Some(version.clone());
            }
        }
    }

    fn passage_ended(&mut self, at: Instant, number: u64, mut passage: Passage, why: Option<&str>) {
        if let Answer::Whole(collected) = &mut passage.answer {
            let text = collected.text();
            let unknown = passage.gap && text.head.is_empty();
            if text.size > 0 && !unknown {
                self.server_said(at, number, &passage, &text);
            }
        }
        let outcome = self.end_of(&passage);
        let bytes = match outcome {
            Outcome::Error | Outcome::Sent => passage.came,
            _ => 0,
        };
        self.settle(at, passage.exchange, outcome, None, bytes);
        self.ended(at, leg(&passage, number, Party::Server), why);
        let Some(label) = &passage.label else { return };
        if passage.status.is_none() {
            let head = Arc::clone(&passage.head);
            self.passages.fails(head, label, passage.exchange);
        }
        self.passages.seen.insert(Arc::clone(label), at);
        let over = passage.head.method == Method::DELETE;
        let status = passage.status.and_then(|it| StatusCode::from_u16(it).ok());
        if over && status.is_some_and(|it| it.is_success()) {
            let label = Arc::clone(label);
            self.close_client(at, &label);
        }
    }

    /// How a request went whose answer has ended without a message that says so.
    fn end_of(&self, passage: &Passage) -> Outcome {
        let row = passage.exchange.and_then(|it| self.open.get(&it));
        let is_message = row.is_none_or(|open| open.row.kind != MessageKind::Unknown);
        match passage.gap {
            _ if passage.is_refused() => Outcome::Error,
            true => Outcome::Missed,
            false if is_message || passage.status.is_none() => Outcome::Lost,
            false => Outcome::Sent,
        }
    }

    /// A client of passed-through traffic has ended its session, or is taken for gone.
    fn close_client(&mut self, at: Instant, label: &Arc<str>) {
        self.passages.seen.remove(label);
        self.passages.by_session.retain(|_, it| it != label);
        self.passages.by_peer.retain(|_, it| it != label);
        if self.connections.contains_key(label) {
            self.close(at, label);
            let mut record = self.record(at, Kind::Closed);
            record.connection = Some(label.as_ref().to_owned());
            self.push(record);
        }
    }

    /// Takes those clients for gone of which nothing was seen for long and nothing is open.
    pub(crate) fn close_idle(&mut self, at: Instant) {
        let busy = |label: &Arc<str>| {
            let mut open = self.passages.open.values();
            open.any(|it| it.label.as_ref() == Some(label))
        };
        let idle: Vec<Arc<str>> = self
            .passages
            .seen
            .iter()
            .filter(|(label, seen)| at.saturating_duration_since(**seen) >= IDLE && !busy(label))
            .map(|(label, _)| Arc::clone(label))
            .collect();
        for label in idle {
            self.close_client(at, &label);
        }
    }
}

/// A message of this party in a passing request.
fn leg(passage: &Passage, number: u64, from: Party) -> Leg {
    let to = match from {
        Party::Client => Party::Server,
        _ => Party::Client,
    };
    Leg {
        connection: passage.label.clone(),
        exchange: passage.exchange,
        from,
        to,
        call: Some(number),
    }
}

/// A message that was cut may have lost its method; a modern request repeats it in its headers.
fn name_by_headers(read: &mut Read, head: &Head) {
    let header = |name: &str| head.headers.get(name)?.to_str().ok();
    if read.summary.method.is_none()
        && read.summary.kind == MessageKind::Unknown
        && let Some(method) = header(METHOD_HEADER)
    {
        read.summary.kind = MessageKind::Request;
        read.summary.method = Some(method.to_owned());
        read.summary.name = header("mcp-name").map(str::to_owned);
    }
}
