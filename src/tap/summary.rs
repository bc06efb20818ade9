//! What a message is, read from its text: kind, id, method, and the thing that it names. Pure.
//!
//! A text of which only the beginning is there is read as far as it goes (`beginning`). Nothing here fails: what cannot be
//! read is unknown. Texts of any size are read here, on the way of the traffic where the tap keeps their beginnings only, so
//! that only the members that are named are looked at, each once.

mod beginning;

use std::borrow::Cow;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::LazyLock;

use serde_json::value::RawValue;

use super::record::{Implementation, MessageKind, Summary};
use crate::proto::jsonrpc::{self, Id};
use crate::proto::object::{Object, elements};

/// Characters of a method or a name that are kept.
const MAX_NAME: usize = 200;
/// Bytes of an id that is kept as it is.
const MAX_ID: usize = 1024;

/// Members of `_meta` of a modern request, and of a result.
const CLIENT: &str = "io.modelcontextprotocol/clientInfo";
const VERSION: &str = "io.modelcontextprotocol/protocolVersion";
const SERVER: &str = "io.modelcontextprotocol/serverInfo";

/// A message, taken apart as far as the tap needs it.
#[derive(Clone, Debug, Default)]
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

impl Read {
    /// Bytes of the texts in it.
    pub(super) fn bytes(&self) -> usize {
        let of = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        let speaker = self.speaker.as_ref();
        // Its id is in it twice, and what it cancels may be as long.
        let id = self.summary.id.as_ref().map_or(0, |id| id.get().len());
        let cancels = if self.cancels.is_some() { MAX_ID } else { 0 };
        of(&self.summary.method)
            + of(&self.summary.name)
            + of(&self.version)
            + speaker.map_or(0, |it| it.name.len() + it.version.len())
            + 2 * id
            + cancels
    }
}

/// Reads a whole message of which only the beginning is going to be kept. What comes of it is small.
pub(super) fn of_cut(text: &[u8]) -> Read {
    read(&String::from_utf8_lossy(text), true)
}

/// An id by which messages are brought together: itself, or for a long one a stand-in that is as good as unique.
pub(super) fn short_id(id: &Id) -> Cow<'_, Id> {
    static STATE: LazyLock<RandomState> = LazyLock::new(RandomState::new);
    match id {
        Id::String(text) | Id::Other(text) if text.len() > MAX_ID => {
            let (length, hash) = (text.len(), STATE.hash_one(id));
            Cow::Owned(Id::Other(format!("{length} bytes, {hash:016x}").into()))
        }
        _ => Cow::Borrowed(id),
    }
}

/// Reads a message; `whole` says that nothing of it is missing. Its id is shown unless it is long.
pub(super) fn read(text: &str, whole: bool) -> Read {
    let mut read = match whole {
        true => read_whole(text),
        false => beginning::read(text),
    };
    let short = |id: Id| short_id(&id).into_owned();
    read.id = read.id.map(short);
    read.cancels = read.cancels.map(short);
    read.summary.id = read.summary.id.filter(|id| id.get().len() <= MAX_ID);
    read
}

fn read_whole(text: &str) -> Read {
    if jsonrpc::is_array(text.as_bytes()) {
        return batch(text);
    }
    let members = ["id", "method", "params", "error", "result"];
    let Some(message) = Object::pick(text, &members) else {
        return Read::default();
    };
    let mut read = Read {
        id: message.get("id").and_then(Id::from_json),
        ..Read::default()
    };
    let id = message.get("id").filter(|id| *id != "null");
    // It is neither redacted nor put on one line, nor is its nesting bounded: only what is a string or a number is kept.
    let kept = id.filter(|id| !id.starts_with(['{', '[']));
    read.summary.id = kept.and_then(|id| RawValue::from_string(id.to_owned()).ok());
    if let Some(method) = message.string("method") {
        read.summary.kind = if id.is_some() {
            MessageKind::Request
        } else {
            MessageKind::Notification
        };
        params(&mut read, &method, message.get("params"));
        read.summary.method = Some(short(method));
    } else if let Some(error) = message.get("error") {
        read.summary.kind = MessageKind::Error;
        let code = Object::pick(error, &["code"]).and_then(|error| error.get("code")?.parse().ok());
        read.summary.code = code;
    } else if let Some(result) = message.get("result") {
        read.summary.kind = MessageKind::Result;
        result_members(&mut read, result);
    }
    read
}

