//! What the upstream tells unasked: one `subscriptions/listen` stream per connection (2026-07-28, "Subscriptions").
//!
//! It carries what the client may expect: the list changes that the server promises, and updates of the resources that the
//! client subscribed to. Its filter is fixed, so a changed set is a new stream, and the old one is closed a moment after the
//! new one is acknowledged: an update may be told twice, never not at all. A `resources/subscribe` is answered when a stream
//! that has it is acknowledged. A stream that drops is opened again, and the client is told that it may have missed
//! something (`missed`), as it is when an old one drops before it is closed. Nothing else waits for any of this.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::super::handshake::Phase;
use super::super::leave::ClientState;
use super::super::ledger::Place;
use super::super::restore::MAX_SUBSCRIPTIONS;
use super::super::trouble::{Executed, Reason, Trouble};
use super::super::vocabulary::{About, CallId, Counted, End, Refusal, Verb};
use super::super::{Bridge, Purpose};
use super::results::notification_for_client;
use crate::proto::era;
use crate::proto::jsonrpc::{Id, Message};
use crate::proto::object::{self, Object};

/// How long an upstream may take to acknowledge a stream.
const ACKNOWLEDGE: Duration = Duration::from_secs(10);
/// How long a stream that was replaced is still read: what it told before the new one was acknowledged comes on a connection
/// of its own, and may come later.
const REMAIN: Duration = Duration::from_secs(1);
/// Waiting times double from the first to the last while attempts bring nothing.
const FIRST_WAIT: Duration = Duration::from_millis(500);
const LAST_WAIT: Duration = Duration::from_secs(30);
/// A stream that lived this long was a success, whatever ended it.
const GOOD_LIFE: Duration = Duration::from_secs(5);

/// How the connection's stream stands.
#[derive(Debug, Default)]
pub(in super::super) struct Subscriptions {
    /// Whether the server says that resources can be subscribed to.
    offers_resources: bool,
    /// The acknowledged stream.
    current: Option<Stream>,
    /// The one that is to replace it.
    next: Option<Stream>,
    /// The one that it has replaced, while it may still have something to tell.
    former: Option<CallId>,
    /// When it is tried again.
    again: Option<Instant>,
    /// Whether the last attempt found no connection.
    unreached: bool,
    failures: u32,
    /// Something may have been missed since the last stream dropped.
    gap: bool,
    barred: Option<Barred>,
}

#[derive(Debug)]
struct Stream {
    call: CallId,
    /// The resources in its filter, as JSON text.
    uris: BTreeSet<Box<str>>,
    /// Those of them that the upstream did not acknowledge: it tells nothing of them on this stream.
    unheard: BTreeSet<Box<str>>,
    since: Instant,
}

/// Why no stream is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Barred {
    /// The upstream has no such thing.
    NotOffered,
    /// It refused this credential; the next one that it takes may listen.
    Unauthorized(u64),
}

impl Subscriptions {
    /// Read from the result of `server/discover`.
    pub(super) fn offers(&mut self, discovered: &Message) {
        let capabilities = discovered.result_member("capabilities");
        let capabilities = capabilities.and_then(|(_, json)| Object::parse(json));
        let resources = capabilities.as_ref().and_then(|it| it.get("resources"));
        let resources = resources.and_then(Object::parse).unwrap_or_default();
        self.offers_resources = resources.get("subscribe") == Some("true");
    }

    pub(in super::super) fn due(&self) -> Option<Instant> {
        self.again
    }

    fn is(&self, call: CallId) -> bool {
        let streams = [&self.current, &self.next].into_iter().flatten();
        let mut calls = streams.map(|stream| stream.call).chain(self.former);
        calls.any(|own| own == call)
    }

    /// A stream that was replaced has been read for long enough, if this is one: that it ends now is no loss.
    pub(in super::super) fn is_read(&mut self, call: CallId) {
        self.former.take_if(|former| *former == call);
    }
}

