//! Sessions that the ferry gives on the MCP endpoint (`--mcp bridge`): how they begin and end, what a POST is answered
//! with, and where messages go that no POST asked for.

mod answers;
mod ends;
mod listening;
mod misuse;
mod modern;
mod probing;
mod slow;

use hyper::Uri;
use mcp_ferry::config::{Config, CredentialBinding, McpMode};
use serde_json::json;

use crate::support::ferry::Ferry;
use crate::support::session::{Session, answering, call, initialize, post};
use crate::support::upstream::{Answer, Upstream};

async fn bridging(upstream: Uri) -> Ferry {
    bridging_with(upstream, |_| {}).await
}

async fn bridging_with(upstream: Uri, change: impl FnOnce(&mut Config)) -> Ferry {
    Ferry::with(upstream, |config| {
        config.mcp = McpMode::Bridge;
        change(config);
    })
    .await
}

/// The session must be over.
async fn gone(session: &Session) {
    let answered = session.post(&call(9, "ping")).await;
    assert_eq!(answered.status(), 404, "{answered:?}");
    assert_eq!(answered.json()["error"]["code"], -32600);
}

#[tokio::test]
async fn initialize_begins_a_session_with_a_name_of_the_ferrys_own() {
    let upstream = Upstream::with_sessions().await;
    let ferry = bridging(upstream.url()).await;
    let answered = post(ferry.address, &[], &initialize()).await;
    assert_eq!(answered.status(), 200);
    assert_eq!(answered.header("content-type"), Some("application/json"));
    let version = &answered.json()["result"]["protocolVersion"];
    assert_eq!(version, "2025-06-18", "the one that was asked for");
    let id = answered.header("mcp-session-id").expect("a session");
    let random = id.strip_prefix("ferry-").expect("the ferry's mark");
    assert!(random.len() == 64 && random.bytes().all(|it| it.is_ascii_hexdigit()));
    let other = Session::ready(ferry.address).await;
    assert_ne!(other.id, id);
    assert!(
        upstream
            .log()
            .iter()
            .all(|it| it.header("mcp-session-id") != Some(id))
    );
    ferry.stop().await;
}

#[tokio::test]
async fn a_request_of_the_server_during_a_call_is_answered_with_a_post() {
    let mut upstream = Upstream::with_sessions().await;
    let ferry = bridging(upstream.url()).await;
    let session = Session::ready(ferry.address).await;
    let wire = session.begin(&call(1, "tools/call")).await;
    let mut events = upstream.expect("POST").await.events().await;
    events.send(&call(0, "sampling/createMessage")).await;
    let mut stream = answering(wire).await.stream;
    let asked = stream.message().await;
    assert_eq!(asked["method"], "sampling/createMessage");
    session
        .tell(&json!({"jsonrpc": "2.0", "id": asked["id"], "result": {"role": "assistant"}}))
        .await;
    let answer = upstream
        .seen("the client's answer", |it| {
            it.json()["result"]["role"] == "assistant"
        })
        .await;
    assert_eq!(answer.json()["id"], 0, "under the server's own id");
    assert_eq!(answer.header("mcp-session-id"), Some("session-1"));
    events.result(&json!({})).await;
    assert_eq!(stream.message().await["id"], 1);
    stream.ended().await;
    ferry.stop().await;
}

#[tokio::test]
async fn a_refused_credential_is_an_http_status_with_its_challenge_and_begins_no_session() {
    let upstream = Upstream::start(|request| {
        let good = request.header("authorization") == Some("Bearer good");
        let challenge = [("WWW-Authenticate", "Bearer realm=\"x\"")];
        Some(if good {
            Answer::initialize(request, None)
        } else {
            Answer::new(401, &challenge, "")
        })
    })
    .await;
    let ferry = bridging(upstream.url()).await;
    let refused = post(ferry.address, &[], &initialize()).await;
    assert_eq!(refused.status(), 401);
    assert_eq!(
        refused.header("www-authenticate"),
        Some("Bearer realm=\"x\"")
    );
    assert_eq!(refused.header("mcp-session-id"), None);
    ferry.quiet().await;
    let good = [("Authorization", "Bearer good")];
    let answered = post(ferry.address, &good, &initialize()).await;
    assert_eq!(answered.status(), 200);
    ferry.stop().await;
}

