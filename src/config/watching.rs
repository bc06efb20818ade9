//! What the operator says of the admin listener and of the tap: the flags, and the rules between them.
//!
//! What crosses the ferry is other people's work, so that the way to look at it is narrow: loopback, unless two flags say
//! otherwise. Nothing here opens a file or a socket.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{ArgAction, Args};

use super::Refused;
use super::flags::on_off;
use super::http::listen;
use super::parse::Names;
use super::values::{count, quoted, size};

/// Characters that a token of the operator's has at least.
const LEAST_TOKEN: usize = 32;
/// And at most: it travels in a header.
const MOST_TOKEN: usize = 512;
/// Bytes that a name of `--redact` may have.
const LONGEST_NAME: usize = 128;

#[derive(Debug, Args)]
#[command(next_help_heading = "Admin")]
pub(super) struct AdminFlags {
    /// Serve the tap's page, metrics and health checks at this address; off by default
    ///
    /// A loopback address, as in 127.0.0.1:9090, unless --admin-allow-remote says otherwise. Whoever has the access token
    /// can read what crosses.
    #[arg(id = "admin", long = "admin", value_name = "ADDR:PORT", value_parser = listen)]
    pub(super) listen: Option<SocketAddr>,
    /// Let --admin be an address that others can reach
    ///
    /// It is served without TLS, so that the network, or a proxy in front, has to keep it private.
    #[arg(id = "admin_allow_remote", long = "admin-allow-remote")]
    pub(super) allow_remote: bool,
    /// The access token of --admin, 32 characters or more; by default a new one is made and printed at every start
    ///
    /// Better kept in the environment, where other users of the machine cannot see it.
    #[arg(id = "admin_token", long = "admin-token", value_name = "TOKEN", value_parser = token)]
    pub(super) token: Option<Token>,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Tap")]
pub(super) struct TapFlags {
    /// Print what crosses, a line for each message: summary, full (with the messages' text), off
    ///
    /// Without a value it is summary. Secrets are redacted wherever the tap shows something.
    #[arg(long, value_name = "MODE", default_value = "off", default_missing_value = "summary", num_args = 0..=1, value_parser = terminal)]
    pub(super) tap: Terminal,
    /// Write what crosses to this file, as JSON lines
    #[arg(long, value_name = "FILE", value_parser = file)]
    pub(super) tap_file: Option<PathBuf>,
    /// The size at which --tap-file is renamed to FILE.1, and a new one begun (1MiB to 64GiB)
    #[arg(long, value_name = "SIZE", default_value = "64MiB", value_parser = size("1MiB", "64GiB"))]
    pub(super) tap_file_size: usize,
    /// How many renamed files are kept besides (0 to 1000)
    #[arg(long, value_name = "NUMBER", default_value = "4", value_parser = count("0", "1000"))]
    pub(super) tap_file_keep: usize,
    /// Keep the text of messages: on, or off for their kind, method, name and size only
    #[arg(long, value_name = "MODE", default_value = "on", value_parser = on_off, action = ArgAction::Set)]
    pub(super) tap_bodies: bool,
    /// How much of one message the tap keeps (1KiB to 16MiB)
    #[arg(long, value_name = "SIZE", default_value = "64KiB", value_parser = size("1KiB", "16MiB"))]
    pub(super) tap_max_body: usize,
    /// A header, member of a message or part of a query whose value the tap never shows; may be repeated
    ///
    /// A `*` at an end stands for whatever is there, as in x-my-* or *name. Besides those that are known to hold secrets, such as Authorization, cookies, and what is called token or password.
    #[arg(long, value_name = "NAME", value_parser = name, value_delimiter = ',')]
    pub(super) redact: Vec<String>,
}

/// The admin listener.
#[derive(Clone, Debug)]
pub struct Admin {
    /// Where it listens; a loopback address, or `allow_remote` is set and `token` given.
    pub listen: SocketAddr,
    /// Whether it may be reached from other machines.
    pub allow_remote: bool,
    /// The operator's own access token; without one the ferry makes its own.
    pub token: Option<Token>,
}

/// An access token, which is not shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(pub String);

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// What is watched, and where it is shown.
#[derive(Clone, Debug)]
pub struct Tap {
    /// What is printed.
    pub terminal: Terminal,
    /// What is written to a file.
    pub file: Option<TapFile>,
    /// Whether the text of messages is kept.
    pub bodies: bool,
    /// Bytes of one message's text that are kept.
    pub max_body: usize,
    /// Names whose values are never shown, besides the usual ones; as the operator wrote them.
    pub redact: Vec<String>,
}

/// What the tap prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Terminal {
    /// Nothing.
    Off,
    /// A line for each message.
    Summary,
    /// The text of each message besides.
    Full,
}

