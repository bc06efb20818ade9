//! The MCP endpoint's addresses: its own path, the old `/sse` for clients that upgrade in place, redirects of the
//! upstream within it, and an upstream that is not there.

use serde_json::json;
use tokio::net::TcpListener;

use crate::support::ferry::Ferry;
use crate::support::http::exchange;
use crate::support::upstream::{Answer, ClosedPort, Upstream, echo};

const PING: &str = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;

#[tokio::test]
async fn the_old_address_serves_newer_clients_in_place() {
    let upstream = Upstream::start(|_| Some(Answer::new(200, &[], "upstream"))).await;
    let ferry = Ferry::start(upstream.url()).await;
    let session = [("Mcp-Session-Id", "s-1")];
    for (method, headers) in [
        ("POST", &[][..]),
        ("POST", &session[..]),
        ("GET", &session[..]),
        ("DELETE", &session[..]),
    ] {
        let answered = exchange(ferry.address, method, "/sse?k=1", headers, "").await;
        assert_eq!((answered.status(), answered.text()), (200, "upstream"));
        let log = upstream.log();
        let received = log.last().expect("a request");
        assert_eq!(received.head.start, format!("{method} /mcp?k=1 HTTP/1.1"));
    }
    ferry.stop().await;
}

#[tokio::test]
async fn only_whole_known_paths_are_served() {
    let upstream = Upstream::start(|_| Some(Answer::new(200, &[], ""))).await;
    let ferry = Ferry::start(upstream.url()).await;
    for path in [
        "/",
        "/mcp/x",
        "/mcpx",
        "//mcp",
        "/mcp//",
        "/./mcp",
        "/x/../mcp",
        "/%6dcp",
        "/mcp%2f",
        "/MCP",
        "/sse/x",
        "/messages/x",
    ] {
        let refused = exchange(ferry.address, "POST", path, &[], PING).await;
        assert_eq!(refused.status(), 404, "{path}");
        assert!(refused.text().contains("/sse"), "{}", refused.text());
    }
    for method in ["CONNECT", "TRACE"] {
        let refused = exchange(ferry.address, method, "/mcp", &[], "").await;
        assert!((400..500).contains(&refused.status()), "{method}");
    }
    assert!(upstream.log().is_empty());
    for path in ["/mcp", "/mcp/"] {
        let answered = exchange(ferry.address, "POST", path, &[], PING).await;
        assert_eq!(answered.status(), 200, "{path}");
    }
    let targets: Vec<String> = upstream
        .log()
        .iter()
        .map(|request| request.target().to_owned())
        .collect();
    assert_eq!(targets, ["/mcp", "/mcp"]);
    ferry.stop().await;
}

#[tokio::test]
async fn the_path_and_query_of_the_upstream_are_kept() {
    let upstream = Upstream::echo().await;
    let ferry = Ferry::start(upstream.at("/deep/er/mcp?key=1")).await;
    let answered = exchange(ferry.address, "POST", "/mcp?x=2", &[], PING).await;
    assert_eq!(answered.json()["result"]["method"], json!("ping"));
    assert_eq!(upstream.log()[0].target(), "/deep/er/mcp?key=1&x=2");
    ferry.stop().await;
}

#[tokio::test]
async fn a_redirect_within_the_endpoint_can_be_followed_through_the_ferry() {
    for status in [307, 308] {
        let upstream = Upstream::start(move |request| {
            if request.target().starts_with("/mcp/") {
                return Some(echo(request));
            }
            // As Starlette does it: the whole address.
            let host = request.header("host").unwrap_or_default();
            let location = format!("http://{host}{}", request.target().replace("/mcp", "/mcp/"));
            Some(Answer::new(status, &[("Location", &location)], ""))
        })
        .await;
        let ferry = Ferry::start(upstream.url()).await;
        let redirected = exchange(ferry.address, "POST", "/mcp?a=1", &[], PING).await;
        assert_eq!(redirected.status(), status);
        let location = redirected.header("location").expect("a location");
        assert_eq!(location, "/mcp/?a=1");
        let answered = exchange(ferry.address, "POST", location, &[], PING).await;
        assert_eq!(answered.json()["result"]["method"], json!("ping"));
        // From now on the ferry goes there directly, whatever the client asks for.
        for path in ["/mcp", "/mcp/"] {
            let answered = exchange(ferry.address, "POST", path, &[], PING).await;
            assert_eq!(answered.status(), 200);
        }
        let targets: Vec<String> = upstream
            .log()
            .iter()
            .map(|request| request.target().to_owned())
            .collect();
        assert_eq!(targets, ["/mcp?a=1", "/mcp/?a=1", "/mcp/", "/mcp/"]);
        ferry.stop().await;
    }
}

#[tokio::test]
async fn a_redirect_elsewhere_is_the_clients_to_judge() {
    let canary = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let away = format!("http://{}/mcp", canary.local_addr().expect("an address"));
    for status in [301, 302, 303, 307, 308] {
        let location = away.clone();
        let upstream =
            Upstream::start(move |_| Some(Answer::new(status, &[("Location", &location)], "")))
                .await;
        let ferry = Ferry::start(upstream.url()).await;
        for _ in 0..2 {
            let answered = exchange(ferry.address, "POST", "/mcp", &[], PING).await;
            assert_eq!(answered.status(), status);
            assert_eq!(answered.header("location"), Some(away.as_str()));
        }
        assert_eq!(upstream.log().len(), 2);
        ferry.stop().await;
    }
    // Whoever had connected would be first in line.
    let own = tokio::net::TcpStream::connect(canary.local_addr().expect("an address"))
        .await
        .expect("connect");
    let (_, first) = canary.accept().await.expect("accept");
    assert_eq!(
        first,
        own.local_addr().expect("an address"),
        "the ferry followed"
    );
    drop(own);
}

#[tokio::test]
async fn an_upstream_that_is_down_gets_502_with_what_to_do() {
    let port = ClosedPort::new();
    let address = port.address;
    let url = format!("http://{address}/mcp?key=secret");
    let ferry = Ferry::start(url.parse().expect("a URL")).await;
    let answered = exchange(ferry.address, "POST", "/mcp", &[], PING).await;
    assert_eq!(answered.status(), 502);
    let text = answered.text();
    assert!(text.contains(&format!("http://{address}/mcp")), "{text}");
    assert!(text.contains("refused"), "{text}");
    assert!(!text.contains("secret"), "{text}");
    // It comes back by itself.
    let _upstream = Upstream::on(port.open(), |request| Some(echo(request)));
    let answered = exchange(ferry.address, "POST", "/mcp", &[], PING).await;
    assert_eq!(answered.status(), 200);
    ferry.stop().await;
}

#[tokio::test]
async fn an_upstream_that_closes_without_an_answer_gets_502_and_one_request() {
    let mut upstream = Upstream::silent().await;
    let ferry = Ferry::start(upstream.url()).await;
    for reset in [false, true] {
        let close = async {
            let call = upstream.next().await;
            if reset { call.reset() } else { drop(call) }
        };
        let asked = exchange(ferry.address, "POST", "/mcp", &[], PING);
        let ((), answered) = tokio::join!(close, asked);
        assert_eq!(answered.status(), 502, "{}", answered.text());
    }
    assert_eq!(upstream.log().len(), 2, "nothing was sent twice");
    ferry.stop().await;
}
