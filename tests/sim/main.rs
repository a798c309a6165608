//! The simulator's command line: `swarm`, `replay`, `mutants`, `explore`.
#![allow(clippy::disallowed_methods, reason = "says how fast the simulator is")]

mod search;

use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::Instant;

use simulation::coverage::regions::REGIONS;
use simulation::mutant::Mutant;
use simulation::options::Options;
use simulation::shrink::{Less, Shrunk, shrink};
use simulation::swarm::{Totals, hunt_all, run, swarm_of};
use simulation::world::Report;

const USAGE: &str = "usage:
  sim swarm [--seeds N] [--start S] [--events E] [--threads T] [--model | --autopilot]   run N seeds
  sim replay --seed S [--events E] [--mutant NAME] [--model | --autopilot] [--quiet]   run one seed and print every event
             [--stop E] [--without PARTS] [--skip FAULTS] [--shrink]
  sim mutants [--seeds N] [--start S] [--events E] [--table] [--only CHECKER] [--autopilot]   plant each known defect and look for it
  sim explore [--servers N] [--changes N] [--terms N] [--log N] [--single] [--without RULE] [--states MAX] [--threads T]
                                                              look at every state of the specification within bounds
--without: leave out some of faults, clients, changes, spares, snapshots, loss, duplicates, late, delay, disks, apply, drift, leases
--stop: end the faults after exactly so many events
--skip: leave out single faults, as in 0-4,7
--shrink: look for a smaller run that fails
--only: the only checker that counts
--single: no joint configurations
explore --without: switch a rule off: own-term-commit, own-term-before-change, joint-needs-both, one-change-at-a-time,
  one-server-at-a-time, newer-log-wins
--model: a model of the disks instead of the real stores on simulated disks (faster)
--autopilot: autopilot flies, machines come and go for good (with the model of the disks)";

/// Events before the faults stop, unless asked otherwise.
const EVENTS: u64 = 6000;

/// What runs.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Raft on the real stores.
    Files,
    /// Raft on a model of them.
    Model,
    /// Raft with autopilot.
    Autopilot,
}

impl Kind {
    /// What finds this defect.
    const fn of(mutant: Option<Mutant>) -> Self {
        match mutant {
            Some(mutant) if mutant.autopilot().is_some() => Self::Autopilot,
            Some(mutant) if mutant.core().is_some() => Self::Model,
            _ => Self::Files,
        }
    }

    fn options(self, seed: u64, events: u64) -> Options {
        match self {
            Self::Autopilot => Options::flown(seed, events),
            _ => Options { files: self == Self::Files, ..Options::from_seed(seed, events) },
        }
    }

    const fn argument(self) -> &'static str {
        match self {
            Self::Files => "",
            Self::Model => " --model",
            Self::Autopilot => " --autopilot",
        }
    }
}

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

    fn kind(&self) -> Kind {
        match (self.text("--autopilot"), self.text("--model")) {
            (Some(_), _) => Kind::Autopilot,
            (None, Some(_)) => Kind::Model,
            (None, None) => Kind::Files,
        }
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
        "explore" => search::explore_within(&arguments),
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
    arguments.known(&["--seeds", "--start", "--events", "--threads", "--model", "--autopilot"])?;
    let seeds = arguments.number("--seeds", 200)?;
    let start = arguments.number("--start", 0)?;
    let events = arguments.number("--events", EVENTS)?;
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get) as u64;
    let threads = arguments.number("--threads", processors)?;
    quiet_panics();
    let began = Instant::now();
    let terminal = std::io::stderr().is_terminal();
    let threads = usize::try_from(threads).unwrap_or(1);
    let kind = arguments.kind();
    let shape = |seed| kind.options(seed, events);
    let totals = swarm_of(start..start.saturating_add(seeds), threads, shape, |report| {
        if let Some(failure) = &report.failure {
            println!(
                "seed {} failed at {}: {}: {}",
                report.seed, failure.at, failure.check, failure.sentence
            );
            println!("  replay: {}", replay_command(report.seed, events, None, kind));
        } else if terminal {
            eprint!("\rseed {} ", report.seed);
        }
    });
    for report in totals.failed.iter().take(SHRUNK) {
        if let Some(small) = shrink(&kind.options(report.seed, events)) {
            print_smaller(&small, None, kind);
        }
    }
    print_totals(&totals, began.elapsed().as_secs_f64());
    println!("{} passed, {} failed", totals.passed, totals.failed.len());
    Ok(totals.failed.is_empty())
}

