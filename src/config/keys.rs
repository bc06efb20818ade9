//! The keys that replicas share: read once at start, from a file that nobody else can read. The keys never appear in a
//! complaint, a log line or a `Debug` text.

use std::fmt;
use std::fs::{File, Metadata};
use std::io::Read as _;
use std::path::Path;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use super::values::quoted;

/// Bytes that a key has.
const LENGTH: usize = 32;
/// Keys that a file may hold: two while they are rotated.
const MOST: usize = 2;
/// Bytes of a key file that are read; a larger file is something else.
const LARGEST: u64 = 4096;

const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// A secret of 256 bits, which is not shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Key([u8; LENGTH]);

impl Key {
    /// Its bytes, for what is made of them.
    #[must_use]
    pub fn bytes(&self) -> &[u8; LENGTH] {
        &self.0
    }
}

impl From<[u8; LENGTH]> for Key {
    fn from(bytes: [u8; LENGTH]) -> Self {
        Self(bytes)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(…)")
    }
}

/// The keys of a deployment: every replica has the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keys {
    /// Seals, and opens.
    pub first: Key,
    /// Opens besides, while keys are rotated.
    pub second: Option<Key>,
}

/// Reads the keys of `--key-file`. What is wrong with the content is said first: who may read the file is a question
/// only once it holds keys.
pub(super) fn key_file(text: &str) -> Result<Keys, String> {
    let say = |why: String| format!("{} {why}", quoted(text));
    let unread = |error| say(format!("cannot be read: {error}"));
    let file = File::open(Path::new(text)).map_err(unread)?;
    // Asked of what was opened, not of what has the name by now.
    let metadata = file.metadata().map_err(unread)?;
    let mut content = Vec::new();
    file.take(LARGEST + 1)
        .read_to_end(&mut content)
        .map_err(unread)?;
    if content.len() as u64 > LARGEST {
        return Err(say(format!(
            "is larger than {LARGEST} bytes: it is no key file"
        )));
    }
    let content = String::from_utf8(content).map_err(|_| say("is not text".to_owned()))?;
    let keys = parse(&content).map_err(say)?;
    check_access(&metadata).map_err(say)?;
    Ok(keys)
}

/// A key a line; blank lines, and those that begin with `#`, are skipped.
fn parse(content: &str) -> Result<Keys, String> {
    let lines = content.lines().map(str::trim).enumerate();
    let mut keys = lines
        .filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
        .map(|(index, line)| {
            let wrong = || {
                let line = index + 1;
                format!("has no key in line {line}: a key is {LENGTH} bytes in base64 or hex")
            };
            key(line).ok_or_else(wrong)
        });
    let none = || "holds no key; openssl rand -base64 32 makes one".to_owned();
    let first = keys.next().ok_or_else(none)??;
    let second = keys.next().transpose()?;
    if keys.next().is_some() {
        return Err(format!(
            "holds more than {MOST} keys: the first seals, the other opens what was sealed before"
        ));
    }
    if second.as_ref() == Some(&first) {
        return Err("holds the same key twice".to_owned());
    }
    Ok(Keys { first, second })
}

fn key(line: &str) -> Option<Key> {
    if line.len() == 2 * LENGTH {
        return hex(line).map(Key);
    }
    let bytes = BASE64.decode(line).ok()?;
    bytes.try_into().ok().map(Key)
}

/// Bytes in hexadecimal, in small letters.
pub(crate) fn hexadecimal(bytes: &[u8]) -> String {
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 0xf]);
    digits
        .filter_map(|digit| char::from_digit(digit.into(), 16))
        .collect()
}

/// Exactly so many bytes in hexadecimal, in capitals or not.
pub(crate) fn hex<const LENGTH: usize>(text: &str) -> Option<[u8; LENGTH]> {
    if text.len() != 2 * LENGTH {
        return None;
    }
    let mut bytes = [0; LENGTH];
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        *byte = pair.iter().try_fold(0, |value: u8, digit| {
            let digit = char::from(*digit).to_digit(16)?;
            Some(value << 4 | u8::try_from(digit).ok()?)
        })?;
    }
    Some(bytes)
}

