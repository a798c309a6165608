//! The simulator's command line: `swarm`, `replay`, `mutants`, `explore`.
#![allow(clippy::disallowed_methods, reason = "says how fast the simulator is")]

use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::Instant;

use simulation::mutant::Mutant;
use simulation::options::Options;
use simulation::spec::Rules;
use simulation::spec::explore::{Bounds, Progress, Violation, explore};
use simulation::swarm::{Totals, hunt_all, run, swarm_of};

const USAGE: &str = "usage:
  sim swarm [--seeds N] [--start S] [--events E] [--threads T] [--model]   run N seeds
  sim replay --seed S [--events E] [--mutant NAME] [--model] [--quiet]   run one seed and print every event
  sim mutants [--seeds N] [--start S] [--events E] [--table] [--only CHECKER]   plant each known defect and look for it
  sim explore [--servers N] [--changes N] [--terms N] [--log N] [--single] [--without RULE] [--states MAX] [--threads T]
                                                                 look at every state of the specification within bounds
--single: no joint configurations
--without: switch a rule off: own-term-commit, own-term-before-change, joint-needs-both, one-change-at-a-time,
  one-server-at-a-time, newer-log-wins
--model: a model of the disks instead of the real stores on simulated disks (faster)";

/// Events before the faults stop, unless asked otherwise.
const EVENTS: u64 = 6000;

struct Arguments(Vec<String>);

impl Arguments {
    fn number(&self, name: &str, default: u64) -> Result<u64, String> {
        let Some(text) = self.text(name) else { return Ok(default) };
        text.parse().map_err(|_| format!("{name} takes a number, not {text:?}"))
    }

    fn text(&self, name: &str) -> Option<&str> {
        let at = self.0.iter().position(|argument| argument == name)?;
        Some(self.0.get(at + 1).map_or("", String::as_str))
    }

    fn known(&self, names: &[&str]) -> Result<(), String> {
        let strange = self.0.iter().find(|a| a.starts_with("--") && !names.contains(&a.as_str()));
        strange.map_or(Ok(()), |argument| Err(format!("unknown argument {argument}")))
    }
}

fn main() -> ExitCode {
    let mut words = std::env::args().skip(1);
    let verb = words.next().unwrap_or_default();
    let arguments = Arguments(words.collect());
    let outcome = match verb.as_str() {
        "swarm" => run_swarm(&arguments),
        "replay" => replay(&arguments),
        "mutants" => mutants(&arguments),
        "explore" => search(&arguments),
        _ => Err(USAGE.to_owned()),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::from(2)
        }
    }
}

fn quiet_panics() {
    // A panic of a core is reported with its seed; the usual lines would only stand in the way.
    std::panic::set_hook(Box::new(|_| {}));
}

fn run_swarm(arguments: &Arguments) -> Result<bool, String> {
    arguments.known(&["--seeds", "--start", "--events", "--threads", "--model"])?;
    let seeds = arguments.number("--seeds", 200)?;
    let start = arguments.number("--start", 0)?;
    let events = arguments.number("--events", EVENTS)?;
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get) as u64;
    let threads = arguments.number("--threads", processors)?;
    quiet_panics();
    let began = Instant::now();
    let terminal = std::io::stderr().is_terminal();
    let threads = usize::try_from(threads).unwrap_or(1);
    let files = arguments.text("--model").is_none();
    let shape = |seed| Options { files, ..Options::from_seed(seed, events) };
    let totals = swarm_of(start..start.saturating_add(seeds), threads, shape, |report| {
        if let Some(failure) = &report.failure {
            println!(
                "seed {} failed at {}: {}: {}",
                report.seed, failure.at, failure.check, failure.sentence
            );
            let model = if files { "" } else { " --model" };
            println!("  replay: {}{model}", replay_command(report.seed, events, None));
        } else if terminal {
            eprint!("\rseed {} ", report.seed);
        }
    });
    print_totals(&totals, began.elapsed().as_secs_f64());
    println!("{} passed, {} failed", totals.passed, totals.failed.len());
    Ok(totals.failed.is_empty())
}

