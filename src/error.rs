//! What went wrong, and on which side. No HTTP here: what a client is told is decided where responses are made.
//!
//! `Display` says one level; the cause is kept. [`Error::report`] is the whole story on one line, for the operator.

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Whose doing a failure is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The operator's: what was configured cannot work.
    Config,
    /// The client's.
    Client,
    /// The MCP server's, or that of the network before it.
    Upstream,
    /// Ours, or the machine's.
    Internal,
}

/// What failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An address could not be listened on.
    Listen(SocketAddr),
    /// The address of `--admin` could not be listened on.
    Admin(SocketAddr),
    /// The file of `--upstream-ca` could not be used.
    UpstreamCa(PathBuf),
    /// The system's certificate authorities could not be loaded.
    SystemRoots,
    /// The file of `--tap-file` could not be written.
    TapFile(PathBuf),
    /// What `--store` names, shown without secrets, could not be used.
    Store(String),
    /// A recording could not be replayed.
    Replay,
    /// The machine refused threads, signals or other means to run at all.
    Start,
}

/// A failure: side, kind and cause.
#[derive(Debug)]
pub struct Error {
    side: Side,
    kind: Kind,
    cause: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    /// A failure without a cause to tell.
    #[must_use]
    pub fn new(side: Side, kind: Kind) -> Self {
        Self {
            side,
            kind,
            cause: None,
        }
    }

    /// The same failure with its cause.
    #[must_use]
    pub fn because(mut self, cause: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.cause = Some(cause.into());
        self
    }

    /// An address could not be listened on.
    #[must_use]
    pub fn listen(address: SocketAddr, cause: io::Error) -> Self {
        Self::new(Side::Internal, Kind::Listen(address)).because(cause)
    }

    /// The address of `--admin` could not be listened on.
    #[must_use]
    pub fn admin(address: SocketAddr, cause: io::Error) -> Self {
        Self::new(Side::Internal, Kind::Admin(address)).because(cause)
    }

    /// Whose doing it is.
    #[must_use]
    pub fn side(&self) -> Side {
        self.side
    }

    /// What failed.
    #[must_use]
    pub fn kind(&self) -> &Kind {
        &self.kind
    }

    /// The process's exit code when it ends with this error.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self.side {
            // 1 says that a replay differs.
            _ if self.kind == Kind::Replay => 2,
            Side::Config => 2,
            Side::Client | Side::Upstream | Side::Internal => 1,
        }
    }

    /// The failure and all its causes on one line.
    #[must_use]
    pub fn report(&self) -> String {
        let mut report = self.to_string();
        let mut cause = self.source();
        while let Some(error) = cause {
            report.push_str(": ");
            report.push_str(&told(error));
            cause = error.source();
        }
        report
    }

    /// What the operator can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        let io = self.cause.as_ref()?.downcast_ref::<io::Error>()?;
        match (&self.kind, io.kind()) {
            (Kind::Listen(_), io::ErrorKind::AddrInUse) => {
                Some("choose another address with --listen; port 0 picks a free one")
            }
            (Kind::Listen(_), io::ErrorKind::PermissionDenied) => {
                Some("ports below 1024 need a privilege; choose another with --listen")
            }
            (Kind::Listen(_), io::ErrorKind::AddrNotAvailable) => {
                Some("--listen takes an address of this machine, or 0.0.0.0 for all of them")
            }
            (Kind::Admin(_), io::ErrorKind::AddrInUse) => {
                Some("choose another address with --admin; port 0 picks a free one")
            }
            (Kind::Admin(_), io::ErrorKind::PermissionDenied) => {
                Some("ports below 1024 need a privilege; choose another with --admin")
            }
            (Kind::Admin(_), io::ErrorKind::AddrNotAvailable) => {
                Some("--admin takes an address of this machine")
            }
            _ => None,
        }
    }
}

/// A cause in running text: the system's own messages carry a capital and a number that help nobody here.
fn told(error: &(dyn StdError + 'static)) -> String {
    let text = error.to_string();
    if !error.is::<io::Error>() {
        return text;
    }
    let text = text
        .split(" (os error")
        .next()
        .unwrap_or_default()
        .to_owned();
    let mut chars = text.chars();
    match chars.next() {
        Some(first) => first.to_lowercase().chain(chars).collect(),
        None => text,
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            Kind::Listen(address) => write!(f, "cannot listen on {address}"),
            Kind::Admin(address) => write!(f, "cannot listen on {address} (--admin)"),
            Kind::UpstreamCa(path) => write!(f, "cannot use --upstream-ca {}", path.display()),
            Kind::SystemRoots => f.write_str("cannot load the system's certificate authorities"),
            Kind::TapFile(path) => write!(f, "cannot write --tap-file {}", path.display()),
            Kind::Store(address) => write!(f, "cannot use --store {address}"),
            Kind::Replay => f.write_str("cannot replay"),
            Kind::Start => f.write_str("cannot start"),
        }
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.cause
            .as_deref()
            .map(|cause| cause as &(dyn StdError + 'static))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_tells_every_cause_once() {
        let taken = io::Error::from_raw_os_error(98);
        let error = Error::listen("127.0.0.1:8080".parse().unwrap(), taken);
        assert_eq!(error.to_string(), "cannot listen on 127.0.0.1:8080");
        let expected = "cannot listen on 127.0.0.1:8080: address already in use";
        #[cfg(target_os = "linux")]
        assert_eq!(error.report(), expected);
        assert_eq!(error.exit_code(), 1);
        assert!(error.hint().is_some_and(|hint| hint.contains("--listen")));

        let error = Error::new(Side::Config, Kind::SystemRoots).because("none found");
        assert_eq!(
            error.report(),
            "cannot load the system's certificate authorities: none found"
        );
        assert_eq!((error.exit_code(), error.hint()), (2, None));
    }
}
