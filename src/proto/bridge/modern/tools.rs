//! Which arguments of a tool go into headers: learnt from `tools/list`, whoever asked for it.
//!
//! Mostly the client lists the tools before it calls one. Where it did not, the ferry asks, once per connection; and again
//! when the upstream says that a call's headers do not fit (2026-07-28, "Client Behavior"). Only tools with annotations are
//! remembered. Bounds: [`MAX_TOOLS`], [`MAX_PAGES`].

use std::collections::{BTreeMap, BTreeSet};

use super::super::handshake::Phase;
use super::super::ledger::Place;
use super::super::vocabulary::{CallId, Counted, Verb};
use super::super::{Bridge, Purpose, Queued};
use super::errors::code_and_versions;
use crate::proto::era;
use crate::proto::jsonrpc::{Id, Message};
use crate::proto::mirror::{self, Parameter};
use crate::proto::object::{self, Object};

/// Tools with annotations that are remembered, and invalid ones that are warned of.
const MAX_TOOLS: usize = 1024;
/// Pages of a list that the ferry reads by itself.
const MAX_PAGES: u32 = 64;

/// What is known of the upstream's tools.
#[derive(Debug, Default)]
pub(in super::super) struct Tools {
    annotated: BTreeMap<Box<str>, Box<[Parameter]>>,
    /// Whether a list was seen to its end.
    complete: bool,
    /// The ferry's own question, while it is open, and the pages so far.
    listing: Option<CallId>,
    pages: u32,
    warned: BTreeSet<Box<str>>,
}

impl Tools {
    /// Whatever the ferry's own question brings is not waited for any more.
    pub(super) fn stop_listing(&mut self) {
        self.listing = None;
    }

    /// The arguments of this call that go into headers.
    pub(super) fn of(&self, call: &Message) -> &[Parameter] {
        if call.method() != "tools/call" || self.annotated.is_empty() {
            return &[];
        }
        let known = name_of(call).and_then(|name| self.annotated.get(name.as_str()));
        known.map_or(&[], |parameters| parameters)
    }

    /// Takes in a page of the list. Gives back what to warn of: invalid tools, each once.
    pub(super) fn learn(&mut self, request: &Message, answer: &Message) -> Vec<String> {
        if request.param("cursor").is_none_or(|(_, it)| it == "null") {
            self.annotated.clear();
            self.complete = false;
        }
        let last = answer
            .result_member("nextCursor")
            .is_none_or(|(_, cursor)| cursor == "null");
        self.complete |= last;
        let tools = answer.result_member("tools");
        let tools = tools.and_then(|(_, tools)| object::elements(tools));
        let mut warnings = Vec::new();
        for tool in tools.unwrap_or_default() {
            if !tool.contains(mirror::ANNOTATION) {
                continue;
            }
            let tool = Object::parse(tool).unwrap_or_default();
            let name = tool.string("name").unwrap_or_default();
            match mirror::parameters(tool.get("inputSchema").unwrap_or_default()) {
                Ok(parameters) if parameters.is_empty() => {}
                Ok(parameters) if self.annotated.len() < MAX_TOOLS => {
                    self.annotated
                        .insert(name.into(), parameters.into_boxed_slice());
                }
                Ok(_) => {}
                Err(why) => {
                    let news =
                        self.warned.len() < MAX_TOOLS && self.warned.insert(name.as_str().into());
                    if news {
                        let name: String = name.chars().take(100).collect();
                        warnings.push(format!(
                            "the upstream's tool {name:?} is left out of tools/list: {why}"
                        ));
                    }
                }
            }
        }
        warnings
    }
}

fn name_of(call: &Message) -> Option<String> {
    let (_, name) = call.param("name")?;
    serde_json::from_str(name).ok()
}

impl<C: Clone> Bridge<C> {
    /// Whether it is unknown which headers this call needs, and nobody has asked for its sake.
    pub(super) fn needs_tools(&self, id: &Id) -> bool {
        let tools = &self.modern.tools;
        let Some(request) = self.ledger.get(id) else {
            return false;
        };
        let known = || {
            let name = name_of(&request.message);
            name.is_none_or(|name| tools.annotated.contains_key(name.as_str()))
        };
        !tools.complete && !request.tools_asked && !known()
    }

