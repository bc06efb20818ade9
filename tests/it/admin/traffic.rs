//! Traffic and those who watch it: nobody who watches can hold it up.

use serde_json::json;

use super::{BEARER, metrics_of, start};
use crate::support::client::Client;
use crate::support::http::{Wire, request};
use crate::support::upstream::Upstream;

/// Calls that are made beside the viewer; with their texts a multiple of what may wait for it.
const CALLS: u64 = 600;

#[tokio::test]
async fn viewers_that_never_read_hold_up_no_call() {
    let upstream = Upstream::echo().await;
    let ferry = start(&upstream).await;
    let mut viewers = Vec::new();
    for _ in 0..4 {
        let mut viewer = Wire::connect(ferry.admin()).await;
        let watch = request("GET", "/api/live", &[BEARER], b"");
        viewer.write(&watch).await;
        viewer.head().await.expect("a head");
        viewers.push(viewer);
    }
    let mut client = Client::ready(ferry.address).await;
    let text = "x".repeat(8 * 1024);
    for id in 1..=CALLS {
        let params = json!({"name": "echo", "arguments": {"text": text}});
        client.request(id, "tools/call", params).await;
        let answer = client.message().await;
        assert_eq!(answer["id"], id, "each call has its answer, in its turn");
    }
    let text = metrics_of(&ferry).await;
    let calls =
        format!("mcp_ferry_requests_total{{method=\"tools_call\",outcome=\"result\"}} {CALLS}");
    assert!(text.contains(&calls), "{text}");
    drop(viewers);
    ferry.stop_after(client).await;
}
