//! Clients that take their time: a head byte by byte, a body that does not come, a socket that is kept for nothing.

use std::time::Duration;

use mcp_ferry::config::McpMode;
use serde_json::json;

use crate::support::clock::Clock;
use crate::support::ferry::Ferry;
use crate::support::http::{Wire, request};
use crate::support::upstream::Upstream;

#[tokio::test]
async fn a_head_has_its_own_time_however_long_the_socket_was_idle() {
    let upstream = Upstream::echo().await;
    let ferry = Ferry::start(upstream.url()).await;
    let clock = Clock::stop();
    let mut dripping = Wire::connect(ferry.address).await;
    let mut idle = Wire::connect(ferry.address).await;
    let healthz = request("GET", "/healthz", &[], b"");
    for wire in [&mut dripping, &mut idle] {
        wire.write(&healthz).await;
        assert_eq!(wire.response().await.status(), 200);
    }
    // Both may wait for a minute between two requests.
    clock.advance(Duration::from_secs(60)).await;
    let (start, rest) = healthz.split_at(10);
    dripping.write(start).await;
    for byte in rest.iter().take(9) {
        clock.advance(Duration::from_secs(1)).await;
        dripping.write(&[*byte]).await;
    }
    clock.advance(Duration::from_secs(1)).await;
    assert!(dripping.closed().await.is_empty(), "ten seconds for a head");
    idle.write(&healthz).await;
    assert_eq!(idle.response().await.status(), 200);
    clock.advance(Duration::from_secs(75)).await;
    assert!(
        idle.closed().await.is_empty(),
        "75 seconds between requests"
    );
    ferry.stop().await;
}

#[tokio::test]
async fn a_passed_through_body_that_stops_coming_ends_its_socket_and_its_exchange() {
    let mut upstream = Upstream::silent().await;
    let ferry = Ferry::with(upstream.url(), |config| config.mcp = McpMode::Pass).await;
    let clock = Clock::stop();
    let mut wire = Wire::connect(ferry.address).await;
    let head = "POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n";
    wire.write(head.as_bytes()).await;
    // A body that comes slowly is a body that comes.
    for _ in 0..5 {
        clock.advance(Duration::from_secs(29)).await;
        wire.write(b"x").await;
    }
    clock.advance(Duration::from_secs(29)).await;
    clock.advance(Duration::from_secs(1)).await;
    assert!(wire.closed().await.is_empty());
    upstream.assert_quiet();
    ferry.stop().await;
}

#[tokio::test]
async fn an_answer_may_take_its_time_when_the_request_is_whole() {
    let mut upstream = Upstream::silent().await;
    let ferry = Ferry::start(upstream.url()).await;
    let clock = Clock::stop();
    let mut wire = Wire::connect(ferry.address).await;
    let body = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call"}).to_string();
    wire.write(&request("POST", "/mcp", &[], body.as_bytes()))
        .await;
    let received = upstream.expect("POST").await;
    clock.advance(Duration::from_secs(2 * 3600)).await;
    received.result(&json!({})).await;
    assert_eq!(wire.response().await.status(), 200);
    drop(wire);
    ferry.stop().await;
}
