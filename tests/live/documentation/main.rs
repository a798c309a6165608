//! What the documents show is what happens: every example is run, against every server.

use std::process::Command;

use live_tests::Cluster;
use live_tests::agent::{binary, run};
use live_tests::blocks::{Example, compare, curl, document, examples};
use live_tests::http::request;

/// Runs one example as it stands in the document.
fn run_example(example: &Example, http: &str, peer: &str) -> Result<(), String> {
    let command = example.command.replace("${HTTP}", http).replace("$HTTP", http).replace("$PEER", peer);
    let printed = match curl(&command) {
        // A bare machine need not have curl.
        Some(made) => {
            let url =
                if made.url.contains("://") { made.url.clone() } else { format!("http://{}", made.url) };
            let answer = request(&made.method, &url, made.body.as_bytes())?;
            if made.status_only { answer.status.to_string() } else { answer.body }
        }
        None => {
            let folder = binary().parent().expect("a file lies in a folder");
            let path = format!("{}:{}", folder.display(), std::env::var("PATH").unwrap_or_default());
            let output = run(Command::new("sh").args(["-c", &command]).env("PATH", path));
            let errors = String::from_utf8_lossy(&output.stderr).into_owned();
            let printed = String::from_utf8_lossy(&output.stdout).into_owned();
            if !errors.is_empty() {
                return Err(format!("{}: {errors}{printed}", output.status));
            }
            printed
        }
    };
    example.result.as_ref().map_or(Ok(()), |expected| compare(expected, &printed))
}

/// Runs a document's examples in order, against a fresh cluster for each server that is asked.
fn check(path: &str) -> usize {
    let found = examples(&document(path));
    for asked in 0..if found.is_empty() { 0 } else { 3 } {
        let cluster = Cluster::start(3);
        for example in &found {
            cluster.settle();
            let peer = cluster.agents[cluster.follower()].name.clone();
            let outcome = run_example(example, &cluster.agents[asked].http, &peer);
            if let Err(reason) = outcome {
                panic!(
                    "{path}:{}: asked {}: {}\n{reason}",
                    example.line, cluster.agents[asked].name, example.command
                );
            }
        }
    }
    found.len()
}

#[test]
fn the_command_line_does_what_its_document_shows() {
    assert!(check("docs/cli.md") >= 10);
}

#[test]
fn the_http_api_does_what_its_document_shows_at_every_server() {
    assert!(check("docs/http-api.md") >= 15);
}

#[test]
fn the_examples_of_the_readme_do_what_it_shows() {
    check("README.md");
}
