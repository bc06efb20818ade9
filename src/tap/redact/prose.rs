//! The scanner of everything that is not JSON: prose, headers, URLs, forms, configuration, code; and JSON that was
//! cut, broken, or escaped so often that nobody scans it as JSON any more.
//!
//! One pass over the words (letters, digits, `_`, `-`, `.`, `%`). A word may be a key by its shape, a scheme before a
//! credential, the name before a `:` or `=`, or the scheme of a URL. In prose, where `token: use` means nothing, the
//! value goes only when it looks like none of the language's words, unless the name is a password's. A word may also be an
//! option of a command, or open an element of XML.

use std::borrow::Cow;

use super::names::{self, Class};
use super::{Copy, HASHED, LEVELS, REDACTED, Redactor, part, run, shapes, url};

/// Takes the secrets out. `level` says in how many strings or escaped values the text stood.
pub(super) fn redact<'t>(redactor: &Redactor, text: &'t str, level: usize) -> Cow<'t, str> {
    let mut copy = Copy::of(text);
    let mut at = 0;
    while at < text.len() {
        let from = run(text, at, |byte| !in_word(byte));
        let to = run(text, from, in_word);
        if from == to {
            break;
        }
        let word = Word {
            redactor,
            text,
            from,
            to,
            level,
        };
        at = match word.secret() {
            Some(found) => {
                copy.replace(found.from, found.to, &found.with);
                // What is put in ends where it ends, also at the end of a word.
                found.to
            }
            None => to,
        };
    }
    copy.end()
}

fn in_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.' | b'%')
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

fn is_quote(byte: u8) -> bool {
    matches!(byte, b'"' | b'\'' | b'\\' | b'`')
}

/// What goes, and what comes in its place.
struct Found {
    from: usize,
    to: usize,
    with: String,
}

struct Word<'r, 't> {
    redactor: &'r Redactor,
    text: &'t str,
    from: usize,
    to: usize,
    level: usize,
}

impl Word<'_, '_> {
    fn byte(&self, at: usize) -> Option<u8> {
        self.text.as_bytes().get(at).copied()
    }

    fn word(&self) -> &str {
        part(self.text, self.from, self.to)
    }

    fn secret(&self) -> Option<Found> {
        let found = |from, to| Found {
            from,
            to,
            with: REDACTED.to_owned(),
        };
        if self.word().ends_with("-----BEGIN")
            && let Some(end) = shapes::private_key(self.text, self.to)
        {
            return Some(found(self.to.saturating_sub("-----BEGIN".len()), end));
        }
        if let Some(at) = shapes::in_word(self.word()) {
            return Some(found(self.from.saturating_add(at), self.to));
        }
        if shapes::is_scheme(self.word()) {
            let at = run(self.text, self.to, is_space);
            if at > self.to
                && let Some(end) = shapes::behind_scheme(self.text, self.word(), at)
            {
                return Some(found(at, end));
            }
        }
        self.user_info()
            .map(|(from, to)| found(from, to))
            .or_else(|| self.named())
            .or_else(|| self.option())
            .or_else(|| self.element())
            .or_else(|| self.escaped())
    }

    /// `https://user:password@host`, and the beginning of that where the text is cut before the `@`.
    fn user_info(&self) -> Option<(usize, usize)> {
        const MARK: &str = "://";
        if !self.text.get(self.to..)?.starts_with(MARK) {
            return None;
        }
        let from = self.to.saturating_add(MARK.len());
        let end = run(self.text, from, |byte| {
            !byte.is_ascii_whitespace()
                && !matches!(
                    byte,
                    b'/' | b'?' | b'#' | b'"' | b'\'' | b'<' | b'>' | b'\\'
                )
        });
        let authority = part(self.text, from, end);
        if let Some(length) = authority.rfind('@') {
            return (length > 0 && !authority.starts_with(REDACTED))
                .then(|| (from, from.saturating_add(length)));
        }
        let (host, port) = authority.rsplit_once(':')?;
        let cut = end == self.text.len() && !port.bytes().all(|byte| byte.is_ascii_digit());
        (cut && !host.starts_with('[')).then_some((from, end))
    }

