//! What a call costs in instructions, which a clock cannot tell to a hundredth: the ferry runs under valgrind, and what it
//! executes in user space is counted while calls come one after another.

use crate::calls;
use crate::plan::{ONE, WATCHED, Way};
use crate::processes::Tools;
use rig::summary::median;
use rig::{Context, Result};
use std::path::Path;
use std::process::Command;

/// Counts of each program, in turn; they differ by less than a thousandth.
const ROUNDS: usize = 3;
const WARM_MS: u32 = 500;
const WINDOW_MS: u32 = 3000;

#[derive(serde::Deserialize)]
struct Counted {
    calls: f64,
}

/// Instructions of a call that nobody watches, for each of those of a build without a tap: pass-through, translated.
pub fn tap_off(tools: &Tools, without: &Path) -> Result<[f64; 2]> {
    let mut ratios = [f64::NAN; 2];
    for (ratio, way) in ratios.iter_mut().zip([Way::PassThrough, Way::Translated]) {
        let mut pairs = Vec::new();
        for round in 0..ROUNDS {
            eprintln!(
                "round {} of {ROUNDS}: {}, instructions",
                round + 1,
                way.name()
            );
            let with = per_call(tools, &tools.ferry, way).context("the ferry")?;
            let without = per_call(tools, without, way).context("the one without a tap")?;
            pairs.push(with / without);
        }
        *ratio = median(pairs);
    }
    Ok(ratios)
}

fn per_call(tools: &Tools, ferry: &Path, way: Way) -> Result<f64> {
    let upstream = tools.upstream(WATCHED, None)?;
    let log = tools.work.join("valgrind.log");
    let process = tools.counted_ferry(ferry, &upstream, &log)?;
    let (mode, path) = match way {
        Way::PassThrough => ("plain", "/mcp"),
        _ => ("legacy", "/sse"),
    };
    let load = |milliseconds: u32| -> Result<Counted> {
        let mut command = tools.load(mode, &process.url(path), &upstream);
        let id = process.id().to_string();
        command.args(["--pids", &id, "--known", &id, "--warm-ms", "0"]);
        command.args(["--connections", &ONE.connections.to_string()]);
        command.args(["--in-flight", &ONE.in_flight.to_string()]);
        command.args(["--window-ms", &milliseconds.to_string()]);
        calls::result(&mut command)
    };
    load(WARM_MS)?;
    control(process.id(), "on")?;
    let counted = load(WINDOW_MS)?;
    control(process.id(), "off")?;
    process.leave_well()?;
    let said = std::fs::read_to_string(&log).context("valgrind's log")?;
    let collected = said.split_once("Collected : ").map(|(_, rest)| rest);
    let collected = collected.and_then(|rest| rest.lines().next()?.trim().parse::<f64>().ok());
    Ok(collected.ok_or("valgrind counted nothing")? / counted.calls)
}

/// Has what is executed counted, or not.
fn control(id: u32, state: &str) -> Result<()> {
    let mut command = Command::new("callgrind_control");
    let output = command.args(["-i", state, &id.to_string()]).output();
    let output = output.context("callgrind_control")?;
    match output.status.success() {
        true => Ok(()),
        false => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
    }
}
