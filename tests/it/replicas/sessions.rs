//! Sessions of the ferry's on the MCP endpoint, whose requests land on another replica: answers that are whole at once, and
//! those that are pulled part by part.

use std::time::Duration;

use mcp_ferry::config::McpMode;
use serde_json::json;

use super::Pair;
use crate::support::clock::within;
use crate::support::session::{Session, answering, call};
use crate::support::upstream::Upstream;

async fn bridging(upstream: &Upstream) -> Pair {
    Pair::with(upstream.url(), |config| config.mcp = McpMode::Bridge).await
}

impl Pair {
    /// A session of the left replica's, whose client asks the right one.
    async fn session(&self) -> Session {
        let mut session = Session::ready(self.left.address).await;
        session.address = self.right.address;
        session
    }
}

#[tokio::test]
async fn a_session_works_through_another_replica() {
    let upstream = Upstream::echo().await;
    let pair = bridging(&upstream).await;
    let session = pair.session().await;
    for id in 1..10 {
        let answered = session.post(&call(id, "tools/list")).await;
        assert_eq!(answered.status(), 200);
        assert_eq!(answered.header("content-type"), Some("application/json"));
        assert_eq!(answered.json()["id"], id);
        assert!(
            !answered
                .head
                .headers
                .iter()
                .any(|(name, _)| name.starts_with(':'))
        );
    }
    session
        .tell(&json!({"jsonrpc": "2.0", "method": "notifications/roots/list_changed"}))
        .await;
    assert_eq!(upstream.times("tools/list"), 9);
    assert_eq!(session.ask("DELETE", &[]).await.status(), 204);
    for address in [pair.left.address, pair.right.address] {
        let gone = Session {
            address,
            id: session.id.clone(),
        };
        let answered = gone.post(&call(20, "ping")).await;
        assert_eq!(answered.status(), 404, "{answered:?}");
        assert_eq!(answered.json()["error"]["code"], -32600);
    }
    pair.stop().await;
}

#[tokio::test]
async fn a_long_answer_comes_as_it_is_written() {
    let mut upstream = Upstream::with_sessions().await;
    let pair = bridging(&upstream).await;
    let session = pair.session().await;
    let wire = session.begin(&call(1, "tools/call")).await;
    let mut events = upstream.expect("POST").await.events().await;
    // Longer than the first part is waited for.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    events.send(&call(0, "sampling/createMessage")).await;
    let mut stream = answering(wire).await.stream;
    let asked = stream.message().await;
    assert_eq!(asked["method"], "sampling/createMessage");
    session
        .tell(&json!({"jsonrpc": "2.0", "id": asked["id"], "result": {"role": "assistant"}}))
        .await;
    upstream
        .seen("the client's answer", |it| {
            it.json()["result"]["role"] == "assistant"
        })
        .await;
    let large = "x".repeat(300_000);
    for number in 0..20 {
        let params = json!({"progressToken": 1, "progress": number, "message": large});
        events
            .send(&json!({"jsonrpc": "2.0", "method": "notifications/progress", "params": params}))
            .await;
    }
    events.result(&json!({"done": true})).await;
    for number in 0..20 {
        let told = stream.message().await;
        assert_eq!(told["params"]["progress"], number);
        assert_eq!(
            told["params"]["message"].as_str().map(str::len),
            Some(large.len())
        );
    }
    assert_eq!(stream.message().await["result"]["done"], true);
    stream.ended().await;
    assert_eq!(session.ask("DELETE", &[]).await.status(), 204);
    pair.stop().await;
}

#[tokio::test]
async fn a_client_listens_elsewhere_leaves_and_listens_again() {
    let mut upstream = Upstream::listening().await;
    let pair = bridging(&upstream).await;
    let session = pair.session().await;
    let mut listen = upstream.expect("GET").await.events().await;
    let mut stream = session.listen().await.stream;
    let second = session.ask("GET", &[("Accept", "text/event-stream")]).await;
    assert_eq!(second.status(), 409, "one at a time, wherever");
    for number in 0..3 {
        let params = json!({"level": "info", "data": number});
        listen
            .send(&json!({"jsonrpc": "2.0", "method": "notifications/message", "params": params}))
            .await;
        assert_eq!(stream.message().await["params"]["data"], number);
    }
    drop(stream);
    let mut stream = within("it to be noticed that nobody listens", async {
        loop {
            let headers = [
                ("Accept", "text/event-stream"),
                ("Mcp-Session-Id", &*session.id),
            ];
            let mut wire = crate::support::http::Wire::connect(pair.left.address).await;
            wire.write(&crate::support::http::request("GET", "/mcp", &headers, b""))
                .await;
            let head = wire.head().await.expect("a head");
            if head.status() == 200 {
                return crate::support::stream::Stream::new(wire);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    listen
        .send(&json!({"jsonrpc": "2.0", "method": "notifications/tools/list_changed"}))
        .await;
    assert_eq!(
        stream.message().await["method"],
        "notifications/tools/list_changed"
    );
    drop(stream);
    assert_eq!(session.ask("DELETE", &[]).await.status(), 204);
    drop(listen);
    pair.stop().await;
}

#[tokio::test]
async fn an_answer_survives_a_redis_that_is_gone_for_a_while() {
    let mut upstream = Upstream::with_sessions().await;
    let mut pair = bridging(&upstream).await;
    let session = pair.session().await;
    let wire = session.begin(&call(1, "tools/call")).await;
    let mut events = upstream.expect("POST").await.events().await;
    let progress = |number: u64| json!({"jsonrpc": "2.0", "method": "notifications/progress", "params": {"progressToken": 1, "progress": number}});
    events.send(&progress(1)).await;
    let mut stream = answering(wire).await.stream;
    assert_eq!(stream.message().await["params"]["progress"], 1);
    pair.redis.kill();
    events.send(&progress(2)).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    events.send(&progress(3)).await;
    pair.redis.restart().await;
    events.result(&json!({})).await;
    assert_eq!(stream.message().await["params"]["progress"], 2);
    assert_eq!(stream.message().await["params"]["progress"], 3);
    assert_eq!(stream.message().await["id"], 1);
    stream.ended().await;
    assert_eq!(session.ask("DELETE", &[]).await.status(), 204);
    pair.stop().await;
}

#[tokio::test]
async fn a_replica_that_stops_finishes_the_answers_that_it_passes_on() {
    let mut upstream = Upstream::with_sessions().await;
    let mut pair = bridging(&upstream).await;
    let session = pair.session().await;
    let wire = session.begin(&call(1, "tools/call")).await;
    let mut events = upstream.expect("POST").await.events().await;
    tokio::time::sleep(Duration::from_millis(1100)).await;
    pair.right.drain();
    events
        .send(&json!({"jsonrpc": "2.0", "method": "notifications/progress", "params": {"progressToken": 1, "progress": 1}}))
        .await;
    let mut stream = answering(wire).await.stream;
    assert_eq!(stream.message().await["params"]["progress"], 1);
    events.result(&json!({})).await;
    assert_eq!(stream.message().await["id"], 1);
    stream.ended().await;
    let mut at_home = session;
    at_home.address = pair.left.address;
    assert_eq!(at_home.ask("DELETE", &[]).await.status(), 204);
    pair.stop().await;
}
