//! Complaints about a client's stream: cut when it is quiet, held up on the way, filled with what clients do not know,
//! or kept for a client that is not there any more.

use std::time::Duration;

use mcp_ferry::metrics::Counter;
use serde_json::json;

use super::between::{Between, Habit};
use crate::support::chaos::Chaos;
use crate::support::client::{Client, Item, call};
use crate::support::clock::{Clock, within};
use crate::support::ferry::Ferry;
use crate::support::http::{Wire, request};
use crate::support::upstream::Upstream;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

/// agentgateway/agentgateway#248: a balancer cuts the silent stream after a minute, and the tool's result is lost.
#[tokio::test]
async fn c06_a_quiet_stream_outlives_what_cuts_idle_connections() {
    let mut upstream = Upstream::with_sessions().await;
    let ferry = Ferry::start(upstream.url()).await;
    let clock = Clock::stop();
    let balancer = Chaos::before(ferry.address).await;
    balancer.set(|weather| weather.idle = Some(MINUTE));
    let mut client = Client::ready(balancer.address).await;
    client.send(&call(1, "tools/call")).await;
    let running = upstream.expect("POST").await;
    for _ in 0..10 * 4 {
        clock.advance(15 * SECOND).await;
        assert_eq!(client.next().await, Item::KeepAlive);
    }
    running.result(&json!({"after": "10 minutes"})).await;
    assert_eq!(client.message().await["result"]["after"], "10 minutes");
    client.leave();
    ferry.stop().await;

    // The balancer does cut: keep-alives as rare as this come too late.
    let ferry = Ferry::with(upstream.url(), |config| {
        config.limits.keep_alive = 2 * MINUTE
    })
    .await;
    let balancer = Chaos::before(ferry.address).await;
    balancer.set(|weather| weather.idle = Some(MINUTE));
    let mut client = Client::ready(balancer.address).await;
    clock.advance(MINUTE).await;
    assert!(within("the cut", client.try_next()).await.is_err());
    ferry.quiet().await;
    ferry.stop().await;
}

/// robhunter/agentdeals#1100: an edge withholds a response's head until the first byte of its body, which for a stream
/// with nothing to say never comes.
#[tokio::test]
async fn c07_an_edge_that_withholds_heads_has_a_byte_at_once() {
    let mut upstream = Upstream::listening().await;
    let ferry = Ferry::start(upstream.url()).await;
    let edge = Between::with(Habit::WithholdsHeads, ferry.address).await;
    // No time passes, so no keep-alive sets the head free.
    let _clock = Clock::stop();
    let client = Client::open(edge.address).await;
    assert!(client.endpoint.starts_with("/messages?sessionId="));
    client.leave();

    // What passes through has no byte of the ferry's own, but its head is not withheld here.
    let mut wire = Wire::connect(ferry.address).await;
    let headers = [("Accept", "text/event-stream"), ("Mcp-Session-Id", "s")];
    wire.write(&request("GET", "/mcp", &headers, b"")).await;
    let silent = upstream.expect("GET").await.events().await;
    let head = within("the head", wire.head()).await.expect("a head");
    assert_eq!(head.header("content-type"), Some("text/event-stream"));
    silent.end().await;
    ferry.stop().await;
}

/// IBM/mcp-context-forge#689: keep-alives are events with a name of their own, which clients take for messages.
#[tokio::test]
async fn c08_no_event_that_clients_do_not_know_reaches_them() {
    let mut upstream = Upstream::listening().await;
    let ferry = Ferry::start(upstream.url()).await;
    let clock = Clock::stop();
    let mut client = Client::ready(ferry.address).await;
    let mut listen = upstream.expect("GET").await.events().await;
    client.send(&call(1, "tools/call")).await;
    let mut reply = upstream.expect("POST").await.events().await;
    for _ in 0..4 {
        // The upstream has the habit itself, on both of its streams.
        for stream in [&mut listen, &mut reply] {
            stream.raw("event: keepalive\ndata: {}\n\n").await;
            stream.raw("event: ping\ndata: 2026-01-01\n\n").await;
        }
        clock.advance(15 * SECOND).await;
        // Any other event fails the test in the client.
        assert_eq!(client.next().await, Item::KeepAlive);
    }
    reply.result(&json!({})).await;
    assert_eq!(client.message().await["id"], 1);
    drop((reply, listen));
    client.leave();
    ferry.stop().await;
}

