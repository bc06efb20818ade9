//! How a session ends: by its client, by itself, with the process; and what its calls get then.

use std::time::Duration;

use serde_json::json;

use super::{bridging, bridging_with, gone};
use crate::support::clock::{Clock, settle};
use crate::support::http::{Wire, request};
use crate::support::session::{Session, answering, call, initialize, post};
use crate::support::upstream::{Answer, Upstream};

#[tokio::test]
async fn delete_ends_it_upstream_too_and_its_name_is_unknown_at_once() {
    let mut upstream = Upstream::with_sessions().await;
    let ferry = bridging(upstream.url()).await;
    let session = Session::ready(ferry.address).await;
    let mut listener = session.listen().await.stream;
    let wire = session.begin(&call(1, "tools/call")).await;
    let mut running = upstream.expect("POST").await.events().await;
    running.send(&call(0, "roots/list")).await;
    let mut stream = answering(wire).await.stream;
    stream.message().await;
    let ended = session.ask("DELETE", &[]).await;
    assert_eq!((ended.status(), ended.text()), (204, ""));
    gone(&session).await;
    assert_eq!(session.ask("DELETE", &[]).await.status(), 404);
    listener.ended().await;
    stream.ended().await;
    let cancelled = upstream
        .seen("a cancel", |it| it.rpc() == "notifications/cancelled")
        .await;
    assert_eq!(cancelled.json()["params"]["requestId"], 1);
    upstream
        .seen("an answer to what was asked", |it| {
            it.json()["error"]["code"] == -32603
        })
        .await;
    let deleted = upstream
        .seen("a DELETE", |it| it.method() == "DELETE")
        .await;
    assert_eq!(deleted.header("mcp-session-id"), Some("session-1"));
    ferry.quiet().await;
    ferry.stop().await;
}

#[tokio::test]
async fn an_idle_session_ends_and_one_that_listens_or_runs_a_call_is_not_idle() {
    let mut upstream = Upstream::with_sessions().await;
    let minute = Duration::from_secs(60);
    let ferry = bridging_with(upstream.url(), |config| {
        config.limits.mcp_session_idle = minute;
    })
    .await;
    let clock = Clock::stop();
    let [idle, listening, busy] = [
        Session::ready(ferry.address).await,
        Session::ready(ferry.address).await,
        Session::ready(ferry.address).await,
    ];
    let listener = listening.listen().await;
    let wire = busy.begin(&call(1, "tools/call")).await;
    let received = upstream.expect("POST").await;
    // A call that nobody waits for any more is one too.
    drop(wire);
    settle().await;
    for _ in 0..4 {
        clock.advance(minute / 4).await;
        settle().await;
    }
    assert_eq!(ferry.open_connections(), 2);
    gone(&idle).await;
    drop(listener);
    settle().await;
    received.result(&json!({})).await;
    settle().await;
    for _ in 0..5 {
        clock.advance(minute / 4).await;
        settle().await;
    }
    ferry.quiet().await;
    gone(&listening).await;
    gone(&busy).await;
    ferry.stop().await;
}

#[tokio::test]
async fn a_client_that_goes_before_it_knows_the_name_leaves_no_session() {
    let mut upstream = Upstream::silent().await;
    let ferry = bridging(upstream.url()).await;
    let mut wire = Wire::connect(ferry.address).await;
    let headers = [("Content-Type", "application/json")];
    let body = initialize().to_string();
    wire.write(&request("POST", "/mcp", &headers, body.as_bytes()))
        .await;
    let received = upstream.expect("POST").await;
    drop(wire);
    settle().await;
    let answer = Answer::initialize(&received.request, Some("s"));
    received.answer(answer).await;
    let ended = upstream.expect("DELETE").await;
    assert_eq!(ended.request.header("mcp-session-id"), Some("s"));
    ended.answer(Answer::new(200, &[], "")).await;
    ferry.quiet().await;
    ferry.stop().await;
}

#[tokio::test]
async fn a_cancelled_call_has_no_outcome_and_its_answer_ends() {
    let mut upstream = Upstream::with_sessions().await;
    let ferry = bridging(upstream.url()).await;
    let session = Session::ready(ferry.address).await;
    let wire = session.begin(&call(1, "tools/call")).await;
    let received = upstream.expect("POST").await;
    let params = json!({"requestId": 1});
    let cancel = json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": params});
    session.tell(&cancel).await;
    let mut stream = answering(wire).await.stream;
    stream.ended().await;
    upstream
        .seen("the cancel", |it| it.rpc() == "notifications/cancelled")
        .await;
    drop(received);
    ferry.stop().await;
}

#[tokio::test]
async fn a_drain_lets_calls_finish_ends_the_session_and_begins_none() {
    let mut upstream = Upstream::with_sessions().await;
    let mut ferry = bridging(upstream.url()).await;
    let session = Session::ready(ferry.address).await;
    let idle = Session::ready(ferry.address).await;
    let mut listener = idle.listen().await.stream;
    let mut wire = session.begin(&call(1, "tools/call")).await;
    let received = upstream.expect("POST").await;
    ferry.drain();
    listener.ended().await;
    let refused = post(ferry.address, &[], &initialize()).await;
    assert_eq!(
        (refused.status(), refused.header("retry-after")),
        (503, Some("1"))
    );
    let late = session.post(&call(2, "tools/call")).await;
    assert_eq!(
        late.json()["error"]["data"]["ferry"]["reason"],
        "shutting_down"
    );
    received.result(&json!({})).await;
    assert_eq!(wire.response().await.json()["id"], 1);
    ferry.stopped().await;
}

#[tokio::test]
async fn when_the_drains_time_is_over_calls_end_in_an_error() {
    let mut upstream = Upstream::with_sessions().await;
    let mut ferry = bridging_with(upstream.url(), |config| {
        // Longer than the drain, so that the answer is one JSON text.
        config.limits.keep_alive = Duration::from_secs(60);
    })
    .await;
    let clock = Clock::stop();
    let session = Session::ready(ferry.address).await;
    let mut wire = session.begin(&call(1, "tools/call")).await;
    let received = upstream.expect("POST").await;
    ferry.drain();
    settle().await;
    clock.advance(Duration::from_secs(20)).await;
    let answered = wire.response().await;
    let ferry_says = &answered.json()["error"]["data"]["ferry"];
    assert_eq!(
        *ferry_says,
        json!({"reason": "shutting_down", "executed": "unknown"})
    );
    drop(received);
    ferry.stopped().await;
}