fn print_totals(totals: &Totals, seconds: f64) {
    println!();
    for (name, count) in &totals.coverage {
        println!("{count:>12}  {name}");
    }
    let events = totals.events;
    let virtual_seconds = totals.time.as_secs_f64();
    #[allow(clippy::cast_precision_loss, reason = "only shown")]
    let speed = events as f64 / seconds.max(1e-9);
    println!(
        "{} seeds, {events} events, {virtual_seconds:.0} s of virtual time in {seconds:.1} s: {speed:.0} events/s, {:.0} times real time",
        totals.passed + totals.failed.len() as u64,
        virtual_seconds / seconds.max(1e-9)
    );
}

fn replay_command(seed: u64, events: u64, mutant: Option<Mutant>) -> String {
    let events = if events == EVENTS { String::new() } else { format!(" --events {events}") };
    let model = if mutant.is_some_and(|mutant| mutant.core().is_some()) { " --model" } else { "" };
    let mutant = mutant.map_or_else(String::new, |mutant| format!(" --mutant {}", mutant.name()));
    format!("cargo run --release -p simulation -- replay --seed {seed}{events}{mutant}{model}")
}

fn replay(arguments: &Arguments) -> Result<bool, String> {
    arguments.known(&["--seed", "--events", "--mutant", "--model", "--quiet"])?;
    let seed = arguments.number("--seed", u64::MAX)?;
    if seed == u64::MAX {
        return Err("replay needs --seed".to_owned());
    }
    let events = arguments.number("--events", EVENTS)?;
    let mutant = match arguments.text("--mutant") {
        Some(name) => Some(Mutant::named(name).ok_or_else(|| format!("no mutant is called {name:?}"))?),
        None => None,
    };
    let trace = arguments.text("--quiet").is_none();
    let files = arguments.text("--model").is_none();
    let options = Options { mutant, trace, files, ..Options::from_seed(seed, events) };
    if trace {
        println!("{options:#?}");
    }
    let report = run(options);
    for (name, count) in &report.coverage {
        println!("{count:>12}  {name}");
    }
    println!("seed {seed}: {} events, {:?}, hash {:016x}", report.events, report.time, report.hash);
    match &report.failure {
        None => println!("1 passed, 0 failed"),
        Some(failure) => println!("{}: {}\n0 passed, 1 failed", failure.check, failure.sentence),
    }
    Ok(report.failure.is_none())
}

fn mutants(arguments: &Arguments) -> Result<bool, String> {
    arguments.known(&["--seeds", "--start", "--events", "--table", "--only"])?;
    let table = arguments.text("--table").is_some();
    let only = arguments.text("--only").map(|name| &*name.to_owned().leak());
    let seeds = arguments.number("--seeds", 400)?;
    let start = arguments.number("--start", 0)?;
    let events = arguments.number("--events", EVENTS)?;
    quiet_panics();
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
    let all: Vec<Mutant> = Mutant::all().collect();
    let hunts = hunt_all(&all, start..start.saturating_add(seeds), events, threads, only);
    let (mut found, mut rare) = (0, 0);
    for (mutant, hunted) in all.iter().zip(hunts) {
        let name = mutant.name();
        match hunted {
            Some((seed, failure)) => {
                found += 1;
                let count = seed - start + 1;
                if table {
                    println!("| `{name}` | `{}` | {count} |", failure.check);
                    continue;
                }
                println!("{name}: found by {} after {count} seeds: {}", failure.check, failure.sentence);
                println!("  replay: {}", replay_command(seed, events, Some(*mutant)));
            }
            None if mutant.is_rare() => {
                rare += 1;
                println!("{name}: not found in {seeds} seeds, which is no failure: it is rare");
            }
            None => println!("{name}: NOT FOUND in {seeds} seeds"),
        }
    }
    println!("found {found} of {}", all.len());
    Ok(only.is_some() || found + rare == all.len())
}

fn search(arguments: &Arguments) -> Result<bool, String> {
    arguments.known(&[
        "--servers", "--changes", "--terms", "--log", "--single", "--without", "--states", "--threads",
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
    let said = if outcome.exhausted { "every state within the bounds was seen" } else { "not every state was seen" };
    println!("{} states, {said}", outcome.progress.states);
    Ok(outcome.violation.is_none() && outcome.exhausted)
}

fn print_progress(progress: &Progress, seconds: f64) {
    let Progress { depth, states, steps, frontier } = progress;
    println!("depth {depth:>3}: {states:>11} states, {steps:>12} steps, {frontier:>9} to go on from, {seconds:>7.1} s");
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
