//! Sealing: what leaves the process and comes back, or goes to another replica, so that nobody on the way can read,
//! change or make one. No IO.
//!
//! | bytes | what |
//! | --- | --- |
//! | 1 | the version, 1 |
//! | 4 | which key, so that none is tried in vain |
//! | 16 | the salt of the process that sealed: random, drawn at its start |
//! | 8 | its counter |
//! | … | the content, encrypted with ChaCha20-Poly1305 (RFC 8439) |
//! | 16 | the tag |
//!
//! Each process seals each [`Purpose`] with a key of its own, made from the shared one with HKDF-SHA256 (RFC 5869) out of
//! the purpose and the process's salt. So the nonce can be a counter: a pair of key and nonce is never used twice, as long
//! as a process is not copied while it runs. What was sealed for one purpose does not open as another, and not elsewhere
//! than at what it was bound to.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use ring::aead::{self, Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hkdf::{HKDF_SHA256, KeyType, Prk, Salt};

use crate::config::{Key, Keys};

const VERSION: u8 = 1;
const KEY_ID: usize = 4;
const SALT: usize = 16;
const COUNTER: usize = 8;
const HEADER: usize = 1 + KEY_ID + SALT + COUNTER;
const TAG: usize = 16;

/// How many bytes longer than its content a sealed text is.
pub const OVERHEAD: usize = HEADER + TAG;

/// What something was sealed for; it opens for nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// The id of a connection, as its client knows it.
    Id,
    /// A request on its way to the owner of its connection.
    HandOver,
    /// What the owner answered.
    Answer,
    /// That the sender of a request has given up on it.
    Withdrawal,
    /// What time it is at a replica, in its heartbeat.
    Heartbeat,
    /// A known text, by which replicas see that they have the same keys.
    Canary,
    /// What a client carries from one connection to its next.
    Carried,
}

impl Purpose {
    const ALL: [Self; 7] = [
        Self::Id,
        Self::HandOver,
        Self::Answer,
        Self::Withdrawal,
        Self::Heartbeat,
        Self::Canary,
        Self::Carried,
    ];

    /// A part of what keys are made from: it never changes.
    fn info(self) -> &'static [u8] {
        match self {
            Self::Id => b"mcp-ferry 1 id",
            Self::HandOver => b"mcp-ferry 1 hand-over",
            Self::Answer => b"mcp-ferry 1 answer",
            Self::Withdrawal => b"mcp-ferry 1 withdrawal",
            Self::Heartbeat => b"mcp-ferry 1 heartbeat",
            Self::Canary => b"mcp-ferry 1 canary",
            Self::Carried => b"mcp-ferry 1 carried",
        }
    }
}

/// The length of a key's id, as HKDF takes it.
struct KeyIdLength;

impl KeyType for KeyIdLength {
    fn len(&self) -> usize {
        KEY_ID
    }
}

/// A shared key, ready for others to be made from it.
struct Root {
    id: [u8; KEY_ID],
    key: Prk,
}

impl Root {
    fn new(key: &Key) -> Option<Self> {
        let key = Salt::new(HKDF_SHA256, b"mcp-ferry").extract(key.bytes());
        let mut id = [0; KEY_ID];
        let info = [b"mcp-ferry 1 key id".as_slice()];
        key.expand(&info, KeyIdLength).ok()?.fill(&mut id).ok()?;
        Some(Self { id, key })
    }

    /// The key with which the process of this salt seals for a purpose.
    fn derived(&self, purpose: Purpose, salt: &[u8; SALT]) -> Option<LessSafeKey> {
        let info = [purpose.info(), salt.as_slice()];
        let made = self.key.expand(&info, &CHACHA20_POLY1305).ok()?;
        Some(LessSafeKey::new(UnboundKey::from(made)))
    }
}

/// Seals and opens with the keys that all replicas share.
pub struct Sealer {
    /// The first seals.
    roots: Vec<Root>,
    salt: [u8; SALT],
    /// This process's keys, in the order of [`Purpose::ALL`].
    own: Vec<LessSafeKey>,
    counter: AtomicU64,
}

