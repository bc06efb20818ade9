//! The HTTP server: listeners, routes, and the order in which it stops.
//!
//! Routes are exact paths: the legacy stream, its messages, the MCP endpoint, and two for probes. Each is served with
//! and without the public prefix, so that a proxy in front may strip it or not.
//!
//! Stopping: readiness off and streams told to finish; sockets are still accepted meanwhile, because a call in flight
//! may need an answer that the client can only post, but new streams are turned away by closing their socket (a
//! reconnecting TypeScript client gives up for good on an HTTP error, and tries again after a closed socket). When
//! nothing is in flight, or the drain's time is over, what is left gets its error, streams end, sessions are deleted.
//! Then nothing is accepted any more, each socket writes what it still has to, and the process ends.

mod body;
mod forward;
mod gauge;
mod guard;
mod legacy;
mod modern;
mod respond;

use std::collections::HashMap;
use std::fmt;
use std::future::{Future, pending, poll_fn};
use std::net::{IpAddr, SocketAddr};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::Poll;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::{Id, JoinError, JoinSet};
use tracing::{debug, info, warn};

use crate::config::{Config, Paths};
use crate::conn::Shared;
use crate::error::Error;
use crate::metrics::Metrics;
use crate::proto::era;
use crate::store::{Memory, Store};
use crate::tap::{Bus, Label};
use crate::upstream::Upstream;
use body::Body;
use forward::Forwarding;
use gauge::{Gauge, Held};
use guard::Guard;
use legacy::Granted;
use respond::Refused;

/// Bytes that one socket's reader or writer may buffer; also the largest request head.
const SOCKET_BUFFER: usize = 64 * 1024;
/// A peer that vanished without a word is noticed after this long, by unacknowledged keep-alives.
const VANISHED: Duration = Duration::from_secs(30);
/// How long the farewell may take once the drain is over: a little more than one connection's own limits.
const FAREWELL: Duration = Duration::from_secs(12);
/// How long sockets may take, at the very end, to write what is left: a client that does not read is not waited for.
const LAST_BYTES: Duration = Duration::from_secs(2);
/// How long a listener rests when the system has no descriptor for a new socket.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A bound server, ready to serve.
#[derive(Debug)]
pub struct Bound {
    listeners: Vec<TcpListener>,
    server: Arc<Server>,
    drain_timeout: Duration,
}

/// What every request needs.
#[derive(Debug)]
struct Server {
    shared: Arc<Shared>,
    paths: Paths,
    guard: Guard,
    forwarding: Forwarding,
    header_timeout: Duration,
    max_streams: usize,
    streams: Arc<Gauge>,
    /// Passed-through requests that are to be finished before the process stops.
    passing: Arc<Gauge>,
    labels: AtomicU64,
    draining: AtomicBool,
    /// Listeners stop at this.
    closing: Notify,
}

