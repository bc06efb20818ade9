//! What clients may not do on the MCP endpoint: each has its status, and a JSON-RPC error that says what to do.

use mcp_ferry::config::CredentialBinding;
use mcp_ferry::metrics::Counter;
use serde_json::json;

use super::{bridging, bridging_with, gone};
use crate::support::client::Client;
use crate::support::http::{Response, Wire, chunk, exchange, request};
use crate::support::session::{Session, call, initialize, initialized, post};
use crate::support::upstream::Upstream;

const JSON: (&str, &str) = ("Content-Type", "application/json");

#[track_caller]
fn refused(answered: &Response, status: u16, says: &str) {
    assert_eq!(answered.status(), status, "{answered:?}");
    assert_eq!(answered.header("content-type"), Some("application/json"));
    let error = answered.json();
    let text = error["error"]["message"].as_str().expect("a message");
    assert!(
        text.starts_with("mcp-ferry: ") && text.contains(says),
        "{text}"
    );
}

#[tokio::test]
async fn what_names_no_session_and_begins_none_gets_400() {
    let upstream = Upstream::silent().await;
    let ferry = bridging(upstream.url()).await;
    for message in [call(1, "tools/list"), initialized(), json!([initialize()])] {
        let answered = post(ferry.address, &[], &message).await;
        refused(&answered, 400, "begin with initialize");
    }
    for method in ["GET", "DELETE"] {
        let answered = exchange(ferry.address, method, "/mcp", &[], "").await;
        refused(&answered, 400, "begin with initialize");
    }
    let put = exchange(ferry.address, "PUT", "/mcp", &[], "").await;
    refused(&put, 405, "DELETE");
    assert_eq!(put.header("allow"), Some("GET, POST, DELETE"));
    assert!(upstream.log().is_empty());
    ferry.stop().await;
}

#[tokio::test]
async fn unknown_names_get_404_and_too_many_of_them_429() {
    let upstream = Upstream::silent().await;
    let ferry = bridging(upstream.url()).await;
    let legacy = Client::open(ferry.address).await;
    let strange = [
        "s-1".to_owned(),
        "ferry-".to_owned(),
        format!("ferry-{}", "0".repeat(64)),
    ];
    // The id of a legacy connection is no session, nor the other way round.
    let crossed = format!("ferry-{}", legacy.id());
    for id in strange.into_iter().chain([crossed]) {
        let answered = post(ferry.address, &[("Mcp-Session-Id", &id)], &call(1, "ping")).await;
        refused(&answered, 404, "initialize");
    }
    // Two of these could have been guesses.
    for number in 3..=21 {
        let unknown = Session {
            address: ferry.address,
            id: format!("ferry-{}", "1".repeat(64)),
        };
        let status = if number > 20 { 429 } else { 404 };
        assert_eq!(unknown.ask("GET", &[]).await.status(), status, "{number}");
    }
    assert_eq!(ferry.count(Counter::MissesRefused), 1);
    assert!(upstream.log().is_empty());
    legacy.leave();
    ferry.stop().await;
}

#[tokio::test]
async fn a_sessions_id_is_no_legacy_connection() {
    let upstream = Upstream::with_sessions().await;
    let ferry = bridging(upstream.url()).await;
    let session = Session::ready(ferry.address).await;
    let id = session.id.strip_prefix("ferry-").expect("the mark");
    let target = format!("/messages?sessionId={id}");
    let answered = exchange(ferry.address, "POST", &target, &[JSON], "{}").await;
    assert_eq!(answered.status(), 404);
    ferry.stop().await;
}

#[tokio::test]
async fn a_session_is_bound_to_the_credentials_that_began_it() {
    let upstream = Upstream::echo().await;
    let ferry = bridging_with(upstream.url(), |config| {
        config.guard.credential_binding = CredentialBinding::Strict;
    })
    .await;
    let anna = [("Authorization", "Bearer anna")];
    let answered = post(ferry.address, &anna, &initialize()).await;
    let id = answered
        .header("mcp-session-id")
        .expect("a session")
        .to_owned();
    let session = Session {
        address: ferry.address,
        id,
    };
    for other in [&[][..], &[("Authorization", "Bearer otto")]] {
        let answered = session.post_with(other, &call(1, "ping")).await;
        refused(&answered, 404, "no session");
        assert_eq!(session.ask("GET", other).await.status(), 404);
        assert_eq!(session.ask("DELETE", other).await.status(), 404);
    }
    let answered = session.post_with(&anna, &call(1, "ping")).await;
    assert_eq!(answered.json()["result"]["method"], "ping");
    ferry.stop().await;
}

