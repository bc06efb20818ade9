//! Connection ids are secrets: nobody can guess one, change one into another, or choose one for somebody else.

use std::collections::HashSet;

use mcp_ferry::config::{Config, Key, Keys, McpMode};
use mcp_ferry::store::{ConnectionId, ReplicaId};
use serde_json::json;

use crate::support::client::{Client, call, post};
use crate::support::ferry::Ferry;
use crate::support::session::{self, Session};
use crate::support::upstream::{Received, Upstream};

#[test]
fn a_hundred_thousand_ids_are_unlike_and_every_bit_of_them_is_random() {
    const COUNT: usize = 100_000;
    let mut seen = HashSet::with_capacity(COUNT);
    let mut ones = [0_usize; 256];
    for _ in 0..COUNT {
        let id = ConnectionId::random().expect("random").reveal();
        for (place, digit) in id.chars().enumerate() {
            let digit = digit.to_digit(16).expect("a digit");
            for bit in 0..4 {
                ones[place * 4 + bit] += usize::from(digit >> bit & 1 == 1);
            }
        }
        // A quarter of an id is enough to tell them apart (a chance of 1 in 10^9 that it is not).
        let (quarter, _) = id.split_at(16);
        assert!(
            seen.insert(quarter.to_owned()),
            "two ids begin with {quarter}"
        );
    }
    // The deviation of a fair coin is 158 here; twelve times that does not happen.
    for (bit, count) in ones.into_iter().enumerate() {
        assert!(
            count.abs_diff(COUNT / 2) < 1900,
            "bit {bit} was set {count} times"
        );
    }
}

/// Asks for a connection by this query. Never more than a few times in one test: misses are counted.
async fn status(ferry: &Ferry, query: &str) -> (u16, String) {
    let target = format!("/messages?{query}");
    let answered = post(ferry.address, &target, &[], call(1, "ping").to_string()).await;
    (answered.status(), answered.text().to_owned())
}

#[tokio::test]
async fn an_id_that_differs_in_any_digit_is_unknown() {
    let upstream = Upstream::echo().await;
    let mut differs = 0;
    // Each ferry counts its misses anew.
    for places in (0..64).collect::<Vec<usize>>().chunks(16) {
        let ferry = Ferry::start(upstream.url()).await;
        let mut client = Client::ready(ferry.address).await;
        let unknown = status(&ferry, &format!("sessionId={}", "0".repeat(64))).await;
        assert_eq!(unknown.0, 404);
        for place in places {
            let mut digits: Vec<char> = client.id().chars().collect();
            let digit = digits[*place].to_digit(16).expect("a digit");
            digits[*place] = char::from_digit(digit ^ 1, 16).expect("a digit");
            let tampered: String = digits.into_iter().collect();
            // The same answer as for an id that never was.
            assert_eq!(
                status(&ferry, &format!("sessionId={tampered}")).await,
                unknown
            );
            differs += 1;
        }
        // The connection has noticed nothing.
        client.request(9, "tools/list", json!({})).await;
        assert_eq!(client.message().await["id"], 9);
        ferry.stop_after(client).await;
    }
    assert_eq!(differs, 64);
}

#[tokio::test]
async fn only_the_id_as_it_was_given_out_is_known() {
    let upstream = Upstream::echo().await;
    let ferry = Ferry::start(upstream.url()).await;
    let client = Client::ready(ferry.address).await;
    let id = client.id();
    let initialized = |request: &Received| request.rpc() == "notifications/initialized";
    upstream.seen("the handshake's end", initialized).await;
    let before = upstream.log().len();
    for (query, wanted) in [
        (format!("sessionId={id}0"), 404),
        (format!("sessionId=0{id}"), 404),
        (format!("sessionId={}", &id[1..]), 404),
        (format!("sessionId={}", &id[..63]), 404),
        (format!("sessionId={}", id.to_uppercase()), 404),
        (
            format!("sessionId=%{:02x}{}", id.as_bytes()[0], &id[1..]),
            404,
        ),
        (format!("sessionId= {id}"), 400),
        (format!("sessionId=+{id}"), 404),
        (format!("sessionId={id}%00"), 404),
        (format!("sessionId={id}/../x"), 404),
        (format!("sessionId={id}%26"), 404),
        ("sessionId=".to_owned(), 404),
        ("sessionId".to_owned(), 400),
        (format!("id={id}"), 400),
        (format!("x={id}"), 400),
        (format!("sessionId={}&sessionId={id}", "0".repeat(64)), 404),
        (String::new(), 400),
    ] {
        // Upper case of an id without letters is the id itself, which happens once in 10^13 runs.
        let (status, text) = status(&ferry, &query).await;
        assert_eq!(status, wanted, "{query}: {text}");
        assert!(!text.contains(&id[..8]), "{query}: {text}");
    }
    assert_eq!(upstream.log().len(), before, "nothing went upstream");
    ferry.stop_after(client).await;
}

