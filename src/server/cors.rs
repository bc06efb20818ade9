//! Cross-origin requests of browsers (the Fetch standard, "CORS protocol"), with `--cors`.
//!
//! Exact origins only: the one that asks is named in the answer if it is allowed, never `*`, and credentials that the
//! browser keeps (cookies) are never asked for; a page sends its token itself. A preflight is answered here, before
//! anybody asks for a credential, because a browser sends none with it. The ferry is the only one that speaks of CORS:
//! what the upstream says of it ends here.

use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Response, StatusCode};

use super::body::Body;
use super::respond;
use crate::config::Config;

/// Methods that any of the ferry's paths takes.
const METHODS: &str = "GET, POST, DELETE";
/// Headers that MCP clients send, of all revisions; those of `--forward-header` and the `Mcp-Param-` ones are added.
const REQUEST_HEADERS: &str = "authorization, content-type, accept, mcp-protocol-version, mcp-session-id, last-event-id, mcp-method, mcp-name";
/// Headers that a page may read.
const EXPOSED: &str = "mcp-session-id, mcp-protocol-version, www-authenticate, retry-after";
/// How long a browser may remember the answer to a preflight, in seconds; none remembers it for longer than a day.
const REMEMBERED: &str = "7200";
/// Parameters of tools travel in headers of this prefix (2026-07-28, "Custom Headers from Tool Parameters").
const PARAMETER: &str = "mcp-param-";
/// Such headers that one preflight may ask for.
const MAX_PARAMETERS: usize = 64;

/// What is decided once.
#[derive(Debug)]
pub(super) struct Cors {
    /// The value of `Access-Control-Allow-Headers`, without the parameters that a preflight names.
    headers: String,
}

impl Cors {
    /// `None` when CORS is off.
    pub(super) fn new(config: &Config) -> Option<Self> {
        let own = config.upstream.forward_headers.iter();
        let names = std::iter::once(REQUEST_HEADERS).chain(own.map(HeaderName::as_str));
        let headers = names.collect::<Vec<_>>().join(", ");
        config.guard.cors.then_some(Self { headers })
    }

    /// The answer to a preflight of an allowed origin.
    pub(super) fn preflight(&self, headers: &HeaderMap) -> Response<Body> {
        let asked = headers
            .get_all(header::ACCESS_CONTROL_REQUEST_HEADERS)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .filter_map(|name| name.trim().parse::<HeaderName>().ok())
            .filter(|name| name.as_str().starts_with(PARAMETER))
            .take(MAX_PARAMETERS);
        let mut allowed = self.headers.clone();
        for name in asked {
            allowed.push_str(", ");
            allowed.push_str(name.as_str());
        }
        let mut response = respond::text(StatusCode::NO_CONTENT, "");
        let answer = response.headers_mut();
        answer.remove(header::CONTENT_TYPE);
        let fixed = |value| HeaderValue::from_static(value);
        answer.insert(header::ACCESS_CONTROL_ALLOW_METHODS, fixed(METHODS));
        answer.insert(header::ACCESS_CONTROL_MAX_AGE, fixed(REMEMBERED));
        if let Ok(allowed) = HeaderValue::try_from(allowed) {
            answer.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, allowed);
        }
        response
    }
}

/// Whether a request is a preflight.
pub(super) fn is_preflight(method: &Method, headers: &HeaderMap) -> bool {
    *method == Method::OPTIONS
        && headers.contains_key(header::ORIGIN)
        && headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
}

/// Removes what the upstream says of CORS: two voices in one answer are an error for the browser.
pub(super) fn silence(answer: &mut HeaderMap) {
    let spoken = |name: &&HeaderName| name.as_str().starts_with("access-control-");
    while let Some(name) = answer.keys().find(spoken).cloned() {
        answer.remove(name);
    }
}

/// Says in an answer that the page of `origin`, which is allowed, may read it.
pub(super) fn mark(answer: &mut HeaderMap, origin: Option<&HeaderValue>) {
    answer.append(header::VARY, HeaderValue::from_static("origin"));
    if let Some(origin) = origin {
        answer.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        answer.insert(
            header::ACCESS_CONTROL_EXPOSE_HEADERS,
            HeaderValue::from_static(EXPOSED),
        );
    }
}

/// The same as lines of a response head, for the stream that hyper does not write. An origin that was allowed is plain
/// text without line ends: it equals one of the configuration, or is a loopback one.
pub(super) fn lines(origin: Option<&HeaderValue>) -> String {
    match origin.and_then(|origin| origin.to_str().ok()) {
        Some(origin) => format!(
            "vary: origin\r\naccess-control-allow-origin: {origin}\r\naccess-control-expose-headers: {EXPOSED}\r\n"
        ),
        None => "vary: origin\r\n".to_owned(),
    }
}
