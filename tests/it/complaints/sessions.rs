//! Complaints about the session behind the stream: begun without a handshake, and lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

use crate::support::client::{Client, call, initialize};
use crate::support::ferry::Ferry;
use crate::support::scene::scene;
use crate::support::upstream::{Answer, Upstream, echo, routine};

/// modelcontextprotocol/typescript-sdk#510: after a cut the client reconnects by itself and goes on without
/// `initialize`; the new session refuses everything.
#[tokio::test]
async fn c12_a_client_that_reconnects_without_a_handshake_goes_on() {
    let mut upstream = Upstream::with_sessions().await;
    let ferry = Ferry::start(upstream.url()).await;
    Client::ready(ferry.address).await.leave();
    ferry.quiet().await;
    // What newer TypeScript clients send with the stream that they open again.
    let version = [("MCP-Protocol-Version", "2025-06-18")];
    let mut client = Client::open_with(ferry.address, "/sse", &version).await;
    client.send(&call(7, "tools/list")).await;
    let received = upstream.expect("POST").await;
    let session = received.request.header("mcp-session-id");
    assert_eq!(session, Some("session-2"));
    assert_eq!(received.request.rpc(), "tools/list");
    received.result(&json!({"tools": []})).await;
    // Nothing of the ferry's own handshake is on the stream.
    let answer = json!({"jsonrpc": "2.0", "id": 7, "result": {"tools": []}});
    assert_eq!(client.message().await, answer);
    let log = upstream.log();
    let mut own = log.iter().filter(|request| request.rpc() == "initialize");
    let params = own.next_back().expect("initialize").json()["params"].clone();
    assert_eq!(params["protocolVersion"], "2025-06-18");
    assert_eq!(params["capabilities"], json!({}));
    assert_eq!(upstream.times("notifications/initialized"), 2);
    client.leave();
    ferry.stop().await;
}

/// punkpeye/mcp-remote#106: the upstream was restarted, its 404 is passed on, and the client never begins anew.
#[tokio::test]
async fn c13_a_restarted_upstream_costs_the_client_nothing() {
    let life = Arc::new(AtomicUsize::new(1));
    let lives = Arc::clone(&life);
    let upstream = Upstream::start(move |request| {
        let session = format!("life-{}", lives.load(Ordering::Relaxed));
        if request.rpc() == "initialize" {
            return Some(Answer::initialize(request, Some(&session)));
        }
        if request.header("mcp-session-id") != Some(&session) {
            return Some(Answer::new(404, &[], "Session not found"));
        }
        routine(request).or_else(|| Some(echo(request)))
    })
    .await;
    let ferry = Ferry::start(upstream.url()).await;
    let mut client = Client::ready(ferry.address).await;
    life.store(2, Ordering::Relaxed);
    for id in 1..=3 {
        client.request(id, "tools/call", json!({"n": id})).await;
    }
    let mut answered = Vec::new();
    for _ in 0..3 {
        let message = client.message().await;
        assert_eq!(message["result"]["params"]["n"], message["id"], "{message}");
        answered.push(message["id"].as_u64());
    }
    answered.sort_unstable();
    assert_eq!(answered, [Some(1), Some(2), Some(3)]);
    // One handshake for all three, in the client's own words; its answer is on no stream.
    let log = upstream.log();
    let shaken = log.iter().filter(|request| request.rpc() == "initialize");
    let shaken: Vec<Value> = shaken
        .map(|request| request.json()["params"].clone())
        .collect();
    let own = initialize()["params"].clone();
    assert_eq!(shaken, [own.clone(), own]);
    client.send(&call(4, "ping")).await;
    assert_eq!(client.message().await["id"], 4);
    client.leave();
    ferry.stop().await;
}

/// markmhendrickson/neotoma#2312: recovery knows one status only, so other servers' words for a lost session end it.
#[tokio::test]
async fn c14_recovery_knows_a_lost_session_from_other_refusals() {
    let lost = [
        (404, ""),
        (400, "Bad Request: No valid session ID provided"),
        (400, r#"{"error":{"message":"Server not initialized"}}"#),
        (401, "Unauthorized: Session not found"),
    ];
    let other = [
        (400, "Invalid params"),
        (401, "Unauthorized"),
        (403, "Session not found"),
        (409, "Session not found"),
        (500, "Session not found"),
    ];
    let both = lost.map(|refusal| (refusal, true)).into_iter();
    for ((status, body), recovers) in both.chain(other.map(|refusal| (refusal, false))) {
        let (mut upstream, ferry, mut client) = scene().await;
        client.send(&call(1, "tools/call")).await;
        let refusal = Answer::new(status, &[], body);
        upstream.expect("POST").await.answer(refusal).await;
        if recovers {
            let again = upstream.expect("POST").await;
            let session = again.request.header("mcp-session-id");
            assert_eq!(session, Some("session-2"), "{status} {body}");
            again.result(&json!({})).await;
        }
        let message = client.message().await;
        assert_eq!(message.get("result").is_some(), recovers, "{message}");
        let handshakes = 1 + usize::from(recovers);
        assert_eq!(upstream.times("initialize"), handshakes, "{status} {body}");
        client.leave();
        ferry.stop().await;
    }
}

/// markmhendrickson/neotoma#2312: recovery must have an end, and must not run a call twice.
#[tokio::test]
async fn c14_recovery_ends_and_runs_nothing_twice() {
    let (mut upstream, ferry, mut client) = scene().await;
    // Every session is refused: one new one is tried.
    client.send(&call(1, "tools/call")).await;
    for _ in 0..2 {
        let gone = Answer::new(404, &[], "");
        upstream.expect("POST").await.answer(gone).await;
    }
    client.ferry_error(1, "session_lost", "no").await;
    assert_eq!(upstream.times("initialize"), 2);
    // The session is lost while a call runs: nobody knows how far it came.
    client.send(&call(2, "tools/call")).await;
    upstream.expect("POST").await.reset();
    client.ferry_error(2, "upstream_lost", "unknown").await;
    upstream.assert_quiet();
    client.leave();
    ferry.stop().await;
}
