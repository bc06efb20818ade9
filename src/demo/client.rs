//! The demo's old client: HTTP+SSE as of 2024-11-05, one script, every answer checked.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};

use crate::legacy_client::LegacyClient;

/// The longest that the script waits for one event.
const PATIENCE: Duration = Duration::from_secs(10);
const LARGEST_EVENT: usize = 1024 * 1024;

struct OldClient {
    client: LegacyClient,
    last_id: u64,
    checks: usize,
}

/// Plays the script against the ferry at `address`. Says how many answers were as they should, or what was not.
pub(super) async fn run(address: SocketAddr) -> Result<usize, String> {
    let mut client = OldClient::open(address).await?;
    let answer = client
        .request(
            "initialize",
            json!({
                "protocolVersion": "2024-11-05",
                "capabilities": {"sampling": {}},
                "clientInfo": {"name": "old-client", "version": "1.0"},
            }),
        )
        .await?;
    client.check(
        "the version asked for comes back",
        answer.pointer("/result/protocolVersion") == Some(&json!("2024-11-05")),
    )?;
    client.notify("notifications/initialized").await?;

    let answer = client.request("tools/list", json!({})).await?;
    let tools = answer
        .pointer("/result/tools")
        .and_then(Value::as_array)
        .map_or(0, Vec::len);
    client.check("the server's three tools are listed", tools == 3)?;

    let answer = client
        .request(
            "tools/call",
            json!({"name": "echo", "arguments": {"text": "Grüße 🚢"}}),
        )
        .await?;
    client.check(
        "text crosses unharmed",
        answer.pointer("/result/content/0/text") == Some(&json!("Grüße 🚢")),
    )?;

    let params = json!({"name": "count", "arguments": {"to": 3}, "_meta": {"progressToken": "t"}});
    let (answer, progress) = client
        .request_counting("tools/call", params, "notifications/progress")
        .await?;
    client.check("progress arrives before the result", progress == 3)?;
    client.check(
        "the result arrives",
        answer.pointer("/result/content/0/text") == Some(&json!("3")),
    )?;

    let answer = client
        .request("tools/call", json!({"name": "ask", "arguments": {}}))
        .await?;
    client.check(
        "the server can ask the client's model",
        answer.pointer("/result/content/0/text") == Some(&json!("the model said: aye")),
    )?;

    let answer = client
        .request(
            "tools/call",
            json!({"name": "no-such-tool", "arguments": {}}),
        )
        .await?;
    client.check(
        "errors of the server are the server's own",
        answer.pointer("/error/code") == Some(&json!(-32602)),
    )?;
    Ok(client.checks)
}

impl OldClient {
    async fn open(address: SocketAddr) -> Result<Self, String> {
        let client = LegacyClient::open(address, PATIENCE, LARGEST_EVENT).await?;
        Ok(Self {
            client,
            last_id: 0,
            // The first event is the endpoint.
            checks: 1,
        })
    }

    fn check(&mut self, what: &str, holds: bool) -> Result<(), String> {
        self.checks += 1;
        if holds {
            Ok(())
        } else {
            Err(format!("not so: {what}"))
        }
    }

    async fn notify(&self, method: &str) -> Result<(), String> {
        let message = json!({"jsonrpc": "2.0", "method": method});
        self.client.post(&message).await
    }

    async fn request(&mut self, method: &str, params: Value) -> Result<Value, String> {
        self.request_counting(method, params, "")
            .await
            .map(|(answer, _)| answer)
    }

    /// Sends a request and waits for its answer. Counts the notifications of one method on the way, and answers the
    /// server when it asks for a sample.
    async fn request_counting(
        &mut self,
        method: &str,
        params: Value,
        counted: &str,
    ) -> Result<(Value, usize), String> {
        let id = self.last_id;
        self.last_id += 1;
        self.client
            .post(&json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}))
            .await?;
        let mut count = 0;
        loop {
            let message = self.client.message().await?;
            match message.get("method").and_then(Value::as_str) {
                Some("sampling/createMessage") => {
                    let result = json!({"role": "assistant", "model": "demo", "content": {"type": "text", "text": "aye"}});
                    self.client
                        .post(&json!({"jsonrpc": "2.0", "id": message.get("id"), "result": result}))
                        .await?;
                }
                Some(method) if method == counted => count += 1,
                Some(_) => {}
                None if message.get("id") == Some(&json!(id)) => return Ok((message, count)),
                None => return Err(format!("an answer to nothing: {message}")),
            }
        }
    }
}
