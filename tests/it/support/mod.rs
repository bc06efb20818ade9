//! What several test modules share.

pub mod model;
pub mod random;
pub mod transcript;
