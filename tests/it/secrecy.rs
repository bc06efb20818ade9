//! What must never stand in a log: credentials, ids of connections and sessions, what messages hold. And what peers
//! write into a line must not end it.
//!
//! The real program runs with every level on. A canary is put wherever a secret can be, and every byte of the log is
//! searched for it.

use std::process::Stdio;

use hyper::header::HeaderName;
use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::Command;

use crate::support::client::{Client, call, initialize, initialized};
use crate::support::clock::within;
use crate::support::http::exchange;
use crate::support::upstream::{Answer, Upstream, routine};

/// Stands in every secret of these tests.
const CANARY: &str = "c4n4ry";

/// Ends a line, moves a cursor, reverses the reading order.
const HOSTILE: &str = "a\nb\r\u{1b}[31mc\u{9b}2J\u{202e}d\u{2028}e";

/// A scripted server whose every answer holds canaries.
async fn telltale() -> Upstream {
    Upstream::start(|request| {
        let secret = |name: &str| format!("{CANARY}-{name}");
        let headers = [
            ("Content-Type", "application/json"),
            ("Mcp-Session-Id", &secret("session")),
            ("Set-Cookie", &format!("{CANARY}={CANARY}; Path=/")),
            ("WWW-Authenticate", &format!("Bearer realm=\"{CANARY}\"")),
        ];
        let id = &request.json()["id"];
        match request.rpc().as_str() {
            "initialize" => {
                let result = json!({"protocolVersion": "2025-11-25", "instructions": CANARY});
                let body = json!({"jsonrpc": "2.0", "id": id, "result": result});
                Some(Answer::new(200, &headers, body.to_string()))
            }
            "tools/list" => Some(Answer::new(500, &headers, CANARY)),
            "prompts/list" => Some(Answer::new(401, &headers, CANARY)),
            "resources/list" => {
                let headers = [("Location", format!("/elsewhere?token={CANARY}"))];
                let headers = headers
                    .each_ref()
                    .map(|(name, value)| (*name, value.as_str()));
                Some(Answer::new(302, &headers, ""))
            }
            "tools/call" => {
                let error = json!({"code": -32000, "message": CANARY, "data": HOSTILE});
                let body = json!({"jsonrpc": "2.0", "id": id, "error": error});
                Some(Answer::new(200, &headers, body.to_string()))
            }
            "ping" => Some(Answer::new(
                200,
                &[("Content-Type", "application/json")],
                HOSTILE,
            )),
            _ => routine(request),
        }
    })
    .await
}

/// Makes every kind of use of the ferry at this address, with a canary in each secret place; returns the ids of its
/// connections.
async fn use_it(address: std::net::SocketAddr) -> Vec<String> {
    let bearer = format!("Bearer {CANARY}");
    let secrets: Vec<(&str, &str)> = [
        "Authorization",
        "Cookie",
        "X-Api-Key",
        "Proxy-Authorization",
        "Mcp-Session-Id",
        "Last-Event-ID",
        "X-Auth-Token",
        "Baggage",
        "Tracestate",
        "Referer",
        "User-Agent",
    ]
    .into_iter()
    .map(|name| (name, bearer.as_str()))
    .collect();
    let on_get: Vec<_> = secrets
        .iter()
        .copied()
        .filter(|(name, _)| *name != "Mcp-Session-Id")
        .collect();
    let target = format!("/sse?api_key={CANARY}&access_token={CANARY}&sessionId={CANARY}");
    let mut client = Client::open_with(address, &target, &on_get).await;
    client.send_with(&secrets, &initialize()).await;
    client.message().await;
    client.send_with(&secrets, &initialized()).await;
    for (id, method) in [
        (1, "tools/call"),
        (2, "tools/list"),
        (3, "resources/list"),
        (4, "ping"),
    ] {
        let name = format!("{HOSTILE}{CANARY}");
        let params = json!({"name": name, "arguments": {"password": CANARY}, "uri": CANARY});
        let message = json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params});
        client.send_with(&secrets, &message).await;
        client.message().await;
    }
    let refused = client
        .post_with(&secrets, call(5, "prompts/list").to_string())
        .await;
    if refused.status() == 202 {
        client.message().await;
    }
    // What is refused at the door.
    let bad = format!("{{\"jsonrpc\":\"2.0\",\"id\":\"{CANARY}\",\"method\":7}}");
    client.post_with(&secrets, &bad).await;
    client.post_with(&secrets, CANARY).await;
    let unknown = format!("/messages?sessionId={CANARY}");
    for (method, target) in [
        ("POST", unknown.as_str()),
        ("GET", &format!("/{CANARY}?token={CANARY}")),
        ("POST", &format!("/mcp?key={CANARY}")),
        ("GET", &format!("/mcp?key={CANARY}")),
        ("DELETE", "/mcp"),
    ] {
        let json = [("Content-Type", "application/json")];
        exchange(
            address,
            method,
            target,
            &[&json, &secrets[..]].concat(),
            CANARY,
        )
        .await;
    }
    let id = client.id().to_owned();
    client.leave();
    vec![id]
}

#[tokio::test]
async fn no_secret_is_in_the_log_and_no_value_ends_a_line() {
    let upstream = telltale().await;
    for format in ["text", "json"] {
        let mut child = Command::new(env!("CARGO_BIN_EXE_mcp-ferry"))
            .args(["--upstream", &format!("{}?key={CANARY}", upstream.url())])
            .args(["--listen", "127.0.0.1:0", "--log-format", format])
            .args(["--log", "mcp_ferry=trace"])
            .args([
                "--forward-header",
                HeaderName::from_static("x-api-key").as_str(),
            ])
            .args(["--upstream-header", &format!("X-Operator: {CANARY}")])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the program");
        let mut lines = BufReader::new(child.stderr.take().expect("stderr")).lines();
        let mut log = Vec::new();
        let address = loop {
            let line = within("the address", lines.next_line())
                .await
                .expect("readable");
            let line = line.expect("a line that says where it listens");
            log.push(line.clone());
            let Some((_, rest)) = line.split_once("listening on http://") else {
                continue;
            };
            let (address, _) = rest.split_once(',').expect("more");
            break address.parse().expect("an address");
        };
        let reading = tokio::task::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                log.push(line);
            }
            log
        });
        let ids = use_it(address).await;
        // A clean end, so that the log is whole.
        let pid = child.id().expect("it runs").to_string();
        let asked = Command::new("kill").args(["-TERM", &pid]).status().await;
        assert!(asked.expect("kill").success());
        let status = within("the end", child.wait()).await.expect("a status");
        assert!(status.success(), "{status}");
        let log = reading.await.expect("no panic");
        let mut out = String::new();
        let mut stdout = child.stdout.take().expect("stdout");
        stdout.read_to_string(&mut out).await.expect("readable");
        assert_eq!(out, "", "logs belong on stderr");
        assert!(log.len() > 10, "the log says nothing: {log:#?}");
        for line in &log {
            assert!(!line.contains(CANARY), "a secret in {line}");
            for id in &ids {
                assert!(!line.contains(&id[..12]), "a connection's id in {line}");
            }
            let clean = |char: char| !char.is_control() && !"\u{202e}\u{2028}\u{9b}".contains(char);
            assert!(line.chars().all(clean), "hidden characters in {line:?}");
            let whole = match format {
                "json" => serde_json::from_str::<serde_json::Value>(line).is_ok(),
                _ => line.contains("mcp_ferry"),
            };
            assert!(whole, "not a line of its own: {line:?}");
        }
    }
}
