//! Who is let in: origins of web pages, addresses that ask for too much, hosts that do not agree, and posts on somebody
//! else's connection.

use hyper::header::HeaderName;
use mcp_ferry::config::{Config, CredentialBinding};
use mcp_ferry::metrics::Counter;
use serde_json::json;
use tokio::io::AsyncWriteExt;

use crate::support::client::{Client, call, initialize};
use crate::support::clock::within;
use crate::support::ferry::Ferry;
use crate::support::http::{Response, Wire, exchange, request};
use crate::support::upstream::{Answer, Upstream, echo, routine};

const PAGE: &str = "https://app.example";

fn cors(config: &mut Config) {
    config.guard.cors = true;
    config.guard.allowed_origins = vec![PAGE.to_owned()];
    config.upstream.forward_headers = vec![HeaderName::from_static("x-api-key")];
}

async fn preflight(ferry: &Ferry, path: &str, origin: &str, wanted: &str) -> Response {
    let headers = [
        ("Origin", origin),
        ("Access-Control-Request-Method", "POST"),
        ("Access-Control-Request-Headers", wanted),
    ];
    exchange(ferry.address, "OPTIONS", path, &headers, "").await
}

#[tokio::test]
async fn a_preflight_is_answered_here_for_allowed_origins_alone() {
    let upstream = Upstream::start(|request| Some(echo(request))).await;
    let ferry = Ferry::with(upstream.url(), cors).await;
    for path in ["/sse", "/messages", "/mcp"] {
        let wanted = "authorization,mcp-session-id,mcp-param-region";
        let answered = preflight(&ferry, path, PAGE, wanted).await;
        assert_eq!(answered.status(), 204, "{path}");
        let header = |name| answered.header(name).unwrap_or_default().to_owned();
        assert_eq!(header("access-control-allow-origin"), PAGE);
        assert_eq!(header("vary"), "origin");
        let allowed = header("access-control-allow-headers");
        for name in [
            "authorization",
            "content-type",
            "mcp-protocol-version",
            "mcp-session-id",
            "last-event-id",
            "mcp-method",
            "mcp-name",
            "x-api-key",
            "mcp-param-region",
        ] {
            assert!(allowed.split(", ").any(|one| one == name), "{name}");
        }
        assert!(header("access-control-allow-methods").contains("DELETE"));
        assert_eq!(answered.header("access-control-allow-credentials"), None);
        for origin in ["https://evil.example", "null", "https://app.example.evil"] {
            let answered = preflight(&ferry, path, origin, wanted).await;
            assert_eq!(answered.status(), 403, "{origin}");
            assert_eq!(answered.header("access-control-allow-origin"), None);
        }
    }
    assert!(upstream.log().is_empty(), "nothing of it goes upstream");
    ferry.stop().await;
}

#[tokio::test]
async fn an_allowed_page_may_read_every_answer_and_no_other_page_any() {
    let upstream = Upstream::start(|request| {
        let own = [
            ("Access-Control-Allow-Origin", "*"),
            ("Access-Control-Allow-Credentials", "true"),
            ("WWW-Authenticate", "Bearer"),
        ];
        (request.header("authorization") == Some("Bearer wrong"))
            .then(|| Answer::new(401, &own, ""))
            .or_else(|| routine(request))
            .or_else(|| Some(echo(request)))
    })
    .await;
    let ferry = Ferry::with(upstream.url(), cors).await;
    let page = [("Origin", PAGE)];
    let client = Client::open_with(ferry.address, "/sse", &page).await;
    assert_eq!(
        client.head.header("access-control-allow-origin"),
        Some(PAGE)
    );
    assert!(
        client
            .head
            .header("access-control-expose-headers")
            .is_some()
    );
    let refused = [("Origin", PAGE), ("Authorization", "Bearer wrong")];
    let answers = [
        client.post_with(&page, call(1, "ping").to_string()).await,
        client.post_with(&refused, initialize().to_string()).await,
        exchange(ferry.address, "POST", "/mcp", &refused, "{}").await,
        exchange(ferry.address, "POST", "/messages?sessionId=no", &page, "{}").await,
    ];
    for (answered, status) in answers.iter().zip([202, 401, 401, 404]) {
        assert_eq!(answered.status(), status);
        let origins = answered.head.all("access-control-allow-origin");
        assert_eq!(origins, [PAGE], "one voice, and this one: {answered:?}");
        assert_eq!(answered.header("access-control-allow-credentials"), None);
        let exposed = answered
            .header("access-control-expose-headers")
            .unwrap_or_default();
        assert!(exposed.contains("www-authenticate") && exposed.contains("mcp-session-id"));
    }
    // What is passed through is the upstream's to judge, but the page cannot read what it says.
    let foreign = [
        ("Origin", "https://evil.example"),
        ("Authorization", "Bearer wrong"),
    ];
    let answered = exchange(ferry.address, "POST", "/mcp", &foreign, "{}").await;
    assert_eq!(answered.header("access-control-allow-origin"), None);
    let answered = exchange(ferry.address, "GET", "/sse", &foreign, "").await;
    assert_eq!(answered.status(), 403);
    client.leave();
    ferry.stop().await;
}

