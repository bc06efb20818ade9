//! Stopping: what is in flight finishes, what cannot gets its error, streams end cleanly, sessions are ended.

use std::time::Duration;

use serde_json::json;
use tokio::net::TcpStream;

use crate::support::client::{Client, Item, call};
use crate::support::clock::{Clock, within};
use crate::support::ferry::Ferry;
use crate::support::http::{Wire, exchange, request};
use crate::support::scene::scene;
use crate::support::upstream::{Answer, Call, Upstream, routine};

/// Begins the shutdown and waits until it shows.
async fn drain(ferry: &mut Ferry) {
    ferry.drain();
    let address = ferry.address;
    within("readiness to end", async {
        while exchange(address, "GET", "/readyz", &[], "").await.status() != 503 {}
    })
    .await;
}

/// A ferry that drains while a call is in flight.
async fn draining() -> (Upstream, Ferry, Client, Call) {
    let (mut upstream, mut ferry, client) = scene().await;
    client.send(&call(1, "tools/call")).await;
    let received = upstream.expect("POST").await;
    drain(&mut ferry).await;
    (upstream, ferry, client, received)
}

/// The call in flight has its answer, and the stream its clean end.
async fn finishes(received: Call, client: &mut Client) {
    received.result(&json!({})).await;
    assert_eq!(client.message().await["id"], 1);
    client.ended().await;
}

#[tokio::test]
async fn readiness_ends_and_liveness_stays() {
    let mut upstream = Upstream::with_sessions().await;
    let mut ferry = Ferry::start(upstream.url()).await;
    let ready = exchange(ferry.address, "GET", "/readyz", &[], "").await;
    assert_eq!(ready.status(), 200);
    let mut client = Client::ready(ferry.address).await;
    client.send(&call(1, "tools/call")).await;
    let received = upstream.expect("POST").await;
    drain(&mut ferry).await;
    let alive = exchange(ferry.address, "GET", "/healthz", &[], "").await;
    assert_eq!(alive.status(), 200);
    finishes(received, &mut client).await;
    let address = ferry.address;
    ferry.stopped().await;
    let gone = TcpStream::connect(address).await;
    assert!(gone.is_err(), "the port is free");
}

#[tokio::test]
async fn idle_streams_end_cleanly_at_once_and_their_sessions_with_them() {
    let upstream = Upstream::with_sessions().await;
    let mut ferry = Ferry::start(upstream.url()).await;
    // No time passes.
    let _clock = Clock::stop();
    let mut fresh = Client::open(ferry.address).await;
    let mut clients = Vec::new();
    for _ in 0..5 {
        clients.push(Client::ready(ferry.address).await);
    }
    ferry.drain();
    assert_eq!(fresh.next().await, Item::End);
    for client in &mut clients {
        assert_eq!(client.next().await, Item::End);
    }
    ferry.stopped().await;
    let log = upstream.log();
    let ended = log.iter().filter(|request| request.method() == "DELETE");
    assert_eq!(ended.count(), 5);
}

#[tokio::test]
async fn a_call_in_flight_finishes_with_everything_it_needs() {
    let (mut upstream, mut ferry, mut client) = scene().await;
    client.send(&call(1, "tools/call")).await;
    let mut events = upstream.expect("POST").await.events().await;
    drain(&mut ferry).await;
    // The server asks the client's model; the answer is posted on a new socket, during the drain.
    let question = json!({"jsonrpc": "2.0", "id": 9, "method": "sampling/createMessage"});
    events.send(&question).await;
    let asked = client.message().await;
    let answer = json!({"jsonrpc": "2.0", "id": asked["id"], "result": {"said": "aye"}});
    client.send(&answer).await;
    let posted = upstream
        .seen("the answer", |request| request.json()["id"] == 9)
        .await;
    assert_eq!(posted.json()["result"]["said"], "aye");
    events.result(&json!({"n": 1})).await;
    events.end().await;
    assert_eq!(client.message().await["result"]["n"], 1);
    client.ended().await;
    ferry.stopped().await;
    let log = upstream.log();
    assert_eq!(log.last().expect("a farewell").method(), "DELETE");
}

#[tokio::test]
async fn new_streams_are_turned_away_by_closing_their_socket() {
    let (_upstream, ferry, mut client, received) = draining().await;
    // Any answer with an error status would make a reconnecting TypeScript client give up for good.
    let mut wire = Wire::connect(ferry.address).await;
    wire.write(&request("GET", "/sse", &[], b"")).await;
    assert_eq!(wire.closed().await, "");
    finishes(received, &mut client).await;
    ferry.stopped().await;
}

#[tokio::test]
async fn new_requests_get_an_error_and_run_nothing() {
    let (mut upstream, ferry, mut client, received) = draining().await;
    client.send(&call(2, "tools/call")).await;
    let error = client.ferry_error(2, "shutting_down", "no").await;
    let text = error["error"]["message"].as_str().expect("text");
    assert!(text.contains("reconnect"), "{text}");
    upstream.assert_quiet();
    finishes(received, &mut client).await;
    ferry.stopped().await;
}

