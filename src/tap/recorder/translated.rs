//! What crosses on the connections that the ferry translates: two legs, brought together message by message.
//!
//! The bridge says which request of the client a call and a delivery are for. What it does not say is found by order:
//! notifications, and the server's requests, keep theirs on the way (invariant I5), so that the first of a method on one
//! leg is the first of that method on the other.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;

use tokio::time::Instant;

use super::rows::{Asked, Connection, MAX_BATCH, Unanswered, Unpaired, add, pair};
use super::{Kind, Leg, Recorder};
use crate::proto::bridge::{About, Cause};
use crate::proto::era::{SESSION_HEADER, VERSION_HEADER, is_handshake_version};
use crate::proto::jsonrpc::{Id, Kind as Rpc};
use crate::tap::record::{Direction, ExchangeRow, Front, MessageKind, Outcome, Party};
use crate::tap::summary::{self, Read};
use crate::tap::{Crossing, Head, Text};

/// Requests of one client that are paired with their outcomes; of more the outcome is missed.
const MAX_REQUESTS: usize = 10_000;

impl Recorder {
    pub(super) fn cross(&mut self, at: Instant, label: &Arc<str>, crossing: Crossing) {
        match crossing {
            Crossing::Opened { front, peer, head } => {
                self.connect(at, label, front, peer.to_string());
                let mut record = self.record(at, Kind::Opened);
                record.connection = Some(label.as_ref().to_owned());
                record.front = Some(front);
                record.peer = Some(peer.to_string());
                record.http = head.map(|head| self.head(&head));
                self.push(record);
            }
            Crossing::Closed => {
                self.close(at, label);
                let mut record = self.record(at, Kind::Closed);
                record.connection = Some(label.as_ref().to_owned());
                self.push(record);
            }
            Crossing::FromClient {
                post,
                head,
                kind,
                id,
                text,
            } => self.client_posted(at, label, post, head, kind, id, &text),
            Crossing::Answered { post, status } => self.post_answered(at, label, post, status),
            Crossing::ToClient { about, text } => self.delivered(at, label, &about, &text),
            Crossing::ToUpstream {
                call,
                cause,
                head,
                text,
            } => self.call_begun(at, label, call, &cause, &head, text.as_ref()),
            Crossing::Status {
                call,
                status,
                headers,
            } => {
                let leg = self.call_leg(label, call);
                self.status(at, leg, status, Some(&headers));
            }
            Crossing::FromUpstream { call, text } => self.upstream_said(at, label, call, &text),
            Crossing::Ended { call, why } => {
                let leg = self.call_leg(label, call);
                self.ended(at, leg, why.as_deref());
                if let Some(connection) = self.connections.get_mut(label) {
                    connection.calls.remove(&call);
                }
            }
            Crossing::Learnt(era) => {
                if let Some(row) = self.connection_row(label) {
                    row.era = Some(era.to_string());
                }
            }
        }
    }

