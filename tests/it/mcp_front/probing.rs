//! `--mcp auto`: what passes, and how an upstream that speaks only 2026-07-28 is found out.

use mcp_ferry::config::McpMode;
use mcp_ferry::metrics::Counter;
use serde_json::{Value, json};

use super::bridging;
use crate::support::ferry::Ferry;
use crate::support::http::{Wire, exchange};
use crate::support::session::{Session, call, initialize, post};
use crate::support::upstream::{Answer, Received, Upstream, routine};

const JSON: (&str, &str) = ("Content-Type", "application/json");
const MODERN: [(&str, &str); 3] = [
    JSON,
    ("MCP-Protocol-Version", "2026-07-28"),
    ("Mcp-Method", "tools/list"),
];

/// The body of a refusal by a server that speaks only 2026-07-28.
pub(super) fn unsupported(request: &Received) -> Value {
    let data = json!({"supported": ["2026-07-28"], "requested": "2025-06-18"});
    let error = json!({"code": -32022, "message": "Unsupported protocol version", "data": data});
    json!({"jsonrpc": "2.0", "id": request.json()["id"], "error": error})
}

#[tokio::test]
async fn before_a_handshake_server_everything_passes_and_nothing_is_begun() {
    let upstream = Upstream::start(|request| match request.rpc().as_str() {
        "initialize" => Some(Answer::initialize(request, Some("s-1"))),
        "tools/list" => Some(Answer::new(200, &[JSON], "{ \"as\":  \"it is\" }")),
        _ => routine(request),
    })
    .await;
    let ferry = Ferry::start(upstream.url()).await;
    // With odd spacing: what is relayed byte for byte keeps it.
    let text = initialize().to_string().replace(',', " ,\n");
    let answered = exchange(ferry.address, "POST", "/mcp", &[JSON], &text).await;
    assert_eq!(answered.header("mcp-session-id"), Some("s-1"));
    assert_eq!(upstream.log()[0].text(), text);
    let session = Session {
        address: ferry.address,
        id: "s-1".to_owned(),
    };
    let answered = session.post(&call(1, "tools/list")).await;
    assert_eq!(answered.text(), "{ \"as\":  \"it is\" }");
    assert_eq!(session.ask("GET", &[]).await.status(), 405);
    assert_eq!(session.ask("DELETE", &[]).await.status(), 200);
    // Known by now, it is not looked at again.
    let again = post(ferry.address, &[], &initialize()).await;
    assert_eq!(again.header("mcp-session-id"), Some("s-1"));
    assert_eq!(ferry.count(Counter::ConnectionsOpened), 0);
    assert_eq!(ferry.count(Counter::PassedThrough), 5);
    ferry.stop().await;
}

#[tokio::test]
async fn an_answer_in_an_event_stream_passes_whole() {
    let events = ": hello\n\nid: 1\ndata:\n\nevent: message\ndata: {\"jsonrpc\":\"2.0\",\"id\":0,\"result\":{\"protocolVersion\":\"2025-06-18\"}}\n\n: bye\n\n";
    let upstream = Upstream::start(move |_| {
        Some(Answer::new(
            200,
            &[("Content-Type", "text/event-stream")],
            events,
        ))
    })
    .await;
    let ferry = Ferry::start(upstream.url()).await;
    let answered = post(ferry.address, &[], &initialize()).await;
    assert_eq!(answered.text(), events);
    ferry.stop().await;
}

#[tokio::test]
async fn other_refusals_pass_as_they_are() {
    for (status, body) in [
        (401, "who are you"),
        (
            400,
            r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32000,"message":"Bad Request: Server not initialized"}}"#,
        ),
        (404, "nothing here"),
        (503, ""),
    ] {
        let upstream = Upstream::start(move |_| Some(Answer::new(status, &[JSON], body))).await;
        let ferry = Ferry::start(upstream.url()).await;
        for _ in 0..2 {
            let answered = post(ferry.address, &[], &initialize()).await;
            assert_eq!((answered.status(), answered.text()), (status, body));
        }
        assert_eq!(ferry.count(Counter::ConnectionsOpened), 0);
        ferry.stop().await;
    }
}

#[tokio::test]
async fn modern_requests_pass_byte_for_byte_in_every_mode() {
    for mode in [McpMode::Auto, McpMode::Pass, McpMode::Bridge] {
        let upstream = Upstream::start(|_| Some(Answer::new(200, &[JSON], "{}  "))).await;
        let ferry = Ferry::with(upstream.url(), |config| config.mcp = mode).await;
        let text = "{ \"jsonrpc\":\"2.0\",\"id\":1e0 ,\"method\":\"tools/list\" }";
        let mut wire = Wire::connect(ferry.address).await;
        for _ in 0..2 {
            wire.write(&crate::support::http::request(
                "POST",
                "/mcp",
                &MODERN,
                text.as_bytes(),
            ))
            .await;
            assert_eq!(wire.response().await.text(), "{}  ");
        }
        assert!(upstream.log().iter().all(|it| it.text() == text));
        let version = upstream.log()[0]
            .header("mcp-protocol-version")
            .map(str::to_owned);
        assert_eq!(version.as_deref(), Some("2026-07-28"));
        drop(wire);
        ferry.stop().await;
    }
}