fn params(read: &mut Read, method: &str, params: Option<&str>) {
    let members = [
        "name",
        "uri",
        "ref",
        "level",
        "requestId",
        "clientInfo",
        "protocolVersion",
        "_meta",
    ];
    let Some(params) = params.and_then(|it| Object::pick(it, &members)) else {
        return;
    };
    let named = match method {
        "tools/call" | "prompts/get" => params.string("name"),
        "resources/read"
        | "resources/subscribe"
        | "resources/unsubscribe"
        | "notifications/resources/updated" => params.string("uri"),
        "completion/complete" => params.get("ref").and_then(|it| {
            let it = Object::pick(it, &["name", "uri"])?;
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
            let members = [CLIENT, VERSION];
            let meta = params.get("_meta");
            let meta = meta.and_then(|meta| Object::pick(meta, &members));
            read.speaker = meta
                .as_ref()
                .and_then(|meta| implementation(meta.get(CLIENT)?));
            read.version = meta.and_then(|meta| meta.string(VERSION)).map(short);
        }
    }
}

fn result_members(read: &mut Read, result: &str) {
    let members = ["isError", "_meta", "serverInfo", "protocolVersion"];
    let Some(result) = Object::pick(result, &members) else {
        return;
    };
    read.summary.tool_error = result.get("isError") == Some("true");
    let meta = result.get("_meta");
    let meta = meta.and_then(|meta| Object::pick(meta, &[SERVER]));
    let modern = meta.as_ref().and_then(|meta| meta.get(SERVER));
    let server = result.get("serverInfo").or(modern);
    read.speaker = server.and_then(implementation);
    read.version = result.string("protocolVersion").map(short);
}

fn implementation(text: &str) -> Option<Implementation> {
    let it = Object::pick(text, &["name", "version"])?;
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

/// A name of a peer's, not too long.
pub(super) fn short(text: String) -> String {
    match text.char_indices().nth(MAX_NAME) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text,
    }
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
        for id in ["[1,\n2]", r#"{"token":"x"}"#] {
            let seen = read(&format!(r#"{{"method":"x","id":{id}}}"#), true);
            assert_eq!(seen.summary.kind, MessageKind::Request);
            assert!(seen.summary.id.is_none(), "{id} is no id");
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

    #[test]
    fn of_a_cut_message_its_first_members_tell_what_it_is() {
        for (text, kind, code, tool_error) in [
            (
                r#"{"id":1,"result":{"content":[{"error":{"#,
                MessageKind::Result,
                None,
                false,
            ),
            (
                r#"{"result":{"isError":true,"content":["#,
                MessageKind::Result,
                None,
                true,
            ),
            (
                r#"{"id":1,"result":{"x":{"isError":true},"y"#,
                MessageKind::Result,
                None,
                false,
            ),
            (
                r#"{"id":1,"error":{"code":-32602,"data":{"result":"#,
                MessageKind::Error,
                Some(-32602),
                false,
            ),
            (
                r#"{"id":1,"error":{"data":{"code":1},"code":-326"#,
                MessageKind::Error,
                None,
                false,
            ),
            (
                r#"{"method":"notifications/message","params":{"id":1,"#,
                MessageKind::Notification,
                None,
                false,
            ),
            (
                r#"{"method":"tools/call","params":{"arguments":"#,
                MessageKind::Request,
                None,
                false,
            ),
            (
                r#"{"id":null,"method":"notifications/x","params":{"#,
                MessageKind::Notification,
                None,
                false,
            ),
            (
                r#" [{"id":1,"method":"x"},{"#,
                MessageKind::Batch,
                None,
                false,
            ),
            (
                r#"{"jsonrpc":"2.0","id":1,"re"#,
                MessageKind::Unknown,
                None,
                false,
            ),
            ("<html><body>", MessageKind::Unknown, None, false),
        ] {
            let seen = read(text, false).summary;
            let told = (seen.kind, seen.code, seen.tool_error);
            assert_eq!(told, (kind, code, tool_error), "{text}");
        }
    }

    #[test]
    fn what_is_kept_of_a_message_of_any_size_is_small() {
        let long = "x".repeat(100_000);
        let info = format!(r#"{{"name":"{long}","version":"{long}"}}"#);
        let text = format!(
            r#"{{"id":"{long}","method":"initialize","params":{{"protocolVersion":"{long}","clientInfo":{info}}}}}"#
        );
        let seen = of_cut(text.as_bytes());
        assert_eq!(seen.summary.kind, MessageKind::Request);
        assert!(seen.summary.id.is_none(), "it is not shown");
        assert!((1..2000).contains(&seen.bytes()), "{}", seen.bytes());
        let text =
            format!(r#"{{"method":"notifications/cancelled","params":{{"requestId":"{long}"}}}}"#);
        let cancel = of_cut(text.as_bytes());
        assert_eq!((&cancel.cancels, &seen.id), (&seen.id, &cancel.cancels));
        let id = seen.id.expect("a stand-in");
        assert!(matches!(&id, Id::Other(text) if text.len() < 50), "{id:?}");
        let other = Id::String("y".repeat(100_000).into());
        assert_ne!(short_id(&other).as_ref(), &id);
        assert_eq!(short_id(&Id::Number(5)).as_ref(), &Id::Number(5));
    }
}
