//! Requests of 2026-07-28 say everything by themselves: each is one POST, and its answer is its outcome. They pass through
//! the ferry in between as they are, with the headers that mirror their parts. Whatever comes instead of an outcome (an
//! error page, nothing at all) is said in words.

use std::error::Error as StdError;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::{Request, Response, header};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::{Map, Value, json};

use super::recording::Call;
use super::{Came, LARGEST_MESSAGE};
use crate::proto::era::ACCEPT_POST;
use crate::proto::sse::{Decoded, Decoder};

/// Bytes of an answer that is no message that are told.
const TOLD: usize = 1000;

/// One client in the place of a recorded one.
pub(super) struct Player {
    http: Client<HttpConnector, Full<Bytes>>,
    url: String,
    patience: Duration,
    last_id: u64,
}

impl Player {
    /// Every answer is waited for as long as `patience`.
    pub(super) fn new(address: SocketAddr, patience: Duration) -> Self {
        Self {
            http: Client::builder(TokioExecutor::new()).build_http(),
            url: format!("http://{address}/mcp"),
            patience,
            last_id: 0,
        }
    }

    /// Asks and returns what came.
    ///
    /// # Errors
    /// A sentence, when there is no ferry in between.
    pub(super) async fn request(
        &mut self,
        call: &Call,
        params: Option<Value>,
    ) -> Result<Came, String> {
        let patience = self.patience;
        let came = tokio::time::timeout(patience, self.exchange(call, params)).await;
        came.unwrap_or_else(|_| Ok(Came::Nothing(format!("none within {patience:?}"))))
    }

    async fn exchange(&mut self, call: &Call, params: Option<Value>) -> Result<Came, String> {
        self.last_id = self.last_id.saturating_add(1);
        let id = json!(self.last_id);
        let mut message = Map::from_iter([
            ("jsonrpc".to_owned(), json!("2.0")),
            ("id".to_owned(), id.clone()),
            ("method".to_owned(), json!(call.method)),
        ]);
        message.extend(params.map(|params| ("params".to_owned(), params)));
        let mut request = Request::post(&self.url)
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::ACCEPT, ACCEPT_POST);
        for (name, value) in call.headers.iter().flatten() {
            // As bytes: a value may hold more than ASCII.
            request = request.header(name, value.as_bytes());
        }
        let body = Full::from(Value::Object(message).to_string());
        let request = match request.body(body) {
            Ok(request) => request,
            Err(error) => return Ok(Came::Nothing(format!("it cannot be sent: {error}"))),
        };
        match self.http.request(request).await {
            Ok(answer) => Ok(read(answer, &id).await),
            Err(error) if error.is_connect() => Err(causes(&error)),
            Err(error) => Ok(Came::Nothing(causes(&error))),
        }
    }
}

/// Reads an answer up to the outcome.
async fn read(answer: Response<Incoming>, id: &Value) -> Came {
    let status = answer.status();
    let kind = answer.headers().get(header::CONTENT_TYPE);
    let kind = String::from_utf8_lossy(kind.map_or(b"", |kind| kind.as_bytes())).into_owned();
    let mut events = kind
        .trim_start()
        .starts_with("text/event-stream")
        .then(|| Decoder::new(LARGEST_MESSAGE));
    let mut body = Limited::new(answer.into_body(), LARGEST_MESSAGE);
    let mut whole = Vec::new();
    loop {
        let data = match body.frame().await {
            Some(Ok(frame)) => frame.into_data().unwrap_or_default(),
            Some(Err(error)) => {
                return Came::Nothing(format!("{status}, broken off: {}", causes(&*error)));
            }
            None => break,
        };
        whole.extend_from_slice(&data);
        // A server may keep a stream open behind the outcome.
        if let Some(decoder) = &mut events
            && let Some(outcome) = outcome_in(decoder, &data, id)
        {
            return Came::Message(outcome);
        }
    }
    let found = match events {
        Some(_) => None,
        None => outcome_of(&whole, id),
    };
    found.map_or_else(
        || Came::Nothing(told(&status.to_string(), &kind, &whole)),
        Came::Message,
    )
}

/// The message that answers this request, among the events that these bytes complete.
fn outcome_in(decoder: &mut Decoder, data: &[u8], id: &Value) -> Option<Value> {
    let mut found = None;
    decoder.push(data, |decoded| {
        if let Decoded::Event(event) = decoded {
            found = found.take().or_else(|| outcome_with(&event.data, id));
        }
    });
    found
}