    /// The word is the name of a secret, and its value follows.
    fn named(&self) -> Option<Found> {
        let close = run(self.text, self.to, |byte| is_quote(byte) || byte == b']');
        // `user[password]=…` in a form, `env["API_KEY"] = …` in code. `[token]: …` is a reference of Markdown.
        let bracketed = part(self.text, self.to, close).contains(']');
        let sign = run(self.text, close, is_space);
        let equals = match self.byte(sign)? {
            b'=' => true,
            b':' if !bracketed => false,
            b'"' | b'\'' | b'`' | b'\\' if close == self.to && sign > self.to => {
                return self.quoted(sign);
            }
            _ => return None,
        };
        let mut after = sign.saturating_add(1);
        match (equals, self.byte(after)) {
            // `a == b`, `a::b`, `https://`: no value follows.
            (true, Some(b'=')) | (false, Some(b':' | b'/')) => return None,
            (true, Some(b'>')) => after = after.saturating_add(1),
            _ => {}
        }
        let in_query = equals && sign == self.to && self.is_parameter();
        let class = match in_query {
            true => self.redactor.names.in_query(&url::decoded(self.word())),
            false => self.redactor.names.class(self.word()),
        }?;
        let unspaced = run(self.text, after, is_space);
        let from = run(self.text, unspaced, is_quote);
        let quoted = from > unspaced;
        let rest = self.text.get(from..)?;
        if rest.starts_with(REDACTED) || rest.starts_with(HASHED) {
            return None;
        }
        let to = self.value_end(from, quoted, in_query);
        let value = part(self.text, from, to);
        // In prose a colon or an equals sign with a space behind it may mean anything.
        let open_name = close == self.to || bracketed;
        let loose = !in_query && !quoted && open_name && unspaced > after;
        let shown = names::is_harmless(self.word(), value)
            || (loose
                && !names::is_strict(self.word())
                && !names::takes_the_line(self.word())
                && !shapes::is_no_word(value));
        (!shown).then(|| self.instead(class, from, to, in_query))
    }

    /// `unknown token "abc1"`, as servers complain.
    fn quoted(&self, quote: usize) -> Option<Found> {
        let class = self.redactor.names.class(self.word())?;
        let from = run(self.text, quote, is_quote);
        let to = self.value_end(from, true, false);
        let secret = shapes::is_no_word(part(self.text, from, to));
        secret.then(|| self.instead(class, from, to, false))
    }

    /// `--token abc1`, as in commands. Help has a word there, or `TOKEN`.
    fn option(&self) -> Option<Found> {
        let unspaced = run(self.text, self.to, is_space);
        if !self.word().starts_with('-') || unspaced == self.to {
            return None;
        }
        let class = self.redactor.names.class(self.word())?;
        let from = run(self.text, unspaced, is_quote);
        // Another option. Looked at first, because a value may go to the end of the line.
        if self.byte(from) == Some(b'-') {
            return None;
        }
        let to = self.value_end(from, from > unspaced, false);
        let value = part(self.text, from, to);
        let is_help = value
            .bytes()
            .all(|byte| byte.is_ascii_uppercase() || byte == b'_');
        let shown = is_help || names::is_harmless(self.word(), value) || !shapes::is_no_word(value);
        (!shown).then(|| self.instead(class, from, to, false))
    }

    /// `<password>…</password>`. In prose `<token>` stands for what is to be filled in, so the end of the element must follow; in
    /// a text that is cut before that, a single word is taken for its content.
    fn element(&self) -> Option<Found> {
        const DATA: &str = "<![CDATA[";
        if !self.opens_element() {
            return None;
        }
        let class = self.redactor.names.class(self.word())?;
        let tag_end = run(self.text, self.to, |byte| !matches!(byte, b'<' | b'>'));
        let tag = part(self.text, self.to, tag_end);
        if self.byte(tag_end)? != b'>' || tag.ends_with('/') {
            return None;
        }
        let from = tag_end.saturating_add(1);
        let content = self.text.get(from..)?;
        if let Some(data) = content.strip_prefix(DATA) {
            let end = memchr::memmem::find(data.as_bytes(), b"]]>");
            let from = from.saturating_add(DATA.len());
            let to = from.saturating_add(end.unwrap_or(data.len()));
            return self.content(class, from, to);
        }
        let to = run(self.text, from, |byte| byte != b'<');
        let value = part(self.text, from, to);
        let word = || !value.contains(char::is_whitespace) && value.contains(char::is_alphanumeric);
        let ends = match self.text.get(to..)? {
            "" => word(),
            end => self.closes_element(end),
        };
        ends.then(|| self.content(class, from, to)).flatten()
    }

