//! The client goes: what it had in flight is cancelled, its session ended, its id unknown, and nothing is left.

use std::time::Duration;

use serde_json::json;

use crate::support::client::{Client, call, initialize, post};
use crate::support::clock::Clock;
use crate::support::ferry::Ferry;
use crate::support::scene::scene;
use crate::support::upstream::{Answer, Received, Upstream};

fn is_farewell(request: &Received) -> bool {
    request.method() == "DELETE"
}

#[tokio::test]
async fn what_was_in_flight_is_cancelled_and_the_session_ended() {
    let (mut upstream, ferry, client) = scene().await;
    client.send(&call(7, "tools/call")).await;
    let plain = upstream.expect("POST").await;
    client.send(&call(8, "tools/call")).await;
    let events = upstream.expect("POST").await.events().await;
    client.leave();
    // The exchanges are given up,
    plain.abandoned().await;
    events.abandoned().await;
    ferry.quiet().await;
    // after the upstream was told, and before the session ends.
    let log = upstream.log();
    let cancels: Vec<_> = log
        .iter()
        .filter(|request| request.rpc() == "notifications/cancelled")
        .collect();
    let mut ids: Vec<_> = cancels
        .iter()
        .map(|request| request.json()["params"]["requestId"].as_u64())
        .collect();
    ids.sort_unstable();
    assert_eq!(ids, [Some(7), Some(8)]);
    let last = log.last().expect("a farewell");
    assert_eq!(last.method(), "DELETE");
    for request in cancels.into_iter().chain([last]) {
        assert_eq!(request.header("mcp-session-id"), Some("session-1"));
        assert_eq!(request.header("mcp-protocol-version"), Some("2025-11-25"));
    }
    ferry.stop().await;
}

#[tokio::test]
async fn without_a_session_what_was_in_flight_is_dropped() {
    let mut upstream = Upstream::stateless().await;
    let ferry = Ferry::start(upstream.url()).await;
    let client = Client::ready(ferry.address).await;
    client.send(&call(7, "tools/call")).await;
    let received = upstream.expect("POST").await;
    client.leave();
    received.abandoned().await;
    ferry.quiet().await;
    assert!(
        upstream
            .log()
            .iter()
            .all(|request| request.method() == "POST")
    );
    ferry.stop().await;
}

#[tokio::test]
async fn the_id_is_unknown_at_once_while_the_farewell_goes_on() {
    let mut upstream = Upstream::with_sessions_but(is_farewell).await;
    let ferry = Ferry::start(upstream.url()).await;
    let client = Client::ready(ferry.address).await;
    let (address, endpoint) = (client.address, client.endpoint.clone());
    client.leave();
    let farewell = upstream.expect("DELETE").await;
    let answered = post(address, &endpoint, &[], call(1, "ping").to_string()).await;
    assert_eq!(answered.status(), 404);
    assert_eq!(ferry.open_connections(), 1);
    farewell.answer(Answer::new(200, &[], "")).await;
    ferry.quiet().await;
    ferry.stop().await;
}

#[tokio::test]
async fn an_upstream_that_does_not_answer_the_farewell_is_not_waited_for() {
    let mut upstream = Upstream::with_sessions_but(is_farewell).await;
    let ferry = Ferry::start(upstream.url()).await;
    let clock = Clock::stop();
    Client::ready(ferry.address).await.leave();
    let farewell = upstream.expect("DELETE").await;
    clock.pass_until("the end", ferry.quiet()).await;
    drop(farewell);
    ferry.stop().await;
}

#[tokio::test]
async fn a_session_that_begins_after_the_client_left_is_ended_too() {
    let mut upstream = Upstream::silent().await;
    let ferry = Ferry::start(upstream.url()).await;
    let client = Client::open(ferry.address).await;
    let (address, endpoint) = (client.address, client.endpoint.clone());
    let posted =
        tokio::task::spawn(
            async move { post(address, &endpoint, &[], initialize().to_string()).await },
        );
    let received = upstream.expect("POST").await;
    client.leave();
    assert_eq!(posted.await.expect("no panic").status(), 202);
    let answer = Answer::initialize(&received.request, Some("late"));
    received.answer(answer).await;
    loop {
        let received = upstream.next().await;
        let (method, session) = (
            received.request.method().to_owned(),
            received.request.header("mcp-session-id").map(str::to_owned),
        );
        assert_eq!(session.as_deref(), Some("late"));
        received.answer(Answer::new(200, &[], "")).await;
        if method == "DELETE" {
            break;
        }
    }
    ferry.quiet().await;
    ferry.stop().await;
}

#[tokio::test]
async fn a_request_of_the_upstream_to_a_client_that_left_is_answered_with_an_error() {
    let (mut upstream, ferry, mut client) = scene().await;
    client.send(&call(1, "tools/call")).await;
    let mut events = upstream.expect("POST").await.events().await;
    let asked =
        json!({"jsonrpc": "2.0", "id": 5, "method": "sampling/createMessage", "params": {}});
    events.send(&asked).await;
    assert_eq!(client.message().await["method"], "sampling/createMessage");
    client.leave();
    ferry.quiet().await;
    let log = upstream.log();
    let answers: Vec<_> = log
        .iter()
        .map(|request| request.json())
        .filter(|message| message.get("error").is_some())
        .collect();
    assert_eq!(answers.len(), 1, "{answers:?}");
    assert_eq!(answers[0]["id"], 5);
    assert_eq!(answers[0]["error"]["code"], -32603);
    ferry.stop().await;
}

#[tokio::test]
async fn a_thousand_clients_that_came_and_went_leave_nothing() {
    let mut upstream = Upstream::with_sessions().await;
    let ferry = Ferry::with(upstream.url(), |config| config.limits.max_connections = 50).await;
    let mut neighbour = Client::ready(ferry.address).await;
    for round in 0..1000 {
        let mut client = Client::open(ferry.address).await;
        match round % 4 {
            0 => client.leave(),
            1 => {
                client.post(initialize().to_string()).await;
                client.leave();
            }
            2 => {
                client.handshake().await;
                client.leave();
            }
            _ => {
                client.handshake().await;
                client.send(&call(1, "tools/call")).await;
                let received = upstream.expect("POST").await;
                client.leave();
                received.abandoned().await;
            }
        }
        // So that no more than a few are on their way out at any time.
        ferry
            .until("places", |ferry| ferry.open_connections() < 20)
            .await;
    }
    ferry
        .until("all but one to end", |ferry| ferry.open_connections() == 1)
        .await;
    let log = upstream.log();
    let begun = log.iter().filter(|request| request.rpc() == "initialize");
    let ended = log.iter().filter(|request| request.method() == "DELETE");
    assert_eq!((begun.count(), ended.count()), (751, 750), "sessions");
    neighbour.send(&call(1, "tools/call")).await;
    upstream.expect("POST").await.result(&json!({})).await;
    assert_eq!(neighbour.message().await["id"], 1);
    neighbour.leave();
    ferry.quiet().await;
    ferry.stop().await;
}

#[tokio::test]
async fn a_farewell_that_is_not_answered_does_not_hold_up_the_drain() {
    let upstream = Upstream::with_sessions_but(is_farewell).await;
    let mut ferry = Ferry::start(upstream.url()).await;
    let clock = Clock::stop();
    Client::ready(ferry.address).await.leave();
    upstream.seen("the farewell", is_farewell).await;
    ferry.drain();
    clock
        .pass_until("the end of the drain", ferry.quiet())
        .await;
    clock.advance(Duration::from_secs(1)).await;
    ferry.stopped().await;
}
