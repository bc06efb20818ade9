//! A client that writes any bytes and reads what comes, as strictly as the upstream of `recorder.rs` reads requests.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// When a client says that it will send no more. The ferry takes that for its leaving, as other servers do, so that a
/// request which is passed through then ends.
#[derive(Clone, Copy, Debug)]
pub enum Until {
    /// So many answers have come.
    Answers(usize),
    /// Nothing came for so long.
    Quiet(Duration),
}

/// Writes `text` in so many parts while it reads, says then that no more comes, and reads to the end.
pub async fn exchange(address: SocketAddr, text: &[u8], parts: usize, until: Until) -> Vec<u8> {
    let mut socket = TcpStream::connect(address).await.expect("connect");
    let _ = socket.set_nodelay(true);
    let (mut reader, mut writer) = socket.split();
    let write = async {
        for part in text.chunks(text.len().div_ceil(parts).max(1)) {
            // It may have closed already; what it said tells.
            if writer.write_all(part).await.is_err() {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    let read = async {
        let mut answer = Vec::new();
        while !is_enough(&answer, until) {
            let more = reader.read_buf(&mut answer);
            let more = match until {
                Until::Answers(_) => more.await,
                Until::Quiet(time) => match tokio::time::timeout(time, more).await {
                    Ok(more) => more,
                    Err(_) => break,
                },
            };
            // A reset is an end too.
            if !matches!(more, Ok(count) if count > 0) {
                break;
            }
        }
        answer
    };
    let ((), mut answer) = tokio::join!(write, read);
    let _ = writer.shutdown().await;
    let _ = reader.read_to_end(&mut answer).await;
    answer
}

fn is_enough(sent: &[u8], until: Until) -> bool {
    match until {
        Until::Answers(count) => answers(sent).is_ok_and(|answers| {
            let whole = answers.iter().filter(|answer| answer.whole);
            whole.count() >= count
        }),
        Until::Quiet(_) => false,
    }
}

/// Opens a stream, and finds the id of its connection.
pub async fn open(address: SocketAddr) -> (TcpStream, String) {
    let mut socket = TcpStream::connect(address).await.expect("connect");
    let get = b"GET /sse HTTP/1.1\r\nHost: localhost\r\n\r\n";
    socket.write_all(get).await.expect("write");
    let mut text = Vec::new();
    loop {
        if let Some(at) = memchr::memmem::find(&text, b"sessionId=")
            && let Some(id) = text.get(at + 10..at + 74)
        {
            return (socket, String::from_utf8_lossy(id).into_owned());
        }
        let count = socket.read_buf(&mut text).await.unwrap_or(0);
        assert!(count > 0, "no stream: {}", String::from_utf8_lossy(&text));
    }
}

/// One answer.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// Whether as much of the body has come as the head says.
    pub whole: bool,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str())
    }
}

/// The final answers in what a server sent on one socket; the last one may be cut, where the socket was reset. An error
/// says what no client should see.
pub fn answers(sent: &[u8]) -> Result<Vec<Answer>, String> {
    answers_with_heads(sent, false)
}

/// The same where some requests may have been HEAD: their answers say the length of a body that they leave out.
pub fn answers_with_heads(sent: &[u8], heads: bool) -> Result<Vec<Answer>, String> {
    let mut rest = sent;
    let mut answers = Vec::new();
    while let Some(end) = memchr::memmem::find(rest, b"\r\n\r\n") {
        let mut answer = head(&rest[..end])
            .ok_or_else(|| format!("not an answer: {:?}", String::from_utf8_lossy(rest)))?;
        rest = &rest[end + 4..];
        if answer.status == 100 {
            continue;
        }
        let coding = answer.header("transfer-encoding").map(str::to_owned);
        let length = answer.header("content-length").map(str::to_owned);
        let count = |name: &str| answer.headers.iter().filter(|(key, _)| key == name).count();
        if count("transfer-encoding") + count("content-length") > 1 {
            return Err(format!("doubtful framing: {answer:?}"));
        }
        let length = match (&length, &coding) {
            // The rest: a stream, or the last answer to an old client.
            (None, Some(_)) => rest.len(),
            (None, None) if matches!(answer.status, 204 | 304) => 0,
            (None, None) => rest.len(),
            // Another answer follows, or none.
            (Some(_), _) if heads && rest.starts_with(b"HTTP/1.") => 0,
            (Some(length), _) => length.parse().map_err(|_| format!("{length:?} bytes"))?,
        };
        let (body, tail) = rest.split_at(length.min(rest.len()));
        answer.body = body.to_vec();
        answer.whole = body.len() == length;
        answers.push(answer);
        rest = tail;
    }
    Ok(answers)
}

fn head(text: &[u8]) -> Option<Answer> {
    let plain = |byte: &u8| *byte >= b' ' && *byte != 0x7f || b"\t\r\n".contains(byte);
    if !text.iter().all(plain) {
        return None;
    }
    let text = String::from_utf8_lossy(text);
    let mut lines = text.split("\r\n");
    let start = lines.next()?;
    let version = start
        .strip_prefix("HTTP/1.1 ")
        .or_else(|| start.strip_prefix("HTTP/1.0 "))?;
    let status = version.get(..3)?.parse().ok()?;
    let header = |line: &str| {
        let (name, value) = line.split_once(": ")?;
        let good = !name.contains([' ', '\t']) && !value.contains(['\r', '\n']);
        good.then(|| (name.to_ascii_lowercase(), value.to_owned()))
    };
    let headers: Option<Vec<_>> = lines.map(header).collect();
    Some(Answer {
        status,
        headers: headers?,
        body: Vec::new(),
        whole: false,
    })
}
