//! What tells one connection from another towards the upstream: the query of its GET, its cookies, and its id where the
//! operator asked for one.

use std::collections::HashSet;

use hyper::header::HeaderName;
use serde_json::json;

use crate::support::client::{Client, call, initialize};
use crate::support::ferry::Ferry;
use crate::support::upstream::{Answer, Upstream, echo, routine};

#[tokio::test]
async fn the_connection_id_header_is_stable_unlike_and_no_secret() {
    let upstream = Upstream::echo().await;
    let ferry = Ferry::with(upstream.url(), |config| {
        config.upstream.connection_id_header = Some(HeaderName::from_static("x-connection"));
    })
    .await;
    let mut seen = HashSet::new();
    for _ in 0..3 {
        let mut client = Client::ready(ferry.address).await;
        let claimed = [("X-Connection", "mine")];
        client.send_with(&claimed, &call(1, "tools/list")).await;
        client.message().await;
        let log = upstream.log();
        let ids: HashSet<&str> = log
            .iter()
            .rev()
            .take(3)
            .map(|request| request.header("x-connection").expect("an id"))
            .collect();
        assert_eq!(ids.len(), 1, "initialize, initialized and tools/list");
        let id = *ids.iter().next().expect("one");
        assert!(id.len() >= 16 && !id.contains(client.id()) && !client.id().contains(id));
        assert!(seen.insert(id.to_owned()), "two connections have one id");
        client.leave();
    }
    ferry.quiet().await;
    ferry.stop().await;
}

#[tokio::test]
async fn the_query_of_the_get_goes_upstream_without_our_own_parameters() {
    let upstream = Upstream::with_sessions().await;
    let ferry = Ferry::start(upstream.at("/mcp?fixed=1")).await;
    let target = "/sse?api_key=a%20b%26c&sessionId=x&flag&session_id=y&u=%C3%A9";
    let mut client = Client::open_with(ferry.address, target, &[]).await;
    client.handshake().await;
    client.leave();
    ferry.quiet().await;
    let log = upstream.log();
    let methods: Vec<&str> = log.iter().map(|request| request.method()).collect();
    assert!(
        methods.contains(&"POST") && methods.contains(&"DELETE"),
        "{methods:?}"
    );
    for request in log {
        assert_eq!(
            request.target(),
            "/mcp?fixed=1&api_key=a%20b%26c&flag&u=%C3%A9"
        );
    }
    ferry.stop().await;
}

#[tokio::test]
async fn cookies_are_kept_per_connection_and_shown_to_nobody() {
    let count = std::sync::atomic::AtomicUsize::new(0);
    let upstream = Upstream::start(move |request| {
        if request.rpc() == "initialize" {
            let number = count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let sticky = format!("node=n{number}; Path=/; HttpOnly; SameSite=None");
            let id = &request.json()["id"];
            let result = r#"{"protocolVersion":"2025-11-25","capabilities":{}}"#;
            let headers = [
                ("Content-Type", "application/json"),
                ("Set-Cookie", sticky.as_str()),
                ("Set-Cookie", "elsewhere=1; Path=/elsewhere"),
            ];
            let body = format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#);
            return Some(Answer::new(200, &headers, body));
        }
        routine(request).or_else(|| Some(echo(request)))
    })
    .await;
    let ferry = Ferry::start(upstream.url()).await;
    let mut clients = Vec::new();
    for number in 0..3 {
        let mut client = Client::open(ferry.address).await;
        let answered = client.post(initialize().to_string()).await;
        assert_eq!(answered.header("set-cookie"), None);
        client.message().await;
        client
            .request(number, "tools/list", json!({"n": number}))
            .await;
        client.message().await;
        clients.push(client);
    }
    for (number, client) in clients.iter_mut().enumerate().rev() {
        let params = json!({ "again": number });
        client.request(9, "tools/list", params.clone()).await;
        client.message().await;
        let request = upstream
            .seen("the call", |request| request.json()["params"] == params)
            .await;
        let own = format!("node=n{number}");
        assert_eq!(request.header("cookie"), Some(own.as_str()));
    }
    for request in upstream.log() {
        let first = request.rpc() == "initialize";
        assert_eq!(request.header("cookie").is_none(), first);
    }
    drop(clients);
    ferry.quiet().await;
    ferry.stop().await;
}
