//! Waits for the machine to be quiet before something is measured, within a bound: on a machine that others use too,
//! most of the noise comes in stretches that can be waited out. What remains is measured and reported.

use rig::{Context, Result, procfs};
use std::time::{Duration, Instant};

/// Busier than this, in parts of all cores, is not quiet.
const BUSY: f64 = 0.1;
/// How long one look takes.
const LOOK: Duration = Duration::from_millis(200);

/// The longest wait for one measurement; whoever is busy for longer is not waited out.
const LONGEST: Duration = Duration::from_secs(3);

/// What is left of the time to wait.
pub struct Quiet {
    left: Duration,
}

impl Quiet {
    pub fn new(patience: Duration) -> Self {
        Self { left: patience }
    }

    /// Returns when the machine is quiet, or patience has run out.
    pub fn wait(&mut self) -> Result<()> {
        let cores = std::thread::available_parallelism().context("cores")?.get() as f64;
        let until = self.left.saturating_sub(LONGEST);
        while self.left > until {
            let (busy, begun) = (procfs::machine_busy_ns()?, Instant::now());
            std::thread::sleep(LOOK);
            let (busy, took) = (procfs::machine_busy_ns()? - busy, begun.elapsed());
            if busy as f64 / took.as_nanos() as f64 / cores < BUSY {
                return Ok(());
            }
            self.left = self.left.saturating_sub(took);
        }
        Ok(())
    }
}
