//! When the upstream is not there: fail at once instead of trying for every request, and keep repetitions in proportion.
//!
//! The breaker opens after [`FAILURES`] attempts to connect failed within [`WITHIN`], for [`OPEN`]; then one attempt
//! probes, and the others wait for what it finds. The allowance lets repetitions be a fifth of all exchanges and a few
//! more, so that a server in trouble is not asked twice for everything (a retry storm).

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
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

impl Breaker {
    /// Says why an exchange may not be tried now, if it may not.
    pub(super) fn objection(&self, repeated: bool) -> Option<String> {
        if self.troubled.load(Ordering::Relaxed)
            && let Some(why) = self.closed()
        {
            return Some(format!(
                "{why}; several attempts failed, the next is made within a second"
            ));
        }
        if repeated {
            let spend = |left: i64| (left >= SPENT).then_some(left - SPENT);
            let spent = self
                .allowance
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, spend);
            let refused = || "too many requests are being repeated already".to_owned();
            return spent.is_err().then(refused);
        }
        // Not exact under contention, which does no harm.
        if self.allowance.load(Ordering::Relaxed) < MOST {
            self.allowance.fetch_add(EARNED, Ordering::Relaxed);
        }
        None
    }

    /// Why the last attempt failed, if none may be made now.
    fn closed(&self) -> Option<String> {
        let now = Instant::now();
        let mut state = self.state();
        if now < state.closed_until? {
            return Some(state.why.clone());
        }
        // This one probes.
        state.closed_until = Some(now + PROBE);
        None
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

    /// Why nothing is tried now, if so. Unlike [`Self::objection`] it lets nothing through.
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
        let breaker = Breaker::default();
        for _ in 0..FAILURES {
            assert!(breaker.objection(false).is_none());
            breaker.failed("refused");
        }
        let why = breaker.objection(false).expect("it is open");
        assert!(why.starts_with("refused; "), "{why}");
        tokio::time::advance(OPEN).await;
        assert!(breaker.objection(false).is_none(), "a probe");
        assert!(breaker.objection(false).is_some(), "one only");
        breaker.failed("refused");
        assert!(breaker.objection(false).is_some());
        tokio::time::advance(OPEN).await;
        assert!(breaker.objection(false).is_none());
        breaker.succeeded();
        assert!(breaker.objection(false).is_none() && breaker.objection(false).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn it_knows_when_the_upstream_was_heard_last() {
        let breaker = Breaker::default();
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
        assert!(
            breaker.objection(false).is_none(),
            "the probe is still to be had"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn failures_far_apart_do_not_count_together() {
        let breaker = Breaker::default();
        for _ in 0..20 {
            breaker.failed("refused");
            assert!(breaker.objection(false).is_none());
            tokio::time::advance(WITHIN / 4).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_probe_that_never_ends_does_not_close_the_way_for_ever() {
        let breaker = Breaker::default();
        (0..FAILURES).for_each(|_| breaker.failed("refused"));
        tokio::time::advance(OPEN).await;
        assert!(breaker.objection(false).is_none());
        tokio::time::advance(PROBE).await;
        assert!(breaker.objection(false).is_none());
    }

    #[tokio::test]
    async fn repetitions_are_a_fifth_and_a_few_more() {
        let breaker = Breaker::default();
        let repeated = |count: usize| {
            (0..count)
                .filter(|_| breaker.objection(true).is_none())
                .count()
        };
        assert_eq!(repeated(1000), 100);
        (0..50).for_each(|_| assert!(breaker.objection(false).is_none()));
        assert_eq!(repeated(1000), 10);
    }
}
