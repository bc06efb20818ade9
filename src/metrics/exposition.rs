//! The metrics as text: OpenMetrics 1.0 for Prometheus, by its own client library, and a table for people.

use std::fmt::{self, Write as _};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::exemplar::Exemplar;
use prometheus_client::registry::{Registry, Unit as LibraryUnit};

use super::Metrics;
use super::catalogue::families;
use super::families::{Family, Levels, Series, Unit};

/// The media type of [`text`] (OpenMetrics 1.0, "Text Format").
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What is counted, for Prometheus.
#[must_use]
pub fn text(metrics: &Metrics, levels: &Levels) -> String {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Scrape(families(metrics, levels))));
    let mut text = String::new();
    // Writing to a string does not fail, and the families are our own.
    let encoded = prometheus_client::encoding::text::encode(&mut text, &registry);
    debug_assert!(encoded.is_ok(), "the families are well-formed");
    text
}

/// The README's table of all metrics.
#[must_use]
pub fn table() -> String {
    let mut table = "| metric | type | labels | meaning |\n| --- | --- | --- | --- |\n".to_owned();
    for family in families(&Metrics::default(), &Levels::default()) {
        let labels: Vec<_> = family
            .labels
            .iter()
            .map(|name| format!("`{name}`"))
            .collect();
        // A string takes whatever is written.
        let _ = writeln!(
            table,
            "| `{}` | {} | {} | {} |",
            family.shown(),
            family.kind().as_str(),
            labels.join(", "),
            family.help
        );
    }
    table
}

impl Family {
    fn kind(&self) -> MetricType {
        match self.series {
            Series::Counter(_) => MetricType::Counter,
            Series::Gauge(_) => MetricType::Gauge,
            Series::Histogram(_) => MetricType::Histogram,
            Series::Info(_) => MetricType::Info,
        }
    }

    /// The name as a query has it.
    fn shown(&self) -> String {
        let unit = match self.unit {
            Unit::None => "",
            Unit::Seconds => "_seconds",
            Unit::Bytes => "_bytes",
        };
        let suffix = match self.series {
            Series::Counter(_) => "_total",
            Series::Info(_) => "_info",
            Series::Gauge(_) | Series::Histogram(_) => "",
        };
        format!("{}{unit}{suffix}", self.name)
    }

    fn encode(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let unit = match self.unit {
            Unit::None => None,
            Unit::Seconds => Some(LibraryUnit::Seconds),
            Unit::Bytes => Some(LibraryUnit::Bytes),
        };
        let mut metric = encoder.encode_descriptor(
            self.name,
            &format!("{}.", self.help),
            unit.as_ref(),
            self.kind(),
        )?;
        match &self.series {
            Series::Counter(series) => {
                for (values, count) in series {
                    with_labels(&mut metric, self.labels, values, |it| {
                        it.encode_counter::<Labels, u64, f64>(count, None)
                    })?;
                }
            }
            Series::Gauge(series) => {
                for (values, value) in series {
                    with_labels(&mut metric, self.labels, values, |it| {
                        it.encode_gauge(value)
                    })?;
                }
            }
            Series::Histogram(series) => {
                for (values, at) in series {
                    let none = None::<&std::collections::HashMap<usize, Exemplar<Labels, f64>>>;
                    with_labels(&mut metric, self.labels, values, |it| {
                        it.encode_histogram(at.seconds, at.count, &at.buckets, none)
                    })?;
                }
            }
            Series::Info(values) => metric.encode_info(&labels(self.labels, values))?,
        }
        Ok(())
    }
}

type Labels = Vec<(&'static str, &'static str)>;

fn labels(names: &[&'static str], values: &[&'static str]) -> Labels {
    names.iter().copied().zip(values.iter().copied()).collect()
}

fn with_labels(
    metric: &mut MetricEncoder<'_>,
    names: &[&'static str],
    values: &[&'static str],
    encode: impl FnOnce(&mut MetricEncoder<'_>) -> fmt::Result,
) -> fmt::Result {
    if names.is_empty() {
        return encode(metric);
    }
    encode(&mut metric.encode_family(&labels(names, values))?)
}

/// All families at one moment.
struct Scrape(Vec<Family>);

impl fmt::Debug for Scrape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Scrape")
    }
}

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        self.0
            .iter()
            .try_for_each(|family| family.encode(&mut encoder))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::Counter;
    use super::super::labels::{Method, Outcome};
    use super::*;

    #[test]
    fn names_follow_the_conventions() {
        for family in families(&Metrics::default(), &Levels::default()) {
            let name = family.name;
            assert!(
                name.starts_with("mcp_ferry_") || name.starts_with("process_"),
                "{name}"
            );
            assert!(
                name.bytes()
                    .all(|byte| byte.is_ascii_lowercase() || byte == b'_'),
                "{name}"
            );
            for suffix in [
                "_total", "_seconds", "_bytes", "_info", "_count", "_sum", "_bucket",
            ] {
                assert!(!name.ends_with(suffix), "{name}: the library adds it");
            }
            assert!(
                !family.help.ends_with('.') && family.help.len() > 8,
                "{name}"
            );
        }
    }

    #[test]
    fn every_counter_is_shown_once_and_no_family_twice() {
        let metrics = Metrics::default();
        metrics.add(Counter::FerryErrors);
        metrics
            .requests
            .add((Method::ToolsCall, Outcome::Result), 2);
        metrics
            .client_time
            .observe(Method::ToolsCall, Duration::from_millis(3));
        let text = text(&metrics, &Levels::default());
        let has = |line: &str| assert!(text.lines().any(|it| it == line), "{line}\nin {text}");
        has("mcp_ferry_errors_total 1");
        has("mcp_ferry_requests_total{method=\"tools_call\",outcome=\"result\"} 2");
        has("mcp_ferry_request_duration_seconds_bucket{le=\"0.005\",method=\"tools_call\"} 1");
        has("mcp_ferry_request_duration_seconds_bucket{le=\"+Inf\",method=\"tools_call\"} 1");
        has("mcp_ferry_request_duration_seconds_count{method=\"tools_call\"} 1");
        has("# UNIT mcp_ferry_request_duration_seconds seconds");
        assert!(text.ends_with("# EOF\n"));
        let mut names: Vec<_> = text
            .lines()
            .filter(|line| line.starts_with("# TYPE"))
            .collect();
        let all = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!((names.len(), all), (all, table().lines().count() - 2));
    }
}
