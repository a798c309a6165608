//! Whole servers with faults: the real actor, disk and apply threads, over a network in memory and a file system that
//! loses what was not synced.
//!
//! The faults come from a seed; the interleaving does not, for disk and state machine run on threads of their own and
//! the clock is real. A failed seed is a story to read, not a run to repeat bit for bit.
#![allow(clippy::disallowed_methods, reason = "clients are tasks, a slow disk sleeps")]
#![allow(missing_docs, reason = "a test")]

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use raft::core::{Entry, Write};
use raft::storage::{
    CrashChoice, DataDirectory, FileLog, Kept, LogOptions, LogStore, LostPages, MemoryFileSystem, Recovered,
    StorageError, Torn,
};
use raft::transport::MemoryNetwork;
use raft::{
    Config, Configuration, Leadership, ProposeError, Raft, Server, ServerId, SnapshotWriter, StateMachine,
    Term,
};
use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

type Random = Xoshiro256PlusPlus;

const SEEDS: u64 = 200;
/// Runs at a time: they mostly wait.
const TOGETHER: usize = 10;
const SERVERS: [&str; 3] = ["a", "b", "c"];
/// Far longer than anything takes, also on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// What all parts of one run know together.
#[derive(Default)]
struct Truth {
    /// Commands in the order in which the first server applied each.
    order: Mutex<Vec<u64>>,
    leaders: Mutex<BTreeMap<Term, ServerId>>,
    wrong: Mutex<Vec<String>>,
    acknowledged: Mutex<Vec<(u64, usize)>>,
    refused: Mutex<Vec<u64>>,
    next: AtomicU64,
    stop: AtomicBool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("nothing panics while it holds a lock")
}

impl Truth {
    fn wrong(&self, sentence: String) {
        lock(&self.wrong).push(sentence);
    }

    fn applied(&self, id: &str, position: usize, value: u64) {
        let mut order = lock(&self.order);
        match order.get(position) {
            None if position == order.len() => order.push(value),
            Some(first) if *first == value => {}
            other => self.wrong(format!("{id} applies {value} at {position}, others {other:?}")),
        }
    }
}

/// One incarnation's state machine: the list of all commands.
#[derive(Clone)]
struct Journal {
    id: &'static str,
    truth: Arc<Truth>,
    values: Arc<Mutex<Vec<u64>>>,
}

impl StateMachine for Journal {
    fn apply(&mut self, commands: &[Entry]) -> Vec<Bytes> {
        let mut values = lock(&self.values);
        let answer = |entry: &Entry| {
            let value = entry.data.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
            let position = values.len();
            self.truth.applied(self.id, position, value);
            values.push(value);
            Bytes::from(position.to_string())
        };
        commands.iter().map(answer).collect()
    }

    fn snapshot(&self) -> SnapshotWriter {
        let values = lock(&self.values).clone();
        Box::new(move |out: &mut dyn io::Write| {
            values.iter().try_for_each(|value| out.write_all(&value.to_le_bytes()))
        })
    }

    fn restore(&mut self, state: &mut dyn Read) -> io::Result<()> {
        let mut bytes = Vec::new();
        state.read_to_end(&mut bytes)?;
        let restored: Vec<u64> =
            bytes.as_chunks::<8>().0.iter().map(|bytes| u64::from_le_bytes(*bytes)).collect();
        for (position, value) in restored.iter().enumerate() {
            self.truth.applied(self.id, position, *value);
        }
        *lock(&self.values) = restored;
        Ok(())
    }
}

/// A log whose writes take a while.
struct SlowLog {
    log: FileLog,
    microseconds: Arc<AtomicU64>,
}

impl LogStore for SlowLog {
    fn recover(&mut self) -> Result<Recovered, StorageError> {
        self.log.recover()
    }

    fn write(&mut self, writes: &[Write]) -> Result<(), StorageError> {
        std::thread::sleep(Duration::from_micros(self.microseconds.load(Ordering::Relaxed)));
        self.log.write(writes)
    }
}

/// Keeps a random part of what was not synced.
struct Dice<'a>(&'a mut Random);

impl CrashChoice for Dice<'_> {
    fn file(&mut self, _path: &Path, units: u64) -> Kept {
        let torn = [Torn::Cut, Torn::Zeros, Torn::Garbage][self.0.random_range(0..3)];
        Kept { units: self.0.random_range(0..=units), torn, hole: self.0.random_bool(0.2) }
    }

    fn name(&mut self, _path: &Path) -> bool {
        self.0.random_bool(0.5)
    }
}

