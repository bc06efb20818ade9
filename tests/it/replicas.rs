//! Several replicas that meet in a real Redis: what a client posts lands on another replica than the one that has its
//! connection, and all is as if it had landed there.
//!
//! The replicas are ferries in this process. A client is told to post elsewhere by changing its address.

mod sessions;

use std::net::SocketAddr;
use std::time::Duration;

use hyper::Uri;
use mcp_ferry::config::{
    Admin, Config, CredentialBinding, Key, Keys, Meeting, RedisAddress, RedisForm, ReplicaId,
};
use mcp_ferry::metrics::labels::HandedOver;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::support::client::{Client, call, initialize, post};
use crate::support::clock::within;
use crate::support::ferry::Ferry;
use crate::support::http::exchange;
use crate::support::redis::Redis;
use crate::support::upstream::{Answer, Upstream};

/// A Redis and two replicas that meet there.
struct Pair {
    redis: Redis,
    left: Ferry,
    right: Ferry,
}

impl Pair {
    async fn start(upstream: Uri) -> Self {
        Self::with(upstream, |_| {}).await
    }

    async fn with(upstream: Uri, change: impl Fn(&mut Config)) -> Self {
        let redis = Redis::start().await;
        let start = async |name| {
            let join = replica(&redis, name);
            Ferry::with(upstream.clone(), |config| {
                join(config);
                change(config);
            })
            .await
        };
        let (left, right) = (start("left").await, start("right").await);
        Self { redis, left, right }
    }

    /// A client whose stream is on the left and who posts on the right.
    async fn across(&self) -> Client {
        let mut client = Client::open(self.left.address).await;
        client.address = self.right.address;
        client
    }

    async fn stop(self) {
        for ferry in [self.left, self.right] {
            ferry.quiet().await;
            ferry.stop().await;
        }
    }
}

/// A configuration of a replica of this name that meets others in this Redis.
fn replica(redis: &Redis, name: &str) -> impl FnOnce(&mut Config) + use<> {
    let (port, name) = (redis.port, ReplicaId::parse(name));
    move |config| {
        let replicas = &mut config.replicas;
        replicas.keys = Some(Keys {
            first: Key::from([1; 32]),
            second: None,
        });
        replicas.id = name;
        replicas.store = Meeting::Redis(Box::new(RedisAddress {
            form: RedisForm::Server,
            tls: false,
            hosts: vec![("127.0.0.1".to_owned(), port)],
            user: None,
            password: None,
            database: 0,
        }));
    }
}

/// Requests that a ferry has handed over with this outcome.
fn handed_over(ferry: &Ferry, outcome: HandedOver) -> u64 {
    ferry.metrics.handed_over.get(outcome)
}

async fn readiness(address: SocketAddr) -> (u16, String) {
    let answered = exchange(address, "GET", "/readyz", &[], "").await;
    (answered.status(), answered.text().to_owned())
}

#[tokio::test]
async fn what_is_posted_elsewhere_is_executed_and_answered_by_the_owner() {
    let upstream = Upstream::echo().await;
    let pair = Pair::start(upstream.url()).await;
    let mut client = pair.across().await;
    client.handshake().await;
    for id in 1..20 {
        client.request(id, "tools/list", json!({"n": id})).await;
        let answer = client.message().await;
        assert_eq!(
            (&answer["id"], &answer["result"]["params"]["n"]),
            (&json!(id), &json!(id))
        );
    }
    assert_eq!(upstream.times("tools/list"), 19, "each once");
    assert_eq!(upstream.times("initialize"), 1);
    // The handshake's two, and these.
    assert_eq!(handed_over(&pair.right, HandedOver::Answered), 21);
    assert_eq!(handed_over(&pair.left, HandedOver::Answered), 0);
    // What lands on its owner is handed to nobody.
    client.address = pair.left.address;
    client.request(30, "tools/list", json!({})).await;
    assert_eq!(client.message().await["id"], 30);
    assert_eq!(handed_over(&pair.left, HandedOver::Answered), 0);
    client.leave();
    pair.stop().await;
}

