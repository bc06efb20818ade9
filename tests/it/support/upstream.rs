//! A scripted Streamable HTTP server on raw sockets.
//!
//! It records every request. A closure answers what it wants to at once; everything else waits in a queue as a
//! [`Call`] until the test takes it and answers it: whole, event by event, in part, or never. Nothing is timed.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use hyper::Uri;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::JoinSet;

pub(crate) use super::call::{Call, Events};
use super::clock::{settle, within};
use super::http::{Head, Wire};
pub(crate) use super::port::ClosedPort;

/// One request as it came.
#[derive(Debug)]
pub(crate) struct Received {
    pub(crate) head: Head,
    pub(crate) body: Bytes,
}

impl Received {
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

/// A whole answer.
#[derive(Clone, Debug)]
pub(crate) struct Answer(pub(super) Vec<u8>);

impl Answer {
    pub(crate) fn new(status: u16, headers: &[(&str, &str)], body: impl AsRef<[u8]>) -> Self {
        let body = body.as_ref();
        let mut text = format!("HTTP/1.1 {status} Scripted\r\n");
        if status != 204 {
            text.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        for (name, value) in headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        text.push_str("\r\n");
        Self([text.as_bytes(), body].concat())
    }

    pub(crate) fn json(body: &Value) -> Self {
        Self::new(
            200,
            &[("Content-Type", "application/json")],
            body.to_string(),
        )
    }

    pub(crate) fn accepted() -> Self {
        Self::new(202, &[], "")
    }

    /// A good answer to `initialize`, with a session when one is named.
    pub(crate) fn initialize(request: &Received, session: Option<&str>) -> Self {
        let body = json!({
            "jsonrpc": "2.0",
            "id": request.json()["id"],
            "result": {
                "protocolVersion": "2025-11-25",
                "capabilities": {"tools": {}},
                "serverInfo": {"name": "scripted", "version": "1"},
            },
        });
        let mut headers = vec![("Content-Type", "application/json")];
        headers.extend(session.map(|session| ("Mcp-Session-Id", session)));
        Self::new(200, &headers, body.to_string())
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
        let accept = accept(listener, Arc::new(respond), Arc::clone(&log), sender);
        tasks.spawn(accept);
        Self {
            address,
            log,
            calls,
            tasks,
        }
    }

    /// Answers nothing by itself.
    pub(crate) async fn silent() -> Self {
        Self::start(|_| None).await
    }

    /// Does the handshake of a server with sessions by itself: `initialize` gets the session `session-N`, N counting
    /// from 1, notifications and answers 202, GET 405, DELETE 200. Requests are the test's.
    pub(crate) async fn with_sessions() -> Self {
        let sessions = std::sync::atomic::AtomicUsize::new(0);
        Self::start(move |request| {
            (request.rpc() == "initialize")
                .then(|| {
                    let number = sessions.fetch_add(1, std::sync::atomic::Ordering::Relaxed) + 1;
                    Answer::initialize(request, Some(&format!("session-{number}")))
                })
                .or_else(|| routine(request))
        })
        .await
    }

    /// The same without sessions.
    pub(crate) async fn stateless() -> Self {
        Self::start(|request| {
            (request.rpc() == "initialize")
                .then(|| Answer::initialize(request, None))
                .or_else(|| routine(request))
        })
        .await
    }

    /// Answers every request by itself: a result that repeats the method and the parameters.
    pub(crate) async fn echo() -> Self {
        Self::start(|request| {
            (request.rpc() == "initialize")
                .then(|| Answer::initialize(request, None))
                .or_else(|| routine(request))
                .or_else(|| Some(echo(request)))
        })
        .await
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

    /// Dies, and lets those who hold connections to it notice.
    pub(crate) async fn die(mut self) {
        self.tasks.shutdown().await;
        settle().await;
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

/// What servers of the handshake era answer to everything but requests.
pub(crate) fn routine(request: &Received) -> Option<Answer> {
    match request.method() {
        "POST" if request.json().get("id").is_none() || request.rpc().is_empty() => {
            Some(Answer::accepted())
        }
        "GET" => Some(Answer::new(405, &[("Allow", "POST, DELETE")], "")),
        "DELETE" => Some(Answer::new(200, &[], "")),
        _ => None,
    }
}

/// A result that repeats what was asked.
pub(crate) fn echo(request: &Received) -> Answer {
    let asked = request.json();
    let result = json!({"method": asked["method"], "params": asked["params"]});
    Answer::json(&json!({"jsonrpc": "2.0", "id": asked["id"], "result": result}))
}

async fn accept(
    listener: TcpListener,
    respond: Arc<Responder>,
    log: Arc<Log>,
    calls: mpsc::Sender<Call>,
) {
    let mut sockets = JoinSet::new();
    while let Ok((socket, _)) = listener.accept().await {
        let wire = Wire::new(socket);
        let serve = serve(wire, Arc::clone(&respond), Arc::clone(&log), calls.clone());
        sockets.spawn(serve);
    }
}

async fn serve(mut wire: Wire, respond: Arc<Responder>, log: Arc<Log>, calls: mpsc::Sender<Call>) {
    while let Some(head) = wire.head().await {
        let Ok(body) = wire.body(&head).await else {
            return;
        };
        let request = Arc::new(Received { head, body });
        log.requests
            .lock()
            .expect("no panic")
            .push(Arc::clone(&request));
        log.grown.notify_waiters();
        if let Some(answer) = respond(&request) {
            wire.write(&answer.0).await;
            continue;
        }
        let (free, freed) = oneshot::channel();
        let call = Call::new(request, wire, free);
        if calls.send(call).await.is_err() {
            return;
        }
        match freed.await {
            Ok(back) => wire = back,
            Err(_) => return,
        }
    }
}
