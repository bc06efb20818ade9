//! A scripted Streamable HTTP server on raw sockets.
//!
//! It records every request. A closure answers what it wants to at once; everything else waits in a queue as a
//! [`Call`] until the test takes it and answers it: whole, event by event, in part, or never. Nothing is timed.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use hyper::Uri;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::task::JoinSet;

pub(crate) use super::answer::Answer;
pub(crate) use super::call::{Call, Events};
use super::clock::within;
use super::http::{Head, Wire};
pub(crate) use super::port::{ClosedPort, rebind};
pub(crate) use super::servers::{echo, routine};

/// One request as it came.
#[derive(Debug)]
pub(crate) struct Received {
    pub(crate) head: Head,
    pub(crate) body: Bytes,
}

impl Received {
    /// How many headers repeat parts of the message (2026-07-28, "Request Metadata").
    pub(crate) fn mirrored(&self) -> usize {
        let repeats = |name: &str| {
            let name = name.to_ascii_lowercase();
            matches!(name.as_str(), "mcp-method" | "mcp-name") || name.starts_with("mcp-param-")
        };
        self.head
            .headers
            .iter()
            .filter(|(name, _)| repeats(name))
            .count()
    }

    pub(crate) fn method(&self) -> &str {
        self.head.start.split(' ').next().expect("a method")
    }

    /// Path and query.
    pub(crate) fn target(&self) -> &str {
        self.head.start.split(' ').nth(1).expect("a target")
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.header(name)
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("text")
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// The JSON-RPC method; empty where there is none.
    pub(crate) fn rpc(&self) -> String {
        self.json()["method"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    }
}

/// Every request so far.
#[derive(Debug, Default)]
struct Log {
    requests: Mutex<Vec<Arc<Received>>>,
    grown: Notify,
}

type Responder = dyn Fn(&Received) -> Option<Answer> + Send + Sync;

/// The server. It is gone when this is dropped.
pub(crate) struct Upstream {
    pub(crate) address: SocketAddr,
    log: Arc<Log>,
    calls: mpsc::Receiver<Call>,
    dying: watch::Sender<bool>,
    tasks: JoinSet<()>,
}

impl Upstream {
    /// Answers by `respond`; where that says `None`, the test answers ([`Self::next`]).
    pub(crate) async fn start(
        respond: impl Fn(&Received) -> Option<Answer> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        Self::on(listener, respond)
    }

    /// The same on a listener that exists already.
    pub(crate) fn on(
        listener: TcpListener,
        respond: impl Fn(&Received) -> Option<Answer> + Send + Sync + 'static,
    ) -> Self {
        let address = listener.local_addr().expect("an address");
        let log: Arc<Log> = Arc::default();
        let (sender, calls) = mpsc::channel(1024);
        let mut tasks = JoinSet::new();
        let (dying, dies) = watch::channel(false);
        let accept = accept(listener, Arc::new(respond), Arc::clone(&log), sender, dies);
        tasks.spawn(accept);
        Self {
            address,
            log,
            calls,
            dying,
            tasks,
        }
    }

    pub(crate) fn url(&self) -> Uri {
        self.at("/mcp")
    }

    pub(crate) fn at(&self, path: &str) -> Uri {
        format!("http://{}{path}", self.address)
            .parse()
            .expect("a URL")
    }

    /// The next request that the closure left to the test.
    pub(crate) async fn next(&mut self) -> Call {
        within("a request upstream", self.calls.recv())
            .await
            .expect("the server runs")
    }

    /// The same, which must have this HTTP method.
    pub(crate) async fn expect(&mut self, method: &str) -> Call {
        let call = self.next().await;
        assert_eq!(call.request.method(), method, "{}", call.request.head.start);
        call
    }

    /// Every request so far, whoever answered it.
    pub(crate) fn log(&self) -> Vec<Arc<Received>> {
        self.log.requests.lock().expect("no panic").clone()
    }

    /// How often it was asked for this method.
    pub(crate) fn times(&self, method: &str) -> usize {
        let log = self.log();
        log.iter().filter(|request| request.rpc() == method).count()
    }

    /// Waits until some request so far satisfies `wanted`.
    pub(crate) async fn seen(
        &self,
        what: &str,
        wanted: impl Fn(&Received) -> bool,
    ) -> Arc<Received> {
        within(what, async {
            loop {
                let grown = self.log.grown.notified();
                if let Some(found) = self.log().into_iter().find(|request| wanted(request)) {
                    return found;
                }
                grown.await;
            }
        })
        .await
    }

    /// Dies, and waits until those who hold idle connections to it have noticed.
    pub(crate) async fn die(mut self) {
        self.dying.send_replace(true);
        self.calls.close();
        while self.calls.try_recv().is_ok() {}
        within("the others to close too", self.tasks.join_next()).await;
    }

    /// Nobody has taken the server's place by then: no request was left unanswered.
    pub(crate) fn assert_quiet(&mut self) {
        if let Ok(call) = self.calls.try_recv() {
            panic!("an unexpected request: {:?}", call.request);
        }
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.tasks.abort_all();
    }
}

async fn accept(
    listener: TcpListener,
    respond: Arc<Responder>,
    log: Arc<Log>,
    calls: mpsc::Sender<Call>,
    mut dying: watch::Receiver<bool>,
) {
    let mut sockets = JoinSet::new();
    let dies = dying.clone();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Ok(()) = dying.changed() => break,
        };
        let Ok((socket, _)) = accepted else { break };
        let (wire, dies) = (Wire::new(socket), dies.clone());
        let (respond, log, calls) = (Arc::clone(&respond), Arc::clone(&log), calls.clone());
        sockets.spawn(async move {
            let mut wire = wire;
            while let Some(next) = serve(wire, &*respond, &log, &calls, dies.clone()).await {
                wire = next;
            }
        });
    }
    drop(listener);
    while sockets.join_next().await.is_some() {}
}

/// Serves one request, and returns the connection where it can be used again.
async fn serve(
    mut wire: Wire,
    respond: &Responder,
    log: &Log,
    calls: &mpsc::Sender<Call>,
    mut dying: watch::Receiver<bool>,
) -> Option<Wire> {
    let head = tokio::select! {
        head = wire.head() => Some(head?),
        () = until_it_dies(&mut dying) => None,
    };
    let Some(head) = head else {
        // An error means that the other side was faster.
        let _ = socket2::SockRef::from(&wire.socket).shutdown(std::net::Shutdown::Write);
        while wire.read().await {}
        return None;
    };
    let body = wire.body(&head).await.ok()?;
    let request = Arc::new(Received { head, body });
    log.requests
        .lock()
        .expect("no panic")
        .push(Arc::clone(&request));
    log.grown.notify_waiters();
    if let Some(answer) = respond(&request) {
        wire.write(&answer.0).await;
        return Some(wire);
    }
    let (free, freed) = oneshot::channel();
    let call = Call::new(request, wire, free);
    calls.send(call).await.ok()?;
    freed.await.ok()
}

async fn until_it_dies(dying: &mut watch::Receiver<bool>) {
    // An error means that the server was dropped: the same.
    let _ = dying.wait_for(|dying| *dying).await;
}
