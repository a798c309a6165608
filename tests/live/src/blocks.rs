//! Commands that a document shows, and what it says they print.
//!
//! A block fenced as `sh example` holds one command; the block fenced as `text result` after it holds what standard output
//! must be, line by line. A line that begins with `~ ` is a regular expression for the whole line; `~~` stands for any
//! number of lines. Runs of spaces count as one.

use std::path::Path;

use regex::Regex;

/// One command of a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Example {
    /// The line of the document on which the command stands.
    pub line: usize,
    /// The command.
    pub command: String,
    /// What it prints; `None` if the document does not say.
    pub result: Option<String>,
}

/// All examples of a document, in order.
#[must_use]
pub fn examples(text: &str) -> Vec<Example> {
    let mut found: Vec<Example> = Vec::new();
    let mut lines = text.lines().enumerate();
    while let Some((number, line)) = lines.next() {
        let Some(kind) = line.trim().strip_prefix("```").filter(|kind| !kind.is_empty()) else { continue };
        let body: Vec<&str> =
            lines.by_ref().map(|(_, line)| line).take_while(|line| line.trim() != "```").collect();
        let body = body.join("\n");
        match kind {
            "sh example" => found.push(Example { line: number + 2, command: body, result: None }),
            "text result" => {
                if let Some(last) = found.last_mut() {
                    last.result = Some(body);
                }
            }
            _ => {}
        }
    }
    found
}

/// Compares what was printed with what the document says.
///
/// # Errors
/// The first line that differs.
///
/// # Panics
/// If the document holds a regular expression that is none.
pub fn compare(expected: &str, printed: &str) -> Result<(), String> {
    let tidy = |text: &str| -> Vec<String> {
        text.trim().lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
    };
    let (wanted, found) = (tidy(expected), tidy(printed));
    if matches(&wanted, &found) {
        return Ok(());
    }
    let first = wanted.iter().zip(&found).find(|(w, f)| !line_matches(w, f));
    let (w, f) = first.map_or(("the same number of lines", ""), |(w, f)| (w.as_str(), f.as_str()));
    Err(format!("expected: {w}\n   found: {f}\nall of it:\n{printed}"))
}

fn matches(wanted: &[String], found: &[String]) -> bool {
    match wanted.split_first() {
        None => found.is_empty(),
        Some((first, rest)) if first == "~~" => (0..=found.len()).any(|skip| matches(rest, &found[skip..])),
        Some((first, rest)) => found
            .split_first()
            .is_some_and(|(line, others)| line_matches(first, line) && matches(rest, others)),
    }
}

fn line_matches(wanted: &str, found: &str) -> bool {
    match wanted.strip_prefix("~ ") {
        None => wanted == found,
        Some(pattern) => Regex::new(&format!("^(?:{pattern})$"))
            .unwrap_or_else(|e| panic!("{pattern}: {e}"))
            .is_match(found),
    }
}

/// The file of this name at the repository's root.
///
/// # Panics
/// If it cannot be read.
#[must_use]
pub fn document(path: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("the repository");
    std::fs::read_to_string(root.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// A request that a `curl` command makes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Curl {
    /// GET unless it says otherwise.
    pub method: String,
    /// Where to.
    pub url: String,
    /// What is sent.
    pub body: String,
    /// Whether only the status is printed.
    pub status_only: bool,
}

/// Understands the few flags of `curl` that documents use; `None` for any other command.
///
/// # Panics
/// If the command is `curl` with a flag that is not known here.
#[must_use]
pub fn curl(command: &str) -> Option<Curl> {
    let words = words(command);
    let mut words = words.iter().map(String::as_str);
    if words.next() != Some("curl") {
        return None;
    }
    let mut made = Curl::default();
    while let Some(word) = words.next() {
        let mut value = || words.next().unwrap_or_default().to_owned();
        match word {
            "-s" | "-S" | "-sS" | "--silent" | "-i" => {}
            "-X" | "--request" => made.method = value(),
            "-d" | "--data" | "--data-binary" | "--data-raw" => made.body = value(),
            "-o" => assert_eq!(value(), "/dev/null", "{command}"),
            "-w" => {
                made.status_only = value().contains("%{http_code}");
            }
            "-sX" => made.method = value(),
            flag if flag.starts_with('-') => panic!("the flag {flag} of curl is not known here: {command}"),
            url => url.clone_into(&mut made.url),
        }
    }
    if made.method.is_empty() {
        made.method = if made.body.is_empty() { "GET" } else { "POST" }.to_owned();
    }
    Some(made)
}

/// Splits a command as a shell does, as far as quotes go.
fn words(command: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut current: Option<String> = None;
    let mut quote = None;
    for c in command.replace("\\\n", " ").chars() {
        match (quote, c) {
            (Some(q), c) if c == q => quote = None,
            (Some(_), c) => current.get_or_insert_default().push(c),
            (None, '\'' | '"') => {
                quote = Some(c);
                current.get_or_insert_default();
            }
            (None, c) if c.is_whitespace() => words.extend(current.take()),
            (None, c) => current.get_or_insert_default().push(c),
        }
    }
    words.extend(current);
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn examples_are_read_with_their_results() {
        let text =
            "x\n```sh example\ncurl $HTTP/a\n```\n\n```text result\n~ [0-9]+\nb  c\n```\n```sh\nls\n```\n";
        let found = examples(text);
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].line, found[0].command.as_str()), (3, "curl $HTTP/a"));
        let result = found[0].result.as_deref().expect("a result");
        assert_eq!(compare(result, "12\nb c\n"), Ok(()));
        assert!(compare(result, "12\nb d\n").is_err());
        assert!(compare(result, "x2\nb c\n").is_err());
        assert!(compare(result, "12\n").is_err());
        assert_eq!(compare("a\n~~\nd", "a\nb\nc\nd"), Ok(()));
    }

    #[test]
    fn curl_commands_are_understood() {
        let made = curl("curl -s -X PUT -d 'a b' \"http://h/v1/kv/x?cas=0\"").expect("a curl");
        assert_eq!(made.method, "PUT");
        assert_eq!((made.body.as_str(), made.url.as_str()), ("a b", "http://h/v1/kv/x?cas=0"));
        assert!(curl("curl -s -o /dev/null -w '%{http_code}' http://h/").expect("a curl").status_only);
        assert_eq!(curl("autopilot kv get x"), None);
    }
}
