//! What two replicas hand each other arrives, whole and once, and costs what it may cost.

use std::collections::HashSet;
use std::time::Duration;

use bytes::Bytes;
use mcp_ferry::metrics::labels::{HandedOver, TakenOver};
use mcp_ferry::store::{HandOverError, MAX_ENTRY, Reply};

use super::{Replica, key, request};
use crate::support::clock::within;
use crate::support::redis::Redis;

#[tokio::test]
async fn a_request_and_its_answer_cross_whole() {
    let redis = Redis::start().await;
    let (a, b) = Replica::pair(&redis).await;
    let mut arrivals = b.arrivals();
    assert!(b.store.arrivals().is_none(), "there is one end only");
    let asked = request("{\"jsonrpc\":\"2.0\"}");
    let handed = tokio::task::spawn({
        let (store, asked, owner) = (a.store.clone(), asked.clone(), b.name());
        async move { store.hand_over(&owner, asked).await }
    });
    let arrived = within("the request", arrivals.recv()).await.expect("one");
    assert_eq!(arrived.request, asked);
    let refusal = Reply {
        status: 401,
        headers: vec![
            (
                "www-authenticate".into(),
                b"Bearer a=\"b, c\"".as_slice().into(),
            ),
            ("www-authenticate".into(), b"Basic".as_slice().into()),
        ],
        body: Bytes::from_static(b"who are you"),
    };
    arrived.reply.send(refusal.clone()).expect("somebody waits");
    assert_eq!(
        within("the answer", handed).await.expect("no panic"),
        Ok(refusal)
    );
    assert_eq!(a.metrics.handed_over.get(HandedOver::Answered), 1);
    assert_eq!(
        (b.taken(TakenOver::Request), a.taken(TakenOver::Answer)),
        (1, 1)
    );
}

#[tokio::test]
async fn a_large_message_crosses_and_one_that_is_too_large_is_refused() {
    let redis = Redis::start().await;
    let (a, b) = Replica::pair(&redis).await;
    b.echo();
    let large = "x".repeat(4 << 20);
    assert_eq!(a.hand(&b.name(), &large).await, Ok(Bytes::from(large)));
    let too_large = "x".repeat(MAX_ENTRY);
    let refused = a.hand(&b.name(), &too_large).await;
    assert_eq!(refused, Err(HandOverError::TooLarge));
}

#[tokio::test]
async fn a_request_takes_two_scripts_and_leaves_nothing_behind() {
    const REQUESTS: u64 = 200;
    let redis = Redis::start().await;
    let (a, b) = Replica::pair(&redis).await;
    b.echo();
    // Until the Redis has seen the scripts they are sent whole.
    a.hand(&b.name(), "{}").await.expect("an answer");
    let scripts = || async { redis.calls("evalsha").await + redis.calls("eval").await };
    let before = scripts().await;
    for _ in 0..REQUESTS {
        a.hand(&b.name(), "{}").await.expect("an answer");
    }
    let ran = scripts().await - before;
    // Each replica gives a heartbeat, which is two scripts, every two seconds.
    assert!(
        (2 * REQUESTS..=2 * REQUESTS + 40).contains(&ran),
        "{ran} scripts"
    );
    for replica in ["a", "b"] {
        let inbox = key(replica, "in");
        within("the inbox to be emptied", async {
            while redis.ask::<u64>(&["XLEN", &inbox]).await > 0 {}
        })
        .await;
        let left: i64 = redis.ask(&["PTTL", &inbox]).await;
        assert!((1..=60_000).contains(&left), "it goes by itself: {left}");
    }
    let keys: HashSet<String> = redis.ask(&["KEYS", "*"]).await;
    assert!(
        keys.iter().all(|key| key.starts_with("{mcp-ferry")),
        "{keys:?}"
    );
    assert!(keys.len() <= 5, "{keys:?}");
}

#[tokio::test]
async fn many_at_once_each_get_their_own_answer() {
    let redis = Redis::start().await;
    let (a, b) = Replica::pair(&redis).await;
    a.echo();
    b.echo();
    let all = (0..500).map(|number| {
        let (from, to) = if number % 2 == 0 { (&a, &b) } else { (&b, &a) };
        let (store, owner, body) = (from.store.clone(), to.name(), format!("{number}"));
        tokio::task::spawn(async move {
            let reply = store.hand_over(&owner, request(&body)).await;
            assert_eq!(reply.map(|reply| reply.body), Ok(Bytes::from(body)));
        })
    });
    for one in all.collect::<Vec<_>>() {
        within("an answer", one).await.expect("the right one");
    }
    for replica in [&a, &b] {
        assert_eq!(
            (
                replica.taken(TakenOver::Request),
                replica.taken(TakenOver::Answer)
            ),
            (250, 250)
        );
    }
}

