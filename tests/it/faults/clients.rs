//! F15, F16, F18, F19 and F23: the client's side of it ends, by the client, by its connection, by age or by shutdown.

use std::time::Duration;

use mcp_ferry::metrics::Counter;
use serde_json::{Value, json};

use super::SECOND;
use crate::support::chaos::{Chaos, Ending};
use crate::support::client::{Client, Item, call, post};
use crate::support::clock::{Clock, within};
use crate::support::ferry::Ferry;
use crate::support::scene::works;
use crate::support::upstream::{Received, Upstream};

const AGE: Duration = Duration::from_secs(100);

fn is_delete(request: &Received) -> bool {
    request.method() == "DELETE"
}

#[tokio::test]
async fn f15_a_stream_with_nothing_in_flight_ends_between_four_fifths_of_its_age_and_the_whole() {
    let mut upstream = Upstream::with_sessions().await;
    let ferry = Ferry::with(upstream.url(), |config| {
        config.limits.max_stream_age = Some(AGE);
    })
    .await;
    let clock = Clock::stop();
    let mut client = Client::ready(ferry.address).await;
    clock.advance(AGE * 4 / 5 - SECOND).await;
    works(&mut client, &mut upstream).await;
    for _ in 0..22 {
        clock.advance(SECOND).await;
    }
    client.ended().await;
    let answered = post(client.address, &client.endpoint, &[], "{}").await;
    assert_eq!(answered.status(), 404);
    upstream.seen("the end of the session", is_delete).await;
    ferry.quiet().await;
    ferry.stop().await;
}

#[tokio::test]
async fn f16_however_a_client_goes_its_calls_are_cancelled_and_its_session_ended() {
    let mut upstream = Upstream::with_sessions().await;
    let ferry = Ferry::start(upstream.url()).await;
    let chaos = Chaos::before(ferry.address).await;
    for (round, way) in (1..).zip([Some(Ending::Fin), Some(Ending::Rst), None]) {
        let client = Client::ready(chaos.address).await;
        client.send(&call(7, "tools/call")).await;
        let running = upstream.expect("POST").await;
        match way {
            Some(ending) => chaos.end_all(ending),
            // The relay passes on that nothing more comes, and leaves its own side open: a half-closed client.
            None => client.leave(),
        }
        running.abandoned().await;
        let session = format!("session-{round}");
        let own = |request: &Received| request.header("mcp-session-id") == Some(session.as_str());
        let ended = |request: &Received| own(request) && is_delete(request);
        upstream.seen("the end of the session", ended).await;
        let log = upstream.log();
        let cancelled = |request: &Received| request.rpc() == "notifications/cancelled";
        let cancel = log
            .iter()
            .find(|request| own(request) && cancelled(request));
        let cancel = cancel.expect("a cancel").json();
        assert_eq!(cancel["params"]["requestId"], 7, "{way:?}");
        ferry.quiet().await;
    }
    ferry.stop().await;
}

/// A client that reads slowly reads.
#[tokio::test]
async fn f18_a_client_behind_a_slow_line_is_not_closed() {
    let mut upstream = Upstream::with_sessions().await;
    let ferry = Ferry::start(upstream.url()).await;
    let line = Chaos::before(ferry.address).await;
    let clock = Clock::stop();
    let mut client = Client::ready(line.address).await;
    line.set(|weather| weather.bandwidth = Some(256 << 10));
    client.set_window(64 << 10);
    let large = call(1, "tools/call");
    clock.pass_until("the status", client.send(&large)).await;
    let pad = "x".repeat(24 << 20);
    upstream.expect("POST").await.result(&json!(pad)).await;
    let begun = tokio::time::Instant::now();
    let read = async {
        let mut message = std::pin::pin!(client.message());
        loop {
            tokio::select! {
                biased;
                message = &mut message => return message,
                () = clock.advance(SECOND / 20) => {}
            }
        }
    };
    assert_eq!(within("the result", read).await["result"], pad);
    let lasted = begun.elapsed();
    assert!(lasted > 60 * SECOND, "{lasted:?} prove nothing");
    assert_eq!(ferry.count(Counter::StalledClients), 0);
    ferry.stop_after_a_while(client, &clock).await;
}

/// The TypeScript client opens a new stream, makes no handshake on it and waits on for what it had asked before.
#[tokio::test]
async fn f19_a_client_whose_connection_was_cut_opens_another_and_calls_on() {
    let mut upstream = Upstream::with_sessions().await;
    let ferry = Ferry::start(upstream.url()).await;
    let chaos = Chaos::before(ferry.address).await;
    for ending in [Ending::Rst, Ending::Fin] {
        let mut client = Client::ready(chaos.address).await;
        client.send(&call(1, "tools/call")).await;
        let running = upstream.expect("POST").await;
        chaos.end_all(ending);
        let broken = within("the end of the stream", client.try_next()).await;
        assert!(broken.is_err(), "{broken:?}");
        let former = client.endpoint.clone();
        running.abandoned().await;
        // Its old id leads nowhere, and says so; what was asked there ended with the stream.
        let late = call(2, "tools/call").to_string();
        let refused = post(chaos.address, &former, &[], late).await;
        assert_eq!(refused.status(), 404);
        let mut again = Client::open(chaos.address).await;
        let asked = call(3, "tools/call");
        let posted = again.send(&asked);
        let answered = async { upstream.expect("POST").await.result(&json!({"n": 3})).await };
        tokio::join!(posted, answered);
        let answer = again.message().await;
        assert_eq!(
            (&answer["id"], &answer["result"]["n"]),
            (&json!(3), &json!(3))
        );
        again.leave();
        ferry.quiet().await;
    }
    ferry.stop().await;
}

/// All at once, they would all come back at once, to whatever is left of the fleet.
#[tokio::test]
async fn f23_idle_streams_end_one_after_the_other() {
    const STREAMS: usize = 400;
    let mut upstream = Upstream::with_sessions().await;
    let mut ferry = Ferry::start(upstream.url()).await;
    let clock = Clock::stop();
    let mut clients = Vec::new();
    for _ in 0..STREAMS {
        clients.push(Client::open(ferry.address).await);
    }
    // One that is busy keeps the rest of the drain waiting.
    let mut busy = Client::ready(ferry.address).await;
    busy.send(&call(1, "tools/call")).await;
    let running = upstream.expect("POST").await;
    ferry.drain();
    let mut left = Vec::new();
    for _ in 0..20 {
        clock.advance(SECOND / 10).await;
        left.push(ferry.open_connections());
    }
    // A tenth of a second is a quarter of the time that so many take; the busy one is left.
    let most = left.windows(2).map(|pair| pair[0] - pair[1]).max();
    assert!(left[0] > 200 && most < Some(200), "{left:?}");
    assert_eq!(left.last(), Some(&1), "{left:?}");
    for client in &mut clients {
        assert_eq!(client.next().await, Item::End);
    }
    running.result(&json!({})).await;
    let answer: Value = busy.message().await;
    assert_eq!(answer["id"], 1);
    clock.pass_until("the end", ferry.stopped()).await;
}