impl<C: Clone> Bridge<C> {
    /// `resources/subscribe`.
    pub(super) fn subscribe(&mut self, id: &Id) {
        let Some(request) = self.ledger.get_mut(id) else {
            return;
        };
        if !self.settings.listen || !self.modern.subscriptions.offers_resources {
            let text = "mcp-ferry: this server offers no subscriptions to resources";
            return self.refuse_here(id, era::METHOD_NOT_FOUND, text);
        }
        let uri = request.message.param("uri").map(|(_, uri)| uri);
        let Some(uri) = uri.filter(|uri| uri.starts_with('"')) else {
            return self.refuse_here(id, era::INVALID_PARAMS, "mcp-ferry: \"uri\" is missing");
        };
        let known = self.remembered.subscriptions.contains_key(uri);
        let current = self.modern.subscriptions.current.as_ref();
        if known && current.is_some_and(|stream| stream.uris.contains(uri)) {
            return self.answer_here(id, "{}");
        }
        if !known && self.remembered.subscriptions.len() >= MAX_SUBSCRIPTIONS {
            let text = format!(
                "mcp-ferry: this connection has {MAX_SUBSCRIPTIONS} subscriptions already; give up some of them first"
            );
            return self.refuse_here(id, era::INTERNAL_ERROR, &text);
        }
        request.place = Place::Subscribing;
        self.adjust_subscriptions();
    }

    /// The URI of a `resources/subscribe` that waits for its stream.
    fn awaited(&self) -> impl Iterator<Item = (&Id, &str)> {
        let waiting = self.ledger.iter();
        let waiting = waiting.filter(|(_, request)| request.place == Place::Subscribing);
        waiting.filter_map(|(id, request)| Some((id, request.message.param("uri")?.1)))
    }

    /// Opens, replaces or closes the stream, as what it is to carry has changed.
    pub(in super::super) fn adjust_subscriptions(&mut self) {
        let ready = self.is_modern()
            && self.settings.listen
            && self.phase == Phase::Open
            && self.client_state() == ClientState::Here;
        if !ready {
            return;
        }
        let mut uris: BTreeSet<Box<str>> = self.remembered.subscriptions.keys().cloned().collect();
        let awaited: Vec<Box<str>> = self.awaited().map(|(_, uri)| uri.into()).collect();
        let urgent = !awaited.is_empty();
        uris.extend(awaited);
        let lists = self.remembered.confirmed && self.remembered.promised.names().next().is_some();
        if uris.is_empty() && !lists {
            return self.close_subscriptions();
        }
        let streams = &mut self.modern.subscriptions;
        // One that carries what is awaited was not granted it.
        let fits = !urgent && streams.current.as_ref().is_some_and(|it| it.uris == uris);
        if streams.next.is_some() || fits || (streams.again.is_some() && !urgent) {
            return;
        }
        let Some((context, credential)) = self.latest.clone() else {
            return;
        };
        match streams.barred {
            Some(Barred::NotOffered) => return self.fail_awaited(),
            Some(Barred::Unauthorized(refused)) if refused == credential => {
                return self.fail_awaited();
            }
            _ => {}
        }
        streams.again = None;
        self.open_subscriptions(uris, context, credential);
    }

    /// Listens to an upstream that took the place of another one: whatever has changed by the time that it tells of changes,
    /// the client learns then. Where it is not listened to, that is now.
    pub(in super::super) fn listen_after_gap(&mut self) {
        self.modern.subscriptions.gap = true;
        self.adjust_subscriptions();
        if self.modern.subscriptions.next.is_none() {
            self.modern.subscriptions.gap = false;
            self.tell_of_changes();
        }
    }

    fn open_subscriptions(&mut self, uris: BTreeSet<Box<str>>, context: C, credential: u64) {
        let mut filter = Object::default();
        for list in self.remembered.promised.names() {
            filter.set(&format!("{list}ListChanged"), "true");
        }
        if !uris.is_empty() {
            let listed: Vec<&str> = uris.iter().map(AsRef::as_ref).collect();
            filter.set("resourceSubscriptions", object::array(&listed));
        }
        let id = listen_id(self.last_call + 1);
        let filter = filter.to_string();
        let params = [("notifications", filter.as_str())];
        let own = self.modern.client.own(&id, "subscriptions/listen", &params);
        let (text, mirrored) = own;
        let session = self.session.clone();
        let verb = Verb::Post(text);
        let purpose = Purpose::Subscriptions;
        let call = self.send_on(&session, purpose, verb, mirrored, context, credential);
        self.limit(call, ACKNOWLEDGE);
        self.modern.subscriptions.unreached = false;
        let since = self.now;
        self.modern.subscriptions.next = Some(Stream {
            call,
            uris,
            unheard: BTreeSet::new(),
            since,
        });
    }

