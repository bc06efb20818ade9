//! Sockets that do not speak HTTP, speak it doubtfully, or do not speak at all.

use std::time::Duration;

use crate::support::client::Client;
use crate::support::clock::Clock;
use crate::support::ferry::Ferry;
use crate::support::http::{Wire, exchange, request};
use crate::support::upstream::{Upstream, echo};

#[tokio::test]
async fn sockets_that_say_nothing_or_half_a_head_are_closed_in_time() {
    let upstream = Upstream::silent().await;
    let ferry = Ferry::start(upstream.url()).await;
    let clock = Clock::stop();
    let client = Client::open(ferry.address).await;
    let mut sockets = Vec::new();
    for start in [
        "",
        "GET /ss",
        "POST /messages HTTP/1.1\r\nHost: localhost\r\nX: ",
    ] {
        let mut wire = Wire::connect(ferry.address).await;
        wire.write(start.as_bytes()).await;
        sockets.push(wire);
    }
    // One that was served once and then says nothing.
    let mut wire = Wire::connect(ferry.address).await;
    wire.write(&request("GET", "/healthz", &[], b"")).await;
    assert_eq!(wire.response().await.status(), 200);
    sockets.push(wire);
    clock.advance(Duration::from_secs(75)).await;
    for mut wire in sockets {
        let said = wire.closed().await;
        let said = String::from_utf8_lossy(&said);
        assert!(
            said.is_empty() || said.starts_with("HTTP/1.1 408"),
            "{said}"
        );
    }
    // A quiet stream is not one of them.
    assert_eq!(client.post("{}").await.status(), 400);
    client.leave();
    ferry.stop().await;
}

#[tokio::test]
async fn garbage_and_doubtful_framing_close_the_socket() {
    let upstream = Upstream::start(|request| Some(echo(request))).await;
    let ferry = Ferry::start(upstream.url()).await;
    let smuggled = "POST /mcp HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let post = |framing: &str| {
        format!("POST /mcp HTTP/1.1\r\nHost: localhost\r\n{framing}\r\n\r\n5\r\n{smuggled}")
    };
    for (bytes, status) in [
        ("\u{16}\u{3}\u{1}".to_owned(), 400),
        ("hello\r\n\r\n".to_owned(), 400),
        (post("Content-Length: 5\r\nContent-Length: 6"), 400),
        (post("Content-Length: +5"), 400),
        (post("Transfer-Encoding: chunked, identity"), 400),
        (post("Transfer-Encoding: xchunked"), 400),
        (post("Content-Length : 5"), 400),
    ] {
        let mut wire = Wire::connect(ferry.address).await;
        wire.write(bytes.as_bytes()).await;
        let said = wire.closed().await;
        let said = String::from_utf8_lossy(&said);
        assert!(
            said.starts_with(&format!("HTTP/1.1 {status}")),
            "{bytes:.80}: {said:.80}"
        );
    }
    // A head without an end: closing on what was not read may reset the socket before the 431 is seen.
    let mut wire = Wire::connect(ferry.address).await;
    let endless = format!("GET /sse HTTP/1.1\r\nX: {}", "x".repeat(200_000));
    wire.write(endless.as_bytes()).await;
    let said = wire.closed().await;
    assert!(
        said.is_empty() || said.starts_with(b"HTTP/1.1 431"),
        "{said:?}"
    );
    assert!(upstream.log().is_empty(), "{:?}", upstream.log());
    let answered = exchange(ferry.address, "GET", "/healthz", &[], "").await;
    assert_eq!(answered.status(), 200);
    ferry.stop().await;
}
