//! The bus on which traffic says what crosses.
//!
//! It never waits and never holds up traffic. Unwatched, [`Bus::emit`] costs one load and one branch, and the event is not
//! even built. When the recorder cannot keep up, events are dropped and counted. Bounds: [`MAX_QUEUED`] events and
//! [`MAX_QUEUED_BYTES`] of their texts and headers wait for it. What is on the bus is not redacted yet; it is there for
//! moments, and nobody but the recorder's task sees it.
//!
//! That a connection began or ended is never lost: where the queue has no room it waits aside, up to [`MAX_ASIDE`] of them.
//!
//! Where only so many events a second are wanted, a request that passes through is shown or not ([`Bus::pass`]), but for
//! pieces of large bodies, whose lack the recorder is told; so are a connection's beginning and end always. Of what crosses
//! on it, what comes when there is no room is lost.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use tokio::time::Instant;

use super::event::{Crossing, Event, Head, Label, Passing, Text, What};
use super::summary;
use crate::proto::jsonrpc::Message;

/// Events that may wait for the recorder.
pub const MAX_QUEUED: usize = 8192;
/// Bytes of texts and headers that may wait for the recorder.
pub const MAX_QUEUED_BYTES: usize = 32 * 1024 * 1024;
/// Beginnings and ends of connections that may wait besides, when the queue is full.
const MAX_ASIDE: usize = 65_536;
/// Bytes of one message's text that are kept, unless `--tap-max-body` says otherwise.
pub const DEFAULT_MAX_BODY: usize = 64 * 1024;

/// A build with `MCP_FERRY_WITHOUT_TAP` set has a bus that nobody can watch. `benches/run.sh` makes one, to measure what an
/// unwatched bus costs; nothing else should.
const ABSENT: bool = option_env!("MCP_FERRY_WITHOUT_TAP").is_some();

/// Events that a request that passes through has room for when it begins to be shown: four that happen once, and
/// [`RESERVED_PIECES`]. More pieces, as of a long stream, must find room as they come.
const RESERVED: u64 = 4 + RESERVED_PIECES;
/// A body and an answer in one piece each.
const RESERVED_PIECES: u64 = 2;

/// What an event is built with.
#[derive(Clone, Copy, Debug)]
pub struct Keep {
    max_body: usize,
}

impl Keep {
    /// Of each text so many bytes.
    pub(crate) fn new(max_body: usize) -> Self {
        Self { max_body }
    }

    /// Keeps a text, or the beginning of it. It is copied, so that an event does not pin a read buffer. What a longer
    /// one is has to be found out now, for its beginning alone may not say.
    #[must_use]
    pub fn text(self, text: &[u8]) -> Text {
        let head = text.get(..text.len().min(self.max_body));
        let cut = text.len() > self.max_body;
        Text {
            head: Bytes::copy_from_slice(head.unwrap_or_default()),
            size: text.len(),
            told: cut.then(|| Box::new(summary::of_cut(text))),
        }
    }

    /// A piece of a body that passes; whole, because what it means is found out later.
    #[must_use]
    pub fn piece(self, piece: &[u8]) -> Text {
        Text {
            head: Bytes::copy_from_slice(piece),
            size: piece.len(),
            told: None,
        }
    }

    /// A message that the client posted.
    #[must_use]
    pub fn posted(self, post: u64, head: Option<&Arc<Head>>, message: &Message) -> Crossing {
        Crossing::FromClient {
            post,
            head: head.cloned(),
            kind: message.kind(),
            id: message.id().map(|id| summary::short_id(id).into_owned()),
            text: self.text(message.text()),
        }
    }
}

/// Where traffic says what crosses.
#[derive(Debug, Default)]
pub struct Bus {
    watched: AtomicBool,
    open: OnceLock<Open>,
    passes: AtomicU64,
}

#[derive(Debug)]
struct Open {
    queue: mpsc::Sender<Event>,
    waiting: Arc<Waiting>,
    keep: Keep,
    pace: Option<Pace>,
}

