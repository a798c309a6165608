//! Who may import whom.

use crate::source::{files, repository, words};

/// What the code below one path may name.
struct Layer {
    path: &'static str,
    crates: &'static [&'static str],
    /// Modules of its own crate; `*` for all.
    modules: &'static [&'static str],
}

const LAYERS: &[Layer] = &[
    Layer { path: "raft/types/src", crates: &["serde"], modules: &["*"] },
    Layer {
        path: "raft/src/core",
        crates: &["raft_types", "bytes", "rand", "thiserror"],
        modules: &["core", "config", "Config"],
    },
    Layer {
        path: "raft/src/storage",
        crates: &[
            "raft_types",
            "base64",
            "bytes",
            "crc32fast",
            "serde",
            "serde_json",
            "thiserror",
            "tracing",
        ],
        modules: &["core", "storage"],
    },
    Layer {
        path: "raft/src/transport",
        crates: &[
            "raft_types",
            "bytes",
            "crc32fast",
            "serde",
            "serde_json",
            "thiserror",
            "tracing",
            "tokio",
            "tokio_util",
            "rand",
        ],
        modules: &["core", "storage", "transport"],
    },
    Layer {
        path: "autopilot/src/model",
        crates: &["raft_types", "serde", "thiserror", "humantime"],
        modules: &["model", "config", "Config"],
    },
    Layer {
        path: "autopilot/src/promoter",
        crates: &["raft_types", "serde"],
        modules: &["model", "promoter", "config", "Config"],
    },
    Layer {
        path: "autopilot/src/core",
        crates: &["raft_types", "serde", "humantime"],
        // Of the ports only the data that they give; see below.
        modules: &["model", "promoter", "config", "core", "Config", "ports"],
    },
    Layer {
        path: "autopilot/src/ports.rs",
        crates: &["raft_types", "async_trait", "thiserror", "serde"],
        modules: &["model", "error", "ports", "config"],
    },
    Layer { path: "promoter-plugins/src", crates: &["autopilot"], modules: &["*"] },
    Layer {
        path: "tests/sim",
        crates: &["raft", "autopilot", "promoter_plugins", "bytes", "rand", "simulation"],
        modules: &["*"],
    },
];

/// The crates a file could name: everything the workspace depends on, as it is spelled in code.
fn known_crates() -> Vec<String> {
    let manifest = std::fs::read_to_string(repository().join("Cargo.toml")).expect("the root manifest");
    let section = manifest.split("[workspace.dependencies]").nth(1).expect("shared dependencies");
    let section = section.split("\n[").next().expect("a section ends somewhere");
    section
        .lines()
        .filter_map(|line| line.split_once('='))
        .map(|(name, _)| name.trim().replace('-', "_"))
        .filter(|name| !name.is_empty())
        .collect()
}

/// The first names after each `crate::`, or after enough `super::` to leave the crate's only module.
fn own_modules(code: &str, depth: usize) -> Vec<String> {
    let mut found = Vec::new();
    for at in words(code, "crate") {
        if let Some(rest) = code[at..].strip_prefix("crate::") {
            found.extend(first_names(rest));
        }
    }
    for at in words(code, "super") {
        let mut rest = &code[at..];
        if code[..at].ends_with("super::") {
            continue;
        }
        let mut climbed = 0;
        while let Some(next) = rest.strip_prefix("super::") {
            climbed += 1;
            rest = next;
        }
        if climbed >= depth && climbed > 0 {
            found.extend(first_names(rest));
        }
    }
    found
}

fn first_names(rest: &str) -> Vec<String> {
    let name = |text: &str| text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    let Some(group) = rest.strip_prefix('{') else { return vec![name(rest)] };
    let mut names = Vec::new();
    let mut depth = 0;
    let mut current = String::new();
    for c in group.chars() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => names.push(name(std::mem::take(&mut current).trim())),
            _ if depth == 0 => current.push(c),
            _ => {}
        }
    }
    names.push(name(current.trim()));
    names.retain(|name| !name.is_empty());
    names
}

/// How many modules deep a file stands below `src`.
fn depth(path: &str) -> usize {
    let inside = path.split("/src/").nth(1).unwrap_or(path);
    inside.trim_end_matches(".rs").split('/').filter(|part| *part != "mod" && *part != "lib").count()
}

#[test]
fn every_layer_names_only_the_layers_below_it() {
    let crates = known_crates();
    let mut wrong = Vec::new();
    for layer in LAYERS {
        let sources = match layer.path.rsplit_once('/') {
            Some((folder, file)) if file.ends_with(".rs") => files(folder, file),
            _ => files(layer.path, ".rs"),
        };
        for source in sources.iter().filter(|s| !s.is_test() && s.path.starts_with(layer.path)) {
            let code = source.code();
            for name in &crates {
                let used = words(&code, name).any(|at| {
                    code[at + name.len()..].starts_with("::") && !code[..at].trim_end().ends_with("::")
                });
                if used && !layer.crates.contains(&name.as_str()) {
                    wrong.push(format!("{} names the crate {name}", source.path));
                }
            }
            for module in own_modules(&code, depth(&source.path)) {
                if !layer.modules.contains(&"*") && !layer.modules.contains(&module.as_str()) {
                    wrong.push(format!("{} names crate::{module}", source.path));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn pure_cores_wait_for_nothing_and_call_no_port() {
    let mut wrong = Vec::new();
    for folder in ["raft/src/core", "autopilot/src/core", "autopilot/src/promoter", "promoter-plugins/src"] {
        for source in files(folder, ".rs").iter().filter(|source| !source.is_test()) {
            let code = source.code();
            for word in
                ["async", "await", "Cluster", "ApplicationIntegration", "Instant", "SystemTime", "HashMap"]
            {
                if words(&code, word).next().is_some() {
                    wrong.push(format!("{} says {word}", source.path));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn policies_take_autopilot_without_features() {
    let root = std::fs::read_to_string(repository().join("Cargo.toml")).expect("the root manifest");
    for name in ["raft", "autopilot"] {
        let line =
            root.lines().find(|line| line.starts_with(&format!("{name} = "))).expect("a shared dependency");
        assert!(line.contains("default-features = false"), "{line}");
    }
    for (manifest, package) in [
        ("promoter-plugins/Cargo.toml", "autopilot"),
        ("tests/Cargo.toml", "autopilot"),
        ("tests/Cargo.toml", "raft"),
        ("tests/Cargo.toml", "promoter-plugins"),
    ] {
        let text = std::fs::read_to_string(repository().join(manifest)).expect("a manifest");
        let line = text.lines().find(|line| line.starts_with(package)).expect("a dependency");
        // The simulator plants defects in the core; nothing else is switched on for it.
        let features = line.replace("features = [\"__mutants\"]", "");
        assert!(!features.contains("features"), "{manifest}: {line}");
    }
}

#[test]
fn paths_are_read_out_of_groups_and_climbs() {
    let code =
        "use crate::{a::B, c, d::{e, f}};\nuse super::super::driver::X;\nuse super::log;\ncrate::ports::Y";
    assert_eq!(own_modules(code, 2), ["a", "c", "d", "ports", "driver"]);
    assert_eq!(depth("raft/src/core/election.rs"), 2);
    assert_eq!(depth("raft/src/core/mod.rs"), 1);
}
