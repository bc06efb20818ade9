//! When a POST is answered: at once, or, while its credential is unproven, with the upstream's status or after a short
//! time without it.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::client::{Client, call, initialize, post};
use crate::support::clock::{Clock, within};
use crate::support::ferry::Ferry;
use crate::support::http::exchange;
use crate::support::scene::scene;
use crate::support::upstream::Upstream;

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test]
async fn a_post_is_answered_202_accepted_before_the_upstream_answers() {
    let (mut upstream, ferry, mut client) = scene().await;
    // No time passes: whatever waits for the upstream waits for ever.
    let _clock = Clock::stop();
    let answered = client.post(call(1, "tools/call").to_string()).await;
    assert_eq!((answered.status(), answered.text()), (202, "Accepted"));
    let waiting = upstream.expect("POST").await;
    let answered = client.post(call(2, "tools/call").to_string()).await;
    assert_eq!(answered.status(), 202);
    upstream.expect("POST").await.result(&json!({})).await;
    assert_eq!(client.message().await["id"], 2);
    waiting.result(&json!({})).await;
    assert_eq!(client.message().await["id"], 1);
    client.leave();
    ferry.stop().await;
}

#[tokio::test]
async fn an_unproven_post_is_held_for_one_second_and_initialize_for_three() {
    let mut upstream = Upstream::silent().await;
    let ferry = Ferry::start(upstream.url()).await;
    let clock = Clock::stop();
    for (message, hold) in [(initialize(), 3 * SECOND), (call(1, "tools/list"), SECOND)] {
        let client = Client::open(ferry.address).await;
        let posted = tokio::task::spawn({
            let (address, endpoint) = (client.address, client.endpoint.clone());
            let body = message.to_string();
            async move { post(address, &endpoint, &[], body).await }
        });
        let _held = upstream.expect("POST").await;
        clock.advance(hold - Duration::from_millis(100)).await;
        // Had it been answered, this would have been answered after it.
        exchange(ferry.address, "GET", "/healthz", &[], "").await;
        assert!(!posted.is_finished(), "{message}");
        clock.advance(Duration::from_millis(100)).await;
        let answered = within("the status", posted).await.expect("no panic");
        assert_eq!((answered.status(), answered.text()), (202, "Accepted"));
        client.leave();
    }
    clock.advance(20 * SECOND).await;
    ferry.quiet().await;
    ferry.stop().await;
}

#[tokio::test]
async fn the_result_does_not_wait_for_the_hold_nor_the_hold_for_the_result() {
    let mut upstream = Upstream::silent().await;
    let ferry = Ferry::start(upstream.url()).await;
    let _clock = Clock::stop();
    let mut client = Client::open(ferry.address).await;
    let posted = |message: Value| {
        let (address, endpoint) = (client.address, client.endpoint.clone());
        tokio::task::spawn(async move { post(address, &endpoint, &[], message.to_string()).await })
    };
    let first = posted(initialize());
    // The status alone ends the hold, long before the result.
    let mut events = upstream.expect("POST").await.events().await;
    assert_eq!(
        within("the status", first)
            .await
            .expect("no panic")
            .status(),
        202
    );
    events
        .result(&json!({"protocolVersion": "2024-11-05", "capabilities": {}}))
        .await;
    events.end().await;
    assert_eq!(client.message().await["id"], 0);
    client.leave();
    ferry.stop().await;
}
