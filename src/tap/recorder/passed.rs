//! Requests that pass through: their bodies come in pieces, and are read here, after they have passed. Both legs are one, so
//! a message goes from client to server directly.
//!
//! | file | what it does |
//! | --- | --- |
//! | this one | what crosses for one request, from its beginning to its end |
//! | `body` | pieces become messages |
//! | `packed` | the same of pieces that are compressed |
//! | `clients` | whose a request is |
//! | `request` | what a request is, once its body has come |
//! | `ends` | how requests go that no message settles |
//!
//! Bounds: `MAX_OPEN` requests are under way; of each body that is not read to its end yet, the bytes that the tap keeps of
//! a message.

mod body;
mod clients;
mod ends;
pub(super) mod packed;
mod request;

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use hyper::StatusCode;
use hyper::header::HeaderMap;
use tokio::time::Instant;

use super::rows::{Asked, add};
use super::translated::{outcome, read};
use super::{Leg, MAX_OPEN, Recorder};
use crate::proto::era::SESSION_HEADER;
use crate::proto::jsonrpc::Id;
use crate::tap::record::{Direction, ExchangeRow, MessageKind, Outcome, Party};
use crate::tap::summary::Read;
use crate::tap::{Head, Passing, Text};
use body::{Answer, Collected};
use clients::Clients;
use ends::Unanswered;
use packed::Places;

/// The requests that are passing, and whose they are.
#[derive(Debug, Default)]
pub(super) struct Passages {
    open: BTreeMap<u64, Passage>,
    /// Of those, the JSON-RPC requests, so that a cancel finds what it cancels: by client and id.
    asking: HashMap<(Arc<str>, Id), u64>,
    clients: Clients,
    unanswered: Unanswered,
    unpacking: Places,
}

#[derive(Debug)]
struct Passage {
    began: Instant,
    peer: IpAddr,
    head: Arc<Head>,
    upload: Collected,
    /// Whose it is, once its body has come.
    label: Option<Arc<str>>,
    /// Its id, where it can be cancelled.
    id: Option<Id>,
    exchange: Option<u64>,
    /// Its row, where that was over with its beginning: what comes of it is put in afterwards.
    told: Option<ExchangeRow>,
    status: Option<u16>,
    answer: Answer,
    /// Bytes of the answer that have come.
    came: usize,
    /// The code of the last error in the answer.
    code: Option<i64>,
    /// Pieces of the answer are left out.
    gap: bool,
}

impl Passages {
    /// What is under way is not known any more.
    pub(super) fn forget(&mut self) {
        self.open.clear();
        self.asking.clear();
        self.unanswered = Unanswered::default();
    }

    /// Remembers that this request is under way, until [`Self::asked`].
    fn asks(&mut self, label: &Arc<str>, id: Option<&Id>, exchange: u64) -> Option<Id> {
        let id = id?;
        let name = (Arc::clone(label), id.clone());
        // A second one with the same id cannot be meant by it.
        (*self.asking.entry(name).or_insert(exchange) == exchange).then(|| id.clone())
    }

    /// A request is not under way any more.
    fn asked(&mut self, passage: &Passage) {
        if let (Some(label), Some(id)) = (&passage.label, &passage.id) {
            let name = (Arc::clone(label), id.clone());
            if self.asking.get(&name).copied() == passage.exchange {
                self.asking.remove(&name);
            }
        }
    }

    /// How much is kept of anybody.
    #[cfg(test)]
    pub(super) fn size(&self) -> usize {
        self.open.len() + self.asking.len() + self.clients.size()
    }

    /// Whether that is nothing.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.size() == 0
    }

    /// How many requests could be cancelled.
    #[cfg(test)]
    pub(super) fn asking(&self) -> usize {
        self.asking.len()
    }
}

impl Passage {
    fn status(&self) -> Option<StatusCode> {
        StatusCode::from_u16(self.status?).ok()
    }

    /// Whether the answer's status says that it failed.
    fn is_refused(&self) -> bool {
        let failed = |it: StatusCode| it.is_client_error() || it.is_server_error();
        self.status().is_some_and(failed)
    }

    /// Pieces are left out, of the answer if it has begun.
    fn skip(&mut self, max_body: usize) {
        self.gap = self.status.is_some();
        match self.gap {
            true => self.answer.skip(max_body),
            false => self.upload.skip(),
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
            Passing::Upload(piece) => passage.upload.push(&piece.head, self.max_body),
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
            id: None,
            exchange: None,
            told: None,
            status: None,
            answer: Answer::default(),
            came: 0,
            code: None,
            gap: false,
        };
        self.passages.open.insert(number, passage);
        while self.passages.open.len() > MAX_OPEN
            && let Some((_, oldest)) = self.passages.open.pop_first()
        {
            self.passages.asked(&oldest);
        }
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
        passage.answer = Answer::begin(headers, self.max_body, &self.passages.unpacking);
        let session = headers.get(SESSION_HEADER).and_then(|it| it.to_str().ok());
        if let (Some(session), Some(label)) = (session, &passage.label) {
            self.session_given(label, session);
        }
        self.told_status(passage);
        self.status(
            at,
            leg(passage, number, Party::Server),
            status,
            Some(headers),
        );
    }

    fn downloaded(&mut self, at: Instant, number: u64, passage: &mut Passage, piece: &Text) {
        passage.came = passage.came.saturating_add(piece.size);
        for text in passage.answer.push(&piece.head, self.max_body) {
            self.server_said(at, number, passage, &text);
        }
    }

    fn server_said(&mut self, at: Instant, number: u64, passage: &mut Passage, text: &Text) {
        let Some(label) = passage.label.clone() else {
            return;
        };
        let read = read(text);
        passage.code = read.summary.code.or(passage.code);
        let mut leg = leg(passage, number, Party::Server);
        let withdrawn = self.withdrawn(at, &label, Party::Server, &read);
        match read.summary.kind {
            MessageKind::Notification if withdrawn.is_some() => leg.exchange = withdrawn,
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
        let connection = self.connections.get_mut(label);
        if let Some(dropped) = connection.and_then(|it| add(&mut it.asked, asked)) {
            self.settle(at, Some(dropped.exchange), Outcome::Missed, None, 0);
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
