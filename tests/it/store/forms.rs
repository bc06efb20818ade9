//! Sentinels, clusters, and connections that are encrypted.

use std::ffi::OsString;
use std::process::Stdio;
use std::time::Duration;

use mcp_ferry::config;
use mcp_ferry::store::HandOverError;
use tokio::process::Command;

use super::start::{refused, says};
use super::{Replica, replicas};
use crate::support::clock::within;
use crate::support::redis::{Redis, free_port};

const REFUSED: &str = "it refused user and password";

/// Three nodes that are one cluster.
pub(super) async fn cluster() -> Vec<Redis> {
    let mut nodes = Vec::new();
    for _ in 0..3 {
        nodes.push(Redis::with(&["--cluster-enabled", "yes"]).await);
    }
    let slots = [(0, 5460), (5461, 10922), (10923, 16383)];
    for (node, (first, last)) in nodes.iter().zip(slots) {
        let slots: Vec<String> = (first..=last).map(|slot: u32| slot.to_string()).collect();
        let mut command = vec!["CLUSTER", "ADDSLOTS"];
        command.extend(slots.iter().map(String::as_str));
        let _: () = node.ask(&command).await;
        let first = nodes[0].port.to_string();
        let _: () = node.ask(&["CLUSTER", "MEET", "127.0.0.1", &first]).await;
    }
    within("the cluster", async {
        for node in &nodes {
            loop {
                let info: String = node.ask(&["CLUSTER", "INFO"]).await;
                if info.contains("cluster_state:ok") && info.contains("cluster_known_nodes:3") {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    })
    .await;
    nodes
}

/// Makes the user of the README's access list known there, with these rules besides.
async fn let_in(redis: &Redis, more: &str) {
    let rules = super::start::access_list().replace(">PASSWORD", ">right");
    let rules = format!("ACL SETUSER {} {more}", &rules["user ".len()..]);
    let rules: Vec<&str> = rules.split_whitespace().collect();
    let _: () = redis.ask(&rules).await;
}

#[tokio::test]
async fn in_a_cluster_replicas_meet_wherever_their_keys_lie() {
    let nodes = cluster().await;
    let url = format!("redis+cluster://127.0.0.1:{}", nodes[1].port);
    let mut all = Vec::new();
    for name in ["a", "b", "c", "d", "e", "f"] {
        all.push(Replica::with(&replicas(&url, name)).await);
    }
    for replica in &all {
        replica.echo();
    }
    for from in &all {
        for to in all.iter().filter(|to| to.name() != from.name()) {
            from.hand(&to.name(), "{}").await.expect("an answer");
        }
    }
    for node in &nodes {
        let_in(node, "+cluster +ping +asking").await;
    }
    let limited = url.replace("://", "://ferry:right@");
    let (g, h) = (replicas(&limited, "g"), replicas(&limited, "h"));
    let (g, h) = (Replica::with(&g).await, Replica::with(&h).await);
    h.echo();
    g.hand(&h.name(), "{}").await.expect("an answer");

    let mut used = 0;
    for node in &nodes {
        used += usize::from(node.calls("xadd").await > 0);
    }
    assert!(used > 1, "the keys of all lie on one node");
}

/// A server, its replica, and a sentinel that watches them.
async fn watched() -> (Redis, Redis, Redis) {
    let first = Redis::start().await;
    let port = first.port.to_string();
    let second = Redis::with(&["--replicaof", &format!("127.0.0.1 {port}")]).await;
    let own = free_port();
    let path = format!("{}/sentinel-{own}.conf", env!("CARGO_TARGET_TMPDIR"));
    let config = format!(
        "port {own}\nsentinel monitor main 127.0.0.1 {port} 1\n\
         sentinel down-after-milliseconds main 1000\nsentinel failover-timeout main 5000\n"
    );
    std::fs::write(&path, config).expect("write");
    let sentinel = Redis::spawn(own, &[&path, "--sentinel"]);
    sentinel.up().await;
    within("the sentinel to know the replica", async {
        loop {
            let known: Vec<Vec<String>> = sentinel.ask(&["SENTINEL", "REPLICAS", "main"]).await;
            let there = |replica: &Vec<String>| replica.contains(&second.port.to_string());
            if known.iter().any(there) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    within("the replica to have all", async {
        loop {
            let info: String = second.ask(&["INFO", "replication"]).await;
            if info.contains("master_link_status:up") {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    std::fs::remove_file(path).ok();
    (first, second, sentinel)
}

#[tokio::test]
async fn a_failover_costs_some_requests_and_no_connection() {
    let (mut first, _second, sentinel) = watched().await;
    let url = format!("redis+sentinel://127.0.0.1:{}/main", sentinel.port);
    let (a, b) = Replica::impatient_pair(&url).await;
    b.echo();
    a.hand(&b.name(), "1").await.expect("an answer");
    first.kill();
    let mut refused = 0;
    within("the failover", async {
        loop {
            match a.hand(&b.name(), "2").await {
                Ok(_) => break,
                Err(why) => {
                    assert_ne!(why, HandOverError::OwnerGone);
                    refused += 1;
                }
            }
        }
    })
    .await;
    assert!(refused > 0, "it was away for a second at least");
    a.healthy().await;
}

#[tokio::test]
async fn a_sentinel_that_knows_no_such_server() {
    let (_first, _second, sentinel) = watched().await;
    let url = format!("redis+sentinel://127.0.0.1:{}/other", sentinel.port);
    let a = within("the start", Replica::with(&replicas(&url, "a"))).await;
    // It may come to know it.
    assert_eq!(a.store.is_up(), Some(false));
}

#[tokio::test]
async fn through_sentinels_the_access_list_takes_one_command_more() {
    let (first, _second, sentinel) = watched().await;
    let url = |login: &str| format!("redis+sentinel://{login}127.0.0.1:{}/main", sentinel.port);
    let refused = async |login: &str| refused(&replicas(&url(login), "a")).await;
    let_in(&first, "").await;
    // The sentinel has no password and refuses any: that is not what is wrong.
    let why = refused("ferry:right@").await;
    says(&why, "its access list forbids this (");
    assert!(why.contains("role"), "{why}");
    let_in(&first, "+role").await;
    says(&refused("ferry:wrong@").await, REFUSED);
    let works = async || {
        let told = ["a", "b"].map(|name| replicas(&url("ferry:right@"), name));
        let (a, b) = (Replica::with(&told[0]).await, Replica::with(&told[1]).await);
        b.echo();
        a.hand(&b.name(), "{}").await.expect("an answer");
        a.store.leave().await;
        b.store.leave().await;
    };
    works().await;

    // Now it lets in nobody else either.
    let command = ["ACL", "SETUSER", "ferry", "on", ">right", "+@all"];
    let _: () = sentinel.ask(&command).await;
    let _: () = sentinel.ask(&["ACL", "SETUSER", "default", "off"]).await;
    works().await;
    says(&refused("ferry:wrong@").await, REFUSED);
    says(&refused("").await, "it asks for a password");
}

#[tokio::test]
async fn sentinels_on_this_machine_may_name_servers_on_another() {
    let url = "redis+sentinel://127.0.0.1/main";
    let arguments = [
        "mcp-ferry",
        "--upstream",
        "http://127.0.0.1:9/",
        "--store",
        url,
    ];
    let key = super::key_file();
    let arguments = arguments.into_iter().chain(["--key-file", &key]);
    let parsed = config::parse(arguments.map(OsString::from), &|_| None);
    let why = parsed.map(|_| ()).expect_err("refused").to_string();
    assert!(
        why.contains("'127.0.0.1' is on another machine, or names servers that may be"),
        "{why}"
    );
}

/// Certificates for a Redis on localhost, made by a new authority.
async fn certificates(folder: &std::path::Path) {
    let script = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -keyout ca.key -out ca.crt -subj /CN=ca \
        -addext basicConstraints=critical,CA:TRUE && \
        openssl req -newkey rsa:2048 -nodes -keyout own.key -out own.csr -subj /CN=localhost && \
        printf 'subjectAltName=DNS:localhost' > ext && \
        openssl x509 -req -in own.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -extfile ext -out own.crt";
    let made = Command::new("sh")
        .args(["-c", script])
        .current_dir(folder)
        .stderr(Stdio::null())
        .status()
        .await;
    assert!(made.expect("openssl").success());
}

/// Runs the program until it says this on its stderr.
async fn program(arguments: &[&str], authority: Option<&std::path::Path>, until: &str) -> String {
    use tokio::io::{AsyncBufReadExt as _, BufReader};
    let mut command = Command::new(env!("CARGO_BIN_EXE_mcp-ferry"));
    command
        .env_clear()
        .args([
            "--listen",
            "127.0.0.1:0",
            "--upstream",
            "http://127.0.0.1:9/",
        ])
        .args(["--key-file", &super::key_file(), "--store"])
        .args(arguments)
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    if let Some(authority) = authority {
        command.env("SSL_CERT_FILE", authority);
    }
    let mut child = command.spawn().expect("the program");
    let mut lines = BufReader::new(child.stderr.take().expect("stderr")).lines();
    let mut seen = String::new();
    within(until, async {
        while let Some(line) = lines.next_line().await.expect("a line") {
            seen += &line;
            seen += "\n";
            if line.contains(until) {
                return;
            }
        }
        panic!("only:\n{seen}");
    })
    .await;
    seen
}

#[tokio::test]
async fn a_certificate_is_checked() {
    let port = free_port();
    let folder = std::path::PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("tls-{port}"));
    std::fs::create_dir_all(&folder).expect("a folder");
    certificates(&folder).await;
    let file = |name: &str| folder.join(name).to_str().expect("a path").to_owned();
    let secure = port.to_string();
    let redis = Redis::with(&[
        "--tls-port",
        &secure,
        "--tls-cert-file",
        &file("own.crt"),
        "--tls-key-file",
        &file("own.key"),
        "--tls-ca-cert-file",
        &file("ca.crt"),
        "--tls-auth-clients",
        "no",
    ])
    .await;
    let url = format!("rediss://localhost:{port}");
    let authority = folder.join("ca.crt");
    let seen = program(&[&url], Some(&authority), "listening on").await;
    assert!(seen.contains(&format!("meets others at {url}")), "{seen}");
    let why = "its certificate is not good";
    program(&[&url], None, why).await;
    let other_name = format!("rediss://127.0.0.1:{port}");
    program(&[&other_name], Some(&authority), why).await;
    drop(redis);
    std::fs::remove_dir_all(folder).ok();
}

#[tokio::test]
async fn what_the_program_says_holds_no_password() {
    let redis = Redis::with(&["--requirepass", "c4n4ry"]).await;
    let wrong = format!("redis://:c4n4rywrong@127.0.0.1:{}", redis.port);
    let seen = program(
        &[&wrong],
        None,
        "error: cannot use --store redis://127.0.0.1",
    )
    .await;
    assert!(!seen.contains("c4n4ry"), "{seen}");
    let right = format!("redis://:c4n4ry@127.0.0.1:{}", redis.port);
    let seen = program(&[&right, "--log", "trace"], None, "listening on").await;
    assert!(!seen.contains("c4n4ry"), "{seen}");
}
