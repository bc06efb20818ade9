//! Keep-alives: a bare comment line after each quiet time, and nothing else.

use std::time::Duration;

use serde_json::json;

use crate::support::client::{Client, Item, call};
use crate::support::clock::Clock;
use crate::support::ferry::Ferry;
use crate::support::upstream::Upstream;

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test]
async fn a_silent_stream_gets_a_bare_comment_line_every_15_seconds() {
    let upstream = Upstream::silent().await;
    let ferry = Ferry::start(upstream.url()).await;
    let clock = Clock::stop();
    let mut client = Client::open(ferry.address).await;
    for _ in 0..300 {
        clock.advance(15 * SECOND).await;
        assert_eq!(client.next().await, Item::KeepAlive);
    }
    client.leave();
    ferry.stop().await;
}

#[tokio::test]
async fn keep_alives_come_only_after_15_seconds_of_silence() {
    let mut upstream = Upstream::with_sessions().await;
    let ferry = Ferry::start(upstream.url()).await;
    let clock = Clock::stop();
    let mut client = Client::ready(ferry.address).await;
    client.send(&call(1, "tools/call")).await;
    let mut events = upstream.expect("POST").await.events().await;
    let progress = json!({"jsonrpc": "2.0", "method": "notifications/progress"});
    for _ in 0..4 {
        clock.advance(Duration::from_millis(14_900)).await;
        events.send(&progress).await;
        assert_eq!(client.next().await, Item::Message(progress.to_string()));
    }
    clock.advance(15 * SECOND).await;
    assert_eq!(client.next().await, Item::KeepAlive);
    events.result(&json!({})).await;
    events.end().await;
    assert_eq!(client.message().await["id"], 1);
    client.leave();
    ferry.stop().await;
}

#[tokio::test]
async fn keep_alives_come_as_often_as_configured() {
    let upstream = Upstream::silent().await;
    let ferry = Ferry::with(upstream.url(), |config| {
        config.limits.keep_alive = 3 * SECOND;
    })
    .await;
    let clock = Clock::stop();
    let mut client = Client::open(ferry.address).await;
    for _ in 0..3 {
        clock.advance(3 * SECOND).await;
        assert_eq!(client.next().await, Item::KeepAlive);
    }
    client.leave();
    ferry.stop().await;
}

#[tokio::test]
async fn a_client_that_was_slow_gets_its_keep_alives_as_before() {
    let mut upstream = Upstream::with_sessions().await;
    let ferry = Ferry::with(upstream.url(), |config| {
        config.limits.client_stall_timeout = 600 * SECOND;
    })
    .await;
    let mut slow = Client::ready(ferry.address).await;
    slow.set_window(64 << 10);
    let clock = Clock::stop();
    slow.send(&call(1, "tools/call")).await;
    // More than the kernel holds, so that it waits until the client reads.
    let pad = "x".repeat(8 << 20);
    upstream.expect("POST").await.result(&json!(pad)).await;
    slow.send(&call(2, "tools/call")).await;
    clock.advance(15 * SECOND).await;
    slow.set_window(4 << 20);
    assert_eq!(slow.message().await["id"], 1);
    clock.advance(15 * SECOND).await;
    assert_eq!(slow.next().await, Item::KeepAlive);
    upstream.expect("POST").await.result(&json!({})).await;
    assert_eq!(slow.message().await["id"], 2);
    slow.leave();
    ferry.quiet().await;
    ferry.stop().await;
}
