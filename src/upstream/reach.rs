//! Whether the upstream can be reached, for those who ask without having a request for it.
//!
//! Traffic answers that by itself: an upstream that was heard within [`RECENT`] is there, and one before which the breaker
//! is open is not. Otherwise a connection is made and closed again, nothing sent; its finding counts like any other
//! attempt's, and holds for [`HOLDS`], so that whoever asks how often, the upstream gets one such connection in that time.

use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::Instant;

use super::Upstream;

/// How long ago the upstream may have been heard.
const RECENT: Duration = Duration::from_secs(10);
/// How long a finding holds.
const HOLDS: Duration = Duration::from_secs(5);
/// The longest that an attempt takes; less, if `--connect-timeout` is.
const LIMIT: Duration = Duration::from_secs(2);

/// The last attempt, and what it found. Whoever asks meanwhile waits for it.
#[derive(Debug, Default)]
pub(super) struct Looked(tokio::sync::Mutex<Option<(Instant, Result<(), String>)>>);

impl Upstream {
    /// Whether it can be reached.
    ///
    /// # Errors
    /// Why not.
    pub async fn reach(&self) -> Result<(), String> {
        if let Some(why) = self.breaker.is_open() {
            return Err(why);
        }
        if self.breaker.heard_within(RECENT) {
            return Ok(());
        }
        let mut looked = self.looked.0.lock().await;
        if let Some((at, found)) = &*looked
            && *at + HOLDS > Instant::now()
        {
            return found.clone();
        }
        let found = self.look().await;
        match &found {
            Ok(()) => self.breaker.succeeded(),
            Err(why) => self.breaker.failed(why),
        }
        *looked = Some((Instant::now(), found.clone()));
        found
    }

    /// Whether the last attempt to reach it went well. `None` before the first.
    #[must_use]
    pub fn is_up(&self) -> Option<bool> {
        self.breaker.is_up()
    }

    async fn look(&self) -> Result<(), String> {
        let uri = self.endpoint();
        let host = uri.host().unwrap_or_default();
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let usual = match uri.scheme_str() {
            Some("https") => 443,
            _ => 80,
        };
        let limit = LIMIT.min(self.connect_timeout);
        let connecting = TcpStream::connect((host, uri.port_u16().unwrap_or(usual)));
        match tokio::time::timeout(limit, connecting).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(super::root_cause(&error)),
            Err(_) => Err(format!("no connection within {limit:?}")),
        }
    }
}
