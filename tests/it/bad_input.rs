//! What clients should not send: each mistake gets its status and a reason, nothing of it goes upstream, the connection
//! goes on.

use serde_json::{Value, json};

use crate::support::client::{Client, call};
use crate::support::ferry::Ferry;
use crate::support::scene::scene;
use crate::support::upstream::Upstream;

/// The connection still works.
async fn goes_on(client: &mut Client) {
    client.request(77, "tools/list", json!({})).await;
    let answer = client.message().await;
    assert_eq!(
        (&answer["id"], &answer["result"]["method"]),
        (&json!(77), &json!("tools/list"))
    );
}

#[tokio::test]
async fn what_is_not_one_json_rpc_message_gets_400() {
    let upstream = Upstream::echo().await;
    let ferry = Ferry::start(upstream.url()).await;
    let mut client = Client::ready(ferry.address).await;
    goes_on(&mut client).await;
    let before = upstream.log().len();
    for body in [
        &b""[..],
        b" ",
        b"{",
        b"}",
        b"nonsense",
        b"null",
        b"1",
        b"\"text\"",
        b"{}",
        br#"{"jsonrpc":"2.0"}"#,
        br#"{"jsonrpc":"1.0","id":1,"method":"ping"}"#,
        br#"{"id":1,"method":"ping"}"#,
        br#"{"jsonrpc":"2.0","id":1,"method":7}"#,
        br#"{"jsonrpc":"2.0","id":null,"method":"ping"}"#,
        br#"{"jsonrpc":"2.0","id":{},"method":"ping"}"#,
        br#"{"jsonrpc":"2.0","id":true,"method":"ping"}"#,
        br#"{"jsonrpc":"2.0","id":1,"id":2,"method":"ping"}"#,
        br#"{"jsonrpc":"2.0","id":1,"method":"ping","method":"tools/call"}"#,
        br#"{"jsonrpc":"2.0","id":1,"method":"ping"} x"#,
        br#"{"jsonrpc":"2.0","id":1,"method":"ping"}{"jsonrpc":"2.0","id":2,"method":"ping"}"#,
        b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"a\nb\"}",
        b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"\xff\"}",
        b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"\\ud800\"}",
        b"{'jsonrpc':'2.0','id':1,'method':'ping'}",
    ] {
        let answered = client.post(body).await;
        let shown = String::from_utf8_lossy(body);
        assert_eq!(answered.status(), 400, "{shown}");
        assert!(
            answered.text().starts_with("mcp-ferry: the body is not "),
            "{}",
            answered.text()
        );
    }
    assert_eq!(upstream.log().len(), before, "nothing went upstream");
    goes_on(&mut client).await;
    client.leave();
    ferry.stop().await;
}

#[tokio::test]
async fn batches_are_taken_apart_or_refused_as_a_whole() {
    let upstream = Upstream::echo().await;
    let ferry = Ferry::start(upstream.url()).await;
    let mut client = Client::ready(ferry.address).await;
    goes_on(&mut client).await;
    let before = upstream.log().len();
    let twice = json!([call(1, "tools/list"), call(1, "tools/list")]);
    for (body, says) in [
        (json!([]), "empty"),
        (json!([call(1, "tools/list"), 7]), "not a JSON-RPC"),
        (json!([[call(1, "tools/list")]]), "not a JSON-RPC"),
        (
            json!([call(1, "tools/list"), call(2, "initialize")]),
            "initialize",
        ),
        (twice, "two requests with id 1"),
    ] {
        let answered = client.post(body.to_string()).await;
        assert_eq!(answered.status(), 400, "{body}");
        assert!(answered.text().contains(says), "{}", answered.text());
    }
    assert_eq!(upstream.log().len(), before, "nothing went upstream");
    // A good one from a client of 2024-11-05, to an upstream of 2025-11-25, which has none.
    let note = json!({"jsonrpc": "2.0", "method": "notifications/x"});
    client
        .send(&json!([
            call(1, "tools/list"),
            note,
            call(2, "prompts/list")
        ]))
        .await;
    let mut ids = [client.message().await, client.message().await].map(|m| m["id"].as_u64());
    ids.sort_unstable();
    assert_eq!(ids, [Some(1), Some(2)]);
    for request in upstream.log() {
        assert!(request.json().is_object());
    }
    client.leave();
    ferry.stop().await;
}

#[tokio::test]
async fn a_client_whose_revision_has_no_batches_gets_400_for_one() {
    let upstream = Upstream::echo().await;
    let ferry = Ferry::start(upstream.url()).await;
    let mut client = Client::open(ferry.address).await;
    let params = json!({"protocolVersion": "2025-06-18", "capabilities": {}});
    client.request(0, "initialize", params).await;
    client.message().await;
    let answered = client
        .post(json!([call(1, "tools/list")]).to_string())
        .await;
    assert_eq!(answered.status(), 400);
    assert!(answered.text().contains("one message at a time"));
    goes_on(&mut client).await;
    client.leave();
    ferry.stop().await;
}

