//! The HTTP server: listeners, routes, and the order in which it stops.
//!
//! Routes are exact paths: the legacy stream, its messages, the MCP endpoint, and two for probes. Each is served with
//! and without the public prefix, so that a proxy in front may strip it or not.
//!
//! Stopping: readiness off; where a supervisor asked for it, everything else goes on for `--drain-delay`, until
//! balancers have noticed (an HTTP error is final for a client that reconnects). Then streams are told to finish; sockets are still accepted meanwhile, because a call in flight
//! may need an answer that the client can only post, but new streams are turned away by closing their socket (a
//! reconnecting TypeScript client gives up for good on an HTTP error, and tries again after a closed socket). When
//! nothing is in flight, or the drain's time is over, what is left gets its error, streams end, sessions are deleted.
//! Then nothing is accepted any more, each socket writes what it still has to, and the process ends. The admin listener
//! (`admin`) answers through all of it, and closes last.

mod accept;
mod admin;
mod body;
mod cors;
mod forward;
mod gauge;
mod guard;
mod intake;
mod legacy;
mod mcp;
mod modern;
mod passing;
mod peers;
mod probe;
mod readiness;
mod remote;
mod respond;
mod session;
mod socket;
mod tee;
#[cfg(test)]
mod tests;
mod watching;

use std::fmt;
use std::future::{Future, pending};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::header::{self, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use tokio::net::TcpListener;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tracing::{debug, info, warn};

use crate::budget::Budget;
use crate::config::{Config, CredentialBinding, McpMode, Paths, Terminal};
use crate::conn::Shared;
use crate::error::Error;
use crate::metrics::Metrics;
use crate::proto::era;
use crate::store::Store;
use crate::tap::{Bus, Head, Label, Settings, Tap};
use crate::upstream::Upstream;
use accept::Reserve;
use admin::Admin;
use body::Body;
use cors::Cors;
use forward::Forwarding;
use gauge::{Gauge, Held};
use guard::Guard;
use peers::{Misses, Streams};
use remote::answers::Answers;
use remote::owner;
use respond::Refused;
use socket::{Serving, Socket};
use watching::Watching;

/// How long the farewell may take once the drain is over: a little more than one connection's own limits.
const FAREWELL: Duration = Duration::from_secs(12);
/// How long sockets may take, at the very end, to write what is left: a client that does not read is not waited for.
const LAST_BYTES: Duration = Duration::from_secs(2);
/// A bound server, ready to serve.
#[derive(Debug)]
pub struct Bound {
    listeners: Vec<(TcpListener, Reserve)>,
    admin: Option<Admin>,
    server: Arc<Server>,
    watching: Option<Watching>,
    records: Settings,
    drain_delay: Duration,
    drain_timeout: Duration,
}

/// Who asks for the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shutdown {
    /// A supervisor, which takes the process out of a balancer at the same time: what that takes is waited for.
    Supervisor,
    /// A person, who waits.
    Person,
}

/// What every request needs.
#[derive(Debug)]
struct Server {
    shared: Arc<Shared>,
    mcp: McpMode,
    paths: Paths,
    guard: Guard,
    forwarding: Forwarding,
    cors: Option<Cors>,
    /// Sockets that hyper serves requests on.
    sockets: Arc<Gauge>,
    streams: Arc<Gauge>,
    streams_by_peer: Arc<Streams>,
    misses: Misses,
    credential_binding: CredentialBinding,
    /// What sessions answer to requests that other replicas took.
    answers: Arc<Answers>,
    /// Passed-through requests that are to be finished before the process stops.
    passing: Arc<Gauge>,
    labels: AtomicU64,
    /// When the process began, in seconds since 1970.
    started: f64,
    /// Not ready any more; everything else still goes on.
    leaving: AtomicBool,
    draining: AtomicBool,
    /// Listeners stop at this.
    closing: Notify,
}

/// The socket is to be closed without an answer.
#[derive(Debug)]
struct CloseSocket;

impl fmt::Display for CloseSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no new streams while shutting down")
    }
}

impl std::error::Error for CloseSocket {}