    /// Closes what is open, and forgets it.
    pub(in super::super) fn close_subscriptions(&mut self) {
        let streams = &mut self.modern.subscriptions;
        streams.again = None;
        let open = [streams.current.take(), streams.next.take()];
        let open = open.into_iter().flatten().map(|stream| stream.call);
        for call in open.chain(streams.former.take()).collect::<Vec<_>>() {
            self.abort(call);
        }
    }

    pub(in super::super) fn on_subscriptions_due(&mut self) {
        let due = self.modern.subscriptions.due();
        if due.is_some_and(|at| at <= self.now) {
            self.modern.subscriptions.again = None;
            self.count(Counted::ListenReopened);
            self.adjust_subscriptions();
        }
    }

    /// The upstream took this credential: a stream that was refused for another one may be had now.
    pub(in super::super) fn subscribe_with(&mut self, credential: u64) {
        let barred = self.modern.subscriptions.barred;
        if matches!(barred, Some(Barred::Unauthorized(refused)) if refused != credential) {
            self.modern.subscriptions.barred = None;
            self.adjust_subscriptions();
        }
    }

    /// A notification on the stream.
    pub(in super::super) fn subscription_told(&mut self, call: CallId, message: &Message) {
        if !self.modern.subscriptions.is(call) {
            return;
        }
        match message.method() {
            "notifications/subscriptions/acknowledged" => self.acknowledged(call, message),
            "notifications/cancelled" => {
                self.abort(call);
                self.subscriptions_ended(call, None);
            }
            _ => self.deliver(notification_for_client(message), About::Nothing),
        }
    }

    fn acknowledged(&mut self, call: CallId, message: &Message) {
        let streams = &mut self.modern.subscriptions;
        let Some(mut next) = streams.next.take_if(|next| next.call == call) else {
            return;
        };
        let honoured = honoured(message);
        let is_honoured = |uri: &str| {
            let uri = serde_json::from_str::<String>(uri);
            uri.is_ok_and(|uri| honoured.contains(&uri))
        };
        next.unheard.clone_from(&next.uris);
        next.unheard.retain(|uri| !is_honoured(uri));
        let former = streams.current.replace(next);
        // What the client has subscribed to and is heard of again may have changed meanwhile, as in a gap.
        let known = &self.remembered.subscriptions;
        let again = |uri: &str| known.contains_key(uri) && is_honoured(uri);
        let again = former
            .as_ref()
            .is_some_and(|former| former.unheard.iter().any(|uri| again(uri)));
        let missed = std::mem::take(&mut streams.gap) || again;
        if let Some(open) = self.calls.get_mut(&call) {
            open.deadline = None;
        }
        if let Some(former) = former {
            self.limit(former.call, REMAIN);
            let oldest = self.modern.subscriptions.former.replace(former.call);
            oldest.into_iter().for_each(|call| self.abort(call));
        }
        if missed {
            self.tell_of_changes();
        }
        self.answer_awaited(&honoured);
        self.adjust_subscriptions();
    }

    /// The subscriptions that the acknowledged stream was to carry are made, or were not granted.
    fn answer_awaited(&mut self, honoured: &BTreeSet<String>) {
        let current = self.modern.subscriptions.current.as_ref();
        let Some(uris) = current.map(|stream| stream.uris.clone()) else {
            return;
        };
        let answered = self.awaited().filter(|(_, uri)| uris.contains(*uri));
        let answered: Vec<(Id, Option<String>)> = answered
            .map(|(id, uri)| (id.clone(), serde_json::from_str(uri).ok()))
            .collect();
        for (id, uri) in answered {
            if !uri.is_some_and(|uri| honoured.contains(&uri)) {
                let text = "mcp-ferry: the upstream accepted no subscription to this resource";
                self.refuse_here(&id, era::INVALID_PARAMS, text);
                continue;
            }
            let Some(message) = self.ledger.get(&id).map(|request| request.message.clone()) else {
                continue;
            };
            self.remember(&message);
            self.answer_here(&id, "{}");
        }
    }

