//! The JSON-RPC envelope of one message: its kind, its id, its method. The rest stays text.
//!
//! A proxy that re-models messages loses what it does not know: unknown fields, number forms, the order of keys. So a
//! [`Message`] keeps the text it was read from and remembers only where the parts lie that a rule needs; changing an
//! id is a splice into that text, and everything else crosses byte for byte. The one change made to every message is
//! that line breaks *between* tokens become spaces, because an event of the legacy transport carries its message on
//! one `data:` line; inside a JSON string a raw line break cannot occur (RFC 8259 §7).
//!
//! Bounds: nesting up to [`MAX_DEPTH`], checked without recursion before any parser sees the text. The size of a
//! message is bounded by whoever read it.

use std::fmt;
use std::ops::Range;

use bytes::Bytes;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

/// How deep objects and arrays may nest. Deeper texts are refused before any recursive code reads them.
pub const MAX_DEPTH: usize = 128;

/// What a message is, told from which members it has (JSON-RPC 2.0 §4, §5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Has a method and an id: somebody waits for the answer.
    Request,
    /// Has a method and no id.
    Notification,
    /// Has a result or an error: the answer to a request of the other side.
    Response,
}

/// The id of a request in a form that compares as JSON-RPC means it: `1` and `1.0` are one id, `1` and `"1"` are two.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Id {
    /// A number without a fraction.
    Number(i64),
    /// A string, escapes resolved.
    String(Box<str>),
    /// Any other number, as it was written.
    Other(Box<str>),
}

impl Id {
    /// Reads an id from its JSON text. `None` when it is neither a string nor a number.
    #[must_use]
    pub fn from_json(text: &str) -> Option<Self> {
        match text.as_bytes().first()? {
            b'"' => serde_json::from_str::<String>(text)
                .ok()
                .map(|s| Self::String(s.into())),
            b'-' | b'0'..=b'9' => {
                if let Ok(number) = text.parse::<i64>() {
                    return Some(Self::Number(number));
                }
                let float: f64 = text.parse().ok()?;
                // Below 2^53 every whole number has one exact form; above, the text is the only safe key.
                if float.fract() == 0.0 && float.abs() < 9_007_199_254_740_992.0 {
                    #[allow(
                        clippy::cast_possible_truncation,
                        reason = "whole and below 2^53 by the check above"
                    )]
                    return Some(Self::Number(float as i64));
                }
                Some(Self::Other(text.into()))
            }
            _ => None,
        }
    }
}

impl fmt::Display for Id {
    /// Writes the id as JSON.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => write!(f, "{number}"),
            Self::String(text) => f.write_str(&quote(text)),
            Self::Other(text) => f.write_str(text),
        }
    }
}

/// Why a text is not a message. The `Display` form is fit for the peer that sent it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ParseError {
    /// Not UTF-8 (RFC 8259 §8.1).
    Encoding,
    /// Nested deeper than [`MAX_DEPTH`].
    TooDeep,
    /// Not JSON; the parser's words.
    Syntax(String),
    /// JSON, but not one JSON-RPC 2.0 message; says why.
    Envelope(&'static str),
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Encoding => f.write_str("the body is not UTF-8"),
            Self::TooDeep => write!(f, "the JSON is nested deeper than {MAX_DEPTH} levels"),
            Self::Syntax(why) => write!(f, "the body is not JSON: {why}"),
            Self::Envelope(why) => write!(f, "the body is not a JSON-RPC 2.0 message: {why}"),
        }
    }
}

/// One JSON-RPC message: its text, and where its envelope's parts lie in it.
#[derive(Clone, Debug)]
pub struct Message {
    text: Bytes,
    kind: Kind,
    id: Option<Id>,
    id_span: Range<usize>,
    method: Option<Box<str>>,
    params: Option<Range<usize>>,
    result: Option<Range<usize>>,
    is_error: bool,
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow, default, deserialize_with = "present")]
    jsonrpc: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    id: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    method: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    params: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    result: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    error: Option<&'a RawValue>,
}

/// Tells a member that is there and `null` from one that is not there: an id of `null` is not "no id".
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