impl Bound {
    /// Binds the listeners and prepares the upstream; serves nothing yet.
    ///
    /// # Errors
    /// When an address cannot be listened on, or TLS for the upstream cannot be set up.
    pub async fn bind(config: Config) -> Result<Self, Error> {
        let upstream = Upstream::new(&config)?;
        let listeners = listen(&config.listen)?;
        let bus = Arc::new(Bus::default());
        let records = Settings {
            bodies: config.tap.bodies,
            max_body: config.tap.max_body,
            redact: config.tap.redact.clone(),
            complete: config.tap.file.is_some() || config.tap.terminal != Terminal::Off,
        };
        let metrics = Arc::new(Metrics::default());
        let asked = Watching::is_asked_for(&config);
        let begin = || Watching::begin(&bus, records.clone());
        let mut watching = asked.then(begin).flatten();
        if let Some(watching) = &mut watching {
            watching.show(&config, &metrics)?;
        }
        let admin = Admin::bind(&config)?;
        let store = Store::open(&config.replicas, &metrics).await?;
        let shared = Shared {
            upstream,
            store,
            bus,
            metrics,
            budget: Arc::new(Budget::new(config.limits.max_buffered)),
            limits: config.limits.clone(),
        };
        let server = Server {
            guard: Guard::new(&config),
            forwarding: Forwarding::new(&config),
            cors: Cors::new(&config),
            sockets: Arc::default(),
            streams_by_peer: Arc::default(),
            misses: Misses::default(),
            credential_binding: config.guard.credential_binding,
            answers: Arc::new(Answers::new(&shared.budget)),
            mcp: config.mcp,
            paths: config.paths,
            shared: Arc::new(shared),
            streams: Arc::default(),
            passing: Arc::default(),
            labels: AtomicU64::new(0),
            started: readiness::now(),
            leaving: AtomicBool::new(false),
            draining: AtomicBool::new(false),
            closing: Notify::new(),
        };
        Ok(Self {
            listeners,
            admin,
            server: Arc::new(server),
            watching,
            records,
            drain_delay: config.limits.drain_delay,
            drain_timeout: config.limits.drain_timeout,
        })
    }

    /// The addresses that are listened on, with the ports that the system chose.
    #[must_use]
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.listeners
            .iter()
            .filter_map(|(listener, _)| listener.local_addr().ok())
            .collect()
    }

    /// The address of the admin listener, with the port that the system chose.
    #[must_use]
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin.as_ref()?.address()
    }

    /// The address of the tap's page, for a person to open. It holds the access token, if that is the ferry's own.
    #[must_use]
    pub fn admin_url(&self) -> Option<String> {
        self.admin.as_ref()?.url()
    }

    /// The upstream's address, for messages to people.
    #[must_use]
    pub fn upstream(&self) -> String {
        self.server.shared.upstream.shown()
    }

    /// Where what crosses can be watched. If nothing else shows it, it is recorded from now on.
    #[must_use]
    pub fn tap(&mut self) -> Option<Arc<Tap>> {
        if self.watching.is_none() {
            let bus = &self.server.shared.bus;
            self.watching = Watching::begin(bus, self.records.clone());
        }
        self.watching.as_ref().map(Watching::tap)
    }

    /// What is counted.
    #[must_use]
    pub fn metrics(&self) -> Arc<Metrics> {
        Arc::clone(&self.server.shared.metrics)
    }

    /// Serves until `shutdown`, then stops in the order that the module describes.
    pub async fn serve(self, shutdown: impl Future<Output = Shutdown>) {
        let Self {
            listeners,
            admin,
            server,
            watching,
            drain_delay,
            drain_timeout,
            ..
        } = self;
        let tap = watching.as_ref().map(Watching::tap);
        let watching = watching.map(Watching::run);
        let (closing, closed) = watch::channel(false);
        let admin =
            admin.map(|admin| tokio::task::spawn(admin.serve(Arc::clone(&server), tap, closed)));
        let mut accepting = JoinSet::new();
        for (listener, reserve) in listeners {
            accepting.spawn(accept::accept(listener, reserve, Arc::clone(&server)));
        }
        // Ended when it is dropped.
        let mut taking = JoinSet::new();
        if let Some(arrivals) = server.shared.store.arrivals() {
            taking.spawn(owner::run(Arc::clone(&server), arrivals));
        }
        let asked_by = shutdown.await;
        server.leaving.store(true, Ordering::Release);
        if asked_by == Shutdown::Supervisor && !drain_delay.is_zero() {
            info!("not ready any more; shutting down in {drain_delay:?} (--drain-delay)");
            tokio::time::sleep(drain_delay).await;
        }
        server.drain(drain_timeout).await;
        // What the last connections have written is still asked for by other replicas.
        let _ = tokio::time::timeout(LAST_BYTES, server.answers.empty()).await;
        server.closing.notify_waiters();
        let closed = async { while accepting.join_next().await.is_some() {} };
        if tokio::time::timeout(LAST_BYTES, closed).await.is_err() {
            warn!("some clients did not read their last answer");
        }
        accepting.shutdown().await;
        server.shared.store.leave().await;
        drop(taking);
        if let Some(watching) = watching {
            watching.end().await;
        }
        // The last to go, so that a shutdown can be watched.
        closing.send_replace(true);
        if let Some(admin) = admin {
            let _ = admin.await;
        }
        info!("stopped");
    }
}

