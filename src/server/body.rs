//! The bodies that the server sends through hyper: a text of its own, or what an upstream sends through.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::Full;
use hyper::body::Incoming;

/// The body of any response. A guard lives as long as the body, not as the handler that made it.
pub(super) struct Body {
    kind: Kind,
    _guard: Option<Box<dyn Send + Sync>>,
}

enum Kind {
    Text(Full<Bytes>),
    Passed(Incoming),
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

    pub(super) fn passed(body: Incoming, guard: Box<dyn Send + Sync>) -> Self {
        Self {
            kind: Kind::Passed(body),
            _guard: Some(guard),
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
            Kind::Passed(body) => Pin::new(body).poll_frame(cx).map_err(BodyError::Upstream),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Text(body) => body.is_end_stream(),
            Kind::Passed(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Text(body) => body.size_hint(),
            Kind::Passed(body) => body.size_hint(),
        }
    }
}
