//! The one task of the tap: takes events from the bus, has them recorded, keeps what comes of it, and hands it to those
//! who watch. It never waits for a watcher: one that is slow loses the oldest changes and is told how many.
//!
//! Bounds: [`MAX_CHANGES`] changes wait for the slowest watcher, [`MAX_WATCHERS`] may watch at once; what is kept is bounded
//! in `ring`.

use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use time::OffsetDateTime;
use tokio::sync::broadcast;
use tokio::time::{Instant, MissedTickBehavior};

use super::record::Record;
use super::recorder::{Change, Recorder};
use super::redact::Redactor;
pub use super::ring::{Filter, Rows};
use super::ring::{MAX_BYTES, Ring};
use super::{Bus, Event, Incoming, Lost};

/// Changes that a watcher may lag behind.
pub(crate) const MAX_CHANGES: usize = 8192;
/// Those who may watch at once.
pub const MAX_WATCHERS: usize = 16;
/// Events in a second that are recorded where only people look: some four hundred requests that pass, or three hundred
/// and fifty calls of old clients. A process that is busier than that would do much of its work for them.
pub const PACE: u64 = 2_500;
/// Events that are taken in one turn; other tasks come between two.
const TURN: usize = 64;
/// How long the task rests when it has taken all there was. Events that come meanwhile wake nobody: what wakes the task
/// runs on the thread of the traffic that said them, before that thread looks at its sockets again.
const REST: Duration = Duration::from_millis(10);
/// How often idle clients are looked for.
const LOOK: Duration = Duration::from_secs(30);

/// What is recorded, and how much of it.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Whether the texts of messages are.
    pub bodies: bool,
    /// How many bytes of each.
    pub max_body: usize,
    /// Names of headers and members that are secret besides the known ones.
    pub redact: Vec<String>,
    /// Whether every event is wanted, as for a file, or up to [`PACE`] a second, as for people to look at.
    pub complete: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            bodies: true,
            max_body: super::DEFAULT_MAX_BODY,
            redact: Vec::new(),
            complete: true,
        }
    }
}

/// The tap of one process.
#[derive(Debug)]
pub struct Tap {
    kept: Mutex<Kept>,
    missed: AtomicU64,
    settings: Settings,
    /// Milliseconds since 1970.
    started: f64,
}

#[derive(Debug)]
struct Kept {
    ring: Ring,
    /// `None` when the end has come.
    changes: Option<broadcast::Sender<Arc<Change>>>,
}

/// How the tap is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct State {
    /// Records that are kept.
    pub records: usize,
    /// Their bytes.
    pub bytes: usize,
    /// The bound on that.
    pub max_bytes: usize,
    /// Events that were lost because the tap could not keep up.
    pub missed: u64,
    /// Those who watch.
    pub watchers: usize,
}

