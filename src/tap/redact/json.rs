//! The scanner of JSON. It looks for strings, tells names from values by the colon behind them, and never fails: cut or
//! broken text is scanned as far as it resembles JSON. Brackets are counted on a stack of its own, a byte or two a level.

use std::borrow::Cow;

use super::names::{self, Class};
use super::{Copy, LEVELS, Redactor, is_placeholder, part, prose, run};

/// What a bracket has opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Frame {
    /// Anything.
    #[default]
    Plain,
    /// The arguments of a JSON Schema: its members are named by somebody's arguments, and are schemas.
    Properties,
    /// The JSON Schema of an argument with a secret's name: only what describes it is kept.
    Schema,
}

/// What a schema may say of a secret argument.
const DESCRIBES: [&str; 13] = [
    "type",
    "title",
    "description",
    "format",
    "minLength",
    "maxLength",
    "pattern",
    "minimum",
    "maximum",
    "anyOf",
    "oneOf",
    "items",
    "$ref",
];

struct Scanner<'r, 't> {
    redactor: &'r Redactor,
    text: &'t str,
    level: usize,
    copy: Copy<'t>,
    frames: Vec<(Frame, bool)>,
    /// What the next bracket opens, because of the name before it.
    next: Frame,
    /// The last name said that its value names something, as in `{"name": "api_key", "value": …}`.
    names_something: bool,
}

/// A text without its secrets.
pub(super) struct Scanned<'t> {
    pub(super) text: Cow<'t, str>,
    /// How many brackets of it are open at once at most.
    pub(super) depth: usize,
}

/// Takes the secrets out. `level` says in how many strings the text stood.
pub(super) fn scan<'t>(redactor: &Redactor, text: &'t str, level: usize) -> Scanned<'t> {
    let mut scanner = Scanner {
        redactor,
        text,
        level,
        copy: Copy::of(text),
        frames: Vec::new(),
        next: Frame::Plain,
        names_something: false,
    };
    let (mut at, mut depth) = (0, 0);
    while let Some(byte) = text.as_bytes().get(at) {
        at = match byte {
            b'"' => scanner.string(at),
            b'{' | b'[' => {
                scanner.frames.push((scanner.next, false));
                depth = depth.max(scanner.frames.len());
                scanner.next = Frame::Plain;
                at.saturating_add(1)
            }
            b'}' | b']' => {
                scanner.frames.pop();
                at.saturating_add(1)
            }
            _ => run(text, at, |byte| {
                !matches!(byte, b'"' | b'{' | b'[' | b'}' | b']')
            }),
        };
    }
    Scanned {
        text: scanner.copy.end(),
        depth,
    }
}

impl Scanner<'_, '_> {
    /// A string begins here; says where to go on.
    fn string(&mut self, open: usize) -> usize {
        let (from, to, end) = string(self.text, open);
        let raw = part(self.text, from, to);
        let colon = run(self.text, end, is_space);
        if self.text.as_bytes().get(colon) != Some(&b':') || end == to {
            self.inside(from, to);
            if std::mem::take(&mut self.names_something)
                && let Some((_, named)) = self.frames.last_mut()
            {
                *named = self.redactor.names.class(&unescaped(raw)).is_some();
            }
            return end;
        }
        self.inside(from, to);
        let value = run(self.text, colon.saturating_add(1), is_space);
        let name = unescaped(raw);
        let Some(class) = self.class(&name, value) else {
            self.names_something = matches!(&*name, "name" | "key" | "header");
            return value;
        };
        self.names_something = false;
        let value_end = value_end(self.text, value);
        let old = part(self.text, value, value_end);
        if !names::is_harmless(&name, old) {
            let secret = match old.starts_with('"') {
                true => string(self.text, value),
                false => (value, value_end, value_end),
            };
            let secret = unescaped(part(self.text, secret.0, secret.1));
            if !is_placeholder(&secret) {
                let new = self.redactor.instead(class, &secret);
                self.copy.replace(value, value_end, &format!("\"{new}\""));
            }
        }
        value_end
    }

    /// Whether the value at this place goes because of its name; otherwise what it opens.
    fn class(&mut self, name: &str, value: usize) -> Option<Class> {
        let (frame, named) = self.frames.last().copied().unwrap_or_default();
        self.next = Frame::Plain;
        if frame == Frame::Schema {
            self.next = Frame::Schema;
            return (!DESCRIBES.contains(&name)).then_some(Class::Secret);
        }
        if named && name == "value" {
            return Some(Class::Secret);
        }
        let class = self.redactor.names.class(name);
        if class.is_some() && frame == Frame::Properties && opens_schema(self.text, value) {
            self.next = Frame::Schema;
            return None;
        }
        if name == "properties" {
            self.next = Frame::Properties;
        }
        class
    }

