//! What a modern upstream tells unasked: what the client subscribed to, the stream that carries it, and what changed. A
//! change may be told twice, or be told as one that may have happened; it is never not told.

use std::collections::{BTreeMap, BTreeSet};

use mcp_ferry::proto::bridge::CallId;
use serde_json::Value;

use super::{Books, Check, Exchange, Kind};

/// What a modern upstream says that it can tell.
#[derive(Clone, Debug, Default)]
pub struct Offers {
    pub lists: BTreeSet<String>,
    pub subscribe: bool,
}

/// What a stream asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    pub lists: BTreeSet<String>,
    pub uris: BTreeSet<String>,
}

/// A change that a client has not heard of, and the exchanges on which it was told, or would have been, had the upstream
/// not ended them, which is not known here yet.
#[derive(Clone, Debug, Default)]
struct Change {
    nonces: BTreeSet<String>,
    told_on: BTreeSet<CallId>,
}

#[derive(Debug, Default)]
pub(super) struct Changes {
    /// Lists whose changes the server promises to tell.
    promised: BTreeSet<String>,
    /// Whether the last handshake ended well, with a modern upstream.
    settled: bool,
    /// Whether the upstream refused a stream for good.
    pub(super) barred: bool,
    subscribed: BTreeSet<String>,
    /// Those of them that it subscribed to since its last handshake; only of these it must hear.
    owed: BTreeSet<String>,
    /// Resources that changed, each with the changes that the client has not heard of.
    unheard: BTreeMap<String, Change>,
    /// Whether the client made a handshake, and whether ever in a revision that is not told of what it may have missed.
    takes: bool,
    early: bool,
    pub(super) lost_between: u64,
}

impl Changes {
    pub(super) fn promises(&self, list: &str) -> bool {
        self.promised.contains(list)
    }

    pub(super) fn begins_anew(&mut self) {
        self.settled = false;
    }

    pub(super) fn shakes_hands(&mut self) {
        self.settled = false;
        self.promised = ["tools".to_owned()].into();
    }

    pub(super) fn discovered(&mut self, offers: &Offers) {
        self.settled = true;
        self.barred = false;
        self.promised.clone_from(&offers.lists);
    }

    /// The client asks for a handshake in this revision.
    fn asks_for(&mut self, version: &str) {
        self.early |= version < "2025-03-26";
    }

    /// The client has made a handshake: what it knew before is its own affair, and what it asked for is over.
    pub(super) fn starts_over(&mut self) {
        self.subscribed.clear();
        self.unheard.clear();
        self.owed.clear();
        self.takes = true;
    }

    /// The client subscribed to it on an earlier stream.
    pub(super) fn recalls(&mut self, uri: &str) {
        self.subscribed.insert(uri.to_owned());
    }

    pub(super) fn subscribed(&mut self, uri: &str) {
        self.subscribed.insert(uri.to_owned());
        self.owed.insert(uri.to_owned());
        self.unheard.remove(uri);
    }

    pub(super) fn unsubscribed(&mut self, uri: &str) {
        self.subscribed.remove(uri);
        self.owed.remove(uri);
        self.unheard.remove(uri);
    }

    /// A message goes to the client: it may tell of a change.
    pub(super) fn delivered(&mut self, message: &Value) {
        if message["method"] != "notifications/resources/updated" {
            return;
        }
        let uri = message["params"]["uri"].as_str().unwrap_or_default();
        let Some(change) = self.unheard.get(uri) else {
            return;
        };
        // One that was on its way already does not tell of this one.
        let nonce = message["params"]["n"].as_str();
        if nonce.is_none_or(|nonce| change.nonces.contains(nonce)) {
            self.unheard.remove(uri);
        }
    }
}

impl Books {
    /// A resource changes. Gives the nonce under which it is told on each of these exchanges.
    pub fn resource_changes(&mut self, uri: &str, streams: &[CallId]) -> Vec<String> {
        let nonces: Vec<String> = streams.iter().map(|_| self.nonce()).collect();
        if self.changes.owed.contains(uri) {
            // Who hears of such an end tells of a gap; who drops the stream before that, because another one is in its
            // place, cannot know that there was one.
            let ends = self.exchanges.iter().filter(|(_, exchange)| {
                let honoured = exchange.honoured.as_ref();
                exchange.kind == Kind::Subscriptions && honoured.is_some_and(|it| it.contains(uri))
            });
            let ends = ends.map(|(call, _)| *call);
            let change = Change {
                nonces: nonces.iter().cloned().collect(),
                told_on: streams.iter().copied().chain(ends).collect(),
            };
            self.changes.unheard.insert(uri.to_owned(), change);
        }
        nonces
    }

