//! Calls in flight: every upstream by every way under every load, round after round.

use crate::plan::{Load, Plan, Upstream, Way};
use crate::processes::{Process, Tools};
use rig::{Context, Result};
use std::collections::HashMap;
use std::process::{Command, Stdio};

/// What the load generator says of one window.
#[derive(Clone, Debug, serde::Deserialize)]
pub struct Window {
    pub per_second: f64,
    pub p50_us: f64,
    pub p99_us: f64,
    pub cpu_us: f64,
    pub http_per_call: f64,
}

/// One cell of the table.
pub type Cell = (Load, Upstream, Way);

/// One window per round for every cell; the same index is the same round.
pub type Calls = HashMap<Cell, Vec<Window>>;

pub fn run(tools: &Tools, plan: &Plan) -> Result<Calls> {
    let upstreams = Upstream::ALL.map(|upstream| tools.upstream(upstream, None));
    let upstreams = upstreams.into_iter().collect::<Result<Vec<Process>>>()?;
    let (nginx, nginx_ports) = tools.nginx(&upstreams)?;
    let ferries = upstreams
        .iter()
        .zip(Upstream::ALL)
        .map(|(process, upstream)| tools.ferry(process, upstream.mode()));
    let ferries = ferries.collect::<Result<Vec<Process>>>()?;

    let mut calls = Calls::new();
    for round in 0..plan.rounds {
        for &load in &plan.loads {
            for (index, upstream) in Upstream::ALL.into_iter().enumerate() {
                for way in Way::ALL {
                    let (mode, url, ids) = match way {
                        Way::Direct => (
                            "plain",
                            upstreams[index].url("/mcp"),
                            vec![upstreams[index].id()],
                        ),
                        Way::Nginx => {
                            let url = format!("http://127.0.0.1:{}/mcp", nginx_ports[index]);
                            ("plain", url, nginx.all_ids()?)
                        }
                        Way::PassThrough => (
                            "plain",
                            ferries[index].url("/mcp"),
                            vec![ferries[index].id()],
                        ),
                        Way::Translated => (
                            "legacy",
                            ferries[index].url("/sse"),
                            vec![ferries[index].id()],
                        ),
                    };
                    eprintln!(
                        "round {} of {}, {load}: {}, {}",
                        round + 1,
                        plan.rounds,
                        upstream.name(),
                        way.name()
                    );
                    let mut command = tools.load(mode, &url, &upstreams[index]);
                    let ids: Vec<String> = ids.iter().map(u32::to_string).collect();
                    command
                        .args(["--pids", &ids.join(",")])
                        .args(["--connections", &load.connections.to_string()]);
                    command.args(["--in-flight", &load.in_flight.to_string()]);
                    command.args(["--warm-ms", &plan.warm_ms.to_string()]);
                    command.args(["--window-ms", &plan.window_ms.to_string()]);
                    let window = result(&mut command).context(&format!(
                        "{load}, {}, {}",
                        upstream.name(),
                        way.name()
                    ))?;
                    calls.entry((load, upstream, way)).or_default().push(window);
                }
            }
        }
    }
    for ferry in ferries {
        let status = ferry.leave()?;
        if !status.success() {
            return Err(format!("the ferry ended with {status} after SIGTERM"));
        }
    }
    Ok(calls)
}

impl Tools {
    /// The load generator, but for what its mode needs.
    pub fn load(&self, mode: &str, url: &str, upstream: &Process) -> Command {
        let mut command = Command::new(&self.load);
        command
            .arg(mode)
            .args(["--url", url])
            .args(["--stats", &upstream.url("/stats")]);
        command
    }
}

/// Runs the load generator and reads its line.
pub fn result<T: serde::de::DeserializeOwned>(command: &mut Command) -> Result<T> {
    let output = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .output()
        .context("start the load generator")?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).trim().to_owned());
    }
    serde_json::from_slice(&output.stdout).context("the load generator's line")
}
