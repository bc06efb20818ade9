//! Taking sockets: within the cap, and on through the times when the system has no descriptor to give.

use std::collections::HashMap;
use std::fs::File;
use std::future::{Future as _, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::Instant;
use tracing::{debug, error, warn};

use super::legacy::Granted;
use super::socket::{Socket, Watched};
use super::{Server, handle};
use crate::metrics::{Counter, Metrics};

/// Bytes that one socket's reader or writer may buffer; also the largest request head.
const SOCKET_BUFFER: usize = 64 * 1024;
/// A peer that vanished without a word is noticed after this long, by unacknowledged keep-alives.
const VANISHED: Duration = Duration::from_secs(30);
/// How long a listener rests when the system has no descriptor for a new socket.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// The least time between two complaints of a kind.
const COMPLAIN_EVERY: Duration = Duration::from_secs(10);
/// `EMFILE` and `ENFILE`: the process, or the system, has as many files open as it may. The same numbers on Linux, the
/// BSDs and macOS.
const NO_DESCRIPTOR: [i32; 2] = [24, 23];
/// What a socket gets that is one too many. No more of it is read, so there is no route to tell apart.
const TOO_MANY: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: text/plain; charset=utf-8\r\n\
retry-after: 1\r\nconnection: close\r\ncontent-length: 58\r\n\r\n\
mcp-ferry: too many sockets are open; try again in a while";

/// Clients that may wait to be taken. The system has its own bound (`net.core.somaxconn`, usually the same), and drops
/// those beyond it without a word: as when thousands come back at once after a restart.
const BACKLOG: u32 = 4096;

/// Listens on an address.
pub(super) fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    // A restarted ferry gets its address although sockets of the last one are still being closed.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Takes sockets until the server closes, then waits for those that it has.
pub(super) async fn accept(listener: TcpListener, mut reserve: Reserve, server: Arc<Server>) {
    let mut tasks = JoinSet::new();
    let mut sockets = HashMap::new();
    let mut closing = pin!(server.closing.notified());
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(ended) = tasks.join_next_with_id() => {
                sockets.remove(&ended_task(&server, &ended));
                continue;
            }
            () = &mut closing => break,
        };
        match accepted {
            Ok((stream, peer)) => {
                let Ok(local) = stream.local_addr() else {
                    continue;
                };
                let Some(place) = server.sockets.hold(server.shared.limits.max_sockets) else {
                    server.shared.metrics.add(Counter::SocketsRefused);
                    reserve.complain("as many sockets are open as --max-sockets allows");
                    turn_away(&stream);
                    continue;
                };
                let socket = Arc::new(Socket::new(peer.ip(), local.ip()));
                let serving = serve_socket(stream, Arc::clone(&socket), Arc::clone(&server));
                let serving = async move {
                    serving.await;
                    drop(place);
                };
                sockets.insert(tasks.spawn(serving).id(), socket);
            }
            Err(error) => {
                reserve
                    .on_error(&listener, &server.shared.metrics, &error)
                    .await;
            }
        }
    }
    drop(listener);
    for socket in sockets.into_values() {
        socket.closing.notify_one();
    }
    while let Some(ended) = tasks.join_next_with_id().await {
        ended_task(&server, &ended);
    }
}

/// The id of a task that ended. One that panicked ended its own socket and nothing else.
fn ended_task(server: &Server, ended: &Result<(Id, ()), JoinError>) -> Id {
    match ended {
        Ok((id, ())) => *id,
        Err(error) => {
            if error.is_panic() {
                server.shared.metrics.add(Counter::Panics);
                error!("a bug: serving a request panicked; its socket is closed, the others go on");
            }
            error.id()
        }
    }
}

/// A word to a client whose socket is one too many. It may be lost when the client is still sending.
pub(super) fn turn_away(stream: &TcpStream) {
    let _ = stream.try_write(TOO_MANY);
    let _ = SockRef::from(stream).shutdown(std::net::Shutdown::Write);
}

