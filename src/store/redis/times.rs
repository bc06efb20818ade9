//! What time it is at other replicas, each by its own clock: read from their heartbeats, and let go on by the clock here.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use redis::Value;
use tokio::time::{Instant, timeout};

use super::{Core, HandOverError, ReplicaId};

/// Replicas whose time is known; with one more all are asked again.
const MAX_REPLICAS: usize = 1024;
/// How long it is believed that two clocks run alike.
const BELIEVED: Duration = Duration::from_secs(3600);

/// Their times in milliseconds, and when it was that here.
#[derive(Debug, Default)]
pub(super) struct Times(Mutex<HashMap<ReplicaId, (u64, Instant)>>);

impl Times {
    fn get(&self, replica: &ReplicaId) -> Option<u64> {
        let (theirs, ours) = *self.inner().get(replica)?;
        let passed = ours.elapsed();
        let millis = u64::try_from(passed.as_millis()).ok()?;
        (passed < BELIEVED).then_some(theirs.saturating_add(millis))
    }

    fn learn(&self, replica: &ReplicaId, theirs: u64) {
        let mut known = self.inner();
        if known.len() >= MAX_REPLICAS && !known.contains_key(replica) {
            known.clear();
        }
        known.insert(replica.clone(), (theirs, Instant::now()));
    }

    /// It is another process now perhaps.
    pub(super) fn forget(&self, replica: &ReplicaId) {
        self.inner().remove(replica);
    }

    fn inner(&self) -> MutexGuard<'_, HashMap<ReplicaId, (u64, Instant)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Core {
    /// What time it is at a replica: one command, the first time and every hour. 0 when there is no heartbeat that says it.
    pub(super) async fn time_at(&self, replica: &ReplicaId) -> Result<u64, HandOverError> {
        if let Some(theirs) = self.times.get(replica) {
            return Ok(theirs);
        }
        let read = timeout(self.patience, self.read_time(replica)).await;
        read.map_err(|_| {
            self.look.notify_one();
            HandOverError::Unreachable
        })
    }

    async fn read_time(&self, replica: &ReplicaId) -> u64 {
        let mut get = redis::cmd("GET");
        get.arg(self.keys_of(replica).heartbeat);
        loop {
            let mut shared = self.connected().await;
            match shared.connection.ask(&get).await {
                Ok(Value::BulkString(heartbeat)) => {
                    let theirs = self.desk.read_heartbeat(replica, &heartbeat);
                    if let Some(theirs) = theirs {
                        self.times.learn(replica, theirs);
                    }
                    return theirs.unwrap_or(0);
                }
                Ok(_) => return 0,
                Err(error) => self.failed(&shared, &error.into()),
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
        times.learn(&name("a"), 500);
        tokio::time::advance(Duration::from_secs(7)).await;
        assert_eq!(times.get(&name("a")), Some(7500));
        times.forget(&name("a"));
        assert_eq!(times.get(&name("a")), None);
        times.learn(&name("a"), 0);
        tokio::time::advance(BELIEVED).await;
        assert_eq!(times.get(&name("a")), None);
        times.forget(&name("a"));
        for number in 0..=MAX_REPLICAS {
            times.learn(&name(&format!("r{number}")), 0);
        }
        assert_eq!(times.inner().len(), 1);
    }
}
