//! What a session knew and its successor must know too: the client's own `initialize`, its log level, its subscriptions.
//!
//! The client set them once and shall not have to know that the upstream forgot. They are remembered when the upstream
//! agreed to them, and restored right after the ferry's own handshake, before anything of the client goes on.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::handshake::Phase;
use super::missed::Promised;
use super::vocabulary::{CallId, Verb};
use super::{Bridge, Purpose};
use crate::proto::jsonrpc::Message;

/// Resource subscriptions that are remembered, to be restored when the session is lost.
pub(super) const MAX_SUBSCRIPTIONS: usize = 256;

/// What the client has shown of itself, to be repeated to an upstream that forgot it.
#[derive(Debug, Default)]
pub(super) struct Remembered {
    /// The `initialize` that is repeated, copied out of the buffer it was read from.
    pub(super) initialize: Option<Box<str>>,
    /// The revision that the client asked for.
    pub(super) client_version: Option<Box<str>>,
    /// Whether that is the client's own, and none that the ferry made up.
    pub(super) is_clients: bool,
    /// Whether the client began with what it carried from another stream.
    pub(super) recalled: bool,
    /// Whether the client carries what is remembered here, or it cannot be carried.
    pub(super) carried: bool,
    /// Whether it carries anything, from this stream or its last.
    pub(super) has_event_id: bool,
    /// Whether any handshake of this connection succeeded.
    pub(super) shaken: bool,
    /// Whether `notifications/initialized` was sent on the present session.
    pub(super) confirmed: bool,
    /// What the server promises to tell of changes.
    pub(super) promised: Promised,
    pub(super) level: Option<Box<str>>,
    pub(super) subscriptions: BTreeMap<Box<str>, Box<str>>,
    /// A session was replaced: what changed in between, nobody said.
    pub(super) replaced: bool,
}

impl Remembered {
    /// Whether another handshake takes the place of one that the client knows of.
    pub(super) fn is_replacing(&self) -> bool {
        self.shaken || self.recalled
    }

    /// Bytes of what the client said and set.
    pub(super) fn held_bytes(&self) -> usize {
        let subscriptions = self.subscriptions.iter();
        let subscriptions: usize = subscriptions
            .map(|(uri, text)| uri.len() + text.len())
            .sum();
        let others = [&self.initialize, &self.client_version, &self.level];
        let others = others.into_iter().flatten().map(|text| text.len());
        subscriptions + others.sum::<usize>()
    }

    /// The client has shaken hands anew: what it set before is over, as it would be with a server.
    pub(super) fn forget_settings(&mut self) {
        self.level = None;
        self.subscriptions.clear();
    }
}

impl<C: Clone> Bridge<C> {
    /// After the ferry confirmed its own handshake: log level and subscriptions that the lost session knew.
    pub(super) fn own_initialized_answered(&mut self, call: CallId, accepted: bool) {
        if self.phase != Phase::Confirming(call) {
            return;
        }
        self.confirmed(call, accepted);
        if std::mem::take(&mut self.remembered.replaced) {
            self.tell_of_changes();
        }
        let Some((context, credential)) = self.latest.clone().filter(|_| self.phase == Phase::Open)
        else {
            return;
        };
        let texts: Vec<Box<str>> = self
            .remembered
            .level
            .iter()
            .chain(self.remembered.subscriptions.values())
            .cloned()
            .collect();
        for (number, text) in texts.iter().enumerate() {
            let Ok(message) = Message::parse(Bytes::copy_from_slice(text.as_bytes())) else {
                continue;
            };
            let verb = Verb::Post(message.text_with_id(&format!("\"ferry:restore:{number}\"")));
            let call = self.send(Purpose::Restore, verb, context.clone(), credential);
            self.limit(call, self.settings.handshake_timeout);
            self.phase = match self.phase {
                Phase::Restoring(count) => Phase::Restoring(count + 1),
                _ => Phase::Restoring(1),
            };
        }
    }

    /// One of the restoring exchanges is over, well or not.
    pub(super) fn restored(&mut self, generation: u32) {
        if generation != self.session.generation {
            return;
        }
        if let Phase::Restoring(count) = self.phase {
            self.phase = if count > 1 {
                Phase::Restoring(count - 1)
            } else {
                Phase::Open
            };
        }
    }

    /// Remembers what a session knows, once the upstream agreed to it.
    pub(super) fn remember(&mut self, request: &Message) {
        let uri = || request.param("uri").map(|(_, uri)| Box::<str>::from(uri));
        match request.method() {
            "logging/setLevel" => self.remembered.level = Some(request.as_str().into()),
            "resources/subscribe" => {
                if let Some(uri) =
                    uri().filter(|_| self.remembered.subscriptions.len() < MAX_SUBSCRIPTIONS)
                {
                    self.remembered
                        .subscriptions
                        .insert(uri, request.as_str().into());
                }
            }
            "resources/unsubscribe" => {
                if let Some(uri) = uri() {
                    self.remembered.subscriptions.remove(&uri);
                }
            }
            _ => return,
        }
        self.carry_anew();
    }
}
