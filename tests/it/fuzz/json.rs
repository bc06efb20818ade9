//! JSON as RFC 8259 has it, read as plainly as its grammar is written: whether a text is JSON, how deep it nests, and
//! what stands at its top. It shares no code with the parser that the ferry uses.

/// The top of a JSON text, its parts still as text.
#[derive(Debug)]
pub enum Top<'a> {
    Object(Vec<(&'a str, &'a str)>),
    Array(Vec<&'a str>),
    Other,
}

/// A JSON text and how deep it nests.
#[derive(Debug)]
pub struct Json<'a> {
    pub top: Top<'a>,
    pub depth: usize,
}

/// Deeper texts are not read: the reader is recursive.
const DEEPEST: usize = 1000;

/// Reads a text; `None` when it is not JSON, or nests deeper than any reader of the ferry's would go.
pub fn read(text: &str) -> Option<Json<'_>> {
    let mut reader = Reader {
        text,
        at: 0,
        deepest: 0,
    };
    reader.space();
    let top = reader.value(0)?;
    reader.space();
    (reader.at == text.len()).then_some(Json {
        top,
        depth: reader.deepest,
    })
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
    deepest: usize,
}

impl<'a> Reader<'a> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn take(&mut self, byte: u8) -> Option<()> {
        (self.peek()? == byte).then(|| self.at += 1)
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn value(&mut self, depth: usize) -> Option<Top<'a>> {
        if depth > DEEPEST {
            return None;
        }
        match self.peek()? {
            b'{' => self.object(depth + 1),
            b'[' => self.array(depth + 1),
            b'"' => self.string().map(|()| Top::Other),
            b't' => self.word("true"),
            b'f' => self.word("false"),
            b'n' => self.word("null"),
            _ => self.number(),
        }
    }

    /// A value as text.
    fn part(&mut self, depth: usize) -> Option<&'a str> {
        self.space();
        let start = self.at;
        self.value(depth)?;
        let part = &self.text[start..self.at];
        self.space();
        Some(part)
    }

    fn object(&mut self, depth: usize) -> Option<Top<'a>> {
        self.deepest = self.deepest.max(depth);
        self.take(b'{')?;
        self.space();
        let mut members = Vec::new();
        while self.peek()? != b'}' {
            if !members.is_empty() {
                self.take(b',')?;
                self.space();
            }
            let start = self.at;
            self.string()?;
            let name = &self.text[start..self.at];
            self.space();
            self.take(b':')?;
            members.push((name, self.part(depth)?));
        }
        self.take(b'}')?;
        Some(Top::Object(members))
    }

    fn array(&mut self, depth: usize) -> Option<Top<'a>> {
        self.deepest = self.deepest.max(depth);
        self.take(b'[')?;
        self.space();
        let mut parts = Vec::new();
        while self.peek()? != b']' {
            if !parts.is_empty() {
                self.take(b',')?;
            }
            parts.push(self.part(depth)?);
        }
        self.take(b']')?;
        Some(Top::Array(parts))
    }

    fn string(&mut self) -> Option<()> {
        self.take(b'"')?;
        loop {
            let byte = self.peek()?;
            self.at += 1;
            match byte {
                b'"' => return Some(()),
                b'\\' => self.escape()?,
                0..0x20 => return None,
                _ => {}
            }
        }
    }

    fn escape(&mut self) -> Option<()> {
        let byte = self.peek()?;
        self.at += 1;
        match byte {
            b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => Some(()),
            b'u' => {
                let digits = self.text.as_bytes().get(self.at..self.at + 4)?;
                self.at += 4;
                digits.iter().all(u8::is_ascii_hexdigit).then_some(())
            }
            _ => None,
        }
    }

    fn word(&mut self, word: &str) -> Option<Top<'a>> {
        self.text[self.at..].starts_with(word).then(|| {
            self.at += word.len();
            Top::Other
        })
    }

    fn digits(&mut self) -> Option<()> {
        let start = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        (self.at > start).then_some(())
    }

    fn number(&mut self) -> Option<Top<'a>> {
        let _ = self.take(b'-');
        if self.take(b'0').is_none() {
            self.digits()?;
        }
        if self.take(b'.').is_some() {
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits()?;
        }
        Some(Top::Other)
    }
}