impl Message {
    /// Reads one message. White space around it is not part of it.
    ///
    /// # Errors
    /// When the text is not UTF-8, nests too deep, is not JSON, or is not one JSON-RPC 2.0 message. Duplicate members
    /// of the envelope are refused: two readers could disagree on which one counts.
    pub fn parse(text: Bytes) -> Result<Self, ParseError> {
        check_depth(&text)?;
        let utf8 = std::str::from_utf8(&text).map_err(|_| ParseError::Encoding)?;
        let utf8 = utf8.trim_matches([' ', '\t', '\r', '\n']);
        let text = text.slice_ref(utf8.as_bytes());
        if !utf8.starts_with('{') {
            return Err(match serde_json::from_str::<&RawValue>(utf8) {
                Ok(_) => ParseError::Envelope("it must be one JSON object"),
                Err(error) => ParseError::Syntax(error.to_string()),
            });
        }
        let envelope: Envelope<'_> =
            serde_json::from_str(utf8).map_err(|error| match error.classify() {
                serde_json::error::Category::Data => ParseError::Envelope("a member appears twice"),
                _ => ParseError::Syntax(error.to_string()),
            })?;
        let mut message = Self::from_envelope(&text, &envelope)?;
        message.text = single_line(text);
        Ok(message)
    }

    fn from_envelope(text: &Bytes, envelope: &Envelope<'_>) -> Result<Self, ParseError> {
        let wrong = |why| Err(ParseError::Envelope(why));
        if envelope.jsonrpc.map(RawValue::get) != Some("\"2.0\"") {
            return wrong("\"jsonrpc\" must be \"2.0\"");
        }
        let id = match envelope.id {
            None => None,
            Some(raw) if raw.get() == "null" => None,
            Some(raw) => match Id::from_json(raw.get()) {
                Some(id) => Some(id),
                None => return wrong("\"id\" must be a string or a number"),
            },
        };
        let method = match envelope.method {
            None => None,
            Some(raw) => match serde_json::from_str::<String>(raw.get()) {
                Ok(method) => Some(method.into_boxed_str()),
                Err(_) => return wrong("\"method\" must be a string"),
            },
        };
        let answered = envelope.result.is_some() || envelope.error.is_some();
        let kind = match (&method, answered) {
            (Some(_), true) => return wrong("it has both a method and a result"),
            (Some(_), false) if envelope.id.is_none() => Kind::Notification,
            (Some(_), false) if id.is_none() => {
                return wrong("the \"id\" of a request must not be null");
            }
            (Some(_), false) => Kind::Request,
            (None, true) if envelope.result.is_some() && envelope.error.is_some() => {
                return wrong("it has both a result and an error");
            }
            (None, true) if id.is_none() && envelope.error.is_none() => {
                return wrong("a result needs the \"id\" of its request");
            }
            (None, true) => Kind::Response,
            (None, false) => return wrong("it has neither a method nor a result"),
        };
        Ok(Self {
            text: text.clone(),
            kind,
            id,
            id_span: envelope.id.map_or(0..0, |raw| span_in(text, raw)),
            method,
            params: envelope.params.map(|raw| span_in(text, raw)),
            result: envelope.result.map(|raw| span_in(text, raw)),
            is_error: envelope.error.is_some(),
        })
    }

    /// The text as it is relayed: what was read, on one line.
    #[must_use]
    pub fn text(&self) -> &Bytes {
        &self.text
    }

