//! The load generator. One thread; prints one line of JSON; any wrong, missing or doubled answer ends it with 1.
//!
//! `load plain|legacy --url URL --connections N --in-flight K --warm-ms MS --window-ms MS --stats URL [--pids 1,2] [--known 3]`
//!     keeps K calls in flight on each of N connections for a while and measures a window of it. `plain` posts to a
//!     Streamable HTTP endpoint, one call at a time on N×K keep-alive connections, with `--modern` as clients of
//!     2026-07-28 do; `legacy` opens N streams at
//!     `GET /sse`, posts on N×K keep-alive connections and takes the answers from the streams.
//! `load idle --url URL --connections N --stats URL --pid PID --upstream-pid PID --still-ms MS`
//!     opens and initializes N legacy connections, holds them, leaves, and reads the server's memory at each stage.

mod idle;
mod legacy;
mod plain;
mod window;

use rig::args::Args;
use rig::{Context, Result};
use std::time::Duration;

fn main() -> std::process::ExitCode {
    rig::exit("load", run())
}

fn run() -> Result<()> {
    let mut words = std::env::args().skip(1);
    let mode = words.next().unwrap_or_default();
    let args = Args::read(words)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("runtime")?;
    let line = tokio::task::LocalSet::new().block_on(&runtime, async {
        let run = async {
            match mode.as_str() {
                "plain" => plain::run(&window::Plan::read(&args)?).await,
                "legacy" => legacy::run(&window::Plan::read(&args)?).await,
                "idle" => idle::run(&args).await,
                other => Err(format!("unknown mode {other:?}")),
            }
        };
        let late = |_| {
            Err(format!(
                "not done within {} s: an answer is missing",
                BOUND.as_secs()
            ))
        };
        tokio::time::timeout(BOUND, run).await.unwrap_or_else(late)
    })?;
    println!("{line}");
    Ok(())
}

/// No run takes longer than this, whatever the server does.
const BOUND: Duration = Duration::from_secs(60);

/// A task has found something wrong: the run is worth nothing, so it ends here.
fn fail(what: &str) -> ! {
    eprintln!("load: {what}");
    std::process::exit(1);
}
