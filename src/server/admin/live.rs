//! The stream of what crosses now, for one viewer: rows as they change, records without their texts, as server-sent events.
//!
//! What changes within [`PACE`] goes in one piece, of each row the last state only. A viewer that does not read fills
//! [`PIECES`] pieces, then lags behind the tap, and when it has lost something it is told how much, and its stream ends: the
//! page loads anew, which is cheaper than to catch up. The tap and the traffic never wait for it.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use hyper::Response;
use serde::Serialize;
use tokio::sync::mpsc;

use super::Shared;
use super::answer::{Body, Denied, of};
use super::api::milliseconds;
use crate::tap::record::Record;
use crate::tap::{Change, Filter, Seen, Tap, Watcher};

/// How often a viewer is told.
const PACE: Duration = Duration::from_millis(25);
/// Quiet time after which a comment shows that the stream is alive.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// Pieces that wait for a viewer to read.
const PIECES: usize = 4;
/// Changes that go in one piece.
const MOST: usize = 2048;

/// Begins a stream. `after` is the last record that the viewer has; 0 for one that has none and asks for none.
pub(super) fn begin(
    shared: &Arc<Shared>,
    tap: &Arc<Tap>,
    after: u64,
) -> Result<Response<Body>, Denied> {
    let watcher = tap.watch().ok_or(Denied::Busy(
        "as many pages are open as may be; close one, or try again in a while",
    ))?;
    let (sender, pieces) = mpsc::channel(PIECES);
    let viewer = Viewer { watcher, seq: 0 };
    tokio::task::spawn(viewer.run(Arc::clone(shared), Arc::clone(tap), after, sender));
    Ok(of("text/event-stream", Body::Sent(pieces)))
}

struct Viewer {
    watcher: Watcher,
    /// The last record that was told.
    seq: u64,
}

/// What the tap had to say.
enum Heard {
    Changes(Vec<Arc<Change>>),
    Missed(u64),
    End,
}

impl Viewer {
    async fn run(
        mut self,
        shared: Arc<Shared>,
        tap: Arc<Tap>,
        after: u64,
        sender: mpsc::Sender<Bytes>,
    ) {
        let mut closing = pin!(shared.closed());
        let mut piece = self.welcome(&tap, after);
        loop {
            let sent = tokio::select! {
                sent = sender.send(piece.into()) => sent,
                () = &mut closing => return,
            };
            if sent.is_err() {
                return;
            }
            let heard = tokio::select! {
                heard = tokio::time::timeout(KEEP_ALIVE, self.hear()) => heard,
                () = sender.closed() => return,
                () = &mut closing => return,
            };
            piece = match heard {
                Err(_) => ":\n\n".to_owned(),
                Ok(Heard::Changes(changes)) => self.told(&changes),
                Ok(Heard::Missed(count)) => {
                    let missed = event("missed", &serde_json::json!({ "count": count }));
                    // It ends either way.
                    let _ = sender.try_send(missed.into());
                    return;
                }
                Ok(Heard::End) => return,
            };
        }
    }

    /// Waits for a change, then a little for more.
    async fn hear(&mut self) -> Heard {
        let mut changes = Vec::new();
        match self.watcher.next().await {
            Some(Seen::Change(change)) => changes.push(change),
            Some(Seen::Missed(count)) => return Heard::Missed(count),
            None => return Heard::End,
        }
        tokio::time::sleep(PACE).await;
        while changes.len() < MOST {
            let mut next = pin!(self.watcher.next());
            let next = poll_fn(|cx| Poll::Ready(next.as_mut().poll(cx)));
            match next.await {
                Poll::Ready(Some(Seen::Change(change))) => changes.push(change),
                Poll::Ready(Some(Seen::Missed(count))) => return Heard::Missed(count),
                // An end is found again with the next look.
                Poll::Ready(None) | Poll::Pending => break,
            }
        }
        Heard::Changes(changes)
    }

    /// The first piece: where the tap is, and what the viewer has missed since `after`, as far as it is kept.
    fn welcome(&mut self, tap: &Tap, after: u64) -> String {
        let rows = tap.rows();
        let hello = serde_json::json!({ "seq": rows.seq, "now": milliseconds() });
        let mut text = event("hello", &hello);
        if after == 0 {
            return text;
        }
        let filter = Filter {
            after,
            ..Filter::default()
        };
        let records = tap.records(&filter);
        let exchanges: HashSet<_> = records.iter().filter_map(|it| it.exchange).collect();
        let connections: HashSet<_> = records
            .iter()
            .filter_map(|it| it.connection.as_deref())
            .collect();
        for row in rows
            .connections
            .iter()
            .filter(|row| connections.contains(row.connection.as_str()))
        {
            text += &event("connection", row);
        }
        for row in rows
            .exchanges
            .iter()
            .filter(|row| exchanges.contains(&row.exchange))
        {
            text += &event("exchange", row);
        }
        for record in &records {
            self.seq = record.seq;
            text += &event("record", &bare(record));
        }
        text
    }

    fn told(&mut self, changes: &[Arc<Change>]) -> String {
        let mut text = String::new();
        for change in last_states(changes) {
            match change {
                Change::Record(record) if record.seq <= self.seq => {}
                Change::Record(record) => {
                    self.seq = record.seq;
                    text += &event("record", &bare(record));
                }
                Change::Exchange(row) => text += &event("exchange", row),
                Change::Connection(row) => text += &event("connection", row),
                Change::Cleared => text += &event("cleared", &serde_json::json!({})),
            }
        }
        text
    }
}

/// The changes without those rows that a later one replaces.
fn last_states(changes: &[Arc<Change>]) -> Vec<&Change> {
    let (mut exchanges, mut connections) = (HashSet::new(), HashSet::new());
    let mut kept: Vec<&Change> = Vec::with_capacity(changes.len());
    for change in changes.iter().rev() {
        let last = match &**change {
            Change::Exchange(row) => exchanges.insert(row.exchange),
            Change::Connection(row) => connections.insert(row.connection.as_str()),
            Change::Record(_) => true,
            // A row from before it must not be taken for one from after.
            Change::Cleared => {
                exchanges.clear();
                connections.clear();
                true
            }
        };
        if last {
            kept.push(change);
        }
    }
    kept.reverse();
    kept
}

/// A record without what makes it long: the page asks for that when it shows it.
fn bare(record: &Record) -> Record {
    Record {
        v: record.v,
        seq: record.seq,
        time: record.time.clone(),
        connection: record.connection.clone(),
        exchange: record.exchange,
        kind: record.kind,
        front: record.front,
        peer: record.peer.clone(),
        from: record.from,
        to: record.to,
        call: record.call,
        purpose: record.purpose.clone(),
        message: record.message.clone(),
        size: record.size,
        cut: record.cut,
        status: record.status,
        why: record.why.clone(),
        count: record.count,
        ..Record::default()
    }
}

/// A server-sent event. JSON has no line ends of its own.
fn event(name: &str, data: &impl Serialize) -> String {
    let mut text = String::new();
    if let Ok(data) = serde_json::to_string(data) {
        // A string takes whatever is written.
        let _ = write!(text, "event: {name}\ndata: {data}\n\n");
    }
    text
}
