//! What a metric is: a family with its unit, its labels and its series at one moment. Which there are says `catalogue`.

use std::sync::atomic::{AtomicU64, Ordering};

use super::cells::{Cells, Histogram, Snapshot};
use super::labels::Key;
use crate::proto::era::Era;

/// What others know at the moment of a scrape.
#[derive(Clone, Debug, Default)]
pub struct Levels {
    /// When the process began, in seconds since 1970.
    pub started: f64,
    /// Sockets that carry no legacy stream.
    pub sockets: usize,
    /// Passed-through requests whose answers have not ended, listen streams excepted.
    pub passing: usize,
    /// Bytes that connections hold together.
    pub buffered: usize,
    /// The most that they may.
    pub buffered_limit: usize,
    /// Whether the process is going to stop.
    pub draining: bool,
    /// Whether the upstream could be reached when it was last tried; `None` before that.
    pub upstream_up: Option<bool>,
    /// Whether requests can be handed to other replicas; `None` when there are none.
    pub store_up: Option<bool>,
    /// What the upstream speaks, as far as it is known.
    pub upstream_era: Option<Era>,
    /// What the tap holds.
    pub tap: TapLevels,
}

/// What the tap holds at the moment of a scrape.
#[derive(Clone, Copy, Debug, Default)]
pub struct TapLevels {
    /// Those who watch: open pages, the terminal, the file.
    pub watchers: usize,
    /// Records that are kept.
    pub records: usize,
    /// Their bytes.
    pub bytes: usize,
    /// Events that were lost because the recorder was busy, since the start.
    pub missed: u64,
}

/// One metric and its series.
pub(super) struct Family {
    /// Without the suffixes that unit and type bring.
    pub(super) name: &'static str,
    pub(super) unit: Unit,
    pub(super) labels: &'static [&'static str],
    /// One sentence without its full stop, which the exposition adds.
    pub(super) help: &'static str,
    pub(super) series: Series,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    None,
    Seconds,
    Bytes,
}

/// Values of labels, in the order of their names.
pub(super) type Values = Vec<&'static str>;

pub(super) enum Series {
    Counter(Vec<(Values, u64)>),
    Gauge(Vec<(Values, f64)>),
    Histogram(Vec<(Values, Snapshot)>),
    Info(Values),
}

pub(super) fn level(name: &'static str, unit: Unit, help: &'static str, value: f64) -> Family {
    let series = Series::Gauge(vec![(Vec::new(), value)]);
    Family {
        name,
        unit,
        labels: &[],
        help,
        series,
    }
}

pub(super) fn counter_of(
    name: &'static str,
    unit: Unit,
    help: &'static str,
    series: Vec<(Values, u64)>,
) -> Family {
    let series = Series::Counter(series);
    Family {
        name,
        unit,
        labels: &[],
        help,
        series,
    }
}

pub(super) fn counted<K: Key>(
    name: &'static str,
    unit: Unit,
    help: &'static str,
    cells: &Cells<K, AtomicU64>,
) -> Family {
    let series = cells.each().map(|(values, cell)| (values, load(cell)));
    Family {
        name,
        unit,
        labels: K::NAMES,
        help,
        series: Series::Counter(series.collect()),
    }
}

/// A histogram has twenty lines for each series: those that never saw anything are left out.
pub(super) fn timed<K: Key>(
    name: &'static str,
    help: &'static str,
    cells: &Cells<K, Histogram>,
) -> Family {
    let series = cells.each().map(|(values, cell)| (values, cell.snapshot()));
    let seen = series.filter(|(_, snapshot)| snapshot.count > 0);
    Family {
        name,
        unit: Unit::Seconds,
        labels: K::NAMES,
        help,
        series: Series::Histogram(seen.collect()),
    }
}

pub(super) fn labels_of<K: Key, C>(_: &Cells<K, C>) -> &'static [&'static str] {
    K::NAMES
}

pub(super) fn load(cell: &AtomicU64) -> u64 {
    cell.load(Ordering::Relaxed)
}

pub(super) fn flag(set: bool) -> f64 {
    f64::from(u8::from(set))
}

pub(super) fn count(value: usize) -> f64 {
    float(u64::try_from(value).unwrap_or(u64::MAX))
}

/// Exact up to 2^53, which no gauge here gets near.
#[expect(clippy::cast_precision_loss, reason = "a gauge is a float")]
pub(super) fn float(value: u64) -> f64 {
    value as f64
}
