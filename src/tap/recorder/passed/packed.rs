//! Answers that are compressed with gzip or deflate, as they pass: unpacked for the tap, piece by piece, whatever they unpack
//! to. What cannot be is not read from there on.
//!
//! Bounds: [`MAX_UNPACKING`] answers at once, because each needs some 100 KiB; a piece may unpack to [`MAX_UNPACKED`], because
//! a thousandfold is easily had.

use std::fmt;
use std::io::{self, Write};
use std::sync::Arc;

use flate2::write::{MultiGzDecoder, ZlibDecoder};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::body::{Answer, Coded};
use crate::tap::Text;

/// Answers that are unpacked at once; what is in more of them is not read.
pub(in crate::tap::recorder) const MAX_UNPACKING: usize = 64;
/// Bytes that one piece may unpack to.
const MAX_UNPACKED: usize = 4 * 1024 * 1024;

/// Room for answers that are unpacked.
#[derive(Debug)]
pub(super) struct Places(Arc<Semaphore>);

impl Default for Places {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(MAX_UNPACKING)))
    }
}

/// An answer that is unpacked.
pub(super) struct Packed {
    coded: Coded,
    decoder: Decoder,
    _place: OwnedSemaphorePermit,
}

enum Decoder {
    Gzip(MultiGzDecoder<Unpacked>),
    Deflate(ZlibDecoder<Unpacked>),
}

/// What comes out, read as it comes.
struct Unpacked {
    plain: Answer,
    max_body: usize,
    found: Vec<Text>,
    /// Bytes that the present piece may still unpack to.
    room: usize,
    /// Whether anything came out.
    is_begun: bool,
}

impl Packed {
    /// An answer that is `plain` once it is unpacked. `None` where its coding is not known, or there is no place.
    pub(super) fn begin(
        coded: Coded,
        plain: Answer,
        max_body: usize,
        places: &Places,
    ) -> Option<Self> {
        let unpacked = Unpacked {
            plain,
            max_body,
            found: Vec::new(),
            room: 0,
            is_begun: false,
        };
        // RFC 9110 §8.4.1.
        let decoder = match coded.coding.to_ascii_lowercase().as_str() {
            "gzip" | "x-gzip" => Decoder::Gzip(MultiGzDecoder::new(unpacked)),
            "deflate" => Decoder::Deflate(ZlibDecoder::new(unpacked)),
            _ => return None,
        };
        Some(Self {
            coded,
            decoder,
            _place: Arc::clone(&places.0).try_acquire_owned().ok()?,
        })
    }

    /// A piece comes. Gives the messages that end in it, and what is left to say once the rest cannot be unpacked.
    pub(super) fn push(&mut self, piece: &[u8]) -> (Vec<Text>, Option<Coded>) {
        self.unpacked().room = MAX_UNPACKED;
        let writer: &mut dyn Write = match &mut self.decoder {
            Decoder::Gzip(decoder) => decoder,
            Decoder::Deflate(decoder) => decoder,
        };
        let went = writer.write_all(piece).and_then(|()| writer.flush());
        let found = std::mem::take(&mut self.unpacked().found);
        (found, went.err().map(|_| self.coded()))
    }

    /// The answer is over. Gives the message that ends with it, or what is left to say of one that never unpacked to
    /// anything, or has the wrong check sum. One that breaks off gives what there was.
    pub(super) fn finish(&mut self) -> Result<Option<Text>, Coded> {
        let ended = match &mut self.decoder {
            Decoder::Gzip(decoder) => decoder.try_finish(),
            Decoder::Deflate(decoder) => decoder.try_finish(),
        };
        let is_wrong = ended.is_err_and(|error| error.kind() != io::ErrorKind::UnexpectedEof);
        if is_wrong || !self.unpacked().is_begun {
            return Err(self.coded());
        }
        Ok(self.unpacked().plain.finish(false))
    }

    /// What is said of one that is not unpacked.
    pub(super) fn coded(&self) -> Coded {
        self.coded.clone()
    }

    fn unpacked(&mut self) -> &mut Unpacked {
        match &mut self.decoder {
            Decoder::Gzip(decoder) => decoder.get_mut(),
            Decoder::Deflate(decoder) => decoder.get_mut(),
        }
    }
}

impl fmt::Debug for Packed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Packed").field(&self.coded).finish()
    }
}

impl Write for Unpacked {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Some(room) = self.room.checked_sub(bytes.len()) else {
            return Err(io::ErrorKind::FileTooLarge.into());
        };
        self.room = room;
        self.is_begun |= !bytes.is_empty();
        self.found.extend(self.plain.push(bytes, self.max_body));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
