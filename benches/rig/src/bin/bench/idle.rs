//! Idle legacy clients, each size before a fresh ferry and a fresh upstream.

use crate::calls::result;
use crate::plan::{Idle, Plan};
use crate::processes::Tools;
use crate::quiet::Quiet;
use rig::procfs::Memory;
use rig::{Context, Result};

/// What the load generator says of one hold.
#[derive(Clone, Debug, serde::Deserialize)]
pub struct Held {
    pub per_second: f64,
    pub listening: usize,
    pub before: Memory,
    pub open: Memory,
    pub after: Memory,
    /// Open files before, with all clients, after.
    pub files: [f64; 3],
    /// Upstream sessions that were never deleted.
    pub sessions_left: f64,
    /// Until the last upstream session was deleted, or 15 s.
    pub sessions_ms: f64,
    pub cpu_us: f64,
    pub upstream_cpu_us: f64,
    pub load_cpu_us: f64,
}

/// Each size with one result per round.
pub type Holds = Vec<(Idle, Vec<Held>)>;

pub fn run(tools: &Tools, plan: &Plan, quiet: &mut Quiet) -> Result<Holds> {
    let mut holds: Holds = plan.idle.iter().map(|&idle| (idle, Vec::new())).collect();
    for round in 0..plan.idle_rounds {
        for (idle, held) in &mut holds {
            eprintln!(
                "round {} of {}: {} idle clients, {}",
                round + 1,
                plan.idle_rounds,
                idle.connections,
                idle.upstream.name()
            );
            quiet.wait()?;
            held.push(hold(tools, *idle, plan.still_ms).context(&format!(
                "{} idle clients, {}",
                idle.connections,
                idle.upstream.name()
            ))?);
        }
    }
    Ok(holds)
}

fn hold(tools: &Tools, idle: Idle, still_ms: u32) -> Result<Held> {
    let upstream = tools.upstream(idle.upstream, None)?;
    let ferry = tools.ferry(&upstream, "idle")?;
    let mut command = tools.load("idle", &ferry.url("/sse"), &upstream);
    command
        .args(["--connections", &idle.connections.to_string()])
        .args(["--pid", &ferry.id().to_string()]);
    command.args(["--still-ms", &still_ms.to_string()]);
    command.args(["--upstream-pid", &upstream.id().to_string()]);
    let held = result(&mut command)?;
    ferry.leave_well()?;
    Ok(held)
}
