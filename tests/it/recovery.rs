//! Upstreams that fail: what is tried again, what is not, and what the client is told.

use serde_json::json;
use tokio::net::TcpListener;

use crate::support::client::{Client, call, initialize, post};
use crate::support::clock::{Clock, within};
use crate::support::ferry::Ferry;
use crate::support::scene::scene;
use crate::support::upstream::{Answer, ClosedPort, Upstream, echo, rebind, routine};

#[tokio::test]
async fn an_upstream_that_is_down_is_tried_for_a_while_and_then_reported() {
    let port = ClosedPort::new();
    let ferry = Ferry::start(port.url()).await;
    let clock = Clock::stop();
    let mut client = Client::open(ferry.address).await;
    let text = client.unreachable(&clock).await;
    assert!(
        text.contains("refused") && text.contains("running?"),
        "{text}"
    );

    // The same connection goes on when the upstream is there.
    let _upstream = Upstream::echo_on(port.open());
    // After several failures nothing is tried for a second.
    clock.pass_until("the handshake", client.handshake()).await;
    client.leave();
    ferry.stop().await;
}

#[tokio::test]
async fn an_upstream_that_comes_up_in_time_costs_the_client_nothing() {
    let port = ClosedPort::new();
    let ferry = Ferry::start(port.url()).await;
    let clock = Clock::stop();
    let mut client = Client::open(ferry.address).await;
    let posted = tokio::task::spawn({
        let (address, endpoint) = (client.address, client.endpoint.clone());
        async move { post(address, &endpoint, &[], initialize().to_string()).await }
    });
    // A second of refusals.
    for _ in 0..10 {
        clock.advance(std::time::Duration::from_millis(100)).await;
    }
    let upstream = Upstream::on(port.open(), |request| {
        Some(Answer::initialize(request, None))
    });
    let answer = clock.pass_until("the answer", client.message()).await;
    assert_eq!(answer["result"]["serverInfo"]["name"], "scripted");
    let answered = within("the status", posted).await.expect("no panic");
    assert_eq!(answered.status(), 202);
    assert_eq!(upstream.log().len(), 1);
    client.leave();
    ferry.stop().await;
}

#[tokio::test]
async fn a_call_whose_connection_is_lost_is_not_sent_again() {
    let (mut upstream, ferry, mut client) = scene().await;
    for (id, reset) in [(1, false), (2, true)] {
        client.send(&call(id, "tools/call")).await;
        let received = upstream.expect("POST").await;
        if reset {
            received.reset();
        } else {
            drop(received);
        }
        client.ferry_error(id, "upstream_lost", "unknown").await;
    }
    assert_eq!(upstream.times("tools/call"), 2);
    client.leave();
    ferry.stop().await;
}

#[tokio::test]
async fn a_safe_request_whose_connection_is_lost_is_sent_again_once() {
    let (mut upstream, ferry, mut client) = scene().await;
    client.send(&call(1, "tools/list")).await;
    upstream.expect("POST").await.reset();
    upstream.expect("POST").await.result(&json!({})).await;
    assert_eq!(
        client.message().await,
        json!({"jsonrpc": "2.0", "id": 1, "result": {}})
    );
    client.send(&call(2, "tools/list")).await;
    upstream.expect("POST").await.reset();
    upstream.expect("POST").await.reset();
    client.ferry_error(2, "upstream_lost", "unknown").await;
    assert_eq!(upstream.times("tools/list"), 4);
    client.leave();
    ferry.stop().await;
}

#[tokio::test]
async fn an_idle_connection_that_the_upstream_closed_costs_nothing() {
    let (mut upstream, ferry, mut client) = scene().await;
    for id in 1..20 {
        client.send(&call(id, "tools/call")).await;
        let received = upstream.expect("POST").await;
        let result = json!({"jsonrpc": "2.0", "id": id, "result": {}});
        received.answer_and_close(Answer::json(&result)).await;
        assert_eq!(client.message().await, result);
    }
    assert_eq!(upstream.times("tools/call"), 19);
    client.leave();
    ferry.stop().await;
}

