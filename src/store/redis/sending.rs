//! Putting entries into the inboxes of others: requests, answers, withdrawals.

use std::sync::Arc;
use std::time::Duration;

use redis::{RedisError, Value};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tracing::debug;

use super::super::handover::{ACK_GRACE, Ticket};
use super::way::Trouble;
use super::{Core, HEARTBEAT, HandOverError, Handed, LONGEST_ANSWER, ReplicaId, Reply, Shared};
use crate::metrics::Counter;

/// Entries that an inbox holds; one more is refused.
const MAX_INBOX: usize = 10_000;
/// How long an inbox outlives the last entry that was put into it.
const INBOX_LIFE: Duration = Duration::from_secs(60);
/// How long a heartbeat may be missing, where the Redis itself may have lost it, before the replica is taken for gone.
const ANNOUNCE: Duration = Duration::from_secs(6);
/// When no heartbeat was missed for this long, one that is missing, or late, was not lost by the Redis.
const STEADY: Duration = Duration::from_secs(20);
/// A replica that gave no heartbeat for so long, and has not answered, is gone: two and a half were due.
const SILENT: Duration = Duration::from_secs(5);
const _: () = assert!(
    LONGEST_ANSWER.as_secs() < SILENT.as_secs(),
    "who waits for the word on one heartbeat gives the next in time"
);
/// How often it is asked for again meanwhile.
pub(super) const ASK_AGAIN: Duration = Duration::from_millis(250);

/// What became of an entry that was to be put into an inbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Put {
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

impl Core {
    pub(super) async fn hand_over(
        self: &Arc<Self>,
        owner: &ReplicaId,
        request: &Handed,
    ) -> Result<Reply, HandOverError> {
        let began = Instant::now();
        let mut strayed = false;
        loop {
            let mut ticket = self.deliver(owner, request, began).await?;
            match timeout(request.hold + ACK_GRACE, &mut ticket.reply).await {
                // Another process has the name now, or one of the two has slept. It has not taken the request, and never
                // will.
                Ok(Ok(reply)) if reply.is_astray() && !strayed => {
                    strayed = true;
                    self.times.forget(owner);
                }
                Ok(Ok(reply)) if !reply.is_astray() => return Ok(reply),
                _ => {
                    self.times.forget(owner);
                    self.withdraw(owner, &ticket);
                    let silent = timeout(self.patience, self.is_silent(owner)).await;
                    return Err(match silent {
                        Ok(true) => HandOverError::OwnerGone,
                        _ => HandOverError::NoAnswer,
                    });
                }
            }
        }
    }

    /// Puts a request into its owner's inbox; where its owner is missing, again until that says something. `began` is since
    /// when.
    async fn deliver(
        self: &Arc<Self>,
        owner: &ReplicaId,
        request: &Handed,
        began: Instant,
    ) -> Result<Ticket, HandOverError> {
        let mut deadline = Instant::now() + self.patience;
        let theirs = self.time_at(owner, deadline).await?;
        // One for all attempts: one whose outcome was lost may have been carried out, and of one number all but the first
        // are refused.
        let mut ticket = self.desk.send(owner, request, theirs)?;
        loop {
            match self.put(owner, &ticket.entry, deadline).await {
                Put::Done => {
                    // Another copy of the body, for as long as the answer takes.
                    drop(std::mem::take(&mut ticket.entry));
                    return Ok(ticket);
                }
                Put::Full => {
                    // Of an attempt before this one it may be there all the same.
                    self.withdraw(owner, &ticket);
                    return Err(HandOverError::Full);
                }
                Put::Failed { sent } => {
                    if sent {
                        self.withdraw(owner, &ticket);
                    }
                    return Err(HandOverError::Unreachable);
                }
                Put::Gone => {
                    let steady = timeout(self.patience, self.is_steady());
                    if began.elapsed() >= ANNOUNCE || steady.await.unwrap_or(false) {
                        self.times.forget(owner);
                        return Err(HandOverError::OwnerGone);
                    }
                    sleep(ASK_AGAIN).await;
                    deadline = Instant::now() + self.patience;
                }
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
            core.put(&owner, &entry, Instant::now() + ACK_GRACE).await;
            drop(permit);
        });
    }