    /// What stands in a string is scanned as what it stands for, and escaped again where it had to change.
    fn inside(&mut self, from: usize, to: usize) {
        let raw = part(self.text, from, to);
        let text = unescaped(raw);
        let deeper = self.level.saturating_add(1);
        let scanned = match deeper <= LEVELS && text.contains('"') {
            true => scan(self.redactor, &text, deeper).text,
            false => Cow::Borrowed(&*text),
        };
        let clean = prose::redact(self.redactor, &scanned, deeper);
        if *clean != *text {
            self.copy.replace(from, to, &escaped(&clean));
        }
    }
}

/// The string that opens at `open`: where its content begins and ends, and where the text goes on. The last two are the
/// same where it is not closed.
fn string(text: &str, open: usize) -> (usize, usize, usize) {
    let from = open.saturating_add(1);
    let mut at = from;
    loop {
        at = run(text, at, |byte| !matches!(byte, b'"' | b'\\'));
        match text.as_bytes().get(at) {
            Some(b'"') => return (from, at, at.saturating_add(1)),
            Some(_) => {
                // What is escaped may be a character of several bytes, in broken JSON.
                let after = text.get(at.saturating_add(1)..).unwrap_or_default();
                let length = after.chars().next().map_or(0, char::len_utf8);
                at = at.saturating_add(1).saturating_add(length);
            }
            None => return (from, text.len(), text.len()),
        }
    }
}

/// Where the value that begins here ends, brackets counted.
fn value_end(text: &str, from: usize) -> usize {
    let mut depth = 0usize;
    let mut at = from;
    loop {
        match text.as_bytes().get(at) {
            Some(b'"') => at = string(text, at).2,
            Some(b'{' | b'[') => {
                depth = depth.saturating_add(1);
                at = at.saturating_add(1);
            }
            Some(b'}' | b']') if depth == 0 => return at,
            Some(b'}' | b']') => {
                depth = depth.saturating_sub(1);
                at = at.saturating_add(1);
            }
            Some(_) if depth == 0 => {
                return run(text, at, |byte| {
                    !matches!(byte, b',' | b'}' | b']' | b'"') && !is_space(byte)
                });
            }
            Some(_) => {
                at = run(text, at, |byte| {
                    !matches!(byte, b'"' | b'{' | b'[' | b'}' | b']')
                });
            }
            None => return text.len(),
        }
        if depth == 0 {
            return at;
        }
    }
}

/// Whether an object begins here whose first member is one of JSON Schema.
fn opens_schema(text: &str, value: usize) -> bool {
    if text.as_bytes().get(value) != Some(&b'{') {
        return false;
    }
    let open = run(text, value.saturating_add(1), is_space);
    if text.as_bytes().get(open) != Some(&b'"') {
        return false;
    }
    let (from, to, _) = string(text, open);
    DESCRIBES.contains(&part(text, from, to))
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}

/// What the content of a string stands for. Half a surrogate pair becomes U+FFFD; an escape that is none stays.
fn unescaped(raw: &str) -> Cow<'_, str> {
    if !raw.contains('\\') {
        return raw.into();
    }
    let mut text = String::with_capacity(raw.len());
    let mut rest = raw;
    while let Some((before, after)) = rest.split_once('\\') {
        text.push_str(before);
        rest = after;
        let mut chars = after.chars();
        let plain = match chars.next() {
            Some('n') => '\n',
            Some('r') => '\r',
            Some('t') => '\t',
            Some('b') => '\u{8}',
            Some('f') => '\u{c}',
            Some(char @ ('"' | '\\' | '/')) => char,
            Some('u') => {
                let (char, length) = unicode(after);
                text.push_str(if length == 0 { "\\" } else { "" });
                if length > 0 {
                    text.push(char);
                }
                rest = after.get(length..).unwrap_or_default();
                continue;
            }
            _ => {
                text.push('\\');
                continue;
            }
        };
        text.push(plain);
        rest = chars.as_str();
    }
    text.push_str(rest);
    text.into()
}

/// The character of `u12ab`, or of `ud83d\ude00`, and how long its escape is; 0 where it is none.
fn unicode(text: &str) -> (char, usize) {
    let unit = |from: usize| {
        let digits = text.get(from..from.saturating_add(4))?;
        let all = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        u16::from_str_radix(digits, 16).ok().filter(|_| all)
    };
    let Some(first) = unit(1) else {
        return (char::REPLACEMENT_CHARACTER, 0);
    };
    let second = (part(text, 5, 7) == "\\u").then(|| unit(7)).flatten();
    let pair = char::decode_utf16([first].into_iter().chain(second)).next();
    match (pair, second) {
        (Some(Ok(char)), Some(_)) if char.len_utf16() == 2 => (char, 11),
        (Some(Ok(char)), _) => (char, 5),
        _ => (char::REPLACEMENT_CHARACTER, 5),
    }
}

/// The text as the content of a JSON string.
fn escaped(text: &str) -> String {
    let quoted = serde_json::Value::from(text).to_string();
    let length = quoted.len();
    part(&quoted, 1, length.saturating_sub(1)).to_owned()
}
