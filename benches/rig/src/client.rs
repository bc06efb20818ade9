//! A client's side of one keep-alive HTTP/1.1 connection.

use crate::http1::{Chunked, Framing, ResponseHead, response_head};
use crate::{Context, Result, sse};
use std::net::{Ipv4Addr, SocketAddr};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

/// `http://ADDRESS:PORT/path` in its parts.
#[derive(Clone, Debug)]
pub struct Url {
    pub address: SocketAddr,
    pub path: String,
}

impl std::str::FromStr for Url {
    type Err = String;

    fn from_str(text: &str) -> Result<Self> {
        let rest = text
            .strip_prefix("http://")
            .ok_or_else(|| format!("not an http URL: {text}"))?;
        let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
        Ok(Self {
            address: host.parse().context(text)?,
            path: format!("/{path}"),
        })
    }
}

/// One connection to a server.
pub struct Connection {
    stream: TcpStream,
    bytes: Vec<u8>,
    at: usize,
}

impl Connection {
    /// Connects; `index` picks the loopback source address, so that ten thousand connections find a port each.
    pub async fn open(address: SocketAddr, index: usize) -> Result<Self> {
        let socket = TcpSocket::new_v4().context("socket")?;
        if index >= PER_SOURCE {
            let last = u8::try_from(1 + index / PER_SOURCE).context("too many connections")?;
            socket
                .bind((Ipv4Addr::new(127, 0, 0, last), 0).into())
                .context("source address")?;
        }
        let stream = socket.connect(address).await.context("connect")?;
        stream.set_nodelay(true).context("nodelay")?;
        Ok(Self {
            stream,
            bytes: Vec::new(),
            at: 0,
        })
    }

    /// Sends a whole request.
    pub async fn send(&mut self, request: &[u8]) -> Result<()> {
        self.stream.write_all(request).await.context("send")
    }

    /// Reads more; an error when the server has closed.
    async fn fill(&mut self) -> Result<()> {
        if self.at == self.bytes.len() {
            self.bytes.clear();
            self.at = 0;
        }
        self.bytes.reserve(2048);
        match self
            .stream
            .read_buf(&mut self.bytes)
            .await
            .context("receive")?
        {
            0 => Err("the server closed the connection".into()),
            _ => Ok(()),
        }
    }

    /// The next response's head.
    pub async fn head(&mut self) -> Result<ResponseHead> {
        loop {
            if self.at < self.bytes.len()
                && let Some((head, used)) = response_head(&self.bytes[self.at..])?
            {
                self.at += used;
                return Ok(head);
            }
            self.fill().await?;
        }
    }

    /// The body that follows a head, whole.
    pub async fn body(&mut self, framing: Framing, out: &mut Vec<u8>) -> Result<()> {
        out.clear();
        let mut chunked = Chunked::default();
        loop {
            let have = &self.bytes[self.at..];
            match framing {
                Framing::Length(length) => {
                    let used = have.len().min(length - out.len());
                    out.extend_from_slice(&have[..used]);
                    self.at += used;
                    if out.len() == length {
                        return Ok(());
                    }
                }
                Framing::Chunked => {
                    self.at += chunked.decode(have, out)?;
                    if chunked.done() {
                        return Ok(());
                    }
                }
                Framing::Close => {
                    return Err("a response without length on a keep-alive connection".into());
                }
            }
            self.fill().await?;
        }
    }

    /// One request, its status and its body; the body is the message itself when it came as an event stream.
    pub async fn exchange(&mut self, request: &[u8], out: &mut Vec<u8>) -> Result<ResponseHead> {
        self.send(request).await?;
        let head = self.head().await?;
        self.body(head.framing, out).await?;
        if head.event_stream {
            let mut reader = sse::Reader::default();
            std::mem::swap(reader.space(), out);
            let message = reader
                .next_event()?
                .ok_or("an event stream without an event")?
                .data
                .to_vec();
            *out = message;
            if reader.next_event()?.is_some() {
                return Err("more than one event in the reply".into());
            }
        }
        Ok(head)
    }
}

/// Connections from one source address; well below the number of ephemeral ports.
const PER_SOURCE: usize = 8_000;

/// An event stream that stays open.
pub struct EventStream {
    connection: Connection,
    chunked: Option<Chunked>,
    reader: sse::Reader,
}

impl EventStream {
    /// Opens `GET url`; fails unless the server answers with an event stream.
    pub async fn open(url: &Url, index: usize) -> Result<Self> {
        let mut connection = Connection::open(url.address, index).await?;
        let request = format!(
            "GET {} HTTP/1.1\r\nhost: {}\r\naccept: text/event-stream\r\ncache-control: no-store\r\n\r\n",
            url.path, url.address
        );
        connection.send(request.as_bytes()).await?;
        let head = connection.head().await?;
        if head.status != 200 || !head.event_stream {
            return Err(format!("GET {} was answered {}", url.path, head.status));
        }
        let chunked = match head.framing {
            Framing::Chunked => Some(Chunked::default()),
            Framing::Close => None,
            Framing::Length(_) => return Err("an event stream with a length".into()),
        };
        Ok(Self {
            connection,
            chunked,
            reader: sse::Reader::default(),
        })
    }

    /// Waits until an event is there and hands it to `take`.
    pub async fn event<T>(&mut self, take: impl FnOnce(sse::Event<'_>) -> Result<T>) -> Result<T> {
        loop {
            self.unwrap()?;
            if let Some(event) = self.reader.next_event()? {
                return take(event);
            }
            self.connection.fill().await?;
        }
    }

    /// Moves what has arrived into the event reader.
    fn unwrap(&mut self) -> Result<()> {
        let have = &self.connection.bytes[self.connection.at..];
        if have.is_empty() {
            return Ok(());
        }
        match &mut self.chunked {
            Some(chunked) => self.connection.at += chunked.decode(have, self.reader.space())?,
            None => {
                self.reader.space().extend_from_slice(have);
                self.connection.at = self.connection.bytes.len();
            }
        }
        match &self.chunked {
            Some(chunked) if chunked.done() => Err("the server ended the stream".into()),
            _ => Ok(()),
        }
    }

    /// Gives buffers back before a long idle time.
    pub fn rest(&mut self) {
        self.reader.shrink();
        if self.connection.at == self.connection.bytes.len() {
            self.connection.bytes = Vec::new();
            self.connection.at = 0;
        }
    }
}