/// How many events are taken in a second, so that watching costs a busy process little. Each tenth of a second has its
/// part, so that no traffic waits behind a heap of them.
#[derive(Debug)]
struct Pace {
    most: u64,
    since: Instant,
    /// The present tenth, and the events that it had.
    tenth: AtomicU64,
    taken: AtomicU64,
}

impl Pace {
    fn new(most: u64) -> Self {
        Self {
            most: most / 10,
            since: Instant::now(),
            tenth: AtomicU64::new(0),
            taken: AtomicU64::new(0),
        }
    }

    /// Whether there is room in this tenth. Two threads at the turn of one may both begin it: some more are taken then.
    fn has_room(&self) -> bool {
        let elapsed = self.since.elapsed();
        let tenth = elapsed.as_secs() * 10 + u64::from(elapsed.subsec_millis() / 100);
        if self.tenth.load(Ordering::Relaxed) != tenth {
            self.tenth.store(tenth, Ordering::Relaxed);
            self.taken.store(0, Ordering::Relaxed);
        }
        self.taken.load(Ordering::Relaxed) < self.most
    }
}

/// What waits for the recorder, and what could not.
#[derive(Debug, Default)]
struct Waiting {
    bytes: AtomicUsize,
    lost: AtomicU64,
    unseen: AtomicU64,
    /// Whether anything is aside: nearly always nothing is.
    has_aside: AtomicBool,
    aside: Mutex<Vec<Event>>,
}

