//! Which headers cross on the translated path, and which do not.

use std::collections::HashSet;
use std::sync::Arc;

use hyper::header::{HeaderName, HeaderValue};
use mcp_ferry::config::CredentialBinding;
use serde_json::json;

use crate::support::client::{Client, call, initialize};
use crate::support::ferry::Ferry;
use crate::support::http::exchange;
use crate::support::upstream::{Received, Upstream};

/// Makes a call with these headers and returns what the upstream got.
async fn asked(
    client: &mut Client,
    upstream: &mut Upstream,
    headers: &[(&str, &str)],
) -> Arc<Received> {
    let message = call(1, "tools/call");
    let answer = async {
        let received = upstream.expect("POST").await;
        let request = Arc::clone(&received.request);
        received.result(&json!({})).await;
        request
    };
    let ((), request) = tokio::join!(client.send_with(headers, &message), answer);
    assert_eq!(client.message().await["id"], 1);
    request
}

#[tokio::test]
async fn each_post_brings_its_own_authorization_and_trace_context() {
    let mut upstream = Upstream::with_sessions().await;
    let ferry = Ferry::with(upstream.url(), |config| {
        config.guard.credential_binding = CredentialBinding::Off;
    })
    .await;
    let mut client = Client::ready(ferry.address).await;
    for (number, token) in ["Bearer one", "bEARER  two ", "Basic dTpw"]
        .into_iter()
        .enumerate()
    {
        let trace = format!("00-{number:032x}-00f067aa0ba902b7-01");
        let headers = [
            ("AUTHORIZATION", token),
            ("traceparent", &trace),
            ("Tracestate", "a=1,b=2"),
            ("baggage", "k=v;p"),
        ];
        let request = asked(&mut client, &mut upstream, &headers).await;
        assert_eq!(request.header("authorization"), Some(token.trim()));
        assert_eq!(request.header("traceparent"), Some(trace.as_str()));
        assert_eq!(request.header("tracestate"), Some("a=1,b=2"));
        assert_eq!(request.header("baggage"), Some("k=v;p"));
    }
    // A POST without them goes without: nothing is remembered.
    let request = asked(&mut client, &mut upstream, &[]).await;
    for name in ["authorization", "traceparent", "tracestate", "baggage"] {
        assert_eq!(request.header(name), None);
    }
    client.leave();
    ferry.stop().await;
}

#[tokio::test]
async fn a_credential_of_the_get_alone_does_not_go_upstream() {
    let upstream = Upstream::echo().await;
    let ferry = Ferry::with(upstream.url(), |config| {
        config.guard.credential_binding = CredentialBinding::Off;
    })
    .await;
    let secret = [("Authorization", "Bearer of-the-get"), ("Cookie", "a=1")];
    let mut client = Client::open_with(ferry.address, "/sse", &secret).await;
    client.handshake().await;
    for request in upstream.log() {
        assert_eq!(request.header("authorization"), None);
        assert_eq!(request.header("cookie"), None);
    }
    client.leave();
    ferry.stop().await;
}

#[tokio::test]
async fn only_listed_headers_go_upstream() {
    let mut upstream = Upstream::with_sessions().await;
    let ferry = Ferry::with(upstream.url(), |config| {
        config.upstream.forward_headers = vec![
            HeaderName::from_static("x-api-key"),
            HeaderName::from_static("x-tenant"),
        ];
    })
    .await;
    let mut client = Client::ready(ferry.address).await;
    let headers = [
        ("X-API-Key", "secret"),
        ("X-Tenant", "one"),
        ("X-Tenant", "two"),
        ("Cookie", "session=1"),
        ("X-Other", "1"),
        ("User-Agent", "old-client"),
        ("Accept", "*/*"),
        ("Accept-Encoding", "gzip"),
        ("Accept-Language", "de"),
        ("Origin", "http://localhost:6274"),
        ("Referer", "http://localhost:6274/x"),
        ("Mcp-Session-Id", "chosen"),
        ("MCP-Protocol-Version", "2024-11-05"),
        ("Last-Event-ID", "7"),
        ("Proxy-Authorization", "Basic x"),
        ("Connection", "close, x-other"),
        ("Keep-Alive", "timeout=5"),
        ("TE", "trailers"),
        ("Upgrade", "h2c"),
    ];
    let request = asked(&mut client, &mut upstream, &headers).await;
    assert_eq!(request.header("x-api-key"), Some("secret"));
    assert_eq!(request.head.all("x-tenant"), ["one", "two"]);
    let names: HashSet<String> = request
        .head
        .headers
        .iter()
        .map(|(name, _)| name.to_ascii_lowercase())
        .collect();
    let expected = [
        "accept",
        "accept-encoding",
        "content-length",
        "content-type",
        "host",
        "mcp-protocol-version",
        "mcp-session-id",
        "user-agent",
        "x-api-key",
        "x-forwarded-for",
        "x-forwarded-host",
        "x-forwarded-proto",
        "x-tenant",
    ];
    assert_eq!(names, expected.map(str::to_owned).into());
    assert_eq!(request.header("mcp-session-id"), Some("session-1"));
    assert_eq!(request.header("mcp-protocol-version"), Some("2025-11-25"));
    let accept = request.header("accept");
    assert_eq!(accept, Some("application/json, text/event-stream"));
    assert_eq!(request.header("accept-encoding"), Some("identity"));
    assert_eq!(request.header("content-type"), Some("application/json"));
    let agent = request.header("user-agent").expect("an agent");
    assert!(agent.starts_with("mcp-ferry/"), "{agent}");
    client.leave();
    ferry.stop().await;
}

