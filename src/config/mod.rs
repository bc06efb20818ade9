//! What the operator decides: the command line and the environment, parsed once into a [`Config`] that cannot be
//! invalid.
//!
//! Every flag and every environment variable is declared with its parser and its bounds beside it: most in `flags.rs`,
//! in `watching.rs` and `replicas.rs` those of their subjects. `values.rs`, `http.rs`, `keys.rs` and `store.rs` hold the parsers,
//! `parse.rs` joins the environment with the command line, `build.rs` holds the rules between flags.

mod build;
mod flags;
mod http;
mod keys;
mod parse;
mod replicas;
mod store;
mod values;
mod watching;

use std::ffi::OsString;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use hyper::Uri;
use hyper::header::{HeaderName, HeaderValue};
use ipnet::IpNet;

use crate::proto::era::Era;

pub use flags::{command, env_names};
pub use keys::{Key, Keys};
pub(crate) use keys::{hex, hexadecimal};
pub use parse::parse;
pub use replicas::{ReplicaId, Replicas};
pub use store::{Meeting, RedisAddress, RedisForm, Secret};
pub use watching::{Admin, Tap, TapFile, Terminal, Token};

/// What the program was asked to do.
#[derive(Debug)]
pub enum Command {
    /// Serve legacy clients in front of an upstream.
    Serve(Box<Config>),
    /// Show the ferry at work with a built-in server and a scripted client.
    Demo {
        /// End after the script instead of staying up.
        once: bool,
        /// Where the demo's ferry listens; a free loopback port when not given.
        listen: Option<SocketAddr>,
        /// Where its page is; 127.0.0.1:9090 or a free port when not given.
        admin: Option<Admin>,
        /// How to log.
        log: Log,
    },
    /// Ask a running ferry whether it is alive.
    Health {
        /// What to ask.
        url: Uri,
    },
    /// Play a recording's requests against a server, and compare.
    Replay(Box<Replay>),
    /// Print this text: help or version.
    Print(String),
}

/// What is replayed, and against which server.
#[derive(Debug)]
pub struct Replay {
    /// The files of the tap; at least one.
    pub files: Vec<PathBuf>,
    /// How the server is reached; nothing is listened on but loopback.
    pub config: Config,
    /// Every request, not only those that change nothing.
    pub all: bool,
    /// JSON pointers, `*` for any one segment; what lies there or below is not compared.
    pub ignore: Vec<String>,
    /// Whether the outcome is told as JSON.
    pub json: bool,
}

/// Everything that serving needs to know, valid by construction when it comes from [`parse()`].
#[derive(Clone, Debug)]
pub struct Config {
    /// The addresses to listen on; at least one.
    pub listen: Vec<SocketAddr>,
    /// The MCP server behind the ferry.
    pub upstream: Upstream,
    /// What becomes of handshake clients on the MCP path.
    pub mcp: McpMode,
    /// What the ferry's own URLs look like.
    pub paths: Paths,
    /// Who may call, and whose word on the original request counts.
    pub guard: Guard,
    /// Bounds on time, memory and numbers.
    pub limits: Limits,
    /// What it shares with other replicas, if it is one of several.
    pub replicas: Replicas,
    /// The admin listener, if there is to be one.
    pub admin: Option<Admin>,
    /// What is watched besides, and what of it is kept.
    pub tap: Tap,
    /// How to log.
    pub log: Log,
}

impl Config {
    /// The configuration with nothing but an upstream given, everything else at its default.
    ///
    /// # Panics
    ///
    /// Never: the defaults are checked by every test that calls this.
    #[must_use]
    pub fn for_upstream(url: Uri) -> Self {
        let args = ["mcp-ferry", "--upstream", "http://upstream.invalid/"].map(OsString::from);
        let Ok(Command::Serve(mut config)) = parse(args, &|_| None) else {
            unreachable!("the defaults of all flags are valid");
        };
        config.upstream.url = url;
        *config
    }
}

/// The MCP server behind the ferry, and how to reach it.
#[derive(Clone)]
pub struct Upstream {
    /// The MCP endpoint: http or https, with a host, without user-info.
    pub url: Uri,
    /// A PEM file with certificate authorities to trust besides the system's.
    pub ca: Option<PathBuf>,
    /// Headers for every request upstream; their values are marked sensitive. They replace a client's header of the
    /// same name.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Client headers to send on besides `Authorization` and the trace context.
    pub forward_headers: Vec<HeaderName>,
    /// The header that carries a stable id of the client's connection.
    pub connection_id_header: Option<HeaderName>,
    /// The longest that connecting may take, TLS handshake included.
    pub connect_timeout: Duration,
    /// What it speaks.
    pub era: UpstreamEra,
}

/// What the operator says of the upstream's era.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpstreamEra {
    /// Nothing: it is learnt.
    Auto,
    /// It speaks this one, whatever it seems.
    Fixed(Era),
}

impl fmt::Debug for Upstream {
    /// The URL's query is left out because keys travel there; header values mask themselves.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upstream")
            .field(
                "url",
                &format_args!("{}", http::shown(&self.url.to_string())),
            )
            .field("ca", &self.ca)
            .field("headers", &self.headers)
            .field("forward_headers", &self.forward_headers)
            .field("connection_id_header", &self.connection_id_header)
            .field("connect_timeout", &self.connect_timeout)
            .field("era", &self.era)
            .finish()
    }
}

