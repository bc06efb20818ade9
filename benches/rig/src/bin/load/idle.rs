//! Idle legacy clients: how fast they are opened, what the server holds for each, and what is left when they are gone.

use crate::fail;
use crate::legacy::Client;
use crate::window::stats;
use rig::args::Args;
use rig::client::{Connection, Url};
use rig::procfs::{self, Memory};
use rig::{Context, Result};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

/// How many clients open at the same time.
const AT_ONCE: usize = 64;
/// How many of the idle clients make a call before they leave, to show that they are alive.
const PROBED: usize = 100;
/// How long any stage may take to come to rest.
const BOUND: Duration = Duration::from_secs(15);

pub async fn run(args: &Args) -> Result<String> {
    let (url, upstream) = (args.need::<Url>("url")?, args.need::<Url>("stats")?);
    let (count, pid) = (args.need::<usize>("connections")?, args.need::<u32>("pid")?);
    let upstream_pid = args.need::<u32>("upstream-pid")?;
    let still = Duration::from_millis(args.need("still-ms")?);

    // As many clients as open at the same time come and go first, so that "before" is a process at
    // work and not one that has only just started.
    let mut first = open_clients(&url, AT_ONCE).await?;
    probe(&mut first, &url).await?;
    drop(first);
    gone(&upstream).await?;
    let (before, files_before) = (rest(pid, still).await?, procfs::open_files(pid)?);

    let pids = [pid, upstream_pid, std::process::id()];
    let cpu = |which: usize| procfs::cpu_ns(&pids[which..=which]);
    let cpu_before = [cpu(0)?, cpu(1)?, cpu(2)?];
    let begun = Instant::now();
    let mut clients = open_clients(&url, count).await?;
    let seconds = begun.elapsed().as_secs_f64();
    let spent = |which: usize| Ok((cpu(which)? - cpu_before[which]) as f64 / 1e3 / count as f64);
    let spent: Result<Vec<f64>> = (0..3).map(spent).collect();
    let spent = spent?;

    // With sessions, every client gets its listen stream upstream, a moment after it was initialized.
    let sessions = stats(&upstream).await?.sessions;
    until("a listen stream for every session", async || {
        Ok(stats(&upstream).await?.listening == sessions)
    })
    .await?;
    if sessions != 0 && sessions != count {
        return Err(format!("{count} clients made {sessions} upstream sessions"));
    }
    clients.iter_mut().for_each(Client::rest);
    let (open, files_open) = (rest(pid, still).await?, procfs::open_files(pid)?);

    probe(&mut clients, &url).await?;
    let leaving = Instant::now();
    drop(clients);
    let sessions_left = gone(&upstream).await?;
    let sessions_ms = leaving.elapsed().as_secs_f64() * 1e3;
    // Connections to the upstream may be kept alive for a while: what is still open after the bound
    // is reported, not judged.
    while procfs::open_files(pid)? > files_before + AT_ONCE && leaving.elapsed() < BOUND {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let (after, files_after) = (rest(pid, still).await?, procfs::open_files(pid)?);

    Ok(serde_json::json!({
        "per_second": count as f64 / seconds,
        "listening": sessions,
        "before": before, "open": open, "after": after,
        "files": [files_before, files_open, files_after],
        "sessions_left": sessions_left, "sessions_ms": sessions_ms,
        "cpu_us": spent[0], "upstream_cpu_us": spent[1], "load_cpu_us": spent[2],
    })
    .to_string())
}

/// Opens and initializes so many clients, `AT_ONCE` at a time, each opener posting on its own kept-alive connection.
async fn open_clients(url: &Url, count: usize) -> Result<Vec<Client>> {
    let (next, clients) = (
        Rc::new(Cell::new(0)),
        Rc::new(RefCell::new(Vec::with_capacity(count))),
    );
    let openers: Vec<_> = (0..AT_ONCE.min(count))
        .map(|_| {
            let (url, next, clients) = (url.clone(), Rc::clone(&next), Rc::clone(&clients));
            tokio::task::spawn_local(async move {
                let opened = async {
                    let mut posting = Connection::open(url.address, 0).await?;
                    while next.get() < count {
                        let index = next.replace(next.get() + 1);
                        let mut client = Client::open(&url, index).await?;
                        client.initialize(&mut posting).await?;
                        clients.borrow_mut().push(client);
                    }
                    Ok::<_, String>(())
                };
                if let Err(error) = opened.await {
                    fail(&format!(
                        "after {} of {count} clients: {error}",
                        clients.borrow().len()
                    ));
                }
            })
        })
        .collect();
    for opener in openers {
        opener.await.context("opener")?;
    }
    Ok(clients.take())
}

/// Some of the clients, spread over all, make a call.
async fn probe(clients: &mut [Client], url: &Url) -> Result<()> {
    let mut posting = Connection::open(url.address, 0).await?;
    let step = clients.len().div_ceil(PROBED).max(1);
    for client in clients.iter_mut().step_by(step) {
        client
            .call(&mut posting, 1)
            .await
            .context("an idle client's call")?;
    }
    Ok(())
}

/// Waits until the upstream has neither sessions nor listen streams; how many sessions it still has
/// after the bound.
async fn gone(upstream: &Url) -> Result<usize> {
    let begun = Instant::now();
    loop {
        let now = stats(upstream).await?;
        if now.sessions + now.listening == 0 || begun.elapsed() > BOUND {
            return Ok(now.sessions);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The memory once it has stood still for so long, or after the bound.
async fn rest(pid: u32, still: Duration) -> Result<Memory> {
    let (mut last, begun) = (procfs::memory(pid)?, Instant::now());
    let mut since = begun;
    while since.elapsed() < still && begun.elapsed() < BOUND {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let now = procfs::memory(pid)?;
        if (now.rss - last.rss).abs() >= 1.0 {
            since = Instant::now();
        }
        last = now;
    }
    Ok(last)
}

async fn until(what: &str, mut reached: impl AsyncFnMut() -> Result<bool>) -> Result<()> {
    let begun = Instant::now();
    while !reached().await? {
        if begun.elapsed() > BOUND {
            return Err(format!("{what}: not within {} s", BOUND.as_secs()));
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}