#[tokio::test]
async fn a_json_answer_cut_anywhere_is_an_error_and_nothing_of_it_is_delivered() {
    const BODY: &str = r#"{"jsonrpc":"2.0","id":1,"result":{}}"#;
    let (mut upstream, ferry, mut client) = scene().await;
    for chunked in [false, true] {
        for cut in 0..=BODY.len() {
            if cut == BODY.len() && !chunked {
                continue;
            }
            client.send(&call(1, "tools/call")).await;
            let mut received = upstream.expect("POST").await;
            let part = &BODY[..cut];
            let text = match chunked {
                // Whole, but for the last chunk: nothing says that this is all.
                true if cut == 0 => "Transfer-Encoding: chunked\r\n\r\n".to_owned(),
                true => format!("Transfer-Encoding: chunked\r\n\r\n{cut:x}\r\n{part}\r\n"),
                false => format!("Content-Length: {}\r\n\r\n{part}", BODY.len()),
            };
            let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n";
            received.write(format!("{head}{text}")).await;
            drop(received);
            client.ferry_error(1, "upstream_cut", "unknown").await;
        }
    }
    client.leave();
    ferry.stop().await;
}

#[tokio::test]
async fn an_event_stream_cut_anywhere_delivers_whole_events_only() {
    const PROGRESS: &str = r#"{"jsonrpc":"2.0","method":"notifications/progress"}"#;
    let body =
        format!("data: {PROGRESS}\n\ndata: {{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{{}}}}\n");
    let first = "data: \n\n".len() + PROGRESS.len();
    let (mut upstream, ferry, mut client) = scene().await;
    for cut in 0..=body.len() {
        client.send(&call(1, "tools/call")).await;
        let mut events = upstream.expect("POST").await.events().await;
        if cut > 0 {
            events.raw(&body[..cut]).await;
        }
        drop(events);
        if cut >= first {
            assert_eq!(client.text().await, PROGRESS);
        }
        client.ferry_error(1, "upstream_cut", "unknown").await;
    }
    client.leave();
    ferry.stop().await;
}

#[tokio::test]
async fn a_lost_session_is_replaced_and_the_client_notices_nothing() {
    let (mut upstream, ferry, mut client) = scene().await;
    client.send(&call(1, "tools/call")).await;
    let received = upstream.expect("POST").await;
    assert_eq!(received.request.header("mcp-session-id"), Some("session-1"));
    received
        .answer(Answer::new(404, &[], "no such session"))
        .await;
    let received = upstream.expect("POST").await;
    assert_eq!(received.request.rpc(), "tools/call");
    assert_eq!(received.request.header("mcp-session-id"), Some("session-2"));
    received.result(&json!({"n": 1})).await;
    // Nothing else is on the stream: neither the second handshake nor an error.
    assert_eq!(client.message().await["result"]["n"], 1);
    let log = upstream.log();
    let first = log.first().expect("a handshake").json();
    let mut again = log.iter().filter(|request| request.rpc() == "initialize");
    let again = again.next_back().expect("another").json();
    assert_eq!(
        first["params"], again["params"],
        "the client's own parameters"
    );
    client.leave();
    ferry.quiet().await;
    let ended = upstream.log();
    let ended = ended.last().expect("a farewell");
    assert_eq!(
        (ended.method(), ended.header("mcp-session-id")),
        ("DELETE", Some("session-2"))
    );
    ferry.stop().await;
}

#[tokio::test]
async fn an_upstream_restarted_in_the_middle_is_used_again() {
    let start = |listener: TcpListener, name: &'static str| {
        Upstream::on(listener, move |request| {
            if request.rpc() == "initialize" {
                return Some(Answer::initialize(request, Some(name)));
            }
            if request.header("mcp-session-id") != Some(name) {
                return Some(Answer::new(404, &[], "Session not found"));
            }
            routine(request).or_else(|| Some(echo(request)))
        })
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let before = start(listener, "before");
    let (address, url) = (before.address, before.url());
    let ferry = Ferry::start(url).await;
    let mut clients = Vec::new();
    for _ in 0..3 {
        clients.push(Client::ready(ferry.address).await);
    }
    for (client, id) in clients.iter_mut().zip(1..) {
        client.request(id, "tools/call", json!({})).await;
        assert_eq!(client.message().await["id"], id);
    }
    before.die().await;
    let listener = rebind(address).await;
    let after = start(listener, "after");
    for (client, id) in clients.iter_mut().zip(11..) {
        client.request(id, "tools/call", json!({})).await;
        let answer = client.message().await;
        assert_eq!(
            (&answer["id"], &answer["result"]["method"]),
            (&json!(id), &json!("tools/call"))
        );
    }
    drop(clients);
    ferry.quiet().await;
    assert_eq!(after.times("initialize"), 3);
    ferry.stop().await;
}