/// A running server, as clients see it.
#[derive(Clone)]
struct Up {
    raft: Raft,
    values: Arc<Mutex<Vec<u64>>>,
}

struct Node {
    id: &'static str,
    fs: MemoryFileSystem,
    microseconds: Arc<AtomicU64>,
    watch: Option<JoinHandle<()>>,
    /// A fault was switched on that only a restart ends.
    doomed: bool,
}

struct Cluster {
    truth: Arc<Truth>,
    network: MemoryNetwork,
    nodes: Vec<Node>,
    up: Arc<Mutex<Vec<Option<Up>>>>,
    random: Random,
}

fn address(id: &str) -> String {
    format!("{id}:1")
}

fn config() -> Config {
    Config {
        heartbeat_interval: Duration::from_millis(20),
        election_timeout: Duration::from_millis(120),
        snapshot_threshold: 25,
        trailing_logs: 5,
        ..Config::default()
    }
}

impl Cluster {
    fn new(seed: u64) -> Self {
        let node = |id| Node {
            id,
            fs: MemoryFileSystem::new(),
            microseconds: Arc::default(),
            watch: None,
            doomed: false,
        };
        Self {
            truth: Arc::default(),
            network: MemoryNetwork::new(),
            nodes: SERVERS.into_iter().map(node).collect(),
            up: Arc::new(Mutex::new(vec![None; SERVERS.len()])),
            random: Random::seed_from_u64(seed),
        }
    }

    fn handle(&self, at: usize) -> Option<Up> {
        lock(&self.up)[at].clone()
    }

    async fn start(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        let values = Arc::new(Mutex::new(Vec::new()));
        let journal = Journal { id: node.id, truth: Arc::clone(&self.truth), values: Arc::clone(&values) };
        let open = || -> Result<_, StorageError> {
            let mut directory = DataDirectory::open_on(Arc::new(node.fs.clone()), "data")?;
            directory.bind_id(&node.id.into())?;
            let mut options = LogOptions::default();
            options.segment_bytes = 2000;
            Ok((directory.log(options)?, directory.snapshots(2)?))
        };
        let (log, snapshots) = match open() {
            Ok(stores) => stores,
            Err(error) => return self.truth.wrong(format!("{} does not open: {error}", node.id)),
        };
        let started = Raft::builder(node.id, journal)
            .config(config())
            .log_store(SlowLog { log, microseconds: Arc::clone(&node.microseconds) })
            .snapshots(snapshots)
            .transport(self.network.transport(address(node.id)))
            .start()
            .await;
        match started {
            Ok(raft) => {
                node.watch = Some(tokio::spawn(follow(raft.clone(), Arc::clone(&self.truth))));
                lock(&self.up)[at] = Some(Up { raft, values });
            }
            Err(error) => self.truth.wrong(format!("{} does not start: {error}", node.id)),
        }
    }

    fn states(&self) -> String {
        let state = |up: &Option<Up>| {
            up.as_ref().map_or_else(String::new, |up| {
                let metrics = up.raft.metrics().borrow().clone();
                format!(
                    "{} {} in {}, log to {}, commit {}, applied {}, {} commands, store failed: {}; ",
                    up.raft.id(),
                    metrics.role,
                    metrics.term,
                    metrics.last,
                    metrics.commit_index,
                    metrics.applied_index,
                    lock(&up.values).len(),
                    metrics.storage_failed
                )
            })
        };
        let states: String = lock(&self.up).iter().map(state).collect();
        format!("{states}{} commands in all", lock(&self.truth.order).len())
    }

    /// Power fails, perhaps in the middle of a write; everything that waits on this server must be told.
    async fn crash(&mut self, at: usize) {
        let Some(up) = lock(&self.up)[at].take() else { return };
        let node = &mut self.nodes[at];
        node.fs.stop_after(Some(self.random.random_range(0..6)));
        sleep(Duration::from_millis(self.random.random_range(0..5))).await;
        if timeout(PATIENCE, up.raft.shutdown()).await.is_err() {
            self.truth.wrong(format!("{} never stops", node.id));
        }
        drop(up);
        if let Some(watch) = node.watch.take()
            && timeout(PATIENCE, watch).await.is_err()
        {
            self.truth.wrong(format!("the leadership watch of {} never ends", node.id));
        }
        node.fs.crash(&mut Dice(&mut self.random));
        node.doomed = false;
    }

