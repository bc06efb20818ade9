//! Which process each of the other replicas is, and what time it is there by its own clock: read from their heartbeats, and
//! let go on by the clock here.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use redis::Value;
use tokio::time::{Instant, timeout_at};

use super::super::handover::Process;
use super::{Core, HandOverError, ReplicaId};

/// Replicas whose time is known; with one more all are asked again.
const MAX_REPLICAS: usize = 1024;
/// How long it is believed that two clocks run alike.
const BELIEVED: Duration = Duration::from_secs(3600);

/// What is said to a replica that no heartbeat tells of: no process has this name, so that none takes it.
const UNKNOWN: (Process, u64) = ([0; 16], 0);

#[derive(Debug)]
struct Heard {
    process: Process,
    /// In milliseconds.
    theirs: u64,
    /// When it was that here.
    ours: Instant,
}

#[derive(Debug, Default)]
pub(super) struct Times(Mutex<HashMap<ReplicaId, Heard>>);

impl Times {
    fn get(&self, replica: &ReplicaId) -> Option<(Process, u64)> {
        let known = self.inner();
        let heard = known.get(replica)?;
        let passed = heard.ours.elapsed();
        let millis = u64::try_from(passed.as_millis()).ok()?;
        let now = heard.theirs.saturating_add(millis);
        (passed < BELIEVED).then_some((heard.process, now))
    }

    fn learn(&self, replica: &ReplicaId, (process, theirs): (Process, u64)) {
        let mut known = self.inner();
        if known.len() >= MAX_REPLICAS && !known.contains_key(replica) {
            known.clear();
        }
        let heard = Heard {
            process,
            theirs,
            ours: Instant::now(),
        };
        known.insert(replica.clone(), heard);
    }

    /// It is another process now perhaps.
    pub(super) fn forget(&self, replica: &ReplicaId) {
        self.inner().remove(replica);
    }

    fn inner(&self) -> MutexGuard<'_, HashMap<ReplicaId, Heard>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Core {
    /// Which process a replica is, and what time it is there: one command, the first time and every hour. [`UNKNOWN`] when
    /// there is no heartbeat that says it.
    pub(super) async fn time_at(
        &self,
        replica: &ReplicaId,
        deadline: Instant,
    ) -> Result<(Process, u64), HandOverError> {
        if let Some(known) = self.times.get(replica) {
            return Ok(known);
        }
        let read = timeout_at(deadline, self.read_time(replica)).await;
        read.map_err(|_| {
            self.look.notify_one();
            HandOverError::Unreachable
        })
    }

    async fn read_time(&self, replica: &ReplicaId) -> (Process, u64) {
        let mut get = redis::cmd("GET");
        get.arg(self.keys_of(replica).heartbeat);
        loop {
            let mut shared = self.connected().await;
            match shared.connection.ask(&get).await {
                Ok(Value::BulkString(heartbeat)) => {
                    let heard = self.desk.read_heartbeat(replica, &heartbeat);
                    if let Some(heard) = heard {
                        self.times.learn(replica, heard);
                    }
                    return heard.unwrap_or(UNKNOWN);
                }
                Ok(_) => return UNKNOWN,
                Err(error) => self.stumbled(&shared, error).await,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_time_goes_on_until_it_is_too_old_or_forgotten() {
        let times = Times::default();
        let name = |text: &str| ReplicaId::parse(text).expect("a name");
        assert_eq!(times.get(&name("a")), None);
        let process = [1; 16];
        times.learn(&name("a"), (process, 500));
        tokio::time::advance(Duration::from_secs(7)).await;
        assert_eq!(times.get(&name("a")), Some((process, 7500)));
        times.forget(&name("a"));
        assert_eq!(times.get(&name("a")), None);
        times.learn(&name("a"), (process, 0));
        tokio::time::advance(BELIEVED).await;
        assert_eq!(times.get(&name("a")), None);
        times.forget(&name("a"));
        for number in 0..=MAX_REPLICAS {
            times.learn(&name(&format!("r{number}")), (process, 0));
        }
        assert_eq!(times.inner().len(), 1);
    }
}
