//! Clients of sessions that do not read: they pause their own upstream, nobody else's, and are given up in time.

use std::time::Duration;

use mcp_ferry::metrics::Counter;
use serde_json::json;

use super::bridging_with;
use crate::support::clock::{Clock, settle, within};
use crate::support::session::{Session, call};
use crate::support::upstream::Upstream;

/// So many events of 32 KiB that no buffer on the way, the kernel's included, holds them.
const EVENTS: usize = 500;

#[tokio::test]
async fn a_client_that_does_not_read_an_answer_pauses_its_upstream_and_loses_that_answer_alone() {
    let mut upstream = Upstream::with_sessions().await;
    let ferry = bridging_with(upstream.url(), |config| {
        config.limits.client_buffer = 256 << 10;
    })
    .await;
    let clock = Clock::stop();
    let session = Session::ready(ferry.address).await;
    let slow = session.begin(&call(1, "tools/call")).await;
    socket2::SockRef::from(&slow.socket)
        .set_recv_buffer_size(64 << 10)
        .expect("a buffer size");
    let mut events = upstream.expect("POST").await.events().await;
    events.narrow();
    let pad = "x".repeat(32 << 10);
    let note = json!({"jsonrpc": "2.0", "method": "notifications/message", "params": {"pad": pad}});
    let flood = tokio::task::spawn(async move {
        let mut sent = 0;
        while sent < EVENTS && events.push(&note.to_string()).await {
            sent += 1;
        }
        (sent, events)
    });
    // Somebody else's calls go on meanwhile.
    let other = Session::ready(ferry.address).await;
    for number in 0..20 {
        let mut wire = other.begin(&call(number, "tools/list")).await;
        upstream.expect("POST").await.result(&json!({})).await;
        assert_eq!(wire.response().await.json()["id"], number);
    }
    assert!(!flood.is_finished(), "the upstream is paused");
    // The clock stands still, so that nothing but its going on ends the client's patience.
    for _ in 0..40 {
        clock.advance(Duration::from_secs(1)).await;
        settle().await;
    }
    assert_eq!(ferry.count(Counter::StalledClients), 1);
    let (sent, events) = within("the flood to go on", flood).await.expect("no panic");
    assert_eq!(sent, EVENTS, "the call goes on without its client");
    // The session is as it was.
    let mut wire = session.begin(&call(2, "tools/list")).await;
    upstream.expect("POST").await.result(&json!({})).await;
    assert_eq!(wire.response().await.json()["id"], 2);
    drop((slow, events));
    ferry.stop().await;
}