#[tokio::test]
async fn an_owner_that_said_good_bye_or_died_is_gone() {
    let redis = Redis::start().await;
    let (a, b) = Replica::pair(&redis).await;
    let left = tokio::time::Instant::now();
    b.store.leave().await;
    assert_eq!(
        redis
            .ask::<u64>(&["EXISTS", &key("b", "hb"), &key("b", "in")])
            .await,
        0
    );
    assert_eq!(a.hand(&b.name(), "{}").await, Err(HandOverError::OwnerGone));
    // The Redis is too young for a missing heartbeat to prove anything at once.
    let waited = left.elapsed();
    let expected = Duration::from_secs(5)..Duration::from_secs(15);
    assert!(expected.contains(&waited), "{waited:?}");
    assert_eq!(a.metrics.handed_over.get(HandedOver::OwnerGone), 1);
    tokio::time::sleep(Duration::from_secs(14)).await;
    let asked = tokio::time::Instant::now();
    assert_eq!(a.hand(&b.name(), "{}").await, Err(HandOverError::OwnerGone));
    assert!(asked.elapsed() < Duration::from_secs(3), "it proves it now");
    // One that is killed says nothing, and its heartbeat holds for a while.
    let c = Replica::start(&redis, "c").await;
    c.echo();
    let owner = c.name();
    a.hand(&owner, "{}").await.expect("an answer");
    drop(c);
    let asked = tokio::time::Instant::now();
    assert_eq!(a.hand(&owner, "{}").await, Err(HandOverError::OwnerGone));
    let waited = asked.elapsed();
    let expected = Duration::from_secs(5)..Duration::from_secs(8);
    assert!(expected.contains(&waited), "{waited:?}");
    assert_eq!(redis.ask::<u64>(&["EXISTS", &key("c", "hb")]).await, 1);
}

#[tokio::test]
async fn an_owner_that_does_not_answer_is_told_to_leave_the_request() {
    let redis = Redis::start().await;
    let (a, b) = Replica::pair(&redis).await;
    // Somebody with that name, who does not read.
    let _: () = redis.ask(&["SET", &key("c", "hb"), "x"]).await;
    let mut quick = request("{}");
    quick.hold = Duration::ZERO;
    let owner = mcp_ferry::store::ReplicaId::parse("c").expect("a name");
    let began = tokio::time::Instant::now();
    let unanswered = a.store.hand_over(&owner, quick.clone()).await;
    assert_eq!(unanswered, Err(HandOverError::NoAnswer));
    assert!(began.elapsed() >= Duration::from_secs(4));
    let inbox = key("c", "in");
    within("request and withdrawal", async {
        while redis.ask::<u64>(&["XLEN", &inbox]).await < 2 {}
    })
    .await;
    // Nobody answers, though somebody reads: a server that drops it, or takes too long.
    let mut arrivals = b.arrivals();
    let handed = tokio::task::spawn({
        let (store, owner) = (a.store.clone(), b.name());
        async move { store.hand_over(&owner, quick).await }
    });
    drop(within("the request", arrivals.recv()).await);
    let reply = within("an answer", handed).await.expect("no panic");
    assert_eq!(reply.map(|reply| reply.status), Ok(503));
}

#[tokio::test]
async fn what_a_server_does_not_take_is_refused_at_once() {
    let redis = Redis::start().await;
    let (a, b) = Replica::pair(&redis).await;
    drop(b.arrivals());
    let reply = within("a refusal", a.store.hand_over(&b.name(), request("{}"))).await;
    assert_eq!(reply.map(|reply| reply.status), Ok(503));
    assert_eq!(b.taken(TakenOver::Busy), 1);
}

#[tokio::test]
async fn an_inbox_that_nobody_empties_fills_up() {
    let redis = Redis::start().await;
    let a = Replica::start(&redis, "a").await;
    let _: () = redis.ask(&["SET", &key("c", "hb"), "x"]).await;
    let fill = "for i = 1, 10000 do redis.call('XADD', KEYS[1], '*', 'e', '') end";
    let _: () = redis.ask(&["EVAL", fill, "1", &key("c", "in")]).await;
    let owner = mcp_ferry::store::ReplicaId::parse("c").expect("a name");
    assert_eq!(a.hand(&owner, "{}").await, Err(HandOverError::Full));
}
