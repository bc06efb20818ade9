//! What is open: exchanges without an outcome, connections that are not over; and the rows that show them.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::Arc;

use tokio::time::Instant;

use super::{Change, MAX_OPEN, Recorder};
use crate::proto::jsonrpc::Id;
use crate::tap::Head;
use crate::tap::record::{
    ConnectionRow, Direction, ExchangeRow, Front, MessageKind, Outcome, Party, Summary,
};
use crate::tap::summary::short;

/// Messages of one connection of which the other leg is still to come; of more, the oldest is not paired any more.
const MAX_UNPAIRED: usize = 256;
/// Messages of a POST that are remembered until its status is known.
pub(super) const MAX_BATCH: usize = 10_000;

/// An exchange without an outcome, or one whose row is still to be shown.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) row: ExchangeRow,
    /// When its first call was begun.
    pub(super) sent: Option<Instant>,
    /// Its row has changed.
    pub(super) touched: bool,
}

impl Open {
    /// Milliseconds since its first call was begun.
    fn since_sent(&self, at: Instant) -> Option<f64> {
        let micros = at.saturating_duration_since(self.sent?).as_micros();
        u32::try_from(micros).ok().map(|it| f64::from(it) / 1000.0)
    }
}

/// A connection that is not over.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) row: ConnectionRow,
    pub(super) touched: bool,
    /// The client's requests, by the id that the client gave.
    pub(super) requests: HashMap<Id, u64>,
    /// The calls to the server, and which exchange each is for.
    pub(super) calls: BTreeMap<u64, Option<u64>>,
    /// The server's requests to the client.
    pub(super) asked: VecDeque<Asked>,
    /// The client's notifications that were not seen going on yet.
    pub(super) notices: VecDeque<Unpaired>,
    /// Likewise the server's.
    pub(super) told: VecDeque<Unpaired>,
    /// The exchange of the client's last cancel.
    pub(super) cancelled: Option<u64>,
    /// The client's POSTs that have no status yet.
    pub(super) posts: BTreeMap<u64, Unanswered>,
}

/// A POST of the client: what its first message is, and how it came.
#[derive(Debug, Default)]
pub(super) struct Unanswered {
    pub(super) exchange: Option<u64>,
    /// It is a request.
    pub(super) asks: bool,
    pub(super) head: Option<Arc<Head>>,
    /// Its requests: more than one in a batch, whose messages share the status; at most [`MAX_BATCH`].
    pub(super) requests: HashSet<u64>,
    /// Its notifications, whose rows are over unless the POST is refused; at most [`MAX_BATCH`].
    pub(super) notices: Vec<ExchangeRow>,
}

/// A request of the server.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) exchange: u64,
    pub(super) method: String,
    /// Its id on the server's leg.
    pub(super) server_id: Option<Id>,
    /// Its id on the client's leg.
    pub(super) client_id: Option<Id>,
}

/// A notification that was seen on one leg.
#[derive(Debug)]
pub(super) struct Unpaired {
    pub(super) exchange: u64,
    pub(super) method: String,
    /// Tells its text from others, where that goes on as it came.
    pub(super) hash: Option<u64>,
}

/// Adds to a list of bounded length. Gives back the oldest if it is let go for that.
pub(super) fn add<T>(list: &mut VecDeque<T>, entry: T) -> Option<T> {
    let dropped = if list.len() >= MAX_UNPAIRED {
        list.pop_front()
    } else {
        None
    };
    list.push_back(entry);
    dropped
}

/// Takes the first notification of this method, unless there is one with this very text: then those before it have not gone
/// on, because the client did not listen, and never will.
pub(super) fn pair(list: &mut VecDeque<Unpaired>, method: &str, hash: Option<u64>) -> Option<u64> {
    let of_method = |it: &Unpaired| it.method == method;
    let same = |it: &Unpaired| of_method(it) && hash.is_some() && it.hash == hash;
    let place = list.iter().position(same);
    let place = place.or_else(|| list.iter().position(of_method))?;
    let found = list.remove(place)?;
    let mut before = 0..place;
    list.retain(|it| before.next().is_none() || !of_method(it));
    Some(found.exchange)
}

impl Connection {
    pub(super) fn new(label: &str, front: Front, peer: String, opened: f64) -> Self {
        Self {
            row: ConnectionRow {
                connection: label.to_owned(),
                front,
                peer,
                client: None,
                server: None,
                era: None,
                protocol: None,
                upstream_protocol: None,
                session: None,
                opened,
                closed: None,
                in_flight: 0,
                calls: 0,
                errors: 0,
            },
            touched: true,
            requests: HashMap::new(),
            calls: BTreeMap::new(),
            asked: VecDeque::new(),
            notices: VecDeque::new(),
            told: VecDeque::new(),
            cancelled: None,
            posts: BTreeMap::new(),
        }
    }

