//! A client of Streamable HTTP before a server that speaks only 2026-07-28, with `--mcp auto`: all that the bridge does
//! for a legacy client, on the MCP endpoint.

use serde_json::{Value, json};

use super::probing::unsupported;
use crate::support::ferry::Ferry;
use crate::support::http::exchange;
use crate::support::session::{Session, answering, call, initialize, post};
use crate::support::upstream::{Answer, Received, Upstream};

const JSON: (&str, &str) = ("Content-Type", "application/json");
const VERSION: &str = "2026-07-28";

/// A modern-only server: it refuses what is older, tells what it is, and leaves the rest to the test.
async fn modern(capabilities: Value) -> Upstream {
    Upstream::start(move |request: &Received| {
        let version = request.header("mcp-protocol-version");
        if request.method() != "POST" {
            return Some(Answer::new(405, &[("Allow", "POST")], ""));
        }
        if version != Some(VERSION) {
            return Some(Answer::new(400, &[JSON], unsupported(request).to_string()));
        }
        (request.rpc() == "server/discover").then(|| {
            let result = json!({
                "resultType": "complete",
                "supportedVersions": [VERSION],
                "capabilities": capabilities,
                "_meta": {"io.modelcontextprotocol/serverInfo": {"name": "new", "version": "9"}},
            });
            let id = request.json()["id"].clone();
            Answer::json(&json!({"jsonrpc": "2.0", "id": id, "result": result}))
        })
    })
    .await
}

fn rpcs(upstream: &Upstream) -> Vec<String> {
    upstream.log().iter().map(|request| request.rpc()).collect()
}

#[tokio::test]
async fn it_is_found_out_once_and_its_clients_are_bridged_from_then_on() {
    let mut upstream = modern(json!({"prompts": {}})).await;
    let ferry = Ferry::start(upstream.url()).await;
    let answered = post(ferry.address, &[], &initialize()).await;
    assert_eq!(answered.status(), 200, "{answered:?}");
    let result = &answered.json()["result"];
    assert_eq!(result["protocolVersion"], "2025-06-18");
    assert_eq!(result["serverInfo"], json!({"name": "new", "version": "9"}));
    assert!(answered.header("mcp-session-id").is_some());
    assert_eq!(rpcs(&upstream), ["initialize", "server/discover"]);
    // A client that also knows the new revision repeats its method, and is no modern client for that.
    let dual = [("Mcp-Method", "initialize")];
    let second = post(ferry.address, &dual, &initialize()).await;
    let id = second
        .header("mcp-session-id")
        .expect("a session")
        .to_owned();
    assert_eq!(rpcs(&upstream)[2..], ["server/discover"], "known by now");
    let session = Session {
        address: ferry.address,
        id,
    };
    let mut asked = call(1, "prompts/get");
    asked["params"] = json!({"name": "greet"});
    let mut wire = session.begin(&asked).await;
    let received = upstream.expect("POST").await;
    let request = &received.request;
    assert_eq!(request.header("mcp-protocol-version"), Some(VERSION));
    assert_eq!(request.header("mcp-method"), Some("prompts/get"));
    assert_eq!(request.header("mcp-name"), Some("greet"));
    assert_eq!(request.header("mcp-session-id"), None);
    let info = "/params/_meta/io.modelcontextprotocol~1clientInfo/name";
    assert_eq!(request.json().pointer(info), Some(&json!("streamable")));
    received
        .result(&json!({"resultType": "complete", "messages": []}))
        .await;
    let answered = wire.response().await;
    assert_eq!(answered.json()["result"], json!({"messages": []}));
    ferry.stop().await;
}

#[tokio::test]
async fn modern_clients_pass_beside_the_bridged_ones() {
    let mut upstream = modern(json!({})).await;
    let ferry = Ferry::start(upstream.url()).await;
    let _session = Session::ready(ferry.address).await;
    let text = "{ \"jsonrpc\":\"2.0\",\"id\":1e0 ,\"method\":\"tools/list\" }";
    let headers = [
        JSON,
        ("MCP-Protocol-Version", VERSION),
        ("Mcp-Method", "tools/list"),
    ];
    let asking = exchange(ferry.address, "POST", "/mcp", &headers, text);
    let answering = async {
        let received = upstream.expect("POST").await;
        assert_eq!(received.request.text(), text);
        received.answer(Answer::new(200, &[JSON], "{}  ")).await;
    };
    let (answered, ()) = tokio::join!(asking, answering);
    assert_eq!(answered.text(), "{}  ");
    ferry.stop().await;
}

