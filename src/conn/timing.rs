//! What a connection's requests take and how they end, for the metrics: the client's leg, the server's, and the rest,
//! which is the ferry's own.
//!
//! Bounds: an entry for each request in flight, of which there are at most `--max-in-flight`. A request costs a few atomic
//! operations and a place in a vector. Nothing here decides anything.

use std::sync::Arc;

use bytes::Bytes;
use tokio::time::Instant;

use super::outcome::outcome_of;
use crate::metrics::Metrics;
use crate::metrics::labels::{Direction, Leg, Method, Outcome, Single};
use crate::proto::bridge::{Cause, PostId};
use crate::proto::jsonrpc::{Id, Kind, Message};

/// A request of the client without an outcome.
#[derive(Debug)]
struct Flight {
    id: Id,
    post: PostId,
    method: Method,
    taken: Instant,
    /// When the first exchange for it began.
    begun: Option<Instant>,
}

/// The requests of one connection.
#[derive(Debug)]
pub(super) struct Timing {
    metrics: Arc<Metrics>,
    flights: Vec<Flight>,
    /// When the reply came that is being taken in.
    arrived: Option<Instant>,
    /// The next outcome is the ferry's own error.
    own_error: bool,
    client_gone: bool,
}

impl Timing {
    pub(super) fn new(metrics: &Arc<Metrics>) -> Self {
        Self {
            metrics: Arc::clone(metrics),
            flights: Vec::new(),
            arrived: None,
            own_error: false,
            client_gone: false,
        }
    }

    /// The client has posted a message.
    pub(super) fn posted(&mut self, post: PostId, message: &Message) {
        self.arrived = None;
        self.count(Leg::Client, Direction::In, message.text());
        let (Kind::Request, Some(id)) = (message.kind(), message.id()) else {
            return;
        };
        self.metrics.in_flight.add(Single, 1);
        self.flights.push(Flight {
            id: id.clone(),
            post,
            method: Method::of(message.method()),
            taken: Instant::now(),
            begun: None,
        });
    }

    /// A POST was not accepted: nothing in it is in flight.
    pub(super) fn turned_away(&mut self, post: PostId) {
        self.drop_those(|flight| flight.post == post, None);
    }

    /// An exchange with the server begins.
    pub(super) fn begun(&mut self, cause: &Cause, text: Option<&Bytes>) {
        if let Some(text) = text {
            self.count(Leg::Upstream, Direction::Out, text);
        }
        let Cause::Request(id) = cause else { return };
        if let Some(flight) = self.flights.iter_mut().find(|flight| flight.id == *id) {
            flight.begun.get_or_insert_with(Instant::now);
        }
    }

    /// Replies of the server are going to be taken in.
    pub(super) fn arrived(&mut self) {
        self.arrived = Some(Instant::now());
    }

    /// One of them is a message.
    pub(super) fn received(&self, text: &Bytes) {
        self.count(Leg::Upstream, Direction::In, text);
    }

    /// The outcome that follows is an error of the ferry's own.
    pub(super) fn errs(&mut self) {
        self.own_error = true;
    }

    /// A message goes to the client.
    pub(super) fn given(&self, text: &Bytes) {
        self.count(Leg::Client, Direction::Out, text);
    }

    /// A request has its outcome.
    pub(super) fn outcome(&mut self, id: &Id, text: &Bytes) {
        let own_error = std::mem::take(&mut self.own_error);
        let Some(place) = self.flights.iter().position(|flight| flight.id == *id) else {
            return;
        };
        let flight = self.flights.swap_remove(place);
        self.metrics.in_flight.subtract(Single, 1);
        let outcome = match own_error {
            true => Outcome::FerryError,
            false => outcome_of(flight.method, text),
        };
        let method = flight.method;
        self.metrics.requests.add((method, outcome), 1);
        let whole = flight.taken.elapsed();
        self.metrics.client_time.observe(method, whole);
        // What needed no exchange, or ended without the server's word, has no server's part.
        let upstream = flight.begun.zip(self.arrived).filter(|_| !own_error);
        let upstream = upstream.map(|(begun, arrived)| arrived.saturating_duration_since(begun));
        if let Some(upstream) = upstream {
            self.metrics.upstream_time.observe(method, upstream);
        }
        if !own_error {
            let own = whole.saturating_sub(upstream.unwrap_or_default());
            self.metrics.own_time.observe(method, own);
        }
    }

    /// The client has gone: what is in flight now has nobody to tell.
    pub(super) fn client_gone(&mut self) {
        self.client_gone = true;
    }

    /// Forgets requests that ended without an outcome. `open` is how many there are, `awaits` says which.
    pub(super) fn settle(&mut self, open: usize, awaits: impl Fn(&Id) -> bool) {
        if self.flights.len() == open {
            return;
        }
        let outcome = match self.client_gone {
            true => Outcome::Lost,
            false => Outcome::Cancelled,
        };
        self.drop_those(|flight| !awaits(&flight.id), Some(outcome));
    }

