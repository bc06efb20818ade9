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
    body: Incoming,
    under_way: Option<Arc<AtomicBool>>,
}

impl Upload {
    /// A body; `begin` raises the flag and hands it over, if there is anything to wait for.
    pub fn new(body: Incoming, begin: impl FnOnce() -> Arc<AtomicBool>) -> Self {
        let under_way = (!body.is_end_stream()).then(begin);
        Self { body, under_way }
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
        let frame = ready!(Pin::new(&mut this.body).poll_frame(cx));
        if this.body.is_end_stream() || !matches!(frame, Some(Ok(_))) {
            this.end();
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        self.end();
    }
}
