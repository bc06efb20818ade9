//! Complaints about what is around: prefixes and hosts that an ingress hides, buffering, headers, credentials,
//! replicas, and being stopped.

use std::time::Duration;

use hyper::header::HeaderName;
use serde_json::json;

use super::between::{Between, Habit};
use crate::support::client::{Client, call, initialize, post};
use crate::support::clock::{Clock, within};
use crate::support::ferry::Ferry;
use crate::support::http::{Wire, exchange, request};
use crate::support::upstream::{Answer, Upstream};

const SECOND: Duration = Duration::from_secs(1);

/// stacklok/toolhive#3071: behind an ingress the endpoint event lacks the prefix, or names a host that only the
/// ingress knows.
#[tokio::test]
async fn c21_the_endpoint_leads_back_through_the_ingress() {
    for (configured, strips, adds) in [
        ("/x", Some("/x"), None),
        ("/x", None, None),
        ("", Some("/x"), Some("X-Forwarded-Prefix: /x")),
    ] {
        let upstream = Upstream::with_sessions().await;
        let ferry = Ferry::with(upstream.url(), |config| {
            config.paths.public_prefix = configured.to_owned();
            let ingress = "127.0.0.0/8".parse().expect("a network");
            config.guard.trusted_proxies.push(ingress);
        })
        .await;
        let ingress = Between::with(Habit::Forwards { strips, adds }, ferry.address).await;
        let mut client = Client::open_with(ingress.address, "/x/sse", &[]).await;
        let endpoint = format!("/x/messages?sessionId={}", client.id());
        assert_eq!(client.endpoint, endpoint);
        // Posts go through the ingress as well.
        client.handshake().await;
        ferry.stop_after(client).await;
    }
}

/// agentgateway/agentgateway#1082: the legacy transport is recognised at exactly `/sse` and nowhere else.
#[tokio::test]
async fn c22_the_paths_are_the_operators_to_choose() {
    let mut upstream = Upstream::with_sessions().await;
    let ferry = Ferry::with(upstream.url(), |config| {
        config.paths.sse = "/team/a/events".to_owned();
        config.paths.messages = "/team/a/post".to_owned();
        config.paths.mcp = "/team/a".to_owned();
    })
    .await;
    for target in ["/team/a/events", "/team/a/events/", "/team/a/events?key=1"] {
        let mut client = Client::open_with(ferry.address, target, &[]).await;
        assert!(client.endpoint.starts_with("/team/a/post?sessionId="));
        client.handshake().await;
        client.leave();
    }
    let json = [("Content-Type", "application/json")];
    let body = call(1, "tools/list").to_string();
    let passed = exchange(ferry.address, "POST", "/team/a", &json, body);
    let answering = async { upstream.expect("POST").await.result(&json!({})).await };
    let (answered, ()) = tokio::join!(passed, answering);
    assert_eq!(answered.status(), 200);
    let gone = exchange(ferry.address, "GET", "/sse", &[], "").await;
    assert_eq!(gone.status(), 404);
    ferry.quiet().await;
    ferry.stop().await;
}

/// langwatch/langwatch#6860: a POST that lands on a replica without the stream is taken, and its answer goes nowhere.
#[tokio::test]
async fn c23_a_post_to_another_replica_is_refused_in_plain_words() {
    let mut upstream = Upstream::with_sessions().await;
    let one = Ferry::start(upstream.url()).await;
    let other = Ferry::start(upstream.url()).await;
    let mut client = Client::ready(one.address).await;
    let body = call(1, "tools/list").to_string();
    let refused = post(other.address, &client.endpoint, &[], &body).await;
    assert_eq!(refused.status(), 404);
    assert!(refused.text().contains("no stream with this sessionId"));
    upstream.assert_quiet();
    // The same request still finds its stream on the right one.
    assert_eq!(client.post(body).await.status(), 202);
    upstream.expect("POST").await.result(&json!({})).await;
    assert_eq!(client.message().await["id"], 1);
    client.leave();
    other.stop().await;
    one.stop().await;
}

