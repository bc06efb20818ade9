//! The body of an answer that one task writes and another sends: a queue of pieces between them, which also says when
//! the answer takes shape, when it is read, and when nobody reads it any more.
//!
//! A request of a session's client is answered when there is something to answer with, and in the form that this asks
//! for; so the head of the answer waits until the writer has begun. Nothing here knows what the pieces are. Bound: the
//! writer looks at [`Outlet::waiting`] before it takes more to write, because what it reads is its own to pause.

use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use tokio::time::Instant;

/// Bytes that the reader takes at once: what waits is counted, and seen to move, in steps of this size.
const PIECE: usize = 16 * 1024;

/// What an answer turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// One JSON text.
    Json,
    /// An event stream.
    Events,
}

#[derive(Debug)]
struct State {
    form: Option<Form>,
    pieces: VecDeque<Bytes>,
    /// Their sum.
    bytes: usize,
    /// When bytes were last taken, or put where none waited.
    moved: Instant,
    /// Nothing more will be written.
    ended: bool,
    /// The reader is gone.
    closed: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
    /// Whether the writer waits for room, not only for the reader to go.
    wants_room: bool,
}

/// What is to be done when the writer gives up a reader that takes nothing.
type Cut = Box<dyn Fn() + Send + Sync>;

/// The forms that whoever asked can take; at least one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Takes {
    /// One JSON text only.
    Json,
    /// An event stream only.
    Events,
    /// Whatever suits.
    Either,
}

/// The writer's end. Dropping it ends the body.
pub struct Outlet {
    state: Arc<Mutex<State>>,
    takes: Takes,
    cut: Cut,
}

/// The reader's end. Dropping it tells the writer.
#[derive(Debug)]
pub struct Reader {
    state: Arc<Mutex<State>>,
}

/// Both ends of a body, which whoever asked can take so. `cut` ends what the reader writes to, at once: a reader whose peer takes nothing is never asked
/// for more, and would not learn that the body is over.
pub fn outlet(takes: Takes, cut: impl Fn() + Send + Sync + 'static) -> (Outlet, Reader) {
    let state = Arc::new(Mutex::new(State {
        form: None,
        pieces: VecDeque::new(),
        bytes: 0,
        moved: Instant::now(),
        ended: false,
        closed: false,
        reader: None,
        writer: None,
        wants_room: false,
    }));
    let outlet = Outlet {
        state: Arc::clone(&state),
        takes,
        cut: Box::new(cut),
    };
    (outlet, Reader { state })
}

impl State {
    fn put(&mut self, piece: Bytes) {
        if self.ended || self.closed || piece.is_empty() {
            return;
        }
        if self.pieces.is_empty() {
            self.moved = Instant::now();
        }
        self.bytes += piece.len();
        self.pieces.push_back(piece);
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn wake(waker: &mut Option<Waker>) {
    if let Some(waker) = waker.take() {
        waker.wake();
    }
}

/// Remembers the present task, to be woken.
fn remember(waker: &mut Option<Waker>, cx: &Context<'_>) {
    match waker {
        Some(waker) => waker.clone_from(cx.waker()),
        None => *waker = Some(cx.waker().clone()),
    }
}

impl Outlet {
    /// Says what the answer is, which lets its head go. Only the first call counts.
    pub fn begin(&self, form: Form) {
        let mut state = lock(&self.state);
        if state.form.is_none() {
            state.form = Some(form);
            state.moved = Instant::now();
            wake(&mut state.reader);
        }
    }

    /// What the answer is, once that was said.
    #[must_use]
    pub fn form(&self) -> Option<Form> {
        lock(&self.state).form
    }

    /// Whether whoever asked can take this form.
    #[must_use]
    pub fn takes(&self, form: Form) -> bool {
        match self.takes {
            Takes::Either => true,
            Takes::Json => form == Form::Json,
            Takes::Events => form == Form::Events,
        }
    }

    /// Puts a piece after what waits.
    pub fn push(&self, piece: Bytes) {
        let mut state = lock(&self.state);
        state.put(piece);
        wake(&mut state.reader);
    }

    /// Writes the whole body at once: one JSON text. It is not to be called when another form was begun.
    pub fn whole(&self, json: Bytes) {
        let mut state = lock(&self.state);
        state.form.get_or_insert(Form::Json);
        state.put(json);
        state.ended = true;
        wake(&mut state.reader);
    }

    /// Ends the body after what waits.
    pub fn end(&self) {
        let mut state = lock(&self.state);
        state.ended = true;
        wake(&mut state.reader);
    }

    /// Whether nothing more will be written.
    #[must_use]
    pub fn is_ended(&self) -> bool {
        lock(&self.state).ended
    }

    /// Gives the reader up, and what waits with it.
    pub fn cut(&self) {
        // First, so that nobody takes what follows for the end of the body.
        (self.cut)();
        let mut state = lock(&self.state);
        state.ended = true;
        state.pieces = VecDeque::new();
        state.bytes = 0;
    }

    /// Bytes that wait for the reader.
    #[must_use]
    pub fn waiting(&self) -> usize {
        lock(&self.state).bytes
    }

    /// Since when bytes have waited without any being taken. `None` when none waits.
    #[must_use]
    pub fn stalled_since(&self) -> Option<Instant> {
        let state = lock(&self.state);
        (!state.pieces.is_empty()).then_some(state.moved)
    }

    /// When bytes were last taken, or put where none waited.
    #[must_use]
    pub fn last_moved(&self) -> Instant {
        lock(&self.state).moved
    }

    /// Ready when the reader is gone. With `wants_room` the task is also woken when bytes are taken.
    pub fn poll_closed(&self, cx: &Context<'_>, wants_room: bool) -> Poll<()> {
        let mut state = lock(&self.state);
        if state.closed {
            return Poll::Ready(());
        }
        remember(&mut state.writer, cx);
        state.wants_room = wants_room;
        Poll::Pending
    }
}

impl fmt::Debug for Outlet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outlet")
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}

impl Drop for Outlet {
    fn drop(&mut self) {
        self.end();
    }
}

impl Reader {
    /// Waits until it is said what the answer is. `None` when the writer has gone without saying it.
    pub async fn form(&mut self) -> Option<Form> {
        poll_fn(|cx| {
            let mut state = lock(&self.state);
            if state.form.is_some() || state.ended {
                return Poll::Ready(state.form);
            }
            remember(&mut state.reader, cx);
            Poll::Pending
        })
        .await
    }

