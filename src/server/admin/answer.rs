//! The answers of the admin listener: headers that keep a browser from doing anything clever with them, and errors that
//! say what to do.

use std::convert::Infallible;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::Full;
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::{Response, StatusCode};
use tokio::sync::mpsc;

/// No script, style, image or connection but our own; nobody frames the page, and its base is its own.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
    frame-ancestors 'none'; base-uri 'none'; form-action 'none'";

/// What every answer says.
const HEADERS: [(HeaderName, &str); 7] = [
    (header::CONTENT_SECURITY_POLICY, POLICY),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::CACHE_CONTROL, "no-store"),
    (
        HeaderName::from_static("cross-origin-resource-policy"),
        "same-origin",
    ),
    (
        HeaderName::from_static("cross-origin-opener-policy"),
        "same-origin",
    ),
];

/// A body: whole, made piece by piece as the client reads, or sent by somebody else as it happens.
pub(super) enum Body {
    Whole(Full<Bytes>),
    Pieces(Box<dyn Iterator<Item = Bytes> + Send + Sync>),
    Sent(mpsc::Receiver<Bytes>),
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let framed = |piece: Option<Bytes>| piece.map(|piece| Ok(Frame::data(piece)));
        match self.get_mut() {
            Self::Whole(body) => Pin::new(body).poll_frame(cx),
            Self::Pieces(pieces) => Poll::Ready(framed(pieces.next())),
            Self::Sent(pieces) => pieces.poll_recv(cx).map(framed),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Whole(body) if body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(body) => body.size_hint(),
            Self::Pieces(_) | Self::Sent(_) => SizeHint::default(),
        }
    }
}

/// Why a request is not answered with what it asks for.
#[derive(Debug)]
pub(super) enum Denied {
    /// `Host` is missing or doubled.
    NoHost,
    /// `Host` is not this listener's.
    Host(String),
    /// `Origin` is another page's.
    Origin(String),
    /// The browser says that another page asks.
    Site,
    /// There is no token.
    NoToken,
    /// The token is wrong.
    WrongToken,
    /// It was wrong too often.
    TooManyTokens,
    /// Nothing has this path.
    NoRoute,
    /// The path has these methods.
    Method(&'static str),
    /// The query cannot be read; says why.
    Query(&'static str),
    /// As many do this at once as may.
    Busy(&'static str),
}

impl Denied {
    fn status(&self) -> StatusCode {
        match self {
            Self::NoHost | Self::Query(_) => StatusCode::BAD_REQUEST,
            Self::Host(_) | Self::Origin(_) | Self::Site => StatusCode::FORBIDDEN,
            Self::NoToken | Self::WrongToken => StatusCode::UNAUTHORIZED,
            Self::TooManyTokens => StatusCode::TOO_MANY_REQUESTS,
            Self::NoRoute => StatusCode::NOT_FOUND,
            Self::Method(_) => StatusCode::METHOD_NOT_ALLOWED,
            Self::Busy(_) => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    pub(super) fn response(&self) -> Response<Body> {
        let error = serde_json::json!({ "error": self.to_string() });
        let mut response = whole(self.status(), "application/json", error.to_string());
        let extra = match self {
            Self::NoToken | Self::WrongToken => Some((header::WWW_AUTHENTICATE, "Bearer")),
            Self::TooManyTokens => Some((header::RETRY_AFTER, "60")),
            Self::Busy(_) => Some((header::RETRY_AFTER, "1")),
            Self::Method(allow) => Some((header::ALLOW, *allow)),
            _ => None,
        };
        if let Some((name, value)) = extra {
            response
                .headers_mut()
                .insert(name, HeaderValue::from_static(value));
        }
        response
    }
}

impl fmt::Display for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoHost => f.write_str("a request needs exactly one Host header"),
            Self::Host(host) => write!(
                f,
                "the Host {host:?} is not this listener's; use its address, or with --admin-allow-remote name the host with --allowed-host"
            ),
            Self::Origin(origin) => write!(f, "a page of {origin:?} may not ask here"),
            Self::Site => f.write_str("a page of another site may not ask here"),
            Self::NoToken => f.write_str(
                "this needs the access token: open the address that the ferry printed at its start, or send Authorization: Bearer and the token",
            ),
            Self::WrongToken => f.write_str(
                "this is not the access token; each start of the ferry prints a new one, unless --admin-token gives it",
            ),
            Self::TooManyTokens => f.write_str("too many wrong access tokens came from this address; wait a minute"),
            Self::NoRoute => f.write_str("nothing is served here; the page is at /"),
            Self::Method(allow) => write!(f, "this path takes {allow}"),
            Self::Query(why) => f.write_str(why),
            Self::Busy(what) => f.write_str(what),
        }
    }
}

/// An answer that is there as a whole.
pub(super) fn whole(
    status: StatusCode,
    media: &'static str,
    text: impl Into<Bytes>,
) -> Response<Body> {
    let mut response = of(media, Body::Whole(Full::new(text.into())));
    *response.status_mut() = status;
    response
}

/// An answer of this media type.
pub(super) fn of(media: &'static str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media));
    for (name, value) in HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}
