//! `POST /messages`: which status it gets and when, and what the upstream sees of it.

use std::time::Duration;

use serde_json::json;

use crate::support::client::{Client, call, post};
use crate::support::clock::{Clock, within};
use crate::support::ferry::Ferry;
use crate::support::http::{Response, Wire, chunk, exchange, request};
use crate::support::scene::scene;
use crate::support::upstream::Upstream;

const SECOND: Duration = Duration::from_secs(1);

/// A refusal of the ferry's own: plain text that says what to do, and nothing that looks like JSON-RPC.
fn refused(answered: &Response, status: u16, says: &str) {
    assert_eq!(answered.status(), status, "{answered:?}");
    let kind = answered.header("content-type");
    assert_eq!(kind, Some("text/plain; charset=utf-8"));
    let text = answered.text();
    assert!(
        text.starts_with("mcp-ferry: ") && text.contains(says),
        "{text}"
    );
}

#[tokio::test]
async fn a_post_without_a_connection_id_gets_400() {
    let upstream = Upstream::silent().await;
    let ferry = Ferry::start(upstream.url()).await;
    for target in ["/messages", "/messages?", "/messages?session=x"] {
        let answered = post(ferry.address, target, &[], call(1, "ping").to_string()).await;
        refused(&answered, 400, "sessionId");
    }
    ferry.stop().await;
}

#[tokio::test]
async fn unknown_foreign_malformed_and_gone_ids_get_the_same_404() {
    let upstream = Upstream::silent().await;
    let (ferry, other) = (
        Ferry::start(upstream.url()).await,
        Ferry::start(upstream.url()).await,
    );
    let foreign = Client::open(other.address).await;
    let client = Client::open(ferry.address).await;
    let gone = client.endpoint.clone();
    client.leave();
    ferry.quiet().await;
    let unknown = format!("/messages?sessionId={}", "0".repeat(64));
    let mut answers = Vec::new();
    for target in [
        unknown.as_str(),
        &foreign.endpoint,
        &gone,
        &gone[..gone.len() - 1],
        "/messages?sessionId=",
        "/messages?sessionId=..%2f",
    ] {
        let answered = post(ferry.address, target, &[], call(1, "ping").to_string()).await;
        refused(&answered, 404, "Open a new one");
        answers.push(answered.body);
    }
    assert!(answers.windows(2).all(|pair| pair[0] == pair[1]));
    assert!(upstream.log().is_empty());
    foreign.leave();
    other.stop().await;
    ferry.stop().await;
}

#[tokio::test]
async fn an_id_is_known_under_every_name_that_clients_use() {
    let upstream = Upstream::echo().await;
    let ferry = Ferry::start(upstream.url()).await;
    let mut client = Client::ready(ferry.address).await;
    for name in ["sessionId", "session_id", "sessionid"] {
        let target = format!("/messages?{name}={}&other=1", client.id());
        let answered = post(ferry.address, &target, &[], call(1, "ping").to_string()).await;
        assert_eq!(answered.status(), 202);
        assert_eq!(client.message().await["result"]["method"], "ping");
    }
    client.leave();
    ferry.stop().await;
}

#[tokio::test]
async fn other_methods_get_405_with_allow() {
    let upstream = Upstream::silent().await;
    let ferry = Ferry::start(upstream.url()).await;
    let client = Client::open(ferry.address).await;
    for (method, target, allow) in [
        ("GET", client.endpoint.as_str(), "POST"),
        ("PUT", &client.endpoint, "POST"),
        ("DELETE", "/messages", "POST"),
        ("DELETE", "/sse", "GET, POST"),
        ("PUT", "/sse", "GET, POST"),
    ] {
        let answered = exchange(ferry.address, method, target, &[], "").await;
        refused(&answered, 405, allow);
        assert_eq!(answered.header("allow"), Some(allow), "{method} {target}");
    }
    assert!(upstream.log().is_empty());
    client.leave();
    ferry.stop().await;
}

#[tokio::test]
async fn other_content_types_get_415_and_nothing_goes_upstream() {
    let upstream = Upstream::silent().await;
    let ferry = Ferry::start(upstream.url()).await;
    let client = Client::open(ferry.address).await;
    let ping = call(1, "ping").to_string();
    for wrong in [
        // The three that a web page can send to another origin without asking.
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/jsonx",
        "",
    ] {
        let answered = client.post_with(&[("Content-Type", wrong)], &ping).await;
        refused(&answered, 415, "application/json");
    }
    let gzip = [
        ("Content-Type", "application/json"),
        ("Content-Encoding", "gzip"),
    ];
    refused(&client.post_with(&gzip, &ping).await, 415, "encoded");
    assert!(upstream.log().is_empty());
    client.leave();
    ferry.stop().await;
}

