//! The one place where a failure becomes a response: each way to refuse a request, its status, and a sentence that
//! says what to do.

use std::fmt;

use hyper::header::{self, HeaderValue};
use hyper::{Response, StatusCode};

use super::body::Body;
use crate::metrics::labels::Reason;
use crate::proto::bridge::Refusal;
use crate::proto::era;
use crate::proto::jsonrpc::{self, ParseError};
use crate::store::HandOverError;

/// Why a request is refused by the ferry itself.
#[derive(Debug)]
pub(super) enum Refused {
    /// No route has this path.
    NoRoute {
        sse: String,
        messages: String,
        mcp: String,
    },
    /// The route has other methods, these.
    Method(&'static str),
    /// The POST names no connection.
    NoConnectionId,
    /// The POST names no connection that is open.
    UnknownConnection,
    /// The `Accept` header excludes event streams.
    NotAcceptable,
    /// The body is not declared as JSON, or is encoded.
    ContentType(String),
    /// The body is larger than this.
    TooLarge(usize),
    /// The body took too long.
    BodyTimeout,
    /// The body broke off.
    BodyBroken,
    /// The body is not JSON-RPC.
    Parse(ParseError),
    /// The client's mistake, in the bridge's words.
    Invalid(String),
    /// The `Host` header is missing or doubled.
    NoHost,
    /// The address names another host than the `Host` header.
    TwoHosts,
    /// The `Host` header is foreign.
    Host(String),
    /// The `Origin` header is foreign.
    Origin(String),
    /// `Connection` names a header that must not be dropped on the way.
    Connection,
    /// As many streams are open as may be.
    Full,
    /// As many streams of this address are open as may be.
    FullForPeer(usize),
    /// Connections hold as much memory as they may.
    NoMemory,
    /// The address has asked for unknown connections too often.
    TooManyMisses,
    /// The request names no session, and does not begin one.
    NoSession,
    /// The request names a session that is not there.
    UnknownSession,
    /// The `MCP-Protocol-Version` is none that a session speaks.
    Version(String),
    /// The session's client listens already.
    Listening,
    /// No new sessions: the process is stopping.
    ShuttingDown,
    /// A queue of this connection is full.
    Busy,
    /// The replica that has the connection could not be asked, or did not answer.
    HandOver(HandOverError),
    /// The replica that has the session took the request, and its answer will not come.
    AnswerLost,
    /// No connection to the upstream, or none that yields an answer; the address and the reason.
    Upstream(String, String),
    /// The system gave no randomness.
    Internal(&'static str),
}

impl Refused {
    fn status(&self) -> StatusCode {
        match self {
            Self::NoRoute { .. } | Self::UnknownConnection | Self::UnknownSession => {
                StatusCode::NOT_FOUND
            }
            Self::Method(_) => StatusCode::METHOD_NOT_ALLOWED,
            Self::NoConnectionId
            | Self::BodyBroken
            | Self::Parse(_)
            | Self::Invalid(_)
            | Self::NoHost
            | Self::TwoHosts
            | Self::NoSession
            | Self::Version(_)
            | Self::Connection => StatusCode::BAD_REQUEST,
            Self::Listening => StatusCode::CONFLICT,
            Self::NotAcceptable => StatusCode::NOT_ACCEPTABLE,
            Self::ContentType(_) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::TooLarge(_) | Self::HandOver(HandOverError::TooLarge) => {
                StatusCode::PAYLOAD_TOO_LARGE
            }
            Self::BodyTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::Host(_) | Self::Origin(_) => StatusCode::FORBIDDEN,
            Self::Full
            | Self::FullForPeer(_)
            | Self::NoMemory
            | Self::ShuttingDown
            | Self::Busy
            | Self::HandOver(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::TooManyMisses => StatusCode::TOO_MANY_REQUESTS,
            // Not a status after which clients try again by themselves, for it may have been executed.
            Self::Upstream(..) | Self::AnswerLost => StatusCode::BAD_GATEWAY,
            Self::Internal(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// What it is called in the metrics.
    pub(super) fn reason(&self) -> Reason {
        match self {
            Self::NoRoute { .. } => Reason::NoRoute,
            Self::Method(_) => Reason::Method,
            Self::NoConnectionId => Reason::NoConnectionId,
            Self::UnknownConnection => Reason::UnknownConnection,
            Self::NotAcceptable => Reason::NotAcceptable,
            Self::ContentType(_) => Reason::ContentType,
            Self::TooLarge(_) | Self::HandOver(HandOverError::TooLarge) => Reason::TooLarge,
            Self::BodyTimeout => Reason::BodyTimeout,
            Self::BodyBroken => Reason::BodyBroken,
            Self::Parse(_) => Reason::Parse,
            Self::Invalid(_) => Reason::Invalid,
            Self::NoHost | Self::TwoHosts | Self::Host(_) => Reason::Host,
            Self::Origin(_) => Reason::Origin,
            Self::Connection => Reason::Connection,
            Self::Full => Reason::Full,
            Self::FullForPeer(_) => Reason::FullForPeer,
            Self::NoMemory => Reason::NoMemory,
            Self::TooManyMisses => Reason::TooManyMisses,
            Self::NoSession => Reason::NoSession,
            Self::UnknownSession => Reason::UnknownSession,
            Self::Version(_) => Reason::Version,
            Self::Listening => Reason::Listening,
            Self::ShuttingDown => Reason::ShuttingDown,
            Self::Busy => Reason::Busy,
            Self::HandOver(_) | Self::AnswerLost => Reason::HandOver,
            Self::Upstream(..) => Reason::Upstream,
            Self::Internal(_) => Reason::Internal,
        }
    }

    /// The response, in plain text: a JSON-RPC body would make clients that try the newer transport first believe
    /// that they found it.
    pub(super) fn response(&self) -> Response<Body> {
        let mut response = text(self.status(), format!("mcp-ferry: {self}\n"));
        let headers = response.headers_mut();
        match self {
            Self::Method(allow) => {
                headers.insert(header::ALLOW, HeaderValue::from_static(allow));
            }
            Self::Full
            | Self::FullForPeer(_)
            | Self::NoMemory
            | Self::ShuttingDown
            | Self::Busy => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
            }
            Self::HandOver(error) if *error != HandOverError::TooLarge => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
            }
            Self::TooManyMisses => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from_static("60"));
            }
            Self::BodyTimeout | Self::BodyBroken | Self::TooLarge(_) => {
                headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            _ => {}
        }
        response
    }

    /// The response to a client that takes the ferry for a Streamable HTTP server: the same in a JSON-RPC error, as
    /// servers have it (2025-11-25, "Sending Messages to the Server").
    pub(super) fn rpc_response(&self) -> Response<Body> {
        let code = match self {
            Self::Parse(ParseError::Envelope(_)) => era::INVALID_REQUEST,
            Self::Parse(_) => era::PARSE_ERROR,
            _ if self.status().is_client_error() => era::INVALID_REQUEST,
            _ => era::INTERNAL_ERROR,
        };
        let text = jsonrpc::error_response("null", code, &format!("mcp-ferry: {self}"), None);
        let mut response = self.response();
        *response.body_mut() = Body::text(text);
        let json = HeaderValue::from_static("application/json");
        response.headers_mut().insert(header::CONTENT_TYPE, json);
        response
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoRoute { sse, messages, mcp } => {
                write!(f, "nothing is served here. Legacy clients use {sse} (and {messages}), others {mcp}")
            }
            Self::Method(allow) => write!(f, "this path takes {allow}"),
            Self::NoConnectionId => f.write_str("the query has no sessionId; post to the address of the endpoint event"),
            Self::UnknownConnection => {
                f.write_str("no stream with this sessionId is open; it may have ended. Open a new one and initialize again")
            }
            Self::NotAcceptable => f.write_str("this path answers with text/event-stream, which the Accept header excludes"),
            Self::ContentType(found) => write!(f, "the body must be application/json, not {found}"),
            Self::TooLarge(limit) => write!(f, "the body is larger than {limit} bytes (--max-request-body)"),
            Self::BodyTimeout => f.write_str("the body did not arrive in time (--body-timeout)"),
            Self::BodyBroken => f.write_str("the body broke off"),
            Self::Parse(error) => error.fmt(f),
            Self::Invalid(why) => f.write_str(why),
            Self::NoHost => f.write_str("a request needs exactly one Host header"),
            Self::TwoHosts => f.write_str("the address names another host than the Host header"),
            Self::Host(host) => write!(
                f,
                "the Host header {host:?} is not one that this listener is known by; --allowed-host or --public-url adds one"
            ),
            Self::Origin(origin) => write!(f, "the Origin {origin:?} is not allowed; --allowed-origin adds one"),
            Self::Connection => f.write_str("the Connection header names a header that must not be dropped"),
            Self::Full => f.write_str("too many streams are open (--max-connections); try again later"),
            Self::FullForPeer(most) => write!(
                f,
                "{most} streams are open from this address (--max-connections-per-peer); if it is a proxy, name it with --trusted-proxy"
            ),
            Self::NoMemory => f.write_str("connections hold as much memory as they may (--max-buffered); try again in a while"),
            Self::TooManyMisses => f.write_str("too many unknown connections were asked for from this address; wait a minute"),
            Self::NoSession => f.write_str("the request names no session (Mcp-Session-Id); begin with initialize"),
            Self::UnknownSession => f.write_str("there is no session with this Mcp-Session-Id; it may have ended. Begin another with initialize"),
            Self::Version(version) => write!(f, "the MCP-Protocol-Version {version:?} is none that a session speaks"),
            Self::Listening => f.write_str("this session has an open listen stream already"),
            Self::ShuttingDown => f.write_str("the proxy is shutting down and begins no new sessions; try again"),
            Self::Busy => f.write_str("too many messages wait on this connection, or too many answers for other replicas; try again later"),
            Self::HandOver(HandOverError::TooLarge) => HandOverError::TooLarge.fmt(f),
            Self::HandOver(HandOverError::NoAnswer) => {
                write!(f, "{}; it was told to leave the message, and may have taken it before", HandOverError::NoAnswer)
            }
            Self::HandOver(error) => write!(f, "{error}; try again"),
            Self::AnswerLost => f.write_str(
                "the replica that has this session took the message and cannot be reached any more; its answer is lost, and what was asked for may have been done"
            ),
            Self::Upstream(address, why) => write!(f, "the upstream {address} cannot be reached ({why})"),
            Self::Internal(what) => f.write_str(what),
        }
    }
}

/// A plain text response.
pub(super) fn text(status: StatusCode, text: impl Into<bytes::Bytes>) -> Response<Body> {
    let mut response = Response::new(Body::text(text));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    response
}

/// 202 with the body that every client takes: an old C# client accepts no other.
pub(super) fn accepted() -> Response<Body> {
    const ACCEPTED: bytes::Bytes = bytes::Bytes::from_static(b"Accepted");
    let mut response = Response::new(Body::text(ACCEPTED));
    *response.status_mut() = StatusCode::ACCEPTED;
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    response
}

/// A response without a body.
pub(super) fn empty(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::text(bytes::Bytes::new()));
    *response.status_mut() = status;
    response
}

/// The upstream's own 401 or 403: its challenges whole, for the client to log in with.
pub(super) fn refusal(refusal: Refusal) -> Response<Body> {
    let mut response = Response::new(Body::text(refusal.body));
    *response.status_mut() = StatusCode::from_u16(refusal.status).unwrap_or(StatusCode::FORBIDDEN);
    let headers = response.headers_mut();
    let content_type = refusal
        .content_type
        .as_deref()
        .and_then(|value| HeaderValue::from_str(value).ok());
    if let Some(value) = content_type {
        headers.insert(header::CONTENT_TYPE, value);
    }
    for challenge in refusal.challenges {
        if let Ok(value) = HeaderValue::from_bytes(&challenge) {
            headers.append(header::WWW_AUTHENTICATE, value);
        }
    }
    response
}
