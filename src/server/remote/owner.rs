//! Requests that other replicas took for connections of this one. They were judged there as far as that can be done
//! without the connection; here they are treated as if they had come to this replica's own socket.

use std::sync::Arc;

use http_body_util::BodyExt as _;
use hyper::header::{HeaderName, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Request, Response};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tracing::{debug, error};

use super::{PART, REST, number};
use crate::budget::{Pressure, Share};
use crate::metrics::Counter;
use crate::outlet::Takes;
use crate::server::body::Body;
use crate::server::respond::Refused;
use crate::server::{Server, intake, legacy, session};
use crate::store::{Arrived, ConnectionId, Front, Handed, Method, Recipient, Reply};

/// Answers what arrives until nothing will, or until this is dropped. Bound: the store takes no more while
/// [`MAX_HANDED`](crate::store::MAX_HANDED) have no answer, those included that wait to get here.
pub(in crate::server) async fn run(server: Arc<Server>, mut arrivals: mpsc::Receiver<Arrived>) {
    let mut answering = JoinSet::new();
    loop {
        tokio::select! {
            arrived = arrivals.recv() => match arrived {
                Some(Arrived { request, reply }) => {
                    let server = Arc::clone(&server);
                    answering.spawn(async move {
                        // An error means that nobody waits for it any more.
                        let _ = reply.send(answer(&server, request).await);
                    });
                }
                None => return,
            },
            Some(ended) = answering.join_next() => {
                if ended.is_err_and(|ended| ended.is_panic()) {
                    server.shared.metrics.add(Counter::Panics);
                    error!("a bug: a request of another replica's ended in a panic; the others go on");
                }
            }
        }
    }
}

async fn answer(server: &Arc<Server>, request: Handed) -> Reply {
    let front = request.front;
    match serve(server, request).await {
        Ok(reply) => reply,
        Err(refused) => {
            debug!(%refused, "refused a request of another replica's");
            // That it is unknown is counted where the client is.
            let unknown = matches!(
                refused,
                Refused::UnknownConnection | Refused::UnknownSession
            );
            if !unknown {
                server.count_refusal(&refused);
            }
            whole(match front {
                Front::Stream => refused.response(),
                Front::Session => refused.rpc_response(),
            })
            .await
        }
    }
}

async fn serve(server: &Arc<Server>, request: Handed) -> Result<Reply, Refused> {
    if request.front == Front::Session
        && let Some(name) = number(&request.headers, REST)
    {
        return Ok(rest(server, &request, name).await);
    }
    let head = head(server, &request)?;
    let unknown = match request.front {
        Front::Stream => Refused::UnknownConnection,
        Front::Session => Refused::UnknownSession,
    };
    let claim = server.forwarding.claim(&head.headers, request.peer);
    let found = server.shared.store.find(&request.id, request.front);
    let recipient = found
        .filter(|recipient| recipient.binding.admits(claim))
        .ok_or(unknown)?;
    match request.front {
        Front::Stream => stream(server, &recipient, &head, request).await,
        Front::Session => session(server, &recipient, &head, request).await,
    }
}

/// What another replica asks of an answer that it has a part of.
async fn rest(server: &Server, request: &Handed, name: u64) -> Reply {
    let answers = &server.answers;
    match request.method {
        Method::Get => {
            let part = number(&request.headers, PART).unwrap_or(0);
            let reply = answers.next(&request.id, name, part).await;
            let lives = || server.shared.store.find(&request.id, request.front);
            if reply.status == 404 && lives().is_some() {
                // 404 would be the end of the session.
                Reply::text(410, "there is nothing more of this answer")
            } else {
                reply
            }
        }
        Method::Delete => {
            answers.give_up(&request.id, name);
            Reply::text(200, "forgotten")
        }
        Method::Post => Reply::text(400, "nothing is posted to the rest of an answer"),
    }
}

/// A POST of a legacy client.
async fn stream(
    server: &Arc<Server>,
    recipient: &Recipient,
    head: &Parts,
    request: Handed,
) -> Result<Reply, Refused> {
    if request.method != Method::Post {
        return Err(Refused::Method("POST"));
    }
    let share = share(server, &request)?;
    let messages = intake::parse(request.body)?;
    let answered = legacy::deliver(server, recipient, head, request.peer, messages, share).await?;
    Ok(whole(answered).await)
}