#[tokio::test]
async fn a_body_over_the_limit_gets_413_however_it_is_framed() {
    let mut upstream = Upstream::with_sessions().await;
    let ferry = Ferry::with(upstream.url(), |config| {
        config.limits.max_request_body = 1000;
    })
    .await;
    let mut client = Client::ready(ferry.address).await;
    let json = ("Content-Type", "application/json");
    let says = "--max-request-body";

    // A length that says so: refused before a byte of it is sent.
    let mut wire = Wire::connect(ferry.address).await;
    let headers = [json, ("Content-Length", "1001")];
    wire.write(&request("POST", &client.endpoint, &headers, b""))
        .await;
    refused(&wire.response().await, 413, says);

    // No length: refused once there is too much, without waiting for the end.
    let mut wire = Wire::connect(ferry.address).await;
    let headers = [json, ("Transfer-Encoding", "chunked")];
    wire.write(&request("POST", &client.endpoint, &headers, b""))
        .await;
    for _ in 0..3 {
        wire.write(&chunk(&[b' '; 400])).await;
    }
    refused(&wire.response().await, 413, says);

    // What just fits is taken, chunked or not.
    let fits = format!("{:<1000}", call(1, "tools/list").to_string());
    assert_eq!(client.post(&fits).await.status(), 202);
    upstream.expect("POST").await.result(&json!({})).await;
    assert_eq!(client.message().await["id"], 1);
    let mut wire = Wire::connect(ferry.address).await;
    wire.write(&request("POST", &client.endpoint, &headers, b""))
        .await;
    for part in fits.as_bytes().chunks(333) {
        wire.write(&chunk(part)).await;
    }
    wire.write(b"0\r\n\r\n").await;
    assert_eq!(wire.response().await.status(), 202);
    let received = upstream.expect("POST").await;
    assert_eq!(received.request.text(), fits.trim_end());
    received.result(&json!({})).await;
    assert_eq!(client.message().await["id"], 1);
    client.leave();
    ferry.stop().await;
}

#[tokio::test]
async fn a_body_that_does_not_arrive_is_given_up_after_body_timeout() {
    let upstream = Upstream::silent().await;
    let ferry = Ferry::start(upstream.url()).await;
    let clock = Clock::stop();
    let client = Client::open(ferry.address).await;
    let mut wire = Wire::connect(ferry.address).await;
    let headers = [
        ("Content-Type", "application/json"),
        ("Content-Length", "50"),
        ("Expect", "100-continue"),
    ];
    wire.write(&request("POST", &client.endpoint, &headers, b"{"))
        .await;
    // Says that the ferry waits for the body.
    let interim = within("100 Continue", wire.head()).await.expect("a head");
    assert_eq!(interim.status(), 100);
    clock.advance(30 * SECOND).await;
    refused(&wire.response().await, 408, "--body-timeout");
    assert!(wire.closed().await.is_empty());
    client.leave();
    ferry.stop().await;
}

#[tokio::test]
async fn a_post_in_one_piece_may_ask_to_continue_first() {
    let (mut upstream, ferry, mut client) = scene().await;
    let body = call(1, "tools/list").to_string();
    let length = body.len().to_string();
    let headers = [
        ("Content-Type", "application/json"),
        ("Content-Length", length.as_str()),
        ("Expect", "100-continue"),
    ];
    let mut wire = Wire::connect(ferry.address).await;
    wire.write(&request("POST", &client.endpoint, &headers, b""))
        .await;
    let interim = within("100 Continue", wire.head()).await.expect("a head");
    assert_eq!(interim.status(), 100);
    wire.write(body.as_bytes()).await;
    assert_eq!(wire.response().await.status(), 202);
    upstream.expect("POST").await.result(&json!({})).await;
    assert_eq!(client.message().await["id"], 1);
    client.leave();
    ferry.stop().await;
}

#[tokio::test]
async fn more_streams_than_max_connections_get_503_and_the_others_go_on() {
    let mut upstream = Upstream::with_sessions().await;
    let ferry = Ferry::with(upstream.url(), |config| config.limits.max_connections = 2).await;
    let mut first = Client::ready(ferry.address).await;
    let second = Client::open(ferry.address).await;
    for _ in 0..3 {
        let full = exchange(ferry.address, "GET", "/sse", &[], "").await;
        refused(&full, 503, "--max-connections");
        assert_eq!(full.header("retry-after"), Some("1"));
    }
    first.send(&call(1, "tools/list")).await;
    upstream.expect("POST").await.result(&json!({})).await;
    assert_eq!(first.message().await["id"], 1);
    second.leave();
    ferry
        .until("a free place", |ferry| ferry.open_connections() == 1)
        .await;
    let mut third = Client::ready(ferry.address).await;
    third.send(&call(1, "tools/list")).await;
    upstream.expect("POST").await.result(&json!({})).await;
    assert_eq!(third.message().await["id"], 1);
    drop((first, third));
    ferry.quiet().await;
    ferry.stop().await;
}