/// A descriptor that is kept for the time when there is none: with it the next client in the queue can be told, instead
/// of waiting for an answer that does not come.
#[derive(Debug)]
pub(super) struct Reserve {
    descriptor: Option<File>,
    complained: Option<Instant>,
    silent: u64,
}

impl Reserve {
    pub(super) fn new() -> Self {
        Self {
            descriptor: Self::take(),
            complained: None,
            silent: 0,
        }
    }

    fn take() -> Option<File> {
        File::open("/dev/null").ok()
    }

    /// What could not be accepted: those that are open go on, whatever it was.
    pub(super) async fn on_error(
        &mut self,
        listener: &TcpListener,
        metrics: &Metrics,
        error: &io::Error,
    ) {
        let exhausted = error
            .raw_os_error()
            .is_some_and(|code| NO_DESCRIPTOR.contains(&code));
        if !exhausted {
            // A socket that was gone before it was taken.
            return debug!(%error, "a socket could not be accepted");
        }
        metrics.add(Counter::SocketsRefused);
        self.complain("no descriptor is left for a new socket; raise the limit on open files, or lower --max-connections");
        drop(self.descriptor.take());
        let mut accepting = pin!(listener.accept());
        // One look: the client in question is in the queue.
        let taken = poll_fn(|cx| match accepting.as_mut().poll(cx) {
            Poll::Ready(taken) => Poll::Ready(taken.ok()),
            Poll::Pending => Poll::Ready(None),
        })
        .await;
        if let Some((stream, _)) = taken {
            turn_away(&stream);
        }
        self.descriptor = Self::take();
        tokio::time::sleep(ACCEPT_PAUSE).await;
    }

    /// Says it once, and then how often it held since: a flood of clients must not become a flood of lines.
    pub(super) fn complain(&mut self, what: &str) {
        self.silent += 1;
        let now = Instant::now();
        if self
            .complained
            .is_none_or(|last| last + COMPLAIN_EVERY <= now)
        {
            warn!(times = self.silent, "{what}");
            self.complained = Some(now);
            self.silent = 0;
        }
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
    let service = service_fn(|request| {
        // Counted from here, not from when the future is first polled.
        let serving = socket.serve();
        Box::pin(handle(
            Arc::clone(server),
            Arc::clone(socket),
            request,
            serving,
        ))
    });
    let mut connection = http1::Builder::new()
        .max_buf_size(SOCKET_BUFFER)
        .serve_connection(
            TokioIo::new(Watched::new(stream, Arc::clone(socket))),
            service,
        );
    let limits = &server.shared.limits;
    let mut timer = pin!(tokio::time::sleep(
        limits.header_timeout.min(limits.socket_idle_timeout)
    ));
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
        if socket.is_granted() {
            return Poll::Ready(None);
        }
        if served.is_ready() {
            return served.map(Some);
        }
        // The timer is only moved forward when it must be: a limit that has moved on is looked at when it fires.
        while let Some((deadline, limit)) = socket.deadline(limits) {
            if deadline < timer.deadline() || timer.is_elapsed() {
                timer.as_mut().reset(deadline);
            }
            if timer.as_mut().poll(cx).is_pending() {
                break;
            }
            if deadline <= Instant::now() {
                debug!(peer = %socket.peer, limit, "a socket is closed: its client had its time");
                return Poll::Ready(None);
            }
        }
        Poll::Pending
    })
    .await;
    if let Some(Err(error)) = &served {
        debug!(%error, "a socket ended");
    }
    let stream = connection.into_parts().io.into_inner().into_stream();
    Some((socket.take_granted()?, stream))
}

/// Small writes leave at once, and a peer that vanished is noticed. Failures cost only that.
pub(super) fn tune(stream: &TcpStream) {
    let _ = stream.set_nodelay(true);
    let socket = SockRef::from(stream);
    let probes = TcpKeepalive::new()
        .with_time(Duration::from_secs(15))
        .with_interval(Duration::from_secs(5));
    let _ = socket.set_tcp_keepalive(&probes);
    #[cfg(target_os = "linux")]
    let _ = socket.set_tcp_user_timeout(Some(VANISHED));
}
