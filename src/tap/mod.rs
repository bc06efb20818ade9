//! Watching without touching: what crosses, as events on a bounded bus.
//!
//! The bus never waits and never holds up traffic. Unwatched, [`Bus::emit`] costs one load and one branch, and the
//! event is not even built. A watcher that is too slow loses the oldest events and is told how many. Bounds:
//! [`CAPACITY`] events of at most [`MAX_BODY`] bytes of text each; of a longer text the beginning is kept, and its
//! full size. Events carry no headers and no ids of connections that could be used: a connection is named by a label
//! that means nothing to anybody else.

pub mod record;
pub mod redact;

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use tokio::sync::broadcast;
use tokio::time::Instant;

/// Events that a watcher may lag behind.
pub const CAPACITY: usize = 1024;
/// Bytes of one message's text that an event keeps.
pub const MAX_BODY: usize = 32 * 1024;

/// Names a connection towards people: short, and worthless to anyone who wants to post to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Label(pub u64);

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "c{}", self.0)
    }
}

/// Something that crossed.
#[derive(Clone, Debug)]
pub struct Event {
    /// When.
    pub at: Instant,
    /// On which connection.
    pub connection: Label,
    /// What.
    pub what: What,
}

/// What crossed.
#[derive(Clone, Debug)]
pub enum What {
    /// A legacy client opened its stream.
    Opened,
    /// The connection is over, upstream too.
    Closed,
    /// The client posted a message.
    FromClient(Text),
    /// A message was put on the client's stream.
    ToClient(Text),
    /// An exchange with the upstream was started.
    ToUpstream {
        /// Its number on this connection.
        call: u64,
        /// The HTTP method.
        method: &'static str,
        /// The message, where there is one.
        text: Option<Text>,
    },
    /// The upstream's answer began or was refused.
    Status {
        /// The number of the exchange.
        call: u64,
        /// The HTTP status.
        status: u16,
    },
    /// The upstream sent a message.
    FromUpstream {
        /// The number of the exchange.
        call: u64,
        /// The message.
        text: Text,
    },
    /// An exchange ended without an answer; says why.
    Failed {
        /// The number of the exchange.
        call: u64,
        /// Why.
        why: String,
    },
}

/// The text of a message, or the beginning of a long one.
#[derive(Clone, Debug)]
pub struct Text {
    /// At most [`MAX_BODY`] bytes.
    pub head: Bytes,
    /// The size of the whole.
    pub size: usize,
}

impl Text {
    /// Keeps a text, or the beginning of it. A short text is copied, so that an event does not pin a read buffer.
    #[must_use]
    pub fn of(text: &Bytes) -> Self {
        let head = Bytes::copy_from_slice(text.get(..text.len().min(MAX_BODY)).unwrap_or_default());
        Self {
            head,
            size: text.len(),
        }
    }
}

/// Where events go.
#[derive(Debug)]
pub struct Bus {
    watchers: AtomicUsize,
    // Its slots are allocated when the first watcher comes.
    sender: LazyLock<broadcast::Sender<Arc<Event>>>,
}

impl Default for Bus {
    fn default() -> Self {
        Self {
            watchers: AtomicUsize::new(0),
            sender: LazyLock::new(|| broadcast::channel(CAPACITY).0),
        }
    }
}

impl Bus {
    /// Says that something crossed. `what` is only called when somebody watches.
    pub fn emit(&self, connection: Label, what: impl FnOnce() -> What) {
        if self.watchers.load(Ordering::Relaxed) == 0 {
            return;
        }
        // An error means that the last watcher has just gone.
        let _ = self.sender.send(Arc::new(Event {
            at: Instant::now(),
            connection,
            what: what(),
        }));
    }

    /// Begins to watch.
    #[must_use]
    pub fn watch(self: &Arc<Self>) -> Watcher {
        let events = self.sender.subscribe();
        self.watchers.fetch_add(1, Ordering::Relaxed);
        Watcher {
            bus: Arc::clone(self),
            events,
        }
    }
}

/// One who watches.
#[derive(Debug)]
pub struct Watcher {
    bus: Arc<Bus>,
    events: broadcast::Receiver<Arc<Event>>,
}

/// What a watcher sees next.
#[derive(Clone, Debug)]
pub enum Seen {
    /// An event.
    Event(Arc<Event>),
    /// The watcher was too slow; this many events are lost to it.
    Missed(u64),
}

impl Watcher {
    /// Waits for the next event. `None` when the bus is gone.
    pub async fn next(&mut self) -> Option<Seen> {
        match self.events.recv().await {
            Ok(event) => Some(Seen::Event(event)),
            Err(broadcast::error::RecvError::Lagged(missed)) => Some(Seen::Missed(missed)),
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.bus.watchers.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_unwatched_bus_builds_nothing_and_a_slow_watcher_is_told_its_loss() {
        let bus = Arc::new(Bus::default());
        bus.emit(Label(1), || unreachable!("nobody watches"));
        let mut watcher = bus.watch();
        for _ in 0..CAPACITY + 5 {
            bus.emit(Label(1), || What::Opened);
        }
        assert!(matches!(watcher.next().await, Some(Seen::Missed(5))));
        assert!(matches!(watcher.next().await, Some(Seen::Event(_))));
        drop(watcher);
        bus.emit(Label(1), || unreachable!("nobody watches any more"));
    }

    #[test]
    fn a_long_text_is_cut_and_its_size_kept() {
        let text = Text::of(&Bytes::from(vec![b'x'; MAX_BODY + 1]));
        assert_eq!((text.head.len(), text.size), (MAX_BODY, MAX_BODY + 1));
    }
}
