//! `/mcp`: what newer clients send and get crosses byte for byte; only what ends at a hop and where a request came from
//! are the ferry's to change.

use std::collections::BTreeSet;

use bytes::Bytes;
use mcp_ferry::config::Admin;

use crate::support::ferry::Ferry;
use crate::support::http::{Head, Wire, chunk, exchange, request};
use crate::support::upstream::{Answer, Upstream};

/// Bytes without a pattern that a codec could profit from, the same in every run.
fn noise(size: usize) -> Bytes {
    let mut state: u64 = 0x9e37_79b9_7f4a_7c15;
    let step = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[0]
    });
    step.take(size).collect()
}

/// Watched, every piece of every body goes by the tap; nothing of what crosses may differ for that.
async fn ferry_before(upstream: &Upstream, watched: bool) -> Ferry {
    Ferry::with(upstream.url(), |config| {
        config.admin = watched.then(|| Admin {
            listen: ([127, 0, 0, 1], 0).into(),
            allow_remote: false,
            token: None,
        });
    })
    .await
}

/// Headers as a set of lines, those in `without` left out.
fn lines(head: &Head, without: &[&str]) -> BTreeSet<String> {
    head.headers
        .iter()
        .map(|(name, value)| (name.to_ascii_lowercase(), value))
        .filter(|(name, _)| !without.contains(&name.as_str()))
        .map(|(name, value)| format!("{name}: {value}"))
        .collect()
}

fn set(lines: &[&str]) -> BTreeSet<String> {
    lines.iter().map(|line| (*line).to_owned()).collect()
}

const FORWARDING: [&str; 4] = [
    "host",
    "x-forwarded-for",
    "x-forwarded-proto",
    "x-forwarded-host",
];

#[tokio::test]
async fn any_method_crosses_with_its_headers_query_and_body() {
    crossing_any_method(false).await;
    crossing_any_method(true).await;
}

async fn crossing_any_method(watched: bool) {
    let upstream = Upstream::start(|_| Some(Answer::new(200, &[], "done"))).await;
    let ferry = ferry_before(&upstream, watched).await;
    let headers = [
        ("Accept", "application/json, text/event-stream"),
        ("Content-Type", "application/json"),
        ("MCP-Protocol-Version", "2026-07-28"),
        ("Mcp-Method", "tools/call"),
        ("Mcp-Name", "=?base64?5pel5pys?="),
        ("Mcp-Param-Region", "eu west"),
        ("Mcp-Session-Id", "s-1"),
        ("Last-Event-ID", "7"),
        ("Origin", "http://localhost:6274"),
        ("Authorization", "Bearer t"),
        ("Cookie", "a=1; b=2"),
        ("Accept-Encoding", "gzip, br"),
        ("User-Agent", "new-client/1"),
        ("X-Any", "one"),
        ("X-Any", "two"),
    ];
    let expected: Vec<String> = headers
        .iter()
        .map(|(name, value)| format!("{}: {value}", name.to_ascii_lowercase()))
        .collect();
    for method in ["POST", "GET", "DELETE", "PUT", "PATCH", "OPTIONS", "PURGE"] {
        let body = if method == "GET" {
            ""
        } else {
            r#"{ "a" : 1.0 }"#
        };
        let target = "/mcp?key=a%20b&flag";
        let answered = exchange(ferry.address, method, target, &headers, body).await;
        assert_eq!((answered.status(), answered.text()), (200, "done"));
        let log = upstream.log();
        let received = log.last().expect("a request");
        assert_eq!(received.head.start, format!("{method} {target} HTTP/1.1"));
        assert_eq!(received.text(), body);
        let skipped = [&FORWARDING[..], &["content-length"]].concat();
        let seen = lines(&received.head, &skipped);
        assert_eq!(seen, expected.iter().cloned().collect(), "{method}");
        let own = upstream.address.to_string();
        assert_eq!(received.header("host"), Some(own.as_str()));
        assert_eq!(received.header("x-forwarded-for"), Some("127.0.0.1"));
    }
    ferry.stop().await;
}

#[tokio::test]
async fn any_status_comes_back_with_its_headers_and_body() {
    crossing_any_status(false).await;
    crossing_any_status(true).await;
}

