//! The event ids of legacy streams: what a client carries from one to its next, sealed with the keys that replicas share.
//!
//! Without keys there are none. What a client sends back is a stranger's word until it opens, and is looked at no further
//! when it does not: the client is then one that carries nothing. Nothing here knows what is carried.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::proto::bridge::{Carried, MAX_CARRIED};
use crate::store::seal::{OVERHEAD, Purpose, Sealer};

/// Characters of the longest event id that the ferry makes.
const LONGEST: usize = (MAX_CARRIED + OVERHEAD).div_ceil(3) * 4;

/// It belongs to the deployment, not to a place in it: any replica may get it.
const BOUND_TO: &[u8] = b"";

/// The event id that has the client carry this.
pub(super) fn event_id(sealer: &Sealer, text: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(sealer.seal(Purpose::Carried, BOUND_TO, text))
}

/// What a client carries that names this as its last event id. `None` when it is none of ours, or not to be read.
#[must_use]
pub fn carried(sealer: &Sealer, last_event_id: &str) -> Option<Carried> {
    if last_event_id.len() > LONGEST {
        return None;
    }
    let sealed = URL_SAFE_NO_PAD.decode(last_event_id).ok()?;
    let text = sealer.open(Purpose::Carried, BOUND_TO, &sealed)?;
    Carried::parse(&text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Key, Keys};

    fn sealer(first: u8, second: Option<u8>) -> Sealer {
        let key = |byte| Key::from([byte; 32]);
        let (first, second) = (key(first), second.map(key));
        Sealer::new(&Keys { first, second }).expect("random")
    }

    #[test]
    fn a_replica_reads_what_another_one_gave_out_and_nothing_else() {
        let text = format!(
            r#"{{"v":1,"initialize":{{"x":"{}"}},"version":"2024-11-05"}}"#,
            "x".repeat(MAX_CARRIED - 52)
        );
        assert_eq!(text.len(), MAX_CARRIED);
        let wanted = Carried::parse(text.as_bytes());
        assert!(wanted.is_some());
        let id = event_id(&sealer(1, None), text.as_bytes());
        assert!(id.len() <= LONGEST && id.len() > LONGEST - 4);
        assert!(
            id.bytes()
                .all(|c| c.is_ascii_alphanumeric() || b"-_".contains(&c))
        );
        assert_eq!(carried(&sealer(1, None), &id), wanted);
        assert_eq!(carried(&sealer(2, Some(1)), &id), wanted);
        assert_eq!(carried(&sealer(2, None), &id), None);
        // Another form than this version reads, but sealed with its key.
        let later = event_id(&sealer(1, None), text.replacen(":1", ":2", 1).as_bytes());
        assert_eq!(carried(&sealer(1, None), &later), None);
        // What was sealed for something else, or is not ours at all.
        let other = sealer(1, None).seal(Purpose::Id, BOUND_TO, text.as_bytes());
        for wrong in [
            URL_SAFE_NO_PAD.encode(other).as_str(),
            &format!("{id}="),
            &format!("{id}AAAA"),
            &id[1..],
            &id[..id.len() - 1],
            "",
            "7",
            "ünlesbar",
        ] {
            assert_eq!(carried(&sealer(1, None), wrong), None);
        }
    }
}
