//! The legacy front (2024-11-05, "HTTP with SSE"): `GET /sse` and `POST /messages`.

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::header::{HeaderMap, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Request, Response, Version};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tracing::debug;

use super::body::Body;
use super::intake;
use super::remote::{self, Away};
use super::respond::{self, Refused};
use super::socket::Socket;
use super::{Server, cors};
use crate::budget::Share;
use crate::config::EndpointForm;
use crate::conn::{self, Opening};
use crate::metrics::Counter;
use crate::proto::bridge::{Answer, Carried};
use crate::proto::era;
use crate::proto::jsonrpc::Message;
use crate::proto::sse;
use crate::store::{Binding, ConnectionId, Front, Place, Post, Recipient};
use crate::tap::Head;

/// The parameter that names the connection, first as the ferry writes it, then as other servers do.
const ID_PARAMETERS: [&str; 3] = ["sessionId", "session_id", "sessionid"];

/// What an event source that comes back names (HTML, "The Last-Event-ID header").
const LAST_EVENT_ID: &str = "last-event-id";

/// A stream that was granted: it begins as soon as hyper has let go of the socket.
#[derive(Debug)]
pub(super) struct Granted {
    opening: Opening,
    place: intake::Place,
}

impl Granted {
    /// Begins the stream on its socket.
    pub(super) fn begin(self, server: &Server, socket: TcpStream) {
        conn::open(&server.shared, self.opening, socket, self.place);
    }
}

/// Grants a stream. Nothing is asked of the upstream: clients open streams only to see whether they exist.
pub(super) fn grant(
    server: &Server,
    head: &Parts,
    socket: &Socket,
    origin: Option<&HeaderValue>,
) -> Result<Granted, Refused> {
    if !intake::accepts(&head.headers, "text/event-stream") {
        return Err(Refused::NotAcceptable);
    }
    let claim = server.forwarding.claim(&head.headers, socket.peer);
    let place = intake::place(server, claim.address)?;
    let id = ConnectionId::random()
        .map_err(|_| Refused::Internal("the system gave no randomness for a connection id"))?;
    let prefix = server.forwarding.prefix(&head.headers, socket.peer);
    let chunked = head.version >= Version::HTTP_11;
    let page = match &server.cors {
        Some(_) => cors::lines(origin),
        None => String::new(),
    };
    let opening = Opening {
        head: response_head(chunked, &server.date(), &page),
        chunked,
        first: sse::endpoint(&endpoint(server, prefix, &id)),
        id,
        label: server.next_label(),
        peer: claim.address,
        shown: server.shared.bus.head(head),
        query: query_for_upstream(head.uri.query()),
        carried: carried(server, &head.headers),
        version: intake::text(&head.headers, era::VERSION_HEADER).map(Into::into),
        binding: Binding::new(server.credential_binding, claim),
    };
    Ok(Granted { opening, place })
}

/// What the client carries from its last stream, here or at another replica. Whatever else it names as its last event is
/// ignored: it may have spoken to another server at this address before.
fn carried(server: &Server, headers: &HeaderMap) -> Option<Carried> {
    let sealer = server.shared.store.sealer()?;
    // An empty one is what is left of an id that was taken back.
    let id = headers.get(LAST_EVENT_ID).filter(|id| !id.is_empty())?;
    let carried = id.to_str().ok().and_then(|id| conn::carried(sealer, id));
    server.shared.metrics.add(match carried {
        Some(_) => Counter::Recalls,
        None => Counter::StrayEventIds,
    });
    if carried.is_none() {
        debug!("a Last-Event-ID that does not open was ignored");
    }
    carried
}

/// The response head of a stream. `X-Accel-Buffering` says "do not buffer" to nginx and to those that learnt it from
/// there; the address of the stream may hold a key and the endpoint holds the connection's id, hence the referrer
/// policy. The socket serves nothing else afterwards.
fn response_head(chunked: bool, date: &str, cors: &str) -> Bytes {
    let coding = if chunked {
        "transfer-encoding: chunked\r\n"
    } else {
        ""
    };
    Bytes::from(format!(
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncache-control: no-cache, no-transform\r\n\
         x-accel-buffering: no\r\nreferrer-policy: no-referrer\r\n{coding}{cors}connection: close\r\ndate: {date}\r\n\r\n"
    ))
}

/// Takes a POST and answers as its bridge says.
pub(super) async fn post(
    server: &Arc<Server>,
    request: Request<Incoming>,
    socket: &Arc<Socket>,
) -> Result<Response<Body>, Refused> {
    let (head, body) = request.into_parts();
    let id = connection_id(head.uri.query()).ok_or(Refused::NoConnectionId)?;
    let found = match server.shared.store.place(id, Front::Stream) {
        Place::Here(_, recipient) => Some(recipient),
        Place::Elsewhere { owner, id } => {
            let front = Front::Stream;
            let away = Away { owner, id, front };
            // Boxed, so that what is here does not pay for its size.
            return Box::pin(remote::post(server, socket, &head, body, &away)).await;
        }
        Place::Unknown => None,
    };
    let recipient = found
        .filter(|recipient| {
            let claim = server.forwarding.claim(&head.headers, socket.peer);
            recipient.binding.admits(claim)
        })
        .ok_or_else(|| intake::missed(server, &head.headers, socket, Refused::UnknownConnection))?;
    Head::belongs_to(&head, recipient.label);
    intake::check_content_type(&head.headers)?;
    let (body, share) = intake::collect(server, body).await?;
    let messages = intake::parse(body)?;
    deliver(server, &recipient, &head, socket.peer, messages, share).await
}

