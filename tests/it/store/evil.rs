//! Somebody who owns the Redis: reads all that passes, and puts in by hand what he likes. He can stop what is handed over;
//! besides that he gains nothing.

use std::time::Duration;

use bytes::Bytes;
use mcp_ferry::metrics::labels::TakenOver;
use mcp_ferry::store::{HandOverError, ReplicaId, Store};
use redis::RedisResult;
use tokio::sync::mpsc::error::TryRecvError;

use super::{Replica, key, keys, replicas, request};
use crate::support::clock::within;
use crate::support::redis::Redis;

/// What lies in an inbox: ids and entries.
async fn look(redis: &Redis, replica: &str) -> Vec<(String, Vec<u8>)> {
    let found: Vec<(String, Vec<Vec<u8>>)> =
        redis.ask(&["XRANGE", &key(replica, "in"), "-", "+"]).await;
    let entry = |(id, mut fields): (String, Vec<Vec<u8>>)| (id, fields.pop().unwrap());
    found.into_iter().map(entry).collect()
}

/// Puts an entry into an inbox, with this id.
async fn put(redis: &Redis, replica: &str, id: &str, entry: &[u8]) {
    let inbox = key(replica, "in");
    let command = [b"XADD", inbox.as_bytes(), id.as_bytes(), b"e", entry];
    let put: RedisResult<String> = redis.ask_bytes(&command).await;
    put.expect("put");
}

/// A replica's heartbeat, as it lies there.
async fn heartbeat(redis: &Redis, name: &str) -> Vec<u8> {
    redis.ask(&["GET", &key(name, "hb")]).await
}

/// What a replica sends to one of this name, of which only this heartbeat is there: its request, and that it is withdrawn.
async fn captured(
    redis: &Redis,
    from: &Replica,
    name: &str,
    heartbeat: &[u8],
    body: &str,
) -> Vec<Vec<u8>> {
    let beats = key(name, "hb");
    let command = [b"SET", beats.as_bytes(), heartbeat];
    let set: RedisResult<()> = redis.ask_bytes(&command).await;
    set.expect("set");
    let mut quick = request(body);
    quick.hold = Duration::ZERO;
    let owner = ReplicaId::parse(name).expect("a name");
    let handed = within("no answer", from.store.hand_over(&owner, quick)).await;
    assert_eq!(handed, Err(HandOverError::NoAnswer));
    within("the withdrawal", async {
        while look(redis, name).await.len() < 2 {}
    })
    .await;
    let all = look(redis, name).await;
    let _: () = redis
        .ask(&["DEL", &key(name, "hb"), &key(name, "in")])
        .await;
    all.into_iter().map(|(_, entry)| entry).collect()
}

#[tokio::test]
async fn what_lies_there_is_readable_to_nobody() {
    let redis = Redis::start().await;
    let a = Replica::start(&redis, "a").await;
    let id = request("").id.reveal();
    let entries = captured(&redis, &a, "b", b"x", "c4n4ry of a body").await;
    let everything: Vec<u8> = redis.ask(&["DUMP", "{mcp-ferry}:key"]).await;
    let raw: Vec<u8> = (0..id.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&id[at..at + 2], 16).unwrap())
        .collect();
    for there in entries.iter().chain([&everything]) {
        for canary in [
            b"c4n4ry".as_slice(),
            b"authorization",
            id.as_bytes(),
            &raw[..8],
        ] {
            let found = there.windows(canary.len()).any(|part| part == canary);
            assert!(!found, "{}", String::from_utf8_lossy(canary));
        }
    }
}

