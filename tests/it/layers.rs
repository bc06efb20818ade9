//! The architecture as a test: a module may name only modules of lower layers, and the core stays pure.
//!
//! The sources are read as text, without comments and strings. That is cruder than a parser and quite enough: every
//! way to name a module of this crate begins with `crate::` or climbs there with `super::`.

use std::fs;
use std::path::{Path, PathBuf};

/// The table of `src/lib.rs`: a module may name what stands in lower layers. `lib.rs` and `main.rs` put it together.
const LAYERS: [(&str, usize); 16] = [
    ("proto", 0),
    ("config", 1),
    ("error", 1),
    ("metrics", 1),
    ("logging", 1),
    ("health", 1),
    ("budget", 1),
    ("outlet", 1),
    ("legacy_client", 1),
    ("tap", 2),
    ("upstream", 3),
    ("store", 3),
    ("conn", 4),
    ("server", 5),
    ("demo", 6),
    ("replay", 6),
];

/// Within a layer, who may name whom: one way only, so that there is no circle.
const NEIGHBOURS: [(&str, &str); 2] = [
    // How to log is configured.
    ("logging", "config"),
    // A POST that is handed over carries what goes upstream with it.
    ("store", "upstream"),
];

/// What the pure core may not name: IO, tasks, clocks, randomness; maps whose order is random.
const IMPURE: [&str; 15] = [
    "tokio",
    "hyper",
    "hyper_util",
    "futures_util",
    "getrandom",
    "rand",
    "SystemTime",
    "HashMap",
    "HashSet",
    "RandomState",
    "Instant::now",
    "std::net",
    "std::thread",
    "std::fs",
    "std::env",
];

fn layer(module: &str) -> Option<usize> {
    let found = LAYERS.iter().find(|(name, _)| *name == module);
    found.map(|(_, layer)| *layer)
}

/// The text without comments, strings and character literals, each replaced by a space.
fn code(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut code = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let rest = &text[at..];
        let skipped = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if let Some(hashes) = raw_string(rest) {
            let close = format!("\"{}", "#".repeat(hashes));
            let open = 2 + hashes;
            rest[open..]
                .find(&close)
                .map_or(rest.len(), |end| open + end + close.len())
        } else if rest.starts_with('"') {
            string_length(rest)
        } else if rest.starts_with("'\"'") || rest.starts_with("'\\") {
            rest[2..].find('\'').map_or(1, |end| end + 3)
        } else {
            0
        };
        if skipped > 0 {
            code.push(b' ');
            at += skipped;
        } else {
            let from = at;
            at += 1;
            while !text.is_char_boundary(at) {
                at += 1;
            }
            code.extend_from_slice(&bytes[from..at]);
        }
    }
    String::from_utf8(code).expect("whole characters")
}

/// How many `#` open the raw string that begins here.
fn raw_string(text: &str) -> Option<usize> {
    let after = text.strip_prefix('r')?;
    let hashes = after.len() - after.trim_start_matches('#').len();
    after[hashes..].starts_with('"').then_some(hashes)
}

fn string_length(text: &str) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// The words of the code: names and single signs.
fn words(code: &str) -> Vec<&str> {
    let mut words = Vec::new();
    let mut rest = code.trim_start();
    while !rest.is_empty() {
        let name = rest
            .find(|c: char| !c.is_alphanumeric() && c != '_')
            .unwrap_or(rest.len());
        let length = match name {
            0 if rest.starts_with("::") => 2,
            0 => rest.chars().next().map_or(1, char::len_utf8),
            length => length,
        };
        words.push(&rest[..length]);
        rest = rest[length..].trim_start();
    }
    words
}

/// Every module of this crate that the text names from the root. `depth` is how far down the text's own module lies: a
/// `super` for each step leads to the root (inside a nested module to less, so this only ever finds too much).
fn named(text: &str, depth: usize) -> Vec<String> {
    let code = code(text);
    let words = words(&code);
    let mut named = Vec::new();
    let mut at = 0;
    while at < words.len() {
        let mut supers = 0;
        while words.get(at + 2 * supers..at + 2 * supers + 2) == Some(&["super", "::"]) {
            supers += 1;
        }
        let crates = matches!(words[at], "crate" | "mcp_ferry") && words.get(at + 1) == Some(&"::");
        if crates || (supers > 0 && supers >= depth) {
            at += if crates { 2 } else { 2 * supers };
            let mut level = 0;
            loop {
                match words.get(at) {
                    Some(&"{") => level += 1,
                    Some(&"}") => level -= 1,
                    // Only the first name of each path counts.
                    Some(word) if level <= 1 && first_of_path(&words, at) => {
                        named.push((*word).to_owned())
                    }
                    Some(_) => {}
                    None => break,
                }
                at += 1;
                if level == 0 {
                    break;
                }
            }
        } else {
            at += 1;
        }
    }
    named
}

fn first_of_path(words: &[&str], at: usize) -> bool {
    let name = words[at].starts_with(|c: char| c.is_alphabetic() || c == '_');
    let opens = at == 0 || matches!(words[at - 1], "{" | ",");
    let follows =
        at > 1 && words[at - 1] == "::" && matches!(words[at - 2], "crate" | "mcp_ferry" | "super");
    name && (opens || follows)
}

