//! The stream of what crosses now, for one viewer: rows as they change, records without their texts, as server-sent events.
//!
//! What changes within [`PACE`] goes in one piece, of each row the last state only. A viewer that does not read fills
//! [`PIECES`] pieces, then lags behind the tap, and when it has lost something it is told how much, and its stream ends: the
//! page loads anew, which is cheaper than to catch up. The tap and the traffic never wait for it.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::future::{Future, poll_fn};
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
/// How long a viewer may read nothing while pieces wait for it: then its place is another's.
const STALL: Duration = Duration::from_secs(30);
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
    let shared = Arc::clone(shared);
    let closing = async move { shared.closed().await };
    tokio::task::spawn(viewer.run(closing, Arc::clone(tap), after, sender));
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
        closing: impl Future<Output = ()>,
        tap: Arc<Tap>,
        after: u64,
        sender: mpsc::Sender<Bytes>,
    ) {
        let mut closing = pin!(closing);
        let mut piece = self.welcome(&tap, after);
        loop {
            let sent = tokio::select! {
                sent = sender.send_timeout(piece.into(), STALL) => sent,
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
                    drop(self.watcher);
                    // It ends either way.
                    let _ = sender.send_timeout(missed.into(), STALL).await;
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

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::tap::record::Front;
    use crate::tap::{Bus, Crossing, Label, Settings};

    /// Says that this many connections were opened, and lets the recorder take them.
    async fn say(bus: &Bus, tap: &Tap, count: u64) {
        for label in 1..=count {
            bus.on(Label(label), |_| Crossing::Opened {
                front: Front::Sse,
                peer: Ipv4Addr::LOCALHOST.into(),
                head: None,
            });
            if label % 64 == 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
        while tap.rows().connections.len() < usize::try_from(count).expect("few") {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_viewer_that_does_not_read_is_told_its_loss_and_its_place_is_free() {
        let bus = Bus::default();
        let (tap, recording) =
            Tap::start(&bus, Settings::default(), std::future::pending()).expect("the first");
        let recording = tokio::task::spawn(recording);
        let (_running, closing) = tokio::sync::watch::channel(false);
        let (sender, mut pieces) = mpsc::channel(PIECES);
        let viewer = Viewer {
            watcher: tap.watch().expect("a place"),
            seq: 0,
        };
        let closed = async move {
            let mut closing = closing;
            let _ = closing.wait_for(|closing| *closing).await;
        };
        let task = tokio::task::spawn(viewer.run(closed, Arc::clone(&tap), 0, sender));
        // Each is a record and a row.
        say(&bus, &tap, 20_000).await;
        let mut text = String::new();
        while let Some(piece) = pieces.recv().await {
            text += std::str::from_utf8(&piece).expect("text");
        }
        task.await.expect("no panic");
        let last = text.trim_end().rsplit("\n\n").next().expect("an event");
        let data = last
            .strip_prefix("event: missed\ndata: ")
            .expect("the loss comes last");
        let data: serde_json::Value = serde_json::from_str(data).expect("JSON");
        assert!(data["count"].as_u64() > Some(1000), "{data}");
        assert_eq!(tap.state().watchers, 0);
        recording.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn a_viewer_that_never_reads_again_loses_its_place() {
        let bus = Bus::default();
        let (tap, recording) =
            Tap::start(&bus, Settings::default(), std::future::pending()).expect("the first");
        let recording = tokio::task::spawn(recording);
        let (sender, _pieces) = mpsc::channel(PIECES);
        let viewer = Viewer {
            watcher: tap.watch().expect("a place"),
            seq: 0,
        };
        let task =
            tokio::task::spawn(viewer.run(std::future::pending(), Arc::clone(&tap), 0, sender));
        // Comments fill the pieces too.
        task.await.expect("no panic");
        assert_eq!(tap.state().watchers, 0);
        recording.abort();
    }

    #[test]
    fn of_each_row_the_last_state_is_told_and_nothing_from_before_a_clearing_after_it() {
        let record = |seq| {
            Arc::new(Change::Record(Arc::new(Record {
                seq,
                ..Record::default()
            })))
        };
        let changes = [record(1), Arc::new(Change::Cleared), record(2)];
        let kept = last_states(&changes);
        assert_eq!(kept.len(), 3);
        assert!(matches!(kept.first(), Some(Change::Record(record)) if record.seq == 1));
    }
}
