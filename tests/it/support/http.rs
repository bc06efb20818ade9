//! HTTP/1.1 as text on a socket, for both ends of a test: strict where a proxy could go wrong, and nothing hidden.

use bytes::{Buf, Bytes, BytesMut};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::clock::within;

/// A request's or a response's start line and headers.
#[derive(Clone, Debug)]
pub(crate) struct Head {
    pub(crate) start: String,
    pub(crate) headers: Vec<(String, String)>,
}

impl Head {
    /// The value of a header that must not be there twice.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let all = self.all(name);
        assert!(all.len() < 2, "{name} is there {} times", all.len());
        all.first().copied()
    }

    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        let same = |(key, _): &&(String, String)| key.eq_ignore_ascii_case(name);
        self.headers
            .iter()
            .filter(same)
            .map(|(_, value)| value.as_str())
            .collect()
    }

    pub(crate) fn status(&self) -> u16 {
        let status = self.start.split(' ').nth(1).expect("a status");
        status.parse().expect("a number")
    }

    fn framing(&self, whole_without: bool) -> Framing {
        match (
            self.header("content-length"),
            self.header("transfer-encoding"),
        ) {
            (None, Some(coding)) if coding.eq_ignore_ascii_case("chunked") => Framing::Chunked,
            (Some(length), None) => Framing::Length(length.parse().expect("a length")),
            (None, None) if whole_without => Framing::UntilClose,
            (None, None) => Framing::Length(0),
            both => panic!("the framing is doubtful: {both:?}"),
        }
    }
}

enum Framing {
    Length(usize),
    Chunked,
    UntilClose,
}

/// A whole response.
#[derive(Clone, Debug)]
pub(crate) struct Response {
    pub(crate) head: Head,
    pub(crate) body: Bytes,
}

impl Response {
    pub(crate) fn status(&self) -> u16 {
        self.head.status()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.header(name)
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("text")
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("JSON")
    }
}

/// A socket and what was read from it beyond the present message.
#[derive(Debug)]
pub(crate) struct Wire {
    pub(crate) socket: TcpStream,
    pub(crate) buffer: BytesMut,
}

impl Wire {
    pub(crate) fn new(socket: TcpStream) -> Self {
        let _ = socket.set_nodelay(true);
        Self {
            socket,
            buffer: BytesMut::new(),
        }
    }

    pub(crate) async fn connect(address: std::net::SocketAddr) -> Self {
        Self::new(TcpStream::connect(address).await.expect("connect"))
    }

    pub(crate) async fn write(&mut self, bytes: &[u8]) {
        within("room to write", self.socket.write_all(bytes))
            .await
            .expect("write");
    }

    /// Reads once more. `false` when the peer has closed or reset.
    pub(crate) async fn read(&mut self) -> bool {
        self.buffer.reserve(64 * 1024);
        matches!(self.socket.read_buf(&mut self.buffer).await, Ok(count) if count > 0)
    }

    /// Reads a head; `None` when the peer closed before it.
    pub(crate) async fn head(&mut self) -> Option<Head> {
        let end = loop {
            if let Some(end) = find(&self.buffer, b"\r\n\r\n") {
                break end;
            }
            if !self.read().await {
                assert!(
                    self.buffer.is_empty(),
                    "half a head: {:?}",
                    String::from_utf8_lossy(&self.buffer)
                );
                return None;
            }
        };
        let bytes = self.buffer.split_to(end + 4);
        let text = std::str::from_utf8(&bytes[..end]).expect("a head of text");
        let mut lines = text.split("\r\n");
        let start = lines.next().expect("a start line").to_owned();
        let headers = lines
            .map(|line| {
                let (name, value) = line.split_once(':').expect("a colon");
                (name.to_owned(), value.trim().to_owned())
            })
            .collect();
        Some(Head { start, headers })
    }

    /// Reads one chunk of a chunked body; `None` for the last one. An `Err` says that the peer closed before it.
    pub(crate) async fn chunk(&mut self) -> Result<Option<Bytes>, Closed> {
        let line = loop {
            if let Some(end) = find(&self.buffer, b"\r\n") {
                break end;
            }
            if !self.read().await {
                return Err(Closed);
            }
        };
        let size = std::str::from_utf8(&self.buffer[..line]).expect("a chunk size");
        let size = usize::from_str_radix(size, 16).expect("a chunk size");
        while self.buffer.len() < line + 2 + size + 2 {
            if !self.read().await {
                return Err(Closed);
            }
        }
        self.buffer.advance(line + 2);
        let data = self.buffer.split_to(size).freeze();
        assert_eq!(&self.buffer[..2], b"\r\n", "the end of a chunk");
        self.buffer.advance(2);
        Ok((size > 0).then_some(data))
    }

    /// Reads the body of `head` whole.
    pub(crate) async fn body(&mut self, head: &Head) -> Result<Bytes, Closed> {
        let response = head.start.starts_with("HTTP/");
        let bodiless = response && matches!(head.status(), 204 | 304);
        match head.framing(response && !bodiless) {
            Framing::Length(length) => {
                while self.buffer.len() < length {
                    if !self.read().await {
                        return Err(Closed);
                    }
                }
                Ok(self.buffer.split_to(length).freeze())
            }
            Framing::Chunked => {
                let mut body = BytesMut::new();
                while let Some(chunk) = self.chunk().await? {
                    body.extend_from_slice(&chunk);
                }
                Ok(body.freeze())
            }
            Framing::UntilClose => {
                while self.read().await {}
                Ok(self.buffer.split().freeze())
            }
        }
    }

    /// Reads a whole response.
    pub(crate) async fn response(&mut self) -> Response {
        let read = async {
            let head = self.head().await.expect("a response");
            let body = self.body(&head).await.expect("the whole body");
            Response { head, body }
        };
        within("a response", read).await
    }

    /// Waits until the peer has closed or reset, and says what it sent before.
    pub(crate) async fn closed(&mut self) -> Bytes {
        within("the peer to close", async { while self.read().await {} }).await;
        self.buffer.split().freeze()
    }
}

/// The peer closed in the middle.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Closed;

/// A request as text. `Host` and, for a body, `Content-Length` are set unless `headers` have them or a transfer coding.
pub(crate) fn request(
    method: &str,
    target: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Vec<u8> {
    let has = |name: &str| {
        headers
            .iter()
            .any(|(key, _)| key.eq_ignore_ascii_case(name))
    };
    let mut text = format!("{method} {target} HTTP/1.1\r\n");
    if !has("host") {
        text.push_str("Host: localhost\r\n");
    }
    if !has("content-length") && !has("transfer-encoding") && (!body.is_empty() || method == "POST")
    {
        text.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text.push_str("\r\n");
    [text.as_bytes(), body].concat()
}

/// A chunk of a chunked body.
pub(crate) fn chunk(data: &[u8]) -> Vec<u8> {
    [format!("{:x}\r\n", data.len()).as_bytes(), data, b"\r\n"].concat()
}

/// One request on a connection of its own.
pub(crate) async fn exchange(
    address: std::net::SocketAddr,
    method: &str,
    target: &str,
    headers: &[(&str, &str)],
    body: impl AsRef<[u8]>,
) -> Response {
    let mut wire = Wire::connect(address).await;
    wire.write(&request(method, target, headers, body.as_ref()))
        .await;
    wire.response().await
}

pub(crate) fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    memchr::memmem::find(haystack, needle)
}
