//! Finding out the upstream's era, and the handshake with a client whose upstream has none: `initialize` answered from
//! `server/discover` (2026-07-28, "Discovery" and "Versioning and Compatibility").
//!
//! Where nothing is known, `initialize` goes upstream as it is; it costs nothing with upstreams of the handshake era, and is
//! refused by modern ones in ways that are recognised. What may have come from a modern one is looked into with
//! `server/discover`. Where the era is known, that is asked first, and an answer that does not fit leads back to
//! `initialize`: an upstream that was replaced by a newer or older one is noticed.

use std::time::Instant;

use bytes::Bytes;

use super::super::ends::trouble_of_handshake;
use super::super::handshake::{Phase, Session};
use super::super::ledger::{Attempts, Origin, Place};
use super::super::missed::Promised;
use super::super::trouble::{self, Executed, Reason, Trouble};
use super::super::vocabulary::{About, CallId, Counted, End, Output, Refusal, Verb};
use super::super::{Bridge, Purpose};
use super::errors::code_and_versions;
use super::request::Envelope;
use super::{Modern, results};
use crate::proto::era::{self, Era};
use crate::proto::jsonrpc::{Id, Message, quote};
use crate::proto::object::Object;

/// On whose behalf `server/discover` is asked.
#[derive(Debug)]
pub(in super::super) enum Asker<C> {
    /// For the client's `initialize`.
    Client(Id),
    /// For a client that made no handshake with this upstream; what waits came from there.
    Ferry(Origin<C>),
}

/// How `initialize` was refused, when that led to the question.
#[derive(Debug)]
pub(in super::super) enum Before {
    Answer(Box<Message>),
    Refusal(Box<Refusal>),
}

/// One question, however often it is put.
#[derive(Debug)]
pub(in super::super) struct Discovery<C> {
    asker: Asker<C>,
    before: Option<Before>,
    pub(in super::super) attempts: Attempts,
    /// Whether its one repetition after a lost answer is used up.
    resent: bool,
    /// How long the present attempt may take.
    until: Option<Instant>,
    id: Id,
}

impl<C> Discovery<C> {
    pub(in super::super) fn is_for(&self, id: &Id) -> bool {
        self.client_request() == Some(id)
    }

    /// The `initialize` that it is asked for.
    pub(in super::super) fn client_request(&self) -> Option<&Id> {
        match &self.asker {
            Asker::Client(id) => Some(id),
            Asker::Ferry(_) => None,
        }
    }

    pub(in super::super) fn asker(&mut self) -> &mut Asker<C> {
        &mut self.asker
    }

    fn new(asker: Asker<C>, before: Option<Before>) -> Box<Self> {
        Box::new(Self {
            asker,
            before,
            attempts: Attempts::default(),
            resent: false,
            until: None,
            id: Id::String(Box::default()),
        })
    }
}

impl<C: Clone> Bridge<C> {
    /// Asks a modern upstream what it is, in place of the client's `initialize`.
    pub(in super::super) fn discover_for_client(&mut self, id: &Id) {
        self.discover(Discovery::new(Asker::Client(id.clone()), None));
    }

    /// The same in place of a handshake of the ferry's own.
    pub(in super::super) fn discover_ourselves(&mut self, origin: Origin<C>) {
        if self.remembered.initialize.is_none() {
            // For its effect: it is remembered as the client's.
            self.default_initialize("0");
        }
        self.begin_handshake();
        self.phase = Phase::Initializing;
        self.discover(Discovery::new(Asker::Ferry(origin), None));
    }

