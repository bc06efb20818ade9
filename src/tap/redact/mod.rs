//! What the tap must not keep: secrets are taken out of headers, targets and messages before anything is stored. Pure
//! but for the key of the hashes.
//!
//! Three things give a secret away:
//!
//! - its name (`names.rs`), with `--redact` for more: the value goes, whatever its type;
//! - its shape (`shapes.rs`) anywhere in a text: JSON web tokens, keys with a maker's prefix, private keys;
//! - its place: behind `Bearer`, before the `@` of a URL, in a path segment of 24 random characters.
//!
//! A message is scanned, not parsed: `json.rs` keeps every other byte as it is, whether the text is whole or was cut
//! anywhere, and valid JSON stays valid. Strings are scanned inside as well, as JSON again ([`LEVELS`] deep) and as prose
//! (`prose.rs`): a message carries URLs, headers and other messages in its strings.
//!
//! Time grows with the length of the text, memory is a few copies of it, and nothing recurses on its nesting.
//!
//! What stays readable on purpose: `progressToken`, counts of tokens (`maxTokens`), public metadata of OAuth
//! (`token_endpoint`), truth values, and the JSON Schema of a tool's argument that is called `token`. Cursors are shown;
//! a server that hides secrets in them is named with `--redact cursor --redact nextCursor`.

mod json;
mod names;
mod pairs;
mod prose;
mod shapes;
#[cfg(test)]
mod tests;
mod url;

use std::borrow::Cow;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::OnceLock;

use serde_json::value::RawValue;

use crate::proto::jsonrpc::MAX_DEPTH;
use names::{Class, Names};

/// What stands in a secret's place.
pub const REDACTED: &str = "[redacted]";
/// How what stands in an id's place begins.
pub const HASHED: &str = "[hash ";
/// How many levels of JSON in strings of JSON are scanned as such; what lies deeper is scanned as prose.
pub const LEVELS: usize = 4;

/// Takes secrets out.
#[derive(Debug, Default)]
pub struct Redactor {
    names: Names,
}

impl Redactor {
    /// With the names of `--redact` besides the list: whole names, or with `*` at an end for parts of names.
    #[must_use]
    pub fn new(extra_names: &[String]) -> Self {
        Self {
            names: Names::new(extra_names),
        }
    }

    /// The value of a header. Of a credential its scheme is kept; bytes that are not UTF-8 become U+FFFD.
    #[must_use]
    pub fn header(&self, name: &str, value: &[u8]) -> String {
        let value = String::from_utf8_lossy(value);
        match self.names.class(name) {
            Some(Class::Id) => self.hashed(&value),
            Some(Class::Secret) if names::is_harmless(name, &value) => value.into_owned(),
            Some(Class::Secret) => match value.split_once(' ') {
                Some((scheme, _)) if shapes::is_scheme(scheme) => format!("{scheme} {REDACTED}"),
                _ => REDACTED.to_owned(),
            },
            None => prose::redact(self, &value, 0).into_owned(),
        }
    }

    /// Path and query of a request, or a whole URL.
    #[must_use]
    pub fn target(&self, target: &str) -> String {
        url::redact(self, target)
    }

    /// A message: JSON or any other text, whole or cut anywhere.
    #[must_use]
    pub fn text(&self, text: &str) -> String {
        let scanned = json::scan(self, text, 0).text;
        if is_json(text) {
            return scanned.into_owned();
        }
        // Where it is not JSON, quotes do not tell what is a name.
        prose::redact(self, &scanned, 0).into_owned()
    }

