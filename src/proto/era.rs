//! Revisions of the protocol, the names they use on the wire, and what differs between them.
//!
//! Everything here is a fact of the specification or of a real server; each non-obvious one says which. A new revision
//! is a new line in [`HANDSHAKE_VERSIONS`], a new server's way of refusing a session a new phrase in
//! [`is_unknown_session`].

/// The header that names the upstream's session (2025-03-26, "Session Management").
pub const SESSION_HEADER: &str = "mcp-session-id";
/// The header that names the negotiated revision (2025-06-18, "Protocol Version Header").
pub const VERSION_HEADER: &str = "mcp-protocol-version";
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

/// JSON-RPC: the method does not exist.
pub const METHOD_NOT_FOUND: i64 = -32601;
/// JSON-RPC: internal error; the code of every error that the ferry itself makes. The server-error range is not for
/// new use (2026-07-28, "Error Codes").
pub const INTERNAL_ERROR: i64 = -32603;
/// 2026-07-28: the server does not speak this revision.
pub const UNSUPPORTED_VERSION: i64 = -32022;

/// Whether `version` is a revision with a handshake.
#[must_use]
pub fn is_handshake_version(version: &str) -> bool {
    HANDSHAKE_VERSIONS.contains(&version)
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
