//! Headers that say where a request came from, and headers that must not travel.
//!
//! Hop-by-hop headers end here (RFC 9110 §7.6.1). `Forwarded` and `X-Forwarded-*` are believed only from
//! `--trusted-proxy`; what others claim is deleted before our own values are set.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::net::IpAddr;
use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use ipnet::IpNet;

use super::respond::Refused;
use crate::config::Config;
use crate::proto::era;
use crate::store::Claim;
use crate::upstream::Forwarded;

const VERSION: HeaderName = HeaderName::from_static(era::VERSION_HEADER);
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const FORWARDED_PREFIX: HeaderName = HeaderName::from_static("x-forwarded-prefix");
const REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");

/// Hop-by-hop by name; `Connection` may name more.
const HOP_BY_HOP: [HeaderName; 7] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// What only a trusted proxy may claim.
static CLAIMS: [HeaderName; 6] = [
    FORWARDED_FOR,
    FORWARDED_PROTO,
    FORWARDED_HOST,
    FORWARDED_PREFIX,
    REAL_IP,
    header::FORWARDED,
];

/// What W3C Trace Context and Baggage carry.
static TRACE: [HeaderName; 3] = [
    HeaderName::from_static("traceparent"),
    HeaderName::from_static("tracestate"),
    HeaderName::from_static("baggage"),
];

/// What is decided once about headers.
#[derive(Debug)]
pub(super) struct Forwarding {
    trusted: Vec<IpNet>,
    /// Besides `Authorization`: these make up a client's identity.
    allowed: Vec<HeaderName>,
    /// Keys the fingerprints of credentials, anew in each process.
    keys: RandomState,
}

impl Forwarding {
    pub(super) fn new(config: &Config) -> Self {
        Self {
            trusted: config.guard.trusted_proxies.clone(),
            allowed: config.upstream.forward_headers.clone(),
            keys: RandomState::new(),
        }
    }

    fn trusts(&self, peer: IpAddr) -> bool {
        self.trusted
            .iter()
            .any(|network| network.contains(&peer.to_canonical()))
    }

    /// What a translated exchange takes from a client's POST, and a fingerprint of its credentials. Values are copied
    /// so that they do not pin the buffer that the request was read into.
    pub(super) fn of_post(&self, headers: &HeaderMap, peer: IpAddr) -> (Arc<Forwarded>, u64) {
        let mut kept = Vec::with_capacity(4);
        let mut hasher = self.keys.build_hasher();
        for name in std::iter::once(&header::AUTHORIZATION).chain(&self.allowed) {
            for value in headers.get_all(name) {
                hasher.write(name.as_str().as_bytes());
                hasher.write(value.as_bytes());
                hasher.write_u8(0xff);
                kept.extend(copied(name, value));
            }
        }
        for name in &TRACE {
            kept.extend(
                headers
                    .get_all(name)
                    .iter()
                    .filter_map(|value| copied(name, value)),
            );
        }
        let (address, proto, host) = self.origin_of(headers, peer);
        kept.extend(
            HeaderValue::try_from(address)
                .ok()
                .map(|value| (FORWARDED_FOR, value)),
        );
        kept.extend(proto.and_then(|proto| copied(&FORWARDED_PROTO, &proto)));
        kept.extend(host.and_then(|host| copied(&FORWARDED_HOST, &host)));
        (Arc::new(Forwarded { headers: kept }), hasher.finish())
    }

