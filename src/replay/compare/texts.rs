//! Two texts of one place: whether they say the same, once what differs every time is made the same and what the tap has
//! taken out is allowed for. Pure.
//!
//! What stands around a placeholder has to agree. The placeholder itself stands for another placeholder, or, where only
//! the recording's tap was told the name (`--redact`), for one value: a word, or what stands in quotes. It never stands
//! for a whole line, because then it would hide what the line says.

use super::varying::plain;
use crate::tap::redact::{HASHED, REDACTED};

/// What stands in the place of secrets in URLs, between the same marks.
const ENCODED_REDACTED: &str = "%5Bredacted%5D";
const ENCODED_HASHED: &str = "%5Bhash%20";
/// Hexadecimal digits of a hash of the tap.
const DIGITS: usize = 6;

/// Whether two texts say the same.
pub(super) fn agree(recorded: &str, now: &str) -> bool {
    if recorded == now {
        return true;
    }
    let (recorded, now) = (plain(recorded), plain(now));
    let (mut pattern, mut rest) = (&*recorded, &*now);
    while let Some((from, to)) = next_placeholder(pattern) {
        let (literal, after) = (part(pattern, 0, from), part(pattern, to, pattern.len()));
        let Some(left) = rest.strip_prefix(literal) else {
            return false;
        };
        let length = placeholder(left).unwrap_or_else(|| value(left, literal));
        if length == 0 {
            return false;
        }
        rest = part(left, length, left.len());
        pattern = after;
    }
    pattern == rest
}

/// Whether a text is exactly what the tap puts in the place of a secret.
pub(super) fn is_placeholder(text: &str) -> bool {
    placeholder(text) == Some(text.len())
}

/// Where the first placeholder begins and ends.
fn next_placeholder(text: &str) -> Option<(usize, usize)> {
    let marks = memchr::memchr2_iter(b'[', b'%', text.as_bytes());
    let mut found = marks.filter_map(|from| {
        let length = placeholder(part(text, from, text.len()))?;
        Some((from, from.saturating_add(length)))
    });
    found.next()
}

/// How long the placeholder is that a text begins with.
fn placeholder(text: &str) -> Option<usize> {
    let whole = |own: &&&str| text.starts_with(**own);
    if let Some(own) = [REDACTED, ENCODED_REDACTED].iter().find(whole) {
        return Some(own.len());
    }
    let hashes = [(HASHED, "]"), (ENCODED_HASHED, "%5D")];
    hashes.iter().find_map(|(begin, end)| {
        let rest = text.strip_prefix(begin)?;
        let (digits, rest) = rest.split_at_checked(DIGITS)?;
        let is_hash = digits.bytes().all(|byte| byte.is_ascii_hexdigit()) && rest.starts_with(end);
        is_hash.then(|| begin.len().saturating_add(DIGITS).saturating_add(end.len()))
    })
}

/// How long the value is that a text begins with, behind `before`. The tap takes values out by the same ends.
fn value(text: &str, before: &str) -> usize {
    let quote = before.chars().next_back();
    let quote = quote.filter(|char| matches!(char, '"' | '\'' | '`'));
    let ends = |char: char| match quote {
        Some(quote) => char == quote || matches!(char, '\n' | '\r'),
        None => char.is_ascii_whitespace() || "\"'`,;&<>(){}[]\\".contains(char),
    };
    text.find(ends).unwrap_or(text.len())
}

/// A range of a text; empty where there is none.
fn part(text: &str, from: usize, to: usize) -> &str {
    text.get(from..to).unwrap_or_default()
}
