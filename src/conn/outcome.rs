//! How a request ended, told by a look at its outcome, for the metrics.

use bytes::Bytes;

use crate::metrics::labels::{Method, Outcome};
use crate::proto::jsonrpc::Message;

/// What an outcome says. It is a valid message, so that a look at its members' names tells most of it; a second reading
/// would cost as much as the first.
pub(super) fn outcome_of(method: Method, text: &Bytes) -> Outcome {
    if first_of(text) == Some(Member::Error) {
        return Outcome::Error;
    }
    let failed = || {
        let message = Message::parse(text.clone()).ok();
        let member = message.as_ref().and_then(|it| it.result_member("isError"));
        member.is_some_and(|(_, value)| value == "true")
    };
    match method == Method::ToolsCall && may_say_error(text) && failed() {
        true => Outcome::ToolError,
        false => Outcome::Result,
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Member {
    Result,
    Error,
}

/// Which of the two a response has. What stands before it, version and id, is never an object.
fn first_of(text: &[u8]) -> Option<Member> {
    let mut rest = text.trim_ascii_start().strip_prefix(b"{")?;
    loop {
        rest = rest.trim_ascii_start();
        if rest.starts_with(b"\"result\"") {
            return Some(Member::Result);
        }
        if rest.starts_with(b"\"error\"") {
            return Some(Member::Error);
        }
        rest = after_string(rest)?.trim_ascii_start().strip_prefix(b":")?;
        rest = rest.trim_ascii_start();
        if rest.starts_with(b"\"") {
            rest = after_string(rest)?;
        }
        // A member that nobody knows may be an object; then this finds one of its members, and only a count is wrong.
        let comma = rest.iter().position(|byte| *byte == b',')?;
        rest = rest.get(comma + 1..)?;
    }
}

/// What follows the JSON string that this begins with.
fn after_string(text: &[u8]) -> Option<&[u8]> {
    let mut escaped = false;
    let inside = text.strip_prefix(b"\"")?;
    let end = inside.iter().position(|byte| {
        let ends = *byte == b'"' && !escaped;
        escaped = *byte == b'\\' && !escaped;
        ends
    })?;
    inside.get(end + 1..)
}

/// Whether `"isError": true` stands anywhere in it.
fn may_say_error(text: &[u8]) -> bool {
    const NAME: &[u8] = b"\"isError\"";
    memchr::memmem::find_iter(text, NAME).any(|at| {
        let rest = text.get(at + NAME.len()..).unwrap_or_default();
        let value = rest.trim_ascii_start().strip_prefix(b":");
        value.is_some_and(|value| value.trim_ascii_start().starts_with(b"true"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(method: Method, text: &'static str) -> Outcome {
        outcome_of(method, &Bytes::from_static(text.as_bytes()))
    }

    #[test]
    fn outcomes_are_told_by_their_members() {
        let call = Method::ToolsCall;
        for (text, outcome) in [
            (
                r#"{"jsonrpc":"2.0","id":1,"result":{"error":1}}"#,
                Outcome::Result,
            ),
            (
                r#"{ "result" : {} , "jsonrpc":"2.0","id":"error"}"#,
                Outcome::Result,
            ),
            (
                r#"{"jsonrpc":"2.0","id":"a\",\"result\":","error":{"code":1,"message":""}}"#,
                Outcome::Error,
            ),
            (r#"{"error":{},"jsonrpc":"2.0","id":1}"#, Outcome::Error),
            (
                r#"{"jsonrpc":"2.0","id":1,"result":{"content":[],"isError":false}}"#,
                Outcome::Result,
            ),
            (
                r#"{"jsonrpc":"2.0","id":1,"result":{"content":[],"isError" : true}}"#,
                Outcome::ToolError,
            ),
            (
                r#"{"jsonrpc":"2.0","id":1,"result":{"content":[{"isError":true}]}}"#,
                Outcome::Result,
            ),
            (
                r#"{"jsonrpc":"2.0","id":1,"result":{"text":"\"isError\":true"}}"#,
                Outcome::Result,
            ),
        ] {
            assert_eq!(of(call, text), outcome, "{text}");
        }
        let failed = r#"{"jsonrpc":"2.0","id":1,"result":{"isError":true}}"#;
        assert_eq!(
            of(Method::ResourcesRead, failed),
            Outcome::Result,
            "only tools fail so"
        );
    }
}
