//! What a client carries for the ferry from one stream to the next, in the event id that it repeats when it comes back
//! (HTML, "The Last-Event-ID header"): what it said of itself in `initialize`, and what it set since.
//!
//! A client that lost its stream comes back without a handshake, maybe to a process that never saw it. With this the
//! handshake that the ferry then makes upstream is the client's own. What is carried is a small JSON text; the shell
//! seals it, so that only processes with the same key read it, and hands in nothing that did not open. It holds no
//! credential, and nothing depends on it: where it is missing, the ferry shakes hands as for any client that left that
//! out.
//!
//! The form: `{"v":1,"initialize":{…},"version":"…","level":"…","subscriptions":["…"]}`, the parameters of `initialize`
//! as they were written, the revision that the client was told, and of the others what there is. A reader ignores
//! members that it does not know; another `v` is another form, which it cannot read.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::Bridge;
use super::leave::ClientState;
use super::restore::MAX_SUBSCRIPTIONS;
use super::vocabulary::{Counted, Output};
use crate::proto::era;
use crate::proto::jsonrpc::{Message, quote};
use crate::proto::object::{Object, array, elements};

/// The most bytes that a client is asked to carry, before they are sealed. Sealed and as base64 it is a header of 5.5 KiB,
/// which the usual servers and balancers let pass (8 KiB).
pub const MAX_CARRIED: usize = 4 * 1024;

/// The form that is written, and the only one that is read.
const FORM: &str = "1";

/// What a client has carried, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Carried {
    /// The client's `initialize`, with an id of no meaning.
    initialize: Box<str>,
    /// The revision that it was told.
    version: Box<str>,
    /// A `logging/setLevel` with the level it set.
    level: Option<Box<str>>,
    /// A `resources/subscribe` for each resource, by its URI as JSON text.
    subscriptions: BTreeMap<Box<str>, Box<str>>,
}

impl Carried {
    /// Reads what [`Output::Carry`] gave. `None` when it is longer than [`MAX_CARRIED`], in another form, or none of it.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(text).ok()?;
        let carried = Object::parse(text).filter(|_| text.len() <= MAX_CARRIED)?;
        if carried.get("v") != Some(FORM) {
            return None;
        }
        let version = carried.string("version")?;
        let params = carried.get("initialize")?;
        Object::parse(params)?;
        let level = carried.get("level").filter(|level| level.starts_with('"'));
        let level = level.and_then(|level| request("logging/setLevel", "level", level));
        let subscriptions = elements(carried.get("subscriptions").unwrap_or("[]"))?;
        if !subscriptions.iter().all(|uri| uri.starts_with('"')) {
            return None;
        }
        // As the client wrote it, escapes and all: that is how it is found again when the client unsubscribes.
        let subscriptions = subscriptions.into_iter().take(MAX_SUBSCRIPTIONS);
        let subscriptions = subscriptions.filter_map(|uri| {
            let subscribe = request("resources/subscribe", "uri", uri)?;
            Some((uri.into(), subscribe))
        });
        Some(Self {
            initialize: message("initialize", params)?,
            version: version.into(),
            level,
            subscriptions: subscriptions.collect(),
        })
    }
}

