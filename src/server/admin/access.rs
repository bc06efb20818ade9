//! Who may ask the admin listener, and for what.
//!
//! A browser on the operator's machine reaches loopback, whatever page it shows (DNS rebinding, and the MCP Inspector's
//! CVE-2025-49596). So a request must name a host that is this listener's own, must not come from a page of another
//! origin, and for all that could show traffic must bring the token, which no page but ours has: it comes in the fragment of
//! the address that was printed, and goes as a header, so that nothing a browser adds by itself is enough.

use std::net::IpAddr;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use hyper::header::{self, HeaderMap, HeaderName};
use hyper::{Method, Request};
use subtle::ConstantTimeEq as _;

use super::answer::Denied;
use crate::config::{self, Token};
use crate::error::{Error, Kind, Side};
use crate::server::guard::{is_loopback_name, without_port};
use crate::server::peers::{Misses, Peer};

const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");
const FETCH_DEST: HeaderName = HeaderName::from_static("sec-fetch-dest");

/// Bytes of a token that the ferry makes.
const RANDOM: usize = 32;

/// The rules of one listener.
#[derive(Debug)]
pub(super) struct Access {
    token: Token,
    /// Whether the ferry made it.
    own: bool,
    /// Names besides loopback ones and the listener's own addresses; none unless it may be reached from elsewhere.
    hosts: Vec<String>,
    remote: bool,
    misses: Misses,
}

impl Access {
    pub(super) fn new(admin: &config::Admin, allowed_hosts: &[String]) -> Result<Self, Error> {
        let (token, own) = match &admin.token {
            Some(token) => (token.clone(), false),
            None => (random()?, true),
        };
        let hosts = match admin.allow_remote {
            true => allowed_hosts.to_vec(),
            false => Vec::new(),
        };
        Ok(Self {
            token,
            own,
            hosts,
            remote: admin.allow_remote,
            misses: Misses::default(),
        })
    }

    /// The token, if the ferry made it.
    pub(super) fn own_token(&self) -> Option<&str> {
        self.own.then_some(self.token.0.as_str())
    }

    /// Judges where a request was sent to and from where. `local` is the address that it arrived at.
    pub(super) fn judge<B>(&self, request: &Request<B>, local: IpAddr) -> Result<(), Denied> {
        let host = single(request.headers(), &header::HOST).ok_or(Denied::NoHost)?;
        let host = host.to_ascii_lowercase();
        if !self.is_own(&host, local) || !names_no_other(request, &host) {
            return Err(Denied::Host(host.chars().take(100).collect()));
        }
        origin(request.headers(), &host)?;
        site(request)
    }

    fn is_own(&self, host: &str, local: IpAddr) -> bool {
        let name = without_port(host);
        let bare = name
            .strip_prefix('[')
            .and_then(|name| name.strip_suffix(']'));
        let address = bare.unwrap_or(name).parse::<IpAddr>();
        let addressed = address.is_ok_and(|it| it.to_canonical() == local.to_canonical());
        let named = |allowed: &String| allowed == host || allowed == name;
        is_loopback_name(name) || (self.remote && (addressed || self.hosts.iter().any(named)))
    }

    /// Judges the token. Every byte is compared, so that the time tells nothing of it.
    pub(super) fn token(&self, headers: &HeaderMap, peer: IpAddr) -> Result<(), Denied> {
        let Some(given) = single(headers, &header::AUTHORIZATION) else {
            return Err(Denied::NoToken);
        };
        let bearer = given
            .split_once(' ')
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
        let (_, given) = bearer.ok_or(Denied::NoToken)?;
        if bool::from(given.trim().as_bytes().ct_eq(self.token.0.as_bytes())) {
            return Ok(());
        }
        match self.misses.add(Peer::of(peer)) {
            true => Err(Denied::TooManyTokens),
            false => Err(Denied::WrongToken),
        }
    }
}

