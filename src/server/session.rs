//! The MCP endpoint as the front of a session (2025-11-25, "Streamable HTTP"): what the client of a session posts, listens
//! to and ends, as HTTP.
//!
//! The session itself is a task (`conn::session`), which writes the answers; here requests are judged and handed to it, and
//! its answers get their heads. There are no event ids: what a client misses while it is away is lost to it, except on the
//! listen stream, within bounds.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use hyper::body::Incoming;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Method, Request, Response, StatusCode};
use tokio::sync::oneshot;

use super::body::Body;
use super::mcp::{self, SESSION_PREFIX};
use super::respond::{self, Refused};
use super::socket::{Passing, Socket};
use super::{Server, intake};
use crate::conn::{self, Beginning};
use crate::metrics::Counter;
use crate::outlet::{Form, Outlet, Reader, Takes, outlet};
use crate::proto::bridge::Answer;
use crate::proto::era;
use crate::proto::jsonrpc::{Kind, Message};
use crate::store::{Binding, ConnectionId, Delivery, Front, Listener, Place, Post, Recipient};

/// Answers a request that names a session of the ferry's.
pub(super) async fn serve(
    server: &Arc<Server>,
    socket: &Arc<Socket>,
    request: Request<Incoming>,
) -> Result<Response<Body>, Refused> {
    let (head, body) = request.into_parts();
    let claim = server.forwarding.claim(&head.headers, socket.peer);
    let name = mcp::own_session(&head.headers).unwrap_or_default();
    let found = match server.shared.store.place(name, Front::Session) {
        Place::Here(id, recipient) => Some((id, recipient)),
        Place::Elsewhere { .. } | Place::Unknown => None,
    };
    let (id, recipient) = found
        .filter(|(_, recipient)| recipient.binding.admits(claim))
        .ok_or_else(|| intake::missed(server, &head.headers, socket, Refused::UnknownSession))?;
    check_version(&head.headers)?;
    match head.method {
        Method::POST => post(server, socket, &recipient, head, body).await,
        Method::GET => listen(socket, &recipient, &head.headers).await,
        Method::DELETE => {
            // Unknown at once: nothing that comes after the answer finds it.
            server.shared.store.release(&id);
            // `false` means that it has ended by itself: the same.
            recipient.hand(Delivery::Leave).await;
            Ok(respond::empty(StatusCode::NO_CONTENT))
        }
        _ => Err(Refused::Method("GET, POST, DELETE")),
    }
}

/// Answers a POST that names no session: an `initialize` begins one.
pub(super) async fn begin(
    server: &Arc<Server>,
    socket: &Arc<Socket>,
    request: Request<Incoming>,
) -> Result<Response<Body>, Refused> {
    let (head, body) = request.into_parts();
    intake::check_content_type(&head.headers)?;
    let (body, share) = intake::collect(server, body).await?;
    let (messages, batch) = intake::parse(body)?;
    if batch || !messages.first().is_some_and(is_initialize) {
        return Err(Refused::NoSession);
    }
    let begun = begin_with(server, socket, &head, messages);
    drop(share);
    begun.await
}

/// Whether a message begins a session.
pub(super) fn is_initialize(message: &Message) -> bool {
    message.kind() == Kind::Request && message.method() == "initialize"
}

/// Begins a session with this `initialize`. It has a name once its answer is a good one.
pub(super) async fn begin_with(
    server: &Arc<Server>,
    socket: &Arc<Socket>,
    head: &Parts,
    messages: Vec<Message>,
) -> Result<Response<Body>, Refused> {
    if server.draining.load(Ordering::Acquire) {
        return Err(Refused::ShuttingDown);
    }
    let takes = takes(&head.headers)?;
    let claim = server.forwarding.claim(&head.headers, socket.peer);
    let peer = claim.address;
    let place = intake::place(server, peer)?;
    let id = ConnectionId::random()
        .map_err(|_| Refused::Internal("the system gave no randomness for a session id"))?;
    let name = server.shared.store.reveal(&id, Front::Session);
    let name = format!("{SESSION_PREFIX}{name}");
    let binding = Binding::new(server.credential_binding, claim);
    let (post, mut waiting) = prepare(server, socket, head, messages, false, Some(takes));
    server.shared.metrics.add(Counter::Posts);
    let beginning = Beginning {
        id,
        label: server.next_label(),
        peer,
        query: head.uri.query().filter(|it| !it.is_empty()).map(Into::into),
        binding,
        post,
    };
    conn::begin(&server.shared, beginning, place);
    let mut response = waiting.answer(socket, None).await?;
    if !waiting.failed
        && let Ok(mut name) = HeaderValue::try_from(name)
    {
        name.set_sensitive(true);
        let header = HeaderName::from_static(era::SESSION_HEADER);
        response.headers_mut().insert(header, name);
    }
    Ok(response)
}

async fn post(
    server: &Arc<Server>,
    socket: &Arc<Socket>,
    recipient: &Recipient,
    head: Parts,
    body: Incoming,
) -> Result<Response<Body>, Refused> {
    let takes = takes(&head.headers)?;
    intake::check_content_type(&head.headers)?;
    let (body, share) = intake::collect(server, body).await?;
    let (messages, batch) = intake::parse(body)?;
    if batch && takes == Takes::Json {
        return Err(Refused::NotAcceptable);
    }
    server.shared.metrics.add(Counter::Posts);
    let (post, mut waiting) = prepare(server, socket, &head, messages, batch, Some(takes));
    if !recipient.deliver(post).await {
        return Err(Refused::UnknownSession);
    }
    // From here on the session counts it.
    drop(share);
    waiting.answer(socket, Some(recipient)).await
}

