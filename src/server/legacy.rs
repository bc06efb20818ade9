//! The legacy front (2024-11-05, "HTTP with SSE"): `GET /sse` and `POST /messages`.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::{Body as _, Incoming};
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Request, Response, Version};
use tokio::net::TcpStream;
use tokio::sync::oneshot;

use super::body::Body;
use super::gauge::Held;
use super::peers::{Counted, Peer};
use super::respond::{self, Refused};
use super::socket::Socket;
use super::{Server, cors};
use crate::budget::{Pressure, Share};
use crate::config::EndpointForm;
use crate::conn::{self, Opening};
use crate::metrics::Counter;
use crate::proto::bridge::Answer;
use crate::proto::era;
use crate::proto::jsonrpc::{self, Message};
use crate::proto::sse;
use crate::store::{Binding, ConnectionId, Post};

/// The parameter that names the connection, first as the ferry writes it, then as other servers do.
const ID_PARAMETERS: [&str; 3] = ["sessionId", "session_id", "sessionid"];

/// A stream that was granted: it begins as soon as hyper has let go of the socket.
#[derive(Debug)]
pub(super) struct Granted {
    opening: Opening,
    place: (Held, Option<Counted>),
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
    if !accepts_events(&head.headers) {
        return Err(Refused::NotAcceptable);
    }
    if server.shared.budget.pressure() >= Pressure::High {
        server.shared.metrics.add(Counter::ConnectionsRefused);
        return Err(Refused::NoMemory);
    }
    let claim = server.forwarding.claim(&head.headers, socket.peer);
    let place = place(server, Peer::of(claim.address))
        .inspect_err(|_| server.shared.metrics.add(Counter::ConnectionsRefused))?;
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
        query: query_for_upstream(head.uri.query()),
        version: text(&head.headers, era::VERSION_HEADER).map(Into::into),
        binding: Binding::new(server.credential_binding, claim),
    };
    Ok(Granted { opening, place })
}

