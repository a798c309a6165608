//! Checks on the repository itself: layers, sizes, leftovers, what lies where.

mod layers;
mod source;

use source::{Source, block_end, files, repository, words};

/// The most lines of code in a function and of anything in a file, unit tests aside.
const FUNCTION_LINES: usize = 70;
const FILE_LINES: usize = 700;

/// Files and functions that are longer for now. Entries may go, none may come, and an entry that is not needed fails.
const LONGER: &[&str] = &[];

const TOP_LEVEL: &[&str] = &[
    "Cargo.toml",
    "Cargo.lock",
    "README.md",
    "raft",
    "autopilot",
    "promoter-plugins",
    "tests",
    "docs",
    "target",
];

fn product() -> Vec<Source> {
    ["raft", "autopilot", "promoter-plugins", "tests"]
        .iter()
        .flat_map(|folder| files(folder, ".rs"))
        .collect()
}

fn long_functions(source: &Source) -> Vec<String> {
    let code = source.code();
    let mut long = Vec::new();
    for at in words(&code, "fn") {
        let Some(open) = code[at..].find(['{', ';']).map(|p| at + p) else { continue };
        if code[open..].starts_with(';') {
            continue;
        }
        let lines =
            code[open..block_end(&code, open)].lines().skip(1).filter(|l| !l.trim().is_empty()).count();
        if lines > FUNCTION_LINES {
            let name: String =
                code[at + 3..].chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            long.push(format!("{} fn {name}: {lines} lines", source.path));
        }
    }
    long
}

fn long_file(source: &Source) -> Option<String> {
    // What the unit tests take is blank in the code but not in the text.
    let code = source.code();
    let tests_from = source.text.find("\n#[cfg(test)]\nmod ").map_or(source.text.len(), |p| p + 1);
    let lines = source.text[..tests_from].lines().count().min(code.lines().count());
    (lines > FILE_LINES).then(|| format!("{}: {lines} lines", source.path))
}

#[test]
fn files_and_functions_stay_short() {
    let mut long = Vec::new();
    for source in product().iter().filter(|source| !source.is_test()) {
        long.extend(long_functions(source));
        long.extend(long_file(source));
    }
    let allowed = |entry: &str| LONGER.iter().any(|known| entry.starts_with(known));
    let over: Vec<&String> = long.iter().filter(|entry| !allowed(entry)).collect();
    assert!(over.is_empty(), "too long:\n{over:#?}");
    let idle: Vec<&&str> =
        LONGER.iter().filter(|known| !long.iter().any(|entry| entry.starts_with(**known))).collect();
    assert!(idle.is_empty(), "no longer needed in LONGER: {idle:?}");
}

#[test]
fn a_long_function_is_noticed() {
    let body = "    let x = 1;\n".repeat(FUNCTION_LINES + 1);
    let text = format!("fn short() {{}}\nfn long() {{\n{body}}}\n");
    let source = Source { path: "x.rs".into(), text };
    assert_eq!(long_functions(&source).len(), 1);
    let file = Source { path: "x.rs".into(), text: "//\n".repeat(FILE_LINES + 1) };
    assert!(long_file(&file).is_some());
}

#[test]
fn nothing_is_left_over_in_the_source() {
    // Put together here so that this file does not find itself.
    let marks =
        [["TO", "DO"], ["FIX", "ME"], ["XX", "X"], ["dbg", "!("], ["todo", "!("], ["unimplemented", "!("]];
    let attributes = [["#[ig", "nore"]];
    let mut found = Vec::new();
    for source in product() {
        for [a, b] in marks.iter().chain(&attributes) {
            let mark = format!("{a}{b}");
            for (number, line) in source.text.lines().enumerate().filter(|(_, line)| line.contains(&mark)) {
                found.push(format!("{}:{}: {}", source.path, number + 1, line.trim()));
            }
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn no_path_of_one_machine_is_named() {
    let places = [["/wo", "rk/"], ["/ho", "me/"], ["/ro", "ot/"], ["/Use", "rs/"], [".int", "ernal/"]];
    let mut sources = product();
    for ending in [".md", ".toml", ".yml", ".txt", ".html", ".js", ".css", ".json", "/run"] {
        sources.extend(files("", ending));
    }
    let mut found = Vec::new();
    for source in sources {
        for [a, b] in places {
            let place = format!("{a}{b}");
            for (number, line) in source.text.lines().enumerate().filter(|(_, line)| line.contains(&place)) {
                found.push(format!("{}:{}: {}", source.path, number + 1, line.trim()));
            }
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn the_top_level_holds_only_what_belongs_there() {
    let mut strange = Vec::new();
    for entry in std::fs::read_dir(repository()).expect("the repository") {
        let name = entry.expect("readable").file_name().to_string_lossy().into_owned();
        let known =
            TOP_LEVEL.contains(&name.as_str()) || name.starts_with('.') || name.starts_with("LICENSE");
        if !known {
            strange.push(name);
        }
    }
    assert!(strange.is_empty(), "{strange:?}");
}

#[test]
fn links_between_documents_lead_somewhere() {
    let mut broken = Vec::new();
    for source in files("", ".md") {
        let folder = repository().join(&source.path).parent().expect("a file has a folder").to_owned();
        for part in source.text.split("](").skip(1) {
            let Some(target) = part.split(')').next() else { continue };
            let target = target.split('#').next().unwrap_or_default();
            let outside = target.is_empty()
                || target.contains("://")
                || target.contains(' ')
                || target.starts_with("mailto:");
            if !outside && !folder.join(target).exists() {
                broken.push(format!("{}: {target}", source.path));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn every_invariant_checker_and_planted_defect_is_documented() {
    let testing = std::fs::read_to_string(repository().join("docs/testing.md")).expect("docs/testing.md");
    let checks = files("tests/sim/check", ".rs");
    assert!(checks.len() > 5, "the checkers have moved");
    let names = checks.iter().map(|s| s.path.rsplit('/').next().expect("a name").trim_end_matches(".rs"));
    let mutants = simulation::mutant::Mutant::all().map(|mutant| mutant.name());
    let missing: Vec<String> = names
        .filter(|n| *n != "mod")
        .map(str::to_owned)
        .chain(mutants)
        .filter(|n| !testing.contains(&format!("`{n}`")))
        .collect();
    assert!(missing.is_empty(), "not in docs/testing.md: {missing:?}");
}

#[test]
fn every_endpoint_is_documented_with_an_example() {
    let document = std::fs::read_to_string(repository().join("docs/http-api.md")).expect("docs/http-api.md");
    let router =
        std::fs::read_to_string(repository().join("autopilot/agent/src/http/mod.rs")).expect("the router");
    let code = router.split("#[cfg(test)]").next().expect("the router comes first");
    let paths: Vec<&str> = code.split('"').filter(|part| part.starts_with("/v1/")).collect();
    assert!(paths.len() >= 10, "the router has moved: {paths:?}");
    let examples: Vec<&str> =
        document.split("```sh example").skip(1).filter_map(|part| part.split("```").next()).collect();
    let missing: Vec<&&str> = paths
        .iter()
        .filter(|path| {
            let fixed = path.split('{').next().expect("a path begins somewhere").trim_end_matches('/');
            // This one stops the server that is asked; tests/live/faults/lifecycle.rs asks it.
            let shown = **path == "/v1/agent/leave" || examples.iter().any(|example| example.contains(fixed));
            !(shown && document.contains(fixed))
        })
        .collect();
    assert!(missing.is_empty(), "no example in docs/http-api.md for {missing:?}");
}
