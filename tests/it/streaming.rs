//! `/mcp` as a stream: both directions cross as they come, ends and breaks are passed on, and time does not matter.

use std::time::Duration;

use tokio::net::TcpListener;

use crate::support::clock::{Clock, within};
use crate::support::ferry::Ferry;
use crate::support::http::{Wire, chunk, request};
use crate::support::upstream::Upstream;

#[tokio::test]
async fn events_cross_one_by_one_as_they_come() {
    let mut upstream = Upstream::silent().await;
    let ferry = Ferry::start(upstream.url()).await;
    for method in ["POST", "GET"] {
        let mut wire = Wire::connect(ferry.address).await;
        wire.write(&request(method, "/mcp", &[], b"")).await;
        let mut events = upstream.expect(method).await.events().await;
        // The head comes before any event does.
        let head = within("the head", wire.head()).await.expect("a head");
        assert_eq!(head.header("content-type"), Some("text/event-stream"));
        assert_eq!(head.header("content-length"), None);
        for event in [
            "id: 1\r\nretry: 5\r\ndata:\r\n\r\n",
            ": hm\n\n",
            "data: {}\n",
            "\n",
        ] {
            events.raw(event).await;
            let seen = within("the event", wire.chunk()).await.expect("open");
            assert_eq!(seen.expect("data"), event);
        }
        events.end().await;
        assert_eq!(within("the end", wire.chunk()).await, Ok(None));
    }
    ferry.stop().await;
}

#[tokio::test]
async fn a_request_body_crosses_as_it_comes() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let address = listener.local_addr().expect("an address");
    let url = format!("http://{address}/mcp").parse().expect("a URL");
    let ferry = Ferry::start(url).await;
    let mut client = Wire::connect(ferry.address).await;
    let headers = [
        ("Transfer-Encoding", "chunked"),
        ("MCP-Protocol-Version", "2026-07-28"),
    ];
    client.write(&request("POST", "/mcp", &headers, b"")).await;
    let (socket, _) = within("a connection", listener.accept())
        .await
        .expect("accept");
    let mut server = Wire::new(socket);
    within("the head", server.head()).await.expect("a head");
    for part in ["one", "two", "three"] {
        client.write(&chunk(part.as_bytes())).await;
        let seen = within("the part", server.chunk()).await.expect("open");
        assert_eq!(seen.expect("data"), part);
    }
    // The answer may come before the request's end.
    server
        .write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nearly")
        .await;
    assert_eq!(client.response().await.text(), "early");
    drop((client, server));
    ferry.stop().await;
}

#[tokio::test]
async fn a_client_that_leaves_ends_its_exchange_upstream() {
    let mut upstream = Upstream::silent().await;
    let ferry = Ferry::start(upstream.url()).await;
    // Before the answer began.
    let mut wire = Wire::connect(ferry.address).await;
    wire.write(&request("POST", "/mcp", &[], b"{}")).await;
    let call = upstream.next().await;
    drop(wire);
    call.abandoned().await;
    // In the middle of a silent stream.
    let mut wire = Wire::connect(ferry.address).await;
    wire.write(&request("GET", "/mcp", &[], b"")).await;
    let events = upstream.next().await.events().await;
    within("the head", wire.head()).await.expect("a head");
    drop(wire);
    events.abandoned().await;
    ferry.stop().await;
}

#[tokio::test]
async fn an_answer_that_breaks_off_breaks_off_for_the_client_too() {
    let mut upstream = Upstream::silent().await;
    let ferry = Ferry::start(upstream.url()).await;
    for reset in [false, true] {
        let mut wire = Wire::connect(ferry.address).await;
        wire.write(&request("GET", "/mcp", &[], b"")).await;
        let mut events = upstream.next().await.events().await;
        events.raw("data: {}\n\n").await;
        within("the head", wire.head()).await.expect("a head");
        within("the event", wire.chunk()).await.expect("open");
        if reset {
            events.reset();
        } else {
            drop(events);
        }
        let end = within("the end", wire.chunk()).await;
        end.expect_err("no clean end");
    }
    ferry.stop().await;
}

#[tokio::test]
async fn nothing_is_given_up_for_taking_two_hours() {
    let mut upstream = Upstream::silent().await;
    let ferry = Ferry::start(upstream.url()).await;
    let clock = Clock::stop();
    let mut wire = Wire::connect(ferry.address).await;
    wire.write(&request("POST", "/mcp", &[], b"{}")).await;
    let call = upstream.next().await;
    for _ in 0..120 {
        clock.advance(Duration::from_secs(60)).await;
    }
    let mut events = call.events().await;
    for _ in 0..120 {
        clock.advance(Duration::from_secs(60)).await;
    }
    events.raw("data: late\n\n").await;
    events.end().await;
    assert_eq!(wire.response().await.text(), "data: late\n\n");
    ferry.stop().await;
}
