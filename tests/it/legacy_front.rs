//! The wire contract of a legacy client's stream, looked at byte by byte: what each known client forces.

use std::io::{Read, Write};
use std::time::Duration;

use bytes::Bytes;
use serde_json::json;

use crate::support::client::{Client, Item, call, initialize, post};
use crate::support::clock::within;
use crate::support::ferry::Ferry;
use crate::support::http::{Wire, exchange, request};
use crate::support::scene::scene;
use crate::support::upstream::{Answer, Upstream, routine};

const SECOND: Duration = Duration::from_secs(1);

/// What a second thread reads first from a fresh stream.
async fn first_read(address: std::net::SocketAddr) -> Bytes {
    let read = move || {
        let mut socket = std::net::TcpStream::connect(address).expect("connect");
        socket
            .set_read_timeout(Some(10 * SECOND))
            .expect("a time limit");
        socket
            .write_all(&request("GET", "/sse", &[], b""))
            .expect("write");
        let mut buffer = vec![0; 64 * 1024];
        let count = socket.read(&mut buffer).expect("the first bytes");
        buffer.truncate(count);
        Bytes::from(buffer)
    };
    tokio::task::spawn_blocking(read).await.expect("no panic")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_endpoint_comes_in_the_same_write_as_the_head() {
    let upstream = Upstream::silent().await;
    let ferry = Ferry::start(upstream.url()).await;
    // The reader waits in a thread of its own, so that of two writes it would soon see one alone.
    for _ in 0..200 {
        let bytes = first_read(ferry.address).await;
        let text = std::str::from_utf8(&bytes).expect("text");
        let (head, body) = text.split_once("\r\n\r\n").expect("a whole head");
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
        let id = body
            .strip_prefix("6c\r\nevent: endpoint\ndata: /messages?sessionId=")
            .and_then(|rest| rest.strip_suffix("\n\n\r\n"))
            .unwrap_or_else(|| panic!("{body:?}"));
        assert_eq!(id.len(), 64);
        assert!(id.bytes().all(|b| b.is_ascii_hexdigit()), "{id}");
    }
    ferry.quiet().await;
    ferry.stop().await;
}

#[tokio::test]
async fn the_head_asks_every_hop_not_to_buffer_store_or_recode() {
    let upstream = Upstream::silent().await;
    let ferry = Ferry::start(upstream.url()).await;
    let client = Client::open(ferry.address).await;
    let head = &client.head;
    assert_eq!(head.header("content-type"), Some("text/event-stream"));
    let cache = head.header("cache-control");
    assert_eq!(cache, Some("no-cache, no-transform"));
    assert_eq!(head.header("x-accel-buffering"), Some("no"));
    assert_eq!(head.header("referrer-policy"), Some("no-referrer"));
    for absent in ["content-length", "content-encoding", "set-cookie"] {
        assert_eq!(head.header(absent), None, "{absent}");
    }
    client.leave();
    ferry.stop().await;
}

#[tokio::test]
async fn opening_a_stream_starts_nothing_upstream() {
    let upstream = Upstream::silent().await;
    let ferry = Ferry::start(upstream.url()).await;
    let mut ids = std::collections::HashSet::new();
    for _ in 0..5 {
        let client = Client::open(ferry.address).await;
        assert!(ids.insert(client.id().to_owned()));
    }
    ferry.quiet().await;
    assert!(upstream.log().is_empty());
    ferry.stop().await;
}

#[tokio::test]
async fn a_client_does_not_choose_its_id() {
    let upstream = Upstream::silent().await;
    let ferry = Ferry::start(upstream.url()).await;
    let chosen = "a".repeat(64);
    let target = format!("/sse?sessionId={chosen}");
    let client = Client::open_with(ferry.address, &target, &[]).await;
    assert_ne!(client.id(), chosen);
    ferry.stop().await;
}

#[tokio::test]
async fn what_an_upstream_puts_around_its_messages_stays_behind() {
    let (mut upstream, ferry, mut client) = scene().await;
    client.send(&call(1, "tools/call")).await;
    let mut events = upstream.expect("POST").await.events().await;
    events
        .raw(
            "\u{feff}id: 1\r\nretry: 5\r\ndata: \r\n\r\n: comment\r\n\r\nevent: ping\ndata: {}\n\n",
        )
        .await;
    events.raw("data:{\"jsonrpc\":\"2.0\",\r").await;
    events
        .raw("\ndata:\"method\":\"notifications/x\"}\r\n")
        .await;
    events
        .raw("id: 2\r\nnonsense\r\n\r\nretry: 1\n\nid: 3\n\n")
        .await;
    events
        .raw("event: message\rdata: {\"jsonrpc\":\"2.0\",\rdata: \"id\":1,\"result\":{}}\r\r")
        .await;
    // The client is strict: an event of another form would have failed the test.
    let first = r#"{"jsonrpc":"2.0", "method":"notifications/x"}"#;
    assert_eq!(client.next().await, Item::Message(first.to_owned()));
    let second = r#"{"jsonrpc":"2.0", "id":1,"result":{}}"#;
    assert_eq!(client.next().await, Item::Message(second.to_owned()));
    client.leave();
    ferry.stop().await;
}

#[tokio::test]
async fn messages_cross_byte_for_byte_on_one_line() {
    // Number forms, key order, spaces, escapes, unknown members, characters beyond the BMP, line separators.
    const PARAMS: &str = r#"{"z":1.0,"a":1e3,"n":12345678901234567890123,"m":-0.0,  "e":"\u00e9\/\ud83d\ude00",
        "raw":"é😀  ","x-unknown":[ ],"_meta":{"progressToken":"7"},"nul":"\u0000"}"#;
    let (mut upstream, ferry, mut client) = scene().await;
    let one_line = PARAMS.replace('\n', " ");
    let asked = |params: &str| {
        format!(r#"{{"method":"x/y", "id":1.0 ,"params":{params},"jsonrpc":"2.0","extra":null}}"#)
    };
    assert_eq!(client.post(asked(PARAMS)).await.status(), 202);
    let received = upstream.expect("POST").await;
    assert_eq!(received.request.text(), asked(&one_line));
    let answer =
        |params: &str| format!(r#"{{"result":{params},"id":1.0 ,"jsonrpc":"2.0","extra":null}}"#);
    let pretty = answer(PARAMS);
    let json = [("Content-Type", "application/json; charset=utf-8")];
    received.answer(Answer::new(200, &json, &pretty)).await;
    assert_eq!(client.text().await, answer(&one_line));

    // The same as an event of several data lines, with CRLF.
    assert_eq!(client.post(asked(PARAMS)).await.status(), 202);
    let mut events = upstream.expect("POST").await.events().await;
    let lines = pretty.replace('\n', "\r\ndata: ");
    events.raw(format!("data: {lines}\r\n\r\n")).await;
    events.end().await;
    assert_eq!(client.text().await, answer(&one_line));
    client.leave();
    ferry.stop().await;
}

#[tokio::test]
async fn initialize_is_answered_in_the_clients_own_version() {
    let upstream = Upstream::with_sessions().await;
    let ferry = Ferry::start(upstream.url()).await;
    let mut client = Client::open(ferry.address).await;
    let answer = client.handshake().await;
    assert_eq!(answer["id"], 0);
    assert_eq!(answer["result"]["protocolVersion"], "2024-11-05");
    let second = upstream
        .seen("notifications/initialized", |request| {
            request.rpc() == "notifications/initialized"
        })
        .await;
    assert_eq!(second.header("mcp-protocol-version"), Some("2025-11-25"));
    assert_eq!(second.header("mcp-session-id"), Some("session-1"));
    client.leave();
    ferry.stop().await;
}

#[tokio::test]
async fn a_result_larger_than_the_clients_buffer_passes_on_one_line() {
    let (mut upstream, ferry, mut client) = scene().await;
    // The buffer holds 4 MiB.
    let text = "x".repeat(6 << 20);
    for streamed in [false, true] {
        client.send(&call(1, "tools/call")).await;
        let received = upstream.expect("POST").await;
        if streamed {
            let mut events = received.events().await;
            let write = async {
                events.result(&json!({ "text": text })).await;
                events.end().await;
            };
            let ((), message) = tokio::join!(write, client.message());
            assert_eq!(message["result"]["text"], text);
        } else {
            let result = json!({ "text": text });
            let ((), message) = tokio::join!(received.result(&result), client.message());
            assert_eq!(message["result"]["text"], text);
        }
    }
    client.leave();
    ferry.stop().await;
}

#[tokio::test]
async fn a_stream_is_not_opened_for_who_cannot_read_it() {
    let upstream = Upstream::start(routine).await;
    let ferry = Ferry::start(upstream.url()).await;
    for (accept, status) in [
        ("application/json", 406),
        ("text/html, application/xml", 406),
    ] {
        let refused = exchange(ferry.address, "GET", "/sse", &[("Accept", accept)], "").await;
        assert_eq!(refused.status(), status, "{accept}");
    }
    for accept in [
        "*/*",
        "text/*",
        "Text/Event-Stream;q=0.5",
        "application/json, text/event-stream",
    ] {
        Client::open_with(ferry.address, "/sse", &[("Accept", accept)]).await;
    }
    ferry.quiet().await;
    ferry.stop().await;
}

#[tokio::test]
async fn a_client_of_http_1_0_gets_the_stream_without_chunks() {
    let mut upstream = Upstream::with_sessions().await;
    let ferry = Ferry::start(upstream.url()).await;
    let mut wire = Wire::connect(ferry.address).await;
    wire.write(b"GET /sse HTTP/1.0\r\nHost: localhost\r\n\r\n")
        .await;
    let head = within("the head", wire.head()).await.expect("a head");
    assert_eq!(head.status(), 200);
    assert_eq!(head.header("transfer-encoding"), None);
    let text = |wire: &Wire| String::from_utf8(wire.buffer.to_vec()).expect("text");
    let endpoint = text(&wire);
    let endpoint = endpoint
        .strip_prefix("event: endpoint\ndata: ")
        .and_then(|rest| rest.strip_suffix("\n\n"))
        .expect("an endpoint");
    wire.buffer.clear();
    let post = post(ferry.address, endpoint, &[], initialize().to_string());
    assert_eq!(post.await.status(), 202);
    within("the answer", async {
        while !wire.buffer.ends_with(b"\n\n") {
            assert!(wire.read().await);
        }
    })
    .await;
    let answer = text(&wire);
    assert!(answer.starts_with("event: message\ndata: {"), "{answer}");
    upstream.assert_quiet();
    drop(wire);
    ferry.quiet().await;
    ferry.stop().await;
}
