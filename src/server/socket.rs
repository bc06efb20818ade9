//! One client's socket while hyper serves requests on it: what it is doing, and since when.
//!
//! hyper has one limit for the whole time between two requests. Here the wait for a request's first byte, the rest of
//! its head, and its body each have their own (`--socket-idle-timeout`, `--header-timeout`, `--body-timeout`), so that
//! a client may keep its socket for a minute and still not send a head byte by byte (slowloris). Nothing of this knows
//! what is asked for.

use std::io::{self, IoSlice};
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::legacy::Granted;
use crate::config::Limits;

/// No head has begun.
const NONE: u64 = u64::MAX;

/// What is known of one client's socket. Written by the tasks that serve it, read by the one that ends it in time.
#[derive(Debug)]
pub(super) struct Socket {
    /// The other end.
    pub(super) peer: IpAddr,
    /// This end, which says how the client reached the ferry.
    pub(super) local: IpAddr,
    /// The socket is to end after what it is writing.
    pub(super) closing: Notify,
    /// An upstream still answers on this socket, or a client listens.
    pub(super) passing: AtomicBool,
    /// The stream that this socket is to become.
    granted: OnceLock<Mutex<Option<Granted>>>,
    /// A request is being handled; its answer has not begun.
    serving: AtomicBool,
    /// A passed-through request's body is still to come.
    uploading: Arc<AtomicBool>,
    /// The next bytes of that body are wanted and have not come. While the upstream does not read, nobody wants them.
    starved: AtomicBool,
    opened: Instant,
    /// Milliseconds since `opened`: when the head of the next request began, if it has.
    head: AtomicU64,
    /// Likewise: when the last request was answered, or the wait for bytes of its body began.
    moved: AtomicU64,
}

impl Socket {
    pub(super) fn new(peer: IpAddr, local: IpAddr) -> Self {
        Self {
            peer,
            local,
            closing: Notify::new(),
            passing: AtomicBool::new(false),
            granted: OnceLock::new(),
            serving: AtomicBool::new(false),
            uploading: Arc::default(),
            starved: AtomicBool::new(false),
            opened: Instant::now(),
            head: AtomicU64::new(NONE),
            moved: AtomicU64::new(0),
        }
    }

    /// The socket is to become a stream. Said before the request's future is polled again; nobody will poll it again.
    pub(super) fn grant(&self, granted: Granted) {
        // It is set once: nothing is served on the socket afterwards.
        let _ = self.granted.set(Mutex::new(Some(granted)));
    }

    pub(super) fn is_granted(&self) -> bool {
        self.granted.get().is_some()
    }

    pub(super) fn take_granted(&self) -> Option<Granted> {
        let granted = self.granted.get()?;
        granted
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }

    /// A whole head has arrived; until the guard is dropped its request is being handled.
    pub(super) fn serve(self: &Arc<Self>) -> Serving {
        self.head.store(NONE, Ordering::Relaxed);
        self.serving.store(true, Ordering::Relaxed);
        Serving(Arc::clone(self))
    }

    /// The body of a passed-through request begins to be read; whoever reads it clears this at its end.
    pub(super) fn upload(&self) -> Arc<AtomicBool> {
        self.starved.store(false, Ordering::Relaxed);
        self.uploading.store(true, Ordering::Relaxed);
        Arc::clone(&self.uploading)
    }

    fn age(&self) -> u64 {
        u64::try_from(self.opened.elapsed().as_millis()).unwrap_or(NONE - 1)
    }

    /// Bytes were read from the socket.
    fn on_bytes(&self) {
        self.starved.store(false, Ordering::Relaxed);
        if !self.busy() && self.head.load(Ordering::Relaxed) == NONE {
            self.head.store(self.age(), Ordering::Relaxed);
        }
    }

    /// Bytes are wanted, and there are none.
    fn on_wait(&self) {
        if self.uploading.load(Ordering::Relaxed) && !self.starved.swap(true, Ordering::Relaxed) {
            self.moved.store(self.age(), Ordering::Relaxed);
        }
    }

    fn busy(&self) -> bool {
        self.serving.load(Ordering::Relaxed) || self.passing.load(Ordering::Relaxed)
    }

    /// When the client has had its time for what it is to send now, and the flag that says so. `None` while it is the
    /// ferry's turn.
    pub(super) fn deadline(&self, limits: &Limits) -> Option<(Instant, &'static str)> {
        let after =
            |since: u64, limit: Duration| self.opened + Duration::from_millis(since) + limit;
        if self.uploading.load(Ordering::Relaxed) {
            let moved = self.moved.load(Ordering::Relaxed);
            let starved = self.starved.load(Ordering::Relaxed);
            return starved.then(|| (after(moved, limits.body_timeout), "--body-timeout"));
        }
        if self.busy() {
            return None;
        }
        Some(match self.head.load(Ordering::Relaxed) {
            NONE => {
                let moved = self.moved.load(Ordering::Relaxed);
                (
                    after(moved, limits.socket_idle_timeout),
                    "--socket-idle-timeout",
                )
            }
            head => (after(head, limits.header_timeout), "--header-timeout"),
        })
    }
}

/// An answer of a socket that goes on while the upstream, or whoever writes it, has more; until its last byte has come.
#[derive(Debug)]
pub(super) struct Passing(Arc<Socket>);

impl Passing {
    pub(super) fn new(socket: &Arc<Socket>) -> Self {
        socket.passing.store(true, Ordering::Release);
        Self(Arc::clone(socket))
    }
}

impl Drop for Passing {
    fn drop(&mut self) {
        // The time between two requests begins here.
        self.0.moved.store(self.0.age(), Ordering::Relaxed);
        self.0.passing.store(false, Ordering::Release);
    }
}

/// A request is being handled.
#[derive(Debug)]
pub(super) struct Serving(Arc<Socket>);

impl Drop for Serving {
    fn drop(&mut self) {
        self.0.moved.store(self.0.age(), Ordering::Relaxed);
        self.0.serving.store(false, Ordering::Relaxed);
    }
}

/// The socket's bytes, watched.
#[derive(Debug)]
pub(super) struct Watched {
    stream: TcpStream,
    socket: Arc<Socket>,
}

impl Watched {
    pub(super) fn new(stream: TcpStream, socket: Arc<Socket>) -> Self {
        Self { stream, socket }
    }

    pub(super) fn into_stream(self) -> TcpStream {
        self.stream
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        let read = Pin::new(&mut this.stream).poll_read(cx, buffer);
        if buffer.filled().len() > before {
            this.socket.on_bytes();
        } else if read.is_pending() {
            this.socket.on_wait();
        }
        read
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}
