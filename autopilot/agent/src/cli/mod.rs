//! The command line: verbs, flags and what they print.
//!
//! Names, output and exit codes follow Consul's where Consul has the verb; what is added has `--format json` beside
//! the text for people. A verb turns arguments and a [`client::Client`] into an [`Outcome`]; only [`run`] prints.
//!
//! Exit codes: 0 for success, 1 for any error, 2 for a command line that cannot be parsed and, as in Consul, for
//! `members` when nothing matches; `operator autopilot health` also ends with 2 when the cluster is not healthy, and
//! `operator autopilot safe-to-stop` with 1 when the server must not be stopped.

pub(crate) mod argv;
mod autopilot;
mod autopilot_ask;
mod autopilot_events;
mod autopilot_hand;
pub(crate) mod client;
mod cluster;
pub(crate) mod duration;
#[cfg(test)]
pub(crate) mod fake;
mod kv;
mod members;
mod raft;
pub(crate) mod render;
pub(crate) mod wire;

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, CommandFactory, Subcommand, ValueEnum};

use client::{Client, RequestError};
use render::Palette;

/// Where to send requests.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Client options")]
pub(crate) struct ClientArgs {
    /// The HTTP address of any server, as HOST:PORT or http://HOST:PORT
    /// [env: AUTOPILOT_HTTP_ADDR, then CONSUL_HTTP_ADDR] [default: http://127.0.0.1:8500]
    #[arg(long, value_name = "ADDRESS")]
    http_addr: Option<String>,
    /// Let the asked server answer reads from what it knows, even without a leader
    #[arg(long)]
    stale: bool,
    /// How long to wait for an answer
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = duration::parse)]
    timeout: Duration,
}

impl ClientArgs {
    fn client(&self) -> Result<Client, RequestError> {
        Ok(http_client(self.http_addr.as_deref(), self.timeout)?.stale(self.stale))
    }

    const fn timeout(&self) -> Duration {
        self.timeout
    }
}

/// A client for the address given, or the one in the environment, or the default.
fn http_client(address: Option<&str>, timeout: Duration) -> Result<Client, RequestError> {
    let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
    let address = address
        .map(str::to_owned)
        .or_else(|| variable("AUTOPILOT_HTTP_ADDR"))
        .or_else(|| variable("CONSUL_HTTP_ADDR"))
        .unwrap_or_else(|| "http://127.0.0.1:8500".to_owned());
    Client::new(&address, timeout)
}

/// The form of the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Text for people.
    Pretty,
    /// The server's answer as JSON, indented.
    Json,
}

/// `--format`.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct FormatArgs {
    /// Text for people, or the server's answer as JSON
    #[arg(long, value_enum, default_value_t = Format::Pretty)]
    format: Format,
}

/// The verbs that talk to a running server.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum Verb {
    /// List the servers that gossip knows
    Members(members::MembersArgs),
    /// Look after the cluster: autopilot and raft
    #[command(subcommand)]
    Operator(OperatorVerb),
    /// Read and write the replicated key-value store
    #[command(subcommand)]
    Kv(kv::KvVerb),
    /// Tell a server to join the cluster of another
    Join(cluster::JoinArgs),
    /// Tell a server to leave its cluster and stop
    Leave(cluster::LeaveArgs),
    /// Print a completion script for a shell
    Completions {
        /// Which shell
        #[arg(value_enum)]
        shell: clap_complete::Shell,
    },
}

/// `operator`.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum OperatorVerb {
    /// Ask autopilot what it sees, and tune it
    #[command(subcommand)]
    Autopilot(autopilot::AutopilotVerb),
    /// Look at and change the members of the consensus group
    #[command(subcommand)]
    Raft(raft::RaftVerb),
}

/// What a verb wants printed, and how the process should end.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Outcome {
    /// For standard output, as it is.
    out: Vec<u8>,
    /// One line for standard error.
    complaint: Option<String>,
    /// The exit code.
    code: u8,
}

