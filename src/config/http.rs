//! Parsers of values with a meaning in HTTP: URLs, paths, headers, hosts, origins, proxies, certificates.
//!
//! A complaint never repeats a header's value, a URL's query or its user-info: they hold keys.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use hyper::Uri;
use hyper::header::{HeaderName, HeaderValue};
use ipnet::IpNet;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use super::values::quoted;
use crate::proto::era::{SESSION_HEADER, VERSION_HEADER};

/// Paths that the ferry answers itself.
const OWN_PATHS: [&str; 2] = ["/healthz", "/readyz"];

/// The upstream's MCP endpoint.
pub(super) fn upstream_url(text: &str) -> Result<Uri, String> {
    url(text, &["http", "https"])
}

/// The probe's target. It talks to a ferry beside it, so it has no TLS.
pub(super) fn health_url(text: &str) -> Result<Uri, String> {
    url(text, &["http"])
}

/// The base of the ferry's URLs as clients see them: an origin, and perhaps a prefix.
pub(super) fn public_url(text: &str) -> Result<Uri, String> {
    let parsed = url(text, &["http", "https"])?;
    if parsed.query().is_some() {
        return Err(format!("{} has a query", quoted(&shown(text))));
    }
    if parsed.path() != "/" {
        check_path(parsed.path()).map_err(|why| format!("{}: its path {why}", quoted(text)))?;
    }
    Ok(parsed)
}

fn url(text: &str, schemes: &[&str]) -> Result<Uri, String> {
    let text = text.trim();
    let say = |why: &str| format!("{} {why}", quoted(&shown(text)));
    let Some((scheme, rest)) = text.split_once("://") else {
        return Err(say(&format!(
            "has no scheme: write {}://…",
            schemes.join(":// or ")
        )));
    };
    if !schemes
        .iter()
        .any(|known| scheme.eq_ignore_ascii_case(known))
    {
        return Err(say(&format!(
            "does not begin with {}://",
            schemes.join(":// or ")
        )));
    }
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if authority.contains('@') {
        return Err(
            "user-info in the URL is not used: send it with --upstream-header 'Authorization: …'"
                .to_owned(),
        );
    }
    if text.contains('#') {
        return Err(say("has a fragment"));
    }
    let host = split_port(authority).map_err(|why| say(&why))?.0;
    if host.is_empty() {
        return Err(say("has no host"));
    }
    text.parse().map_err(|_| say("is not a URL"))
}

/// A URL for people and logs: without user-info, and without the query.
pub(super) fn shown(text: &str) -> String {
    let (text, query) = match text.split_once('?') {
        Some((text, _)) => (text, "?…"),
        None => (text, ""),
    };
    match text.rsplit_once('@') {
        Some((_, after)) => format!("…@{after}{query}"),
        None => format!("{text}{query}"),
    }
}

/// The host, and the port if there is one, of `host`, `host:port`, `[::1]` or `[::1]:port`.
fn split_port(authority: &str) -> Result<(&str, Option<u16>), String> {
    let after_host = match authority.rfind(']') {
        Some(end) => end + 1,
        None => authority.find(':').unwrap_or(authority.len()),
    };
    let (host, port) = authority.split_at(after_host);
    if port.is_empty() {
        return Ok((host, None));
    }
    let port = port.strip_prefix(':').unwrap_or("");
    if port.contains(':') {
        return Err(
            "has too many colons: an IPv6 address stands in brackets, as in [::1]".to_owned(),
        );
    }
    match port.parse() {
        Ok(number) if number > 0 && !port.starts_with('+') => Ok((host, Some(number))),
        _ => Err("has a port that is not in 1 to 65535".to_owned()),
    }
}

/// An address to listen on.
pub(super) fn listen(text: &str) -> Result<SocketAddr, String> {
    let text = text.trim();
    text.parse().map_err(|_| {
        format!(
            "{} is not an IP address with a port: write 127.0.0.1:8080, 0.0.0.0:8080 or [::1]:8080",
            quoted(text)
        )
    })
}

/// A path that the ferry serves.
pub(super) fn path(text: &str) -> Result<String, String> {
    let text = text.trim();
    check_path(text).map_err(|why| format!("{} {why}", quoted(text)))?;
    if OWN_PATHS.contains(&text) {
        return Err(format!(
            "{} is taken by the ferry's own health checks",
            quoted(text)
        ));
    }
    Ok(text.to_owned())
}

/// What a proxy in front has cut off; nothing, or `/` for nothing.
pub(super) fn prefix(text: &str) -> Result<String, String> {
    let text = text.trim();
    if text.is_empty() || text == "/" {
        return Ok(String::new());
    }
    check_path(text).map_err(|why| format!("{} {why}", quoted(text)))?;
    Ok(text.to_owned())
}

/// Only paths that every proxy and client leaves as they are: the router compares them byte for byte.
fn check_path(path: &str) -> Result<(), &'static str> {
    let Some(segments) = path.strip_prefix('/') else {
        return Err("does not begin with '/'");
    };
    if path.contains('?') {
        return Err("has a query");
    }
    if segments.is_empty() || path.ends_with('/') {
        return Err("ends with '/'");
    }
    for segment in segments.split('/') {
        match segment {
            "" => return Err("has an empty segment"),
            "." | ".." => return Err("has a dot segment"),
            _ => {}
        }
    }
    let usual = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/".contains(&byte);
    match path.bytes().all(usual) {
        true => Ok(()),
        false => Err("has a character that a path must escape"),
    }
}

