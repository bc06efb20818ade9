//! Clients that come back with a Last-Event-ID, to another replica or to one that was started again: the handshake that
//! the ferry makes for them is their own (`fixtures/transcripts/*-recalled*` has the rules). What they send back is not
//! believed until it opens.

use mcp_ferry::config::{Config, Keys};
use mcp_ferry::metrics::Counter;
use mcp_ferry::proto::bridge::MAX_CARRIED;
use serde_json::{Value, json};

use crate::support::client::{Client, call};
use crate::support::event_ids::{keys, opened, sealed};
use crate::support::ferry::Ferry;
use crate::support::upstream::{Answer, Received, Upstream, routine};

async fn replica(upstream: &Upstream, keys: Option<Keys>) -> Ferry {
    let configure = |config: &mut Config| config.replicas.keys = keys;
    Ferry::with(upstream.url(), configure).await
}

/// Opens a stream as a client that had this as its last event id.
async fn back(ferry: &Ferry, event_id: &str) -> Client {
    let headers = [("Last-Event-ID", event_id)];
    let mut client = Client::open_with(ferry.address, "/sse", &headers).await;
    client.stream.takes_ids = true;
    client
}

async fn list(client: &mut Client) -> Value {
    client.send(&call(7, "tools/list")).await;
    client.message().await
}

fn initialize(more: &Value) -> Value {
    json!({
        "protocolVersion": "2025-03-26",
        "capabilities": {"sampling": {}, "experimental": {"x": more}},
        "clientInfo": {"name": "native", "version": "1"},
    })
}

/// What the upstream was told of clients, in order.
fn told(upstream: &Upstream) -> Vec<Value> {
    let log = upstream.log();
    let told = log.iter().filter(|request| request.rpc() == "initialize");
    told.map(|request| request.json()["params"].clone())
        .collect()
}

/// What the ferry says of a client that never said anything.
fn is_nobody(params: &Value) -> bool {
    params["clientInfo"]["name"] == json!("mcp-ferry") && params["capabilities"] == json!({})
}

async fn server() -> Upstream {
    Upstream::start(|request: &Received| match request.rpc().as_str() {
        "initialize" => Some(Answer::initialize(request, None)),
        "tools/list" | "resources/subscribe" => Some(Answer::json(
            &json!({"jsonrpc": "2.0", "id": request.json()["id"], "result": {}}),
        )),
        _ => routine(request),
    })
    .await
}

/// A client that shook hands; returns it with its event id.
async fn greeted(ferry: &Ferry, params: &Value) -> (Client, Option<String>) {
    let mut client = Client::open(ferry.address).await;
    client.stream.takes_ids = true;
    client.request(0, "initialize", params.clone()).await;
    client.message().await;
    let id = client.stream.event_id.clone();
    client
        .send(&json!({"jsonrpc": "2.0", "method": "notifications/initialized"}))
        .await;
    (client, id)
}

#[tokio::test]
async fn a_client_is_itself_at_the_next_replica_and_behind_a_restart() {
    let upstream = server().await;
    let params = initialize(&json!(1.5));
    let one = replica(&upstream, Some(keys(1))).await;
    let (client, id) = greeted(&one, &params).await;
    let mut id = id.expect("an event id");
    // Rotated keys: the second replica seals with another, and opens the first's too.
    let rotated = Keys {
        second: Some(keys(1).first),
        ..keys(2)
    };
    one.stop_after(client).await;
    for (keys, of) in [(rotated, 2), (keys(2), 2)] {
        let next = replica(&upstream, Some(keys)).await;
        let mut client = back(&next, &id).await;
        assert_eq!(list(&mut client).await["result"], json!({}));
        assert_eq!(next.count(Counter::Recalls), 1);
        assert_eq!(next.count(Counter::ImplicitHandshakes), 1);
        // It is given the same, sealed with the keys of today.
        id = client.stream.event_id.clone().expect("an event id");
        let carried: Value = serde_json::from_str(&opened(of, &id)).expect("JSON");
        assert_eq!(carried["initialize"], params);
        next.stop_after(client).await;
    }
    assert_eq!(told(&upstream), [params.clone(), params.clone(), params]);
}

#[tokio::test]
async fn the_same_replica_knows_it_again_and_its_own_word_counts_more() {
    let upstream = server().await;
    let (first, other) = (initialize(&json!(1)), initialize(&json!(2)));
    let ferry = replica(&upstream, Some(keys(1))).await;
    let (client, id) = greeted(&ferry, &first).await;
    client.leave();
    let id = id.expect("an event id");
    let mut client = back(&ferry, &id).await;
    list(&mut client).await;
    client.leave();
    let mut client = back(&ferry, &id).await;
    client.request(0, "initialize", other.clone()).await;
    assert!(client.message().await["result"].is_object());
    let new = client.stream.event_id.clone().expect("an event id");
    let carried: Value = serde_json::from_str(&opened(1, &new)).expect("JSON");
    assert_eq!(carried["initialize"], other);
    assert_eq!(told(&upstream), [first.clone(), first, other]);
    ferry.stop_after(client).await;
}