    /// What came in a call.
    fn call_leg(&self, label: &Arc<str>, call: u64) -> Leg {
        let connection = self.connections.get(label);
        Leg {
            connection: Some(Arc::clone(label)),
            exchange: connection.and_then(|it| it.calls.get(&call).copied().flatten()),
            from: Party::Server,
            to: Party::Ferry,
            call: Some(call),
        }
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "the members of one event, in their order"
    )]
    fn client_posted(
        &mut self,
        at: Instant,
        label: &Arc<str>,
        post: u64,
        head: Option<Arc<Head>>,
        kind: Rpc,
        id: Option<Id>,
        text: &Text,
    ) {
        let mut read = read(text);
        read.summary.kind = match kind {
            Rpc::Request => MessageKind::Request,
            Rpc::Notification => MessageKind::Notification,
            Rpc::Response => read.summary.kind,
        };
        let exchange = match (kind, id) {
            (Rpc::Request, Some(id)) => Some(self.request(at, label, id, &read, text.size)),
            (Rpc::Response, Some(id)) => self.client_answers(at, label, &id, &read, text.size),
            _ => self.client_tells(at, label, &read, text.size),
        };
        let first = self.posted(label, post, kind, exchange, head.as_ref());
        let leg = client_leg(label, exchange, Party::Client, Party::Ferry);
        let mut record = self.message(at, leg, text, read);
        record.http = head.filter(|_| first).map(|head| self.head(&head));
        self.push(record);
    }

    /// Remembers a message until its POST is answered. Says whether it is the first of that POST.
    fn posted(
        &mut self,
        label: &Arc<str>,
        post: u64,
        kind: Rpc,
        exchange: Option<u64>,
        head: Option<&Arc<Head>>,
    ) -> bool {
        let Some(connection) = self.connections.get_mut(label) else {
            return false;
        };
        let first = !connection.posts.contains_key(&post);
        let asks = kind == Rpc::Request;
        let of_post = connection.posts.entry(post).or_insert_with(|| Unanswered {
            exchange,
            asks,
            head: head.cloned(),
            ..Unanswered::default()
        });
        if asks && of_post.requests.len() < MAX_BATCH {
            of_post.requests.extend(exchange);
        }
        if kind == Rpc::Notification && of_post.notices.len() < MAX_BATCH {
            let row = exchange.and_then(|it| self.open.get(&it)).map(|it| &it.row);
            let notice = row.filter(|row| row.kind == MessageKind::Notification);
            of_post.notices.extend(notice.cloned());
        }
        first
    }

    fn request(&mut self, at: Instant, label: &Arc<str>, id: Id, read: &Read, size: usize) -> u64 {
        let exchange = self.begin(at, label, Direction::ToServer, &read.summary, size);
        let mut known = self.connections.get_mut(label).map(|it| &mut it.requests);
        match known.as_mut() {
            Some(requests) if requests.len() < MAX_REQUESTS => {
                // A second one with the same id is going to be refused.
                requests.entry(id).or_insert(exchange);
            }
            _ => self.settle(at, Some(exchange), Outcome::Missed, None, 0),
        }
        if read.summary.method.as_deref() == Some("initialize")
            && let Some(row) = self.connection_row(label)
        {
            row.client.clone_from(&read.speaker);
            row.protocol.clone_from(&read.version);
        }
        exchange
    }

    fn client_answers(
        &mut self,
        at: Instant,
        label: &Arc<str>,
        id: &Id,
        read: &Read,
        size: usize,
    ) -> Option<u64> {
        let connection = self.connections.get(label)?;
        let exchange = connection.answered_by_client(id);
        self.settle(at, exchange, outcome(read), read.summary.code, size);
        exchange
    }

    fn client_tells(
        &mut self,
        at: Instant,
        label: &Arc<str>,
        read: &Read,
        size: usize,
    ) -> Option<u64> {
        let connection = self.connections.get_mut(label)?;
        let cancels = read.cancels.as_ref();
        if let Some(cancelled) = cancels.and_then(|id| connection.requests.remove(id)) {
            connection.cancelled = Some(cancelled);
            self.settle(at, Some(cancelled), Outcome::Cancelled, None, 0);
            return Some(cancelled);
        }
        let exchange = self.begin(at, label, Direction::ToServer, &read.summary, size);
        if let Some(connection) = self.connections.get_mut(label) {
            let method = read.summary.method.clone().unwrap_or_default();
            let notice = Unpaired {
                exchange,
                method,
                hash: None,
            };
            add(&mut connection.notices, notice);
        }
        Some(exchange)
    }

    fn post_answered(&mut self, at: Instant, label: &Arc<str>, post: u64, status: u16) {
        let Some(connection) = self.connections.get_mut(label) else {
            return;
        };
        let Unanswered {
            exchange,
            asks,
            head,
            requests,
            notices,
        } = connection.posts.remove(&post).unwrap_or_default();
        let own_answer = asks && connection.row.front == Front::Session;
        // A session's POST with a request is answered by what follows, not by 202.
        let status = if own_answer && status == 202 {
            200
        } else {
            status
        };
        let leg = client_leg(label, exchange, Party::Ferry, Party::Client);
        self.status(at, leg, status, None);
        if status >= 400 {
            // A batch is refused as a whole.
            self.requests_refused(at, label, &requests, status);
            self.notices_refused(label, notices, status);
            if let Some(head) = head {
                // Where it is the ferry that refuses, it says why next.
                self.passages.fails(head, label, exchange);
            }
        }
    }

    /// Requests whose POST got an HTTP error get no other answer. The error is the server's where that was asked.
    fn requests_refused(
        &mut self,
        at: Instant,
        label: &Arc<str>,
        refused: &HashSet<u64>,
        status: u16,
    ) {
        for exchange in refused.iter().copied().map(Some) {
            let Some(row) = self.row(exchange) else {
                continue;
            };
            let own = row.calls == 0 && row.outcome == Outcome::Open;
            if own {
                row.status = Some(status);
            }
            let outcome = if own {
                Outcome::Refused
            } else {
                Outcome::Error
            };
            self.settle(at, exchange, outcome, None, 0);
        }
        if let Some(connection) = self.connections.get_mut(label) {
            connection.requests.retain(|_, it| !refused.contains(it));
        }
    }

    /// Notifications whose POST got an HTTP error were not taken, unless they had gone on to the server.
    fn notices_refused(&mut self, label: &Arc<str>, refused: Vec<ExchangeRow>, status: u16) {
        for row in refused {
            let Some(connection) = self.connections.get_mut(label) else {
                return;
            };
            let before = connection.notices.len();
            let exchange = row.exchange;
            connection.notices.retain(|it| it.exchange != exchange);
            if connection.notices.len() < before {
                self.take_back(label, row, status);
            }
        }
    }

    /// What was said to be sent was refused.
    fn take_back(&mut self, label: &Arc<str>, row: ExchangeRow, status: u16) {
        self.show_again(row, |row| {
            row.outcome = Outcome::Refused;
            row.status = Some(status);
        });
        if let Some(row) = self.connection_row(label) {
            row.errors += 1;
        }
    }

    fn call_begun(
        &mut self,
        at: Instant,
        label: &Arc<str>,
        call: u64,
        cause: &Cause,
        head: &Head,
        text: Option<&Text>,
    ) {
        let read = text.map(read);
        let exchange = self
            .connections
            .get_mut(label)
            .and_then(|connection| serves(connection, cause, read.as_ref()));
        self.called(at, exchange);
        if let (Cause::Notice, Some(read), Some(text)) = (cause, &read, text)
            && read.summary.method.is_none()
        {
            // Where the client has not answered, the ferry does.
            self.settle(at, exchange, outcome(read), read.summary.code, text.size);
        }
        if let Some(connection) = self.connections.get_mut(label) {
            connection.calls.insert(call, exchange);
        }
        self.learn_from_head(label, head);
        let mut leg = self.call_leg(label, call);
        (leg.from, leg.to) = (Party::Ferry, Party::Server);
        let mut record = match (text, read) {
            (Some(text), Some(read)) => self.message(at, leg, text, read),
            _ => self.record_on(at, Kind::Message, leg),
        };
        record.purpose = cause.own().map(str::to_owned);
        record.http = Some(self.head(head));
        self.push(record);
    }

    /// The headers of a call say which session it is of, and which revision.
    fn learn_from_head(&mut self, label: &Arc<str>, head: &Head) {
        let header = |name| head.headers.get(name).and_then(|it| it.to_str().ok());
        let session = header(SESSION_HEADER).map(|session| self.redactor.hash(session));
        let version = header(VERSION_HEADER).map(|it| summary::short(it.to_owned()));
        let Some(connection) = self.connections.get(label) else {
            return;
        };
        let row = &connection.row;
        let news = |old: &Option<String>, new: &Option<String>| new.is_some() && old != new;
        if !news(&row.session, &session) && !news(&row.upstream_protocol, &version) {
            return;
        }
        let Some(row) = self.connection_row(label) else {
            return;
        };
        if let Some(version) = version {
            let handshake = is_handshake_version(&version);
            row.era = Some(if handshake { "handshake" } else { "modern" }.to_owned());
            row.upstream_protocol = Some(version);
        }
        row.session = session.or_else(|| row.session.take());
    }

    fn upstream_said(&mut self, at: Instant, label: &Arc<str>, call: u64, text: &Text) {
        let read = read(text);
        let mut leg = self.call_leg(label, call);
        let withdrawn = self.withdrawn(at, label, Party::Server, &read);
        match read.summary.kind {
            MessageKind::Request => {
                leg.exchange = Some(self.server_asks(at, label, &read, read.id.clone(), text));
            }
            MessageKind::Notification if withdrawn.is_some() => leg.exchange = withdrawn,
            MessageKind::Notification if leg.exchange.is_none() => {
                let new = self.begin(at, label, Direction::ToClient, &read.summary, text.size);
                if let Some(connection) = self.connections.get_mut(label) {
                    let told = Unpaired {
                        exchange: new,
                        method: read.summary.method.clone().unwrap_or_default(),
                        hash: Some(hash(text)),
                    };
                    add(&mut connection.told, told);
                }
                leg.exchange = Some(new);
            }
            MessageKind::Notification => {}
            _ => self.answered(at, leg.exchange),
        }
        let record = self.message(at, leg, text, read);
        self.push(record);
    }

    fn server_asks(
        &mut self,
        at: Instant,
        label: &Arc<str>,
        read: &Read,
        server_id: Option<Id>,
        text: &Text,
    ) -> u64 {
        let exchange = self.begin(at, label, Direction::ToClient, &read.summary, text.size);
        let asked = Asked {
            exchange,
            method: read.summary.method.clone().unwrap_or_default(),
            server_id,
            client_id: None,
        };
        let connection = self.connections.get_mut(label);
        if let Some(dropped) = connection.and_then(|it| add(&mut it.asked, asked)) {
            self.settle(at, Some(dropped.exchange), Outcome::Missed, None, 0);
        }
        exchange
    }

    /// The request of the server that this message cancels, if it does: nobody waits for its answer any more.
    pub(super) fn withdrawn(
        &mut self,
        at: Instant,
        label: &Arc<str>,
        by: Party,
        read: &Read,
    ) -> Option<u64> {
        let connection = self.connections.get(label)?;
        let exchange = connection.withdrawn(by, read.cancels.as_ref()?);
        self.settle(at, exchange, Outcome::Cancelled, None, 0);
        exchange
    }

    fn delivered(&mut self, at: Instant, label: &Arc<str>, about: &About, text: &Text) {
        let read = read(text);
        let method = read.summary.method.clone().unwrap_or_default();
        let request = about.request().map(summary::short_id);
        let withdrawn = self.withdrawn(at, label, Party::Ferry, &read);
        let exchange = match (about, read.summary.kind) {
            _ if withdrawn.is_some() => withdrawn,
            (About::Outcome(_), _) => {
                let connection = self.connections.get_mut(label);
                let exchange = connection.zip(request);
                let exchange = exchange.and_then(|(it, id)| it.requests.remove(id.as_ref()));
                self.learn_from_outcome(label, exchange, &read);
                self.settle(at, exchange, outcome(&read), read.summary.code, text.size);
                exchange
            }
            (_, MessageKind::Request) => Some(self.client_is_asked(at, label, &read, text)),
            (About::During(_), _) => {
                let connection = self.connections.get(label).zip(request);
                connection.and_then(|(it, id)| it.requests.get(id.as_ref()).copied())
            }
            (About::Nothing, _) => {
                let connection = self.connections.get_mut(label);
                let known = connection.and_then(|it| pair(&mut it.told, &method, Some(hash(text))));
                let begin = || self.begin(at, label, Direction::ToClient, &read.summary, text.size);
                Some(known.unwrap_or_else(begin))
            }
        };
        let leg = client_leg(label, exchange, Party::Ferry, Party::Client);
        let record = self.message(at, leg, text, read);
        self.push(record);
    }

    /// The client is given a request: the server's, or, from a server that asks by its results, the ferry's own.
    fn client_is_asked(&mut self, at: Instant, label: &Arc<str>, read: &Read, text: &Text) -> u64 {
        let method = read.summary.method.as_deref().unwrap_or_default();
        let mut find = || {
            let connection = self.connections.get_mut(label)?;
            connection.asked_of_client(read.id.as_ref(), method)
        };
        if let Some(exchange) = find() {
            return exchange;
        }
        let exchange = self.server_asks(at, label, read, None, text);
        let connection = self.connections.get_mut(label);
        if let Some(asked) = connection.and_then(|it| it.asked.back_mut()) {
            asked.client_id.clone_from(&read.id);
        }
        exchange
    }

    /// The outcome of `initialize` says who the server is, and what the client was told.
    fn learn_from_outcome(&mut self, label: &Arc<str>, exchange: Option<u64>, read: &Read) {
        let row = exchange.and_then(|it| self.open.get(&it));
        if row.is_none_or(|open| open.row.method != "initialize") {
            return;
        }
        if let Some(row) = self.connection_row(label) {
            row.server.clone_from(&read.speaker);
            row.protocol.clone_from(&read.version);
        }
    }
}

