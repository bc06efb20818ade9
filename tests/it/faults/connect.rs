//! F1 and F12: no connection to the upstream can be made, for a while or for good.
//!
//! Nothing was sent then, so the error says `executed: "no"`; and a restart is no reason for an error at all.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hyper::Uri;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};

use super::SECOND;
use crate::support::client::{Client, call, post};
use crate::support::clock::{Clock, within};
use crate::support::ferry::Ferry;
use crate::support::random::{Random, seed};
use crate::support::script::Peer;
use crate::support::upstream::{Answer, Upstream, echo, rebind, routine};

/// Posts `initialize`, and returns the error that it ends in.
async fn unreachable(ferry: &Ferry, clock: &Clock) -> String {
    let mut client = Client::open(ferry.address).await;
    let text = client.unreachable(clock).await;
    client.leave();
    text
}

#[tokio::test]
async fn f01_a_name_that_nobody_knows_is_reported_as_not_executed() {
    // A label of 64 letters is no name (RFC 1035 §2.3.4), so that no resolver is asked.
    let name = "x".repeat(64);
    let url: Uri = format!("http://{name}.invalid/mcp").parse().expect("a URL");
    let ferry = Ferry::start(url).await;
    let clock = Clock::stop();
    let text = unreachable(&ferry, &clock).await;
    assert!(text.contains("reach"), "{text}");
    ferry.stop().await;
}

/// A listener whose queue of connections is full: Linux drops what more comes, as a firewall would.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn f01_an_address_that_does_not_answer_is_reported_after_connect_timeout() {
    let socket =
        socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
    let any: SocketAddr = ([127, 0, 0, 1], 0).into();
    socket.bind(&any.into()).expect("bind");
    socket.listen(0).expect("listen");
    let address = socket.local_addr().expect("an address").as_socket();
    let address = address.expect("an IP address");
    let _first = TcpStream::connect(address).await.expect("room for one");
    let url = format!("http://{address}/mcp").parse().expect("a URL");
    let ferry = Ferry::start(url).await;
    let clock = Clock::stop();
    let text = unreachable(&ferry, &clock).await;
    assert!(text.contains("--connect-timeout"), "{text}");
    ferry.stop().await;
}

/// A server that is gone, and a client of it that made its handshake before and has just made a call.
async fn gone() -> (SocketAddr, Ferry, Clock, Client) {
    let upstream = Upstream::echo().await;
    let (address, url) = (upstream.address, upstream.url());
    let ferry = Ferry::start(url).await;
    let client = Client::ready(ferry.address).await;
    upstream.die().await;
    let clock = Clock::stop();
    client.send(&call(1, "tools/call")).await;
    (address, ferry, clock, client)
}

/// The same when that call has ended: the server is known to refuse connections.
async fn away() -> (SocketAddr, Ferry, Clock, Client) {
    let (address, ferry, clock, mut client) = gone().await;
    let error = client.ferry_error(1, "upstream_unreachable", "no");
    clock.pass_until("the first error", error).await;
    (address, ferry, clock, client)
}

#[tokio::test]
async fn f01_after_five_failures_one_attempt_now_and_then_looks_whether_the_upstream_is_back() {
    let (address, ferry, clock, mut client) = away().await;
    // Every connection is counted, and reset before it can be used.
    let peer = Peer::on(rebind(address).await, "rst");
    for id in 2..=9 {
        client.send(&call(id, "tools/call")).await;
    }
    // A moment is not enough for another attempt, or just for the one that was due.
    clock.advance(Duration::from_millis(1)).await;
    assert!(peer.accepted() <= 1, "{} attempts", peer.accepted());
    drop(peer);
    let _upstream = Upstream::echo_on(rebind(address).await);
    let mut ids = Vec::new();
    for _ in 2..=9 {
        let outcome = clock.pass_until("an outcome", client.message()).await;
        ids.push(outcome["id"].as_u64());
    }
    ids.sort_unstable();
    let expected: Vec<Option<u64>> = (2..=9).map(Some).collect();
    assert_eq!(ids, expected);
    ferry.stop_after_a_while(client, &clock).await;
}

/// A tool may take an hour to answer; that the upstream took its connection is news enough.
#[tokio::test]
async fn f01_the_first_connection_after_an_outage_lets_the_others_through() {
    let (address, ferry, clock, mut client) = away().await;
    let mut upstream = Upstream::on(rebind(address).await, |_| None);
    clock.advance(2 * SECOND).await;
    for id in 2..=9 {
        client.send(&call(id, "tools/call")).await;
    }
    let mut running = Vec::new();
    for _ in 2..=9 {
        let next = upstream.expect("POST");
        running.push(clock.pass_until("a call", next).await);
    }
    for call in running {
        call.result(&json!({})).await;
        let answer = client.message().await;
        assert!(answer.get("result").is_some(), "{answer}");
    }
    ferry.stop_after_a_while(client, &clock).await;
}