/// Nobody else on the machine may read a key. A group may if the file is the system's own: that is how orchestrators
/// give a secret to a process that is not root.
#[cfg(unix)]
fn check_access(metadata: &Metadata) -> Result<(), String> {
    use std::os::unix::fs::MetadataExt as _;

    let mode = metadata.mode() & 0o777;
    let allowed = if metadata.uid() == 0 { 0o740 } else { 0o700 };
    if mode & !allowed == 0 {
        return Ok(());
    }
    Err(format!(
        "is open to other users of the machine (mode {mode:03o}): chmod 600 closes it"
    ))
}

#[cfg(not(unix))]
fn check_access(_: &Metadata) -> Result<(), String> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
    const SAME: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
    const OTHER: &str = "//79/Pv6+fj39vX08/Lx8O/u7ezr6uno5+bl5OPi4eA";

    #[test]
    fn one_key_or_two_in_base64_or_hex_are_read() {
        let keys = parse(HEX).expect("a key");
        let bytes: Vec<u8> = (0..32).collect();
        assert_eq!(keys.first.bytes().as_slice(), bytes);
        assert_eq!(parse(SAME).as_ref(), Ok(&keys));
        assert_eq!(parse(&HEX.to_uppercase()).as_ref(), Ok(&keys));
        let text = format!("# new\r\n\r\n  {OTHER}\r\n# old\n{SAME}\n\n");
        let both = parse(&text).expect("two keys");
        assert_eq!(both.second, Some(keys.first));
        assert_eq!(both.first.bytes().first(), Some(&255));
    }

    #[test]
    fn what_is_no_key_is_refused_and_not_repeated() {
        let padded = format!("{OTHER}=");
        for (content, wanted) in [
            ("", "holds no key"),
            ("# only this\n\n", "holds no key"),
            (&HEX[2..], "has no key in line 1"),
            (&format!("{HEX}00"), "has no key in line 1"),
            (&SAME[4..], "has no key in line 1"),
            (&format!("AAAA{SAME}"), "has no key in line 1"),
            (&format!("{SAME}\nsecret"), "has no key in line 2"),
            (&format!("{HEX}\n{OTHER}\n{OTHER}"), "more than 2 keys"),
            (&format!("{HEX}\n{SAME}"), "the same key twice"),
            (&format!("{OTHER}\n{padded}"), "the same key twice"),
            // Not the base64 of anything: the last character has bits to spare.
            (&OTHER.replace("eA", "eB"), "has no key in line 1"),
        ] {
            let why = parse(content).expect_err(content);
            assert!(why.contains(wanted), "{content}: {why}");
            assert!(!why.contains("AAEC") && !why.contains("secret"), "{why}");
        }
        assert!(!format!("{:?}", parse(HEX)).contains("1, 2"));
    }

    #[cfg(unix)]
    #[test]
    fn a_file_that_others_can_read_is_refused() {
        use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

        let path = std::env::temp_dir().join(format!("mcp-ferry-keys-{}", std::process::id()));
        let name = path.to_str().expect("a name");
        std::fs::write(&path, SAME).expect("written");
        let mine = std::fs::metadata(&path).expect("there").uid() != 0;
        for (mode, open) in [
            (0o600, false),
            (0o400, false),
            (0o440, mine),
            (0o640, mine),
            (0o660, true),
            (0o604, true),
            (0o644, true),
            (0o601, true),
        ] {
            let permissions = std::fs::Permissions::from_mode(mode);
            std::fs::set_permissions(&path, permissions).expect("set");
            let read = key_file(name);
            assert_eq!(read.is_err(), open, "{mode:o}: {read:?}");
            if let Err(why) = read {
                assert!(why.contains("chmod 600") && !why.contains("AAEC"), "{why}");
            }
        }
        std::fs::remove_file(&path).expect("removed");
        assert!(key_file(name).is_err_and(|why| why.contains("cannot be read")));
    }
}