/// A token of 256 random bits.
fn random() -> Result<Token, Error> {
    let mut bits = [0; RANDOM];
    getrandom::fill(&mut bits)
        .map_err(|error| Error::new(Side::Internal, Kind::Start).because(error.to_string()))?;
    Ok(Token(BASE64_URL_SAFE_NO_PAD.encode(bits)))
}

/// The value of a header that is there once, and is text.
fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let (value, None) = (values.next()?, values.next()) else {
        return None;
    };
    value.to_str().ok()
}

/// Whether a target of absolute form names the same host.
fn names_no_other<B>(request: &Request<B>, host: &str) -> bool {
    let named = request.uri().authority();
    named.is_none_or(|named| named.as_str().eq_ignore_ascii_case(host))
}

/// Only the page itself, as it came from this host; by TLS if a proxy in front has it.
fn origin(headers: &HeaderMap, host: &str) -> Result<(), Denied> {
    if !headers.contains_key(header::ORIGIN) {
        return Ok(());
    }
    let origin = single(headers, &header::ORIGIN).unwrap_or("(not one)");
    let origin = origin.to_ascii_lowercase();
    let from = origin
        .strip_prefix("http://")
        .or_else(|| origin.strip_prefix("https://"));
    match from == Some(host) {
        true => Ok(()),
        false => Err(Denied::Origin(origin.chars().take(100).collect())),
    }
}

