//! The MCP endpoint: whose a request is. Nothing here reads a body.
//!
//! A request that names a session of the ferry's belongs to that session. Of the others those of the modern revisions
//! pass, always and untouched. What is left are handshake clients, with whom `--mcp` says what to do: they pass, or begin
//! a session of the ferry's, or, as long as nobody knows what the upstream speaks, pass their `initialize` and see
//! (`probe`).
//!
//! What is told apart how: a modern request names its revision in `MCP-Protocol-Version`, and repeats its method in
//! `Mcp-Method`. The latter alone is not enough to go by: clients that speak both eras (mcp-remote 0.15) also send it with
//! `initialize`, which no modern revision has, and with the negotiated handshake revision.

use std::sync::Arc;

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::header::HeaderMap;
use hyper::{Method, Request, Response};
use tracing::debug;

use super::body::Body;
use super::respond::Refused;
use super::socket::Socket;
use super::{Server, modern, probe, session};
use crate::config::McpMode;
use crate::proto::era::{self, Era};
use crate::store::Store;
use crate::tap::Head;

/// What the ids of sessions begin with, so that one that has ended is not taken for the upstream's.
pub(super) const SESSION_PREFIX: &str = "ferry-";

/// What becomes of a request.
#[derive(Debug, PartialEq, Eq)]
enum Course {
    /// The upstream answers it.
    Pass,
    /// The upstream answers it; a refusal may show that it has changed.
    PassAndWatch,
    /// It is of a session of the ferry's.
    Session,
    /// It names a session that nobody has.
    UnknownSession,
    /// It is to begin a session.
    Begin,
    /// It passes, and if it is an `initialize` its answer says what the upstream speaks.
    Try,
    /// It has a method that sessions do not know.
    NoMethod,
}

/// Answers a request on the MCP endpoint.
pub(super) async fn serve(
    server: &Arc<Server>,
    request: Request<Incoming>,
    socket: &Arc<Socket>,
) -> Result<Response<Body>, Refused> {
    let era = server.shared.upstream.era();
    let store = &server.shared.store;
    let course = course(store, server.mcp, era, request.method(), request.headers());
    // What is not passing is boxed, so that what passes does not pay for its size.
    if !matches!(course, Course::Pass | Course::PassAndWatch) {
        return Box::pin(bridge(server, request, socket, course)).await;
    }
    let with_session = request.headers().contains_key(era::SESSION_HEADER);
    let passed = modern::begin(server, request, socket).await?;
    if course == Course::PassAndWatch && passed.is_bad_request() {
        return Box::pin(probe::watch(server, passed, with_session)).await;
    }
    modern::answer(server, passed, Bytes::new())
}

/// Answers what does not simply pass.
async fn bridge(
    server: &Arc<Server>,
    mut request: Request<Incoming>,
    socket: &Arc<Socket>,
    course: Course,
) -> Result<Response<Body>, Refused> {
    let bus = &server.shared.bus;
    let shown = bus.is_watched().then(|| Head::share(&mut request));
    // Here the ferry is the server, or may become it: it judges the origin, and speaks as servers do.
    let judged = server.guard.origin(request.headers(), socket.local);
    let answered = match (judged, course) {
        (Err(_), Course::Try) => return modern::pass(server, request, socket).await,
        (Err(refused), _) => Err(refused),
        (Ok(()), Course::Session) => session::serve(server, socket, request).await,
        (Ok(()), Course::Begin) if request.method() == Method::POST => {
            session::begin(server, socket, request).await
        }
        (Ok(()), Course::Try) => probe::try_to_pass(server, request, socket).await,
        // It is no guess at the name of a session of the ferry's, and not counted as one.
        (Ok(()), Course::UnknownSession) => Err(Refused::UnknownSession),
        (Ok(()), Course::NoMethod) => Err(Refused::Method("GET, POST, DELETE")),
        (Ok(()), _) => Err(Refused::NoSession),
    };
    Ok(answered.unwrap_or_else(|refused| {
        debug!(%refused, "refused a request");
        server.count_refusal(&refused);
        let response = refused.rpc_response();
        server.show_refusal(shown, socket, response.status().as_u16(), &refused);
        response
    }))
}

/// The name of a session of the ferry's, if the request is for one, as the client has it.
pub(super) fn own_session(headers: &HeaderMap) -> Option<&str> {
    let named = headers.get(era::SESSION_HEADER)?;
    named.to_str().ok()?.strip_prefix(SESSION_PREFIX)
}

fn course(
    store: &Store,
    mode: McpMode,
    era: Option<Era>,
    method: &Method,
    headers: &HeaderMap,
) -> Course {
    if mode == McpMode::Pass {
        return Course::Pass;
    }
    let named = headers.get(era::SESSION_HEADER);
    if let Some(name) = own_session(headers) {
        return match store.may_be_name(name) {
            true => Course::Session,
            false => Course::UnknownSession,
        };
    }
    if is_modern(headers) {
        return Course::Pass;
    }
    let bridged = mode == McpMode::Bridge || era == Some(Era::Modern);
    let known = [Method::GET, Method::POST, Method::DELETE].contains(method);
    match (bridged, named) {
        (true, _) if !known && mode == McpMode::Auto => Course::Pass,
        (true, _) if !known => Course::NoMethod,
        // Modern servers have no sessions: it is one that the upstream had before it was changed.
        (true, Some(_)) => Course::UnknownSession,
        (true, None) => Course::Begin,
        (false, _) if *method != Method::POST => Course::Pass,
        (false, _) if era == Some(Era::Handshake) => Course::PassAndWatch,
        (false, Some(_)) => Course::Pass,
        (false, None) => Course::Try,
    }
}

