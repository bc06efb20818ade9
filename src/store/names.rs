//! What the id of a connection looks like to its client: the id alone, or, where replicas share keys, a sealed text that
//! also says whose connection it is. Any replica can read it without asking anybody, and nobody else can make one.

use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;

use super::seal::{OVERHEAD, Purpose, Sealer};
use super::{ConnectionId, Front, ReplicaId};

/// Characters that a sealed id can have: the longest name of a replica, in base64.
const LONGEST: usize = (OVERHEAD + ConnectionId::LENGTH + ReplicaId::LONGEST).div_ceil(3) * 4;

/// How ids are written and read.
#[derive(Debug)]
pub(super) enum Names {
    /// 64 hexadecimal digits, which say nothing.
    Plain,
    /// Sealed with the keys of all replicas.
    Sealed {
        /// With them.
        sealer: Arc<Sealer>,
        /// The name of this replica.
        own: ReplicaId,
    },
}

/// An id that was read.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Name {
    /// The replica whose connection it is; `None` for this one.
    pub(super) owner: Option<ReplicaId>,
    pub(super) id: ConnectionId,
}

impl Names {
    /// The id for the client that it belongs to, to be used on this front only.
    pub(super) fn write(&self, id: &ConnectionId, front: Front) -> String {
        match self {
            Self::Plain => id.reveal(),
            Self::Sealed { sealer, own } => {
                let plain = [id.0.as_slice(), own.as_str().as_bytes()].concat();
                BASE64_URL_SAFE_NO_PAD.encode(sealer.seal(Purpose::Id, bound_to(front), &plain))
            }
        }
    }

    /// Reads an id that a client of this front has sent. `None` when no replica of this deployment can have written it.
    pub(super) fn read(&self, text: &str, front: Front) -> Option<Name> {
        let Self::Sealed { sealer, own } = self else {
            let id = ConnectionId::parse(text)?;
            return Some(Name { owner: None, id });
        };
        if text.len() > LONGEST {
            return None;
        }
        let sealed = BASE64_URL_SAFE_NO_PAD.decode(text).ok()?;
        let plain = sealer.open(Purpose::Id, bound_to(front), &sealed)?;
        let (id, owner) = plain.split_first_chunk()?;
        let owner = ReplicaId::parse(str::from_utf8(owner).ok()?)?;
        Some(Name {
            owner: (owner != *own).then_some(owner),
            id: ConnectionId(*id),
        })
    }
}

/// An id is good for one front.
fn bound_to(front: Front) -> &'static [u8] {
    match front {
        Front::Stream => b"stream",
        Front::Session => b"session",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Key, Keys};

    fn names(key: u8, own: &str) -> Names {
        let keys = Keys {
            first: Key::from([key; 32]),
            second: None,
        };
        Names::Sealed {
            sealer: Arc::new(Sealer::new(&keys).expect("random")),
            own: ReplicaId::parse(own).expect("a name"),
        }
    }

    #[test]
    fn without_keys_an_id_is_written_as_it_is() {
        let id = ConnectionId::random().expect("random");
        for front in [Front::Stream, Front::Session] {
            let text = Names::Plain.write(&id, front);
            assert_eq!(text, id.reveal());
            let name = Names::Plain.read(&text, front).expect("an id");
            assert_eq!((name.owner, name.id), (None, id.clone()));
        }
        assert_eq!(Names::Plain.read("0", Front::Stream), None);
    }

    #[test]
    fn every_replica_reads_whose_an_id_is() {
        let longest = "x".repeat(64);
        let (a, b) = (names(1, "a"), names(1, &longest));
        let id = ConnectionId::random().expect("random");
        let (of_a, of_b) = (a.write(&id, Front::Stream), b.write(&id, Front::Stream));
        assert_eq!(of_b.len().div_ceil(4) * 4, LONGEST);
        let owner = |names: &Names, text: &str| {
            let name = names.read(text, Front::Stream).expect("an id");
            assert_eq!(name.id, id);
            name.owner.map(|owner| owner.to_string())
        };
        assert_eq!(owner(&a, &of_a), None);
        assert_eq!(owner(&b, &of_b), None);
        assert_eq!(owner(&b, &of_a).as_deref(), Some("a"));
        assert_eq!(owner(&a, &of_b), Some(longest));
        // The same id never looks the same, and can stand in a URL as it is.
        assert_ne!(a.write(&id, Front::Stream), of_a);
        let usual = |char: char| char.is_ascii_alphanumeric() || "-_".contains(char);
        assert!(of_a.chars().all(usual), "{of_a}");
    }

    #[test]
    fn an_id_of_another_front_or_deployment_or_changed_is_none() {
        let a = names(1, "a");
        let id = ConnectionId::random().expect("random");
        let text = a.write(&id, Front::Stream);
        assert!(a.read(&text, Front::Stream).is_some());
        assert_eq!(a.read(&text, Front::Session), None);
        assert_eq!(names(2, "a").read(&text, Front::Stream), None);
        assert_eq!(a.read(&id.reveal(), Front::Stream), None);
        assert_eq!(Names::Plain.read(&text, Front::Stream), None);
        for wrong in [
            String::new(),
            text.to_uppercase(),
            format!("{text}="),
            format!("{text}A"),
            "A".repeat(LONGEST + 1),
            "é".repeat(40),
        ] {
            assert_eq!(a.read(&wrong, Front::Stream), None, "{wrong}");
        }
        // Base64 has no second way to write the same bytes.
        let last = text.chars().last().expect("a character");
        let others = ('a'..='z')
            .chain('A'..='Z')
            .chain('0'..='9')
            .chain(['-', '_']);
        for other in others.filter(|other| *other != last) {
            let changed = format!("{}{other}", &text[..text.len() - 1]);
            assert_eq!(a.read(&changed, Front::Stream), None, "{other}");
        }
    }
}
