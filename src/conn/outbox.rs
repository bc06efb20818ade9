//! Between a connection's task and its client's socket: frames that wait to be written, counted in bytes.
//!
//! Bound: the task stops reading the upstream while more than `limit` bytes wait ([`Outbox::has_room`]); what one turn
//! of reading brings on top of that is bounded by the upstream reader. So one slow client pauses its own upstream and
//! nobody else's. The lock is `std`'s because it is held for a push or a pop and never across a wait.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http_body::{Body, Frame};
use tokio::time::Instant;

/// The writing side, held by the connection's task. Dropping it ends the stream as a broken one.
#[derive(Debug)]
pub(super) struct Outbox {
    shared: Arc<Mutex<Shared>>,
}

/// The client's stream as an HTTP body: the reading side. Dropping it says that the client is gone.
#[derive(Debug)]
pub struct StreamBody {
    shared: Arc<Mutex<Shared>>,
}

/// The stream broke off: the connection's task died, or gave the client up.
#[derive(Debug)]
pub struct Broken;

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the connection was given up")
    }
}

impl std::error::Error for Broken {}

#[derive(Debug)]
struct Shared {
    frames: VecDeque<Bytes>,
    /// Their sum: `bytes == frames.map(len).sum()`.
    bytes: usize,
    end: End,
    gone: bool,
    /// When a frame was last taken, or put into an empty box.
    moved: Instant,
    /// The task waits for room: it is woken when half of `limit` is free again.
    wants_room: bool,
    limit: usize,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Open,
    Clean,
    Broken,
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Both sides of a stream that begins with `first`.
pub(super) fn outbox(first: Bytes, limit: usize) -> (Outbox, StreamBody) {
    let shared = Arc::new(Mutex::new(Shared {
        bytes: first.len(),
        frames: VecDeque::from([first]),
        end: End::Open,
        gone: false,
        moved: Instant::now(),
        wants_room: false,
        limit,
        reader: None,
        writer: None,
    }));
    (
        Outbox {
            shared: Arc::clone(&shared),
        },
        StreamBody { shared },
    )
}

impl Outbox {
    pub(super) fn push(&self, frame: Bytes) {
        let mut shared = lock(&self.shared);
        if shared.gone || shared.end != End::Open {
            return;
        }
        if shared.frames.is_empty() {
            shared.moved = Instant::now();
        }
        shared.bytes += frame.len();
        shared.frames.push_back(frame);
        wake(&mut shared.reader);
    }

    /// Whether more may be read from the upstream. When not, `cx` is woken once there is room again.
    pub(super) fn poll_room(&self, cx: &mut Context<'_>) -> bool {
        let mut shared = lock(&self.shared);
        let room = shared.bytes < shared.limit || shared.gone;
        if !room {
            shared.wants_room = true;
            shared.writer = Some(cx.waker().clone());
        }
        room
    }

    /// Ready when the client is gone.
    pub(super) fn poll_gone(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut shared = lock(&self.shared);
        if shared.gone {
            return Poll::Ready(());
        }
        if !shared
            .writer
            .as_ref()
            .is_some_and(|waker| waker.will_wake(cx.waker()))
        {
            shared.writer = Some(cx.waker().clone());
        }
        Poll::Pending
    }

    /// Since when frames have waited without one being taken. `None` when none waits.
    pub(super) fn stalled_since(&self) -> Option<Instant> {
        let shared = lock(&self.shared);
        (!shared.frames.is_empty()).then_some(shared.moved)
    }

    /// When the last frame was taken.
    pub(super) fn last_moved(&self) -> Instant {
        lock(&self.shared).moved
    }

    /// Ends the stream after what waits.
    pub(super) fn end(&self) {
        self.close(End::Clean);
    }

    fn close(&self, end: End) {
        let mut shared = lock(&self.shared);
        if shared.end == End::Open {
            shared.end = end;
        }
        wake(&mut shared.reader);
    }
}

impl Drop for Outbox {
    fn drop(&mut self) {
        self.close(End::Broken);
    }
}

fn wake(waker: &mut Option<Waker>) {
    if let Some(waker) = waker.take() {
        waker.wake();
    }
}

impl Body for StreamBody {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let mut shared = lock(&self.shared);
        if let Some(frame) = shared.frames.pop_front() {
            shared.bytes = shared.bytes.saturating_sub(frame.len());
            shared.moved = Instant::now();
            if shared.frames.is_empty() {
                // An idle connection keeps nothing but its own few bytes.
                shared.frames.shrink_to(4);
            }
            if shared.wants_room && shared.bytes <= shared.limit / 2 {
                shared.wants_room = false;
                wake(&mut shared.writer);
            }
            return Poll::Ready(Some(Ok(Frame::data(frame))));
        }
        match shared.end {
            End::Clean => Poll::Ready(None),
            End::Broken => Poll::Ready(Some(Err(Broken))),
            End::Open => {
                shared.reader = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl Drop for StreamBody {
    fn drop(&mut self) {
        let mut shared = lock(&self.shared);
        shared.gone = true;
        shared.frames = VecDeque::new();
        shared.bytes = 0;
        wake(&mut shared.writer);
    }
}
