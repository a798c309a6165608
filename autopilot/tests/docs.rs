//! What the documentation says about autopilot is what the code says. `UPDATE_DOCS=1` rewrites the generated parts.

use autopilot::{Config, Reason};

const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/autopilot.md");

fn reasons() -> String {
    let rows = Reason::MEANINGS.iter().map(|(code, meaning)| format!("| `{code}` | {meaning} |\n"));
    format!("| code | meaning |\n|---|---|\n{}", rows.collect::<String>())
}

fn defaults() -> String {
    let config = serde_json::to_value(Config::default()).unwrap();
    let reference = serde_json::to_value(Config::reference()).unwrap();
    let mut rows = String::new();
    for (key, value) in config.as_object().unwrap() {
        match value.as_object() {
            None => rows.push_str(&default_row(key, value, &reference[key])),
            Some(group) => group.iter().for_each(|(inner, value)| {
                let row = default_row(&format!("{key}.{inner}"), value, &reference[key][inner]);
                rows.push_str(&row);
            }),
        }
    }
    format!("| tunable | default | plain rules |\n|---|---|---|\n{rows}")
}

fn default_row(key: &str, value: &serde_json::Value, reference: &serde_json::Value) -> String {
    let text = |value: &serde_json::Value| match value {
        serde_json::Value::Null => String::from("-"),
        serde_json::Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    format!("| `{key}` | {} | {} |\n", text(value), text(reference))
}

/// The text with the part between the two marks replaced.
fn with_part(text: &str, name: &str, part: &str) -> String {
    let (start, end) = (format!("<!-- generated: {name} -->\n"), format!("<!-- end: {name} -->\n"));
    let (before, rest) = text.split_once(&start).unwrap_or_else(|| panic!("no part {name}"));
    let (_, after) = rest.split_once(&end).unwrap_or_else(|| panic!("no end of part {name}"));
    format!("{before}{start}\n{part}\n{end}{after}")
}

#[test]
fn the_documentation_lists_every_reason_and_default() {
    let text = std::fs::read_to_string(PATH).unwrap();
    let expected = with_part(&with_part(&text, "reasons", &reasons()), "defaults", &defaults());
    if std::env::var_os("UPDATE_DOCS").is_some() {
        // In one piece, for the other test reads it.
        let beside = format!("{PATH}.new");
        std::fs::write(&beside, expected).unwrap();
        std::fs::rename(&beside, PATH).unwrap();
        return;
    }
    assert_eq!(text, expected, "run `UPDATE_DOCS=1 cargo test -p autopilot --test docs`");
}

#[test]
fn the_tests_that_the_documentation_names_exist() {
    let text = std::fs::read_to_string(PATH).unwrap();
    let files = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/tests")).unwrap();
    let files = files.map(|file| file.unwrap().path()).filter(|path| path.is_file());
    let sources: Vec<_> = files.map(|path| std::fs::read_to_string(path).unwrap()).collect();
    let named = text.lines().filter(|line| line.starts_with("| `")).filter_map(|line| {
        let last = line.trim_end_matches(" |").rsplit("| ").next()?;
        last.strip_prefix('`')?
            .strip_suffix('`')
            .filter(|name| name.contains('_') && !line.contains("| default"))
    });
    let tests: Vec<_> = named.collect();
    assert!(tests.len() > 10, "{tests:?}");
    for test in tests {
        assert!(sources.iter().any(|source| source.contains(&format!("fn {test}("))), "no test {test}");
    }
}
