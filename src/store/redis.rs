//! Replicas that meet in a Redis, or a Valkey: the only module that knows the crate `redis`.
//!
//! Each replica has two keys, `{PREFIX:r:REPLICA}:hb`, its heartbeat, and `{PREFIX:r:REPLICA}:in`, its inbox: a stream. What
//! is for a replica is put into its inbox by a script that looks first whether its heart beats (`scripts`); the replica waits
//! at its inbox on a connection of its own (`inbox`), and puts what it answers into the inbox of the one that asked. So a
//! request takes two scripts. What the entries say, and why a Redis that lies gains nothing, is `handover::desk`'s.
//!
//! What puts entries there is in `sending`. One task keeps a connection that all share, and the heartbeat on it (`keeper`);
//! what it asks before it uses a Redis is in `checks`, how one is reached in `way`. Nothing here is needed for the
//! connections of this process: when the Redis is away, only what would have been handed over fails.

mod checks;
mod inbox;
mod keeper;
mod scripts;
mod sending;
mod state;
mod times;
mod way;

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, Semaphore, mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use tracing::{debug, info, warn};

use super::handover::{ARRIVALS, Arrived, Desk, MAX_HANDED};
use super::seal::Sealer;
use super::{HandOverError, Handed, ReplicaId, Reply, StoreHealth};
use crate::config::RedisAddress;
use crate::metrics::Metrics;
use crate::metrics::labels::HandedOver;
use scripts::Script;
use state::State;
use times::Times;
use way::{Connection, Trouble, Way};

/// How long it may take to say goodbye.
const LEAVE: Duration = Duration::from_millis(500);
/// How long a heartbeat holds, and the canary; how often it is given.
const HEARTBEAT: Duration = Duration::from_secs(15);
const BEAT_EVERY: Duration = Duration::from_secs(2);
/// The longest that an answer is waited for that is no hand-over's, however long the Redis may take for those: what did not
/// come is asked again before this replica is taken for gone.
const LONGEST_ANSWER: Duration = Duration::from_secs(4);
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
    /// How long the Redis may take to put a request into an inbox (`--store-timeout`).
    patience: Duration,
    desk: Arc<Desk>,
    sealer: Arc<Sealer>,
    metrics: Arc<Metrics>,
    put: Script,
    beat: Script,
    leave: Script,
    canary: Script,
    /// The canary that was last seen to be in order, as it lies there.
    opened: Mutex<Option<Vec<u8>>>,
    /// The connection that works, while there is one.
    shared: watch::Sender<Option<Shared>>,
    /// Which connection the keeper keeps; 0 while it has none, and so no proof that this replica's inbox is its own.
    kept: watch::Sender<u64>,
    state: State,
    /// Something went wrong: the keeper looks now, not at its next heartbeat.
    look: Notify,
    /// One heartbeat at a time.
    beating: tokio::sync::Mutex<()>,
    arrivals: mpsc::Sender<Arrived>,
    serving: Arc<Semaphore>,
    aside: Arc<Semaphore>,
    leaving: AtomicBool,
    /// When this process began to tell its time.
    began: Instant,
    times: Times,
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
        patience: Duration,
        sealer: Arc<Sealer>,
        own: ReplicaId,
        metrics: Arc<Metrics>,
    ) -> Result<Self, String> {
        let desk = Desk::new(Arc::clone(&sealer), own).map_err(|error| error.to_string())?;
        let (sender, arrivals) = mpsc::channel(ARRIVALS);
        let way = Way::new(address, patience.min(LONGEST_ANSWER));
        let core = Core::new(way, prefix, patience, desk, sealer, metrics, sender);
        let core = Arc::new(core);
        let first = core.join().await;
        match &first {
            Ok(connection) => {
                let own = core.desk.own();
                info!("this replica, {own}, meets others at {}", core.way);
                // Now, so that what comes before the keeper's first look finds it.
                core.shared.send_replace(Some(Shared {
                    number: 1,
                    connection: connection.clone(),
                }));
            }
            Err(Trouble::Wrong(why)) => return Err(why.clone()),
            Err(Trouble::Away(why)) => {
                core.state.failed(why);
                warn!(
                    "{} cannot be used yet: {why}. Starting all the same; POSTs that other replicas have to take get 503",
                    core.way
                );
            }
        }
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
        let beating = timeout(LEAVE, core.beating.lock()).await;
        let shared = core.shared.borrow().clone();
        if let Some(mut shared) = shared {
            let keys = core.keys_of(core.desk.own());
            let keys = [keys.heartbeat.as_str(), keys.inbox.as_str()];
            let process = [core.desk.process().as_slice()];
            let left = core.leave.run(&mut shared.connection, &keys, &process);
            if !matches!(timeout(LEAVE, left).await, Ok(Ok(_))) {
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
    fn new(
        way: Way,
        prefix: String,
        patience: Duration,
        desk: Desk,
        sealer: Arc<Sealer>,
        metrics: Arc<Metrics>,
        arrivals: mpsc::Sender<Arrived>,
    ) -> Self {
        Self {
            way,
            prefix,
            patience,
            desk: Arc::new(desk),
            sealer,
            metrics,
            put: Script::new(scripts::PUT),
            beat: Script::new(scripts::BEAT),
            leave: Script::new(scripts::LEAVE),
            canary: Script::new(scripts::CANARY),
            opened: Mutex::default(),
            shared: watch::Sender::new(None),
            kept: watch::Sender::new(0),
            state: State::default(),
            look: Notify::new(),
            beating: tokio::sync::Mutex::default(),
            arrivals,
            serving: Arc::new(Semaphore::new(MAX_HANDED)),
            aside: Arc::new(Semaphore::new(MAX_ASIDE)),
            leaving: AtomicBool::new(false),
            began: Instant::now(),
            times: Times::default(),
        }
    }

    /// What time it is here, in milliseconds.
    fn time(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn keys_of(&self, replica: &ReplicaId) -> Keys {
        let prefix = &self.prefix;
        Keys {
            heartbeat: format!("{{{prefix}:r:{replica}}}:hb"),
            inbox: format!("{{{prefix}:r:{replica}}}:in"),
        }
    }
}
