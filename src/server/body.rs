//! The bodies that the server sends through hyper: a text of its own, what an upstream sends through, or what a session
//! writes.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::Full;
use hyper::body::Incoming;

use super::passing::Clocked;
use super::socket::Passing;
use super::tee::Tee;
use crate::outlet::Reader;

/// The body of any response. A guard lives as long as the body, not as the handler that made it.
pub(super) struct Body {
    kind: Kind,
    _guard: Option<Box<dyn Send + Sync>>,
}

enum Kind {
    Text(Full<Bytes>),
    /// What was read of it already, the rest, and where it is shown.
    Passed(Bytes, Incoming, Option<Tee>, Clocked),
    /// In this order: the socket is not passing any more when the writer learns that its reader has gone.
    Written(#[expect(dead_code, reason = "held")] Passing, Reader),
}

/// A body broke off.
#[derive(Debug)]
pub(super) enum BodyError {
    Upstream(hyper::Error),
}

impl fmt::Display for BodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Upstream(error) => write!(f, "the upstream's body broke off: {error}"),
        }
    }
}

impl std::error::Error for BodyError {}

impl Body {
    pub(super) fn text(text: impl Into<Bytes>) -> Self {
        Self {
            kind: Kind::Text(Full::new(text.into())),
            _guard: None,
        }
    }

    /// `first` was read of the upstream's body already.
    pub(super) fn passed(
        first: Bytes,
        body: Incoming,
        tee: Option<Tee>,
        clocked: Clocked,
        guard: Box<dyn Send + Sync>,
    ) -> Self {
        if let Some(tee) = &tee {
            tee.download(&first);
        }
        clocked.piece(&first);
        Self {
            kind: Kind::Passed(first, body, tee, clocked),
            _guard: Some(guard),
        }
    }

    pub(super) fn written(passing: Passing, reader: Reader) -> Self {
        Self {
            kind: Kind::Written(passing, reader),
            _guard: None,
        }
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut self.get_mut().kind {
            Kind::Text(body) => Pin::new(body)
                .poll_frame(cx)
                .map_err(|never| match never {}),
            Kind::Passed(first, body, tee, clocked) if first.is_empty() => {
                let frame = ready!(Pin::new(&mut *body).poll_frame(cx));
                if let Some(Ok(frame)) = &frame {
                    clocked.piece(frame.data_ref().map_or(&[], |data| data));
                }
                if let Some(tee) = tee {
                    show(tee, &frame, body.is_end_stream());
                }
                Poll::Ready(frame.map(|frame| frame.map_err(BodyError::Upstream)))
            }
            Kind::Passed(first, ..) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(first))))),
            Kind::Written(_, reader) => reader
                .poll_piece(cx)
                .map(|piece| Some(Ok(Frame::data(piece?)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Text(body) => body.is_end_stream(),
            Kind::Passed(first, body, ..) => first.is_empty() && body.is_end_stream(),
            Kind::Written(_, reader) => reader.left() == Some(0),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Text(body) => body.size_hint(),
            Kind::Passed(first, body, ..) if first.is_empty() => body.size_hint(),
            Kind::Passed(..) => SizeHint::default(),
            Kind::Written(_, reader) => match reader.left() {
                Some(left) => SizeHint::with_exact(u64::try_from(left).unwrap_or(u64::MAX)),
                None => SizeHint::default(),
            },
        }
    }
}

/// A frame of a passed-through body, or its end, or how it broke off.
fn show(tee: &mut Tee, frame: &Option<Result<Frame<Bytes>, hyper::Error>>, ended: bool) {
    match frame {
        Some(Ok(frame)) => {
            tee.download(frame.data_ref().map_or(&[], |data| data));
            if ended {
                tee.ends(None);
            }
        }
        Some(Err(error)) => tee.ends(Some(error.to_string())),
        None => tee.ends(None),
    }
}
