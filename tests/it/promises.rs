//! Sentences of the README that no other test holds, word by word: who may call, and what is sent again.

use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use hyper::header::HeaderName;
use mcp_ferry::config::{Config, CredentialBinding};
use serde_json::json;

use crate::support::client::{Client, call};
use crate::support::clock::Clock;
use crate::support::ferry::Ferry;
use crate::support::scene::scene;
use crate::support::upstream::Upstream;

fn strict(config: &mut Config) {
    config.guard.credential_binding = CredentialBinding::Strict;
    config.upstream.forward_headers = ["x-api-key", "x-tenant"]
        .map(HeaderName::from_static)
        .to_vec();
}

/// The status of a notification that is posted with these headers.
async fn status(client: &Client, headers: &[(&str, &str)]) -> u16 {
    let notice = r#"{"jsonrpc":"2.0","method":"notifications/x"}"#;
    client.post_with(headers, notice).await.status()
}

/// "… the credentials that the stream was opened with (`Authorization`, and what `--forward-header` names and looks like
/// one) …"
#[tokio::test]
async fn a_forwarded_header_binds_a_stream_where_it_looks_like_a_credential() {
    let upstream = Upstream::echo().await;
    let ferry = Ferry::with(upstream.url(), strict).await;
    let own = [("X-Api-Key", "anna"), ("X-Tenant", "1")];
    let client = Client::open_with(ferry.address, "/sse", &own).await;
    assert_eq!(status(&client, &own).await, 202);
    assert_eq!(status(&client, &[("X-Api-Key", "anna")]).await, 202);
    assert_eq!(status(&client, &[("X-Api-Key", "otto")]).await, 404);
    assert_eq!(status(&client, &[("X-Tenant", "1")]).await, 404);
    client.leave();
    ferry.stop().await;
}

/// The value of `Authorization` with a JWT of this holder, one of several.
fn token([issuer, subject, client]: [&str; 3], number: usize) -> String {
    let part = |of: serde_json::Value| BASE64_URL_SAFE_NO_PAD.encode(of.to_string());
    let head = part(json!({"alg": "RS256"}));
    let claims = json!({"iss": issuer, "sub": subject, "client_id": client, "jti": number});
    format!("Bearer {head}.{}.{number}", part(claims))
}

/// "… the same, or a JWT of the same issuer, subject and client …"
#[tokio::test]
async fn a_refreshed_jwt_is_taken_of_the_same_issuer_subject_and_client_alone() {
    let upstream = Upstream::echo().await;
    let ferry = Ferry::with(upstream.url(), strict).await;
    let holder = ["https://idp.example", "anna", "app"];
    let first = token(holder, 1);
    let opened = [("Authorization", first.as_str())];
    let client = Client::open_with(ferry.address, "/sse", &opened).await;
    for other in [
        ["https://evil.example", "anna", "app"],
        ["https://idp.example", "otto", "app"],
        ["https://idp.example", "anna", "another"],
    ] {
        let refused = token(other, 2);
        let answered = status(&client, &[("Authorization", &refused)]).await;
        assert_eq!(answered, 404, "{other:?}");
    }
    let refreshed = token(holder, 3);
    let answered = status(&client, &[("Authorization", &refreshed)]).await;
    assert_eq!(answered, 202);
    client.leave();
    ferry.stop().await;
}

/// "… a request is sent to the server once, or twice if that does no harm (lists, reads, pings) …"
#[tokio::test]
async fn what_does_no_harm_is_sent_twice_and_what_is_unknown_once() {
    let (mut upstream, ferry, mut client) = scene().await;
    let twice = [
        "ping",
        "tools/list",
        "prompts/list",
        "resources/list",
        "resources/templates/list",
        "resources/read",
    ];
    for (id, method) in (1..).zip(twice) {
        client.send(&call(id, method)).await;
        upstream.expect("POST").await.reset();
        upstream.expect("POST").await.result(&json!({})).await;
        assert_eq!(client.message().await["id"], id, "{method}");
        assert_eq!(upstream.times(method), 2, "{method}");
    }
    // Whatever it is called: a name is no promise.
    for (id, method) in (100..).zip(["tools/call", "tools/list/all", "vendor/read"]) {
        client.send(&call(id, method)).await;
        upstream.expect("POST").await.reset();
        client.ferry_error(id, "upstream_lost", "unknown").await;
        assert_eq!(upstream.times(method), 1, "{method}");
    }
    ferry.stop_after(client).await;
}

/// "… a connection that cannot be made is tried for 3 s …"
#[tokio::test]
async fn a_connection_that_cannot_be_made_is_tried_for_three_seconds() {
    let (upstream, ferry, mut client) = scene().await;
    upstream.die().await;
    let clock = Clock::stop();
    let begun = tokio::time::Instant::now();
    client.send(&call(1, "tools/call")).await;
    let error = client.ferry_error(1, "upstream_unreachable", "no");
    clock.pass_until("the error", error).await;
    // The last attempt begins within the three seconds, or is due by then: less than a second later.
    let tried = begun.elapsed();
    let (least, most) = (Duration::from_millis(2500), Duration::from_millis(4500));
    assert!((least..most).contains(&tried), "{tried:?}");
    ferry.stop_after_a_while(client, &clock).await;
}
