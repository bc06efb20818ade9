//! `https` upstreams: HTTP/2 where the server offers it, authorities of one's own, and certificates that are refused.

use std::net::SocketAddr;
use std::sync::atomic::Ordering;

use hyper::{Uri, Version};
use mcp_ferry::config::Config;
use mcp_ferry::server::Bound;
use rcgen::CertificateParams;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::support::client::{Client, call};
use crate::support::clock::{Clock, within};
use crate::support::ferry::Ferry;
use crate::support::http::{Wire, exchange};
use crate::support::tls::{Authority, TlsUpstream};

async fn ferry(upstream: &TlsUpstream, authority: &Authority) -> Ferry {
    let file = authority.file.clone();
    Ferry::with(upstream.url(), |config| config.upstream.ca = Some(file)).await
}

#[tokio::test]
async fn http_2_is_spoken_where_it_is_offered_and_http_1_elsewhere() {
    let authority = Authority::new();
    for (offered, version) in [
        (&["h2", "http/1.1"][..], Version::HTTP_2),
        (&["h2"][..], Version::HTTP_2),
        (&["http/1.1"][..], Version::HTTP_11),
        (&[][..], Version::HTTP_11),
    ] {
        let server = authority.server(&["127.0.0.1"], |_| {});
        let upstream = TlsUpstream::start(server, offered).await;
        let ferry = ferry(&upstream, &authority).await;
        let mut client = Client::ready(ferry.address).await;
        client.request(1, "tools/list", json!({})).await;
        let answer = client.message().await;
        assert_eq!(answer["result"]["method"], "tools/list");
        let ping = call(7, "ping").to_string();
        let passed = exchange(ferry.address, "POST", "/mcp", &[], ping).await;
        assert_eq!(passed.status(), 200, "{}", passed.text());
        assert_eq!(passed.json()["result"]["method"], "ping");
        let log = upstream.log();
        let methods: Vec<&Value> = log.iter().map(|asked| &asked.message["method"]).collect();
        let initialized = "notifications/initialized";
        assert_eq!(methods, ["initialize", initialized, "tools/list", "ping"]);
        for asked in &log {
            assert_eq!(asked.version, version, "{offered:?}");
            assert_eq!(asked.authority, upstream.address.to_string());
        }
        ferry.stop_after(client).await;
    }
}

#[tokio::test]
async fn events_cross_http_2_one_by_one_and_leaving_ends_one_stream_only() {
    let authority = Authority::new();
    let server = authority.server(&["127.0.0.1"], |_| {});
    let mut upstream = TlsUpstream::start(server, &["h2"]).await;
    let ferry = ferry(&upstream, &authority).await;
    let mut first = Client::ready(ferry.address).await;
    let mut second = Client::ready(ferry.address).await;
    first.send(&call(1, "tools/call")).await;
    let one = upstream.stream().await;
    second.send(&call(1, "tools/call")).await;
    let two = upstream.stream().await;
    for number in 0..5 {
        let note = json!({"jsonrpc": "2.0", "method": "notifications/progress", "params": number});
        for (stream, client) in [(&one, &mut first), (&two, &mut second)] {
            let event = format!("data: {note}\n\n");
            stream.send(event.into()).await.expect("open");
            assert_eq!(client.message().await, note);
        }
    }
    first.leave();
    within("the stream to be reset", one.closed()).await;
    let result = json!({"jsonrpc": "2.0", "id": 1, "result": {}});
    let event = format!("data: {result}\n\n");
    two.send(event.into()).await.expect("open");
    drop(two);
    assert_eq!(second.message().await, result);
    assert_eq!(
        upstream.sockets.load(Ordering::Relaxed),
        1,
        "one connection for all"
    );
    second.leave();
    ferry.quiet().await;
    ferry.stop().await;
}

