//! What several test modules share.

pub(crate) mod answer;
pub(crate) mod call;
pub(crate) mod chaos;
pub(crate) mod client;
pub(crate) mod clock;
pub(crate) mod ferry;
pub(crate) mod http;
pub(crate) mod port;
pub(crate) mod random;
pub(crate) mod redis;
pub(crate) mod scene;
pub(crate) mod script;
pub(crate) mod servers;
pub(crate) mod session;
pub(crate) mod stream;
pub(crate) mod tls;
pub mod transcript;
pub(crate) mod upstream;