#[tokio::test]
async fn with_pass_nothing_is_the_ferrys() {
    let upstream = Upstream::start(|_| Some(Answer::new(418, &[], "teapot"))).await;
    let ferry = Ferry::with(upstream.url(), |config| config.mcp = McpMode::Pass).await;
    let own = format!("ferry-{}", "0".repeat(64));
    for headers in [&[JSON][..], &[("Mcp-Session-Id", &own)], &MODERN] {
        let answered = exchange(ferry.address, "POST", "/mcp", headers, "not even JSON").await;
        assert_eq!(answered.status(), 418);
    }
    ferry.stop().await;
}

#[tokio::test]
async fn an_upstream_that_was_replaced_is_noticed_by_its_refusal() {
    let upgraded = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let switch = std::sync::Arc::clone(&upgraded);
    let upstream = Upstream::start(move |request| {
        if switch.load(std::sync::atomic::Ordering::Relaxed) {
            return Some(Answer::new(400, &[JSON], unsupported(request).to_string()));
        }
        (request.rpc() == "initialize").then(|| Answer::initialize(request, None))
    })
    .await;
    let ferry = Ferry::start(upstream.url()).await;
    let passed = post(ferry.address, &[], &initialize()).await;
    assert_eq!(passed.status(), 200);
    upgraded.store(true, std::sync::atomic::Ordering::Relaxed);
    // This client gets what the upstream says; the next one is bridged.
    let refused = post(ferry.address, &[], &initialize()).await;
    assert_eq!(refused.json()["error"]["code"], -32022);
    assert_eq!(ferry.count(Counter::ConnectionsOpened), 0);
    let bridged = post(ferry.address, &[], &initialize()).await;
    assert_eq!(bridged.status(), 200, "{bridged:?}");
    assert_eq!(ferry.count(Counter::ConnectionsOpened), 1);
    // A session that the former upstream gave is nobody's now: its client is to begin again.
    let former = Session {
        address: ferry.address,
        id: "s-1".to_owned(),
    };
    assert_eq!(former.post(&call(1, "ping")).await.status(), 404);
    ferry.stop().await;
}

#[tokio::test]
async fn a_session_of_a_server_that_was_replaced_is_gone_for_its_client() {
    let upstream = Upstream::start(|request| match request.rpc().as_str() {
        "initialize" => Some(Answer::initialize(request, Some("s-1"))),
        _ => Some(Answer::new(400, &[JSON], unsupported(request).to_string())),
    })
    .await;
    let ferry = Ferry::start(upstream.url()).await;
    let passed = post(ferry.address, &[], &initialize()).await;
    assert_eq!(passed.header("mcp-session-id"), Some("s-1"));
    let session = Session {
        address: ferry.address,
        id: "s-1".to_owned(),
    };
    assert_eq!(session.post(&call(1, "tools/list")).await.status(), 404);
    ferry.stop().await;
}

#[tokio::test]
async fn a_refusal_of_a_modern_server_begins_a_session_in_whatever_form_it_comes() {
    let forms: [fn(&Received) -> Answer; 5] = [
        |request| Answer::new(400, &[JSON], unsupported(request).to_string()),
        |request| {
            let event = format!("event: message\ndata: {}\n\n", unsupported(request));
            Answer::new(200, &[("Content-Type", "text/event-stream")], event)
        },
        |_| {
            Answer::new(
                400,
                &[("Content-Type", "text/html")],
                "<h1>Bad Request</h1>",
            )
        },
        |request| {
            let error = json!({"code": -32601, "message": "no such method"});
            let answer = json!({"jsonrpc": "2.0", "id": request.json()["id"], "error": error});
            Answer::new(200, &[JSON], answer.to_string())
        },
        |request| {
            let result = json!({"protocolVersion": "2026-07-28"});
            let answer = json!({"jsonrpc": "2.0", "id": request.json()["id"], "result": result});
            Answer::new(200, &[JSON], answer.to_string())
        },
    ];
    for form in forms {
        let upstream = Upstream::start(move |request| Some(form(request))).await;
        let ferry = Ferry::start(upstream.url()).await;
        let answered = post(ferry.address, &[], &initialize()).await;
        // What the bridge makes of it is its own affair; that it was asked is what counts here.
        assert_eq!(answered.status(), 200, "{answered:?}");
        assert_eq!(ferry.count(Counter::ConnectionsOpened), 1);
        ferry.stop().await;
    }
}

#[tokio::test]
async fn clients_that_still_hold_the_old_address_get_the_same() {
    let upstream = Upstream::with_sessions().await;
    let ferry = bridging(upstream.url()).await;
    let body = initialize().to_string();
    let answered = exchange(ferry.address, "POST", "/sse", &[JSON], body).await;
    let id = answered.header("mcp-session-id").expect("a session");
    let name = [("Mcp-Session-Id", id)];
    let ended = exchange(ferry.address, "DELETE", "/sse", &name, "").await;
    assert_eq!(ended.status(), 204);
    ferry.stop().await;
}
