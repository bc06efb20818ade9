//! Every flag: its name, default, parser with bounds, and its help. Also the rule that gives each its environment
//! variable.
//!
//! The first paragraph of a flag's comment is its line in `-h` and in the README's table, the rest is added in
//! `--help`. "(A to B)" in it states the bounds; a test holds it against the parser.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Args, CommandFactory as _, Parser, Subcommand};
use hyper::Uri;
use hyper::header::{HeaderName, HeaderValue};
use ipnet::IpNet;

use super::http::{
    ca_file, header, header_name, health_url, host, listen, network, origin, path, prefix,
    public_url, upstream_url,
};
use super::replicas::ReplicaFlags;
use super::values::{count, duration, pointer, size};
use super::watching::{AdminFlags, TapFlags};
use super::{CredentialBinding, EndpointForm, LogFormat, McpMode, UpstreamEra};
use crate::proto::era::Era;

const ABOUT: &str =
    "Carries MCP clients of the deprecated HTTP+SSE transport to Streamable HTTP servers";
const AFTER: &str = "Every flag is also an environment variable: MCP_FERRY_ and its name in capitals, as in \
    MCP_FERRY_UPSTREAM. A flag wins over its variable, and an empty variable counts as not set. A flag that may be \
    repeated takes a list: separated by commas, upstream headers by line ends.";

#[derive(Debug, Parser)]
#[command(
    name = "mcp-ferry",
    version,
    about = ABOUT,
    after_help = AFTER,
    args_conflicts_with_subcommands = true,
    disable_help_subcommand = true,
    override_usage = "mcp-ferry --upstream URL [FLAGS]\n       mcp-ferry demo [--once] [--listen ADDR:PORT] [--admin ADDR:PORT]\n       \
        mcp-ferry replay FILE... --upstream URL [--all]\n       mcp-ferry health [--url URL]"
)]
pub(super) struct Cli {
    #[command(subcommand)]
    pub(super) task: Option<Task>,
    #[command(flatten)]
    pub(super) serve: Serve,
}

#[derive(Debug, Subcommand)]
pub(super) enum Task {
    /// Shows a legacy client at work: built-in server, ferry, scripted client
    Demo {
        /// End after the script: 0 when it went well, 1 when not
        #[arg(long)]
        once: bool,
        /// Where the demo's ferry listens; a free loopback port by default
        #[arg(long, value_name = "ADDR:PORT", value_parser = listen)]
        listen: Option<SocketAddr>,
        #[command(flatten)]
        admin: AdminFlags,
        #[command(flatten)]
        logging: Logging,
    },
    /// Plays requests that the tap has recorded against a server, and compares: exit code 0 agrees, 1 differs, 2 not done
    Replay(Replay),
    /// Asks a running ferry whether it is alive: exit code 0 or 1, within 3 s
    Health {
        /// What to ask; by default /healthz on the first address of MCP_FERRY_LISTEN, or on 127.0.0.1:8080
        #[arg(long, value_name = "URL", value_parser = health_url)]
        url: Option<Uri>,
    },
}

#[derive(Debug, Args)]
pub(super) struct Replay {
    /// Files of --tap-file, the renamed ones too if they are to be played
    #[arg(value_name = "FILE")]
    pub(super) files: Vec<PathBuf>,
    /// The MCP endpoint of the server to compare with (required)
    #[arg(long, value_name = "URL", value_parser = upstream_url)]
    pub(super) upstream: Option<Uri>,
    /// Play every request, tool calls too; without it only those that change nothing
    ///
    /// initialize, ping, lists, resources/read, prompts/get and completion/complete change nothing.
    #[arg(long)]
    pub(super) all: bool,
    /// A header for every request to the server, as 'Name: value'; may be repeated
    ///
    /// Credentials are not recorded, so that they have to be given again.
    #[arg(long, value_name = "HEADER", value_parser = header, value_delimiter = '\n')]
    pub(super) header: Vec<(HeaderName, HeaderValue)>,
    /// Do not compare what stands at this JSON pointer of an outcome, as in /result/content/*/text; may be repeated
    #[arg(long, value_name = "PATH", value_parser = pointer, value_delimiter = ',')]
    pub(super) ignore: Vec<String>,
    /// Tell the outcome as JSON
    #[arg(long)]
    pub(super) json: bool,
    /// What to log to stderr: error, warn, info, debug, trace, off, or module=level pairs
    #[arg(long, value_name = "FILTER", default_value = "error", value_parser = filter)]
    pub(super) log: String,
}

