//! Secrets that are known by their shape, wherever they stand.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;

use super::{part, run};

/// How keys begin that their makers mark. After it come at least [`SHORTEST`] characters.
const PREFIXES: [&str; 34] = [
    "sk-",
    "sk_live_",
    "sk_test_",
    "rk_live_",
    "rk_test_",
    "whsec_",
    "ghp_",
    "gho_",
    "ghu_",
    "ghs_",
    "ghr_",
    "github_pat_",
    "glpat-",
    "gldt-",
    "xoxa-",
    "xoxb-",
    "xoxc-",
    "xoxd-",
    "xoxe-",
    "xoxe.",
    "xoxo-",
    "xoxp-",
    "xoxr-",
    "xoxs-",
    "xapp-",
    "AIza",
    "npm_",
    "pypi-",
    "hf_",
    "dop_v1_",
    "shpat_",
    "ya29.",
    "AKIA",
    "ASIA",
];

/// A maker's prefix and fewer characters than this are no key.
const SHORTEST: usize = 8;

/// The schemes of `Authorization`.
const SCHEMES: [&str; 7] = [
    "bearer",
    "basic",
    "digest",
    "dpop",
    "negotiate",
    "token",
    "apikey",
];

/// Whether a word is a scheme of `Authorization`.
pub(super) fn is_scheme(word: &str) -> bool {
    SCHEMES.iter().any(|own| own.eq_ignore_ascii_case(word))
}

/// Where in a word (letters, digits, `_`, `-`, `.`, `%`) a key begins; it goes to the word's end.
pub(super) fn in_word(word: &str) -> Option<usize> {
    if word.len() < SHORTEST {
        return None;
    }
    let bytes = word.as_bytes();
    // Found once for the whole word, so that no beginning in it has to look at all the rest.
    let last_dot = bytes.iter().rposition(|byte| *byte == b'.');
    let last_mark = bytes
        .iter()
        .rposition(|byte| byte.is_ascii_digit() || byte.is_ascii_uppercase());
    let mut before = None;
    for (at, byte) in bytes.iter().enumerate() {
        let inside = before.is_some_and(|byte: u8| byte.is_ascii_alphanumeric());
        before = Some(*byte);
        let escape = at >= 3 && bytes.get(at.saturating_sub(3)) == Some(&b'%');
        if inside && !escape {
            continue;
        }
        let rest = part(word, at, word.len());
        // `eyJhbGciOi….eyJzdWIiOi….…` begins with `{"` in Base64, and has a dot; without it, it is a cursor, or a token's
        // harmless header.
        let web_token = rest.starts_with("eyJ") && last_dot >= Some(at.saturating_add(SHORTEST));
        if web_token || begins_key(rest, at, last_mark) {
            return Some(at);
        }
    }
    None
}

/// `last_mark`: where the word's last digit or capital is. `sk-learn-estimators` is no key, nor is a word that only begins
/// like one.
fn begins_key(rest: &str, at: usize, last_mark: Option<usize>) -> bool {
    // Most words of most texts begin with none of these.
    if !rest.starts_with(['s', 'r', 'w', 'g', 'x', 'A', 'n', 'p', 'h', 'd', 'y']) {
        return false;
    }
    let prefix = PREFIXES.iter().find(|own| rest.starts_with(**own));
    prefix.is_some_and(|own| {
        rest.len() >= own.len().saturating_add(SHORTEST)
            && last_mark >= Some(at.saturating_add(own.len()))
    })
}

/// Where the credential ends that stands at `from`, behind the scheme.
pub(super) fn behind_scheme(text: &str, scheme: &str, from: usize) -> Option<usize> {
    let end = run(text, from, |byte| {
        byte.is_ascii_alphanumeric() || b"-._~+/=%".contains(&byte)
    });
    let found = part(text, from, end);
    // `Bearer realm="…"` is a challenge, not a credential.
    if text.as_bytes().get(end) == Some(&b'"') && found.ends_with('=') {
        return None;
    }
    let secret = match scheme.to_ascii_lowercase().as_str() {
        "bearer" | "dpop" => found.len() >= 6 && is_no_word(found),
        "basic" => is_user_and_password(found),
        _ => false,
    };
    secret.then_some(end)
}

