//! An upstream that records every request byte by byte and reads it as strictly as can be.
//!
//! Whatever a client sends, an upstream may see only whole requests with one meaning: one start line for the configured
//! path, its own `Host` once, headers of tokens, one length or one chunked body, nothing that ends at the proxy. What is
//! not so is remembered as wrong. Every request gets an answer.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// The one path that may be asked for.
pub const PATH: &str = "/mcp";

/// The upstream. It is gone when this is dropped.
#[derive(Debug)]
pub struct Recorder {
    pub address: SocketAddr,
    seen: Arc<Mutex<Seen>>,
    _tasks: JoinSet<()>,
}

/// One request.
#[derive(Clone, Debug)]
pub struct Recorded {
    pub head: String,
    pub body: Vec<u8>,
    /// Whether its body came to its end.
    pub whole: bool,
}

type Answer = dyn Fn(&Recorded) -> Option<Vec<u8>> + Send + Sync;

#[derive(Debug, Default)]
struct Seen {
    requests: Vec<Recorded>,
    wrong: Option<String>,
}

impl Recorder {
    /// Answers every request with something that suits it.
    pub async fn start() -> Self {
        Self::answering(|_| None).await
    }

    /// Answers with these bytes and closes then; where there are none, with something that suits the request.
    pub async fn answering(
        answer: impl Fn(&Recorded) -> Option<Vec<u8>> + Send + Sync + 'static,
    ) -> Self {
        let answer: Arc<Answer> = Arc::new(answer);
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let address = listener.local_addr().expect("an address");
        let seen: Arc<Mutex<Seen>> = Arc::default();
        let kept = Arc::clone(&seen);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut sockets = JoinSet::new();
            while let Ok((socket, _)) = listener.accept().await {
                // Those that ended are forgotten.
                while sockets.try_join_next().is_some() {}
                let (seen, answer) = (Arc::clone(&kept), Arc::clone(&answer));
                sockets.spawn(serve(socket, address, seen, answer));
            }
        });
        Self {
            address,
            seen,
            _tasks: tasks,
        }
    }

    pub fn url(&self) -> String {
        format!("http://{}{PATH}", self.address)
    }

    /// How many whole requests were seen since the last time that they were taken.
    pub fn whole(&self) -> usize {
        let seen = self.seen.lock().expect("no panic");
        seen.requests.iter().filter(|request| request.whole).count()
    }

    /// What was seen since the last time; an error is something that no upstream should see.
    pub fn take(&self) -> Result<Vec<Recorded>, String> {
        let seen = std::mem::take(&mut *self.seen.lock().expect("no panic"));
        seen.wrong.map_or(Ok(seen.requests), Err)
    }
}

async fn serve(socket: TcpStream, own: SocketAddr, seen: Arc<Mutex<Seen>>, answer: Arc<Answer>) {
    let mut reader = Reader {
        socket,
        text: Vec::new(),
    };
    loop {
        match reader.request(own, &seen).await {
            Ok(Some(request)) => {
                let scripted = answer(&request);
                let last = scripted.is_some();
                let text = scripted.unwrap_or_else(|| suitable(&request.body));
                if reader.socket.write_all(&text).await.is_err() || last {
                    return;
                }
            }
            Ok(None) => return,
            Err(why) => {
                seen.lock().expect("no panic").wrong.get_or_insert(why);
                return;
            }
        }
    }
}

/// An answer that suits any request.
fn suitable(body: &[u8]) -> Vec<u8> {
    let message: Value = serde_json::from_slice(body).unwrap_or_default();
    let (status, text) = match (message.get("id"), message.get("method")) {
        (Some(id), Some(_)) => {
            let result = json!({"protocolVersion": "2025-11-25", "capabilities": {}});
            let answer = json!({"jsonrpc": "2.0", "id": id, "result": result});
            (200, answer.to_string())
        }
        _ => (202, String::new()),
    };
    let head = format!(
        "HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        text.len()
    );
    [head, text].concat().into_bytes()
}

#[derive(Clone, Copy)]
enum Framing {
    Length(usize),
    Chunked,
}

struct Reader {
    socket: TcpStream,
    text: Vec<u8>,
}

impl Reader {
    /// Reads more; `false` when no more comes.
    async fn more(&mut self) -> bool {
        self.socket.read_buf(&mut self.text).await.unwrap_or(0) > 0
    }

    /// Takes what stands before `mark`, and the mark with it; `None` when it does not come.
    async fn upto(&mut self, mark: &[u8]) -> Option<Vec<u8>> {
        loop {
            if let Some(at) = memchr::memmem::find(&self.text, mark) {
                let mut taken: Vec<u8> = self.text.drain(..at + mark.len()).collect();
                taken.truncate(at);
                return Some(taken);
            }
            if !self.more().await {
                return None;
            }
        }
    }

