//! A fixed set of seeds on every `cargo test`, and what makes a seed worth something: determinism, and found defects.

mod regions;

use std::sync::LazyLock;

use simulation::mutant::Mutant;
use simulation::options::Options;
use simulation::swarm::{Totals, hunt, hunt_by, run, swarm, swarm_of};

const EVENTS: u64 = 2500;

/// What the fixed seeds came to.
static FIXED: LazyLock<Totals> = LazyLock::new(|| swarm(1_000_000..1_000_400, EVENTS, 2, |_| {}));

#[test]
fn no_invariant_breaks_under_the_fixed_seeds() {
    let totals = &*FIXED;
    let failures: Vec<String> = totals
        .failed
        .iter()
        .filter_map(|report| report.failure.as_ref().map(|failure| (report.seed, failure)))
        .map(|(seed, failure)| {
            format!(
                "{}: {}\n  cargo run --release -p simulation -- replay --seed {seed} --events {EVENTS}",
                failure.check, failure.sentence
            )
        })
        .collect();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    for rare in [
        "crashes",
        "torn writes",
        "truncations",
        "compactions",
        "snapshots installed",
        "partitions",
        "one-way cuts",
        "changes of members committed",
        "transfers done",
        "reads confirmed",
        "reads confirmed for followers",
        "refused: leadership lost",
        "commands with unknown fate",
    ] {
        assert!(totals.coverage.get(rare).is_some_and(|count| *count > 0), "the seeds never reach: {rare}");
    }
}

#[test]
fn no_rule_of_autopilot_breaks_under_the_fixed_seeds() {
    let totals = swarm_of(1_000_000..1_000_100, 2, |seed| Options::flown(seed, EVENTS), |_| {});
    let failures: Vec<String> = totals
        .failed
        .iter()
        .filter_map(|report| report.failure.as_ref().map(|failure| (report.seed, failure)))
        .map(|(seed, failure)| {
            let replay = "cargo run --release -p simulation -- replay --autopilot";
            format!("{}: {}\n  {replay} --seed {seed} --events {EVENTS}", failure.check, failure.sentence)
        })
        .collect();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    for rare in [
        "autopilot: promotions",
        "autopilot: demotions",
        "autopilot: transfers",
        "autopilot: removals of failed servers",
        "autopilot: swaps for dead voters",
        "autopilot: decisions that were too old",
        "autopilot refuses: still-answers",
        "autopilot refuses: no-quorum",
        "machines: gone for good",
        "machines: leaving",
        "machines: rolling reboots",
        "ledgers: taken over",
        "people: cordons",
        "people: drains",
        "people: maintenance windows",
        "people: pauses",
        "people: servers wanted back",
        "people: told not to stop a server",
        "people: told that a server may stop while all were well",
        "autopilot refuses: cordoned",
        "autopilot refuses: drained",
        "autopilot refuses: no-successor",
        "autopilot refuses: floor",
        "autopilot refuses: not-corroborated",
        "witnesses: lies",
    ] {
        assert!(totals.coverage.get(rare).is_some_and(|count| *count > 0), "the seeds never reach: {rare}");
    }
}

#[test]
fn a_seed_decides_everything_about_autopilot() {
    for seed in [7, 8, 9] {
        let first = run(Options::flown(seed, EVENTS));
        let second = run(Options::flown(seed, EVENTS));
        assert_eq!((first.hash, first.events, first.time), (second.hash, second.events, second.time));
        assert_eq!(first.coverage, second.coverage);
    }
}

#[test]
fn a_seed_decides_everything() {
    for seed in [7, 8, 9] {
        let first = run(Options::from_seed(seed, EVENTS));
        let second = run(Options::from_seed(seed, EVENTS));
        assert_eq!((first.hash, first.events, first.time), (second.hash, second.events, second.time));
        assert_eq!(first.coverage, second.coverage);
        let other = run(Options::from_seed(seed + 100, EVENTS));
        assert_ne!(first.hash, other.hash);
    }
}

#[test]
fn planted_defects_are_found() {
    // The quick ones; `cargo run --release -p simulation -- mutants` looks for all.
    for mutant in [
        Mutant::Core(raft::core::Mutant::VotesTwice),
        Mutant::Core(raft::core::Mutant::CommitsOldTerms),
        Mutant::AckForged,
        Mutant::RefusalLies,
        Mutant::Autopilot(autopilot::core::Mutant::NoProbation),
        Mutant::Autopilot(autopilot::core::Mutant::StaleIsLeft),
        Mutant::Autopilot(autopilot::core::Mutant::OrdersLost),
    ] {
        let found = hunt(mutant, 0..40, 4000);
        assert!(found.is_some(), "{} is not found in 40 seeds", mutant.name());
    }
}

/// Each of these breaks a rule of another kind; all other checkers are off.
#[test]
fn the_specification_alone_finds_planted_defects() {
    for mutant in [
        Mutant::Core(raft::core::Mutant::ElectedOneShort),
        Mutant::Core(raft::core::Mutant::AcksBeforeDurable),
        Mutant::Core(raft::core::Mutant::ConflictKept),
        Mutant::Core(raft::core::Mutant::CommitsOneShort),
        Mutant::Core(raft::core::Mutant::ConfigurationAtCommit),
        Mutant::VoteForgotten,
    ] {
        let found = hunt_by(mutant, 0..40, EVENTS, Some("specification"));
        assert!(found.is_some(), "{} is not found in 40 seeds", mutant.name());
    }
}