    pub(in super::super) fn discover(&mut self, mut discovery: Box<Discovery<C>>) {
        let origin = match &discovery.asker {
            Asker::Client(id) => self.ledger.get(id).map(|request| &request.origin),
            Asker::Ferry(origin) => Some(origin),
        };
        let Some((context, credential)) =
            origin.map(|origin| (origin.context.clone(), origin.credential))
        else {
            return;
        };
        self.modern.client = self.client_envelope();
        let id = format!("ferry:discover:{}", self.last_call + 1);
        let (text, mirrored) = self.modern.client.own(&id, "server/discover", &[]);
        discovery.id = Id::String(id.into());
        discovery.until = Some(self.now + self.settings.handshake_timeout);
        let client = match &discovery.asker {
            Asker::Client(id) => Some(id.clone()),
            Asker::Ferry(_) => None,
        };
        let session = Session {
            id: None,
            version: Some(era::MODERN_VERSION.into()),
            generation: self.session.generation,
        };
        let purpose = Purpose::Discover(discovery);
        let verb = Verb::Post(text);
        let call = self.send_on(&session, purpose, verb, mirrored, context, credential);
        self.limit(call, self.settings.handshake_timeout);
        if let Some(request) = client.and_then(|id| self.ledger.get_mut(&id)) {
            request.place = Place::Sent(call);
        }
    }

    fn client_envelope(&self) -> Envelope {
        let text = self.remembered.initialize.as_deref().unwrap_or_default();
        let message = Message::parse(Bytes::copy_from_slice(text.as_bytes()));
        message.map_or_else(|_| Envelope::default(), |message| Envelope::of(&message))
    }

    /// Whether the answer to `initialize` is to be looked into: a refusal, or a result in a modern revision, which a modern
    /// server has that does not look at methods closely.
    fn is_to_be_probed(&self, status: u16, before: &Before) -> bool {
        if self.is_modern() || self.settings.era_fixed || self.leaving.is_some() {
            return false;
        }
        if let Before::Answer(answer) = before
            && !answer.is_error()
        {
            return is_modern_result(answer);
        }
        let (code, supported) = code_and_versions(before.body());
        era::may_be_modern(status, code, &supported)
    }

    /// The client's `initialize` was refused: says whether that is being looked into.
    pub(in super::super) fn probe_for_client(
        &mut self,
        id: &Id,
        status: u16,
        before: Before,
    ) -> bool {
        if !self.is_to_be_probed(status, &before) {
            return false;
        }
        let asker = Asker::Client(id.clone());
        self.discover(Discovery::new(asker, Some(before)));
        true
    }

    /// The ferry's own `initialize` was refused: gives `origin` back where that is not being looked into.
    pub(in super::super) fn probe_ourselves(
        &mut self,
        origin: Origin<C>,
        status: u16,
        before: Before,
    ) -> Result<(), Origin<C>> {
        if !self.is_to_be_probed(status, &before) {
            return Err(origin);
        }
        self.discover(Discovery::new(Asker::Ferry(origin), Some(before)));
        Ok(())
    }

    pub(in super::super) fn discover_answered(&mut self, call: CallId, answer: &Message) {
        let Some(open) = self.calls.get_mut(&call) else {
            return;
        };
        let ours = match &open.purpose {
            Purpose::Discover(discovery) => answer.id() == Some(&discovery.id),
            _ => false,
        };
        let anonymous = answer.id().is_none() && answer.is_error();
        if !ours && !anonymous {
            return self.count(Counted::LateAnswer);
        }
        let discovery = match std::mem::replace(&mut open.purpose, Purpose::Abandoned) {
            Purpose::Discover(discovery) => discovery,
            other => {
                open.purpose = other;
                return;
            }
        };
        self.let_linger(call);
        if answer.is_error() {
            let (code, supported) = code_and_versions(answer.text());
            return self.not_discovered(*discovery, code, &supported, answer.text());
        }
        let supported = answer
            .result_member("supportedVersions")
            .and_then(|(_, json)| serde_json::from_str::<Vec<String>>(json).ok())
            .unwrap_or_default();
        // One that names none has answered all the same, to a request of this revision.
        if supported.is_empty() || supported.iter().any(|it| era::is_modern_version(it)) {
            return self.discovered(discovery.asker, answer);
        }
        let code = Some(era::UNSUPPORTED_VERSION);
        self.not_discovered(*discovery, code, &supported, answer.text());
    }

