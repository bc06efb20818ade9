//! The fields of log events: kept within bounds, and written so that nothing in them plays tricks on the reader.

use std::fmt::{self, Write as _};

use serde_json::Value;
use tracing::field::{Field, Visit};

/// The most bytes of one value that a line carries.
const LONGEST: usize = 1024;

/// The fields of one event or span.
#[derive(Default)]
pub(super) struct Values {
    pub(super) message: String,
    pub(super) fields: Vec<(&'static str, Value)>,
}

impl Values {
    fn add(&mut self, field: &Field, value: impl Into<Value>) {
        let name = field.name();
        self.fields
            .push((name.strip_prefix("r#").unwrap_or(name), value.into()));
    }

    fn add_text(&mut self, field: &Field, value: fmt::Arguments<'_>) {
        let mut text = Bounded::default();
        // A value whose formatting fails is shown as far as it got.
        text.write_fmt(value).ok();
        match field.name() {
            "message" => self.message = text.end(),
            _ => self.add(field, text.end()),
        }
    }

    /// As text: the message, then `name=value` pairs.
    pub(super) fn write(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        escape(&self.message, false, out)?;
        let mut space = if self.message.is_empty() { "" } else { " " };
        for (name, value) in &self.fields {
            write!(out, "{space}{name}=")?;
            space = " ";
            match value {
                Value::String(text) if is_word(text) || is_literal(text) => {
                    escape(text, false, out)?;
                }
                Value::String(text) => {
                    out.write_char('"')?;
                    escape(text, true, out)?;
                    out.write_char('"')?;
                }
                other => write!(out, "{other}")?,
            }
        }
        Ok(())
    }
}

impl Visit for Values {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.add_text(field, format_args!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.add_text(field, format_args!("{value}"));
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.add_text(field, format_args!("{}", Chain(value)));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field, value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.add(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field, value);
    }
}

/// An error with its causes.
struct Chain<'a>(&'a (dyn std::error::Error + 'static));

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        match self.0.source() {
            Some(cause) => write!(f, ": {}", Chain(cause)),
            None => Ok(()),
        }
    }
}

/// Keeps the first [`LONGEST`] bytes and counts the others.
#[derive(Default)]
struct Bounded {
    text: String,
    dropped: usize,
}

impl Bounded {
    fn end(self) -> String {
        match self.dropped {
            0 => self.text,
            dropped => format!("{}…[{dropped} more bytes]", self.text),
        }
    }
}

impl fmt::Write for Bounded {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = match self.dropped {
            0 => LONGEST - self.text.len(),
            _ => 0,
        };
        let end = (0..=room.min(text.len())).rev();
        let end = end.into_iter().find(|end| text.is_char_boundary(*end));
        let (kept, dropped) = text.split_at(end.unwrap_or(0));
        self.text.push_str(kept);
        self.dropped += dropped.len();
        Ok(())
    }
}

/// Needs no quotes: cannot be taken for two fields.
fn is_word(text: &str) -> bool {
    !text.is_empty()
        && !text.contains(|char: char| {
            char.is_whitespace() || is_hidden(char) || matches!(char, '"' | '\\' | '=')
        })
}

/// Is in quotes already, as `Debug` writes strings.
fn is_literal(text: &str) -> bool {
    let inner = text
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'));
    let mut escaped = false;
    let clean = inner.is_some_and(|inner| {
        inner.chars().all(|char| {
            let ends = char == '"' && !escaped;
            escaped = char == '\\' && !escaped;
            !ends
        })
    });
    clean && !escaped
}

/// The text with everything visible that hides, ends a line or moves a cursor.
pub(crate) fn shown(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    // Writing to a string does not fail.
    escape(text, false, &mut out).ok();
    out
}

fn escape(text: &str, in_quotes: bool, out: &mut dyn fmt::Write) -> fmt::Result {
    for char in text.chars() {
        match char {
            '"' | '\\' if in_quotes => write!(out, "\\{char}")?,
            '\n' => out.write_str("\\n")?,
            '\r' => out.write_str("\\r")?,
            '\t' => out.write_str("\\t")?,
            _ if is_hidden(char) => write!(out, "\\u{{{:x}}}", u32::from(char))?,
            _ => out.write_char(char)?,
        }
    }
    Ok(())
}

/// Controls (escape sequences begin with one), line ends of every kind, and what changes the direction or the sight
/// of the text around it without being seen.
pub(crate) fn is_hidden(char: char) -> bool {
    char.is_control()
        || matches!(char,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(fields: Vec<(&'static str, Value)>) -> String {
        let mut out = String::new();
        let message = String::new();
        Values { message, fields }.write(&mut out).unwrap();
        out
    }

    #[test]
    fn a_value_cannot_be_taken_for_two() {
        let line = |text: &str| written(vec![("a", text.into()), ("b", 1.into())]);
        assert_eq!(line("x"), "a=x b=1");
        assert_eq!(line(""), "a=\"\" b=1");
        assert_eq!(line("x b=2"), "a=\"x b=2\" b=1");
        assert_eq!(line("b=2"), "a=\"b=2\" b=1");
        // What `Debug` has quoted stays as it is, and only that.
        assert_eq!(line("\"x y\""), "a=\"x y\" b=1");
        assert_eq!(line(r#""x" b="2""#), r#"a="\"x\" b=\"2\"" b=1"#);
        assert_eq!(line(r#""x\""#), r#"a="\"x\\\"" b=1"#);
    }

    #[test]
    fn nothing_hidden_gets_through() {
        assert_eq!(
            written(vec![(
                "a",
                "1\n2\r3\u{1b}[31m\u{202e}4\u{2028}\u{9b}5\u{7f}".into()
            )]),
            "a=\"1\\n2\\r3\\u{1b}[31m\\u{202e}4\\u{2028}\\u{9b}5\\u{7f}\""
        );
        assert_eq!(written(vec![("a", "größe→✓".into())]), "a=größe→✓");
    }

    #[test]
    fn a_value_is_bounded_at_a_character() {
        let mut text = Bounded::default();
        text.write_str(&"x".repeat(LONGEST - 1)).unwrap();
        text.write_str("é").unwrap();
        text.write_str("y").unwrap();
        let end = text.end();
        assert_eq!(end, format!("{}…[3 more bytes]", "x".repeat(LONGEST - 1)));
    }
}
