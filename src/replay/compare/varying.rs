//! What differs every time and says nothing about the server: date-times, and ids drawn at random. In doubt a value has a
//! meaning: a difference that is told can be ignored, one that is not told is missed. Pure.
//!
//! An id drawn at random is one of these, wherever it stands between other characters:
//!
//! - a UUID;
//! - 16 to [`LONGEST_HEX`] hexadecimal digits, of which some are letters;
//! - 16 to [`LONGEST_ID`] letters and digits, or 20 and more with `-` and `_` as URLs have Base64, well mixed, in which
//!   nothing looks like a word, and which are no text in Base64.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// What stands in the place of a date-time, and of an id. Not among what ends a redacted value.
const TIME: &str = "*time*";
const ID: &str = "*id*";

/// Fewer characters are no random id.
const SHORTEST_ID: usize = 16;
/// Likewise with `-` and `_` in between, where words are more likely.
const SHORTEST_PARTED_ID: usize = 20;
/// More characters are no random id, but content: a picture, a key. 48 bytes in Base64.
const LONGEST_ID: usize = 64;
/// Hexadecimal digits of 64 bytes.
const LONGEST_HEX: usize = 128;

/// Pairs of letters that words are made of: the 110 most frequent ones in English technical prose and code. Of the pairs
/// of random letters one in six is among them.
const PAIRS: &str = "re er in es ed on te en st se ti co ng de nt le at or ar an li ve ea al ri ne ec ra ro io me tr it \
    ns ce nd to he pe ta lo et ts ha is la ac pa el ke ss ct ca ad un rs ch ma ge si ou ic th as di ie om ll no ur ow nc \
    fi os ut pl pr mi ai il us ex ap ep am ol sh od em su ds ck sc po ho be ni ot id ab cl rt cr op rr pt ee oo ag mp";

/// Last words of names whose numbers are times.
const TIMES: [&str; 17] = [
    "time",
    "timestamp",
    "datetime",
    "date",
    "elapsed",
    "duration",
    "uptime",
    "mtime",
    "ctime",
    "atime",
    "created",
    "updated",
    "modified",
    "expires",
    "age",
    "now",
    "at",
];

/// Whether a number of this name is a time: `createdAt`, `last_modified`, `elapsed-ms`; not `percentage` or `candidate`.
pub(super) fn is_name_of_time(name: &str) -> bool {
    let word = last_word(name).to_ascii_lowercase();
    word == "ms" || TIMES.contains(&word.as_str())
}

/// The last word of a name in camel, snake or kebab case.
fn last_word(name: &str) -> &str {
    let end = name.trim_end_matches(|char: char| !char.is_alphanumeric());
    let mut from = 0;
    let mut chars = end.char_indices().peekable();
    let mut before: Option<char> = None;
    while let Some((at, char)) = chars.next() {
        let next_is_small = chars.peek().is_some_and(|(_, next)| next.is_lowercase());
        let begins = match before {
            Some(before) if before.is_alphanumeric() => {
                // `lastSeenAt`, and the `Date` of `HTTPDate`.
                char.is_uppercase() && (!before.is_uppercase() || next_is_small)
            }
            _ => true,
        };
        if begins && char.is_alphanumeric() {
            from = at;
        }
        before = Some(char);
    }
    end.get(from..).unwrap_or_default()
}

/// The text with date-times and random ids made the same.
pub(super) fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while !rest.is_empty() {
        let (length, instead) = match rest.as_bytes() {
            bytes if bytes.first().is_some_and(u8::is_ascii_alphanumeric) => varying(bytes),
            _ => {
                let next = rest.find(|char: char| char.is_ascii_alphanumeric());
                (next.unwrap_or(rest.len()), None)
            }
        };
        let (own, after) = rest.split_at(length);
        out.push_str(instead.unwrap_or(own));
        rest = after;
    }
    out
}

/// How much of a text that begins with a letter or digit is taken together, and what stands in its place.
fn varying(bytes: &[u8]) -> (usize, Option<&'static str>) {
    if let Some(length) = date_time(bytes) {
        return (length, Some(TIME));
    }
    if is_uuid(bytes) {
        return (UUID.len(), Some(ID));
    }
    let (run, _) = split(bytes, u8::is_ascii_alphanumeric, usize::MAX);
    if is_hex_id(run) || is_mixed_id(run) {
        return (run.len(), Some(ID));
    }
    let inside = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let (parted, after) = split(bytes, inside, LONGEST_ID);
    let is_whole = after.first().is_none_or(|byte| !inside(byte));
    if is_whole && is_parted_id(parted) {
        return (parted.len(), Some(ID));
    }
    (run.len(), None)
}

/// The longest beginning whose bytes all belong, of `most` bytes at most; and the rest.
fn split(bytes: &[u8], belongs: impl Fn(&u8) -> bool, most: usize) -> (&[u8], &[u8]) {
    let most = bytes.len().min(most);
    let end = bytes.iter().take(most).position(|byte| !belongs(byte));
    bytes
        .split_at_checked(end.unwrap_or(most))
        .unwrap_or((bytes, &[]))
}

