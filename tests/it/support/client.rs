//! A legacy client on raw sockets: every byte of its stream is looked at.

use std::net::SocketAddr;

use serde_json::{Value, json};

use super::clock::{Clock, within};
use super::http::{Closed, Head, Response, Wire, exchange, request};
pub(crate) use super::stream::Item;
use super::stream::Stream;

/// One client: its open stream, and where it posts to.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) address: SocketAddr,
    pub(crate) head: Head,
    /// The data of the `endpoint` event.
    pub(crate) endpoint: String,
    pub(crate) stream: Stream,
}

impl Client {
    /// Opens `GET /sse` and reads the `endpoint` event.
    pub(crate) async fn open(address: SocketAddr) -> Self {
        Self::open_with(address, "/sse", &[]).await
    }

    pub(crate) async fn open_with(
        address: SocketAddr,
        target: &str,
        headers: &[(&str, &str)],
    ) -> Self {
        let mut wire = Wire::connect(address).await;
        let own = [("Accept", "text/event-stream")];
        let own = if has(headers, "accept") {
            &own[..0]
        } else {
            &own[..]
        };
        wire.write(&request("GET", target, &[own, headers].concat(), b""))
            .await;
        let head = within("the head", wire.head()).await.expect("a head");
        assert_eq!(head.status(), 200, "{head:?}");
        let mut client = Self {
            address,
            head,
            endpoint: String::new(),
            stream: Stream::new(wire),
        };
        match client.next().await {
            Item::Endpoint(endpoint) => client.endpoint = endpoint,
            other => panic!("{other:?} came before the endpoint"),
        }
        client
    }

    /// Opens a stream and makes the handshake.
    pub(crate) async fn ready(address: SocketAddr) -> Self {
        let mut client = Self::open(address).await;
        client.handshake().await;
        client
    }

    /// Makes the handshake and returns the answer to `initialize`.
    pub(crate) async fn handshake(&mut self) -> Value {
        let answered = self.post(initialize().to_string()).await;
        assert_eq!(answered.status(), 202, "{answered:?}");
        let answer = self.message().await;
        assert!(answer.get("result").is_some(), "{answer}");
        let answered = self.post(initialized().to_string()).await;
        assert_eq!(answered.status(), 202, "{answered:?}");
        answer
    }

    /// The next piece of the stream.
    pub(crate) async fn next(&mut self) -> Item {
        self.stream.next().await
    }

    /// The same without a bound, for whoever has one; an `Err` says that the stream broke off.
    pub(crate) async fn try_next(&mut self) -> Result<Item, Closed> {
        self.stream.try_next().await
    }

    /// The text of the next message, keep-alives passed over.
    pub(crate) async fn text(&mut self) -> String {
        self.stream.text().await
    }

    /// The next message.
    pub(crate) async fn message(&mut self) -> Value {
        self.stream.message().await
    }

    /// The next message, which must be an error of the ferry's own for this id; returns it whole.
    pub(crate) async fn ferry_error(&mut self, id: u64, reason: &str, executed: &str) -> Value {
        let message = self.message().await;
        assert_eq!(message["id"], json!(id), "{message}");
        assert_eq!(message["error"]["code"], json!(-32603), "{message}");
        let ferry = &message["error"]["data"]["ferry"];
        assert_eq!(ferry["reason"], json!(reason), "{message}");
        assert_eq!(ferry["executed"], json!(executed), "{message}");
        let text = message["error"]["message"].as_str().expect("a message");
        assert!(text.starts_with("mcp-ferry: "), "{text}");
        message
    }

    /// Posts `initialize` while no upstream is to be had, and returns the text of the error that it must end in.
    pub(crate) async fn unreachable(&mut self, clock: &Clock) -> String {
        let posting = self.post(initialize().to_string());
        let answered = clock.pass_until("a status", posting).await;
        assert_eq!(answered.status(), 202, "{answered:?}");
        let error = self.ferry_error(0, "upstream_unreachable", "no");
        let error = clock.pass_until("the error", error).await;
        error["error"]["message"].as_str().expect("text").to_owned()
    }

    /// The stream must end cleanly, after keep-alives at most.
    pub(crate) async fn ended(&mut self) {
        self.stream.ended().await;
    }

    /// Posts a body to the endpoint.
    pub(crate) async fn post(&self, body: impl AsRef<[u8]>) -> Response {
        self.post_with(&[], body).await
    }

    pub(crate) async fn post_with(
        &self,
        headers: &[(&str, &str)],
        body: impl AsRef<[u8]>,
    ) -> Response {
        post(self.address, &self.endpoint, headers, body).await
    }

    /// Posts a message that must be accepted.
    pub(crate) async fn send(&self, message: &Value) {
        self.send_with(&[], message).await;
    }

    pub(crate) async fn send_with(&self, headers: &[(&str, &str)], message: &Value) {
        let answered = self.post_with(headers, message.to_string()).await;
        assert_eq!(answered.status(), 202, "{answered:?}");
        assert_eq!(answered.text(), "Accepted");
    }

    /// Posts a request that must be accepted.
    pub(crate) async fn request(&self, id: u64, method: &str, params: Value) {
        self.send(&json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}))
            .await;
    }

    /// The value of `sessionId` in the endpoint.
    pub(crate) fn id(&self) -> &str {
        let (_, id) = self.endpoint.split_once("sessionId=").expect("an id");
        id
    }

    /// How much the kernel is to hold of what is not read.
    pub(crate) fn set_window(&self, bytes: usize) {
        socket2::SockRef::from(&self.stream.wire.socket)
            .set_recv_buffer_size(bytes)
            .expect("a buffer size");
    }

    /// Leaves: the stream is closed.
    pub(crate) fn leave(self) {
        drop(self);
    }
}

/// Posts a JSON body to an endpoint on a connection of its own.
pub(crate) async fn post(
    address: SocketAddr,
    endpoint: &str,
    headers: &[(&str, &str)],
    body: impl AsRef<[u8]>,
) -> Response {
    let own = [("Content-Type", "application/json")];
    let own = if has(headers, "content-type") {
        &own[..0]
    } else {
        &own[..]
    };
    exchange(address, "POST", endpoint, &[own, headers].concat(), body).await
}

fn has(headers: &[(&str, &str)], wanted: &str) -> bool {
    headers
        .iter()
        .any(|(name, _)| name.eq_ignore_ascii_case(wanted))
}

/// A request message.
pub(crate) fn call(id: u64, method: &str) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "method": method, "params": {}})
}

/// The `initialize` of an old client, id 0.
pub(crate) fn initialize() -> Value {
    json!({
        "jsonrpc": "2.0",
        "id": 0,
        "method": "initialize",
        "params": {
            "protocolVersion": "2024-11-05",
            "capabilities": {"sampling": {}},
            "clientInfo": {"name": "old", "version": "1"},
        },
    })
}

pub(crate) fn initialized() -> Value {
    json!({"jsonrpc": "2.0", "method": "notifications/initialized"})
}