#[derive(Debug, Args)]
pub(super) struct Serve {
    #[command(flatten)]
    pub(super) places: Where,
    #[command(flatten)]
    pub(super) paths: PathFlags,
    #[command(flatten)]
    pub(super) upstream: UpstreamFlags,
    #[command(flatten)]
    pub(super) clients: Clients,
    #[command(flatten)]
    pub(super) replicas: ReplicaFlags,
    #[command(flatten)]
    pub(super) admin: AdminFlags,
    #[command(flatten)]
    pub(super) tap: TapFlags,
    #[command(flatten)]
    pub(super) logging: Logging,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Where")]
pub(super) struct Where {
    /// The MCP endpoint of the server behind: an http or https URL (required)
    ///
    /// Its path and query are used as given. Credentials go into --upstream-header, not into the URL.
    #[arg(long, value_name = "URL", value_parser = upstream_url)]
    pub(super) upstream: Option<Uri>,
    /// Address and port to listen on; may be repeated
    ///
    /// Port 0 picks a free one. On another address than loopback every Host is let in until --allowed-host or
    /// --public-url names some.
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:8080", value_parser = listen, value_delimiter = ',')]
    pub(super) listen: Vec<SocketAddr>,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Paths")]
pub(super) struct PathFlags {
    /// Where legacy clients open their stream
    #[arg(long, value_name = "PATH", default_value = "/sse", value_parser = path)]
    pub(super) sse_path: String,
    /// Where legacy clients post their messages
    #[arg(long, value_name = "PATH", default_value = "/messages", value_parser = path)]
    pub(super) messages_path: String,
    /// The MCP endpoint, as newer clients know it; see --mcp
    #[arg(long, value_name = "PATH", default_value = "/mcp", value_parser = path)]
    pub(super) mcp_path: String,
    /// What clients that begin with initialize get on --mcp-path: auto, pass or bridge
    ///
    /// Requests of 2026-07-28 and later always pass untouched. pass: the others do too. bridge: each of the others gets a
    /// session of the ferry's, translated as for a legacy client. auto: they pass where the upstream understands them, and
    /// are bridged where it speaks 2026-07-28 only, which is learnt from its answer to the first initialize.
    #[arg(long, value_name = "MODE", default_value = "auto", value_parser = mcp_mode)]
    pub(super) mcp: McpMode,
    /// The path prefix that clients see and a proxy in front has cut off
    ///
    /// Trusted proxies may also send it as X-Forwarded-Prefix.
    #[arg(long, value_name = "PATH", default_value = "", value_parser = prefix)]
    pub(super) public_prefix: String,
    /// How clients are told the messages path: absolute-path, relative or absolute-url
    ///
    /// Relative helps behind a proxy with an unknown prefix, but some clients join it wrongly. An absolute URL needs
    /// --public-url.
    #[arg(long, value_name = "FORM", default_value = "absolute-path", value_parser = endpoint_form)]
    pub(super) endpoint: EndpointForm,
    /// The ferry's URL as clients see it, with the prefix if there is one
    ///
    /// Its host is allowed in the Host header, its path becomes the public prefix.
    #[arg(long, value_name = "URL", value_parser = public_url)]
    pub(super) public_url: Option<Uri>,
    /// A proxy in front whose X-Forwarded headers are believed, as CIDR or address; may be repeated
    #[arg(long, value_name = "CIDR", value_parser = network, value_delimiter = ',')]
    pub(super) trusted_proxy: Vec<IpNet>,
    /// A host name that clients may use, with a port or for any port; may be repeated
    #[arg(long, value_name = "NAME[:PORT]", value_parser = host, value_delimiter = ',')]
    pub(super) allowed_host: Vec<String>,
    /// A web origin, scheme://host[:port], whose pages may call; may be repeated
    #[arg(long, value_name = "ORIGIN", value_parser = origin, value_delimiter = ',')]
    pub(super) allowed_origin: Vec<String>,
    /// Answer the CORS requests of browsers, for allowed origins only
    ///
    /// Those of --allowed-origin, and loopback ones on a loopback listener. Without it a page of another origin cannot
    /// read what it asked for, and what the upstream says of CORS on the passed-through path stays as it is.
    #[arg(long)]
    pub(super) cors: bool,
    /// Who may post on a stream that was opened with credentials: strict, address or off
    ///
    /// strict: the same credential, a JWT of the same issuer, subject and client, or within two minutes after the
    /// upstream's 401 a new one. address: also a new credential from the address that opened the stream, because
    /// clients refresh opaque tokens before they expire; behind a proxy, name it with --trusted-proxy, or all addresses
    /// are the proxy's. off: whoever knows the connection's id.
    #[arg(long, value_name = "RULE", default_value = "address", value_parser = credential_binding)]
    pub(super) credential_binding: CredentialBinding,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Upstream")]
pub(super) struct UpstreamFlags {
    /// A PEM file with certificate authorities to trust besides the system's
    #[arg(long, value_name = "FILE", value_parser = ca_file)]
    pub(super) upstream_ca: Option<PathBuf>,
    /// A header for every request upstream, as 'Name: value'; may be repeated
    ///
    /// It replaces the client's header of that name. Secrets are better kept in the environment, where other users
    /// of the machine cannot see them.
    #[arg(long, value_name = "HEADER", value_parser = header, value_delimiter = '\n')]
    pub(super) upstream_header: Vec<(HeaderName, HeaderValue)>,
    /// A client header to send on; may be repeated
    ///
    /// Authorization, traceparent, tracestate and baggage are always sent on.
    #[arg(long, value_name = "NAME", value_parser = header_name, value_delimiter = ',')]
    pub(super) forward_header: Vec<HeaderName>,
    /// Send a stable id of the client's connection upstream, in this header
    ///
    /// For stateless servers that keep their state elsewhere.
    #[arg(long, value_name = "NAME", value_parser = header_name)]
    pub(super) connection_id_header: Option<HeaderName>,
    /// The longest that connecting may take (100ms to 5m)
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = duration("100ms", "5m"))]
    pub(super) connect_timeout: Duration,
    /// The longest that one translated request may take (1s to 24h)
    ///
    /// What is passed through on --mcp-path has no such limit.
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = duration("1s", "24h"))]
    pub(super) request_timeout: Duration,
    /// How long the upstream may send nothing at all while a translated request runs (1s to 24h)
    ///
    /// Progress, other messages and comments on an event stream count.
    #[arg(long, value_name = "DURATION", default_value = "15m", value_parser = duration("1s", "24h"))]
    pub(super) request_idle_timeout: Duration,
    /// What the upstream speaks: auto, handshake (2024-11-05 to 2025-11-25), modern (2026-07-28)
    ///
    /// auto learns it from the answer to the first initialize, and anew when the upstream changes. A server that speaks
    /// both is spoken to in the handshake era unless this says modern.
    #[arg(long, value_name = "ERA", default_value = "auto", value_parser = upstream_era)]
    pub(super) upstream_era: UpstreamEra,
    /// Keep a stream open on which the upstream tells of changes: on, off
    ///
    /// off lets an upstream sleep that is billed or scaled by open requests. Then legacy clients hear of changes only
    /// while a request runs, and before a 2026-07-28 upstream cannot subscribe to resources.
    #[arg(long, value_name = "MODE", default_value = "on", value_parser = on_off, action = ArgAction::Set)]
    pub(super) upstream_listen: bool,
    /// Turn content that a client's revision does not know into text
    ///
    /// Audio for clients before 2025-03-26; resource links and structured content for clients before 2025-06-18. Without
    /// it they get the content as it is, and most show nothing of it.
    #[arg(long)]
    pub(super) downgrade_content: bool,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Client streams")]
