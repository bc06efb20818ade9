//! Memory is short: what is shed, in which order, and that it comes back. Streams that are to end of old age.

use std::time::Duration;

use mcp_ferry::metrics::Counter;
use serde_json::json;

use crate::support::client::{Client, call};
use crate::support::clock::{Clock, within};
use crate::support::ferry::Ferry;
use crate::support::http::exchange;
use crate::support::upstream::{Events, Upstream};

/// Sends events until the ferry gives up.
async fn flood(mut events: Events) {
    events.narrow();
    let params = json!({"pad": "x".repeat(60_000)});
    let text = json!({"jsonrpc": "2.0", "method": "notifications/x", "params": params}).to_string();
    while events.push(&text).await {}
}

/// Posts until memory is short.
async fn short(client: &Client) {
    within("memory to be short", async {
        let notice = r#"{"jsonrpc":"2.0","method":"notifications/x"}"#;
        while client.post(notice).await.status() != 503 {}
    })
    .await;
}

#[tokio::test]
async fn near_the_bound_new_streams_and_messages_wait_and_who_does_not_read_goes() {
    let mut upstream = Upstream::with_sessions().await;
    let ferry = Ferry::with(upstream.url(), |config| {
        config.limits.max_buffered = 16 << 20;
        config.limits.client_buffer = 64 << 20;
    })
    .await;
    let neighbour = Client::ready(ferry.address).await;
    let deaf = Client::ready(ferry.address).await;
    deaf.set_window(4096);
    deaf.send(&call(1, "tools/call")).await;
    let clock = Clock::stop();
    let events = upstream.expect("POST").await.events().await;
    let flooding = tokio::task::spawn(flood(events));
    short(&neighbour).await;
    let refused = exchange(ferry.address, "GET", "/sse", &[], "").await;
    assert_eq!(refused.status(), 503);
    assert_eq!(refused.header("retry-after"), Some("1"));
    assert!(
        refused.text().contains("--max-buffered"),
        "{}",
        refused.text()
    );
    let answered = neighbour.post(call(1, "tools/call").to_string()).await;
    assert_eq!(answered.status(), 503);
    // Thirty seconds would be its due; while memory is short it is one.
    clock.advance(Duration::from_secs(1)).await;
    clock.advance(Duration::from_secs(1)).await;
    ferry
        .until("the deaf client to be closed", |ferry| {
            ferry.count(Counter::StalledClients) == 1
        })
        .await;
    within("the flood to end", flooding)
        .await
        .expect("no panic");
    neighbour.send(&call(2, "tools/call")).await;
    let answer = upstream.expect("POST").await;
    answer.result(&json!({})).await;
    Client::open(ferry.address).await.leave();
    drop((neighbour, deaf));
    ferry.quiet().await;
    ferry.stop().await;
}

#[tokio::test]
async fn a_stream_of_age_ends_when_it_is_idle_and_takes_requests_until_then() {
    let mut upstream = Upstream::with_sessions().await;
    let ferry = Ferry::with(upstream.url(), |config| {
        config.limits.max_stream_age = Some(Duration::from_secs(100));
    })
    .await;
    let clock = Clock::stop();
    let mut idle = Client::ready(ferry.address).await;
    let mut busy = Client::ready(ferry.address).await;
    busy.send(&call(1, "tools/call")).await;
    let first = upstream.expect("POST").await;
    clock.advance(Duration::from_secs(80)).await;
    idle.ended().await;
    // Old, and not idle: it goes on, and takes what comes.
    busy.send(&call(2, "tools/call")).await;
    let second = upstream.expect("POST").await;
    first.result(&json!({"first": true})).await;
    assert_eq!(busy.message().await["result"]["first"], true);
    second.result(&json!({})).await;
    assert_eq!(busy.message().await["id"], 2);
    busy.ended().await;
    ferry.quiet().await;
    ferry.stop().await;
}

#[tokio::test]
async fn a_stream_at_its_age_ends_what_is_in_flight_with_an_error() {
    let mut upstream = Upstream::with_sessions().await;
    let ferry = Ferry::with(upstream.url(), |config| {
        config.limits.max_stream_age = Some(Duration::from_secs(100));
    })
    .await;
    let clock = Clock::stop();
    let mut client = Client::ready(ferry.address).await;
    client.send(&call(1, "tools/call")).await;
    let running = upstream.expect("POST").await;
    clock.advance(Duration::from_secs(100)).await;
    let error = client.ferry_error(1, "stream_age", "unknown").await;
    let text = error["error"]["message"].as_str().unwrap_or_default();
    assert!(text.contains("--max-stream-age"), "{text}");
    client.ended().await;
    running.abandoned().await;
    ferry.quiet().await;
    ferry.stop().await;
}
