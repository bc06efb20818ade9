//! What the operator says of several replicas: the flags, and the rules between them.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;

use super::Refused;
use super::keys::{Keys, hexadecimal, key_file};
use super::parse::Names;
use super::store::{Meeting, RedisForm, prefix, store};
use super::values::duration;

/// What holds where the operator says nothing.
const STORE_PREFIX: &str = "mcp-ferry";
const STORE_TIMEOUT: &str = "500ms";

#[derive(Debug, Args)]
#[command(next_help_heading = "Replicas")]
pub(super) struct ReplicaFlags {
    /// Keys that all replicas share, for connection ids that any of them can read: one a line, 32 bytes in base64 or hex
    ///
    /// openssl rand -base64 32 makes one. Two during rotation: the first seals, both open. The file must not be open to
    /// other users of the machine.
    #[arg(long, value_name = "FILE", value_parser = key_file)]
    key_file: Option<Keys>,
    /// The name of this replica, which no other may have at the same time; random at every start by default
    ///
    /// 1 to 64 letters, digits, dots, underscores and dashes.
    #[arg(long, value_name = "NAME", value_parser = replica_id)]
    replica_id: Option<ReplicaId>,
    /// Where replicas meet: memory (nowhere), redis://, rediss://, redis+sentinel:// or redis+cluster://
    ///
    /// With a Redis, or a Valkey, a POST may reach any replica: it is handed to the one that has the client's stream. Nothing
    /// is kept there, and what passes is sealed with --key-file, which it needs. redis://USER:PASSWORD@HOST:PORT/NUMBER is
    /// the whole form; rediss:// is TLS; redis+sentinel://HOST:PORT,HOST:PORT/MASTER; redis+cluster://HOST:PORT,HOST:PORT. A
    /// password is better kept in the environment, where other users of the machine cannot see it.
    #[arg(long, value_name = "WHERE", default_value = "memory", value_parser = store)]
    store: Meeting,
    /// What the names of all keys in the Redis begin with, behind a brace; all replicas have the same
    #[arg(long, value_name = "TEXT", default_value = STORE_PREFIX, value_parser = prefix)]
    store_prefix: String,
    /// How long the Redis may take to have what is handed over, before its client is told to come back (50ms to 10s)
    ///
    /// A client whose POST is refused may give up its connection, so a Redis that is far away, or on a busy machine, wants
    /// more than the default.
    #[arg(long, value_name = "DURATION", default_value = STORE_TIMEOUT, value_parser = duration("50ms", "10s"))]
    store_timeout: Duration,
    /// Reach a Redis on another machine without TLS
    ///
    /// What passes is sealed all the same; the password is not, and whoever has it can stop what is handed over. Sentinels
    /// and clusters count as another machine wherever they are: they name servers that may be anywhere.
    #[arg(long)]
    store_allow_plaintext: bool,
}

/// What makes a process one of several replicas.
#[derive(Clone, Debug)]
pub struct Replicas {
    /// The keys that all of them share; without any, connection ids say nothing.
    pub keys: Option<Keys>,
    /// This one's name; without one it takes a random name. Only with keys.
    pub id: Option<ReplicaId>,
    /// Where they meet. Only with keys is it anywhere.
    pub store: Meeting,
    /// What the names of all keys there begin with.
    pub store_prefix: String,
    /// How long what is handed over may take to get there, from 50 ms to 10 s.
    pub store_timeout: Duration,
}

impl Default for Replicas {
    fn default() -> Self {
        Self {
            keys: None,
            id: None,
            store: Meeting::default(),
            store_prefix: STORE_PREFIX.to_owned(),
            store_timeout: duration(STORE_TIMEOUT, STORE_TIMEOUT)(STORE_TIMEOUT)
                .expect("the default is written in the flag's own syntax"),
        }
    }
}

/// The name of one replica: 1 to 64 of the letters, digits, and `.`, `_`, `-`. No secret, and
/// cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ReplicaId(Arc<str>);

impl ReplicaId {
    /// The most characters of a name.
    pub const LONGEST: usize = 64;

    /// Reads a name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let usual = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        let fits = (1..=Self::LONGEST).contains(&text.len()) && text.bytes().all(usual);
        fits.then(|| Self(text.into()))
    }

    /// A name that nobody else has: 128 random bits.
    ///
    /// # Errors
    /// When the system has no randomness to give.
    pub fn random() -> Result<Self, getrandom::Error> {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes)?;
        Ok(Self(hexadecimal(&bytes).into()))
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ReplicaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ReplicaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ReplicaId({})", self.0)
    }
}

pub(super) fn replicas(flags: ReplicaFlags, names: &Names) -> Result<Replicas, Refused> {
    let ReplicaFlags {
        key_file,
        replica_id,
        store,
        store_prefix,
        store_timeout,
        store_allow_plaintext,
    } = flags;
    if let Meeting::Redis(address) = &store {
        let flag = names.of("--store");
        if key_file.is_none() {
            let missing = format!("{flag}: there is no --key-file to seal with what passes there");
            return Err(Refused::new(missing)
                .hint("replicas share a key file; openssl rand -base64 32 makes a key"));
        }
        if let Some(host) = address.exposed().filter(|_| !store_allow_plaintext) {
            let named = match address.form {
                RedisForm::Server => "",
                RedisForm::Sentinel(_) | RedisForm::Cluster => ", or names servers that may be,",
            };
            let open = format!(
                "{flag}: '{host}' is on another machine{named} and the connection not encrypted"
            );
            return Err(Refused::new(open).hint("use rediss://, or --store-allow-plaintext"));
        }
    }
    if replica_id.is_some() && key_file.is_none() {
        let flag = names.of("--replica-id");
        return Err(
            Refused::new(format!("{flag}: there is no --key-file to use it with"))
                .hint("replicas share a key file; openssl rand -base64 32 makes a key"),
        );
    }
    Ok(Replicas {
        keys: key_file,
        id: replica_id,
        store,
        store_prefix,
        store_timeout,
    })
}

fn replica_id(text: &str) -> Result<ReplicaId, String> {
    let text = text.trim();
    ReplicaId::parse(text).ok_or_else(|| {
        format!(
            "{} is no name: 1 to {} letters, digits, dots, underscores and dashes",
            super::values::quoted(text),
            ReplicaId::LONGEST
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_short_and_plain() {
        let random = ReplicaId::random().expect("random");
        assert_eq!(random.as_str().len(), 32);
        assert_ne!(random, ReplicaId::random().expect("random"));
        assert_eq!(ReplicaId::parse(random.as_str()), Some(random));
        for good in ["a", "web-0.ferry_1", &"x".repeat(64)] {
            assert!(ReplicaId::parse(good).is_some(), "{good}");
        }
        for bad in ["", "a b", "a/b", "{a}", "é", "a:b", &"x".repeat(65)] {
            assert_eq!(ReplicaId::parse(bad), None, "{bad}");
        }
    }
}
