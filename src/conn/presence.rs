//! One connection in the count of those that are open, by how its client came, what its server speaks, and whether the
//! client is still there.

use std::sync::Arc;

use crate::metrics::Metrics;
use crate::metrics::labels::{Front, Speaks, State};
use crate::proto::era::Era;

/// Counted until it is dropped.
#[derive(Debug)]
pub(super) struct Presence {
    metrics: Arc<Metrics>,
    key: (Front, Speaks, State),
}

impl Presence {
    pub(super) fn new(metrics: &Arc<Metrics>, front: Front, era: Era) -> Self {
        let key = (front, speaks(era), State::Open);
        metrics.connections.add(key, 1);
        Self {
            metrics: Arc::clone(metrics),
            key,
        }
    }

    /// The server turned out to speak this.
    pub(super) fn learns(&mut self, era: Era) {
        let (front, _, state) = self.key;
        self.moves_to((front, speaks(era), state));
    }

    /// The client has gone.
    pub(super) fn leaves(&mut self) {
        let (front, speaks, _) = self.key;
        self.moves_to((front, speaks, State::Leaving));
    }

    fn moves_to(&mut self, key: (Front, Speaks, State)) {
        if key != self.key {
            self.metrics.connections.add(key, 1);
            self.metrics.connections.subtract(self.key, 1);
            self.key = key;
        }
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        self.metrics.connections.subtract(self.key, 1);
    }
}

fn speaks(era: Era) -> Speaks {
    match era {
        Era::Handshake => Speaks::Handshake,
        Era::Modern => Speaks::Modern,
    }
}
