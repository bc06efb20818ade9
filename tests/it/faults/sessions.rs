//! F7 and F8: the upstream refuses a request because it lost the session, or because it has too much to do.
//!
//! Both are told in so many words, so that what was refused may be sent again: on a new session, or later.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use super::{SECOND, of_revision, promising, told_of_changes};
use crate::support::client::{Client, call};
use crate::support::clock::Clock;
use crate::support::ferry::Ferry;
use crate::support::scene::{scene, works};
use crate::support::upstream::{Answer, Upstream, routine};

/// A server whose sessions are named after how often it forgot them: `session-0` and on.
async fn forgetful() -> (Upstream, Arc<AtomicUsize>) {
    let forgot = Arc::new(AtomicUsize::new(0));
    let times = Arc::clone(&forgot);
    let upstream = Upstream::start(move |request| {
        let session = format!("session-{}", times.load(Ordering::Relaxed));
        if request.rpc() == "initialize" {
            return Some(promising(request, &session));
        }
        if request.header("mcp-session-id") != Some(&session) {
            return Some(Answer::new(404, &[], "Session not found"));
        }
        routine(request)
    })
    .await;
    (upstream, forgot)
}

#[tokio::test]
async fn f07_after_a_lost_session_a_later_client_is_told_that_lists_may_have_changed() {
    let (mut upstream, forgot) = forgetful().await;
    let ferry = Ferry::start(upstream.url()).await;
    for revision in ["2025-03-26", "2025-11-25"] {
        let mut client = of_revision(ferry.address, revision).await;
        works(&mut client, &mut upstream).await;
        forgot.fetch_add(1, Ordering::Relaxed);
        client.send(&call(1, "tools/call")).await;
        let again = upstream.expect("POST").await;
        assert_eq!(again.request.rpc(), "tools/call");
        told_of_changes(&mut client).await;
        again.result(&json!({"n": 1})).await;
        assert_eq!(client.message().await["result"]["n"], 1);
        // Once, not at every call.
        works(&mut client, &mut upstream).await;
        client.leave();
        ferry.quiet().await;
    }
    ferry.stop().await;
}

/// Early Python clients hang on a notification that they did not cause.
#[tokio::test]
async fn f07_after_a_lost_session_an_early_client_sees_nothing_but_its_answer() {
    let (mut upstream, forgot) = forgetful().await;
    let ferry = Ferry::start(upstream.url()).await;
    let mut client = of_revision(ferry.address, "2024-11-05").await;
    forgot.fetch_add(1, Ordering::Relaxed);
    client.send(&call(1, "tools/call")).await;
    upstream.expect("POST").await.result(&json!({"n": 1})).await;
    assert_eq!(client.message().await["result"]["n"], 1);
    works(&mut client, &mut upstream).await;
    assert_eq!(upstream.times("initialize"), 2);
    ferry.stop_after(client).await;
}

#[tokio::test]
async fn f07_what_ran_on_the_lost_session_ends_by_its_own_stream_or_was_perhaps_executed() {
    let (mut upstream, forgot) = forgetful().await;
    let ferry = Ferry::start(upstream.url()).await;
    let mut client = Client::ready(ferry.address).await;
    let mut running = Vec::new();
    for id in 1..=2 {
        client.send(&call(id, "tools/call")).await;
        running.push(upstream.expect("POST").await.events().await);
    }
    forgot.fetch_add(1, Ordering::Relaxed);
    // The loss is noticed by another request, which is sent again on the new session.
    works(&mut client, &mut upstream).await;
    let (second, mut first) = (running.pop().expect("two"), running.pop().expect("two"));
    first.result(&json!({"n": 1})).await;
    assert_eq!(client.message().await["result"]["n"], 1);
    drop(second);
    client.ferry_error(2, "upstream_cut", "unknown").await;
    assert_eq!(upstream.times("tools/call"), 2);
    ferry.stop_after(client).await;
}

fn refusal(status: u16, seconds: Option<&str>) -> Answer {
    let header = seconds.map(|seconds| ("Retry-After", seconds));
    Answer::new(status, header.as_slice(), "too much to do")
}

/// The error must name the status and, in milliseconds, the time after which to come again.
fn names(error: &Value, status: u16, seconds: Option<&str>) {
    let ferry = &error["error"]["data"]["ferry"];
    assert_eq!(ferry["status"], status, "{error}");
    let millis = seconds.map(|seconds| 1000 * seconds.parse::<u64>().expect("seconds"));
    assert_eq!(ferry["retryAfterMs"], json!(millis), "{error}");
}

#[tokio::test]
async fn f08_a_call_refused_for_now_is_an_error_at_once_with_the_time_to_come_again() {
    let (mut upstream, ferry, mut client) = scene().await;
    // No time passes.
    let _clock = Clock::stop();
    for (id, (status, seconds, executed)) in (1..).zip([
        (429, Some("1"), "no"),
        (429, Some("60"), "no"),
        (429, None, "no"),
        (503, Some("1"), "unknown"),
        (503, Some("60"), "unknown"),
        (503, None, "unknown"),
    ]) {
        client.send(&call(id, "tools/call")).await;
        let refused = upstream.expect("POST").await;
        refused.answer(refusal(status, seconds)).await;
        let error = client.ferry_error(id, "upstream_refused", executed).await;
        names(&error, status, seconds);
    }
    assert_eq!(upstream.times("tools/call"), 6);
    ferry.stop_after(client).await;
}

#[tokio::test]
async fn f08_a_safe_request_refused_for_five_seconds_at_most_is_sent_again_after_them() {
    let mut upstream = Upstream::with_sessions().await;
    let ferry = Ferry::start(upstream.url()).await;
    let clock = Clock::stop();
    let mut client = Client::ready(ferry.address).await;
    for (id, (status, seconds)) in (1..).zip([(429, 1), (503, 2), (429, 5), (503, 5)]) {
        let text = seconds.to_string();
        client.send(&call(id, "resources/read")).await;
        let refused = upstream.expect("POST").await;
        refused.answer(refusal(status, Some(&text))).await;
        works(&mut client, &mut upstream).await;
        let early = Duration::from_secs(seconds) - SECOND / 10;
        clock.advance(early).await;
        // It would be in front of this one.
        works(&mut client, &mut upstream).await;
        let again = clock.pass_until("the second try", upstream.expect("POST"));
        let again = again.await;
        assert_eq!(again.request.json()["id"], id);
        again.result(&json!({"read": id})).await;
        assert_eq!(client.message().await["result"]["read"], id);
    }
    ferry.stop_after(client).await;
}

#[tokio::test]
async fn f08_a_safe_request_refused_for_longer_or_twice_is_an_error_that_says_when() {
    let mut upstream = Upstream::with_sessions().await;
    let ferry = Ferry::start(upstream.url()).await;
    let clock = Clock::stop();
    let mut client = Client::ready(ferry.address).await;
    for (id, (status, executed)) in (1..).zip([(429, "no"), (503, "unknown")]) {
        client.send(&call(id, "tools/list")).await;
        let refused = upstream.expect("POST").await;
        refused.answer(refusal(status, Some("6"))).await;
        let error = client.ferry_error(id, "upstream_refused", executed).await;
        names(&error, status, Some("6"));
    }
    client.send(&call(3, "tools/list")).await;
    for _ in 0..2 {
        let refused = clock.pass_until("a try", upstream.expect("POST")).await;
        refused.answer(refusal(429, Some("1"))).await;
    }
    let error = client.message().await;
    assert_eq!(error["id"], 3, "{error}");
    names(&error, 429, Some("1"));
    upstream.assert_quiet();
    ferry.stop_after(client).await;
}
