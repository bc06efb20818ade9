//! Redirects on the translated path: those within the endpoint's origin that keep method and body are followed and
//! remembered, every other one is refused with an error that names its target.

use serde_json::json;
use tokio::net::{TcpListener, TcpStream};

use crate::support::client::{Client, initialize};
use crate::support::ferry::Ferry;
use crate::support::upstream::{Answer, Upstream, echo, routine};

/// A server whose endpoint is `/mcp/`: it redirects `/mcp` there, query and all, as Starlette does.
async fn slashed(status: u16) -> Upstream {
    Upstream::start(move |request| {
        if request.target().starts_with("/mcp/") {
            let handshake = (request.rpc() == "initialize")
                .then(|| Answer::initialize(request, Some("session-1")));
            return handshake
                .or_else(|| routine(request))
                .or_else(|| Some(echo(request)));
        }
        let host = request.header("host").unwrap_or_default();
        let location = format!("http://{host}{}", request.target().replace("/mcp", "/mcp/"));
        Some(Answer::new(status, &[("Location", &location)], ""))
    })
    .await
}

#[tokio::test]
async fn a_redirect_within_the_origin_is_followed_and_costs_one_request_once() {
    for status in [307, 308] {
        let upstream = slashed(status).await;
        let ferry = Ferry::start(upstream.at("/mcp?fixed=1")).await;
        let mut first = Client::open_with(ferry.address, "/sse?key=one", &[]).await;
        first.handshake().await;
        first.request(1, "tools/list", json!({})).await;
        let answer = first.message().await;
        assert_eq!(answer["result"]["method"], "tools/list");
        let mut second = Client::open_with(ferry.address, "/sse?key=two", &[]).await;
        second.handshake().await;
        drop((first, second));
        ferry.quiet().await;
        let log = upstream.log();
        let (redirected, rest) = log.split_first().expect("requests");
        assert_eq!(redirected.target(), "/mcp?fixed=1&key=one");
        assert_eq!(rest[0].body, redirected.body, "the same body again");
        for request in rest {
            // Straight to the place, and each client with its own key only.
            let own = ["/mcp/?fixed=1&key=one", "/mcp/?fixed=1&key=two"];
            assert!(own.contains(&request.target()), "{}", request.target());
        }
        let initializes = |key: &str| {
            let same = |request: &&std::sync::Arc<_>| is_initialize(request, key);
            log.iter().filter(same).count()
        };
        assert_eq!((initializes("one"), initializes("two")), (2, 1));
        ferry.stop().await;
    }
}

fn is_initialize(request: &crate::support::upstream::Received, key: &str) -> bool {
    request.rpc() == "initialize" && request.target().ends_with(key)
}

#[tokio::test]
async fn every_other_redirect_is_refused_by_name_and_leads_nowhere() {
    let canary = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let away = canary.local_addr().expect("an address");
    for (status, location) in [
        (301, "/mcp/".to_owned()),
        (302, "/mcp/".to_owned()),
        (303, "/mcp/".to_owned()),
        (301, format!("http://{away}/mcp")),
        (302, format!("http://{away}/mcp")),
        (307, format!("http://{away}/mcp")),
        (308, format!("http://{away}/mcp?token=secret")),
        (307, format!("https://{away}/mcp")),
        (307, format!("//{away}/mcp")),
    ] {
        let told = location.clone();
        let upstream =
            Upstream::start(move |_| Some(Answer::new(status, &[("Location", &told)], "moved")))
                .await;
        let ferry = Ferry::start(upstream.url()).await;
        let mut client = Client::open(ferry.address).await;
        let secret = [("Authorization", "Bearer secret")];
        client.send_with(&secret, &initialize()).await;
        let error = client.ferry_error(0, "upstream_redirect", "no").await;
        let text = error["error"]["message"].as_str().expect("text");
        let target = location.split('?').next().expect("a target");
        assert!(text.contains(target) && !text.contains("secret"), "{text}");
        assert!(text.contains("--upstream"), "{text}");
        assert_eq!(error["error"]["data"]["ferry"]["status"], status);
        assert_eq!(upstream.log().len(), 1);
        client.leave();
        ferry.stop().await;
    }
    // Whoever had connected would be first in line.
    let own = TcpStream::connect(away).await.expect("connect");
    let (_, first) = canary.accept().await.expect("accept");
    let own = own.local_addr().expect("an address");
    assert_eq!(first, own, "the ferry followed");
}

#[tokio::test]
async fn a_redirect_in_circles_ends_in_an_error() {
    let upstream = Upstream::start(|request| {
        let other = if request.target() == "/a" { "/b" } else { "/a" };
        Some(Answer::new(307, &[("Location", other)], ""))
    })
    .await;
    let ferry = Ferry::start(upstream.url()).await;
    let mut client = Client::open(ferry.address).await;
    client.send(&initialize()).await;
    client.ferry_error(0, "upstream_redirect", "no").await;
    assert!(upstream.log().len() <= 5, "{}", upstream.log().len());
    client.leave();
    ferry.stop().await;
}

#[tokio::test]
async fn a_remembered_redirect_that_no_longer_holds_is_forgotten() {
    let moved = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(true));
    let flag = std::sync::Arc::clone(&moved);
    let upstream = Upstream::start(move |request| {
        let moved = flag.load(std::sync::atomic::Ordering::Relaxed);
        match (request.target(), moved) {
            ("/mcp", true) => Some(Answer::new(307, &[("Location", "/mcp/")], "")),
            ("/mcp/", false) => Some(Answer::new(404, &[], "")),
            _ if request.rpc() == "initialize" => Some(Answer::initialize(request, None)),
            _ => routine(request).or_else(|| Some(echo(request))),
        }
    })
    .await;
    let ferry = Ferry::start(upstream.url()).await;
    let mut client = Client::ready(ferry.address).await;
    client.request(0, "tools/list", json!({})).await;
    client.message().await;
    moved.store(false, std::sync::atomic::Ordering::Relaxed);
    client.request(1, "tools/list", json!({})).await;
    client.ferry_error(1, "upstream_refused", "no").await;
    client.request(2, "tools/list", json!({})).await;
    assert_eq!(client.message().await["result"]["method"], "tools/list");
    client.leave();
    ferry.stop().await;
}
