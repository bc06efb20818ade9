//! What the kernel knows about a process: CPU time, memory, open files, children.

use crate::{Context, Result};
use std::fs;

/// Nanoseconds on a CPU, user and kernel together, of all threads of `processes`. From `schedstat`, which counts
/// nanoseconds where `stat` counts clock ticks of 10 ms; work done in interrupts is charged to whoever was running.
pub fn cpu_ns(processes: &[u32]) -> Result<u64> {
    let mut total = 0;
    for process in processes {
        for task in fs::read_dir(format!("/proc/{process}/task")).context("tasks")? {
            let path = task.context("task")?.path().join("schedstat");
            // A thread may end between listing and reading.
            let Ok(text) = fs::read_to_string(&path) else {
                continue;
            };
            let first = text.split_whitespace().next().unwrap_or_default();
            total += first.parse::<u64>().context("schedstat")?;
        }
    }
    Ok(total)
}

/// Nanoseconds of CPU time, over all cores, that the machine has spent on anything at all. In clock ticks, so only good
/// for stretches of a tenth of a second and more.
pub fn machine_busy_ns() -> Result<u64> {
    let text = fs::read_to_string("/proc/stat").context("/proc/stat")?;
    let line = text.lines().next().unwrap_or_default();
    // user nice system idle iowait irq softirq; USER_HZ is 100 on every Linux of today.
    let ticks: Vec<u64> = line
        .split_whitespace()
        .skip(1)
        .filter_map(|word| word.parse().ok())
        .collect();
    let busy = ticks
        .iter()
        .enumerate()
        .take(7)
        .filter(|(place, _)| !matches!(place, 3 | 4));
    Ok(busy.map(|(_, ticks)| ticks * 10_000_000).sum())
}

/// Resident memory in KiB.
#[derive(Clone, Copy, Debug, Default, serde::Serialize, serde::Deserialize)]
pub struct Memory {
    pub rss: f64,
    pub pss: f64,
}

/// The resident memory of one process, from `smaps_rollup`.
pub fn memory(process: u32) -> Result<Memory> {
    let text =
        fs::read_to_string(format!("/proc/{process}/smaps_rollup")).context("smaps_rollup")?;
    let field = |name: &str| {
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .ok_or("smaps_rollup lacks a field")?;
        line.trim()
            .trim_end_matches(" kB")
            .parse::<f64>()
            .context("smaps_rollup")
    };
    Ok(Memory {
        rss: field("Rss:")?,
        pss: field("Pss:")?,
    })
}

/// How many files a process has open.
pub fn open_files(process: u32) -> Result<usize> {
    Ok(fs::read_dir(format!("/proc/{process}/fd"))
        .context("fd")?
        .count())
}

/// The processes whose parent is `process`.
pub fn children(process: u32) -> Result<Vec<u32>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").context("/proc")? {
        let name = entry.context("/proc")?.file_name();
        let Some(id) = name.to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        let Ok(stat) = fs::read_to_string(format!("/proc/{id}/stat")) else {
            continue;
        };
        // The name in parentheses may hold anything; the fields after it are state and parent.
        let parent = stat
            .rsplit(')')
            .next()
            .and_then(|rest| rest.split_whitespace().nth(1));
        if parent.and_then(|parent| parent.parse().ok()) == Some(process) {
            found.push(id);
        }
    }
    Ok(found)
}