impl Tap {
    /// Begins to watch the bus. The future is the task; it ends after `stop`, when everything that was said until then is
    /// recorded. `None` when the bus is watched already.
    pub fn start<S: Future<Output = ()> + Send + 'static>(
        bus: &Bus,
        settings: Settings,
        stop: S,
    ) -> Option<(Arc<Self>, impl Future<Output = ()> + Send + use<S>)> {
        let pace = (!settings.complete).then_some(PACE);
        let incoming = bus.open(settings.max_body, pace)?;
        let moment = (Instant::now(), wall());
        let recorder = Recorder::new(
            Redactor::new(&settings.redact),
            settings.bodies,
            settings.max_body,
            moment,
        );
        let kept = Kept {
            ring: Ring::default(),
            changes: Some(broadcast::channel(MAX_CHANGES).0),
        };
        #[expect(
            clippy::cast_precision_loss,
            reason = "microseconds of this age fit 53 bits"
        )]
        let tap = Arc::new(Self {
            kept: Mutex::new(kept),
            missed: AtomicU64::new(0),
            settings,
            started: (moment.1.unix_timestamp_nanos() / 1000) as f64 / 1000.0,
        });
        Some((Arc::clone(&tap), tap.run(incoming, recorder, stop)))
    }

    async fn run(
        self: Arc<Self>,
        mut incoming: Incoming,
        mut recorder: Recorder,
        stop: impl Future<Output = ()>,
    ) {
        let mut events = Vec::with_capacity(TURN);
        let mut look = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut stop = pin!(stop);
        let mut stopping = false;
        loop {
            tokio::select! {
                biased;
                lost = incoming.next(&mut events, TURN) => {
                    let Some(lost) = lost else { break };
                    let more = events.len() == TURN;
                    self.record(&mut recorder, &mut events, lost);
                    tokio::select! {
                        () = tokio::task::yield_now(), if more || stopping => {}
                        () = tokio::time::sleep(REST), if !(more || stopping) => {}
                        () = &mut stop, if !stopping => stopping = true,
                    }
                }
                () = &mut stop, if !stopping => stopping = true,
                // Only when nothing waits: the others go first.
                () = std::future::ready(()), if stopping => break,
                _ = look.tick() => {
                    // What was lost last would else be told with the next event, whenever that is.
                    self.note(&mut recorder, Instant::now(), incoming.lost());
                    recorder.close_idle(Instant::now());
                    self.publish(recorder.changes());
                }
            }
        }
        self.kept().changes = None;
    }

    fn record(&self, recorder: &mut Recorder, events: &mut Vec<Event>, lost: Lost) {
        let at = events.first().map_or_else(Instant::now, |event| event.at);
        self.note(recorder, at, lost);
        for event in events.drain(..) {
            recorder.take(event);
        }
        self.publish(recorder.changes());
    }

    fn note(&self, recorder: &mut Recorder, at: Instant, lost: Lost) {
        if lost.count() > 0 {
            self.missed.fetch_add(lost.count(), Ordering::Relaxed);
            recorder.missed(at, lost);
        }
    }

    fn publish(&self, changes: impl Iterator<Item = Change>) {
        let changes: Vec<Arc<Change>> = changes.map(Arc::new).collect();
        let mut kept = self.kept();
        for change in changes {
            kept.ring.put(&change);
            if let Some(sender) = &kept.changes {
                // An error means that nobody watches.
                let _ = sender.send(change);
            }
        }
    }

    /// Held for moments only, and never across an await. What it guards is whole after every change, so that a panic
    /// elsewhere leaves nothing half done.
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins to watch: what is there, and what comes from then on. `None` when [`MAX_WATCHERS`] watch, or the end has come.
    #[must_use]
    pub fn watch(&self) -> Option<Watcher> {
        let kept = self.kept();
        let changes = kept.changes.as_ref()?;
        (changes.receiver_count() < MAX_WATCHERS).then(|| Watcher(changes.subscribe()))
    }

    /// The rows of the lists.
    #[must_use]
    pub fn rows(&self) -> Rows {
        self.kept().ring.rows()
    }

    /// The records that are kept, oldest first.
    #[must_use]
    pub fn records(&self, filter: &Filter) -> Vec<Arc<Record>> {
        self.kept().ring.records(filter)
    }

    /// Forgets what is over. What is open stays.
    pub fn clear(&self) {
        let mut kept = self.kept();
        kept.ring.clear();
        if let Some(sender) = &kept.changes {
            // An error means that nobody watches.
            let _ = sender.send(Arc::new(Change::Cleared));
        }
    }

    /// How it is doing.
    #[must_use]
    pub fn state(&self) -> State {
        let kept = self.kept();
        let (records, bytes) = kept.ring.size();
        let watchers = kept.changes.as_ref();
        State {
            records,
            bytes,
            max_bytes: MAX_BYTES,
            missed: self.missed.load(Ordering::Relaxed),
            watchers: watchers.map_or(0, broadcast::Sender::receiver_count),
        }
    }

    /// What it records.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// When it began, in milliseconds since 1970.
    #[must_use]
    pub fn started(&self) -> f64 {
        self.started
    }
}

#[expect(clippy::disallowed_methods, reason = "records tell the wall time")]
fn wall() -> OffsetDateTime {
    std::time::SystemTime::now().into()
}

/// One who watches.
#[derive(Debug)]
pub struct Watcher(broadcast::Receiver<Arc<Change>>);

/// What a watcher sees next.
#[derive(Clone, Debug)]
pub enum Seen {
    /// A change.
    Change(Arc<Change>),
    /// The watcher was too slow; this many changes are lost to it.
    Missed(u64),
}

impl Watcher {
    /// Waits for the next change. `None` when the tap has ended.
    pub async fn next(&mut self) -> Option<Seen> {
        match self.0.recv().await {
            Ok(change) => Some(Seen::Change(change)),
            Err(broadcast::error::RecvError::Lagged(missed)) => Some(Seen::Missed(missed)),
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tap::Passing;

    #[tokio::test(start_paused = true)]
    async fn what_had_no_room_is_counted_though_nothing_follows() {
        let bus = Arc::new(Bus::default());
        let settings = Settings {
            complete: false,
            ..Settings::default()
        };
        let (tap, recording) =
            Tap::start(&bus, settings, std::future::pending()).expect("the first");
        let recording = tokio::task::spawn(recording);
        let mut shown = 0;
        while bus.is_watched() {
            let pass = bus.pass().expect("there is room");
            pass.say(Passing::Sent);
            pass.say(Passing::Ended { why: None });
            shown += 1;
        }
        assert!(
            (20..PACE / 10).contains(&shown),
            "{shown} in a tenth of a second"
        );
        // These are taken before the one that is one too many.
        tokio::time::sleep(2 * REST).await;
        assert!(bus.pass().is_none());
        tokio::time::sleep(2 * LOOK).await;
        assert_eq!(tap.state().missed, 1);
        let records = tap.records(&Filter::default());
        let told = records.iter().filter(|it| it.count == Some(1)).count();
        assert_eq!(told, 1, "{records:?}");
        recording.abort();
    }
}