async fn listen(
    socket: &Arc<Socket>,
    recipient: &Recipient,
    headers: &HeaderMap,
) -> Result<Response<Body>, Refused> {
    if !intake::accepts(headers, EVENTS) {
        return Err(Refused::NotAcceptable);
    }
    let (outlet, reader) = outlet_on(socket, Takes::Events);
    let (taken, answer) = oneshot::channel();
    recipient
        .hand(Delivery::Listen(Listener { outlet, taken }))
        .await;
    match answer.await {
        Ok(true) => Ok(written(socket, reader, Form::Events)),
        Ok(false) => Err(Refused::Listening),
        // It has ended.
        Err(_) => Err(Refused::UnknownSession),
    }
}

const EVENTS: &str = "text/event-stream";
const JSON: &str = "application/json";

/// The forms of an answer that the client takes.
fn takes(headers: &HeaderMap) -> Result<Takes, Refused> {
    let (events, json) = (
        intake::accepts(headers, EVENTS),
        intake::accepts(headers, JSON),
    );
    match (events, json) {
        (true, true) => Ok(Takes::Either),
        (true, false) => Ok(Takes::Events),
        (false, true) => Ok(Takes::Json),
        (false, false) => Err(Refused::NotAcceptable),
    }
}

/// A session speaks the handshake revisions; a request without the header speaks the one that was negotiated.
fn check_version(headers: &HeaderMap) -> Result<(), Refused> {
    let Some(version) = headers.get(era::VERSION_HEADER) else {
        return Ok(());
    };
    match version.to_str() {
        Ok(version) if era::is_handshake_version(version.trim()) => Ok(()),
        Ok(version) => Err(Refused::Version(version.chars().take(40).collect())),
        Err(_) => Err(Refused::Version("(not text)".to_owned())),
    }
}

/// An answer that a session is to write for this socket, which is closed if the client does not read it.
fn outlet_on(socket: &Arc<Socket>, takes: Takes) -> (Outlet, Reader) {
    let socket = Arc::clone(socket);
    outlet(takes, move || socket.closing.notify_one())
}

/// A POST whose status and answer are to come.
struct Waiting {
    status: oneshot::Receiver<Answer>,
    /// Where its requests have outcomes.
    reader: Option<Reader>,
    /// Whether the answer turned out to be a JSON-RPC error and nothing else.
    failed: bool,
}

/// A POST for a session. With nothing to answer it has no body to wait for.
fn prepare(
    server: &Server,
    socket: &Arc<Socket>,
    head: &Parts,
    messages: Vec<Message>,
    batch: bool,
    takes: Option<Takes>,
) -> (Post, Waiting) {
    let asks = messages
        .iter()
        .any(|message| message.kind() == Kind::Request);
    let ends = takes.filter(|_| asks).map(|it| outlet_on(socket, it));
    let (outlet, reader) = ends.unzip();
    let (forwarded, credential) = server.forwarding.of_post(&head.headers, socket.peer);
    let (answer, status) = oneshot::channel();
    let post = Post {
        messages,
        batch,
        credential,
        version: intake::text(&head.headers, era::VERSION_HEADER).map(Into::into),
        forwarded,
        shown: server.shared.bus.head(head),
        answer,
        outlet,
    };
    let waiting = Waiting {
        status,
        reader,
        failed: false,
    };
    (post, waiting)
}

impl Waiting {
    /// The POST's answer, as soon as there is something of it.
    async fn answer(
        &mut self,
        socket: &Arc<Socket>,
        recipient: Option<&Recipient>,
    ) -> Result<Response<Body>, Refused> {
        match (&mut self.status).await {
            Ok(Answer::Accepted) => {}
            Ok(Answer::Invalid(why)) => return Err(Refused::Invalid(why)),
            Ok(Answer::Refused(refusal)) => {
                self.failed = true;
                if let Some(recipient) = recipient.filter(|_| refusal.status == 401) {
                    recipient.binding.challenged();
                }
                return Ok(respond::refusal(*refusal));
            }
            Ok(Answer::Busy) => return Err(Refused::Busy),
            // The session ended before it took the POST.
            Ok(Answer::Gone) | Err(_) => return Err(Refused::UnknownSession),
        }
        let Some(mut reader) = self.reader.take() else {
            return Ok(respond::empty(StatusCode::ACCEPTED));
        };
        let form = reader.form().await.ok_or(Refused::UnknownSession)?;
        let whole = reader.whole().filter(|_| form == Form::Json);
        let message = whole.and_then(|text| Message::parse(text).ok());
        self.failed = message.is_some_and(|message| message.is_error());
        Ok(written(socket, reader, form))
    }
}

/// An answer that a session writes. `X-Accel-Buffering` says "do not buffer" to nginx and to those that learnt it from
/// there.
fn written(socket: &Arc<Socket>, reader: Reader, form: Form) -> Response<Body> {
    let mut response = Response::new(Body::written(Passing::new(socket), reader));
    let headers = response.headers_mut();
    let fixed = HeaderValue::from_static;
    match form {
        Form::Json => {
            headers.insert(header::CONTENT_TYPE, fixed(JSON));
        }
        Form::Events => {
            headers.insert(header::CONTENT_TYPE, fixed(EVENTS));
            headers.insert(header::CACHE_CONTROL, fixed("no-cache, no-transform"));
            let buffering = HeaderName::from_static("x-accel-buffering");
            headers.insert(buffering, fixed("no"));
        }
    }
    response
}
