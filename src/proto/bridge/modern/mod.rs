//! The modern era (2026-07-28 on): requests that say everything by themselves, spoken on behalf of a client that made a
//! handshake.
//!
//! The gate and the ledger are those of the handshake era; what differs is what stands behind them. `initialize` is answered
//! from `server/discover` (`discover`), which also finds out the era and notices when it changes. Requests get their
//! envelope and headers (`request`, `tools`), some are answered here, results are put into the shape that the client knows
//! (`results`, `content`), what the upstream wants to know of the client is asked as real requests (`rounds`), and its
//! notifications come on a stream of their own (`subscriptions`).
//!
//! There is no session and no resumption: closing an exchange cancels it, and a broken one is lost.

mod content;
pub(super) mod discover;
mod errors;
mod request;
mod results;
pub(super) mod rounds;
mod subscriptions;
mod tools;

use bytes::Bytes;

use super::ledger::Place;
use super::trouble::{self, Executed, Reason, Trouble};
use super::vocabulary::{About, CallId, Counted, Verb};
use super::{Bridge, Notice, Purpose, Queued};
use crate::proto::era::{self, Era};
use crate::proto::jsonrpc::{self, Id, Message};
use request::Envelope;
pub(super) use subscriptions::Subscriptions;
pub(super) use tools::Tools;

/// What is known of a modern upstream, and what is open towards it besides requests.
#[derive(Debug, Default)]
pub(super) struct Modern {
    pub(super) client: Envelope,
    pub(super) tools: Tools,
    pub(super) subscriptions: Subscriptions,
}

impl<C: Clone> Bridge<C> {
    pub(super) fn is_modern(&self) -> bool {
        self.era == Era::Modern
    }

    /// Sends a request of the ledger to a modern upstream, or answers it here.
    pub(super) fn send_modern(&mut self, id: &Id) {
        let Some(request) = self.ledger.get(id) else {
            return;
        };
        match request.message.method() {
            "ping" => self.answer_here(id, "{}"),
            "logging/setLevel" => {
                let message = request.message.clone();
                self.remember(&message);
                self.answer_here(id, "{}");
            }
            "resources/subscribe" => self.subscribe(id),
            "resources/unsubscribe" => {
                let message = request.message.clone();
                self.remember(&message);
                self.answer_here(id, "{}");
                self.adjust_subscriptions();
            }
            "tools/call" if self.needs_tools(id) => self.wait_for_tools(id),
            _ => self.post_request(id),
        }
    }

    /// Posts a request with its envelope and its headers.
    fn post_request(&mut self, id: &Id) {
        let number = self.last_call + 1;
        let level = self.log_level();
        let Some(request) = self.ledger.get_mut(id) else {
            return;
        };
        // A repetition is a request of its own (2026-07-28, "Multi Round-Trip Requests" and the changelog).
        let again =
            request.sent || request.rounds.is_some() || request.replayed || request.tools_refreshed;
        request.wire_id = again.then(|| Id::String(format!("ferry:call:{number}").into()));
        let parameters = self.modern.tools.of(&request.message);
        let composed = self
            .modern
            .client
            .request(request, level.as_deref(), parameters);
        let (text, mirrored) = match composed {
            Ok(composed) => composed,
            Err(trouble) => return self.fail(id, &trouble),
        };
        request.sent = true;
        let (context, credential) = (request.origin.context.clone(), request.origin.credential);
        let session = self.session.clone();
        let purpose = Purpose::Request(id.clone());
        let verb = Verb::Post(text);
        let call = self.send_on(&session, purpose, verb, mirrored, context, credential);
        let generation = self.session.generation;
        if let Some(request) = self.ledger.get_mut(id) {
            request.place = Place::Sent(call);
            request.generation = generation;
        }
    }

    /// The level that the client set, as JSON text.
    fn log_level(&self) -> Option<Box<str>> {
        let text = self.remembered.level.as_deref()?;
        let message = Message::parse(Bytes::copy_from_slice(text.as_bytes())).ok()?;
        message.param("level").map(|(_, level)| level.into())
    }