#[tokio::test]
async fn f12_a_call_waits_for_an_upstream_that_is_back_within_three_seconds() {
    let (address, ferry, clock, mut client) = gone().await;
    for _ in 0..20 {
        clock.advance(Duration::from_millis(100)).await;
    }
    let upstream = Upstream::echo_on(rebind(address).await);
    let answer = clock.pass_until("the answer", client.message()).await;
    assert_eq!(answer["result"]["method"], "tools/call", "{answer}");
    assert_eq!(upstream.log().len(), 1, "the call, and nothing else");
    ferry.stop_after(client).await;
}

/// A server with sessions that answers half of its calls and leaves the others without an answer until it dies. It
/// notes in `executed` which calls it got.
fn life(
    listener: TcpListener,
    number: usize,
    executed: &Arc<std::sync::Mutex<BTreeMap<u64, usize>>>,
) -> Upstream {
    let executed = Arc::clone(executed);
    let sessions = AtomicUsize::new(0);
    let own = format!("life-{number}-");
    Upstream::on(listener, move |request| {
        if request.rpc() == "initialize" {
            let session = sessions.fetch_add(1, Ordering::Relaxed);
            return Some(Answer::initialize(
                request,
                Some(&format!("{own}{session}")),
            ));
        }
        let session = request.header("mcp-session-id").unwrap_or_default();
        if !session.starts_with(&own) {
            return Some(Answer::new(404, &[], "Session not found"));
        }
        if request.rpc() == "tools/call" {
            let id = request.json()["id"].as_u64().expect("a number");
            let mut executed = executed.lock().expect("no panic");
            *executed.entry(id).or_default() += 1;
            return (id % 2 == 0).then(|| echo(request));
        }
        routine(request).or_else(|| Some(echo(request)))
    })
}

#[tokio::test]
async fn f12_an_upstream_that_restarts_again_and_again_under_load_silences_no_request() {
    const CLIENTS: u64 = 8;
    const LIVES: usize = 6;
    let seed = seed();
    eprintln!("seed {seed:#x}");
    let mut random = Random::new(seed);
    let executed = Arc::default();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let address = listener.local_addr().expect("an address");
    let mut upstream = life(listener, 0, &executed);
    let ferry = Ferry::start(upstream.url()).await;
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        clients.push(Client::ready(ferry.address).await);
    }
    let clock = Clock::stop();
    let mut asked: BTreeMap<u64, usize> = BTreeMap::new();
    let mut last = 0;
    for number in 1..LIVES {
        for (place, client) in clients.iter().enumerate() {
            for _ in 0..=random.below(3) {
                last += 1;
                asked.insert(last, place);
                let posted = post(
                    client.address,
                    &client.endpoint,
                    &[],
                    call(last, "tools/call").to_string(),
                );
                let answered = clock.pass_until("a status", posted).await;
                assert_eq!(answered.status(), 202);
            }
        }
        drop(upstream);
        // Down for less than the three seconds that a call waits.
        let down = u64::try_from(random.below(20)).expect("a number");
        for _ in 0..down {
            clock.advance(Duration::from_millis(100)).await;
        }
        upstream = life(rebind(address).await, number, &executed);
    }
    // Whatever is still waiting finds the last life, or has its error.
    let mut outcomes: BTreeMap<u64, Value> = BTreeMap::new();
    // The last life leaves odd calls without an answer: it dies too.
    for _ in 0..100 {
        clock.advance(Duration::from_millis(100)).await;
    }
    drop(upstream);
    let expected: BTreeMap<usize, usize> = asked.values().fold(BTreeMap::new(), |mut of, place| {
        *of.entry(*place).or_default() += 1;
        of
    });
    for (place, client) in clients.iter_mut().enumerate() {
        for _ in 0..expected[&place] {
            let message = clock.pass_until("an outcome", client.message()).await;
            let id = message["id"].as_u64().expect("a number");
            assert_eq!(asked[&id], place, "an id of another client: {message}");
            assert!(outcomes.insert(id, message).is_none(), "two outcomes");
        }
    }
    let executed = executed.lock().expect("no panic").clone();
    for (id, outcome) in &outcomes {
        let times = executed.get(id).copied().unwrap_or_default();
        assert!(times <= 1, "{id} was executed {times} times: {outcome}");
        let told = &outcome["error"]["data"]["ferry"]["executed"];
        match (outcome.get("result"), told.as_str()) {
            (Some(_), _) => assert_eq!(times, 1, "{outcome}"),
            (None, Some("no")) => assert_eq!(times, 0, "{outcome}"),
            (None, Some("unknown")) => {}
            _ => panic!("neither a result nor a plain word: {outcome}"),
        }
    }
    for client in clients {
        client.leave();
    }
    clock.pass_until("the farewell", ferry.quiet()).await;
    within("the end", ferry.stop()).await;
}
