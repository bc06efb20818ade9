//! What a client is told when it may have missed a notification: after its session was replaced, or its listen stream
//! opened again without going on from an event.
//!
//! It is told too much rather than too little, and never more than the server's capabilities promise: a change of each
//! list, an update of each resource that it subscribed to. Only to clients of 2025-03-26 and later: early Python clients
//! hang on a notification that they did not cause.

use super::Bridge;
use super::leave::ClientState;
use super::vocabulary::About;
use crate::proto::era;
use crate::proto::jsonrpc::Message;

/// The revision from which clients take notifications that they did not cause.
const SINCE: &str = "2025-03-26";

/// The lists whose changes the server promises to tell (`listChanged` of its capabilities).
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Promised {
    tools: bool,
    prompts: bool,
    resources: bool,
}

impl Promised {
    /// Read from the answer to `initialize`.
    pub(super) fn of(answer: &Message) -> Self {
        let capabilities = answer.result_member("capabilities");
        let capabilities = capabilities
            .and_then(|(_, json)| serde_json::from_str::<serde_json::Value>(json).ok())
            .unwrap_or_default();
        let promises = |list: &str| {
            let member = capabilities.get(list);
            member.and_then(|list| list.get("listChanged")?.as_bool()) == Some(true)
        };
        Self {
            tools: promises("tools"),
            prompts: promises("prompts"),
            resources: promises("resources"),
        }
    }

    pub(super) fn names(self) -> impl Iterator<Item = &'static str> {
        let Self {
            tools,
            prompts,
            resources,
        } = self;
        let lists = [
            (tools, "tools"),
            (prompts, "prompts"),
            (resources, "resources"),
        ];
        lists
            .into_iter()
            .filter_map(|(promised, name)| promised.then_some(name))
    }
}

impl<C: Clone> Bridge<C> {
    /// Tells the client of everything that may have changed unnoticed.
    pub(super) fn tell_of_changes(&mut self) {
        let version = self.remembered.client_version.as_deref();
        let takes_it =
            version.is_some_and(|version| era::is_handshake_version(version) && version >= SINCE);
        if !takes_it || self.client_state() == ClientState::Gone {
            return;
        }
        for list in self.remembered.promised.names() {
            let text =
                format!(r#"{{"jsonrpc":"2.0","method":"notifications/{list}/list_changed"}}"#);
            self.deliver(text.into(), About::Nothing);
        }
        let uris: Vec<Box<str>> = self.remembered.subscriptions.keys().cloned().collect();
        for uri in uris {
            let text = format!(
                r#"{{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{{"uri":{uri}}}}}"#
            );
            self.deliver(text.into(), About::Nothing);
        }
    }
}