impl Sealer {
    /// A sealer of this process, with a salt that is drawn now.
    ///
    /// # Errors
    /// When the system has no randomness to give.
    pub fn new(keys: &Keys) -> Result<Self, getrandom::Error> {
        let mut salt = [0; SALT];
        getrandom::fill(&mut salt)?;
        let all = std::iter::once(&keys.first).chain(&keys.second);
        let roots: Vec<Root> = all.filter_map(Root::new).collect();
        let first = roots.first();
        let own = first.map_or_else(Vec::new, |first| {
            let derived = |purpose| first.derived(purpose, &salt);
            Purpose::ALL.into_iter().filter_map(derived).collect()
        });
        Ok(Self {
            roots,
            salt,
            own,
            counter: AtomicU64::new(0),
        })
    }

    /// Seals `plain`. It opens only for the same purpose and with the same `bound_to`, which does not travel with it.
    pub fn seal(&self, purpose: Purpose, bound_to: &[u8], plain: &[u8]) -> Vec<u8> {
        let counter = self.counter.fetch_add(1, Ordering::Relaxed).to_be_bytes();
        let mut sealed = Vec::with_capacity(OVERHEAD + plain.len());
        sealed.push(VERSION);
        sealed.extend_from_slice(self.roots.first().map_or(&[0; KEY_ID], |root| &root.id));
        sealed.extend_from_slice(&self.salt);
        sealed.extend_from_slice(&counter);
        let mut content = plain.to_vec();
        let done = self.own.get(purpose as usize).and_then(|key| {
            key.seal_in_place_append_tag(nonce(counter), Aad::from(bound_to), &mut content)
                .ok()
        });
        // It fails only for what no memory holds (256 GiB); then nothing of it leaves, and what does leave does not open.
        if done.is_some() {
            sealed.extend_from_slice(&content);
        }
        sealed
    }

    /// Opens what any replica with one of these keys has sealed for this purpose and bound to `bound_to`. `None` for
    /// everything else, without a hint why.
    pub fn open(&self, purpose: Purpose, bound_to: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
        let (version, rest) = sealed.split_first()?;
        let (id, rest) = rest.split_first_chunk::<KEY_ID>()?;
        let (salt, rest) = rest.split_first_chunk::<SALT>()?;
        let (counter, content) = rest.split_first_chunk::<COUNTER>()?;
        if *version != VERSION || content.len() < TAG {
            return None;
        }
        let own = self.roots.first().is_some_and(|first| first.id == *id) && *salt == self.salt;
        let own = own.then(|| self.own.get(purpose as usize)).flatten();
        if let Some(key) = own {
            return open(key, *counter, bound_to, content);
        }
        // Made anew each time: that takes about as long as opening does, and leaves no table for others to fill.
        let known = self.roots.iter().filter(|root| root.id == *id);
        known
            .filter_map(|root| root.derived(purpose, salt))
            .find_map(|key| open(&key, *counter, bound_to, content))
    }
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sealer(…)")
    }
}

fn open(
    key: &LessSafeKey,
    counter: [u8; COUNTER],
    bound_to: &[u8],
    content: &[u8],
) -> Option<Vec<u8>> {
    let mut content = content.to_vec();
    let opened = key.open_in_place(nonce(counter), Aad::from(bound_to), &mut content);
    let length = opened.ok()?.len();
    content.truncate(length);
    Some(content)
}

fn nonce(counter: [u8; COUNTER]) -> Nonce {
    let mut bytes = [0; NONCE_LEN];
    let (_, last) = bytes.split_at_mut(NONCE_LEN - COUNTER);
    last.copy_from_slice(&counter);
    Nonce::assume_unique_for_key(bytes)
}