impl Outcome {
    fn text(text: impl Into<String>) -> Self {
        Self { out: text.into().into_bytes(), ..Self::default() }
    }

    fn line(text: impl Into<String>) -> Self {
        Self::text(text.into() + "\n")
    }

    fn with_code(mut self, code: u8) -> Self {
        self.code = code;
        self
    }
}

/// Why a verb did not do its work. Every error ends the process with 1.
#[derive(Debug, thiserror::Error)]
pub(crate) enum VerbError {
    /// The request failed; see [`RequestError`] for whether to repeat it.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// There is nothing under the key. Nothing changed.
    #[error("no key exists at {0:?}; list what exists with: autopilot kv get --keys \"\"")]
    NoKey(String),
    /// The key has changed since. Nothing was written; read it again and decide anew.
    #[error(
        "did not {verb} {key:?}: it is not at the given --modify-index any more; read it with kv get --detailed"
    )]
    KeyChanged {
        /// What was asked for.
        verb: &'static str,
        /// The key.
        key: String,
    },
    /// The configuration has changed since it was read. Nothing was written; run the command again.
    #[error(
        "did not update the configuration: somebody else changed it at the same moment; run the command again"
    )]
    LostRace,
    /// A server is not drained yet. The order stands, and autopilot goes on with it.
    #[error(
        "{server} is not drained after {after:?}: {waiting}; the order stands, lift it with: operator autopilot uncordon {server}"
    )]
    NotDrained {
        /// The server.
        server: String,
        /// How long was waited.
        after: Duration,
        /// What is in the way.
        waiting: String,
    },
    /// A file or standard input cannot be read. Nothing was sent.
    #[error("cannot read {what}: {error}")]
    Input {
        /// Which one.
        what: String,
        /// Why not.
        error: io::Error,
    },
    /// A text is not base64. Nothing was written.
    #[error("{what} is not base64: {problem}")]
    Base64 {
        /// Which text.
        what: String,
        /// Where it breaks the form.
        problem: String,
    },
}

/// Runs a verb, prints its outcome and gives the exit code.
pub(crate) fn run(verb: &Verb, command: clap::Command) -> ExitCode {
    match outcome(verb, command) {
        Ok(outcome) => finish(&outcome),
        Err(error) => {
            eprintln!("Error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn outcome(verb: &Verb, command: clap::Command) -> Result<Outcome, VerbError> {
    let palette = Palette::for_stdout();
    match verb {
        Verb::Members(args) => members::run(args, palette),
        Verb::Operator(OperatorVerb::Autopilot(verb)) => autopilot::run(verb, palette),
        Verb::Operator(OperatorVerb::Raft(verb)) => raft::run(verb, palette),
        Verb::Kv(verb) => kv::run(verb),
        Verb::Join(args) => cluster::join(args),
        Verb::Leave(args) => cluster::leave(args),
        Verb::Completions { shell } => Ok(completions(*shell, command)),
    }
}

fn completions(shell: clap_complete::Shell, mut command: clap::Command) -> Outcome {
    let mut outcome = Outcome::default();
    clap_complete::generate(shell, &mut command, "autopilot", &mut outcome.out);
    outcome
}

fn finish(outcome: &Outcome) -> ExitCode {
    if let Some(complaint) = &outcome.complaint {
        eprintln!("{complaint}");
    }
    let mut stdout = io::stdout().lock();
    match stdout.write_all(&outcome.out).and_then(|()| stdout.flush()) {
        // The reader has seen enough, as in `autopilot members | head -1`.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::from(outcome.code),
        Err(error) => {
            eprintln!("Error: cannot write to standard output: {error}");
            ExitCode::FAILURE
        }
        Ok(()) => ExitCode::from(outcome.code),
    }
}

/// Parses arguments of this process, with Consul's flag spelling accepted.
pub(crate) fn parse<P: clap::Parser + CommandFactory>() -> P {
    let flags = argv::long_flags(&mut P::command());
    P::parse_from(argv::double_dashes(std::env::args_os(), &flags))
}
