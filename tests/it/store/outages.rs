//! What a Redis that is away, slow, or back without its memory does to replicas: what would have been handed over fails
//! quickly and is not executed later, and all is well again by itself.

use std::sync::Arc;
use std::time::Duration;

use mcp_ferry::metrics::Counter;
use mcp_ferry::metrics::labels::TakenOver;
use mcp_ferry::store::{HandOverError, StoreHealth};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::Instant;

use super::{Replica, key, replicas, request};
use crate::support::clock::within;
use crate::support::redis::Redis;

/// Until a request gets through.
async fn recovers(from: &Replica, to: &Replica) {
    within("a request to get through", async {
        while from.hand(&to.name(), "again").await.is_err() {}
    })
    .await;
}

#[tokio::test]
async fn without_the_redis_a_request_fails_within_half_a_second() {
    let mut redis = Redis::start().await;
    let (a, b) = Replica::impatient_pair(&redis.url()).await;
    b.echo();
    a.hand(&b.name(), "1").await.expect("an answer");
    redis.kill();
    for _ in 0..3 {
        let asked = Instant::now();
        let refused = a.hand(&b.name(), "2").await;
        assert_eq!(refused, Err(HandOverError::Unreachable));
        let took = asked.elapsed();
        assert!(took < Duration::from_secs(2), "{took:?}");
    }
    assert!(matches!(a.store.health(), StoreHealth::Degraded(_)));
    assert_eq!(a.store.is_up(), Some(false));
    assert!(a.metrics.get(Counter::StoreErrors) > 0);
    redis.restart().await;
    a.healthy().await;
    recovers(&a, &b).await;
    assert_eq!(a.store.is_up(), Some(true));
}

#[tokio::test]
async fn a_redis_that_comes_back_empty_costs_no_connection() {
    let mut redis = Redis::start().await;
    let (a, b) = Replica::pair(&redis).await;
    b.echo();
    a.hand(&b.name(), "1").await.expect("an answer");
    for _ in 0..3 {
        redis.kill();
        redis.restart().await;
        a.healthy().await;
        // Whatever is known of the other one now, it is not gone.
        let handed = a.hand(&b.name(), "2").await;
        assert_ne!(handed, Err(HandOverError::OwnerGone));
        recovers(&a, &b).await;
    }
    let _: () = redis.ask(&["FLUSHALL"]).await;
    let handed = a.hand(&b.name(), "3").await;
    assert!(
        handed.is_ok(),
        "the other one's heart beats within 6 s: {handed:?}"
    );
    assert_eq!(
        redis
            .ask::<u64>(&["EXISTS", &key("a", "hb"), &key("b", "hb")])
            .await,
        2
    );
}

/// Requests that are given up while the Redis stands still for so long.
async fn stands_still(pause: &str) {
    let redis = Redis::start().await;
    let (a, b) = Replica::impatient_pair(&redis.url()).await;
    let mut arrivals = b.arrivals();
    let owner = b.name();
    // So that the Redis has seen the script, and carries it out without being asked twice.
    tokio::select! {
        _ = a.hand(&owner, "executed") => {}
        one = arrivals.recv() => assert!(one.is_some()),
    }
    let _: () = redis.ask(&["CLIENT", "PAUSE", pause, "ALL"]).await;
    let asked = Instant::now();
    for _ in 0..2 {
        let refused = a.hand(&owner, "not executed").await;
        assert_eq!(refused, Err(HandOverError::Unreachable));
    }
    assert!(asked.elapsed() < Duration::from_secs(2));
    // One whose sender went away meanwhile: nobody withdraws it.
    let left = Duration::from_millis(100);
    let abandoned = tokio::time::timeout(left, a.hand(&owner, "not executed"));
    assert!(abandoned.await.is_err());
    // Until one gets through, which comes behind all that was ever sent. It is left unanswered, so that what comes of those
    // before it would be seen.
    let mut arrived = Vec::new();
    within("a request to arrive", async {
        while arrived.is_empty() {
            tokio::select! {
                _ = a.hand(&owner, "executed") => {}
                Some(one) = arrivals.recv() => arrived.push(one.request.body),
            }
        }
    })
    .await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    while let Ok(one) = arrivals.try_recv() {
        arrived.push(one.request.body);
    }
    let only = arrived.iter().all(|body| body == "executed");
    assert!(only, "{pause} ms: {arrived:?}");
}

#[tokio::test]
async fn what_was_given_up_while_the_redis_stood_still_is_never_executed() {
    // For less than what makes a replica give up its connection: then all that it sent is still carried out.
    tokio::join!(stands_still("1900"), stands_still("3000"));
}

#[tokio::test]
async fn with_a_longer_store_timeout_a_request_outlasts_a_pause() {
    let redis = Redis::start().await;
    let (a, b) = Replica::pair(&redis).await;
    b.echo();
    let _: () = redis.ask(&["CLIENT", "PAUSE", "1500", "ALL"]).await;
    a.hand(&b.name(), "1").await.expect("an answer");
}

#[tokio::test]
async fn a_redis_that_forgets_scripts_or_cuts_connections_is_not_noticed() {
    let redis = Redis::start().await;
    let (a, b) = Replica::pair(&redis).await;
    b.echo();
    for round in 0..3 {
        let _: () = redis.ask(&["SCRIPT", "FLUSH"]).await;
        a.hand(&b.name(), "1").await.expect("an answer");
        let _: () = redis.ask(&["CLIENT", "KILL", "TYPE", "normal"]).await;
        let handed = a.hand(&b.name(), "2").await;
        assert!(handed.is_ok(), "round {round}: {handed:?}");
    }
}

