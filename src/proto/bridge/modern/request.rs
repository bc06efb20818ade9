//! What a request looks like to a modern upstream: the envelope in `_meta` (2026-07-28, "Per-request protocol fields"),
//! and the headers that repeat parts of it (Streamable HTTP, "Request Metadata").
//!
//! What the client put into `params` stays as it was written. No IO, no state but what the client said of itself.

use bytes::Bytes;

use super::super::ledger::Request;
use super::super::trouble::{Executed, Reason, Trouble};
use super::super::vocabulary::Mirrored;
use super::rounds::{self, Rounds};
use crate::proto::era;
use crate::proto::jsonrpc::{Id, Message, quote};
use crate::proto::mirror::{self, Parameter};
use crate::proto::object::Object;

/// The names of the envelope's members.
const VERSION: &str = "io.modelcontextprotocol/protocolVersion";
const CLIENT_INFO: &str = "io.modelcontextprotocol/clientInfo";
const CLIENT_CAPABILITIES: &str = "io.modelcontextprotocol/clientCapabilities";
const LOG_LEVEL: &str = "io.modelcontextprotocol/logLevel";

/// What the client said of itself in `initialize`.
#[derive(Debug)]
pub(in super::super) struct Envelope {
    info: Option<Box<str>>,
    capabilities: Box<str>,
    pub(super) can: Can,
}

/// What the client can be asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Can {
    pub(super) elicit: bool,
    pub(super) elicit_by_url: bool,
    pub(super) sample: bool,
    pub(super) list_roots: bool,
}

impl Default for Envelope {
    fn default() -> Self {
        Self {
            info: None,
            capabilities: "{}".into(),
            can: Can::default(),
        }
    }
}

/// A message and the headers that go with it.
type Composed = (Bytes, Vec<Mirrored>);

impl Envelope {
    /// Read from the client's `initialize`. Capabilities that the modern revision has not, or has in another form, are left
    /// out: a server must not rely on them.
    pub(super) fn of(initialize: &Message) -> Self {
        let params = initialize.params().and_then(Object::parse);
        let Some(params) = params else {
            return Self::default();
        };
        let info = params.get("clientInfo").filter(|info| {
            let named = Object::parse(info);
            named.is_some_and(|info| {
                info.string("name").is_some() && info.string("version").is_some()
            })
        });
        let mut capabilities = params
            .get("capabilities")
            .and_then(Object::parse)
            .unwrap_or_default();
        capabilities.remove("tasks");
        if capabilities.has("roots") {
            capabilities.set("roots", "{}");
        }
        let extensions = capabilities.get("extensions").and_then(Object::parse);
        let extensions = extensions.map(|mut extensions| {
            extensions.remove("io.modelcontextprotocol/tasks");
            extensions.to_string()
        });
        let elicitation = capabilities.get("elicitation").and_then(Object::parse);
        let can = Can {
            // An empty object means forms (2025-11-25, "Elicitation").
            elicit: elicitation
                .as_ref()
                .is_some_and(|kinds| kinds.is_empty() || kinds.has("form")),
            elicit_by_url: elicitation.is_some_and(|kinds| kinds.has("url")),
            sample: capabilities.has("sampling"),
            list_roots: capabilities.has("roots"),
        };
        if let Some(extensions) = extensions {
            capabilities.set("extensions", extensions);
        }
        Self {
            info: info.map(Into::into),
            capabilities: capabilities.to_string().into(),
            can,
        }
    }

    /// A request of the ferry's own: `params` are members of the object, as JSON text.
    pub(super) fn own(&self, id: &str, method: &str, params: &[(&str, &str)]) -> Composed {
        let mut object = Object::default();
        for (name, value) in params {
            object.set(name, *value);
        }
        object.set("_meta", self.meta(None, None));
        let text = format!(
            r#"{{"jsonrpc":"2.0","id":{},"method":{},"params":{object}}}"#,
            quote(id),
            quote(method)
        );
        (text.into(), vec![header(era::METHOD_HEADER, method)])
    }

