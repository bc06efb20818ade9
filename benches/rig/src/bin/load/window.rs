//! The measured window: what is to be run, when calls count, and what is reported.

use rig::args::Args;
use rig::client::{Connection, Url};
use rig::summary::percentile;
use rig::{Context, Result, procfs};
use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::time::{Duration, Instant};

/// One run, as the command line asks for it.
pub struct Plan {
    pub url: Url,
    pub connections: usize,
    pub in_flight: usize,
    /// Whether plain calls are made without a handshake.
    pub modern: bool,
    warm: Duration,
    window: Duration,
    stats: Url,
    pids: Vec<u32>,
    /// All processes of the run but this one; what else is busy on the machine is noise.
    known: Vec<u32>,
}

impl Plan {
    pub fn read(args: &Args) -> Result<Self> {
        Ok(Self {
            url: args.need("url")?,
            connections: args.need("connections")?,
            in_flight: args.need("in-flight")?,
            modern: args.has("modern"),
            warm: Duration::from_millis(args.need("warm-ms")?),
            window: Duration::from_millis(args.need("window-ms")?),
            stats: args.need("stats")?,
            pids: args.list("pids")?,
            known: args.list("known")?,
        })
    }
}

/// What the workers share while they run.
#[derive(Default)]
pub struct Window {
    recording: Cell<bool>,
    stopping: Cell<bool>,
    /// Nanoseconds of each call that ended inside the window.
    latencies: RefCell<Vec<u32>>,
    asked: Cell<u64>,
    answered: Cell<u64>,
}

impl Window {
    /// Whether another call is to be made; counts it.
    pub fn begin(&self) -> Option<Instant> {
        if self.stopping.get() {
            return None;
        }
        self.asked.set(self.asked.get() + 1);
        Some(Instant::now())
    }

    /// A call was answered, rightly.
    pub fn end(&self, begun: Instant) {
        self.answered.set(self.answered.get() + 1);
        if self.recording.get() {
            let nanoseconds = u32::try_from(begun.elapsed().as_nanos()).unwrap_or(u32::MAX);
            self.latencies.borrow_mut().push(nanoseconds);
        }
    }
}

/// How long the last answers may take once no more calls are made.
const LAST_ANSWERS: Duration = Duration::from_secs(10);

/// One caller: makes calls one after another for as long as `Window::begin` says so.
pub type Worker = Pin<Box<dyn Future<Output = ()>>>;

/// Lets the workers run: warms up, measures, stops them, waits for every last answer. The line of results.
pub async fn measure(plan: &Plan, window: &Window, workers: Vec<Worker>) -> Result<String> {
    let http_before = quiet(&plan.stats).await?.http;
    let workers: Vec<_> = workers.into_iter().map(tokio::task::spawn_local).collect();
    tokio::time::sleep(plan.warm).await;

    let own = [std::process::id()];
    let known: Vec<u32> = plan.known.iter().copied().chain(own).collect();
    let (measured, ours, busy) = (
        Spent::now(&plan.pids)?,
        Spent::now(&known)?,
        procfs::machine_busy_ns()?,
    );
    let own_cpu = Spent::now(&own)?;
    let begun = Instant::now();
    window.recording.set(true);
    tokio::time::sleep(plan.window).await;
    window.recording.set(false);
    let seconds = begun.elapsed().as_secs_f64();
    let (cpu, own_cpu, ours) = (measured.since()?, own_cpu.since()?, ours.since()?);
    let busy = (procfs::machine_busy_ns()? - busy) as f64;
    let cores = std::thread::available_parallelism().context("cores")?.get() as f64;

    window.stopping.set(true);
    let all = async {
        for worker in workers {
            worker.await.context("worker")?;
        }
        Ok(())
    };
    let ended: Result<()> = tokio::time::timeout(LAST_ANSWERS, all)
        .await
        .unwrap_or_else(|_| {
            Err(format!(
                "{} of {} calls were never answered",
                window.asked.get() - window.answered.get(),
                window.asked.get()
            ))
        });
    ended?;
    let asked = window.asked.get();
    let http = quiet(&plan.stats).await?.http - http_before;

    let mut latencies = window.latencies.take();
    latencies.sort_unstable();
    let calls = latencies.len() as f64;
    if latencies.is_empty() {
        return Err("no call ended inside the window".into());
    }
    Ok(serde_json::json!({
        "calls": calls,
        "per_second": calls / seconds,
        "p50_us": percentile(&latencies, 0.5) / 1e3,
        "p99_us": percentile(&latencies, 0.99) / 1e3,
        "cpu_us": cpu / 1e3 / calls,
        "load_cpu_us": own_cpu / 1e3 / calls,
        "foreign": ((busy - ours) / 1e9 / seconds / cores).max(0.0),
        "http_per_call": http as f64 / asked as f64,
    })
    .to_string())
}

/// CPU time of some processes from a moment on.
struct Spent<'a> {
    processes: &'a [u32],
    before: u64,
}

impl<'a> Spent<'a> {
    fn now(processes: &'a [u32]) -> Result<Self> {
        Ok(Self {
            processes,
            before: procfs::cpu_ns(processes)?,
        })
    }

    fn since(&self) -> Result<f64> {
        Ok((procfs::cpu_ns(self.processes)? - self.before) as f64)
    }
}

/// The stub upstream's counters.
#[derive(serde::Deserialize)]
pub struct Stats {
    pub http: u64,
    pub listening: usize,
    pub sessions: usize,
}

/// Reads the stub upstream's counters.
pub async fn stats(url: &Url) -> Result<Stats> {
    let mut body = Vec::new();
    let request = format!(
        "GET {} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n\r\n",
        url.path, url.address
    );
    Connection::open(url.address, 0)
        .await?
        .exchange(request.as_bytes(), &mut body)
        .await?;
    serde_json::from_slice(&body).context("stats")
}

/// The counters once they have stood still: nothing that belongs to the opening is still on its way.
async fn quiet(url: &Url) -> Result<Stats> {
    let mut last = stats(url).await?;
    for _ in 0..100 {
        tokio::time::sleep(Duration::from_millis(20)).await;
        let now = stats(url).await?;
        if now.http == last.http {
            return Ok(now);
        }
        last = now;
    }
    Err("the upstream's counters do not come to rest".into())
}
