//! Just enough understanding of Rust source to count lines and read paths.

use std::fs;
use std::path::{Path, PathBuf};

/// One file of the repository.
pub(crate) struct Source {
    /// Relative to the repository, with forward slashes.
    pub(crate) path: String,
    pub(crate) text: String,
}

pub(crate) fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the repository").to_owned()
}

/// Every file below `folder` (relative to the repository) whose name ends like this; build output is left out.
pub(crate) fn files(folder: &str, ending: &str) -> Vec<Source> {
    let root = repository();
    let mut found = Vec::new();
    let mut folders = vec![root.join(folder)];
    while let Some(next) = folders.pop() {
        let Ok(entries) = fs::read_dir(&next) else { continue };
        for entry in entries.map(|entry| entry.expect("readable folder").path()) {
            let name = entry.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if entry.is_dir() {
                if name != "target" && name != ".git" {
                    folders.push(entry);
                }
            } else if name.ends_with(ending) {
                let path =
                    entry.strip_prefix(&root).expect("below the root").to_string_lossy().replace('\\', "/");
                if let Ok(text) = fs::read_to_string(&entry) {
                    found.push(Source { path, text });
                }
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

impl Source {
    /// Whether the whole file is a test, a benchmark or an example.
    pub(crate) fn is_test(&self) -> bool {
        let parts: Vec<&str> = self.path.split('/').collect();
        let file = parts[parts.len() - 1];
        let folders = &parts[..parts.len() - 1];
        file == "tests.rs"
            || file.ends_with("_tests.rs")
            || folders.contains(&"benches")
            || folders.contains(&"examples")
            || folders.iter().skip(1).any(|part| *part == "tests")
            || (parts[0] == "tests" && folders.get(1) != Some(&"sim"))
    }

    /// The code with comments, literals and unit tests blanked out; lines stay where they are.
    pub(crate) fn code(&self) -> String {
        without_test_modules(&without_comments_and_literals(&self.text))
    }
}

fn without_comments_and_literals(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while at < bytes.len() {
        let end = literal_end(bytes, at);
        if let Some(end) = end {
            for byte in &bytes[at..end] {
                out.push(if *byte == b'\n' { '\n' } else { ' ' });
            }
            at = end;
        } else {
            out.push(if bytes[at].is_ascii() { char::from(bytes[at]) } else { ' ' });
            at += 1;
        }
    }
    out
}

/// Where the comment or literal that starts here ends; `None` if none starts here.
fn literal_end(bytes: &[u8], at: usize) -> Option<usize> {
    let rest = &bytes[at..];
    let in_word = at > 0 && (bytes[at - 1].is_ascii_alphanumeric() || bytes[at - 1] == b'_');
    if rest.starts_with(b"//") {
        return Some(at + rest.iter().position(|b| *b == b'\n').unwrap_or(rest.len()));
    }
    if rest.starts_with(b"/*") {
        let length = rest.windows(2).position(|w| w == b"*/").map_or(rest.len(), |p| p + 2);
        return Some(at + length);
    }
    if !in_word && (rest.starts_with(b"r\"") || rest.starts_with(b"r#")) {
        let hashes = rest[1..].iter().take_while(|b| **b == b'#').count();
        if rest.get(1 + hashes) == Some(&b'"') {
            let close: Vec<u8> = [b"\"".as_slice(), &vec![b'#'; hashes]].concat();
            let body = 2 + hashes;
            let length = rest[body..].windows(close.len()).position(|w| w == close)?;
            return Some(at + body + length + close.len());
        }
    }
    if rest[0] == b'"' {
        return Some(at + quoted(rest, b'"'));
    }
    // A quote starts a character unless it starts a lifetime.
    if rest[0] == b'\'' && (rest.get(1) == Some(&b'\\') || rest.get(2) == Some(&b'\'')) {
        return Some(at + quoted(rest, b'\''));
    }
    None
}

fn quoted(rest: &[u8], quote: u8) -> usize {
    let mut at = 1;
    while at < rest.len() && rest[at] != quote {
        at += if rest[at] == b'\\' { 2 } else { 1 };
    }
    (at + 1).min(rest.len())
}

fn without_test_modules(code: &str) -> String {
    let mut out = code.to_owned();
    let mut from = 0;
    while let Some(found) = out[from..].find("#[cfg(test)]") {
        let start = from + found;
        let open = out[start..].find(['{', ';']).map_or(out.len(), |p| start + p);
        let end = if out[open..].starts_with('{') { block_end(&out, open) } else { open };
        let blank: String = out[start..end].chars().map(|c| if c == '\n' { '\n' } else { ' ' }).collect();
        out.replace_range(start..end, &blank);
        from = end;
    }
    out
}

/// The position after the brace that closes the one at `open`.
pub(crate) fn block_end(code: &str, open: usize) -> usize {
    let mut depth = 0_usize;
    for (offset, byte) in code.bytes().enumerate().skip(open) {
        match byte {
            b'{' => depth += 1,
            b'}' => {
                depth -= 1;
                if depth == 0 {
                    return offset + 1;
                }
            }
            _ => {}
        }
    }
    code.len()
}

/// Where a word stands on its own in the code.
pub(crate) fn words<'a>(code: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    let part = |byte: Option<u8>| byte.is_some_and(|b| b.is_ascii_alphanumeric() || b == b'_');
    code.match_indices(word).map(|(at, _)| at).filter(move |at| {
        let before = at.checked_sub(1).map(|i| code.as_bytes()[i]);
        !part(before) && !part(code.as_bytes().get(at + word.len()).copied())
    })
}

#[test]
fn literals_comments_and_unit_tests_are_not_code() {
    let text = "fn a<'x>() { \"}{\"; '{'; r#\"}\"# } // {\n#[cfg(test)]\nmod tests { fn b() { } }\nfn c() {}";
    let source = Source { path: "x.rs".into(), text: text.into() };
    let code = source.code();
    assert_eq!(code.matches('{').count(), 2, "{code}");
    assert!(code.contains("fn c()") && !code.contains("fn b()"));
    assert_eq!(code.lines().count(), text.lines().count());
}