    /// A request of the client.
    pub(super) fn request<C>(
        &self,
        request: &Request<C>,
        level: Option<&str>,
        parameters: &[Parameter],
    ) -> Result<Composed, Trouble> {
        let message = &request.message;
        let mut params = params_of(message)?;
        let meta = self.meta(params.get("_meta"), level);
        params.set("_meta", meta);
        if rounds::may_ask(message.method()) {
            // Of these an old client knows nothing; elsewhere they are some extension's own.
            params.remove("inputResponses");
            params.remove("requestState");
        }
        if let Some(rounds) = &request.rounds {
            add_answers(&mut params, rounds);
        }
        let headers = headers(message.method(), &params, parameters)?;
        let text = message.text_with_params(&params.to_string());
        let text = match &request.wire_id {
            Some(Id::String(id)) => {
                let message = Message::parse(text).map_err(|error| unfit(&error.to_string()))?;
                message.text_with_id(&quote(id))
            }
            _ => text,
        };
        Ok((text, headers))
    }

    /// A notification of the client. `None` when it cannot be brought into the form.
    pub(super) fn notification(&self, message: &Message) -> Option<Composed> {
        let mut params = params_of(message).ok()?;
        let meta = self.meta(params.get("_meta"), None);
        params.set("_meta", meta);
        let headers = headers(message.method(), &Object::default(), &[]).ok()?;
        Some((message.text_with_params(&params.to_string()), headers))
    }

    /// `_meta`: what the client put there, and the envelope.
    fn meta(&self, own: Option<&str>, level: Option<&str>) -> String {
        let mut meta = own.and_then(Object::parse).unwrap_or_default();
        meta.set(VERSION, quote(era::MODERN_VERSION));
        match &self.info {
            Some(info) => meta.set(CLIENT_INFO, info.as_ref()),
            None => drop(meta.remove(CLIENT_INFO)),
        }
        meta.set(CLIENT_CAPABILITIES, self.capabilities.as_ref());
        if let Some(level) = level.filter(|_| !meta.has(LOG_LEVEL)) {
            meta.set(LOG_LEVEL, level);
        }
        meta.to_string()
    }
}

fn params_of(message: &Message) -> Result<Object<'_>, Trouble> {
    match message.params() {
        // Several older libraries write `null` where they have none.
        None | Some("null") => Ok(Object::default()),
        Some(params) => Object::parse(params)
            .ok_or_else(|| unfit("\"params\" is not an object, as MCP wants it")),
    }
}

/// What the client answered in the last round, and the state that the upstream gave with its questions.
fn add_answers<'a>(params: &mut Object<'a>, rounds: &'a Rounds) {
    if let Some(answers) = rounds.answers() {
        params.set("inputResponses", answers);
    }
    if let Some(state) = rounds.state() {
        params.set("requestState", state);
    }
}

fn headers(
    method: &str,
    params: &Object<'_>,
    parameters: &[Parameter],
) -> Result<Vec<Mirrored>, Trouble> {
    // The specification has no encoding for the method's header.
    let fits = method.len() <= mirror::MAX_VALUE;
    if !fits || !method.bytes().all(|byte| matches!(byte, 0x21..=0x7e)) {
        return Err(unfit("the method's name cannot stand in a header"));
    }
    let mut headers = vec![header(era::METHOD_HEADER, method)];
    let source = match method {
        "tools/call" | "prompts/get" => "name",
        "resources/read" => "uri",
        _ => return Ok(headers),
    };
    if let Some(name) = params.string(source) {
        headers.push(mirrored(era::NAME_HEADER, source, &name)?);
    }
    for parameter in parameters {
        let arguments = params.get("arguments").unwrap_or_default();
        if let Some(value) = mirror::argument(arguments, &parameter.path) {
            let name = format!("{}{}", era::PARAMETER_PREFIX, parameter.header);
            headers.push(mirrored(&name, &parameter.path.join("."), &value)?);
        }
    }
    Ok(headers)
}

fn header(name: &str, value: &str) -> Mirrored {
    Mirrored {
        name: name.into(),
        value: value.into(),
    }
}

fn mirrored(name: &str, what: &str, value: &str) -> Result<Mirrored, Trouble> {
    let encoded = mirror::encoded(value);
    if encoded.len() > mirror::MAX_VALUE {
        return Err(unfit(&format!(
            "{what:?} has {} bytes, and the upstream wants it repeated in the header {name}, which may have {} at most",
            value.len(),
            mirror::MAX_VALUE
        )));
    }
    Ok(header(name, &encoded))
}

/// The request cannot be said in the modern revision.
fn unfit(why: &str) -> Trouble {
    let text = format!("the request cannot be sent to a 2026-07-28 server: {why}");
    Trouble::new(Reason::NotExpressible, Executed::No, text)
}
