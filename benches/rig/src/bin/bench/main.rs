//! Runs the plan and prints the table: starts upstreams, nginx and the ferry, lets the load generator loose on each in
//! turn, and judges the budgets. `benches/run.sh` builds and calls it.
//!
//! `bench --ferry FILE --nginx FILE --work FOLDER [--quick | --smoke] [--without-tap FILE] [--results FILE]
//! [--command TEXT]`

mod calls;
mod idle;
mod instructions;
mod machine;
mod plan;
mod processes;
mod quiet;
mod report;
mod smoke;
mod start;

use plan::Plan;
use processes::Tools;
use rig::args::Args;
use rig::{Context, Result};

fn main() -> std::process::ExitCode {
    rig::exit("bench", run())
}

fn run() -> Result<()> {
    let args = Args::read(std::env::args().skip(1))?;
    let here = std::env::current_exe().context("own path")?;
    let tools = Tools {
        ferry: args.need("ferry")?,
        nginx: args.need("nginx")?,
        load: here.with_file_name("load"),
        upstream: here.with_file_name("upstream"),
        work: args.need("work")?,
    };
    std::fs::create_dir_all(&tools.work).context("working folder")?;
    if args.has("smoke") {
        return smoke::run(&tools);
    }
    let plan = if args.has("quick") {
        Plan::quick()
    } else {
        Plan::full()
    };
    let mut quiet = quiet::Quiet::new(plan.patience);
    let without_tap: Option<std::path::PathBuf> = args.get("without-tap")?;
    let tap_off = without_tap.map(|file| instructions::tap_off(&tools, &file));
    let measured = report::Measured {
        tap_off: tap_off.transpose()?,
        calls: calls::run(&tools, &plan, &mut quiet)?,
        idle: idle::run(&tools, &plan, &mut quiet)?,
        start_ms: start::run(&tools, plan.starts)?,
    };
    let text = report::page(
        &tools,
        &plan,
        &measured,
        &args.get::<String>("command")?.unwrap_or_default(),
    )?;
    println!("{text}");
    if let Some(file) = args.get::<String>("results")? {
        std::fs::write(&file, text).context(&file)?;
    }
    Ok(())
}