fn listen(addresses: &[SocketAddr]) -> Result<Vec<(TcpListener, Reserve)>, Error> {
    let listen = |address: &SocketAddr| match accept::listen(*address) {
        Ok(listener) => Ok((listener, Reserve::new())),
        Err(error) => Err(Error::listen(*address, error)),
    };
    addresses.iter().map(listen).collect()
}

/// Over how long idle streams end, so that their clients do not come back, and their sessions do not end, all in one
/// moment: a thousand a second, within two seconds and a quarter of the drain's time. A few make no crowd.
fn spread(streams: usize, drain_timeout: Duration) -> Duration {
    const CROWD: usize = 50;
    if streams < CROWD {
        return Duration::ZERO;
    }
    let millis = u64::try_from(streams).unwrap_or(u64::MAX);
    Duration::from_millis(millis)
        .min(Duration::from_secs(2))
        .min(drain_timeout / 4)
}

impl Server {
    /// Finishes what is in flight, as far as there is time.
    async fn drain(&self, timeout: Duration) {
        let (streams, passing) = (self.streams.open(), self.passing.open());
        info!(
            streams,
            passing, "shutting down: finishing what is in flight"
        );
        self.draining.store(true, Ordering::Release);
        self.shared.store.drain(spread(streams, timeout));
        let quiet = async {
            self.streams.empty().await;
            self.passing.empty().await;
        };
        if tokio::time::timeout(timeout, quiet).await.is_err() {
            warn!("the drain's time is over; what is left ends in errors");
            self.shared.store.expire();
            if tokio::time::timeout(FAREWELL, self.streams.empty())
                .await
                .is_err()
            {
                warn!("some connections did not end in time");
            }
        }
    }

    fn in_flight(&self) -> Option<Held> {
        self.passing.hold(usize::MAX)
    }