/// A place among the streams that may be open, over all clients and of this one.
fn place(server: &Server, peer: Peer) -> Result<(Held, Option<Counted>), Refused> {
    let limits = &server.shared.limits;
    let held = server.streams.hold(limits.max_connections);
    let held = held.ok_or(Refused::Full)?;
    let most = limits.max_connections_per_peer;
    match server.streams_by_peer.hold(peer, most) {
        Ok(counted) => Ok((held, counted)),
        Err(()) => Err(Refused::FullForPeer(most)),
    }
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
    socket: &Socket,
) -> Result<Response<Body>, Refused> {
    let (head, body) = request.into_parts();
    let id = connection_id(head.uri.query()).ok_or(Refused::NoConnectionId)?;
    let recipient = ConnectionId::parse(id)
        .and_then(|id| server.shared.store.find(&id))
        .filter(|recipient| {
            let claim = server.forwarding.claim(&head.headers, socket.peer);
            recipient.binding.admits(claim)
        })
        .ok_or_else(|| missed(server, &head.headers, socket))?;
    check_content_type(&head.headers)?;
    let limits = &server.shared.limits;
    let mut share = Share::new(&server.shared.budget);
    if share.pressure() == Pressure::Critical {
        return Err(Refused::NoMemory);
    }
    let collecting = collect(body, limits.max_request_body, &mut share);
    let body = tokio::time::timeout(limits.body_timeout, collecting)
        .await
        .map_err(|_| Refused::BodyTimeout)??;
    let (messages, batch) = parse(body)?;
    server.shared.metrics.add(Counter::Posts);
    let (forwarded, credential) = server.forwarding.of_post(&head.headers, socket.peer);
    let (answer, answered) = oneshot::channel();
    let version = text(&head.headers, era::VERSION_HEADER).map(Into::into);
    let post = Post {
        messages,
        batch,
        credential,
        version,
        forwarded,
        answer,
    };
    if !recipient.deliver(post).await {
        return Err(Refused::UnknownConnection);
    }
    // From here on the connection counts it.
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

/// The id is unknown. A few such POSTs are a client that did not see its stream end; many are no client.
fn missed(server: &Server, headers: &HeaderMap, socket: &Socket) -> Refused {
    let address = server.forwarding.client(headers, socket.peer);
    if server.misses.add(Peer::of(address)) {
        server.shared.metrics.add(Counter::MissesRefused);
        Refused::TooManyMisses
    } else {
        Refused::UnknownConnection
    }
}

fn accepts_events(headers: &HeaderMap) -> bool {
    let mut accepts = headers
        .get_all(header::ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .peekable();
    if accepts.peek().is_none() {
        return true;
    }
    accepts.flat_map(|value| value.split(',')).any(|range| {
        let media = range.split(';').next().unwrap_or_default().trim();
        ["text/event-stream", "text/*", "*/*"]
            .iter()
            .any(|wanted| media.eq_ignore_ascii_case(wanted))
    })
}

/// The address of the `endpoint` event, in the form that was asked for. Built from configuration and the id only.
fn endpoint(server: &Server, forwarded_prefix: Option<&str>, id: &ConnectionId) -> String {
    let paths = &server.paths;
    let id = id.reveal();
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

fn check_content_type(headers: &HeaderMap) -> Result<(), Refused> {
    let value = text(headers, "content-type").unwrap_or("(nothing)");
    let media = value.split(';').next().unwrap_or_default().trim();
    if !media.eq_ignore_ascii_case("application/json") {
        return Err(Refused::ContentType(format!(
            "{:?}",
            media.chars().take(80).collect::<String>()
        )));
    }
    match text(headers, "content-encoding") {
        Some(coding) if !coding.eq_ignore_ascii_case("identity") => {
            Err(Refused::ContentType("an encoded body".to_owned()))
        }
        _ => Ok(()),
    }
}

/// Reads a body whole, within a bound. A body of one piece is not copied.
async fn collect(mut body: Incoming, limit: usize, share: &mut Share) -> Result<Bytes, Refused> {
    if body.size_hint().lower() > u64::try_from(limit).unwrap_or(u64::MAX) {
        return Err(Refused::TooLarge(limit));
    }
    let mut first = Bytes::new();
    let mut rest = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|_| Refused::BodyBroken)?.into_data() else {
            continue;
        };
        if first.len() + rest.len() + data.len() > limit {
            return Err(Refused::TooLarge(limit));
        }
        if first.is_empty() && rest.is_empty() {
            first = data;
        } else {
            rest.extend_from_slice(&std::mem::take(&mut first));
            rest.extend_from_slice(&data);
        }
        share.set(first.len() + rest.len());
        if share.pressure() == Pressure::Critical {
            return Err(Refused::NoMemory);
        }
    }
    Ok(if rest.is_empty() {
        first
    } else {
        rest.freeze()
    })
}

fn parse(body: Bytes) -> Result<(Vec<Message>, bool), Refused> {
    if !jsonrpc::is_array(&body) {
        return Ok((vec![Message::parse(body).map_err(Refused::Parse)?], false));
    }
    let texts = jsonrpc::batch(&body).map_err(Refused::Parse)?;
    let messages: Result<Vec<Message>, _> = texts.into_iter().map(Message::parse).collect();
    Ok((messages.map_err(Refused::Parse)?, true))
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
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

    #[test]
    fn only_json_is_taken() {
        let check = |value: &'static str| {
            check_content_type(&HeaderMap::from_iter([(
                header::CONTENT_TYPE,
                HeaderValue::from_static(value),
            )]))
        };
        assert!(
            check("application/json").is_ok() && check("Application/JSON; charset=utf-8").is_ok()
        );
        for wrong in [
            "text/plain",
            "application/jsonx",
            "application/x-www-form-urlencoded",
            "",
        ] {
            assert!(check(wrong).is_err(), "{wrong}");
        }
        assert!(check_content_type(&HeaderMap::new()).is_err());
    }
}
