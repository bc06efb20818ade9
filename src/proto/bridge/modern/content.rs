//! `--downgrade-content`: content that the client's revision does not know, as text that it can show.
//!
//! Nothing is lost: the block's own data stands in the text. Audio is known since 2025-03-26, resource links and structured
//! content since 2025-06-18. Pure functions of text.

use bytes::Bytes;

use super::results::append_text;
use crate::proto::jsonrpc::{Message, quote};
use crate::proto::object::{self, Object};

/// The answer to `method` for a client of this revision.
pub(in super::super) fn downgraded(text: Bytes, method: &str, version: &str) -> Bytes {
    if version >= "2025-06-18" || !matches!(method, "tools/call" | "prompts/get") {
        return text;
    }
    let Ok(answer) = Message::parse(text.clone()) else {
        return text;
    };
    let Some(mut result) = answer.result().and_then(Object::parse) else {
        return text;
    };
    if method == "prompts/get" {
        if let Some(messages) = result.get("messages").and_then(|it| messages(it, version)) {
            result.set("messages", messages);
        }
        return answer.text_with_result(&result.to_string());
    }
    if let Some(content) = result.get("content").and_then(|it| blocks(it, version)) {
        result.set("content", content);
    }
    if let Some(structured) = result.remove("structuredContent") {
        append_text(&mut result, &structured);
    }
    answer.text_with_result(&result.to_string())
}

fn messages(text: &str, version: &str) -> Option<String> {
    let messages = object::elements(text)?.into_iter().map(|text| {
        let Some(mut message) = Object::parse(text) else {
            return text.to_owned();
        };
        let content = message
            .get("content")
            .map(|content| blocks(content, version).unwrap_or_else(|| block(content, version)));
        if let Some(content) = content {
            message.set("content", content);
        }
        message.to_string()
    });
    Some(object::array(&messages.collect::<Vec<_>>()))
}

fn blocks(text: &str, version: &str) -> Option<String> {
    let blocks = object::elements(text)?;
    let blocks: Vec<String> = blocks.iter().map(|text| block(text, version)).collect();
    Some(object::array(&blocks))
}

/// One content block.
fn block(text: &str, version: &str) -> String {
    let kept = || text.to_owned();
    let Some(block) = Object::parse(text) else {
        return kept();
    };
    let member = |name: &str| block.string(name).unwrap_or_default();
    let words = match member("type").as_str() {
        "audio" if version < "2025-03-26" => {
            format!(
                "[audio] data:{};base64,{}",
                member("mimeType"),
                member("data")
            )
        }
        "resource_link" => {
            let title = if block.has("title") { "title" } else { "name" };
            format!("[resource] {} <{}> {text}", member(title), member("uri"))
        }
        _ => return kept(),
    };
    let mut plain = Object::default();
    plain.set("type", quote("text"));
    plain.set("text", quote(&words));
    if let Some(annotations) = block.get("annotations") {
        plain.set("annotations", annotations);
    }
    plain.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn downgrade(method: &str, result: &str, version: &str) -> String {
        let text = format!(r#"{{"jsonrpc":"2.0","id":1,"result":{result}}}"#);
        let text = downgraded(text.into(), method, version);
        let message = Message::parse(text).expect("a message");
        message.result().expect("a result").to_owned()
    }

    #[test]
    fn what_a_revision_does_not_know_becomes_text_with_all_its_data() {
        let audio =
            r#"{"type":"audio","data":"AAAA","mimeType":"audio/wav","annotations":{"priority":1}}"#;
        let link = r#"{"type":"resource_link","uri":"file:///a","name":"a"}"#;
        let result = format!(r#"{{"content":[{audio},{link}],"structuredContent":{{"n":1}}}}"#);
        assert_eq!(
            downgrade("tools/call", &result, "2024-11-05"),
            concat!(
                r#"{"content":[{"type":"text","text":"[audio] data:audio/wav;base64,AAAA","annotations":{"priority":1}},"#,
                r#"{"type":"text","text":"[resource] a <file:///a> {\"type\":\"resource_link\",\"uri\":\"file:///a\",\"name\":\"a\"}"},"#,
                r#"{"type":"text","text":"{\"n\":1}"}]}"#
            )
        );
        assert!(downgrade("tools/call", &result, "2025-03-26").contains(audio));
        assert_eq!(downgrade("tools/call", &result, "2025-06-18"), result);
    }

    #[test]
    fn a_text_block_that_says_the_same_is_not_repeated() {
        let result =
            r#"{"content":[{"type":"text","text":"{ \"n\": 1 }"}],"structuredContent":{"n":1}}"#;
        assert_eq!(
            downgrade("tools/call", result, "2024-11-05"),
            r#"{"content":[{"type":"text","text":"{ \"n\": 1 }"}]}"#
        );
    }

    #[test]
    fn prompts_have_one_block_a_message() {
        let result = r#"{"messages":[{"role":"user","content":{"type":"audio","data":"AA","mimeType":"audio/wav"}}]}"#;
        assert_eq!(
            downgrade("prompts/get", result, "2024-11-05"),
            r#"{"messages":[{"role":"user","content":{"type":"text","text":"[audio] data:audio/wav;base64,AA"}}]}"#
        );
    }
}
