//! Tests of `kv` against a fake server.

use clap::Parser;

use super::super::fake::Fake;
use super::*;

#[derive(Debug, Parser)]
struct Line {
    #[command(subcommand)]
    verb: KvVerb,
}

/// Runs a command line against a server that always gives the same answer; the requests it saw come along.
fn check(line: &[&str], status: u16, body: &'static str) -> (Result<Outcome, VerbError>, Vec<String>, Fake) {
    let fake = Fake::start(move |_| (status, body.into()));
    let Line { verb } = Line::try_parse_from([&["kv"], line].concat()).expect("a good command line");
    let client = fake.client();
    let outcome = match &verb {
        KvVerb::Get(args) => get(&client, args),
        KvVerb::Put(args) => value(args, &mut &b"from stdin"[..]).and_then(|value| put(&client, args, value)),
        KvVerb::Delete(args) => delete(&client, args),
    };
    let requests = fake.requests();
    (outcome, requests, fake)
}

fn text(line: &[&str], body: &'static str) -> String {
    String::from_utf8(check(line, 200, body).0.expect("an answer").out).expect("text")
}

const ONE: &str = r#"[{"LockIndex":0,"Key":"a","Flags":7,"Value":"eHl6","CreateIndex":3,"ModifyIndex":5}]"#;
const TWO: &str = r#"[{"Key":"a","Value":"eHl6"},{"Key":"a/b","Value":null}]"#;

#[test]
fn get_prints_the_value() {
    assert_eq!(text(&["get", "a"], ONE), "xyz\n");
    assert_eq!(text(&["get", "a", "--base64"], ONE), "eHl6\n");
    let (_, requests, _) = check(&["get", "/a b/c"], 200, ONE);
    assert_eq!(requests, ["GET /v1/kv/a%20b/c"]);
}

#[test]
fn get_detailed_prints_everything() {
    let expected = "\
CreateIndex      3
Flags            7
Key              a
LockIndex        0
ModifyIndex      5
Session          -
Value            xyz
";
    assert_eq!(text(&["get", "--detailed", "a"], ONE), expected);
}

#[test]
fn get_below_a_prefix() {
    assert_eq!(text(&["get", "--recurse", "a"], TWO), "a:xyz\na/b:\n");
    assert_eq!(text(&["get", "--keys", "a"], r#"["a","a/"]"#), "a\na/\n");
    assert_eq!(check(&["get", "--keys"], 200, "[]").1, ["GET /v1/kv/?keys&separator=%2F"]);
    assert_eq!(check(&["get", "--keys", "--separator="], 200, "[]").1, ["GET /v1/kv/?keys"]);
}

#[test]
fn a_missing_key_is_an_error_and_an_empty_listing_is_not() {
    let error = check(&["get", "a"], 404, "").0.expect_err("no such key");
    assert!(matches!(&error, VerbError::NoKey(key) if key == "a"), "{error:?}");
    assert_eq!(check(&["get", "--recurse", "a"], 404, "").0.expect("nothing"), Outcome::default());
    assert_eq!(
        check(&["get", "--keys", "a", "--format=json"], 404, "").0.expect("[]"),
        Outcome::text("[]\n")
    );
}

#[test]
fn a_value_that_is_not_base64_is_an_error() {
    let error =
        check(&["get", "a"], 200, r#"[{"Key":"a","Value":"?"}]"#).0.expect_err("not base64").to_string();
    assert!(error.contains("the value that the server sent for \"a\" is not base64"), "{error}");
}

#[test]
fn put_takes_the_value_from_argument_file_or_stdin() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), b"from file\xff").expect("written");
    let at_file = format!("@{}", file.path().display());
    for (line, expected) in [
        (vec!["put", "a", "v"], &b"v"[..]),
        (vec!["put", "a"], b""),
        (vec!["put", "a", "-"], b"from stdin"),
        (vec!["put", "a", &at_file], b"from file\xff"),
        (vec!["put", "a", "--base64", "eHl6"], b"xyz"),
    ] {
        let (outcome, _, fake) = check(&line, 200, "true");
        assert_eq!(outcome.expect("written"), Outcome::line("Success! Data written to: a"));
        assert_eq!(fake.last_body(), expected, "{line:?}");
    }
}

#[test]
fn put_compares_when_asked() {
    let line = ["put", "a", "v", "--cas", "--modify-index=5", "--flags=9"];
    let (outcome, requests, _) = check(&line, 200, "false");
    assert_eq!(requests, ["PUT /v1/kv/a?flags=9&cas=5"]);
    let error = outcome.expect_err("changed since").to_string();
    assert!(error.starts_with("did not write \"a\""), "{error}");
    for half in [["put", "a", "v", "--cas"], ["put", "a", "v", "--modify-index=5"]] {
        assert!(Line::try_parse_from([&["kv"], &half[..]].concat()).is_err(), "{half:?}");
    }
}

#[test]
fn put_refuses_what_cannot_be_read_before_sending() {
    let (outcome, requests, _) = check(&["put", "a", "@/no/such/file"], 200, "true");
    let error = outcome.expect_err("no such file").to_string();
    assert!(error.starts_with("cannot read /no/such/file"), "{error}");
    assert!(requests.is_empty());
    let error = check(&["put", "a", "--base64", "?"], 200, "true").0.expect_err("not base64").to_string();
    assert!(error.starts_with("the value is not base64"), "{error}");
}

#[test]
fn delete_one_or_all() {
    let (outcome, requests, _) = check(&["delete", "a"], 200, "true");
    assert_eq!(outcome.expect("deleted"), Outcome::line("Success! Deleted key: a"));
    assert_eq!(requests, ["DELETE /v1/kv/a"]);
    let (outcome, requests, _) = check(&["delete", "--recurse", "a/"], 200, "true");
    assert_eq!(outcome.expect("deleted"), Outcome::line("Success! Deleted keys with prefix: a/"));
    assert_eq!(requests, ["DELETE /v1/kv/a/?recurse"]);
    let (outcome, requests, _) = check(&["delete", "a", "--cas", "--modify-index=5"], 200, "false");
    assert!(matches!(outcome, Err(VerbError::KeyChanged { verb: "delete", .. })));
    assert_eq!(requests, ["DELETE /v1/kv/a?cas=5"]);
}

#[test]
fn refusals_of_the_server_are_shown() {
    let error = check(&["put", "a", "v"], 413, "Value too large").0.expect_err("413").to_string();
    assert!(error.ends_with("refused PUT /v1/kv/a: 413 Value too large"), "{error}");
}