/// What crosses between client and ferry.
fn client_leg(label: &Arc<str>, exchange: Option<u64>, from: Party, to: Party) -> Leg {
    Leg {
        connection: Some(Arc::clone(label)),
        exchange,
        from,
        to,
        call: None,
    }
}

/// Which exchange a call is for.
fn serves(connection: &mut Connection, cause: &Cause, read: Option<&Read>) -> Option<u64> {
    match cause {
        Cause::Request(id) => {
            let id = summary::short_id(id);
            connection.requests.get(id.as_ref()).copied()
        }
        Cause::Cancel => connection.cancelled,
        Cause::Notice => {
            let read = read?;
            match &read.summary.method {
                Some(method) => pair(&mut connection.notices, method, None),
                None => connection.answered_to_server(read.id.as_ref()?),
            }
        }
        _ => None,
    }
}

/// Tells a text from others; a text that was cut, by its beginning and its size.
fn hash(text: &Text) -> u64 {
    let mut hasher = DefaultHasher::new();
    (text.head.as_ref(), text.size).hash(&mut hasher);
    hasher.finish()
}

pub(super) fn read(text: &Text) -> Read {
    match &text.told {
        Some(told) => told.as_ref().clone(),
        None => summary::read(&String::from_utf8_lossy(&text.head), !text.is_cut()),
    }
}

/// What an answer says of how it went. One of which too little has come to be told is taken for a result.
pub(super) fn outcome(read: &Read) -> Outcome {
    match read.summary.kind {
        MessageKind::Error => Outcome::Error,
        _ if read.summary.tool_error => Outcome::ToolError,
        _ => Outcome::Result,
    }
}