/// Gives a POST to its connection, which counts its body instead of `share` from then on, and answers as its bridge says.
/// `messages` are its messages, and whether they came as an array.
pub(super) async fn deliver(
    server: &Server,
    recipient: &Recipient,
    head: &Parts,
    peer: IpAddr,
    (messages, batch): (Vec<Message>, bool),
    share: Share,
) -> Result<Response<Body>, Refused> {
    server.shared.metrics.add(Counter::Posts);
    let (forwarded, credential) = server.forwarding.of_post(&head.headers, peer);
    let (answer, answered) = oneshot::channel();
    let version = intake::text(&head.headers, era::VERSION_HEADER).map(Into::into);
    let post = Post {
        messages,
        batch,
        credential,
        version,
        forwarded,
        shown: server.shared.bus.head(head),
        answer,
        outlet: None,
    };
    if !recipient.deliver(post).await {
        return Err(Refused::UnknownConnection);
    }
    drop(share);
    match answered.await {
        Ok(Answer::Accepted) => Ok(respond::accepted()),
        Ok(Answer::Invalid(why)) => Err(Refused::Invalid(why)),
        Ok(Answer::Refused(refusal)) => {
            if refusal.status == 401 {
                recipient.binding.challenged();
            }
            Ok(respond::refusal(*refusal))
        }
        Ok(Answer::Busy) => Err(Refused::Busy),
        // The connection ended before it took the POST.
        Ok(Answer::Gone) | Err(_) => Err(Refused::UnknownConnection),
    }
}

/// The address of the `endpoint` event, in the form that was asked for. Built from configuration and the id only.
fn endpoint(server: &Server, forwarded_prefix: Option<&str>, id: &ConnectionId) -> String {
    let paths = &server.paths;
    let id = server.shared.store.reveal(id, Front::Stream);
    let public = paths.public_url.as_ref();
    let public_path = public.map_or("", |url| url.path().trim_end_matches('/'));
    let prefix = match forwarded_prefix {
        Some(prefix) => prefix,
        None if paths.public_prefix.is_empty() => public_path,
        None => &paths.public_prefix,
    };
    match (paths.endpoint, public) {
        (EndpointForm::Relative, _) => {
            format!("{}?sessionId={id}", relative(&paths.sse, &paths.messages))
        }
        (EndpointForm::AbsoluteUrl, Some(url)) => {
            let origin = format!(
                "{}://{}",
                url.scheme_str().unwrap_or("https"),
                url.authority().map_or("", |a| a.as_str())
            );
            format!("{origin}{prefix}{}?sessionId={id}", paths.messages)
        }
        (EndpointForm::AbsoluteUrl | EndpointForm::AbsolutePath, _) => {
            format!("{prefix}{}?sessionId={id}", paths.messages)
        }
    }
}

/// The way from one absolute path to another (RFC 3986 §5.2, the other way round).
fn relative(from: &str, to: &str) -> String {
    let from: Vec<&str> = from.split('/').collect();
    let to: Vec<&str> = to.split('/').collect();
    let common = from
        .iter()
        .zip(&to)
        .take(from.len() - 1)
        .take(to.len() - 1)
        .take_while(|(a, b)| a == b)
        .count();
    let up = "../".repeat(from.len() - 1 - common);
    format!("{up}{}", to.get(common..).unwrap_or_default().join("/"))
}

fn connection_id(query: Option<&str>) -> Option<&str> {
    let pairs = || {
        query
            .unwrap_or_default()
            .split('&')
            .filter_map(|pair| pair.split_once('='))
    };
    ID_PARAMETERS
        .iter()
        .find_map(|name| pairs().find(|(key, _)| key == name).map(|(_, value)| value))
}

/// The query of the GET goes upstream, for old servers take keys there; parameters of the ferry's own do not.
fn query_for_upstream(query: Option<&str>) -> Option<Arc<str>> {
    let own = |pair: &str| ID_PARAMETERS.contains(&pair.split('=').next().unwrap_or_default());
    let kept: Vec<&str> = query?
        .split('&')
        .filter(|pair| !pair.is_empty() && !own(pair))
        .collect();
    if kept.is_empty() {
        None
    } else {
        Some(kept.join("&").into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relative_ways_lead_where_they_should() {
        assert_eq!(relative("/sse", "/messages"), "messages");
        assert_eq!(relative("/a/sse", "/a/messages"), "messages");
        assert_eq!(relative("/a/b/sse", "/a/messages"), "../messages");
        assert_eq!(relative("/sse", "/a/messages"), "a/messages");
        assert_eq!(relative("/a", "/a/messages"), "a/messages");
    }

    #[test]
    fn ids_are_found_under_every_known_name() {
        assert_eq!(connection_id(Some("x=1&sessionId=abc")), Some("abc"));
        assert_eq!(connection_id(Some("session_id=abc")), Some("abc"));
        assert_eq!(connection_id(Some("sessionid=abc")), Some("abc"));
        assert_eq!(connection_id(Some("session=abc")), None);
        assert_eq!(connection_id(None), None);
    }

    #[test]
    fn the_get_s_query_goes_upstream_without_our_own() {
        assert_eq!(
            query_for_upstream(Some("api_key=a%20b&sessionId=1&&flag")).as_deref(),
            Some("api_key=a%20b&flag")
        );
        assert_eq!(query_for_upstream(Some("sessionId=1")), None);
        assert_eq!(query_for_upstream(None), None);
    }
}
