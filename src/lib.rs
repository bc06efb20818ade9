//! mcp-ferry
pub mod proto;
