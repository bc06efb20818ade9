//! F4, F9 and F14: event streams that end before they should, and a listen stream that is not to be had.
//!
//! A stream with event ids is picked up where it was; what cannot be picked up ends in `executed: "unknown"`.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::{SECOND, of_revision, promising_upstream, says, streaming, told_of_changes};
use crate::support::chaos::{Chaos, Ending, Way};
use crate::support::client::{Client, Item, call};
use crate::support::clock::Clock;
use crate::support::ferry::Ferry;
use crate::support::scene::{scene, works};
use crate::support::upstream::{Answer, Received, Upstream, routine};

fn progress(number: usize) -> Value {
    json!({"jsonrpc": "2.0", "method": "notifications/progress", "params": {"progress": number}})
}

fn result(id: &Value) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "result": {"done": true}})
}

/// The events of a call with this id after the event with that number. They ask to be resumed at once.
fn events(id: &Value, after: usize) -> String {
    (after + 1..=4)
        .map(|number| {
            let data = if number < 4 {
                progress(number)
            } else {
                result(id)
            };
            format!("id: {id}-{number}\nretry: 0\ndata: {data}\n\n")
        })
        .collect()
}

fn stream(body: String) -> Answer {
    Answer::new(200, &[("Content-Type", "text/event-stream")], body)
}

/// A server with a session that answers a call in four events, and a GET that names one of them with those after it,
/// or, where it does not replay, with `refusal`.
async fn server(refusal: Option<Answer>) -> Upstream {
    Upstream::start(move |request: &Received| {
        if request.rpc() == "initialize" {
            return Some(Answer::initialize(request, Some("s")));
        }
        let Some(last) = request.header("last-event-id") else {
            let id = &request.json()["id"];
            let answer = || (!id.is_null()).then(|| stream(events(id, 0)));
            return routine(request).or_else(answer);
        };
        refusal.clone().or_else(|| {
            let (id, number) = last.split_once('-').expect("an event of this server");
            let number = number.parse().expect("a number");
            let id = serde_json::from_str(id).expect("an id");
            Some(stream(events(&id, number)))
        })
    })
    .await
}

/// Such a server behind a relay, and a client whose handshake is wholly over.
async fn behind_chaos(refusal: Option<Answer>) -> (Upstream, Chaos, Ferry, Client) {
    let upstream = server(refusal).await;
    let chaos = Chaos::before(upstream.address).await;
    let ferry = Ferry::start(chaos.url()).await;
    let mut client = Client::ready(ferry.address).await;
    let listens = |request: &Received| request.method() == "GET";
    upstream.seen("the listen stream", listens).await;
    for _ in 0..2 {
        client.send(&call(0, "ping")).await;
        while client.message().await.get("id").is_none() {}
    }
    (upstream, chaos, ferry, client)
}

/// Makes a call whose answer ends after so many bytes, and returns how many progress notifications came before its
/// outcome, and that.
async fn truncated(
    chaos: &Chaos,
    client: &mut Client,
    id: u64,
    method: &str,
    cut: (usize, Ending),
) -> (usize, Value) {
    chaos.cut_after(Way::Down, cut.0, cut.1);
    client.send(&call(id, method)).await;
    for number in 0.. {
        let message = client.message().await;
        if message.get("method").is_none() {
            assert_eq!(message["id"], id, "{message}");
            return (number, message);
        }
        assert_eq!(message, progress(number + 1), "cut after {cut:?}");
    }
    unreachable!("no end of notifications");
}

#[tokio::test]
async fn f04_a_reply_stream_truncated_at_any_byte_is_resumed_and_misses_nothing() {
    let (upstream, chaos, ferry, mut client) = behind_chaos(None).await;
    let mut id = 0;
    let (mut resumed, mut lost) = (0, 0);
    for ending in [Ending::Fin, Ending::Rst] {
        for bytes in 0.. {
            id += 1;
            let (before, outcome) =
                truncated(&chaos, &mut client, id, "tools/call", (bytes, ending)).await;
            if outcome.get("result").is_some() {
                assert_eq!((before, &outcome), (3, &result(&json!(id))));
                resumed += 1;
            } else {
                // Nothing of it had a place to go on from.
                assert_eq!(before, 0, "{bytes}: {outcome}");
                assert!(says(&outcome, "unknown"), "{bytes}: {outcome}");
                lost += 1;
            }
            if !chaos.is_cut() {
                break;
            }
        }
    }
    assert!(resumed > 0 && lost > 0, "{resumed} and {lost}");
    // Nothing was sent twice; one may have met a connection that was just gone.
    let sent = u64::try_from(upstream.times("tools/call")).expect("a number");
    assert!(sent <= id && sent + 2 >= id, "{sent} of {id}");
    ferry.stop_after(client).await;
}