    /// What is under way is not known any more.
    pub(super) fn forget(&mut self) {
        self.requests.clear();
        self.calls.clear();
        self.asked.clear();
        self.notices.clear();
        self.told.clear();
        self.cancelled = None;
        self.posts.clear();
    }

    /// The request of the server that the client knows by this id, or that has this method and is not known to it yet.
    pub(super) fn asked_of_client(&mut self, id: Option<&Id>, method: &str) -> Option<u64> {
        let place = self
            .asked
            .iter_mut()
            .find(|it| it.client_id.is_none() && it.method == method)?;
        place.client_id = id.cloned();
        Some(place.exchange)
    }

    pub(super) fn answered_by_client(&self, id: &Id) -> Option<u64> {
        let found = |it: &&Asked| it.client_id.as_ref() == Some(id);
        self.asked.iter().find(found).map(|it| it.exchange)
    }

    /// The request of the server that somebody cancels by the id that it has there.
    pub(super) fn withdrawn(&self, by: Party, id: &Id) -> Option<u64> {
        let mut asked = self.asked.iter();
        let found = asked.find(|it| match by {
            Party::Server => it.server_id.as_ref() == Some(id),
            Party::Client | Party::Ferry => it.client_id.as_ref() == Some(id),
        });
        found.map(|it| it.exchange)
    }

    /// The request that an answer on its way to the server is for; it needs no pairing any more.
    pub(super) fn answered_to_server(&mut self, id: &Id) -> Option<u64> {
        let found = |it: &Asked| it.server_id.as_ref() == Some(id);
        let place = self.asked.iter().position(found)?;
        self.asked.remove(place).map(|it| it.exchange)
    }
}

impl Recorder {
    /// Begins an exchange; a notification has its whole story told with its beginning.
    pub(super) fn begin(
        &mut self,
        at: Instant,
        label: &Arc<str>,
        direction: Direction,
        summary: &Summary,
        size: usize,
    ) -> u64 {
        let outcome = match summary.kind {
            MessageKind::Request => Outcome::Open,
            _ => Outcome::Sent,
        };
        self.add_row(at, Some(label), direction, summary, size, outcome)
    }

    /// Begins an exchange that is an HTTP request of which no message could be read, and that has this outcome.
    pub(super) fn begin_unread(
        &mut self,
        at: Instant,
        label: Option<&Arc<str>>,
        head: &Head,
        size: usize,
        outcome: Outcome,
    ) -> u64 {
        let target = self.redactor.target(&head.target);
        let path = target.split('?').next().unwrap_or_default();
        let summary = Summary {
            method: Some(short(format!("{} {path}", head.method))),
            ..Summary::default()
        };
        self.add_row(at, label, Direction::ToServer, &summary, size, outcome)
    }

    fn add_row(
        &mut self,
        at: Instant,
        label: Option<&Arc<str>>,
        direction: Direction,
        summary: &Summary,
        size: usize,
        outcome: Outcome,
    ) -> u64 {
        if self.open.len() >= MAX_OPEN {
            let mut open = self.open.values();
            let oldest = open.find(|it| it.row.outcome == Outcome::Open);
            let oldest = oldest.map(|it| it.row.exchange);
            self.settle(at, oldest, Outcome::Missed, None, 0);
        }
        self.exchanges += 1;
        let number = self.exchanges;
        let is_open = outcome == Outcome::Open;
        let started = self.millis(at);
        let row = ExchangeRow {
            exchange: number,
            connection: label.map(|label| label.as_ref().to_owned()),
            direction,
            kind: summary.kind,
            method: summary.method.clone().unwrap_or_default(),
            name: summary.name.as_ref().map(|name| self.redactor.text(name)),
            id: summary.id.as_ref().map(|id| id.get().to_owned()),
            started,
            ended: (!is_open).then_some(started),
            outcome,
            code: None,
            request_bytes: size,
            response_bytes: 0,
            messages: 0,
            calls: 0,
            upstream_ms: None,
            status: None,
        };
        let open = Open {
            row,
            sent: None,
            touched: true,
        };
        self.open.insert(number, open);
        self.touched.push(number);
        if is_open && let Some(row) = label.and_then(|label| self.connection_row(label)) {
            row.calls += 1;
            row.in_flight += 1;
        }
        number
    }

    /// The row of an exchange, if it is open, to be changed.
    pub(super) fn row(&mut self, exchange: Option<u64>) -> Option<&mut ExchangeRow> {
        self.open_exchange(exchange).map(|open| &mut open.row)
    }

