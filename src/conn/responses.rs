//! The open answers of a session's client: one for each POST with requests, and the stream that it listens on.
//!
//! A POST's answer is held until there is something for it. If that is the outcome of its one request it is a JSON
//! text; otherwise it is an event stream, which carries what comes while the request runs and ends with the outcome. An
//! answer that was silent for `--keep-alive` becomes a stream too, so that nobody on the way takes it for dead. What is
//! about no request, or about one whose answer the client has given up, is for the listen stream. Bounds: what waits in
//! all of them is counted, and pauses the upstream ([`Responses::waiting`]).

use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::{SHORT_STALL, SHORT_STALL_BYTES};
use crate::outlet::{Form, Outlet};
use crate::proto::bridge::PostId;
use crate::proto::jsonrpc::Id;
use crate::proto::sse;

/// The largest outcome that is answered as one JSON text where the client also takes a stream: a larger one is on its
/// way for a while, and a stream shows that it is.
const LARGEST_JSON: usize = 64 * 1024;

/// One POST's answer.
#[derive(Debug)]
struct Response {
    post: PostId,
    outlet: Outlet,
    /// Its requests that have had no outcome.
    awaited: Vec<Id>,
    batch: bool,
}

/// What the client has open.
#[derive(Debug, Default)]
pub(super) struct Responses {
    posts: Vec<Response>,
    listener: Option<Outlet>,
}

impl Responses {
    /// A POST with these requests waits for their outcomes.
    pub(super) fn open(&mut self, post: PostId, outlet: Outlet, awaited: Vec<Id>, batch: bool) {
        self.posts.push(Response {
            post,
            outlet,
            awaited,
            batch,
        });
    }

    /// A POST was refused as a whole; its answer is not written here.
    pub(super) fn forget(&mut self, post: PostId) {
        self.posts.retain(|response| response.post != post);
    }

    /// Whether this POST's answer is open.
    pub(super) fn has(&self, post: PostId) -> bool {
        self.posts.iter().any(|response| response.post == post)
    }

    /// Whether nothing is open.
    pub(super) fn is_empty(&self) -> bool {
        self.posts.is_empty() && self.listener.is_none()
    }

    /// Bytes that wait for the client.
    pub(super) fn waiting(&self) -> usize {
        self.outlets().map(Outlet::waiting).sum()
    }

    fn outlets(&self) -> impl Iterator<Item = &Outlet> {
        let posts = self.posts.iter().map(|response| &response.outlet);
        posts.chain(&self.listener)
    }

    /// Drops what the client has given up or read to its end; ready when that is anything. `paused` says that the
    /// upstream is not read until the client has read more.
    pub(super) fn poll_closed(&mut self, cx: &Context<'_>, paused: bool) -> Poll<()> {
        let before = self.outlets().count();
        let closed = |outlet: &Outlet| outlet.poll_closed(cx, paused).is_ready();
        self.posts.retain(|response| !closed(&response.outlet));
        self.listener.take_if(|outlet| closed(outlet));
        if self.outlets().count() < before {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }

    /// Begins the listen stream. `false` when there is one already.
    pub(super) fn listen(&mut self, outlet: Outlet) -> bool {
        if self.listener.is_some() {
            return false;
        }
        outlet.begin(Form::Events);
        self.listener = Some(outlet);
        true
    }

    /// Gives a message to the stream of the request that it came during. `false` when there is none.
    pub(super) fn during(&self, id: &Id, text: &Bytes) -> bool {
        let awaiting = |response: &&Response| response.awaited.contains(id);
        let response = self.posts.iter().find(awaiting);
        let Some(response) = response.filter(|it| it.outlet.takes(Form::Events)) else {
            return false;
        };
        response.outlet.begin(Form::Events);
        response.outlet.push(sse::message(text));
        true
    }

    /// Gives a request its outcome. `false` when the client has given its answer up.
    pub(super) fn outcome(&mut self, id: &Id, text: &Bytes) -> bool {
        let awaiting = |response: &&mut Response| response.awaited.contains(id);
        let Some(response) = self.posts.iter_mut().find(awaiting) else {
            return false;
        };
        response.awaited.retain(|awaited| awaited != id);
        let outlet = &response.outlet;
        let stream = outlet.takes(Form::Events);
        let large = text.len() > LARGEST_JSON && stream;
        let begun = outlet.form().is_some();
        if outlet.takes(Form::Json) && !begun && !large && !response.batch {
            outlet.whole(text.clone());
            return true;
        }
        outlet.begin(Form::Events);
        outlet.push(sse::message(text));
        if response.awaited.is_empty() {
            outlet.end();
        }
        true
    }

    /// Gives a message to the listen stream. `false` when there is none.
    pub(super) fn unasked(&self, text: &Bytes) -> bool {
        if let Some(listener) = &self.listener {
            listener.push(sse::message(text));
        }
        self.listener.is_some()
    }

    /// Ends the answers to requests that will have no outcome: the client has cancelled them.
    pub(super) fn end_unless(&mut self, awaited: impl Fn(&Id) -> bool) {
        for response in &mut self.posts {
            if response.awaited.is_empty() {
                continue;
            }
            response.awaited.retain(&awaited);
            if response.awaited.is_empty() {
                response.outlet.begin(Form::Events);
                response.outlet.end();
            }
        }
    }

    /// Ends everything after what waits.
    pub(super) fn end(&self) {
        for outlet in self.outlets().filter(|outlet| !outlet.is_ended()) {
            outlet.begin(Form::Events);
            outlet.end();
        }
    }

    /// When [`Self::on_time`] wants to be called.
    pub(super) fn next_time(&self, keep_alive: Duration, stall: Duration) -> Option<Instant> {
        let next = |outlet: &Outlet| match outlet.stalled_since() {
            // What is read while nothing else happens wakes nobody: a look now and then, so that the next keep-alive is
            // not late.
            Some(since) => {
                let often = outlet.waiting() > SHORT_STALL_BYTES;
                let pause = if often { SHORT_STALL } else { keep_alive };
                Some((Instant::now() + pause).min(since + stall))
            }
            None if outlet.is_ended() || !outlet.takes(Form::Events) => None,
            None => Some(outlet.last_moved() + keep_alive),
        };
        self.outlets().filter_map(next).min()
    }

    /// Keeps quiet streams alive, and gives up those that the client has not read for longer than `patience`. Says how
    /// many that were.
    pub(super) fn on_time(&self, keep_alive: Duration, patience: Duration) -> usize {
        let now = Instant::now();
        let stalled = |outlet: &Outlet| {
            let since = outlet.stalled_since();
            since.is_some_and(|since| since + patience <= now)
        };
        let cuts = self.outlets().filter(|outlet| stalled(outlet));
        let cut = cuts.inspect(|outlet| outlet.cut()).count();
        for outlet in self.outlets() {
            let quiet = outlet.waiting() == 0 && outlet.last_moved() + keep_alive <= now;
            if quiet && !outlet.is_ended() && outlet.takes(Form::Events) {
                outlet.begin(Form::Events);
                outlet.push(sse::KEEP_ALIVE);
            }
        }
        cut
    }
}