    /// The text as a string slice.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.text).unwrap_or_default()
    }

    /// What the message is.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The id, where there is one that is not `null`.
    #[must_use]
    pub fn id(&self) -> Option<&Id> {
        self.id.as_ref()
    }

    /// The id as it was written, or `null`.
    #[must_use]
    pub fn id_text(&self) -> &str {
        if self.id_span.is_empty() {
            "null"
        } else {
            self.slice(&self.id_span)
        }
    }

    /// The method of a request or notification; empty for a response.
    #[must_use]
    pub fn method(&self) -> &str {
        self.method.as_deref().unwrap_or_default()
    }

    /// The `params` member, as JSON text.
    #[must_use]
    pub fn params(&self) -> Option<&str> {
        self.params.as_ref().map(|span| self.slice(span))
    }

    /// The `result` member, as JSON text.
    #[must_use]
    pub fn result(&self) -> Option<&str> {
        self.result.as_ref().map(|span| self.slice(span))
    }

    /// Whether this is a response that carries an error.
    #[must_use]
    pub fn is_error(&self) -> bool {
        self.is_error
    }

    /// The same message with another id, given as JSON text. An error without an id member gets one: servers send
    /// such errors, and the client could not tell what they answer.
    #[must_use]
    pub fn text_with_id(&self, id: &str) -> Bytes {
        if !self.id_span.is_empty() {
            return splice(&self.text, &self.id_span, id);
        }
        if self.kind != Kind::Response {
            return self.text.clone();
        }
        let open = memchr::memchr(b'{', &self.text).map_or(0, |at| at + 1);
        splice(&self.text, &(open..open), &format!(r#""id":{id},"#))
    }

    /// A string member of `params`, and where its JSON text lies in the message.
    #[must_use]
    pub fn param(&self, name: &str) -> Option<(Range<usize>, &str)> {
        self.member(self.params.as_ref()?, name)
    }

    /// A member of `result`, and where its JSON text lies in the message.
    #[must_use]
    pub fn result_member(&self, name: &str) -> Option<(Range<usize>, &str)> {
        self.member(self.result.as_ref()?, name)
    }

    /// The same message with the text at `span` replaced.
    #[must_use]
    pub fn text_with(&self, span: &Range<usize>, json: &str) -> Bytes {
        splice(&self.text, span, json)
    }

    /// The same message with other `params`, given as JSON text; they are added where there were none.
    #[must_use]
    pub fn text_with_params(&self, params: &str) -> Bytes {
        if let Some(span) = &self.params {
            return splice(&self.text, span, params);
        }
        let open = memchr::memchr(b'{', &self.text).map_or(0, |at| at + 1);
        splice(&self.text, &(open..open), &format!(r#""params":{params},"#))
    }

    /// The same response with another `result`, given as JSON text; an error stays as it is.
    #[must_use]
    pub fn text_with_result(&self, result: &str) -> Bytes {
        match &self.result {
            Some(span) => splice(&self.text, span, result),
            None => self.text.clone(),
        }
    }

    fn member(&self, within: &Range<usize>, name: &str) -> Option<(Range<usize>, &str)> {
        let members: std::collections::BTreeMap<std::borrow::Cow<'_, str>, &RawValue> =
            serde_json::from_str(self.slice(within)).ok()?;
        let raw = *members.get(name)?;
        Some((span_in(&self.text, raw), raw.get()))
    }

    fn slice(&self, span: &Range<usize>) -> &str {
        self.as_str().get(span.clone()).unwrap_or_default()
    }
}

/// Takes a JSON array apart into the texts of its elements, each of them still to be parsed.
///
/// # Errors
/// When the text is not UTF-8, nests too deep, or is not a JSON array.
pub fn batch(text: &Bytes) -> Result<Vec<Bytes>, ParseError> {
    check_depth(text)?;
    let utf8 = std::str::from_utf8(text).map_err(|_| ParseError::Encoding)?;
    let elements: Vec<&RawValue> =
        serde_json::from_str(utf8).map_err(|error| ParseError::Syntax(error.to_string()))?;
    Ok(elements
        .into_iter()
        .map(|raw| text.slice(span_in(text, raw)))
        .collect())
}

/// Whether the text's first token opens an array.
#[must_use]
pub fn is_array(text: &[u8]) -> bool {
    text.iter()
        .find(|byte| !matches!(byte, b' ' | b'\t' | b'\r' | b'\n'))
        == Some(&b'[')
}

/// A string as JSON text.
#[must_use]
pub fn quote(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// An error response, ready to be sent. `id` and `data` are JSON text.
#[must_use]
pub fn error_response(id: &str, code: i64, message: &str, data: Option<&str>) -> Bytes {
    let message = quote(message);
    Bytes::from(match data {
        Some(data) => {
            format!(
                r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":{code},"message":{message},"data":{data}}}}}"#
            )
        }
        None => format!(
            r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":{code},"message":{message}}}}}"#
        ),
    })
}

/// Where `raw`, borrowed from `text`, lies in it.
fn span_in(text: &Bytes, raw: &RawValue) -> Range<usize> {
    let start = (raw.get().as_ptr() as usize).saturating_sub(text.as_ptr() as usize);
    start..start + raw.get().len()
}

fn splice(text: &Bytes, span: &Range<usize>, replacement: &str) -> Bytes {
    let mut spliced = Vec::with_capacity(text.len() + replacement.len());
    spliced.extend_from_slice(text.get(..span.start).unwrap_or_default());
    spliced.extend_from_slice(replacement.as_bytes());
    spliced.extend_from_slice(text.get(span.end..).unwrap_or_default());
    Bytes::from(spliced)
}

/// Line breaks between tokens become spaces; lengths, and so spans, stay as they are.
fn single_line(text: Bytes) -> Bytes {
    if memchr::memchr2(b'\n', b'\r', &text).is_none() {
        return text;
    }
    text.iter()
        .map(|byte| {
            if matches!(byte, b'\n' | b'\r') {
                b' '
            } else {
                *byte
            }
        })
        .collect()
}

/// Counts nesting without recursion. Strings are skipped whole, so large payloads cost one fast scan.
fn check_depth(text: &[u8]) -> Result<(), ParseError> {
    let mut depth = 0_usize;
    let mut rest = text;
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        match byte {
            b'"' => rest = after_string(after),
            b'{' | b'[' => {
                depth += 1;
                if depth > MAX_DEPTH {
                    return Err(ParseError::TooDeep);
                }
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    Ok(())
}

/// What follows the string whose opening quote was just read.
fn after_string(mut rest: &[u8]) -> &[u8] {
    while let Some(at) = memchr::memchr2(b'"', b'\\', rest) {
        let escape = rest.get(at) == Some(&b'\\');
        rest = rest.get(at + 1 + usize::from(escape)..).unwrap_or_default();
        if !escape {
            return rest;
        }
    }
    &[]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Message, ParseError> {
        Message::parse(Bytes::copy_from_slice(text.as_bytes()))
    }

    #[test]
    fn kinds_are_told_by_members() {
        let request = parse(r#"{"jsonrpc":"2.0","id":0,"method":"ping"}"#).expect("valid");
        assert_eq!(
            (request.kind(), request.method(), request.id()),
            (Kind::Request, "ping", Some(&Id::Number(0)))
        );
        let note = parse(r#"{"jsonrpc":"2.0","method":"x","params":{"a":1}}"#).expect("valid");
        assert_eq!(
            (note.kind(), note.params()),
            (Kind::Notification, Some(r#"{"a":1}"#))
        );
        let answer = parse(r#"{"jsonrpc":"2.0","id":"a","result":null}"#).expect("valid");
        assert_eq!(
            (answer.kind(), answer.result()),
            (Kind::Response, Some("null"))
        );
        let refusal =
            parse(r#"{"jsonrpc":"2.0","id":null,"error":{"code":1,"message":""}}"#).expect("valid");
        assert_eq!(
            (refusal.id(), refusal.is_error(), refusal.id_text()),
            (None, true, "null")
        );
    }

    #[test]
    fn what_is_no_message_is_refused_with_a_reason() {
        for text in [
            "",
            "{",
            "[]",
            "1",
            "null",
            "\"x\"",
            "{}",
            r#"{"jsonrpc":"2.0"}"#,
            r#"{"jsonrpc":"1.0","method":"x"}"#,
            r#"{"method":"x"}"#,
            r#"{"jsonrpc":"2.0","id":null,"method":"x"}"#,
            r#"{"jsonrpc":"2.0","id":{},"method":"x"}"#,
            r#"{"jsonrpc":"2.0","id":true,"method":"x"}"#,
            r#"{"jsonrpc":"2.0","method":7}"#,
            r#"{"jsonrpc":"2.0","id":1,"id":2,"method":"x"}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"x","result":1}"#,
            r#"{"jsonrpc":"2.0","id":1,"result":1,"error":{}}"#,
            r#"{"jsonrpc":"2.0","result":1}"#,
            r#"{"jsonrpc":"2.0","method":"x"} tail"#,
            "{\"jsonrpc\":\"2.0\",\"method\":\"a\nb\"}",
        ] {
            let error = parse(text).expect_err(text);
            assert!(!error.to_string().is_empty());
        }
        assert_eq!(
            Message::parse(Bytes::from_static(b"{\"\xff\":1}")).expect_err("bytes"),
            ParseError::Encoding
        );
    }

    #[test]
    fn ids_compare_as_json_rpc_means_it() {
        assert_eq!(Id::from_json("1"), Id::from_json("1.0"));
        assert_eq!(Id::from_json(r#""\u0061""#), Id::from_json(r#""a""#));
        assert_ne!(Id::from_json("1"), Id::from_json("\"1\""));
        assert_ne!(
            Id::from_json("9007199254740993.0"),
            Id::from_json("9007199254740992.0")
        );
        assert_eq!(Id::from_json("null"), None);
        assert_eq!(Id::from_json("1.5").expect("number").to_string(), "1.5");
    }

    #[test]
    fn everything_but_the_id_survives_a_splice() {
        let message = parse("{ \"x\" : 1.50e+3,\n\"id\" : 7 , \"jsonrpc\":\"2.0\",\r\n\"method\":\"m\\u0065\", \"params\":{\"k\":\"\\n\"}}").expect("valid");
        assert_eq!(message.method(), "me");
        assert_eq!(
            message.text_with_id("\"ferry:1\""),
            "{ \"x\" : 1.50e+3, \"id\" : \"ferry:1\" , \"jsonrpc\":\"2.0\",  \"method\":\"m\\u0065\", \"params\":{\"k\":\"\\n\"}}"
        );
        let (span, value) = message.param("k").expect("there");
        assert_eq!(value, r#""\n""#);
        assert!(
            message
                .text_with(&span, "9")
                .ends_with(br#""params":{"k":9}}"#)
        );
    }

    #[test]
    fn an_error_without_an_id_can_be_given_one() {
        let error =
            parse(r#" { "jsonrpc":"2.0","error":{"code":-32000,"message":"no"}}"#).expect("valid");
        let text = error.text_with_id("7");
        assert_eq!(
            text,
            r#"{"id":7, "jsonrpc":"2.0","error":{"code":-32000,"message":"no"}}"#
        );
        assert_eq!(
            Message::parse(text).expect("valid").id(),
            Some(&Id::Number(7))
        );
        let note = r#"{"jsonrpc":"2.0","method":"x"}"#;
        assert_eq!(parse(note).expect("valid").text_with_id("7"), note);
    }

    #[test]
    fn nesting_is_bounded_without_recursion() {
        let deep = |levels: usize| {
            format!(
                r#"{{"jsonrpc":"2.0","method":"x","params":{}{}}}"#,
                "[".repeat(levels),
                "]".repeat(levels)
            )
        };
        assert!(parse(&deep(MAX_DEPTH - 1)).is_ok());
        assert_eq!(
            parse(&deep(MAX_DEPTH)).expect_err("deep"),
            ParseError::TooDeep
        );
        assert_eq!(
            parse(&deep(1_000_000)).expect_err("very deep"),
            ParseError::TooDeep
        );
        let quoted = format!(
            r#"{{"jsonrpc":"2.0","method":"x","params":"{}\"{}"}}"#,
            "[".repeat(500),
            "{".repeat(500)
        );
        assert!(
            parse(&quoted).is_ok(),
            "brackets inside strings do not nest"
        );
    }

    #[test]
    fn batches_come_apart() {
        let text = Bytes::from_static(b" [ {\"a\":1}, 2 ]");
        assert!(is_array(&text) && !is_array(b"{}") && !is_array(b""));
        assert_eq!(
            batch(&text).expect("array"),
            vec![Bytes::from_static(b"{\"a\":1}"), Bytes::from_static(b"2")]
        );
        assert!(batch(&Bytes::from_static(b"[1")).is_err());
    }
}
