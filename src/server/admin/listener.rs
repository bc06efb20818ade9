//! The admin listener's sockets: few, with their time for a head, each on its own, so that a panic or a flood there ends
//! nothing else. It is the last to close, so that a shutdown can be watched.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinError, JoinSet};
use tracing::{debug, error};

use super::Shared;
use super::routes::{self, Ends};
use crate::metrics::Counter;
use crate::server::accept::{self, Reserve};

/// Sockets at once; one more is told so and closed.
const MAX_SOCKETS: usize = 64;
/// How long a socket may take for a head, and wait for the next.
const HEAD: Duration = Duration::from_secs(30);
/// Bytes that a socket's reader or writer may buffer; also the largest head.
const SOCKET_BUFFER: usize = 64 * 1024;
/// How long sockets may take at the end to write what is left.
const LAST_BYTES: Duration = Duration::from_secs(1);

/// Takes sockets until the process is at its end, then gives those that are open a moment.
pub(super) async fn serve(listener: TcpListener, mut reserve: Reserve, shared: Arc<Shared>) {
    let mut tasks = JoinSet::new();
    let mut closing = pin!(shared.closed());
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(ended) = tasks.join_next() => {
                note(&shared, &ended);
                continue;
            }
            () = &mut closing => break,
        };
        match accepted {
            Ok((stream, _)) if tasks.len() >= MAX_SOCKETS => {
                shared.server.shared.metrics.add(Counter::SocketsRefused);
                reserve.complain("as many sockets are open on the admin listener as may be");
                accept::turn_away(&stream);
            }
            Ok((stream, peer)) => {
                tasks.spawn(serve_socket(stream, peer, Arc::clone(&shared)));
            }
            Err(error) => {
                let metrics = &shared.server.shared.metrics;
                reserve.on_error(&listener, metrics, &error).await;
            }
        }
    }
    drop(listener);
    let ended = async {
        while let Some(ended) = tasks.join_next().await {
            note(&shared, &ended);
        }
    };
    if tokio::time::timeout(LAST_BYTES, ended).await.is_err() {
        debug!("somebody did not read the admin listener's last answer");
    }
}

/// One that panicked ended its own socket and nothing else.
fn note(shared: &Shared, ended: &Result<(), JoinError>) {
    if ended.as_ref().is_err_and(JoinError::is_panic) {
        shared.server.shared.metrics.add(Counter::Panics);
        error!("a bug: serving an admin request panicked; its socket is closed, the others go on");
    }
}

async fn serve_socket(stream: TcpStream, peer: SocketAddr, shared: Arc<Shared>) {
    let Ok(local) = stream.local_addr() else {
        return;
    };
    accept::tune(&stream);
    let ends = Ends {
        peer: peer.ip(),
        local: local.ip(),
    };
    let service = service_fn(|request| {
        let handling = routes::handle(Arc::clone(&shared), ends, request);
        async move { Ok::<_, Infallible>(handling.await) }
    });
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_buf_size(SOCKET_BUFFER)
        .serve_connection(TokioIo::new(stream), service);
    let mut serving = pin!(serving);
    let served = tokio::select! {
        served = &mut serving => served,
        () = shared.closed() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = served {
        debug!(%error, "an admin socket ended");
    }
}
