//! Rough handling of the admin listener: heads too long, methods nobody knows, bodies where none belong, too many sockets.

use tokio::io::AsyncWriteExt as _;

use super::{BEARER, get, start};
use crate::support::clock::within;
use crate::support::http::{Wire, exchange, request};
use crate::support::upstream::Upstream;

#[tokio::test]
async fn what_is_no_request_gets_an_error_and_what_is_one_is_still_served() {
    let upstream = Upstream::echo().await;
    let ferry = start(&upstream).await;
    let long = format!("/healthz?{}", "x".repeat(100_000));
    for (bytes, statuses) in [
        (b"\x16\x03\x01\x00".to_vec(), [400, 400]),
        (b"hello\r\n\r\n".to_vec(), [400, 400]),
        (request("GET", &long, &[], b""), [414, 431]),
        (
            request("GET", "/", &[("X", &"x".repeat(300_000))], b""),
            [431, 431],
        ),
        (request("BREW", "/", &[], b""), [405, 405]),
        (request("POST", "/metrics", &[], b"x"), [405, 405]),
        (request("DELETE", "/api/rows", &[BEARER], b""), [405, 405]),
        (request("GET", "/api/clear", &[BEARER], b""), [405, 405]),
        (
            request("GET", "/api/records?after=x", &[BEARER], b""),
            [400, 400],
        ),
        (
            request("GET", "/api/records?connection=%00", &[BEARER], b""),
            [400, 400],
        ),
        (request("GET", "//", &[], b""), [404, 404]),
        (request("GET", "/../etc/passwd", &[], b""), [404, 404]),
    ] {
        let mut wire = Wire::connect(ferry.admin()).await;
        // What is refused early need not be read to its end, and the socket is closed in its middle then.
        let _ = wire.socket.write_all(&bytes).await;
        let head = within("a head", wire.head()).await;
        let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(60)]).into_owned();
        let Some(head) = head else {
            assert!(bytes.len() > 64 * 1024, "{shown}: no answer");
            continue;
        };
        assert!(statuses.contains(&head.status()), "{shown}: {head:?}");
    }
    let mut wire = Wire::connect(ferry.admin()).await;
    wire.write(&request("GET", "/healthz", &[], &[b'x'; 1000]))
        .await;
    assert_eq!(
        wire.response().await.status(),
        200,
        "nobody reads the body of a GET"
    );
    assert_eq!(get(&ferry, "/healthz", &[]).await.status(), 200);
    ferry.stop().await;
}

#[tokio::test]
async fn an_answer_to_head_has_no_body() {
    let upstream = Upstream::echo().await;
    let ferry = start(&upstream).await;
    let mut wire = Wire::connect(ferry.admin()).await;
    wire.write(&request("HEAD", "/healthz", &[], b"")).await;
    let head = wire.head().await.expect("a head");
    assert_eq!(
        (head.status(), head.header("content-length")),
        (200, Some("3"))
    );
    wire.write(&request("GET", "/readyz", &[], b"")).await;
    assert_eq!(wire.response().await.text(), "ready\n");
    ferry.stop().await;
}

#[tokio::test]
async fn one_socket_too_many_is_told_so_and_traffic_has_sockets_of_its_own() {
    let upstream = Upstream::echo().await;
    let ferry = start(&upstream).await;
    let mut sockets = Vec::new();
    for _ in 0..64 {
        let mut wire = Wire::connect(ferry.admin()).await;
        wire.write(&request("GET", "/healthz", &[], b"")).await;
        assert_eq!(wire.response().await.status(), 200);
        sockets.push(wire);
    }
    let mut wire = Wire::connect(ferry.admin()).await;
    assert_eq!(wire.response().await.status(), 503);
    let public = exchange(ferry.address, "GET", "/healthz", &[], "").await;
    assert_eq!(public.status(), 200);
    drop(sockets);
    ferry.stop().await;
}