#[tokio::test]
async fn an_id_in_flight_cannot_be_used_again_and_the_first_call_is_untouched() {
    let (mut upstream, ferry, mut client) = scene().await;
    let asked = |id: &str| format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call"}}"#);
    assert_eq!(client.post(asked("1")).await.status(), 202);
    let first = upstream.expect("POST").await;
    for same in ["1", "1.0", "1e0"] {
        let answered = client.post(asked(same)).await;
        assert_eq!(answered.status(), 400, "{same}");
        assert!(answered.text().contains("already in flight"));
    }
    // A string is another id.
    assert_eq!(client.post(asked("\"1\"")).await.status(), 202);
    let second = upstream.expect("POST").await;
    second.result(&json!({"second": true})).await;
    let text = r#"{"id":"1","jsonrpc":"2.0","result":{"second":true}}"#;
    assert_eq!(client.text().await, text);
    first.result(&json!({"first": true})).await;
    let text = r#"{"id":1,"jsonrpc":"2.0","result":{"first":true}}"#;
    assert_eq!(client.text().await, text);
    upstream.assert_quiet();
    // It is free again.
    assert_eq!(client.post(asked("1")).await.status(), 202);
    upstream.expect("POST").await.result(&json!({})).await;
    assert_eq!(client.message().await["id"], 1);
    client.leave();
    ferry.stop().await;
}

#[tokio::test]
async fn answers_and_cancels_that_belong_to_nothing_are_accepted_and_go_nowhere() {
    let upstream = Upstream::echo().await;
    let ferry = Ferry::start(upstream.url()).await;
    let mut client = Client::ready(ferry.address).await;
    goes_on(&mut client).await;
    let before = upstream.log().len();
    for stray in [
        json!({"jsonrpc": "2.0", "id": 1, "result": {}}),
        json!({"jsonrpc": "2.0", "id": "ferry:1", "result": {}}),
        json!({"jsonrpc": "2.0", "id": "ferry:x", "error": {"code": 1, "message": ""}}),
        json!({"jsonrpc": "2.0", "id": null, "error": {"code": 1, "message": ""}}),
        json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 9}}),
    ] {
        client.send(&stray).await;
    }
    assert_eq!(upstream.log().len(), before, "nothing went upstream");
    goes_on(&mut client).await;
    client.leave();
    ferry.stop().await;
}

#[tokio::test]
async fn a_million_levels_of_nesting_get_400() {
    let upstream = Upstream::echo().await;
    let ferry = Ferry::start(upstream.url()).await;
    let mut client = Client::ready(ferry.address).await;
    let deep = |open: &str, close: &str| {
        let (open, close) = (open.repeat(1_000_000), close.repeat(1_000_000));
        format!(r#"{{"jsonrpc":"2.0","id":1,"method":"x","params":{open}1{close}}}"#)
    };
    for body in [
        deep("[", "]"),
        deep("[", ""),
        "[".repeat(1_000_000),
        r#"{"a":"#.repeat(500_000),
    ] {
        let answered = client.post(&body).await;
        assert_eq!(answered.status(), 400);
        assert!(answered.text().contains("nested"), "{}", answered.text());
    }
    goes_on(&mut client).await;
    client.leave();
    ferry.stop().await;
}

#[tokio::test]
async fn more_requests_in_flight_than_allowed_get_errors_and_run_nothing() {
    let mut upstream = Upstream::with_sessions().await;
    let ferry = Ferry::with(upstream.url(), |config| config.limits.max_in_flight = 2).await;
    let mut client = Client::ready(ferry.address).await;
    let mut waiting = Vec::new();
    for id in 1..=2 {
        client.send(&call(id, "tools/call")).await;
        waiting.push(upstream.expect("POST").await);
    }
    client.send(&call(3, "tools/call")).await;
    client.ferry_error(3, "too_many_in_flight", "no").await;
    for received in waiting {
        received.result(&json!({})).await;
        client.message().await;
    }
    upstream.assert_quiet();
    client.send(&call(3, "tools/call")).await;
    upstream.expect("POST").await.result(&json!({})).await;
    assert_eq!(client.message().await["id"], 3);
    client.leave();
    ferry.stop().await;
}

#[tokio::test]
async fn server_discover_is_refused_on_the_stream() {
    let upstream = Upstream::echo().await;
    let ferry = Ferry::start(upstream.url()).await;
    let mut client = Client::open(ferry.address).await;
    let probe =
        json!({"jsonrpc": "2.0", "id": "server-discover-probe-1", "method": "server/discover"});
    client.send(&probe).await;
    let answer: Value = client.message().await;
    assert_eq!(answer["id"], "server-discover-probe-1");
    assert_eq!(answer["error"]["code"], -32601);
    assert!(upstream.log().is_empty());
    client.handshake().await;
    client.leave();
    ferry.stop().await;
}