    fn content(&self, class: Class, from: usize, to: usize) -> Option<Found> {
        let value = part(self.text, from, to).trim();
        let shown = names::is_harmless(self.word(), value)
            || value.starts_with(REDACTED)
            || value.starts_with(HASHED);
        (!shown).then(|| self.instead(class, from, to, false))
    }

    /// Whether the word stands behind `<`, or behind that and a namespace.
    fn opens_element(&self) -> bool {
        let before = part(self.text, 0, self.from);
        let before = match before.strip_suffix(':') {
            Some(before) => before.trim_end_matches(|char: char| char.is_ascii_alphanumeric()),
            None => before,
        };
        before.ends_with('<')
    }

    /// Whether a text begins with the end of the element that the word opens, or with what of it is not cut.
    fn closes_element(&self, text: &str) -> bool {
        let Some(name) = text.strip_prefix("</") else {
            return text == "<";
        };
        let end = run(name, 0, |byte| in_word(byte) || byte == b':');
        let local = part(name, 0, end).rsplit(':').next();
        end == name.len() || local.is_some_and(|local| local.eq_ignore_ascii_case(self.word()))
    }

    fn instead(&self, class: Class, from: usize, to: usize, in_query: bool) -> Found {
        let value = part(self.text, from, to);
        let with = match in_query {
            true => self.redactor.instead(class, &url::decoded(value)),
            false => self.redactor.instead(class, value),
        };
        Found { from, to, with }
    }

    /// Whether the word is the name of a query's or fragment's parameter.
    fn is_parameter(&self) -> bool {
        let before = part(self.text, 0, self.from);
        before.ends_with(['?', '&', '#']) || before.ends_with("&amp;")
    }

    fn value_end(&self, from: usize, quoted: bool, in_query: bool) -> usize {
        if quoted {
            let quote = self.byte(from.saturating_sub(1)).unwrap_or(b'"');
            let end = run(self.text, from, |byte| byte != quote);
            let value = part(self.text, from, end).trim_end_matches('\\');
            return from.saturating_add(value.len());
        }
        if in_query {
            return run(self.text, from, |byte| {
                !byte.is_ascii_whitespace()
                    && !matches!(byte, b'&' | b'#' | b'"' | b'\'' | b'<' | b'>' | b'\\')
            });
        }
        if names::takes_the_line(self.word()) {
            return run(self.text, from, |byte| !matches!(byte, b'\n' | b'\r'));
        }
        let word_end = |from| {
            run(self.text, from, |byte| {
                !byte.is_ascii_whitespace()
                    && !matches!(
                        byte,
                        b'"' | b'\''
                            | b'`'
                            | b','
                            | b';'
                            | b'&'
                            | b'<'
                            | b'>'
                            | b'('
                            | b')'
                            | b'{'
                            | b'}'
                            | b'['
                            | b']'
                            | b'\\'
                    )
            })
        };
        let end = word_end(from);
        match shapes::is_scheme(part(self.text, from, end)) {
            true => word_end(run(self.text, end, is_space)),
            false => end,
        }
    }

    /// A value that is itself a query or a URL, with `%3D` for `=`.
    fn escaped(&self) -> Option<Found> {
        let word = self.word();
        let has_sign = || {
            let signs = ["%3D", "%3d", "%3A", "%3a"];
            word.contains('%') && signs.iter().any(|sign| word.contains(sign))
        };
        if self.level >= LEVELS || !has_sign() {
            return None;
        }
        let text = url::decoded(word);
        let clean = redact(self.redactor, &text, self.level.saturating_add(1));
        (*clean != *text).then(|| Found {
            from: self.from,
            to: self.to,
            with: url::encoded(&clean),
        })
    }
}
