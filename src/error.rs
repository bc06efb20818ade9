//! temporary
#![allow(missing_docs)]
use std::fmt;
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Config,
    Client,
    Upstream,
    Internal,
}
#[derive(Debug)]
pub struct Error {
    pub side: Side,
    what: String,
    cause: Option<Box<dyn std::error::Error + Send + Sync>>,
}
impl Error {
    pub fn config(
        what: impl Into<String>,
        cause: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self {
            side: Side::Config,
            what: what.into(),
            cause: Some(cause.into()),
        }
    }
    pub fn internal(
        what: impl Into<String>,
        cause: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self {
            side: Side::Internal,
            what: what.into(),
            cause: Some(cause.into()),
        }
    }
}
impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        if let Some(c) = &self.cause {
            write!(f, ": {c}")?;
        }
        Ok(())
    }
}
impl std::error::Error for Error {}
impl Error {
    pub fn listen(a: std::net::SocketAddr, cause: std::io::Error) -> Self {
        Self {
            side: Side::Config,
            what: format!("cannot listen on {a}"),
            cause: Some(cause.into()),
        }
    }
}
