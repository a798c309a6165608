//! `autopilot agent`: one server in this process, until somebody wants it to stop.

use std::io::Read;
use std::process::ExitCode;
use std::time::Duration;

use autopilot_agent::config::{AgentArgs, AgentConfig};
use clap::Args;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

/// How long work that cannot be cancelled may go on after the server has stopped.
const LINGER: Duration = Duration::from_secs(5);

/// Exit code when a second signal ends the process before the server has stopped in order.
const IMPATIENT: i32 = 130;

/// Arguments of `agent`.
#[derive(Debug, Clone, Args)]
pub(crate) struct ServerArgs {
    #[command(flatten)]
    agent: AgentArgs,
    /// Stop, in order, when standard input is closed, so that no server outlives the process that started it
    #[arg(long)]
    exit_on_stdin_close: bool,
}

/// Runs the server and gives the exit code.
pub(crate) fn run(args: &ServerArgs) -> ExitCode {
    match serve(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("Error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn serve(args: &ServerArgs) -> anyhow::Result<()> {
    let config = AgentConfig::load(&args.agent)?;
    autopilot_agent::log_to_stderr(config.log_level);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let result = runtime.block_on(async {
        let interrupts = signal(SignalKind::interrupt())?;
        let terminations = signal(SignalKind::terminate())?;
        let closed = args.exit_on_stdin_close.then(stdin_closed);
        autopilot_agent::run(config, shutdown(interrupts, terminations, closed)).await
    });
    runtime.shutdown_timeout(LINGER);
    result
}

/// Resolves at the first SIGINT or SIGTERM, or when standard input is closed. From then on a signal ends the process
/// at once: whoever sends a second one does not want to wait.
async fn shutdown(mut interrupts: Signal, mut terminations: Signal, closed: Option<oneshot::Receiver<()>>) {
    let closed = async {
        match closed {
            // The sender is dropped in one way only: by the end of the input.
            Some(closed) => drop(closed.await),
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        _ = interrupts.recv() => {}
        _ = terminations.recv() => {}
        () = closed => {}
    }
    tokio::spawn(async move {
        tokio::select! {
            _ = interrupts.recv() => {}
            _ = terminations.recv() => {}
        }
        std::process::exit(IMPATIENT);
    });
}

/// Reads standard input to its end on a thread of its own: a read from a pipe cannot be cancelled, and this one ends
/// with the process.
fn stdin_closed() -> oneshot::Receiver<()> {
    let (open, closed) = oneshot::channel();
    std::thread::spawn(move || {
        let mut ignored = [0; 256];
        // An error means as well that nothing will be heard from the parent any more.
        while std::io::stdin().read(&mut ignored).is_ok_and(|read| read > 0) {}
        drop(open);
    });
    closed
}