    /// The next bytes; `None` when the body has ended.
    pub fn poll_piece(&mut self, cx: &Context<'_>) -> Poll<Option<Bytes>> {
        let mut state = lock(&self.state);
        let Some(first) = state.pieces.front_mut() else {
            if state.ended {
                return Poll::Ready(None);
            }
            remember(&mut state.reader, cx);
            return Poll::Pending;
        };
        let piece = if first.len() > PIECE {
            first.split_to(PIECE)
        } else {
            state.pieces.pop_front().unwrap_or_default()
        };
        state.bytes = state.bytes.saturating_sub(piece.len());
        state.moved = Instant::now();
        if std::mem::take(&mut state.wants_room) {
            wake(&mut state.writer);
        }
        Poll::Ready(Some(piece))
    }

    /// The whole body, where it was written at once and nothing was taken yet.
    #[must_use]
    pub fn whole(&self) -> Option<Bytes> {
        let state = lock(&self.state);
        let whole = state.ended && state.pieces.len() == 1;
        state.pieces.front().filter(|_| whole).cloned()
    }

    /// Bytes that are left of a JSON text, once all were written. A stream's length is nobody's business: it has the same
    /// shape whether it ended early or late.
    #[must_use]
    pub fn left(&self) -> Option<usize> {
        let state = lock(&self.state);
        (state.ended && state.form == Some(Form::Json)).then_some(state.bytes)
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let mut state = lock(&self.state);
        state.closed = true;
        state.pieces = VecDeque::new();
        state.bytes = 0;
        wake(&mut state.writer);
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future as _;
    use std::pin::pin;

    use super::*;

    fn read(reader: &mut Reader) -> Poll<Option<Bytes>> {
        reader.poll_piece(&Context::from_waker(Waker::noop()))
    }

    #[tokio::test]
    async fn the_answer_waits_for_its_form_and_ends_with_its_writer() {
        let (outlet, mut reader) = outlet(Takes::Either, || ());
        {
            let mut form = pin!(reader.form());
            let mut cx = Context::from_waker(Waker::noop());
            assert!(form.as_mut().poll(&mut cx).is_pending());
            outlet.begin(Form::Events);
            outlet.begin(Form::Json);
            assert_eq!(form.await, Some(Form::Events), "the first counts");
        }
        assert!(read(&mut reader).is_pending());
        outlet.push(Bytes::from_static(b"a"));
        assert_eq!(outlet.waiting(), 1);
        drop(outlet);
        assert_eq!(reader.left(), None, "it is a stream");
        assert_eq!(
            read(&mut reader),
            Poll::Ready(Some(Bytes::from_static(b"a")))
        );
        assert_eq!(read(&mut reader), Poll::Ready(None));
        let (writer, mut reader) = super::outlet(Takes::Either, || ());
        drop(writer);
        assert_eq!(reader.form().await, None, "it never took shape");
        let (writer, mut reader) = super::outlet(Takes::Either, || ());
        writer.whole(Bytes::from_static(b"{}"));
        assert_eq!(reader.form().await, Some(Form::Json));
        assert_eq!(
            (reader.left(), reader.whole()),
            (Some(2), Some("{}".into()))
        );
    }

    #[tokio::test(start_paused = true)]
    async fn what_waits_is_counted_until_it_is_taken_in_small_pieces() {
        let (outlet, mut reader) = outlet(Takes::Either, || ());
        outlet.push(Bytes::from(vec![b'x'; PIECE + 1]));
        assert_eq!(outlet.waiting(), PIECE + 1);
        let put = Instant::now();
        tokio::time::advance(std::time::Duration::from_secs(1)).await;
        assert_eq!(outlet.stalled_since(), Some(put));
        assert!(matches!(read(&mut reader), Poll::Ready(Some(piece)) if piece.len() == PIECE));
        assert_eq!(
            (outlet.waiting(), outlet.stalled_since()),
            (1, Some(Instant::now()))
        );
        assert!(matches!(read(&mut reader), Poll::Ready(Some(piece)) if piece.len() == 1));
        assert_eq!(outlet.stalled_since(), None);
    }

    #[tokio::test]
    async fn the_writer_learns_that_the_reader_has_gone_and_can_give_it_up() {
        let (cuts, cut) = std::sync::mpsc::channel();
        let (outlet, reader) = outlet(Takes::Either, move || {
            cuts.send(()).expect("the test listens")
        });
        let closed = || outlet.poll_closed(&Context::from_waker(Waker::noop()), false);
        outlet.push(Bytes::from_static(b"a"));
        assert!(closed().is_pending());
        outlet.cut();
        assert_eq!((outlet.waiting(), cut.try_recv()), (0, Ok(())));
        drop(reader);
        assert!(closed().is_ready());
    }
}
