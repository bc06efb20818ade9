//! Event ids as a replica with certain keys makes and reads them.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use mcp_ferry::config::{Key, Keys};
use mcp_ferry::store::seal::{Purpose, Sealer};

/// One key, made of this byte.
pub(crate) fn keys(byte: u8) -> Keys {
    Keys {
        first: Key::from([byte; 32]),
        second: None,
    }
}

fn sealer(byte: u8) -> Sealer {
    Sealer::new(&keys(byte)).expect("random")
}

/// What a client is given to carry this.
pub(crate) fn sealed(byte: u8, text: &str) -> String {
    URL_SAFE_NO_PAD.encode(sealer(byte).seal(Purpose::Carried, b"", text.as_bytes()))
}

/// What a client carries with this.
pub(crate) fn opened(byte: u8, id: &str) -> String {
    let sealed = URL_SAFE_NO_PAD.decode(id).expect("base64");
    let text = sealer(byte).open(Purpose::Carried, b"", &sealed);
    String::from_utf8(text.expect("of these keys")).expect("UTF-8")
}
