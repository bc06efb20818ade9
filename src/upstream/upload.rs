//! The body of a passed-through request on its way, and a flag that says whether it still is.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};

/// A client's request body, streamed. Whoever waits for the client's next bytes looks at the flag: it is lowered when
/// the body has come to its end, or nobody wants the rest.
#[derive(Debug)]
pub struct Upload {
    /// What was read of it already.
    first: Bytes,
    body: Incoming,
    under_way: Option<Arc<AtomicBool>>,
}

impl Upload {
    /// A body, of which `first` was read already; `begin` raises the flag and hands it over, if there is anything to wait
    /// for.
    pub fn new(first: Bytes, body: Incoming, begin: impl FnOnce() -> Arc<AtomicBool>) -> Self {
        let under_way = (!body.is_end_stream()).then(begin);
        Self {
            first,
            body,
            under_way,
        }
    }

    fn end(&mut self) {
        if let Some(under_way) = self.under_way.take() {
            under_way.store(false, Ordering::Relaxed);
        }
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let this = self.get_mut();
        if !this.first.is_empty() {
            return Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut this.first)))));
        }
        let frame = ready!(Pin::new(&mut this.body).poll_frame(cx));
        if this.body.is_end_stream() || !matches!(frame, Some(Ok(_))) {
            this.end();
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let mut hint = self.body.size_hint();
        let first = u64::try_from(self.first.len()).unwrap_or(u64::MAX);
        match hint.exact() {
            Some(rest) => hint.set_exact(rest.saturating_add(first)),
            None => hint.set_lower(hint.lower().saturating_add(first)),
        }
        hint
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        self.end();
    }
}