#[tokio::test]
async fn without_cors_the_ferry_says_nothing_of_it_and_passes_on_what_the_upstream_says() {
    let upstream = Upstream::start(|_| {
        let own = [("Access-Control-Allow-Origin", PAGE)];
        Some(Answer::new(204, &own, ""))
    })
    .await;
    let ferry = Ferry::start(upstream.url()).await;
    let answered = preflight(&ferry, "/mcp", PAGE, "authorization").await;
    assert_eq!(answered.status(), 204);
    assert_eq!(answered.header("access-control-allow-origin"), Some(PAGE));
    for path in ["/sse", "/messages"] {
        let answered = preflight(&ferry, path, PAGE, "authorization").await;
        assert_eq!(answered.status(), 405, "{path}");
        assert_eq!(answered.header("access-control-allow-origin"), None);
    }
    ferry.stop().await;
}

/// A ferry behind a proxy that names the clients' addresses.
async fn behind_a_proxy(upstream: &Upstream, change: impl FnOnce(&mut Config)) -> Ferry {
    Ferry::with(upstream.url(), |config| {
        config.guard.trusted_proxies = vec!["127.0.0.0/8".parse().expect("a network")];
        change(config);
    })
    .await
}

fn from(address: &str) -> [(&str, &str); 1] {
    [("X-Forwarded-For", address)]
}

#[tokio::test]
async fn one_address_holds_so_many_streams_and_the_others_are_not_concerned() {
    let upstream = Upstream::echo().await;
    let ferry = behind_a_proxy(&upstream, |config| {
        config.limits.max_connections_per_peer = 2;
    })
    .await;
    let first = Client::open_with(ferry.address, "/sse", &from("192.0.2.1")).await;
    let _second = Client::open_with(ferry.address, "/sse", &from("192.0.2.1")).await;
    // Only the last address was seen by somebody who is trusted.
    let spoofed = from("198.51.100.7, 192.0.2.1");
    let full = exchange(ferry.address, "GET", "/sse", &spoofed, "").await;
    assert_eq!(full.status(), 503);
    assert_eq!(full.header("retry-after"), Some("1"));
    assert!(full.text().contains("--max-connections-per-peer"));
    let other = Client::open_with(ferry.address, "/sse", &from("192.0.2.2")).await;
    // The proxy itself is no client: a machine's own processes are not counted.
    let _own: [Client; 3] = [
        Client::open(ferry.address).await,
        Client::open(ferry.address).await,
        Client::open(ferry.address).await,
    ];
    first.leave();
    ferry
        .until("a place", |ferry| ferry.open_connections() == 5)
        .await;
    let _third = Client::open_with(ferry.address, "/sse", &from("192.0.2.1")).await;
    assert_eq!(ferry.count(Counter::ConnectionsRefused), 1);
    drop(other);
    ferry.stop().await;
}

#[tokio::test]
async fn who_asks_for_unknown_connections_again_and_again_is_slowed_down() {
    let upstream = Upstream::echo().await;
    let ferry = behind_a_proxy(&upstream, |_| {}).await;
    let client = Client::open_with(ferry.address, "/sse", &from("192.0.2.1")).await;
    let unknown = format!("/messages?sessionId={}", "0".repeat(64));
    let guess =
        async |address: &str| exchange(ferry.address, "POST", &unknown, &from(address), "{}").await;
    for _ in 0..20 {
        assert_eq!(guess("192.0.2.1").await.status(), 404);
    }
    let slowed = guess("192.0.2.1").await;
    assert_eq!(
        (slowed.status(), slowed.header("retry-after")),
        (429, Some("60"))
    );
    assert_eq!(guess("192.0.2.2").await.status(), 404);
    // Who knows an id is no guesser.
    let ping = call(1, "ping").to_string();
    let answered = client.post_with(&from("192.0.2.1"), ping).await;
    assert_eq!(answered.status(), 202);
    client.leave();
    ferry.stop().await;
}