    /// Puts an entry into an inbox. When a connection fails meanwhile the next is used, if it comes in time: an entry that
    /// is put twice is taken once.
    pub(super) async fn put(&self, to: &ReplicaId, entry: &[u8], deadline: Instant) -> Put {
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
                    Err(_) => return Put::Failed { sent: true },
                },
                Ok(_) => return Put::Failed { sent: true },
                Err(error) => self.stumbled(&shared, error).await,
            }
        }
    }

    /// The connection that works, as soon as there is one.
    pub(super) async fn connected(&self) -> Shared {
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

    /// A command failed. What is wrong with one key, or one slot of a cluster, is no reason to take the connection from all.
    pub(super) async fn stumbled(&self, shared: &Shared, error: RedisError) {
        if is_of_all(&error) {
            return self.failed(shared, &error.into());
        }
        self.metrics.add(Counter::StoreErrors);
        debug!("{}: {}", self.way, Trouble::from(error));
        sleep(ASK_AGAIN).await;
    }

    /// A connection is not used again until the keeper has looked at it.
    pub(super) fn failed(&self, failed: &Shared, why: &Trouble) {
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

    /// Whether a replica that does not answer has given no heartbeat for [`SILENT`] either. Ours is carried out before that
    /// is looked at: after a pause of the Redis so is one of its that waited.
    async fn is_silent(&self, replica: &ReplicaId) -> bool {
        if !self.is_steady().await {
            return false;
        }
        let mut shared = self.connected().await;
        let mut left = redis::cmd("PTTL");
        left.arg(self.keys_of(replica).heartbeat);
        match shared.connection.ask(&left).await {
            Ok(Value::Int(left)) => is_old(left),
            _ => false,
        }
    }

    /// Whether a heartbeat that is missing is missing because its replica is gone: the Redis has kept ours all the time, and
    /// still does. In a cluster ours may lie on another server, which says nothing.
    async fn is_steady(&self) -> bool {
        if self.way.is_cluster() {
            return false;
        }
        let fresh = || self.state.heard().0.is_some_and(|ago| ago < ASK_AGAIN);
        if !fresh() {
            let mut shared = self.connected().await;
            let beating = self.beating.lock().await;
            // One heartbeat does for all who waited for it.
            if !fresh() {
                let beat = self.beat_alone(&beating, &mut shared.connection, false);
                if beat.await.is_err() {
                    self.look.notify_one();
                    return false;
                }
            }
        }
        let since = self.state.heard().1;
        since.is_some_and(|since| since >= STEADY)
    }
}

/// Whether a heartbeat was given longer than [`SILENT`] ago, by how long it holds still, in milliseconds; less than 0 when
/// there is none any more.
fn is_old(left: i64) -> bool {
    u128::try_from(left).map_or(true, |left| left < (HEARTBEAT - SILENT).as_millis())
}

/// Whether an error says something of the connection, or of the server behind it, and not of one command.
fn is_of_all(error: &RedisError) -> bool {
    // Inside a script an older Redis puts words of its own before these.
    let server = ["READONLY", "LOADING", "MASTERDOWN"];
    let mut words = [error.code(), error.detail()].into_iter().flatten();
    error.is_io_error()
        || error.is_unrecoverable_error()
        || words.any(|words| server.iter().any(|what| words.contains(what)))
}

#[cfg(test)]
mod tests {
    use super::super::BEAT_EVERY;
    use super::*;

    #[test]
    fn a_heartbeat_is_old_when_the_ones_behind_it_did_not_come() {
        let silent = |time: Duration| {
            let left = HEARTBEAT.saturating_sub(time).as_millis();
            is_old(i64::try_from(left).expect("some seconds"))
        };
        // One is due, or was just late.
        assert!(!silent(BEAT_EVERY) && !silent(BEAT_EVERY * 2) && !silent(SILENT));
        assert!(silent(SILENT + Duration::from_millis(1)) && silent(HEARTBEAT));
        assert!(is_old(-2), "it has run out");
    }

    #[test]
    fn what_is_wrong_with_one_key_or_slot_is_not_wrong_with_the_connection() {
        let error = |said: &str| {
            let value = redis::parse_redis_value(format!("-{said}\r\n").as_bytes());
            let error = value.and_then(Value::extract_error);
            error.expect_err("it is one")
        };
        for (said, all) in [
            ("WRONGTYPE Operation against a key", false),
            ("ERR WRONGTYPE Operation against a key script: 1", false),
            ("CLUSTERDOWN Hash slot not served", false),
            ("TRYAGAIN Multiple keys request during rehashing", false),
            (
                "OOM command not allowed when used memory > 'maxmemory'",
                false,
            ),
            (
                "READONLY You can't write against a read only replica.",
                true,
            ),
            (
                "ERR Error running script (call to f_1): @user_script:8: -READONLY You can't",
                true,
            ),
            ("LOADING Redis is loading the dataset in memory", true),
            ("MASTERDOWN Link with MASTER is down", true),
        ] {
            assert_eq!(is_of_all(&error(said)), all, "{said}");
        }
        let broken = std::io::Error::from(std::io::ErrorKind::BrokenPipe);
        assert!(is_of_all(&broken.into()));
    }
}