#[tokio::test]
async fn copied_altered_withdrawn_and_crossed_entries_are_refused() {
    // Its owner shows `a` another one than the rest, with the heartbeat of `b` in it.
    let (redis, shown) = (Redis::start().await, Redis::start().await);
    let a = Replica::start(&shown, "a").await;
    let (b, c) = (
        Replica::start(&redis, "b").await,
        Replica::start(&redis, "c").await,
    );
    let beat = heartbeat(&redis, "b").await;
    let entries = captured(&shown, &a, "b", &beat, "one").await;
    let (request, withdrawal) = (&entries[0], &entries[1]);
    let other = captured(&shown, &a, "b", &beat, "two").await;
    let mut at_b = b.arrivals();
    let mut at_c = c.arrivals();

    // Held back until now, it arrives: once.
    put(&redis, "b", "*", request).await;
    let arrived = within("the request", at_b.recv()).await.expect("one");
    assert_eq!(arrived.request.body, "one");
    put(&redis, "b", "*", request).await;
    b.counts(TakenOver::Repeated, 1).await;
    // Given up by its sender, and put behind that.
    put(&redis, "b", "*", &other[1]).await;
    b.counts(TakenOver::Withdrawn, 1).await;
    put(&redis, "b", "*", &other[0]).await;
    b.counts(TakenOver::Repeated, 2).await;
    put(&redis, "b", "*", withdrawal).await;
    b.counts(TakenOver::Repeated, 3).await;

    // In the inboxes of others, the sender's too.
    for entry in [request, withdrawal] {
        put(&redis, "c", "*", entry).await;
        put(&shown, "a", "*", entry).await;
    }
    c.counts(TakenOver::Unopened, 2).await;
    a.counts(TakenOver::Unopened, 2).await;

    // Altered: the kind, the sender's name, the process, the number, the sealed rest.
    let places = [0, 2, 3, 18, 19, 26, 27, 60, request.len() - 1];
    for at in places {
        let mut altered = request.clone();
        altered[at] ^= 1;
        put(&redis, "b", "*", &altered).await;
    }
    within("the altered ones", async {
        let refused = || b.taken(TakenOver::Unopened) + b.taken(TakenOver::Malformed);
        while refused() < places.len() as u64 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    assert_eq!(at_b.try_recv().map(|_| ()), Err(TryRecvError::Empty));
    assert_eq!(at_c.try_recv().map(|_| ()), Err(TryRecvError::Empty));
}

#[tokio::test]
async fn nonsense_in_an_inbox_stops_nothing() {
    let redis = Redis::start().await;
    let (a, b) = Replica::pair(&redis).await;
    b.echo();
    for nonsense in [
        b"".as_slice(),
        b"\x01",
        b"\x01\xffx",
        &[0; 100_000],
        b"\x02\x01a\r\n",
    ] {
        put(&redis, "b", "*", nonsense).await;
    }
    let inbox = key("b", "in");
    let _: String = redis.ask(&["XADD", &inbox, "*", "x", "y"]).await;
    let _: String = redis.ask(&["XADD", &inbox, "*", "e", "1", "e", "2"]).await;
    b.counts(TakenOver::Malformed, 7).await;
    assert_eq!(a.hand(&b.name(), "1").await, Ok(Bytes::from("1")));
    within("the inbox to be emptied", async {
        while redis.ask::<u64>(&["XLEN", &inbox]).await > 0 {}
    })
    .await;
    // No inbox at all, but something of its name.
    let _: () = redis.ask(&["SET", &inbox, "a text"]).await;
    let refused = a.hand(&b.name(), "2").await;
    assert_eq!(refused, Err(HandOverError::Unreachable));
    let _: () = redis.ask(&["DEL", &inbox]).await;
    within("it to be well again", async {
        while a.hand(&b.name(), "3").await.is_err() {}
    })
    .await;
}

#[tokio::test]
async fn an_id_from_any_time_delays_but_does_not_repeat() {
    let (redis, shown) = (Redis::start().await, Redis::start().await);
    let a = Replica::start(&shown, "a").await;
    let b = Replica::start(&redis, "b").await;
    let beat = heartbeat(&redis, "b").await;
    let old = captured(&shown, &a, "b", &beat, "old").await;
    let new = captured(&shown, &a, "b", &beat, "new").await;
    let mut arrivals = b.arrivals();
    // Lying there since 1970.
    put(&redis, "b", "1-1", &old[0]).await;
    b.counts(TakenOver::Late, 1).await;
    put(&redis, "b", "1-2", &old[0]).await;
    b.counts(TakenOver::Repeated, 1).await;
    // From the far future: it counts as new, and what comes behind it is read too.
    put(&redis, "b", "99999999999999-0", &new[0]).await;
    let arrived = within("the request", arrivals.recv()).await.expect("one");
    assert_eq!(arrived.request.body, "new");
    put(&redis, "b", "99999999999999-1", &old[0]).await;
    b.counts(TakenOver::Repeated, 2).await;
    assert!(arrivals.try_recv().is_err());
}

#[tokio::test]
async fn an_answer_is_only_the_owner_s_to_give() {
    let (redis, shown) = (Redis::start().await, Redis::start().await);
    let (a, b) = Replica::pair(&redis).await;
    b.echo();
    // The first request of a new process has the same number in each, so an old answer would fit by number.
    let watched = Replica::start(&shown, "w").await;
    let answer = {
        // Its sender is not there to read what comes back, so it can be taken out.
        let v = Replica::start(&redis, "v").await;
        v.echo();
        let beat = heartbeat(&redis, "v").await;
        let sent = captured(&shown, &watched, "v", &beat, "one").await;
        let _: () = redis.ask(&["SET", &key("w", "hb"), "x"]).await;
        put(&redis, "v", "*", &sent[0]).await;
        within("the answer", async {
            while look(&redis, "w").await.is_empty() {}
        })
        .await;
        assert_eq!(v.taken(TakenOver::Request), 1);
        look(&redis, "w").await.remove(0).1
    };
    let _: () = redis.ask(&["DEL", &key("w", "hb"), &key("w", "in")]).await;
    put(&redis, "a", "*", &answer).await;
    a.counts(TakenOver::Unopened, 1).await;
    // It opens at a replica of that name, which has not asked that.
    let again = Replica::start(&redis, "w").await;
    let _: () = redis.ask(&["SET", &key("v", "hb"), "x"]).await;
    let store = again.store.clone();
    let waiting = tokio::task::spawn(async move {
        let owner = ReplicaId::parse("v").expect("a name");
        store.hand_over(&owner, request("two")).await
    });
    within("its request", async {
        while redis.ask::<u64>(&["XLEN", &key("v", "in")]).await == 0 {}
    })
    .await;
    put(&redis, "w", "*", &answer).await;
    again.counts(TakenOver::Unasked, 1).await;
    assert!(!waiting.is_finished());
    assert_eq!(a.hand(&b.name(), "1").await, Ok(Bytes::from("1")));
}

#[tokio::test]
async fn a_heartbeat_that_lies_gives_nothing_away() {
    let redis = Redis::start().await;
    let mut theirs = replicas(&redis.url(), "d");
    theirs.keys = Some(keys(99));
    theirs.store_prefix = "theirs".to_owned();
    let (a, d) = (
        Replica::start(&redis, "a").await,
        Replica::with(&theirs).await,
    );
    let mut arrivals = d.arrivals();
    // A replica of other keys, which gets all that is meant for one of ours.
    let _: () = redis.ask(&["SET", &key("d", "hb"), "x"]).await;
    let mut quick = request("{}");
    quick.hold = Duration::ZERO;
    let sent = tokio::task::spawn({
        let store = a.store.clone();
        let owner = ReplicaId::parse("d").expect("a name");
        async move { store.hand_over(&owner, quick).await }
    });
    within("the request", async {
        while look(&redis, "d").await.is_empty() {}
    })
    .await;
    let entry = look(&redis, "d").await.remove(0).1;
    let inbox = "{theirs:r:d}:in";
    let command = [b"XADD", inbox.as_bytes(), b"*", b"e", &entry];
    let _: String = redis.ask_bytes(&command).await.expect("put");
    d.counts(TakenOver::Unopened, 1).await;
    assert!(arrivals.try_recv().is_err());
    let handed = within("no answer", sent).await.expect("no panic");
    assert_eq!(handed, Err(HandOverError::NoAnswer));
}

/// A store is what these tests are about; it says nothing of what it holds.
#[tokio::test]
async fn a_store_shows_no_secret() {
    let redis = Redis::with(&["--requirepass", "c4n4ry"]).await;
    let url = format!("redis://:c4n4ry@127.0.0.1:{}", redis.port);
    let told = replicas(&url, "a");
    let shown = format!("{told:?}");
    assert!(!shown.contains("c4n4ry"), "{shown}");
    let a = Replica::with(&told).await;
    let store: &Store = &a.store;
    let shown = format!("{store:?}");
    assert!(!shown.contains("c4n4ry"), "{shown}");
}
