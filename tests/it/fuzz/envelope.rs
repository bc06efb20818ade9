//! Any bytes as a JSON-RPC message, or as a batch of them.
//!
//! What is a message is decided anew here, from JSON-RPC 2.0 and the rules of `proto::jsonrpc`'s documentation, with a
//! JSON reader of its own: the ferry must take exactly those texts and find the same parts in them. Putting another id
//! or another value into a message must change that and nothing else.

use bytes::Bytes;
use mcp_ferry::proto::jsonrpc::{self, Id, Kind, MAX_DEPTH, Message};
use serde_json::Value;

use super::json::{self, Top};

pub fn check(input: &[u8]) {
    let text = Bytes::copy_from_slice(input);
    check_batch(&text);
    check_error(input);
    let expected = std::str::from_utf8(input).ok().and_then(Envelope::read);
    let parsed = Message::parse(text);
    let Some(expected) = expected else {
        let refused = parsed.expect_err("this is no message");
        assert!(!refused.to_string().is_empty());
        return;
    };
    let message = parsed.expect("this is a message");
    expected.compare(&message);
    expected.check_other_ids(&message);
    check_members(&message);
}

/// The parts of a message, as texts.
#[derive(Debug)]
struct Envelope<'a> {
    kind: Kind,
    members: Vec<(String, &'a str)>,
}

impl<'a> Envelope<'a> {
    fn read(text: &'a str) -> Option<Self> {
        let json = json::read(text).filter(|json| json.depth <= MAX_DEPTH)?;
        let Top::Object(members) = json.top else {
            return None;
        };
        let name = |(name, part): (&str, &'a str)| Some((string(name)?, part));
        let members: Option<Vec<_>> = members.into_iter().map(name).collect();
        let mut envelope = Self {
            kind: Kind::Response,
            members: members?,
        };
        envelope.kind = envelope.judge()?;
        Some(envelope)
    }

    fn get(&self, name: &str) -> Option<&'a str> {
        let found = self.members.iter().find(|(key, _)| key == name);
        found.map(|(_, part)| *part)
    }

    /// What it is, if it is a message.
    fn judge(&self) -> Option<Kind> {
        for name in ["jsonrpc", "id", "method", "params", "result", "error"] {
            if self.members.iter().filter(|(key, _)| key == name).count() > 1 {
                return None;
            }
        }
        let id = self.get("id").filter(|id| *id != "null");
        let id_is_one = id.is_none_or(|id| match id.as_bytes()[0] {
            b'"' => string(id).is_some(),
            b'-' | b'0'..=b'9' => true,
            _ => false,
        });
        if self.get("jsonrpc") != Some("\"2.0\"") || !id_is_one {
            return None;
        }
        let (result, error) = (self.get("result").is_some(), self.get("error").is_some());
        match (self.get("method"), self.get("id"), result, error) {
            (Some(method), _, false, false) if string(method).is_none() => None,
            (Some(_), None, false, false) => Some(Kind::Notification),
            (Some(_), Some(_), false, false) => id.map(|_| Kind::Request),
            (None, _, true, false) => id.map(|_| Kind::Response),
            (None, _, false, true) => Some(Kind::Response),
            _ => None,
        }
    }

    /// The ferry found the same.
    fn compare(&self, message: &Message) {
        assert_eq!(message.kind(), self.kind);
        let part = |name: &str| self.get(name).map(one_line);
        assert_eq!(message.params(), part("params").as_deref());
        assert_eq!(message.result(), part("result").as_deref());
        assert_eq!(message.is_error(), self.get("error").is_some());
        let method = self
            .get("method")
            .map(|method| string(method).expect("one"));
        assert_eq!(message.method(), method.unwrap_or_default());
        assert_eq!(message.id_text(), self.get("id").unwrap_or("null"));
        match self.get("id").filter(|id| *id != "null") {
            None => assert_eq!(message.id(), None),
            Some(id) => check_id(message.id().expect("an id"), id),
        }
    }

