//! The verb `explore`.
#![allow(clippy::disallowed_methods, reason = "says how long it takes")]

use std::time::Instant;

use simulation::spec::Rules;
use simulation::spec::explore::{Bounds, Progress, Violation, explore};

use super::Arguments;

/// Searches, and prints how far it came and what it found.
pub(crate) fn explore_within(arguments: &Arguments) -> Result<bool, String> {
    arguments.known(&[
        "--servers",
        "--changes",
        "--terms",
        "--log",
        "--single",
        "--without",
        "--states",
        "--threads",
    ])?;
    let count = |name, default| arguments.number(name, default);
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get) as u64;
    let rules = match arguments.text("--without") {
        Some(name) => Rules::default().without(name).ok_or_else(|| format!("no rule is called {name:?}"))?,
        None => Rules::default(),
    };
    let within = |name, default, most: u64| {
        count(name, default).and_then(|n| {
            if (1..=most).contains(&n) { Ok(n) } else { Err(format!("{name} is 1 to {most}, not {n}")) }
        })
    };
    let bounds = Bounds {
        servers: usize::try_from(within("--servers", 3, 6)?).unwrap_or(6),
        changes: u8::try_from(count("--changes", 2)?.min(100)).unwrap_or(100),
        terms: within("--terms", 3, 60)?,
        log: usize::try_from(within("--log", 4, 60)?).unwrap_or(60),
        joint: arguments.text("--single").is_none(),
        rules,
        states: count("--states", 400_000_000)?,
        threads: usize::try_from(count("--threads", processors)?).unwrap_or(1),
    };
    println!("{bounds:#?}");
    let began = Instant::now();
    let outcome = explore(&bounds, |progress| print_progress(progress, began.elapsed().as_secs_f64()));
    if let Some(violation) = &outcome.violation {
        print_violation(violation);
    }
    let said =
        if outcome.exhausted { "every state within the bounds was seen" } else { "not every state was seen" };
    println!("{} states, {said}", outcome.progress.states);
    Ok(outcome.violation.is_none() && outcome.exhausted)
}

fn print_progress(progress: &Progress, seconds: f64) {
    let Progress { depth, states, steps, frontier } = progress;
    println!(
        "depth {depth:>3}: {states:>11} states, {steps:>12} steps, {frontier:>9} to go on from, {seconds:>7.1} s"
    );
}

fn print_violation(violation: &Violation) {
    println!("{} is broken: {}", violation.invariant, violation.sentence);
    for (number, actions) in violation.path.iter().enumerate() {
        let actions: Vec<String> = actions.iter().map(|action| format!("{action:?}")).collect();
        println!("{:>4}. {}", number + 1, actions.join(", then "));
    }
    for (node, server) in violation.end.servers.iter().enumerate() {
        println!("{node}: {:?} in term {}, log {:?}", server.role, server.term, server.log);
    }
    println!("committed: {:?}", violation.end.decided);
}
