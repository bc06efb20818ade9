//! What an upstream does to one connection, as a script: a step a line, for faults that read best as what happens.
//!
//! | step | meaning |
//! | --- | --- |
//! | `read`, `read METHOD` | a whole request, whose JSON-RPC method is this |
//! | `send TEXT` | these bytes; `\r`, `\n` and `\\` stand for themselves, `$id` for the id of the request |
//! | `json TEXT` | a whole answer with this JSON |
//! | `events`, `event TEXT` | the head of an event stream; one chunk of it, written as for `send` |
//! | `sleep 90s` | time passes, of tokio's clock |
//! | `half-close` | no more is sent; what comes is read until the other side closes |
//! | `stall` | nothing happens until the other side closes |
//! | `rst`, `fin` | the connection is reset, or closed |
//!
//! A script plays where a request was left to the test ([`Call::play`](super::call::Call::play)); the connection is
//! used again when it ends otherwise than by closing it. [`Peer`] plays one from the beginning of every connection.

use std::net::{Shutdown, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hyper::Uri;
use serde_json::Value;
use socket2::SockRef;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::http::{Wire, chunk};
use super::upstream::Answer;

#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Read(Option<String>),
    Send(String),
    Json(String),
    Events,
    Event(String),
    Sleep(Duration),
    HalfClose,
    Stall,
    Rst,
    Fin,
}

/// Whether a connection can be used after a script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Left {
    Open,
    Closed,
}

/// The steps.
#[derive(Clone, Debug)]
pub(crate) struct Script(Vec<Step>);

impl Script {
    pub(crate) fn parse(text: &str) -> Self {
        let lines = text.lines().map(str::trim);
        Self(lines.filter(|line| !line.is_empty()).map(step).collect())
    }

    /// Plays it on a connection. `id` is the JSON text of the id of the request that was read last.
    pub(super) async fn play(&self, wire: &mut Wire, mut id: String) -> Left {
        for step in &self.0 {
            match step {
                Step::Read(method) => {
                    let Some(request) = read(wire).await else {
                        return Left::Closed;
                    };
                    if let Some(method) = method {
                        assert_eq!(request["method"], **method, "{request}");
                    }
                    id = request["id"].to_string();
                }
                Step::Send(text) => wire.write(text.replace("$id", &id).as_bytes()).await,
                Step::Json(text) => {
                    let json = [("Content-Type", "application/json")];
                    let answer = Answer::new(200, &json, text.replace("$id", &id));
                    wire.write(&answer.0).await;
                }
                Step::Events => {
                    let head = "HTTP/1.1 200 Scripted\r\nTransfer-Encoding: chunked\r\n";
                    let kind = "Content-Type: text/event-stream\r\n\r\n";
                    wire.write([head, kind].concat().as_bytes()).await;
                }
                Step::Event(text) => {
                    wire.write(&chunk(text.replace("$id", &id).as_bytes()))
                        .await
                }
                Step::Sleep(time) => tokio::time::sleep(*time).await,
                Step::HalfClose => {
                    // An error means that the other side was faster.
                    let _ = SockRef::from(&wire.socket).shutdown(Shutdown::Write);
                    while wire.read().await {}
                    return Left::Closed;
                }
                Step::Stall => {
                    while wire.read().await {}
                    return Left::Closed;
                }
                Step::Rst => {
                    // Closing with a lingering time of zero makes the kernel send RST instead of FIN.
                    let _ = SockRef::from(&wire.socket).set_linger(Some(Duration::ZERO));
                    return Left::Closed;
                }
                Step::Fin => return Left::Closed,
            }
        }
        Left::Open
    }
}

async fn read(wire: &mut Wire) -> Option<Value> {
    let head = wire.head().await?;
    let body = wire.body(&head).await.ok()?;
    Some(serde_json::from_slice(&body).unwrap_or_default())
}

fn step(line: &str) -> Step {
    let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
    match (word, rest) {
        ("read", "") => Step::Read(None),
        ("read", method) => Step::Read(Some(method.to_owned())),
        ("send", text) => Step::Send(unescape(text)),
        ("json", text) => Step::Json(text.to_owned()),
        ("events", "") => Step::Events,
        ("event", text) => Step::Event(unescape(text)),
        ("sleep", time) => {
            let seconds = time.strip_suffix('s').and_then(|time| time.parse().ok());
            Step::Sleep(Duration::from_secs(seconds.expect("seconds")))
        }
        ("half-close", "") => Step::HalfClose,
        ("stall", "") => Step::Stall,
        ("rst", "") => Step::Rst,
        ("fin", "") => Step::Fin,
        _ => panic!("no step: {line:?}"),
    }
}

fn unescape(text: &str) -> String {
    let mut plain = String::new();
    let mut chars = text.chars();
    while let Some(char) = chars.next() {
        plain.push(match char {
            '\\' => match chars.next() {
                Some('r') => '\r',
                Some('n') => '\n',
                Some('\\') => '\\',
                other => panic!("no escape: {other:?} in {text:?}"),
            },
            char => char,
        });
    }
    plain
}

/// A server that plays one script on every connection, from its beginning. It is gone when this is dropped.
pub(crate) struct Peer {
    pub(crate) address: SocketAddr,
    accepted: watch::Receiver<usize>,
    _tasks: JoinSet<()>,
}

impl Peer {
    pub(crate) async fn start(script: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        Self::on(listener, script)
    }

    /// The same on a listener that exists already.
    pub(crate) fn on(listener: TcpListener, script: &str) -> Self {
        let address = listener.local_addr().expect("an address");
        let script = Arc::new(Script::parse(script));
        let (count, accepted) = watch::channel(0);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut open = JoinSet::new();
            while let Ok((socket, _)) = listener.accept().await {
                count.send_modify(|count| *count += 1);
                let script = Arc::clone(&script);
                open.spawn(async move {
                    let mut wire = Wire::new(socket);
                    script.play(&mut wire, "null".to_owned()).await;
                });
            }
        });
        Self {
            address,
            accepted,
            _tasks: tasks,
        }
    }

    pub(crate) fn url(&self) -> Uri {
        format!("http://{}/mcp", self.address)
            .parse()
            .expect("a URL")
    }

    /// How many connections there were.
    pub(crate) fn accepted(&self) -> usize {
        *self.accepted.borrow()
    }
}

#[test]
fn steps_are_read_as_they_are_meant() {
    let script = "read tools/call\n\n  send HTTP/1.1 200 OK\\r\\n\\\\\n sleep 90s\nrst";
    let steps = [
        Step::Read(Some("tools/call".to_owned())),
        Step::Send("HTTP/1.1 200 OK\r\n\\".to_owned()),
        Step::Sleep(Duration::from_secs(90)),
        Step::Rst,
    ];
    assert_eq!(Script::parse(script).0, steps);
}
