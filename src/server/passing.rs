//! What passed-through requests take, for the metrics: until the head of the answer, and until its end.

use std::sync::Arc;

use tokio::time::Instant;

use crate::metrics::Metrics;
use crate::metrics::labels::{Direction, Status};

/// One request that passes. When its answer has a head and it is dropped, it is over.
#[derive(Debug)]
pub(super) struct Clocked {
    metrics: Arc<Metrics>,
    begun: Instant,
    status: Option<Status>,
}

impl Clocked {
    pub(super) fn begin(metrics: &Arc<Metrics>) -> Self {
        Self {
            metrics: Arc::clone(metrics),
            begun: Instant::now(),
            status: None,
        }
    }

    /// The answer begins.
    pub(super) fn status(&mut self, status: u16) {
        let status = Status::of(status);
        self.status = Some(status);
        self.metrics.passed.add(status, 1);
        self.metrics
            .passed_head
            .observe(status, self.begun.elapsed());
    }

    /// A piece of its body.
    pub(super) fn piece(&self, piece: &[u8]) {
        let bytes = u64::try_from(piece.len()).unwrap_or(u64::MAX);
        self.metrics.passed_bytes.add(Direction::Out, bytes);
    }
}

impl Drop for Clocked {
    fn drop(&mut self) {
        if let Some(status) = self.status {
            self.metrics
                .passed_whole
                .observe(status, self.begun.elapsed());
        }
    }
}
