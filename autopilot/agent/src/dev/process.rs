//! Servers as child processes: started, waited for, killed, stopped and never left behind.
//!
//! A child cannot outlive this process: [`ServerProcess`] kills it when dropped, which covers errors and panics, and
//! its standard input is a pipe that the system closes when this process ends in any other way; the server runs
//! with `--exit-on-stdin-close` and stops then by itself.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

/// How long a server may take to open its ports.
const READY_BOUND: Duration = Duration::from_secs(20);

/// How many lines of the log explain a failed start.
const START_LOG_LINES: usize = 12;

/// How much of the end of a log is read for a report.
const LOG_TAIL_BYTES: u64 = 16 << 10;

/// Why a server did not start. Nothing of it is left running.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    /// The system refused.
    #[error("cannot start {name}: {error}")]
    System {
        /// The server.
        name: String,
        /// What the system said.
        error: std::io::Error,
    },
    /// It ended before it was ready.
    #[error("{name} ended before it was ready ({status}); the end of its log:\n{log}")]
    Ended {
        /// The server.
        name: String,
        /// How it ended.
        status: String,
        /// Its last words.
        log: String,
    },
    /// It did not say that it is ready.
    #[error("{name} did not say that it is ready within {READY_BOUND:?}; the end of its log:\n{log}")]
    NotReady {
        /// The server.
        name: String,
        /// Its last words.
        log: String,
    },
    /// It said something else.
    #[error("{name} says that it is ready in an unknown form: {line:?}")]
    Form {
        /// The server.
        name: String,
        /// What it said.
        line: String,
    },
}

/// Where a server can be reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Addresses {
    /// HTTP, `host:port`.
    pub(crate) http: String,
    /// Raft, `host:port`.
    pub(crate) raft: String,
    /// Gossip, `host:port`.
    pub(crate) gossip: String,
}

/// Reads `agent ready: http=… raft=… gossip=… id=…`.
fn addresses(line: &str) -> Option<Addresses> {
    let rest = line.strip_prefix("agent ready:")?;
    let field = |name: &str| {
        rest.split_whitespace().find_map(|word| word.strip_prefix(name)?.strip_prefix('=')).map(str::to_owned)
    };
    Some(Addresses { http: field("http")?, raft: field("raft")?, gossip: field("gossip")? })
}

/// What to start.
#[derive(Debug, Clone)]
pub(crate) struct Spec<'a> {
    /// The program: this very one.
    pub(crate) program: &'a Path,
    /// The name people see.
    pub(crate) name: &'a str,
    /// The identity for life.
    pub(crate) id: &'a str,
    /// Holds every server's data directory and log.
    pub(crate) directory: &'a Path,
    /// The gossip address of a server to join.
    pub(crate) join: Option<&'a str>,
    /// Form a cluster of so many; `None` to join only.
    pub(crate) bootstrap_expect: Option<usize>,
    /// Further arguments, the same for every server.
    pub(crate) settings: &'a [String],
}

/// One server.
#[derive(Debug)]
pub(crate) struct ServerProcess {
    /// The name people see.
    pub(crate) name: String,
    /// The identity for life.
    pub(crate) id: String,
    /// Where it can be reached.
    pub(crate) addresses: Addresses,
    /// What it writes to standard error.
    pub(crate) log: PathBuf,
    child: Child,
    stdin: Option<ChildStdin>,
    ended: Option<ExitStatus>,
}

impl ServerProcess {
    /// Starts a server and waits until its ports are open.
    ///
    /// # Errors
    ///
    /// [`StartError`]; the process is gone then.
    pub(crate) fn start(spec: &Spec<'_>) -> Result<Self, StartError> {
        let name = spec.name.to_owned();
        let log = spec.directory.join(format!("{name}.log"));
        let mut child = command(spec, &log)
            .and_then(|mut command| command.spawn())
            .map_err(|error| StartError::System { name: name.clone(), error })?;
        let stdin = child.stdin.take();
        let stdout = child.stdout.take().expect("standard output was asked to be a pipe");
        let ready = first_line(stdout, log.clone());
        // From here on dropping the value ends the process.
        let unknown = Addresses { http: String::new(), raft: String::new(), gossip: String::new() };
        let mut server =
            Self { name, id: spec.id.to_owned(), addresses: unknown, log, child, stdin, ended: None };
        server.addresses = server.wait_ready(&ready)?;
        Ok(server)
    }