    fn drop_those(&mut self, which: impl Fn(&Flight) -> bool, outcome: Option<Outcome>) {
        let metrics = &self.metrics;
        self.flights.retain(|flight| {
            let goes = which(flight);
            if goes {
                metrics.in_flight.subtract(Single, 1);
                if let Some(outcome) = outcome {
                    metrics.requests.add((flight.method, outcome), 1);
                }
            }
            !goes
        });
        if self.flights.is_empty() {
            // An idle connection keeps no room for requests.
            self.flights = Vec::new();
        }
    }

    fn count(&self, leg: Leg, direction: Direction, text: &Bytes) {
        let bytes = u64::try_from(text.len()).unwrap_or(u64::MAX);
        self.metrics.bytes.add((leg, direction), bytes);
    }
}

impl Drop for Timing {
    fn drop(&mut self) {
        self.drop_those(|_| true, Some(Outcome::Lost));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn message(text: &'static str) -> Message {
        Message::parse(Bytes::from_static(text.as_bytes())).expect("a message")
    }

    #[tokio::test(start_paused = true)]
    async fn the_legs_add_up() {
        let metrics = Arc::new(Metrics::default());
        let mut timing = Timing::new(&metrics);
        let request = message(r#"{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{}}"#);
        let id = request.id().cloned().expect("an id");
        timing.posted(PostId(1), &request);
        tokio::time::advance(Duration::from_millis(2)).await;
        timing.begun(&Cause::Request(id.clone()), None);
        tokio::time::advance(Duration::from_millis(30)).await;
        timing.arrived();
        let answer = Bytes::from_static(br#"{"jsonrpc":"2.0","id":7,"result":{}}"#);
        timing.outcome(&id, &answer);
        timing.outcome(&id, &answer);
        let text = crate::metrics::text(&metrics, &crate::metrics::Levels::default());
        let sum = |name: &str| {
            let line = format!("mcp_ferry_{name}_duration_seconds_sum{{method=\"tools_call\"}} ");
            let value = text.lines().find_map(|it| it.strip_prefix(line.as_str()));
            value.and_then(|value| value.parse::<f64>().ok())
        };
        assert_eq!(sum("request"), Some(0.032));
        assert_eq!(sum("upstream_request"), Some(0.03));
        assert_eq!(sum("own_request"), Some(0.002));
        assert_eq!(
            metrics.requests.get((Method::ToolsCall, Outcome::Result)),
            1
        );
        assert_eq!(metrics.in_flight.get(Single), 0);
    }

    #[test]
    fn a_hundred_thousand_names_make_no_series() {
        let metrics = Arc::new(Metrics::default());
        let mut timing = Timing::new(&metrics);
        let series = || {
            let text = crate::metrics::text(&metrics, &crate::metrics::Levels::default());
            text.lines().filter(|line| !line.starts_with('#')).count()
        };
        let mut after_two = 0;
        for number in 0..100_000 {
            let method = match number % 2 {
                0 => "tools/call".to_owned(),
                _ => format!("x/{number}"),
            };
            let text = format!(
                r#"{{"jsonrpc":"2.0","id":"i{number}","method":"{method}","params":{{"name":"tool-{number}"}}}}"#
            );
            let request = Message::parse(text.into()).expect("a message");
            let id = request.id().cloned().expect("an id");
            timing.posted(PostId(number), &request);
            timing.outcome(
                &id,
                &Bytes::from_static(br#"{"jsonrpc":"2.0","id":1,"result":{}}"#),
            );
            if number == 1 {
                after_two = series();
            }
        }
        assert_eq!(series(), after_two);
        assert_eq!(
            metrics.requests.get((Method::Other, Outcome::Result)),
            50_000
        );
        assert!(timing.flights.is_empty());
    }

    #[test]
    fn what_has_no_outcome_is_cancelled_lost_or_was_never_taken() {
        let metrics = Arc::new(Metrics::default());
        let mut timing = Timing::new(&metrics);
        let ping = message(r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#);
        let list = message(r#"{"jsonrpc":"2.0","id":2,"method":"tools/list"}"#);
        for (post, request) in [(1, &ping), (2, &list), (3, &ping)] {
            timing.posted(PostId(post), request);
        }
        assert_eq!(metrics.in_flight.get(Single), 3);
        timing.turned_away(PostId(3));
        timing.settle(2, |_| unreachable!("nothing has ended"));
        timing.settle(1, |id| Some(id) == list.id());
        assert_eq!(metrics.requests.get((Method::Ping, Outcome::Cancelled)), 1);
        drop(timing);
        assert_eq!(metrics.requests.get((Method::ToolsList, Outcome::Lost)), 1);
        assert_eq!(metrics.in_flight.get(Single), 0);
    }
}
