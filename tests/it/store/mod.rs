//! What replicas do where they meet: two stores in this process before a real Redis. Requests are made and answered by
//! hand here; what the server does with them is tried elsewhere.

mod conformance;
mod evil;
mod forms;
mod handing;
mod outages;
mod start;

use std::ffi::OsString;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use mcp_ferry::config::{self, Command, Key, Keys, Replicas};
use mcp_ferry::metrics::Metrics;
use mcp_ferry::metrics::labels::TakenOver;
use mcp_ferry::store::{
    Arrived, ConnectionId, Front, HandOverError, Handed, Method, ReplicaId, Reply, Store,
    StoreHealth,
};
use tokio::sync::mpsc;

use crate::support::clock::within;
use crate::support::redis::Redis;

const KEY: u8 = 7;

/// What a replica of this deployment is told.
fn replicas(url: &str, name: &str) -> Replicas {
    let arguments = [
        "mcp-ferry",
        "--upstream",
        "http://upstream.invalid/",
        "--store",
    ];
    // The flag wants a key file, and a store wants to be told of keys: they are added behind the flags' back.
    let arguments = arguments.map(OsString::from).into_iter();
    let key = key_file();
    let more = [url, "--store-allow-plaintext", "--key-file", &key].map(OsString::from);
    let Ok(Command::Serve(config)) = config::parse(arguments.chain(more), &|_| None) else {
        panic!("{url} is no address");
    };
    let mut replicas = config.replicas;
    replicas.keys = Some(keys(KEY));
    replicas.id = Some(ReplicaId::parse(name).expect("a name"));
    // A busy machine may take its time; what happens in the time that is the default is for `outages` to try.
    replicas.store_timeout = Duration::from_secs(10);
    replicas
}

/// A file that is good enough for the flag.
fn key_file() -> String {
    use std::os::unix::fs::OpenOptionsExt as _;
    let path = format!("{}/store.key", env!("CARGO_TARGET_TMPDIR"));
    let mut options = std::fs::OpenOptions::new();
    let made = options.write(true).create_new(true).mode(0o600).open(&path);
    if let Ok(mut file) = made {
        std::io::Write::write_all(&mut file, "0".repeat(64).as_bytes()).expect("write");
    }
    path
}

fn keys(first: u8) -> Keys {
    Keys {
        first: Key::from([first; 32]),
        second: None,
    }
}

/// A replica, and what it counts.
struct Replica {
    store: Arc<Store>,
    metrics: Arc<Metrics>,
}

impl Replica {
    async fn start(redis: &Redis, name: &str) -> Self {
        Self::with(&replicas(&redis.url(), name)).await
    }

    /// `a` and `b`.
    async fn pair(redis: &Redis) -> (Self, Self) {
        (Self::start(redis, "a").await, Self::start(redis, "b").await)
    }

    /// `a` and `b`, which give the Redis up when they would by default.
    async fn impatient_pair(url: &str) -> (Self, Self) {
        let impatient = |name| Replicas {
            store_timeout: Replicas::default().store_timeout,
            ..replicas(url, name)
        };
        (
            Self::with(&impatient("a")).await,
            Self::with(&impatient("b")).await,
        )
    }

    async fn with(replicas: &Replicas) -> Self {
        let metrics = Arc::new(Metrics::default());
        let store = Store::open(replicas, &metrics).await;
        let store = Arc::new(store.unwrap_or_else(|error| panic!("{}", error.report())));
        Self { store, metrics }
    }

    fn name(&self) -> ReplicaId {
        self.store.replica().expect("a name").clone()
    }

    /// Answers every request with what `answer` makes of it.
    fn serve(&self, answer: impl Fn(&Handed) -> Reply + Send + 'static) {
        let mut arrivals = self.store.arrivals().expect("for the first time");
        tokio::task::spawn(async move {
            while let Some(Arrived { request, reply, .. }) = arrivals.recv().await {
                // An error means that nobody waits any more.
                reply.send(answer(&request)).ok();
            }
        });
    }

    /// Answers with the request's own body.
    fn echo(&self) {
        self.serve(|request| Reply {
            status: 202,
            headers: vec![],
            body: request.body.clone(),
        });
    }

    fn arrivals(&self) -> mpsc::Receiver<Arrived> {
        self.store.arrivals().expect("for the first time")
    }

    /// Hands over a message, and says what its echo is.
    async fn hand(&self, to: &ReplicaId, body: &str) -> Result<Bytes, HandOverError> {
        let handed = self.store.hand_over(to, request(body));
        let reply = within("an answer", handed).await?;
        assert_eq!(reply.status, 202);
        Ok(reply.body)
    }

    fn taken(&self, outcome: TakenOver) -> u64 {
        self.metrics.taken_over.get(outcome)
    }

    /// Waits until this was counted so often.
    async fn counts(&self, outcome: TakenOver, count: u64) {
        within(outcome.text(), async {
            while self.taken(outcome) < count {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
        assert_eq!(self.taken(outcome), count, "{outcome:?}");
    }

    async fn healthy(&self) {
        within("the store to be well", async {
            while self.store.health() != StoreHealth::Good {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
    }
}

fn request(body: &str) -> Handed {
    Handed {
        front: Front::Stream,
        id: ConnectionId::parse(&"5a".repeat(32)).expect("an id"),
        method: Method::Post,
        headers: vec![("authorization".into(), b"Bearer c4n4ry".as_slice().into())],
        peer: [192, 0, 2, 9].into(),
        body: Bytes::copy_from_slice(body.as_bytes()),
        hold: Duration::from_secs(1),
    }
}

/// The name of a replica's key.
fn key(replica: &str, what: &str) -> String {
    format!("{{mcp-ferry:r:{replica}}}:{what}")
}
