//! What a Redis that is away, slow, or back without its memory does to replicas: what would have been handed over fails
//! quickly and is not executed later, and all is well again by itself.

use std::time::Duration;

use mcp_ferry::metrics::Counter;
use mcp_ferry::store::{HandOverError, StoreHealth};
use tokio::time::Instant;

use super::{Replica, key};
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
