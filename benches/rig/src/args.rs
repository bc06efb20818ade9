//! The rig's command lines: `--name value` pairs and bare `--name` switches, no more.

use crate::Result;
use std::collections::HashMap;
use std::str::FromStr;

/// The arguments of one program.
pub struct Args(HashMap<String, String>);

impl Args {
    /// Reads `--name value` and `--name` (a switch) from what is left of the command line.
    pub fn read(words: impl Iterator<Item = String>) -> Result<Self> {
        let mut found = HashMap::new();
        let mut words = words.peekable();
        while let Some(word) = words.next() {
            let Some(name) = word.strip_prefix("--") else {
                return Err(format!("expected --name, got {word:?}"));
            };
            let value = words
                .next_if(|next| !next.starts_with("--"))
                .unwrap_or_default();
            found.insert(name.to_owned(), value);
        }
        Ok(Self(found))
    }

    /// A value that must be there.
    pub fn need<T: FromStr>(&self, name: &str) -> Result<T> {
        self.get(name)?
            .ok_or_else(|| format!("--{name} is missing"))
    }

    /// A value that may be there.
    pub fn get<T: FromStr>(&self, name: &str) -> Result<Option<T>> {
        let Some(text) = self.0.get(name) else {
            return Ok(None);
        };
        text.parse()
            .map(Some)
            .map_err(|_| format!("--{name} cannot be {text:?}"))
    }

    /// A comma-separated list; empty when it is not there.
    pub fn list(&self, name: &str) -> Result<Vec<u32>> {
        let text = self.0.get(name).map_or("", String::as_str);
        let words = text.split(',').filter(|word| !word.is_empty());
        words
            .map(|word| {
                word.parse()
                    .map_err(|_| format!("--{name} cannot hold {word:?}"))
            })
            .collect()
    }

    /// Whether a switch is there.
    pub fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }
}
