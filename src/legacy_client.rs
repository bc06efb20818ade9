//! A client of the old transport, for the demo and for replays: one stream, POSTs beside it. It shares the reading of
//! event streams with the ferry, and nothing of its translation. It knows no session, and nothing of MCP but JSON.
//!
//! Bounds: the caller's on one event; events that were read and not asked for are those of one read of the socket.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::{Method, Request, header};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;

use crate::proto::sse::{Decoded, Decoder, Event};

/// One open connection. It ends when this is dropped.
#[derive(Debug)]
pub struct LegacyClient {
    http: Client<HttpConnector, Full<Bytes>>,
    base: String,
    endpoint: String,
    stream: Incoming,
    decoder: Decoder,
    events: VecDeque<Event>,
    patience: Duration,
}

impl LegacyClient {
    /// Opens a stream at `http://address/sse`. Every event is waited for as long as `patience`, and may have so many
    /// bytes.
    ///
    /// # Errors
    /// A sentence: there is no stream, or its first event is not the endpoint.
    pub async fn open(
        address: SocketAddr,
        patience: Duration,
        largest_event: usize,
    ) -> Result<Self, String> {
        let http = Client::builder(TokioExecutor::new()).build_http();
        let base = format!("http://{address}");
        let request = Request::get(format!("{base}/sse"))
            .header(header::ACCEPT, "text/event-stream")
            .body(Full::default())
            .map_err(|error| error.to_string())?;
        let response = http.request(request).await;
        let response = response.map_err(|error| format!("GET /sse: {error}"))?;
        if !response.status().is_success() {
            return Err(format!("GET /sse was answered {}", response.status()));
        }
        let mut client = Self {
            http,
            base,
            endpoint: String::new(),
            stream: response.into_body(),
            decoder: Decoder::new(largest_event),
            events: VecDeque::new(),
            patience,
        };
        let first = client.event().await?;
        if &*first.name != "endpoint" {
            return Err(format!(
                "the first event is '{}', not the endpoint",
                first.name
            ));
        }
        client.endpoint = String::from_utf8_lossy(&first.data).into_owned();
        Ok(client)
    }

    /// Posts a message.
    ///
    /// # Errors
    /// A sentence, when it is not answered 202.
    pub async fn post(&self, message: &Value) -> Result<(), String> {
        match self.post_for_status(message).await? {
            202 => Ok(()),
            status => Err(format!("POST was answered {status}")),
        }
    }

    /// Posts a message, and says with which status it was answered.
    ///
    /// # Errors
    /// A sentence, when it is not answered.
    pub async fn post_for_status(&self, message: &Value) -> Result<u16, String> {
        let request = Request::builder()
            .method(Method::POST)
            .uri(format!("{}{}", self.base, self.endpoint))
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::from(message.to_string()))
            .map_err(|error| error.to_string())?;
        let response = self.http.request(request).await;
        let response = response.map_err(|error| format!("POST: {error}"))?;
        Ok(response.status().as_u16())
    }

    /// The next message on the stream.
    ///
    /// # Errors
    /// A sentence: the stream ended, nothing came in time, or it was no JSON.
    pub async fn message(&mut self) -> Result<Value, String> {
        let event = self.event().await?;
        serde_json::from_slice(&event.data).map_err(|error| error.to_string())
    }

    async fn event(&mut self) -> Result<Event, String> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Ok(event);
            }
            let frame = tokio::time::timeout(self.patience, self.stream.frame()).await;
            let frame = frame
                .map_err(|_| "no event in time".to_owned())?
                .ok_or("the stream ended")?;
            let data = frame
                .map_err(|error| error.to_string())?
                .into_data()
                .unwrap_or_default();
            let events = &mut self.events;
            self.decoder.push(&data, |decoded| {
                if let Decoded::Event(event) = decoded {
                    events.push_back(event);
                }
            });
        }
    }
}
