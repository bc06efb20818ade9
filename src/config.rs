//! temporary
#![allow(missing_docs)]
use hyper::Uri;
use hyper::header::{HeaderName, HeaderValue};
use ipnet::IpNet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;
#[derive(Clone, Debug)]
pub struct Config {
    pub listen: Vec<SocketAddr>,
    pub upstream: Upstream,
    pub paths: Paths,
    pub guard: Guard,
    pub limits: Limits,
}
#[derive(Clone, Debug)]
pub struct Upstream {
    pub url: Uri,
    pub ca: Option<PathBuf>,
    pub headers: Vec<(HeaderName, HeaderValue)>,
    pub forward_headers: Vec<HeaderName>,
    pub connection_id_header: Option<HeaderName>,
    pub connect_timeout: Duration,
}
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndpointForm {
    AbsolutePath,
    Relative,
    AbsoluteUrl,
}
#[derive(Clone, Debug)]
pub struct Paths {
    pub sse: String,
    pub messages: String,
    pub mcp: String,
    pub public_prefix: String,
    pub endpoint: EndpointForm,
    pub public_url: Option<Uri>,
}
#[derive(Clone, Debug)]
pub struct Guard {
    pub trusted_proxies: Vec<IpNet>,
    pub allowed_hosts: Vec<String>,
    pub allowed_origins: Vec<String>,
}
#[derive(Clone, Debug)]
pub struct Limits {
    pub keep_alive: Duration,
    pub request_timeout: Duration,
    pub client_stall_timeout: Duration,
    pub header_timeout: Duration,
    pub body_timeout: Duration,
    pub drain_timeout: Duration,
    pub max_connections: usize,
    pub max_in_flight: usize,
    pub max_request_body: usize,
    pub max_message: usize,
    pub client_buffer: usize,
}
impl Config {
    pub fn for_upstream(url: Uri) -> Self {
        let s = Duration::from_secs;
        Self {
            listen: vec![([127, 0, 0, 1], 8080).into()],
            upstream: Upstream {
                url,
                ca: None,
                headers: vec![],
                forward_headers: vec![],
                connection_id_header: None,
                connect_timeout: s(5),
            },
            paths: Paths {
                sse: "/sse".into(),
                messages: "/messages".into(),
                mcp: "/mcp".into(),
                public_prefix: String::new(),
                endpoint: EndpointForm::AbsolutePath,
                public_url: None,
            },
            guard: Guard {
                trusted_proxies: vec![],
                allowed_hosts: vec![],
                allowed_origins: vec![],
            },
            limits: Limits {
                keep_alive: s(15),
                request_timeout: s(3600),
                client_stall_timeout: s(30),
                header_timeout: s(75),
                body_timeout: s(30),
                drain_timeout: s(20),
                max_connections: 20000,
                max_in_flight: 128,
                max_request_body: 4 << 20,
                max_message: 32 << 20,
                client_buffer: 4 << 20,
            },
        }
    }
}
