//! What is known of the upstream's era, shared by all connections.
//!
//! A connection that finds it out tells the others through here; one that finds it wrong corrects it. Nothing is kept
//! across restarts: it costs one exchange to learn again.

use std::sync::atomic::{AtomicU8, Ordering};

use crate::config::UpstreamEra;
use crate::proto::era::Era;

/// The operator's word, or the last thing that was learnt.
#[derive(Debug)]
pub(super) struct EraMemory {
    fixed: Option<Era>,
    /// [`UNKNOWN`], [`HANDSHAKE`] or [`MODERN`].
    learnt: AtomicU8,
}

const UNKNOWN: u8 = 0;
const HANDSHAKE: u8 = 1;
const MODERN: u8 = 2;

impl EraMemory {
    pub(super) fn new(said: UpstreamEra) -> Self {
        let fixed = match said {
            UpstreamEra::Auto => None,
            UpstreamEra::Fixed(era) => Some(era),
        };
        Self {
            fixed,
            learnt: AtomicU8::new(UNKNOWN),
        }
    }

    pub(super) fn is_fixed(&self) -> bool {
        self.fixed.is_some()
    }

    pub(super) fn known(&self) -> Option<Era> {
        self.fixed
            .or_else(|| match self.learnt.load(Ordering::Relaxed) {
                HANDSHAKE => Some(Era::Handshake),
                MODERN => Some(Era::Modern),
                _ => None,
            })
    }

    /// Says whether this is news.
    pub(super) fn learn(&self, era: Era) -> bool {
        let code = match era {
            Era::Handshake => HANDSHAKE,
            Era::Modern => MODERN,
        };
        !self.is_fixed() && self.learnt.swap(code, Ordering::Relaxed) != code
    }
}
