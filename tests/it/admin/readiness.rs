//! Health and readiness: what a balancer and a supervisor are told, and when.

use std::time::Duration;

use super::{get, start, with_admin};
use crate::support::client::{Client, call};
use crate::support::clock::{Clock, within};
use crate::support::ferry::Ferry;
use crate::support::upstream::{ClosedPort, Upstream};

#[tokio::test]
async fn a_ferry_that_has_served_nobody_is_ready_when_its_upstream_takes_connections() {
    let upstream = Upstream::echo().await;
    let ferry = start(&upstream).await;
    let metrics = super::metrics_of(&ferry).await;
    assert!(
        !metrics.contains("\nmcp_ferry_upstream_up "),
        "nothing was tried yet"
    );
    let ready = get(&ferry, "/readyz", &[]).await;
    assert_eq!((ready.status(), ready.text()), (200, "ready\n"));
    assert!(
        super::metrics_of(&ferry)
            .await
            .contains("\nmcp_ferry_upstream_up 1")
    );
    assert!(
        upstream.log().is_empty(),
        "nothing is sent to find that out"
    );
    ferry.stop().await;
}

#[tokio::test]
async fn a_dead_upstream_ends_readiness_until_it_is_back_and_leaves_liveness_alone() {
    let port = ClosedPort::new();
    let ferry = Ferry::with(port.url(), with_admin).await;
    let clock = Clock::stop();
    let ready = get(&ferry, "/readyz", &[]).await;
    assert_eq!(ready.status(), 503);
    let why = ready.text();
    assert!(
        why.starts_with("not ready: the upstream http://127.0.0.1:"),
        "{why}"
    );
    assert!(
        why.contains("cannot be reached (") && why.contains("refused"),
        "{why}"
    );
    assert_eq!(get(&ferry, "/healthz", &[]).await.status(), 200);
    assert!(
        super::metrics_of(&ferry)
            .await
            .contains("\nmcp_ferry_upstream_up 0")
    );
    // The public listener takes clients all the same: they are waited for, and told.
    let public = crate::support::http::exchange(ferry.address, "GET", "/readyz", &[], "").await;
    assert_eq!(public.status(), 200);
    let _upstream = Upstream::echo_on(port.open());
    assert_eq!(
        get(&ferry, "/readyz", &[]).await.status(),
        503,
        "a finding holds for a while"
    );
    clock.advance(Duration::from_secs(5)).await;
    assert_eq!(get(&ferry, "/readyz", &[]).await.status(), 200);
    ferry.stop().await;
}

#[tokio::test]
async fn an_upstream_that_was_heard_a_moment_ago_is_not_looked_for() {
    let upstream = Upstream::echo().await;
    let ferry = start(&upstream).await;
    let clock = Clock::stop();
    let client = Client::ready(ferry.address).await;
    upstream.die().await;
    assert_eq!(get(&ferry, "/readyz", &[]).await.status(), 200);
    clock.advance(Duration::from_secs(10)).await;
    assert_eq!(get(&ferry, "/readyz", &[]).await.status(), 503);
    ferry.stop_after_a_while(client, &clock).await;
}

#[tokio::test]
async fn the_admin_listener_tells_of_the_drain_and_is_the_last_to_go() {
    let mut upstream = Upstream::with_sessions().await;
    let mut ferry = start(&upstream).await;
    let mut client = Client::ready(ferry.address).await;
    client.send(&call(1, "tools/call")).await;
    let received = upstream.expect("POST").await;
    ferry.drain();
    within("readiness to end", async {
        while get(&ferry, "/readyz", &[]).await.status() != 503 {}
    })
    .await;
    let ready = get(&ferry, "/readyz", &[]).await;
    assert_eq!(ready.text(), "not ready: shutting down\n");
    assert_eq!(get(&ferry, "/healthz", &[]).await.status(), 200);
    let metrics = super::metrics_of(&ferry).await;
    assert!(metrics.contains("\nmcp_ferry_draining 1"), "{metrics}");
    assert!(
        metrics.contains("\nmcp_ferry_requests_in_flight 1"),
        "{metrics}"
    );
    received.result(&serde_json::json!({})).await;
    assert_eq!(client.message().await["id"], 1);
    client.ended().await;
    let admin = ferry.admin();
    ferry.stopped().await;
    let gone = tokio::net::TcpStream::connect(admin).await;
    assert!(gone.is_err(), "the port is free");
}
