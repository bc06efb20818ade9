//! The content of an entry, before it is sealed: a request, or an answer, as bytes. What was opened came from a replica with
//! our keys; still nothing in it is trusted to be well-formed.
//!
//! Numbers are big-endian. A text is its length in two bytes and its bytes, a value likewise with four; the body is the
//! rest.

use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;

use super::window::Process;
use super::{Handed, Method, Reply};
use crate::store::{ConnectionId, Front};

/// The version of both forms. Another is not read: while replicas of two forms run side by side, they answer 503.
const VERSION: u8 = 1;
/// Headers of a request or an answer; more are not written, and not read.
const MAX_HEADERS: usize = 128;

type Header = (Box<str>, Box<[u8]>);

/// With which process is to take it, and what time it is there, in milliseconds. `None` when a part is longer than its form
/// has room for.
pub(super) fn write_request(request: &Handed, to: &Process, theirs: u64) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(256 + request.body.len());
    bytes.push(VERSION);
    bytes.extend_from_slice(to);
    bytes.extend_from_slice(&theirs.to_be_bytes());
    bytes.push(match request.front {
        Front::Stream => 0,
        Front::Session => 1,
    });
    bytes.push(match request.method {
        Method::Post => 0,
        Method::Get => 1,
        Method::Delete => 2,
    });
    bytes.extend_from_slice(&request.id.0);
    let hold = u32::try_from(request.hold.as_millis()).ok()?;
    bytes.extend_from_slice(&hold.to_be_bytes());
    match request.peer {
        IpAddr::V4(address) => {
            bytes.push(4);
            bytes.extend_from_slice(&address.octets());
        }
        IpAddr::V6(address) => {
            bytes.push(6);
            bytes.extend_from_slice(&address.octets());
        }
    }
    write_headers(&mut bytes, &request.headers)?;
    bytes.extend_from_slice(&request.body);
    Some(bytes)
}

/// A request, and the process and the time that it came with. `None` for what is no request of this version.
pub(super) fn read_request(bytes: Vec<u8>) -> Option<(Handed, Process, u64)> {
    let bytes = Bytes::from(bytes);
    let mut from = Reader(&bytes);
    let VERSION = from.byte()? else { return None };
    let to = from.array()?;
    let theirs = u64::from_be_bytes(from.array()?);
    let (front, method) = (from.byte()?, from.byte()?);
    let request = Handed {
        front: match front {
            0 => Front::Stream,
            1 => Front::Session,
            _ => return None,
        },
        method: match method {
            0 => Method::Post,
            1 => Method::Get,
            2 => Method::Delete,
            _ => return None,
        },
        id: ConnectionId(from.array()?),
        hold: Duration::from_millis(u32::from_be_bytes(from.array()?).into()),
        peer: match from.byte()? {
            4 => IpAddr::from(from.array::<4>()?),
            6 => IpAddr::from(from.array::<16>()?),
            _ => return None,
        },
        headers: read_headers(&mut from)?,
        body: bytes.slice_ref(from.0),
    };
    Some((request, to, theirs))
}

/// `None` when a part is longer than its form has room for.
pub(super) fn write_reply(reply: &Reply) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(64 + reply.body.len());
    bytes.push(VERSION);
    bytes.extend_from_slice(&reply.status.to_be_bytes());
    write_headers(&mut bytes, &reply.headers)?;
    bytes.extend_from_slice(&reply.body);
    Some(bytes)
}

/// `None` for what is no answer of this version.
pub(super) fn read_reply(bytes: Vec<u8>) -> Option<Reply> {
    let bytes = Bytes::from(bytes);
    let mut from = Reader(&bytes);
    let VERSION = from.byte()? else { return None };
    let status = u16::from_be_bytes(from.array()?);
    if !(100..1000).contains(&status) {
        return None;
    }
    let headers = read_headers(&mut from)?;
    Some(Reply {
        status,
        headers,
        body: bytes.slice_ref(from.0),
    })
}

