//! The demo's server: Streamable HTTP as of 2025-06-18, with sessions, three tools and a listen stream.
//!
//! It answers calls as event streams, reports progress, and asks the client for a sample in the middle of a call, so
//! that the demo shows every kind of message. It serves loopback only and is no example of a hardened server. Bound:
//! one session's state is a few bytes, and the demo's sessions end with it.

use std::collections::{HashMap, HashSet};
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{self, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};

use crate::proto::era::SESSION_HEADER;
use crate::proto::sse;
use crate::store::ConnectionId;

type Body = UnsyncBoxBody<Bytes, Infallible>;

/// How long the server waits for the client's answer to its question.
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Debug, Default)]
struct State {
    sessions: HashSet<String>,
    questions: HashMap<String, oneshot::Sender<Value>>,
    asked: u64,
}

type Shared = Arc<Mutex<State>>;

fn lock(state: &Shared) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Serves until it is aborted.
pub(super) async fn serve(listener: TcpListener) {
    let state = Shared::default();
    let mut sockets = tokio::task::JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        // Small writes leave at once; a failure costs only that.
        let _ = stream.set_nodelay(true);
        let state = Arc::clone(&state);
        let service = service_fn(move |request| answer(Arc::clone(&state), request));
        sockets.spawn(
            hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service),
        );
        while sockets.try_join_next().is_some() {}
    }
}

async fn answer(state: Shared, request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    let session = request
        .headers()
        .get(SESSION_HEADER)
        .and_then(|value| value.to_str().ok())
        .map(str::to_owned);
    let known = session
        .as_ref()
        .is_some_and(|session| lock(&state).sessions.contains(session));
    Ok(match *request.method() {
        Method::POST => post(state, request, known).await,
        _ if !known => status(StatusCode::NOT_FOUND),
        Method::GET => {
            let (events, body) = stream();
            // The demo has nothing to say unasked; the stream is held open for as long as the client listens.
            tokio::task::spawn(async move { events.closed().await });
            body
        }
        Method::DELETE => {
            lock(&state).sessions.remove(&session.unwrap_or_default());
            status(StatusCode::OK)
        }
        _ => status(StatusCode::METHOD_NOT_ALLOWED),
    })
}

async fn post(state: Shared, request: Request<Incoming>, known: bool) -> Response<Body> {
    let Ok(body) = request.into_body().collect().await else {
        return status(StatusCode::BAD_REQUEST);
    };
    let Ok(message) = serde_json::from_slice::<Value>(&body.to_bytes()) else {
        return status(StatusCode::BAD_REQUEST);
    };
    let method = message
        .get("method")
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned();
    if method == "initialize" {
        return initialize(&state, &message);
    }
    if !known {
        return status(StatusCode::NOT_FOUND);
    }
    let Some(id) = message.get("id").cloned() else {
        return status(StatusCode::ACCEPTED);
    };
    if method.is_empty() {
        let question = id.as_str().and_then(|id| lock(&state).questions.remove(id));
        if let Some(question) = question {
            // An error means that the call that asked is gone.
            let _ = question.send(message.get("result").cloned().unwrap_or_default());
        }
        return status(StatusCode::ACCEPTED);
    }
    match method.as_str() {
        "ping" => json_body(&result(&id, json!({}))),
        "tools/list" => json_body(&result(&id, tools())),
        "tools/call" => {
            let (events, response) = stream();
            tokio::task::spawn(call(
                state,
                id,
                message.get("params").cloned().unwrap_or_default(),
                events,
            ));
            response
        }
        _ => json_body(&error(&id, -32601, "no such method")),
    }
}

