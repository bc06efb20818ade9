//! Pass-through: requests of newer clients go to the upstream as they are, and its answers come back as they are.
//!
//! Streamed both ways, nothing buffered, nothing recoded, no limit on time; only hop-by-hop and forwarding headers
//! change. Works for every revision, because it looks at none of it.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use hyper::body::Incoming;
use hyper::header::{self, HeaderValue};
use hyper::{Method, Request, Response, Version};

use super::body::Body;
use super::forward::strip_hop_by_hop;
use super::gauge::Held;
use super::respond::Refused;
use super::socket::Socket;
use super::{Server, cors};
use crate::metrics::Counter;
use crate::upstream::{Unpassed, Upload};

/// An exchange of a socket with the upstream, until its last byte has come.
struct Passing {
    socket: Arc<Socket>,
    _held: Option<Held>,
}

impl Passing {
    fn new(socket: &Arc<Socket>, held: Option<Held>) -> Self {
        socket.passing.store(true, Ordering::Release);
        Self {
            socket: Arc::clone(socket),
            _held: held,
        }
    }
}

impl Drop for Passing {
    fn drop(&mut self) {
        // Before what is held is let go: whoever waits for that looks at this.
        self.socket.passing.store(false, Ordering::Release);
    }
}

pub(super) async fn pass(
    server: &Arc<Server>,
    request: Request<Incoming>,
    socket: &Arc<Socket>,
) -> Result<Response<Body>, Refused> {
    let (mut head, body) = request.into_parts();
    if matches!(head.method, Method::CONNECT | Method::TRACE) {
        return Err(Refused::Method("GET, POST, DELETE"));
    }
    server.shared.metrics.add(Counter::PassedThrough);
    // A listen stream has no end to wait for; everything else is finished before the process stops.
    let held = (head.method != Method::GET).then(|| server.in_flight());
    let guard = Passing::new(socket, held.flatten());
    server
        .forwarding
        .prepare_request(&mut head.headers, socket.peer)?;
    let upstream = &server.shared.upstream;
    let body = Upload::new(body, || socket.upload());
    let answer = upstream
        .pass(head.method, head.uri.query(), head.headers, body)
        .await;
    let response = answer.map_err(|failure| match failure {
        Unpassed::Client => Refused::BodyBroken,
        Unpassed::Upstream(why) => Refused::Upstream(upstream.shown(), why),
    })?;
    let (mut head, body) = response.into_parts();
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
        Body::passed(body, Box::new(guard)),
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
