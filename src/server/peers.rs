//! What one address may do: streams that it holds open, and connections that it asks for in vain.
//!
//! An address is the client's as far as it can be known: the socket's peer, or what a trusted proxy names. IPv6 counts
//! by /64, which is what one subscriber gets (RFC 6177 §2).

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Unknown connections that one address may ask for in [`WINDOW`] before it is told to slow down. Ids cannot be
/// guessed (256 bits); this keeps attempts from looking like traffic.
const MAX_MISSES: u32 = 20;
const WINDOW: Duration = Duration::from_secs(60);
/// Addresses whose misses are counted at once; beyond that, those of further ones are not.
const MAX_MISSING: usize = 4096;

/// The address, or the network, that stands for one client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Peer(IpAddr);

impl Peer {
    pub(super) fn of(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V6(address) => {
                let network = u128::from(address) & !u128::from(u64::MAX);
                // Loopback is a network of its own.
                IpAddr::V6(if address.is_loopback() {
                    address
                } else {
                    Ipv6Addr::from(network)
                })
            }
            v4 => v4,
        })
    }

    fn is_loopback(self) -> bool {
        self.0.is_loopback()
    }
}

/// How many streams each address holds open. Bound: an entry per open stream.
#[derive(Debug, Default)]
pub(super) struct Streams(Mutex<HashMap<Peer, usize>>);

/// One stream of an address, until it is dropped.
#[derive(Debug)]
pub(super) struct Counted {
    streams: Arc<Streams>,
    peer: Peer,
}

impl Streams {
    /// Counts one more, unless the address holds `most` already. Loopback is not counted: every client of a proxy on
    /// the same machine comes from there.
    pub(super) fn hold(self: &Arc<Self>, peer: Peer, most: usize) -> Result<Option<Counted>, ()> {
        if peer.is_loopback() {
            return Ok(None);
        }
        let mut table = self.lock();
        let count = table.entry(peer).or_default();
        if *count >= most {
            return Err(());
        }
        *count += 1;
        let streams = Arc::clone(self);
        Ok(Some(Counted { streams, peer }))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Peer, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut table = self.streams.lock();
        if let Some(count) = table.get_mut(&self.peer) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                table.remove(&self.peer);
            }
        }
    }
}

/// Counts the connections that addresses ask for in vain.
#[derive(Debug, Default)]
pub(super) struct Misses(Mutex<HashMap<Peer, (Instant, u32)>>);

impl Misses {
    /// Counts one. Says whether the address has had too many.
    pub(super) fn add(&self, peer: Peer) -> bool {
        let now = Instant::now();
        let mut table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if table.len() >= MAX_MISSING && !table.contains_key(&peer) {
            table.retain(|_, (since, _)| now < *since + WINDOW);
            if table.len() >= MAX_MISSING {
                return false;
            }
        }
        let (since, count) = table.entry(peer).or_insert((now, 0));
        if now >= *since + WINDOW {
            (*since, *count) = (now, 0);
        }
        *count = count.saturating_add(1);
        *count > MAX_MISSES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(text: &str) -> Peer {
        Peer::of(text.parse().expect("an address"))
    }

    #[test]
    fn an_address_is_itself_and_an_ipv6_address_its_network() {
        assert_ne!(peer("192.0.2.1"), peer("192.0.2.2"));
        assert_eq!(peer("192.0.2.1"), peer("::ffff:192.0.2.1"));
        assert_eq!(peer("2001:db8::1"), peer("2001:db8::ffff:2"));
        assert_ne!(peer("2001:db8::1"), peer("2001:db8:0:1::1"));
    }

    #[test]
    fn streams_are_counted_until_they_end() {
        let streams = Arc::new(Streams::default());
        let first = streams.hold(peer("192.0.2.1"), 2).expect("room");
        let _second = streams.hold(peer("192.0.2.1"), 2).expect("room");
        assert!(streams.hold(peer("192.0.2.1"), 2).is_err());
        assert!(streams.hold(peer("192.0.2.2"), 2).is_ok());
        drop(first);
        assert!(streams.hold(peer("192.0.2.1"), 2).is_ok());
        for _ in 0..10 {
            assert!(matches!(streams.hold(peer("127.0.0.1"), 1), Ok(None)));
        }
        assert_eq!(streams.lock().len(), 1, "what ended is forgotten");
    }

    #[tokio::test(start_paused = true)]
    async fn twenty_misses_a_minute_are_a_mistake_and_more_are_not() {
        let misses = Misses::default();
        let over = (0..25).filter(|_| misses.add(peer("192.0.2.1"))).count();
        assert_eq!(over, 5);
        assert!(!misses.add(peer("192.0.2.2")));
        tokio::time::advance(WINDOW).await;
        assert!(!misses.add(peer("192.0.2.1")));
    }

    #[tokio::test(start_paused = true)]
    async fn the_table_of_misses_does_not_grow_without_bound() {
        let misses = Misses::default();
        for number in 0..5_000u32 {
            misses.add(Peer(std::net::Ipv4Addr::from(number).into()));
        }
        assert_eq!(misses.0.lock().expect("whole").len(), MAX_MISSING);
        tokio::time::advance(WINDOW).await;
        misses.add(peer("192.0.2.1"));
        assert_eq!(misses.0.lock().expect("whole").len(), 1);
    }
}