#[tokio::test]
async fn headers_cross_and_the_socket_of_the_client_counts() {
    let upstream = Upstream::echo().await;
    let pair = Pair::with(upstream.url(), |config| {
        config.upstream.forward_headers = vec![hyper::header::HeaderName::from_static("x-tenant")];
    })
    .await;
    let mut client = pair.across().await;
    let headers = [
        ("Authorization", "Bearer good"),
        ("X-Tenant", "t"),
        ("X-Other", "o"),
        ("X-Forwarded-For", "192.0.2.1"),
        (
            "traceparent",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        ),
    ];
    client.send_with(&headers, &initialize()).await;
    assert_eq!(client.message().await["id"], 0);
    let log = upstream.log();
    let received = log.first().expect("initialize");
    assert_eq!(received.header("authorization"), Some("Bearer good"));
    assert_eq!(received.header("x-tenant"), Some("t"));
    assert_eq!(received.header("x-other"), None);
    assert_eq!(
        received.header("x-forwarded-for"),
        Some("127.0.0.1"),
        "nobody is trusted"
    );
    assert!(received.header("traceparent").is_some());
    assert_eq!(received.header("x-forwarded-host"), Some("localhost"));
    client.leave();
    pair.stop().await;
}

#[tokio::test]
async fn a_refused_credential_crosses_with_its_challenge_and_a_foreign_one_is_unknown() {
    let upstream = Upstream::start(|request| {
        let good = request.header("authorization") == Some("Bearer good");
        let challenges = [
            ("WWW-Authenticate", "Bearer a"),
            ("WWW-Authenticate", "Basic b"),
        ];
        Some(if good {
            Answer::initialize(request, None)
        } else {
            Answer::new(401, &challenges, "who?")
        })
    })
    .await;
    let pair = Pair::with(upstream.url(), |config| {
        config.guard.credential_binding = CredentialBinding::Strict;
    })
    .await;
    let mut client = pair.across().await;
    let bad = [("Authorization", "Bearer bad")];
    let refused = client.post_with(&bad, initialize().to_string()).await;
    assert_eq!((refused.status(), refused.text()), (401, "who?"));
    assert_eq!(
        refused.head.all("www-authenticate"),
        ["Bearer a", "Basic b"]
    );
    // After the challenge another one is taken, once.
    let good = [("Authorization", "Bearer good")];
    client.send_with(&good, &initialize()).await;
    assert_eq!(client.message().await["id"], 0);
    let before = upstream.log().len();
    let foreign = [("Authorization", "Bearer foreign")];
    let refused = client
        .post_with(&foreign, call(5, "ping").to_string())
        .await;
    let none = format!("sessionId={}", "0".repeat(64));
    let unknown = post(pair.right.address, &format!("/messages?{none}"), &[], "{}").await;
    assert_eq!((refused.status(), refused.text()), (404, unknown.text()));
    assert_eq!(upstream.log().len(), before);
    client.leave();
    pair.stop().await;
}

#[tokio::test]
async fn what_can_be_judged_here_is_not_handed_over_and_the_owners_judgment_crosses() {
    let mut upstream = Upstream::with_sessions().await;
    let pair = Pair::with(upstream.url(), |config| {
        config.limits.max_request_body = 2000
    })
    .await;
    let mut client = pair.across().await;
    for (headers, body, wanted) in [
        ([("Content-Type", "text/plain")], "{}".to_owned(), 415),
        ([("X", "")], "{".to_owned(), 400),
        ([("X", "")], "x".repeat(2001), 413),
        (
            [("Origin", "https://foreign.example")],
            "{}".to_owned(),
            403,
        ),
    ] {
        let answered = client.post_with(&headers, body).await;
        assert_eq!(answered.status(), wanted, "{answered:?}");
    }
    assert_eq!(handed_over(&pair.right, HandedOver::Answered), 0);
    client.handshake().await;
    client.request(7, "tools/call", json!({})).await;
    let running = upstream.expect("POST").await;
    let twice = client.post(call(7, "tools/call").to_string()).await;
    assert_eq!(twice.status(), 400, "{twice:?}");
    assert!(twice.text().contains('7'), "{twice:?}");
    running.result(&json!({})).await;
    assert_eq!(client.message().await["id"], 7);
    client.leave();
    pair.stop().await;
}

