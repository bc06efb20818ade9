//! A connection's exchanges with the upstream: begun as the bridge asks, polled in turn, their cookies kept, and all of it
//! shown on the tap. Nothing here knows why an exchange is had.

use std::sync::Arc;
use std::task::{Context, Poll};

use hyper::header::HeaderValue;
use tracing::{debug, info};

use super::Shared;
use crate::config::hexadecimal;
use crate::metrics::Counter;
use crate::proto::bridge::{CallId, End, Exchange, Reply, Verb};
use crate::tap::{Crossing, FERRY_ENDED, Head, Label};
use crate::upstream::{Call, Forwarded, Jar, Outgoing};

/// The open ones, and what all of them carry.
pub(super) struct Exchanges {
    shared: Arc<Shared>,
    label: Label,
    query: Option<Arc<str>>,
    connection_id: Option<HeaderValue>,
    calls: Vec<(CallId, Call)>,
    replies: Vec<Reply>,
    cookies: Jar,
    /// Which exchange is polled first, so that a busy one does not starve the others.
    turn: usize,
}

impl Exchanges {
    /// `name` is the connection's towards the upstream, where that wants one.
    pub(super) fn new(
        shared: &Arc<Shared>,
        label: Label,
        query: Option<Arc<str>>,
        name: &[u8],
    ) -> Self {
        let wanted = shared.upstream.wants_connection_id();
        let connection_id = wanted
            .then(|| HeaderValue::try_from(hexadecimal(name)).ok())
            .flatten();
        Self {
            shared: Arc::clone(shared),
            label,
            query,
            connection_id,
            calls: Vec::new(),
            replies: Vec::new(),
            cookies: Jar::default(),
            turn: 0,
        }
    }

    /// Bytes of messages that have not come whole.
    pub(super) fn held(&self) -> usize {
        self.calls.iter().map(|(_, call)| call.held()).sum()
    }

    /// Drops one, if it is open.
    pub(super) fn abort(&mut self, id: CallId) {
        let open = self.calls.len();
        self.calls.retain(|(call, _)| *call != id);
        if self.calls.len() < open {
            self.shared.bus.on(self.label, |_| Crossing::Ended {
                call: id.0,
                why: Some(FERRY_ENDED.to_owned()),
            });
        }
    }

    /// Polls the exchanges. Ready with the place of one that has replies, which are for [`Self::take`].
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<usize> {
        let count = self.calls.len();
        for step in 0..count {
            let place = (self.turn + step) % count;
            if let Some((_, call)) = self.calls.get_mut(place)
                && call.poll_replies(cx, &mut self.replies).is_ready()
            {
                self.turn = place + 1;
                return Poll::Ready(place);
            }
        }
        Poll::Pending
    }

    /// Gives the replies of the exchange at this place.
    pub(super) fn take(&mut self, place: usize, mut give: impl FnMut(CallId, Reply)) {
        let Some((id, call)) = self.calls.get_mut(place) else {
            return;
        };
        let id = *id;
        if let Some(headers) = call.cookies.take() {
            let uri = call.uri().clone();
            self.cookies.store(&headers, &uri);
        }
        if let Some(answered) = call.take_answered() {
            self.shared.bus.on(self.label, |_| Crossing::Status {
                call: id.0,
                status: answered.status,
                headers: Arc::new(answered.headers),
            });
        }
        if matches!(self.replies.last(), Some(Reply::Refused(_) | Reply::End(_))) {
            self.calls.swap_remove(place);
            if self.calls.is_empty() {
                // An idle connection keeps no room for exchanges.
                self.calls = Vec::new();
            }
        }
        let mut replies = std::mem::take(&mut self.replies);
        for reply in replies.drain(..) {
            self.show_reply(id, &reply);
            give(id, reply);
        }
        self.replies = replies;
    }

    fn show_reply(&self, id: CallId, reply: &Reply) {
        let call = id.0;
        let show = |text: &[u8]| {
            self.shared.bus.on(self.label, |keep| {
                let text = keep.text(text);
                Crossing::FromUpstream { call, text }
            });
        };
        let ended = |why: Option<&str>| {
            self.shared.bus.on(self.label, |_| {
                let why = why.map(str::to_owned);
                Crossing::Ended { call, why }
            });
        };
        match reply {
            Reply::Refused(refusal) => {
                debug!(call, status = refusal.status, "the upstream refused");
                if !refusal.body.is_empty() {
                    show(&refusal.body);
                }
                ended(None);
            }
            Reply::Message { text, .. } => show(text),
            Reply::End(End::Complete) => ended(None),
            Reply::Head { .. } | Reply::Mark { .. } | Reply::Alive => {}
            Reply::End(End::WrongType(what)) => {
                debug!(call, what, "an upstream answer cannot be read");
                ended(Some(&format!(
                    "the server answered with {what}, not with JSON or an event stream"
                )));
            }
            Reply::End(End::Cut(why) | End::Unreached(why) | End::Lost(why)) => {
                debug!(call, why, "an upstream exchange failed");
                ended(Some(why));
            }
            Reply::Oversized => {
                info!(
                    call,
                    "the upstream sent a message larger than --max-message; it was dropped"
                );
            }
        }
    }

    /// Begins one that the bridge asks for.
    pub(super) fn begin(&mut self, id: CallId, exchange: Exchange<Arc<Forwarded>>) {
        self.shared.metrics.add(Counter::UpstreamCalls);
        let Exchange {
            verb,
            session,
            version,
            mirrored,
            context,
            repeated,
            cause,
        } = exchange;
        let watched = self.shared.bus.is_watched();
        if !watched {
            self.shared.bus.skipped();
        }
        let text = match &verb {
            Verb::Post(text) if watched => Some(text.clone()),
            _ => None,
        };
        let outgoing = Outgoing {
            verb,
            session,
            version,
            mirrored,
            forwarded: context,
            cookies: self.cookies.header(self.shared.upstream.configured()),
            query: self.query.clone(),
            connection_id: self.connection_id.clone(),
            repeated,
        };
        let mut call = self.shared.upstream.call(outgoing, watched);
        if let Some(sent) = call.take_sent() {
            self.shared.bus.on(self.label, |keep| Crossing::ToUpstream {
                call: id.0,
                cause,
                head: Head::of(&sent.method, &sent.uri, &sent.headers),
                text: text.map(|text| keep.text(&text)),
            });
        }
        if self.calls.is_empty() {
            // Most connections have one at a time, or a listen stream for hours.
            self.calls.reserve_exact(1);
        }
        self.calls.push((id, call));
    }
}