/// A request of a session's client.
async fn session(
    server: &Arc<Server>,
    recipient: &Recipient,
    head: &Parts,
    request: Handed,
) -> Result<Reply, Refused> {
    session::check_version(&head.headers)?;
    let answers = &server.answers;
    match request.method {
        Method::Delete => Ok(whole(session::end(server, &request.id, recipient).await).await),
        Method::Get => {
            let takes = session::check_listener(&head.headers)?;
            match listen(server, recipient, &request.id, takes).await {
                // The one that listens may be gone, and its replica with it.
                Err(Refused::Listening) if answers.release_silent(&request.id).await => {
                    listen(server, recipient, &request.id, takes).await
                }
                listening => listening,
            }
        }
        Method::Post => {
            let share = share(server, &request)?;
            let (messages, batch) = intake::parse(request.body)?;
            let takes = session::takes(&head.headers)?;
            let mut name = 0;
            let ends = || {
                let (new, outlet, reader) = answers.open(takes);
                name = new;
                (outlet, reader)
            };
            let prepared = session::prepare(server, request.peer, head, (messages, batch), ends);
            let admitted = match name {
                0 => None,
                _ => Some(answers.admit(&request.id, name)?),
            };
            let mut waiting = session::deliver(server, recipient, prepared, share).await?;
            match (waiting.status(Some(recipient)).await?, admitted) {
                (Ok(reader), Some(admitted)) => answers.begin(admitted, reader).await,
                (Ok(_), None) => Err(Refused::Internal("an answer has no name")),
                (Err(response), _) => Ok(whole(response).await),
            }
        }
    }
}

/// Has a session write its listen stream for another replica.
async fn listen(
    server: &Server,
    recipient: &Recipient,
    session: &ConnectionId,
    takes: Takes,
) -> Result<Reply, Refused> {
    let (name, outlet, reader) = server.answers.open(takes);
    let admitted = server.answers.admit(session, name)?;
    session::listen_on(recipient, outlet).await?;
    Ok(server.answers.begin_listening(admitted, reader))
}

/// Counts the body of a request, as far as there is memory for it.
fn share(server: &Server, request: &Handed) -> Result<Share, Refused> {
    let mut share = Share::new(&server.shared.budget);
    share.set(request.body.len());
    match share.pressure() {
        Pressure::Critical => Err(Refused::NoMemory),
        Pressure::Calm | Pressure::High => Ok(share),
    }
}

/// The head of the request, as far as it crossed.
fn head(server: &Server, request: &Handed) -> Result<Parts, Refused> {
    let (path, method) = match (request.front, request.method) {
        (Front::Stream, _) => (&server.paths.messages, hyper::Method::POST),
        (Front::Session, Method::Post) => (&server.paths.mcp, hyper::Method::POST),
        (Front::Session, Method::Get) => (&server.paths.mcp, hyper::Method::GET),
        (Front::Session, Method::Delete) => (&server.paths.mcp, hyper::Method::DELETE),
    };
    let built = Request::builder()
        .method(method)
        .uri(path.as_str())
        .body(());
    let built = built.map_err(|_| Refused::Internal("a path of the ferry's own is no path"))?;
    let (mut head, ()) = built.into_parts();
    for (name, value) in &request.headers {
        let name = HeaderName::from_bytes(name.as_bytes());
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(value)) {
            head.headers.append(name, value);
        }
    }
    Ok(head)
}

/// A response of the ferry's own, which has its body whole.
async fn whole(response: Response<Body>) -> Reply {
    let (head, body) = response.into_parts();
    let headers = head.headers.iter();
    let headers = headers.map(|(name, value)| (name.as_str().into(), value.as_bytes().into()));
    let headers = headers.collect();
    let body = body.collect().await.map(|body| body.to_bytes());
    Reply {
        status: head.status.as_u16(),
        headers,
        body: body.unwrap_or_default(),
    }
}
