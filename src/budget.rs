//! The memory that all legacy connections together may hold for messages, and how near the process is to it.
//!
//! Each connection has bounds of its own; a thousand of them at their bounds would still be too much. So every
//! connection says how much it holds, and when the sum comes near `--max-buffered` the ferry sheds load: first new
//! streams, then new messages, then clients that do not read. Nothing here knows what the bytes are.
//!
//! The bound is not on the process's memory. Beside what is counted each connection has what one turn of reading brings
//! on top of a full buffer (at most 128 KiB of the upstream's answer), its socket buffers, and up to [`GRAIN`]; the formula,
//! and the test that holds the process to it with clients that do not read, are in `tests/SOAK.md`.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What one holder has below this, in bytes, is not counted, so that small messages cost no shared write.
pub const GRAIN: usize = 16 * 1024;

/// How near the process is to its bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pressure {
    /// Far from it.
    Calm,
    /// Above 85 %: no new streams.
    High,
    /// Above 95 %: no new messages, and no patience with clients that do not read.
    Critical,
}

/// The bytes that may be held, and those that are.
#[derive(Debug)]
pub struct Budget {
    limit: usize,
    held: AtomicUsize,
}

impl Budget {
    /// A budget of `limit` bytes.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self {
            limit,
            held: AtomicUsize::new(0),
        }
    }

    /// Bytes that are held, as far as they are counted.
    #[must_use]
    pub fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    /// How near the bound is.
    #[must_use]
    pub fn pressure(&self) -> Pressure {
        let held = self.held();
        if held > self.limit / 100 * 95 {
            Pressure::Critical
        } else if held > self.limit / 100 * 85 {
            Pressure::High
        } else {
            Pressure::Calm
        }
    }
}

/// What one holder holds; it is given back when this is dropped.
#[derive(Debug)]
pub struct Share {
    budget: Arc<Budget>,
    /// Whole grains.
    counted: usize,
}

impl Share {
    /// A holder that holds nothing yet.
    #[must_use]
    pub fn new(budget: &Arc<Budget>) -> Self {
        Self {
            budget: Arc::clone(budget),
            counted: 0,
        }
    }

    /// Says how many bytes are held now.
    pub fn set(&mut self, bytes: usize) {
        let counted = bytes / GRAIN * GRAIN;
        if counted > self.counted {
            let more = counted - self.counted;
            self.budget.held.fetch_add(more, Ordering::Relaxed);
        } else if counted < self.counted {
            let less = self.counted - counted;
            self.budget.held.fetch_sub(less, Ordering::Relaxed);
        }
        self.counted = counted;
    }

    /// How near the bound is.
    #[must_use]
    pub fn pressure(&self) -> Pressure {
        self.budget.pressure()
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.set(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_add_up_and_are_given_back() {
        let budget = Arc::new(Budget::new(100 * GRAIN));
        let mut one = Share::new(&budget);
        one.set(GRAIN - 1);
        assert_eq!(budget.held(), 0, "small change is not counted");
        one.set(86 * GRAIN + 5);
        assert_eq!(
            (budget.held(), budget.pressure()),
            (86 * GRAIN, Pressure::High)
        );
        let mut two = Share::new(&budget);
        two.set(10 * GRAIN);
        assert_eq!(two.pressure(), Pressure::Critical);
        one.set(3 * GRAIN);
        assert_eq!(
            (budget.held(), budget.pressure()),
            (13 * GRAIN, Pressure::Calm)
        );
        drop((one, two));
        assert_eq!(budget.held(), 0);
    }
}