/// How many failures of a swarm are made smaller.
const SHRUNK: usize = 3;

fn print_smaller(small: &Shrunk, mutant: Option<Mutant>, kind: Kind) {
    let Report { seed, events, faults, failure, .. } = &small.report;
    let left = faults - small.less.skip.as_ref().map_or(0, |skip| skip.range(..faults).count() as u64);
    let what = failure.as_ref().map_or("", |failure| failure.check);
    println!(
        "seed {seed}: {what} fails after {events} events with {left} faults, found in {} runs",
        small.runs
    );
    let command = replay_command(*seed, EVENTS, mutant, kind);
    println!("  replay: {command} --stop {}{}", small.events, small.less.arguments());
}

fn print_totals(totals: &Totals, seconds: f64) {
    println!();
    for (name, count) in &totals.coverage {
        println!("{count:>12}  {name}");
    }
    println!("\nseeds that enter each region of the fault catalogue:");
    let seeds = |region| totals.regions.get(region).copied().unwrap_or(0);
    for (region, what) in REGIONS {
        println!("{:>12}  {region} {what}", seeds(region));
    }
    for (region, what) in REGIONS.iter().filter(|(region, _)| seeds(region) == 0) {
        println!("not entered: {region} {what}");
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

fn replay_command(seed: u64, events: u64, mutant: Option<Mutant>, kind: Kind) -> String {
    let events = if events == EVENTS { String::new() } else { format!(" --events {events}") };
    let kind = kind.argument();
    let mutant = mutant.map_or_else(String::new, |mutant| format!(" --mutant {}", mutant.name()));
    format!("cargo run --release -p simulation -- replay --seed {seed}{events}{mutant}{kind}")
}

fn replay(arguments: &Arguments) -> Result<bool, String> {
    arguments.known(&[
        "--seed",
        "--events",
        "--mutant",
        "--model",
        "--autopilot",
        "--quiet",
        "--stop",
        "--without",
        "--skip",
        "--shrink",
    ])?;
    let seed = arguments.number("--seed", u64::MAX)?;
    if seed == u64::MAX {
        return Err("replay needs --seed".to_owned());
    }
    let events = arguments.number("--events", EVENTS)?;
    let mutant = match arguments.text("--mutant") {
        Some(name) => Some(Mutant::named(name).ok_or_else(|| format!("no mutant is called {name:?}"))?),
        None => None,
    };
    let kind = arguments.kind();
    let less = Less::from_arguments(arguments.text("--without"), arguments.text("--skip"))?;
    if arguments.text("--shrink").is_some() {
        quiet_panics();
        let found = shrink(&Options { mutant, ..kind.options(seed, events) });
        match &found {
            Some(small) => print_smaller(small, mutant, kind),
            None => println!("seed {seed} does not fail"),
        }
        return Ok(found.is_none());
    }
    let trace = arguments.text("--quiet").is_none();
    let mut options = less.of(Options { mutant, trace, ..kind.options(seed, events) });
    options.events = arguments.number("--stop", options.events)?;
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
    arguments.known(&["--seeds", "--start", "--events", "--table", "--only", "--autopilot"])?;
    let table = arguments.text("--table").is_some();
    let only = arguments.text("--only").map(|name| &*name.to_owned().leak());
    let seeds = arguments.number("--seeds", 1000)?;
    let start = arguments.number("--start", 0)?;
    let events = arguments.number("--events", EVENTS)?;
    quiet_panics();
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
    let flown = arguments.kind() == Kind::Autopilot;
    let (told, all): (Vec<Mutant>, Vec<Mutant>) =
        Mutant::all().filter(|m| !flown || m.autopilot().is_some()).partition(|m| m.is_told());
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
                println!(
                    "  replay: {}",
                    replay_command(seed, events, Some(*mutant), Kind::of(Some(*mutant)))
                );
            }
            None if mutant.is_rare() => {
                rare += 1;
                println!("{name}: not found in {seeds} seeds, which is no failure: it is rare");
            }
            None => println!("{name}: NOT FOUND in {seeds} seeds"),
        }
    }
    for mutant in told {
        println!("{}: left to the stories of tests/scenarios/identity.rs", mutant.name());
    }
    println!("found {found} of {}", all.len());
    Ok(only.is_some() || found + rare == all.len())
}
