//! What a message is, told by the beginning of its text, which may end anywhere: its members as far as they are there whole.
//!
//! Members are looked at where they are the message's own or those of its `params`, `result` or `error`; deeper ones are
//! walked over, without recursion.

use serde_json::value::RawValue;

use super::{Read, short};
use crate::proto::jsonrpc::{self, Id};
use crate::tap::record::MessageKind;

/// A member, and the text that its value begins with: a whole string, number or word, or a bracket.
#[derive(Clone, Copy, Debug)]
struct Member<'a> {
    /// The member that it is a member of, unless it is the message's own.
    of: Option<&'a str>,
    name: &'a str,
    value: &'a str,
}

pub(super) fn read(text: &str) -> Read {
    let mut read = Read::default();
    if jsonrpc::is_array(text.as_bytes()) {
        read.summary.kind = MessageKind::Batch;
        return read;
    }
    let members = members(text);
    let find = |of: Option<&str>, name| {
        let mut members = members.iter();
        members
            .find(|it| it.of == of && it.name == name)
            .map(|it| it.value)
    };
    let string = |of, name| {
        let found = find(of, name)?;
        serde_json::from_str::<String>(found).ok().map(short)
    };
    read.id = find(None, "id").and_then(Id::from_json);
    let id = find(None, "id").filter(|_| read.id.is_some());
    read.summary.id = id.and_then(|id| RawValue::from_string(id.to_owned()).ok());
    read.summary.method = string(None, "method");
    read.summary.name = match read.summary.method.as_deref() {
        Some("tools/call" | "prompts/get") => string(Some("params"), "name"),
        Some(method) if method.contains("resources/") => string(Some("params"), "uri"),
        _ => None,
    };
    let mut own = members.iter().filter(|it| it.of.is_none());
    let answer = own.find(|it| matches!(it.name, "result" | "error"));
    read.summary.kind = match (&read.summary.method, answer) {
        // The names of all notifications begin so, and an id may stand behind what is missing.
        (Some(method), _) if read.id.is_none() && method.starts_with("notifications/") => {
            MessageKind::Notification
        }
        (Some(_), _) => MessageKind::Request,
        (None, Some(answer)) if answer.name == "error" => MessageKind::Error,
        (None, Some(_)) => MessageKind::Result,
        (None, None) => MessageKind::Unknown,
    };
    match read.summary.kind {
        MessageKind::Error => {
            let code = find(Some("error"), "code");
            read.summary.code = code.and_then(|code| code.parse().ok());
        }
        MessageKind::Result => {
            read.summary.tool_error = find(Some("result"), "isError") == Some("true");
        }
        _ => {}
    }
    read
}

/// The members of the message, and of its members, that are worth a look.
fn members(text: &str) -> Vec<Member<'_>> {
    const WANTED: [&str; 9] = [
        "id", "method", "params", "result", "error", "name", "uri", "code", "isError",
    ];
    let mut members: Vec<Member<'_>> = Vec::new();
    let (mut depth, mut rest) = (0_usize, text);
    let (mut name, mut of) = (None, None);
    while let Some(token) = token(rest) {
        let after = rest.get(token.len()..).unwrap_or_default();
        let is_name = token.starts_with('"') && after.trim_start().starts_with(':');
        if is_name {
            name = token.get(1..token.len().saturating_sub(1));
        } else if !token.starts_with([':', ' ', '\t', '\r', '\n']) {
            if let Some(name) = name.take().filter(|name| WANTED.contains(name)) {
                let member = Member {
                    of,
                    name,
                    value: token,
                };
                let known = |it: &Member<'_>| (it.of, it.name) == (of, name);
                if depth == 1 || (depth == 2 && of.is_some()) {
                    // As everywhere, the last one of a name counts: the list stays as short as the names are.
                    members.retain(|it| !known(it));
                    members.push(member);
                }
                if depth == 1 {
                    of = Some(name);
                }
            }
            match token {
                "{" | "[" => depth += 1,
                "}" | "]" => depth = depth.saturating_sub(1),
                _ => {}
            }
            if depth <= 1 {
                of = None;
            }
        }
        rest = after;
    }
    members
}

/// The token that a text begins with, if it is there whole.
fn token(text: &str) -> Option<&str> {
    let is_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '+' | '.');
    let first = text.chars().next()?;
    let length = match first {
        '"' => string_length(text)?,
        _ if is_word(first) => text.find(|c| !is_word(c))?,
        _ => first.len_utf8(),
    };
    text.get(..length)
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
