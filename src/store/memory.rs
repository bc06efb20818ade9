//! The connections of this process: a map from ids to mailboxes, in shards so that POSTs seldom meet at a lock.
//!
//! The locks are `std`'s because they are held for a look-up and never across a wait.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{ConnectionId, Delivery, Mailbox, Recipient};

const SHARDS: usize = 16;

type Table = HashMap<ConnectionId, Recipient, BuildHasherDefault<Bits>>;

/// Takes a connection's id for its own hash: it is random already, and whoever asks for an id that was not given out
/// finds nothing.
#[derive(Debug, Default)]
struct Bits(u64);

impl Hasher for Bits {
    fn write(&mut self, bytes: &[u8]) {
        self.0 = bytes
            .iter()
            .fold(self.0, |bits, byte| bits.rotate_left(8) ^ u64::from(*byte));
    }

    fn write_u64(&mut self, bits: u64) {
        self.0 = bits;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

impl Hash for ConnectionId {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.bits());
    }
}

/// Connections of this process.
#[derive(Debug, Default)]
pub(super) struct Memory {
    shards: [Mutex<Table>; SHARDS],
}

impl Memory {
    fn shard(&self, id: &ConnectionId) -> Option<MutexGuard<'_, Table>> {
        let shard = self
            .shards
            .get(usize::try_from(id.bits() >> 32).unwrap_or_default() % SHARDS)?;
        Some(shard.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn claim(&self, id: ConnectionId, recipient: Recipient) {
        if let Some(mut shard) = self.shard(&id) {
            shard.insert(id, recipient);
        }
    }

    pub(super) fn release(&self, id: &ConnectionId) {
        if let Some(mut shard) = self.shard(id) {
            shard.remove(id);
            if shard.len() * 4 < shard.capacity() {
                shard.shrink_to_fit();
            }
        }
    }

    pub(super) fn find(&self, id: &ConnectionId) -> Option<Recipient> {
        self.shard(id)?.get(id).cloned()
    }

    pub(super) fn tell(&self, what: &dyn Fn() -> Delivery) {
        for shard in &self.shards {
            let mailboxes: Vec<Mailbox> = shard
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .values()
                .map(|recipient| recipient.mailbox.clone())
                .collect();
            for mailbox in mailboxes {
                // A full mailbox must not hold up the others; its owner is told as soon as there is room.
                if let Err(full) = mailbox.try_send(Box::new(what())) {
                    let delivery = full.into_inner();
                    tokio::task::spawn(async move {
                        // An error means that the connection is gone already.
                        let _ = mailbox.send(delivery).await;
                    });
                }
            }
        }
    }
}
