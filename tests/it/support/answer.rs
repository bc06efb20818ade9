//! A whole answer of a scripted upstream.

use serde_json::{Value, json};

use super::upstream::Received;

/// A whole answer.
#[derive(Clone, Debug)]
pub(crate) struct Answer(pub(super) Vec<u8>);

impl Answer {
    pub(crate) fn new(status: u16, headers: &[(&str, &str)], body: impl AsRef<[u8]>) -> Self {
        let body = body.as_ref();
        let mut text = format!("HTTP/1.1 {status} Scripted\r\n");
        if status != 204 {
            text.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        for (name, value) in headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        text.push_str("\r\n");
        Self([text.as_bytes(), body].concat())
    }

    pub(crate) fn json(body: &Value) -> Self {
        Self::new(
            200,
            &[("Content-Type", "application/json")],
            body.to_string(),
        )
    }

    pub(crate) fn accepted() -> Self {
        Self::new(202, &[], "")
    }

    /// A good answer to `initialize`, with a session when one is named.
    pub(crate) fn initialize(request: &Received, session: Option<&str>) -> Self {
        let body = json!({
            "jsonrpc": "2.0",
            "id": request.json()["id"],
            "result": {
                "protocolVersion": "2025-11-25",
                "capabilities": {"tools": {}},
                "serverInfo": {"name": "scripted", "version": "1"},
            },
        });
        let mut headers = vec![("Content-Type", "application/json")];
        headers.extend(session.map(|session| ("Mcp-Session-Id", session)));
        Self::new(200, &headers, body.to_string())
    }
}
