//! The listen stream of a session: what goes there, what waits for it, and what is lost.

use mcp_ferry::conn::MAX_BACKLOG;
use mcp_ferry::metrics::Counter;
use serde_json::{Value, json};

use super::{bridging, bridging_with};
use crate::support::clock::{Clock, settle};
use crate::support::session::{Session, answering, call};
use crate::support::stream::Item;
use crate::support::upstream::{Events, Upstream};

/// A session, and the listen stream that the ferry opened for it upstream.
async fn listened(upstream: &mut Upstream, address: std::net::SocketAddr) -> (Session, Events) {
    let session = Session::ready(address).await;
    let events = upstream.expect("GET").await.events().await;
    (session, events)
}

fn changed(number: usize) -> Value {
    json!({"jsonrpc": "2.0", "method": "notifications/resources/updated", "params": {"uri": number.to_string()}})
}

#[tokio::test]
async fn what_no_request_asked_for_is_on_the_listen_stream_and_nowhere_else() {
    let mut upstream = Upstream::listening().await;
    let ferry = bridging(upstream.url()).await;
    let (session, mut events) = listened(&mut upstream, ferry.address).await;
    let mut listener = session.listen().await.stream;
    let mut wire = session.begin(&call(1, "tools/list")).await;
    let received = upstream.expect("POST").await;
    events.send(&changed(1)).await;
    assert_eq!(listener.message().await, changed(1));
    received.result(&json!({})).await;
    assert_eq!(wire.response().await.json()["id"], 1);
    // One at a time.
    let second = session.ask("GET", &[("Accept", "text/event-stream")]).await;
    assert_eq!(second.status(), 409, "{second:?}");
    // And another when that one has gone.
    drop(listener);
    settle().await;
    let mut listener = session.listen().await.stream;
    events.send(&changed(2)).await;
    assert_eq!(listener.message().await, changed(2));
    ferry.stop().await;
}

#[tokio::test]
async fn what_comes_before_the_client_listens_waits_for_it_within_bounds() {
    let mut upstream = Upstream::listening().await;
    let ferry = bridging(upstream.url()).await;
    let (session, mut events) = listened(&mut upstream, ferry.address).await;
    events.send(&call(5, "roots/list")).await;
    for number in 0..MAX_BACKLOG + 3 {
        events.send(&changed(number)).await;
    }
    ferry
        .until("the oldest to go", |ferry| {
            ferry.count(Counter::Undelivered) == 4
        })
        .await;
    let mut listener = session.listen().await.stream;
    let asked = listener.message().await;
    assert_eq!(asked["method"], "roots/list", "a request stays");
    for number in 4..MAX_BACKLOG + 3 {
        assert_eq!(listener.message().await, changed(number));
    }
    ferry.stop().await;
}

#[tokio::test]
async fn a_request_that_cannot_be_kept_for_a_client_is_answered_for_it() {
    let mut upstream = Upstream::listening().await;
    let ferry = bridging(upstream.url()).await;
    let (_session, mut events) = listened(&mut upstream, ferry.address).await;
    let mut asked = call(5, "sampling/createMessage");
    asked["params"] = json!({"pad": "x".repeat(mcp_ferry::conn::MAX_BACKLOG_BYTES)});
    events.send(&asked).await;
    let answer = upstream
        .seen("an answer", |it| it.json()["error"]["code"] == -32603)
        .await;
    assert_eq!(answer.json()["id"], 5);
    ferry.stop().await;
}

#[tokio::test]
async fn the_outcome_of_a_call_that_the_client_left_is_dropped_and_the_rest_goes_where_it_listens()
{
    let mut upstream = Upstream::listening().await;
    let ferry = bridging(upstream.url()).await;
    let (session, _events) = listened(&mut upstream, ferry.address).await;
    let mut listener = session.listen().await.stream;
    let left = session.begin(&call(1, "tools/call")).await;
    let mut running = upstream.expect("POST").await.events().await;
    drop(left);
    settle().await;
    // It is no cancel: the call goes on.
    running.send(&call(3, "sampling/createMessage")).await;
    let asked = listener.message().await;
    assert_eq!(asked["method"], "sampling/createMessage");
    running.result(&json!({})).await;
    ferry
        .until("the outcome to be dropped", |ferry| {
            ferry.count(Counter::Undelivered) == 1
        })
        .await;
    let cancels = upstream
        .log()
        .iter()
        .filter(|it| it.rpc().contains("cancelled"))
        .count();
    assert_eq!(cancels, 0);
    // The id is free again.
    let mut wire = session.begin(&call(1, "tools/list")).await;
    upstream.expect("POST").await.result(&json!({})).await;
    assert_eq!(wire.response().await.json()["id"], 1);
    ferry.stop().await;
}

#[tokio::test]
async fn quiet_streams_are_kept_alive_and_a_silent_call_gets_its_head_in_time() {
    let mut upstream = Upstream::listening().await;
    let ferry = bridging_with(upstream.url(), |config| {
        config.limits.keep_alive = std::time::Duration::from_secs(20);
    })
    .await;
    let (session, _events) = listened(&mut upstream, ferry.address).await;
    let mut listener = session.listen().await.stream;
    let clock = Clock::stop();
    let wire = session.begin(&call(1, "tools/call")).await;
    let received = upstream.expect("POST").await;
    clock.advance(std::time::Duration::from_secs(20)).await;
    assert_eq!(listener.next().await, Item::KeepAlive);
    let mut stream = answering(wire).await.stream;
    assert_eq!(stream.next().await, Item::KeepAlive);
    received.result(&json!({})).await;
    assert_eq!(stream.message().await["id"], 1);
    stream.ended().await;
    ferry.stop().await;
}
