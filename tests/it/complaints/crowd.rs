//! Complaints about many clients at once: what they share, what they see of each other, and what is left of those who
//! went.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::json;
use tokio::io::AsyncWriteExt;

use crate::support::client::{Client, call, initialize};
use crate::support::clock::{Clock, within};
use crate::support::ferry::Ferry;
use crate::support::http::{Wire, request};
use crate::support::scene::scene;
use crate::support::upstream::{Answer, Upstream, routine};

/// supercorp-ai/supergateway#138: one protocol object for all connections, so that a second client, or one that
/// reconnects, crashes the process.
#[tokio::test]
async fn c01_a_thousand_reconnects_leave_a_running_call_alone() {
    let mut upstream = Upstream::with_sessions().await;
    let ferry = Ferry::start(upstream.url()).await;
    let mut neighbour = Client::ready(ferry.address).await;
    neighbour.send(&call(1, "tools/call")).await;
    let running = upstream.expect("POST").await;
    for _ in 0..1000 {
        Client::ready(ferry.address).await.leave();
    }
    ferry
        .until("the others to be gone", |ferry| {
            ferry.open_connections() == 1
        })
        .await;
    let result = json!({"content": "still here"});
    running.result(&result).await;
    // The first message since the handshake: nothing of the others came between.
    assert_eq!(
        neighbour.message().await,
        json!({"jsonrpc": "2.0", "id": 1, "result": result})
    );
    neighbour.leave();
    ferry.stop().await;
}

/// scrypster/muninndb#897: replies fanned out to all sessions, and ids collide because every client counts from 0.
#[tokio::test]
async fn c02_a_hundred_clients_with_equal_ids_see_only_their_own() {
    let mut upstream = Upstream::with_sessions().await;
    let ferry = Ferry::start(upstream.url()).await;
    let mut clients = Vec::new();
    for _ in 0..100 {
        clients.push(Client::ready(ferry.address).await);
    }
    for round in 0..2 {
        let mut running = Vec::new();
        for (number, client) in clients.iter().enumerate() {
            let params = json!({"of": number, "_meta": {"progressToken": 1}});
            client.request(1, "tools/call", params).await;
            running.push(upstream.expect("POST").await.events().await);
        }
        // All are under way, under one id and one progress token; they end in another order than they began.
        running.rotate_left(37 + round);
        for events in &mut running {
            let own = events.request().json()["params"]["of"].clone();
            let params = json!({"progressToken": 1, "progress": 1, "of": own});
            let method = "notifications/progress";
            let progress = json!({"jsonrpc": "2.0", "method": method, "params": params});
            events.send(&progress).await;
        }
        for mut events in running.into_iter().rev() {
            let own = events.request().json()["params"]["of"].clone();
            events.result(&json!({"round": round, "of": own})).await;
            events.end().await;
        }
        for (number, client) in clients.iter_mut().enumerate() {
            let progress = client.message().await;
            assert_eq!(progress["params"]["of"], json!(number), "{progress}");
            let result = json!({"round": round, "of": number});
            assert_eq!(
                client.message().await,
                json!({"jsonrpc": "2.0", "id": 1, "result": result})
            );
        }
    }
    drop(clients);
    ferry.quiet().await;
    ferry.stop().await;
}