async fn crossing_any_status(watched: bool) {
    let mut upstream = Upstream::silent().await;
    let ferry = ferry_before(&upstream, watched).await;
    for status in [
        200, 201, 202, 204, 400, 401, 404, 405, 406, 418, 429, 500, 503,
    ] {
        let headers = [
            ("Content-Type", "application/json"),
            ("Content-Encoding", "gzip"),
            ("Mcp-Session-Id", "s-1"),
            ("WWW-Authenticate", r#"Bearer realm="a, b""#),
            ("WWW-Authenticate", "Basic"),
            ("Set-Cookie", "a=1; Path=/"),
            ("Set-Cookie", "b=2"),
            ("Allow", "POST"),
            ("Cache-Control", "no-store"),
            ("Date", "Fri, 20 Nov 2026 12:00:00 GMT"),
            ("Server", "scripted"),
        ];
        let body = if status == 204 { "" } else { "not really gzip" };
        let answer = async {
            let call = upstream.next().await;
            call.answer(Answer::new(status, &headers, body)).await;
        };
        let asked = exchange(ferry.address, "POST", "/mcp", &[], "{}");
        let ((), answered) = tokio::join!(answer, asked);
        assert_eq!((answered.status(), answered.text()), (status, body));
        let expected: Vec<String> = headers
            .iter()
            .map(|(name, value)| format!("{}: {value}", name.to_ascii_lowercase()))
            .collect();
        let seen = lines(&answered.head, &["content-length"]);
        assert_eq!(seen, expected.into_iter().collect(), "{status}");
    }
    ferry.stop().await;
}

#[tokio::test]
async fn large_bodies_cross_byte_for_byte_both_ways_however_framed() {
    crossing_large_bodies(false).await;
    crossing_large_bodies(true).await;
}

async fn crossing_large_bodies(watched: bool) {
    let upstream = Upstream::start(|request| {
        let coding = [("Content-Encoding", "gzip")];
        Some(Answer::new(200, &coding, &request.body))
    })
    .await;
    let ferry = ferry_before(&upstream, watched).await;
    let body = noise(5 << 20);
    let answered = exchange(ferry.address, "POST", "/mcp", &[], &body).await;
    assert!(answered.body == body, "with a length");
    assert_eq!(answered.header("content-encoding"), Some("gzip"));
    assert_eq!(answered.header("content-length"), Some("5242880"));

    let mut wire = Wire::connect(ferry.address).await;
    let chunked = [
        ("Transfer-Encoding", "chunked"),
        ("Content-Encoding", "gzip"),
    ];
    wire.write(&request("POST", "/mcp", &chunked, b"")).await;
    for part in body.chunks(99_991) {
        wire.write(&chunk(part)).await;
    }
    wire.write(b"0\r\n\r\n").await;
    let answered = wire.response().await;
    assert!(answered.body == body, "chunked");
    let log = upstream.log();
    assert_eq!(log[1].header("content-encoding"), Some("gzip"));
    assert_eq!(log[1].header("transfer-encoding"), Some("chunked"));
    ferry.stop().await;
}

#[tokio::test]
async fn hop_by_hop_headers_end_at_the_ferry_both_ways() {
    crossing_hop_by(false).await;
    crossing_hop_by(true).await;
}

async fn crossing_hop_by(watched: bool) {
    let mut upstream = Upstream::silent().await;
    let ferry = ferry_before(&upstream, watched).await;
    let hops = [
        ("Connection", "keep-alive, X-Hop"),
        ("Keep-Alive", "timeout=5"),
        ("X-Hop", "1"),
        ("TE", "trailers"),
        ("Trailer", "X-T"),
        ("Upgrade", "h2c"),
        ("Proxy-Connection", "keep-alive"),
        ("X-End", "1"),
    ];
    let answer = async {
        let call = upstream.next().await;
        let seen = lines(&call.request.head, &FORWARDING);
        assert_eq!(seen, set(&["content-length: 2", "x-end: 1"]));
        call.answer(Answer::new(200, &hops, "{}")).await;
    };
    let asked = exchange(ferry.address, "POST", "/mcp", &hops, "{}");
    let ((), answered) = tokio::join!(answer, asked);
    let seen = lines(&answered.head, &["date"]);
    assert_eq!(seen, set(&["content-length: 2", "x-end: 1"]));
    for named in [
        "authorization",
        "Mcp-Session-Id",
        "mcp-method",
        "host",
        "content-length",
    ] {
        let headers = [("Connection", named), ("Authorization", "Bearer t")];
        let refused = exchange(ferry.address, "POST", "/mcp", &headers, "{}").await;
        assert_eq!(refused.status(), 400, "{named}");
    }
    assert_eq!(upstream.log().len(), 1);
    ferry.stop().await;
}