/// `Name: value`, for every request upstream.
pub(super) fn header(text: &str) -> Result<(HeaderName, HeaderValue), String> {
    let Some((name, value)) = text.split_once(':') else {
        return Err("needs the form 'Name: value'; there is no colon".to_owned());
    };
    let name = header_name(name)?;
    let mut value = HeaderValue::from_str(value.trim())
        .map_err(|_| format!("the value of '{name}' has a character that headers cannot carry"))?;
    value.set_sensitive(true);
    Ok((name, value))
}

/// The name of a header that is not the ferry's own business.
pub(super) fn header_name(text: &str) -> Result<HeaderName, String> {
    const HOP_BY_HOP: [&str; 9] = [
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    ];
    // Framing, content negotiation and the transport: another value would break the exchange. `Accept-Encoding` would
    // bring replies that the ferry cannot read.
    const OWN: [&str; 14] = [
        "accept",
        "accept-encoding",
        "content-encoding",
        "content-length",
        "content-type",
        "expect",
        "forwarded",
        "host",
        "last-event-id",
        "mcp-method",
        "mcp-name",
        "x-real-ip",
        SESSION_HEADER,
        VERSION_HEADER,
    ];
    let text = text.trim();
    let name = HeaderName::from_bytes(text.as_bytes())
        .map_err(|_| format!("{} is not a header's name", quoted(text)))?;
    let lower = name.as_str();
    if HOP_BY_HOP.contains(&lower) {
        return Err(format!(
            "'{name}' belongs to one connection and is never sent on"
        ));
    }
    if OWN.contains(&lower) || lower.starts_with("x-forwarded-") || lower.starts_with("mcp-param-")
    {
        return Err(format!("'{name}' is set by the ferry itself"));
    }
    Ok(name)
}

/// A network or one address.
pub(super) fn network(text: &str) -> Result<IpNet, String> {
    let text = text.trim();
    let one = || text.parse::<IpAddr>().map(IpNet::from);
    text.parse::<IpNet>()
        .or_else(|_| one())
        .map(|net| net.trunc())
        .map_err(|_| {
            format!(
                "{} is not a network: write 10.0.0.0/8, 192.0.2.1 or fd00::/8",
                quoted(text)
            )
        })
}

/// A `Host` that clients may use: `name` (any port) or `name:port`.
pub(super) fn host(text: &str) -> Result<String, String> {
    let lower = text.trim().to_ascii_lowercase();
    check_host(&lower).map_err(|why| format!("{} {why}", quoted(text)))?;
    Ok(lower)
}

fn check_host(authority: &str) -> Result<(), String> {
    if authority.contains("://") {
        return Err("is a URL: give its host only".to_owned());
    }
    if authority.contains('*') {
        return Err("has a wildcard: name each host".to_owned());
    }
    let (name, _) = split_port(authority)?;
    let usual = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    let bracketed = name
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    let fine = match bracketed {
        Some(address) => address.parse::<Ipv6Addr>().is_ok(),
        None => !name.is_empty() && !name.ends_with('.') && name.bytes().all(usual),
    };
    match fine {
        true => Ok(()),
        false => Err(
            "is not a host: write example.com, 192.0.2.1 or [::1], with a port or without"
                .to_owned(),
        ),
    }
}

/// An `Origin` that browsers may send, in the form in which they send it.
pub(super) fn origin(text: &str) -> Result<String, String> {
    let lower = text.trim().to_ascii_lowercase();
    let say = |why: &str| format!("{} {why}", quoted(text));
    if lower == "null" {
        return Err(say("stands for any hidden origin and cannot be allowed"));
    }
    let Some((scheme, host)) = lower.split_once("://") else {
        return Err(say("is not an origin: write https://example.com"));
    };
    if scheme.is_empty()
        || !scheme
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
    {
        return Err(say("has no usable scheme: write https://example.com"));
    }
    if host.contains(['/', '?', '#']) {
        return Err(say("has a path: an origin ends after host and port"));
    }
    check_host(host).map_err(|why| say(&why))?;
    // Browsers leave the default port out.
    let default = match scheme {
        "http" => ":80",
        "https" => ":443",
        _ => "",
    };
    Ok(format!(
        "{scheme}://{}",
        host.strip_suffix(default).unwrap_or(host)
    ))
}

/// A PEM file with at least one usable certificate, read once here so that a wrong one is found before anything binds.
pub(super) fn ca_file(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    let say = |why: String| format!("{} {why}", quoted(text));
    let pem = std::fs::read(&path).map_err(|error| say(format!("cannot be read: {error}")))?;
    let mut store = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate
            .map_err(|_| say("is not PEM: a section has no end, or is not base64".to_owned()))?;
        store
            .add(certificate)
            .map_err(|_| say("holds an unusable certificate".to_owned()))?;
    }
    match store.is_empty() {
        true => Err(say("holds no certificate".to_owned())),
        false => Ok(path),
    }
}
