//! Which path of the admin listener is what, and what it takes to be answered.

use std::net::IpAddr;
use std::sync::Arc;

use hyper::body::Incoming;
use hyper::{Method, Request, Response, StatusCode};

use super::answer::{Body, Denied, whole};
use super::{Shared, api, page};
use crate::metrics;

const TEXT: &str = "text/plain; charset=utf-8";

/// Where a request came from and arrived.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ends {
    pub(super) peer: IpAddr,
    pub(super) local: IpAddr,
}

/// Answers one request. Its body is not read.
pub(super) async fn handle(
    shared: Arc<Shared>,
    ends: Ends,
    request: Request<Incoming>,
) -> Response<Body> {
    #[cfg(test)]
    assert_ne!(request.uri().query(), Some("panic"), "asked for");
    let answered = match shared.access.judge(&request, ends.local) {
        Ok(()) => answer(&shared, ends, &request).await,
        Err(denied) => Err(denied),
    };
    answered.unwrap_or_else(|denied| {
        tracing::debug!(%denied, peer = %ends.peer, "refused an admin request");
        denied.response()
    })
}

async fn answer(
    shared: &Arc<Shared>,
    ends: Ends,
    request: &Request<Incoming>,
) -> Result<Response<Body>, Denied> {
    let path = request.uri().path();
    if path.starts_with("/api/") {
        shared.access.token(request.headers(), ends.peer)?;
        return api::answer(shared, request.method(), path, request.uri().query());
    }
    let file = page::FILES.iter().find(|(file, _, _)| *file == path);
    if file.is_none() && !["/healthz", "/readyz", "/metrics"].contains(&path) {
        return Err(Denied::NoRoute);
    }
    if ![Method::GET, Method::HEAD].contains(request.method()) {
        return Err(Denied::Method("GET, HEAD"));
    }
    let server = &shared.server;
    Ok(match (path, file) {
        (_, Some((_, media, text))) => whole(StatusCode::OK, media, *text),
        ("/healthz", _) => whole(StatusCode::OK, TEXT, "ok\n"),
        ("/readyz", _) => match server.ready().await {
            Ok(()) => whole(StatusCode::OK, TEXT, server.ready_text(true)),
            Err(why) => whole(
                StatusCode::SERVICE_UNAVAILABLE,
                TEXT,
                format!("not ready: {why}\n"),
            ),
        },
        _ => whole(
            StatusCode::OK,
            metrics::CONTENT_TYPE,
            metrics::text(
                &server.shared.metrics,
                &server.levels(shared.tap.as_deref()),
            ),
        ),
    })
}
