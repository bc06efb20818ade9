//! F27: a task panics. Whatever the defect is, it is that connection's alone.
//!
//! The panics are planted where nothing in the code has to know of it: in the log. A subscriber of the test's own
//! panics at one line, which is in the middle of the task that writes it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::json;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

use crate::support::client::{Client, Item, call, post};
use crate::support::clock::{Clock, within};
use crate::support::ferry::Ferry;
use crate::support::scene::works;
use crate::support::upstream::{Answer, Upstream};

/// Panics at a log line with this text while it is armed, and then never again.
struct Mine {
    text: &'static str,
    armed: Arc<AtomicBool>,
}

impl Subscriber for Mine {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("mcp_ferry")
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut said = Said::default();
        event.record(&mut said);
        if said.0.contains(self.text) && self.armed.swap(false, Ordering::Relaxed) {
            panic!("planted at {:?}", self.text);
        }
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// The message of an event.
#[derive(Default)]
struct Said(String);

impl Visit for Said {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        if field.name() == "message" {
            self.0 = format!("{value:?}");
        }
    }
}

/// A panic that waits for its line, in tasks of this thread alone.
fn plant(text: &'static str) -> (Arc<AtomicBool>, tracing::subscriber::DefaultGuard) {
    let armed = Arc::new(AtomicBool::new(false));
    let mine = Mine {
        text,
        armed: Arc::clone(&armed),
    };
    (armed, tracing::subscriber::set_default(mine))
}

/// The stream must end, cleanly or not, and the connection's id with it.
async fn is_over(mut client: Client) {
    let end = async {
        loop {
            match client.try_next().await {
                Ok(Item::Message(_) | Item::KeepAlive) => {}
                Ok(Item::End) | Err(_) => return,
                Ok(other) => panic!("{other:?}"),
            }
        }
    };
    within("the end of the stream", end).await;
    let late = call(9, "ping").to_string();
    let refused = post(client.address, &client.endpoint, &[], late).await;
    assert_eq!(refused.status(), 404);
}

/// Where a connection's task writes a line, and how it is brought there with two calls in flight.
#[tokio::test]
async fn f27_a_panic_in_a_connections_task_ends_that_connection_alone() {
    for line in ["the upstream refused", "an upstream exchange failed"] {
        let (armed, _planted) = plant(line);
        let mut upstream = Upstream::with_sessions().await;
        let ferry = Ferry::start(upstream.url()).await;
        let mut neighbour = Client::ready(ferry.address).await;
        let client = Client::ready(ferry.address).await;
        for id in 1..=2 {
            client.send(&call(id, "tools/call")).await;
        }
        let (first, second) = (upstream.expect("POST").await, upstream.expect("POST").await);
        armed.store(true, Ordering::Relaxed);
        match line {
            "the upstream refused" => first.answer(Answer::new(500, &[], "")).await,
            _ => first.reset(),
        }
        is_over(client).await;
        assert!(!armed.load(Ordering::Relaxed), "nothing panicked");
        // What it had in flight is dropped upstream, so that nobody works for nobody.
        second.abandoned().await;
        works(&mut neighbour, &mut upstream).await;
        let mut later = Client::ready(ferry.address).await;
        works(&mut later, &mut upstream).await;
        drop((neighbour, later));
        ferry.quiet().await;
        ferry.stop().await;
    }
}

#[tokio::test]
async fn f27_a_panic_that_closes_a_stalled_client_is_no_more_than_its_end() {
    let (armed, _planted) = plant("the client has not read");
    let mut upstream = Upstream::with_sessions().await;
    let ferry = Ferry::start(upstream.url()).await;
    let clock = Clock::stop();
    let mut neighbour = Client::ready(ferry.address).await;
    let client = Client::ready(ferry.address).await;
    client.send(&call(1, "tools/call")).await;
    let result = json!({"text": "x".repeat(24 << 20)});
    upstream.expect("POST").await.result(&result).await;
    works(&mut neighbour, &mut upstream).await;
    armed.store(true, Ordering::Relaxed);
    for _ in 0..46 {
        clock.advance(Duration::from_secs(1)).await;
    }
    ferry
        .until("one connection", |ferry| ferry.open_connections() == 1)
        .await;
    assert!(!armed.load(Ordering::Relaxed), "nothing panicked");
    drop(client);
    works(&mut neighbour, &mut upstream).await;
    neighbour.leave();
    ferry.quiet().await;
    ferry.stop().await;
}