/// The file that the tap writes, and how it is kept from growing for ever.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TapFile {
    /// Where it is.
    pub path: PathBuf,
    /// Bytes at which it is renamed and a new one begun.
    pub size: u64,
    /// Renamed files that are kept besides.
    pub keep: usize,
}

/// The admin listener that the flags ask for, if they do. `listens` are the addresses of the ferry itself.
pub(super) fn admin(
    flags: AdminFlags,
    listens: &[SocketAddr],
    names: &Names,
) -> Result<Option<Admin>, Refused> {
    let AdminFlags {
        listen,
        allow_remote,
        token,
    } = flags;
    let of = |flag| names.of(flag);
    let Some(listen) = listen else {
        let without = |flag| {
            let why = format!("{}: there is no --admin to use it for", of(flag));
            Refused::new(why).hint("add --admin 127.0.0.1:9090")
        };
        return match (token, allow_remote) {
            (Some(_), _) => Err(without("--admin-token")),
            (None, true) => Err(without("--admin-allow-remote")),
            (None, false) => Ok(None),
        };
    };
    if listen.port() != 0 && listens.contains(&listen) {
        let (admin, other) = (of("--admin"), of("--listen"));
        return Err(Refused::new(format!(
            "{admin}: {listen} is already the value of {other}"
        )));
    }
    if !listen.ip().to_canonical().is_loopback() {
        let admin = of("--admin");
        if !allow_remote {
            return Err(Refused::new(format!(
                "{admin}: {listen} is not a loopback address, and what crosses would be open to the network"
            ))
            .hint("use 127.0.0.1, or add --admin-allow-remote and an --admin-token of your own"));
        }
        if token.is_none() {
            return Err(Refused::new(format!(
                "{admin}: {listen} is not a loopback address and needs an --admin-token of your own"
            ))
            .hint(format!(
                "at least {LEAST_TOKEN} characters, in MCP_FERRY_ADMIN_TOKEN; openssl rand -hex 32 makes one"
            )));
        }
    }
    Ok(Some(Admin {
        listen,
        allow_remote,
        token,
    }))
}

pub(super) fn tap(flags: TapFlags) -> Tap {
    let size = u64::try_from(flags.tap_file_size).unwrap_or(u64::MAX);
    let keep = flags.tap_file_keep;
    Tap {
        terminal: flags.tap,
        file: flags.tap_file.map(|path| TapFile { path, size, keep }),
        bodies: flags.tap_bodies,
        max_body: flags.tap_max_body,
        redact: flags.redact,
    }
}

/// What can stand in an `Authorization` header and in the fragment of a URL as it is (RFC 6750 §2.1). The complaint does
/// not repeat it.
fn token(text: &str) -> Result<Token, String> {
    let text = text.trim();
    let usual = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte);
    if !text.bytes().all(usual) {
        return Err("has characters other than letters, digits and -._~+/=".to_owned());
    }
    match text.len() {
        length if length < LEAST_TOKEN => Err(format!(
            "has {length} characters, and needs {LEAST_TOKEN} at least"
        )),
        length if length > MOST_TOKEN => Err(format!(
            "has {length} characters, and may have {MOST_TOKEN} at most"
        )),
        _ => Ok(Token(text.to_owned())),
    }
}

fn terminal(text: &str) -> Result<Terminal, String> {
    match text.trim() {
        "off" => Ok(Terminal::Off),
        "summary" => Ok(Terminal::Summary),
        "full" => Ok(Terminal::Full),
        _ => Err(format!("{} is none of summary, full, off", quoted(text))),
    }
}

fn file(text: &str) -> Result<PathBuf, String> {
    if text.trim().is_empty() {
        return Err("is empty: name a file".to_owned());
    }
    let path = PathBuf::from(text);
    if path.file_name().is_none() || text.ends_with('/') {
        return Err(format!("{} is a folder: name a file in it", quoted(text)));
    }
    Ok(path)
}

/// A name as headers, members and queries have them, with a `*` at an end for parts of names. What cannot be one would
/// protect nothing, and nobody would notice. The complaint does not repeat it: it may come with the value.
fn name(text: &str) -> Result<String, String> {
    let text = text.trim();
    let part = text.strip_prefix('*').unwrap_or(text);
    let part = part.strip_suffix('*').unwrap_or(part);
    let odd = |char: char| char.is_whitespace() || char.is_control() || "=:*\"".contains(char);
    // A name of signs alone is compared without them, and would fit nothing, or everything.
    let says = |char: char| char.is_alphanumeric();
    if !part.contains(says) || text.len() > LONGEST_NAME || part.contains(odd) {
        return Err(
            "takes a name, without a value, as in x-customer or apiKey; a * may stand at its ends, for parts of names"
                .to_owned(),
        );
    }
    Ok(text.to_owned())
}
