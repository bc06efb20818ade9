//! Requests for connections of other replicas. This side judges all that can be judged without the connection, hands the
//! request to the replica that has it, and answers as that one says.
//!
//! The other side is `owner`. An answer that is not whole at once, as those of a session's calls, stays there (`answers`)
//! and is pulled from here part by part (`pull`), as fast as the client reads. What crosses are the client's own headers,
//! because what a process makes of credentials (`store::Binding`) holds in that process only. Nothing here knows how it
//! crosses, and nothing is sent on before it was judged.

pub(super) mod answers;
pub(super) mod owner;
mod pull;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::header::{HeaderName, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Response, StatusCode};

use super::body::Body;
use super::gauge::Held;
use super::respond::{self, Refused};
use super::socket::Socket;
use super::{Server, intake, session};
use crate::outlet::{Takes, outlet};
use crate::proto::bridge::Settings;
use crate::proto::jsonrpc::Message;
use crate::store::{ConnectionId, Front, HandOverError, Handed, Method, ReplicaId, Reply};
use pull::Lost;

/// Names the rest of an answer, between two replicas. Neither this nor the next can be a header's name, so that no client
/// can send one, and none gets one.
const REST: &str = ":rest";
/// Which part of that answer is asked for, counted from 1.
const PART: &str = ":part";

/// A connection of another replica.
#[derive(Clone, Debug)]
pub(super) struct Away {
    pub(super) owner: ReplicaId,
    pub(super) id: ConnectionId,
    pub(super) front: Front,
}

/// Takes a POST of a legacy client.
pub(super) async fn post(
    server: &Arc<Server>,
    socket: &Socket,
    head: &Parts,
    body: Incoming,
    away: &Away,
) -> Result<Response<Body>, Refused> {
    intake::check_content_type(&head.headers)?;
    let (body, share) = intake::collect(server, body).await?;
    let (messages, _) = intake::parse(body.clone())?;
    let hold = hold(&messages);
    drop(messages);
    let request = handed(server, socket, head, away, Method::Post, body, hold);
    let reply = over(server, socket, head, away, request).await?;
    drop(share);
    Ok(response(reply))
}

/// Takes a request of a session's client.
pub(super) async fn session(
    server: &Arc<Server>,
    socket: &Arc<Socket>,
    head: &Parts,
    body: Incoming,
    away: Away,
) -> Result<Response<Body>, Refused> {
    session::check_version(&head.headers)?;
    let (method, body, share, hold) = match head.method {
        hyper::Method::POST => {
            let read = session::read(server, &head.headers, body).await?;
            (
                Method::Post,
                read.body,
                Some(read.share),
                hold(&read.messages),
            )
        }
        hyper::Method::GET => {
            session::check_listener(&head.headers)?;
            (Method::Get, Bytes::new(), None, hold(&[]))
        }
        hyper::Method::DELETE => (Method::Delete, Bytes::new(), None, hold(&[])),
        _ => return Err(Refused::Method("GET, POST, DELETE")),
    };
    // An answer that is still to come is waited for when this process stops; a listener is not.
    let held = (method == Method::Post).then(|| server.in_flight());
    let held = held.flatten();
    let request = handed(server, socket, head, &away, method, body, hold);
    let reply = over(server, socket, head, &away, request).await?;
    drop(share);
    let answers = number(&reply.headers, REST).is_some() || answers::form(&reply).is_some();
    if reply.status == 200 && answers {
        written(server, socket, away, reply, held).await
    } else {
        Ok(response(reply))
    }
}

/// What the session answers, from its first part on: written, counted and given up as in the session's own process.
async fn written(
    server: &Arc<Server>,
    socket: &Arc<Socket>,
    away: Away,
    first: Reply,
    held: Option<Held>,
) -> Result<Response<Body>, Refused> {
    let closing = Arc::clone(socket);
    let (outlet, mut reader) = outlet(Takes::Either, move || closing.closing.notify_one());
    let (server, peer) = (Arc::clone(server), socket.peer);
    let pulling = tokio::task::spawn(async move {
        let rest = pull::Rest { away, peer };
        pull::run(&server, rest, first, outlet, held).await
    });
    match reader.form().await {
        Some(form) => Ok(session::written(socket, reader, form)),
        None => Err(match pulling.await {
            Ok(Err(Lost::Session)) => Refused::UnknownSession,
            _ => Refused::AnswerLost,
        }),
    }
}

/// How long the owner may take until it knows what to answer: as long as a bridge holds a POST.
fn hold(messages: &[Message]) -> Duration {
    let settings = Settings::default();
    if messages.iter().any(session::is_initialize) {
        settings.hold_initialize
    } else {
        settings.hold
    }
}

fn handed(
    server: &Server,
    socket: &Socket,
    head: &Parts,
    away: &Away,
    method: Method,
    body: Bytes,
    hold: Duration,
) -> Handed {
    Handed {
        front: away.front,
        id: away.id.clone(),
        method,
        headers: server.forwarding.handed(&head.headers, socket.peer),
        peer: socket.peer,
        body,
        hold,
    }
}

/// Hands a request over. That the owner is gone, or does not know the connection, is what it is in this process.
async fn over(
    server: &Server,
    socket: &Socket,
    head: &Parts,
    away: &Away,
    request: Handed,
) -> Result<Reply, Refused> {
    let unknown = || {
        let refused = match away.front {
            Front::Stream => Refused::UnknownConnection,
            Front::Session => Refused::UnknownSession,
        };
        intake::missed(server, &head.headers, socket, refused)
    };
    match server.shared.store.hand_over(&away.owner, request).await {
        Ok(reply) if reply.status == StatusCode::NOT_FOUND.as_u16() => Err(unknown()),
        Ok(reply) => Ok(reply),
        Err(HandOverError::OwnerGone) => Err(unknown()),
        Err(error) => Err(Refused::HandOver(error)),
    }
}

/// The owner's answer, as this replica gives it. What cannot stand in a response is left out.
fn response(reply: Reply) -> Response<Body> {
    let status = StatusCode::from_u16(reply.status).unwrap_or(StatusCode::BAD_GATEWAY);
    let mut response = respond::empty(status);
    for (name, value) in reply.headers {
        let name = HeaderName::from_bytes(name.as_bytes());
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(&value)) {
            response.headers_mut().append(name, value);
        }
    }
    *response.body_mut() = Body::text(reply.body);
    response
}

type Headers = [(Box<str>, Box<[u8]>)];

/// A number that stands among the headers of a request or reply between replicas.
fn number(headers: &Headers, name: &str) -> Option<u64> {
    let (_, value) = headers.iter().find(|(it, _)| **it == *name)?;
    str::from_utf8(value).ok()?.parse().ok()
}

/// Such a number.
fn numbered(name: &str, number: u64) -> (Box<str>, Box<[u8]>) {
    (name.into(), number.to_string().into_bytes().into())
}
