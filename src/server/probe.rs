//! Handshake clients before an upstream of which nobody knows what it speaks: their `initialize` passes, and the answer
//! tells.
//!
//! An upstream that understands it answers, and its answer goes back as it is. One that speaks only 2026-07-28 refuses it
//! recognisably; then the client gets a session of the ferry's, and its `initialize` goes into the bridge instead. Later
//! the upstream may be replaced: a refusal of that kind corrects what was learnt. Bounds: of a client's body
//! [`MAX_INITIALIZE`] bytes are read before it goes on, of an answer [`MAX_LOOK`].

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::header;
use hyper::{Request, Response, StatusCode};
use serde::Deserialize;

use super::body::Body;
use super::modern::{self, Passed, Sending};
use super::respond::Refused;
use super::session::{self, is_initialize};
use super::socket::Socket;
use super::{Server, intake};
use crate::proto::era::{self, Era};
use crate::proto::jsonrpc::Message;
use crate::proto::sse;
use crate::upstream::Upload;

/// The largest `initialize` that is taken for one; what is larger passes without being looked at.
const MAX_INITIALIZE: usize = 64 * 1024;
/// Bytes of an answer to `initialize` that are looked at; what is not told by then is not told.
const MAX_LOOK: usize = 64 * 1024;

/// What an answer to `initialize` says of the upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shown {
    /// It speaks this era.
    Era(Era),
    /// It, or somebody before it, refuses without a reason: the bridge finds out.
    Refusal,
    /// Nothing.
    Nothing,
}

/// Passes a POST; where it is an `initialize` that the upstream does not understand, begins a session.
pub(super) async fn try_to_pass(
    server: &Arc<Server>,
    request: Request<Incoming>,
    socket: &Arc<Socket>,
) -> Result<Response<Body>, Refused> {
    let (head, mut body) = request.into_parts();
    let (first, whole) = intake::beginning(server, &mut body, MAX_INITIALIZE).await?;
    let initialize = whole.then(|| Message::parse(first.clone()).ok()).flatten();
    let Some(initialize) = initialize.filter(is_initialize) else {
        let body = Upload::new(first, body, || socket.upload());
        let passed = modern::send(server, head, Sending::Streamed(Box::new(body)), socket).await?;
        return modern::answer(server, passed, Bytes::new());
    };
    let whole = Sending::Whole(first);
    let mut passed = modern::send(server, head.clone(), whole, socket).await?;
    let (shown, first) = look(&mut passed).await;
    if let Shown::Era(era) = shown {
        server.shared.upstream.learn_era(era);
    }
    if matches!(shown, Shown::Nothing | Shown::Era(Era::Handshake)) {
        return modern::answer(server, passed, first);
    }
    passed.taken_over(&first);
    session::begin_with(server, socket, &head, vec![initialize]).await
}

/// Answers with a refusal of an upstream that understood such requests so far, and notices when it does not any more.
/// `with_session` says whether the request named a session: of one that was replaced by a modern server it is gone, and a
/// client that is told so begins anew (2025-11-25, "Session Management").
pub(super) async fn watch(
    server: &Server,
    mut passed: Passed,
    with_session: bool,
) -> Result<Response<Body>, Refused> {
    let (shown, first) = look(&mut passed).await;
    if shown == Shown::Era(Era::Modern) {
        server.shared.upstream.learn_era(Era::Modern);
        if with_session {
            server.count_refusal(&Refused::UnknownSession);
            return Ok(Refused::UnknownSession.rpc_response());
        }
    }
    modern::answer(server, passed, first)
}

