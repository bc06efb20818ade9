//! Replicas that meet in a Redis, or a Valkey: the only module that knows the crate `redis`.
//!
//! Each replica has two keys, `{PREFIX:r:REPLICA}:hb`, its heartbeat, and `{PREFIX:r:REPLICA}:in`, its inbox: a stream. What
//! is for a replica is put into its inbox by a script that looks first whether its heart beats (`scripts`); the replica waits
//! at its inbox on a connection of its own (`inbox`), and puts what it answers into the inbox of the one that asked. So a
//! request takes two scripts. What the entries say, and why a Redis that lies gains nothing, is `handover::desk`'s.
//!
//! One task keeps a connection that all share, and the heartbeat on it (`keeper`); what it asks before it uses a Redis is in
//! `checks`, how one is reached in `way`. Nothing here is needed for the connections of this process: when the Redis is
//! away, only what would have been handed over fails.

mod checks;
mod inbox;
mod keeper;
mod scripts;
mod state;
mod way;

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use redis::Value;
use tokio::sync::{Notify, Semaphore, mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tracing::{debug, warn};

use super::handover::{ACK_GRACE, ARRIVALS, Arrived, Desk, MAX_HANDED, Ticket};
use super::seal::Sealer;
use super::{HandOverError, Handed, ReplicaId, Reply, StoreHealth};
use crate::config::RedisAddress;
use crate::metrics::labels::HandedOver;
use crate::metrics::{Counter, Metrics};
use scripts::Script;
use state::State;
use way::{Connection, Trouble, Way};

/// How long the Redis may take to put an entry into an inbox.
const PUT: Duration = Duration::from_millis(500);
/// How long a heartbeat holds, and the canary; how often it is given.
const HEARTBEAT: Duration = Duration::from_secs(15);
const BEAT_EVERY: Duration = Duration::from_secs(5);
/// How long an inbox outlives the last entry that was put into it.
const INBOX_LIFE: Duration = Duration::from_secs(60);
/// Entries that an inbox holds; one more is refused.
const MAX_INBOX: usize = 10_000;
/// How long a heartbeat may be missing, where the Redis itself may have lost it, before the replica is taken for gone.
const ANNOUNCE: Duration = Duration::from_secs(6);
/// When no heartbeat was missed for this long, one that is missing was not lost by the Redis.
const STEADY: Duration = Duration::from_secs(20);
/// How often it is asked for again meanwhile.
const ASK_AGAIN: Duration = Duration::from_millis(250);
/// Withdrawals on their way, and refusals of what is too much; beyond these nothing is said.
const MAX_ASIDE: usize = 256;

/// One replica's place in a Redis.
pub(super) struct Redis {
    core: Arc<Core>,
    arrivals: Mutex<Option<mpsc::Receiver<Arrived>>>,
    tasks: Vec<JoinHandle<()>>,
}

/// A connection, and which one it is: tasks that use another ask for this one then.
#[derive(Clone)]
struct Shared {
    number: u64,
    connection: Connection,
}

/// What its tasks share.
struct Core {
    way: Way,
    prefix: String,
    desk: Arc<Desk>,
    sealer: Arc<Sealer>,
    metrics: Arc<Metrics>,
    put: Script,
    beat: Script,
    leave: Script,
    canary: Script,
    /// The connection that works, while there is one.
    shared: watch::Sender<Option<Shared>>,
    state: State,
    /// Something went wrong: the keeper looks now, not at its next heartbeat.
    look: Notify,
    /// One heartbeat at a time.
    beating: tokio::sync::Mutex<()>,
    arrivals: mpsc::Sender<Arrived>,
    serving: Arc<Semaphore>,
    aside: Arc<Semaphore>,
    leaving: AtomicBool,
}

/// What became of an entry that was to be put into an inbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Put {
    Done,
    /// Its replica is not there.
    Gone,
    /// The inbox is full.
    Full,
    /// It was not put there in time. `sent` when it may still be.
    Failed {
        sent: bool,
    },
}

