//! Complaints about what the upstream says unasked: the GET it says it on, and what becomes of its requests.

use std::time::Duration;

use serde_json::json;

use crate::support::client::{Client, Item, call, initialize, initialized};
use crate::support::clock::Clock;
use crate::support::ferry::Ferry;
use crate::support::upstream::{Received, Upstream};

const SECOND: Duration = Duration::from_secs(1);

/// envoyproxy/ai-gateway#1925: a 405 to the upstream GET is taken for a failure and retried for ever.
#[tokio::test]
async fn c16_a_405_to_the_upstream_get_is_asked_for_once() {
    let mut upstream = Upstream::with_sessions().await;
    let ferry = Ferry::start(upstream.url()).await;
    let clock = Clock::stop();
    let mut client = Client::ready(ferry.address).await;
    let get = |request: &Received| request.method() == "GET";
    upstream.seen("the GET", get).await;
    for _ in 0..4 * 60 {
        clock.advance(15 * SECOND).await;
        assert_eq!(client.next().await, Item::KeepAlive);
    }
    client.send(&call(1, "tools/list")).await;
    upstream.expect("POST").await.result(&json!({})).await;
    assert_eq!(client.message().await["id"], 1);
    let log = upstream.log();
    assert_eq!(log.iter().filter(|request| get(request)).count(), 1);
    client.leave();
    ferry.stop().await;
}

/// envoyproxy/ai-gateway#1925: `initialize` waits for the upstream GET, which a server need not answer.
#[tokio::test]
async fn c16_nothing_waits_for_the_upstream_get() {
    let mut upstream = Upstream::listening().await;
    let ferry = Ferry::start(upstream.url()).await;
    let _clock = Clock::stop();
    let mut client = Client::ready(ferry.address).await;
    let unanswered = upstream.expect("GET").await;
    client.send(&call(1, "tools/list")).await;
    upstream.expect("POST").await.result(&json!({})).await;
    assert_eq!(client.message().await["id"], 1);
    client.leave();
    unanswered.abandoned().await;
    ferry.stop().await;
}

/// Vexa-ai/vexa#795: a read timeout of 30 s on the upstream GET makes a failure of silence.
#[tokio::test]
async fn c18_an_upstream_stream_may_be_silent_for_hours() {
    let mut upstream = Upstream::listening().await;
    let ferry = Ferry::with(upstream.url(), |config| {
        config.limits.keep_alive = 240 * SECOND;
    })
    .await;
    let clock = Clock::stop();
    let mut client = Client::ready(ferry.address).await;
    let mut listen = upstream.expect("GET").await.events().await;
    // Three hours.
    for _ in 0..3 * 15 {
        clock.advance(240 * SECOND).await;
        assert_eq!(client.next().await, Item::KeepAlive);
    }
    let changed = json!({"jsonrpc": "2.0", "method": "notifications/tools/list_changed"});
    listen.send(&changed).await;
    assert_eq!(client.message().await, changed);
    upstream.assert_quiet();
    client.leave();
    listen.abandoned().await;
    ferry.stop().await;
}

/// microsoft/playwright-mcp#1646: the upstream's heartbeat finds no GET to go out on, and so it ends the session.
#[tokio::test]
async fn c24_the_upstreams_pings_are_answered_for_as_long_as_the_client_is_there() {
    let mut upstream = Upstream::listening().await;
    let ferry = Ferry::start(upstream.url()).await;
    let clock = Clock::stop();
    let mut client = Client::ready(ferry.address).await;
    let mut listen = upstream.expect("GET").await.events().await;
    for number in 1..=20 {
        clock.advance(3 * SECOND).await;
        let ping = json!({"jsonrpc": "2.0", "id": number, "method": "ping"});
        listen.raw(format!("id: e{number}\ndata: {ping}\n\n")).await;
        let seen = client.message().await;
        assert_eq!(seen["method"], "ping");
        let pong = json!({"jsonrpc": "2.0", "id": seen["id"], "result": {}});
        client.send(&pong).await;
        let pong = json!({"jsonrpc": "2.0", "id": number, "result": {}});
        let answered = upstream
            .seen("the answer", |request| request.json() == pong)
            .await;
        assert_eq!(answered.header("mcp-session-id"), Some("session-1"));
        if number == 10 {
            // Servers close the stream now and then; the next heartbeat must find another.
            listen.end().await;
            let again = clock
                .pass_until("another GET", upstream.expect("GET"))
                .await;
            assert_eq!(again.request.header("last-event-id"), Some("e10"));
            listen = again.events().await;
        }
    }
    client.leave();
    listen.abandoned().await;
    ferry.stop().await;
}

/// higress-group/higress#3685: what the server asks of the client is dropped without a word.
#[tokio::test]
async fn c25_what_the_upstream_asks_is_answered_by_the_client_or_by_an_error() {
    let mut upstream = Upstream::with_sessions().await;
    let ferry = Ferry::start(upstream.url()).await;
    let mut client = Client::open(ferry.address).await;
    // The upstream is promised what the client can do, no more and no less.
    let can = json!({"sampling": {}, "roots": {"listChanged": true}, "experimental": {"x": 1}});
    let mut first = initialize();
    first["params"]["capabilities"] = can.clone();
    client.send(&first).await;
    client.message().await;
    client.send(&initialized()).await;
    assert_eq!(upstream.log()[0].json()["params"]["capabilities"], can);

    // Two calls ask at once; the answers come in the other order and find their way.
    let mut running = Vec::new();
    for (id, method) in [(1, "sampling/createMessage"), (2, "roots/list")] {
        client.send(&call(id, "tools/call")).await;
        let mut events = upstream.expect("POST").await.events().await;
        // The upstream counts from 1 as well.
        let ask = json!({"jsonrpc": "2.0", "id": id, "method": method, "params": {}});
        events.send(&ask).await;
        running.push((client.message().await, events));
    }
    for (asked, mut events) in running.into_iter().rev() {
        assert!(asked["id"].is_string(), "{asked}");
        let method = asked["method"].clone();
        client
            .send(&json!({"jsonrpc": "2.0", "id": asked["id"], "result": {"to": method}}))
            .await;
        let id = events.request().json()["id"].clone();
        let answer = json!({"jsonrpc": "2.0", "id": id, "result": {"to": method}});
        upstream
            .seen("the answer", |request| request.json() == answer)
            .await;
        events.result(&json!({})).await;
        events.end().await;
        assert_eq!(client.message().await["id"], id);
    }

    // A client that goes leaves no question open.
    client.send(&call(3, "tools/call")).await;
    let mut events = upstream.expect("POST").await.events().await;
    let ask = json!({"jsonrpc": "2.0", "id": "q", "method": "roots/list"});
    events.send(&ask).await;
    assert_eq!(client.message().await["method"], "roots/list");
    client.leave();
    let answered = upstream
        .seen("an answer", |request| request.json()["id"] == "q")
        .await;
    assert_eq!(answered.json()["error"]["code"], -32603);
    ferry.quiet().await;
    ferry.stop().await;
}
