//! What a message is, read from its text: kind, id, method, and the thing that it names. Pure.
//!
//! A text that was cut is read as far as it goes. Nothing here fails: what cannot be read is unknown.

use serde_json::value::RawValue;

use super::record::{Implementation, MessageKind, Summary};
use crate::proto::jsonrpc::{self, Id};
use crate::proto::object::{Object, elements};

/// Characters of a method or a name that are kept.
const MAX_NAME: usize = 200;

/// A message, taken apart as far as the tap needs it.
#[derive(Debug, Default)]
pub(super) struct Read {
    /// What is shown of it.
    pub(super) summary: Summary,
    /// Its id, as JSON-RPC compares it.
    pub(super) id: Option<Id>,
    /// What a cancel cancels.
    pub(super) cancels: Option<Id>,
    /// What `initialize`, its result, or a modern request says of who is speaking.
    pub(super) speaker: Option<Implementation>,
    /// The protocol version in `initialize` or its result.
    pub(super) version: Option<String>,
}

/// Reads a message; `whole` says that nothing of it is missing.
pub(super) fn read(text: &str, whole: bool) -> Read {
    if !whole {
        return beginning(text);
    }
    if jsonrpc::is_array(text.as_bytes()) {
        return batch(text);
    }
    let Some(message) = Object::parse(text) else {
        return Read::default();
    };
    let mut read = Read {
        id: message.get("id").and_then(Id::from_json),
        ..Read::default()
    };
    let id = message.get("id").filter(|id| *id != "null");
    read.summary.id = id.and_then(|id| RawValue::from_string(id.to_owned()).ok());
    if let Some(method) = message.string("method") {
        read.summary.kind = if read.summary.id.is_some() {
            MessageKind::Request
        } else {
            MessageKind::Notification
        };
        params(&mut read, &method, message.get("params"));
        read.summary.method = Some(short(method));
    } else if let Some(error) = message.get("error") {
        read.summary.kind = MessageKind::Error;
        let code = Object::parse(error).and_then(|error| error.get("code")?.parse().ok());
        read.summary.code = code;
    } else if let Some(result) = message.get("result") {
        read.summary.kind = MessageKind::Result;
        result_members(&mut read, result);
    }
    read
}

fn params(read: &mut Read, method: &str, params: Option<&str>) {
    let Some(params) = params.and_then(Object::parse) else {
        return;
    };
    let named = match method {
        "tools/call" | "prompts/get" => params.string("name"),
        "resources/read"
        | "resources/subscribe"
        | "resources/unsubscribe"
        | "notifications/resources/updated" => params.string("uri"),
        "completion/complete" => params.get("ref").and_then(Object::parse).and_then(|it| {
            let name = it.string("name");
            name.or_else(|| it.string("uri"))
        }),
        "logging/setLevel" | "notifications/message" => params.string("level"),
        _ => None,
    };
    read.summary.name = named.map(short);
    match method {
        "notifications/cancelled" => {
            read.cancels = params.get("requestId").and_then(Id::from_json);
        }
        "initialize" => {
            read.speaker = params.get("clientInfo").and_then(implementation);
            read.version = params.string("protocolVersion").map(short);
        }
        _ => {
            let meta = params.get("_meta").and_then(Object::parse);
            read.speaker = meta
                .as_ref()
                .and_then(|meta| implementation(meta.get("io.modelcontextprotocol/clientInfo")?));
            read.version = meta
                .and_then(|meta| meta.string("io.modelcontextprotocol/protocolVersion"))
                .map(short);
        }
    }
}

fn result_members(read: &mut Read, result: &str) {
    let Some(result) = Object::parse(result) else {
        return;
    };
    read.summary.tool_error = result.get("isError") == Some("true");
    let meta = result.get("_meta").and_then(Object::parse);
    let modern = meta
        .as_ref()
        .and_then(|meta| meta.get("io.modelcontextprotocol/serverInfo"));
    let server = result.get("serverInfo").or(modern);
    read.speaker = server.and_then(implementation);
    read.version = result.string("protocolVersion").map(short);
}

fn implementation(text: &str) -> Option<Implementation> {
    let it = Object::parse(text)?;
    Some(Implementation {
        name: short(it.string("name")?),
        version: short(it.string("version").unwrap_or_default()),
    })
}

/// An array of messages is one thing to the tap, named by how many they are.
fn batch(text: &str) -> Read {
    let mut read = Read::default();
    if let Some(elements) = elements(text) {
        read.summary.kind = MessageKind::Batch;
        read.summary.name = Some(format!("{} messages", elements.len()));
    }
    read
}

fn short(text: String) -> String {
    match text.char_indices().nth(MAX_NAME) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text,
    }
}