    /// The upstream ended the stream by answering the request: well, or with an error.
    pub(in super::super) fn subscriptions_answered(&mut self, call: CallId, answer: &Message) {
        let ours = Id::String(listen_id(call.0).into());
        if answer.id() != Some(&ours) && !(answer.id().is_none() && answer.is_error()) {
            return self.count(Counted::LateAnswer);
        }
        let (code, _) = super::errors::code_and_versions(answer.text());
        let barred = (code == Some(era::METHOD_NOT_FOUND)).then_some(Barred::NotOffered);
        self.abort(call);
        self.subscriptions_ended(call, barred);
    }

    pub(in super::super) fn subscriptions_refused(
        &mut self,
        call: CallId,
        refusal: &Refusal,
        credential: u64,
    ) {
        let barred = match refusal.status {
            401 | 403 => Some(Barred::Unauthorized(credential)),
            408 | 409 | 425 | 429 | 500..=599 => None,
            _ => Some(Barred::NotOffered),
        };
        self.subscriptions_ended(call, barred);
    }

    /// The stream dropped, however.
    pub(in super::super) fn subscriptions_lost(&mut self, call: CallId, end: &End) {
        let barred = matches!(end, End::WrongType(_)).then_some(Barred::NotOffered);
        self.subscriptions_ended(call, barred);
        self.modern.subscriptions.unreached = matches!(end, End::Unreached(_));
    }

    /// The upstream is there: what waits only because it could not be reached waits no longer.
    pub(in super::super) fn subscribe_to_who_is_back(&mut self) {
        let streams = &mut self.modern.subscriptions;
        if std::mem::take(&mut streams.unreached) && streams.again.is_some() {
            streams.failures = 0;
            streams.again = Some(self.now);
            self.on_subscriptions_due();
        }
    }

    fn subscriptions_ended(&mut self, call: CallId, barred: Option<Barred>) {
        let now = self.now;
        let streams = &mut self.modern.subscriptions;
        if streams.former.take_if(|former| *former == call).is_some() {
            // It may have ended before the upstream began to tell of changes on the new one.
            return self.tell_of_changes();
        }
        let ended = |stream: &mut Stream| stream.call == call;
        let next = streams.next.take_if(ended);
        let current = streams.current.take_if(ended);
        let lived = current.as_ref().map(|it| now.duration_since(it.since));
        if next.is_none() && current.is_none() {
            return;
        }
        if lived.is_some_and(|lived| lived >= GOOD_LIFE) {
            streams.failures = 0;
        }
        // Until there is an acknowledged stream, nobody tells of changes.
        streams.gap |= streams.current.is_none();
        streams.barred = barred;
        let doubled = FIRST_WAIT.saturating_mul(1 << streams.failures.min(8));
        streams.failures = streams.failures.saturating_add(1);
        if barred.is_none() {
            let wait = self.jitter(doubled.min(LAST_WAIT));
            self.modern.subscriptions.again = Some(now + wait);
        }
        if next.is_some() {
            self.fail_awaited();
        }
    }

    /// What waits for a stream learns that there is none.
    fn fail_awaited(&mut self) {
        let why = match self.modern.subscriptions.barred {
            None => "did not open the stream that carries it. Try again",
            Some(Barred::NotOffered) => "does not offer it",
            Some(Barred::Unauthorized(_)) => "refused the credentials. Log in again",
        };
        let waiting: Vec<Id> = self.awaited().map(|(id, _)| id.clone()).collect();
        for id in waiting {
            let text = format!("the resource was not subscribed to: the upstream {why}");
            let trouble = Trouble::new(Reason::UpstreamRefused, Executed::No, text);
            self.fail(&id, &trouble);
        }
    }
}

/// What the request for the stream in this exchange is called.
fn listen_id(call: u64) -> String {
    format!("ferry:listen:{call}")
}

/// The resources that an acknowledgement names.
fn honoured(message: &Message) -> BTreeSet<String> {
    let listed = message.param("notifications");
    let listed = listed.and_then(|(_, json)| Object::parse(json));
    let listed = listed.and_then(|it| serde_json::from_str(it.get("resourceSubscriptions")?).ok());
    listed.unwrap_or_default()
}
