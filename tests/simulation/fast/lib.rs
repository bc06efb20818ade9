//! The pure layer of the ferry by itself. It names nothing of ours but itself, so it stands alone.

#[path = "../../../src/proto/mod.rs"]
pub mod proto;
