//! Objects that say in one member what stands in another, in either order: `{"name": "api_key", "value": "…"}`.

use super::json::{is_space, string, unescaped};
use super::names::Names;
use super::{part, run};

/// Members that say what the member `value` is.
const NAMING: [&str; 3] = ["name", "key", "header"];

/// Where the members called `value` stand whose objects say that they are secrets, in the text's order. One pass, which like all
/// of them never fails and keeps a byte a level.
pub(super) fn named(names: &Names, text: &str) -> Vec<usize> {
    let mut objects = Objects::default();
    let mut is_naming = false;
    let mut at = 0;
    while let Some(byte) = text.as_bytes().get(at) {
        at = match byte {
            b'"' => {
                let (from, to, end) = string(text, at);
                let content = unescaped(part(text, from, to));
                let colon = run(text, end, is_space);
                if text.as_bytes().get(colon) == Some(&b':') {
                    is_naming = NAMING.contains(&&*content);
                    if content == "value" {
                        objects.values.push((objects.open.len(), at));
                    }
                } else if std::mem::take(&mut is_naming)
                    && let Some(is_named) = objects.open.last_mut()
                {
                    *is_named |= names.class(&content).is_some();
                }
                end
            }
            b'{' | b'[' => {
                objects.open.push(false);
                at.saturating_add(1)
            }
            b'}' | b']' => {
                objects.close();
                at.saturating_add(1)
            }
            _ => run(text, at, |byte| {
                !matches!(byte, b'"' | b'{' | b'[' | b'}' | b']')
            }),
        };
    }
    while !objects.open.is_empty() {
        objects.close();
    }
    objects.named.sort_unstable();
    objects.named
}

/// What is known of the objects that are open.
#[derive(Default)]
struct Objects {
    /// Whether one of its members names a secret, for each bracket that is open.
    open: Vec<bool>,
    /// Their members called `value`: how many brackets were open, and where it stands.
    values: Vec<(usize, usize)>,
    /// Those that turned out to be secrets.
    named: Vec<usize>,
}

impl Objects {
    fn close(&mut self) {
        let level = self.open.len();
        let is_named = self.open.pop().unwrap_or_default();
        while let Some((_, at)) = self.values.pop_if(|(within, _)| *within >= level) {
            if is_named {
                self.named.push(at);
            }
        }
    }
}