#[tokio::test]
async fn a_client_cannot_choose_its_id() {
    let upstream = Upstream::echo().await;
    let ferry = Ferry::start(upstream.url()).await;
    let chosen = "5".repeat(64);
    for name in ["sessionId", "session_id", "sessionid"] {
        let target = format!("/sse?{name}={chosen}");
        let headers = [
            ("X-Session-Id", chosen.as_str()),
            ("Cookie", &format!("sessionId={chosen}")),
        ];
        let client = Client::open_with(ferry.address, &target, &headers).await;
        assert_ne!(client.id(), chosen);
        let (status, _) = status(&ferry, &format!("sessionId={chosen}")).await;
        assert_eq!(status, 404, "{name}");
        // Nor take over one that is open.
        let target = format!("/sse?{name}={}", client.id());
        let mut second = Client::open_with(ferry.address, &target, &[]).await;
        assert_ne!(second.id(), client.id());
        second.handshake().await;
        second.leave();
        client.leave();
        ferry.quiet().await;
    }
    ferry.stop().await;
}

/// A configuration with keys that other ferries may have too.
fn keyed(keys: Vec<[u8; 32]>, replica: &'static str) -> impl FnOnce(&mut Config) {
    move |config| {
        let mut keys = keys.into_iter().map(Key::from);
        let first = keys.next().expect("a key");
        let second = keys.next();
        config.replicas.keys = Some(Keys { first, second });
        config.replicas.id = ReplicaId::parse(replica);
        config.mcp = McpMode::Bridge;
    }
}

/// The status of a request with this session's name.
async fn session_status(ferry: &Ferry, name: &str) -> u16 {
    let headers = [("Mcp-Session-Id", name)];
    session::post(ferry.address, &headers, &call(1, "ping"))
        .await
        .status()
}

#[tokio::test]
async fn with_keys_an_id_works_as_before_and_shows_nothing_but_letters() {
    let upstream = Upstream::echo().await;
    let ferry = Ferry::with(upstream.url(), keyed(vec![[1; 32]], "left")).await;
    let mut client = Client::ready(ferry.address).await;
    let usual = |char: char| char.is_ascii_alphanumeric() || "-_".contains(char);
    assert!(client.id().chars().all(usual) && !client.id().contains("left"));
    client.request(9, "tools/list", json!({})).await;
    assert_eq!(client.message().await["id"], 9);
    let session = Session::ready(ferry.address).await;
    assert_eq!(session.post(&call(2, "ping")).await.status(), 200);
    // Good for one front only.
    let (_, name) = session.id.split_once('-').expect("the ferry's mark");
    assert_eq!(status(&ferry, &format!("sessionId={name}")).await.0, 404);
    let as_session = format!("ferry-{}", client.id());
    assert_eq!(session_status(&ferry, &as_session).await, 404);
    assert_eq!(session.ask("DELETE", &[]).await.status(), 204);
    assert_eq!(session.post(&call(3, "ping")).await.status(), 404);
    ferry.stop_after(client).await;
}

#[tokio::test]
async fn a_sealed_id_that_differs_anywhere_is_unknown() {
    let upstream = Upstream::echo().await;
    let length = {
        let ferry = Ferry::with(upstream.url(), keyed(vec![[1; 32]], "a")).await;
        let client = Client::ready(ferry.address).await;
        let length = client.id().len();
        ferry.stop_after(client).await;
        length
    };
    let mut differs = 0;
    // Each ferry counts its misses anew.
    for places in (0..length).collect::<Vec<usize>>().chunks(16) {
        let ferry = Ferry::with(upstream.url(), keyed(vec![[1; 32]], "a")).await;
        let mut client = Client::ready(ferry.address).await;
        let unknown = status(&ferry, &format!("sessionId={}", "0".repeat(64))).await;
        assert_eq!(unknown.0, 404);
        for place in places {
            let mut characters: Vec<char> = client.id().chars().collect();
            characters[*place] = if characters[*place] == 'A' { 'B' } else { 'A' };
            let tampered: String = characters.into_iter().collect();
            // The same answer as for an id that never was.
            let answered = status(&ferry, &format!("sessionId={tampered}")).await;
            assert_eq!(answered, unknown, "{place}");
            differs += 1;
        }
        client.request(9, "tools/list", json!({})).await;
        assert_eq!(client.message().await["id"], 9);
        ferry.stop_after(client).await;
    }
    assert_eq!(differs, length);
}

#[tokio::test]
async fn the_id_of_another_replica_without_a_way_to_it_or_of_another_deployment_is_unknown() {
    let upstream = Upstream::echo().await;
    let left = Ferry::with(upstream.url(), keyed(vec![[1; 32]], "left")).await;
    let client = Client::ready(left.address).await;
    let session = Session::ready(left.address).await;
    let before = upstream.log().len();
    let unknown = status(&left, &format!("sessionId={}", "0".repeat(64))).await;
    for (key, replica) in [
        // Another replica, which has no store to reach the owner by.
        (1, "right"),
        // The successor of a process of this name: its connections have ended with it.
        (1, "left"),
        // Another deployment.
        (2, "left"),
    ] {
        let ferry = Ferry::with(upstream.url(), keyed(vec![[key; 32]], replica)).await;
        let answered = status(&ferry, &format!("sessionId={}", client.id())).await;
        assert_eq!(answered, unknown, "{key} {replica}");
        assert_eq!(session_status(&ferry, &session.id).await, 404);
        ferry.stop().await;
    }
    assert_eq!(upstream.log().len(), before, "nothing went upstream");
    assert_eq!(session.ask("DELETE", &[]).await.status(), 204);
    left.stop_after(client).await;
}
