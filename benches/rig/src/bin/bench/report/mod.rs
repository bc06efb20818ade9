//! The page: budgets with their verdicts, the tables behind them, and how it was measured.

mod budgets;

use crate::calls::{Calls, Window};
use crate::idle::{Held, Holds};
use crate::machine;
use crate::plan::{Idle, Load, Plan, Upstream, Way};
use crate::processes::Tools;
use rig::summary::median;
use rig::{Context, Result};
use std::fmt::Write;

/// All that was measured.
pub struct Measured {
    pub calls: Calls,
    pub idle: Holds,
    pub start_ms: Vec<f64>,
    /// See [`crate::instructions::tap_off`]; not where there is no build to compare with.
    pub tap_off: Option<[f64; 2]>,
}

impl Measured {
    fn windows(&self, load: Load, upstream: Upstream, way: Way) -> &[Window] {
        self.calls
            .get(&(load, upstream, way))
            .map_or(&[], Vec::as_slice)
    }

    fn middle(&self, load: Load, upstream: Upstream, way: Way, of: fn(&Window) -> f64) -> f64 {
        median(self.windows(load, upstream, way).iter().map(of))
    }

    /// How a way stands to another in the same round, over all rounds.
    fn compare(
        &self,
        load: Load,
        upstream: Upstream,
        ways: [Way; 2],
        with: fn(&Window, &Window) -> f64,
    ) -> f64 {
        let [one, other] = ways.map(|way| self.windows(load, upstream, way));
        median(one.iter().zip(other).map(|(one, other)| with(one, other)))
    }

    fn held(&self, idle: Idle) -> &[Held] {
        self.idle
            .iter()
            .find(|(size, _)| *size == idle)
            .map_or(&[], |(_, held)| held.as_slice())
    }
}

fn cpu_ratio(one: &Window, other: &Window) -> f64 {
    one.cpu_us / other.cpu_us
}

fn rss_each(idle: Idle, held: &[Held]) -> f64 {
    median(
        held.iter()
            .map(|held| (held.open.rss - held.before.rss) / idle.connections as f64),
    )
}

fn left_over(held: &[Held]) -> f64 {
    median(held.iter().map(|held| held.after.rss / held.before.rss))
}

/// The whole page.
pub fn page(tools: &Tools, plan: &Plan, measured: &Measured, command: &str) -> Result<String> {
    let mut page = String::new();
    write_page(&mut page, tools, plan, measured, command).context("page")?;
    Ok(page)
}

fn write_page(
    page: &mut String,
    tools: &Tools,
    plan: &Plan,
    measured: &Measured,
    command: &str,
) -> std::fmt::Result {
    writeln!(page, "# Benchmark results\n")?;
    writeln!(
        page,
        "One run on one machine, nginx beside the ferry; written by `{command}`.\n"
    )?;
    write!(page, "{}", machine::describe(&tools.nginx, &tools.ferry))?;
    writeln!(
        page,
        "- medians of {} rounds of {} ms windows after {} ms of warming up; idle clients: {} rounds; starts: {}",
        plan.rounds, plan.window_ms, plan.warm_ms, plan.idle_rounds, plan.starts
    )?;
    let foreign: Vec<f64> = measured
        .calls
        .values()
        .flatten()
        .map(|window| window.foreign * 100.0)
        .collect();
    let (_, most) = range(&foreign);
    writeln!(
        page,
        "- other programs took {:.0} % of the machine during the windows (median; at most {most:.0} %)\n",
        median(foreign)
    )?;
    budgets::table(page, plan, measured)?;
    for &load in &plan.loads {
        calls(page, load, measured)?;
    }
    idle(page, measured)?;
    let (low, high) = range(&measured.start_ms);
    writeln!(page, "## Start\n")?;
    writeln!(
        page,
        "From starting the process to the first byte of `GET /sse`: {:.1} ms ({low:.1} to {high:.1}).\n",
        median(measured.start_ms.iter().copied())
    )?;
    page.push_str(HOW);
    Ok(())
}

fn range(values: &[f64]) -> (f64, f64) {
    values
        .iter()
        .fold((f64::INFINITY, 0.0), |(low, high), &value| {
            (low.min(value), high.max(value))
        })
}