/// The lengths that the format was laid out for.
const _: () = assert!(aead::MAX_TAG_LEN == TAG && NONCE_LEN >= COUNTER);

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn key(byte: u8) -> Key {
        Key::from([byte; 32])
    }

    fn sealer(first: u8, second: Option<u8>) -> Sealer {
        let keys = Keys {
            first: key(first),
            second: second.map(key),
        };
        Sealer::new(&keys).expect("random")
    }

    const PLAIN: &[u8] = b"canary: a secret that is long enough to be looked for";

    #[test]
    fn what_one_replica_seals_another_opens_and_nobody_reads() {
        let (one, other) = (sealer(1, None), sealer(1, None));
        let sealed = one.seal(Purpose::Id, b"here", PLAIN);
        assert_eq!(sealed.len(), PLAIN.len() + OVERHEAD);
        for sealer in [&one, &other] {
            let opened = sealer.open(Purpose::Id, b"here", &sealed);
            assert_eq!(opened.as_deref(), Some(PLAIN));
        }
        for four in PLAIN.windows(4) {
            assert!(!sealed.windows(4).any(|part| part == four));
        }
        assert_eq!(format!("{one:?}"), "Sealer(…)");
        // Nothing at all can be sealed too.
        let empty = one.seal(Purpose::Canary, b"", b"");
        let opened = other.open(Purpose::Canary, b"", &empty);
        assert_eq!(opened.as_deref(), Some([].as_slice()));
    }

    #[test]
    fn it_opens_for_no_other_purpose_place_or_key() {
        let (one, other) = (sealer(1, None), sealer(1, None));
        for purpose in Purpose::ALL {
            let sealed = one.seal(purpose, b"here", PLAIN);
            for sealer in [&one, &other] {
                for tried in Purpose::ALL {
                    let opened = sealer.open(tried, b"here", &sealed);
                    assert_eq!(opened.is_some(), tried == purpose, "{purpose:?} {tried:?}");
                }
                assert_eq!(sealer.open(purpose, b"there", &sealed), None);
                assert_eq!(sealer.open(purpose, b"", &sealed), None);
            }
            assert_eq!(sealer(2, Some(3)).open(purpose, b"here", &sealed), None);
        }
    }

    #[test]
    fn whatever_is_changed_cut_or_added_does_not_open() {
        let (one, other) = (sealer(1, None), sealer(1, Some(2)));
        let sealed = one.seal(Purpose::Id, b"here", PLAIN);
        for sealer in [&one, &other] {
            let opens = |bytes: &[u8]| sealer.open(Purpose::Id, b"here", bytes).is_some();
            assert!(opens(&sealed));
            for bit in 0..sealed.len() * 8 {
                let mut changed = sealed.clone();
                changed[bit / 8] ^= 1 << (bit % 8);
                assert!(!opens(&changed), "bit {bit}");
            }
            for length in 0..sealed.len() {
                assert!(!opens(&sealed[..length]), "the first {length} bytes");
                assert!(!opens(&sealed[sealed.len() - length..]), "the last");
            }
            assert!(!opens(&[&sealed, [0].as_slice()].concat()));
        }
    }

    #[test]
    fn while_keys_are_rotated_both_open_and_the_first_seals() {
        // Old, then new beside it, then new first, then new alone.
        let steps = [
            sealer(1, None),
            sealer(1, Some(2)),
            sealer(2, Some(1)),
            sealer(2, None),
        ];
        for (at, from) in steps.iter().enumerate() {
            let sealed = from.seal(Purpose::Id, b"", PLAIN);
            for (step, to) in steps.iter().enumerate() {
                let opens = to.open(Purpose::Id, b"", &sealed).is_some();
                let same = (at < 2 && step < 3) || (at >= 2 && step > 0);
                assert_eq!(opens, same, "{at} to {step}");
            }
        }
    }

    #[test]
    fn no_nonce_is_used_twice_and_no_two_processes_share_a_salt() {
        let sealer_of_one = sealer(1, None);
        let mut seen = HashSet::new();
        for count in 0..100_000_usize {
            let purpose = Purpose::ALL[count % Purpose::ALL.len()];
            let sealed = sealer_of_one.seal(purpose, b"", b"");
            assert!(seen.insert(sealed[1 + KEY_ID..HEADER].to_vec()));
        }
        let salts: HashSet<_> = (0..100).map(|_| sealer(1, None).salt).collect();
        assert_eq!(salts.len(), 100);
    }

    #[test]
    fn the_format_is_the_one_that_was_given_out() {
        // Made by another implementation of HKDF and ChaCha20-Poly1305 from the description above. Replicas of several
        // versions of this program work side by side while they are replaced, so that this must go on opening.
        let sealed: Vec<u8> = GIVEN_OUT
            .as_bytes()
            .chunks_exact(2)
            .map(|pair| u8::from_str_radix(str::from_utf8(pair).expect("text"), 16).expect("hex"))
            .collect();
        let opened = sealer(1, None).open(Purpose::Carried, b"place", &sealed);
        assert_eq!(opened.as_deref(), Some(b"text".as_slice()));
    }

    const GIVEN_OUT: &str = "01f7929c6a000102030405060708090a0b0c0d0e0f0000000000000007\
        6c4a05cd9b94f087e38ca51b61ac48afd8e80679";
}