    /// A whole message as a JSON value without line ends, so that a record is one line of a file; as [`Self::text`] where it
    /// is not JSON, or nested deeper than [`MAX_DEPTH`]: readers of records may recurse on what is a value.
    ///
    /// # Errors
    /// The text, its secrets taken out.
    pub fn json(&self, text: &str) -> Result<Box<RawValue>, String> {
        let json::Scanned {
            text: scanned,
            depth,
        } = json::scan(self, text, 0);
        // Where nothing was taken out, one reading tells both whether it was JSON and whether it is.
        let was_json = matches!(scanned, Cow::Borrowed(_)) || is_json(text);
        match was_json.then(|| one_line(&scanned)).flatten() {
            Some(value) if depth <= MAX_DEPTH => Ok(value),
            Some(_) => Err(scanned.into_owned()),
            None => Err(prose::redact(self, &scanned, 0).into_owned()),
        }
    }

    /// Six hexadecimal digits that stand for a secret within this process, and say nothing outside it.
    #[must_use]
    pub fn hash(&self, secret: &str) -> String {
        format!("{:06x}", self.digest(secret) & 0x00ff_ffff)
    }

    /// The same, wide enough to tell secrets apart by; not to be shown.
    #[must_use]
    pub(crate) fn digest(&self, secret: &str) -> u64 {
        static KEY: OnceLock<RandomState> = OnceLock::new();
        KEY.get_or_init(RandomState::new).hash_one(secret)
    }

    fn hashed(&self, secret: &str) -> String {
        format!("{HASHED}{}]", self.hash(secret))
    }

    /// What stands in the place of a value with this class of name.
    fn instead(&self, class: Class, secret: &str) -> String {
        match class {
            Class::Secret => REDACTED.to_owned(),
            Class::Id => self.hashed(secret),
        }
    }
}

fn is_json(text: &str) -> bool {
    serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok()
}

/// A text as a JSON value without line ends, if it is one. Line ends can only stand between the tokens of a JSON text
/// (RFC 8259 §7).
fn one_line(text: &str) -> Option<Box<RawValue>> {
    let line_end = memchr::memchr2(b'\n', b'\r', text.as_bytes());
    let text = match line_end {
        Some(_) => text.replace(['\n', '\r'], " "),
        None => text.to_owned(),
    };
    RawValue::from_string(text).ok()
}

/// Whether a text is, or holds, what this module has put there.
#[must_use]
pub fn is_redacted(text: &str) -> bool {
    text.contains(REDACTED) || text.contains(HASHED)
}

/// Whether a text is exactly what this module has put there.
fn is_placeholder(text: &str) -> bool {
    let digits = text
        .strip_prefix(HASHED)
        .and_then(|rest| rest.strip_suffix(']'));
    text == REDACTED
        || digits.is_some_and(|digits| {
            digits.len() == 6 && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
        })
}

/// A copy of a text that begins with its first change.
struct Copy<'t> {
    text: &'t str,
    /// Up to here the text is in `out`. Always a boundary of characters.
    done: usize,
    out: String,
}

impl<'t> Copy<'t> {
    fn of(text: &'t str) -> Self {
        Self {
            text,
            done: 0,
            out: String::new(),
        }
    }

    /// Puts something in the place of a range. Ranges come in order and do not overlap.
    fn replace(&mut self, from: usize, to: usize, with: &str) {
        self.out.push_str(part(self.text, self.done, from));
        self.out.push_str(with);
        self.done = to;
    }

    fn end(mut self) -> Cow<'t, str> {
        if self.done == 0 && self.out.is_empty() {
            return self.text.into();
        }
        self.out
            .push_str(part(self.text, self.done, self.text.len()));
        self.out.into()
    }
}

/// A range of a text; empty where there is none.
fn part(text: &str, from: usize, to: usize) -> &str {
    text.get(from..to).unwrap_or_default()
}

/// The end of the run of bytes that begins at `from`.
fn run(text: &str, from: usize, belongs: impl Fn(u8) -> bool) -> usize {
    let bytes = text.as_bytes().get(from..).unwrap_or_default();
    let length = bytes.iter().position(|byte| !belongs(*byte));
    from.saturating_add(length.unwrap_or(bytes.len()))
}