/// The message in a body: its one JSON text, or the line of JSON that answers this request.
fn outcome_of(body: &[u8], id: &Value) -> Option<Value> {
    match serde_json::from_slice::<Value>(body) {
        Ok(message) => Some(message).filter(is_outcome),
        Err(_) => {
            let mut lines = body.split(|byte| *byte == b'\n');
            lines.find_map(|line| outcome_with(line, id))
        }
    }
}

fn outcome_with(text: &[u8], id: &Value) -> Option<Value> {
    let message: Value = serde_json::from_slice(text).ok()?;
    (message.get("id") == Some(id) && is_outcome(&message)).then_some(message)
}

/// Whether a JSON text is a result or an error of JSON-RPC. Servers of other things have an `error` too.
fn is_outcome(message: &Value) -> bool {
    message.get("method").is_none()
        && (message.get("result").is_some() || message.get("error").is_some_and(Value::is_object))
}

/// An answer that is no message, in words.
fn told(status: &str, kind: &str, body: &[u8]) -> String {
    let beginning = body.get(..TOLD).unwrap_or(body);
    let text = String::from_utf8_lossy(beginning);
    match (kind, text.trim()) {
        (_, "") => format!("{status} without a text"),
        ("", text) => format!("{status}: {text}"),
        (kind, text) => format!("{status}, {kind}: {text}"),
    }
}

/// An error with its causes, on one line.
fn causes(error: &(dyn StdError + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |error| StdError::source(*error));
    let causes: Vec<_> = causes.map(ToString::to_string).collect();
    causes.join(": ")
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    fn call() -> Call {
        Call {
            exchange: 1,
            method: "tools/list".to_owned(),
            name: None,
            params: None,
            headers: Some(vec![("mcp-param-city".to_owned(), "Zürich".to_owned())]),
            unplayable: None,
            outcome: None,
        }
    }

    /// What comes of a request that is answered with these bytes, whose socket then stays open. Without bytes patience ends
    /// soon, with them it does not.
    async fn came(answer: &'static str) -> Came {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let patience = match answer {
            "" => Duration::from_millis(1),
            _ => Duration::from_secs(60),
        };
        let mut player = Player::new(address, patience);
        let serves = async {
            let (mut socket, _) = listener.accept().await.expect("a client");
            let mut request = Vec::new();
            while !request.ends_with(b"}") {
                socket.read_buf(&mut request).await.expect("a request");
            }
            socket.write_all(answer.as_bytes()).await.expect("a reader");
            (socket, request)
        };
        let call = call();
        let plays = player.request(&call, None);
        if answer.is_empty() {
            return plays.await.expect("a listener");
        }
        let ((_socket, request), came) = tokio::join!(serves, plays);
        let request = String::from_utf8(request).expect("text");
        assert!(request.contains("mcp-param-city: Zürich\r\n"), "{request}");
        came.expect("a listener")
    }

    #[tokio::test]
    async fn an_outcome_is_found_however_it_comes() {
        for answer in [
            "HTTP/1.1 200 OK\r\nContent-Length: 23\r\n\r\n{\"id\":1,\"result\":\"yes\"}",
            "HTTP/1.1 200 OK\r\nContent-Length: 59\r\n\r\n{\"method\":\"a\"}\n{\"id\":2,\"result\":1}\n{\"id\":1,\"result\":\"yes\"}\n",
            // The stream stays open.
            "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: {\"method\":\"a\"}\n\ndata: {\"id\":1,\"result\":\"yes\"}\n\n",
        ] {
            let Came::Message(message) = came(answer).await else {
                panic!("{answer}");
            };
            assert_eq!(message["result"], "yes");
        }
    }

    #[tokio::test]
    async fn what_is_no_outcome_is_told() {
        for (answer, expected) in [
            (
                "HTTP/1.1 500 Internal Server Error\r\nContent-Type: text/html\r\nContent-Length: 9\r\n\r\n<b>no</b>",
                "500 Internal Server Error, text/html: <b>no</b>",
            ),
            (
                "HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n",
                "401 Unauthorized without a text",
            ),
            (
                "HTTP/1.1 401 Unauthorized\r\nContent-Length: 16\r\n\r\n{\"error\":\"none\"}",
                "401 Unauthorized: {\"error\":\"none\"}",
            ),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]",
                "200 OK: []",
            ),
            ("", "none within 1ms"),
        ] {
            let Came::Nothing(why) = came(answer).await else {
                panic!("{answer}");
            };
            assert_eq!(why, expected);
        }
    }
}
