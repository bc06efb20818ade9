//! mcp-ferry
pub mod config;
pub mod conn;
pub mod demo;
pub mod error;
pub mod metrics;
pub mod proto;
pub mod server;
pub mod store;
pub mod tap;
pub mod upstream;
