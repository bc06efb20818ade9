//! What cannot work is refused at start, each with one clear line.

use std::sync::Arc;
use std::time::Duration;

use mcp_ferry::config::{Key, Keys, Replicas};
use mcp_ferry::metrics::Metrics;
use mcp_ferry::store::{Store, StoreHealth};
use tokio::time::Instant;

use super::{Replica, key, keys, replicas};
use crate::support::clock::within;
use crate::support::redis::Redis;

/// Why a replica does not start.
pub(super) async fn refused(replicas: &Replicas) -> String {
    let metrics = Arc::new(Metrics::default());
    let error = within("the start to fail", Store::open(replicas, &metrics)).await;
    let error = error.map(|_| ()).expect_err("it starts");
    assert_eq!(error.exit_code(), 2);
    let why = error.report();
    assert!(!why.contains('\n') && !why.contains("c4n4ry"), "{why}");
    why
}

#[track_caller]
pub(super) fn says(why: &str, what: &str) {
    assert!(why.starts_with("cannot use --store redis"), "{why}");
    assert!(why.contains(what), "{why}");
}

#[tokio::test]
async fn a_wrong_password_or_none() {
    let redis = Redis::with(&["--requirepass", "right"]).await;
    let port = redis.port;
    let with = |login: &str| replicas(&format!("redis://{login}127.0.0.1:{port}"), "a");
    says(
        &refused(&with(":c4n4ry@")).await,
        "it refused user and password",
    );
    says(
        &refused(&with("nobody:c4n4ry@")).await,
        "it refused user and password",
    );
    says(&refused(&with("")).await, "it asks for a password");
    Replica::with(&with(":right@")).await.store.leave().await;
    Replica::with(&with("default:right@")).await;
}

#[tokio::test]
async fn a_host_that_is_none() {
    let why = refused(&replicas("redis://nowhere.invalid", "a")).await;
    says(&why, "'nowhere.invalid' cannot be resolved");
}

/// The line of the README.
pub(super) fn access_list() -> String {
    let readme = include_str!("../../../README.md");
    let line = readme
        .lines()
        .find(|line| line.starts_with("user ferry on "));
    line.expect("the README has it").to_owned()
}

/// Starts a Redis that knows one user, by these rules.
async fn with_user(rules: &str) -> (Redis, Replicas) {
    let redis = Redis::start().await;
    let rules = rules
        .replace("user ferry", "")
        .replace(">PASSWORD", ">right");
    let mut command = vec!["ACL", "SETUSER", "ferry"];
    command.extend(rules.split_whitespace());
    let _: () = redis.ask(&command).await;
    let url = format!("redis://ferry:right@127.0.0.1:{}", redis.port);
    (redis, replicas(&url, "a"))
}

#[tokio::test]
async fn the_access_list_of_the_readme_is_enough_and_all_of_it_is_needed() {
    let line = access_list();
    let (redis, told) = with_user(&line).await;
    let a = Replica::with(&told).await;
    let mut told = told;
    told.id = mcp_ferry::store::ReplicaId::parse("b");
    let b = Replica::with(&told).await;
    b.echo();
    a.hand(&b.name(), "{}").await.expect("an answer");
    b.store.leave().await;
    assert_eq!(redis.ask::<u64>(&["EXISTS", &key("b", "hb")]).await, 0);
    drop((a, b));

    let (redis, mut told) = with_user(&format!("{line} +select")).await;
    let database = format!("redis://ferry:right@127.0.0.1:{}/2", redis.port);
    told.store = replicas(&database, "a").store;
    Replica::with(&told).await;

    let commands: Vec<&str> = line.split(" +").skip(1).collect();
    assert!(commands.len() > 8, "{commands:?}");
    for command in commands {
        let command = command.trim();
        let (_redis, told) = with_user(&format!("{line} -{command}")).await;
        let why = refused(&told).await;
        assert!(
            why.ends_with(&format!("its access list lacks {command}")),
            "{why}"
        );
    }
    let (_redis, told) = with_user(&format!("{line} -xadd -time")).await;
    says(&refused(&told).await, "its access list lacks time, xadd");
    let (_redis, told) = with_user(&format!("{line} resetkeys ~{{mcp-ferry}}:*")).await;
    says(
        &refused(&told).await,
        "its access list lacks the keys ~{mcp-ferry:r:* and ~{mcp-ferry}:*",
    );
    let (_redis, told) = with_user(&format!("{line} resetkeys ~{{mcp-ferry:r:* ")).await;
    says(
        &refused(&told).await,
        "its access list lacks the keys ~{mcp-ferry:r:* and ~{mcp-ferry}:*",
    );
}

