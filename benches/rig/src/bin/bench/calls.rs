//! Calls in flight: every upstream by every way under every load, round after round.

use crate::plan::{Load, Plan, Upstream, WATCHED, Way};
use crate::processes::{Process, Tools};
use crate::quiet::Quiet;
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
    /// The part of the machine that programs outside the run took.
    pub foreign: f64,
    pub http_per_call: f64,
}

/// One cell of the table.
pub type Cell = (Load, Upstream, Way);

/// One window per round for every cell; the same index is the same round.
pub type Calls = HashMap<Cell, Vec<Window>>;

pub fn run(tools: &Tools, plan: &Plan, quiet: &mut Quiet) -> Result<Calls> {
    let stage = Stage::build(tools)?;
    let known = stage.everyone()?;
    let mut calls = Calls::new();
    for round in 0..plan.rounds {
        for &load in &plan.loads {
            for upstream in Upstream::ALL {
                for way in Way::before(upstream) {
                    let name = format!("{load}, {}, {}", upstream.name(), way.name());
                    eprintln!("round {} of {}: {name}", round + 1, plan.rounds);
                    quiet.wait()?;
                    let mut command = stage.command(tools, plan, (load, upstream, way))?;
                    let window = result(command.args(["--known", &known])).context(&name)?;
                    calls.entry((load, upstream, way)).or_default().push(window);
                }
            }
        }
    }
    stage.end()?;
    Ok(calls)
}

/// All that stands at the same time: one upstream and one ferry for each kind, in `Upstream::ALL`'s
/// order, and one nginx. Only one way is under load at a time; the others sleep.
struct Stage {
    upstreams: Vec<Process>,
    nginx: Process,
    nginx_ports: Vec<u16>,
    ferries: Vec<Process>,
    /// Two more, that are watched: by one who reads, and by one who does not.
    watched: Process,
    stalled: Process,
}

impl Stage {
    fn build(tools: &Tools) -> Result<Self> {
        let upstreams = Upstream::ALL.map(|upstream| tools.upstream(upstream, None));
        let upstreams = upstreams.into_iter().collect::<Result<Vec<_>>>()?;
        let (nginx, nginx_ports) = tools.nginx(&upstreams)?;
        let ferries = upstreams
            .iter()
            .zip(Upstream::ALL)
            .map(|(process, upstream)| tools.ferry(process, upstream.mode()))
            .collect::<Result<_>>()?;
        Ok(Self {
            nginx,
            nginx_ports,
            ferries,
            watched: tools.watched_ferry(&upstreams[WATCHED as usize], true)?,
            stalled: tools.watched_ferry(&upstreams[WATCHED as usize], false)?,
            upstreams,
        })
    }

    fn everyone(&self) -> Result<String> {
        let mut ids = self.nginx.all_ids()?;
        let all = self.upstreams.iter().chain(&self.ferries);
        ids.extend(all.chain([&self.watched, &self.stalled]).map(Process::id));
        Ok(joined(&ids))
    }

    fn command(&self, tools: &Tools, plan: &Plan, (load, kind, way): Cell) -> Result<Command> {
        let place = kind as usize;
        let upstream = &self.upstreams[place];
        let ferry = match way {
            Way::TranslatedStalled => &self.stalled,
            _ if way.is_watched() => &self.watched,
            _ => &self.ferries[place],
        };
        let (mode, url, measured) = match way {
            Way::Direct => ("plain", upstream.url("/mcp"), vec![upstream.id()]),
            Way::Nginx => {
                let url = format!("http://127.0.0.1:{}/mcp", self.nginx_ports[place]);
                ("plain", url, self.nginx.all_ids()?)
            }
            Way::PassThrough | Way::PassThroughWatched => {
                ("plain", ferry.url("/mcp"), vec![ferry.id()])
            }
            Way::Translated | Way::TranslatedWatched | Way::TranslatedStalled => {
                ("legacy", ferry.url("/sse"), vec![ferry.id()])
            }
        };
        let mut command = tools.load(mode, &url, upstream);
        command.args(kind.switches());
        command.args(["--pids", &joined(&measured)]);
        command.args(["--connections", &load.connections.to_string()]);
        command.args(["--in-flight", &load.in_flight.to_string()]);
        command.args(["--warm-ms", &plan.warm_ms.to_string()]);
        command.args(["--window-ms", &plan.window_ms.to_string()]);
        Ok(command)
    }

    /// The ferries must leave as they should.
    fn end(self) -> Result<()> {
        let mut all = self.ferries.into_iter().chain([self.watched, self.stalled]);
        all.try_for_each(Process::leave_well)
    }
}

fn joined(ids: &[u32]) -> String {
    ids.iter().map(u32::to_string).collect::<Vec<_>>().join(",")
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
    let command = command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let output = command.output().context("start the load generator")?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).trim().to_owned());
    }
    serde_json::from_slice(&output.stdout).context("the load generator's line")
}
