//! What the scripted upstream is in most tests: ready-made answers, and servers made of them. It knows nothing of
//! sockets; those are the business of `upstream`.

use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::json;
use tokio::net::TcpListener;

use super::upstream::{Answer, Received, Upstream};

impl Upstream {
    /// Answers nothing by itself.
    pub(crate) async fn silent() -> Self {
        Self::start(|_| None).await
    }

    /// Does the handshake of a server with sessions by itself: `initialize` gets the session `session-N`, N counting
    /// from 1, notifications and answers 202, GET 405, DELETE 200. Requests are the test's.
    pub(crate) async fn with_sessions() -> Self {
        Self::with_sessions_but(|_| false).await
    }

    /// The same, but what is `left` to the test is the test's too.
    pub(crate) async fn with_sessions_but(
        left: impl Fn(&Received) -> bool + Send + Sync + 'static,
    ) -> Self {
        let sessions = AtomicUsize::new(0);
        Self::start(move |request| {
            if left(request) {
                return None;
            }
            if request.rpc() == "initialize" {
                let number = sessions.fetch_add(1, Ordering::Relaxed) + 1;
                let session = format!("session-{number}");
                return Some(Answer::initialize(request, Some(&session)));
            }
            routine(request)
        })
        .await
    }

    /// A server with sessions whose listen streams, and whatever else is a GET, are the test's.
    pub(crate) async fn listening() -> Self {
        Self::with_sessions_but(|request| request.method() == "GET").await
    }

    /// A server with sessions whose streams are resumed by the test, but that has no listen stream.
    pub(crate) async fn resuming() -> Self {
        Self::with_sessions_but(|request| request.header("last-event-id").is_some()).await
    }

    /// A server without sessions. Requests are the test's.
    pub(crate) async fn stateless() -> Self {
        Self::start(without_sessions).await
    }

    /// Answers every request by itself: a result that repeats the method and the parameters.
    pub(crate) async fn echo() -> Self {
        Self::start(all_echoes).await
    }

    /// The same on a listener that exists already.
    pub(crate) fn echo_on(listener: TcpListener) -> Self {
        Self::on(listener, all_echoes)
    }
}

fn without_sessions(request: &Received) -> Option<Answer> {
    (request.rpc() == "initialize")
        .then(|| Answer::initialize(request, None))
        .or_else(|| routine(request))
}

fn all_echoes(request: &Received) -> Option<Answer> {
    without_sessions(request).or_else(|| Some(echo(request)))
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
