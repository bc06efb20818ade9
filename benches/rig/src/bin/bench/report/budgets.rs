//! The budgets and their verdicts, from the same figures as the tables below them.

use super::{Measured, cpu_ratio, left_over, rss_each};
use crate::plan::{IDLE_LISTENING, IDLE_SESSIONLESS, MANY, ONE, Plan, Upstream, WATCHED, Way};
use rig::summary::median;
use std::fmt::{Display, Formatter, Result, Write};

/// What a figure must be, and in what unit.
enum Budget {
    Exactly(f64),
    AtMost(f64, &'static str),
    AtLeast(f64, &'static str),
}

impl Budget {
    /// A figure that is missing is NaN, and no budget is met by that.
    fn met_by(&self, value: f64) -> bool {
        match *self {
            Self::Exactly(wanted) => value == wanted,
            Self::AtMost(most, _) => value <= most,
            Self::AtLeast(least, _) => value >= least,
        }
    }
}

impl Display for Budget {
    fn fmt(&self, to: &mut Formatter<'_>) -> Result {
        match self {
            Self::Exactly(wanted) => write!(to, "{wanted}"),
            Self::AtMost(most, unit) => write!(to, "≤ {most}{unit}"),
            Self::AtLeast(least, unit) => write!(to, "≥ {least}{unit}"),
        }
    }
}

fn line(page: &mut String, what: &str, budget: &Budget, values: &[f64], digits: usize) -> Result {
    let shown: Vec<String> = values
        .iter()
        .map(|value| format!("{value:.digits$}"))
        .collect();
    let met = values.iter().all(|&value| budget.met_by(value));
    let verdict = if met { "met" } else { "**missed**" };
    writeln!(
        page,
        "| {what} | {budget} | {} | {verdict} |",
        shown.join(", ")
    )
}

/// One line for each budget; where it covers several upstreams, all of them must meet it.
pub fn table(page: &mut String, plan: &Plan, measured: &Measured) -> Result {
    writeln!(
        page,
        "## Budgets\n\n| what | budget | measured | |\n| --- | --- | --- | --- |"
    )?;
    calls(page, plan, measured)?;
    idle(page, measured)?;
    let start = median(measured.start_ms.iter().copied());
    line(
        page,
        "start to first byte served",
        &Budget::AtMost(30.0, " ms"),
        &[start],
        1,
    )?;
    let upstreams = Upstream::ALL.map(Upstream::name).join(", ");
    writeln!(
        page,
        "\n¹ before the upstreams {upstreams}, each against nginx or direct before the same one\n"
    )?;
    if measured.tap_off.is_none() {
        return Ok(());
    }
    writeln!(
        page,
        "² in user space, counted by valgrind: the difference is far below what a clock can tell\n"
    )
}

fn calls(page: &mut String, plan: &Plan, measured: &Measured) -> Result {
    for &load in &plan.loads {
        let worst = Upstream::ALL.map(|upstream| {
            let windows = measured.windows(load, upstream, Way::Translated);
            windows
                .iter()
                .map(|window| window.http_per_call)
                .fold(f64::NAN, f64::max)
        });
        let what = format!("upstream calls per legacy request, {load} ¹");
        line(page, &what, &Budget::Exactly(1.0), &worst, 3)?;
    }
    for (way, budget) in [
        (Way::PassThrough, Budget::AtMost(1.0, " × nginx")),
        (Way::Translated, Budget::AtMost(2.0, " × nginx")),
    ] {
        for &load in &plan.loads {
            let ratios = Upstream::ALL
                .map(|upstream| measured.compare(load, upstream, [way, Way::Nginx], cpu_ratio));
            line(
                page,
                &format!("{}, CPU per call, {load} ¹", way.name()),
                &budget,
                &ratios,
                2,
            )?;
        }
    }
    if let Some(tap_off) = measured.tap_off {
        let what = "ferry, tap off, instructions per call: pass-through, translated ²";
        let budget = Budget::AtMost(1.01, " × built without a tap");
        line(page, what, &budget, &tap_off, 4)?;
    }
    for (watched, alone) in [
        (Way::PassThroughWatched, Way::PassThrough),
        (Way::TranslatedWatched, Way::Translated),
    ] {
        let ratio = measured.compare(MANY, WATCHED, [watched, alone], cpu_ratio);
        let what = format!("{}, CPU per call, {MANY}", watched.name());
        let budget = Budget::AtMost(1.1, " × unwatched");
        line(page, &what, &budget, &[ratio], 2)?;
    }
    let stalled = [Way::TranslatedStalled, Way::Translated];
    let ratio = measured.compare(ONE, WATCHED, stalled, |stalled, alone| {
        stalled.p99_us / alone.p99_us
    });
    let what = format!("{}, latency p99, {ONE}", Way::TranslatedStalled.name());
    line(
        page,
        &what,
        &Budget::AtMost(1.1, " × unwatched"),
        &[ratio],
        2,
    )?;
    for way in [Way::PassThrough, Way::Translated] {
        let added = Upstream::ALL.map(|upstream| {
            measured.compare(ONE, upstream, [way, Way::Direct], |one, direct| {
                (one.p50_us - direct.p50_us) / 1e3
            })
        });
        let what = format!("{}, added latency p50, {ONE} ¹", way.name());
        line(page, &what, &Budget::AtMost(0.15, " ms"), &added, 3)?;
    }
    Ok(())
}

fn idle(page: &mut String, measured: &Measured) -> Result {
    for (size, most, what) in [
        (IDLE_SESSIONLESS, 12.0, "sessionless"),
        (IDLE_LISTENING, 24.0, "with an open listen stream each"),
    ] {
        let what = format!("memory per idle connection, {} {what}", size.connections);
        let value = rss_each(size, measured.held(size));
        line(page, &what, &Budget::AtMost(most, " KiB"), &[value], 1)?;
    }
    for (size, held) in &measured.idle {
        let rate = median(held.iter().map(|held| held.per_second));
        let what = format!(
            "opened and initialized, {} {}",
            size.connections,
            size.upstream.name()
        );
        line(
            page,
            &what,
            &Budget::AtLeast(5_000.0, " a second"),
            &[rate],
            0,
        )?;
    }
    for (size, held) in &measured.idle {
        let what = format!(
            "memory after {} clients left, {}",
            size.connections,
            size.upstream.name()
        );
        line(
            page,
            &what,
            &Budget::AtMost(1.1, " × before"),
            &[left_over(held)],
            2,
        )?;
    }
    Ok(())
}
