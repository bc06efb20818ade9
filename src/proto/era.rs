//! Revisions of the protocol, the names they use on the wire, and what differs between them.
//!
//! Everything here is a fact of the specification or of a real server; each non-obvious one says which. A new revision
//! is a new line in [`HANDSHAKE_VERSIONS`], a new server's way of refusing a session a new phrase in
//! [`is_unknown_session`].

use std::fmt;

/// The header that names the upstream's session (2025-03-26, "Session Management").
pub const SESSION_HEADER: &str = "mcp-session-id";
/// The header that names the negotiated revision (2025-06-18, "Protocol Version Header").
pub const VERSION_HEADER: &str = "mcp-protocol-version";
/// The header that repeats the method (2026-07-28, "Standard Request Headers").
pub const METHOD_HEADER: &str = "mcp-method";
/// The header that repeats the name or URI of what is called, got or read.
pub const NAME_HEADER: &str = "mcp-name";
/// What the names of the headers begin with that repeat a tool's arguments.
pub const PARAMETER_PREFIX: &str = "mcp-param-";
/// What a Streamable HTTP client must accept on a POST (2025-03-26, "Sending Messages to the Server"). Servers compare
/// this text in strict ways, so it names these two types and nothing else.
pub const ACCEPT_POST: &str = "application/json, text/event-stream";
/// What it must accept on a GET.
pub const ACCEPT_GET: &str = "text/event-stream";

/// The revision that the HTTP+SSE transport belongs to; what a client speaks that says nothing of its revision.
pub const LEGACY_VERSION: &str = "2024-11-05";

/// The revisions with an `initialize` handshake, oldest first.
pub const HANDSHAKE_VERSIONS: [&str; 5] = [
    "2024-10-07",
    LEGACY_VERSION,
    "2025-03-26",
    "2025-06-18",
    "2025-11-25",
];

/// The revisions without a handshake that the ferry speaks, oldest first.
pub const MODERN_VERSIONS: [&str; 1] = [MODERN_VERSION];
/// The revision that is spoken to a modern upstream.
pub const MODERN_VERSION: &str = "2026-07-28";

/// The two eras of the protocol (2026-07-28, "Versioning and Compatibility"; there "legacy" and "modern").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Era {
    /// 2024-11-05 to 2025-11-25: `initialize`, and maybe a session.
    Handshake,
    /// From 2026-07-28 on: each request says by itself what it needs said.
    Modern,
}

impl fmt::Display for Era {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Handshake => "handshake",
            Self::Modern => "modern",
        })
    }
}

/// JSON-RPC: the message is no request.
pub const INVALID_REQUEST: i64 = -32600;
/// JSON-RPC: the parameters are not those of the method.
pub const INVALID_PARAMS: i64 = -32602;
/// JSON-RPC: the method does not exist.
pub const METHOD_NOT_FOUND: i64 = -32601;
/// JSON-RPC: the text is not JSON.
pub const PARSE_ERROR: i64 = -32700;
/// JSON-RPC: internal error; the code of every error that the ferry itself makes. The server-error range is not for
/// new use (2026-07-28, "Error Codes").
pub const INTERNAL_ERROR: i64 = -32603;
/// Handshake era: there is no such resource. Later revisions say [`INVALID_PARAMS`].
pub const RESOURCE_NOT_FOUND: i64 = -32002;
/// 2026-07-28: the headers do not say what the body says.
pub const HEADER_MISMATCH: i64 = -32020;
/// 2026-07-28: the request needs a capability that the client does not have.
pub const MISSING_CAPABILITY: i64 = -32021;
/// 2026-07-28: the server does not speak this revision.
pub const UNSUPPORTED_VERSION: i64 = -32022;

/// What an error says of the era of the server that made it.
///
/// `status` is the HTTP status it came with, `code` the JSON-RPC code where the body is a JSON-RPC error, and
/// `supported` the revisions that an [`UNSUPPORTED_VERSION`] names. `None`: nothing.
///
/// Modern servers refuse with codes of their range (-32020 to -32099) and a missing method with 404 and -32601; what else
/// is refused with 400, 404, 405, 406, 415 or 422 comes from a server that took the request for one of the handshake era
/// (2026-07-28, "Backward Compatibility").
#[must_use]
pub fn shown_by_error(status: u16, code: Option<i64>, supported: &[String]) -> Option<Era> {
    match code {
        Some(UNSUPPORTED_VERSION) if !supported.is_empty() => {
            let modern = supported.iter().any(|version| is_modern_version(version));
            let known = supported
                .iter()
                .any(|version| is_handshake_version(version));
            match (modern, known) {
                (true, _) => Some(Era::Modern),
                (false, true) => Some(Era::Handshake),
                (false, false) => None,
            }
        }
        Some(-32099..=-32020) => Some(Era::Modern),
        Some(METHOD_NOT_FOUND) if status == 404 => Some(Era::Modern),
        Some(METHOD_NOT_FOUND | INVALID_PARAMS | INTERNAL_ERROR | PARSE_ERROR) => None,
        _ if matches!(status, 400 | 404..=406 | 415 | 422) => Some(Era::Handshake),
        _ => None,
    }
}