/// Reads of an answer what tells the upstream's era, and returns what was read.
async fn look(passed: &mut Passed) -> (Shown, Bytes) {
    let status = passed.head.status;
    let kind = passed.head.headers.get(header::CONTENT_TYPE);
    let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let events = kind.trim_start().starts_with("text/event-stream");
    if !(status == StatusCode::OK || status.is_client_error()) {
        return (Shown::Nothing, Bytes::new());
    }
    let mut decoder = sse::Decoder::new(MAX_LOOK);
    let mut message = None;
    let mut read = BytesMut::new();
    while message.is_none() && read.len() < MAX_LOOK {
        // A body that breaks off tells nothing; the client finds it broken too.
        let Some(Ok(frame)) = passed.body.frame().await else {
            break;
        };
        let Ok(data) = frame.into_data() else {
            continue;
        };
        read.extend_from_slice(&data);
        if events {
            decoder.push(&data, |decoded| match decoded {
                sse::Decoded::Event(event) if !event.data.is_empty() => {
                    message.get_or_insert(event.data);
                }
                _ => {}
            });
        }
    }
    let read = read.freeze();
    let message = if events { message } else { Some(read.clone()) };
    let shown = shown(status.as_u16(), &message.unwrap_or_default());
    (shown, read)
}

/// What the first message of an answer says.
fn shown(status: u16, text: &[u8]) -> Shown {
    #[derive(Deserialize)]
    struct Answer {
        result: Option<Result>,
        error: Option<Error>,
    }
    #[derive(Deserialize)]
    struct Result {
        #[serde(rename = "protocolVersion")]
        version: Option<String>,
    }
    #[derive(Deserialize)]
    struct Error {
        code: i64,
        data: Option<serde_json::Value>,
    }
    let answer: Option<Answer> = serde_json::from_slice(text).ok();
    let (result, error) = answer.map_or((None, None), |it| (it.result, it.error));
    if let Some(version) = result.and_then(|result| result.version) {
        let known = era::is_handshake_version(&version);
        return if known {
            Shown::Era(Era::Handshake)
        } else if era::is_modern_version(&version) {
            // A modern server that does not look at methods closely.
            Shown::Refusal
        } else {
            Shown::Nothing
        };
    }
    let Some(error) = error else {
        return if status == 400 {
            Shown::Refusal
        } else {
            Shown::Nothing
        };
    };
    let supported = error.data.as_ref().and_then(|data| data.get("supported"));
    let supported = supported.and_then(serde_json::Value::as_array);
    let supported: Vec<String> = supported
        .into_iter()
        .flatten()
        .filter_map(|version| version.as_str().map(str::to_owned))
        .collect();
    match era::shown_by_error(status, Some(error.code), &supported) {
        Some(Era::Modern) => Shown::Era(Era::Modern),
        _ if error.code == era::METHOD_NOT_FOUND => Shown::Refusal,
        _ => Shown::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_refusals_of_modern_servers_are_recognised_and_others_are_not() {
        let unsupported = br#"{"jsonrpc":"2.0","id":0,"error":{"code":-32022,"message":"","data":{"supported":["2026-07-28"],"requested":"2025-11-25"}}}"#;
        let older = br#"{"jsonrpc":"2.0","id":0,"error":{"code":-32022,"message":"","data":{"supported":["2025-06-18"]}}}"#;
        let not_ready = br#"{"jsonrpc":"2.0","id":null,"error":{"code":-32000,"message":"Bad Request: Server not initialized"}}"#;
        let modern = br#"{"jsonrpc":"2.0","id":0,"result":{"protocolVersion":"2026-07-28"}}"#;
        let no_method = br#"{"jsonrpc":"2.0","id":0,"error":{"code":-32601,"message":""}}"#;
        let good = br#"{"jsonrpc":"2.0","id":0,"result":{"protocolVersion":"2025-11-25"}}"#;
        for (status, text, wanted) in [
            (400, &unsupported[..], Shown::Era(Era::Modern)),
            (200, unsupported, Shown::Era(Era::Modern)),
            (400, older, Shown::Nothing),
            (400, not_ready, Shown::Nothing),
            (400, b"Bad Request", Shown::Refusal),
            (400, b"", Shown::Refusal),
            (404, b"", Shown::Nothing),
            (401, b"{}", Shown::Nothing),
            (200, b"", Shown::Nothing),
            (200, good, Shown::Era(Era::Handshake)),
            (200, modern, Shown::Refusal),
            (200, no_method, Shown::Refusal),
        ] {
            let text_shown = String::from_utf8_lossy(text);
            assert_eq!(shown(status, text), wanted, "{status} {text_shown}");
        }
    }
}
