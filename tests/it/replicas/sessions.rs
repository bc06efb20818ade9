//! Sessions of the ferry's on the MCP endpoint, whose requests land on another replica: answers that are whole at once, and
//! those that are pulled part by part.

use std::time::Duration;

use mcp_ferry::config::McpMode;
use mcp_ferry::metrics::Counter;
use mcp_ferry::metrics::labels::HandedOver;
use serde_json::json;

use super::{Pair, replica};
use crate::support::clock::{Clock, within};
use crate::support::ferry::Ferry;
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
        assert!(answered.header("content-length").is_some());
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
    // The same as a stream, whole at once too.
    let streamed = session
        .post_with(&[("Accept", "text/event-stream")], &call(10, "tools/list"))
        .await;
    assert_eq!(streamed.header("content-type"), Some("text/event-stream"));
    let caching = streamed.header("cache-control");
    assert_eq!(caching, Some("no-cache, no-transform"));
    assert_eq!(streamed.header("x-accel-buffering"), Some("no"));
    assert_eq!(upstream.times("tools/list"), 10);
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

#[tokio::test]
async fn a_client_that_does_not_read_a_whole_answer_is_given_up_where_it_is_connected() {
    // More than the two sockets hold.
    const TEXT: usize = 4 << 20;
    let mut upstream = Upstream::with_sessions().await;
    let pair = Pair::with(upstream.url(), |config| {
        config.mcp = McpMode::Bridge;
        config.limits.max_message = 2 * TEXT;
        config.limits.client_stall_timeout = Duration::from_secs(3);
        config.replicas.store_timeout = Duration::from_secs(10);
    })
    .await;
    let session = pair.session().await;
    let json = [("Accept", "application/json")];
    let mut wire = session.begin_with(&json, &call(1, "tools/call")).await;
    socket2::SockRef::from(&wire.socket)
        .set_recv_buffer_size(64 << 10)
        .expect("a buffer size");
    let running = upstream.expect("POST").await;
    // From here on its owner has nine seconds for what it hands over.
    let said = |ferry: &Ferry| super::handed_over(ferry, HandedOver::Answered) == 1;
    pair.right.until("the first part", said).await;
    running.result(&json!({"text": "x".repeat(TEXT)})).await;
    let given_up = |ferry: &Ferry| ferry.count(Counter::StalledClients) == 1;
    pair.right.until("it to be given up", given_up).await;
    assert!(wire.closed().await.len() < TEXT);
    // The session is as it was.
    let mut wire = session.begin(&call(2, "tools/list")).await;
    upstream.expect("POST").await.result(&json!({})).await;
    assert_eq!(wire.response().await.json()["id"], 2);
    assert_eq!(session.ask("DELETE", &[]).await.status(), 204);
    pair.stop().await;
}

#[tokio::test]
async fn an_answer_whose_owner_gets_out_of_reach_is_not_the_end_of_its_session() {
    let mut upstream = Upstream::with_sessions().await;
    let mut pair = bridging(&upstream).await;
    let session = pair.session().await;
    let mut wire = session.begin(&call(1, "tools/call")).await;
    let running = upstream.expect("POST").await;
    // The owner has said that it is under way.
    let said = |ferry: &Ferry| super::handed_over(ferry, HandedOver::Answered) >= 1;
    pair.right.until("the first part", said).await;
    pair.redis.kill();
    let clock = Clock::stop();
    let lost = clock.pass_until("the answer", wire.response()).await;
    assert_eq!(lost.status(), 502, "{lost:?}");
    assert_eq!(lost.header("retry-after"), None, "it has been executed");
    assert_eq!(lost.json()["error"]["code"], -32603);
    running.result(&json!({})).await;
    // On its owner the session goes on.
    let mut at_home = session;
    at_home.address = pair.left.address;
    let mut wire = at_home.begin(&call(2, "tools/list")).await;
    upstream.expect("POST").await.result(&json!({})).await;
    assert_eq!(wire.response().await.json()["id"], 2);
    drop(clock);
    tokio::time::resume();
    assert_eq!(at_home.ask("DELETE", &[]).await.status(), 204);
    pair.stop().await;
}

#[tokio::test]
async fn a_client_listens_anew_at_once_when_the_replica_died_that_it_listened_through() {
    let mut upstream = Upstream::listening().await;
    let pair = bridging(&upstream).await;
    let note = json!({"jsonrpc": "2.0", "method": "notifications/tools/list_changed"});
    // It comes back at another replica, then at the owner.
    for (name, next) in [("one", pair.right.address), ("two", pair.left.address)] {
        let mut session = pair.session().await;
        let mut listen = upstream.expect("GET").await.events().await;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let (join, url) = (replica(&pair.redis, name), upstream.url());
        let starting = Ferry::with(url, |config| {
            join(config);
            config.mcp = McpMode::Bridge;
        });
        let dying = runtime.spawn(starting).await.expect("a ferry");
        session.address = dying.address;
        let mut stream = session.listen().await.stream;
        listen.send(&note).await;
        assert_eq!(stream.message().await, note);
        runtime.shutdown_background();
        drop(dying);
        session.address = next;
        let mut stream = session.listen().await.stream;
        listen.send(&note).await;
        assert_eq!(stream.message().await, note);
        session.address = pair.left.address;
        assert_eq!(session.ask("DELETE", &[]).await.status(), 204);
    }
    pair.stop().await;
}
