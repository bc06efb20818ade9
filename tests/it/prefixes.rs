//! Path prefixes: a proxy in front may strip one or not, and the `endpoint` event names the address that the client can
//! reach.

use mcp_ferry::config::{Config, EndpointForm};
use serde_json::json;

use crate::support::client::Client;
use crate::support::ferry::Ferry;
use crate::support::http::exchange;
use crate::support::upstream::Upstream;

/// The `endpoint` event of a stream, its id cut off.
async fn endpoint(ferry: &Ferry, target: &str, headers: &[(&str, &str)]) -> String {
    let client = Client::open_with(ferry.address, target, headers).await;
    let (endpoint, id) = client.endpoint.split_once("?sessionId=").expect("an id");
    assert_eq!(id.len(), 64);
    endpoint.to_owned()
}

async fn endpoint_with(target: &str, change: impl FnOnce(&mut Config)) -> String {
    let upstream = Upstream::silent().await;
    let ferry = Ferry::with(upstream.url(), change).await;
    let endpoint = endpoint(&ferry, target, &[]).await;
    ferry.stop().await;
    endpoint
}

fn prefixed(config: &mut Config) {
    config.paths.public_prefix = "/tools/mcp".to_owned();
}

fn public(config: &mut Config, url: &str) {
    config.paths.public_url = Some(url.parse().expect("a URL"));
}

#[tokio::test]
async fn a_prefix_is_served_whether_the_proxy_strips_it_or_not() {
    let upstream = Upstream::echo().await;
    let ferry = Ferry::with(upstream.url(), prefixed).await;
    for prefix in ["", "/tools/mcp"] {
        let target = format!("{prefix}/sse");
        let mut client = Client::open_with(ferry.address, &target, &[]).await;
        // What a client makes of it, and what a stripping proxy makes of that.
        let public = client.endpoint.clone();
        assert!(public.starts_with("/tools/mcp/messages?"), "{public}");
        let stripped = public.strip_prefix("/tools/mcp").expect("a prefix");
        client.handshake().await;
        client.endpoint = stripped.to_owned();
        client.request(1, "tools/list", json!({})).await;
        assert_eq!(client.message().await["result"]["method"], "tools/list");
        for path in ["/mcp", "/healthz", "/readyz"] {
            let target = format!("{prefix}{path}");
            let method = if path == "/mcp" { "POST" } else { "GET" };
            let ping = json!({"jsonrpc": "2.0", "id": 1, "method": "ping"}).to_string();
            let answered = exchange(ferry.address, method, &target, &[], ping).await;
            assert_eq!(answered.status(), 200, "{target}");
        }
        client.leave();
    }
    for wrong in [
        "/tools/sse",
        "/tools/mcpx/sse",
        "/tools/mcp/tools/mcp/sse",
        "/tools/mcp",
    ] {
        let refused = exchange(ferry.address, "GET", wrong, &[], "").await;
        assert_eq!(refused.status(), 404, "{wrong}");
    }
    ferry.quiet().await;
    ferry.stop().await;
}

#[tokio::test]
async fn the_endpoint_is_an_absolute_path_unless_told_otherwise() {
    assert_eq!(endpoint_with("/sse", |_| {}).await, "/messages");
    assert_eq!(endpoint_with("/sse/", |_| {}).await, "/messages");
    assert_eq!(endpoint_with("/sse", prefixed).await, "/tools/mcp/messages");
    let of_public = endpoint_with("/sse", |config| public(config, "https://h.example/deep/")).await;
    assert_eq!(of_public, "/deep/messages");
    let renamed = endpoint_with("/v1/events", |config| {
        config.paths.sse = "/v1/events".to_owned();
        config.paths.messages = "/v1/post".to_owned();
    });
    assert_eq!(renamed.await, "/v1/post");
}

#[tokio::test]
async fn the_endpoint_can_be_relative() {
    let relative = |config: &mut Config| config.paths.endpoint = EndpointForm::Relative;
    assert_eq!(endpoint_with("/sse", relative).await, "messages");
    let nested = endpoint_with("/a/b/sse", |config| {
        relative(config);
        config.paths.sse = "/a/b/sse".to_owned();
        config.paths.messages = "/a/messages".to_owned();
    });
    assert_eq!(nested.await, "../messages");
}

#[tokio::test]
async fn the_endpoint_can_be_the_whole_public_address() {
    let whole = |config: &mut Config| {
        config.paths.endpoint = EndpointForm::AbsoluteUrl;
        public(config, "https://mcp.example:8443");
    };
    let plain = endpoint_with("/sse", whole).await;
    assert_eq!(plain, "https://mcp.example:8443/messages");
    let deep = endpoint_with("/sse", |config| {
        whole(config);
        prefixed(config);
    });
    assert_eq!(deep.await, "https://mcp.example:8443/tools/mcp/messages");
}

#[tokio::test]
async fn a_prefix_in_a_header_counts_only_from_a_trusted_proxy() {
    let upstream = Upstream::silent().await;
    let header = [("X-Forwarded-Prefix", "/from/proxy/")];
    let ferry = Ferry::with(upstream.url(), prefixed).await;
    let plain = endpoint(&ferry, "/sse", &header).await;
    assert_eq!(plain, "/tools/mcp/messages");
    ferry.quiet().await;
    ferry.stop().await;
    for (trusted, expected) in [
        ("10.0.0.0/8", "/messages"),
        ("127.0.0.1/32", "/from/proxy/messages"),
    ] {
        let ferry = Ferry::with(upstream.url(), |config| {
            config.guard.trusted_proxies = vec![trusted.parse().expect("a network")];
        })
        .await;
        assert_eq!(endpoint(&ferry, "/sse", &header).await, expected);
        ferry.quiet().await;
        ferry.stop().await;
    }
}

#[tokio::test]
async fn a_prefix_that_could_lead_elsewhere_is_not_believed() {
    let upstream = Upstream::silent().await;
    let ferry = Ferry::with(upstream.url(), |config| {
        config.guard.trusted_proxies = vec!["127.0.0.0/8".parse().expect("a network")];
    })
    .await;
    for prefix in [
        "//evil.example",
        "https://evil.example",
        "/a/../b",
        "/a?b",
        "/a b",
        "/a\tb",
        "x",
        "",
    ] {
        let headers = [("X-Forwarded-Prefix", prefix)];
        assert_eq!(
            endpoint(&ferry, "/sse", &headers).await,
            "/messages",
            "{prefix}"
        );
    }
    ferry.quiet().await;
    ferry.stop().await;
}
