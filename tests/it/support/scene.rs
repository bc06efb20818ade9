//! How most tests begin, and what they look at on the way: all three parties, with nothing special about any of them.

use serde_json::json;

use super::client::{Client, call};
use super::ferry::Ferry;
use super::upstream::Upstream;

/// A server with sessions, a ferry of the default configuration in front of it, and a client after its handshake.
pub(crate) async fn scene() -> (Upstream, Ferry, Client) {
    let upstream = Upstream::with_sessions().await;
    let ferry = Ferry::start(upstream.url()).await;
    let client = Client::ready(ferry.address).await;
    (upstream, ferry, client)
}

/// One call and its answer: whatever was sent before has been seen by then.
pub(crate) async fn works(client: &mut Client, upstream: &mut Upstream) {
    client.send(&call(1000, "tools/list")).await;
    upstream.expect("POST").await.result(&json!({})).await;
    let answer = json!({"jsonrpc": "2.0", "id": 1000, "result": {}});
    assert_eq!(client.message().await, answer);
}