/// The beginning of a message: its members as far as they are there whole.
fn beginning(text: &str) -> Read {
    let mut read = Read::default();
    let id = member(text, "id", 1).and_then(|id| RawValue::from_string(id.to_owned()).ok());
    read.id = id.as_ref().and_then(|id| Id::from_json(id.get()));
    let string = |name, depth| {
        let found = member(text, name, depth)?;
        serde_json::from_str::<String>(found).ok().map(short)
    };
    read.summary.method = string("method", 1);
    read.summary.name = match read.summary.method.as_deref() {
        Some("tools/call" | "prompts/get") => string("name", 2),
        Some("resources/read") => string("uri", 2),
        _ => None,
    };
    read.summary.kind = match (&read.summary.method, &id) {
        (Some(_), Some(_)) => MessageKind::Request,
        _ => MessageKind::Unknown,
    };
    read.summary.id = id;
    read
}

/// The first string or number that is a member of this name at this depth, of a text that may end anywhere.
fn member<'a>(text: &'a str, name: &str, wanted: usize) -> Option<&'a str> {
    let (mut depth, mut at) = (0_usize, 0_usize);
    let mut key: Option<&str> = None;
    while let Some(byte) = text.as_bytes().get(at) {
        let rest = text.get(at..)?;
        let length = match byte {
            b'"' => string_length(rest)?,
            b'-' | b'0'..=b'9' => {
                rest.find(|c: char| !matches!(c, '-' | '+' | '.' | '0'..='9' | 'e' | 'E'))?
            }
            _ => 1,
        };
        let token = rest.get(..length)?;
        match byte {
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            b'"' if rest.get(length..)?.trim_start().starts_with(':') => {
                key = token.get(1..length.saturating_sub(1));
            }
            b'"' | b'-' | b'0'..=b'9' => {
                if depth == wanted && key == Some(name) {
                    return Some(token);
                }
                key = None;
            }
            b',' => key = None,
            _ => {}
        }
        at += length.max(1);
        while !text.is_char_boundary(at) {
            at += 1;
        }
    }
    None
}

/// The length of the string that a text begins with, quotes included, if it ends.
fn string_length(text: &str) -> Option<usize> {
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return Some(at + 1),
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_told_apart_and_named() {
        let read_whole = |text| {
            let read = read(text, true);
            let name = read.summary.name.clone();
            (read.summary.kind, read.summary.method.clone(), name)
        };
        for (text, kind, method, name) in [
            (
                r#"{"id":1,"method":"tools/call","params":{"name":"echo"}}"#,
                MessageKind::Request,
                Some("tools/call"),
                Some("echo"),
            ),
            (
                r#"{"id":"a","method":"resources/read","params":{"uri":"file:///x"}}"#,
                MessageKind::Request,
                Some("resources/read"),
                Some("file:///x"),
            ),
            (
                r#"{"method":"notifications/message","params":{"level":"info"}}"#,
                MessageKind::Notification,
                Some("notifications/message"),
                Some("info"),
            ),
            (
                r#"{"id":1,"method":"tools/call","params":{"name":5}}"#,
                MessageKind::Request,
                Some("tools/call"),
                None,
            ),
            (r#"{"id":1,"result":5}"#, MessageKind::Result, None, None),
            (
                r#"[{"id":1},{"id":2}]"#,
                MessageKind::Batch,
                None,
                Some("2 messages"),
            ),
            ("hello", MessageKind::Unknown, None, None),
            ("", MessageKind::Unknown, None, None),
        ] {
            let (method, name) = (method.map(str::to_owned), name.map(str::to_owned));
            assert_eq!(read_whole(text), (kind, method, name), "{text}");
        }
        let failed = read(r#"{"id":1,"error":{"code":-32602,"message":""}}"#, true);
        assert_eq!(failed.summary.code, Some(-32602));
        assert!(
            read(r#"{"id":1,"result":{"isError":true}}"#, true)
                .summary
                .tool_error
        );
    }

    #[test]
    fn a_cut_message_is_read_as_far_as_it_goes() {
        let whole = r#"{"method":"tools/call","params":{"a":{"name":"inner"},"name":"écho","x":["#;
        let seen = read(whole, false);
        assert_eq!(seen.summary.method.as_deref(), Some("tools/call"));
        assert_eq!(seen.summary.name.as_deref(), Some("écho"));
        assert!(seen.id.is_none());
        for end in (0..whole.len()).filter(|end| whole.is_char_boundary(*end)) {
            let _ = read(&whole[..end], false);
        }
        let first = r#"{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"x"#;
        assert_eq!(read(first, false).id, Some(Id::Number(7)));
        assert_eq!(read(first, false).summary.kind, MessageKind::Request);
    }
}
