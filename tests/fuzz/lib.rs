//! What the targets check, compiled once for all of them. The ordinary tests run the same functions over the corpora.

#[path = "../it/fuzz/mod.rs"]
mod fuzz;

pub use fuzz::*;