#[tokio::test]
async fn the_upstream_gets_its_own_host_and_no_origin() {
    let upstream = Upstream::echo().await;
    let ferry = Ferry::with(upstream.url(), |config| {
        config.guard.allowed_hosts = vec!["public.example".to_owned()];
        config.guard.allowed_origins = vec!["https://app.example".to_owned()];
    })
    .await;
    let front = [
        ("Host", "public.example:8443"),
        ("Origin", "https://app.example"),
    ];
    let mut client = Client::open_with(ferry.address, "/sse", &front).await;
    client.send_with(&front, &initialize()).await;
    client.message().await;
    let request = &upstream.log()[0];
    let own = upstream.address.to_string();
    assert_eq!(request.header("host"), Some(own.as_str()));
    assert_eq!(request.header("origin"), None);
    let said = request.header("x-forwarded-host");
    assert_eq!(said, Some("public.example:8443"));
    client.leave();
    ferry.stop().await;
}

#[tokio::test]
async fn foreign_hosts_and_origins_get_403_and_nothing_goes_upstream() {
    let upstream = Upstream::silent().await;
    let ferry = Ferry::start(upstream.url()).await;
    let client = Client::open(ferry.address).await;
    let ping = call(1, "ping").to_string();
    for (name, value) in [
        ("Host", "evil.example"),
        ("Host", "localhost.evil.example"),
        ("Origin", "https://evil.example"),
        ("Origin", "null"),
    ] {
        let refused = client.post_with(&[(name, value)], &ping).await;
        assert_eq!(refused.status(), 403, "{name}: {value}");
        let headers = [(name, value)];
        let refused = exchange(ferry.address, "GET", "/sse", &headers, "").await;
        assert_eq!(refused.status(), 403, "{name}: {value}");
    }
    let headers = [("Host", "evil.example")];
    let refused = exchange(ferry.address, "POST", "/mcp", &headers, &ping).await;
    assert_eq!(refused.status(), 403);
    assert!(upstream.log().is_empty());
    client.leave();
    ferry.stop().await;
}

#[tokio::test]
async fn spoofed_forwarding_headers_are_replaced() {
    let upstream = Upstream::echo().await;
    let ferry = Ferry::start(upstream.url()).await;
    let mut client = Client::open(ferry.address).await;
    let spoofed = [
        ("X-Forwarded-For", "6.6.6.6"),
        ("X-Forwarded-Proto", "https"),
        ("X-Forwarded-Host", "evil.example"),
        ("X-Forwarded-Prefix", "/evil"),
        ("X-Real-IP", "6.6.6.6"),
        ("Forwarded", "for=6.6.6.6"),
    ];
    client.send_with(&spoofed, &initialize()).await;
    client.message().await;
    let request = &upstream.log()[0];
    assert_eq!(request.header("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(request.header("x-forwarded-proto"), Some("http"));
    assert_eq!(request.header("x-forwarded-host"), Some("localhost"));
    for absent in ["x-forwarded-prefix", "x-real-ip", "forwarded"] {
        assert_eq!(request.header(absent), None);
    }
    client.leave();
    ferry.stop().await;
}

#[tokio::test]
async fn a_trusted_proxy_is_believed_about_where_a_request_came_from() {
    let upstream = Upstream::echo().await;
    let ferry = Ferry::with(upstream.url(), |config| {
        config.guard.trusted_proxies = vec!["127.0.0.0/8".parse().expect("a network")];
    })
    .await;
    let mut client = Client::open(ferry.address).await;
    let from_proxy = [
        ("X-Forwarded-For", "203.0.113.9, 10.0.0.1"),
        ("X-Forwarded-Proto", "https"),
        ("X-Forwarded-Host", "mcp.example"),
    ];
    client.send_with(&from_proxy, &initialize()).await;
    client.message().await;
    let request = &upstream.log()[0];
    let chain = request.header("x-forwarded-for");
    assert_eq!(chain, Some("203.0.113.9, 10.0.0.1, 127.0.0.1"));
    assert_eq!(request.header("x-forwarded-proto"), Some("https"));
    assert_eq!(request.header("x-forwarded-host"), Some("mcp.example"));
    client.leave();
    ferry.stop().await;
}

#[tokio::test]
async fn upstream_headers_are_on_every_request_and_win() {
    let upstream = Upstream::echo().await;
    let ferry = Ferry::with(upstream.url(), |config| {
        config.upstream.headers = vec![
            (
                HeaderName::from_static("authorization"),
                HeaderValue::from_static("Bearer operator"),
            ),
            (
                HeaderName::from_static("x-env"),
                HeaderValue::from_static("prod"),
            ),
        ];
    })
    .await;
    let mut client = Client::open(ferry.address).await;
    let own = [("Authorization", "Bearer client"), ("X-Env", "dev")];
    client.send_with(&own, &initialize()).await;
    client.message().await;
    exchange(ferry.address, "POST", "/mcp", &own, "{}").await;
    client.leave();
    ferry.quiet().await;
    assert_eq!(upstream.log().len(), 2);
    for request in upstream.log() {
        assert_eq!(request.header("authorization"), Some("Bearer operator"));
        assert_eq!(request.header("x-env"), Some("prod"));
    }
    ferry.stop().await;
}
