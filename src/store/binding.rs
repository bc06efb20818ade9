//! Who may post on a connection: whoever knows its id, and comes with the credentials that it was opened with.
//!
//! The id is a secret, but it stands in URLs, and those get into logs of proxies. So a POST that comes with other
//! credentials is treated as one that names no connection at all. Credentials change, though: tokens are refreshed.
//! [`CredentialBinding`] says how far that is believed. Credentials themselves are not kept, only keyed fingerprints.

use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::config::CredentialBinding;

/// How long after the upstream's 401 a new credential is taken for the refreshed one, and how long the one before it
/// is still good, for requests that crossed it on their way.
const REFRESH: Duration = Duration::from_secs(120);

/// What a request says of who makes it.
#[derive(Debug)]
pub struct Claim<H> {
    /// A fingerprint of its credentials; `None` when it has none.
    pub fingerprint: Option<u64>,
    /// Reads a fingerprint of the credential's holder, where the credential names one. Asked only when needed.
    pub holder: H,
    /// Where it comes from.
    pub address: IpAddr,
}

#[derive(Clone, Copy, Debug)]
struct Bound {
    fingerprint: u64,
    holder: Option<u64>,
}

#[derive(Debug)]
struct State {
    bound: Option<Bound>,
    previous: Option<(u64, Instant)>,
    challenged: Option<Instant>,
}

/// The credentials of one connection.
#[derive(Debug)]
pub struct Binding {
    rule: CredentialBinding,
    address: IpAddr,
    state: Mutex<State>,
}

impl Binding {
    /// Binds a connection to the credentials of the GET that opens it. Without any it is bound to the first that come,
    /// because some clients can send none with their GET.
    pub fn new(rule: CredentialBinding, opened: Claim<impl FnOnce() -> Option<u64>>) -> Self {
        let bound = opened.fingerprint.map(|fingerprint| Bound {
            fingerprint,
            holder: (opened.holder)(),
        });
        Self {
            rule,
            address: opened.address,
            state: Mutex::new(State {
                bound,
                previous: None,
                challenged: None,
            }),
        }
    }

    /// Whether a POST may use this connection.
    pub fn admits(&self, posted: Claim<impl FnOnce() -> Option<u64>>) -> bool {
        if self.rule == CredentialBinding::Off {
            return true;
        }
        let mut state = self.state();
        let Some(bound) = state.bound else {
            state.bound = posted.fingerprint.map(|fingerprint| Bound {
                fingerprint,
                holder: (posted.holder)(),
            });
            return true;
        };
        let Some(fingerprint) = posted.fingerprint else {
            return false;
        };
        if fingerprint == bound.fingerprint {
            return true;
        }
        let now = Instant::now();
        let recent = |at: Instant| now < at + REFRESH;
        if matches!(state.previous, Some((previous, at)) if previous == fingerprint && recent(at)) {
            return true;
        }
        let holder = (posted.holder)();
        let known = holder.is_some() && holder == bound.holder;
        let refreshed = state.challenged.is_some_and(recent);
        let near = self.rule == CredentialBinding::Address && posted.address == self.address;
        if !(known || refreshed || near) {
            return false;
        }
        state.previous = Some((bound.fingerprint, now));
        state.challenged = None;
        state.bound = Some(Bound {
            fingerprint,
            holder,
        });
        true
    }

    /// The upstream refused the credential of a POST with 401: the client will come with another.
    pub fn challenged(&self) {
        self.state().challenged = Some(Instant::now());
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOME: [u8; 4] = [192, 0, 2, 1];
    const AWAY: [u8; 4] = [192, 0, 2, 2];

    fn claim(
        fingerprint: Option<u64>,
        holder: Option<u64>,
        address: [u8; 4],
    ) -> Claim<impl FnOnce() -> Option<u64>> {
        let address = address.into();
        Claim {
            fingerprint,
            holder: move || holder,
            address,
        }
    }

    fn bound(rule: CredentialBinding) -> Binding {
        Binding::new(rule, claim(Some(1), None, HOME))
    }

    #[tokio::test]
    async fn another_credential_or_none_is_not_admitted() {
        let strict = bound(CredentialBinding::Strict);
        assert!(strict.admits(claim(Some(1), None, AWAY)));
        assert!(!strict.admits(claim(Some(2), None, HOME)));
        assert!(!strict.admits(claim(None, None, HOME)));
        let address = bound(CredentialBinding::Address);
        assert!(!address.admits(claim(Some(2), None, AWAY)));
        assert!(!address.admits(claim(None, None, HOME)));
        assert!(address.admits(claim(Some(2), None, HOME)));
        let off = bound(CredentialBinding::Off);
        assert!(off.admits(claim(None, None, AWAY)));
    }

    #[tokio::test]
    async fn a_token_of_the_same_holder_is_admitted() {
        let binding = Binding::new(CredentialBinding::Strict, claim(Some(1), Some(7), HOME));
        assert!(binding.admits(claim(Some(2), Some(7), AWAY)));
        assert!(!binding.admits(claim(Some(3), Some(8), AWAY)));
        assert!(!binding.admits(claim(Some(3), None, AWAY)));
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_401_a_new_token_is_admitted_for_two_minutes_and_once() {
        let binding = bound(CredentialBinding::Strict);
        binding.challenged();
        tokio::time::advance(REFRESH).await;
        assert!(!binding.admits(claim(Some(2), None, HOME)), "too late");
        binding.challenged();
        assert!(binding.admits(claim(Some(2), None, HOME)));
        assert!(
            binding.admits(claim(Some(1), None, HOME)),
            "it was on its way"
        );
        assert!(
            !binding.admits(claim(Some(3), None, HOME)),
            "one 401, one refresh"
        );
        tokio::time::advance(REFRESH).await;
        assert!(
            !binding.admits(claim(Some(1), None, HOME)),
            "the old one has had its time"
        );
    }

    #[tokio::test]
    async fn without_a_credential_the_first_that_comes_binds() {
        let binding = Binding::new(CredentialBinding::Strict, claim(None, None, HOME));
        assert!(binding.admits(claim(None, None, AWAY)));
        assert!(binding.admits(claim(Some(1), None, AWAY)));
        assert!(!binding.admits(claim(Some(2), None, AWAY)));
        assert!(!binding.admits(claim(None, None, AWAY)));
    }
}
