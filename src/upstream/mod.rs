//! How bytes reach the upstream: one Streamable HTTP endpoint, its headers, its limits.
//!
//! Two ways lead through here. A translated exchange ([`Upstream::call`]) is built from what the bridge asked for and
//! comes back as [`Reply`](crate::proto::bridge::Reply)s. A passed-through request ([`Upstream::pass`]) keeps its own
//! headers and body. Both go to the one configured endpoint and nowhere else: the client's path never gets into the
//! address, and redirects lead only to the same origin (`redirect`).
//!
//! This module knows nothing of connections, streams of clients, or the tap.

mod breaker;
mod call;
mod connect;
mod cookies;
mod memory;
mod reach;
mod redirect;
mod upload;

use std::error::Error as _;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use http_body_util::Either;
use hyper::body::Incoming;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::http::uri::PathAndQuery;
use hyper::{Method, Request, Response, StatusCode, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tracing::info;

use crate::config::Config;
use crate::error::Error;
use crate::proto::bridge::{Mirrored, Verb};
use crate::proto::era::{self, Era};
use breaker::Breaker;
pub use call::{Answered, Call, Sent, root_cause};
use connect::Connector;
pub use cookies::Jar;
use memory::EraMemory;
use reach::Looked;
pub use upload::{Upload, UploadWatch};

/// Bytes that one connection's reader may buffer; also the largest head of an answer. hyper would take six times as much
/// for a body that comes fast, and keep it while the client does not read.
const READ_BUFFER: usize = 64 * 1024;
/// Idle connections to the upstream that are kept.
const MAX_IDLE: usize = 1024;
/// How long they are kept. Node and uvicorn close idle connections after 5 s; a request must not meet that moment.
const IDLE_TIMEOUT: Duration = Duration::from_secs(4);
const PROXY_AGENT: HeaderValue =
    HeaderValue::from_static(concat!("mcp-ferry/", env!("CARGO_PKG_VERSION")));

/// A request body: one message, or what a client sends through. The larger one is boxed: hyper keeps room for 32 requests
/// with each connection.
pub type RequestBody = Either<http_body_util::Full<bytes::Bytes>, Box<Upload>>;

/// The configured MCP server.
#[derive(Debug)]
pub struct Upstream {
    client: Client<Connector, RequestBody>,
    /// Where the endpoint is: as configured, or where a redirect on the same origin led.
    endpoint: RwLock<Arc<Uri>>,
    configured: Arc<Uri>,
    /// Headers that every request gets.
    headers: Vec<(HeaderName, HeaderValue)>,
    connection_id_header: Option<HeaderName>,
    max_message: usize,
    connect_timeout: Duration,
    breaker: Arc<Breaker>,
    looked: Looked,
    era: EraMemory,
}

/// Why a passed-through request has no answer.
#[derive(Debug)]
pub enum PassError {
    /// The client's body broke off.
    Client,
    /// No connection was made, or none that yielded an answer; says why.
    Upstream(String),
}

/// What a translated exchange takes from the client: set once per POST, cheap to carry.
#[derive(Debug, Default)]
pub struct Forwarded {
    /// Authorization, trace context, the allow-list, `X-Forwarded-*`; in the order they are sent.
    pub headers: Vec<(HeaderName, HeaderValue)>,
}

/// One translated exchange, ready to be sent, as often as redirects ask.
#[derive(Clone, Debug)]
pub struct Outgoing {
    /// What to do.
    pub verb: Verb,
    /// The value of `Mcp-Session-Id`.
    pub session: Option<Arc<str>>,
    /// The value of `MCP-Protocol-Version`.
    pub version: Option<Arc<str>>,
    /// The headers that repeat parts of the message (2026-07-28, "Request Metadata").
    pub mirrored: Vec<Mirrored>,
    /// From the client's POST.
    pub forwarded: Arc<Forwarded>,
    /// The cookies of this connection, if any.
    pub cookies: Option<HeaderValue>,
    /// The query of the client's GET, without the ferry's own parameters.
    pub query: Option<Arc<str>>,
    /// Names the connection, for upstreams that keep state elsewhere.
    pub connection_id: Option<HeaderValue>,
    /// Whether it was tried before.
    pub repeated: bool,
}

impl Upstream {
    /// Prepares the client; connects nowhere.
    ///
    /// # Errors
    /// When the TLS roots cannot be loaded, for an `https` upstream.
    pub fn new(config: &Config) -> Result<Arc<Self>, Error> {
        let breaker = Arc::new(Breaker::default());
        let connector = connect::connector(&config.upstream, Arc::clone(&breaker))?;
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_max_idle_per_host(MAX_IDLE)
            .http1_max_buf_size(READ_BUFFER)
            .http2_keep_alive_interval(Duration::from_secs(20))
            .http2_keep_alive_timeout(Duration::from_secs(10))
            // Streams keep a connection that the pool has let go of, and hyper takes such a one for idle. One without
            // streams ends by itself, so that no ping keeps it open.
            .http2_keep_alive_while_idle(true)
            .http2_adaptive_window(true)
            .build(connector);
        let url = Arc::new(config.upstream.url.clone());
        Ok(Arc::new(Self {
            client,
            endpoint: RwLock::new(Arc::clone(&url)),
            configured: url,
            headers: config.upstream.headers.clone(),
            connection_id_header: config.upstream.connection_id_header.clone(),
            max_message: config.limits.max_message,
            connect_timeout: config.upstream.connect_timeout,
            breaker,
            looked: Looked::default(),
            era: EraMemory::new(config.upstream.era),
        }))
    }

    /// Starts a translated exchange. Dropping the [`Call`] ends it: an HTTP/1 connection is closed, an HTTP/2 stream
    /// is reset.
    /// With `keep_heads` it keeps the heads of request and answer, for whoever wants to show them.
    #[must_use]
    pub fn call(self: &Arc<Self>, outgoing: Outgoing, keep_heads: bool) -> Call {
        Call::new(Arc::clone(self), outgoing, keep_heads)
    }

    /// Sends a client's own request through, body streamed. The caller has removed what is hop-by-hop; the method,
    /// the query and every other header stay. `query` is the client's.
    ///
    /// # Errors
    /// When the client's body breaks off, or no connection is made that yields an answer.
    pub async fn pass(
        &self,
        method: Method,
        query: Option<&str>,
        headers: HeaderMap,
        body: RequestBody,
    ) -> Result<Response<Incoming>, PassError> {
        let _leave = self.breaker.leave(false).map_err(PassError::Upstream)?;
        let sessionless = !headers.contains_key(era::SESSION_HEADER);
        let mut request = Request::new(body);
        *request.method_mut() = method;
        *request.uri_mut() = with_query(&self.endpoint(), query);
        *request.headers_mut() = headers;
        for (name, value) in &self.headers {
            request.headers_mut().insert(name, value.clone());
        }
        let response = self.client.request(request).await.map_err(|error| {
            let cause = error.source().and_then(|cause| cause.downcast_ref());
            if cause.is_some_and(hyper::Error::is_user) {
                return PassError::Client;
            }
            let why = root_cause(&error);
            if error.is_connect() {
                self.breaker.failed(&why);
            }
            PassError::Upstream(why)
        })?;
        self.breaker.succeeded();
        if sessionless && response.status() == StatusCode::NOT_FOUND {
            self.forget_redirect();
        }
        redirect::learn(self, response.status(), response.headers());
        Ok(response)
    }

    /// The address for messages to people: without the query, which may hold a key.
    #[must_use]
    pub fn shown(&self) -> String {
        let scheme = self.configured.scheme_str().unwrap_or("http");
        let authority = self
            .configured
            .authority()
            .map_or("", |authority| authority.as_str());
        format!("{scheme}://{authority}{}", self.configured.path())
    }

    /// What the upstream speaks, as the operator said or as it was learnt last. `None` before that.
    #[must_use]
    pub fn era(&self) -> Option<Era> {
        self.era.known()
    }

    /// Whether the operator said what it speaks.
    #[must_use]
    pub fn era_is_fixed(&self) -> bool {
        self.era.is_fixed()
    }

    /// The upstream has shown what it speaks.
    pub fn learn_era(&self, era: Era) {
        if self.era.learn(era) {
            info!(upstream = %self.shown(), %era, "the upstream's era");
        }
    }

    /// Whether exchanges are to name their connection.
    #[must_use]
    pub fn wants_connection_id(&self) -> bool {
        self.connection_id_header.is_some()
    }

    /// The configured endpoint, as the upstream knows it.
    #[must_use]
    pub fn configured(&self) -> &Uri {
        &self.configured
    }

    fn endpoint(&self) -> Arc<Uri> {
        Arc::clone(
            &self
                .endpoint
                .read()
                .unwrap_or_else(std::sync::PoisonError::into_inner),
        )
    }

    /// What was found at the end of a redirect is not there any more: the redirect may not hold either.
    fn forget_redirect(&self) {
        self.move_endpoint((*self.configured).clone());
    }

    fn move_endpoint(&self, to: Uri) {
        *self
            .endpoint
            .write()
            .unwrap_or_else(std::sync::PoisonError::into_inner) = Arc::new(to);
    }

    /// The HTTP request of a translated exchange, addressed to `uri`.
    fn request(&self, outgoing: &Outgoing, uri: &Uri) -> Request<RequestBody> {
        let body = match &outgoing.verb {
            Verb::Post(text) => text.clone(),
            Verb::Get { .. } | Verb::Delete => bytes::Bytes::new(),
        };
        let mut request = Request::new(Either::Left(http_body_util::Full::new(body)));
        *request.uri_mut() = with_query(uri, outgoing.query.as_deref());
        let headers = request.headers_mut();
        headers.reserve(12);
        match &outgoing.verb {
            Verb::Post(_) => {
                headers.insert(header::ACCEPT, HeaderValue::from_static(era::ACCEPT_POST));
                headers.insert(
                    header::CONTENT_TYPE,
                    HeaderValue::from_static("application/json"),
                );
            }
            Verb::Get { last_event_id } => {
                headers.insert(header::ACCEPT, HeaderValue::from_static(era::ACCEPT_GET));
                if let Some(value) = last_event_id
                    .as_deref()
                    .and_then(|id| HeaderValue::from_bytes(id.as_bytes()).ok())
                {
                    headers.insert(HeaderName::from_static("last-event-id"), value);
                }
            }
            Verb::Delete => {}
        }
        headers.insert(header::USER_AGENT, PROXY_AGENT);
        // A compressed answer would have to be unpacked within bounds; the upstream is a hop away.
        headers.insert(
            header::ACCEPT_ENCODING,
            HeaderValue::from_static("identity"),
        );
        if let Some(value) = header_value(outgoing.session.as_deref()) {
            headers.insert(HeaderName::from_static(era::SESSION_HEADER), value);
        }
        if let Some(value) = header_value(outgoing.version.as_deref()) {
            headers.insert(HeaderName::from_static(era::VERSION_HEADER), value);
        }
        for (name, value) in &outgoing.forwarded.headers {
            headers.append(name, value.clone());
        }
        for Mirrored { name, value } in &outgoing.mirrored {
            let name = HeaderName::from_bytes(name.as_bytes());
            let value = HeaderValue::from_str(value);
            if let (Ok(name), Ok(value)) = (name, value) {
                headers.insert(name, value);
            }
        }
        if let Some(cookies) = &outgoing.cookies {
            headers.insert(header::COOKIE, cookies.clone());
        }
        if let Some((name, value)) = self
            .connection_id_header
            .as_ref()
            .zip(outgoing.connection_id.as_ref())
        {
            headers.insert(name, value.clone());
        }
        for (name, value) in &self.headers {
            headers.insert(name, value.clone());
        }
        *request.method_mut() = match outgoing.verb {
            Verb::Post(_) => Method::POST,
            Verb::Get { .. } => Method::GET,
            Verb::Delete => Method::DELETE,
        };
        request
    }
}

fn header_value(text: Option<&str>) -> Option<HeaderValue> {
    HeaderValue::from_str(text?).ok()
}

/// `uri` with `query` added to the query that it has.
fn with_query(uri: &Uri, query: Option<&str>) -> Uri {
    let Some(query) = query.filter(|query| !query.is_empty()) else {
        return uri.clone();
    };
    let joined = match uri.query() {
        Some(own) => format!("{}?{own}&{query}", uri.path()),
        None => format!("{}?{query}", uri.path()),
    };
    let mut parts = uri.clone().into_parts();
    if let Ok(joined) = joined.parse::<PathAndQuery>() {
        parts.path_and_query = Some(joined);
    }
    Uri::from_parts(parts).unwrap_or_else(|_| uri.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clients_query_joins_the_configured_one() {
        let uri: Uri = "http://h:1/mcp?own=1".parse().expect("uri");
        assert_eq!(
            with_query(&uri, Some("key=a%20b")).to_string(),
            "http://h:1/mcp?own=1&key=a%20b"
        );
        assert_eq!(
            with_query(&uri, Some("")).to_string(),
            "http://h:1/mcp?own=1"
        );
        let bare: Uri = "http://h:1/mcp".parse().expect("uri");
        assert_eq!(
            with_query(&bare, Some("key=1")).to_string(),
            "http://h:1/mcp?key=1"
        );
    }
}
