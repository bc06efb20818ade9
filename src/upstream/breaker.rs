//! When the upstream is not there: fail at once instead of trying for every request, and keep repetitions in proportion.
//!
//! The breaker opens after [`FAILURES`] attempts to connect failed within [`WITHIN`], for [`OPEN`]; then one attempt
//! probes, and the others wait for what it finds. The allowance lets repetitions be a fifth of all exchanges and a few
//! more, so that a server in trouble is not asked twice for everything (a retry storm).

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Failed attempts to connect that open the breaker.
const FAILURES: usize = 5;
/// The time in which they count.
const WITHIN: Duration = Duration::from_secs(10);
/// How long it stays open before a probe: less than the pause between the later attempts of one request, so that it
/// never takes the last of them from a request that waits for an upstream to come back.
const OPEN: Duration = Duration::from_millis(500);
/// How long a probe may take before another is let through.
const PROBE: Duration = Duration::from_secs(5);

/// What one exchange adds to the allowance, and what a repetition takes from it: one in five may be repeated.
const EARNED: i64 = 1;
const SPENT: i64 = 5;
/// The most that the allowance holds, and what it begins with: a hundred repetitions, so that a restart of the upstream
/// under many connections is survived.
const MOST: i64 = 100 * SPENT;

#[derive(Debug, Default)]
struct State {
    failures: VecDeque<Instant>,
    /// Nothing is tried before this, while the breaker is open.
    closed_until: Option<Instant>,
    /// Why the last attempt failed.
    why: String,
}

/// The state of the way to the upstream, shared by all connections.
#[derive(Debug)]
pub(super) struct Breaker {
    /// Whether there are failures to think of at all: most of the time one look at this is enough.
    troubled: AtomicBool,
    state: Mutex<State>,
    allowance: AtomicI64,
    began: Instant,
    /// Milliseconds after `began`, when the upstream was heard last.
    heard: AtomicU64,
}

/// The upstream was never heard.
const NEVER: u64 = u64::MAX;

impl Default for Breaker {
    fn default() -> Self {
        Self {
            troubled: AtomicBool::new(false),
            state: Mutex::default(),
            allowance: AtomicI64::new(MOST),
            began: Instant::now(),
            heard: AtomicU64::new(NEVER),
        }
    }
}

/// The leave to try an exchange; the one that probes is dropped when it is over, however.
#[derive(Debug)]
pub(super) struct Leave(Option<(Arc<Breaker>, Instant)>);

impl Drop for Leave {
    /// A probe that was given up before it found anything out, as where its client left, makes room for the next.
    fn drop(&mut self) {
        if let Some((breaker, until)) = self.0.take() {
            let mut state = breaker.state();
            if state.closed_until == Some(until) {
                state.closed_until = Some(Instant::now());
            }
        }
    }
}

impl Breaker {
    /// Leave to try an exchange now, or why it may not be tried. The leave is kept until the exchange is answered or over.
    pub(super) fn leave(self: &Arc<Self>, repeated: bool) -> Result<Leave, String> {
        let mut probes = None;
        if self.troubled.load(Ordering::Relaxed) {
            probes = self.probe().map_err(|why| {
                format!("{why}; several attempts failed, the next is made within a second")
            })?;
        }
        let leave = Leave(probes.map(|until| (Arc::clone(self), until)));
        self.allow(repeated)?;
        Ok(leave)
    }

