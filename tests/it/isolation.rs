//! Connections side by side: nothing of one reaches another, and a slow one slows down nobody else.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use mcp_ferry::metrics::Counter;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::support::client::{Client, Item, call};
use crate::support::clock::{Clock, within};
use crate::support::ferry::Ferry;
use crate::support::scene::works;
use crate::support::upstream::{Call, Events, Received, Upstream};

/// So many events of 32 KiB that no buffer on the way, the kernel's included, holds them.
const EVENTS: usize = 800;

fn event(number: usize) -> String {
    let note = r#""jsonrpc":"2.0","method":"notifications/progress""#;
    let pad = "x".repeat(32 << 10);
    format!(r#"{{{note},"params":{{"n":{number},"pad":"{pad}"}}}}"#)
}

/// Sends [`EVENTS`] as fast as they are taken, and counts those that were. Ends with whether all were.
fn flood(mut events: Events) -> (Arc<AtomicUsize>, JoinHandle<bool>) {
    events.narrow();
    let sent = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&sent);
    let task = tokio::task::spawn(async move {
        for number in 0..EVENTS {
            if !events.push(&event(number)).await {
                return false;
            }
            count.fetch_add(1, Ordering::Relaxed);
        }
        events.result(&json!({})).await;
        events.end().await;
        true
    });
    (sent, task)
}

/// Waits until the flood stands still: a neighbour makes calls meanwhile, and no event is taken during many of them.
async fn stuck(sent: &AtomicUsize, neighbour: &mut Client, upstream: &mut Upstream) {
    let mut quiet = 0;
    within("the flood to stand still", async {
        let mut last = 0;
        while quiet < 10 {
            works(neighbour, upstream).await;
            let now = sent.load(Ordering::Relaxed);
            quiet = if now == last { quiet + 1 } else { 0 };
            last = now;
        }
    })
    .await;
    let taken = sent.load(Ordering::Relaxed);
    assert!(taken < EVENTS, "all was taken though nobody read");
}

/// A client that will be slow to read, and one beside it.
async fn side_by_side() -> (Upstream, Ferry, Client, Client) {
    let upstream = Upstream::with_sessions().await;
    let ferry = Ferry::with(upstream.url(), |config| {
        config.limits.client_buffer = 256 << 10;
    })
    .await;
    let slow = Client::ready(ferry.address).await;
    let neighbour = Client::ready(ferry.address).await;
    slow.set_window(64 << 10);
    (upstream, ferry, slow, neighbour)
}

/// Makes a call of the slow client that is answered with a flood, and waits until that stands still.
async fn flooded(
    upstream: &mut Upstream,
    slow: &Client,
    neighbour: &mut Client,
) -> JoinHandle<bool> {
    slow.send(&call(1, "tools/call")).await;
    let (sent, flood) = flood(upstream.expect("POST").await.events().await);
    stuck(&sent, neighbour, upstream).await;
    flood
}

#[tokio::test]
async fn a_client_that_does_not_read_pauses_its_own_upstream_alone() {
    let (mut upstream, ferry, mut slow, mut neighbour) = side_by_side().await;
    // The slow client may take as long as it likes.
    let _clock = Clock::stop();
    let flood = flooded(&mut upstream, &slow, &mut neighbour).await;
    // Then it reads, and has missed nothing.
    slow.set_window(4 << 20);
    for number in 0..EVENTS {
        assert_eq!(slow.text().await, event(number));
    }
    assert_eq!(slow.message().await["id"], 1);
    assert!(within("the flood to end", flood).await.expect("no panic"));
    drop((slow, neighbour));
    ferry.quiet().await;
    assert_eq!(ferry.count(Counter::StalledClients), 0);
    ferry.stop().await;
}

