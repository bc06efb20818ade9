//! What every store does alike, whatever replicas meet in: the same suite for each.

use std::sync::Arc;
use std::time::Duration;

use mcp_ferry::config::{CredentialBinding, Replicas};
use mcp_ferry::metrics::Metrics;
use mcp_ferry::store::{
    Binding, Claim, ConnectionId, Delivery, Front, HandOverError, Place, ReplicaId, Store,
    StoreHealth,
};
use mcp_ferry::tap::Label;
use tokio::sync::mpsc;

use super::{Replica, keys, replicas, request};
use crate::support::clock::within;
use crate::support::redis::Redis;

fn claim(store: &Store, front: Front) -> (ConnectionId, mpsc::Receiver<Box<Delivery>>) {
    let id = ConnectionId::random().expect("random");
    let (mailbox, deliveries) = mpsc::channel(4);
    let nobody = Claim {
        fingerprint: None,
        holder: || None,
        address: [127, 0, 0, 1].into(),
    };
    let binding = Binding::new(CredentialBinding::Strict, nobody);
    store.claim(id.clone(), Label(1), mailbox, binding, front);
    (id, deliveries)
}

/// One replica alone: its own connections.
async fn connections(store: &Store) {
    for (front, other) in [
        (Front::Stream, Front::Session),
        (Front::Session, Front::Stream),
    ] {
        let (id, mut deliveries) = claim(store, front);
        let text = store.reveal(&id, front);
        let Place::Here(named, recipient) = store.place(&text, front) else {
            panic!("{text} is here");
        };
        assert_eq!(named, id);
        assert!(store.find(&id, front).is_some());
        assert!(store.find(&id, other).is_none());
        assert!(matches!(store.place(&text, other), Place::Unknown));
        assert!(matches!(
            store.place(&store.reveal(&id, other), other),
            Place::Unknown
        ));
        assert!(recipient.hand(Delivery::Leave).await);
        assert!(matches!(
            deliveries.recv().await.as_deref(),
            Some(Delivery::Leave)
        ));

        store.drain(Duration::from_secs(3));
        let told = within("a drain", deliveries.recv()).await;
        let Some(Delivery::Drain(spread)) = told.as_deref() else {
            panic!("{told:?}");
        };
        assert_eq!(*spread, Duration::from_secs(3));
        store.expire();
        let told = within("the end", deliveries.recv()).await;
        assert!(matches!(told.as_deref(), Some(Delivery::Expire)));

        drop(deliveries);
        assert!(!recipient.hand(Delivery::Leave).await, "it has ended");
        store.release(&id);
        assert!(store.find(&id, front).is_none());
        assert!(matches!(store.place(&text, front), Place::Unknown));
        store.release(&id);
    }
}

/// Ids that are none of this deployment's.
async fn strangers(store: &Store) {
    let other = Replicas {
        keys: Some(keys(200)),
        ..Replicas::default()
    };
    let other = Store::open(&other, &Arc::new(Metrics::default()))
        .await
        .expect("a store");
    let (id, _deliveries) = claim(&other, Front::Stream);
    let long = "x".repeat(100_000);
    for text in [
        "",
        "0",
        &other.reveal(&id, Front::Stream),
        &id.reveal(),
        &long,
        "é%00",
    ] {
        for front in [Front::Stream, Front::Session] {
            assert!(matches!(store.place(text, front), Place::Unknown), "{text}");
        }
    }
}

/// Nobody of this name is there, nor will be.
async fn nobody(store: &Store) {
    assert_eq!(store.health(), StoreHealth::Good);
    let owner = ReplicaId::parse("nobody").expect("a name");
    let handed = within("an answer", store.hand_over(&owner, request("{}"))).await;
    assert_eq!(handed, Err(HandOverError::OwnerGone));
    assert_eq!(store.health(), StoreHealth::Good);
}

/// Two that meet.
async fn both(a: &Replica, b: &Replica) {
    let (id, _deliveries) = claim(&b.store, Front::Stream);
    let text = b.store.reveal(&id, Front::Stream);
    let Place::Elsewhere { owner, id: named } = a.store.place(&text, Front::Stream) else {
        panic!("it is at the other one");
    };
    assert_eq!((owner.clone(), named), (b.name(), id.clone()));
    assert!(a.store.find(&id, Front::Stream).is_none());
    b.echo();
    a.hand(&owner, "{}").await.expect("an answer");
    b.store.release(&id);
    assert!(matches!(
        a.store.place(&text, Front::Stream),
        Place::Elsewhere { .. }
    ));
    assert!(matches!(
        b.store.place(&text, Front::Stream),
        Place::Unknown
    ));
    b.store.leave().await;
    b.store.leave().await;
}

async fn conforms(told: &Replicas, other: Option<&Replicas>) {
    let a = Replica::with(told).await;
    let alone = async {
        connections(&a.store).await;
        strangers(&a.store).await;
    };
    tokio::join!(alone, nobody(&a.store));
    if let Some(other) = other {
        let b = Replica::with(other).await;
        both(&a, &b).await;
    }
    a.store.leave().await;
}

#[tokio::test]
async fn memory_conforms() {
    conforms(&Replicas::default(), None).await;
    let keyed = Replicas {
        keys: Some(keys(1)),
        ..Replicas::default()
    };
    conforms(&keyed, None).await;
}

#[tokio::test]
async fn redis_conforms() {
    let redis = Redis::start().await;
    let url = format!("{}/3", redis.url());
    conforms(&replicas(&url, "a"), Some(&replicas(&url, "b"))).await;
    let keys: Vec<String> = redis.ask(&["KEYS", "*"]).await;
    assert!(keys.is_empty(), "they are in another database: {keys:?}");
}

#[tokio::test]
async fn a_cluster_conforms() {
    let nodes = super::forms::cluster().await;
    let ports: Vec<String> = nodes
        .iter()
        .map(|node| format!("127.0.0.1:{}", node.port))
        .collect();
    let url = format!("redis+cluster://{}", ports.join(","));
    conforms(&replicas(&url, "a"), Some(&replicas(&url, "b"))).await;
}
