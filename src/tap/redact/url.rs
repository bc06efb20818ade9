//! Targets of requests: path segments, parameters and the user of a URL.

use std::borrow::Cow;

use super::{Redactor, names, prose, shapes};

/// Takes the secrets out of path and query, or of a whole URL.
pub(super) fn redact(redactor: &Redactor, target: &str) -> String {
    let end = target.find(['?', '#']).unwrap_or(target.len());
    let (path, query) = target.split_at(end);
    let path: Vec<_> = path
        .split('/')
        .map(|part| segment(redactor, part))
        .collect();
    let mut clean = prose::redact(redactor, &path.join("/"), 0).into_owned();
    for piece in query.split_inclusive(['?', '&', '#']) {
        let (pair, mark) = match piece.strip_suffix(['?', '&', '#']) {
            Some(pair) => (pair, piece.get(pair.len()..).unwrap_or_default()),
            None => (piece, ""),
        };
        clean.push_str(&parameter(redactor, pair));
        clean.push_str(mark);
    }
    clean
}

fn segment<'t>(redactor: &Redactor, segment: &'t str) -> Cow<'t, str> {
    match shapes::in_word(segment).is_some() || shapes::is_random(segment) {
        true => encoded(&redactor.hashed(segment)).into(),
        false => segment.into(),
    }
}

fn parameter(redactor: &Redactor, pair: &str) -> String {
    let Some((name, value)) = pair.split_once('=') else {
        return prose::redact(redactor, pair, 0).into_owned();
    };
    let class = redactor.names.in_query(&decoded(name));
    let text = decoded(value);
    let value = match class {
        Some(class) if !names::is_harmless(name, value) => {
            Cow::Owned(encoded(&redactor.instead(class, &text)))
        }
        _ => match prose::redact(redactor, &text, 1) {
            clean if *clean == *text => value.into(),
            clean => Cow::Owned(encoded(&clean)),
        },
    };
    format!("{name}={value}")
}

/// Percent escapes resolved; what is no escape stays, what is not UTF-8 becomes U+FFFD.
pub(super) fn decoded(text: &str) -> Cow<'_, str> {
    if !text.contains('%') {
        return text.into();
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let digit = |at: usize| {
            after
                .get(at)
                .and_then(|byte| char::from(*byte).to_digit(16))
        };
        let escape = (*first == b'%').then(|| digit(0).zip(digit(1))).flatten();
        let byte = escape.and_then(|(high, low)| u8::try_from(high * 16 + low).ok());
        bytes.push(byte.unwrap_or(*first));
        rest = after
            .get(if byte.is_some() { 2 } else { 0 }..)
            .unwrap_or_default();
    }
    String::from_utf8_lossy(&bytes).into_owned().into()
}

/// The text with percent escapes for everything but unreserved characters (RFC 3986 §2.3).
pub(super) fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                out.push(char::from(byte))
            }
            _ => {
                out.push('%');
                for digit in [byte >> 4, byte & 15] {
                    let digit = char::from_digit(u32::from(digit), 16).unwrap_or('0');
                    out.push(digit.to_ascii_uppercase());
                }
            }
        }
    }
    out
}
