//! Complaints about one call: an answer that never reaches its caller, comes too late, is too large or taken back.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::client::{Client, call, initialize, post};
use crate::support::clock::{Clock, within};
use crate::support::ferry::Ferry;
use crate::support::http::exchange;
use crate::support::scene::scene;
use crate::support::upstream::{Answer, Upstream};

const MINUTE: Duration = Duration::from_secs(60);

fn cancelled(id: u64) -> Value {
    let method = "notifications/cancelled";
    json!({"jsonrpc": "2.0", "method": method, "params": {"requestId": id}})
}

/// modelcontextprotocol/python-sdk#906: a POST that is not 2xx never reaches the caller that waits, and ends the
/// client's writer.
#[tokio::test]
async fn c04_every_failure_of_the_upstream_reaches_the_caller_that_waits() {
    let mut upstream = Upstream::with_sessions().await;
    let ferry = Ferry::start(upstream.url()).await;
    let clock = Clock::stop();
    let mut client = Client::ready(ferry.address).await;
    let html = ("Content-Type", "text/html");
    // Each POST gets its 202 in `send`, each id its error on the stream.
    for (id, status) in (1..).zip([400, 405, 413, 422, 429, 500, 502, 503, 504, 403]) {
        client.send(&call(id, "tools/call")).await;
        let refusal = Answer::new(status, &[html], "<h1>no</h1>");
        upstream.expect("POST").await.answer(refusal).await;
        let message = client.message().await;
        assert_eq!(message["id"], json!(id), "{message}");
        let ferry = &message["error"]["data"]["ferry"];
        assert_eq!(ferry["status"], json!(status), "{message}");
    }
    // The 403 put the credential into doubt; this takes it out again.
    client.handshake().await;

    let half = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n{";
    let json = [("Content-Type", "application/json")];
    for (id, reason) in (20..).zip(["lost", "lost", "cut", "invalid", "invalid"]) {
        client.send(&call(id, "tools/call")).await;
        let mut received = upstream.expect("POST").await;
        match id {
            20 => received.reset(),
            21 => drop(received),
            22 => {
                received.write(half).await;
                drop(received);
            }
            23 => received.answer(Answer::new(200, &json, "{nonsense")).await,
            _ => received.answer(Answer::new(200, &[html], "<p>")).await,
        }
        let reason = format!("upstream_{reason}");
        client.ferry_error(id, &reason, "unknown").await;
    }

    upstream.die().await;
    client.send(&call(30, "tools/call")).await;
    let error = client.ferry_error(30, "upstream_unreachable", "no");
    clock.pass_until("the error", error).await;
    ferry.stop_after_a_while(client, &clock).await;
}

/// mark3labs/mcp-go#162: the POST is held until the tool is done, and the ingress cuts it at 60 s.
#[tokio::test]
async fn c05_a_post_is_answered_long_before_the_tool_is_done() {
    let mut upstream = Upstream::silent().await;
    let ferry = Ferry::start(upstream.url()).await;
    let clock = Clock::stop();
    let mut client = Client::open(ferry.address).await;
    // Even `initialize`, whose status may still be a 401, is not held for longer than 3 s.
    let posted = tokio::task::spawn({
        let (address, endpoint) = (client.address, client.endpoint.clone());
        async move { post(address, &endpoint, &[], initialize().to_string()).await }
    });
    let waking = upstream.expect("POST").await;
    clock.advance(Duration::from_secs(3)).await;
    let answered = within("the status", posted).await.expect("no panic");
    assert_eq!(answered.status(), 202);
    clock.advance(2 * MINUTE).await;
    let answer = Answer::initialize(&waking.request, None);
    waking.answer(answer).await;
    assert_eq!(client.message().await["id"], 0);

    // From then on no time passes at all before the 202, which `send` demands.
    client.send(&call(1, "tools/call")).await;
    let running = upstream.expect("POST").await;
    clock.advance(2 * MINUTE).await;
    running.result(&json!({"took": "2 minutes"})).await;
    assert_eq!(client.message().await["result"]["took"], "2 minutes");
    client.leave();
    ferry.stop().await;
}

/// PrefectHQ/fastmcp#4124: a cancel is not sent on, or queues behind the call that it cancels, or names another id.
#[tokio::test]
async fn c15_a_cancel_overtakes_its_call_and_names_it() {
    let (mut upstream, ferry, mut client) = scene().await;
    client.send(&call(7, "tools/call")).await;
    let running = upstream.expect("POST").await;
    client.send(&cancelled(7)).await;
    // The call has no answer and gets none, and still the cancel is there.
    let cancel = upstream
        .seen("the cancel", |request| {
            request.rpc() == "notifications/cancelled"
        })
        .await;
    assert_eq!(cancel.json(), cancelled(7));
    assert_eq!(cancel.header("mcp-session-id"), Some("session-1"));
    running.abandoned().await;
    // The cancelled call has no answer; the stream goes on with the next.
    client.send(&call(8, "tools/call")).await;
    upstream.expect("POST").await.result(&json!({})).await;
    assert_eq!(client.message().await["id"], 8);
    client.leave();
    ferry.stop().await;
}

/// PrefectHQ/fastmcp#4124: what a client had in flight runs on when the client has gone.
#[tokio::test]
async fn c15_a_client_that_goes_takes_its_calls_with_it() {
    let (mut upstream, ferry, client) = scene().await;
    let mut running = Vec::new();
    for id in 1..=3 {
        client.send(&call(id, "tools/call")).await;
        running.push(upstream.expect("POST").await);
    }
    client.leave();
    for call in running {
        call.abandoned().await;
    }
    ferry.quiet().await;
    let log = upstream.log();
    let cancel = |request: &&std::sync::Arc<_>| is_cancel(request);
    let of = log.iter().filter(cancel);
    let mut of: Vec<Value> = of
        .map(|request| request.json()["params"]["requestId"].clone())
        .collect();
    of.sort_by_key(Value::as_u64);
    assert_eq!(of, [json!(1), json!(2), json!(3)]);
    ferry.stop().await;
}

fn is_cancel(request: &crate::support::upstream::Received) -> bool {
    request.rpc() == "notifications/cancelled"
}

/// envoyproxy/ai-gateway#2219: only the first event of the answer to `initialize` is read, and that one is empty.
#[tokio::test]
async fn c17_the_answer_to_initialize_may_come_after_other_events() {
    let mut upstream = Upstream::silent().await;
    let ferry = Ferry::start(upstream.url()).await;
    let mut client = Client::open(ferry.address).await;
    let posted = client.post(initialize().to_string());
    let answering = async {
        let received = upstream.expect("POST").await;
        let headers = [
            ("Content-Type", "text/event-stream"),
            ("Mcp-Session-Id", "s"),
        ];
        let mut events = received.events_with(&headers).await;
        events.raw(": welcome\n\n").await;
        events.raw("id: 1\nretry: 1000\ndata:\n\n").await;
        events.raw("event: message\ndata: \n\n").await;
        let note = json!({"jsonrpc": "2.0", "method": "notifications/message", "params": {}});
        events.send(&note).await;
        let result = json!({"protocolVersion": "2025-06-18", "capabilities": {}});
        events.result(&result).await;
        events.end().await;
    };
    let (answered, ()) = tokio::join!(posted, answering);
    assert_eq!(answered.status(), 202);
    assert_eq!(client.message().await["method"], "notifications/message");
    let answer = client.message().await;
    assert_eq!(answer["id"], 0);
    assert!(answer["result"]["capabilities"].is_object(), "{answer}");
    client.send(&call(1, "tools/list")).await;
    let received = upstream.expect("POST").await;
    let request = &received.request;
    assert_eq!(request.header("mcp-session-id"), Some("s"));
    assert_eq!(request.header("mcp-protocol-version"), Some("2025-06-18"));
    received.result(&json!({})).await;
    assert_eq!(client.message().await["id"], 1);
    client.leave();
    upstream.expect("DELETE").await.result(&json!({})).await;
    ferry.quiet().await;
    ferry.stop().await;
}

/// stacklok/toolhive#4061: whatever takes longer than 30 s is given up.
#[tokio::test]
async fn c19_a_tool_that_takes_ten_minutes_is_waited_for() {
    let mut upstream = Upstream::with_sessions().await;
    let ferry = Ferry::start(upstream.url()).await;
    let clock = Clock::stop();
    let mut client = Client::ready(ferry.address).await;
    client.send(&call(1, "tools/call")).await;
    let translated = upstream.expect("POST").await;
    let address = ferry.address;
    let passed = tokio::task::spawn(async move {
        let json = [("Content-Type", "application/json")];
        exchange(address, "POST", "/mcp", &json, call(2, "x").to_string()).await
    });
    let passing = upstream.expect("POST").await;
    // Neither has so much as a head yet.
    for _ in 0..10 {
        clock.advance(MINUTE).await;
    }
    translated.result(&json!({"took": "10 minutes"})).await;
    assert_eq!(client.message().await["result"]["took"], "10 minutes");
    passing.result(&json!({"took": "10 minutes"})).await;
    let answered = within("the answer", passed).await.expect("no panic");
    assert_eq!(answered.json()["result"]["took"], "10 minutes");
    client.leave();
    ferry.stop().await;
}

/// gravitational/teleport#67000: lines are read with a cap of 64 KiB or 1 MiB; a larger result ends the session.
#[tokio::test]
async fn c20_a_line_of_almost_32_mib_passes_and_a_longer_one_is_an_error() {
    const LIMIT: usize = 32 << 20;
    let (mut upstream, ferry, mut client) = scene().await;
    let with = |length: usize| {
        let text = "x".repeat(length);
        format!("data: {{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{{\"text\":\"{text}\"}}}}\n\n")
    };
    client.send(&call(1, "tools/call")).await;
    let mut events = upstream.expect("POST").await.events().await;
    let written = async {
        events.raw(with(LIMIT - 100)).await;
        events.end().await;
    };
    let ((), text) = tokio::join!(written, client.text());
    assert_eq!(text.len(), with(LIMIT - 100).len() - "data: \n\n".len());

    client.send(&call(1, "tools/call")).await;
    let mut events = upstream.expect("POST").await.events().await;
    let written = async {
        events.raw(with(LIMIT)).await;
        events.end().await;
    };
    let error = client.ferry_error(1, "message_too_large", "unknown");
    tokio::join!(written, error);
    // The session goes on.
    client.send(&call(1, "tools/call")).await;
    upstream.expect("POST").await.result(&json!({})).await;
    assert_eq!(client.message().await["id"], 1);
    client.leave();
    ferry.stop().await;
}