/// Whether it is not just a word of prose.
pub(super) fn is_no_word(text: &str) -> bool {
    let mut inner = text.trim_end_matches(['.', '!', '?', ':']).bytes().skip(1);
    text.len() >= 20 || inner.any(|byte| !byte.is_ascii_lowercase())
}

fn is_user_and_password(text: &str) -> bool {
    let text = text.trim_end_matches('=');
    // The beginning of what was cut is decodable in whole groups of four.
    let whole = part(text, 0, text.len() - text.len() % 4);
    let decoded = STANDARD_NO_PAD
        .decode(text)
        .or_else(|_| STANDARD_NO_PAD.decode(whole));
    decoded.is_ok_and(|decoded| decoded.contains(&b':'))
}

/// Where the private key ends whose `-----BEGIN` ends at `from`: with the text where that is cut.
pub(super) fn private_key(text: &str, from: usize) -> Option<usize> {
    const KIND: &str = "PRIVATE KEY";
    let label_end = run(text, from, |byte| {
        byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b' '
    });
    let rest = text.get(label_end..)?;
    if !part(text, from, label_end).contains(KIND) || !rest.starts_with("-----") {
        return None;
    }
    let end = memchr::memmem::find(rest.as_bytes(), b"PRIVATE KEY-----");
    let length = end.map_or(rest.len(), |at| at.saturating_add("PRIVATE KEY-----".len()));
    Some(label_end.saturating_add(length))
}

/// Whether a path segment looks drawn at random: long, letters and digits well mixed.
pub(super) fn is_random(segment: &str) -> bool {
    let class = |byte: u8| match byte {
        b'0'..=b'9' => 1,
        b'a'..=b'z' => 2,
        b'A'..=b'Z' => 3,
        _ => 0,
    };
    let known = |byte: u8| class(byte) > 0 || b"-_.~%=".contains(&byte);
    if segment.len() < 24 || !segment.bytes().all(known) {
        return false;
    }
    let classes = segment.bytes().map(class).filter(|class| *class > 0);
    let (mut changes, mut digits, mut last) = (0usize, 0usize, 0);
    for class in classes {
        changes = changes.saturating_add(usize::from(last != 0 && class != last));
        digits = digits.saturating_add(usize::from(class == 1));
        last = class;
    }
    digits > 0 && changes.saturating_mul(6) >= segment.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_found_at_the_beginning_of_a_part_of_a_word() {
        for word in [
            "sk-abcdefgh12345",
            "key_sk-ant-api03-abcdefgh",
            "ghp_0123456789abcdefABCDEF",
            "xoxb-123456789012-abcdef",
            "AKIAIOSFODNN7EXAMPLE",
            "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIx",
            "%3Dsk-abcdefgh12345",
        ] {
            assert!(in_word(word).is_some(), "{word}");
        }
        for word in [
            "sk-learn-estimators",
            "risk-averse-2024-report",
            "eyJwYWdlIjoyfQ",
            "task-1234567890",
            "MAKIAVELLI1234567890",
        ] {
            assert_eq!(in_word(word), None, "{word}");
        }
    }

    #[test]
    fn every_prefix_is_looked_for() {
        for prefix in PREFIXES {
            assert_eq!(in_word(&format!("{prefix}0123456789")), Some(0), "{prefix}");
        }
    }

    #[test]
    fn random_is_told_from_long() {
        for segment in [
            "550e8400-e29b-41d4-a716-446655440000",
            "d41d8cd98f00b204e9800998ecf8427e",
            "Zm9vYmFyMTIzNDU2Nzg5MGFiY2RlZg",
        ] {
            assert!(is_random(segment), "{segment}");
        }
        for segment in [
            "2024-11-05-release-notes-final",
            "a-very-long-name-of-some-document",
            "short1A2b",
            "12345678901234567890123456789",
        ] {
            assert!(!is_random(segment), "{segment}");
        }
    }
}