pub(super) struct Clients {
    /// Quiet time on a client's stream after which a comment is sent (1s to 240s)
    ///
    /// Keep it below the idle limit of every proxy and balancer in front; many close after 60 s.
    #[arg(long, value_name = "DURATION", default_value = "15s", value_parser = duration("1s", "240s"))]
    pub(super) keep_alive: Duration,
    /// Open legacy connections, over all clients (1 to 1000000)
    ///
    /// Each needs up to two file descriptors. A session that the ferry bridges on --mcp-path counts as one.
    #[arg(long, value_name = "NUMBER", default_value = "20000", value_parser = count("1", "1000000"))]
    pub(super) max_connections: usize,
    /// Open legacy connections of one address, loopback and trusted proxies excepted (1 to 1000000)
    ///
    /// An IPv6 address counts as its /64 network. Behind --trusted-proxy it is the address that the proxy names.
    #[arg(long, value_name = "NUMBER", default_value = "1000", value_parser = count("1", "1000000"))]
    pub(super) max_connections_per_peer: usize,
    /// Client sockets that carry no legacy stream, over all clients (1 to 1000000)
    #[arg(long, value_name = "NUMBER", default_value = "20000", value_parser = count("1", "1000000"))]
    pub(super) max_sockets: usize,
    /// Requests in flight on one legacy connection (1 to 10000)
    #[arg(long, value_name = "NUMBER", default_value = "128", value_parser = count("1", "10000"))]
    pub(super) max_in_flight: usize,
    /// Size of one message from a legacy client (1KiB to 1GiB)
    #[arg(long, value_name = "SIZE", default_value = "4MiB", value_parser = size("1KiB", "1GiB"))]
    pub(super) max_request_body: usize,
    /// Size of one message from the upstream to a legacy client (1KiB to 1GiB)
    #[arg(long, value_name = "SIZE", default_value = "32MiB", value_parser = size("1KiB", "1GiB"))]
    pub(super) max_message: usize,
    /// What waits for one slow client before its upstream is paused (4KiB to 1GiB)
    #[arg(long, value_name = "SIZE", default_value = "4MiB", value_parser = size("4KiB", "1GiB"))]
    pub(super) client_buffer: usize,
    /// What all legacy connections together may hold in memory: messages in flight, or that wait for clients (16MiB to 1024GiB)
    ///
    /// Near it new streams get 503, then new messages; clients that do not read are closed after a second.
    #[arg(long, value_name = "SIZE", default_value = "1GiB", value_parser = size("16MiB", "1024GiB"))]
    pub(super) max_buffered: usize,
    /// How long a client may read nothing while data waits for it (1s to 1h)
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = duration("1s", "1h"))]
    pub(super) client_stall_timeout: Duration,
    /// How long a client may take to send the head of a request (1s to 5m)
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration("1s", "5m"))]
    pub(super) header_timeout: Duration,
    /// How long a client's socket may stay open between two requests (1s to 1h)
    ///
    /// Clients and proxies reuse theirs for up to a minute or so.
    #[arg(long, value_name = "DURATION", default_value = "75s", value_parser = duration("1s", "1h"))]
    pub(super) socket_idle_timeout: Duration,
    /// How long a client may take to send a message (1s to 1h)
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = duration("1s", "1h"))]
    pub(super) body_timeout: Duration,
    /// The age at which a stream ends; from four fifths of it as soon as nothing is in flight (10s to 168h)
    ///
    /// For platforms that cut streams after a time of their own. Without it streams have no end.
    #[arg(long, value_name = "DURATION", value_parser = duration("10s", "168h"))]
    pub(super) max_stream_age: Option<Duration>,
    /// How long a session that the ferry bridges on --mcp-path may be idle before it ends (10s to 168h)
    ///
    /// Idle is one without a request in flight, an open answer or an open listen stream. Its client is told 404 then, and
    /// begins another.
    #[arg(long, value_name = "DURATION", default_value = "30m", value_parser = duration("10s", "168h"))]
    pub(super) mcp_session_idle: Duration,
    /// How long SIGTERM leaves everything as it is but readiness, so that balancers notice (0s to 5m)
    ///
    /// It comes before --drain-timeout. SIGINT, which a person sends, does without.
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = duration("0s", "5m"))]
    pub(super) drain_delay: Duration,
    /// How long shutdown waits for what is in flight (0s to 1h)
    ///
    /// Keep it and --drain-delay together below the time after which the supervisor kills, which is 30 s in Kubernetes
    /// and 10 s in Docker.
    #[arg(long, value_name = "DURATION", default_value = "20s", value_parser = duration("0s", "1h"))]
    pub(super) drain_timeout: Duration,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Logging")]