/// What the ferry's own URLs look like, from inside and from outside.
#[derive(Clone, Debug)]
pub struct Paths {
    /// Where legacy clients open their stream.
    pub sse: String,
    /// Where legacy clients post messages.
    pub messages: String,
    /// The MCP endpoint, as newer clients know it.
    pub mcp: String,
    /// What a proxy in front has cut off: empty, or like `/x`. When only `public_url` is given and has a path, this
    /// is that path.
    pub public_prefix: String,
    /// How the `endpoint` event names the messages path.
    pub endpoint: EndpointForm,
    /// The base of the ferry's URLs as clients see them; its path, if any, equals `public_prefix`.
    pub public_url: Option<Uri>,
}

/// How the `endpoint` event names the messages path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndpointForm {
    /// `/x/messages?sessionId=…`
    AbsolutePath,
    /// `messages?sessionId=…`
    Relative,
    /// `https://host/x/messages?sessionId=…`; `public_url` is there.
    AbsoluteUrl,
}

/// What becomes of clients of the handshake revisions on the MCP path. Requests of the modern revisions always pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum McpMode {
    /// They pass, except before an upstream that speaks the modern revisions only: there each gets a session of the
    /// ferry's.
    Auto,
    /// They pass.
    Pass,
    /// Each gets a session of the ferry's.
    Bridge,
}

/// Who may call, and whose word on the original request counts.
#[derive(Clone, Debug)]
pub struct Guard {
    /// Proxies whose `X-Forwarded-*` headers are believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Lower-case `name` (any port) or `name:port`, the host of `public_url` included.
    pub allowed_hosts: Vec<String>,
    /// Lower-case origins, without a default port.
    pub allowed_origins: Vec<String>,
    /// Whether the CORS requests of allowed origins are answered.
    pub cors: bool,
    /// Who may post on a stream that was opened with credentials.
    pub credential_binding: CredentialBinding,
}

/// Who may post on a stream that was opened with credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CredentialBinding {
    /// The same credential, a JWT of the same holder, or a new one soon after the upstream refused the last.
    Strict,
    /// Also a new credential from the address that the stream was opened from.
    Address,
    /// Whoever knows the connection's id.
    Off,
}

/// Bounds on time, memory and numbers, and what else each connection is to know.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Whether a stream is kept open on which the upstream tells of changes.
    pub upstream_listen: bool,
    /// Whether content that a client's revision does not know becomes text.
    pub downgrade_content: bool,
    /// The quiet time on a client's stream after which a comment is sent.
    pub keep_alive: Duration,
    /// The longest that one upstream exchange may take.
    pub request_timeout: Duration,
    /// How long the upstream may send nothing while an exchange runs for a request.
    pub request_idle_timeout: Duration,
    /// How long a client may read nothing while data waits for it.
    pub client_stall_timeout: Duration,
    /// How long a client may take to send a request's head.
    pub header_timeout: Duration,
    /// How long a client's socket may stay open between two requests.
    pub socket_idle_timeout: Duration,
    /// How long a client may take to send a request's body.
    pub body_timeout: Duration,
    /// The age at which a legacy stream ends; never, when there is none.
    pub max_stream_age: Option<Duration>,
    /// How long a shutdown that a supervisor asked for leaves everything as it is but readiness.
    pub drain_delay: Duration,
    /// How long a session of the ferry's on the MCP path may go without a request, an open answer or a listener.
    pub mcp_session_idle: Duration,
    /// How long shutdown waits for what is in flight.
    pub drain_timeout: Duration,
    /// Open legacy connections, over all clients.
    pub max_connections: usize,
    /// Open legacy connections of one address (IPv6: one /64 network); loopback has no such bound.
    pub max_connections_per_peer: usize,
    /// Client sockets that carry no legacy stream.
    pub max_sockets: usize,
    /// Requests in flight on one legacy connection.
    pub max_in_flight: usize,
    /// Bytes of one client message.
    pub max_request_body: usize,
    /// Bytes of one upstream message.
    pub max_message: usize,
    /// Bytes that wait for one slow client before its upstream is paused.
    pub client_buffer: usize,
    /// Bytes that all legacy connections together may hold: messages in flight, or that wait for clients.
    pub max_buffered: usize,
}

/// How to log.
#[derive(Clone, Debug)]
pub struct Log {
    /// Directives as `tracing_subscriber::EnvFilter` reads them.
    pub filter: String,
    /// The form of a line.
    pub format: LogFormat,
    /// Whether colours may be used where stderr is a terminal: false when `NO_COLOR` is set.
    pub color: bool,
}

/// The form of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Why the command line or the environment cannot be used: one line, and at most one line of advice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    message: String,
    hint: Option<String>,
}

impl Refused {
    fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            hint: None,
        }
    }

    fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&values::plain(&self.message))?;
        match &self.hint {
            Some(hint) => write!(f, "\nhint: {}", values::plain(hint)),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Refused {}