    /// The same message with another id differs in its id alone.
    fn check_other_ids(&self, message: &Message) {
        let text = message.as_str();
        assert!(!text.contains(['\r', '\n']));
        for id in ["7", "\"ferry:7\"", "-1.5e300"] {
            let other = message.text_with_id(id);
            if self.kind == Kind::Notification {
                assert_eq!(other, message.text());
                continue;
            }
            let other = std::str::from_utf8(&other).expect("still UTF-8");
            let again = Envelope::read(other).expect("still a message");
            assert_eq!(again.get("id"), Some(id));
            assert_eq!(again.kind, self.kind);
            let rest = |envelope: &Envelope<'_>| -> Vec<(String, String)> {
                let members = envelope.members.iter().filter(|(name, _)| name != "id");
                members
                    .map(|(name, part)| (name.clone(), one_line(part)))
                    .collect()
            };
            assert_eq!(rest(&again), rest(self));
            // What lies around the id is there byte for byte.
            let old = message.id_text();
            let kept = other.len() + old.len() == text.len() + id.len();
            assert!(kept || self.get("id").is_none());
            let parsed = Message::parse(Bytes::copy_from_slice(other.as_bytes()));
            check_id(parsed.expect("a message").id().expect("an id"), id);
        }
    }
}

/// A string, its escapes resolved, as the library that everybody uses does it.
fn string(json: &str) -> Option<String> {
    serde_json::from_str(json).ok()
}

fn one_line(text: &str) -> String {
    text.replace(['\r', '\n'], " ")
}

/// The id is the one that was written, and can be written and read again.
fn check_id(id: &Id, text: &str) {
    assert_eq!(Id::from_json(&id.to_string()).as_ref(), Some(id));
    match (id, serde_json::from_str(text)) {
        (Id::String(found), Ok(Value::String(written))) => assert_eq!(**found, *written),
        (Id::Number(found), Ok(Value::Number(written))) => {
            let whole = written.as_i64() == Some(*found);
            // Whole numbers below 2^53 have one exact form in the other notation too.
            let exact = written.is_f64() && found.abs() < 1 << 53;
            assert!(whole || exact && written.as_f64() == Some(*found as f64));
        }
        (Id::Other(found), Ok(Value::Number(written))) => {
            assert_eq!(**found, *text);
            assert_eq!(written.as_i64(), None);
        }
        // Too large for the library's number, and kept as it was written.
        (Id::Other(found), Err(_)) => assert_eq!(**found, *text),
        (id, value) => panic!("{id:?} is not {value:?}"),
    }
}

/// A member of the parameters or of the result can be replaced, and only it changes.
fn check_members(message: &Message) {
    for (part, parameters) in [(message.params(), true), (message.result(), false)] {
        let Some(Top::Object(members)) = part.and_then(json::read).map(|json| json.top) else {
            continue;
        };
        let find = |message: &Message, name: &str| {
            let found = if parameters {
                message.param(name)
            } else {
                message.result_member(name)
            };
            found.map(|(span, part)| (span, part.to_owned()))
        };
        for (name, _) in &members {
            let Some(name) = string(name) else { continue };
            // A name that is no string anywhere makes the whole part unreadable.
            let Some((span, found)) = find(message, &name) else {
                assert!(members.iter().any(|(name, _)| string(name).is_none()));
                continue;
            };
            let mut same = members.iter().rev();
            let last = same.find(|(key, _)| string(key).as_ref() == Some(&name));
            assert_eq!(last.map(|(_, part)| *part), Some(found.as_str()));
            let other = message.text_with(&span, "[9]");
            let text = [
                &message.text()[..span.start],
                b"[9]",
                &message.text()[span.end..],
            ];
            assert_eq!(other, text.concat());
            let other = Message::parse(other).expect("still a message");
            let put = find(&other, &name).map(|(_, part)| part);
            assert_eq!(put.as_deref(), Some("[9]"));
        }
    }
}

fn check_batch(text: &Bytes) {
    let json = std::str::from_utf8(text).ok().and_then(json::read);
    let array = match json
        .filter(|json| json.depth <= MAX_DEPTH)
        .map(|json| json.top)
    {
        Some(Top::Array(parts)) => Some(parts),
        _ => None,
    };
    match (jsonrpc::batch(text), &array) {
        (Ok(found), Some(parts)) => assert_eq!(found, *parts),
        (Err(_), None) => {}
        (found, _) => panic!("{found:?} instead of {array:?}"),
    }
    assert!(array.is_none() || jsonrpc::is_array(text));
}

/// An error that quotes anything is still a message, and says it.
fn check_error(input: &[u8]) {
    let said = String::from_utf8_lossy(input);
    let error = jsonrpc::error_response("\"7\"", -32603, &said, Some("{\"n\":[]}"));
    let message = Message::parse(error.clone()).expect("a message");
    assert!(message.is_error() && message.id_text() == "\"7\"");
    assert_eq!(*message.text(), error, "on one line already");
    let value: Value = serde_json::from_slice(&error).expect("JSON");
    assert_eq!(value["error"]["message"], *said);
}