pub(super) struct Logging {
    /// What to log to stderr: error, warn, info, debug, trace, off, or module=level pairs
    ///
    /// RUST_LOG is read when neither the flag nor MCP_FERRY_LOG is given.
    #[arg(long, value_name = "FILTER", default_value = "info", value_parser = filter)]
    pub(super) log: String,
    /// The form of a log line: text or json
    #[arg(long, value_name = "FORM", default_value = "text", value_parser = log_format)]
    pub(super) log_format: LogFormat,
}

/// The command line as clap knows it, with each flag's default and variable at the end of its help.
#[must_use]
pub fn command() -> clap::Command {
    annotate(Cli::command()).mut_subcommands(annotate)
}

fn annotate(command: clap::Command) -> clap::Command {
    let task = command.get_name().to_owned();
    command.mut_args(|arg| {
        let Some(long) = arg.get_long() else {
            return arg;
        };
        let text = |help: Option<&clap::builder::StyledStr>| {
            help.map(ToString::to_string).unwrap_or_default()
        };
        let short = text(arg.get_help());
        let whole = text(arg.get_long_help().or_else(|| arg.get_help()));
        let variables = format!("[env: {}]", env_names(&task, long).join(", "));
        // Written here because clap would give each its own paragraph.
        let takes_value = arg.get_action().takes_values();
        let default = match arg.get_default_values() {
            [value] if !value.is_empty() && takes_value => {
                format!(" [default: {}]", value.display())
            }
            _ => String::new(),
        };
        arg.hide_default_value(takes_value)
            .help(format!("{short}{default}"))
            .long_help(format!("{whole}\n{variables}{default}"))
    })
}