/// Whether the text begins with this form: `d` stands for a digit, `x` for a hexadecimal one.
fn begins(bytes: &[u8], form: &[u8]) -> bool {
    bytes.len() >= form.len()
        && bytes.iter().zip(form).all(|(byte, form)| match form {
            b'd' => byte.is_ascii_digit(),
            b'x' => byte.is_ascii_hexdigit(),
            form => byte == form,
        })
}

/// How long the date-time is that a text begins with (RFC 3339, the zone may be missing).
fn date_time(bytes: &[u8]) -> Option<usize> {
    const FORM: &[u8] = b"dddd-dd-ddTdd:dd:dd";
    let rest = bytes.get(FORM.len()..).filter(|_| begins(bytes, FORM))?;
    let (fraction, rest) = match rest {
        [b'.', digits @ ..] => match split(digits, u8::is_ascii_digit, usize::MAX) {
            ([], _) => (0, rest),
            (own, rest) => (own.len().saturating_add(1), rest),
        },
        _ => (0, rest),
    };
    let zone = match rest {
        [b'Z' | b'z', ..] => 1,
        [b'+' | b'-', offset @ ..] if begins(offset, b"dd:dd") => 6,
        [b'+' | b'-', offset @ ..] if begins(offset, b"dddd") => 5,
        _ => 0,
    };
    Some(FORM.len().saturating_add(fraction).saturating_add(zone))
}

const UUID: &[u8] = b"xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx";

fn is_uuid(bytes: &[u8]) -> bool {
    let next = bytes.get(UUID.len());
    begins(bytes, UUID) && next.is_none_or(|byte| !byte.is_ascii_alphanumeric())
}

fn count(bytes: &[u8], is: impl Fn(&u8) -> bool) -> usize {
    bytes.iter().copied().filter(is).count()
}

fn is_hex_id(run: &[u8]) -> bool {
    (SHORTEST_ID..=LONGEST_HEX).contains(&run.len())
        && run.iter().all(u8::is_ascii_hexdigit)
        && count(run, u8::is_ascii_alphabetic) >= 2
        && count(run, u8::is_ascii_digit) >= 4
}

fn is_mixed_id(run: &[u8]) -> bool {
    (SHORTEST_ID..=LONGEST_ID).contains(&run.len()) && is_mixed(run)
}

/// Base64 of URLs: runs of letters and digits, one of them long and with letters of both cases, none of them plain.
fn is_parted_id(whole: &[u8]) -> bool {
    let runs = || whole.split(|byte| matches!(byte, b'-' | b'_'));
    let kinds = |run: &[u8]| {
        [
            u8::is_ascii_lowercase,
            u8::is_ascii_uppercase,
            u8::is_ascii_digit,
        ]
        .iter()
        .filter(|is| run.iter().any(is))
        .count()
    };
    whole.len() >= SHORTEST_PARTED_ID
        && is_mixed(whole)
        && runs().any(|run| run.len() >= 8 && kinds(run) == 3)
        && runs().all(|run| run.len() <= 2 || kinds(run) >= 2)
}

/// Letters and digits without a word, and not a text in Base64.
fn is_mixed(bytes: &[u8]) -> bool {
    let changes = bytes
        .windows(2)
        .filter(|pair| matches!(pair, [a, b] if a.is_ascii_digit() != b.is_ascii_digit()))
        .count();
    count(bytes, u8::is_ascii_digit) >= 2
        && changes.saturating_mul(10) >= bytes.len()
        && !has_word(bytes)
        && !is_encoded_text(bytes)
}

/// Whether a word is in it: four and more letters, most of whose pairs are those of words.
fn has_word(bytes: &[u8]) -> bool {
    let mut word: Vec<u8> = Vec::new();
    for (at, byte) in bytes.iter().enumerate() {
        let next = bytes.get(at.saturating_add(1));
        let before = at.checked_sub(1).and_then(|at| bytes.get(at));
        // Words begin with a capital; capitals one after the other are a word too.
        let begins = byte.is_ascii_uppercase()
            && (before.is_some_and(u8::is_ascii_lowercase)
                || next.is_some_and(u8::is_ascii_lowercase));
        if begins || !byte.is_ascii_alphabetic() {
            if is_word(&word) {
                return true;
            }
            word.clear();
        }
        if byte.is_ascii_alphabetic() {
            word.push(byte.to_ascii_lowercase());
        }
    }
    is_word(&word)
}

fn is_word(letters: &[u8]) -> bool {
    let pairs = letters.windows(2);
    let known = |pair: &&[u8]| {
        let mut known = PAIRS.split(' ');
        known.any(|known| known.as_bytes() == *pair)
    };
    letters.len() >= 4
        && pairs.clone().filter(known).count().saturating_mul(3) >= pairs.len().saturating_mul(2)
}

/// Whether it is a readable text in Base64, which is not drawn at random.
fn is_encoded_text(bytes: &[u8]) -> bool {
    // Whole groups of four, so that a last one that is cut does not matter.
    let length = bytes.len().saturating_sub(bytes.len() % 4);
    let decoded = URL_SAFE_NO_PAD.decode(bytes.get(..length).unwrap_or_default());
    decoded.is_ok_and(|decoded| {
        let mut decoded = decoded.iter();
        decoded.all(|byte| byte.is_ascii_graphic() || byte.is_ascii_whitespace())
    })
}