    async fn disturb(&mut self) {
        let pause = self.random.random_range(10..150);
        sleep(Duration::from_millis(pause)).await;
        let at = self.random.random_range(0..SERVERS.len());
        let other = (at + self.random.random_range(1..SERVERS.len())) % SERVERS.len();
        let is_up = self.handle(at).is_some();
        let node = &mut self.nodes[at];
        match self.random.random_range(0..16) {
            0..=1 => self.network.cut(address(node.id), address(SERVERS[other])),
            2..=3 => self.network.isolate(address(node.id)),
            4..=5 => self.network.heal(),
            6..=10 if is_up => {
                self.crash(at).await;
                if self.random.random_bool(0.5) {
                    self.start(at).await;
                }
            }
            6..=10 => self.start(at).await,
            11 if is_up => {
                let pages = if self.random.random_bool(0.5) { LostPages::Lost } else { LostPages::Kept };
                node.fs.fail_syncs(1, pages);
                node.doomed = true;
            }
            12 if is_up => {
                node.fs.set_capacity(Some(node.fs.used() + self.random.random_range(0..500)));
                node.doomed = true;
            }
            13 => node.microseconds.store(self.random.random_range(0..30_000), Ordering::Relaxed),
            14 => {
                let Some(up) = self.handle(at) else { return };
                let _ = timeout(PATIENCE, up.raft.transfer_leadership(None)).await.map_err(|_| {
                    self.truth.wrong("a transfer never ends".to_owned());
                });
            }
            _ => {
                let Some(up) = self.handle(at) else { return };
                let _ = timeout(Duration::from_millis(50), up.raft.snapshot()).await;
            }
        }
    }

    /// All faults end: a command must go through, and all servers must come to the same list.
    async fn settle(&mut self) {
        self.network.heal();
        for at in 0..SERVERS.len() {
            self.nodes[at].microseconds.store(0, Ordering::Relaxed);
            if self.nodes[at].doomed {
                self.crash(at).await;
            }
            if self.handle(at).is_none() {
                self.start(at).await;
            }
        }
        let fresh = timeout(PATIENCE, async {
            loop {
                for at in 0..SERVERS.len() {
                    let Some(up) = self.handle(at) else { continue };
                    if propose(&up, &self.truth).await {
                        return;
                    }
                }
                sleep(Duration::from_millis(10)).await;
            }
        });
        if fresh.await.is_err() {
            return self.truth.wrong("no fresh command goes through".to_owned());
        }
        let equal = timeout(PATIENCE, async {
            let complete =
                |up: &Option<Up>| up.as_ref().is_some_and(|up| *lock(&up.values) == *lock(&self.truth.order));
            while !lock(&self.up).iter().all(complete) {
                sleep(Duration::from_millis(5)).await;
            }
        });
        if equal.await.is_err() {
            self.truth.wrong(format!("the servers do not come to the same list: {}", self.states()));
        }
    }
}

/// One leader a term, and no term twice or backwards.
async fn follow(raft: Raft, truth: Arc<Truth>) {
    let (mut watch, id) = (raft.leadership(), raft.id().clone());
    drop(raft);
    let mut newest = Term(0);
    while let Some(leadership) = watch.next().await {
        let Leadership::Leader { term } = leadership else { continue };
        if term < newest {
            truth.wrong(format!("{id} leads in {term} after {newest}"));
        }
        newest = term;
        let leader = lock(&truth.leaders).entry(term).or_insert_with(|| id.clone()).clone();
        if leader != id {
            truth.wrong(format!("{leader} and {id} lead in term {term}"));
        }
    }
}

/// Proposes a fresh command; true if it was acknowledged.
async fn propose(up: &Up, truth: &Truth) -> bool {
    let value = truth.next.fetch_add(1, Ordering::Relaxed) + 1;
    let command = Bytes::copy_from_slice(&value.to_le_bytes());
    match timeout(PATIENCE, up.raft.propose(command)).await {
        Ok(Ok(applied)) => {
            let position = String::from_utf8_lossy(&applied.response).parse().unwrap_or(usize::MAX);
            lock(&truth.acknowledged).push((value, position));
            true
        }
        Ok(Err(ProposeError::NotLeader { .. } | ProposeError::Overloaded)) => {
            lock(&truth.refused).push(value);
            false
        }
        Ok(Err(_)) => false,
        Err(_) => {
            truth.wrong(format!("the proposal of {value} never ends"));
            false
        }
    }
}

