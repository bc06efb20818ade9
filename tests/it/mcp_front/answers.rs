//! What a POST of a session is answered with: its form, its order, its end.

use serde_json::json;

use super::{bridging, bridging_with};
use crate::support::session::{Session, answering, call, initialize, initialized, post};
use crate::support::stream::Item;
use crate::support::upstream::Upstream;

#[tokio::test]
async fn one_outcome_is_one_json_text_and_goes_through_the_upstreams_session() {
    for upstream in [Upstream::with_sessions().await, Upstream::stateless().await] {
        let mut upstream = upstream;
        let ferry = bridging(upstream.url()).await;
        let session = Session::ready(ferry.address).await;
        let token = [("Authorization", "Bearer t")];
        let mut wire = session.begin_with(&token, &call(1, "tools/list")).await;
        let received = upstream.expect("POST").await;
        assert_eq!(received.request.header("authorization"), Some("Bearer t"));
        let named = received.request.header("mcp-session-id");
        assert!(named.is_none_or(|name| name == "session-1"), "{named:?}");
        received.result(&json!({"tools": []})).await;
        let answered = wire.response().await;
        assert_eq!(answered.header("content-type"), Some("application/json"));
        assert_eq!(answered.json()["result"], json!({"tools": []}));
        assert_eq!(answered.header("mcp-session-id"), None, "said once");
        ferry.stop().await;
    }
}

#[tokio::test]
async fn what_comes_during_a_call_is_on_its_own_stream_in_order_and_the_outcome_ends_it() {
    let mut upstream = Upstream::with_sessions().await;
    let ferry = bridging(upstream.url()).await;
    let session = Session::ready(ferry.address).await;
    let first = session.begin(&call(1, "tools/call")).await;
    let mut one = upstream.expect("POST").await.events().await;
    let second = session.begin(&call(2, "tools/call")).await;
    let mut two = upstream.expect("POST").await.events().await;
    let progress =
        |n: u64| json!({"jsonrpc": "2.0", "method": "notifications/progress", "params": {"n": n}});
    one.send(&progress(1)).await;
    two.send(&progress(2)).await;
    let (mut first, mut second) = (answering(first).await, answering(second).await);
    assert_eq!(first.stream.message().await, progress(1));
    assert_eq!(second.stream.message().await, progress(2));
    two.result(&json!({"of": 2})).await;
    one.send(&progress(3)).await;
    one.result(&json!({"of": 1})).await;
    assert_eq!(first.stream.message().await, progress(3));
    assert_eq!(first.stream.message().await["result"]["of"], 1);
    first.stream.ended().await;
    assert_eq!(second.stream.message().await["result"]["of"], 2);
    second.stream.ended().await;
    assert_eq!(first.head.header("x-accel-buffering"), Some("no"));
    ferry.stop().await;
}

#[tokio::test]
async fn a_batch_is_answered_on_one_stream_where_the_revision_has_batches() {
    let mut upstream = Upstream::with_sessions().await;
    let ferry = bridging(upstream.url()).await;
    let mut hello = initialize();
    hello["params"]["protocolVersion"] = json!("2025-03-26");
    let answered = post(ferry.address, &[], &hello).await;
    let id = answered
        .header("mcp-session-id")
        .expect("a session")
        .to_owned();
    let session = Session {
        address: ferry.address,
        id,
    };
    let ping = json!({"jsonrpc": "2.0", "method": "notifications/x"});
    let batch = json!([call(1, "tools/list"), ping, call(2, "prompts/list")]);
    let wire = session.begin(&batch).await;
    for _ in 0..2 {
        upstream.expect("POST").await.result(&json!({})).await;
    }
    let mut stream = answering(wire).await.stream;
    let mut ids = Vec::new();
    while let Item::Message(text) = stream.next().await {
        ids.push(text.contains("\"id\":2"));
    }
    ids.sort_unstable();
    assert_eq!(ids, [false, true]);
    // A client of a later revision is told that there are none.
    let later = Session::ready(ferry.address).await;
    let refused = later.post(&json!([call(1, "tools/list")])).await;
    assert_eq!(refused.status(), 400);
    assert!(refused.text().contains("no batches"), "{refused:?}");
    ferry.stop().await;
}

