//! Whose a passing request is. Nothing says it for sure: requests with the same session are one client's; so are those
//! without one from the same address and with the same `User-Agent`.
//!
//! Sessions are told apart by a digest that is as wide as a map's keys are, not by the short one that people are shown: in
//! that two may be alike. Bounds: [`MAX_CLIENTS`] clients with [`MAX_SESSIONS`] sessions each; one that is idle for [`IDLE`]
//! is taken for gone.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::header;
use tokio::time::Instant;

use super::Passage;
use crate::proto::era::{self, SESSION_HEADER, VERSION_HEADER};
use crate::tap::record::{Front, Implementation, Kind};
use crate::tap::recorder::Recorder;
use crate::tap::summary::{Read, short};

/// Clients of passed-through traffic that are told apart at once.
pub(super) const MAX_CLIENTS: usize = 2_000;
/// Sessions by which one client is found. A server may put a fresh one on every answer; the oldest is not known any more.
pub(super) const MAX_SESSIONS: usize = 8;
/// How long such a client may be quiet before its connection counts as closed.
const IDLE: Duration = Duration::from_secs(600);

/// The clients that were seen, and what they are found by.
#[derive(Debug, Default)]
pub(super) struct Clients {
    /// So many there were.
    count: u64,
    by_session: HashMap<u64, Arc<str>>,
    by_peer: HashMap<(IpAddr, String), Arc<str>>,
    known: HashMap<Arc<str>, Client>,
}

#[derive(Debug)]
struct Client {
    /// When it was last.
    seen: Instant,
    /// Digests of its sessions, oldest first.
    sessions: VecDeque<u64>,
}

impl Clients {
    /// A client was seen, maybe for the first time.
    pub(super) fn saw(&mut self, label: &Arc<str>, at: Instant) {
        let new = Client {
            seen: at,
            sessions: VecDeque::new(),
        };
        self.known.entry(Arc::clone(label)).or_insert(new).seen = at;
    }

    /// Requests with this session are this client's from now on.
    pub(super) fn has_session(&mut self, label: &Arc<str>, session: u64) {
        if self.by_session.get(&session) == Some(label) {
            return;
        }
        let Some(client) = self.known.get_mut(label) else {
            return;
        };
        self.by_session.insert(session, Arc::clone(label));
        client.sessions.retain(|it| *it != session);
        client.sessions.push_back(session);
        if client.sessions.len() > MAX_SESSIONS
            && let Some(oldest) = client.sessions.pop_front()
        {
            self.lose_session(label, oldest);
        }
    }

    /// This session is not this client's any more. It may be another's by now.
    fn lose_session(&mut self, label: &Arc<str>, session: u64) {
        if self.by_session.get(&session) == Some(label) {
            self.by_session.remove(&session);
        }
    }

    fn forget(&mut self, label: &Arc<str>) {
        let client = self.known.remove(label);
        for session in client.map(|it| it.sessions).into_iter().flatten() {
            self.lose_session(label, session);
        }
        self.by_peer.retain(|_, it| it != label);
    }

    /// The one that was quiet the longest, if there is no room for another.
    fn surplus(&self) -> Option<Arc<str>> {
        let full = self.known.len() >= MAX_CLIENTS;
        let oldest = self.known.iter().min_by_key(|(_, client)| client.seen);
        oldest.filter(|_| full).map(|(label, _)| Arc::clone(label))
    }

    /// How much is kept of anybody.
    #[cfg(test)]
    pub(super) fn size(&self) -> usize {
        self.by_session.len() + self.by_peer.len() + self.known.len()
    }
}

impl Recorder {
    /// The connection that a request is shown on.
    pub(super) fn client_of(&mut self, passage: &Passage, read: &Read) -> Arc<str> {
        let header = |name: &str| passage.head.headers.get(name)?.to_str().ok();
        let session = header(SESSION_HEADER);
        let digest = session.map(|it| self.redactor.digest(it));
        let agent = header(header::USER_AGENT.as_str()).unwrap_or_default();
        let agent: String = agent.chars().take(200).collect();
        let begins = read.summary.method.as_deref() == Some("initialize");
        let key = (passage.peer, agent);
        let clients = &self.passages.clients;
        let known = match &digest {
            _ if begins => None,
            Some(digest) => clients.by_session.get(digest),
            None => clients.by_peer.get(&key),
        };
        let known = known.filter(|label| self.connections.contains_key(*label));
        let known = known.cloned();
        let label = known.unwrap_or_else(|| self.new_client(passage, session));
        let clients = &mut self.passages.clients;
        clients.saw(&label, passage.began);
        match digest {
            Some(digest) => clients.has_session(&label, digest),
            None => drop(clients.by_peer.insert(key, Arc::clone(&label))),
        }
        let version = header(VERSION_HEADER)
            .map(|it| short(it.to_owned()))
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

    fn new_client(&mut self, passage: &Passage, session: Option<&str>) -> Arc<str> {
        let at = passage.began;
        if let Some(label) = self.passages.clients.surplus() {
            self.close_client(at, &label);
        }
        self.passages.clients.count += 1;
        let label: Arc<str> = format!("p{}", self.passages.clients.count).into();
        let peer = passage.peer.to_string();
        let session = session.map(|it| self.redactor.hash(it));
        let connection = self.connect(at, &label, Front::Pass, peer.clone());
        connection.row.session = session;
        let mut record = self.record(at, Kind::Opened);
        record.connection = Some(label.as_ref().to_owned());
        record.front = Some(Front::Pass);
        record.peer = Some(peer);
        self.push(record);
        label
    }

    /// The server names a session of this client.
    pub(super) fn session_given(&mut self, label: &Arc<str>, session: &str) {
        let digest = self.redactor.digest(session);
        self.passages.clients.has_session(label, digest);
        let shown = Some(self.redactor.hash(session));
        let known = self.connections.get(label).map(|it| &it.row.session);
        if known != Some(&shown)
            && let Some(row) = self.connection_row(label)
        {
            row.session = shown;
        }
    }

    /// A client of passed-through traffic has ended its session, or is taken for gone.
    pub(super) fn close_client(&mut self, at: Instant, label: &Arc<str>) {
        self.passages.clients.forget(label);
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
        let quiet = |seen: Instant| at.saturating_duration_since(seen) >= IDLE;
        let known = self.passages.clients.known.iter();
        let idle: Vec<Arc<str>> = known
            .filter(|(label, client)| quiet(client.seen) && !busy(label))
            .map(|(label, _)| Arc::clone(label))
            .collect();
        for label in idle {
            self.close_client(at, &label);
        }
    }
}