#[tokio::test]
async fn f04_a_stream_that_the_upstream_does_not_replay_ends_its_call_and_repeats_safe_requests() {
    for status in [400, 405, 501] {
        let shown = status;
        let refusal = Answer::new(status, &[], "unknown event");
        let (upstream, chaos, ferry, mut client) = behind_chaos(Some(refusal)).await;
        let whole = events(&json!(1), 0).len();
        let cut = (whole, Ending::Rst);
        let (before, outcome) = truncated(&chaos, &mut client, 1, "tools/call", cut).await;
        assert!(
            before > 0 && says(&outcome, "unknown"),
            "{shown}: {outcome}"
        );
        // What is safe to ask for twice is, and this time the whole stream crosses.
        chaos.cut_after(Way::Down, whole, Ending::Rst);
        client.send(&call(2, "resources/read")).await;
        loop {
            let message = client.message().await;
            if message.get("id").is_some() {
                assert_eq!(message, result(&json!(2)), "{shown}");
                break;
            }
        }
        assert_eq!(upstream.times("tools/call"), 1, "{shown}");
        assert_eq!(upstream.times("resources/read"), 2, "{shown}");
        ferry.stop_after(client).await;
    }
}

/// It takes the GET, and says nothing on it.
#[tokio::test]
async fn f04_five_resumptions_that_bring_nothing_are_enough() {
    let (upstream, chaos, ferry, mut client) = behind_chaos(Some(stream(String::new()))).await;
    let cut = (events(&json!(1), 0).len(), Ending::Rst);
    let (before, outcome) = truncated(&chaos, &mut client, 1, "tools/call", cut).await;
    assert!(before > 0 && says(&outcome, "unknown"), "{outcome}");
    let log = upstream.log();
    let resumes = |request: &&Arc<Received>| request.header("last-event-id").is_some();
    assert_eq!(log.iter().filter(resumes).count(), 5);
    ferry.stop_after(client).await;
}

/// The TypeScript server holds the place of a listen stream that is gone for up to two minutes
/// (render-oss/render-mcp-server#26).
#[tokio::test]
async fn f09_a_listen_stream_refused_with_409_is_tried_until_it_is_free_and_requests_go_on() {
    let mut upstream = promising_upstream().await;
    let ferry = Ferry::start(upstream.url()).await;
    let clock = Clock::stop();
    let mut client = Client::ready(ferry.address).await;
    let mut waited = Duration::ZERO;
    while waited < SECOND * 120 {
        let taken = "Conflict: Only one SSE stream is allowed per session";
        let refusal = Answer::new(409, &[], taken);
        upstream.expect("GET").await.answer(refusal).await;
        works(&mut client, &mut upstream).await;
        let mut wait = Duration::ZERO;
        while upstream.log().last().expect("a request").method() != "GET" {
            clock.advance(SECOND).await;
            wait += SECOND;
        }
        // Thirty seconds, a quarter more or less, seen at the next full one.
        assert!(wait <= SECOND * 40, "{wait:?}");
        waited += wait;
    }
    let mut listen = upstream.expect("GET").await.events().await;
    listen.send(&progress(1)).await;
    assert_eq!(client.message().await, progress(1));
    client.leave();
    listen.abandoned().await;
    clock.pass_until("the farewell", ferry.quiet()).await;
    ferry.stop().await;
}

#[tokio::test]
async fn f09_a_request_refused_with_409_was_perhaps_executed() {
    let (mut upstream, ferry, mut client) = scene().await;
    client.send(&call(1, "tools/call")).await;
    let refusal = Answer::new(409, &[], "Conflict");
    upstream.expect("POST").await.answer(refusal).await;
    client.ferry_error(1, "upstream_refused", "unknown").await;
    works(&mut client, &mut upstream).await;
    ferry.stop_after(client).await;
}

