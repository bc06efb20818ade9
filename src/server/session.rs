//! The MCP endpoint as the front of a session (2025-11-25, "Streamable HTTP"): what the client of a session posts, listens
//! to and ends, as HTTP.
//!
//! The session itself is a task (`conn::session`), which writes the answers; here requests are judged and handed to it, and
//! its answers get their heads. There are no event ids: what a client misses while it is away is lost to it, except on the
//! listen stream, within bounds.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Method, Request, Response, StatusCode};
use tokio::sync::oneshot;

use super::body::Body;
use super::mcp::{self, SESSION_PREFIX};
use super::remote::{self, Away};
use super::respond::{self, Refused};
use super::socket::{Passing, Socket};
use super::{Server, intake};
use crate::budget::Share;
use crate::conn::{self, Beginning};
use crate::metrics::Counter;
use crate::outlet::{Form, Outlet, Reader, Takes, outlet};
use crate::proto::bridge::Answer;
use crate::proto::era;
use crate::proto::jsonrpc::{Kind, Message};
use crate::store::{Binding, ConnectionId, Delivery, Front, Listener, Place, Post, Recipient};
use crate::tap::Head;

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
        Place::Elsewhere { owner, id } => {
            let front = Front::Session;
            let away = Away { owner, id, front };
            return Box::pin(remote::session(server, socket, &head, body, away)).await;
        }
        Place::Unknown => None,
    };
    let (id, recipient) = found
        .filter(|(_, recipient)| recipient.binding.admits(claim))
        .ok_or_else(|| intake::missed(server, &head.headers, socket, Refused::UnknownSession))?;
    Head::belongs_to(&head, recipient.label);
    check_version(&head.headers)?;
    match head.method {
        Method::POST => post(server, socket, &recipient, head, body).await,
        Method::GET => listen(server, socket, &id, &recipient, &head.headers).await,
        Method::DELETE => Ok(end(server, &id, &recipient).await),
        _ => Err(Refused::Method("GET, POST, DELETE")),
    }
}

/// Ends a session, as its client asks.
pub(super) async fn end(
    server: &Server,
    id: &ConnectionId,
    recipient: &Recipient,
) -> Response<Body> {
    // Unknown at once: nothing that comes after the answer finds it.
    server.shared.store.release(id);
    // `false` means that it has ended by itself: the same.
    recipient.hand(Delivery::Leave).await;
    respond::empty(StatusCode::NO_CONTENT)
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
    let ends = || outlet_on(socket, takes);
    let (post, mut waiting) = prepare(server, socket.peer, head, (messages, false), ends);
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
    let read = read(server, &head.headers, body).await?;
    let ends = || outlet_on(socket, read.takes);
    let messages = (read.messages, read.batch);
    let prepared = prepare(server, socket.peer, &head, messages, ends);
    // Only the messages are needed from here on.
    drop(read.body);
    let mut waiting = deliver(server, recipient, prepared, read.share).await?;
    waiting.answer(socket, Some(recipient)).await
}

/// A POST that was read and judged, but for its session.
pub(super) struct Read {
    takes: Takes,
    pub(super) body: Bytes,
    pub(super) messages: Vec<Message>,
    batch: bool,
    /// Counts the body.
    pub(super) share: Share,
}

/// Reads a POST of a session's client.
pub(super) async fn read(
    server: &Server,
    headers: &HeaderMap,
    body: Incoming,
) -> Result<Read, Refused> {
    let takes = takes(headers)?;
    intake::check_content_type(headers)?;
    let (body, share) = intake::collect(server, body).await?;
    let (messages, batch) = intake::parse(body.clone())?;
    if batch && takes == Takes::Json {
        return Err(Refused::NotAcceptable);
    }
    Ok(Read {
        takes,
        body,
        messages,
        batch,
        share,
    })
}

/// Gives a POST to its session, which counts its body instead of `share` from then on.
pub(super) async fn deliver(
    server: &Server,
    recipient: &Recipient,
    (post, waiting): (Post, Waiting),
    share: Share,
) -> Result<Waiting, Refused> {
    server.shared.metrics.add(Counter::Posts);
    if !recipient.deliver(post).await {
        return Err(Refused::UnknownSession);
    }
    drop(share);
    Ok(waiting)
}

