//! What the upstream sends unasked, and reply streams that are picked up again, over sockets.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::client::{Client, Item, call};
use crate::support::clock::Clock;
use crate::support::ferry::Ferry;
use crate::support::upstream::{Answer, Received, Upstream};

fn note(number: usize) -> Value {
    json!({"jsonrpc": "2.0", "method": "notifications/message", "params": number})
}

fn gets(upstream: &Upstream) -> usize {
    let log = upstream.log();
    let get = |request: &&std::sync::Arc<Received>| request.method() == "GET";
    log.iter().filter(get).count()
}

#[tokio::test]
async fn the_listen_stream_opens_after_the_handshake_and_delays_nothing() {
    let mut upstream = Upstream::listening().await;
    let ferry = Ferry::start(upstream.url()).await;
    let mut client = Client::ready(ferry.address).await;
    let listen = upstream.expect("GET").await;
    let log = upstream.log();
    let before: Vec<String> = log.iter().map(|request| request.rpc()).collect();
    assert_eq!(before, ["initialize", "notifications/initialized", ""]);
    let header = |name| listen.request.header(name);
    assert_eq!(header("accept"), Some("text/event-stream"));
    assert_eq!(header("mcp-session-id"), Some("session-1"));
    assert_eq!(header("mcp-protocol-version"), Some("2025-11-25"));
    assert_eq!(header("last-event-id"), None);
    // It hangs; calls do not wait for it.
    client.send(&call(1, "tools/call")).await;
    upstream.expect("POST").await.result(&json!({})).await;
    assert_eq!(client.message().await["id"], 1);
    let mut events = listen.events().await;
    for number in 0..3 {
        events.send(&note(number)).await;
        assert_eq!(client.message().await, note(number));
    }
    client.leave();
    events.abandoned().await;
    ferry.quiet().await;
    ferry.stop().await;
}

#[tokio::test]
async fn a_listen_stream_that_ends_is_resumed_after_the_time_it_asked_for() {
    let mut upstream = Upstream::listening().await;
    let ferry = Ferry::start(upstream.url()).await;
    let clock = Clock::stop();
    let mut client = Client::ready(ferry.address).await;
    let mut events = upstream.expect("GET").await.events().await;
    let event = format!("id: e-7\nretry: 4000\ndata: {}\n\n", note(1));
    events.raw(event).await;
    assert_eq!(client.message().await, note(1));
    events.end().await;
    // A call, so that the end has been seen by then.
    client.send(&call(1, "tools/call")).await;
    upstream.expect("POST").await.result(&json!({})).await;
    client.message().await;
    clock.advance(Duration::from_millis(3900)).await;
    client.send(&call(1, "tools/call")).await;
    upstream.expect("POST").await.result(&json!({})).await;
    client.message().await;
    assert_eq!(gets(&upstream), 1, "4 s are not over");
    clock.advance(Duration::from_millis(100)).await;
    let listen = upstream.expect("GET").await;
    assert_eq!(listen.request.header("last-event-id"), Some("e-7"));
    let mut events = listen.events().await;
    events.send(&note(2)).await;
    assert_eq!(client.message().await, note(2));
    client.leave();
    events.abandoned().await;
    ferry.quiet().await;
    ferry.stop().await;
}

#[tokio::test]
async fn a_405_is_remembered() {
    let mut upstream = Upstream::listening().await;
    let ferry = Ferry::start(upstream.url()).await;
    let clock = Clock::stop();
    let mut client = Client::ready(ferry.address).await;
    let refused = Answer::new(405, &[("Allow", "POST")], "");
    upstream.expect("GET").await.answer(refused).await;
    for _ in 0..40 {
        clock.advance(Duration::from_secs(15)).await;
        assert_eq!(client.next().await, Item::KeepAlive);
    }
    client.send(&call(1, "tools/call")).await;
    upstream.expect("POST").await.result(&json!({})).await;
    assert_eq!(client.message().await["id"], 1);
    assert_eq!(gets(&upstream), 1);
    ferry.stop_after(client).await;
}

#[tokio::test]
async fn without_a_session_there_is_no_listen_stream() {
    let upstream = Upstream::echo().await;
    let ferry = Ferry::start(upstream.url()).await;
    let mut client = Client::ready(ferry.address).await;
    client.send(&call(1, "tools/list")).await;
    client.message().await;
    client.leave();
    ferry.quiet().await;
    assert_eq!(gets(&upstream), 0);
    ferry.stop().await;
}

#[tokio::test]
async fn a_reply_stream_closed_early_is_picked_up_where_it_was() {
    let mut upstream = Upstream::resuming().await;
    let ferry = Ferry::start(upstream.url()).await;
    let clock = Clock::stop();
    let mut client = Client::ready(ferry.address).await;
    client.send(&call(1, "tools/call")).await;
    let mut events = upstream.expect("POST").await.events().await;
    // As 2025-11-25 does it: a priming event, then the end.
    events.raw("id: p-1\nretry: 500\ndata: \n\n").await;
    events.end().await;
    let resumed = clock.pass_until("a GET", upstream.expect("GET")).await;
    assert_eq!(resumed.request.header("last-event-id"), Some("p-1"));
    assert_eq!(resumed.request.header("mcp-session-id"), Some("session-1"));
    let mut events = resumed.events().await;
    events.raw(format!("id: p-2\ndata: {}\n\n", note(1))).await;
    assert_eq!(client.message().await, note(1));
    // Cut this time, and picked up after what was seen.
    drop(events);
    let resumed = clock.pass_until("a GET", upstream.expect("GET")).await;
    assert_eq!(resumed.request.header("last-event-id"), Some("p-2"));
    let mut events = resumed.events().await;
    let result = json!({"jsonrpc": "2.0", "id": 1, "result": {"n": 1}});
    events.send(&result).await;
    assert_eq!(client.message().await, result);
    client.leave();
    ferry.quiet().await;
    assert_eq!(upstream.times("tools/call"), 1, "executed once");
    ferry.stop().await;
}
