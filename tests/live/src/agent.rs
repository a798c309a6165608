//! One server process.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::{TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::mpsc;

use crate::PATIENCE;

/// The binary, built from the present source with the profile of this test.
///
/// # Panics
/// If it does not build.
pub fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        let test = std::env::current_exe().expect("the path of this test");
        // target/<profile>/deps/<test>
        let folder = test.ancestors().nth(2).expect("a test lies two folders deep");
        let mut build = Command::new(std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned()));
        build.args(["build", "--quiet", "--package", "autopilot-agent", "--bin", "autopilot"]);
        build.current_dir(env!("CARGO_MANIFEST_DIR")).stdin(Stdio::null());
        if folder.ends_with("release") {
            build.arg("--release");
        }
        build.arg("--target-dir").arg(folder.parent().expect("the target folder"));
        assert!(build.status().expect("cargo runs").success(), "the agent does not build");
        folder.join("autopilot")
    })
}

/// A port that nothing uses, below those that the system gives to outgoing connections: a server that is down for a while
/// finds it free when it comes back.
///
/// # Panics
/// If there is none.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let process = u16::try_from(std::process::id() % 160).expect("below 160");
    for _ in 0..2000 {
        let port = 12_000 + (process * 120 + NEXT.fetch_add(1, Ordering::Relaxed)) % 20_000;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() && UdpSocket::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no free port");
}

/// A server that runs or ran.
#[derive(Debug)]
pub struct Agent {
    /// Its name, also its id.
    pub name: String,
    /// Where its data lies.
    pub data: PathBuf,
    /// HTTP, as `127.0.0.1:port`.
    pub http: String,
    /// Raft, as `127.0.0.1:port`.
    pub raft: String,
    /// Gossip, as `127.0.0.1:port`.
    pub gossip: String,
    /// The network namespace that it runs in, if not the one of the test.
    pub namespace: Option<String>,
    /// Flags beyond those that every server gets.
    pub flags: Vec<String>,
    log: PathBuf,
    child: Option<Child>,
}

impl Agent {
    /// A server that has not started yet, with ports of its own, below this folder.
    #[must_use]
    pub fn new(folder: &Path, name: &str) -> Self {
        let address = || format!("127.0.0.1:{}", free_port());
        Self {
            name: name.to_owned(),
            data: folder.join(name),
            http: address(),
            raft: address(),
            gossip: address(),
            namespace: None,
            flags: Vec::new(),
            log: folder.join(format!("{name}.log")),
            child: None,
        }
    }

    /// The command that starts it.
    #[must_use]
    pub fn command(&self) -> Command {
        let mut command = match &self.namespace {
            None => Command::new(binary()),
            Some(namespace) => {
                // Becomes the server itself, so that signals reach it.
                let mut command = Command::new("ip");
                command.args(["netns", "exec", namespace]).arg(binary());
                command
            }
        };
        command
            .args(["agent", "--node-name", &self.name, "--node-id", &self.name, "--data-dir"])
            .arg(&self.data);
        command.args(["--raft-addr", &self.raft, "--http-addr", &self.http, "--gossip-addr", &self.gossip]);
        command.args(["--autopilot-server-stabilization-time", "2s", "--autopilot-update-interval", "300ms"]);
        command.args(["--autopilot-reconcile-interval", "500ms"]);
        command.args(&self.flags).stdin(Stdio::null());
        command
    }

    /// Starts it and waits until it says that it is ready.
    ///
    /// # Panics
    /// If it does not, with its log.
    pub fn start(&mut self, more: &[&str]) {
        let log = File::options().create(true).append(true).open(&self.log).expect("a log file");
        let mut command = self.command();
        command.args(more).stdout(Stdio::piped()).stderr(log);
        let mut child = command.spawn().expect("the binary runs");
        let output = child.stdout.take().expect("a pipe");
        self.child = Some(child);
        let (sender, ready) = mpsc::channel();
        std::thread::spawn(move || {
            let mut lines = BufReader::new(output).lines().map_while(Result::ok);
            let _ = sender.send(lines.find(|line| line.starts_with("agent ready: ")));
            // Whatever else it says must not fill the pipe.
            lines.for_each(drop);
        });
        let line = ready.recv_timeout(PATIENCE).ok().flatten();
        let Some(line) = line else { panic!("{} is not ready:\n{}", self.name, self.log_tail()) };
        for part in [&self.http, &self.raft, &self.gossip] {
            assert!(line.contains(part.as_str()), "{line:?} lacks {part}");
        }
        assert!(line.ends_with(&format!(" id={}", self.name)), "{line}");
    }

    /// Whether it runs.
    #[must_use]
    pub const fn is_up(&self) -> bool {
        self.child.is_some()
    }

    /// Kills it with SIGKILL and waits until it is gone.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Sends it a signal, such as `STOP`; nothing happens if it does not run.
    pub fn signal(&self, name: &str) {
        if let Some(child) = &self.child {
            let _ = Command::new("kill").arg(format!("-{name}")).arg(child.id().to_string()).status();
        }
    }

    /// Asks it to stop with SIGTERM and waits until it has.
    ///
    /// # Panics
    /// If it does not run, or does not stop.
    pub fn terminate(&mut self) -> ExitStatus {
        let id = self.child.as_ref().expect("a running server").id().to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().expect("kill runs").success());
        self.ended()
    }

    /// Waits until it has ended by itself.
    ///
    /// # Panics
    /// If it does not run, or does not end.
    pub fn ended(&mut self) -> ExitStatus {
        let mut child = self.child.take().expect("a running server");
        crate::wait("the server to end", || match child.try_wait() {
            Ok(Some(status)) => Ok(status),
            Ok(None) => Err("it still runs".to_owned()),
            Err(error) => Err(error.to_string()),
        })
    }

    /// The end of its log.
    #[must_use]
    pub fn log_tail(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }

    /// A URL at this server.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.http)
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("--- {} ---\n{}", self.name, self.log_tail());
        }
    }
}

/// Runs the binary until it ends by itself.
///
/// # Panics
/// If it does not end.
pub fn run(command: &mut Command) -> Output {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    let deadline = std::time::Instant::now() + PATIENCE;
    while child.try_wait().expect("a child").is_none() {
        if std::time::Instant::now() > deadline {
            let _ = child.kill();
            panic!("{command:?} does not end");
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    child.wait_with_output().expect("its output")
}