    fn allow(&self, repeated: bool) -> Result<(), String> {
        if repeated {
            let spend = |left: i64| (left >= SPENT).then_some(left - SPENT);
            let spent = self
                .allowance
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, spend);
            let refused = |_| "too many requests are being repeated already".to_owned();
            return spent.map(drop).map_err(refused);
        }
        // Not exact under contention, which does no harm.
        if self.allowance.load(Ordering::Relaxed) < MOST {
            self.allowance.fetch_add(EARNED, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Until when this exchange probes, if it does; why the last attempt failed where none may be made now.
    fn probe(&self) -> Result<Option<Instant>, String> {
        let now = Instant::now();
        let mut state = self.state();
        let Some(until) = state.closed_until else {
            return Ok(None);
        };
        if now < until {
            return Err(state.why.clone());
        }
        state.closed_until = Some(now + PROBE);
        Ok(state.closed_until)
    }

    /// An attempt to connect failed.
    pub(super) fn failed(&self, why: &str) {
        let now = Instant::now();
        let mut state = self.state();
        why.clone_into(&mut state.why);
        while state.failures.front().is_some_and(|at| *at + WITHIN <= now) {
            state.failures.pop_front();
        }
        state.failures.push_back(now);
        if state.failures.len() >= FAILURES {
            state.failures.pop_front();
            state.closed_until = Some(now + OPEN);
        }
        self.troubled.store(true, Ordering::Relaxed);
    }

    /// The upstream took a connection, or answered.
    pub(super) fn succeeded(&self) {
        self.heard.store(self.age(), Ordering::Relaxed);
        if self.troubled.load(Ordering::Relaxed) {
            let mut state = self.state();
            *state = State::default();
            self.troubled.store(false, Ordering::Relaxed);
        }
    }

    fn age(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(NEVER - 1)
    }

    /// Why nothing is tried now, if so. Unlike [`Self::leave`] it lets nothing through.
    pub(super) fn is_open(&self) -> Option<String> {
        if !self.troubled.load(Ordering::Relaxed) {
            return None;
        }
        let state = self.state();
        (Instant::now() < state.closed_until?).then(|| state.why.clone())
    }

    /// Whether the upstream was heard in this time, and nothing went wrong since.
    pub(super) fn heard_within(&self, time: Duration) -> bool {
        let heard = self.heard.load(Ordering::Relaxed);
        let time = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        self.is_up() == Some(true) && self.age() <= heard.saturating_add(time)
    }

    /// Whether the last attempt went well; `None` before the first.
    pub(super) fn is_up(&self) -> Option<bool> {
        let heard = self.heard.load(Ordering::Relaxed) != NEVER;
        match self.troubled.load(Ordering::Relaxed) {
            true => Some(false),
            false => heard.then_some(true),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn five_failures_open_it_for_a_second_and_one_probe_decides() {
        let breaker = Arc::new(Breaker::default());
        for _ in 0..FAILURES {
            assert!(breaker.leave(false).is_ok());
            breaker.failed("refused");
        }
        let why = breaker.leave(false).expect_err("it is open");
        assert!(why.starts_with("refused; "), "{why}");
        tokio::time::advance(OPEN).await;
        let probe = breaker.leave(false).expect("a probe");
        assert!(breaker.leave(false).is_err(), "one only");
        breaker.failed("refused");
        drop(probe);
        assert!(breaker.leave(false).is_err());
        tokio::time::advance(OPEN).await;
        let _probe = breaker.leave(false).expect("another");
        breaker.succeeded();
        assert!(breaker.leave(false).is_ok() && breaker.leave(false).is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn it_knows_when_the_upstream_was_heard_last() {
        let breaker = Arc::new(Breaker::default());
        let within = |seconds| breaker.heard_within(Duration::from_secs(seconds));
        assert!(breaker.is_up().is_none() && !within(10));
        breaker.succeeded();
        assert!(breaker.is_up() == Some(true) && within(10));
        tokio::time::advance(Duration::from_secs(11)).await;
        assert!(breaker.is_up() == Some(true) && !within(10));
        breaker.succeeded();
        breaker.failed("refused");
        assert!(breaker.is_up() == Some(false) && !within(10));
        assert_eq!(breaker.is_open(), None, "once is no pattern");
        (1..FAILURES).for_each(|_| breaker.failed("refused"));
        assert_eq!(breaker.is_open().as_deref(), Some("refused"));
        tokio::time::advance(OPEN).await;
        assert_eq!(breaker.is_open(), None);
        assert!(breaker.leave(false).is_ok(), "the probe is still to be had");
    }

    #[tokio::test(start_paused = true)]
    async fn failures_far_apart_do_not_count_together() {
        let breaker = Arc::new(Breaker::default());
        for _ in 0..20 {
            breaker.failed("refused");
            assert!(breaker.leave(false).is_ok());
            tokio::time::advance(WITHIN / 4).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_probe_that_never_ends_does_not_close_the_way_for_ever() {
        let breaker = Arc::new(Breaker::default());
        (0..FAILURES).for_each(|_| breaker.failed("refused"));
        tokio::time::advance(OPEN).await;
        let first = breaker.leave(false).expect("a probe");
        tokio::time::advance(PROBE).await;
        let second = breaker.leave(false).expect("another");
        drop(first);
        assert!(breaker.leave(false).is_err(), "the second still probes");
        drop(second);
    }

    #[tokio::test(start_paused = true)]
    async fn a_probe_that_is_given_up_makes_room_for_the_next() {
        let breaker = Arc::new(Breaker::default());
        (0..FAILURES).for_each(|_| breaker.failed("refused"));
        tokio::time::advance(OPEN).await;
        drop(breaker.leave(false).expect("a probe"));
        let _next = breaker.leave(false).expect("its client left");
        assert!(breaker.leave(false).is_err());
    }

    #[tokio::test]
    async fn repetitions_are_a_fifth_and_a_few_more() {
        let breaker = Arc::new(Breaker::default());
        let repeated = |count: usize| (0..count).filter(|_| breaker.leave(true).is_ok()).count();
        assert_eq!(repeated(1000), 100);
        (0..50).for_each(|_| assert!(breaker.leave(false).is_ok()));
        assert_eq!(repeated(1000), 10);
    }
}