/// What is wrong with a file. `path` is relative to `src`.
fn violations(path: &Path, text: &str) -> Vec<String> {
    let mut parts: Vec<String> = path
        .with_extension("")
        .iter()
        .map(|part| part.to_string_lossy().into_owned())
        .collect();
    if parts.last().is_some_and(|part| part == "mod") {
        parts.pop();
    }
    let own = parts[0].clone();
    let mut wrong = Vec::new();
    if matches!(own.as_str(), "lib" | "main") {
        return wrong;
    }
    let Some(own_layer) = layer(&own) else {
        return vec![format!("{own} is in no layer")];
    };
    for name in named(text, parts.len()) {
        let neighbour = NEIGHBOURS.contains(&(own.as_str(), name.as_str()));
        if let Some(other) = layer(&name)
            && name != own
            && other >= own_layer
            && !neighbour
        {
            wrong.push(format!("layer {own_layer} names {name} of layer {other}"));
        }
    }
    if own == "proto" {
        let code = words(&code(text)).join(" ");
        for word in IMPURE {
            let spaced = format!(" {} ", word.replace("::", " :: "));
            if format!(" {code} ").contains(&spaced) {
                wrong.push(format!("the core names {word}"));
            }
        }
    }
    if names_redis(path, text) {
        wrong.push("only store/redis knows the crate redis".to_owned());
    }
    wrong
}

/// Whether a file names the crate `redis` that is not of the module of that name. Beside that module, its own name counts as
/// the crate's, but for the one type that it is made of.
fn names_redis(path: &Path, text: &str) -> bool {
    if path.starts_with("store/redis") || path == Path::new("store/redis.rs") {
        return false;
    }
    let code = code(text);
    let words = words(&code);
    let mut triples = words.windows(3);
    triples.any(|triple| triple[..2] == ["redis", "::"] && triple[2] != "Redis")
}

fn sources(under: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(under).expect("a folder of sources") {
        let path = entry.expect("readable").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn no_module_names_a_higher_layer() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    let mut wrong = Vec::new();
    for file in &files {
        let text = fs::read_to_string(file).expect("readable");
        let path = file.strip_prefix(&root).expect("below src");
        wrong.extend(
            violations(path, &text)
                .into_iter()
                .map(|what| format!("src/{}: {what}", path.display())),
        );
    }
    assert!(files.len() > 20, "only {} sources were found", files.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    for (name, _) in LAYERS {
        let there =
            root.join(name).join("mod.rs").exists() || root.join(format!("{name}.rs")).exists();
        assert!(there, "the table names {name}, which is not there");
    }
}

#[test]
fn planted_violations_are_found() {
    let wrong = |path: &str, text: &str| !violations(Path::new(path), text).is_empty();
    for text in [
        "use crate::conn::Shared;",
        "use crate::{config::Limits, server};",
        "use crate::{proto::{self, sse}, server::Bound};",
        "fn f(s: &crate::conn::Shared) {}",
        "use super::super::conn::Shared;",
        "pub use mcp_ferry::demo;",
    ] {
        assert!(
            wrong("tap/mod.rs", text) || wrong("tap/bus.rs", text),
            "{text}"
        );
    }
    assert!(wrong("config.rs", "use super::server::Bound;"));
    assert!(
        wrong("upstream/call.rs", "use crate::store::Post;"),
        "the same layer, the wrong way"
    );
    assert!(
        wrong("novelty.rs", ""),
        "a module that the table does not know"
    );
    assert!(wrong("server/mod.rs", "use redis::Client;"));
    assert!(wrong("store/handover/desk.rs", "fn f(c: &redis::Cmd) {}"));
    for text in [
        "use tokio::time::sleep;",
        "let now = Instant::now();",
        "let now = std::time::Instant :: now ();",
        "use std::collections::HashMap;",
        "fn f() { getrandom::fill(&mut b); }",
        "let s = r#\"\"#; use hyper::Uri;",
        "let quote = '\"'; use std::fs;",
    ] {
        assert!(wrong("proto/sse.rs", text), "{text}");
    }
}

#[test]
fn what_is_allowed_is_not_found() {
    let right = |path: &str, text: &str| {
        assert_eq!(
            violations(Path::new(path), text),
            Vec::<String>::new(),
            "{text}"
        )
    };
    right(
        "conn/mod.rs",
        "use crate::{proto::sse, store::{Post, Store}, tap};",
    );
    right(
        "tap/mod.rs",
        "// use crate::conn::Shared;\n/* crate::server */ let s = \"crate::server::Bound\";",
    );
    right(
        "tap/mod.rs",
        "let s = r#\"crate::server\"#; let c = '\\''; use crate::metrics::Counter;",
    );
    right(
        "proto/bridge/client.rs",
        "use super::handshake::Phase; mod tests { use super::*; } use crate::proto::era;",
    );
    right(
        "proto/sse.rs",
        "/// tokio, Instant::now\nlet now: Instant = given; const S: &str = \"hyper\";",
    );
    right("store/redis.rs", "use redis::Client;");
    right("store/redis/way.rs", "use redis::Client;");
    right("store/mod.rs", "// redis::Client\nRedis(Box<redis::Redis>)");
    right(
        "server/mod.rs",
        "fn conn(server: &Server) { self.conn.server() }",
    );
}
