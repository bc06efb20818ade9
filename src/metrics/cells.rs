//! Where counts live: a number for each series, each changed by one atomic operation. No lock, so that calls do not wait
//! for each other, nor for a scrape.

use std::marker::PhantomData;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::labels::Key;

/// One cell for each series of a key.
#[derive(Debug)]
pub struct Cells<K, C> {
    cells: Box<[C]>,
    key: PhantomData<fn(K)>,
}

impl<K: Key, C: Default> Default for Cells<K, C> {
    fn default() -> Self {
        Self {
            cells: (0..K::COUNT).map(|_| C::default()).collect(),
            key: PhantomData,
        }
    }
}

impl<K: Key, C> Cells<K, C> {
    fn of(&self, key: K) -> Option<&C> {
        self.cells.get(key.place())
    }

    /// Every series: its labels' values, and its cell.
    pub(super) fn each(&self) -> impl Iterator<Item = (Vec<&'static str>, &C)> {
        let cells = self.cells.iter().enumerate();
        cells.map(|(place, cell)| (K::values(place), cell))
    }
}

impl<K: Key> Cells<K, AtomicU64> {
    /// Counts this many.
    pub fn add(&self, key: K, count: u64) {
        if let Some(cell) = self.of(key) {
            cell.fetch_add(count, Ordering::Relaxed);
        }
    }

    /// The opposite, for what is open now.
    pub fn subtract(&self, key: K, count: u64) {
        if let Some(cell) = self.of(key) {
            cell.fetch_sub(count, Ordering::Relaxed);
        }
    }

    /// The count so far, or now.
    #[must_use]
    pub fn get(&self, key: K) -> u64 {
        self.of(key).map_or(0, |cell| cell.load(Ordering::Relaxed))
    }
}

impl<K: Key> Cells<K, Histogram> {
    /// Counts one that took this long.
    pub fn observe(&self, key: K, took: Duration) {
        if let Some(cell) = self.of(key) {
            cell.observe(took);
        }
    }
}

/// The upper bounds of the buckets in microseconds: from what the ferry itself takes to what a long tool call takes.
const BOUNDS: [u64; 18] = [
    100,
    250,
    500,
    1_000,
    2_500,
    5_000,
    10_000,
    25_000,
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    60_000_000,
    600_000_000,
];

/// How long things took. The library's own takes a lock.
#[derive(Debug, Default)]
pub struct Histogram {
    /// One for each bound, and one for what is above all of them.
    buckets: [AtomicU64; BOUNDS.len() + 1],
    nanoseconds: AtomicU64,
}

/// A histogram at one moment.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Snapshot {
    pub(super) seconds: f64,
    pub(super) count: u64,
    /// Upper bounds in seconds, and how many were in each bucket alone.
    pub(super) buckets: Vec<(f64, u64)>,
}

impl Histogram {
    fn observe(&self, took: Duration) {
        let micros = u64::try_from(took.as_nanos().div_ceil(1000)).unwrap_or(u64::MAX);
        let place = BOUNDS.partition_point(|bound| *bound < micros);
        if let Some(bucket) = self.buckets.get(place) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.nanoseconds.fetch_add(nanos, Ordering::Relaxed);
    }

    /// The count is the sum of the buckets, so that the two agree however the scrape falls.
    pub(super) fn snapshot(&self) -> Snapshot {
        let bounds = BOUNDS
            .iter()
            .map(|micros| seconds(micros.saturating_mul(1000)));
        let counts = self
            .buckets
            .iter()
            .map(|bucket| bucket.load(Ordering::Relaxed));
        let buckets: Vec<_> = bounds.chain([f64::INFINITY]).zip(counts).collect();
        Snapshot {
            seconds: seconds(self.nanoseconds.load(Ordering::Relaxed)),
            count: buckets.iter().map(|(_, count)| count).sum(),
            buckets,
        }
    }
}

fn seconds(nanoseconds: u64) -> f64 {
    Duration::from_nanos(nanoseconds).as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::super::labels::{Method, Single};
    use super::*;

    #[test]
    fn a_bound_belongs_to_its_bucket_and_what_is_beyond_all_is_counted_too() {
        let cells: Cells<Single, Histogram> = Cells::default();
        for took in [
            Duration::ZERO,
            Duration::from_micros(100),
            Duration::from_nanos(100_001),
            Duration::from_secs(600),
            Duration::from_secs(601),
            Duration::from_secs(86_400),
        ] {
            cells.observe(Single, took);
        }
        let (_, cell) = cells.each().next().expect("one");
        let snapshot = cell.snapshot();
        let counts: Vec<u64> = snapshot.buckets.iter().map(|(_, count)| *count).collect();
        assert_eq!((snapshot.count, counts[0], counts[1]), (6, 2, 1));
        assert_eq!((counts[17], counts[18]), (1, 2));
        assert_eq!(snapshot.buckets[18].0, f64::INFINITY);
        assert_eq!(snapshot.buckets[0].0, 0.0001);
        assert!((snapshot.seconds - 87_601.000_200_001).abs() < 1e-6);
    }

    #[test]
    fn what_is_open_goes_up_and_down() {
        let cells: Cells<Method, AtomicU64> = Cells::default();
        cells.add(Method::Ping, 3);
        cells.subtract(Method::Ping, 1);
        assert_eq!((cells.get(Method::Ping), cells.get(Method::Other)), (2, 0));
    }
}
