//! Counting what is open, with a bound, and waiting until nothing is.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

/// How many of something are open.
#[derive(Debug, Default)]
pub(super) struct Gauge {
    open: AtomicUsize,
    emptied: Notify,
}

/// One that is open, until it is dropped.
#[derive(Debug)]
pub(super) struct Held(Arc<Gauge>);

impl Gauge {
    /// Opens one more, unless `most` are open.
    pub(super) fn hold(self: &Arc<Self>, most: usize) -> Option<Held> {
        let add = |open: usize| (open < most).then_some(open + 1);
        self.open
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, add)
            .ok()
            .map(|_| Held(Arc::clone(self)))
    }

    pub(super) fn open(&self) -> usize {
        self.open.load(Ordering::Acquire)
    }

    /// Waits until none is open.
    pub(super) async fn empty(&self) {
        loop {
            let emptied = self.emptied.notified();
            if self.open() == 0 {
                return;
            }
            emptied.await;
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if self.0.open.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.emptied.notify_waiters();
        }
    }
}
