//! A stub MCP server on Streamable HTTP, as cheap as it can be and still strict: it wants both Accept types, its own
//! session ids and a known method, so that a proxy that sends something else fails the run instead of winning it.
//!
//! `upstream --mode stateless-json|stateless-sse|stateful-sse|modern-json [--spoil N]` prints its port and serves until its
//! standard input ends. `GET /stats` tells what it has counted; `--spoil N` answers every Nth call wrongly, to prove
//! that the load generator notices.

use rig::args::Args;
use rig::http1::{Chunked, Framing, RequestHead, request_head};
use rig::message::{CURRENT, MODERN, MODERN_END};
use rig::{Context, Result};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io::Write;
use std::rc::Rc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    StatelessJson,
    StatelessSse,
    StatefulSse,
    /// 2026-07-28 alone, answers in JSON.
    ModernJson,
}

struct Server {
    mode: Mode,
    spoil: Option<u64>,
    http: Cell<u64>,
    calls: Cell<u64>,
    listening: Cell<u64>,
    minted: Cell<u64>,
    /// Session id to what wakes its listen stream when the session is deleted.
    sessions: RefCell<HashMap<String, Rc<Notify>>>,
}

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    method: Option<Cow<'a, str>>,
    #[serde(borrow)]
    params: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct CallParams<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[serde(borrow)]
    arguments: CallArguments<'a>,
}

#[derive(Deserialize)]
struct CallArguments<'a> {
    #[serde(borrow)]
    text: &'a RawValue,
}

fn main() -> std::process::ExitCode {
    rig::exit("upstream", run())
}

