//! The client's socket once its stream has begun: frames that wait to be written, and whether the client is there.
//!
//! hyper reads the GET and then lets the socket go, because a stream that is open for days needs none of its buffers
//! (16 KiB a socket), and because the connection's own task can write an event without waking another. What is left of
//! HTTP/1.1 here is the response head and the chunked coding (RFC 9112 §7.1).
//!
//! Bound: the task stops reading the upstream while `--client-buffer` bytes wait ([`Wire::waiting`]); what one turn of
//! reading brings on top of that is bounded by the upstream reader. So one slow client pauses its own upstream and
//! nobody else's.

use std::collections::VecDeque;
use std::io::{ErrorKind, IoSlice};
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use socket2::SockRef;
use tokio::net::TcpStream;
use tokio::time::Instant;

/// Pieces that are handed to the system in one write.
const PIECES: usize = 32;
/// Reads in one turn of what a client sends on its stream's socket, which is nothing that counts.
const READS: usize = 16;

const LINE_END: Bytes = Bytes::from_static(b"\r\n");
const LAST_CHUNK: Bytes = Bytes::from_static(b"0\r\n\r\n");

/// A client's socket.
#[derive(Debug)]
pub(super) struct Wire {
    /// `None` once it is closed.
    socket: Option<TcpStream>,
    chunked: bool,
    pieces: VecDeque<Bytes>,
    /// Their sum.
    bytes: usize,
    /// When bytes were last written, or put where none waited.
    moved: Instant,
    ended: bool,
}

impl Wire {
    /// A stream that begins with `head`, the response head; `chunked` says which coding it announces.
    pub(super) fn new(socket: TcpStream, head: Bytes, chunked: bool) -> Self {
        let mut wire = Self {
            socket: Some(socket),
            chunked,
            pieces: VecDeque::new(),
            bytes: 0,
            moved: Instant::now(),
            ended: false,
        };
        wire.put(head);
        wire
    }

    /// Puts a frame on the stream, after what waits.
    pub(super) fn push(&mut self, frame: Bytes) {
        if self.ended || self.socket.is_none() || frame.is_empty() {
            return;
        }
        if self.chunked {
            self.put(Bytes::from(format!("{:x}\r\n", frame.len())));
            self.put(frame);
            self.put(LINE_END);
        } else {
            self.put(frame);
        }
    }

    /// Ends the stream after what waits.
    pub(super) fn end(&mut self) {
        if !self.ended && self.chunked {
            self.put(LAST_CHUNK);
        }
        self.ended = true;
    }

    fn put(&mut self, piece: Bytes) {
        if self.pieces.is_empty() {
            self.moved = Instant::now();
        }
        self.bytes += piece.len();
        self.pieces.push_back(piece);
    }

    /// Gives the socket up, and what waits with it.
    pub(super) fn close(&mut self) {
        self.socket = None;
        self.pieces = VecDeque::new();
        self.bytes = 0;
    }

    /// Bytes that wait for the client to read.
    pub(super) fn waiting(&self) -> usize {
        self.bytes
    }

    /// Since when bytes have waited without any being written. `None` when none waits.
    pub(super) fn stalled_since(&self) -> Option<Instant> {
        (!self.pieces.is_empty()).then_some(self.moved)
    }

    /// When bytes were last written.
    pub(super) fn last_moved(&self) -> Instant {
        self.moved
    }

    pub(super) fn is_closed(&self) -> bool {
        self.socket.is_none()
    }

    /// Writes what the system takes at once.
    pub(super) fn write(&mut self) {
        while let Some(socket) = self.socket.as_ref().filter(|_| !self.pieces.is_empty()) {
            let mut slices = [IoSlice::new(&[]); PIECES];
            for (slice, piece) in slices.iter_mut().zip(&self.pieces) {
                *slice = IoSlice::new(piece);
            }
            let count = self.pieces.len().min(PIECES);
            match socket.try_write_vectored(slices.get(..count).unwrap_or_default()) {
                Ok(0) => return self.close(),
                Ok(written) => self.advance(written),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return self.close(),
            }
        }
        if self.ended
            && self.pieces.is_empty()
            && let Some(socket) = self.socket.take()
        {
            // A client that is gone already needs no goodbye.
            let _ = SockRef::from(&socket).shutdown(std::net::Shutdown::Write);
        }
    }

    fn advance(&mut self, mut written: usize) {
        self.moved = Instant::now();
        self.bytes = self.bytes.saturating_sub(written);
        while let Some(piece) = self.pieces.front_mut() {
            if piece.len() > written {
                return piece.advance(written);
            }
            written -= piece.len();
            self.pieces.pop_front();
        }
        // An idle connection keeps nothing but its own few bytes.
        self.pieces.shrink_to(4);
    }

    /// Writes and reads as far as it goes. Ready when the socket is closed, by the client or after the end.
    pub(super) fn poll_closed(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            self.write();
            let Some(socket) = &self.socket else {
                return Poll::Ready(());
            };
            if self.pieces.is_empty() {
                break;
            }
            match socket.poll_write_ready(cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(_)) => self.close(),
                Poll::Pending => break,
            }
        }
        for _ in 0..READS {
            let Some(socket) = &self.socket else {
                return Poll::Ready(());
            };
            let readable = ready!(socket.poll_read_ready(cx));
            let mut ignored = [0; 256];
            let read = readable.and_then(|()| socket.try_read(&mut ignored));
            match read {
                Ok(0) => self.close(),
                Ok(_) => {}
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
                Err(_) => self.close(),
            }
        }
        // A client that floods its own stream gets no more than its turn.
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}
