//! The rig itself, in seconds: every way works, every answer is right, nothing is left behind, and a wrong answer is
//! noticed. It judges no times.

use crate::plan::{Plan, Upstream, Way};
use crate::processes::Tools;
use crate::quiet::Quiet;
use crate::{calls, idle, start};
use rig::{Context, Result};

pub fn run(tools: &Tools) -> Result<()> {
    let plan = Plan::smoke();
    let mut quiet = Quiet::new(plan.patience);
    for ((load, upstream, way), windows) in calls::run(tools, &plan, &mut quiet)? {
        for window in windows {
            if (window.http_per_call - 1.0).abs() > f64::EPSILON {
                let (upstream, way) = (upstream.name(), way.name());
                return Err(format!(
                    "{load}, {upstream}, {way}: {} upstream calls per call",
                    window.http_per_call
                ));
            }
        }
    }
    println!(
        "ok: right answers, one upstream call each: {} ways, watched or not, to {} upstreams",
        Way::ALL.len(),
        Upstream::ALL.len()
    );

    for (size, held) in idle::run(tools, &plan, &mut quiet)? {
        let expected = if size.upstream == Upstream::StatefulSse {
            size.connections
        } else {
            0
        };
        for held in held {
            if held.sessions_left != 0.0 {
                return Err(format!(
                    "{} upstream sessions were never ended",
                    held.sessions_left
                ));
            }
            if held.listening != expected {
                return Err(format!(
                    "{} listen streams where {expected} were due",
                    held.listening
                ));
            }
        }
    }
    println!("ok: idle clients open, live and leave; their upstream sessions end");

    start::run(tools, plan.starts)?;
    println!("ok: the ferry starts, serves, and ends with 0 after SIGTERM");

    notices_wrong_answers(tools)?;
    println!("ok: a wrong answer fails the run");
    Ok(())
}

/// An upstream that spoils one answer in fifty must fail both kinds of load, for that reason.
fn notices_wrong_answers(tools: &Tools) -> Result<()> {
    for upstream in Upstream::ALL {
        let spoiling = tools.upstream(upstream, Some(50))?;
        let ferry = tools.ferry(&spoiling, "spoilt")?;
        for (mode, url) in [
            ("plain", spoiling.url("/mcp")),
            ("legacy", ferry.url("/sse")),
        ] {
            let mut command = tools.load(mode, &url, &spoiling);
            command.args(upstream.switches());
            command.args([
                "--connections",
                "2",
                "--in-flight",
                "2",
                "--warm-ms",
                "50",
                "--window-ms",
                "500",
            ]);
            match calls::result::<calls::Window>(&mut command) {
                Err(error) if error.contains("spoilt") => {}
                Err(error) => return Err(error).context("instead of noticing a wrong answer"),
                Ok(_) => {
                    return Err(format!(
                        "a wrong answer went unnoticed: {mode}, {}",
                        upstream.name()
                    ));
                }
            }
        }
    }
    Ok(())
}
