//! HTTP/1.1 by hand, both sides: heads by `httparse`, body framing here.

use crate::{Context, Result};

/// How a body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// After so many bytes.
    Length(usize),
    /// After the last chunk.
    Chunked,
    /// With the connection.
    Close,
}

/// What the rig reads from a response's head.
#[derive(Debug)]
pub struct ResponseHead {
    pub status: u16,
    pub framing: Framing,
    pub event_stream: bool,
    pub session: Option<String>,
}

/// What the rig reads from a request's head.
#[derive(Debug)]
pub struct RequestHead {
    pub method: String,
    pub path: String,
    pub framing: Framing,
    pub session: Option<String>,
    /// `MCP-Protocol-Version`, `Mcp-Method` and `Mcp-Name`, where they are sent.
    pub version: Option<String>,
    pub mcp_method: Option<String>,
    pub mcp_name: Option<String>,
    pub accepts_both: bool,
    pub close: bool,
}

const HEADERS: usize = 64;

/// The head at the front of `bytes` and its length, or `None` when it is not whole yet.
pub fn response_head(bytes: &[u8]) -> Result<Option<(ResponseHead, usize)>> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS];
    let mut parsed = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(used) = parsed.parse(bytes).context("response head")? else {
        return Ok(None);
    };
    let status = parsed.code.unwrap_or(0);
    let mut head = ResponseHead {
        status,
        framing: Framing::Close,
        event_stream: false,
        session: None,
    };
    if status == 204 || status == 304 {
        head.framing = Framing::Length(0);
    }
    for header in parsed.headers.iter() {
        if header.name.eq_ignore_ascii_case("content-length") {
            head.framing = Framing::Length(number(header.value)?);
        } else if header.name.eq_ignore_ascii_case("transfer-encoding") {
            head.framing = Framing::Chunked;
        } else if header.name.eq_ignore_ascii_case("content-type") {
            head.event_stream = header.value.starts_with(b"text/event-stream");
        } else if header.name.eq_ignore_ascii_case("mcp-session-id") {
            head.session = Some(text(header.value)?);
        }
    }
    Ok(Some((head, used)))
}

/// The head at the front of `bytes` and its length, or `None` when it is not whole yet.
pub fn request_head(bytes: &[u8]) -> Result<Option<(RequestHead, usize)>> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS];
    let mut parsed = httparse::Request::new(&mut headers);
    let httparse::Status::Complete(used) = parsed.parse(bytes).context("request head")? else {
        return Ok(None);
    };
    let mut head = RequestHead {
        method: parsed.method.unwrap_or_default().to_owned(),
        path: parsed.path.unwrap_or_default().to_owned(),
        framing: Framing::Length(0),
        session: None,
        version: None,
        mcp_method: None,
        mcp_name: None,
        accepts_both: false,
        close: parsed.version == Some(0),
    };
    let (mut json, mut events) = (false, false);
    for header in parsed.headers.iter() {
        if header.name.eq_ignore_ascii_case("content-length") {
            head.framing = Framing::Length(number(header.value)?);
        } else if header.name.eq_ignore_ascii_case("transfer-encoding") {
            head.framing = Framing::Chunked;
        } else if header.name.eq_ignore_ascii_case("accept") {
            json |= memchr::memmem::find(header.value, b"application/json").is_some();
            events |= memchr::memmem::find(header.value, b"text/event-stream").is_some();
        } else if header.name.eq_ignore_ascii_case("mcp-session-id") {
            head.session = Some(text(header.value)?);
        } else if header.name.eq_ignore_ascii_case("mcp-protocol-version") {
            head.version = Some(text(header.value)?);
        } else if header.name.eq_ignore_ascii_case("mcp-method") {
            head.mcp_method = Some(text(header.value)?);
        } else if header.name.eq_ignore_ascii_case("mcp-name") {
            head.mcp_name = Some(text(header.value)?);
        } else if header.name.eq_ignore_ascii_case("connection") {
            head.close |= header.value.eq_ignore_ascii_case(b"close");
        }
    }
    head.accepts_both = json && events;
    Ok(Some((head, used)))
}

fn text(value: &[u8]) -> Result<String> {
    String::from_utf8(value.to_vec()).context("header value")
}

fn number(value: &[u8]) -> Result<usize> {
    std::str::from_utf8(value)
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .ok_or_else(|| "bad content-length".into())
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    Size,
    Extension,
    Data,
    DataEnd,
    Trailer { empty: bool },
    Done,
}

/// Takes chunked framing off a body, in whatever pieces it arrives.
#[derive(Debug)]
pub struct Chunked {
    at: At,
    left: usize,
}

impl Default for Chunked {
    fn default() -> Self {
        Self {
            at: At::Size,
            left: 0,
        }
    }
}

impl Chunked {
    /// Appends what is body in `input` to `out`; says how much of `input` belonged to it.
    pub fn decode(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<usize> {
        let mut used = 0;
        while let Some(&byte) = input.get(used).filter(|_| self.at != At::Done) {
            if self.at == At::Data {
                let piece = &input[used..input.len().min(used + self.left)];
                out.extend_from_slice(piece);
                used += piece.len();
                self.left -= piece.len();
                if self.left == 0 {
                    self.at = At::DataEnd;
                }
                continue;
            }
            used += 1;
            self.at = match (self.at, byte) {
                (At::Size | At::Extension, b'\n') if self.left == 0 => At::Trailer { empty: true },
                (At::Size | At::Extension, b'\n') => At::Data,
                (At::Size, b'\r') | (At::Extension, _) => At::Extension,
                (At::Size, b';') => At::Extension,
                (At::Size, digit) => {
                    let value = char::from(digit).to_digit(16).ok_or("bad chunk size")?;
                    self.left =
                        self.left.checked_mul(16).ok_or("chunk too large")? + value as usize;
                    At::Size
                }
                (At::DataEnd, b'\n') => At::Size,
                (At::DataEnd, b'\r') => At::DataEnd,
                (At::DataEnd, _) => return Err("chunk longer than its size".into()),
                (At::Trailer { empty: true }, b'\n') => At::Done,
                (At::Trailer { empty: false }, b'\n') => At::Trailer { empty: true },
                (At::Trailer { empty }, b'\r') => At::Trailer { empty },
                (At::Trailer { .. }, _) => At::Trailer { empty: false },
                (At::Data | At::Done, _) => unreachable!("handled above"),
            };
        }
        Ok(used)
    }

    /// Whether the last chunk was seen.
    pub fn done(&self) -> bool {
        self.at == At::Done
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunked_is_the_same_however_it_is_cut() {
        let wire = b"5\r\nhello\r\n1;x=y\r\n \r\n00a\r\nworld12345\r\n0\r\nT: v\r\n\r\nNEXT";
        for cut in 0..wire.len() {
            let (mut decoder, mut body) = (Chunked::default(), Vec::new());
            let mut used = decoder.decode(&wire[..cut], &mut body).unwrap();
            if used == cut {
                used += decoder.decode(&wire[cut..], &mut body).unwrap();
            }
            assert!(decoder.done());
            assert_eq!(body, b"hello world12345");
            assert_eq!(&wire[used..], b"NEXT");
        }
    }

    #[test]
    fn a_chunk_that_is_too_long_is_refused() {
        assert!(
            Chunked::default()
                .decode(b"2\r\nabc\r\n", &mut Vec::new())
                .is_err()
        );
        assert!(
            Chunked::default()
                .decode(b"zz\r\n", &mut Vec::new())
                .is_err()
        );
    }
}