#[tokio::test]
async fn bodies_are_judged_as_on_the_legacy_path() {
    let upstream = Upstream::with_sessions().await;
    let ferry = bridging_with(upstream.url(), |config| {
        config.limits.max_request_body = 2000;
    })
    .await;
    let session = Session::ready(ferry.address).await;
    let name = ("Mcp-Session-Id", session.id.as_str());
    for names in [&[name][..], &[]] {
        let ask = async |headers: &[(&str, &str)], body: &str| {
            let headers = [names, headers].concat();
            exchange(ferry.address, "POST", "/mcp", &headers, body).await
        };
        refused(
            &ask(&[("Content-Type", "text/plain")], "{}").await,
            415,
            "application/json",
        );
        refused(&ask(&[JSON], "{").await, 400, "not JSON");
        refused(&ask(&[JSON], "{}").await, 400, "JSON-RPC");
        refused(&ask(&[JSON], &"[".repeat(500)).await, 400, "nested deeper");
        refused(
            &ask(&[JSON], &" ".repeat(2001)).await,
            413,
            "--max-request-body",
        );
        let mut wire = Wire::connect(ferry.address).await;
        let headers = [names, &[JSON, ("Transfer-Encoding", "chunked")]].concat();
        wire.write(&request("POST", "/mcp", &headers, b"")).await;
        wire.write(&chunk(&[b' '; 2001])).await;
        refused(&wire.response().await, 413, "--max-request-body");
    }
    // The codes are those of JSON-RPC.
    let answered = exchange(ferry.address, "POST", "/mcp", &[JSON], "{").await;
    assert_eq!(answered.json()["error"]["code"], -32700);
    let answered = exchange(ferry.address, "POST", "/mcp", &[JSON], "{}").await;
    assert_eq!(answered.json()["error"]["code"], -32600);
    ferry.stop().await;
}

#[tokio::test]
async fn a_session_speaks_the_handshake_revisions_only() {
    let upstream = Upstream::echo().await;
    let ferry = bridging(upstream.url()).await;
    let session = Session::ready(ferry.address).await;
    for strange in ["2026-07-28", "1999-01-01", "x"] {
        let version = [("MCP-Protocol-Version", strange)];
        let answered = session.post_with(&version, &call(1, "ping")).await;
        refused(&answered, 400, "MCP-Protocol-Version");
    }
    // What clients that speak both eras send besides does no harm.
    let usual = [
        ("MCP-Protocol-Version", "2025-06-18"),
        ("Mcp-Method", "ping"),
    ];
    let answered = session.post_with(&usual, &call(1, "ping")).await;
    assert_eq!(answered.status(), 200);
    ferry.stop().await;
}

#[tokio::test]
async fn an_id_that_is_in_flight_is_refused_and_its_first_owner_is_answered() {
    let mut upstream = Upstream::with_sessions().await;
    let ferry = bridging(upstream.url()).await;
    let session = Session::ready(ferry.address).await;
    let mut wire = session.begin(&call(1, "tools/call")).await;
    let received = upstream.expect("POST").await;
    refused(
        &session.post(&call(1, "tools/list")).await,
        400,
        "already in flight",
    );
    received.result(&json!({"of": "first"})).await;
    assert_eq!(wire.response().await.json()["result"]["of"], "first");
    ferry.stop().await;
}

#[tokio::test]
async fn foreign_pages_and_hosts_get_nowhere() {
    let upstream = Upstream::with_sessions().await;
    let ferry = bridging(upstream.url()).await;
    let session = Session::ready(ferry.address).await;
    let foreign = [("Origin", "https://evil.example")];
    refused(
        &post(ferry.address, &foreign, &initialize()).await,
        403,
        "Origin",
    );
    refused(
        &session.post_with(&foreign, &call(1, "ping")).await,
        403,
        "Origin",
    );
    assert_eq!(session.ask("GET", &foreign).await.status(), 403);
    assert_eq!(session.ask("DELETE", &foreign).await.status(), 403);
    let host = [("Host", "evil.example")];
    assert_eq!(
        post(ferry.address, &host, &initialize()).await.status(),
        403
    );
    let own = [("Origin", "http://localhost:6274")];
    assert_eq!(session.post_with(&own, &initialized()).await.status(), 202);
    ferry.stop().await;
}

#[tokio::test]
async fn an_allowed_page_may_read_the_sessions_name() {
    let upstream = Upstream::with_sessions().await;
    let ferry = bridging_with(upstream.url(), |config| config.guard.cors = true).await;
    let origin = [("Origin", "http://localhost:6274")];
    let answered = post(ferry.address, &origin, &initialize()).await;
    let exposed = answered.header("access-control-expose-headers");
    assert!(exposed.is_some_and(|names| names.contains("mcp-session-id")));
    assert_eq!(
        answered.header("access-control-allow-origin"),
        Some(origin[0].1)
    );
    ferry.stop().await;
}

#[tokio::test]
async fn sessions_count_as_connections() {
    let upstream = Upstream::with_sessions().await;
    let ferry = bridging_with(upstream.url(), |config| config.limits.max_connections = 2).await;
    let first = Session::ready(ferry.address).await;
    let legacy = Client::open(ferry.address).await;
    let full = post(ferry.address, &[], &initialize()).await;
    refused(&full, 503, "--max-connections");
    assert_eq!(full.header("retry-after"), Some("1"));
    assert_eq!(ferry.count(Counter::ConnectionsRefused), 1);
    assert_eq!(first.ask("DELETE", &[]).await.status(), 204);
    gone(&first).await;
    ferry
        .until("a free place", |ferry| ferry.open_connections() == 1)
        .await;
    let second = Session::ready(ferry.address).await;
    drop((second, legacy));
    ferry.stop().await;
}