/// The environment variables of a flag, the strongest first. `task` is the subcommand, or the program's name.
#[must_use]
pub fn env_names(task: &str, long: &str) -> Vec<String> {
    let upper = |text: &str| text.to_ascii_uppercase().replace('-', "_");
    match (task, long) {
        (_, "log") => vec!["MCP_FERRY_LOG".to_owned(), "RUST_LOG".to_owned()],
        // A bare MCP_FERRY_URL would be taken for the upstream's, and the upstream that is served is not the one that a
        // replay compares it with.
        ("demo", "once") | ("health", "url") | ("replay", _) => {
            vec![format!("MCP_FERRY_{}_{}", upper(task), upper(long))]
        }
        _ => vec![format!("MCP_FERRY_{}", upper(long))],
    }
}

fn endpoint_form(text: &str) -> Result<EndpointForm, String> {
    match text.trim() {
        "absolute-path" => Ok(EndpointForm::AbsolutePath),
        "relative" => Ok(EndpointForm::Relative),
        "absolute-url" => Ok(EndpointForm::AbsoluteUrl),
        _ => Err(format!(
            "{} is none of absolute-path, relative, absolute-url",
            super::values::quoted(text)
        )),
    }
}

fn mcp_mode(text: &str) -> Result<McpMode, String> {
    match text.trim() {
        "auto" => Ok(McpMode::Auto),
        "pass" => Ok(McpMode::Pass),
        "bridge" => Ok(McpMode::Bridge),
        _ => Err(format!(
            "{} is none of auto, pass, bridge",
            super::values::quoted(text)
        )),
    }
}

fn upstream_era(text: &str) -> Result<UpstreamEra, String> {
    match text {
        "auto" => Ok(UpstreamEra::Auto),
        "handshake" => Ok(UpstreamEra::Fixed(Era::Handshake)),
        "modern" => Ok(UpstreamEra::Fixed(Era::Modern)),
        _ => Err("must be auto, handshake or modern".to_owned()),
    }
}

pub(super) fn on_off(text: &str) -> Result<bool, String> {
    match text {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err("must be on or off".to_owned()),
    }
}

fn credential_binding(text: &str) -> Result<CredentialBinding, String> {
    match text.trim() {
        "strict" => Ok(CredentialBinding::Strict),
        "address" => Ok(CredentialBinding::Address),
        "off" => Ok(CredentialBinding::Off),
        _ => Err(format!(
            "{} is none of strict, address, off",
            super::values::quoted(text)
        )),
    }
}

fn log_format(text: &str) -> Result<LogFormat, String> {
    match text.trim() {
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        _ => Err(format!(
            "{} is neither text nor json",
            super::values::quoted(text)
        )),
    }
}

/// A bare word that is no level would name a module and log nothing else: a typing error that hides the log.
fn filter(text: &str) -> Result<String, String> {
    const LEVELS: [&str; 6] = ["error", "warn", "info", "debug", "trace", "off"];
    let text = text.trim();
    let refuse = |why: &str| Err(format!("{} {why}", super::values::quoted(text)));
    for directive in text.split(',').map(str::trim) {
        let bare = !directive.contains(['=', '[', ':']) && !directive.starts_with("mcp_ferry");
        let level = LEVELS
            .iter()
            .any(|level| level.eq_ignore_ascii_case(directive));
        if bare && !level {
            return refuse("is not a level (error, warn, info, debug, trace, off) or module=level");
        }
    }
    match tracing_subscriber::EnvFilter::try_new(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(_) => refuse("is not a log filter: write info,hyper=warn or the like"),
    }
}
