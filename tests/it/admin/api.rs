//! What the page asks for: the state, the lists, the records, the live stream.

use serde_json::{Value, json};

use super::{BEARER, get, start};
use crate::support::client::{Client, call};
use crate::support::clock::within;
use crate::support::ferry::Ferry;
use crate::support::http::{Wire, exchange, request};
use crate::support::upstream::Upstream;

/// A viewer's stream, read event by event.
struct Viewer {
    wire: Wire,
    text: String,
}

impl Viewer {
    async fn open(ferry: &Ferry, target: &str) -> Self {
        let mut wire = Wire::connect(ferry.admin()).await;
        wire.write(&request("GET", target, &[BEARER], b"")).await;
        let head = within("a head", wire.head()).await.expect("a head");
        assert_eq!(head.status(), 200, "{head:?}");
        assert_eq!(head.header("content-type"), Some("text/event-stream"));
        assert_eq!(head.header("cache-control"), Some("no-store"));
        let text = String::new();
        Self { wire, text }
    }

    /// The next event: its name and data. `None` at the end of the stream.
    async fn next(&mut self) -> Option<(String, Value)> {
        loop {
            if let Some((event, rest)) = self.text.split_once("\n\n") {
                let (event, rest) = (event.to_owned(), rest.to_owned());
                self.text = rest;
                if event.starts_with(':') {
                    continue;
                }
                let (name, data) = event.split_once('\n').unwrap();
                let name = name.strip_prefix("event: ").unwrap().to_owned();
                let data = data.strip_prefix("data: ").unwrap();
                return Some((name, serde_json::from_str(data).unwrap()));
            }
            let chunk = within("a chunk", self.wire.chunk()).await.ok()??;
            self.text += std::str::from_utf8(&chunk).unwrap();
        }
    }

    /// The first event of this name that `holds`.
    async fn until(&mut self, name: &str, holds: impl Fn(&Value) -> bool) -> Value {
        loop {
            let (found, data) = self.next().await.expect("it is not over");
            if found == name && holds(&data) {
                return data;
            }
        }
    }
}

async fn json_of(ferry: &Ferry, path: &str) -> Value {
    let answer = get(ferry, path, &[BEARER]).await;
    assert_eq!(answer.status(), 200, "{answer:?}");
    assert_eq!(answer.header("content-type"), Some("application/json"));
    answer.json()
}

