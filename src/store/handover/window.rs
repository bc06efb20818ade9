//! Which numbers of a sender were seen, so that nothing is taken twice: neither what a sender repeats because it does not
//! know whether it arrived, nor what somebody copies.
//!
//! A sender numbers what it sends, upwards. Of the last [`WIDTH`] numbers each has a bit; what is older is refused, seen or
//! not. That needs no clock, so no clock can be turned back to make it forget.

use std::collections::HashMap;

/// How far numbers of one sender may overtake each other.
pub(super) const WIDTH: u64 = 8192;
/// Processes whose numbers are remembered, a KiB each; with one more the one that sent nothing for the longest time is
/// forgotten. That many have to start, with our keys, before anything of its could be repeated.
pub(super) const MAX_SENDERS: usize = 1024;

/// A process that sends, by the random number that it drew at its start.
pub(crate) type Process = [u8; 16];

#[derive(Debug)]
struct Window {
    highest: u64,
    bits: Box<[u64]>,
}

impl Window {
    fn new(first: u64) -> Self {
        Self {
            highest: first,
            bits: vec![0; usize::try_from(WIDTH / 64).unwrap_or_default()].into(),
        }
    }

    /// Whether this number was not seen before, nor is too old to say. From now on it was.
    fn take(&mut self, number: u64) -> bool {
        if number > self.highest {
            let passed = number - self.highest;
            if passed >= WIDTH {
                self.bits.fill(0);
            } else {
                for number in self.highest + 1..=number {
                    self.set(number, false);
                }
            }
            self.highest = number;
        } else if self.highest - number >= WIDTH {
            return false;
        }
        self.set(number, true)
    }

    /// Sets a number's bit. Whether that changed it.
    fn set(&mut self, number: u64, seen: bool) -> bool {
        let place = usize::try_from(number % WIDTH / 64).unwrap_or_default();
        let Some(word) = self.bits.get_mut(place) else {
            return false;
        };
        let bit = 1 << (number % 64);
        let changed = (*word & bit != 0) != seen;
        if seen {
            *word |= bit;
        } else {
            *word &= !bit;
        }
        changed
    }
}

/// What was seen of every sender.
#[derive(Debug, Default)]
pub(super) struct Seen {
    senders: HashMap<Process, (Window, u64)>,
    /// Counts what came, to tell who was silent for the longest time.
    came: u64,
}

impl Seen {
    /// Whether this number of this sender is new. To be asked only of what the sender has provably sent.
    pub(super) fn take(&mut self, sender: &Process, number: u64) -> bool {
        self.came += 1;
        if let Some((window, last)) = self.senders.get_mut(sender) {
            *last = self.came;
            return window.take(number);
        }
        if self.senders.len() >= MAX_SENDERS {
            let oldest = self.senders.iter().min_by_key(|(_, (_, last))| *last);
            if let Some(oldest) = oldest.map(|(sender, _)| *sender) {
                self.senders.remove(&oldest);
            }
        }
        let (window, _) = self
            .senders
            .entry(*sender)
            .or_insert_with(|| (Window::new(number), self.came));
        window.take(number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SENDER: Process = [1; 16];

    #[test]
    fn a_number_is_new_once_in_any_order() {
        let mut seen = Seen::default();
        for number in [5, 3, 4, 9, 70, 6, 64, 0] {
            assert!(seen.take(&SENDER, number), "{number}");
        }
        for number in [5, 3, 4, 9, 70, 6, 64, 0] {
            assert!(!seen.take(&SENDER, number), "{number} again");
        }
        assert!(seen.take(&[2; 16], 5), "another sender's");
    }

    #[test]
    fn what_is_older_than_the_window_is_refused_and_the_window_moves() {
        let mut seen = Seen::default();
        let mut taken = 0;
        for number in (0..10 * WIDTH).step_by(3) {
            taken += u64::from(seen.take(&SENDER, number));
            assert!(!seen.take(&SENDER, number));
        }
        assert_eq!(taken, (10 * WIDTH).div_ceil(3));
        let highest = (taken - 1) * 3;
        assert!(seen.take(&SENDER, highest - 1), "in the window, and new");
        assert!(
            seen.take(&SENDER, highest + 1 - WIDTH),
            "just in the window"
        );
        assert!(!seen.take(&SENDER, highest - WIDTH), "below it");
        assert!(!seen.take(&SENDER, 1), "never seen, and too old");
        assert!(seen.take(&SENDER, u64::MAX), "a leap");
        assert!(seen.take(&SENDER, u64::MAX - WIDTH + 1));
        assert!(!seen.take(&SENDER, u64::MAX - WIDTH));
        assert!(!seen.take(&SENDER, u64::MAX));
    }

    #[test]
    fn the_sender_that_was_silent_longest_is_forgotten_first() {
        let mut seen = Seen::default();
        let sender = |number: usize| {
            let mut sender = [0; 16];
            sender[..8].copy_from_slice(&number.to_be_bytes());
            sender
        };
        for number in 0..MAX_SENDERS {
            assert!(seen.take(&sender(number), 1));
        }
        assert!(!seen.take(&sender(0), 1));
        assert!(seen.take(&sender(MAX_SENDERS), 1));
        assert_eq!(seen.senders.len(), MAX_SENDERS);
        assert!(!seen.take(&sender(0), 1), "it has just sent something");
        assert!(seen.senders.contains_key(&sender(2)));
        assert!(!seen.senders.contains_key(&sender(1)));
    }
}
