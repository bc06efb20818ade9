//! F2 and F3: the upstream, or the way to it, dies between the request and the last byte of its answer.
//!
//! The request may have run, so the error says `executed: "unknown"` and nothing but a safe method is sent again; of
//! an answer that is not whole nothing is delivered.

use std::sync::Arc;

use serde_json::{Value, json};

use super::play;
use crate::support::chaos::{Chaos, Ending, Way};
use crate::support::client::{Client, call, initialize};
use crate::support::ferry::Ferry;
use crate::support::scene::scene;
use crate::support::script::Peer;
use crate::support::upstream::{Received, Upstream};

/// Deaths between a request and the head of its answer.
const DEATHS: [&str; 7] = [
    "rst",
    "fin",
    "half-close",
    "send HTTP/1.1 200 O\nrst",
    "send HTTP/1.1 200 OK\\r\\nContent-Type: application/json\\r\\n\nfin",
    "send HTTP/1.1 200 OK\\r\\nContent-Type: application/json\nhalf-close",
    // An interim answer is none.
    "send HTTP/1.1 103 Early Hints\\r\\n\\r\\n\nrst",
];

#[tokio::test]
async fn f02_a_call_whose_upstream_dies_before_the_answer_was_perhaps_executed() {
    let (mut upstream, ferry, mut client) = scene().await;
    for (id, death) in (1..).zip(DEATHS) {
        client.send(&call(id, "tools/call")).await;
        let script = play(upstream.expect("POST").await, death);
        client.ferry_error(id, "upstream_lost", "unknown").await;
        script.await.expect("no panic");
    }
    assert_eq!(upstream.times("tools/call"), DEATHS.len());
    ferry.stop_after(client).await;
}

#[tokio::test]
async fn f02_a_safe_request_whose_upstream_dies_before_the_answer_is_sent_again_once() {
    let (mut upstream, ferry, mut client) = scene().await;
    for (id, death) in (1..).zip(DEATHS) {
        client.send(&call(id, "tools/list")).await;
        let script = play(upstream.expect("POST").await, death);
        let again = upstream.expect("POST").await;
        again
            .play(r#"json {"jsonrpc":"2.0","id":$id,"result":{}}"#)
            .await;
        let answer = json!({"jsonrpc": "2.0", "id": id, "result": {}});
        assert_eq!(client.message().await, answer, "{death}");
        script.await.expect("no panic");
    }
    ferry.stop_after(client).await;
}

#[tokio::test]
async fn f02_an_upstream_that_dies_at_every_request_is_asked_twice_and_no_more() {
    let peer = Peer::start("read initialize\nrst").await;
    let ferry = Ferry::start(peer.url()).await;
    let mut client = Client::open(ferry.address).await;
    client.send(&initialize()).await;
    client.ferry_error(0, "upstream_lost", "unknown").await;
    assert_eq!(peer.accepted(), 2);
    ferry.stop_after(client).await;
}

/// A server behind a relay, which answers every call.
async fn behind_chaos() -> (Upstream, Chaos, Ferry, Client) {
    let upstream = Upstream::echo().await;
    let chaos = Chaos::before(upstream.address).await;
    let ferry = Ferry::start(chaos.url()).await;
    let mut client = Client::ready(ferry.address).await;
    // The end of the handshake has crossed by then.
    client.send(&call(0, "ping")).await;
    assert_eq!(client.message().await["id"], 0);
    (upstream, chaos, ferry, client)
}

/// Makes a call whose connection ends after so many bytes this way.
async fn cut(chaos: &Chaos, client: &mut Client, id: u64, cut: (Way, usize, Ending)) -> Value {
    let (way, bytes, ending) = cut;
    chaos.cut_after(way, bytes, ending);
    client.send(&call(id, "tools/call")).await;
    let outcome = client.message().await;
    assert_eq!(outcome["id"], id, "{outcome}");
    outcome
}

/// None of the calls with the ids from 1 to `last` may have reached the upstream twice.
fn none_twice(upstream: &Upstream, last: u64) {
    let log = upstream.log();
    for id in 1..=last {
        let same =
            |request: &&Arc<Received>| request.rpc() == "tools/call" && request.json()["id"] == id;
        assert!(
            log.iter().filter(same).count() <= 1,
            "{id} was executed twice"
        );
    }
}

#[tokio::test]
async fn f02_a_request_cut_at_any_byte_on_its_way_is_executed_at_most_once() {
    let (upstream, chaos, ferry, mut client) = behind_chaos().await;
    let mut id = 0;
    for ending in [Ending::Fin, Ending::Rst] {
        // Until a request crosses whole before the cut comes.
        for bytes in 0.. {
            id += 1;
            let outcome = cut(&chaos, &mut client, id, (Way::Up, bytes, ending)).await;
            if !chaos.is_cut() {
                assert_eq!(outcome["result"]["method"], "tools/call", "{outcome}");
                break;
            }
            let ferry = &outcome["error"]["data"]["ferry"];
            assert_eq!(ferry["executed"], "unknown", "{bytes}: {outcome}");
        }
    }
    none_twice(&upstream, id);
    ferry.stop_after(client).await;
}

#[tokio::test]
async fn f03_an_answer_cut_at_any_byte_is_an_error_and_nothing_of_it_is_delivered() {
    let (upstream, chaos, ferry, mut client) = behind_chaos().await;
    let mut id = 0;
    for ending in [Ending::Fin, Ending::Rst] {
        // Until an answer crosses whole before the cut comes.
        for bytes in 0.. {
            id += 1;
            let outcome = cut(&chaos, &mut client, id, (Way::Down, bytes, ending)).await;
            if outcome.get("result").is_some() {
                assert_eq!(outcome["result"]["method"], "tools/call", "{outcome}");
            } else {
                let ferry = &outcome["error"]["data"]["ferry"];
                assert_eq!(ferry["executed"], "unknown", "{bytes}: {outcome}");
            }
            if !chaos.is_cut() && outcome.get("result").is_some() {
                assert!(bytes > 100, "{bytes} bytes are no whole answer");
                break;
            }
        }
    }
    // Nothing was sent again.
    none_twice(&upstream, id);
    ferry.stop_after(client).await;
}
