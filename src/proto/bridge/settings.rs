//! What a bridge needs to know beforehand: the operator's limits and wishes, and what others have learnt of the upstream.

use std::time::Duration;

use crate::proto::era::Era;

/// What a bridge needs to know beforehand.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Requests in flight at once; one more gets an error.
    pub max_in_flight: usize,
    /// How long one request may take, all in all.
    pub request_timeout: Duration,
    /// How long the upstream may send nothing in the exchange of a request.
    pub request_idle_timeout: Duration,
    /// How long a POST is held for the upstream's status while its credential is unproven.
    pub hold: Duration,
    /// The same for `initialize`.
    pub hold_initialize: Duration,
    /// Whether POSTs whose credential is proven are held too. For a front whose answers wait for the upstream anyway: a
    /// credential that has expired becomes an HTTP status there at once.
    pub hold_proven: bool,
    /// How long a handshake of the ferry's own may take, and how long `notifications/initialized` may hold up others.
    pub handshake_timeout: Duration,
    /// How long the farewell to the upstream may take, once the client is gone.
    pub leave_timeout: Duration,
    /// The revision named on the client's GET, a hint for a handshake of the ferry's own.
    pub version_hint: Option<Box<str>>,
    /// What the upstream is taken to speak until it shows something else.
    pub era: Era,
    /// Whether that is the operator's word, to be held to whatever the upstream shows.
    pub era_fixed: bool,
    /// Whether a stream is kept open on which the upstream tells of changes.
    pub listen: bool,
    /// Whether content that the client's revision does not know becomes text.
    pub downgrade_content: bool,
    /// Whether the client's stream can give it something to carry to its next one.
    pub carry: bool,
    /// Seed of the jitter on waiting times.
    pub seed: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            max_in_flight: 128,
            request_timeout: Duration::from_secs(3600),
            request_idle_timeout: Duration::from_secs(900),
            hold: Duration::from_secs(1),
            hold_initialize: Duration::from_secs(3),
            hold_proven: false,
            handshake_timeout: Duration::from_secs(30),
            leave_timeout: Duration::from_secs(5),
            version_hint: None,
            era: Era::Handshake,
            era_fixed: false,
            listen: true,
            downgrade_content: false,
            carry: false,
            seed: 0,
        }
    }
}