fn write_headers(bytes: &mut Vec<u8>, headers: &[Header]) -> Option<()> {
    if headers.len() > MAX_HEADERS {
        return None;
    }
    bytes.extend_from_slice(&u16::try_from(headers.len()).ok()?.to_be_bytes());
    for (name, value) in headers {
        bytes.extend_from_slice(&u16::try_from(name.len()).ok()?.to_be_bytes());
        bytes.extend_from_slice(name.as_bytes());
        bytes.extend_from_slice(&u32::try_from(value.len()).ok()?.to_be_bytes());
        bytes.extend_from_slice(value);
    }
    Some(())
}

fn read_headers(from: &mut Reader<'_>) -> Option<Vec<Header>> {
    let count = usize::from(u16::from_be_bytes(from.array()?));
    if count > MAX_HEADERS {
        return None;
    }
    let mut headers = Vec::with_capacity(count);
    for _ in 0..count {
        let length = u16::from_be_bytes(from.array()?).into();
        let name = str::from_utf8(from.take(length)?).ok()?;
        let length = u32::from_be_bytes(from.array()?);
        let value = from.take(usize::try_from(length).ok()?)?;
        headers.push((name.into(), value.into()));
    }
    Some(headers)
}

/// What is left to read.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const LENGTH: usize>(&mut self) -> Option<[u8; LENGTH]> {
        let (taken, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*taken)
    }

    fn byte(&mut self) -> Option<u8> {
        self.array().map(|[byte]| byte)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    const OWNER: Process = [9; 16];

    pub(crate) fn request(body: &str) -> Handed {
        Handed {
            front: Front::Stream,
            id: ConnectionId([7; 32]),
            method: Method::Post,
            headers: vec![
                ("authorization".into(), b"Bearer s3cret".as_slice().into()),
                ("x-empty".into(), b"".as_slice().into()),
                ("x-bytes".into(), b"\xff\x00\n".as_slice().into()),
            ],
            peer: [192, 0, 2, 1].into(),
            body: Bytes::copy_from_slice(body.as_bytes()),
            hold: Duration::from_secs(1),
        }
    }

    pub(crate) fn reply(status: u16) -> Reply {
        Reply {
            status,
            headers: vec![("www-authenticate".into(), b"Bearer".as_slice().into())],
            body: Bytes::from_static(b"no"),
        }
    }

    #[test]
    fn what_is_written_reads_back() {
        let mut request = request("{}");
        assert_eq!(
            read_request(write_request(&request, &OWNER, 7).unwrap()),
            Some((request.clone(), OWNER, 7))
        );
        request.front = Front::Session;
        request.method = Method::Delete;
        request.peer = "2001:db8::1".parse().unwrap();
        request.headers.clear();
        request.body = Bytes::new();
        assert_eq!(
            read_request(write_request(&request, &OWNER, 7).unwrap()),
            Some((request, OWNER, 7))
        );
        let reply = reply(401);
        assert_eq!(read_reply(write_reply(&reply).unwrap()), Some(reply));
    }

    #[test]
    fn no_cut_and_no_changed_byte_is_a_panic() {
        let written = [
            write_request(&request(""), &OWNER, 7).unwrap(),
            write_reply(&Reply {
                body: Bytes::new(),
                ..reply(202)
            })
            .unwrap(),
        ];
        for bytes in written {
            let read = |bytes: &[u8]| {
                (
                    read_request(bytes.to_vec()).is_some(),
                    read_reply(bytes.to_vec()).is_some(),
                )
            };
            for end in 0..bytes.len() {
                assert_eq!(read(&bytes[..end]), (false, false), "cut at {end}");
            }
            for at in 0..bytes.len() {
                for byte in [0, 1, 0x7f, 0xff] {
                    let mut changed = bytes.clone();
                    changed[at] = byte;
                    read(&changed);
                }
            }
        }
    }

    #[test]
    fn what_has_no_form_is_not_written() {
        let mut request = request("");
        request.headers = vec![("a".into(), b"".as_slice().into()); MAX_HEADERS + 1];
        assert_eq!(write_request(&request, &OWNER, 7), None);
        request.headers = vec![("a".repeat(70_000).into(), b"".as_slice().into())];
        assert_eq!(write_request(&request, &OWNER, 7), None);
    }
}
