//! A client of Streamable HTTP as the handshake revisions have it (2025-11-25), on raw sockets, before a ferry that
//! bridges it.

use std::net::SocketAddr;

use serde_json::{Value, json};

use super::clock::within;
use super::http::{Head, Response, Wire, exchange, request};
use super::stream::Stream;

const BOTH: (&str, &str) = ("Accept", "application/json, text/event-stream");
const JSON: (&str, &str) = ("Content-Type", "application/json");

/// One client that has a session.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) address: SocketAddr,
    /// Its name, as the client sends it.
    pub(crate) id: String,
}

/// An answer whose head was read and that is an event stream.
#[derive(Debug)]
pub(crate) struct Answering {
    pub(crate) head: Head,
    pub(crate) stream: Stream,
}

impl Session {
    /// Begins a session and confirms it.
    pub(crate) async fn ready(address: SocketAddr) -> Self {
        let answered = post(address, &[], &initialize()).await;
        assert_eq!(answered.status(), 200, "{answered:?}");
        assert!(answered.json().get("result").is_some(), "{answered:?}");
        let id = answered.header("mcp-session-id").expect("a session");
        let session = Self {
            address,
            id: id.to_owned(),
        };
        session.tell(&initialized()).await;
        session
    }

    fn name(&self) -> (&str, &str) {
        ("Mcp-Session-Id", &self.id)
    }

    /// Posts a message and reads the answer whole.
    pub(crate) async fn post(&self, message: &Value) -> Response {
        self.post_with(&[], message).await
    }

    pub(crate) async fn post_with(&self, headers: &[(&str, &str)], message: &Value) -> Response {
        post(self.address, &[&[self.name()], headers].concat(), message).await
    }

    /// Posts what has no outcome; it must be accepted.
    pub(crate) async fn tell(&self, message: &Value) {
        let answered = self.post(message).await;
        assert_eq!((answered.status(), answered.text()), (202, ""));
    }

    /// Posts a request whose answer is still to come.
    pub(crate) async fn begin(&self, message: &Value) -> Wire {
        self.begin_with(&[], message).await
    }

    pub(crate) async fn begin_with(&self, headers: &[(&str, &str)], message: &Value) -> Wire {
        let mut wire = Wire::connect(self.address).await;
        self.write_with(&mut wire, headers, message).await;
        wire
    }

    /// Posts on a connection that is there already.
    pub(crate) async fn write(&self, wire: &mut Wire, message: &Value) {
        self.write_with(wire, &[], message).await;
    }

    async fn write_with(&self, wire: &mut Wire, headers: &[(&str, &str)], message: &Value) {
        let headers = with_own(&[&[self.name()], headers].concat());
        let body = message.to_string();
        wire.write(&request("POST", "/mcp", &headers, body.as_bytes()))
            .await;
    }

    /// Opens the listen stream.
    pub(crate) async fn listen(&self) -> Answering {
        let mut wire = Wire::connect(self.address).await;
        let headers = [self.name(), ("Accept", "text/event-stream")];
        wire.write(&request("GET", "/mcp", &headers, b"")).await;
        answering(wire).await
    }

    /// Sends a request without a body.
    pub(crate) async fn ask(&self, method: &str, headers: &[(&str, &str)]) -> Response {
        let headers = [&[self.name()], headers].concat();
        exchange(self.address, method, "/mcp", &headers, "").await
    }
}

/// Reads the head of an answer that must be an event stream.
pub(crate) async fn answering(mut wire: Wire) -> Answering {
    let head = within("the head", wire.head()).await.expect("a head");
    assert_eq!(head.status(), 200, "{head:?}");
    assert_eq!(head.header("content-type"), Some("text/event-stream"));
    let stream = Stream::new(wire);
    Answering { head, stream }
}

/// Posts to the MCP endpoint on a connection of its own.
pub(crate) async fn post(
    address: SocketAddr,
    headers: &[(&str, &str)],
    message: &Value,
) -> Response {
    let body = message.to_string();
    exchange(address, "POST", "/mcp", &with_own(headers), body).await
}

fn with_own<'a>(headers: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let has = |name: &str| {
        let same = |(other, _): &(&str, &str)| other.eq_ignore_ascii_case(name);
        headers.iter().any(same)
    };
    let own = [BOTH, JSON].into_iter().filter(|(name, _)| !has(name));
    own.chain(headers.iter().copied()).collect()
}

/// The `initialize` of a client of 2025-06-18, id 0.
pub(crate) fn initialize() -> Value {
    json!({
        "jsonrpc": "2.0",
        "id": 0,
        "method": "initialize",
        "params": {
            "protocolVersion": "2025-06-18",
            "capabilities": {"sampling": {}},
            "clientInfo": {"name": "streamable", "version": "1"},
        },
    })
}

pub(crate) use super::client::{call, initialized};