    async fn exactly(&mut self, length: usize) -> Option<Vec<u8>> {
        while self.text.len() < length {
            if !self.more().await {
                return None;
            }
        }
        Some(self.text.drain(..length).collect())
    }

    /// Reads and judges one request; `None` when no more come, or it breaks off as its client did.
    async fn request(
        &mut self,
        own: SocketAddr,
        seen: &Mutex<Seen>,
    ) -> Result<Option<Recorded>, String> {
        let Some(head) = self.upto(b"\r\n\r\n").await else {
            let rest = String::from_utf8_lossy(&self.text);
            return match rest.is_empty() {
                true => Ok(None),
                false => Err(format!("no whole request: {rest:?}")),
            };
        };
        let text = String::from_utf8_lossy(&head).into_owned();
        let framing = judge(&head, own).map_err(|why| format!("{why}: {text:?}"))?;
        let mut request = Recorded {
            head: text,
            body: Vec::new(),
            whole: false,
        };
        let body = match framing {
            Framing::Length(length) => self.exactly(length).await,
            Framing::Chunked => self.chunks().await?,
        };
        request.whole = body.is_some();
        request.body = body.unwrap_or_default();
        let requests = &mut seen.lock().expect("no panic").requests;
        requests.push(request.clone());
        Ok(request.whole.then_some(request))
    }

    async fn chunks(&mut self) -> Result<Option<Vec<u8>>, String> {
        let mut body = Vec::new();
        loop {
            let Some(line) = self.upto(b"\r\n").await else {
                return Ok(None);
            };
            let digits = String::from_utf8_lossy(&line);
            let plain = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
            let size = usize::from_str_radix(&digits, 16).ok().filter(|_| plain);
            let size = size.ok_or_else(|| format!("a chunk of {digits:?} bytes"))?;
            // The line end behind a chunk belongs to it; so does the one behind the last: there are no trailers.
            let Some(chunk) = self.exactly(size + 2).await else {
                return Ok(None);
            };
            let Some(chunk) = chunk.strip_suffix(b"\r\n") else {
                return Err("a chunk without its end, or trailers".to_owned());
            };
            body.extend_from_slice(chunk);
            if size == 0 {
                return Ok(Some(body));
            }
        }
    }
}

fn is_token(text: &str) -> bool {
    let other = |byte: u8| b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty()
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || other(byte))
}

/// Judges the head of a request, and says how long its body is.
fn judge(head: &[u8], own: SocketAddr) -> Result<Framing, &'static str> {
    if head
        .iter()
        .any(|byte| (*byte < b' ' && !b"\t\r\n".contains(byte)) || *byte == 0x7f)
    {
        return Err("a control character");
    }
    let head = String::from_utf8_lossy(head);
    let mut lines = head.split("\r\n");
    let start: Vec<&str> = lines.next().unwrap_or_default().split(' ').collect();
    let [method, target, "HTTP/1.1"] = start[..] else {
        return Err("a start line that is none");
    };
    if !is_token(method) || matches!(method, "CONNECT" | "TRACE") {
        return Err("a method that must not cross");
    }
    let path = target.split('?').next().unwrap_or_default();
    if path != PATH || target.bytes().any(|byte| byte <= b' ' || byte == b'#') {
        return Err("a target that is not the configured one");
    }
    let (mut hosts, mut lengths, mut codings) = (Vec::new(), Vec::new(), Vec::new());
    for line in lines {
        let (name, value) = line.split_once(':').ok_or("a line without a colon")?;
        let value = value.trim();
        if !is_token(name) || value.contains(['\r', '\n']) {
            return Err("a header that is none");
        }
        match name.to_ascii_lowercase().as_str() {
            "host" => hosts.push(value),
            "content-length" => lengths.push(value),
            "transfer-encoding" => codings.push(value),
            "upgrade" | "connection" | "te" | "trailer" | "keep-alive" | "proxy-connection" => {
                return Err("a header that ends at the proxy");
            }
            _ => {}
        }
    }
    if hosts != [own.to_string()] {
        return Err("not its own host, once");
    }
    match (&lengths[..], &codings[..]) {
        ([], []) => Ok(Framing::Length(0)),
        ([], ["chunked"]) => Ok(Framing::Chunked),
        ([length], []) if length.bytes().all(|byte| byte.is_ascii_digit()) => {
            let length = length.parse().map(Framing::Length);
            length.map_err(|_| "a length beyond all bounds")
        }
        _ => Err("doubtful framing"),
    }
}
