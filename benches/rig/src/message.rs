//! The messages of a run: what is sent, and exactly what must come back. Every call carries a text that no other call
//! of the run carries, so an answer that reached the wrong caller is noticed.

use crate::client::Url;
use crate::{Context, Result};
use std::io::Write;

/// The version that legacy clients ask for.
pub const LEGACY: &str = "2024-11-05";
/// The version that the stub upstream speaks.
pub const CURRENT: &str = "2025-11-25";
/// The version of a stub upstream without a handshake.
pub const MODERN: &str = "2026-07-28";
/// The envelope of a request in that version.
const ENVELOPE: &str = r#""_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientInfo":{"name":"rig","version":"1"},"io.modelcontextprotocol/clientCapabilities":{}}"#;
/// Follows `initialize`.
pub const INITIALIZED: &[u8] = br#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;

/// `initialize` with id 0.
pub fn initialize(version: &str) -> Vec<u8> {
    format!(
        r#"{{"jsonrpc":"2.0","id":0,"method":"initialize","params":{{"protocolVersion":"{version}","capabilities":{{}},"clientInfo":{{"name":"rig","version":"1"}}}}}}"#
    )
    .into_bytes()
}

/// Whether `answer` is the answer to `initialize(version)`.
pub fn check_initialize(answer: &[u8], version: &str) -> Result<()> {
    let value: serde_json::Value = serde_json::from_slice(answer).context("initialize answer")?;
    if value["id"] == 0 && value["result"]["protocolVersion"] == version {
        return Ok(());
    }
    Err(format!(
        "not the answer to initialize with {version}: {value}"
    ))
}

/// The unique text of a call, as it stands in JSON: an escape, a letter outside ASCII and padding to some 64 bytes.
fn text(out: &mut Vec<u8>, connection: usize, id: u64) {
    // Writing to a Vec cannot fail.
    let _ = write!(out, r#"\"caf"#);
    out.extend_from_slice("é".as_bytes());
    let _ = write!(
        out,
        r#"\" connection {connection:06}, call {id:012}, and thirteen more"#
    );
}

/// Writes a `tools/call` of the tool `echo`.
pub fn call(out: &mut Vec<u8>, connection: usize, id: u64) {
    let _ = write!(
        out,
        r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"name":"echo","arguments":{{"text":""#
    );
    text(out, connection, id);
    out.extend_from_slice(br#""}}}"#);
}

/// The same as a client without a handshake says it.
pub fn modern_call(out: &mut Vec<u8>, connection: usize, id: u64) {
    call(out, connection, id);
    // Inside "params", behind "arguments".
    out.truncate(out.len() - b"}}".len());
    let _ = write!(out, ",{ENVELOPE}}}}}");
}

/// What stands before the id in an answer.
const BEFORE_ID: &[u8] = br#"{"jsonrpc":"2.0","id":"#;

/// Writes the one right answer to `call`.
pub fn answer(out: &mut Vec<u8>, connection: usize, id: u64) {
    out.extend_from_slice(BEFORE_ID);
    let _ = write!(
        out,
        r#"{id},"result":{{"content":[{{"type":"text","text":""#
    );
    text(out, connection, id);
    out.extend_from_slice(br#""}]}}"#);
}

/// The one right answer to `modern_call`.
pub fn modern_answer(out: &mut Vec<u8>, connection: usize, id: u64) {
    answer(out, connection, id);
    out.truncate(out.len() - b"}}".len());
    out.extend_from_slice(MODERN_END);
}

/// What ends the answer of an upstream without a handshake.
pub const MODERN_END: &[u8] = br#","resultType":"complete"}}"#;

/// The id of an answer; an error that shows the message when it has none.
pub fn answered_id(message: &[u8]) -> Result<u64> {
    let digits = message.strip_prefix(BEFORE_ID).unwrap_or_default();
    let end = digits
        .iter()
        .position(|byte| !byte.is_ascii_digit())
        .unwrap_or(0);
    let id = std::str::from_utf8(&digits[..end])
        .ok()
        .and_then(|text| text.parse().ok());
    id.ok_or_else(|| format!("not an answer: {}", String::from_utf8_lossy(message)))
}

/// The part of a POST that is the same for every message to one URL; the body's length comes next.
pub fn post_prefix(url: &Url, accept: &str, session: Option<&str>) -> Vec<u8> {
    let mut head = format!(
        "POST {} HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\naccept: {accept}\r\n",
        url.path, url.address
    );
    if let Some(session) = session {
        head.push_str(&format!(
            "mcp-session-id: {session}\r\nmcp-protocol-version: {CURRENT}\r\n"
        ));
    }
    head.push_str("content-length: ");
    head.into_bytes()
}

/// The same for calls of a client without a handshake.
pub fn modern_prefix(url: &Url, accept: &str) -> Vec<u8> {
    format!(
        "POST {} HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\naccept: {accept}\r\nmcp-protocol-version: {MODERN}\r\n\
         mcp-method: tools/call\r\nmcp-name: echo\r\ncontent-length: ",
        url.path, url.address
    )
    .into_bytes()
}

/// A whole POST in `out`: prefix, length, body.
pub fn post(out: &mut Vec<u8>, prefix: &[u8], body: &[u8]) {
    out.clear();
    out.extend_from_slice(prefix);
    let _ = write!(out, "{}\r\n\r\n", body.len());
    out.extend_from_slice(body);
}