    /// What a request says of who makes it: its credentials, and where it comes from.
    pub(super) fn claim<'a>(
        &'a self,
        headers: &'a HeaderMap,
        peer: IpAddr,
    ) -> Claim<impl FnOnce() -> Option<u64> + 'a> {
        let mut hasher = self.keys.build_hasher();
        let mut any = false;
        let own = self.allowed.iter().filter(|name| is_credential(name));
        for name in std::iter::once(&header::AUTHORIZATION).chain(own) {
            for value in headers.get_all(name) {
                hasher.write(name.as_str().as_bytes());
                hasher.write(value.as_bytes());
                hasher.write_u8(0xff);
                any = true;
            }
        }
        Claim {
            fingerprint: any.then(|| hasher.finish()),
            holder: || {
                let token = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
                holder(token).map(|holder| self.keys.hash_one(holder))
            },
            address: self.client(headers, peer),
        }
    }

    /// The headers of a translated request that another replica needs to judge and serve it as this one would.
    pub(super) fn handed(&self, headers: &HeaderMap, peer: IpAddr) -> Vec<(Box<str>, Box<[u8]>)> {
        let claims: &[HeaderName] = if self.trusts(peer) { &CLAIMS } else { &[] };
        let needed = [
            &header::AUTHORIZATION,
            &header::HOST,
            &header::ACCEPT,
            &VERSION,
        ];
        let names = needed
            .into_iter()
            .chain(&self.allowed)
            .chain(&TRACE)
            .chain(claims);
        let mut handed: Vec<(Box<str>, Box<[u8]>)> = Vec::with_capacity(4);
        for (at, name) in names.clone().enumerate() {
            // --forward-header may name one that is needed anyway.
            if names.clone().take(at).any(|before| before == name) {
                continue;
            }
            let values = headers.get_all(name).iter();
            handed.extend(values.map(|value| (name.as_str().into(), value.as_bytes().into())));
        }
        handed
    }

    /// Prepares the headers of a passed-through request: everything end-to-end stays as it is.
    pub(super) fn prepare_request(
        &self,
        headers: &mut HeaderMap,
        peer: IpAddr,
    ) -> Result<(), Refused> {
        let (address, proto, host) = self.origin_of(headers, peer);
        strip_hop_by_hop(headers)?;
        // The client is told to continue by this hop, when its body is read. Servers of the CGI tradition read `_` and
        // `-` as one, so that a name with the former could pass for a header that was judged here; nginx drops them too.
        remove(headers, |name| {
            *name == header::HOST || *name == header::EXPECT || name.as_str().contains('_')
        });
        if !self.trusts(peer) {
            remove(headers, |name| CLAIMS.contains(name));
        }
        if let Ok(value) = HeaderValue::try_from(address) {
            headers.insert(FORWARDED_FOR, value);
        }
        if let Some(proto) = proto {
            headers.insert(FORWARDED_PROTO, proto);
        }
        if let Some(host) = host {
            headers.insert(FORWARDED_HOST, host);
        }
        Ok(())
    }

    /// The chain of addresses up to the peer, and the scheme and host that the client used.
    fn origin_of(
        &self,
        headers: &HeaderMap,
        peer: IpAddr,
    ) -> (String, Option<HeaderValue>, Option<HeaderValue>) {
        let peer_text = peer.to_canonical().to_string();
        let host = headers.get(header::HOST);
        if self.trusted.is_empty() || !self.trusts(peer) {
            return (
                peer_text,
                Some(HeaderValue::from_static("http")),
                host.cloned(),
            );
        }
        let before: Vec<&str> = headers
            .get_all(FORWARDED_FOR)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .collect();
        let chain = if before.is_empty() {
            peer_text
        } else {
            format!("{}, {peer_text}", before.join(", "))
        };
        let proto = headers
            .get(FORWARDED_PROTO)
            .cloned()
            .or(Some(HeaderValue::from_static("http")));
        (chain, proto, headers.get(FORWARDED_HOST).or(host).cloned())
    }

    /// The client's address as far as it can be known: of the chain that trusted proxies name, the last that is not
    /// one of them.
    pub(super) fn client(&self, headers: &HeaderMap, peer: IpAddr) -> IpAddr {
        if self.trusted.is_empty() || !self.trusts(peer) {
            return peer;
        }
        let values = headers.get_all(FORWARDED_FOR).iter().rev();
        let named = values
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.rsplit(','))
            .map_while(|address| address.trim().parse::<IpAddr>().ok());
        let mut last = peer;
        for address in named {
            last = address;
            if !self.trusts(address) {
                break;
            }
        }
        last
    }

    /// The path prefix that a trusted proxy took off, without a slash at its end.
    pub(super) fn prefix<'a>(&self, headers: &'a HeaderMap, peer: IpAddr) -> Option<&'a str> {
        if self.trusted.is_empty() || !self.trusts(peer) {
            return None;
        }
        let prefix = headers
            .get(FORWARDED_PREFIX)?
            .to_str()
            .ok()?
            .trim()
            .trim_end_matches('/');
        let plain = prefix
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"/-._~%".contains(&byte));
        (prefix.starts_with('/') && !prefix.starts_with("//") && plain && !has_dot_segment(prefix))
            .then_some(prefix)
    }
}

/// Whether a header of this name carries a credential, as far as names tell.
fn is_credential(name: &HeaderName) -> bool {
    const PARTS: [&str; 7] = [
        "auth",
        "token",
        "key",
        "secret",
        "password",
        "credential",
        "cookie",
    ];
    PARTS.iter().any(|part| name.as_str().contains(part))
}