/// What a client and a newer client are told of this upstream, whose certificate must not be trusted.
async fn refused(upstream: &TlsUpstream, trusted: &Authority, says: &str) {
    let ferry = ferry(upstream, trusted).await;
    let clock = Clock::stop();
    let mut client = Client::open(ferry.address).await;
    let text = client.unreachable(&clock).await;
    assert!(
        text.contains("certificate") && text.contains(says),
        "{text}"
    );
    let passed = exchange(ferry.address, "POST", "/mcp", &[], "{}").await;
    assert_eq!(passed.status(), 502);
    assert!(passed.text().contains(says), "{}", passed.text());
    assert!(upstream.log().is_empty(), "nothing was sent");
    ferry.stop_after(client).await;
}

#[tokio::test]
async fn a_certificate_of_another_authority_is_refused() {
    let (trusted, other) = (Authority::new(), Authority::new());
    let server = other.server(&["127.0.0.1"], |_| {});
    let upstream = TlsUpstream::start(server, &["h2"]).await;
    refused(&upstream, &trusted, "UnknownIssuer").await;
}

#[tokio::test]
async fn an_expired_certificate_is_refused() {
    let authority = Authority::new();
    let expired = |params: &mut CertificateParams| {
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2021, 1, 1);
    };
    let server = authority.server(&["127.0.0.1"], expired);
    let upstream = TlsUpstream::start(server, &["h2"]).await;
    refused(&upstream, &authority, "xpired").await;
}

#[tokio::test]
async fn a_certificate_for_another_name_is_refused() {
    let authority = Authority::new();
    let server = authority.server(&["mcp.example"], |_| {});
    let upstream = TlsUpstream::start(server, &["h2"]).await;
    refused(&upstream, &authority, "valid").await;
}

#[tokio::test]
async fn a_server_that_does_not_speak_tls_is_an_error_that_says_so() {
    // It takes the first bytes of TLS for a request and refuses it.
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let address = listener.local_addr().expect("an address");
    let refuse = tokio::task::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let mut wire = Wire::new(socket);
            wire.read().await;
            wire.write(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        }
    });
    let authority = Authority::new();
    let ferry = Ferry::with(https(address), |config| {
        config.upstream.ca = Some(authority.file.clone());
    })
    .await;
    let passed = exchange(ferry.address, "POST", "/mcp", &[], "{}").await;
    assert_eq!(passed.status(), 502, "{}", passed.text());
    assert!(
        passed.text().contains("corrupt message"),
        "{}",
        passed.text()
    );
    refuse.abort();
    ferry.stop().await;
}

#[tokio::test]
async fn a_server_that_says_nothing_is_given_up_after_connect_timeout() {
    // The system takes connections; nobody ever reads from them.
    let silent = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let authority = Authority::new();
    let ferry = Ferry::with(https(silent.local_addr().expect("an address")), |config| {
        config.upstream.ca = Some(authority.file.clone());
    })
    .await;
    let clock = Clock::stop();
    let mut client = Client::open(ferry.address).await;
    let text = client.unreachable(&clock).await;
    assert!(text.contains("--connect-timeout"), "{text}");
    let passing = exchange(ferry.address, "POST", "/mcp", &[], "{}");
    let passed = clock.pass_until("an answer", passing).await;
    assert_eq!(passed.status(), 502);
    assert!(
        passed.text().contains("--connect-timeout"),
        "{}",
        passed.text()
    );
    ferry.stop_after(client).await;
}

fn https(address: SocketAddr) -> Uri {
    format!("https://{address}/mcp").parse().expect("a URL")
}

#[tokio::test]
async fn an_authority_file_that_holds_none_is_refused_before_serving() {
    let authority = Authority::new();
    for content in [
        "",
        "not PEM",
        "-----BEGIN CERTIFICATE-----\n!!\n-----END CERTIFICATE-----\n",
    ] {
        std::fs::write(&authority.file, content).expect("write");
        let mut config = Config::for_upstream("https://127.0.0.1:1/mcp".parse().expect("a URL"));
        config.listen = vec![([127, 0, 0, 1], 0).into()];
        config.upstream.ca = Some(authority.file.clone());
        let refused = Bound::bind(config).await.expect_err("refused");
        assert!(refused.to_string().contains("--upstream-ca"), "{refused}");
    }
}