async fn client(up: Arc<Mutex<Vec<Option<Up>>>>, truth: Arc<Truth>, mut random: Random) {
    while !truth.stop.load(Ordering::Relaxed) {
        let at = random.random_range(0..SERVERS.len());
        let chosen = lock(&up)[at].clone();
        if let Some(up) = chosen {
            if random.random_bool(0.2) {
                let floor = lock(&truth.acknowledged).iter().map(|(_, position)| position + 1).max();
                match timeout(PATIENCE, up.raft.linearizable_read()).await {
                    Ok(Ok(_)) => {
                        let seen = lock(&up.values).len();
                        if floor.is_some_and(|floor| seen < floor) {
                            truth.wrong(format!("a read sees {seen} commands, {floor:?} were acknowledged"));
                        }
                    }
                    Ok(Err(_)) => {}
                    Err(_) => truth.wrong("a read never ends".to_owned()),
                }
            } else {
                propose(&up, &truth).await;
            }
        }
        sleep(Duration::from_millis(random.random_range(1..8))).await;
    }
}

fn judge(truth: &Truth) -> usize {
    let order = lock(&truth.order).clone();
    let applied: BTreeSet<u64> = order.iter().copied().collect();
    if applied.len() != order.len() {
        truth.wrong("a command was applied twice".to_owned());
    }
    let acknowledged = lock(&truth.acknowledged).clone();
    for (value, position) in &acknowledged {
        if order.get(*position) != Some(value) {
            truth.wrong(format!("{value} was acknowledged at {position} and is not there"));
        }
    }
    for value in lock(&truth.refused).iter().filter(|value| applied.contains(value)) {
        truth.wrong(format!("{value} was refused and applied"));
    }
    acknowledged.len()
}

/// Gives what went wrong, and how many commands were acknowledged.
async fn run(seed: u64) -> (Vec<String>, usize) {
    let mut cluster = Cluster::new(seed);
    for at in 0..SERVERS.len() {
        cluster.start(at).await;
    }
    let members = SERVERS.iter().map(|id| Server::voter(*id, address(id))).collect();
    if let Some(first) = cluster.handle(0)
        && let Err(error) = first.raft.bootstrap(Configuration::new(members)).await
    {
        cluster.truth.wrong(format!("not bootstrapped: {error}"));
    }
    let clients: Vec<JoinHandle<()>> = (0..3)
        .map(|number| {
            let random = Random::seed_from_u64(seed * 10 + number);
            tokio::spawn(client(Arc::clone(&cluster.up), Arc::clone(&cluster.truth), random))
        })
        .collect();
    sleep(Duration::from_millis(300)).await;
    for _ in 0..12 {
        cluster.disturb().await;
    }
    cluster.truth.stop.store(true, Ordering::Relaxed);
    cluster.settle().await;
    for client in clients {
        if timeout(PATIENCE, client).await.is_err() {
            cluster.truth.wrong("a client never ends".to_owned());
        }
    }
    for at in 0..SERVERS.len() {
        cluster.crash(at).await;
    }
    let acknowledged = judge(&cluster.truth);
    (lock(&cluster.truth.wrong).clone(), acknowledged)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acknowledged_commands_survive_faults_of_network_disk_and_process() {
    let seeds: Vec<u64> = (0..SEEDS).collect();
    let (mut failures, mut acknowledged) = (Vec::new(), 0);
    for together in seeds.chunks(TOGETHER) {
        let runs: Vec<_> = together.iter().map(|seed| (*seed, tokio::spawn(run(*seed)))).collect();
        for (seed, run) in runs {
            let (wrong, count) = run.await.expect("a run does not panic");
            acknowledged += count;
            failures.extend(wrong.into_iter().take(3).map(|sentence| format!("seed {seed}: {sentence}")));
        }
    }
    println!("{SEEDS} seeds, {acknowledged} commands acknowledged");
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert!(acknowledged > usize::try_from(SEEDS).unwrap_or(0) * 5, "the faults leave room for work");
}
