//! The errors that the ferry makes itself, as JSON-RPC errors a person can act on.
//!
//! Form: code -32603, a sentence that says what happened and what to do, and `data.ferry = {reason, executed, …}`,
//! where `executed` is `"no"` when the upstream certainly did not run the request and `"unknown"` otherwise.

use bytes::Bytes;

use super::vocabulary::Refusal;
use crate::proto::{era, jsonrpc};

/// Whether the upstream may have run the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Executed {
    No,
    Unknown,
}

/// What went wrong. A closed set; the names stand in `data.ferry.reason`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    UpstreamUnreachable,
    UpstreamLost,
    UpstreamCut,
    UpstreamNoResponse,
    UpstreamRefused,
    UpstreamRedirect,
    UpstreamInvalid,
    MessageTooLarge,
    Unauthorized,
    HandshakeFailed,
    SessionLost,
    Timeout,
    TooManyInFlight,
    ShuttingDown,
    StreamAge,
    NotExpressible,
    UnknownVersion,
    ClientCapability,
    InputRefused,
    TooManyQuestions,
}

impl Reason {
    fn name(self) -> &'static str {
        match self {
            Self::UpstreamUnreachable => "upstream_unreachable",
            Self::UpstreamLost => "upstream_lost",
            Self::UpstreamCut => "upstream_cut",
            Self::UpstreamNoResponse => "upstream_no_response",
            Self::UpstreamRefused => "upstream_refused",
            Self::UpstreamRedirect => "upstream_redirect",
            Self::UpstreamInvalid => "upstream_invalid",
            Self::MessageTooLarge => "message_too_large",
            Self::Unauthorized => "unauthorized",
            Self::HandshakeFailed => "handshake_failed",
            Self::SessionLost => "session_lost",
            Self::Timeout => "timeout",
            Self::TooManyInFlight => "too_many_in_flight",
            Self::ShuttingDown => "shutting_down",
            Self::StreamAge => "stream_age",
            Self::NotExpressible => "not_expressible",
            Self::UnknownVersion => "unknown_version",
            Self::ClientCapability => "client_capability",
            Self::InputRefused => "input_refused",
            Self::TooManyQuestions => "too_many_questions",
        }
    }
}

/// One such error, before it has an id.
#[derive(Clone, Debug)]
pub(super) struct Trouble {
    pub(super) reason: Reason,
    pub(super) executed: Executed,
    pub(super) text: String,
    pub(super) status: Option<u16>,
    pub(super) retry_after_ms: Option<u64>,
}

impl Trouble {
    pub(super) fn new(reason: Reason, executed: Executed, text: impl Into<String>) -> Self {
        Self {
            reason,
            executed,
            text: text.into(),
            status: None,
            retry_after_ms: None,
        }
    }

    /// The ferry's own handshake came to nothing, so the requests that waited for it were not sent.
    pub(super) fn handshake(why: &str) -> Self {
        let text =
            format!("the handshake with the upstream failed: {why}. The request was not sent");
        Self::new(Reason::HandshakeFailed, Executed::No, text)
    }

    /// The same where the upstream refused it with an HTTP error status.
    pub(super) fn handshake_refused(refusal: &Refusal) -> Self {
        let mut trouble = Self::from_refusal(refusal);
        if trouble.executed == Executed::Unknown {
            let why = std::mem::take(&mut trouble.text);
            trouble.text = Self::handshake(&why).text;
        }
        trouble.executed = Executed::No;
        trouble
    }

    /// What an answer with an HTTP error status means for the request it answers.
    pub(super) fn from_refusal(refusal: &Refusal) -> Self {
        let status = refusal.status;
        let said = excerpt(&refusal.body);
        let (reason, executed, text) = match status {
            300..=399 => {
                let target = refusal.location.as_deref().unwrap_or("an unnamed place");
                let text = format!(
                    "the upstream redirects ({status}) to {target}; mcp-ferry follows only 307 and 308 on the same \
                     origin. Point --upstream at the final address"
                );
                (Reason::UpstreamRedirect, Executed::No, text)
            }
            401 | 403 => {
                let text =
                    format!("the upstream refused the credentials ({status}){said}. Log in again");
                (Reason::Unauthorized, Executed::No, text)
            }
            404 | 405 => {
                let text = format!(
                    "the upstream has no MCP endpoint at the configured address ({status}){said}. Check the path of --upstream"
                );
                (Reason::UpstreamRefused, Executed::No, text)
            }
            408 | 409 => (
                Reason::UpstreamRefused,
                Executed::Unknown,
                format!("the upstream answered {status}{said}"),
            ),
            400..=499 => (
                Reason::UpstreamRefused,
                Executed::No,
                format!("the upstream refused the request ({status}){said}"),
            ),
            _ => (
                Reason::UpstreamRefused,
                Executed::Unknown,
                format!("the upstream failed ({status}){said}"),
            ),
        };
        Self {
            reason,
            executed,
            text,
            status: Some(status),
            retry_after_ms: refusal
                .retry_after
                .map(|seconds| seconds.saturating_mul(1000)),
        }
    }

    /// The error as the response to the request whose id has this JSON text.
    pub(super) fn response(&self, id: &str) -> Bytes {
        let executed = match self.executed {
            Executed::No => "no",
            Executed::Unknown => "unknown",
        };
        let mut ferry = format!(
            r#"{{"ferry":{{"reason":"{}","executed":"{executed}""#,
            self.reason.name()
        );
        if let Some(status) = self.status {
            ferry.push_str(&format!(r#","status":{status}"#));
        }
        if let Some(millis) = self.retry_after_ms {
            ferry.push_str(&format!(r#","retryAfterMs":{millis}"#));
        }
        ferry.push_str("}}");
        jsonrpc::error_response(
            id,
            era::INTERNAL_ERROR,
            &format!("mcp-ferry: {}", self.text),
            Some(&ferry),
        )
    }
}

/// The start of what a server said, as `: "…"`; empty for markup and for nothing.
pub(super) fn excerpt(body: &[u8]) -> String {
    const LONGEST: usize = 200;
    let head = body.get(..body.len().min(4 * LONGEST)).unwrap_or_default();
    let text: String = String::from_utf8_lossy(head)
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(LONGEST)
        .collect();
    let text = text.trim();
    if text.is_empty() || text.starts_with('<') {
        String::new()
    } else {
        format!(": {text:?}")
    }
}
