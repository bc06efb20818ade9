//! One entry of an inbox: who it is from and which it is, in the clear, and the rest sealed.
//!
//! | bytes | what |
//! | --- | --- |
//! | 1 | what it is: 1 a request, 2 the answer to one, 3 that a request is withdrawn |
//! | 1 | the length of the next |
//! | … | the replica that it is from |
//! | 16 | the process that made the request, 16 random bytes |
//! | 8 | the request's number there |
//! | … | sealed: the request, or the answer, or nothing; bound to all of the above and to whose inbox it is for |
//!
//! Which connection a request is for is a secret, so it stands in the sealed part.

use super::window::Process;
use crate::store::ReplicaId;
use crate::store::seal::{Purpose, Sealer};

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Request = 1,
    Answer = 2,
    Withdrawal = 3,
}

impl Kind {
    fn purpose(self) -> Purpose {
        match self {
            Self::Request => Purpose::HandOver,
            Self::Answer => Purpose::Answer,
            Self::Withdrawal => Purpose::Withdrawal,
        }
    }
}

/// Which request an entry is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Which {
    pub(super) process: Process,
    pub(super) number: u64,
}

/// What an entry says in the clear.
#[derive(Debug)]
pub(super) struct Entry<'a> {
    pub(super) kind: Kind,
    pub(super) from: ReplicaId,
    pub(super) which: Which,
    sealed: &'a [u8],
}

/// Makes an entry for the inbox of `to`.
pub(super) fn write(
    sealer: &Sealer,
    kind: Kind,
    from: &ReplicaId,
    to: &ReplicaId,
    which: &Which,
    content: &[u8],
) -> Vec<u8> {
    let sealed = sealer.seal(kind.purpose(), &bound_to(from, to, which), content);
    let name = from.as_str().as_bytes();
    let mut entry = Vec::with_capacity(26 + name.len() + sealed.len());
    entry.push(kind as u8);
    entry.push(length(from));
    entry.extend_from_slice(name);
    entry.extend_from_slice(&which.process);
    entry.extend_from_slice(&which.number.to_be_bytes());
    entry.extend_from_slice(&sealed);
    entry
}

impl<'a> Entry<'a> {
    /// `None` for what is no entry.
    pub(super) fn read(entry: &'a [u8]) -> Option<Self> {
        let ([kind, length], rest) = entry.split_first_chunk()?;
        let kind = match kind {
            1 => Kind::Request,
            2 => Kind::Answer,
            3 => Kind::Withdrawal,
            _ => return None,
        };
        let (name, rest) = rest.split_at_checked((*length).into())?;
        let from = ReplicaId::parse(str::from_utf8(name).ok()?)?;
        let (process, rest) = rest.split_first_chunk()?;
        let (number, sealed) = rest.split_first_chunk()?;
        Some(Self {
            kind,
            from,
            which: Which {
                process: *process,
                number: u64::from_be_bytes(*number),
            },
            sealed,
        })
    }

    /// What it holds. `None` unless `from` has made all of it for the inbox of `to`.
    pub(super) fn open(&self, sealer: &Sealer, to: &ReplicaId) -> Option<Vec<u8>> {
        let bound_to = bound_to(&self.from, to, &self.which);
        sealer.open(self.kind.purpose(), &bound_to, self.sealed)
    }
}

fn bound_to(from: &ReplicaId, to: &ReplicaId, which: &Which) -> Vec<u8> {
    let mut bound = Vec::with_capacity(26 + from.as_str().len() + to.as_str().len());
    bound.push(length(from));
    bound.extend_from_slice(from.as_str().as_bytes());
    bound.push(length(to));
    bound.extend_from_slice(to.as_str().as_bytes());
    bound.extend_from_slice(&which.process);
    bound.extend_from_slice(&which.number.to_be_bytes());
    bound
}

/// Names are short: [`ReplicaId`] sees to that.
fn length(name: &ReplicaId) -> u8 {
    u8::try_from(name.as_str().len()).unwrap_or(u8::MAX)
}