#[tokio::test]
async fn a_replica_that_starts_without_the_redis_joins_it_later() {
    let mut redis = Redis::start().await;
    redis.kill();
    let (a, b) = Replica::impatient_pair(&redis.url()).await;
    b.echo();
    assert!(matches!(a.store.health(), StoreHealth::Degraded(_)));
    assert_eq!(
        a.hand(&b.name(), "1").await,
        Err(HandOverError::Unreachable)
    );
    redis.restart().await;
    a.healthy().await;
    b.healthy().await;
    recovers(&a, &b).await;
}

#[tokio::test]
async fn an_inbox_that_cannot_be_read_is_said_and_is_no_trouble_for_others() {
    let redis = Redis::start().await;
    let (a, b) = Replica::impatient_pair(&redis.url()).await;
    a.echo();
    b.echo();
    a.hand(&b.name(), "1").await.expect("an answer");
    // Its heart beats all the while.
    let inbox = key("b", "in");
    let _: () = redis.ask(&["DEL", &inbox]).await;
    let _: () = redis.ask(&["SET", &inbox, "no stream"]).await;
    within("it to notice", async {
        while b.store.health() == StoreHealth::Good {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    let StoreHealth::Degraded(why) = b.store.health() else {
        panic!("it is well again");
    };
    assert!(why.contains("WRONGTYPE"), "{why}");
    let refused = a.hand(&b.name(), "2").await;
    assert_eq!(refused, Err(HandOverError::Unreachable));
    assert_eq!(a.store.health(), StoreHealth::Good);
    let _: () = redis.ask(&["DEL", &inbox]).await;
    b.healthy().await;
    recovers(&a, &b).await;
}

/// A way to a Redis on which an answer can get lost.
struct Lossy {
    url: String,
    /// Which question's answer is lost next, by a part of it.
    lose: watch::Sender<Option<String>>,
    /// Whether one was kept from its asker.
    kept: watch::Sender<bool>,
    /// Whether connections on which one was kept may break.
    over: watch::Sender<bool>,
}

impl Lossy {
    async fn before(redis: &Redis) -> Arc<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let lossy = Arc::new(Self {
            url: format!("redis://{address}"),
            lose: watch::Sender::default(),
            kept: watch::Sender::default(),
            over: watch::Sender::default(),
        });
        let (between, port) = (Arc::clone(&lossy), redis.port);
        tokio::task::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                if let Ok(server) = TcpStream::connect(("127.0.0.1", port)).await {
                    tokio::task::spawn(Arc::clone(&between).carry(client, server));
                }
            }
        });
        lossy
    }

    /// Until one of the two goes, or an answer was lost.
    async fn carry(self: Arc<Self>, mut client: TcpStream, mut server: TcpStream) {
        let (mut asked, mut answered) = ([0; 65_536], [0; 65_536]);
        loop {
            tokio::select! {
                count = client.read(&mut asked) => {
                    let Some(bytes) = asked.get(..count.unwrap_or(0)) else { return };
                    if bytes.is_empty() || server.write_all(bytes).await.is_err() {
                        return;
                    }
                    let text = String::from_utf8_lossy(bytes);
                    let lost = self.lose.send_if_modified(|lose| {
                        let lost = lose.as_ref().is_some_and(|lose| text.contains(lose));
                        lost && lose.take().is_some()
                    });
                    if lost {
                        let answer = server.read(&mut answered).await.expect("its answer");
                        assert!(answer > 0, "the Redis has gone before it answered");
                        self.kept.send_replace(true);
                        self.over.subscribe().wait_for(|over| *over).await.ok();
                        return;
                    }
                }
                count = server.read(&mut answered) => {
                    let Some(bytes) = answered.get(..count.unwrap_or(0)) else { return };
                    if bytes.is_empty() || client.write_all(bytes).await.is_err() {
                        return;
                    }
                }
            }
        }
    }
}

/// The word that a request was put into the inbox is lost; asked again, the Redis has forgotten that there is an owner, which
/// has taken the request long ago.
#[tokio::test]
async fn what_was_put_there_without_a_word_is_not_executed_twice() {
    let redis = Redis::start().await;
    let way = Lossy::before(&redis).await;
    let a = Replica::with(&replicas(&way.url, "a")).await;
    let b = Replica::start(&redis, "b").await;
    let mut arrivals = b.arrivals();
    let owner = b.name();
    // So that the Redis has seen the script, and the owner's process is known.
    tokio::select! {
        _ = a.hand(&owner, "0") => {}
        one = arrivals.recv() => assert!(one.is_some()),
    }
    way.lose.send_replace(Some(key("b", "in")));
    let handed = tokio::task::spawn({
        let store = a.store.clone();
        async move { store.hand_over(&owner, request("1")).await }
    });
    let mut kept = way.kept.subscribe();
    within("the lost answer", kept.wait_for(|kept| *kept))
        .await
        .expect("it waits");
    let first = within("the request", arrivals.recv()).await.expect("one");
    assert_eq!(first.request.body, "1");
    let _: () = redis.ask(&["DEL", &key("b", "hb")]).await;
    way.over.send_replace(true);
    b.counts(TakenOver::Repeated, 1).await;
    assert!(arrivals.try_recv().is_err(), "a second time");
    drop(first);
    let reply = within("the answer", handed).await.expect("no panic");
    assert_eq!(reply.map(|reply| reply.status), Ok(503));
}
