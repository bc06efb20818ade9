//! What is known of the Redis now: its time, whether it can be used, and since when without interruption.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::store::StoreHealth;

/// How long an entry may lie in an inbox before it is refused, by the clock of the Redis alone.
const MAX_AGE: Duration = Duration::from_secs(10);

/// The time there, in milliseconds since 1970, and when it was that here.
#[derive(Clone, Copy, Debug)]
struct Reading {
    theirs: u64,
    ours: Instant,
}

#[derive(Debug, Default)]
struct Inner {
    reading: Option<Reading>,
    /// Since when this replica's heartbeat has never been missing there.
    steady_since: Option<Instant>,
    beat: Option<Instant>,
    trouble: Option<String>,
    /// Why this replica's inbox cannot be read, and whether it failed once.
    inbox: Option<String>,
    missed: bool,
}

#[derive(Debug, Default)]
pub(super) struct State(Mutex<Inner>);

impl State {
    /// The Redis said what time it is there.
    pub(super) fn read_clock(&self, theirs: u64) {
        let ours = Instant::now();
        self.inner().reading = Some(Reading { theirs, ours });
    }

    /// What time it will be there at a moment of ours; `None` before it was asked.
    pub(super) fn theirs_at(&self, moment: Instant) -> Option<u64> {
        let Reading { theirs, ours } = self.inner().reading?;
        let later = moment.saturating_duration_since(ours);
        let earlier = ours.saturating_duration_since(moment);
        Some(
            theirs
                .saturating_add(millis(later))
                .saturating_sub(millis(earlier)),
        )
    }

    /// Whether what was put there at this time of theirs has lain there too long.
    pub(super) fn is_late(&self, put: u64) -> bool {
        let now = self.theirs_at(Instant::now());
        now.is_some_and(|now| now.saturating_sub(put) > millis(MAX_AGE))
    }

    /// A heartbeat was heard; `kept` when the one before was still there.
    pub(super) fn beaten(&self, kept: bool) {
        let now = Instant::now();
        let mut inner = self.inner();
        inner.beat = Some(now);
        inner.trouble = None;
        if !kept || inner.steady_since.is_none() {
            inner.steady_since = Some(now);
        }
    }

    /// It cannot be used now. Whether that is news.
    pub(super) fn failed(&self, why: &str) -> bool {
        let mut inner = self.inner();
        inner.steady_since = None;
        let news = inner.trouble.as_deref() != Some(why);
        inner.trouble = Some(why.to_owned());
        news
    }

    /// This replica's inbox could not be read. Whether that is news: not the first time, because what ends all connections is
    /// the keeper's to tell.
    pub(super) fn unread(&self, why: &str) -> bool {
        let mut inner = self.inner();
        let again = std::mem::replace(&mut inner.missed, true);
        let news = again && inner.inbox.as_deref() != Some(why);
        if news {
            inner.inbox = Some(why.to_owned());
        }
        news
    }

    /// This replica's inbox was read.
    pub(super) fn read(&self) {
        let mut inner = self.inner();
        inner.inbox = None;
        inner.missed = false;
    }

    /// How long ago the last heartbeat was heard, and since when none was missing.
    pub(super) fn heard(&self) -> (Option<Duration>, Option<Duration>) {
        let inner = self.inner();
        let ago = |at: Instant| at.elapsed();
        (inner.beat.map(ago), inner.steady_since.map(ago))
    }

    pub(super) fn health(&self) -> StoreHealth {
        let inner = self.inner();
        match inner.trouble.as_ref().or(inner.inbox.as_ref()) {
            None => StoreHealth::Good,
            Some(why) => StoreHealth::Degraded(why.clone()),
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn only_the_clock_of_the_redis_says_what_is_late() {
        // An hour away from any clock here.
        const THEN: u64 = 1_700_000_000_000;
        let state = State::default();
        assert!(!state.is_late(0), "nothing is known yet");
        state.read_clock(THEN);
        assert!(!state.is_late(THEN - 10_000) && state.is_late(THEN - 10_001));
        assert!(!state.is_late(THEN + 3_600_000), "from the future");
        tokio::time::advance(Duration::from_secs(4)).await;
        assert!(!state.is_late(THEN - 6_000) && state.is_late(THEN - 6_001));
        let now = Instant::now();
        assert_eq!(state.theirs_at(now), Some(THEN + 4_000));
        assert_eq!(state.theirs_at(now + MAX_AGE), Some(THEN + 14_000));
        state.read_clock(THEN - 3_600_000);
        assert!(!state.is_late(THEN), "it was set back, by another server");
    }

    #[test]
    fn an_inbox_that_fails_twice_in_a_row_is_trouble_until_it_is_read() {
        let state = State::default();
        let inbox = || StoreHealth::Degraded("wrong type".to_owned());
        assert!(!state.unread("wrong type"));
        assert_eq!(state.health(), StoreHealth::Good);
        state.read();
        assert!(!state.unread("wrong type") && state.unread("wrong type"));
        assert!(!state.unread("wrong type"), "it was said");
        assert_eq!(state.health(), inbox());
        state.beaten(true);
        assert_eq!(state.health(), inbox(), "the heart beats all the same");
        state.failed("gone");
        assert_eq!(state.health(), StoreHealth::Degraded("gone".to_owned()));
        state.beaten(true);
        state.read();
        assert_eq!(state.health(), StoreHealth::Good);
    }

    #[tokio::test(start_paused = true)]
    async fn steady_is_what_never_missed_a_heartbeat() {
        let state = State::default();
        let steady = || state.heard().1;
        let pass = || tokio::time::advance(Duration::from_secs(5));
        state.beaten(false);
        pass().await;
        state.beaten(true);
        assert_eq!(steady(), Some(Duration::from_secs(5)));
        state.beaten(false);
        assert_eq!(steady(), Some(Duration::ZERO), "it was emptied");
        pass().await;
        assert!(state.failed("gone") && !state.failed("gone"));
        assert_eq!(steady(), None);
        assert_eq!(state.health(), StoreHealth::Degraded("gone".to_owned()));
        state.beaten(true);
        assert_eq!(steady(), Some(Duration::ZERO));
        assert_eq!(state.health(), StoreHealth::Good);
    }
}
