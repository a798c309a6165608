//! The binary `autopilot`: the server, the command line and the local cluster to watch.

#![allow(
    clippy::disallowed_methods,
    reason = "the command line is a driver: it reads clocks and waits on real processes"
)]

mod cli;
mod dev;
mod server;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

/// Keeps a Raft cluster healthy by itself.
///
/// Long flags may be written with one dash too, as in Consul: -format=json.
#[derive(Debug, Parser)]
#[command(name = "autopilot", version, propagate_version = true)]
struct CommandLine {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Run a server
    Agent(Box<server::ServerArgs>),
    /// Start a cluster on this machine to watch, or to be shown with --story
    Dev(dev::DevArgs),
    #[command(flatten)]
    Client(cli::Verb),
}

fn main() -> ExitCode {
    match cli::parse::<CommandLine>().verb {
        Verb::Agent(args) => server::run(&args),
        Verb::Dev(args) => dev::run(&args),
        Verb::Client(verb) => cli::run(&verb, CommandLine::command()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        CommandLine::command().debug_assert();
    }
}