#[tokio::test]
async fn a_socket_too_many_is_told_so_and_the_others_go_on() {
    let upstream = Upstream::echo().await;
    let ferry = Ferry::with(upstream.url(), |config| config.limits.max_sockets = 2).await;
    let mut first = Wire::connect(ferry.address).await;
    let healthz = request("GET", "/healthz", &[], b"");
    first.write(&healthz).await;
    assert_eq!(first.response().await.status(), 200);
    let second = Wire::connect(ferry.address).await;
    let mut third = Wire::connect(ferry.address).await;
    let told = third.response().await;
    assert_eq!(
        (told.status(), told.header("retry-after")),
        (503, Some("1"))
    );
    first.write(&healthz).await;
    assert_eq!(first.response().await.status(), 200);
    assert_eq!(ferry.count(Counter::SocketsRefused), 1);
    // Whoever goes leaves a place.
    drop((second, third));
    within("a place", async {
        loop {
            let mut next = Wire::connect(ferry.address).await;
            // A socket that is still one too many may break off under the request.
            let sent = next.socket.write_all(&healthz).await.is_ok();
            let head = next.head().await.filter(|_| sent);
            if head.is_some_and(|head| head.status() == 200) {
                return;
            }
        }
    })
    .await;
    ferry.stop().await;
}

#[tokio::test]
async fn the_address_of_a_request_and_its_host_must_agree() {
    let upstream = Upstream::echo().await;
    let ferry = Ferry::start(upstream.url()).await;
    for (head, status) in [
        ("POST http://localhost/mcp HTTP/1.1\r\nHost: LOCALHOST", 202),
        (
            "POST http://evil.example/mcp HTTP/1.1\r\nHost: localhost",
            400,
        ),
        (
            "POST http://localhost/mcp HTTP/1.1\r\nHost: evil.example",
            400,
        ),
        (
            "POST http://evil.example/mcp HTTP/1.1\r\nHost: evil.example",
            403,
        ),
        ("POST /mcp HTTP/1.1", 400),
        (
            "CONNECT evil.example:443 HTTP/1.1\r\nHost: evil.example:443",
            404,
        ),
        ("TRACE /mcp HTTP/1.1\r\nHost: localhost", 405),
    ] {
        let mut wire = Wire::connect(ferry.address).await;
        let notice = r#"{"jsonrpc":"2.0","method":"notifications/x"}"#;
        let text = format!("{head}\r\nContent-Length: {}\r\n\r\n{notice}", notice.len());
        wire.write(text.as_bytes()).await;
        assert_eq!(wire.response().await.status(), status, "{head}");
    }
    assert_eq!(upstream.log().len(), 1);
    ferry.stop().await;
}

#[tokio::test]
async fn a_body_whose_length_may_be_read_in_two_ways_is_the_last_on_its_socket() {
    let upstream = Upstream::start(|request| Some(echo(request))).await;
    let ferry = Ferry::start(upstream.url()).await;
    let mut wire = Wire::connect(ferry.address).await;
    let smuggled = "POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}";
    let head =
        "POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\nTransfer-Encoding: chunked";
    let text = format!("{head}\r\n\r\n2\r\n{{}}\r\n0\r\n\r\n{smuggled}");
    wire.write(text.as_bytes()).await;
    let answered = wire.response().await;
    assert_eq!(
        (answered.status(), answered.header("connection")),
        (200, Some("close"))
    );
    assert!(wire.closed().await.is_empty());
    let log = upstream.log();
    assert_eq!((log.len(), log[0].text()), (1, "{}"));
    ferry.stop().await;
}

#[tokio::test]
async fn names_that_some_servers_take_for_others_do_not_pass() {
    let upstream = Upstream::echo().await;
    let ferry = Ferry::start(upstream.url()).await;
    let headers = [
        ("X_Forwarded_For", "6.6.6.6"),
        ("Mcp_Session_Id", "s"),
        ("X-Kept", "1"),
    ];
    let notice = r#"{"jsonrpc":"2.0","method":"notifications/x"}"#;
    exchange(ferry.address, "POST", "/mcp", &headers, notice).await;
    let log = upstream.log();
    let names: Vec<&String> = log[0].head.headers.iter().map(|(name, _)| name).collect();
    assert!(names.iter().all(|name| !name.contains('_')), "{names:?}");
    assert_eq!(log[0].header("x-kept"), Some("1"));
    ferry.stop().await;
}