    /// The present as the `Date` header has it (RFC 9110 §6.6.1).
    #[expect(
        clippy::disallowed_methods,
        reason = "a header that tells the wall time"
    )]
    fn date(&self) -> String {
        httpdate::fmt_http_date(std::time::SystemTime::now())
    }

    fn next_label(&self) -> Label {
        Label(self.labels.fetch_add(1, Ordering::Relaxed) + 1)
    }

    fn route(&self, request: &Request<Incoming>) -> Result<Route, Refused> {
        let path = request.uri().path();
        let bare = path
            .strip_prefix(self.paths.public_prefix.as_str())
            .filter(|bare| bare.starts_with('/'));
        [Some(path), bare]
            .into_iter()
            .flatten()
            .find_map(|path| self.bare_route(path))
            .ok_or_else(|| {
                let Paths {
                    sse, messages, mcp, ..
                } = self.paths.clone();
                Refused::NoRoute { sse, messages, mcp }
            })
    }

    fn bare_route(&self, path: &str) -> Option<Route> {
        let is = |route: &str| path == route || path.strip_suffix('/') == Some(route);
        match path {
            "/healthz" => Some(Route::Alive),
            "/readyz" => Some(Route::Ready),
            _ if is(&self.paths.sse) => Some(Route::Stream),
            _ if is(&self.paths.messages) => Some(Route::Messages),
            _ if is(&self.paths.mcp) => Some(Route::Mcp),
            _ => None,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Route {
    Stream,
    Messages,
    Mcp,
    Alive,
    Ready,
}

/// One request: routed, judged, answered, and said to be whose page's it is.
async fn handle(
    server: Arc<Server>,
    socket: Arc<Socket>,
    mut request: Request<Incoming>,
    _serving: Serving,
) -> Result<Response<Body>, CloseSocket> {
    #[cfg(test)]
    assert_ne!(request.uri().query(), Some("panic"), "asked for");
    // Where two lengths of a body may have been named the socket must not be used again (RFC 9112 §6.3); hyper has read
    // the one that counts and keeps quiet about the other.
    let chunked = request.headers().contains_key(header::TRANSFER_ENCODING);
    let origin = match &server.cors {
        Some(_) => server.guard.allowed_origin(request.headers(), socket.local),
        None => None,
    };
    let bus = &server.shared.bus;
    let shown = bus.is_watched().then(|| Head::share(&mut request));
    let answered = match server.route(&request) {
        Ok(Route::Alive) => Ok(respond::text(StatusCode::OK, "ok\n")),
        Ok(Route::Ready) => Ok(server.readiness()),
        Ok(route) => answer(&server, &socket, request, route, origin.as_ref()).await?,
        Err(refused) => Err(refused),
    };
    let mut response = answered.unwrap_or_else(|refused| {
        debug!(%refused, "refused a request");
        server.count_refusal(&refused);
        let response = refused.response();
        server.show_refusal(shown, &socket, response.status().as_u16(), &refused);
        response
    });
    if server.cors.is_some() {
        cors::mark(response.headers_mut(), origin.as_ref());
    }
    if chunked {
        let close = HeaderValue::from_static("close");
        response.headers_mut().insert(header::CONNECTION, close);
    }
    Ok(response)
}

/// Answers on one of the three paths of the protocol. The outer error closes the socket.
async fn answer(
    server: &Arc<Server>,
    socket: &Arc<Socket>,
    request: Request<Incoming>,
    route: Route,
    origin: Option<&HeaderValue>,
) -> Result<Result<Response<Body>, Refused>, CloseSocket> {
    if let Err(refused) = server.guard.host(&request, socket.local) {
        return Ok(Err(refused));
    }
    // The upstream judges the origin of what is passed through, except when the ferry answers for both.
    let judge = || server.guard.origin(request.headers(), socket.local);
    if let Some(cors) = &server.cors
        && cors::is_preflight(request.method(), request.headers())
    {
        return Ok(judge().map(|()| cors.preflight(request.headers())));
    }
    Ok(match route {
        Route::Stream if request.method() == Method::GET && !names_session(&request) => {
            if server.draining.load(Ordering::Acquire) {
                return Err(CloseSocket);
            }
            let judged = judge();
            let (head, _) = request.into_parts();
            match judged.and_then(|()| legacy::grant(server, &head, socket, origin)) {
                Ok(granted) => {
                    socket.grant(granted);
                    return pending().await;
                }
                Err(refused) => Err(refused),
            }
        }
        Route::Messages if request.method() == Method::POST => match judge() {
            Ok(()) => legacy::post(server, request, socket).await,
            Err(refused) => Err(refused),
        },
        Route::Messages => Err(Refused::Method("POST")),
        // Clients of the newer transport that still hold the old address are served in place.
        Route::Stream if request.method() != Method::POST && !names_session(&request) => {
            Err(Refused::Method("GET, POST"))
        }
        _ => {
            let judged = if server.cors.is_some() {
                judge()
            } else {
                Ok(())
            };
            match judged {
                Ok(()) => mcp::serve(server, request, socket).await,
                Err(refused) => Err(refused),
            }
        }
    })
}

fn names_session(request: &Request<Incoming>) -> bool {
    request.headers().contains_key(era::SESSION_HEADER)
}
