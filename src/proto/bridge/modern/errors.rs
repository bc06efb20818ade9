//! What the errors of a modern upstream mean, and what is made of them for a person with an old client.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::super::Bridge;
use super::super::trouble::{Executed, Reason, Trouble};
use super::super::vocabulary::About;
use crate::proto::era;
use crate::proto::jsonrpc::{Id, Message};
use crate::proto::object::Object;

#[derive(Deserialize)]
struct Response<'a> {
    #[serde(borrow)]
    error: Option<&'a RawValue>,
}

/// The members of a JSON-RPC error, if the text is one.
fn error_of(text: &[u8]) -> Option<Object<'_>> {
    let text = std::str::from_utf8(text).ok()?;
    let response: Response<'_> = serde_json::from_str(text).ok()?;
    Object::parse(response.error?.get())
}

/// The code of a JSON-RPC error, if the text is one, and the revisions that its data names as supported.
pub(super) fn code_and_versions(text: &[u8]) -> (Option<i64>, Vec<String>) {
    let Some(error) = error_of(text) else {
        return (None, Vec::new());
    };
    let code = error.get("code").and_then(|code| code.parse().ok());
    let data = error.get("data").and_then(Object::parse);
    let supported = data.and_then(|data| serde_json::from_str(data.get("supported")?).ok());
    (code, supported.unwrap_or_default())
}

impl<C: Clone> Bridge<C> {
    /// Gives a request the upstream's error, in words that help where the old client could make nothing of it.
    pub(in super::super) fn deliver_error(&mut self, id: &Id, answer: &Message) {
        let Some(request) = self.ledger.get(id) else {
            return;
        };
        let (code, supported) = code_and_versions(answer.text());
        let error = error_of(answer.text()).unwrap_or_default();
        let said = error.string("message").unwrap_or_default();
        let data = error.get("data").and_then(Object::parse);
        let text = match code {
            Some(era::UNSUPPORTED_VERSION) => format!(
                "the upstream does not speak the revision {} any more, but {}; this mcp-ferry cannot speak to it",
                era::MODERN_VERSION,
                listed(&supported)
            ),
            Some(era::MISSING_CAPABILITY) => format!(
                "the upstream needs something of the client that it cannot do ({}). Use a client that can, or another tool",
                data.and_then(|data| needed(data.get("requiredCapabilities")?))
                    .unwrap_or(said)
            ),
            Some(era::HEADER_MISMATCH) if !request.tools_refreshed => format!(
                "the upstream found that the headers and the body of the request differ ({said}). Something between \
                 mcp-ferry and the server may change one of them"
            ),
            Some(era::HEADER_MISMATCH) => format!(
                "the upstream found that the headers and the body of the request differ ({said}), even after its list of \
                 tools was read again. Its definition of the tool may contradict what it checks"
            ),
            _ => return self.deliver_plain_error(id, answer, &error, code),
        };
        let executed = if request.resent {
            Executed::Unknown
        } else {
            Executed::No
        };
        self.fail(id, &Trouble::new(Reason::UpstreamRefused, executed, text));
    }

    fn deliver_plain_error(
        &mut self,
        id: &Id,
        answer: &Message,
        error: &Object<'_>,
        code: Option<i64>,
    ) {
        let Some(request) = self.take(id) else {
            return;
        };
        self.release_post(request.origin.post);
        let id_text = request.message.id_text();
        let uri = request.message.param("uri");
        let missing = request.message.method() == "resources/read"
            && code == Some(era::INVALID_PARAMS)
            && is_not_found(error, uri.map(|(_, uri)| uri));
        let text = if missing {
            let mut error = error.clone();
            error.set("code", era::RESOURCE_NOT_FOUND.to_string());
            format!(r#"{{"jsonrpc":"2.0","id":{id_text},"error":{error}}}"#).into()
        } else {
            answer.text_with_id(id_text)
        };
        self.deliver(text, About::Outcome(id.clone()));
    }
}

/// Whether an error of `resources/read` says that there is no such resource: by the URI in its data, as the specification
/// shows it, or by its words. Invalid parameters have the same code since 2026-07-28.
fn is_not_found(error: &Object<'_>, uri: Option<&str>) -> bool {
    let data = error.get("data").and_then(Object::parse);
    let named = data.as_ref().and_then(|data| data.string("uri"));
    let asked = uri.and_then(|uri| serde_json::from_str::<String>(uri).ok());
    let said = error.string("message").unwrap_or_default().to_lowercase();
    (named.is_some() && named == asked)
        || said.contains("not found")
        || said.contains("unknown resource")
}

/// The names of the capabilities that an error asks for.
fn needed(capabilities: &str) -> Option<String> {
    let capabilities = Object::parse(capabilities)?;
    let names: Vec<&str> = capabilities.iter().map(|(name, _)| name).collect();
    (!names.is_empty()).then(|| names.join(", "))
}

fn listed(versions: &[String]) -> String {
    if versions.is_empty() {
        "says of none that it does".to_owned()
    } else {
        let named: Vec<&str> = versions.iter().take(8).map(String::as_str).collect();
        named.join(", ")
    }
}