fn initialize(state: &Shared, message: &Value) -> Response<Body> {
    let Ok(session) = ConnectionId::random() else {
        return status(StatusCode::INTERNAL_SERVER_ERROR);
    };
    let session = session.reveal();
    lock(state).sessions.insert(session.clone());
    let mut response = json_body(&result(
        message.get("id").unwrap_or(&Value::Null),
        json!({
            "protocolVersion": "2025-06-18",
            "capabilities": {"tools": {"listChanged": true}},
            "serverInfo": {"name": "demo-server", "version": env!("CARGO_PKG_VERSION")},
        }),
    ));
    if let Ok(value) = HeaderValue::try_from(session) {
        response.headers_mut().insert(SESSION_HEADER, value);
    }
    response
}

fn tools() -> Value {
    let tool = |name: &str, description: &str, properties: Value| json!({"name": name, "description": description, "inputSchema": {"type": "object", "properties": properties}});
    json!({"tools": [
        tool("echo", "Says it back", json!({"text": {"type": "string"}})),
        tool("count", "Counts, with progress", json!({"to": {"type": "integer"}})),
        tool("ask", "Asks the client's model", json!({})),
    ]})
}

async fn call(state: Shared, id: Value, params: Value, events: mpsc::Sender<Bytes>) {
    let send = |message: Value| {
        let events = events.clone();
        async move {
            events
                .send(sse::message(message.to_string().as_bytes()))
                .await
                .is_ok()
        }
    };
    let text = |text: &str| result(&id, json!({"content": [{"type": "text", "text": text}]}));
    let argument = |name: &str| {
        params
            .pointer(&format!("/arguments/{name}"))
            .cloned()
            .unwrap_or_default()
    };
    let answer = match params.get("name").and_then(Value::as_str) {
        Some("echo") => text(argument("text").as_str().unwrap_or_default()),
        Some("count") => {
            let to = argument("to").as_u64().unwrap_or_default().min(100);
            if let Some(token) = params.pointer("/_meta/progressToken") {
                for step in 1..=to {
                    let params = json!({"progressToken": token, "progress": step, "total": to});
                    send(json!({"jsonrpc": "2.0", "method": "notifications/progress", "params": params})).await;
                }
            }
            text(&to.to_string())
        }
        Some("ask") => {
            let (answer, answered) = oneshot::channel();
            let question = {
                let mut state = lock(&state);
                state.asked += 1;
                let question = format!("question-{}", state.asked);
                state.questions.insert(question.clone(), answer);
                question
            };
            let content = json!({"type": "text", "text": "Ready to sail?"});
            let params =
                json!({"messages": [{"role": "user", "content": content}], "maxTokens": 10});
            send(json!({"jsonrpc": "2.0", "id": question, "method": "sampling/createMessage", "params": params})).await;
            let said = tokio::time::timeout(PATIENCE, answered)
                .await
                .ok()
                .and_then(Result::ok)
                .unwrap_or_default();
            lock(&state).questions.remove(&question);
            text(&format!(
                "the model said: {}",
                said.pointer("/content/text")
                    .and_then(Value::as_str)
                    .unwrap_or("nothing")
            ))
        }
        _ => error(&id, -32602, "no such tool"),
    };
    send(answer).await;
}

fn result(id: &Value, result: Value) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "result": result})
}

fn error(id: &Value, code: i64, message: &str) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "error": {"code": code, "message": message}})
}

fn status(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Full::default().boxed_unsync());
    *response.status_mut() = status;
    response
}

fn json_body(message: &Value) -> Response<Body> {
    let mut response = Response::new(Full::from(message.to_string()).boxed_unsync());
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    response
}

/// An event stream and the way to write to it.
fn stream() -> (mpsc::Sender<Bytes>, Response<Body>) {
    let (events, received) = mpsc::channel(16);
    let mut response = Response::new(Events(received).boxed_unsync());
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/event-stream"),
    );
    (events, response)
}

struct Events(mpsc::Receiver<Bytes>);

impl http_body::Body for Events {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0
            .poll_recv(cx)
            .map(|event| event.map(|event| Ok(Frame::data(event))))
    }
}