/// Whether a request is of a modern revision, or of one that nobody knows yet.
fn is_modern(headers: &HeaderMap) -> bool {
    match headers.get(era::VERSION_HEADER) {
        Some(version) => version
            .to_str()
            .map_or(true, |version| !era::is_handshake_version(version.trim())),
        None => headers
            .get(era::METHOD_HEADER)
            .is_some_and(|method| method != "initialize"),
    }
}

#[cfg(test)]
mod tests {
    use hyper::header::{HeaderName, HeaderValue};

    use super::*;
    use crate::config::Replicas;
    use crate::store::ConnectionId;

    const MODES: [McpMode; 3] = [McpMode::Auto, McpMode::Pass, McpMode::Bridge];
    const ERAS: [Option<Era>; 3] = [None, Some(Era::Handshake), Some(Era::Modern)];

    fn map(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let value = |text: &str| HeaderValue::from_str(text).expect("a value");
        let pairs = pairs.iter();
        pairs
            .map(|(name, text)| (HeaderName::from_static(name), value(text)))
            .collect()
    }

    fn course(mode: McpMode, era: Option<Era>, method: &Method, headers: &HeaderMap) -> Course {
        let store = Store::alone(&Replicas::default()).expect("random");
        super::course(&store, mode, era, method, headers)
    }

    #[test]
    fn modern_requests_pass_whatever_the_mode_and_the_upstream() {
        for headers in [
            map(&[("mcp-protocol-version", "2026-07-28")]),
            map(&[
                ("mcp-protocol-version", "2027-01-01"),
                ("mcp-session-id", "s"),
            ]),
            map(&[
                ("mcp-protocol-version", "2026-07-28"),
                ("mcp-method", "ping"),
            ]),
            map(&[("mcp-method", "tools/call")]),
        ] {
            for (mode, era) in MODES
                .into_iter()
                .flat_map(|mode| ERAS.map(|era| (mode, era)))
            {
                let course = course(mode, era, &Method::POST, &headers);
                assert_eq!(course, Course::Pass, "{mode:?} {era:?} {headers:?}");
            }
        }
    }

    #[test]
    fn handshake_clients_pass_begin_or_are_tried() {
        for headers in [
            map(&[]),
            map(&[("mcp-method", "initialize")]),
            map(&[
                ("mcp-method", "tools/list"),
                ("mcp-protocol-version", "2025-06-18"),
            ]),
        ] {
            let post = |mode, era| course(mode, era, &Method::POST, &headers);
            let auto = ERAS.map(|era| post(McpMode::Auto, era));
            assert_eq!(auto, [Course::Try, Course::PassAndWatch, Course::Begin]);
            for era in ERAS {
                assert_eq!(post(McpMode::Bridge, era), Course::Begin);
                assert_eq!(post(McpMode::Pass, era), Course::Pass);
            }
        }
        let other = |mode, era, method| course(mode, era, &method, &map(&[]));
        assert_eq!(other(McpMode::Auto, None, Method::GET), Course::Pass);
        let modern = Some(Era::Modern);
        assert_eq!(other(McpMode::Auto, modern, Method::GET), Course::Begin);
        assert_eq!(other(McpMode::Auto, modern, Method::PUT), Course::Pass);
        assert_eq!(other(McpMode::Bridge, None, Method::PUT), Course::NoMethod);
    }

    #[test]
    fn a_session_is_the_ferrys_by_its_name_and_others_are_the_upstreams() {
        let id = "0a".repeat(32);
        assert!(ConnectionId::parse(&id).is_some());
        let name = format!("{SESSION_PREFIX}{id}");
        for (value, auto, bridge) in [
            (name.as_str(), Course::Session, Course::Session),
            ("ferry-old", Course::UnknownSession, Course::UnknownSession),
            (id.as_str(), Course::Pass, Course::UnknownSession),
        ] {
            let headers = map(&[("mcp-session-id", value)]);
            for method in [Method::GET, Method::POST, Method::DELETE] {
                assert_eq!(
                    course(McpMode::Auto, None, &method, &headers),
                    auto,
                    "{value}"
                );
                assert_eq!(course(McpMode::Bridge, None, &method, &headers), bridge);
                assert_eq!(course(McpMode::Pass, None, &method, &headers), Course::Pass);
            }
        }
        let foreign = map(&[("mcp-session-id", "s")]);
        let watched = course(McpMode::Auto, Some(Era::Handshake), &Method::POST, &foreign);
        assert_eq!(watched, Course::PassAndWatch);
        let modern = course(McpMode::Auto, Some(Era::Modern), &Method::POST, &foreign);
        assert_eq!(modern, Course::UnknownSession, "modern servers have none");
    }
}
