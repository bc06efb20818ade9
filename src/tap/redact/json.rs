//! The scanner of JSON. It looks for strings, tells names from values by the colon behind them, and never fails: cut or
//! broken text is scanned as far as it resembles JSON. Brackets are counted on a stack of its own, a byte or two a level.

use std::borrow::Cow;

use super::names::{self, Class};
use super::{Copy, LEVELS, Redactor, is_placeholder, pairs, part, prose, run};

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
    /// What the brackets that are open stand for, and whether they are those of arrays.
    frames: Vec<(Frame, bool)>,
    /// What the next bracket opens, because of the name before it.
    next: Frame,
    /// Where members stand that are called `value` and hold secrets, once that was asked.
    named: Option<Vec<usize>>,
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
        named: None,
    };
    let (mut at, mut depth) = (0, 0);
    while let Some(byte) = text.as_bytes().get(at) {
        at = match byte {
            b'"' => scanner.string(at),
            b'{' | b'[' => {
                scanner.open(at);
                depth = depth.max(scanner.frames.len());
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
    /// A bracket opens here.
    fn open(&mut self, at: usize) {
        // Of an array that stands for a schema (`anyOf`), each element is one.
        let in_schemas = self.in_array() && self.frame() == Frame::Schema;
        let frame = match in_schemas {
            true => Frame::Schema,
            false => self.next,
        };
        let is_array = self.text.as_bytes().get(at) == Some(&b'[');
        self.frames.push((frame, is_array));
        self.next = Frame::Plain;
    }

    fn frame(&self) -> Frame {
        self.frames.last().map_or(Frame::Plain, |(frame, _)| *frame)
    }

    fn in_array(&self) -> bool {
        self.frames.last().is_some_and(|(_, is_array)| *is_array)
    }

    /// A string begins here; says where to go on.
    fn string(&mut self, open: usize) -> usize {
        let (from, to, end) = string(self.text, open);
        let raw = part(self.text, from, to);
        let colon = run(self.text, end, is_space);
        if self.text.as_bytes().get(colon) != Some(&b':') || end == to {
            self.inside(from, to);
            return self.argument(raw, end);
        }
        self.inside(from, to);
        let value = run(self.text, colon.saturating_add(1), is_space);
        let name = unescaped(raw);
        match self.class(&name, open, value) {
            Some(class) => self.hide(class, &name, value),
            None => value,
        }
    }

    /// In `["--token", "…"]` an argument says what the next one is. Says where to go on behind it.
    fn argument(&mut self, flag: &str, end: usize) -> usize {
        let of_flag = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        if !flag.starts_with('-') || !flag.bytes().all(of_flag) || !self.in_array() {
            return end;
        }
        let comma = run(self.text, end, is_space);
        let next = run(self.text, comma.saturating_add(1), is_space);
        let byte = |at| self.text.as_bytes().get(at);
        let class = self.redactor.names.class(flag);
        let Some(class) = class.filter(|_| byte(comma) == Some(&b',') && byte(next) == Some(&b'"'))
        else {
            return end;
        };
        let (from, to, _) = string(self.text, next);
        let value = part(self.text, from, to);
        if value.starts_with('-') || names::is_harmless(flag, value) {
            return end;
        }
        self.hide(class, flag, next)
    }

    /// The value at this place goes because of the name before it, unless there is nothing to hide. Says where it ends.
    fn hide(&mut self, class: Class, name: &str, value: usize) -> usize {
        let value_end = value_end(self.text, value);
        let old = part(self.text, value, value_end);
        if !names::is_harmless(name, old) {
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

    /// Whether the value at this place goes because of its name, which stands at `at`; otherwise what it opens.
    fn class(&mut self, name: &str, at: usize, value: usize) -> Option<Class> {
        let frame = self.frame();
        self.next = Frame::Plain;
        if frame == Frame::Schema {
            self.next = Frame::Schema;
            return (!DESCRIBES.contains(&name)).then_some(Class::Secret);
        }
        if name == "value" && self.is_named(at) {
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

    /// Whether another member of its object says that the `value` at this place is a secret. That is found out once for the whole
    /// text, because the other may come later.
    fn is_named(&mut self, at: usize) -> bool {
        let find = || pairs::named(&self.redactor.names, self.text);
        let named = self.named.get_or_insert_with(find);
        named.binary_search(&at).is_ok()
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
pub(super) fn string(text: &str, open: usize) -> (usize, usize, usize) {
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

pub(super) fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}

/// What the content of a string stands for. Half a surrogate pair becomes U+FFFD; an escape that is none stays.
pub(super) fn unescaped(raw: &str) -> Cow<'_, str> {
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
