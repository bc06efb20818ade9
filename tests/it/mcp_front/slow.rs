//! Clients of sessions that do not read: they pause their own upstream, nobody else's, and are given up in time.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use mcp_ferry::metrics::Counter;
use serde_json::json;

use super::bridging_with;
use crate::support::clock::{Clock, settle, within};
use crate::support::session::{Session, call};
use crate::support::upstream::{Events, Upstream};

/// Sends events of 32 KiB for as long as they are taken, and counts them.
async fn flood(mut events: Events, sent: Arc<AtomicUsize>) {
    events.narrow();
    let pad = "x".repeat(32 << 10);
    let note = json!({"jsonrpc": "2.0", "method": "notifications/message", "params": {"pad": pad}});
    let note = note.to_string();
    while events.push(&note).await {
        sent.fetch_add(1, Ordering::Relaxed);
    }
}

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
    let events = upstream.expect("POST").await.events().await;
    let sent = Arc::new(AtomicUsize::new(0));
    let flooding = tokio::task::spawn(flood(events, Arc::clone(&sent)));
    // The flood stands still when many calls of somebody else were answered and none of its events was taken.
    let other = Session::ready(ferry.address).await;
    let (mut quiet, mut last) = (0, 0);
    while quiet < 10 {
        let mut wire = other.begin(&call(1, "tools/list")).await;
        upstream.expect("POST").await.result(&json!({})).await;
        assert_eq!(wire.response().await.json()["id"], 1);
        let now = sent.load(Ordering::Relaxed);
        quiet = if now == last { quiet + 1 } else { 0 };
        last = now;
    }
    assert!(last > 0 && !flooding.is_finished());
    // The clock stands still, so that nothing but its going on ends the client's patience.
    for _ in 0..40 {
        clock.advance(Duration::from_secs(1)).await;
        settle().await;
    }
    assert_eq!(ferry.count(Counter::StalledClients), 1);
    within("the call to go on without its client", async {
        while sent.load(Ordering::Relaxed) <= last {
            tokio::task::yield_now().await;
        }
    })
    .await;
    flooding.abort();
    // The session is as it was.
    let mut wire = session.begin(&call(2, "tools/list")).await;
    upstream.expect("POST").await.result(&json!({})).await;
    assert_eq!(wire.response().await.json()["id"], 2);
    drop(slow);
    ferry.stop().await;
}