#[tokio::test]
async fn a_round_asks_the_client_on_the_calls_own_stream_and_its_answer_goes_on() {
    let mut upstream = modern(json!({"prompts": {}})).await;
    let ferry = Ferry::start(upstream.url()).await;
    let session = Session::ready(ferry.address).await;
    let mut listener = session.listen().await.stream;
    let mut asked = call(1, "prompts/get");
    asked["params"] = json!({"name": "ask"});
    let wire = session.begin(&asked).await;
    let questions = json!({"one": {"method": "sampling/createMessage", "params": {"n": 1}}});
    upstream
        .expect("POST")
        .await
        .result(&json!({"resultType": "input_required", "inputRequests": questions, "requestState": "s"}))
        .await;
    let mut stream = answering(wire).await.stream;
    let question = stream.message().await;
    assert_eq!(question["method"], "sampling/createMessage");
    let answer = json!({"role": "assistant"});
    session
        .tell(&json!({"jsonrpc": "2.0", "id": question["id"], "result": answer}))
        .await;
    let again = upstream.expect("POST").await;
    let params = again.request.json()["params"].clone();
    assert_eq!(params["inputResponses"]["one"], answer);
    assert_eq!(params["requestState"], "s");
    again
        .result(&json!({"resultType": "complete", "messages": []}))
        .await;
    let outcome = stream.message().await;
    assert_eq!(
        (&outcome["id"], &outcome["result"]),
        (&json!(1), &json!({"messages": []}))
    );
    stream.ended().await;
    // The listen stream has seen nothing of it.
    session.ask("DELETE", &[]).await;
    listener.ended().await;
    ferry.stop().await;
}

#[tokio::test]
async fn changes_reach_the_listen_stream_and_a_cancel_closes_the_exchange() {
    let mut upstream = modern(json!({"prompts": {"listChanged": true}})).await;
    let ferry = Ferry::start(upstream.url()).await;
    let session = Session::ready(ferry.address).await;
    let mut listener = session.listen().await.stream;
    let subscribed = upstream.expect("POST").await;
    assert_eq!(subscribed.request.rpc(), "subscriptions/listen");
    let id = subscribed.request.json()["id"].clone();
    let mut changes = subscribed.events().await;
    let of = json!({"io.modelcontextprotocol/subscriptionId": id});
    let accepted = json!({"promptsListChanged": true});
    changes
        .send(&json!({"jsonrpc": "2.0", "method": "notifications/subscriptions/acknowledged", "params": {"_meta": of, "notifications": accepted}}))
        .await;
    changes
        .send(&json!({"jsonrpc": "2.0", "method": "notifications/prompts/list_changed", "params": {"_meta": of}}))
        .await;
    let told = listener.message().await;
    assert_eq!(told["method"], "notifications/prompts/list_changed");
    let wire = session.begin(&call(1, "prompts/list")).await;
    let running = upstream.expect("POST").await;
    let params = json!({"requestId": 1});
    session
        .tell(&json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": params}))
        .await;
    running.abandoned().await;
    answering(wire).await.stream.ended().await;
    assert!(
        !rpcs(&upstream)
            .iter()
            .any(|rpc| rpc == "notifications/cancelled")
    );
    ferry.stop().await;
}

#[tokio::test]
async fn a_session_goes_on_when_the_server_is_rolled_back() {
    let modern = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(true));
    let now = std::sync::Arc::clone(&modern);
    let upstream = Upstream::start(move |request: &Received| {
        if !now.load(std::sync::atomic::Ordering::Relaxed) {
            // One of 2025 that was never asked for a handshake.
            let refusal = json!({"jsonrpc": "2.0", "id": null, "error": {"code": -32000, "message": "Bad Request: Server not initialized"}});
            return match request.rpc().as_str() {
                "initialize" => Some(Answer::initialize(request, Some("s"))),
                "prompts/list" if request.header("mcp-session-id") == Some("s") => {
                    Some(crate::support::upstream::echo(request))
                }
                _ if request.header("mcp-session-id") == Some("s") => {
                    crate::support::upstream::routine(request)
                }
                _ => Some(Answer::new(400, &[JSON], refusal.to_string())),
            };
        }
        if request.rpc() != "server/discover" {
            return Some(Answer::new(400, &[JSON], unsupported(request).to_string()));
        }
        let result = json!({"resultType": "complete", "supportedVersions": [VERSION], "capabilities": {"prompts": {}}});
        let id = request.json()["id"].clone();
        Some(Answer::json(&json!({"jsonrpc": "2.0", "id": id, "result": result})))
    })
    .await;
    let ferry = Ferry::start(upstream.url()).await;
    let session = Session::ready(ferry.address).await;
    modern.store(false, std::sync::atomic::Ordering::Relaxed);
    let answered = session.post(&call(1, "prompts/list")).await;
    assert_eq!(
        answered.json()["result"]["method"],
        "prompts/list",
        "{answered:?}"
    );
    // The next client need not be bridged any more.
    let passed = post(ferry.address, &[], &initialize()).await;
    assert_eq!(passed.header("mcp-session-id"), Some("s"));
    ferry.stop().await;
}
