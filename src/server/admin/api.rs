//! What the page asks for: what is there, and that it be forgotten. Everything here is behind the token.
//!
//! Bounds: [`MAX_EXPORTS`] downloads of records at once, each written as its client reads, and [`MAX_LISTS`] of the lists,
//! which are as long as the tap keeps them.

use std::sync::Arc;

use bytes::Bytes;
use hyper::header::CONTENT_DISPOSITION;
use hyper::header::HeaderValue;
use hyper::{Method, Response, StatusCode};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::answer::{Body, Denied, of, whole};
use super::{Shared, live};
use crate::server::readiness::now;
use crate::tap::record::Record;
use crate::tap::{Filter, Tap};

const JSON: &str = "application/json";

/// Downloads of records at once. Each keeps the records that it has yet to write.
pub(super) const MAX_EXPORTS: usize = 4;
/// Downloads of the lists at once: one for each page that may be open.
pub(super) const MAX_LISTS: usize = 16;
/// Bytes of records that are made into text at a time.
const PIECE: usize = 64 * 1024;

/// Answers a request under `/api/`.
pub(super) fn answer(
    shared: &Arc<Shared>,
    method: &Method,
    path: &str,
    query: Option<&str>,
) -> Result<Response<Body>, Denied> {
    let tap = shared
        .tap
        .as_ref()
        .ok_or(Denied::Busy("nothing is recorded"))?;
    let (takes, allow) = match path {
        "/api/clear" => (Method::POST, "POST"),
        "/api/state" | "/api/rows" | "/api/records" | "/api/live" => (Method::GET, "GET"),
        _ => return Err(Denied::NoRoute),
    };
    if *method != takes {
        return Err(Denied::Method(allow));
    }
    let filter = filter(query.unwrap_or_default())?;
    match path {
        "/api/state" => Ok(json(&state(shared, tap))),
        "/api/rows" => rows(shared, tap),
        "/api/records" => records(shared, tap, &filter),
        "/api/live" => live::begin(shared, tap, filter.after),
        _ => {
            tap.clear();
            Ok(whole(StatusCode::NO_CONTENT, JSON, Bytes::new()))
        }
    }
}

fn json(value: &serde_json::Value) -> Response<Body> {
    whole(StatusCode::OK, JSON, value.to_string())
}

/// The place is held until the list was written, or its reader has gone.
fn rows(shared: &Shared, tap: &Tap) -> Result<Response<Body>, Denied> {
    let place = place(&shared.lists)?;
    // Rows are made of strings and numbers, so that writing them does not fail.
    let mut list = serde_json::to_vec(&tap.rows()).ok().map(Bytes::from);
    let piece = std::iter::from_fn(move || {
        let _held = &place;
        list.take()
    });
    Ok(of(JSON, Body::Pieces(Box::new(piece))))
}

fn place(places: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit, Denied> {
    let busy = "several downloads are under way; try again in a while";
    let place = Arc::clone(places).try_acquire_owned();
    place.map_err(|_| Denied::Busy(busy))
}

fn state(shared: &Shared, tap: &Tap) -> serde_json::Value {
    let state = tap.state();
    serde_json::json!({
        "version": env!("CARGO_PKG_VERSION"),
        "upstream": shared.server.shared.upstream.shown(),
        "bodies": tap.settings().bodies,
        "complete": tap.settings().complete,
        "started": tap.started(),
        "now": milliseconds(),
        "stored": {"records": state.records, "bytes": state.bytes, "max_bytes": state.max_bytes},
        "missed": state.missed,
        "watchers": state.watchers,
    })
}

/// The present, in milliseconds since 1970.
pub(super) fn milliseconds() -> f64 {
    (now() * 1e6).round() / 1e3
}

/// `exchange=12`, `connection=c3`, `after=17`; what else there is says nothing here.
fn filter(query: &str) -> Result<Filter, Denied> {
    let mut filter = Filter::default();
    for (name, value) in query.split('&').filter_map(|pair| pair.split_once('=')) {
        match name {
            "exchange" => filter.exchange = Some(number(value)?),
            "after" => filter.after = number(value)?,
            "connection" if value.bytes().all(|byte| byte.is_ascii_alphanumeric()) => {
                filter.connection = Some(value.to_owned());
            }
            "connection" => return Err(Denied::Query("connection must be a label such as c3")),
            _ => {}
        }
    }
    Ok(filter)
}

fn number(text: &str) -> Result<u64, Denied> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let number = text.parse().ok().filter(|_| digits);
    number.ok_or(Denied::Query("exchange and after must be whole numbers"))
}

fn records(shared: &Shared, tap: &Tap, filter: &Filter) -> Result<Response<Body>, Denied> {
    let lines = Lines {
        _place: place(&shared.exports)?,
        records: tap.records(filter).into_iter(),
    };
    let mut response = of("application/jsonl", Body::Pieces(Box::new(lines)));
    let name = HeaderValue::from_static("attachment; filename=\"traffic.jsonl\"");
    response.headers_mut().insert(CONTENT_DISPOSITION, name);
    Ok(response)
}

/// Records as lines, some at a time.
struct Lines {
    records: std::vec::IntoIter<Arc<Record>>,
    _place: OwnedSemaphorePermit,
}

impl Iterator for Lines {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        let mut piece = Vec::new();
        while piece.len() < PIECE
            && let Some(record) = self.records.next()
        {
            let written = piece.len();
            match serde_json::to_writer(&mut piece, &*record) {
                Ok(()) => piece.push(b'\n'),
                Err(_) => piece.truncate(written),
            }
        }
        (!piece.is_empty()).then(|| piece.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_read_strictly() {
        let good = filter("after=17&connection=c3&exchange=12&novel=1").expect("a filter");
        assert_eq!((good.after, good.exchange), (17, Some(12)));
        assert_eq!(good.connection.as_deref(), Some("c3"));
        assert_eq!(filter("").expect("all"), Filter::default());
        for bad in [
            "after=",
            "after=-1",
            "after=+1",
            "after=1e3",
            "after=99999999999999999999",
            "exchange=c3",
            "connection=../x",
            "connection=c3%0a",
        ] {
            assert!(filter(bad).is_err(), "{bad}");
        }
    }
}