async fn listen(
    server: &Server,
    socket: &Arc<Socket>,
    id: &ConnectionId,
    recipient: &Recipient,
    headers: &HeaderMap,
) -> Result<Response<Body>, Refused> {
    let takes = check_listener(headers)?;
    let (outlet, reader) = outlet_on(socket, takes);
    match listen_on(recipient, outlet).await {
        Ok(()) => Ok(written(socket, reader, Form::Events)),
        // The one that listens may be another replica that is gone.
        Err(Refused::Listening) if server.answers.release_silent(id).await => {
            let (outlet, reader) = outlet_on(socket, takes);
            listen_on(recipient, outlet).await?;
            Ok(written(socket, reader, Form::Events))
        }
        Err(refused) => Err(refused),
    }
}

/// What a client that listens has to take.
pub(super) fn check_listener(headers: &HeaderMap) -> Result<Takes, Refused> {
    match intake::accepts(headers, EVENTS) {
        true => Ok(Takes::Events),
        false => Err(Refused::NotAcceptable),
    }
}

/// Has a session write to this outlet what no request asks for.
pub(super) async fn listen_on(recipient: &Recipient, outlet: Outlet) -> Result<(), Refused> {
    let (taken, answer) = oneshot::channel();
    recipient
        .hand(Delivery::Listen(Listener { outlet, taken }))
        .await;
    match answer.await {
        Ok(true) => Ok(()),
        Ok(false) => Err(Refused::Listening),
        // It has ended.
        Err(_) => Err(Refused::UnknownSession),
    }
}

const EVENTS: &str = "text/event-stream";
const JSON: &str = "application/json";

/// The forms of an answer that the client takes.
pub(super) fn takes(headers: &HeaderMap) -> Result<Takes, Refused> {
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
pub(super) fn check_version(headers: &HeaderMap) -> Result<(), Refused> {
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
pub(super) struct Waiting {
    status: oneshot::Receiver<Answer>,
    /// Where its requests have outcomes.
    reader: Option<Reader>,
    /// Whether the answer turned out to be a JSON-RPC error and nothing else.
    failed: bool,
}

/// A POST for a session: its messages, and whether they came as an array. With nothing to answer it has no body to wait
/// for, and `ends`, which makes one, is not asked.
pub(super) fn prepare(
    server: &Server,
    peer: IpAddr,
    head: &Parts,
    (messages, batch): (Vec<Message>, bool),
    ends: impl FnOnce() -> (Outlet, Reader),
) -> (Post, Waiting) {
    let asks = messages
        .iter()
        .any(|message| message.kind() == Kind::Request);
    let (outlet, reader) = asks.then(ends).unzip();
    let (forwarded, credential) = server.forwarding.of_post(&head.headers, peer);
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
        let mut reader = match self.status(recipient).await? {
            Ok(reader) => reader,
            Err(response) => return Ok(response),
        };
        let form = reader.form().await.ok_or(Refused::UnknownSession)?;
        let whole = reader.whole().filter(|_| form == Form::Json);
        let message = whole.and_then(|text| Message::parse(text).ok());
        self.failed = message.is_some_and(|message| message.is_error());
        Ok(written(socket, reader, form))
    }

    /// What of the answer is still to come, once the session has taken the POST; or all of it.
    pub(super) async fn status(
        &mut self,
        recipient: Option<&Recipient>,
    ) -> Result<Result<Reader, Response<Body>>, Refused> {
        match (&mut self.status).await {
            Ok(Answer::Accepted) => {}
            Ok(Answer::Invalid(why)) => return Err(Refused::Invalid(why)),
            Ok(Answer::Refused(refusal)) => {
                self.failed = true;
                if let Some(recipient) = recipient.filter(|_| refusal.status == 401) {
                    recipient.binding.challenged();
                }
                return Ok(Err(respond::refusal(*refusal)));
            }
            Ok(Answer::Busy) => return Err(Refused::Busy),
            // The session ended before it took the POST.
            Ok(Answer::Gone) | Err(_) => return Err(Refused::UnknownSession),
        }
        let accepted = || respond::empty(StatusCode::ACCEPTED);
        Ok(self.reader.take().ok_or_else(accepted))
    }
}

/// An answer that a session writes. `X-Accel-Buffering` says "do not buffer" to nginx and to those that learnt it from
/// there.
pub(super) fn written(socket: &Arc<Socket>, reader: Reader, form: Form) -> Response<Body> {
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
