//! Runs the examples as `cargo test` built them: they are what a user tries first.
#![allow(missing_docs, reason = "a test")]

use std::process::Command;

fn run(example: &str) -> String {
    let mut path = std::env::current_exe().expect("a test has a path");
    path.pop();
    path.set_file_name("examples");
    path.push(example);
    let output = Command::new(&path)
        .output()
        .unwrap_or_else(|error| panic!("{}: {error}; `cargo test` without --test builds it", path.display()));
    assert!(output.status.success(), "{example}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn follow_leadership_starts_on_gain_and_stops_on_loss() {
    let printed = run("follow_leadership");
    assert!(printed.contains("leading: ") && printed.contains("stopped: "), "{printed}");
}

#[test]
fn custom_promoter_says_what_it_decides_and_why() {
    let printed = run("custom_promoter");
    assert!(printed.contains("rack c has no healthy voter"), "{printed}");
}

#[test]
fn query_health_names_the_rule_that_a_server_breaks() {
    let printed = run("query_health");
    assert!(printed.contains("unhealthy, last-contact"), "{printed}");
}

#[test]
fn dead_server_removal_says_what_went_and_what_stayed() {
    let printed = run("dead_server_removal");
    assert!(printed.contains("removed n4") && printed.contains("kept n3"), "{printed}");
}

#[test]
fn plan_and_apply_shows_tolerance_and_refuses_a_stale_plan() {
    let printed = run("plan_and_apply");
    assert!(printed.contains("It is to be removed, but not yet"), "{printed}");
    assert!(printed.contains("1. remove failed voter n3, now"), "{printed}");
    assert!(printed.contains("may fail: 0 before, 0 during, 0 after"), "{printed}");
    assert!(printed.contains("performed 1 of 1 steps"), "{printed}");
    assert!(printed.contains("again: the proposal was made for the configuration at index"), "{printed}");
}

#[test]
fn replay_says_what_another_configuration_would_have_done() {
    let printed = run("replay");
    assert!(printed.contains("then: remove failed voter n3"), "{printed}");
    assert!(printed.contains("with min_quorum 3: remove n3: refused (min-quorum:"), "{printed}");
}

#[test]
fn drain_says_when_a_server_may_be_stopped_and_who_did_what() {
    let printed = run("drain");
    assert!(printed.contains("safe at once: false"), "{printed}");
    assert!(printed.contains("voters: [n1, n2, n4]"), "{printed}");
    assert!(printed.contains("safe now: true, then 1 may fail"), "{printed}");
    assert!(printed.contains("n3: draining by alice: drained by alice (replace a disk)"), "{printed}");
    assert!(printed.contains("n4: swapped by autopilot: it takes the place of server n3"), "{printed}");
}

#[test]
fn ledger_shows_that_probation_survives_an_election() {
    let printed = run("ledger");
    assert!(printed.contains("with a ledger: n2 is held up by: waiting for the next round"), "{printed}");
    assert!(printed.contains("without a ledger: n2 is held up by: probation"), "{printed}");
}

#[test]
fn replace_takes_one_step_or_two_and_keeps_the_size() {
    let printed = run("replace");
    assert!(printed.contains("alone: remove n3: refused (floor:"), "{printed}");
    let (one, two) = printed.split_once("One by one.").expect("both");
    assert!(one.contains("1. replace failed voter n3 with server n4, now"), "{printed}");
    assert!(two.contains("1. promote server n4") && two.contains("2. remove failed voter n3"), "{printed}");
}

#[test]
fn domains_tells_servers_and_zones_apart() {
    let printed = run("domains");
    assert!(printed.contains("servers that may fail: 1"), "{printed}");
    assert!(printed.contains("zones that may fail: 0 at worst, 1 at best"), "{printed}");
    assert!(printed.contains("without zone a the cluster stops"), "{printed}");
}