#[tokio::test]
async fn whatever_does_not_open_is_ignored_and_counted() {
    let upstream = server().await;
    let ferry = replica(&upstream, Some(keys(1))).await;
    let text = format!(
        r#"{{"v":1,"initialize":{},"version":"2025-03-26"}}"#,
        initialize(&json!(1))
    );
    let good = sealed(1, &text);
    let mut altered = good.clone().into_bytes();
    altered[60] ^= 1;
    let altered = String::from_utf8(altered).expect("text");
    let wrong = [
        "7",
        &sealed(2, &text),
        &sealed(1, &text.replacen(":1", ":2", 1)),
        &sealed(1, "[]"),
        &sealed(1, &format!("{text}{}", " ".repeat(MAX_CARRIED))),
        &good[..good.len() - 4],
        &altered,
        &"A".repeat(32 * 1024),
        "\u{fc}",
    ];
    for (number, id) in wrong.iter().enumerate() {
        let mut client = back(&ferry, id).await;
        assert_eq!(list(&mut client).await["result"], json!({}));
        assert_eq!(client.stream.event_id, None, "nobody carries nothing");
        assert_eq!(ferry.count(Counter::StrayEventIds), number as u64 + 1);
        client.leave();
    }
    assert!(told(&upstream).iter().all(is_nobody));
    assert_eq!(ferry.count(Counter::Recalls), 0);
    let mut client = back(&ferry, &good).await;
    list(&mut client).await;
    assert_eq!(ferry.count(Counter::Recalls), 1);
    ferry.stop_after(client).await;
}

#[tokio::test]
async fn without_keys_there_are_no_event_ids() {
    let upstream = server().await;
    let ferry = replica(&upstream, None).await;
    let text = format!(
        r#"{{"v":1,"initialize":{},"version":"2025-03-26"}}"#,
        initialize(&json!(1))
    );
    let (client, id) = greeted(&ferry, &initialize(&json!(1))).await;
    assert_eq!(id, None);
    client.leave();
    let mut client = back(&ferry, &sealed(1, &text)).await;
    list(&mut client).await;
    assert!(told(&upstream).last().is_some_and(is_nobody));
    assert_eq!(ferry.count(Counter::StrayEventIds), 0);
    ferry.stop_after(client).await;
}

#[tokio::test]
async fn who_says_too_much_of_itself_carries_nothing_and_subscriptions_go_first() {
    let upstream = server().await;
    let ferry = replica(&upstream, Some(keys(1))).await;
    let (client, id) = greeted(&ferry, &initialize(&json!("x".repeat(MAX_CARRIED)))).await;
    assert_eq!(id, None);
    assert_eq!(ferry.count(Counter::NotCarried), 1);
    client.leave();
    let (mut client, _) = greeted(&ferry, &initialize(&json!("x".repeat(MAX_CARRIED / 2)))).await;
    // What it says then takes the place of that, and must not be outlived by it.
    let too_much = initialize(&json!("x".repeat(MAX_CARRIED)));
    client.request(0, "initialize", too_much).await;
    client.message().await;
    assert_eq!(client.stream.event_id.as_deref(), Some(""));
    assert_eq!(ferry.count(Counter::NotCarried), 2);
    client.leave();
    let mut client = back(&ferry, "").await;
    list(&mut client).await;
    assert!(told(&upstream).last().is_some_and(is_nobody));
    assert_eq!(ferry.count(Counter::StrayEventIds), 0);
    client.leave();
    let (mut client, _) = greeted(&ferry, &initialize(&json!("x".repeat(MAX_CARRIED / 2)))).await;
    for (number, length, kept) in [(1, 100, 1), (2, 100, 2), (3, MAX_CARRIED / 2, 0)] {
        let uri = format!("a:{number}{}", "x".repeat(length));
        client
            .request(number, "resources/subscribe", json!({"uri": uri}))
            .await;
        client.message().await;
        let id = client.stream.event_id.clone().expect("an event id");
        let carried: Value = serde_json::from_str(&opened(1, &id)).expect("JSON");
        let uris = carried["subscriptions"].as_array().map_or(0, Vec::len);
        assert_eq!(uris, kept, "{carried}");
    }
    assert_eq!(ferry.count(Counter::NotCarried), 2);
    ferry.stop_after(client).await;
}

/// The credential is no part of it: the new stream's POSTs bring their own, and nothing of an earlier one is said.
#[tokio::test]
async fn credentials_are_not_carried() {
    let upstream = server().await;
    let one = replica(&upstream, Some(keys(1))).await;
    let mut client = Client::open(one.address).await;
    client.stream.takes_ids = true;
    let message =
        json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": initialize(&json!(1))});
    client
        .send_with(&[("Authorization", "Bearer c4n4ry")], &message)
        .await;
    client.message().await;
    let id = client.stream.event_id.clone().expect("an event id");
    assert!(!opened(1, &id).contains("c4n4ry"));
    one.stop_after(client).await;
    let two = replica(&upstream, Some(keys(1))).await;
    let before = upstream.log().len();
    let mut client = back(&two, &id).await;
    client
        .send_with(&[("Authorization", "Bearer other")], &call(7, "tools/list"))
        .await;
    client.message().await;
    for request in &upstream.log()[before..] {
        assert_eq!(request.header("authorization"), Some("Bearer other"));
    }
    two.stop_after(client).await;
}