    /// Changes a row that may be over and shown. Gives it as it is now.
    pub(super) fn show_again(
        &mut self,
        row: ExchangeRow,
        change: impl FnOnce(&mut ExchangeRow),
    ) -> Option<ExchangeRow> {
        let exchange = row.exchange;
        self.open.entry(exchange).or_insert(Open {
            row,
            sent: None,
            touched: false,
        });
        let row = self.row(Some(exchange))?;
        change(row);
        Some(row.clone())
    }

    fn open_exchange(&mut self, exchange: Option<u64>) -> Option<&mut Open> {
        let open = self.open.get_mut(&exchange?)?;
        if !std::mem::replace(&mut open.touched, true) {
            self.touched.push(open.row.exchange);
        }
        Some(open)
    }

    /// The row of a connection, to be changed.
    pub(super) fn connection_row(&mut self, label: &Arc<str>) -> Option<&mut ConnectionRow> {
        let connection = self.connections.get_mut(label)?;
        if !std::mem::replace(&mut connection.touched, true) {
            self.touched_connections.push(Arc::clone(label));
        }
        Some(&mut connection.row)
    }

    /// Adds a connection.
    pub(super) fn connect(
        &mut self,
        at: Instant,
        label: &Arc<str>,
        front: Front,
        peer: String,
    ) -> &mut Connection {
        let new = Connection::new(label, front, peer, self.millis(at));
        self.touched_connections.push(Arc::clone(label));
        self.connections.entry(Arc::clone(label)).or_insert(new)
    }

    /// A call is begun for an exchange.
    pub(super) fn called(&mut self, at: Instant, exchange: Option<u64>) {
        if let Some(open) = self.open_exchange(exchange) {
            open.row.calls += 1;
            open.sent.get_or_insert(at);
            if open.row.outcome == Outcome::Open {
                // What was answered so far was not the end of it.
                open.row.upstream_ms = None;
            }
        }
    }

    /// The server's answer for an exchange has come.
    pub(super) fn answered(&mut self, at: Instant, exchange: Option<u64>) {
        if let Some(open) = self.open_exchange(exchange) {
            open.row.upstream_ms = open.since_sent(at);
        }
    }

    /// An exchange has its outcome.
    pub(super) fn settle(
        &mut self,
        at: Instant,
        exchange: Option<u64>,
        outcome: Outcome,
        code: Option<i64>,
        bytes: usize,
    ) {
        let ended = self.millis(at);
        let Some(open) = self.open_exchange(exchange) else {
            return;
        };
        if open.row.outcome != Outcome::Open {
            return;
        }
        // Where the server never answered, the time went by with waiting for it.
        if open.row.upstream_ms.is_none() && outcome != Outcome::Missed {
            open.row.upstream_ms = open.since_sent(at);
        }
        let row = &mut open.row;
        row.outcome = outcome;
        row.code = code;
        row.ended = Some(ended);
        row.response_bytes = bytes;
        let label: Option<Arc<str>> = row.connection.as_deref().map(Into::into);
        if let Some(row) = label.and_then(|label| self.connection_row(&label)) {
            row.in_flight = row.in_flight.saturating_sub(1);
            let failed = matches!(
                outcome,
                Outcome::Error | Outcome::ToolError | Outcome::Lost | Outcome::Refused
            );
            row.errors += u64::from(failed);
        }
    }

    /// A connection is over, and with it what is open on it.
    pub(super) fn close(&mut self, at: Instant, label: &Arc<str>) {
        let Some(connection) = self.connections.get(label) else {
            return;
        };
        let requests = connection.requests.values().copied();
        let asked = connection.asked.iter().map(|asked| asked.exchange);
        let left: Vec<u64> = requests.chain(asked).collect();
        for exchange in left {
            self.settle(at, Some(exchange), Outcome::Lost, None, 0);
        }
        let closed = self.millis(at);
        if let Some(row) = self.connection_row(label) {
            row.closed = Some(closed);
        }
    }

    /// Shows the rows that have changed, and lets go of those that will not change any more.
    pub(super) fn show_rows(&mut self) {
        for exchange in self.touched.drain(..) {
            let Some(open) = self.open.get_mut(&exchange) else {
                continue;
            };
            open.touched = false;
            let row = Box::new(open.row.clone());
            if row.outcome != Outcome::Open {
                self.open.remove(&exchange);
            }
            self.changes.push(Change::Exchange(row));
        }
        for label in self.touched_connections.drain(..) {
            let Some(connection) = self.connections.get_mut(&label) else {
                continue;
            };
            connection.touched = false;
            let row = Box::new(connection.row.clone());
            if row.closed.is_some() {
                self.connections.remove(&label);
            }
            self.changes.push(Change::Connection(row));
        }
    }
}