    /// The client posts `initialize`.
    pub fn initializes(&mut self, index: usize, version: &str) {
        self.requests[index].method = "initialize".to_owned();
        self.changes.asks_for(version);
    }

    /// A stream asks for what the server promises, and for what the client has or wants.
    pub(super) fn check_filter(&self, filter: &Value) -> Result<Filter, String> {
        if !self.listens_at_all {
            return Err("it shall not listen".to_owned());
        }
        let mut asked = Filter::default();
        for (name, value) in filter.as_object().into_iter().flatten() {
            match name.strip_suffix("ListChanged") {
                Some(list) if *value == true => drop(asked.lists.insert(list.to_owned())),
                _ if name == "resourceSubscriptions" => {
                    let uris = value.as_array().into_iter().flatten();
                    let uris = uris.filter_map(Value::as_str);
                    asked.uris.extend(uris.map(str::to_owned));
                }
                _ => return Err(format!("{name} is not to be asked for")),
            }
        }
        let wanted = |uri: &String| {
            let mut live = self.live.values().map(|index| &self.requests[*index]);
            self.changes.subscribed.contains(uri)
                || live.any(|it| it.method == "resources/subscribe" && it.detail == *uri)
        };
        let changes = &self.changes;
        if asked.lists != changes.promised
            || !asked.uris.is_superset(&changes.subscribed)
            || !asked.uris.iter().all(wanted)
        {
            return Err(format!("asks for {asked:?}, and not for {changes:?}"));
        }
        Ok(asked)
    }

    /// An exchange is dropped: what was told on it and is on its way is lost with it.
    pub(super) fn stops_listening(&mut self, call: CallId, exchange: &Exchange) {
        if exchange.kind != Kind::Subscriptions || exchange.honoured.is_none() {
            return;
        }
        // Without another one in its place, the client is told of a gap.
        if !self.streams().any(|other| other.honoured.is_some()) {
            return;
        }
        let before = self.changes.unheard.len();
        let lost = |change: &mut Change| !change.told_on.contains(&call);
        self.changes.unheard.retain(|_, change| lost(change));
        self.changes.lost_between += (before - self.changes.unheard.len()) as u64;
    }

    fn streams(&self) -> impl Iterator<Item = &Exchange> {
        let streams = self.exchanges.values();
        streams.filter(|it| it.kind == Kind::Subscriptions)
    }

    /// Whether the stream for changes is as the client's subscriptions want it.
    pub fn listens_rightly(&self) -> bool {
        let changes = &self.changes;
        if self.ended || !changes.settled || changes.barred || !self.listens_at_all {
            return true;
        }
        let mut streams = self.streams();
        match (streams.next(), streams.next()) {
            (None, _) => changes.subscribed.is_empty(),
            (Some(stream), None) => {
                let filter = stream.filter.as_ref();
                let right =
                    |it: &Filter| it.uris == changes.subscribed && it.lists == changes.promised;
                stream.honoured.is_some() && filter.is_some_and(right)
            }
            _ => false,
        }
    }

    /// How it stands, for an error.
    pub fn listening(&self) -> String {
        let streams: Vec<&Exchange> = self.streams().collect();
        format!("{:?}, {streams:?}", self.changes)
    }

    /// What is open besides the stream for changes.
    pub fn left_open(&self) -> Option<&Exchange> {
        // What a client answers late may still lead to a new session with an older upstream.
        let kept = |it: &&Exchange| !it.modern || it.kind == Kind::Subscriptions;
        self.exchanges.values().find(|it| !kept(it))
    }

    /// When all is quiet: nothing is open but the stream for changes, and every change is known to the client.
    pub fn heard_of_changes(&self) -> Check {
        if let Some(open) = self.left_open() {
            return Err(format!("still open when all is quiet: {open:?}"));
        }
        let honoured: BTreeSet<String> = self
            .streams()
            .filter_map(|stream| stream.honoured.clone())
            .flatten()
            .collect();
        let changes = &self.changes;
        let unheard = |uri: &&String| honoured.contains(*uri);
        let due =
            changes.settled && !changes.barred && changes.takes && !changes.early && !self.ended;
        match changes.unheard.keys().find(unheard).filter(|_| due) {
            Some(uri) => Err(format!("{uri} changed, and the client does not know")),
            None => Ok(()),
        }
    }
}