/// The holder that a JWT names: issuer, subject and client (RFC 7519 §4.1, RFC 9068 §2.2, OpenID Connect's `azp`). Its
/// signature is for the upstream to check; a token that was made up gets no further than there.
fn holder(authorization: &str) -> Option<(String, String, Option<String>)> {
    let (_, token) = authorization.split_once(' ')?;
    let mut parts = token.trim().split('.');
    let (_, payload, _, None) = (parts.next()?, parts.next()?, parts.next()?, parts.next()) else {
        return None;
    };
    let payload = BASE64_URL_SAFE_NO_PAD.decode(payload).ok()?;
    let claims: serde_json::Value = serde_json::from_slice(&payload).ok()?;
    let text = |name: &str| claims.get(name)?.as_str().map(str::to_owned);
    let client = text("client_id").or_else(|| text("azp"));
    Some((text("iss")?, text("sub")?, client))
}

fn has_dot_segment(path: &str) -> bool {
    path.split('/').any(|segment| matches!(segment, "." | ".."))
}

fn copied(name: &HeaderName, value: &HeaderValue) -> Option<(HeaderName, HeaderValue)> {
    let mut copy = HeaderValue::from_bytes(value.as_bytes()).ok()?;
    copy.set_sensitive(*name == header::AUTHORIZATION);
    Some((name.clone(), copy))
}

/// Removes what ends at this hop. `Connection` may name further headers, but not to make the ferry drop a credential.
pub(super) fn strip_hop_by_hop(headers: &mut HeaderMap) -> Result<(), Refused> {
    if headers.contains_key(header::CONNECTION) {
        let named: Vec<HeaderName> = headers
            .get_all(header::CONNECTION)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .filter_map(|name| name.trim().parse().ok())
            .collect();
        for name in named {
            if name == header::AUTHORIZATION
                || name == header::CONTENT_LENGTH
                || name == header::HOST
                || name.as_str().starts_with("mcp-")
            {
                return Err(Refused::Connection);
            }
            headers.remove(name);
        }
    }
    remove(headers, |name| HOP_BY_HOP.contains(name));
    Ok(())
}

