//! Redirects: 307 and 308, on the same origin, for the configured endpoint only.
//!
//! Python frameworks redirect `/mcp` to `/mcp/`; that is followed, and remembered so that it costs one request once.
//! Every other redirect is refused with an error that names the target: a redirect must lead neither a credential nor
//! a request to an address that the operator did not configure.

use hyper::header::{self, HeaderMap};
use hyper::http::uri::{Authority, Scheme};
use hyper::{StatusCode, Uri};

use super::Upstream;

/// Redirects in a row that are followed.
pub(super) const MAX_HOPS: u8 = 3;

/// Where an answer redirects to, if that may be followed. `from` is the endpoint without any client's query.
pub(super) fn target(from: &Uri, status: StatusCode, headers: &HeaderMap) -> Option<Uri> {
    if !matches!(
        status,
        StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT
    ) {
        return None;
    }
    let location: Uri = headers.get(header::LOCATION)?.to_str().ok()?.parse().ok()?;
    let mut parts = from.clone().into_parts();
    if let Some(authority) = location.authority() {
        let scheme = location.scheme().unwrap_or(&Scheme::HTTP);
        let own = from.scheme().unwrap_or(&Scheme::HTTP);
        if scheme != own || !same_authority(from.authority()?, authority, own) {
            return None;
        }
    }
    let path = location.path();
    // `//host/path` is another origin, though it parses as a path.
    if !path.starts_with('/') || path.starts_with("//") {
        return None;
    }
    // Only the path is taken: a redirect's query repeats that of the request, which may hold one client's key, and
    // remembered it would go out with everybody's requests. The configured query stays.
    let joined = match from.query() {
        Some(query) => format!("{path}?{query}"),
        None => path.to_owned(),
    };
    parts.path_and_query = joined.parse().ok();
    Uri::from_parts(parts).ok()
}

/// Remembers where a passed-through answer says that the endpoint is, so that the next request goes there directly.
pub(super) fn learn(upstream: &Upstream, status: StatusCode, headers: &HeaderMap) {
    if status.is_redirection()
        && let Some(to) = target(&upstream.configured, status, headers)
    {
        upstream.move_endpoint(to);
    }
}

fn same_authority(a: &Authority, b: &Authority, scheme: &Scheme) -> bool {
    let default = if *scheme == Scheme::HTTPS { 443 } else { 80 };
    a.host().eq_ignore_ascii_case(b.host())
        && a.port_u16().unwrap_or(default) == b.port_u16().unwrap_or(default)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_origin_is_followed() {
        let from: Uri = "http://h:80/mcp?key=1".parse().expect("uri");
        let follow = |status: u16, location: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::LOCATION, location.parse().expect("value"));
            target(
                &from,
                StatusCode::from_u16(status).expect("status"),
                &headers,
            )
            .map(|uri| uri.to_string())
        };
        assert_eq!(
            follow(307, "/mcp/").as_deref(),
            Some("http://h:80/mcp/?key=1")
        );
        assert_eq!(
            follow(308, "http://H/mcp/?key=1&a=2").as_deref(),
            Some("http://h:80/mcp/?key=1")
        );
        for location in [
            "http://other/mcp/",
            "https://h/mcp/",
            "http://h:81/mcp/",
            "//evil/mcp",
            "mcp/",
        ] {
            assert_eq!(follow(307, location), None, "{location}");
        }
        assert_eq!(follow(302, "/mcp/"), None);
        assert_eq!(follow(301, "/mcp/"), None);
    }
}
