//! `autopilot dev`: a cluster of real servers on this machine, to watch or to be shown.
//!
//! Plain `dev` starts servers and shows them until Ctrl-C. `dev --story` puts the cluster through its paces and says
//! how long each phase took. Everything runs on loopback, in a directory of its own that is removed at the end.

mod directory;
mod interrupt;
mod keys;
mod observe;
mod process;
mod report;
mod screen;
mod session;
mod story;
mod view;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;

use directory::{Directory, DirectoryError};
use interrupt::Interrupt;
use process::StartError;
use screen::Screen;
use session::{FOUNDERS, Interrupted, Session};
use view::Voice;

/// How many servers join after the cluster has formed.
const JOINERS: usize = 2;

/// How often the table is renewed.
const REFRESH: Duration = Duration::from_millis(250);

/// How long the servers may take to stop when the person has seen enough.
const STOP_BOUND: Duration = Duration::from_secs(10);

/// Exit code after Ctrl-C where it cuts a story short, as shells count it.
const INTERRUPTED: u8 = 130;

/// Arguments of `dev`.
#[derive(Debug, Clone, Args)]
pub(crate) struct DevArgs {
    /// Kill the leader, watch the cluster heal, check every key, print how long each phase took, and end with 0 or 1
    #[arg(long)]
    story: bool,
    /// Write the durations of the phases to this file as JSON
    #[arg(long, value_name = "FILE", requires = "story")]
    json: Option<PathBuf>,
    /// Keep the servers' data and logs in this directory, which must be new or empty [default: a temporary one]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Leave data and logs in place at the end; a failed story always does
    #[arg(long)]
    keep: bool,
}

/// Why `dev` could not begin or go on.
#[derive(Debug, thiserror::Error)]
enum DevError {
    /// There is no directory to work in. Nothing was started.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// The system does not say which program this is. Nothing was started.
    #[error("cannot find the program that is running: {0}")]
    Program(std::io::Error),
    /// The system does not let signals be handled. Nothing was started.
    #[error("cannot listen for Ctrl-C: {0}")]
    Signals(std::io::Error),
    /// A server did not start. The others were stopped.
    #[error(transparent)]
    Start(#[from] StartError),
}

/// Runs `dev` and gives the exit code.
pub(crate) fn run(args: &DevArgs) -> ExitCode {
    let begun = begin(args);
    let ended = begun.and_then(|mut session| {
        if args.story { Ok(story::run(&mut session, args.json.as_deref())) } else { watch(&mut session) }
    });
    ended.unwrap_or_else(|error| {
        eprintln!("Error: {error}");
        ExitCode::FAILURE
    })
}

fn begin(args: &DevArgs) -> Result<Session, DevError> {
    let program = std::env::current_exe().map_err(DevError::Program)?;
    let interrupt = Interrupt::listen().map_err(DevError::Signals)?;
    let directory = Directory::make(args.data_dir.as_deref(), args.keep)?;
    let title = if args.story { "autopilot dev --story" } else { "autopilot dev" };
    Ok(Session::new(directory, program, Screen::new(title), interrupt))
}

fn watch(session: &mut Session) -> Result<ExitCode, DevError> {
    for _ in 0..FOUNDERS {
        session.start()?;
    }
    let first = session.sources().first().map(|source| source.http.clone()).unwrap_or_default();
    session.screen.hint(vec![
        "In another terminal, for example:".to_owned(),
        format!("  export AUTOPILOT_HTTP_ADDR=http://{first}"),
        "  autopilot operator raft list-peers        autopilot operator autopilot state".to_owned(),
        "  kill -9 PID                               (and watch autopilot replace a dead leader and remove it)".to_owned(),
        "Ctrl-C stops all servers and removes their data.".to_owned(),
    ]);
    let mut joined = false;
    let mut printed = false;
    loop {
        match session.tick(REFRESH) {
            Err(Interrupted) => break,
            Ok((seen, _)) => {
                let members = seen.state.as_ref().map_or(0, |state| state.servers.len());
                let voters = seen
                    .state
                    .as_ref()
                    .map_or(0, |state| state.servers.values().filter(|s| s.is_voter()).count());
                if !joined && voters >= FOUNDERS {
                    joined = true;
                    for _ in 0..JOINERS {
                        session.start()?;
                    }
                }
                if !printed && members > FOUNDERS && voters == members {
                    printed = true;
                    session.print_table();
                }
            }
        }
    }
    session.screen.note(Voice::Dev, "stopping all servers");
    for failure in session.stop(Instant::now() + STOP_BOUND) {
        session.screen.note(Voice::Dev, failure);
    }
    let facts = session.facts();
    session.screen.draw(&facts);
    if let Some(path) = session.kept_data() {
        session.screen.print(&format!("Data and logs are in {path}\n"));
    }
    Ok(ExitCode::SUCCESS)
}
