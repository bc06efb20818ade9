//! The faults of a network and of the processes on it, F1 to F28, through real sockets: what becomes of each request in
//! flight.
//!
//! The name of a test begins with its row. `tests/FAULTS.md` is the table: what the client sees, and the tests that
//! show it, here and elsewhere; it is checked at the end of this file. An error "on the stream" is a JSON-RPC error of
//! the ferry's own whose `data.ferry.executed` says whether the upstream may have run the request.

mod clients;
mod connect;
mod lost;
mod panics;
mod sessions;
mod silence;
mod streams;
mod table;

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::support::client::{Client, call, initialize, initialized};
use crate::support::upstream::{Answer, Call, Events, Received, Upstream, routine};

const SECOND: Duration = Duration::from_secs(1);

/// Plays a script beside the test.
fn play(call: Call, script: &'static str) -> JoinHandle<()> {
    tokio::task::spawn(async move { call.play(script).await })
}

/// A call with this id whose answer has begun, as an event stream.
async fn streaming(client: &Client, upstream: &mut Upstream, id: u64) -> Events {
    client.send(&call(id, "tools/call")).await;
    upstream.expect("POST").await.events().await
}

/// A good answer to `initialize` that promises to say when tools and prompts change, but not when resources do.
fn promising(request: &Received, session: &str) -> Answer {
    let capabilities = json!({
        "tools": {"listChanged": true},
        "prompts": {"listChanged": true},
        "resources": {"subscribe": true},
    });
    let body = json!({
        "jsonrpc": "2.0",
        "id": request.json()["id"],
        "result": {"protocolVersion": "2025-11-25", "capabilities": capabilities, "serverInfo": {}},
    });
    let headers = [
        ("Content-Type", "application/json"),
        ("Mcp-Session-Id", session),
    ];
    Answer::new(200, &headers, body.to_string())
}

/// A server that promises so, with the session `s`, whose GETs are the test's.
async fn promising_upstream() -> Upstream {
    Upstream::start(|request| match request.method() {
        "GET" => None,
        _ if request.rpc() == "initialize" => Some(promising(request, "s")),
        _ => routine(request),
    })
    .await
}

/// A client that asks for this revision, after its handshake.
async fn of_revision(address: SocketAddr, revision: &str) -> Client {
    let mut client = Client::open(address).await;
    let mut first = initialize();
    first["params"]["protocolVersion"] = json!(revision);
    client.send(&first).await;
    assert_eq!(client.message().await["id"], 0);
    client.send(&initialized()).await;
    client
}

/// The next two messages must say that tools and prompts changed, in any order.
async fn told_of_changes(client: &mut Client) {
    let mut told = [client.message().await, client.message().await];
    told.sort_by_key(|message| message["method"].to_string());
    let changed = |list: &str| {
        let method = format!("notifications/{list}/list_changed");
        json!({"jsonrpc": "2.0", "method": method})
    };
    assert_eq!(told, [changed("prompts"), changed("tools")]);
}

/// Whether an error of the ferry's own says this about the execution of its request.
fn says(message: &Value, executed: &str) -> bool {
    message["error"]["code"] == -32603 && message["error"]["data"]["ferry"]["executed"] == executed
}
