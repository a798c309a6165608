//! Runs the examples as `cargo test` built them: they are what a user tries first.
#![allow(missing_docs, reason = "a test")]

use std::process::Command;

#[test]
fn three_servers_survive_the_loss_of_their_leader() {
    let mut path = std::env::current_exe().expect("a test has a path");
    path.pop();
    path.set_file_name("examples");
    path.push("three_servers");
    let output = Command::new(&path)
        .output()
        .unwrap_or_else(|error| panic!("{}: {error}; `cargo test` without --test builds it", path.display()));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(String::from_utf8_lossy(&output.stdout).contains("the sum is 20"));
}