fn calls(page: &mut String, load: Load, measured: &Measured) -> std::fmt::Result {
    writeln!(page, "## Calls, {load}\n")?;
    writeln!(
        page,
        "| upstream | way | calls/s | p50 µs | p99 µs | CPU µs per call | × nginx | upstream calls per call |"
    )?;
    writeln!(
        page,
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |"
    )?;
    for upstream in Upstream::ALL {
        for way in Way::before(upstream) {
            let middle = |of| measured.middle(load, upstream, way, of);
            let cpu: Vec<f64> = measured
                .windows(load, upstream, way)
                .iter()
                .map(|window| window.cpu_us)
                .collect();
            let (low, high) = range(&cpu);
            let ratio = measured.compare(load, upstream, [way, Way::Nginx], cpu_ratio);
            // What is measured on the direct way is the upstream itself.
            let (cpu, ratio) = match way {
                Way::Direct => (
                    format!("({:.1})", middle(|window| window.cpu_us)),
                    String::new(),
                ),
                _ => (
                    format!(
                        "{:.1} ({low:.1} to {high:.1})",
                        middle(|window| window.cpu_us)
                    ),
                    format!("{ratio:.2}"),
                ),
            };
            writeln!(
                page,
                "| {} | {} | {:.0} | {:.0} | {:.0} | {cpu} | {ratio} | {:.3} |",
                upstream.name(),
                way.name(),
                middle(|window| window.per_second),
                middle(|window| window.p50_us),
                middle(|window| window.p99_us),
                middle(|window| window.http_per_call),
            )?;
        }
    }
    writeln!(page)
}

fn idle(page: &mut String, measured: &Measured) -> std::fmt::Result {
    writeln!(page, "## Idle legacy connections\n")?;
    writeln!(
        page,
        "| upstream | connections | listen streams | RSS KiB before, open, after | KiB each, RSS | PSS | after ÷ before |"
    )?;
    writeln!(page, "| --- | ---: | ---: | ---: | ---: | ---: | ---: |")?;
    for (size, held) in &measured.idle {
        let middle = |of: fn(&Held) -> f64| median(held.iter().map(of));
        let pss = median(
            held.iter()
                .map(|held| (held.open.pss - held.before.pss) / size.connections as f64),
        );
        writeln!(
            page,
            "| {} | {} | {:.0} | {:.0}, {:.0}, {:.0} | {:.1} | {pss:.1} | {:.2} |",
            size.upstream.name(),
            size.connections,
            middle(|held| held.listening as f64),
            middle(|held| held.before.rss),
            middle(|held| held.open.rss),
            middle(|held| held.after.rss),
            rss_each(*size, held),
            left_over(held),
        )?;
    }
    writeln!(page, "\n## Coming and going\n")?;
    writeln!(
        page,
        "| upstream | connections | opened/s | CPU µs per opening: ferry, upstream, load | upstream sessions ended after | left over | descriptors before, open, after |"
    )?;
    writeln!(page, "| --- | ---: | ---: | ---: | ---: | ---: | ---: |")?;
    for (size, held) in &measured.idle {
        let middle = |of: fn(&Held) -> f64| median(held.iter().map(of));
        writeln!(
            page,
            "| {} | {} | {:.0} | {:.0}, {:.0}, {:.0} | {:.0} ms | {:.0} | {:.0}, {:.0}, {:.0} |",
            size.upstream.name(),
            size.connections,
            middle(|held| held.per_second),
            middle(|held| held.cpu_us),
            middle(|held| held.upstream_cpu_us),
            middle(|held| held.load_cpu_us),
            middle(|held| held.sessions_ms),
            held.iter()
                .map(|held| held.sessions_left)
                .fold(0.0, f64::max),
            middle(|held| held.files[0]),
            middle(|held| held.files[1]),
            middle(|held| held.files[2]),
        )?;
    }
    writeln!(page)
}

const HOW: &str = "## How

- Load generator and upstream are one thread each and share the cores with the proxy, so throughput is that of all
  three together; CPU per call is the proxy's own processes alone (with nginx: master and workers), from `schedstat`.
  On the direct way the figure in parentheses is the upstream's.
- `C×K` is C clients with K calls in flight each. Plain ways use C×K keep-alive connections; legacy clients use C
  streams and C×K keep-alive connections to post on. A legacy call ends when both its 202 and its answer are there.
- Every call carries a text of its own and every answer is compared byte for byte; a wrong, missing or doubled one
  fails the run.
- Ratios and differences are taken within a round, then the median over the rounds.
- An idle connection has been opened and initialized and has no connection to post on. \"Before\" is after 64 clients
  (as many as are opened at the same time) came, made a call each and left. \"After\" is once the upstream sessions
  are gone and memory stands still. PSS and RSS are of the ferry alone; the kernel's socket buffers are in neither.
";
