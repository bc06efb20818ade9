//! What upstreams should not answer: each mistake becomes one error for the request it answers, with what a person can
//! do about it; the connection goes on, and other clients notice nothing.

use serde_json::json;

use crate::support::client::{Client, call};
use crate::support::ferry::Ferry;
use crate::support::upstream::{Answer, Upstream};

/// A ferry with two clients: the one that meets the trouble, and a neighbour.
struct Scene {
    upstream: Upstream,
    ferry: Ferry,
    client: Client,
    neighbour: Client,
}

impl Scene {
    async fn new() -> Self {
        let upstream = Upstream::with_sessions().await;
        let ferry = Ferry::with(upstream.url(), |config| {
            config.limits.max_message = 1 << 20;
        })
        .await;
        Self {
            client: Client::ready(ferry.address).await,
            neighbour: Client::ready(ferry.address).await,
            upstream,
            ferry,
        }
    }

    /// Both clients still work.
    async fn goes_on(&mut self) {
        for client in [&mut self.client, &mut self.neighbour] {
            client.send(&call(77, "tools/call")).await;
            self.upstream.expect("POST").await.result(&json!({})).await;
            let answer = client.message().await;
            assert_eq!(answer, json!({"jsonrpc": "2.0", "id": 77, "result": {}}));
        }
    }

    async fn end(self) {
        drop((self.client, self.neighbour));
        self.ferry.quiet().await;
        self.ferry.stop().await;
    }
}

