//! A thread that writes what a watcher sees: to a terminal or a file, which may block for as long as they like. Traffic
//! never waits for it, nor does the tap: between them stands a queue of [`MAX_QUEUED`] changes, and behind that the
//! watcher, which loses the oldest.

use std::future::Future;
use std::io;
use std::ops::ControlFlow;
use std::thread;

use tokio::sync::{mpsc, oneshot};
use tokio::time::{Duration, MissedTickBehavior};

use super::record::Record;
use super::{Change, Seen, Watcher};

/// Changes that wait for the thread.
const MAX_QUEUED: usize = 256;
/// How long something written may lie in a buffer.
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// Where records are written. `Break` says that nothing can be written any more.
pub(super) trait Sink: Send + 'static {
    /// Writes a record, at the latest with the next [`flush`](Self::flush).
    fn put(&mut self, record: &Record) -> ControlFlow<()>;
    /// Writes what it still has. Comes once in a second, and at the end.
    fn flush(&mut self) -> ControlFlow<()>;
}

/// What the thread is to do.
enum Order {
    Seen(Seen),
    Flush,
}

/// Starts the thread. The future gives it what the watcher sees; it ends when the tap has ended and everything is written,
/// or when nothing can be written any more.
pub(super) fn start<S: Sink>(
    name: &str,
    sink: S,
    watcher: Watcher,
) -> io::Result<impl Future<Output = ()> + Send + use<S>> {
    let (orders, queue) = mpsc::channel(MAX_QUEUED);
    let (done, ended) = oneshot::channel::<()>();
    thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || {
            write(sink, queue);
            drop(done);
        })?;
    Ok(async move {
        feed(watcher, orders).await;
        // An error is how the thread says that it has ended.
        let _ = ended.await;
    })
}

fn write(mut sink: impl Sink, mut queue: mpsc::Receiver<Order>) {
    while let Some(order) = queue.blocking_recv() {
        let went = match order {
            Order::Seen(Seen::Change(change)) => match &*change {
                Change::Record(record) => sink.put(record),
                _ => ControlFlow::Continue(()),
            },
            // Records are numbered: the gap says it.
            Order::Seen(Seen::Missed(_)) => ControlFlow::Continue(()),
            Order::Flush => sink.flush(),
        };
        if went.is_break() {
            return;
        }
    }
    // The end comes either way.
    let _ = sink.flush();
}

async fn feed(mut watcher: Watcher, orders: mpsc::Sender<Order>) {
    let mut tick = tokio::time::interval(LONGEST_WAIT);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let order = tokio::select! {
            seen = watcher.next() => match seen {
                Some(seen) => Order::Seen(seen),
                None => return,
            },
            _ = tick.tick() => Order::Flush,
        };
        if orders.send(order).await.is_err() {
            return;
        }
    }
}

/// Finds what was lost between two records by their numbers.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Gaps {
    last: Option<u64>,
}

impl Gaps {
    /// Nothing is missing up to this record.
    pub(super) fn until(seq: u64) -> Self {
        Self { last: Some(seq) }
    }

    /// Nothing is missing before this record if it is the first.
    pub(super) fn begin_with(&mut self, record: &Record) {
        self.last
            .get_or_insert_with(|| record.seq.saturating_sub(1));
    }

    /// How many records are missing before this one.
    pub(super) fn before(&mut self, record: &Record) -> u64 {
        let expected = self.last.map(|last| last.saturating_add(1));
        self.last = Some(record.seq);
        expected.map_or(0, |expected| record.seq.saturating_sub(expected))
    }
}