impl Redis {
    /// Takes this replica's place, and begins to serve. A Redis that is away only makes a warning, because it may be what
    /// is being started as well.
    ///
    /// # Errors
    /// Why it cannot be used as configured: one line, without secrets.
    pub(super) async fn connect(
        address: RedisAddress,
        prefix: String,
        sealer: Arc<Sealer>,
        own: ReplicaId,
        metrics: Arc<Metrics>,
    ) -> Result<Self, String> {
        let desk = Desk::new(Arc::clone(&sealer), own).map_err(|error| error.to_string())?;
        let (sender, arrivals) = mpsc::channel(ARRIVALS);
        let core = Arc::new(Core {
            way: Way::new(address),
            prefix,
            desk: Arc::new(desk),
            sealer,
            metrics,
            put: Script::new(scripts::PUT),
            beat: Script::new(scripts::BEAT),
            leave: Script::new(scripts::LEAVE),
            canary: Script::new(scripts::CANARY),
            shared: watch::Sender::new(None),
            state: State::default(),
            look: Notify::new(),
            beating: tokio::sync::Mutex::default(),
            arrivals: sender,
            serving: Arc::new(Semaphore::new(MAX_HANDED)),
            aside: Arc::new(Semaphore::new(MAX_ASIDE)),
            leaving: AtomicBool::new(false),
        });
        let first = match core.join().await {
            Ok(connection) => Some(connection),
            Err(Trouble::Wrong(why)) => return Err(why),
            Err(Trouble::Away(why)) => {
                core.state.failed(&why);
                warn!(
                    "{} cannot be used yet: {why}. Starting all the same; POSTs that other replicas have to take get 503",
                    core.way
                );
                None
            }
        };
        let tasks = vec![
            tokio::task::spawn(keeper::keep(Arc::clone(&core), first)),
            tokio::task::spawn(inbox::read(Arc::clone(&core))),
        ];
        Ok(Self {
            core,
            arrivals: Mutex::new(Some(arrivals)),
            tasks,
        })
    }

    pub(super) async fn hand_over(
        &self,
        owner: &ReplicaId,
        request: &Handed,
    ) -> Result<Reply, HandOverError> {
        let handed = self.core.hand_over(owner, request).await;
        let outcome = match &handed {
            Ok(_) => HandedOver::Answered,
            Err(HandOverError::OwnerGone) => HandedOver::OwnerGone,
            Err(HandOverError::Unreachable) => HandedOver::Unreachable,
            Err(HandOverError::NoAnswer) => HandedOver::NoAnswer,
            Err(HandOverError::TooLarge) => HandedOver::TooLarge,
            Err(HandOverError::Full) => HandedOver::Full,
        };
        self.core.metrics.handed_over.add(outcome, 1);
        handed
    }

    pub(super) fn arrivals(&self) -> Option<mpsc::Receiver<Arrived>> {
        let mut arrivals = self.arrivals.lock().unwrap_or_else(PoisonError::into_inner);
        arrivals.take()
    }

    pub(super) fn health(&self) -> StoreHealth {
        self.core.state.health()
    }

    /// Says that this replica is gone, if the Redis hears it soon.
    pub(super) async fn leave(&self) {
        let core = &self.core;
        core.leaving.store(true, Ordering::Release);
        // A heartbeat that is under way would undo it.
        let beating = timeout(PUT, core.beating.lock()).await;
        let shared = core.shared.borrow().clone();
        if let Some(mut shared) = shared {
            let keys = core.keys_of(core.desk.own());
            let keys = [keys.heartbeat.as_str(), keys.inbox.as_str()];
            let process = [core.desk.process().as_slice()];
            let left = core.leave.run(&mut shared.connection, &keys, &process);
            if !matches!(timeout(PUT, left).await, Ok(Ok(_))) {
                debug!("could not say that this replica is gone; its heartbeat runs out");
            }
        }
        drop(beating);
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl fmt::Debug for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Redis({})", self.core.way)
    }
}

/// The names of a replica's keys.
struct Keys {
    heartbeat: String,
    inbox: String,
}

impl Core {
    fn keys_of(&self, replica: &ReplicaId) -> Keys {
        let prefix = &self.prefix;
        Keys {
            heartbeat: format!("{{{prefix}:r:{replica}}}:hb"),
            inbox: format!("{{{prefix}:r:{replica}}}:in"),
        }
    }

