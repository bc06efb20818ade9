//! What both fronts do with a client's request before a connection gets it: its type, its size, its time, its place
//! among the others. Nothing here knows which front it is for.

use std::net::IpAddr;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::{Body as _, Incoming};
use hyper::header::{self, HeaderMap};

use super::Server;
use super::gauge::Held;
use super::peers::{Counted, Peer};
use super::respond::Refused;
use super::socket::Socket;
use crate::budget::{Pressure, Share};
use crate::metrics::Counter;
use crate::proto::jsonrpc::{self, Message};

/// A connection's place among those that may be open, until it is dropped.
#[derive(Debug)]
pub(super) struct Place(
    #[expect(dead_code, reason = "held")] Held,
    #[expect(dead_code, reason = "held")] Option<Counted>,
);

/// A place among the connections that may be open, over all clients and of the one at this address.
pub(super) fn place(server: &Server, address: IpAddr) -> Result<Place, Refused> {
    let limits = &server.shared.limits;
    let most = limits.max_connections_per_peer;
    let taken = || {
        if server.shared.budget.pressure() >= Pressure::High {
            return Err(Refused::NoMemory);
        }
        let held = server.streams.hold(limits.max_connections);
        let held = held.ok_or(Refused::Full)?;
        let counted = server.streams_by_peer.hold(Peer::of(address), most);
        let counted = counted.map_err(|()| Refused::FullForPeer(most))?;
        Ok(Place(held, counted))
    };
    taken().inspect_err(|_| server.shared.metrics.add(Counter::ConnectionsRefused))
}

/// The id is unknown, which is `refused`. A few such requests are a client that did not see its connection end; many are
/// no client.
pub(super) fn missed(
    server: &Server,
    headers: &HeaderMap,
    socket: &Socket,
    refused: Refused,
) -> Refused {
    let address = server.forwarding.client(headers, socket.peer);
    if server.misses.add(Peer::of(address)) {
        server.shared.metrics.add(Counter::MissesRefused);
        Refused::TooManyMisses
    } else {
        refused
    }
}

/// Whether the `Accept` header, if there is one, takes this media type.
pub(super) fn accepts(headers: &HeaderMap, wanted: &str) -> bool {
    let mut accepts = headers
        .get_all(header::ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .peekable();
    if accepts.peek().is_none() {
        return true;
    }
    let (kind, _) = wanted.split_once('/').unwrap_or((wanted, ""));
    accepts.flat_map(|value| value.split(',')).any(|range| {
        let media = range.split(';').next().unwrap_or_default().trim();
        let (family, subtype) = media.split_once('/').unwrap_or((media, ""));
        let whole_kind = subtype == "*" && (family == "*" || family.eq_ignore_ascii_case(kind));
        whole_kind || media.eq_ignore_ascii_case(wanted)
    })
}

pub(super) fn check_content_type(headers: &HeaderMap) -> Result<(), Refused> {
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

/// Reads a body whole: within `--max-request-body`, `--body-timeout` and the memory that there is. It is counted until the
/// share is dropped.
pub(super) async fn collect(server: &Server, body: Incoming) -> Result<(Bytes, Share), Refused> {
    let limits = &server.shared.limits;
    let mut share = Share::new(&server.shared.budget);
    if share.pressure() == Pressure::Critical {
        return Err(Refused::NoMemory);
    }
    let whole = whole(body, limits.max_request_body, &mut share);
    let body = tokio::time::timeout(limits.body_timeout, whole)
        .await
        .map_err(|_| Refused::BodyTimeout)??;
    Ok((body, share))
}

/// Reads a body within `--body-timeout` until it has ended, or there is more of it than `most`. Says which.
pub(super) async fn beginning(
    server: &Server,
    body: &mut Incoming,
    most: usize,
) -> Result<(Bytes, bool), Refused> {
    let mut share = Share::new(&server.shared.budget);
    let reading = async {
        let mut read = BytesMut::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|_| Refused::BodyBroken)?;
            read.extend_from_slice(frame.data_ref().map_or(&[], |data| data));
            if read.len() > most {
                return Ok((read.freeze(), false));
            }
            share.set(read.len());
            if share.pressure() == Pressure::Critical {
                return Err(Refused::NoMemory);
            }
        }
        Ok((read.freeze(), true))
    };
    let limit = server.shared.limits.body_timeout;
    let read = tokio::time::timeout(limit, reading).await;
    read.map_err(|_| Refused::BodyTimeout)?
}

/// A body of one piece is not copied.
async fn whole(mut body: Incoming, limit: usize, share: &mut Share) -> Result<Bytes, Refused> {
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

/// The messages of a body, and whether it was an array of them.
pub(super) fn parse(body: Bytes) -> Result<(Vec<Message>, bool), Refused> {
    if !jsonrpc::is_array(&body) {
        return Ok((vec![Message::parse(body).map_err(Refused::Parse)?], false));
    }
    let texts = jsonrpc::batch(&body).map_err(Refused::Parse)?;
    let messages: Result<Vec<Message>, _> = texts.into_iter().map(Message::parse).collect();
    Ok((messages.map_err(Refused::Parse)?, true))
}

/// A header's value, where it is text.
pub(super) fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

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

    #[test]
    fn media_types_are_accepted_by_name_by_kind_and_where_nothing_is_said() {
        let stream = |value: &'static str| {
            let value = HeaderValue::from_static(value);
            let headers = HeaderMap::from_iter([(header::ACCEPT, value)]);
            accepts(&headers, "text/event-stream")
        };
        for good in [
            "text/event-stream",
            "Text/Event-Stream;q=1",
            "text/*",
            "*/*",
            "a/b, */*",
        ] {
            assert!(stream(good), "{good}");
        }
        for bad in ["application/json", "text/html", "", "text", "application/*"] {
            assert!(!stream(bad), "{bad}");
        }
        assert!(accepts(&HeaderMap::new(), "text/event-stream"));
    }
}