/// Whether an error that answers `initialize` leaves it open that the server is modern: one that says so, and every 400,
/// because a proxy in front of a modern server may have refused what lacks its headers.
#[must_use]
pub fn may_be_modern(status: u16, code: Option<i64>, supported: &[String]) -> bool {
    match code {
        Some(UNSUPPORTED_VERSION) => {
            shown_by_error(status, code, supported) != Some(Era::Handshake)
        }
        Some(HEADER_MISMATCH | MISSING_CAPABILITY) => true,
        Some(METHOD_NOT_FOUND) => true,
        _ => status == 400,
    }
}

/// Whether `version` is a revision without a handshake that the ferry speaks.
#[must_use]
pub fn is_modern_version(version: &str) -> bool {
    MODERN_VERSIONS.contains(&version)
}

/// Whether `version` is a revision with a handshake.
#[must_use]
pub fn is_handshake_version(version: &str) -> bool {
    HANDSHAKE_VERSIONS.contains(&version)
}

/// The revision that a client is spoken to in, which asked for this one: its own, where it is known, else the last one with
/// a handshake.
#[must_use]
pub fn handshake_version(asked: &str) -> &'static str {
    let known = HANDSHAKE_VERSIONS.iter().find(|version| **version == asked);
    known.copied().unwrap_or("2025-11-25")
}

/// Whether clients of this revision may send JSON-RPC batches: 2025-06-18 removed them.
#[must_use]
pub fn allows_batches(version: &str) -> bool {
    version < "2025-06-18"
}

/// Whether running the request twice does no harm, so that it may be sent again after a body byte may have left.
/// Tool calls never are: annotations such as `readOnlyHint` are untrusted.
#[must_use]
pub fn is_safe(method: &str) -> bool {
    matches!(
        method,
        "initialize"
            | "ping"
            | "server/discover"
            | "tools/list"
            | "prompts/list"
            | "prompts/get"
            | "resources/list"
            | "resources/templates/list"
            | "resources/read"
            | "resources/subscribe"
            | "resources/unsubscribe"
            | "completion/complete"
            | "logging/setLevel"
    )
}

/// Whether a refusal means "I do not know this session", so that nothing was executed and a new handshake helps.
///
/// The specification says 404. Other answers of real servers: 400 "No valid session ID provided" (the TypeScript
/// examples, Python before 1.26), 400 "Server not initialized" (a TypeScript transport after a restart), 400 with a
/// session complaint (mcp-lite), and 401 "Session not found" without a challenge (rmcp before 1.0). Only asked about
/// requests that carried a session id; `challenged` says whether the answer had a `WWW-Authenticate` header.
#[must_use]
pub fn is_unknown_session(status: u16, challenged: bool, body: &[u8]) -> bool {
    const PHRASES: [&str; 8] = [
        "no valid session",
        "server not initialized",
        "session not found",
        "invalid session",
        "unknown session",
        "session expired",
        "session has been terminated",
        "invalid or expired session",
    ];
    match status {
        404 => true,
        400 => mentions(body, &PHRASES),
        401 => !challenged && mentions(body, &["session not found"]),
        _ => false,
    }
}

/// Looks for a phrase in the first bytes of a body, whatever its case. Bound: 4 KiB are looked at.
fn mentions(body: &[u8], phrases: &[&str]) -> bool {
    let head = body.get(..body.len().min(4096)).unwrap_or_default();
    let text = String::from_utf8_lossy(head).to_ascii_lowercase();
    phrases.iter().any(|phrase| text.contains(phrase))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_sessions_are_told_from_other_refusals() {
        assert!(is_unknown_session(404, false, b""));
        assert!(is_unknown_session(
            400,
            false,
            br#"{"error":{"message":"Bad Request: No valid session ID provided"}}"#
        ));
        assert!(is_unknown_session(
            401,
            false,
            b"Unauthorized: Session not found"
        ));
        assert!(!is_unknown_session(
            401,
            true,
            b"Unauthorized: Session not found"
        ));
        assert!(!is_unknown_session(401, false, b"Unauthorized"));
        assert!(!is_unknown_session(
            400,
            false,
            br#"{"error":{"message":"Parse error"}}"#
        ));
        assert!(!is_unknown_session(500, false, b"Session not found"));
    }

    #[test]
    fn batches_ended_with_2025_06_18() {
        assert!(allows_batches("2024-11-05") && allows_batches("2025-03-26"));
        assert!(!allows_batches("2025-06-18") && !allows_batches("2025-11-25"));
    }
}