/// penpot/penpot#9432: the client is gone without a word, no close event comes, and the stream is kept for good.
#[tokio::test]
async fn c10_a_client_that_does_not_read_is_given_up() {
    let mut upstream = Upstream::with_sessions().await;
    let ferry = Ferry::start(upstream.url()).await;
    let clock = Clock::stop();
    let client = Client::ready(ferry.address).await;
    client.send(&call(1, "tools/call")).await;
    // More than the sockets of both sides take in, for nobody reads it.
    let result = json!({"text": "x".repeat(24 << 20)});
    upstream.expect("POST").await.result(&result).await;
    ferry
        .until("the result to be on its way", |ferry| {
            ferry.count(Counter::Delivered) == 2
        })
        .await;
    // A keep-alive after 15 s, which cannot be written, and 30 s of patience.
    for _ in 0..46 {
        clock.advance(SECOND).await;
    }
    let ended = |request: &crate::support::upstream::Received| request.method() == "DELETE";
    upstream.seen("the end of the session", ended).await;
    // By the ferry itself, whose clock is the test's; the kernel has limits of its own.
    assert_eq!(ferry.count(Counter::StalledClients), 1);
    ferry.quiet().await;
    drop(client);
    ferry.stop().await;
}

/// penpot/penpot#9432, the other half: whoever reaps by age or by POSTs reaps the quiet and healthy too.
#[tokio::test]
async fn c10_a_client_that_is_only_quiet_is_never_given_up() {
    let mut upstream = Upstream::with_sessions().await;
    let ferry = Ferry::with(upstream.url(), |config| {
        config.limits.keep_alive = 4 * MINUTE
    })
    .await;
    let clock = Clock::stop();
    let mut client = Client::ready(ferry.address).await;
    for _ in 0..24 * 15 {
        clock.advance(4 * MINUTE).await;
        assert_eq!(client.next().await, Item::KeepAlive);
    }
    client.send(&call(1, "tools/list")).await;
    upstream.expect("POST").await.result(&json!({})).await;
    assert_eq!(client.message().await["id"], 1);
    client.leave();
    ferry.stop().await;
}

/// penpot/penpot#9432: no FIN ever comes from a machine that lost its power or a path that was forgotten. Only the
/// kernel can notice, and only where its probes are on.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn c10_the_kernel_probes_a_silent_client() {
    let upstream = Upstream::silent().await;
    let ferry = Ferry::start(upstream.url()).await;
    let mut wire = Wire::connect(ferry.address).await;
    wire.write(&request("GET", "/sse", &[], b"")).await;
    within("the head", wire.head()).await.expect("a head");
    let client = wire.socket.local_addr().expect("an address");
    let (own, other) = (
        format!(":{:04X}", ferry.address.port()),
        format!(":{:04X}", client.port()),
    );
    let timer = || {
        let table = std::fs::read_to_string("/proc/net/tcp").expect("the kernel's table");
        let sockets = table.lines().map(str::split_whitespace);
        let mut sockets = sockets.map(Iterator::collect::<Vec<&str>>);
        let socket = sockets.find(|of| of[1].ends_with(&own) && of[2].ends_with(&other));
        socket.expect("the stream's socket")[5].to_owned()
    };
    // While the endpoint event is not acknowledged, the timer is another one.
    let probing = async {
        while !timer().starts_with("02:") {
            tokio::task::yield_now().await;
        }
    };
    within("the timer of keep-alive probes", probing).await;
    let timer = timer();
    let (_, ticks) = timer.split_once(':').expect("a kind and a time");
    let ticks = u64::from_str_radix(ticks, 16).expect("a time");
    // In hundredths of a second; the kernel's own default would be two hours.
    assert!(ticks <= 1600, "{ticks}");
    drop(wire);
    ferry.stop().await;
}
