//! The upstream's results in the shape that the client's revision knows.
//!
//! What 2026-07-28 added to every result is taken away (`resultType`, the caching hints, the reserved keys of `_meta`): old
//! clients do not need it, and strict ones refuse it. The rest stays as it was written, except where a newer form would
//! not be read at all: schemas and structured content that are no objects. Pure functions of text.

use bytes::Bytes;

use super::discover::server_info;
use crate::proto::jsonrpc::{Message, quote};
use crate::proto::object::{self, Object};

/// Keys of `_meta` that only a modern client has a use for.
const RESERVED: [&str; 2] = [
    "io.modelcontextprotocol/serverInfo",
    "io.modelcontextprotocol/subscriptionId",
];

/// The answer to a request as the client sees it; `version` is the client's revision.
pub(super) fn for_client(answer: &Message, request: &Message, version: &str) -> Bytes {
    let Some(mut result) = answer.result().and_then(Object::parse) else {
        return answer.text().clone();
    };
    result.remove("resultType");
    match request.method() {
        "tools/list"
        | "prompts/list"
        | "resources/list"
        | "resources/templates/list"
        | "resources/read" => {
            result.remove("ttlMs");
            result.remove("cacheScope");
        }
        "tools/call" => plain_structure(&mut result),
        _ => {}
    }
    without_reserved_meta(&mut result);
    if request.method() == "tools/list" {
        let tools = result
            .get("tools")
            .and_then(|tools| tools_for(tools, version));
        if let Some(tools) = tools {
            result.set("tools", tools);
        }
    }
    answer.text_with_result(&result.to_string())
}

/// Takes the reserved keys out of an object's `_meta`, and `_meta` itself when nothing is left.
fn without_reserved_meta(object: &mut Object<'_>) {
    let Some(mut meta) = object.remove("_meta") else {
        return;
    };
    let Some(mut kept) = Object::parse(&meta) else {
        return object.set("_meta", meta);
    };
    if RESERVED.iter().any(|name| kept.get(name).is_some()) {
        kept.retain(|name| !RESERVED.contains(&name));
        if kept.is_empty() {
            return;
        }
        let text = kept.to_string();
        meta = text.into();
    }
    object.set("_meta", meta);
}

/// Structured content that is no object, which 2026-07-28 allows and older revisions do not, becomes text, unless a text
/// block says the same already.
fn plain_structure(result: &mut Object<'_>) {
    let structured = result.get("structuredContent").map(str::to_owned);
    let Some(structured) = structured.filter(|it| !it.starts_with('{')) else {
        return;
    };
    result.remove("structuredContent");
    append_text(result, &structured);
}

/// Adds a text block with this text to a result's `content`, where none says the same JSON.
pub(super) fn append_text(result: &mut Object<'_>, text: &str) {
    let content = result.get("content").unwrap_or("[]").to_owned();
    let Some(blocks) = object::elements(&content) else {
        return;
    };
    let same: Option<serde_json::Value> = serde_json::from_str(text).ok();
    let says_it = |block: &&str| {
        let said = Object::parse(block).and_then(|block| block.string("text"));
        said.is_some_and(|said| serde_json::from_str(&said).ok() == same)
    };
    if blocks.iter().any(says_it) {
        return;
    }
    let block = format!(r#"{{"type":"text","text":{}}}"#, quote(text));
    let mut blocks = blocks;
    blocks.push(&block);
    result.set("content", object::array(&blocks));
}

/// A list of tools without those whose annotations break the rules, and without output schemas that are not of objects.
fn tools_for(tools: &str, version: &str) -> Option<String> {
    let listed = object::elements(tools)?;
    let mut kept: Vec<String> = Vec::with_capacity(listed.len());
    for text in listed {
        let Some(mut tool) = Object::parse(text) else {
            kept.push(text.to_owned());
            continue;
        };
        if let Some(schema) = tool.get("inputSchema")
            && crate::proto::mirror::parameters(schema).is_err()
        {
            continue;
        }
        let of_object = |schema: &str| {
            let schema = Object::parse(schema);
            schema.and_then(|schema| schema.string("type")).as_deref() == Some("object")
        };
        let odd = tool
            .get("outputSchema")
            .is_some_and(|schema| !of_object(schema));
        if odd && version >= "2025-06-18" {
            tool.remove("outputSchema");
            kept.push(tool.to_string());
        } else {
            kept.push(text.to_owned());
        }
    }
    Some(object::array(&kept))
}

/// The result of `initialize` for a client of this revision, from that of `server/discover`. `listens` says whether changes
/// can be told.
pub(super) fn initialize_result(answer: &Message, version: &str, listens: bool) -> String {
    let discovered = answer.result().and_then(Object::parse).unwrap_or_default();
    let mut result = Object::default();
    result.set("protocolVersion", quote(version));
    let capabilities = discovered.get("capabilities").and_then(Object::parse);
    let capabilities = capabilities.unwrap_or_default();
    result.set(
        "capabilities",
        capabilities_for(&capabilities, version, listens),
    );
    let known: &[&str] = match version {
        "2025-11-25" => &[
            "name",
            "version",
            "title",
            "description",
            "icons",
            "websiteUrl",
        ],
        "2025-06-18" => &["name", "version", "title"],
        _ => &["name", "version"],
    };
    result.set("serverInfo", server_info(&discovered, known));
    if let Some(instructions) = discovered.string("instructions") {
        result.set("instructions", quote(&instructions));
    }
    result.to_string()
}

/// The server's capabilities as far as the client's revision has them. Extensions are not advertised: what they add to the
/// protocol needs a modern client.
fn capabilities_for(capabilities: &Object<'_>, version: &str, listens: bool) -> String {
    let mut mapped = Object::default();
    let object = |name: &str| capabilities.get(name).filter(|it| it.starts_with('{'));
    for name in ["experimental", "logging"] {
        if let Some(value) = object(name) {
            mapped.set(name, value);
        }
    }
    if let Some(value) = object("completions").filter(|_| version >= "2025-03-26") {
        mapped.set("completions", value);
    }
    for (name, promises) in [
        ("prompts", &["listChanged"][..]),
        ("resources", &["subscribe", "listChanged"]),
        ("tools", &["listChanged"]),
    ] {
        let Some(offered) = object(name).and_then(Object::parse) else {
            continue;
        };
        let mut kept = Object::default();
        for promise in promises {
            if listens && offered.get(promise) == Some("true") {
                kept.set(promise, "true");
            }
        }
        mapped.set(name, kept.to_string());
    }
    mapped.to_string()
}

/// A notification of the upstream without the key that only its stream needs.
pub(super) fn notification_for_client(message: &Message) -> Bytes {
    let Some(mut params) = message.params().and_then(Object::parse) else {
        return message.text().clone();
    };
    without_reserved_meta(&mut params);
    message.text_with_params(&params.to_string())
}
