//! The cookies of one connection: for balancers that keep a session on one server by a cookie.
//!
//! MCP clients keep no cookies, so the ferry does, per connection: what the upstream sets is sent back to the upstream
//! and is never shown to a client. Follows RFC 6265 §5.3 and §5.4 for one host. Bounds: [`MAX_COOKIES`] cookies of
//! [`MAX_COOKIE`] bytes; more are ignored.

use cookie::Cookie;
use hyper::header::HeaderValue;
use hyper::{Uri, header};

/// Cookies kept for one connection.
pub(super) const MAX_COOKIES: usize = 32;
/// Bytes of one cookie, name and value.
pub(super) const MAX_COOKIE: usize = 4096;

/// The cookies that the upstream set on one connection.
#[derive(Debug, Default)]
pub struct Jar {
    cookies: Vec<Kept>,
}

#[derive(Debug)]
struct Kept {
    name: Box<str>,
    value: Box<str>,
    path: Box<str>,
}

impl Jar {
    /// Takes in what an answer of `uri` sets.
    pub fn store(&mut self, headers: &header::HeaderMap, uri: &Uri) {
        for value in headers.get_all(header::SET_COOKIE) {
            let Some(cookie) = value
                .to_str()
                .ok()
                .and_then(|text| Cookie::parse(text).ok())
            else {
                continue;
            };
            let foreign = cookie
                .domain()
                .is_some_and(|domain| !covers(domain, uri.host().unwrap_or_default()));
            let insecure = cookie.secure() == Some(true) && uri.scheme_str() != Some("https");
            if foreign || insecure || cookie.name().len() + cookie.value().len() > MAX_COOKIE {
                continue;
            }
            let path = cookie
                .path()
                .filter(|path| path.starts_with('/'))
                .unwrap_or("/");
            self.cookies
                .retain(|kept| *kept.name != *cookie.name() || *kept.path != *path);
            let expired =
                cookie.max_age().is_some_and(|age| !age.is_positive()) || cookie.value().is_empty();
            if !expired && self.cookies.len() < MAX_COOKIES {
                self.cookies.push(Kept {
                    name: cookie.name().into(),
                    value: cookie.value().into(),
                    path: path.into(),
                });
            }
        }
    }

    /// The `Cookie` header for a request to `uri`, if there is anything to send.
    #[must_use]
    pub fn header(&self, uri: &Uri) -> Option<HeaderValue> {
        let text: Vec<String> = self
            .cookies
            .iter()
            .filter(|kept| path_matches(&kept.path, uri.path()))
            .map(|kept| format!("{}={}", kept.name, kept.value))
            .collect();
        if text.is_empty() {
            None
        } else {
            HeaderValue::from_str(&text.join("; ")).ok()
        }
    }
}

/// RFC 6265 §5.1.3, domain matching.
fn covers(domain: &str, host: &str) -> bool {
    let domain = domain.trim_start_matches('.').to_ascii_lowercase();
    let host = host.to_ascii_lowercase();
    host == domain
        || host
            .strip_suffix(&domain)
            .is_some_and(|rest| rest.ends_with('.'))
}

/// RFC 6265 §5.1.4, path matching.
fn path_matches(cookie: &str, path: &str) -> bool {
    path.strip_prefix(cookie)
        .is_some_and(|rest| rest.is_empty() || cookie.ends_with('/') || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_upstream_sets_goes_back_to_it() {
        let uri: Uri = "http://h/mcp".parse().expect("uri");
        let mut jar = Jar::default();
        let set = |jar: &mut Jar, text: &str| {
            let mut headers = header::HeaderMap::new();
            headers.append(header::SET_COOKIE, text.parse().expect("value"));
            jar.store(&headers, &uri);
        };
        set(&mut jar, "AWSALB=one; Path=/; Max-Age=60; HttpOnly");
        set(&mut jar, "b=2");
        set(&mut jar, "other=3; Path=/elsewhere");
        set(&mut jar, "s=4; Secure");
        set(&mut jar, "f=5; Domain=example.com");
        assert_eq!(jar.header(&uri).expect("cookies"), "AWSALB=one; b=2");
        set(&mut jar, "AWSALB=two; Path=/");
        set(&mut jar, "b=; Max-Age=0");
        assert_eq!(jar.header(&uri).expect("cookies"), "AWSALB=two");
        for number in 0..100 {
            set(&mut jar, &format!("n{number}=1"));
        }
        assert_eq!(jar.cookies.len(), MAX_COOKIES);
    }
}