    /// Gives a request this result; the upstream has no part in it.
    fn answer_here(&mut self, id: &Id, result: &str) {
        let Some(request) = self.take(id) else {
            return;
        };
        self.release_post(request.origin.post);
        let id_text = request.message.id_text();
        let text = format!(r#"{{"jsonrpc":"2.0","id":{id_text},"result":{result}}}"#);
        self.deliver(text.into(), About::Outcome(id.clone()));
    }

    /// Gives a request an error that is not of the ferry's making, but for its words.
    fn refuse_here(&mut self, id: &Id, code: i64, text: &str) {
        let Some(request) = self.take(id) else {
            return;
        };
        self.release_post(request.origin.post);
        let text = jsonrpc::error_response(request.message.id_text(), code, text, None);
        self.deliver(text, About::Outcome(id.clone()));
    }

    /// A notification of the client. The revision has none; those of extensions go on, and those that older revisions had
    /// end here: nobody is there to hear them.
    pub(super) fn modern_notice(&mut self, notice: Notice<C>) {
        match notice.message.method() {
            "notifications/initialized" => {
                self.release_post(notice.origin.post);
                self.remembered.confirmed = true;
                self.adjust_subscriptions();
            }
            "notifications/roots/list_changed" | "notifications/progress" => {
                self.release_post(notice.origin.post);
            }
            _ => {
                let session = self.session.clone();
                self.send_notice(&session, notice);
            }
        }
    }

    /// What a notification of the client looks like upstream.
    pub(super) fn modern_notice_parts(
        &self,
        message: &Message,
    ) -> Option<(Bytes, Vec<super::Mirrored>)> {
        self.modern.client.notification(message)
    }

    /// An answer in the exchange of a request: its outcome, or a question.
    pub(super) fn modern_answer(&mut self, id: &Id, answer: &Message, via: CallId) {
        if answer.is_error() {
            if self.tools_changed(id, answer) || self.era_changed(id, answer, 200) {
                return self.let_linger(via);
            }
            self.let_linger(via);
            return self.deliver_error(id, answer);
        }
        let asks = answer.result_member("resultType");
        match asks.as_ref().map(|(_, kind)| *kind) {
            None | Some("\"complete\"") => {}
            Some("\"input_required\"") => {
                self.let_linger(via);
                return self.begin_round(id, answer);
            }
            Some(other) => {
                let text = format!(
                    "the upstream answered with a result of a kind that clients of older revisions cannot take{}; the request \
                     may have been executed",
                    trouble::excerpt(other.trim_matches('"').as_bytes())
                );
                self.let_linger(via);
                let trouble = Trouble::new(Reason::UpstreamInvalid, Executed::Unknown, text);
                return self.fail(id, &trouble);
            }
        }
        let Some(request) = self.take(id) else {
            return;
        };
        self.release_post(request.origin.post);
        if request.message.method() == "tools/list" {
            let own_page = self.modern.tools.learn(&request.message, answer);
            own_page
                .into_iter()
                .for_each(|why| self.note_invalid_tool(&why));
        }
        let version = self.client_version();
        let text = results::for_client(answer, &request.message, version);
        let text = self.downgraded(text, &request.message);
        let text = match Message::parse(text) {
            Ok(message) if message.id_text() != request.message.id_text() => {
                message.text_with_id(request.message.id_text())
            }
            Ok(message) => message.text().clone(),
            Err(_) => return,
        };
        self.deliver(text, About::Outcome(id.clone()));
        self.let_linger(via);
    }

    /// A result with content that the client can show, where the operator wants that.
    pub(super) fn downgraded(&self, result: Bytes, request: &Message) -> Bytes {
        if !self.settings.downgrade_content {
            return result;
        }
        content::downgraded(result, request.method(), self.client_version())
    }

    fn note_invalid_tool(&mut self, why: &str) {
        self.emit(super::Output::Warn(why.to_owned()));
    }

    /// The revision that the client speaks.
    pub(super) fn client_version(&self) -> &'static str {
        let asked = self.remembered.client_version.as_deref();
        era::handshake_version(asked.unwrap_or(era::LEGACY_VERSION))
    }

    /// A refusal that may be due to headers that do not fit, or to the upstream's era. Whether it was dealt with.
    pub(super) fn other_era_refused(
        &mut self,
        id: &Id,
        spoken: Era,
        answer: Option<&Message>,
        refusal: &super::Refusal,
    ) -> bool {
        let (code, supported) = errors::code_and_versions(&refusal.body);
        let shown = era::shown_by_error(refusal.status, code, &supported);
        if spoken == Era::Handshake {
            // Only an error of the modern range is no answer of a handshake server.
            let modern = matches!(code, Some(-32099..=-32020));
            return modern && self.other_era(id, spoken, shown);
        }
        if let Some(answer) = answer
            && self.tools_changed(id, answer)
        {
            return true;
        }
        self.other_era(id, spoken, shown)
    }

    /// An error that says that the upstream is of the other era by now: the request is sent again, once, the other way.
    pub(super) fn era_changed(&mut self, id: &Id, answer: &Message, status: u16) -> bool {
        let (code, supported) = errors::code_and_versions(answer.text());
        let shown = era::shown_by_error(status, code, &supported);
        self.other_era(id, Era::Modern, shown)
    }

    /// `spoken` is the era that the request was said in: another one may have noticed the change already.
    fn other_era(&mut self, id: &Id, spoken: Era, shown: Option<Era>) -> bool {
        let Some(shown) = shown.filter(|shown| *shown != spoken && !self.settings.era_fixed) else {
            return false;
        };
        let Some(request) = self.ledger.get(id).filter(|request| !request.replayed) else {
            return false;
        };
        let generation = request.generation;
        // Nothing belongs to a session that the upstream could still know.
        self.replay(id, generation);
        self.take_for(shown, generation);
        true
    }

    /// What waits for something of this upstream, the list of its tools or a stream, goes back behind the gate: after the
    /// handshake it may be another one.
    pub(super) fn queue_what_waits(&mut self) {
        self.modern.tools.stop_listing();
        let waits = |place| matches!(place, Place::AwaitingTools | Place::Subscribing);
        for (id, request) in self.ledger.iter_mut().filter(|(_, it)| waits(it.place)) {
            request.place = Place::Queued;
            request.tools_asked = false;
            self.queue.push_back(Queued::Request(id.clone()));
        }
    }

    /// The upstream is taken to be of this era from now on; the next message finds out.
    fn take_for(&mut self, era: Era, generation: u32) {
        if generation != self.session.generation {
            return;
        }
        self.count(Counted::EraChanged);
        self.era = era;
        self.lose_session(generation);
        self.phase = super::Phase::Fresh;
        self.session.version = None;
    }
}