fn run() -> Result<()> {
    let args = Args::read(std::env::args().skip(1))?;
    let mode = match args.need::<String>("mode")?.as_str() {
        "stateless-json" => Mode::StatelessJson,
        "stateless-sse" => Mode::StatelessSse,
        "stateful-sse" => Mode::StatefulSse,
        "modern-json" => Mode::ModernJson,
        other => return Err(format!("--mode cannot be {other:?}")),
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("runtime")?;
    let server = Rc::new(Server {
        mode,
        spoil: args.get("spoil")?,
        http: Cell::new(0),
        calls: Cell::new(0),
        listening: Cell::new(0),
        minted: Cell::new(0),
        sessions: RefCell::default(),
    });
    // The parent holds the other end of standard input: when it goes, however it goes, so does this process.
    std::thread::spawn(|| {
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        std::process::exit(0);
    });
    tokio::task::LocalSet::new().block_on(&runtime, async {
        // The standard library's backlog of 128 is too short for thousands of connections at once.
        let socket = tokio::net::TcpSocket::new_v4().context("socket")?;
        socket.bind(([127, 0, 0, 1], 0).into()).context("bind")?;
        let listener: TcpListener = socket.listen(4096).context("listen")?;
        println!("{}", listener.local_addr().context("port")?.port());
        loop {
            let (stream, _) = listener.accept().await.context("accept")?;
            let server = Rc::clone(&server);
            tokio::task::spawn_local(async move {
                if let Err(error) = connection(stream, &server).await {
                    eprintln!("upstream: {error}");
                }
            });
        }
    })
}

async fn connection(mut stream: TcpStream, server: &Server) -> Result<()> {
    stream.set_nodelay(true).context("nodelay")?;
    let (mut input, mut at) = (Vec::with_capacity(2048), 0);
    let (mut body, mut out) = (Vec::new(), Vec::with_capacity(1024));
    loop {
        let head = loop {
            if at < input.len()
                && let Some((head, used)) = request_head(&input[at..])?
            {
                at += used;
                break head;
            }
            if !fill(&mut stream, &mut input, &mut at).await? {
                return Ok(());
            }
        };
        body.clear();
        let mut chunked = Chunked::default();
        loop {
            let have = &input[at..];
            let whole = match head.framing {
                Framing::Length(length) => {
                    let used = have.len().min(length - body.len());
                    body.extend_from_slice(&have[..used]);
                    at += used;
                    body.len() == length
                }
                Framing::Chunked => {
                    at += chunked.decode(have, &mut body)?;
                    chunked.done()
                }
                Framing::Close => return Err("a request without length".into()),
            };
            if whole {
                break;
            }
            if !fill(&mut stream, &mut input, &mut at).await? {
                return Err("half a request".into());
            }
        }
        out.clear();
        if let Some(deleted) = server.answer(&head, &body, &mut out) {
            stream.write_all(&out).await.context("send")?;
            return server.listen(&mut stream, &deleted).await;
        }
        stream.write_all(&out).await.context("send")?;
        if head.close {
            return Ok(());
        }
    }
}

/// Reads more; `false` when the peer has closed.
async fn fill(stream: &mut TcpStream, input: &mut Vec<u8>, at: &mut usize) -> Result<bool> {
    input.drain(..*at);
    *at = 0;
    input.reserve(2048);
    match stream.read_buf(input).await {
        Ok(read) => Ok(read > 0),
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => Ok(false),
        Err(error) => Err(format!("receive: {error}")),
    }
}

fn bump(cell: &Cell<u64>) -> u64 {
    cell.set(cell.get() + 1);
    cell.get()
}

impl Server {
    /// Writes the answer to `out`; for a listen stream that is its head, and what will end it is returned.
    fn answer(&self, head: &RequestHead, body: &[u8], out: &mut Vec<u8>) -> Option<Rc<Notify>> {
        if head.path == "/stats" {
            let (http, calls, listening) =
                (self.http.get(), self.calls.get(), self.listening.get());
            let sessions = self.sessions.borrow().len();
            let text = format!(
                r#"{{"http":{http},"calls":{calls},"listening":{listening},"sessions":{sessions}}}"#
            );
            respond(out, "200 OK", "", text.as_bytes());
            return None;
        }
        bump(&self.http);
        let known = head
            .session
            .as_ref()
            .and_then(|id| self.sessions.borrow().get(id).cloned());
        match (head.path.as_str(), head.method.as_str()) {
            ("/mcp", "POST") => self.post(head, body, known.is_some(), out),
            ("/mcp", "GET" | "DELETE") if self.mode != Mode::StatefulSse => {
                respond(out, "405 Method Not Allowed", "allow: POST\r\n", b"");
            }
            ("/mcp", "GET") if known.is_some() => {
                out.extend_from_slice(
                    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n",
                );
                return known;
            }
            ("/mcp", "DELETE") if known.is_some() => {
                let session = head
                    .session
                    .as_ref()
                    .and_then(|id| self.sessions.borrow_mut().remove(id));
                if let Some(deleted) = session {
                    deleted.notify_one();
                }
                respond(out, "200 OK", "", b"");
            }
            ("/mcp", "GET" | "DELETE") => respond(out, "404 Not Found", "", b"no such session"),
            _ => respond(out, "404 Not Found", "", b"no such path"),
        }
        None
    }

    fn post(&self, head: &RequestHead, body: &[u8], known: bool, out: &mut Vec<u8>) {
        let Ok(message) = serde_json::from_slice::<Message<'_>>(body) else {
            return respond(out, "400 Bad Request", "", b"not a JSON-RPC message");
        };
        if !head.accepts_both {
            return respond(
                out,
                "406 Not Acceptable",
                "",
                b"both types must be accepted",
            );
        }
        let method = message.method.as_deref().unwrap_or_default();
        if self.mode == Mode::ModernJson && !is_modern(head, method) {
            const REFUSAL: &[u8] = br#"{"jsonrpc":"2.0","id":null,"error":{"code":-32022,"message":"modern only","data":{"supported":["2026-07-28"],"requested":"?"}}}"#;
            return respond(
                out,
                "400 Bad Request",
                "content-type: application/json\r\n",
                REFUSAL,
            );
        }
        if self.mode == Mode::StatefulSse && method != "initialize" && !known {
            let status = if head.session.is_some() {
                "404 Not Found"
            } else {
                "400 Bad Request"
            };
            return respond(out, status, "", b"no such session");
        }
        let Some(id) = message.id.map(RawValue::get) else {
            return respond(out, "202 Accepted", "", b"");
        };
        let mut reply = Vec::with_capacity(256);
        let mut session = String::new();
        // Writing to a Vec cannot fail.
        let _ = write!(reply, r#"{{"jsonrpc":"2.0","id":{id},"#);
        match method {
            "initialize" => {
                let _ = write!(
                    reply,
                    r#""result":{{"protocolVersion":"{CURRENT}","capabilities":{{"tools":{{}}}},"serverInfo":{{"name":"stub","version":"1"}}}}}}"#
                );
                if self.mode == Mode::StatefulSse {
                    let id = format!(
                        "session-{:016x}",
                        bump(&self.minted).wrapping_mul(0x9e37_79b9_7f4a_7c15)
                    );
                    session = format!("mcp-session-id: {id}\r\n");
                    self.sessions.borrow_mut().insert(id, Rc::default());
                }
            }
            "tools/call" => match message
                .params
                .map(|params| serde_json::from_str::<CallParams<'_>>(params.get()))
            {
                Some(Ok(params)) if params.name == "echo" => {
                    let spoilt = self
                        .spoil
                        .is_some_and(|every| bump(&self.calls).is_multiple_of(every));
                    if self.spoil.is_none() {
                        bump(&self.calls);
                    }
                    let text = if spoilt {
                        r#""spoilt""#
                    } else {
                        params.arguments.text.get()
                    };
                    let _ = write!(
                        reply,
                        r#""result":{{"content":[{{"type":"text","text":{text}}}]}}}}"#
                    );
                }
                _ => reply.extend_from_slice(
                    br#""error":{"code":-32602,"message":"only echo with a text"}}"#,
                ),
            },
            "ping" => reply.extend_from_slice(br#""result":{}}"#),
            "server/discover" => {
                let _ = write!(
                    reply,
                    r#""result":{{"supportedVersions":["{MODERN}"],"capabilities":{{"tools":{{}}}}}}}}"#
                );
            }
            "tools/list" => reply.extend_from_slice(br#""result":{"tools":[]}}"#),
            _ => reply.extend_from_slice(br#""error":{"code":-32601,"message":"no such method"}}"#),
        }
        if self.mode == Mode::ModernJson && reply.ends_with(b"]}}") && method == "tools/call" {
            reply.truncate(reply.len() - b"}}".len());
            reply.extend_from_slice(MODERN_END);
        }
        if matches!(self.mode, Mode::StatelessJson | Mode::ModernJson) {
            return respond(out, "200 OK", "content-type: application/json\r\n", &reply);
        }
        // Head, event and last chunk in one write, as a server does whose answer is at hand.
        const AROUND: usize = "event: message\ndata: \n\n".len();
        let _ = write!(
            out,
            "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncache-control: no-cache\r\n{session}transfer-encoding: chunked\r\n\r\n{:x}\r\nevent: message\ndata: ",
            reply.len() + AROUND
        );
        out.extend_from_slice(&reply);
        out.extend_from_slice(b"\n\n\r\n0\r\n\r\n");
    }

    /// Holds a listen stream until the client leaves or the session is deleted.
    async fn listen(&self, stream: &mut TcpStream, deleted: &Notify) -> Result<()> {
        bump(&self.listening);
        let mut byte = [0];
        tokio::select! {
            _ = stream.read(&mut byte) => {}
            () = deleted.notified() => { let _ = stream.write_all(b"0\r\n\r\n").await; }
        }
        self.listening.set(self.listening.get() - 1);
        Ok(())
    }
}

/// Whether the headers say what the message says (2026-07-28, "Request Metadata").
fn is_modern(head: &RequestHead, method: &str) -> bool {
    head.version.as_deref() == Some(MODERN)
        && head.mcp_method.as_deref() == Some(method)
        && (method != "tools/call" || head.mcp_name.as_deref() == Some("echo"))
}

fn respond(out: &mut Vec<u8>, status: &str, headers: &str, body: &[u8]) {
    let _ = write!(
        out,
        "HTTP/1.1 {status}\r\n{headers}content-length: {}\r\n\r\n",
        body.len()
    );
    out.extend_from_slice(body);
}
