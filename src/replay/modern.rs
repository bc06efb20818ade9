//! Requests of 2026-07-28 say everything by themselves: each is one POST, and its answer is its outcome. They pass through
//! the ferry in between as they are, with the headers that mirror their parts.

use std::net::SocketAddr;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{Request, header};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::{Map, Value, json};

use super::recording::Call;
use super::{LARGEST_MESSAGE, PATIENCE};
use crate::proto::era::ACCEPT_POST;
use crate::proto::sse::{Decoded, Decoder};

/// One client in the place of a recorded one.
pub(super) struct Player {
    http: Client<HttpConnector, Full<Bytes>>,
    url: String,
    last_id: u64,
}

impl Player {
    pub(super) fn new(address: SocketAddr) -> Self {
        Self {
            http: Client::builder(TokioExecutor::new()).build_http(),
            url: format!("http://{address}/mcp"),
            last_id: 0,
        }
    }

    /// Asks and returns the outcome.
    pub(super) async fn request(&mut self, call: &Call) -> Result<Value, String> {
        let told = |why: String| format!("no answer to {}: {why}", call.method);
        let answer = tokio::time::timeout(PATIENCE, self.exchange(call)).await;
        let answer = answer.unwrap_or_else(|_| Err("none in time".to_owned()));
        answer.map_err(told)
    }

    async fn exchange(&mut self, call: &Call) -> Result<Value, String> {
        self.last_id = self.last_id.saturating_add(1);
        let id = json!(self.last_id);
        let mut message = Map::from_iter([
            ("jsonrpc".to_owned(), json!("2.0")),
            ("id".to_owned(), id.clone()),
            ("method".to_owned(), json!(call.method)),
        ]);
        if let Some(params) = &call.params {
            message.insert("params".to_owned(), params.clone());
        }
        let mut request = Request::post(&self.url)
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::ACCEPT, ACCEPT_POST);
        for (name, value) in call.headers.iter().flatten() {
            request = request.header(name, value);
        }
        let body = Full::from(Value::Object(message).to_string());
        let request = request.body(body).map_err(|error| error.to_string())?;
        let answer = self.http.request(request).await;
        let answer = answer.map_err(|error| error.to_string())?;
        let status = answer.status();
        let kind = answer.headers().get(header::CONTENT_TYPE);
        let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        let is_events = kind.starts_with("text/event-stream");
        // It is whole when its outcome is there: the answer to a request ends with it.
        let body = Limited::new(answer.into_body(), LARGEST_MESSAGE)
            .collect()
            .await;
        let body = body.map_err(|error| error.to_string())?.to_bytes();
        let found = match is_events {
            true => outcome(&body, &id),
            false => serde_json::from_slice(&body).ok(),
        };
        found.ok_or_else(|| format!("it was answered {status}"))
    }
}

/// The message in an event stream that answers this request.
fn outcome(body: &[u8], id: &Value) -> Option<Value> {
    let mut found = None;
    Decoder::new(LARGEST_MESSAGE).push(body, |decoded| {
        if let Decoded::Event(event) = decoded
            && let Ok(message) = serde_json::from_slice::<Value>(&event.data)
            && message.get("id") == Some(id)
            && message.get("method").is_none()
        {
            found = Some(message);
        }
    });
    found
}
