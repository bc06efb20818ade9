//! The store of a single process: a map from ids to mailboxes, in shards so that POSTs seldom meet at a lock.
//!
//! The locks are `std`'s because they are held for a look-up and never across a wait.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{ConnectionId, Delivery, Mailbox, Post};

const SHARDS: usize = 16;

/// Connections of this process.
#[derive(Debug, Default)]
pub struct Memory {
    shards: [Mutex<HashMap<ConnectionId, Mailbox>>; SHARDS],
}

impl Memory {
    fn shard(&self, id: &ConnectionId) -> Option<MutexGuard<'_, HashMap<ConnectionId, Mailbox>>> {
        let shard = self.shards.get(id.shard() % SHARDS)?;
        Some(shard.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn claim(&self, id: ConnectionId, mailbox: Mailbox) {
        if let Some(mut shard) = self.shard(&id) {
            shard.insert(id, mailbox);
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

    pub(super) fn knows(&self, id: &ConnectionId) -> bool {
        self.shard(id).is_some_and(|shard| shard.contains_key(id))
    }

    pub(super) async fn deliver(&self, id: &ConnectionId, post: Post) -> bool {
        let mailbox = self.shard(id).and_then(|shard| shard.get(id).cloned());
        match mailbox {
            Some(mailbox) => mailbox.send(Box::new(Delivery::Posted(post))).await.is_ok(),
            None => false,
        }
    }

    pub(super) fn drain(&self, expired: bool) {
        for shard in &self.shards {
            let mailboxes: Vec<Mailbox> = shard
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .values()
                .cloned()
                .collect();
            for mailbox in mailboxes {
                // A full mailbox must not hold up the others; its owner is told as soon as there is room.
                let delivery = move || {
                    Box::new(if expired {
                        Delivery::DrainExpired
                    } else {
                        Delivery::Drain
                    })
                };
                if mailbox.try_send(delivery()).is_err() {
                    tokio::task::spawn(async move {
                        // An error means that the connection is gone already.
                        let _ = mailbox.send(delivery()).await;
                    });
                }
            }
        }
    }
}
