//! The real ferry in this process, on a free port.

use std::net::SocketAddr;
use std::sync::Arc;

use hyper::Uri;
use mcp_ferry::config::Config;
use mcp_ferry::metrics::{Counter, Metrics};
use mcp_ferry::server::{Bound, Shutdown};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::client::Client;
use super::clock::{Clock, within};

/// A running ferry. Every test ends with [`Self::stop`], which looks whether anything was left.
pub(crate) struct Ferry {
    pub(crate) address: SocketAddr,
    pub(crate) metrics: Arc<Metrics>,
    admin: Option<SocketAddr>,
    shutdown: Option<oneshot::Sender<()>>,
    served: JoinHandle<()>,
}

impl Ferry {
    /// Starts one with the default configuration.
    pub(crate) async fn start(upstream: Uri) -> Self {
        Self::with(upstream, |_| {}).await
    }

    /// Starts one with a changed configuration.
    pub(crate) async fn with(upstream: Uri, change: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config::for_upstream(upstream);
        config.listen = vec![([127, 0, 0, 1], 0).into()];
        change(&mut config);
        let bound = Bound::bind(config).await.expect("bind");
        let address = *bound.addresses().first().expect("an address");
        let metrics = bound.metrics();
        let admin = bound.admin_address();
        let (shutdown, shut) = oneshot::channel();
        let served = tokio::task::spawn(bound.serve(async {
            // An error means that the test was dropped: the same.
            let _ = shut.await;
            Shutdown::Person
        }));
        Self {
            address,
            metrics,
            admin,
            shutdown: Some(shutdown),
            served,
        }
    }

    /// The address of the admin listener, which this ferry must have.
    pub(crate) fn admin(&self) -> SocketAddr {
        self.admin.expect("an admin listener")
    }

    pub(crate) fn count(&self, counter: Counter) -> u64 {
        self.metrics.get(counter)
    }

    /// Connections whose farewell is not over.
    pub(crate) fn open_connections(&self) -> u64 {
        self.count(Counter::ConnectionsOpened) - self.count(Counter::ConnectionsClosed)
    }

    /// Waits until every connection is over, farewell included.
    pub(crate) async fn quiet(&self) {
        self.until("every connection to end", |ferry| {
            ferry.open_connections() == 0
        })
        .await;
    }

    /// Waits until `holds`.
    pub(crate) async fn until(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        within(what, async {
            while !holds(self) {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }

    /// Begins the shutdown.
    pub(crate) fn drain(&mut self) {
        if let Some(shutdown) = self.shutdown.take() {
            let _ = shutdown.send(());
        }
    }

    /// Waits for the end of a shutdown that was begun.
    pub(crate) async fn stopped(self) {
        within("the ferry to stop", self.served)
            .await
            .expect("no panic");
        let opened = self.metrics.get(Counter::ConnectionsOpened);
        let closed = self.metrics.get(Counter::ConnectionsClosed);
        assert_eq!(opened, closed, "connections opened and closed");
    }

    /// The client leaves, and when nothing of it is left the ferry stops.
    pub(crate) async fn stop_after(self, client: Client) {
        client.leave();
        self.quiet().await;
        self.stop().await;
    }

    /// The same where the clock stands still and the farewell takes time.
    pub(crate) async fn stop_after_a_while(self, client: Client, clock: &Clock) {
        client.leave();
        clock.pass_until("the farewell", self.quiet()).await;
        self.stop().await;
    }

    /// Stops it; nothing may be left. Calls that a test left in flight must have been dealt with before.
    pub(crate) async fn stop(mut self) {
        self.drain();
        self.stopped().await;
    }
}
