//! The admin listener: who gets what from it, what it counts, and that it stands when everything else goes.

mod access;
mod api;
mod metrics;
mod readiness;
mod rough;
mod traffic;

use mcp_ferry::config::{Admin, Config, Token};

use crate::support::ferry::Ferry;
use crate::support::http::{Response, exchange};
use crate::support::upstream::Upstream;

const TOKEN: &str = "0123456789abcdef0123456789abcdef";
const BEARER: (&str, &str) = ("Authorization", "Bearer 0123456789abcdef0123456789abcdef");

/// Everything that is served without the token.
const OPEN: [&str; 4] = ["/", "/healthz", "/readyz", "/metrics"];
/// What needs it. The stream has no end, and is looked at by itself.
const SECRET: [&str; 3] = ["/api/state", "/api/rows", "/api/records"];

fn with_admin(config: &mut Config) {
    config.admin = Some(Admin {
        listen: ([127, 0, 0, 1], 0).into(),
        allow_remote: false,
        token: Some(Token(TOKEN.to_owned())),
    });
}

/// A ferry with an admin listener.
async fn start(upstream: &Upstream) -> Ferry {
    Ferry::with(upstream.url(), with_admin).await
}

/// Asks the admin listener, without the token.
async fn get(ferry: &Ferry, path: &str, headers: &[(&str, &str)]) -> Response {
    exchange(ferry.admin(), "GET", path, headers, "").await
}

async fn metrics_of(ferry: &Ferry) -> String {
    let answer = get(ferry, "/metrics", &[]).await;
    assert_eq!(answer.status(), 200);
    answer.text().to_owned()
}