#[tokio::test]
async fn an_owner_that_is_gone_is_an_unknown_connection() {
    let upstream = Upstream::echo().await;
    let pair = Pair::start(upstream.url()).await;
    let mut client = pair.across().await;
    client.handshake().await;
    pair.left.stop().await;
    let asked = Instant::now();
    let answered = client.post(call(3, "ping").to_string()).await;
    assert_eq!(answered.status(), 404, "{answered:?}");
    assert!(asked.elapsed() < Duration::from_secs(7), "{asked:?}");
    assert_eq!(handed_over(&pair.right, HandedOver::OwnerGone), 1);
    pair.right.stop().await;
    drop(pair.redis);
}

#[tokio::test]
async fn without_the_redis_only_what_would_be_handed_over_fails_and_it_comes_back_by_itself() {
    let upstream = Upstream::echo().await;
    let admin = |config: &mut Config| {
        config.admin = Some(Admin {
            listen: ([127, 0, 0, 1], 0).into(),
            allow_remote: false,
            token: None,
        });
    };
    let mut pair = Pair::with(upstream.url(), admin).await;
    let mut client = pair.across().await;
    client.handshake().await;
    assert_eq!(
        readiness(pair.right.address).await,
        (200, "ready\n".to_owned())
    );
    pair.redis.kill();
    let asked = Instant::now();
    let answered = client.post(call(3, "ping").to_string()).await;
    assert_eq!(answered.status(), 503, "{answered:?}");
    assert_eq!(answered.header("retry-after"), Some("1"));
    assert!(
        asked.elapsed() < Duration::from_secs(2),
        "{:?}",
        asked.elapsed()
    );
    // Everybody may know that, and who has the admin listener may know why.
    let degraded = "ready, degraded: other replicas cannot be reached";
    let said = readiness(pair.right.address).await;
    assert_eq!(said, (200, format!("{degraded}\n")));
    let (status, text) = readiness(pair.right.admin()).await;
    let why = text.strip_prefix(degraded).expect(&text);
    assert!(
        status == 200 && why.starts_with(" (") && why.len() > 5,
        "{text}"
    );
    // On its owner all goes on.
    client.address = pair.left.address;
    client.request(4, "tools/list", json!({})).await;
    assert_eq!(client.message().await["id"], 4);
    assert_eq!(upstream.times("ping"), 0, "what got 503 was not executed");
    client.address = pair.right.address;
    // It has forgotten everything, which the replicas notice.
    pair.redis.restart().await;
    within("it to be found again", async {
        while client
            .post(call(5, "tools/list").to_string())
            .await
            .status()
            != 202
        {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    })
    .await;
    assert_eq!(client.message().await["id"], 5);
    let (status, text) = readiness(pair.right.address).await;
    assert_eq!((status, text.as_str()), (200, "ready\n"));
    client.leave();
    pair.stop().await;
}

#[tokio::test]
async fn a_drain_of_either_side_finishes_what_was_handed_over() {
    for owner_first in [true, false] {
        let mut upstream = Upstream::with_sessions().await;
        let mut pair = Pair::start(upstream.url()).await;
        let mut client = pair.across().await;
        client.handshake().await;
        client.request(1, "tools/call", json!({})).await;
        let mut running = upstream.expect("POST").await.events().await;
        running.send(&call(9, "sampling/createMessage")).await;
        let asked: Value = client.message().await;
        if owner_first {
            pair.left.drain();
        } else {
            pair.right.drain();
            // A balancer sends nothing there any more; its part was over with the 202.
            client.address = pair.left.address;
        }
        let answer = json!({"jsonrpc": "2.0", "id": asked["id"], "result": {"role": "assistant"}});
        client.send(&answer).await;
        upstream
            .seen("the answer", |it| {
                it.json()["result"]["role"] == "assistant"
            })
            .await;
        running.result(&json!({})).await;
        assert_eq!(client.message().await["id"], 1);
        client.leave();
        pair.stop().await;
    }
}