#[tokio::test]
async fn a_credential_that_expired_is_an_http_status_too_and_the_next_one_goes_on() {
    let mut upstream = Upstream::with_sessions().await;
    let ferry = bridging_with(upstream.url(), |config| {
        config.guard.credential_binding = CredentialBinding::Strict;
    })
    .await;
    let old = [("Authorization", "Bearer old")];
    let answered = post(ferry.address, &old, &initialize()).await;
    let id = answered.header("mcp-session-id").expect("a session");
    let session = Session {
        address: ferry.address,
        id: id.to_owned(),
    };
    let mut wire = session.begin_with(&old, &call(1, "tools/list")).await;
    let challenge = [("WWW-Authenticate", "Bearer error=\"invalid_token\"")];
    let expired = Answer::new(401, &challenge, "");
    upstream.expect("POST").await.answer(expired).await;
    let refused = wire.response().await;
    assert_eq!(refused.status(), 401, "{refused:?}");
    assert_eq!(refused.header("www-authenticate"), Some(challenge[0].1));
    let new = [("Authorization", "Bearer new")];
    let mut wire = session.begin_with(&new, &call(1, "tools/list")).await;
    upstream.expect("POST").await.result(&json!({})).await;
    assert_eq!(wire.response().await.json()["id"], 1);
    ferry.stop().await;
}

#[tokio::test]
async fn an_initialize_that_fails_is_answered_in_json_and_begins_no_session() {
    let upstream = Upstream::start(|request| {
        let error = json!({"code": -32000, "message": "not today"});
        let body = json!({"jsonrpc": "2.0", "id": request.json()["id"], "error": error});
        Some(Answer::json(&body))
    })
    .await;
    let ferry = bridging(upstream.url()).await;
    let answered = post(ferry.address, &[], &initialize()).await;
    assert_eq!(answered.status(), 200);
    assert_eq!(answered.json()["error"]["message"], "not today");
    assert_eq!(answered.header("mcp-session-id"), None);
    ferry.quiet().await;
    ferry.stop().await;
}

#[tokio::test]
async fn two_sessions_with_the_same_ids_never_mix() {
    let mut upstream = Upstream::with_sessions().await;
    let ferry = bridging(upstream.url()).await;
    let sessions = [
        Session::ready(ferry.address).await,
        Session::ready(ferry.address).await,
    ];
    let mut wires = Vec::new();
    let mut calls = Vec::new();
    for session in &sessions {
        wires.push(session.begin(&call(1, "tools/call")).await);
        calls.push(upstream.expect("POST").await.events().await);
    }
    let names: Vec<_> = calls
        .iter()
        .map(|it| {
            it.request()
                .header("mcp-session-id")
                .expect("a session")
                .to_owned()
        })
        .collect();
    assert_eq!(names, ["session-1", "session-2"]);
    // The same id, asked of both clients: each answers its own.
    for events in &mut calls {
        events.send(&call(7, "roots/list")).await;
    }
    let mut streams = Vec::new();
    for wire in wires {
        streams.push(answering(wire).await.stream);
    }
    for (number, (session, stream)) in sessions.iter().zip(&mut streams).enumerate() {
        let asked = stream.message().await;
        let result = json!({"of": number});
        session
            .tell(&json!({"jsonrpc": "2.0", "id": asked["id"], "result": result}))
            .await;
        let answer = upstream
            .seen("the answer", |it| it.json()["result"]["of"] == number)
            .await;
        assert_eq!(
            answer.header("mcp-session-id"),
            Some(names[number].as_str())
        );
    }
    for (number, events) in calls.iter_mut().enumerate().rev() {
        events.result(&json!({"for": number})).await;
    }
    for (number, stream) in streams.iter_mut().enumerate() {
        assert_eq!(stream.message().await["result"]["for"], number);
        stream.ended().await;
    }
    ferry.stop().await;
}