#[tokio::test]
async fn other_keys_than_those_of_the_others() {
    let redis = Redis::start().await;
    let a = Replica::start(&redis, "a").await;
    let mut other = replicas(&redis.url(), "b");
    other.keys = Some(keys(8));
    says(&refused(&other).await, "replicas with different keys");
    other.store_prefix = "another".to_owned();
    drop(Replica::with(&other).await);
    drop(a);
}

#[tokio::test]
async fn keys_of_a_deployment_that_is_gone_are_not_kept_by_those_they_refuse() {
    let redis = Redis::start().await;
    let a = Replica::start(&redis, "a").await;
    let canary = "{mcp-ferry}:key";
    let life = async || redis.ask::<i64>(&["PTTL", canary]).await;
    let shorten = ["PEXPIRE", canary, "7000"];
    let _: () = redis.ask(&shorten).await;
    within("its next heartbeat", async {
        while life().await <= 7000 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    a.store.leave().await;
    drop(a);
    let _: () = redis.ask(&shorten).await;
    let mut other = replicas(&redis.url(), "b");
    other.keys = Some(keys(8));
    says(&refused(&other).await, "replicas with different keys");
    assert!(life().await <= 7000);
    let _: () = redis.ask(&["PEXPIRE", canary, "1"]).await;
    within("it to be gone", async { while life().await > 0 {} }).await;
    Replica::with(&other).await;
}

#[tokio::test]
async fn keys_can_be_rotated_one_replica_after_another() {
    let redis = Redis::start().await;
    let pair = |first, second: Option<u8>| {
        let second = second.map(|byte| Key::from([byte; 32]));
        Some(Keys {
            second,
            ..keys(first)
        })
    };
    let start = async |name: &str, keys| {
        let mut told = replicas(&redis.url(), name);
        told.keys = keys;
        let replica = Replica::with(&told).await;
        replica.echo();
        replica
    };
    let steps = [
        pair(1, None),
        pair(1, Some(2)),
        pair(2, Some(1)),
        pair(2, None),
    ];
    let mut one = start("one", steps[0].clone()).await;
    let mut two = start("two", steps[0].clone()).await;
    for step in &steps[1..] {
        one.store.leave().await;
        one = start("one", step.clone()).await;
        one.hand(&two.name(), "mixed").await.expect("an answer");
        two.hand(&one.name(), "mixed").await.expect("an answer");
        two.store.leave().await;
        two = start("two", step.clone()).await;
        one.hand(&two.name(), "same").await.expect("an answer");
    }
    let mut told = replicas(&redis.url(), "three");
    told.keys = pair(1, None);
    says(&refused(&told).await, "replicas with different keys");
}

#[tokio::test]
async fn a_name_that_a_living_process_has() {
    let redis = Redis::start().await;
    let first = Replica::start(&redis, "a").await;
    first.echo();
    let asked = Instant::now();
    let why = refused(&replicas(&redis.url(), "a")).await;
    says(
        &why,
        "a replica with the name 'a' is there already (--replica-id)",
    );
    assert!(asked.elapsed() < Duration::from_secs(12));
    let b = Replica::start(&redis, "b").await;
    b.hand(&first.name(), "{}")
        .await
        .expect("the first still has it");
    assert_eq!(first.store.health(), StoreHealth::Good);
    first.store.leave().await;
    drop(first);
    Replica::start(&redis, "a").await;
}

#[tokio::test]
async fn a_name_that_a_killed_process_had_is_waited_for() {
    let redis = Redis::start().await;
    let _: () = redis
        .ask(&["SET", &key("a", "hb"), "x", "PX", "3000"])
        .await;
    let _: String = redis.ask(&["XADD", &key("a", "in"), "*", "e", "old"]).await;
    let asked = Instant::now();
    let a = Replica::start(&redis, "a").await;
    let took = asked.elapsed();
    assert!(
        took > Duration::from_secs(2) && took < Duration::from_secs(12),
        "{took:?}"
    );
    // What was for the one before is not for this one.
    let b = Replica::start(&redis, "b").await;
    a.echo();
    b.hand(&a.name(), "{}").await.expect("an answer");
    assert_eq!(a.taken(mcp_ferry::metrics::labels::TakenOver::Malformed), 0);
}

#[tokio::test]
async fn a_replica_whose_name_is_taken_from_it_says_so() {
    let redis = Redis::start().await;
    let a = Replica::start(&redis, "a").await;
    let _: () = redis
        .ask(&["SET", &key("a", "hb"), "x", "PX", "15000"])
        .await;
    within("it to notice", async {
        while a.store.health() == StoreHealth::Good {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    let StoreHealth::Degraded(why) = a.store.health() else {
        panic!("it was not well");
    };
    assert_eq!(
        why,
        "another process has taken the name 'a' of this replica"
    );
    // What comes for the other process now is left to it, while this one looks whether it has its name again.
    let inbox = key("a", "in");
    let _: String = redis.ask(&["XADD", &inbox, "*", "e", "its"]).await;
    let looks = redis.calls("evalsha").await + 2;
    within("it to look again", async {
        while redis.calls("evalsha").await < looks {}
    })
    .await;
    assert_eq!(redis.ask::<u64>(&["XLEN", &inbox]).await, 1);
    let _: () = redis.ask(&["DEL", &key("a", "hb")]).await;
    a.healthy().await;
    within("its inbox to be read again", async {
        while redis.ask::<u64>(&["XLEN", &inbox]).await > 0 {}
    })
    .await;
}

/// A server that speaks as a Redis of another time does.
async fn speaks(answer: &'static str) -> String {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::task::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let mut bytes = [0; 4096];
            while socket.read(&mut bytes).await.is_ok_and(|count| count > 0) {
                socket.write_all(answer.as_bytes()).await.ok();
            }
        }
    });
    format!("redis://{address}")
}

#[tokio::test]
async fn a_server_that_is_too_old() {
    let url = speaks("-ERR unknown command `HELLO`, with args beginning with: `2`\r\n").await;
    says(
        &refused(&replicas(&url, "a")).await,
        "it is too old: Redis 6 or newer is needed",
    );
    let url =
        speaks("*4\r\n$6\r\nserver\r\n$5\r\nredis\r\n$7\r\nversion\r\n$6\r\n5.0.14\r\n").await;
    says(
        &refused(&replicas(&url, "a")).await,
        "it is too old: version 5.0.14",
    );
}

#[tokio::test]
async fn a_server_whose_access_list_forbids_to_ask_for_its_version() {
    // As Redis 6 says it; later ones let everybody ask. This one forbids all the rest as well.
    let url =
        speaks("-NOPERM this user has no permissions to run the 'x' command or its subcommand\r\n");
    let why = refused(&replicas(&url.await, "a")).await;
    says(
        &why,
        "its access list lacks del, eval, evalsha, exists, get,",
    );
}

#[tokio::test]
async fn a_server_that_speaks_nonsense_is_one_that_is_not_there() {
    for nonsense in [
        "HTTP/1.1 400 Bad Request\r\n\r\n",
        "*1000000000\r\n",
        "+OK\r\n",
        "\r\n",
    ] {
        let url = speaks(nonsense).await;
        let a = within("the start", Replica::with(&replicas(&url, "a"))).await;
        assert!(
            matches!(a.store.health(), StoreHealth::Degraded(_)),
            "{nonsense:?}"
        );
    }
}