/// Removes what is there and meant: one pass over a request's few names is cheaper than a look-up for each known one.
fn remove(headers: &mut HeaderMap, meant: impl Fn(&HeaderName) -> bool) {
    while let Some(name) = headers.keys().find(|name| meant(name)).cloned() {
        headers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn forwarding(trusted: &[&str]) -> Forwarding {
        let mut config = Config::for_upstream("http://h/mcp".parse().expect("uri"));
        config.guard.trusted_proxies = trusted
            .iter()
            .map(|net| net.parse().expect("network"))
            .collect();
        config.upstream.forward_headers = vec![HeaderName::from_static("x-api-key")];
        Forwarding::new(&config)
    }

    fn map(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| {
                (
                    HeaderName::from_static(name),
                    HeaderValue::from_static(value),
                )
            })
            .collect()
    }

    #[test]
    fn only_what_is_listed_goes_upstream() {
        let headers = map(&[
            ("authorization", "Bearer a"),
            ("x-api-key", "k"),
            ("cookie", "c=1"),
            ("traceparent", "00-1"),
            ("x-other", "1"),
            ("host", "h"),
            ("x-forwarded-for", "6.6.6.6"),
        ]);
        let (forwarded, _) = forwarding(&[]).of_post(&headers, [10, 0, 0, 9].into());
        let seen: Vec<String> = forwarded
            .headers
            .iter()
            .map(|(name, value)| format!("{name}: {}", value.to_str().expect("text")))
            .collect();
        assert_eq!(
            seen,
            [
                "authorization: Bearer a",
                "x-api-key: k",
                "traceparent: 00-1",
                "x-forwarded-for: 10.0.0.9",
                "x-forwarded-proto: http",
                "x-forwarded-host: h"
            ]
        );
    }

    #[test]
    fn credentials_have_fingerprints_and_traces_do_not() {
        let forwarding = forwarding(&[]);
        let print = |pairs: &[(&'static str, &'static str)]| {
            forwarding.of_post(&map(pairs), [10, 0, 0, 9].into()).1
        };
        assert_eq!(
            print(&[("authorization", "a"), ("traceparent", "1")]),
            print(&[("authorization", "a"), ("traceparent", "2")])
        );
        assert_ne!(
            print(&[("authorization", "a")]),
            print(&[("authorization", "b")])
        );
        assert_ne!(
            print(&[("authorization", "a")]),
            print(&[("x-api-key", "a")])
        );
        assert_ne!(print(&[("x-api-key", "a")]), print(&[]));
    }

    #[test]
    fn a_jwt_names_its_holder_and_nothing_else_does() {
        let token =
            |payload: &str| format!("Bearer e30.{}.c2ln", BASE64_URL_SAFE_NO_PAD.encode(payload));
        let anna = token(r#"{"iss":"https://a","sub":"anna","azp":"app","exp":1}"#);
        let later = token(r#"{"exp":2,"client_id":"app","sub":"anna","iss":"https://a"}"#);
        assert!(holder(&anna).is_some() && holder(&anna) == holder(&later));
        for other in [
            r#"{"iss":"https://a","sub":"otto","azp":"app"}"#,
            r#"{"iss":"https://b","sub":"anna","azp":"app"}"#,
            r#"{"iss":"https://a","sub":"anna","azp":"other"}"#,
        ] {
            assert_ne!(holder(&token(other)), holder(&anna), "{other}");
        }
        for none in [
            "Bearer gho_opaque",
            "Bearer a.b",
            "Bearer a.%.c",
            "Basic YTpi",
            "",
            &token(r#"{"iss":1,"sub":"anna"}"#),
            &token("[]"),
            &token(r#"{"sub":"anna"}"#),
        ] {
            assert_eq!(holder(none), None, "{none}");
        }
    }

    #[test]
    fn a_claim_is_made_of_credentials_alone() {
        let forwarding = forwarding(&[]);
        let claim = |pairs: &[(&'static str, &'static str)]| {
            forwarding
                .claim(&map(pairs), [10, 0, 0, 9].into())
                .fingerprint
        };
        assert_eq!(claim(&[("traceparent", "1")]), None);
        assert_ne!(claim(&[("x-api-key", "1")]), claim(&[("x-api-key", "2")]));
        assert_ne!(claim(&[("authorization", "1")]), None);
    }

    #[test]
    fn a_trusted_proxy_is_believed_and_nobody_else() {
        let headers = map(&[
            ("x-forwarded-for", "1.2.3.4"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "pub"),
            ("x-forwarded-prefix", "/x/"),
            ("host", "h"),
        ]);
        let trusting = forwarding(&["10.0.0.0/8"]);
        let mut passed = headers.clone();
        trusting
            .prepare_request(&mut passed, [10, 0, 0, 9].into())
            .expect("fine");
        assert_eq!(
            passed.get("x-forwarded-for").expect("set"),
            "1.2.3.4, 10.0.0.9"
        );
        assert_eq!(
            (
                passed.get("x-forwarded-proto").expect("set"),
                passed.get("host")
            ),
            (&HeaderValue::from_static("https"), None)
        );
        assert_eq!(trusting.prefix(&headers, [10, 0, 0, 9].into()), Some("/x"));
        assert_eq!(trusting.prefix(&headers, [11, 0, 0, 9].into()), None);
        let client = |chain: &'static str, peer: [u8; 4]| {
            trusting.client(&map(&[("x-forwarded-for", chain)]), peer.into())
        };
        let address = |octets: [u8; 4]| IpAddr::from(octets);
        assert_eq!(client("1.2.3.4", [11, 0, 0, 9]), address([11, 0, 0, 9]));
        assert_eq!(client("1.2.3.4", [10, 0, 0, 9]), address([1, 2, 3, 4]));
        assert_eq!(
            client("6.6.6.6, 1.2.3.4, 10.0.0.8", [10, 0, 0, 9]),
            address([1, 2, 3, 4])
        );
        assert_eq!(
            client("6.6.6.6, nonsense", [10, 0, 0, 9]),
            address([10, 0, 0, 9])
        );
        let mut passed = headers;
        trusting
            .prepare_request(&mut passed, [11, 0, 0, 9].into())
            .expect("fine");
        assert_eq!(passed.get("x-forwarded-for").expect("set"), "11.0.0.9");
        assert_eq!(passed.get("x-forwarded-prefix"), None);
    }

    #[test]
    fn hop_by_hop_headers_end_here() {
        let mut headers = map(&[
            ("connection", "close, x-hop"),
            ("x-hop", "1"),
            ("te", "trailers"),
            ("upgrade", "h2c"),
            ("x-end", "1"),
        ]);
        strip_hop_by_hop(&mut headers).expect("fine");
        assert_eq!(headers, map(&[("x-end", "1")]));
        assert!(strip_hop_by_hop(&mut map(&[("connection", "authorization")])).is_err());
        assert!(strip_hop_by_hop(&mut map(&[("connection", "mcp-session-id")])).is_err());
    }
}
