//! The body of a passed-through request on its way, and a flag that says whether it still is.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};

use crate::metrics::Metrics;
use crate::metrics::labels::Direction;

/// Sees the pieces of a client's body go by, and then that it is over.
pub struct UploadWatch(See);

/// Called with each piece, and with `None` at the end.
type See = Box<dyn FnMut(Option<&[u8]>) + Send>;

impl UploadWatch {
    /// `see` is called with each piece, and at the end, or when nobody wants the rest, once with `None`.
    pub fn new(see: impl FnMut(Option<&[u8]>) + Send + 'static) -> Self {
        Self(Box::new(see))
    }

    /// Shows a whole body.
    pub fn whole(mut self, body: &[u8]) {
        (self.0)(Some(body));
    }

    fn see(&mut self, piece: &[u8]) {
        (self.0)(Some(piece));
    }
}

impl Drop for UploadWatch {
    fn drop(&mut self) {
        (self.0)(None);
    }
}

impl fmt::Debug for UploadWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("UploadWatch")
    }
}

/// A client's request body, streamed. Whoever waits for the client's next bytes looks at the flag: it is lowered when
/// the body has come to its end, or nobody wants the rest.
#[derive(Debug)]
pub struct Upload {
    /// What was read of it already.
    first: Bytes,
    body: Incoming,
    under_way: Option<Arc<AtomicBool>>,
    watch: Option<UploadWatch>,
    metrics: Option<Arc<Metrics>>,
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
            watch: None,
            metrics: None,
        }
    }

    /// Counts its bytes here, and lets this see the pieces go by.
    pub fn observe(&mut self, metrics: &Arc<Metrics>, watch: Option<UploadWatch>) {
        self.metrics = Some(Arc::clone(metrics));
        self.watch = watch;
    }

    fn passes(&mut self, piece: &[u8]) {
        if let Some(metrics) = &self.metrics {
            let bytes = u64::try_from(piece.len()).unwrap_or(u64::MAX);
            metrics.passed_bytes.add(Direction::In, bytes);
        }
        if let Some(watch) = &mut self.watch {
            watch.see(piece);
        }
    }

    fn end(&mut self) {
        if let Some(under_way) = self.under_way.take() {
            under_way.store(false, Ordering::Relaxed);
        }
        self.watch = None;
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
            let first = std::mem::take(&mut this.first);
            this.passes(&first);
            return Poll::Ready(Some(Ok(Frame::data(first))));
        }
        let frame = ready!(Pin::new(&mut this.body).poll_frame(cx));
        if let Some(Ok(frame)) = &frame
            && let Some(piece) = frame.data_ref()
        {
            this.passes(piece);
        }
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