    pub(in super::super) fn discover_refused(
        &mut self,
        mut discovery: Box<Discovery<C>>,
        refusal: &Refusal,
        credential: u64,
    ) {
        if matches!(refusal.status, 401 | 403) {
            return self.discovery_unauthorized(&discovery.asker, refusal, credential);
        }
        if !discovery.resent
            && let Some(at) = self.try_later(refusal)
        {
            discovery.resent = true;
            return self
                .again
                .push((at, super::super::Again::Discover(discovery)));
        }
        let (code, supported) = code_and_versions(&refusal.body);
        if code.is_none() && !matches!(refusal.status, 400..=499) {
            let trouble = Trouble::handshake_refused(refusal);
            return self.discovery_failed(&discovery.asker, trouble);
        }
        self.not_discovered(*discovery, code, &supported, &refusal.body);
    }

    pub(in super::super) fn discover_ended(&mut self, mut discovery: Box<Discovery<C>>, end: &End) {
        let again = match end {
            End::Unreached(_) => self.next_attempt(&mut discovery.attempts),
            // What took too long would only take as long again.
            End::Lost(_) | End::Cut(_) if !discovery.resent && Some(self.now) < discovery.until => {
                discovery.resent = true;
                Some(self.now + self.jitter(std::time::Duration::from_millis(200)))
            }
            _ => None,
        };
        if let Some(at) = again {
            return self
                .again
                .push((at, super::super::Again::Discover(discovery)));
        }
        self.discovery_failed(&discovery.asker, trouble_of_handshake(end));
    }

    /// The upstream is modern, and this is what it says of itself.
    fn discovered(&mut self, asker: Asker<C>, answer: &Message) {
        self.become_modern(answer);
        match asker {
            Asker::Client(id) => {
                self.remembered.forget_settings();
                self.carry();
                let version = self.client_version();
                let settings = &self.settings;
                let result = results::initialize_result(answer, version, settings.listen);
                self.answer_here(&id, &result);
            }
            Asker::Ferry(origin) => {
                self.release_post(origin.post);
                self.remembered.confirmed = true;
                self.carry();
                if std::mem::take(&mut self.remembered.replaced) {
                    self.listen_after_gap();
                } else {
                    self.adjust_subscriptions();
                }
            }
        }
    }

    fn become_modern(&mut self, answer: &Message) {
        self.era = Era::Modern;
        self.emit(Output::Learnt(Era::Modern));
        let client = std::mem::take(&mut self.modern.client);
        self.modern = Modern {
            client,
            ..Modern::default()
        };
        self.modern.subscriptions.offers(answer);
        self.remembered.replaced = self.remembered.is_replacing();
        self.remembered.shaken = true;
        self.remembered.promised = Promised::of(answer);
        self.session.id = None;
        self.session.version = Some(era::MODERN_VERSION.into());
        self.phase = Phase::Open;
    }

    /// The upstream does not answer as a modern one would.
    fn not_discovered(
        &mut self,
        discovery: Discovery<C>,
        code: Option<i64>,
        supported: &[String],
        said: &[u8],
    ) {
        let modern = supported.iter().any(|it| era::is_modern_version(it));
        if code == Some(era::UNSUPPORTED_VERSION) && modern && !discovery.resent {
            // It names the very revision that it was asked in: once more, as the specification has it.
            let resent = Discovery {
                resent: true,
                ..discovery
            };
            return self.discover(Box::new(resent));
        }
        let Discovery { asker, before, .. } = discovery;
        let unknown = code == Some(era::UNSUPPORTED_VERSION)
            && !supported.is_empty()
            && !modern
            && !supported.iter().any(|it| era::is_handshake_version(it));
        if unknown {
            let named: Vec<&str> = supported.iter().take(8).map(String::as_str).collect();
            let text = format!(
                "the upstream speaks only {}, none of which this mcp-ferry knows; a newer one may",
                named.join(", ")
            );
            let trouble = Trouble::new(Reason::UnknownVersion, Executed::No, text);
            return self.discovery_failed(&asker, trouble);
        }
        match before {
            Some(before) => self.refused_after_all(asker, before),
            None if self.settings.era_fixed => {
                let text = format!(
                    "--upstream-era says modern, and the upstream does not answer server/discover as a 2026-07-28 server \
                     does{}. Is --upstream the right server?",
                    trouble::excerpt(said)
                );
                let trouble = Trouble::new(Reason::HandshakeFailed, Executed::No, text);
                self.discovery_failed(&asker, trouble);
            }
            None => {
                self.era = Era::Handshake;
                match asker {
                    Asker::Client(id) => self.send_request(&id),
                    Asker::Ferry(origin) => self.initialize_again(origin, Attempts::default()),
                }
            }
        }
    }