/// One client's socket.
#[derive(Debug)]
struct Socket {
    peer: IpAddr,
    local: IpAddr,
    /// The socket is to end after what it is writing.
    closing: Notify,
    /// An upstream still answers on this socket, or a client listens.
    passing: AtomicBool,
    /// The stream that this socket is to become.
    granted: OnceLock<Mutex<Option<Granted>>>,
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
        let mut listeners = Vec::with_capacity(config.listen.len());
        for address in &config.listen {
            let listener = TcpListener::bind(address)
                .await
                .map_err(|error| Error::listen(*address, error))?;
            listeners.push(listener);
        }
        let shared = Shared {
            upstream,
            store: Store::Memory(Memory::default()),
            bus: Arc::new(Bus::default()),
            metrics: Arc::new(Metrics::default()),
            limits: config.limits.clone(),
        };
        let server = Server {
            guard: Guard::new(&config),
            forwarding: Forwarding::new(&config),
            header_timeout: config.limits.header_timeout,
            max_streams: config.limits.max_connections,
            paths: config.paths,
            shared: Arc::new(shared),
            streams: Arc::default(),
            passing: Arc::default(),
            labels: AtomicU64::new(0),
            draining: AtomicBool::new(false),
            closing: Notify::new(),
        };
        Ok(Self {
            listeners,
            server: Arc::new(server),
            drain_timeout: config.limits.drain_timeout,
        })
    }

    /// The addresses that are listened on, with the ports that the system chose.
    #[must_use]
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.listeners
            .iter()
            .filter_map(|listener| listener.local_addr().ok())
            .collect()
    }

    /// The upstream's address, for messages to people.
    #[must_use]
    pub fn upstream(&self) -> String {
        self.server.shared.upstream.shown()
    }

    /// Where what crosses can be watched.
    #[must_use]
    pub fn bus(&self) -> Arc<Bus> {
        Arc::clone(&self.server.shared.bus)
    }

    /// What is counted.
    #[must_use]
    pub fn metrics(&self) -> Arc<Metrics> {
        Arc::clone(&self.server.shared.metrics)
    }

    /// Serves until `shutdown`, then stops in the order that the module describes.
    pub async fn serve(self, shutdown: impl Future<Output = ()>) {
        let Self {
            listeners,
            server,
            drain_timeout,
        } = self;
        let mut accepting = JoinSet::new();
        for listener in listeners {
            accepting.spawn(accept(listener, Arc::clone(&server)));
        }
        shutdown.await;
        let (streams, passing) = (server.streams.open(), server.passing.open());
        info!(
            streams,
            passing, "shutting down: finishing what is in flight"
        );
        server.draining.store(true, Ordering::Release);
        server.shared.store.drain(false);
        let quiet = async {
            server.streams.empty().await;
            server.passing.empty().await;
        };
        if tokio::time::timeout(drain_timeout, quiet).await.is_err() {
            warn!("the drain's time is over; what is left ends in errors");
            server.shared.store.drain(true);
            if tokio::time::timeout(FAREWELL, server.streams.empty())
                .await
                .is_err()
            {
                warn!("some connections did not end in time");
            }
        }
        server.closing.notify_waiters();
        let closed = async { while accepting.join_next().await.is_some() {} };
        if tokio::time::timeout(LAST_BYTES, closed).await.is_err() {
            warn!("some clients did not read their last answer");
        }
        accepting.shutdown().await;
        info!("stopped");
    }
}