impl Waiting {
    /// Held for moments only.
    fn aside(&self) -> MutexGuard<'_, Vec<Event>> {
        self.aside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts aside what must not be lost; without the head, which may be large.
    fn put_aside(&self, mut event: Event) {
        if let What::On(_, Crossing::Opened { head, .. }) = &mut event.what {
            *head = None;
        }
        let mut aside = self.aside();
        if aside.len() < MAX_ASIDE {
            aside.push(event);
            self.has_aside.store(true, Ordering::Release);
        } else {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// What the recorder did not get.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Lost {
    /// Events of what it knows: what was open may have ended with them.
    pub(crate) events: u64,
    /// Requests that passed and of which it knows nothing, and pieces of others that it knows to be incomplete.
    pub(crate) passing: u64,
}

impl Lost {
    /// Both.
    pub(crate) fn count(self) -> u64 {
        self.events + self.passing
    }
}

impl Bus {
    /// Says that something crossed. `what` is only called when somebody watches.
    pub fn emit(&self, what: impl FnOnce(Keep) -> What) {
        let Some(open) = self.opened() else { return };
        if open.reserve(1) {
            open.put(what(open.keep));
        } else {
            open.waiting.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Says that a connection began or ended, however much else there is to say: what is open must be known.
    pub fn always(&self, label: Label, crossing: impl FnOnce() -> Crossing) {
        if let Some(open) = self.opened() {
            open.take(1);
            if let Err(event) = open.try_put(What::On(label, crossing())) {
                open.waiting.put_aside(event);
            }
        }
    }

    /// Says that something crossed which there was no room to show when it began: [`Self::is_watched`] had said so.
    pub fn skipped(&self) {
        if let Some(open) = self.opened() {
            open.waiting.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn opened(&self) -> Option<&Open> {
        let watched = !ABSENT && self.watched.load(Ordering::Relaxed);
        watched.then(|| self.open.get()).flatten()
    }

    /// Says what crossed on a translated connection.
    pub fn on(&self, label: Label, crossing: impl FnOnce(Keep) -> Crossing) {
        self.emit(|keep| What::On(label, crossing(keep)));
    }

    /// Whether anybody watches, and there is room for what could be said now.
    #[must_use]
    pub fn is_watched(&self) -> bool {
        self.opened().is_some_and(Open::takes)
    }

    /// Begins to show a request that passes through, and then shows it to its end. `None` when nobody watches, or when
    /// there is no room for it, which is counted.
    #[must_use]
    pub fn pass(self: &Arc<Self>) -> Option<Pass> {
        let open = self.opened()?;
        if !open.reserve(RESERVED) {
            open.waiting.unseen.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        Some(Pass {
            bus: Arc::clone(self),
            number: self.passes.fetch_add(1, Ordering::Relaxed) + 1,
            shown: Arc::new(Shown {
                reserved: AtomicU64::new(RESERVED_PIECES),
                gap: AtomicBool::new(false),
            }),
        })
    }

    /// The head of a request, where somebody watches.
    #[must_use]
    pub fn head(&self, head: &hyper::http::request::Parts) -> Option<Arc<Head>> {
        self.is_watched().then(|| Head::of_parts(head))
    }

    /// Begins to watch; `None` when somebody does already. Of each text at most `max_body` bytes are kept, and in each
    /// second at most `pace` events are taken, rounded down to tens.
    pub(crate) fn open(&self, max_body: usize, pace: Option<u64>) -> Option<Incoming> {
        let (queue, events) = mpsc::channel(MAX_QUEUED);
        let waiting = Arc::<Waiting>::default();
        let open = Open {
            queue,
            waiting: Arc::clone(&waiting),
            keep: Keep::new(max_body),
            pace: pace.map(Pace::new),
        };
        self.open.set(open).ok()?;
        self.watched.store(true, Ordering::Relaxed);
        Some(Incoming { events, waiting })
    }
}

impl Open {
    fn takes(&self) -> bool {
        self.pace.as_ref().is_none_or(Pace::has_room)
    }

    /// Takes room for so many events, if there is any.
    fn reserve(&self, events: u64) -> bool {
        let takes = self.takes();
        if takes {
            self.take(events);
        }
        takes
    }

    fn take(&self, events: u64) {
        if let Some(pace) = &self.pace {
            pace.taken.fetch_add(events, Ordering::Relaxed);
        }
    }

    fn put(&self, what: What) {
        if self.try_put(what).is_err() {
            self.waiting.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Gives the event back when there is no room for it.
    fn try_put(&self, what: What) -> Result<(), Event> {
        let bytes = what.bytes();
        let before = self.waiting.bytes.fetch_add(bytes, Ordering::Relaxed);
        let event = Event {
            at: Instant::now(),
            what,
        };
        let sent = match before + bytes > MAX_QUEUED_BYTES {
            true => Err(event),
            false => self.queue.try_send(event).map_err(TrySendError::into_inner),
        };
        sent.inspect_err(|_| {
            self.waiting.bytes.fetch_sub(bytes, Ordering::Relaxed);
        })
    }
}

/// A request that passes through and is shown.
#[derive(Clone, Debug)]
pub struct Pass {
    bus: Arc<Bus>,
    number: u64,
    shown: Arc<Shown>,
}

/// How much of its bodies there was room for.
#[derive(Debug)]
struct Shown {
    /// Pieces that have their room yet.
    reserved: AtomicU64,
    /// Pieces were left out since the last event.
    gap: AtomicBool,
}

impl Pass {
    /// Says what happens once in such a request, for which there always is room.
    pub fn say(&self, what: Passing) {
        if let Some(open) = self.bus.opened() {
            self.put(open, what);
        }
    }

    /// Shows a piece of a body, or leaves it out and says so with what comes next.
    pub fn piece(&self, what: impl FnOnce(Keep) -> Passing) {
        let Some(open) = self.bus.opened() else {
            return;
        };
        let less = |left: u64| left.checked_sub(1);
        let reserved = &self.shown.reserved;
        let has_room = reserved.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
        if has_room.is_ok() || open.reserve(1) {
            self.put(open, what(open.keep));
        } else {
            self.shown.gap.store(true, Ordering::Relaxed);
            open.waiting.unseen.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn put(&self, open: &Open, what: Passing) {
        if self.shown.gap.swap(false, Ordering::Relaxed) {
            open.put(What::Passing(self.number, Passing::Gap));
        }
        open.put(What::Passing(self.number, what));
    }
}

/// The recorder's end of the bus.
#[derive(Debug)]
pub(crate) struct Incoming {
    events: mpsc::Receiver<Event>,
    waiting: Arc<Waiting>,
}

impl Incoming {
    /// Waits for events, takes up to `most` of them, and says what was lost before them. `None` when there is no bus any
    /// more.
    pub(crate) async fn next(&mut self, events: &mut Vec<Event>, most: usize) -> Option<Lost> {
        if self.events.recv_many(events, most).await == 0 {
            return None;
        }
        let bytes = events.iter().map(|event| event.what.bytes()).sum();
        self.waiting.bytes.fetch_sub(bytes, Ordering::Relaxed);
        if self.waiting.has_aside.load(Ordering::Acquire) {
            self.take_aside(events, most);
        }
        Some(self.lost())
    }

    /// Puts what waits aside where it belongs by its time: all of it, once the queue is empty.
    fn take_aside(&self, events: &mut Vec<Event>, most: usize) {
        let until = events.last().filter(|_| events.len() == most);
        let until = until.map(|event| event.at);
        let mut aside = self.waiting.aside();
        let is_due = |event: &mut Event| until.is_none_or(|until| event.at <= until);
        let mut due: Vec<Event> = aside.extract_if(.., is_due).collect();
        self.waiting
            .has_aside
            .store(!aside.is_empty(), Ordering::Release);
        drop(aside);
        // Of two at the same time, what was aside goes first: nothing comes before a beginning.
        due.append(events);
        due.sort_by_key(|event| event.at);
        *events = due;
    }

    /// What was lost since this was last said.
    pub(crate) fn lost(&self) -> Lost {
        Lost {
            events: self.waiting.lost.swap(0, Ordering::Relaxed),
            passing: self.waiting.unseen.swap(0, Ordering::Relaxed),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::tap::record::Front;

    fn lost(events: u64) -> Option<Lost> {
        Some(Lost { events, passing: 0 })
    }

    fn crossing(keep: Keep) -> What {
        let text = keep.text(&[b'x'; 10]);
        What::On(Label(1), Crossing::FromUpstream { call: 1, text })
    }

    #[tokio::test]
    async fn an_unwatched_bus_builds_nothing_and_a_full_one_counts_what_it_drops() {
        let bus = Bus::default();
        bus.emit(|_| unreachable!("nobody watches"));
        let mut incoming = bus.open(4, None).expect("nobody watched before");
        assert!(bus.open(4, None).is_none(), "one recorder");
        for _ in 0..MAX_QUEUED + 5 {
            bus.emit(crossing);
        }
        let mut events = Vec::new();
        assert_eq!(incoming.next(&mut events, MAX_QUEUED).await, lost(5));
        assert_eq!(events.len(), MAX_QUEUED);
        let What::On(_, Crossing::FromUpstream { text, .. }) = &events[0].what else {
            panic!("{events:?}");
        };
        assert_eq!((text.head.len(), text.size), (4, 10), "cut, its size kept");
        bus.emit(crossing);
        assert_eq!(incoming.next(&mut events, 1).await, lost(0), "told once");
    }

    #[tokio::test(start_paused = true)]
    async fn beginnings_and_ends_of_connections_are_not_lost_and_keep_their_place() {
        let bus = Bus::default();
        let mut incoming = bus.open(4, None).expect("nobody watched before");
        let opened = || Crossing::Opened {
            front: Front::Sse,
            peer: Ipv4Addr::LOCALHOST.into(),
            head: None,
        };
        let later = || tokio::time::advance(std::time::Duration::from_millis(1));
        for _ in 0..MAX_QUEUED - 1 {
            bus.emit(crossing);
        }
        later().await;
        bus.emit(crossing);
        bus.always(Label(2), opened);
        later().await;
        bus.always(Label(2), || Crossing::Closed);
        later().await;
        let mut events = Vec::new();
        let kinds = |events: &[Event]| {
            let kinds = events.iter().map(|event| match event.what {
                What::On(Label(2), Crossing::Opened { .. }) => 'o',
                What::On(Label(2), Crossing::Closed) => 'c',
                _ => '-',
            });
            kinds.collect::<String>()
        };
        assert_eq!(incoming.next(&mut events, MAX_QUEUED - 1).await, lost(0));
        assert_eq!(events.len(), MAX_QUEUED - 1, "their time has not come");
        events.clear();
        bus.emit(crossing);
        assert_eq!(incoming.next(&mut events, MAX_QUEUED).await, lost(0));
        assert_eq!(kinds(&events), "o-c-");
        for _ in 0..MAX_QUEUED {
            bus.emit(crossing);
        }
        for _ in 0..MAX_ASIDE + 3 {
            bus.always(Label(2), || Crossing::Closed);
        }
        events.clear();
        assert_eq!(incoming.next(&mut events, MAX_QUEUED + 1).await, lost(3));
        assert_eq!(events.len(), MAX_QUEUED + MAX_ASIDE);
    }

    #[tokio::test]
    async fn texts_that_wait_are_bounded_in_bytes() {
        let bus = Bus::default();
        let mut incoming = bus
            .open(MAX_QUEUED_BYTES, None)
            .expect("nobody watched before");
        let large = vec![b'x'; MAX_QUEUED_BYTES / 2 + 1];
        let emit = || {
            bus.on(Label(1), |keep| Crossing::FromUpstream {
                call: 1,
                text: keep.text(&large),
            });
        };
        emit();
        emit();
        let mut events = Vec::new();
        assert_eq!(incoming.next(&mut events, 2).await, lost(1));
        emit();
        assert_eq!(
            incoming.next(&mut events, 2).await,
            lost(0),
            "there is room again"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn in_each_tenth_of_a_second_so_many_events_are_taken_and_connections_always() {
        let bus = Bus::default();
        let mut incoming = bus.open(4, Some(30)).expect("nobody watched before");
        for _ in 0..5 {
            bus.emit(crossing);
        }
        assert!(!bus.is_watched(), "nothing more is built in this tenth");
        bus.skipped();
        bus.always(Label(1), || Crossing::Closed);
        let mut events = Vec::new();
        assert_eq!(incoming.next(&mut events, 10).await, lost(3));
        assert_eq!(events.len(), 4, "three of them, and the end");
        tokio::time::advance(std::time::Duration::from_millis(100)).await;
        assert!(bus.is_watched());
        bus.emit(crossing);
        events.clear();
        assert_eq!(incoming.next(&mut events, 10).await, lost(0));
        assert_eq!(events.len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn what_passes_is_shown_or_not_and_pieces_too_many_leave_a_gap_that_is_told() {
        let bus = Arc::new(Bus::default());
        assert!(bus.pass().is_none(), "nobody watches");
        let room = 10 * (RESERVED + 1);
        let mut incoming = bus.open(4, Some(room)).expect("nobody watched before");
        let piece = |keep: Keep| Passing::Download(keep.piece(b"x"));
        let first = bus.pass().expect("there is room");
        let second = bus.pass().expect("there is a little room");
        assert!(bus.pass().is_none(), "there is none");
        for pass in [&first, &second] {
            for _ in 0..RESERVED_PIECES {
                pass.piece(piece);
            }
        }
        first.piece(piece);
        first.piece(piece);
        for pass in [&first, &second] {
            pass.say(Passing::Ended { why: None });
        }
        let mut events = Vec::new();
        let missed = Lost {
            events: 0,
            passing: 3,
        };
        let most = usize::try_from(room).expect("few");
        assert_eq!(incoming.next(&mut events, most).await, Some(missed));
        let of = |number| {
            let of_it = events.iter().filter_map(move |event| match &event.what {
                What::Passing(it, passing) if *it == number => Some(passing),
                _ => None,
            });
            of_it.skip(2).collect::<Vec<_>>()
        };
        assert!(
            matches!(of(1)[..], [Passing::Gap, Passing::Ended { .. }]),
            "{events:?}"
        );
        assert!(matches!(of(2)[..], [Passing::Ended { .. }]), "{events:?}");
        tokio::time::advance(std::time::Duration::from_millis(100)).await;
        first.piece(piece);
        events.clear();
        assert_eq!(incoming.next(&mut events, most).await, lost(0));
        assert_eq!(events.len(), 1, "a stream goes on when there is room");
    }
}
