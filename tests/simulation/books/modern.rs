//! What is sent in the modern revision: each request says everything by itself, and its headers repeat it.

use std::time::Instant;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use mcp_ferry::proto::bridge::{CallId, Mirrored};
use serde_json::Value;

use super::{Books, Check, Exchange, Fate, Kind};

/// What the ferry answers or keeps to itself in this era.
const NEVER: [&str; 7] = [
    "initialize",
    "notifications/initialized",
    "notifications/cancelled",
    "ping",
    "logging/setLevel",
    "resources/subscribe",
    "resources/unsubscribe",
];
/// The argument that tools want in a header.
const ARGUMENT: &str = "region";

impl Books {
    pub(super) fn on_modern_post(
        &mut self,
        call: CallId,
        text: &str,
        headers: &[Mirrored],
        exchange: &mut Exchange,
        now: Instant,
    ) -> Check {
        let message: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
        let message = &message;
        self.modern = true;
        if self.ended {
            return Err(format!("the client has left, and {message} is sent"));
        }
        let method = message["method"].as_str().unwrap_or_default();
        if method.is_empty() || NEVER.contains(&method) {
            return Err(format!("not for a modern upstream: {message}"));
        }
        check_envelope(message)?;
        check_headers(message, headers, exchange)?;
        let nonce = message["params"]["n"].as_str().map(str::to_owned);
        let Some(id) = message.get("id").map(Value::to_string) else {
            exchange.kind = Kind::Notice;
            exchange.id = nonce.clone().unwrap_or_default();
            return self.check_turn(message, nonce, exchange, now);
        };
        exchange.id.clone_from(&id);
        exchange.kind = match method {
            "server/discover" => {
                self.changes.begins_anew();
                self.generations += 1;
                self.gate = Some((call, now));
                Kind::Discover
            }
            "subscriptions/listen" => {
                self.listens += 1;
                exchange.filter = Some(self.check_filter(&message["params"]["notifications"])?);
                Kind::Subscriptions
            }
            "tools/list" if id.starts_with("\"ferry:tools:") => Kind::ListTools,
            _ => {
                let found = nonce.as_ref().and_then(|nonce| self.by_nonce.get(nonce));
                let Some(index) = found.copied() else {
                    return Err(format!("sent, and never posted: {message}"));
                };
                self.check_request(index, exchange)?;
                self.check_round(index, text, &message["params"])?;
                let level = &message["params"]["_meta"]["io.modelcontextprotocol/logLevel"];
                if level.as_str() != self.level.as_deref() {
                    return Err(format!("the level is {:?}: {message}", self.level));
                }
                Kind::Request(index)
            }
        };
        self.check_turn(message, nonce, exchange, now)
    }

    /// The upstream turned an exchange down, or gave an answer that is none.
    pub fn turned_down(&mut self, exchange: &Exchange, status: u16) {
        match exchange.kind {
            Kind::Subscriptions => {
                let for_now = matches!(status, 408 | 409 | 425 | 429 | 500..=599);
                self.changes.barred = !for_now;
            }
            // Of a server of the other era, or one that wants other headers: not run.
            Kind::Request(index) if matches!(status, 400 | 404 | 405) => {
                let request = &mut self.requests[index];
                request.pending &= request.fate != Fate::InFlight;
            }
            _ => {}
        }
    }
}

fn check_envelope(message: &Value) -> Check {
    let meta = &message["params"]["_meta"];
    let capabilities = &meta["io.modelcontextprotocol/clientCapabilities"];
    let good = meta["io.modelcontextprotocol/protocolVersion"] == "2026-07-28"
        && capabilities.is_object()
        && (capabilities["roots"].is_null() || capabilities["roots"] == serde_json::json!({}));
    match good {
        true => Ok(()),
        false => Err(format!("not the envelope of a modern request: {message}")),
    }
}

/// The headers say what the message says, each once.
fn check_headers(message: &Value, headers: &[Mirrored], exchange: &mut Exchange) -> Check {
    let wrong = |why: &str| Err(format!("{why}: {headers:?} of {message}"));
    let method = message["method"].as_str().unwrap_or_default();
    let params = &message["params"];
    let mut due = vec![("mcp-method", method)];
    let name = match method {
        "tools/call" | "prompts/get" => params["name"].as_str(),
        "resources/read" => params["uri"].as_str(),
        _ => None,
    };
    due.extend(name.map(|name| ("mcp-name", name)));
    let argument = params["arguments"][ARGUMENT].as_str();
    exchange.wants_header =
        method == "tools/call" && params["name"] == ARGUMENT && argument.is_some();
    for header in headers {
        let Some(value) = decoded(&header.value) else {
            return wrong("a value that cannot stand in a header");
        };
        let known = due.iter().position(|(name, _)| *name == &*header.name);
        if let Some(place) = known {
            let (_, wanted) = due.swap_remove(place);
            if value != wanted {
                return wrong("another value");
            }
        } else if header.name.to_lowercase().starts_with("mcp-param-region")
            && exchange.wants_header
            && exchange.header.is_none()
            && Some(value.as_str()) == argument
        {
            exchange.header = Some(header.name.to_lowercase());
        } else {
            return wrong("a header too many");
        }
    }
    match due.is_empty() {
        true => Ok(()),
        false => wrong("a header is missing"),
    }
}

/// A value as 2026-07-28 writes it, "Value Encoding".
fn decoded(value: &str) -> Option<String> {
    let base64 = value.strip_prefix("=?base64?");
    if let Some(base64) = base64.and_then(|rest| rest.strip_suffix("?=")) {
        return String::from_utf8(BASE64_STANDARD.decode(base64).ok()?).ok();
    }
    let visible = !value.is_empty() && value.trim() == value;
    (visible && value.bytes().all(|byte| matches!(byte, b' '..=b'~'))).then(|| value.to_owned())
}