impl Server {
    fn place_for_stream(&self) -> Option<Held> {
        self.streams.hold(self.max_streams)
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

    fn route(&self, path: &str) -> Option<Route> {
        let bare = path
            .strip_prefix(self.paths.public_prefix.as_str())
            .filter(|bare| bare.starts_with('/'));
        [Some(path), bare]
            .into_iter()
            .flatten()
            .find_map(|path| self.bare_route(path))
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

async fn accept(listener: TcpListener, server: Arc<Server>) {
    let mut tasks = JoinSet::new();
    let mut sockets = HashMap::new();
    let mut closing = pin!(server.closing.notified());
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(ended) = tasks.join_next_with_id() => {
                sockets.remove(&task_id(&ended));
                continue;
            }
            () = &mut closing => break,
        };
        match accepted {
            Ok((stream, peer)) => {
                let Ok(local) = stream.local_addr() else {
                    continue;
                };
                let socket = Arc::new(Socket {
                    peer: peer.ip(),
                    local: local.ip(),
                    closing: Notify::new(),
                    passing: AtomicBool::new(false),
                    granted: OnceLock::new(),
                });
                let serve = serve_socket(stream, Arc::clone(&socket), Arc::clone(&server));
                sockets.insert(tasks.spawn(serve).id(), socket);
            }
            Err(error) => {
                // Out of descriptors, or a socket that was gone before it was taken: those that are open go on.
                warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    for socket in sockets.into_values() {
        socket.closing.notify_one();
    }
    while tasks.join_next().await.is_some() {}
}

fn task_id(ended: &Result<(Id, ()), JoinError>) -> Id {
    match ended {
        Ok((id, ())) => *id,
        Err(error) => error.id(),
    }
}

async fn serve_socket(stream: TcpStream, socket: Arc<Socket>, server: Arc<Server>) {
    if let Some((granted, stream)) = serve_requests(stream, &socket, &server).await {
        granted.begin(&server, stream);
    }
}

/// Serves requests until the socket ends, or until one of them was granted a stream: then hyper lets go of the socket,
/// whose last request has no body and no answer yet.
async fn serve_requests(
    stream: TcpStream,
    socket: &Arc<Socket>,
    server: &Arc<Server>,
) -> Option<(Granted, TcpStream)> {
    tune(&stream);
    let service =
        service_fn(|request| Box::pin(handle(Arc::clone(server), Arc::clone(socket), request)));
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(server.header_timeout)
        .max_buf_size(SOCKET_BUFFER)
        .serve_connection(TokioIo::new(stream), service);
    let mut closing = pin!(socket.closing.notified());
    let mut told = false;
    let served = poll_fn(|cx| {
        if !told && closing.as_mut().poll(cx).is_ready() {
            told = true;
            // What an upstream still answers would have been waited for already, were there time.
            if socket.passing.load(Ordering::Acquire) {
                return Poll::Ready(None);
            }
            Pin::new(&mut connection).graceful_shutdown();
        }
        let served = connection.poll_without_shutdown(cx);
        if socket.granted.get().is_some() {
            Poll::Ready(None)
        } else {
            served.map(Some)
        }
    })
    .await;
    if let Some(Err(error)) = &served {
        debug!(%error, "a socket ended");
    }
    let stream = connection.into_parts().io.into_inner();
    let granted = socket
        .granted
        .get()?
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .take()?;
    Some((granted, stream))
}

/// Small writes leave at once, and a peer that vanished is noticed. Failures cost only that.
fn tune(stream: &TcpStream) {
    let _ = stream.set_nodelay(true);
    let socket = SockRef::from(stream);
    let probes = TcpKeepalive::new()
        .with_time(Duration::from_secs(15))
        .with_interval(Duration::from_secs(5));
    let _ = socket.set_tcp_keepalive(&probes);
    #[cfg(target_os = "linux")]
    let _ = socket.set_tcp_user_timeout(Some(VANISHED));
}

async fn handle(
    server: Arc<Server>,
    socket: Arc<Socket>,
    request: Request<Incoming>,
) -> Result<Response<Body>, CloseSocket> {
    let route = server.route(request.uri().path());
    let draining = server.draining.load(Ordering::Acquire);
    let response = match route {
        Some(Route::Alive) => Ok(respond::text(StatusCode::OK, "ok\n")),
        Some(Route::Ready) if draining => Ok(respond::text(
            StatusCode::SERVICE_UNAVAILABLE,
            "shutting down\n",
        )),
        Some(Route::Ready) => Ok(respond::text(StatusCode::OK, "ready\n")),
        None => {
            let Paths {
                sse, messages, mcp, ..
            } = server.paths.clone();
            Err(Refused::NoRoute { sse, messages, mcp })
        }
        Some(route) => match server.guard.host(request.headers(), socket.local) {
            Err(refused) => Err(refused),
            Ok(()) => match route {
                Route::Stream if request.method() == Method::GET && !names_session(&request) => {
                    if draining {
                        return Err(CloseSocket);
                    }
                    let (head, _) = request.into_parts();
                    let judged = server.guard.origin(&head.headers, socket.local);
                    match judged.and_then(|()| legacy::grant(&server, &head, &socket)) {
                        Ok(granted) => {
                            // Said before this future is polled again, and nobody will poll it again.
                            let _ = socket.granted.set(Mutex::new(Some(granted)));
                            return pending().await;
                        }
                        Err(refused) => Err(refused),
                    }
                }
                Route::Messages if request.method() == Method::POST => {
                    match server.guard.origin(request.headers(), socket.local) {
                        Ok(()) => legacy::post(&server, request, &socket).await,
                        Err(refused) => Err(refused),
                    }
                }
                Route::Messages => Err(Refused::Method("POST")),
                // Clients of the newer transport that still hold the old address are served in place.
                Route::Stream if request.method() != Method::POST && !names_session(&request) => {
                    Err(Refused::Method("GET, POST"))
                }
                _ => modern::pass(&server, request, &socket).await,
            },
        },
    };
    Ok(response.unwrap_or_else(|refused| {
        debug!(%refused, "refused a request");
        refused.response()
    }))
}

fn names_session(request: &Request<Incoming>) -> bool {
    request.headers().contains_key(era::SESSION_HEADER)
}