/// modelcontextprotocol/python-sdk#3137: two requests in flight under one id on one session overwrite each other.
#[tokio::test]
async fn c03_an_id_in_flight_is_not_taken_twice_and_keeps_its_type() {
    let (mut upstream, ferry, mut client) = scene().await;
    client.send(&call(1, "tools/call")).await;
    let number = upstream.expect("POST").await;
    let again = client.post(call(1, "tools/list").to_string()).await;
    assert_eq!(again.status(), 400);
    assert!(again.text().contains("already in flight"), "{again:?}");
    // A string of the same digit is another id.
    let mut other = call(1, "tools/call");
    other["id"] = json!("1");
    client.send(&other).await;
    let string = upstream.expect("POST").await;
    assert_eq!((number.id(), string.id()), ("1".into(), r#""1""#.into()));
    string.result(&json!({"of": "string"})).await;
    let message = client.message().await;
    assert_eq!(
        (&message["id"], &message["result"]["of"]),
        (&json!("1"), &json!("string"))
    );
    number.result(&json!({"of": "number"})).await;
    let message = client.message().await;
    assert_eq!(
        (&message["id"], &message["result"]["of"]),
        (&json!(1), &json!("number"))
    );
    upstream.assert_quiet();
    client.leave();
    ferry.stop().await;
}

/// bees-roadhouse/bookstack-mcp#155: dead streams keep their places under the cap, until everybody is refused.
#[tokio::test]
async fn c09_the_place_of_a_dead_client_is_free_again() {
    // Nothing but the handshake is answered: a farewell that hangs must not keep the place either.
    let upstream = Upstream::with_sessions_but(|request| request.method() == "DELETE").await;
    let ferry = Ferry::with(upstream.url(), |config| config.limits.max_connections = 1).await;
    let clock = Clock::stop();
    for way in ["closes", "resets", "closes its half", "leaves a session"] {
        if way == "leaves a session" {
            Client::ready(ferry.address).await.leave();
        } else {
            let mut wire = Wire::connect(ferry.address).await;
            wire.write(&request("GET", "/sse", &[], b"")).await;
            let head = within("the head", wire.head()).await.expect("a head");
            assert_eq!(head.status(), 200, "after the one that came before: {way}");
            match way {
                "closes" => drop(wire),
                "closes its half" => {
                    wire.socket.shutdown().await.expect("shutdown");
                    wire.closed().await;
                }
                _ => {
                    // A lingering time of zero sends RST instead of FIN.
                    let socket = socket2::SockRef::from(&wire.socket);
                    socket.set_linger(Some(Duration::ZERO)).expect("linger");
                }
            }
        }
        // No longer than one keep-alive.
        clock.advance(Duration::from_secs(15)).await;
        ferry.quiet().await;
    }
    Client::open(ferry.address).await.leave();
    ferry.quiet().await;
    ferry.stop().await;
}

/// punkpeye/mcp-proxy#79: 10 593 sessions opened upstream, 108 ended.
#[tokio::test]
async fn c11_every_session_that_was_begun_is_ended_once() {
    const ROUNDS: usize = 20;
    let sessions = AtomicUsize::new(0);
    let upstream = Upstream::start(move |request| {
        if request.rpc() == "tools/call" {
            return None;
        }
        (request.rpc() == "initialize")
            .then(|| {
                let number = sessions.fetch_add(1, Ordering::Relaxed);
                Answer::initialize(request, Some(&format!("session-{number}")))
            })
            .or_else(|| routine(request))
    })
    .await;
    let ferry = Ferry::start(upstream.url()).await;
    for round in 0..ROUNDS {
        // Leaves when all is quiet.
        Client::ready(ferry.address).await.leave();
        // Leaves within the handshake.
        let mut client = Client::open(ferry.address).await;
        client.send(&initialize()).await;
        client.message().await;
        client.leave();
        // Leaves with a call in flight.
        let client = Client::ready(ferry.address).await;
        let params = json!({ "round": round });
        client.request(1, "tools/call", params.clone()).await;
        upstream
            .seen("the call", |request| request.json()["params"] == params)
            .await;
        client.leave();
        // Comes without a handshake.
        let client = Client::open(ferry.address).await;
        let params = json!({ "without": round });
        client.request(1, "tools/call", params.clone()).await;
        upstream
            .seen("the call", |request| request.json()["params"] == params)
            .await;
        client.leave();
        // Makes two handshakes on one stream.
        let mut client = Client::ready(ferry.address).await;
        client.handshake().await;
        client.leave();
    }
    ferry.quiet().await;
    let log = upstream.log();
    let ended = log.iter().filter(|request| request.method() == "DELETE");
    let ended: Vec<&str> = ended
        .map(|request| request.header("mcp-session-id").expect("a session"))
        .collect();
    let once: BTreeSet<&str> = ended.iter().copied().collect();
    assert_eq!((ended.len(), once.len()), (6 * ROUNDS, 6 * ROUNDS));
    ferry.stop().await;
}