/// Posts a notification on the client's connection with this token from this address.
async fn status(client: &Client, token: Option<&str>, address: &str) -> u16 {
    let authorization = token.map(|token| format!("Bearer {token}"));
    let mut headers = vec![("X-Forwarded-For", address)];
    headers.extend(
        authorization
            .as_deref()
            .map(|value| ("Authorization", value)),
    );
    let notice = r#"{"jsonrpc":"2.0","method":"notifications/x"}"#;
    client.post_with(&headers, notice).await.status()
}

/// An upstream that takes every token but `expired`.
async fn with_tokens() -> Upstream {
    Upstream::start(|request| {
        (request.header("authorization") == Some("Bearer expired"))
            .then(|| Answer::new(401, &[("WWW-Authenticate", "Bearer")], ""))
            .or_else(|| routine(request))
            .or_else(|| Some(echo(request)))
    })
    .await
}

async fn opened(ferry: &Ferry, token: &str) -> Client {
    let authorization = format!("Bearer {token}");
    let headers = [
        ("X-Forwarded-For", "192.0.2.1"),
        ("Authorization", authorization.as_str()),
    ];
    Client::open_with(ferry.address, "/sse", &headers).await
}

#[tokio::test]
async fn hijack_other_token_is_told_nothing_and_reaches_nobody() {
    let mut upstream = Upstream::with_sessions().await;
    let ferry = behind_a_proxy(&upstream, |_| {}).await;
    let mut victim = opened(&ferry, "anna").await;
    let unknown = format!("/messages?sessionId={}", "0".repeat(64));
    let answered = exchange(ferry.address, "POST", &unknown, &from("192.0.2.66"), "{}").await;
    for token in [Some("otto"), None] {
        assert_eq!(status(&victim, token, "192.0.2.66").await, 404);
    }
    let headers = [
        ("X-Forwarded-For", "192.0.2.66"),
        ("Authorization", "Bearer otto"),
    ];
    let refused = victim.post_with(&headers, initialize().to_string()).await;
    assert_eq!(
        refused.body, answered.body,
        "as if there were no such connection"
    );
    // Not from the victim's own address either, when no credential comes at all.
    assert_eq!(status(&victim, None, "192.0.2.1").await, 404);
    assert!(upstream.log().is_empty());
    let headers = [("Authorization", "Bearer anna")];
    victim.send_with(&headers, &initialize()).await;
    assert_eq!(victim.message().await["id"], 0);
    upstream.assert_quiet();
    victim.leave();
    ferry.stop().await;
}

#[tokio::test]
async fn rotate_opaque_after_401_is_the_same_client() {
    let upstream = with_tokens().await;
    let ferry = behind_a_proxy(&upstream, |config| {
        config.guard.credential_binding = CredentialBinding::Strict;
    })
    .await;
    let client = opened(&ferry, "expired").await;
    assert_eq!(status(&client, Some("fresh"), "192.0.2.1").await, 404);
    assert_eq!(status(&client, Some("expired"), "192.0.2.1").await, 401);
    assert_eq!(status(&client, Some("fresh"), "192.0.2.1").await, 202);
    assert_eq!(status(&client, Some("fresh"), "192.0.2.9").await, 202);
    assert_eq!(status(&client, Some("another"), "192.0.2.1").await, 404);
    client.leave();
    ferry.stop().await;
}

#[tokio::test]
async fn rotate_opaque_before_it_expires_is_taken_from_the_same_address() {
    let upstream = with_tokens().await;
    let ferry = behind_a_proxy(&upstream, |_| {}).await;
    let client = opened(&ferry, "first").await;
    assert_eq!(status(&client, Some("second"), "192.0.2.9").await, 404);
    assert_eq!(status(&client, Some("second"), "192.0.2.1").await, 202);
    assert_eq!(status(&client, Some("second"), "192.0.2.9").await, 202);
    client.leave();
    ferry.stop().await;
}

#[tokio::test]
async fn a_client_that_can_send_no_credential_with_its_get_is_bound_by_its_first_post() {
    let upstream = with_tokens().await;
    let ferry = behind_a_proxy(&upstream, |config| {
        config.guard.credential_binding = CredentialBinding::Strict;
    })
    .await;
    let client = Client::open_with(ferry.address, "/sse", &from("192.0.2.1")).await;
    assert_eq!(status(&client, Some("anna"), "192.0.2.1").await, 202);
    assert_eq!(status(&client, Some("otto"), "192.0.2.1").await, 404);
    let answered = client
        .post_with(&from("192.0.2.1"), json!({}).to_string())
        .await;
    assert_eq!(answered.status(), 404);
    client.leave();
    ferry.stop().await;
}
