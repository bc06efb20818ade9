//! Refused credentials: a 401 or 403 of the upstream reaches the client as HTTP wherever the client can still use it
//! there, and as an error on the stream otherwise.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::support::client::{Client, call, initialize, post};
use crate::support::clock::{Clock, within};
use crate::support::ferry::Ferry;
use crate::support::http::Response;
use crate::support::upstream::{Answer, Upstream};

const CHALLENGES: [&str; 2] = [
    r#"Bearer realm="a, b", error="invalid_token", scope="x y", resource_metadata="https://m.example/.well-known/p""#,
    r#"DPoP algs="ES256", Basic realm="quoted \" comma,""#,
];

/// An upstream's refusal with two challenges and a body.
fn refusal(status: u16) -> Answer {
    let headers = [
        ("WWW-Authenticate", CHALLENGES[0]),
        ("www-authenticate", CHALLENGES[1]),
        ("Content-Type", "application/problem+json"),
    ];
    Answer::new(status, &headers, r#"{"title":"who are you?"}"#)
}

fn is_the_refusal(answered: &Response, status: u16) {
    assert_eq!(answered.status(), status, "{answered:?}");
    assert_eq!(answered.head.all("www-authenticate"), CHALLENGES);
    let kind = answered.header("content-type");
    assert_eq!(kind, Some("application/problem+json"));
    assert_eq!(answered.text(), r#"{"title":"who are you?"}"#);
}

/// Posts in the background with a bearer token.
fn posting(client: &Client, token: &str, message: &Value) -> JoinHandle<Response> {
    let (address, endpoint) = (client.address, client.endpoint.clone());
    let (token, body) = (format!("Bearer {token}"), message.to_string());
    tokio::task::spawn(
        async move { post(address, &endpoint, &[("Authorization", &token)], body).await },
    )
}

async fn answered(posted: JoinHandle<Response>) -> Response {
    within("the status", posted).await.expect("no panic")
}

/// A connection whose handshake went well with this token.
async fn proven(ferry: &Ferry, upstream: &mut Upstream, token: &str) -> Client {
    let mut client = Client::open(ferry.address).await;
    let posted = posting(&client, token, &initialize());
    let received = upstream.expect("POST").await;
    let answer = Answer::initialize(&received.request, None);
    received.answer(answer).await;
    assert_eq!(answered(posted).await.status(), 202);
    assert_eq!(client.message().await["id"], 0);
    client
}

#[tokio::test]
async fn a_refusal_of_an_unproven_credential_reaches_the_client_whole() {
    let mut upstream = Upstream::silent().await;
    let ferry = Ferry::start(upstream.url()).await;
    for status in [401, 403] {
        let mut client = Client::open(ferry.address).await;
        let posted = posting(&client, "no", &initialize());
        upstream.expect("POST").await.answer(refusal(status)).await;
        is_the_refusal(&answered(posted).await, status);

        // The same id may be used again: the refused request was never accepted.
        let posted = posting(&client, "yes", &initialize());
        let received = upstream.expect("POST").await;
        assert_eq!(received.request.header("authorization"), Some("Bearer yes"));
        let answer = Answer::initialize(&received.request, None);
        received.answer(answer).await;
        assert_eq!(answered(posted).await.status(), 202);
        // And nothing of the refusal is on the stream.
        assert_eq!(client.message().await["id"], 0);
        client.leave();
    }
    ferry.quiet().await;
    ferry.stop().await;
}

#[tokio::test]
async fn a_refusal_without_a_handshake_reaches_the_client_too() {
    let mut upstream = Upstream::silent().await;
    let ferry = Ferry::start(upstream.url()).await;
    let client = Client::open(ferry.address).await;
    let posted = posting(&client, "no", &call(1, "tools/list"));
    let received = upstream.expect("POST").await;
    assert_eq!(received.request.rpc(), "initialize");
    received.answer(refusal(401)).await;
    is_the_refusal(&answered(posted).await, 401);
    upstream.assert_quiet();
    client.leave();
    ferry.stop().await;
}

#[tokio::test]
async fn a_refused_notification_reaches_the_client_too() {
    let mut upstream = Upstream::silent().await;
    let ferry = Ferry::start(upstream.url()).await;
    let client = proven(&ferry, &mut upstream, "a").await;
    let note = json!({"jsonrpc": "2.0", "method": "notifications/roots/list_changed"});
    let posted = posting(&client, "b", &note);
    upstream.expect("POST").await.answer(refusal(401)).await;
    is_the_refusal(&answered(posted).await, 401);
    client.leave();
    ferry.stop().await;
}

#[tokio::test]
async fn a_refusal_after_the_hold_becomes_an_error_on_the_stream() {
    let mut upstream = Upstream::silent().await;
    let ferry = Ferry::start(upstream.url()).await;
    let clock = Clock::stop();
    let mut client = Client::open(ferry.address).await;
    let posted = posting(&client, "no", &initialize());
    let received = upstream.expect("POST").await;
    clock.advance(Duration::from_secs(3)).await;
    assert_eq!(answered(posted).await.status(), 202);
    received.answer(refusal(401)).await;
    let error = client.ferry_error(0, "unauthorized", "no").await;
    assert_eq!(error["error"]["data"]["ferry"]["status"], 401);
    client.leave();
    ferry.stop().await;
}

#[tokio::test]
async fn a_proven_token_that_expires_is_held_again_and_a_refreshed_one_goes_on() {
    let mut upstream = Upstream::silent().await;
    let ferry = Ferry::start(upstream.url()).await;
    // No time passes: a POST that is answered at once was not held.
    let _clock = Clock::stop();
    let mut client = proven(&ferry, &mut upstream, "old").await;

    // Proven: accepted at once, so the refusal comes too late for HTTP.
    let posted = posting(&client, "old", &call(1, "tools/list"));
    assert_eq!(answered(posted).await.status(), 202);
    upstream.expect("POST").await.answer(refusal(401)).await;
    client.ferry_error(1, "unauthorized", "no").await;

    // Refused last: held, so the refusal comes as HTTP.
    let posted = posting(&client, "old", &call(2, "tools/list"));
    let received = upstream.expect("POST").await;
    assert!(!posted.is_finished());
    received.answer(refusal(401)).await;
    is_the_refusal(&answered(posted).await, 401);

    // Refreshed: held until the upstream takes it, on the same stream.
    let posted = posting(&client, "new", &call(3, "tools/list"));
    let received = upstream.expect("POST").await;
    assert_eq!(received.request.header("authorization"), Some("Bearer new"));
    assert!(!posted.is_finished());
    received.result(&json!({})).await;
    assert_eq!(answered(posted).await.status(), 202);
    assert_eq!(client.message().await["id"], 3);

    // Proven now: accepted at once.
    let posted = posting(&client, "new", &call(4, "tools/list"));
    assert_eq!(answered(posted).await.status(), 202);
    upstream.expect("POST").await.result(&json!({})).await;
    assert_eq!(client.message().await["id"], 4);
    client.leave();
    ferry.stop().await;
}

#[tokio::test]
async fn other_refusals_are_accepted_and_become_errors_on_the_stream() {
    let mut upstream = Upstream::silent().await;
    let ferry = Ferry::start(upstream.url()).await;
    let mut client = Client::open(ferry.address).await;
    for (status, reason, executed) in [
        (400, "upstream_refused", "no"),
        (402, "upstream_refused", "no"),
        (404, "upstream_refused", "no"),
        (405, "upstream_refused", "no"),
        (409, "upstream_refused", "unknown"),
        (413, "upstream_refused", "no"),
        (421, "upstream_refused", "no"),
        (429, "upstream_refused", "no"),
        (500, "upstream_refused", "unknown"),
        (502, "upstream_refused", "unknown"),
        (503, "upstream_refused", "unknown"),
    ] {
        let posted = posting(&client, "any", &initialize());
        let headers = [("Content-Type", "text/plain"), ("Retry-After", "7")];
        let answer = || Answer::new(status, &headers, "the reason is here");
        upstream.expect("POST").await.answer(answer()).await;
        if status == 400 {
            // It might be a modern server's, and is asked whether it is.
            upstream.expect("POST").await.answer(answer()).await;
        }
        assert_eq!(answered(posted).await.status(), 202, "{status}");
        let error = client.ferry_error(0, reason, executed).await;
        let ferry = &error["error"]["data"]["ferry"];
        assert_eq!(ferry["status"], status);
        assert_eq!(ferry["retryAfterMs"], 7000);
        let text = error["error"]["message"].as_str().expect("text");
        assert!(text.contains("the reason is here"), "{text}");
    }
    client.leave();
    ferry.stop().await;
}

#[tokio::test]
async fn a_json_rpc_error_under_any_status_reaches_its_id_unchanged() {
    let mut upstream = Upstream::silent().await;
    let ferry = Ferry::start(upstream.url()).await;
    let mut client = proven(&ferry, &mut upstream, "a").await;
    for (id, status) in [
        (r#""server-error""#, 400),
        ("null", 404),
        ("5", 500),
        ("5", 401),
    ] {
        let posted = posting(&client, "a", &call(5, "tools/call"));
        assert_eq!(answered(posted).await.status(), 202);
        let error = r#""error":{"code":-32000,"message":"no","data":{"n":1.0}}"#;
        let body = format!(r#"{{"jsonrpc":"2.0","id":{id},{error}}}"#);
        let json = [("Content-Type", "application/json")];
        let answer = Answer::new(status, &json, body);
        upstream.expect("POST").await.answer(answer).await;
        let text = client.text().await;
        assert_eq!(text, format!(r#"{{"jsonrpc":"2.0","id":5,{error}}}"#));
    }
    client.leave();
    ferry.stop().await;
}