    fn wait_ready(&mut self, ready: &Receiver<String>) -> Result<Addresses, StartError> {
        let name = self.name.clone();
        match ready.recv_timeout(READY_BOUND) {
            Ok(line) => addresses(&line).ok_or(StartError::Form { name, line }),
            Err(RecvTimeoutError::Timeout) => {
                Err(StartError::NotReady { name, log: self.log_tail(START_LOG_LINES).join("\n") })
            }
            // Standard output was closed, which a server does only by ending; dropping waits for it.
            Err(RecvTimeoutError::Disconnected) => {
                let status =
                    self.child.wait().map_or_else(|error| error.to_string(), |status| status.to_string());
                Err(StartError::Ended { name, status, log: self.log_tail(START_LOG_LINES).join("\n") })
            }
        }
    }

    /// The process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How the process ended, if it did.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        if self.ended.is_none() {
            // An error here means that somebody else reaped the child; it is not running in either case.
            self.ended = self.child.try_wait().ok().flatten();
        }
        self.ended
    }

    /// Ends the process as a power cut would: SIGKILL, nothing flushed, no goodbye. Returns when it is gone.
    pub(crate) fn kill(&mut self) {
        // Killing fails only for a process that ended already.
        let _ = self.child.kill();
        self.ended = self.ended.or(self.child.wait().ok());
    }

    /// Asks the server to stop, without waiting.
    pub(crate) fn ask_to_stop(&mut self) {
        self.stdin = None;
    }

    /// Waits for the process to end by itself; `None` when it still runs at the deadline.
    pub(crate) fn wait_until(&mut self, deadline: Instant) -> Option<ExitStatus> {
        loop {
            let ended = self.ended();
            if ended.is_some() || Instant::now() >= deadline {
                return ended;
            }
            // Waiting with a limit for any process needs polling: the standard library has nothing else.
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// The last lines of the log.
    pub(crate) fn log_tail(&self, lines: usize) -> Vec<String> {
        tail(&self.log, lines)
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        if self.ended().is_none() {
            self.kill();
        }
    }
}

fn command(spec: &Spec<'_>, log: &Path) -> std::io::Result<Command> {
    let mut command = Command::new(spec.program);
    command
        .args([
            "agent",
            "--exit-on-stdin-close",
            "--node-name",
            spec.name,
            "--node-id",
            spec.id,
            "--data-dir",
        ])
        .arg(spec.directory.join(spec.name))
        .args(["--raft-addr", "127.0.0.1:0", "--http-addr", "127.0.0.1:0", "--gossip-addr", "127.0.0.1:0"])
        .args(spec.settings);
    if let Some(expect) = spec.bootstrap_expect {
        command.args(["--bootstrap-expect", &expect.to_string()]);
    }
    if let Some(address) = spec.join {
        command.args(["--join", address]);
    }
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(File::options().create(true).append(true).open(log)?)
        // Ctrl-C in the terminal is for the parent alone, which then stops its children in order.
        .process_group(0);
    Ok(command)
}

/// Gives the first line of a stream and appends the rest to a file, so that the writer never has to wait.
fn first_line(stream: impl Read + Send + 'static, log: PathBuf) -> Receiver<String> {
    let (send, receive) = sync_channel(1);
    std::thread::spawn(move || {
        let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
        if let Some(line) = lines.next() {
            // Nobody waits for it any more when the start was given up.
            let _ = send.send(line);
        }
        drop(send);
        let mut log = File::options().append(true).open(log).ok();
        for line in lines {
            if let Some(log) = &mut log {
                // A full disk must not block the server; its log is only for people.
                let _ = writeln!(log, "{line}");
            }
        }
    });
    receive
}

fn tail(path: &Path, lines: usize) -> Vec<String> {
    let read = || -> std::io::Result<Vec<u8>> {
        let mut file = File::open(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(LOG_TAIL_BYTES)))?;
        let mut bytes = Vec::new();
        file.take(LOG_TAIL_BYTES).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    match read() {
        Ok(bytes) => {
            let text = String::from_utf8_lossy(&bytes);
            let all: Vec<&str> = text.lines().collect();
            all[all.len().saturating_sub(lines)..].iter().map(|line| (*line).to_owned()).collect()
        }
        Err(error) => vec![format!("(cannot read {}: {error})", path.display())],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    /// A program that stands in for the server.
    fn script(directory: &Path, body: &str) -> PathBuf {
        let path = directory.join("program");
        std::fs::write(&path, format!("#!/bin/sh\n{body}\n")).expect("written");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("executable");
        path
    }

    /// A program cannot be run while a file descriptor to write it is open, and a child of another test
    /// inherits that of this one until it runs its own program. So one test at a time.
    static ONE_AT_A_TIME: std::sync::Mutex<()> = std::sync::Mutex::new(());

    fn start(body: &str) -> (tempfile::TempDir, Result<ServerProcess, StartError>) {
        let _held = ONE_AT_A_TIME.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let directory = tempfile::tempdir().expect("a directory");
        let program = script(directory.path(), body);
        let spec = Spec {
            program: &program,
            name: "n1",
            id: "id-1",
            directory: directory.path(),
            join: Some("h:1"),
            bootstrap_expect: Some(3),
            settings: &["--log-level=debug".to_owned()],
        };
        let server = ServerProcess::start(&spec);
        (directory, server)
    }

    const READY: &str = "echo 'agent ready: http=127.0.0.1:1 raft=127.0.0.1:2 gossip=127.0.0.1:3 id=id-1'";

    #[test]
    fn the_ready_line_is_read() {
        let read = addresses("agent ready: http=127.0.0.1:1 raft=127.0.0.1:2 gossip=127.0.0.1:3 id=a")
            .expect("a good line");
        assert_eq!(read.http, "127.0.0.1:1");
        assert_eq!(read.raft, "127.0.0.1:2");
        assert_eq!(read.gossip, "127.0.0.1:3");
        assert_eq!(addresses("agent ready: http=127.0.0.1:1"), None);
        assert_eq!(addresses("listening"), None);
    }

    #[test]
    fn a_server_gets_its_arguments_and_stops_when_asked() {
        let (directory, server) = start(&format!("{READY}; echo \"$@\" >&2; cat; exit 7"));
        let mut server = server.expect("ready");
        assert_eq!(server.addresses.http, "127.0.0.1:1");
        assert_eq!(server.ended(), None);
        server.ask_to_stop();
        let status = server.wait_until(Instant::now() + Duration::from_secs(20));
        assert_eq!(status.and_then(|status| status.code()), Some(7));
        let expected = format!(
            "agent --exit-on-stdin-close --node-name n1 --node-id id-1 --data-dir {}/n1 --raft-addr 127.0.0.1:0 \
             --http-addr 127.0.0.1:0 --gossip-addr 127.0.0.1:0 --log-level=debug --bootstrap-expect 3 --join h:1",
            directory.path().display()
        );
        assert_eq!(server.log_tail(5), [expected]);
    }

    #[test]
    fn a_killed_server_is_gone() {
        let (_directory, server) = start(&format!("{READY}; cat"));
        let mut server = server.expect("ready");
        server.kill();
        assert_eq!(server.ended().map(|status| status.to_string()), Some("signal: 9 (SIGKILL)".to_owned()));
    }

    #[test]
    fn a_server_that_ends_early_is_reported() {
        let (_directory, server) = start("echo no port >&2; exit 3");
        let error = server.expect_err("it ended").to_string();
        assert_eq!(error, "n1 ended before it was ready (exit status: 3); the end of its log:\nno port");
        let (_directory, server) = start("echo hello; cat");
        assert!(matches!(server, Err(StartError::Form { .. })), "another first line");
    }

    #[test]
    fn the_tail_of_a_log_is_its_last_lines() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), "a\nb\nc\n").expect("written");
        assert_eq!(tail(file.path(), 2), ["b", "c"]);
        assert_eq!(tail(file.path(), 9), ["a", "b", "c"]);
        assert!(tail(Path::new("/no/such/file"), 1)[0].starts_with("(cannot read"));
    }
}