/// wso2/api-platform#2968: the response is buffered to its end, which waits for an answer to what is in the buffer.
#[tokio::test]
async fn c26_an_elicitation_in_the_middle_of_a_response_is_seen_before_its_end() {
    let mut upstream = Upstream::with_sessions().await;
    let ferry = Ferry::start(upstream.url()).await;
    let _clock = Clock::stop();
    let ask = json!({"jsonrpc": "2.0", "id": 9, "method": "elicitation/create", "params": {}});
    let told = json!({"jsonrpc": "2.0", "id": 9, "result": {"action": "accept"}});

    // Translated, for a client that would take compression.
    let gzip = [("Accept-Encoding", "gzip, br")];
    let mut client = Client::open_with(ferry.address, "/sse", &gzip).await;
    assert_eq!(client.head.header("x-accel-buffering"), Some("no"));
    assert_eq!(client.head.header("content-encoding"), None);
    client.handshake().await;
    client.send(&call(1, "tools/call")).await;
    let mut events = upstream.expect("POST").await.events().await;
    let encoding = events.request().header("accept-encoding");
    assert_eq!(encoding, Some("identity"));
    events.send(&ask).await;
    let mut answer = told.clone();
    answer["id"] = client.message().await["id"].clone();
    client.send(&answer).await;
    let is_told = |request: &crate::support::upstream::Received| request.json() == told;
    upstream.seen("the answer", is_told).await;
    events.result(&json!({"went": "on"})).await;
    events.end().await;
    assert_eq!(client.message().await["result"]["went"], "on");
    client.leave();

    // Passed through.
    let mut wire = Wire::connect(ferry.address).await;
    let json = [("Content-Type", "application/json")];
    let body = call(1, "tools/call").to_string();
    wire.write(&request("POST", "/mcp", &json, body.as_bytes()))
        .await;
    let mut events = upstream.expect("POST").await.events().await;
    within("the head", wire.head()).await.expect("a head");
    events.send(&ask).await;
    let seen = within("the question", wire.chunk()).await.expect("a chunk");
    let text = format!("event: message\ndata: {ask}\n\n");
    assert_eq!(seen.as_deref(), Some(text.as_bytes()));
    events.end().await;
    ferry.stop().await;
}

/// agentgateway/agentgateway#1390: the upstream's OAuth challenge is dropped or trimmed, and no client can log in.
#[tokio::test]
async fn c27_the_oauth_challenge_reaches_the_client_whole() {
    const CHALLENGE: &str = r#"Bearer error="invalid_token", error_description="The access token expired, or was revoked", scope="files:read files:write", resource_metadata="https://mcp.example.com/.well-known/oauth-protected-resource/mcp""#;
    let upstream = Upstream::start(|_| {
        let headers = [("WWW-Authenticate", CHALLENGE)];
        Some(Answer::new(401, &headers, "Unauthorized"))
    })
    .await;
    let ferry = Ferry::start(upstream.url()).await;
    let client = Client::open(ferry.address).await;
    let translated = client.post(initialize().to_string()).await;
    let json = [("Content-Type", "application/json")];
    let body = initialize().to_string();
    let passed = exchange(ferry.address, "POST", "/mcp", &json, body).await;
    for answered in [translated, passed] {
        assert_eq!(answered.status(), 401);
        assert_eq!(answered.header("www-authenticate"), Some(CHALLENGE));
        assert_eq!(answered.text(), "Unauthorized");
    }
    client.leave();
    ferry.stop().await;
}

