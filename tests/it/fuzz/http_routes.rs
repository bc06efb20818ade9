//! Any bytes on a socket of the real server.
//!
//! The first byte of the input says in how many pieces the rest is written, and whether the client then waits a moment
//! before it says that no more comes; `{id}` in the rest stands for the id of an open stream. Whatever is written, the
//! server answers with 2xx and 4xx only and closes, nothing panics, and what the upstream sees are well-formed requests
//! to its one path, not more of them than were asked for.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{OnceLock, mpsc};
use std::time::Duration;

use mcp_ferry::config::Config;
use mcp_ferry::server::Bound;

use super::Decisions;
use super::raw::{self, Until};
use super::recorder::Recorder;

/// The thread of the server; a panic on it is remembered here.
const THREAD: &str = "fuzzed-server";
static PANICKED: AtomicBool = AtomicBool::new(false);

pub fn check(input: &[u8]) {
    static RIG: OnceLock<Rig> = OnceLock::new();
    let rig = RIG.get_or_init(Rig::start);
    let (done, outcome) = mpsc::channel();
    let job = Job {
        input: input.to_vec(),
        done,
    };
    rig.jobs.blocking_send(job).expect("the server runs");
    let outcome = outcome.recv().expect("the server lives");
    assert!(!PANICKED.load(Ordering::Relaxed), "the server panicked");
    if let Err(why) = outcome {
        panic!("{why}");
    }
}

struct Job {
    input: Vec<u8>,
    done: mpsc::Sender<Result<(), String>>,
}

/// The server and its upstream, on a thread of their own.
struct Rig {
    jobs: tokio::sync::mpsc::Sender<Job>,
}

impl Rig {
    fn start() -> Self {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if std::thread::current().name() == Some(THREAD) {
                PANICKED.store(true, Ordering::Relaxed);
            }
            before(panic);
        }));
        let (jobs, mut queue) = tokio::sync::mpsc::channel::<Job>(1);
        let serve = async move {
            let upstream = Recorder::start().await;
            let address = start_ferry(upstream.address).await;
            while let Some(job) = queue.recv().await {
                let limit = Duration::from_secs(30);
                let run = tokio::time::timeout(limit, run(address, &upstream, &job.input));
                let outcome = run
                    .await
                    .unwrap_or_else(|_| Err("it does not end".to_owned()));
                // Whoever asked is gone only when it panicked itself.
                let _ = job.done.send(outcome);
            }
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        let runtime = runtime.expect("a runtime");
        let thread = std::thread::Builder::new().name(THREAD.to_owned());
        thread
            .spawn(move || runtime.block_on(serve))
            .expect("a thread");
        Self { jobs }
    }
}

async fn start_ferry(upstream: SocketAddr) -> SocketAddr {
    let mut config = Config::for_upstream(format!("http://{upstream}/mcp").parse().expect("a URL"));
    config.listen = vec![([127, 0, 0, 1], 0).into()];
    let bound = Bound::bind(config).await.expect("bind");
    let address = bound.addresses()[0];
    tokio::task::spawn(bound.serve(std::future::pending()));
    address
}

async fn run(address: SocketAddr, upstream: &Recorder, input: &[u8]) -> Result<(), String> {
    let mut decisions = Decisions::new(input);
    let how = decisions.byte();
    let parts = 1 + usize::from(how % 4);
    let until = match how {
        0..128 => Until::Answers(0),
        _ => Until::Quiet(Duration::from_millis(10)),
    };
    let text = decisions.rest();
    let stream = match memchr::memmem::find(text, b"{id}") {
        Some(_) => Some(raw::open(address).await),
        None => None,
    };
    let text = match &stream {
        Some((_, id)) => replaced(text, b"{id}", id.as_bytes()),
        None => text.to_vec(),
    };
    let wrong = |wrong| format!("upstream: {wrong}");
    let sent = raw::exchange(address, &text, parts, until).await;
    let answers = raw::answers_with_heads(&sent, true)?;
    for answer in &answers {
        if !matches!(answer.status, 200..300 | 400..500) {
            return Err(format!("an answer that must not be: {answer:?}"));
        }
    }
    // When this has gone through, so has everything before it.
    let last = b"POST /mcp?last HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n";
    raw::exchange(address, last, 1, Until::Answers(1)).await;
    let seen = upstream.take().map_err(wrong)?.len() - 1;
    // A request without an answer may have gone upstream before its body broke off. With an open stream come the
    // handshake's two, and a batch is one POST.
    let most = match stream {
        Some(_) => 3 * answers.len() + 256,
        None => answers.len() + 1,
    };
    if seen > most {
        return Err(format!("{seen} requests upstream for {answers:?}"));
    }
    Ok(())
}

fn replaced(text: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = memchr::memmem::find(rest, from) {
        out.extend_from_slice(&rest[..at]);
        out.extend_from_slice(to);
        rest = &rest[at + from.len()..];
    }
    out.extend_from_slice(rest);
    out
}
