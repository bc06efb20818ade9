//! x
use crate::support::client::{Client, call};
use crate::support::ferry::Ferry;
use crate::support::upstream::Upstream;
use serde_json::json;

#[tokio::test]
async fn x() {
    let mut upstream = Upstream::with_sessions().await;
    let ferry = Ferry::start(upstream.url()).await;
    let mut client = Client::ready(ferry.address).await;
    client.send(&call(1, "tools/list")).await;
    let c = upstream.expect("POST").await;
    c.result(&json!({"tools": []})).await;
    println!("{}", client.text().await);
    client.leave();
    ferry.quiet().await;
    println!("{:#?}", upstream.log());
    ferry.stop().await;
}