    async fn hand_over(
        self: &Arc<Self>,
        owner: &ReplicaId,
        request: &Handed,
    ) -> Result<Reply, HandOverError> {
        let began = Instant::now();
        let mut ticket = self.desk.send(owner, request)?;
        loop {
            match self.put(owner, &ticket.entry, PUT).await {
                Put::Done => break,
                Put::Full => return Err(HandOverError::Full),
                Put::Failed { sent } => {
                    if sent {
                        self.withdraw(owner, &ticket);
                    }
                    return Err(HandOverError::Unreachable);
                }
                Put::Gone if began.elapsed() >= ANNOUNCE || self.is_steady().await => {
                    return Err(HandOverError::OwnerGone);
                }
                Put::Gone => sleep(ASK_AGAIN).await,
            }
        }
        match timeout(request.hold + ACK_GRACE, &mut ticket.reply).await {
            Ok(Ok(reply)) => Ok(reply),
            _ => {
                self.withdraw(owner, &ticket);
                Err(HandOverError::NoAnswer)
            }
        }
    }

    /// Tells the owner to leave a request that nobody waits for any more.
    fn withdraw(self: &Arc<Self>, owner: &ReplicaId, ticket: &Ticket) {
        let Ok(permit) = Arc::clone(&self.aside).try_acquire_owned() else {
            return;
        };
        let (core, owner, entry) = (Arc::clone(self), owner.clone(), ticket.withdrawal());
        tokio::task::spawn(async move {
            core.put(&owner, &entry, ACK_GRACE).await;
            drop(permit);
        });
    }

    /// Puts an entry into an inbox. When a connection fails meanwhile the next is used, if it comes in time: an entry that
    /// is put twice is taken once.
    async fn put(&self, to: &ReplicaId, entry: &[u8], within: Duration) -> Put {
        let deadline = Instant::now() + within;
        let mut sent = false;
        let put = self.put_until(deadline, to, entry, &mut sent);
        let put = timeout_at(deadline, put).await.ok();
        put.unwrap_or_else(|| {
            self.look.notify_one();
            Put::Failed { sent }
        })
    }

    async fn put_until(
        &self,
        deadline: Instant,
        to: &ReplicaId,
        entry: &[u8],
        sent: &mut bool,
    ) -> Put {
        let keys = self.keys_of(to);
        let keys = [keys.heartbeat.as_str(), keys.inbox.as_str()];
        let [most, life] = [MAX_INBOX.to_string(), INBOX_LIFE.as_millis().to_string()];
        loop {
            let mut shared = self.connected().await;
            let until = self.state.theirs_at(deadline).unwrap_or(0).to_string();
            let arguments = [entry, until.as_bytes(), most.as_bytes(), life.as_bytes()];
            *sent = true;
            match self
                .put
                .run(&mut shared.connection, &keys, &arguments)
                .await
            {
                Ok(Value::Int(1)) => return Put::Done,
                Ok(Value::Int(0)) => return Put::Gone,
                Ok(Value::Int(-1)) => return Put::Full,
                // Its clock is another than it was: a replica took over.
                Ok(Value::Int(now)) => match u64::try_from(now) {
                    Ok(now) => self.state.read_clock(now),
                    Err(_) => return Put::Failed { sent: false },
                },
                Ok(_) => return Put::Failed { sent: true },
                Err(error) => {
                    self.failed(&shared, &error.into());
                }
            }
        }
    }

    /// The connection that works, as soon as there is one.
    async fn connected(&self) -> Shared {
        let mut shared = self.shared.subscribe();
        loop {
            if let Some(shared) = shared.borrow_and_update().clone() {
                return shared;
            }
            if shared.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// A connection is not used again until the keeper has looked at it.
    fn failed(&self, failed: &Shared, why: &Trouble) {
        self.metrics.add(Counter::StoreErrors);
        debug!("{}: {why}", self.way);
        self.shared.send_if_modified(|shared| {
            let same = shared
                .as_ref()
                .is_some_and(|now| now.number == failed.number);
            if same {
                *shared = None;
            }
            same
        });
        self.look.notify_one();
    }

    /// Whether a heartbeat that is missing is missing because its replica is gone: the Redis has kept ours all the time, and
    /// still does. In a cluster ours may lie on another server, which says nothing.
    async fn is_steady(&self) -> bool {
        if self.way.is_cluster() {
            return false;
        }
        let fresh = |heard: Option<Duration>| heard.is_some_and(|ago| ago < ASK_AGAIN);
        if !fresh(self.state.heard().0) {
            let mut shared = self.connected().await;
            if self.beat(&mut shared.connection, false).await.is_err() {
                self.look.notify_one();
                return false;
            }
        }
        let since = self.state.heard().1;
        since.is_some_and(|since| since >= STEADY)
    }
}
