//! Pass-through: requests of newer clients go to the upstream as they are, and its answers come back as they are.
//!
//! Streamed both ways, nothing buffered, nothing recoded, no limit on time; only hop-by-hop and forwarding headers
//! change. Works for every revision, because it looks at none of it.

use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{Either, Full};
use hyper::body::{Body as _, Incoming};
use hyper::header::{self, HeaderValue};
use hyper::http::{request, response};
use hyper::{Method, Request, Response, StatusCode, Version};

use super::body::Body;
use super::forward::strip_hop_by_hop;
use super::gauge::Held;
use super::passing::Clocked;
use super::respond::Refused;
use super::socket::{Passing, Socket};
use super::tee::Tee;
use super::{Server, cors};
use crate::metrics::labels::Direction;
use crate::metrics::{Counter, Metrics};
use crate::upstream::{PassError, RequestBody, Upload};

/// The upstream's answer, before anything of its body was read.
pub(super) struct Passed {
    pub(super) head: response::Parts,
    pub(super) body: Incoming,
    tee: Option<Tee>,
    clocked: Clocked,
    /// In this order: whoever waits for the second looks at the first.
    guard: (Passing, Option<Held>),
}

impl Passed {
    pub(super) fn is_bad_request(&self) -> bool {
        self.head.status == StatusCode::BAD_REQUEST
    }

    /// The client does not get this answer, of which `first` was read, but one of the ferry's.
    pub(super) fn taken_over(mut self, first: &[u8]) {
        if let Some(tee) = &mut self.tee {
            tee.download(first);
            tee.ends(Some("the ferry answers in its place".to_owned()));
        }
    }
}

/// Passes a request and its answer.
pub(super) async fn pass(
    server: &Arc<Server>,
    request: Request<Incoming>,
    socket: &Arc<Socket>,
) -> Result<Response<Body>, Refused> {
    let passed = begin(server, request, socket).await?;
    answer(server, passed, Bytes::new())
}

/// Sends a client's request through, as it comes. No `async fn`, which would keep the request's place beside that of its
/// parts.
pub(super) fn begin(
    server: &Arc<Server>,
    request: Request<Incoming>,
    socket: &Arc<Socket>,
) -> impl Future<Output = Result<Passed, Refused>> + Send {
    let (head, body) = request.into_parts();
    let body = Upload::new(Bytes::new(), body, || socket.upload());
    send(server, head, Sending::Streamed(Box::new(body)), socket)
}

/// The body of a request that passes.
pub(super) enum Sending {
    /// It was read already.
    Whole(Bytes),
    /// It is passed on as it comes.
    Streamed(Box<Upload>),
}

impl Sending {
    /// The body for the upstream, shown where somebody watches.
    fn body(self, tee: Option<&Tee>, metrics: &Arc<Metrics>) -> RequestBody {
        let watch = tee.map(Tee::upload);
        match self {
            Self::Whole(body) => {
                let bytes = u64::try_from(body.len()).unwrap_or(u64::MAX);
                metrics.passed_bytes.add(Direction::In, bytes);
                if let Some(watch) = watch {
                    watch.whole(&body);
                }
                Either::Left(Full::new(body))
            }
            Self::Streamed(mut body) => {
                body.observe(metrics, watch);
                Either::Right(body)
            }
        }
    }
}

/// Sends a client's request through with this body.
pub(super) async fn send(
    server: &Arc<Server>,
    mut head: request::Parts,
    body: Sending,
    socket: &Arc<Socket>,
) -> Result<Passed, Refused> {
    if matches!(head.method, Method::CONNECT | Method::TRACE) {
        return Err(Refused::Method("GET, POST, DELETE"));
    }
    server.shared.metrics.add(Counter::PassedThrough);
    let mut clocked = Clocked::begin(&server.shared.metrics);
    let mut tee = Tee::begin(server, &head, socket);
    let body = body.body(tee.as_ref(), &server.shared.metrics);
    // A listen stream has no end to wait for; everything else is finished before the process stops.
    let held = (head.method != Method::GET).then(|| server.in_flight());
    let guard = (Passing::new(socket), held.flatten());
    server
        .forwarding
        .prepare_request(&mut head.headers, socket.peer)
        .inspect_err(|refused| tell(&mut tee, refused))?;
    let upstream = &server.shared.upstream;
    let answer = upstream
        .pass(head.method, head.uri.query(), head.headers, body)
        .await;
    let response = answer.map_err(|failed| {
        let refused = match failed {
            PassError::Client => Refused::BodyBroken,
            PassError::Upstream(why) => Refused::Upstream(upstream.shown(), why),
        };
        tell(&mut tee, &refused);
        refused
    })?;
    let (head, body) = response.into_parts();
    clocked.status(head.status.as_u16());
    if let Some(tee) = &tee {
        tee.status(head.status.as_u16(), &head.headers);
    }
    Ok(Passed {
        head,
        body,
        tee,
        clocked,
        guard,
    })
}

/// Tells the tap that a request ends because the ferry refuses it.
fn tell(tee: &mut Option<Tee>, refused: &Refused) {
    if let Some(tee) = tee {
        tee.ends(Some(refused.to_string()));
    }
}

/// The upstream's answer as the client's: as it is. `first` was read of its body already.
pub(super) fn answer(
    server: &Server,
    passed: Passed,
    first: Bytes,
) -> Result<Response<Body>, Refused> {
    let upstream = &server.shared.upstream;
    let Passed {
        mut head,
        body,
        mut tee,
        clocked,
        guard,
    } = passed;
    if let Some(tee) = tee.as_mut().filter(|_| body.is_end_stream()) {
        tee.ends(None);
    }
    head.version = Version::HTTP_11;
    if server.cors.is_some() {
        cors::silence(&mut head.headers);
    }
    strip_hop_by_hop(&mut head.headers).map_err(|_| {
        Refused::Upstream(
            upstream.shown(),
            "its Connection header names a header that must not be dropped".to_owned(),
        )
    })?;
    if let Some(location) = head
        .headers
        .get(header::LOCATION)
        .and_then(|value| own_location(server, value))
    {
        head.headers.insert(header::LOCATION, location);
    }
    Ok(Response::from_parts(
        head,
        Body::passed(first, body, tee, clocked, Box::new(guard)),
    ))
}

/// A redirect within the upstream's endpoint, such as the trailing slash of Python frameworks, as the client may
/// follow it: it does not know the upstream's address.
fn own_location(server: &Server, location: &HeaderValue) -> Option<HeaderValue> {
    let configured = server.shared.upstream.configured();
    let location: hyper::Uri = location.to_str().ok()?.parse().ok()?;
    if location
        .authority()
        .is_some_and(|authority| Some(authority) != configured.authority())
    {
        return None;
    }
    let rest = location
        .path()
        .strip_prefix(configured.path().trim_end_matches('/'))?;
    if !matches!(rest, "" | "/") {
        return None;
    }
    let query = location
        .query()
        .map_or_else(String::new, |query| format!("?{query}"));
    HeaderValue::try_from(format!(
        "{}{}{rest}{query}",
        server.paths.public_prefix, server.paths.mcp
    ))
    .ok()
}