async fn records(ferry: &Ferry, query: &str) -> Vec<Value> {
    let answer = get(ferry, &format!("/api/records{query}"), &[BEARER]).await;
    assert_eq!(answer.header("content-type"), Some("application/jsonl"));
    let lines = answer.text().lines();
    lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[tokio::test]
async fn a_call_appears_live_in_the_lists_and_in_the_records() {
    let upstream = Upstream::echo().await;
    let ferry = start(&upstream).await;
    let mut viewer = Viewer::open(&ferry, "/api/live").await;
    let (name, hello) = viewer.next().await.expect("an event");
    assert_eq!((name.as_str(), &hello["seq"]), ("hello", &json!(0)));
    assert!(hello["now"].as_f64().unwrap() > 1.7e12);

    let mut client = Client::ready(ferry.address).await;
    let params = json!({"name": "echo", "arguments": {"text": "hello"}});
    client.request(1, "tools/call", params).await;
    client.message().await;
    let row = viewer
        .until("exchange", |row| {
            row["method"] == "tools/call" && row["outcome"] == "result"
        })
        .await;
    assert_eq!(
        (&row["name"], &row["connection"]),
        (&json!("echo"), &json!("c1"))
    );
    let exchange = row["exchange"].as_u64().unwrap();

    let rows = json_of(&ferry, "/api/rows").await;
    assert_eq!(
        rows["connections"][0]["client"],
        json!({"name": "old", "version": "1"})
    );
    let listed = rows["exchanges"].as_array().unwrap();
    assert!(listed.iter().any(|it| it["exchange"] == exchange));

    let all = records(&ferry, "").await;
    let own = records(&ferry, &format!("?exchange={exchange}")).await;
    assert!(
        own.len() >= 4 && own.len() < all.len(),
        "both legs, there and back: {own:?}"
    );
    assert!(
        own.iter()
            .all(|it| it["exchange"] == exchange && it["v"] == 1)
    );
    assert!(
        own.iter()
            .any(|it| it["body"]["params"]["arguments"]["text"] == "hello")
    );
    let seqs: Vec<_> = all.iter().map(|it| it["seq"].as_u64().unwrap()).collect();
    assert!(seqs.is_sorted());
    let after = records(&ferry, &format!("?connection=c1&after={}", seqs[1])).await;
    assert!(after.len() < all.len() && after[0]["seq"].as_u64() > Some(seqs[1]));
    assert!(records(&ferry, "?connection=c99").await.is_empty());

    let state = json_of(&ferry, "/api/state").await;
    assert_eq!(state["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(
        (&state["missed"], &state["bodies"]),
        (&json!(0), &json!(true))
    );
    assert!(state["stored"]["bytes"].as_u64() < state["stored"]["max_bytes"].as_u64());
    client.leave();
    ferry.quiet().await;
    ferry.stop().await;
}

#[tokio::test]
async fn live_records_carry_no_bodies_and_a_viewer_that_comes_back_gets_what_it_missed() {
    let upstream = Upstream::echo().await;
    let ferry = start(&upstream).await;
    let mut viewer = Viewer::open(&ferry, "/api/live").await;
    let mut client = Client::ready(ferry.address).await;
    let record = viewer
        .until("record", |it| it["message"]["method"] == "initialize")
        .await;
    for heavy in ["body", "text", "http", "headers"] {
        assert_eq!(record[heavy], Value::Null, "{record}");
    }
    drop(viewer);
    let seq = record["seq"].as_u64().unwrap();
    client.send(&call(1, "ping")).await;
    client.message().await;
    within("the ping to be recorded", async {
        while !records(&ferry, "")
            .await
            .iter()
            .any(|it| it["message"]["method"] == "ping")
        {}
    })
    .await;
    let mut again = Viewer::open(&ferry, &format!("/api/live?after={seq}")).await;
    let row = again.until("exchange", |row| row["method"] == "ping").await;
    assert_eq!(row["connection"], "c1");
    let missed = again
        .until("record", |it| it["message"]["method"] == "ping")
        .await;
    assert!(missed["seq"].as_u64() > Some(seq));
    client.leave();
    ferry.quiet().await;
    ferry.stop().await;
}

#[tokio::test]
async fn clearing_forgets_what_is_over_and_tells_the_viewers() {
    let upstream = Upstream::echo().await;
    let ferry = start(&upstream).await;
    let mut viewer = Viewer::open(&ferry, "/api/live").await;
    let client = Client::ready(ferry.address).await;
    viewer
        .until("exchange", |row| {
            row["method"] == "initialize" && row["outcome"] == "result"
        })
        .await;
    let cleared = exchange(ferry.admin(), "POST", "/api/clear", &[BEARER], "").await;
    assert_eq!(cleared.status(), 204);
    viewer.until("cleared", |_| true).await;
    let rows = json_of(&ferry, "/api/rows").await;
    assert_eq!(
        rows["connections"][0]["connection"], "c1",
        "what is open stays"
    );
    let over = |row: &Value| row["method"] == "initialize";
    assert!(
        !rows["exchanges"].as_array().unwrap().iter().any(over),
        "{rows}"
    );
    client.leave();
    ferry.quiet().await;
    ferry.stop().await;
}

#[tokio::test]
async fn sixteen_may_watch_and_their_streams_end_with_the_ferry() {
    let upstream = Upstream::echo().await;
    let ferry = start(&upstream).await;
    let mut viewers = Vec::new();
    for _ in 0..16 {
        let mut viewer = Viewer::open(&ferry, "/api/live").await;
        assert_eq!(viewer.next().await.expect("an event").0, "hello");
        viewers.push(viewer);
    }
    let metrics = super::metrics_of(&ferry).await;
    assert!(metrics.contains("\nmcp_ferry_tap_watchers 16"), "{metrics}");
    let refused = get(&ferry, "/api/live", &[BEARER]).await;
    assert_eq!(refused.status(), 503);
    assert!(
        refused.json()["error"]
            .as_str()
            .unwrap()
            .contains("pages are open")
    );
    viewers.pop();
    within("a place", async {
        while get(&ferry, "/metrics", &[])
            .await
            .text()
            .contains("tap_watchers 16")
        {}
    })
    .await;
    viewers.push(Viewer::open(&ferry, "/api/live").await);
    ferry.stop().await;
    for mut viewer in viewers {
        while viewer.next().await.is_some() {}
    }
}

#[tokio::test]
async fn what_the_ferry_refuses_has_a_row_with_its_connection_where_that_is_known() {
    let upstream = Upstream::echo().await;
    let ferry = start(&upstream).await;
    let mut viewer = Viewer::open(&ferry, "/api/live").await;
    let client = Client::ready(ferry.address).await;
    assert_eq!(client.post("no JSON").await.status(), 400);
    let refused = |row: &Value| row["outcome"] == "refused";
    let row = viewer.until("exchange", refused).await;
    assert_eq!(
        (&row["method"], &row["status"], &row["connection"]),
        (&json!("POST /messages"), &json!(400), &json!("c1"))
    );
    let own = records(&ferry, &format!("?exchange={}", row["exchange"])).await;
    assert_eq!((own.len(), &own[0]["kind"]), (1, &json!("refused")));
    let headers = [("Content-Type", "application/json")];
    let target = "/messages?sessionId=unknown";
    exchange(ferry.address, "POST", target, &headers, "{}").await;
    let row = viewer.until("exchange", refused).await;
    assert_eq!(
        (&row["status"], row.get("connection")),
        (&json!(404), None),
        "{row}"
    );
    ferry.stop_after(client).await;
}