#[tokio::test]
async fn a_client_that_does_not_read_for_the_stall_timeout_is_closed() {
    let (mut upstream, ferry, mut slow, mut neighbour) = side_by_side().await;
    let clock = Clock::stop();
    let flood = flooded(&mut upstream, &slow, &mut neighbour).await;
    clock.advance(Duration::from_secs(30)).await;
    assert!(
        !within("the flood to be given up", flood)
            .await
            .expect("no panic")
    );
    ferry
        .until("one connection", |ferry| ferry.open_connections() == 1)
        .await;
    assert_eq!(ferry.count(Counter::StalledClients), 1);
    // What was on its way arrives, then the stream breaks off.
    let rest = async {
        loop {
            match slow.try_next().await {
                Ok(Item::Message(_)) => {}
                Ok(other) => panic!("{other:?}"),
                Err(closed) => return closed,
            }
        }
    };
    within("the stream to break off", rest).await;
    works(&mut neighbour, &mut upstream).await;
    let log = upstream.log();
    let ended = log.iter().filter(|request| request.method() == "DELETE");
    let ended: Vec<_> = ended
        .map(|request| request.header("mcp-session-id"))
        .collect();
    assert_eq!(ended, [Some("session-1")]);
    drop((slow, neighbour));
    ferry.quiet().await;
    ferry.stop().await;
}

#[tokio::test]
async fn a_hundred_clients_with_equal_ids_see_only_their_own() {
    const CLIENTS: usize = 100;
    let mut upstream = Upstream::with_sessions().await;
    let ferry = Ferry::start(upstream.url()).await;
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        clients.push(Client::ready(ferry.address).await);
    }
    let mut asked: HashMap<String, Value> = HashMap::new();
    let own = |number: usize| format!("nonce-{number}-of-one-client");
    for round in 0..3 {
        for (number, client) in clients.iter().enumerate() {
            let params = json!({"nonce": own(number), "round": round});
            // The same id for all, and the same progress token.
            client.request(1, "tools/call", params).await;
        }
        let mut calls: Vec<Call> = Vec::new();
        for _ in 0..CLIENTS {
            calls.push(upstream.expect("POST").await);
        }
        // Answered in another order than asked, in several ways, each preceded by questions with one id.
        calls.reverse();
        calls.rotate_left(17);
        let mut sessions = HashSet::new();
        for (place, received) in calls.into_iter().enumerate() {
            let nonce = received.request.json()["params"]["nonce"].clone();
            let fresh = sessions.insert(session(&received.request));
            assert!(fresh, "two clients with one session");
            if place % 2 == 0 {
                received.result(&nonce).await;
                continue;
            }
            let mut events = received.events().await;
            asked.insert(session(events.request()), nonce.clone());
            let question =
                json!({"jsonrpc": "2.0", "id": 0, "method": "roots/list", "params": nonce});
            events.send(&question).await;
            events.result(&nonce).await;
            events.end().await;
        }
        for (number, client) in clients.iter_mut().enumerate() {
            let mut message = client.message().await;
            if message.get("method").is_some() {
                assert_eq!(message["params"], own(number));
                let answer = json!({"jsonrpc": "2.0", "id": message["id"], "result": own(number)});
                client.send(&answer).await;
                message = client.message().await;
            }
            assert_eq!(
                (&message["id"], &message["result"]),
                (&json!(1), &json!(own(number)))
            );
        }
    }
    // The answers to the questions went back under the upstream's id, each on its client's session.
    for (session, nonce) in &asked {
        let own = (session.clone(), nonce.clone());
        upstream
            .seen("an answer", |request| {
                answer(request).as_ref() == Some(&own)
            })
            .await;
    }
    for (session, result) in upstream.log().iter().filter_map(|request| answer(request)) {
        assert_eq!(asked[&session], result);
    }
    drop(clients);
    ferry.quiet().await;
    ferry.stop().await;
}

fn session(request: &Received) -> String {
    request
        .header("mcp-session-id")
        .expect("a session")
        .to_owned()
}

/// The session and the result, where this is an answer of a client.
fn answer(request: &Received) -> Option<(String, Value)> {
    let message = request.json();
    let result = message.get("result")?;
    assert_eq!(message["id"], 0);
    Some((session(request), result.clone()))
}