#[tokio::test]
async fn a_body_that_is_no_answer_is_an_error_for_its_request_alone() {
    const JSON: &str = "application/json";
    const EVENTS: &str = "text/event-stream";
    let (invalid, nothing, large) = (
        "upstream_invalid",
        "upstream_no_response",
        "message_too_large",
    );
    let html = "<!doctype html><title>nginx</title>";
    let deep = "[".repeat(1_000_000);
    let deep_result = format!(
        r#"{{"jsonrpc":"2.0","id":1,"result":{deep}{}}}"#,
        "]".repeat(1_000_000)
    );
    let deep_event = format!("data: {}\n\n", "[".repeat(1_000_000));
    let long = "x".repeat(1 << 20);
    let long_result = format!(r#"{{"jsonrpc":"2.0","id":1,"result":"{long}"}}"#);
    let long_event = format!("data: {long_result}\n\n");
    let mut scene = Scene::new().await;
    for (kind, body, reason) in [
        ("text/html; charset=utf-8", html, invalid),
        ("text/plain", "{}", invalid),
        ("application/octet-stream", "{}", invalid),
        (JSON, html, invalid),
        (JSON, "", nothing),
        (JSON, "  \n", nothing),
        (JSON, "{", invalid),
        (JSON, "null", invalid),
        (JSON, "{}", invalid),
        (JSON, r#"{"jsonrpc":"2.0","id":1}"#, invalid),
        (JSON, r#"{"jsonrpc":"2.0","id":2,"result":{}}"#, nothing),
        (JSON, r#"{"jsonrpc":"2.0","id":"1","result":{}}"#, nothing),
        (
            JSON,
            r#"{"jsonrpc":"2.0","method":"notifications/x"}"#,
            nothing,
        ),
        (JSON, "[]", nothing),
        (EVENTS, "", nothing),
        (EVENTS, ": nothing\n\n", nothing),
        (EVENTS, "data: {\n\n", invalid),
        (
            EVENTS,
            "event: other\ndata: {\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{}}\n\n",
            nothing,
        ),
        ("application/json-lines", "{\n}\n", invalid),
        (JSON, &deep, invalid),
        (JSON, &deep_result, large),
        (EVENTS, &deep_event, invalid),
        (JSON, &long_result, large),
        (EVENTS, &long_event, large),
        ("application/x-ndjson", &long_result, large),
    ] {
        scene.client.send(&call(1, "tools/call")).await;
        let answer = Answer::new(200, &[("Content-Type", kind)], body);
        let received = scene.upstream.expect("POST").await;
        let shown = format!("{kind}: {body:.60}");
        // The ferry need not read to the end what is too large.
        let answering = tokio::task::spawn(received.answer(answer));
        let message = scene.client.text().await;
        if message.contains("notifications/x") {
            let error = scene.client.message().await;
            assert_eq!(error["error"]["data"]["ferry"]["reason"], reason, "{shown}");
        } else {
            let error: serde_json::Value = serde_json::from_str(&message).expect("JSON");
            assert_eq!(error["id"], 1, "{shown}: {error}");
            let ferry = &error["error"]["data"]["ferry"];
            assert_eq!(ferry["reason"], reason, "{shown}: {error}");
            assert_eq!(ferry["executed"], "unknown", "{shown}: {error}");
        }
        answering.abort();
        scene.goes_on().await;
    }
    scene.end().await;
}

#[tokio::test]
async fn nonsense_before_the_answer_is_passed_over() {
    let mut scene = Scene::new().await;
    scene.client.send(&call(1, "tools/call")).await;
    let mut events = scene.upstream.expect("POST").await.events().await;
    events.raw("data: nonsense\n\ndata: {}\n\nid: 1\n\n").await;
    events
        .raw(format!("data: {}\n\n", "y".repeat(2 << 20)))
        .await;
    events
        .send(&json!({"jsonrpc": "2.0", "id": 99, "result": {"to": "nobody"}}))
        .await;
    events.result(&json!({"n": 1})).await;
    // A second answer is dropped.
    events.result(&json!({"n": 2})).await;
    events.end().await;
    assert_eq!(scene.client.message().await["result"]["n"], 1);
    scene.goes_on().await;
    scene.end().await;
}

#[tokio::test]
async fn an_answer_to_nothing_but_202_is_an_error() {
    let mut scene = Scene::new().await;
    for status in [202, 204] {
        scene.client.send(&call(1, "tools/call")).await;
        let answer = Answer::new(status, &[], "");
        scene.upstream.expect("POST").await.answer(answer).await;
        scene
            .client
            .ferry_error(1, "upstream_no_response", "unknown")
            .await;
        scene.goes_on().await;
    }
    scene.end().await;
}

#[tokio::test]
async fn a_compressed_answer_that_was_not_asked_for_is_an_error() {
    let mut scene = Scene::new().await;
    scene.client.send(&call(1, "tools/call")).await;
    let headers = [
        ("Content-Type", "application/json"),
        ("Content-Encoding", "gzip"),
    ];
    let answer = Answer::new(200, &headers, b"\x1f\x8b\x08");
    scene.upstream.expect("POST").await.answer(answer).await;
    let error = scene
        .client
        .ferry_error(1, "upstream_invalid", "unknown")
        .await;
    assert!(error.to_string().contains("gzip"), "{error}");
    scene.goes_on().await;
    scene.end().await;
}

#[tokio::test]
async fn what_is_not_http_is_an_error() {
    let mut scene = Scene::new().await;
    let endless = format!("HTTP/1.1 200 OK\r\nX: {}", "x".repeat(1 << 20));
    for bytes in [
        "SSH-2.0-OpenSSH_9\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        "HTTP/9.9 200 OK\r\n\r\n",
        &endless,
    ] {
        scene.client.send(&call(1, "tools/call")).await;
        let mut received = scene.upstream.expect("POST").await;
        received.offer(bytes).await;
        scene
            .client
            .ferry_error(1, "upstream_lost", "unknown")
            .await;
        drop(received);
        scene.goes_on().await;
    }
    scene.end().await;
}

#[tokio::test]
async fn a_second_answer_on_one_connection_answers_nobody() {
    let mut scene = Scene::new().await;
    let body = |n: u64| format!(r#"{{"jsonrpc":"2.0","id":1,"result":{n}}}"#);
    let answer = |n: u64| {
        let (body, kind) = (body(n), "Content-Type: application/json");
        format!(
            "HTTP/1.1 200 OK\r\n{kind}\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
    };
    scene.client.send(&call(1, "tools/call")).await;
    let mut received = scene.upstream.expect("POST").await;
    received.write(answer(1) + &answer(2)).await;
    assert_eq!(scene.client.message().await["result"], 1);
    // The next requests, with the same id, get their own answers.
    scene.neighbour.send(&call(1, "tools/call")).await;
    let next = scene.upstream.expect("POST").await;
    next.result(&json!(3)).await;
    assert_eq!(scene.neighbour.message().await["result"], 3);
    drop(received);
    scene.goes_on().await;
    scene.end().await;
}