#[tokio::test]
async fn what_is_not_done_in_time_gets_an_error_before_the_clean_end() {
    let mut upstream = Upstream::with_sessions().await;
    let mut ferry = Ferry::start(upstream.url()).await;
    let clock = Clock::stop();
    let mut client = Client::ready(ferry.address).await;
    for id in 1..=2 {
        client.send(&call(id, "tools/call")).await;
    }
    let (first, second) = (upstream.next().await, upstream.next().await.events().await);
    drain(&mut ferry).await;
    clock.advance(Duration::from_secs(19)).await;
    let alive = exchange(ferry.address, "GET", "/healthz", &[], "").await;
    assert_eq!(alive.status(), 200, "20 s are not over");
    clock.advance(Duration::from_secs(1)).await;
    let mut ids = Vec::new();
    loop {
        match client.next().await {
            Item::Message(text) => {
                let error: serde_json::Value = serde_json::from_str(&text).expect("JSON");
                let ferry = &error["error"]["data"]["ferry"];
                assert_eq!(
                    *ferry,
                    json!({"reason": "shutting_down", "executed": "unknown"})
                );
                ids.push(error["id"].as_u64());
            }
            Item::KeepAlive => {}
            Item::End => break,
            Item::Endpoint(_) => panic!("a second endpoint"),
        }
    }
    ids.sort_unstable();
    assert_eq!(ids, [Some(1), Some(2)]);
    first.abandoned().await;
    second.abandoned().await;
    ferry.stopped().await;
    let log = upstream.log();
    let cancels = log
        .iter()
        .filter(|request| request.rpc() == "notifications/cancelled");
    assert_eq!(cancels.count(), 2);
    assert_eq!(log.last().expect("a farewell").method(), "DELETE");
}

#[tokio::test]
async fn an_upstream_that_hangs_does_not_hold_up_the_end() {
    let upstream = Upstream::start(|request| match request.rpc().as_str() {
        "initialize" => Some(Answer::initialize(request, Some("s"))),
        "notifications/initialized" => routine(request),
        _ => None,
    })
    .await;
    let mut ferry = Ferry::start(upstream.url()).await;
    let clock = Clock::stop();
    let mut client = Client::ready(ferry.address).await;
    client.send(&call(1, "tools/call")).await;
    upstream
        .seen("the call", |request| request.rpc() == "tools/call")
        .await;
    drain(&mut ferry).await;
    clock.pass_until("the end", ferry.stopped()).await;
    client.ferry_error(1, "shutting_down", "unknown").await;
    client.ended().await;
}

#[tokio::test]
async fn passed_through_calls_finish_and_listen_streams_do_not_hold_up_the_end() {
    let mut upstream = Upstream::silent().await;
    let mut ferry = Ferry::start(upstream.url()).await;
    let _clock = Clock::stop();
    let mut listening = Wire::connect(ferry.address).await;
    listening.write(&request("GET", "/mcp", &[], b"")).await;
    let stream = upstream.next().await.events().await;
    let mut calling = Wire::connect(ferry.address).await;
    calling.write(&request("POST", "/mcp", &[], b"{}")).await;
    let mut events = upstream.next().await.events().await;
    drain(&mut ferry).await;
    events.raw("data: {}\n\n").await;
    // Others are still let in.
    let later = exchange(ferry.address, "POST", "/mcp", &[], "{}");
    let answer = async { upstream.next().await.answer(Answer::accepted()).await };
    assert_eq!(tokio::join!(later, answer).0.status(), 202);
    events.end().await;
    assert_eq!(calling.response().await.text(), "data: {}\n\n");
    ferry.stopped().await;
    stream.abandoned().await;
}

/// Two worker threads, and many rounds: the last bytes must be written before their socket is given up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_bytes_are_always_written() {
    // More than the kernel holds for a socket whose peer reads slowly.
    let large = "x".repeat(6 << 20);
    for _ in 0..30 {
        let mut upstream = Upstream::stateless().await;
        let mut ferry = Ferry::start(upstream.url()).await;
        let mut client = Client::ready(ferry.address).await;
        let mut idle = Client::open(ferry.address).await;
        client.send(&call(1, "tools/call")).await;
        let received = upstream.expect("POST").await;
        let mut passed = Wire::connect(ferry.address).await;
        socket2::SockRef::from(&passed.socket)
            .set_recv_buffer_size(64 << 10)
            .expect("a buffer size");
        let body = call(2, "tools/call").to_string();
        passed
            .write(&request("POST", "/mcp", &[], body.as_bytes()))
            .await;
        let passing = upstream.expect("POST").await;
        ferry.drain();
        let pad = "x".repeat(100_000);
        let result = json!({ "pad": pad });
        let answers = async {
            tokio::join!(
                received.result(&result),
                passing.answer(Answer::new(200, &[], &large)),
            )
        };
        let reads = async {
            assert_eq!(client.message().await["result"]["pad"], pad);
            client.ended().await;
            idle.ended().await;
            assert_eq!(passed.response().await.body.len(), large.len());
        };
        tokio::join!(answers, reads, ferry.stopped());
    }
}