/// A request with one parameter, given as JSON text.
fn request(method: &str, name: &str, value: &str) -> Option<Box<str>> {
    message(method, &format!(r#"{{"{name}":{value}}}"#))
}

/// A request with these parameters, if that is a message.
fn message(method: &str, params: &str) -> Option<Box<str>> {
    let text = format!(r#"{{"jsonrpc":"2.0","id":0,"method":"{method}","params":{params}}}"#);
    let message = Message::parse(text.into()).ok()?;
    Some(message.as_str().into())
}

impl<C: Clone> Bridge<C> {
    /// Takes up what the client has carried from its last stream. To be called before any input; a client that shakes
    /// hands after all is taken at its new word.
    pub fn recall(&mut self, carried: Carried) {
        let Carried {
            initialize,
            version,
            level,
            subscriptions,
        } = carried;
        self.remembered.initialize = Some(initialize);
        self.remembered.client_version = Some(version);
        self.remembered.is_clients = true;
        self.remembered.recalled = true;
        self.remembered.has_event_id = true;
        self.remembered.level = level;
        self.remembered.subscriptions = subscriptions;
    }

    /// Has the client carry what is remembered of it, where that is new and its own. Where it cannot, what it carried before
    /// is not true any more, and is taken back.
    pub(super) fn carry(&mut self) {
        let due = self.settings.carry && self.remembered.is_clients && !self.remembered.carried;
        if !due || self.client_state() == ClientState::Gone {
            return;
        }
        self.remembered.carried = true;
        let text = match self.load() {
            Load::Fits(text) => text,
            Load::Nothing => String::new(),
            Load::TooMuch => {
                self.count(Counted::NotCarried);
                String::new()
            }
        };
        let had = std::mem::replace(&mut self.remembered.has_event_id, !text.is_empty());
        if had || !text.is_empty() {
            self.emit(Output::Carry(text.into()));
        }
    }

    /// What was remembered has changed.
    pub(super) fn carry_anew(&mut self) {
        self.remembered.carried = false;
        self.carry();
    }

    /// The revision that the client was told: the one it asked for, as far as that is known, else the upstream's.
    fn told_version(&self) -> &str {
        let asked = self.remembered.client_version.as_deref();
        let asked = asked.unwrap_or(era::LEGACY_VERSION);
        let negotiated = self.session.version.as_deref();
        match negotiated.filter(|_| !era::is_handshake_version(asked) && !self.is_modern()) {
            Some(negotiated) => negotiated,
            None => era::handshake_version(asked),
        }
    }

    /// What the client is to carry. Whether it fits is asked before anything large is read or copied.
    fn load(&self) -> Load {
        let known = &self.remembered;
        let parse = |text: &str| Message::parse(Bytes::copy_from_slice(text.as_bytes())).ok();
        let (initialize, level) = (known.initialize.as_deref(), known.level.as_deref());
        if [initialize, level].into_iter().flatten().any(is_hopeless) {
            return Load::TooMuch;
        }
        let initialize = initialize.and_then(parse);
        let Some(params) = initialize.as_ref().and_then(Message::params) else {
            return Load::Nothing;
        };
        let mut carried = Object::default();
        carried.set("v", FORM);
        carried.set("initialize", params);
        carried.set("version", quote(self.told_version()));
        let level = level.and_then(parse);
        if let Some((_, level)) = level.as_ref().and_then(|level| level.param("level")) {
            carried.set("level", level);
        }
        let without = carried.to_string();
        // Subscriptions can be made again, and grow without the client's saying more of itself.
        if let Some(subscriptions) = self.subscriptions_within(MAX_CARRIED) {
            carried.set("subscriptions", subscriptions);
            let all = carried.to_string();
            if all.len() <= MAX_CARRIED {
                return Load::Fits(all);
            }
        }
        match without.len() <= MAX_CARRIED {
            true => Load::Fits(without),
            false => Load::TooMuch,
        }
    }

    /// The URIs that the client subscribed to, as a JSON array, where there are any and they are no longer than this.
    fn subscriptions_within(&self, limit: usize) -> Option<String> {
        let uris: Vec<_> = self.remembered.subscriptions.keys().collect();
        let length: usize = uris.iter().map(|uri| uri.len()).sum();
        (!uris.is_empty() && length <= limit).then(|| array(&uris))
    }
}

/// What there is for a client to carry.
enum Load {
    /// It said nothing of itself.
    Nothing,
    Fits(String),
    TooMuch,
}

/// What stands around parameters in a message is short: one that is so much longer is not read to find that out.
fn is_hopeless(message: &str) -> bool {
    message.len() > 2 * MAX_CARRIED
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_in_the_form_is_not_read() {
        let params = r#"{"protocolVersion":"2024-11-05","capabilities":{},"clientInfo":{"name":"old","version":"1"}}"#;
        let good = format!(r#"{{"v":1,"initialize":{params},"version":"2024-11-05"}}"#);
        let read = Carried::parse(good.as_bytes()).expect("good");
        assert!(
            read.initialize
                .ends_with(&format!(r#""params":{params}}}"#))
        );
        assert_eq!((read.level, read.subscriptions.len()), (None, 0));
        for at in 0..good.len() {
            assert_eq!(Carried::parse(&good.as_bytes()[..at]), None, "cut at {at}");
        }
        let long = format!(r#"{{"x":"{}",{}"#, "x".repeat(MAX_CARRIED), &good[1..]);
        for wrong in [
            "",
            "null",
            "[]",
            "{}",
            r#"{"v":1}"#,
            &good.replace(":1,", ":2,"),
            &good.replace(":1,", ":\"1\","),
            &good.replace(params, "[]"),
            &good.replace(params, "null"),
            &good.replace(r#""version":"2024-11-05"}"#, r#""version":7}"#),
            &good.replace("\"v\":1", "\"v\":1,\"subscriptions\":[7]"),
            &good.replace(
                params,
                &format!("{{\"a\":{}{}}}", "[".repeat(200), "]".repeat(200)),
            ),
            &long,
        ] {
            assert_eq!(Carried::parse(wrong.as_bytes()), None, "{wrong}");
        }
        assert_eq!(Carried::parse(b"\xff"), None);
    }

    #[test]
    fn what_is_not_known_is_left_aside() {
        let text = r#"{"later":[1],"v":1,"initialize":{"x":1.0},"version":"9","level":{},"subscriptions":["a\u003a1","a:1"]}"#;
        let read = Carried::parse(text.as_bytes()).expect("readable");
        assert_eq!(read.level, None);
        let uris: Vec<&str> = read.subscriptions.keys().map(AsRef::as_ref).collect();
        assert_eq!(uris, [r#""a:1""#, r#""a\u003a1""#], "as they were written");
        let subscribe = read.subscriptions.get(r#""a\u003a1""#);
        let params = r#""params":{"uri":"a\u003a1"}}"#;
        assert!(subscribe.is_some_and(|text| text.ends_with(params)));
    }
}
