//! Who may ask: `Host` and `Origin`, against web pages that reach for servers on the same machine (DNS rebinding).
//!
//! A listener on a loopback address is known only by loopback names and by those of `--allowed-host` and
//! `--public-url`. Another listener is known by any name until `--allowed-host` or `--public-url` names some. An
//! `Origin`, which only browsers send, must be a loopback one on a loopback listener, or be listed. Passed-through
//! requests keep their `Origin`, and the upstream judges it; their `Host` is judged here, because the upstream gets
//! its own.

use std::net::IpAddr;

use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Request, Uri};

use super::respond::Refused;
use crate::config::Config;

/// The names and origins that are let in.
#[derive(Debug)]
pub(super) struct Guard {
    hosts: Vec<String>,
    origins: Vec<String>,
}

impl Guard {
    pub(super) fn new(config: &Config) -> Self {
        let mut hosts = config.guard.allowed_hosts.clone();
        if let Some(authority) = config.paths.public_url.as_ref().and_then(Uri::authority) {
            hosts.push(authority.as_str().to_ascii_lowercase());
        }
        Self {
            hosts,
            origins: config.guard.allowed_origins.clone(),
        }
    }

    /// Judges the host that a request names and that arrived at the local address `local`: one `Host` header exactly
    /// (RFC 9112 §3.2), and no other host in an address of absolute form.
    pub(super) fn host<B>(&self, request: &Request<B>, local: IpAddr) -> Result<(), Refused> {
        let mut values = request.headers().get_all(header::HOST).iter();
        let refused = |host: &str| Refused::Host(host.chars().take(100).collect());
        let (Some(value), None) = (values.next(), values.next()) else {
            return Err(Refused::NoHost);
        };
        if let Some(authority) = request.uri().authority()
            && !value
                .as_bytes()
                .eq_ignore_ascii_case(authority.as_str().as_bytes())
        {
            return Err(Refused::TwoHosts);
        }
        let host = value
            .to_str()
            .map_err(|_| refused("(not text)"))?
            .to_ascii_lowercase();
        if self
            .hosts
            .iter()
            .any(|allowed| *allowed == host || *allowed == *without_port(&host))
        {
            return Ok(());
        }
        if is_loopback_name(without_port(&host)) || (!local.is_loopback() && self.hosts.is_empty())
        {
            return Ok(());
        }
        Err(refused(&host))
    }

    /// The `Origin` header, if there is one and it is allowed.
    pub(super) fn allowed_origin(&self, headers: &HeaderMap, local: IpAddr) -> Option<HeaderValue> {
        let origin = headers.get(header::ORIGIN)?;
        self.origin(headers, local).ok().map(|()| origin.clone())
    }

    /// Judges the `Origin` header, where there is one.
    pub(super) fn origin(&self, headers: &HeaderMap, local: IpAddr) -> Result<(), Refused> {
        let mut values = headers.get_all(header::ORIGIN).iter();
        let Some(value) = values.next() else {
            return Ok(());
        };
        let origin = value.to_str().unwrap_or("(not text)").to_ascii_lowercase();
        let single = values.next().is_none();
        if single && self.origins.contains(&origin) {
            return Ok(());
        }
        let host = origin
            .strip_prefix("http://")
            .or_else(|| origin.strip_prefix("https://"));
        let loopback = host.is_some_and(|host| {
            !host.contains(['/', '@', '?', '#']) && is_loopback_name(without_port(host))
        });
        if single && loopback && local.is_loopback() {
            return Ok(());
        }
        Err(Refused::Origin(origin.chars().take(100).collect()))
    }
}

/// A host without its port; an IPv6 address keeps its brackets.
pub(super) fn without_port(host: &str) -> &str {
    let end = match host.rfind(']') {
        Some(bracket) => bracket + 1,
        None => host.find(':').unwrap_or(host.len()),
    };
    let (name, port) = host.split_at(end);
    let port_is_one = port.is_empty()
        || port
            .strip_prefix(':')
            .is_some_and(|port| port.bytes().all(|b| b.is_ascii_digit()));
    if port_is_one { name } else { host }
}

pub(super) fn is_loopback_name(name: &str) -> bool {
    let address = name
        .strip_prefix('[')
        .and_then(|name| name.strip_suffix(']'))
        .unwrap_or(name);
    name == "localhost"
        || address
            .parse::<IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guard(hosts: &[&str], origins: &[&str]) -> Guard {
        let own = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect();
        Guard {
            hosts: own(hosts),
            origins: own(origins),
        }
    }

    fn headers(name: header::HeaderName, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name, value.parse().expect("value"))])
    }

    fn request(hosts: &[&str]) -> Request<()> {
        let mut request = Request::new(());
        for host in hosts {
            let value = host.parse().expect("value");
            request.headers_mut().append(header::HOST, value);
        }
        request
    }

    #[test]
    fn a_loopback_listener_is_known_by_loopback_names_only() {
        let local: IpAddr = [127, 0, 0, 1].into();
        let ok = |guard: &Guard, host: &str| guard.host(&request(&[host]), local).is_ok();
        let bare = guard(&[], &[]);
        for host in [
            "localhost",
            "LocalHost:8080",
            "127.0.0.1:1",
            "127.9.9.9",
            "[::1]:80",
            "[::1]",
        ] {
            assert!(ok(&bare, host), "{host}");
        }
        for host in [
            "evil.example",
            "localhost.evil",
            "[::1].evil",
            "localhost.",
            "127.0.0.1.evil:80",
            "127.0.0.1:80:80",
            "192.168.0.1",
            "",
        ] {
            assert!(!ok(&bare, host), "{host}");
        }
        assert!(bare.host(&request(&[]), local).is_err());
        assert!(
            bare.host(&request(&["localhost", "localhost"]), local)
                .is_err()
        );
        for (target, good) in [
            ("http://LOCALHOST/sse", true),
            ("http://evil.example/sse", false),
        ] {
            let mut absolute = request(&["localhost"]);
            *absolute.uri_mut() = target.parse().expect("a target");
            assert_eq!(bare.host(&absolute, local).is_ok(), good, "{target}");
        }
        let named = guard(&["mcp.example"], &[]);
        assert!(
            ok(&named, "mcp.example")
                && ok(&named, "mcp.example:8443")
                && !ok(&named, "other.example")
        );
    }

    #[test]
    fn another_listener_is_known_by_any_name_until_one_is_given() {
        let local: IpAddr = [10, 0, 0, 1].into();
        let ok = |guard: &Guard, host: &str| guard.host(&request(&[host]), local).is_ok();
        assert!(ok(&guard(&[], &[]), "anything.example"));
        assert!(!ok(&guard(&["mcp.example"], &[]), "anything.example"));
    }

    #[test]
    fn origins_are_loopback_or_listed() {
        let (near, far): (IpAddr, IpAddr) = ([127, 0, 0, 1].into(), [10, 0, 0, 1].into());
        let guard = guard(&[], &["https://app.example"]);
        let ok = |origin: &str, local| {
            guard
                .origin(&headers(header::ORIGIN, origin), local)
                .is_ok()
        };
        assert!(guard.origin(&HeaderMap::new(), far).is_ok());
        assert!(
            ok("http://localhost:6274", near)
                && ok("https://app.example", near)
                && ok("https://app.example", far)
        );
        assert!(!ok("http://localhost:6274", far));
        for origin in [
            "null",
            "https://evil.example",
            "http://localhost.evil",
            "http://localhost/x",
            "http://localhost@evil",
            "https://app.example.evil",
        ] {
            assert!(!ok(origin, near), "{origin}");
        }
    }
}
