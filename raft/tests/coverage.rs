//! The table in `docs/coverage.md` says which call stands for which capability of other systems, and which tests exercise
//! it. Both must exist.
#![allow(missing_docs, reason = "a test")]

use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The source of the crate and of the types that it shows, in one piece.
fn source() -> String {
    let mut folders = vec![root().join("raft/src"), root().join("raft/types/src")];
    let mut text = String::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder") {
            let path = entry.expect("readable").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                text.push_str(&fs::read_to_string(&path).expect("text"));
            }
        }
    }
    text
}

fn ticked(cell: &str) -> impl Iterator<Item = &str> {
    cell.split('`').skip(1).step_by(2)
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_alphanumeric() || c == '_')
}

/// Whether something of this name is declared: a type, a function, a field, a constant, a module or a variant.
fn declared(source: &str, name: &str) -> bool {
    let items = ["fn ", "struct ", "enum ", "trait ", "mod ", "const ", "type "]
        .iter()
        .map(|kind| (*kind, " (<;{:=\n"));
    // A public field, and a variant at the beginning of its line.
    let others = [("pub ", ":"), ("    ", ",("), ("    ", " ")];
    items.chain(others).any(|(before, after)| {
        let text = format!("{before}{name}");
        source.match_indices(&text).any(|(at, _)| {
            let rest = &source[at + text.len()..];
            if before == "    " && after == " " {
                rest.starts_with(" {\n")
            } else {
                rest.starts_with(|c| after.contains(c))
            }
        })
    })
}

#[test]
fn every_capability_has_a_call_and_a_test_that_exist() {
    let text = fs::read_to_string(root().join("docs/coverage.md")).expect("the document");
    let source = source();
    let mut wrong = Vec::new();
    let mut rows = 0;
    for line in text.lines().filter(|line| line.starts_with("| ")) {
        let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        let [there, here, tests] = cells[..] else { panic!("three cells: {line}") };
        if tests == "tests" {
            continue;
        }
        rows += 1;
        if let Some(reason) = tests.strip_prefix("none: ") {
            assert!(reason.len() > 20, "{there}: a reason is needed");
            continue;
        }
        for name in ticked(here).flat_map(|call| call.split("::")).filter(|name| is_name(name)) {
            if !declared(&source, name) && !["tokio", "time", "timeout", "Shutdown"].contains(&name) {
                wrong.push(format!("{there}: there is no {name}"));
            }
        }
        let mut found = 0;
        for test in ticked(tests) {
            let (file, function) = test.split_once('#').unwrap_or_else(|| panic!("file#function: {test}"));
            let text = fs::read_to_string(root().join(file)).unwrap_or_default();
            let begin = text.find(&format!("fn {function}()"));
            let is_test = begin.is_some_and(|at| {
                let before: Vec<&str> = text[..at].lines().rev().take(4).collect();
                before
                    .iter()
                    .any(|line| line.contains("test]") || line.contains("test(") || line.contains("proptest"))
            });
            if !is_test {
                wrong.push(format!("{there}: there is no test {test}"));
            }
            found += 1;
        }
        if found == 0 {
            wrong.push(format!("{there}: no test"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(rows > 60, "{rows} rows");
}

#[test]
fn what_does_not_exist_is_noticed() {
    let source = "pub struct Known {\n    pub field: u8,\n}\npub enum Choice {\n    One,\n    Two(u8),\n}\n";
    for name in ["Known", "field", "One", "Two"] {
        assert!(declared(source, name), "{name}");
    }
    for name in ["Unknown", "fields", "Three", "Kn", "u8"] {
        assert!(!declared(source, name), "{name}");
    }
    assert_eq!(ticked("`a` and `b::c`").collect::<Vec<_>>(), ["a", "b::c"]);
}