/// What browsers say of where a request comes from (Fetch Metadata). Another port of the same machine is `same-site`, and
/// refused too. Following a link to the page is no harm: it cannot be framed, and its files are no secret.
fn site<B>(request: &Request<B>) -> Result<(), Denied> {
    let headers = request.headers();
    let is = |name, value: &str| single(headers, &name) == Some(value);
    let fine = !headers.contains_key(FETCH_SITE)
        || is(FETCH_SITE, "same-origin")
        || is(FETCH_SITE, "none");
    let link = request.method() == Method::GET
        && request.uri().path() == "/"
        && is(FETCH_MODE, "navigate")
        && is(FETCH_DEST, "document");
    match fine || link {
        true => Ok(()),
        false => Err(Denied::Site),
    }
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    const NEAR: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
    const OWN: &str = "0123456789abcdef0123456789abcdef";

    fn access(remote: bool, hosts: &[&str]) -> Access {
        let admin = config::Admin {
            listen: (NEAR, 0).into(),
            allow_remote: remote,
            token: Some(Token(OWN.to_owned())),
        };
        let hosts: Vec<_> = hosts.iter().map(|host| (*host).to_owned()).collect();
        Access::new(&admin, &hosts).expect("a token")
    }

    fn request(pairs: &[(&'static str, &str)]) -> Request<()> {
        let mut request = Request::new(());
        for (name, value) in pairs {
            let value = HeaderValue::from_str(value).expect("a value");
            request.headers_mut().append(*name, value);
        }
        request
    }

    #[test]
    fn a_loopback_listener_is_known_by_loopback_names_whatever_is_allowed_elsewhere() {
        let access = access(false, &["mcp.example"]);
        let host = |host: &str| access.judge(&request(&[("host", host)]), NEAR).is_ok();
        for good in [
            "127.0.0.1:9090",
            "localhost:9090",
            "[::1]:9090",
            "LOCALHOST",
        ] {
            assert!(host(good), "{good}");
        }
        for bad in [
            "mcp.example",
            "evil.example:9090",
            "192.0.2.1",
            "127.0.0.1.evil",
            "",
        ] {
            assert!(!host(bad), "{bad}");
        }
        assert!(access.judge(&request(&[]), NEAR).is_err());
        assert!(
            access
                .judge(
                    &request(&[("host", "localhost"), ("host", "localhost")]),
                    NEAR
                )
                .is_err()
        );
        let mut absolute = request(&[("host", "localhost")]);
        *absolute.uri_mut() = "http://evil.example/api/rows".parse().expect("a target");
        assert!(access.judge(&absolute, NEAR).is_err());
    }

    #[test]
    fn a_remote_one_is_known_by_its_own_address_and_by_what_is_allowed() {
        let local: IpAddr = [192, 0, 2, 1].into();
        let access = access(true, &["ferry.example", "other.example:9090"]);
        let host = |host: &str| access.judge(&request(&[("host", host)]), local).is_ok();
        for good in [
            "192.0.2.1:9090",
            "ferry.example:1",
            "other.example:9090",
            "127.0.0.1",
        ] {
            assert!(host(good), "{good}");
        }
        for bad in ["192.0.2.2:9090", "other.example:1", "evil.example"] {
            assert!(!host(bad), "{bad}");
        }
    }

    #[test]
    fn only_the_page_itself_may_ask() {
        let access = access(false, &[]);
        let from = |pairs: &[(&'static str, &str)]| {
            let mut all = vec![("host", "localhost:9090")];
            all.extend_from_slice(pairs);
            access.judge(&request(&all), NEAR).is_ok()
        };
        assert!(from(&[("origin", "http://localhost:9090")]));
        assert!(from(&[("origin", "https://LOCALHOST:9090")]));
        assert!(from(&[("sec-fetch-site", "same-origin")]) && from(&[("sec-fetch-site", "none")]));
        for origin in [
            "null",
            "http://localhost:3000",
            "http://127.0.0.1:9090",
            "http://evil.example",
            "localhost:9090",
            "ftp://localhost:9090",
        ] {
            assert!(!from(&[("origin", origin)]), "{origin}");
        }
        assert!(!from(&[
            ("origin", "http://localhost:9090"),
            ("origin", "http://localhost:9090")
        ]));
        for site in ["cross-site", "same-site", "novel"] {
            assert!(!from(&[("sec-fetch-site", site)]), "{site}");
            assert!(!from(&[
                ("sec-fetch-site", site),
                ("sec-fetch-mode", "no-cors"),
                ("sec-fetch-dest", "image")
            ]));
            assert!(!from(&[
                ("sec-fetch-site", site),
                ("sec-fetch-mode", "navigate"),
                ("sec-fetch-dest", "iframe")
            ]));
            assert!(
                from(&[
                    ("sec-fetch-site", site),
                    ("sec-fetch-mode", "navigate"),
                    ("sec-fetch-dest", "document")
                ]),
                "a link"
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_token_opens_and_too_many_wrong_ones_are_told_to_wait() {
        let access = access(false, &[]);
        let with = |value: &str| access.token(request(&[("authorization", value)]).headers(), NEAR);
        assert!(with(&format!("Bearer {OWN}")).is_ok() && with(&format!("bearer  {OWN} ")).is_ok());
        assert!(matches!(
            access.token(&HeaderMap::new(), NEAR),
            Err(Denied::NoToken)
        ));
        assert!(matches!(with("Basic YTpi"), Err(Denied::NoToken)));
        let wrong = [
            OWN.get(1..).unwrap_or_default(),
            &format!("{OWN}0"),
            "",
            &OWN.to_uppercase(),
        ];
        for wrong in wrong.iter().cycle().take(20) {
            assert!(
                matches!(with(&format!("Bearer {wrong}")), Err(Denied::WrongToken)),
                "{wrong}"
            );
        }
        assert!(matches!(with("Bearer x"), Err(Denied::TooManyTokens)));
        assert!(
            with(&format!("Bearer {OWN}")).is_ok(),
            "the right one still opens"
        );
    }

    #[test]
    fn a_token_of_the_ferrys_is_256_bits_and_never_the_same() {
        let one = random().expect("randomness").0;
        let bits = BASE64_URL_SAFE_NO_PAD.decode(&one).expect("base64");
        assert_eq!(bits.len() * 8, 256);
        assert_ne!(one, random().expect("randomness").0);
    }
}