#[tokio::test]
async fn f14_a_call_outlives_an_upstream_that_ends_every_response_after_a_minute() {
    let mut upstream = Upstream::resuming().await;
    let ferry = Ferry::start(upstream.url()).await;
    let clock = Clock::stop();
    let mut client = Client::ready(ferry.address).await;
    let mut running = streaming(&client, &mut upstream, 1).await;
    for minute in 1..=5 {
        let priming = format!("id: m-{minute}\nretry: 500\ndata: {}\n\n", progress(minute));
        running.raw(priming).await;
        assert_eq!(client.message().await, progress(minute));
        clock.advance(SECOND * 60).await;
        if minute % 2 == 0 {
            running.end().await;
        } else {
            running.reset();
        }
        let again = clock.pass_until("a GET", upstream.expect("GET")).await;
        let from = format!("m-{minute}");
        assert_eq!(again.request.header("last-event-id"), Some(from.as_str()));
        running = again.events().await;
    }
    running.send(&result(&json!(1))).await;
    assert_eq!(client.message().await, result(&json!(1)));
    assert_eq!(upstream.times("tools/call"), 1);
    client.leave();
    running.abandoned().await;
    clock.pass_until("the farewell", ferry.quiet()).await;
    ferry.stop().await;
}

#[tokio::test]
async fn f14_a_call_without_a_place_to_go_on_from_was_perhaps_executed() {
    let mut upstream = Upstream::with_sessions().await;
    let ferry = Ferry::start(upstream.url()).await;
    let clock = Clock::stop();
    let mut client = Client::ready(ferry.address).await;
    let mut running = streaming(&client, &mut upstream, 1).await;
    running.send(&progress(1)).await;
    assert_eq!(client.message().await, progress(1));
    clock.advance(SECOND * 60).await;
    running.end().await;
    let error = client.ferry_error(1, "upstream_no_response", "unknown");
    error.await;
    works(&mut client, &mut upstream).await;
    ferry.stop_after(client).await;
}

#[tokio::test]
async fn f14_a_listen_stream_that_ends_every_minute_is_opened_again_unseen_by_an_early_client() {
    let mut upstream = promising_upstream().await;
    let ferry = Ferry::start(upstream.url()).await;
    let clock = Clock::stop();
    let mut client = Client::ready(ferry.address).await;
    for _ in 0..5 {
        let listen = upstream.expect("GET").await.events().await;
        for _ in 0..4 {
            clock.advance(SECOND * 15).await;
            assert_eq!(client.next().await, Item::KeepAlive);
        }
        listen.end().await;
        works(&mut client, &mut upstream).await;
        clock.advance(SECOND * 2).await;
    }
    let listen = upstream.expect("GET").await;
    client.leave();
    listen.abandoned().await;
    clock.pass_until("the farewell", ferry.quiet()).await;
    ferry.stop().await;
}

#[tokio::test]
async fn f14_after_a_gap_in_the_listen_stream_a_later_client_is_told_that_lists_may_have_changed() {
    let mut upstream = promising_upstream().await;
    let ferry = Ferry::start(upstream.url()).await;
    let clock = Clock::stop();
    for revision in ["2025-03-26", "2025-06-18"] {
        let mut client = of_revision(ferry.address, revision).await;
        let mut listen = upstream.expect("GET").await.events().await;
        listen.send(&progress(1)).await;
        assert_eq!(client.message().await, progress(1));
        // Without event ids nobody knows what was said in between.
        listen.end().await;
        let again = clock.pass_until("a GET", upstream.expect("GET")).await;
        let mut listen = again.events().await;
        told_of_changes(&mut client).await;
        // With one the upstream itself says what was missed.
        let event = format!("id: 1\ndata: {}\n\n", progress(2));
        listen.raw(event).await;
        assert_eq!(client.message().await, progress(2));
        listen.end().await;
        let again = clock.pass_until("a GET", upstream.expect("GET")).await;
        assert_eq!(again.request.header("last-event-id"), Some("1"));
        let mut listen = again.events().await;
        listen.send(&progress(3)).await;
        assert_eq!(client.message().await, progress(3));
        client.leave();
        listen.abandoned().await;
        clock.pass_until("the farewell", ferry.quiet()).await;
    }
    ferry.stop().await;
}