    pub(super) fn wait_for_tools(&mut self, id: &Id) {
        let open = self.is_modern() && self.phase == Phase::Open;
        let Some(request) = self.ledger.get_mut(id) else {
            return;
        };
        if !open {
            // A handshake began since the call was sent, maybe with an older upstream: behind the gate it is seen to.
            request.place = Place::Queued;
            return self.queue.push_back(Queued::Request(id.clone()));
        }
        request.tools_asked = true;
        request.place = Place::AwaitingTools;
        if self.modern.tools.listing.is_none() {
            self.modern.tools.pages = 0;
            self.list_tools(None);
        }
    }

    fn list_tools(&mut self, cursor: Option<&str>) {
        let Some((context, credential)) = self.latest.clone() else {
            return;
        };
        let id = format!("ferry:tools:{}", self.last_call + 1);
        let params = cursor.map(|cursor| ("cursor", cursor));
        let params: Vec<_> = params.into_iter().collect();
        let (text, mirrored) = self.modern.client.own(&id, "tools/list", &params);
        let own = Message::parse(text.clone()).ok().map(Box::new);
        let purpose = Purpose::ListTools(own);
        let session = self.session.clone();
        let verb = Verb::Post(text);
        let call = self.send_on(&session, purpose, verb, mirrored, context, credential);
        self.limit(call, self.settings.handshake_timeout);
        self.modern.tools.pages += 1;
        self.modern.tools.listing = Some(call);
    }

    pub(in super::super) fn tools_answered(&mut self, call: CallId, answer: &Message) {
        let Some(open) = self.calls.get_mut(&call) else {
            return;
        };
        let Purpose::ListTools(own) = &mut open.purpose else {
            return;
        };
        let own = own.take();
        self.let_linger(call);
        if self.modern.tools.listing != Some(call) {
            return;
        }
        self.modern.tools.listing = None;
        let cursor = answer.result_member("nextCursor");
        let cursor = cursor.map(|(_, cursor)| cursor.to_owned());
        let cursor = cursor.filter(|cursor| cursor.starts_with('"'));
        if let Some(own) = own.filter(|_| !answer.is_error()) {
            let warnings = self.modern.tools.learn(&own, answer);
            warnings
                .iter()
                .for_each(|warning| self.note_invalid_tool(warning));
            // Nobody needs the rest of it once the client has gone.
            let goes_on = self.modern.tools.pages < MAX_PAGES && self.leaving.is_none();
            if let Some(cursor) = cursor.filter(|_| goes_on) {
                return self.list_tools(Some(&cursor));
            }
        }
        self.tools_known();
    }

    /// The ferry's own question came to nothing: the calls go without.
    pub(in super::super) fn tools_unanswered(&mut self, call: CallId) {
        if self.modern.tools.listing == Some(call) {
            self.modern.tools.listing = None;
            // It is not asked again for each call: a list that the client reads, or a mismatch, corrects it.
            self.modern.tools.complete = true;
            self.tools_known();
        }
    }

    fn tools_known(&mut self) {
        let waiting = self.ledger.iter_mut();
        let waiting = waiting.filter(|(_, request)| request.place == Place::AwaitingTools);
        for (id, request) in waiting {
            request.place = Place::Queued;
            self.queue.push_back(Queued::Request(id.clone()));
        }
    }

    /// A call was refused because its headers do not fit: the list is read again, and the call sent once more. Says whether
    /// that is so.
    pub(super) fn tools_changed(&mut self, id: &Id, answer: &Message) -> bool {
        let (code, _) = code_and_versions(answer.text());
        // The upstream may be of the other era by now: then its tools are asked for when it is known again.
        let modern = self.is_modern();
        let Some(request) = self.ledger.get_mut(id) else {
            return false;
        };
        let again = modern
            && code == Some(era::HEADER_MISMATCH)
            && request.message.method() == "tools/call"
            && !request.tools_refreshed;
        if again {
            request.tools_refreshed = true;
            request.sent = request.resent;
            self.modern.tools.complete = false;
            self.count(Counted::Retry);
            self.wait_for_tools(id);
        }
        again
    }
}