#[tokio::test]
async fn an_answer_takes_the_form_that_the_client_accepts() {
    let mut upstream = Upstream::with_sessions().await;
    let ferry = bridging(upstream.url()).await;
    let session = Session::ready(ferry.address).await;
    let accept = |value| [("Accept", value)];
    let events = session
        .begin_with(&accept("text/event-stream"), &call(1, "ping"))
        .await;
    upstream.expect("POST").await.result(&json!({})).await;
    let mut stream = answering(events).await.stream;
    assert_eq!(stream.message().await["id"], 1);
    stream.ended().await;
    // Nothing but the outcome fits into one JSON text; the rest goes where the client listens.
    let mut listener = session.listen().await.stream;
    let mut json = session
        .begin_with(&accept("application/json"), &call(2, "tools/call"))
        .await;
    let mut call = upstream.expect("POST").await.events().await;
    let note = json!({"jsonrpc": "2.0", "method": "notifications/message"});
    call.send(&note).await;
    assert_eq!(listener.message().await, note);
    call.result(&json!({})).await;
    let answered = json.response().await;
    assert_eq!(answered.header("content-type"), Some("application/json"));
    assert_eq!(answered.json()["id"], 2);
    for method in ["POST", "GET"] {
        let neither = [
            ("Accept", "text/html"),
            ("Content-Type", "application/json"),
        ];
        let refused = session.ask(method, &neither).await;
        assert_eq!(refused.status(), 406, "{method}");
    }
    ferry.stop().await;
}

#[tokio::test]
async fn one_socket_carries_answers_of_every_form_one_after_another() {
    let mut upstream = Upstream::with_sessions().await;
    let ferry = bridging(upstream.url()).await;
    let session = Session::ready(ferry.address).await;
    let mut wire = session.begin(&call(1, "tools/list")).await;
    upstream.expect("POST").await.result(&json!({})).await;
    assert_eq!(wire.response().await.json()["id"], 1);
    session.write(&mut wire, &initialized()).await;
    let accepted = wire.response().await;
    assert_eq!((accepted.status(), accepted.text()), (202, ""));
    session.write(&mut wire, &call(2, "tools/call")).await;
    let mut events = upstream.expect("POST").await.events().await;
    let note = json!({"jsonrpc": "2.0", "method": "notifications/message"});
    events.send(&note).await;
    events.result(&json!({})).await;
    let mut answer = answering(wire).await.stream;
    assert_eq!(answer.message().await, note);
    assert_eq!(answer.message().await["id"], 2);
    answer.ended().await;
    let mut wire = answer.wire;
    session.write(&mut wire, &call(3, "tools/list")).await;
    upstream.expect("POST").await.result(&json!({})).await;
    assert_eq!(wire.response().await.json()["id"], 3);
    drop(wire);
    ferry.stop().await;
}

#[tokio::test]
async fn a_large_outcome_is_a_stream_and_arrives_whole() {
    let mut upstream = Upstream::with_sessions().await;
    let ferry = bridging(upstream.url()).await;
    let session = Session::ready(ferry.address).await;
    let wire = session.begin(&call(1, "resources/read")).await;
    let text = "x".repeat(3 << 20);
    let received = upstream.expect("POST").await;
    let answering = async {
        let mut stream = answering(wire).await.stream;
        let outcome = stream.message().await;
        stream.ended().await;
        outcome
    };
    let result = json!({"text": text});
    let (outcome, ()) = tokio::join!(answering, received.result(&result));
    assert_eq!(outcome["result"]["text"], *text);
    ferry.stop().await;
}

#[tokio::test]
async fn failures_of_the_upstream_and_limits_are_outcomes_like_others() {
    let mut upstream = Upstream::with_sessions().await;
    let ferry = bridging_with(upstream.url(), |config| config.limits.max_in_flight = 1).await;
    let session = Session::ready(ferry.address).await;
    let mut wire = session.begin(&call(1, "tools/call")).await;
    let received = upstream.expect("POST").await;
    let more = session.post(&call(2, "tools/call")).await;
    let reason = "/error/data/ferry/reason";
    assert_eq!(
        more.json().pointer(reason),
        Some(&json!("too_many_in_flight"))
    );
    drop(received);
    let lost = wire.response().await;
    assert_eq!(lost.json().pointer(reason), Some(&json!("upstream_lost")));
    ferry.stop().await;
}
