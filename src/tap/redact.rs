//! Placeholder.
use std::hash::{BuildHasher as _, RandomState};
/// x
#[derive(Debug)]
pub struct Redactor(RandomState);
impl Redactor {
    /// x
    pub fn new(_: &[String]) -> Self { Self(RandomState::new()) }
    /// x
    pub fn header(&self, _: &str, value: &[u8]) -> String { String::from_utf8_lossy(value).into_owned() }
    /// x
    pub fn target(&self, t: &str) -> String { t.to_owned() }
    /// x
    pub fn text(&self, t: &str) -> String { t.to_owned() }
    /// x
    pub fn hash(&self, t: &str) -> String { format!("{:06x}", self.0.hash_one(t) & 0xff_ffff) }
}