/// mcpjungle/MCPJungle#252 and higress-group/higress#2115: no header of the client arrives upstream, or every one.
#[tokio::test]
async fn c28_listed_headers_and_each_posts_own_token_go_upstream_and_no_others() {
    let upstream = Upstream::echo().await;
    let ferry = Ferry::with(upstream.url(), |config| {
        let listed = HeaderName::from_static("x-tenant");
        config.upstream.forward_headers = vec![listed];
    })
    .await;
    let secret = [("Cookie", "sid=1"), ("X-Internal", "secret")];
    let mut client = Client::open_with(ferry.address, "/sse", &secret).await;
    for (id, token) in [(1, "Bearer old"), (2, "Bearer refreshed")] {
        let own = [("Authorization", token), ("X-Tenant", "a")];
        let headers = [&own[..], &secret[..]].concat();
        client.send_with(&headers, &call(id, "tools/list")).await;
        client.message().await;
        let received = upstream
            .seen("the request", |request| request.json()["id"] == json!(id))
            .await;
        assert_eq!(received.header("authorization"), Some(token));
        assert_eq!(received.header("x-tenant"), Some("a"));
    }
    client.leave();
    ferry.quiet().await;
    for request in upstream.log() {
        assert_eq!(request.header("cookie"), None);
        assert_eq!(request.header("x-internal"), None);
    }
    ferry.stop().await;
}

/// PrefectHQ/fastmcp#4468: behind a proxy the server's guard against DNS rebinding answers 421 to the public host.
#[tokio::test]
async fn c29_the_upstream_sees_its_own_host_and_the_ferry_judges_the_clients() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await;
    let listener = listener.expect("bind");
    let own = listener.local_addr().expect("an address").to_string();
    let upstream = Upstream::on(listener, move |request| {
        if request.header("host") != Some(&own) || request.header("origin").is_some() {
            return Some(Answer::new(421, &[], "Invalid Host header"));
        }
        Some(Answer::initialize(request, None))
    });
    let ferry = Ferry::with(upstream.url(), |config| {
        let public = "https://mcp.example.com".parse().expect("a URL");
        config.paths.public_url = Some(public);
        config.guard.allowed_origins = vec!["https://app.example.com".to_owned()];
    })
    .await;
    let public = [
        ("Host", "mcp.example.com"),
        ("Origin", "https://app.example.com"),
        ("X-Forwarded-Host", "spoofed.example.com"),
    ];
    let mut client = Client::open_with(ferry.address, "/sse", &public).await;
    client.send_with(&public, &initialize()).await;
    assert!(client.message().await["result"].is_object());
    let foreign = [("Host", "rebound.example.com")];
    let refused = exchange(ferry.address, "GET", "/sse", &foreign, "").await;
    assert_eq!(refused.status(), 403);
    // A host that anybody may claim to be forwarded for counts for nothing.
    let claimed = [foreign[0], ("X-Forwarded-Host", "mcp.example.com")];
    let refused = exchange(ferry.address, "GET", "/sse", &claimed, "").await;
    assert_eq!(refused.status(), 403);
    client.leave();
    ferry.stop().await;
}

/// PrefectHQ/fastmcp#4791: SIGTERM cuts running calls after 2 s.
#[tokio::test]
async fn c30_being_stopped_waits_for_calls_and_then_ends_streams_cleanly() {
    let mut upstream = Upstream::with_sessions().await;
    let mut ferry = Ferry::start(upstream.url()).await;
    let clock = Clock::stop();
    let mut idle = Client::ready(ferry.address).await;
    let mut busy = Client::ready(ferry.address).await;
    busy.send(&call(1, "tools/call")).await;
    let mut running = upstream.expect("POST").await.events().await;
    ferry.drain();
    idle.ended().await;
    let unready = exchange(ferry.address, "GET", "/readyz", &[], "").await;
    assert_eq!(unready.status(), 503);
    clock.advance(15 * SECOND).await;
    // What the call needs of the client still gets through.
    let ask = json!({"jsonrpc": "2.0", "id": 1, "method": "roots/list"});
    running.send(&ask).await;
    let asked = busy.message().await["id"].clone();
    let roots = json!({"jsonrpc": "2.0", "id": asked, "result": {"roots": []}});
    busy.send(&roots).await;
    running.result(&json!({"finished": true})).await;
    running.end().await;
    assert_eq!(busy.message().await["result"]["finished"], true);
    busy.ended().await;
    ferry.stopped().await;
    let ends = upstream.log();
    let ends = ends.iter().filter(|request| request.method() == "DELETE");
    assert_eq!(ends.count(), 2);
}
