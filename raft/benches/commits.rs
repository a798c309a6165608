//! Commits a second of a durable cluster of three processes on loopback: `cargo bench -p raft --bench commits`.
//!
//! The leader runs here, with the clients, each of which proposes one command after the other; the followers are
//! processes of their own. Every server has a log on disk with one `fdatasync` a batch, and talks the TCP wire. The state
//! machine does nothing.
//!
//! Options, after `--`: `--clients 1,64,256`, `--bytes 256`, `--seconds 3`, `--rounds 3`, `--directory DIR`.
#![allow(clippy::disallowed_methods, reason = "a benchmark reads the clock and starts tasks")]

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bytes::Bytes;
use raft::core::{Entry, Role};
use raft::storage::{DataDirectory, LogOptions};
use raft::transport::{TcpOptions, TcpTransport};
use raft::{Config, Configuration, Raft, Server, SnapshotWriter, StateMachine};

type AnyError = Box<dyn std::error::Error>;

struct Nothing;

impl StateMachine for Nothing {
    fn apply(&mut self, commands: &[Entry]) -> Vec<Bytes> {
        vec![Bytes::new(); commands.len()]
    }

    fn snapshot(&self) -> SnapshotWriter {
        Box::new(|_| Ok(()))
    }

    fn restore(&mut self, _state: &mut dyn Read) -> io::Result<()> {
        Ok(())
    }
}

struct Options {
    clients: Vec<usize>,
    bytes: usize,
    seconds: f64,
    rounds: usize,
    directory: Option<PathBuf>,
}

fn options() -> Result<Options, AnyError> {
    let mut options =
        Options { clients: vec![1, 64, 256], bytes: 256, seconds: 3.0, rounds: 3, directory: None };
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        if name == "--bench" {
            continue;
        }
        let value = arguments.next().ok_or_else(|| format!("{name} needs a value"))?;
        match name.as_str() {
            "--clients" => options.clients = value.split(',').map(str::parse).collect::<Result<_, _>>()?,
            "--bytes" => options.bytes = value.parse()?,
            "--seconds" => options.seconds = value.parse()?,
            "--rounds" => options.rounds = value.parse()?,
            "--directory" => options.directory = Some(value.into()),
            _ => return Err(format!("unknown option {name}").into()),
        }
    }
    Ok(options)
}

async fn start(id: &str, directory: &Path) -> Result<Raft, AnyError> {
    let mut data = DataDirectory::open(directory)?;
    let log = data.log(LogOptions::default())?;
    let snapshots = data.snapshots(2)?;
    let transport = TcpTransport::bind("127.0.0.1:0", TcpOptions::default()).await?;
    // Busy processes share this machine's cores: a late heartbeat is not a failure.
    let config = Config { election_timeout: Duration::from_secs(2), ..Config::default() };
    let builder = Raft::builder(id, Nothing).config(config);
    Ok(builder.log_store(log).snapshots(snapshots).transport(transport).start().await?)
}

/// A follower: says its address and serves until its input ends.
fn follower(id: &str, directory: &Path) -> Result<(), AnyError> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let raft = runtime.block_on(start(id, directory))?;
    println!("{}", raft.address());
    io::stdin().read_to_end(&mut Vec::new())?;
    runtime.block_on(raft.shutdown());
    Ok(())
}

struct Follower(Child);

impl Drop for Follower {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn spawn(id: &str, directory: &Path) -> Result<(Follower, String), AnyError> {
    let mut child = Command::new(std::env::current_exe()?)
        .env("COMMITS_FOLLOWER", id)
        .env("COMMITS_DIRECTORY", directory)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut address = String::new();
    let stdout = child.stdout.take().ok_or("no output")?;
    io::BufRead::read_line(&mut io::BufReader::new(stdout), &mut address)?;
    Ok((Follower(child), address.trim().to_owned()))
}

struct Round {
    commits: usize,
    elapsed: Duration,
    latencies: Vec<Duration>,
}

async fn round(raft: &Raft, clients: usize, bytes: usize, length: Duration) -> Result<Round, AnyError> {
    let began = Instant::now();
    let tasks: Vec<_> = (0..clients)
        .map(|_| {
            let raft = raft.clone();
            let payload = Bytes::from(vec![7; bytes]);
            tokio::spawn(async move {
                let mut latencies = Vec::new();
                while began.elapsed() < length {
                    let asked = Instant::now();
                    raft.propose(payload.clone()).await?;
                    latencies.push(asked.elapsed());
                }
                Ok::<_, raft::ProposeError>(latencies)
            })
        })
        .collect();
    let mut latencies = Vec::new();
    for task in tasks {
        latencies.extend(task.await??);
    }
    latencies.sort_unstable();
    Ok(Round { commits: latencies.len(), elapsed: began.elapsed(), latencies })
}

fn load() -> String {
    std::fs::read_to_string("/proc/loadavg")
        .map_or_else(|_| "unknown".to_owned(), |text| text.split(' ').take(3).collect::<Vec<_>>().join(" "))
}

async fn measure(options: &Options, directory: &Path) -> Result<(), AnyError> {
    let (_b, b) = spawn("b", &directory.join("b"))?;
    let (_c, c) = spawn("c", &directory.join("c"))?;
    let raft = start("a", &directory.join("a")).await?;
    let a = raft.address().clone();
    raft.bootstrap(Configuration::new(vec![
        Server::voter("a", a),
        Server::voter("b", b),
        Server::voter("c", c),
    ]))
    .await?;
    raft.metrics().wait_for(|m| m.role == Role::Leader && m.ready).await?;
    println!("three processes, {} bytes a command, data in {}", options.bytes, directory.display());
    println!(
        "{:>7}  {:>5}  {:>10}  {:>9}  {:>9}  load average",
        "clients", "round", "commits/s", "p50 ms", "p99 ms"
    );
    for number in 1..=options.rounds {
        for clients in &options.clients {
            let result =
                round(&raft, *clients, options.bytes, Duration::from_secs_f64(options.seconds)).await?;
            let at = |part: f64| {
                let position = (result.latencies.len() as f64 * part) as usize;
                result.latencies.get(position).map_or(0.0, |l| l.as_secs_f64() * 1e3)
            };
            let rate = result.commits as f64 / result.elapsed.as_secs_f64();
            let (p50, p99) = (at(0.5), at(0.99));
            println!("{clients:>7}  {number:>5}  {rate:>10.0}  {p50:>9.2}  {p99:>9.2}  {}", load());
            io::stdout().flush()?;
        }
    }
    raft.shutdown().await;
    Ok(())
}

fn main() -> Result<(), AnyError> {
    if let (Ok(id), Some(directory)) =
        (std::env::var("COMMITS_FOLLOWER"), std::env::var_os("COMMITS_DIRECTORY"))
    {
        return follower(&id, Path::new(&directory));
    }
    let options = options()?;
    let temporary = tempfile::tempdir()?;
    let directory = options.directory.clone().unwrap_or_else(|| temporary.path().to_owned());
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(measure(&options, &directory))
}
