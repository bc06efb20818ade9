//! The task that keeps a connection to the Redis, and on it the heartbeat of this replica.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};
use tracing::{error, info, warn};

use super::way::{Connection, Trouble};
use super::{BEAT_EVERY, Core, Shared};
use crate::metrics::Counter;

/// How long the first and the longest wait before the next attempt to connect is; each is twice the one before.
const FIRST_WAIT: Duration = Duration::from_millis(50);
pub(super) const LONGEST_WAIT: Duration = Duration::from_secs(3);
/// How long one answer on a connection that all share may take, where `--store-timeout` is not more.
const ANSWER: Duration = Duration::from_secs(2);
/// Looks between two heartbeats are so far apart at least.
const LOOK_APART: Duration = Duration::from_millis(100);

/// How long to wait before trying again. A part of it is random, so that replicas do not all come at once when a Redis
/// comes back.
pub(super) struct Backoff(Duration);

impl Backoff {
    pub(super) fn new() -> Self {
        Self(FIRST_WAIT)
    }

    pub(super) fn next(&mut self) -> Duration {
        let most = self.0;
        self.0 = (most * 2).min(LONGEST_WAIT);
        let mut random = [0; 4];
        // Without randomness all wait alike, which is no harm but a crowd.
        getrandom::fill(&mut random).ok();
        let part = f64::from(u32::from_be_bytes(random)) / f64::from(u32::MAX);
        most.mul_f64(0.5 + part / 2.0)
    }
}

/// Runs as long as the store is there. `first` is a connection on which all checks were made, or why there is none, which has
/// been said.
pub(super) async fn keep(core: Arc<Core>, first: Result<Connection, Trouble>) {
    let mut backoff = Backoff::new();
    let mut joined = first;
    let mut number = 0;
    let mut up = true;
    loop {
        let trouble = match joined {
            Ok(connection) => {
                number += 1;
                if number > 1 || !up {
                    info!("{} can be used", core.way);
                }
                up = true;
                backoff = Backoff::new();
                core.kept.send_replace(number);
                let why = core.tend(Shared { number, connection }).await;
                core.kept.send_replace(0);
                core.metrics.add(Counter::StoreErrors);
                why
            }
            Err(why) => why,
        };
        core.shared.send_replace(None);
        let why = trouble.to_string();
        if core.state.failed(&why) {
            match trouble {
                Trouble::Away(_) if up => warn!(
                    "{} cannot be used: {why}. POSTs for other replicas get 503",
                    core.way
                ),
                Trouble::Away(_) => {}
                Trouble::Wrong(_) => error!("{} cannot be used: {why}", core.way),
            }
        }
        up = false;
        sleep(backoff.next()).await;
        joined = core.rejoin(number > 0).await;
    }
}

impl Core {
    /// A new connection. Once all checks were made, only those that matter from one moment to the next are.
    async fn rejoin(&self, checked: bool) -> Result<Connection, Trouble> {
        if !checked {
            return self.join().await;
        }
        let mut connection = self.way.open(ANSWER.max(self.patience)).await?;
        self.look_at(&mut connection).await?;
        Ok(connection)
    }

    /// Lets all use a connection as long as it works, and says why it does not any more.
    async fn tend(&self, shared: Shared) -> Trouble {
        let mut connection = shared.connection.clone();
        let mut last = Instant::now();
        loop {
            self.shared.send_if_modified(|now| {
                let news = now.is_none();
                *now = Some(shared.clone());
                news
            });
            tokio::select! {
                () = sleep_until(last + BEAT_EVERY) => {}
                () = self.look.notified() => sleep_until(last + LOOK_APART).await,
            }
            last = Instant::now();
            if let Err(why) = self.look_at(&mut connection).await {
                return why;
            }
        }
    }

    async fn look_at(&self, connection: &mut Connection) -> Result<(), Trouble> {
        if self.beat(connection, false).await?.is_some() {
            let own = self.desk.own();
            let why = format!("another process has taken the name '{own}' of this replica");
            return Err(Trouble::Wrong(why));
        }
        self.check_keys(connection, false).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_a_bound_and_are_not_all_the_same() {
        let mut backoff = Backoff::new();
        let waits: Vec<_> = (0..20).map(|_| backoff.next()).collect();
        for (index, wait) in waits.iter().enumerate() {
            let most = LONGEST_WAIT.min(FIRST_WAIT * 2u32.saturating_pow(index as u32));
            assert!(*wait >= most / 2 && *wait <= most, "{index}: {wait:?}");
        }
        let last = &waits[10..];
        assert!(last.iter().any(|wait| *wait != last[0]));
    }
}
