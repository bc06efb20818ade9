//! `tests/FAULTS.md` names tests: each must exist, each test of this folder must be named there, and each row must have
//! one.

use std::collections::BTreeSet;
use std::path::Path;

const TABLE: &str = include_str!("../../FAULTS.md");

/// The table's rows.
fn rows() -> Vec<&'static str> {
    TABLE
        .lines()
        .filter(|line| line.starts_with("| F"))
        .collect()
}

/// What stands between backquotes.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// The names of all functions under this folder that are tests.
fn tests_under(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            tests_under(&path, found);
        } else if path.extension().is_some_and(|name| name == "rs") {
            let text = std::fs::read_to_string(&path).expect("a source file");
            let mut marked = false;
            for line in text.lines().map(str::trim_start) {
                marked |= line.starts_with("#[test]") || line.starts_with("#[tokio::test");
                let line = line.strip_prefix("async ").unwrap_or(line);
                let name = line
                    .strip_prefix("fn ")
                    .and_then(|rest| rest.split('(').next());
                if let Some(name) = name.filter(|_| std::mem::take(&mut marked)) {
                    found.insert(name.to_owned());
                }
            }
        }
    }
}

#[test]
fn the_table_of_faults_names_what_there_is() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (mut everywhere, mut here) = (BTreeSet::new(), BTreeSet::new());
    tests_under(&root.join("tests/it"), &mut everywhere);
    tests_under(&root.join("src"), &mut everywhere);
    tests_under(&root.join("tests/it/faults"), &mut here);
    here.retain(|name| name.starts_with('f'));
    let mut named = BTreeSet::new();
    let mut missing = Vec::new();
    for name in rows().into_iter().flat_map(|row| {
        let last = row.trim_end_matches(" |").rsplit(" | ").next();
        quoted(last.expect("a cell"))
    }) {
        let exists = if name.contains('/') {
            root.join(name).exists()
        } else {
            everywhere.contains(name)
        };
        if !exists {
            missing.push(name);
        }
        named.insert(name.to_owned());
    }
    let unnamed: Vec<&String> = here.difference(&named).collect();
    assert!(missing.is_empty(), "named, but not there: {missing:#?}");
    assert!(unnamed.is_empty(), "there, but not named: {unnamed:#?}");
}

#[test]
fn each_fault_has_its_row_and_its_test() {
    let mut seen = Vec::new();
    for row in rows() {
        let cells: Vec<&str> = row.trim_matches('|').split(" | ").collect();
        let [number, fault, outcome, tests] = cells[..] else {
            panic!("{} cells: {row}", cells.len());
        };
        assert!(!fault.is_empty() && !outcome.is_empty(), "{row}");
        assert!(quoted(tests).next().is_some(), "no test: {row}");
        seen.push(number.trim().to_owned());
    }
    let expected: Vec<String> = (1..=28).map(|number| format!("F{number}")).collect();
    assert_eq!(seen, expected);
}