    /// It was not the era: the refusal of `initialize` stands.
    fn refused_after_all(&mut self, asker: Asker<C>, before: Before) {
        if matches!(&before, Before::Answer(answer) if !answer.is_error()) {
            let text = format!(
                "the upstream answered initialize in the revision {}, which has no such request, and does not answer \
                 server/discover, which that revision has. Is --upstream an MCP endpoint?",
                era::MODERN_VERSION
            );
            let trouble = Trouble::new(Reason::HandshakeFailed, Executed::No, text);
            return self.discovery_failed(&asker, trouble);
        }
        match (asker, before) {
            (Asker::Client(id), Before::Answer(answer)) => {
                self.phase = Phase::Fresh;
                let Some(request) = self.take(&id) else {
                    return;
                };
                self.release_post(request.origin.post);
                let text = answer.text_with_id(request.message.id_text());
                self.deliver(text, About::Outcome(id));
            }
            (Asker::Client(id), Before::Refusal(refusal)) => {
                self.phase = Phase::Fresh;
                self.refusal_stands(&id, &refusal);
            }
            (Asker::Ferry(_), Before::Answer(answer)) => {
                self.own_initialize_refused(answer.text());
            }
            (Asker::Ferry(_), Before::Refusal(refusal)) => {
                self.own_initialize_failed(&Trouble::handshake_refused(&refusal), None);
            }
        }
    }

    fn discovery_unauthorized(&mut self, asker: &Asker<C>, refusal: &Refusal, credential: u64) {
        let trouble = Trouble::from_refusal(refusal);
        match asker {
            Asker::Client(id) => {
                self.phase = Phase::Fresh;
                let post = self.ledger.get(id).and_then(|request| request.origin.post);
                if self.refuse_post(post, refusal) {
                    self.take(id);
                } else {
                    self.fail(id, &trouble);
                }
            }
            Asker::Ferry(_) => self.own_initialize_failed(&trouble, Some((refusal, credential))),
        }
    }

    fn discovery_failed(&mut self, asker: &Asker<C>, trouble: Trouble) {
        match asker {
            Asker::Client(id) => {
                self.phase = Phase::Fresh;
                self.fail(id, &trouble);
            }
            Asker::Ferry(_) => self.own_initialize_failed(&trouble, None),
        }
    }
}

impl Before {
    fn body(&self) -> &[u8] {
        match self {
            Self::Answer(answer) => answer.text(),
            Self::Refusal(refusal) => &refusal.body,
        }
    }
}

/// Whether the result of an `initialize` names a modern revision.
pub(in super::super) fn is_modern_result(answer: &Message) -> bool {
    let version = answer.result_member("protocolVersion");
    let version = version.and_then(|(_, json)| serde_json::from_str::<String>(json).ok());
    version.is_some_and(|version| era::is_modern_version(&version))
}

/// The server's name and version as old clients want them: always there.
pub(super) fn server_info(result: &Object<'_>, known: &[&str]) -> String {
    let meta = result.get("_meta").and_then(Object::parse);
    let named = meta
        .as_ref()
        .and_then(|meta| meta.get("io.modelcontextprotocol/serverInfo"));
    // Drafts of the revision had it in the result itself, and so have some servers.
    let named = named.or_else(|| result.get("serverInfo"));
    let mut info = named.and_then(Object::parse).unwrap_or_default();
    info.retain(|name| known.contains(&name));
    for (name, fallback) in [("name", "unnamed MCP server"), ("version", "unknown")] {
        if info.string(name).is_none() {
            info.set(name, quote(fallback));
        }
    }
    info.to_string()
}
