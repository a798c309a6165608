//! The servers of one run, and the faults.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use raft::sessions::SessionStateMachine;
use raft::storage::{
    DataDirectory, FileLog, FileSnapshots, LogOptions, LostPages, MemoryFileSystem, StorageError,
};
use raft::transport::MemoryNetwork;
use raft::{Config, Configuration, Executor, Operation, Raft, Server};
use rand::RngExt;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use super::clients::{Servers, Up, propose};
use super::server::{Dice, Journal, Log, Pace, Recorded};
use super::truth::{Truth, lock};
use super::{Options, PATIENCE, Random, SERVERS, random};

/// What stopping may take: five seconds for a thread that does not return, and a little.
const STOP_LIMIT: Duration = Duration::from_millis(5_100);

struct Node {
    id: &'static str,
    fs: MemoryFileSystem,
    pace: Arc<Mutex<Pace>>,
    watch: Option<JoinHandle<()>>,
    /// A fault was switched on that only a restart ends.
    doomed: bool,
    starts: u64,
}

pub(crate) struct Cluster {
    seed: u64,
    options: Options,
    config: Config,
    truth: Arc<Truth>,
    network: MemoryNetwork,
    nodes: Vec<Node>,
    up: Servers,
    random: Random,
}

fn address(id: &str) -> String {
    format!("{id}:1")
}

fn config(random: &mut Random) -> Config {
    Config {
        heartbeat_interval: Duration::from_millis(20),
        election_timeout: Duration::from_millis(120),
        disk_stall_limit: Duration::from_millis(500),
        snapshot_threshold: 25,
        trailing_logs: 5,
        snapshot_threshold_bytes: 16 << 10,
        log_bytes_max: 32 << 10,
        uncommitted_bytes_max: 8 << 10,
        lease_reads: random.random_bool(0.5),
        ..Config::default()
    }
}

impl Cluster {
    pub(crate) fn new(seed: u64, options: Options, truth: Arc<Truth>) -> Self {
        let node = |(number, id): (u64, &'static str)| Node {
            id,
            fs: MemoryFileSystem::new(),
            pace: Arc::new(Mutex::new(Pace::new(random(seed, 100 + number)))),
            watch: None,
            doomed: false,
            starts: 0,
        };
        let mut faults = random(seed, 0);
        let network = MemoryNetwork::new();
        if !options.threads {
            network.weather(seed, 0..=faults.random_range(1..6), [0, 0, 10, 50][faults.random_range(0..4)]);
        }
        Self {
            seed,
            options,
            config: config(&mut faults),
            truth,
            network,
            nodes: (0..).zip(SERVERS).map(node).collect(),
            up: Arc::new(Mutex::new(vec![None; SERVERS.len()])),
            random: faults,
        }
    }

    pub(crate) fn servers(&self) -> Servers {
        Arc::clone(&self.up)
    }

    fn handle(&self, at: usize) -> Option<Up> {
        lock(&self.up)[at].clone()
    }

    pub(crate) async fn bootstrap(&mut self) {
        for at in 0..SERVERS.len() {
            self.start(at).await;
        }
        let members = SERVERS.iter().map(|id| Server::voter(*id, address(id))).collect();
        if let Some(first) = self.handle(0)
            && let Err(error) = first.raft.bootstrap(Configuration::new(members)).await
        {
            self.truth.wrong(format!("not bootstrapped: {error}"));
        }
    }

    fn open(&self, at: usize) -> Result<(FileLog, FileSnapshots), StorageError> {
        let node = &self.nodes[at];
        let mut directory = DataDirectory::open_on(Arc::new(node.fs.clone()), "data")?;
        directory.bind_id(&node.id.into())?;
        let mut options = LogOptions::default();
        options.segment_bytes = 2000;
        Ok((directory.log(options)?, directory.snapshots(2)?))
    }

    /// Disk and state machine as tasks that take their time by the clock, or on threads.
    fn executor(&self, at: usize) -> Executor {
        if self.options.threads {
            return Executor::threads();
        }
        let (pace, truth) = (Arc::clone(&self.nodes[at].pace), Arc::clone(&self.truth));
        Executor::tasks(move |operation| {
            let takes = lock(&pace).takes(operation);
            if takes == Duration::MAX {
                truth.hung.fetch_add(1, Ordering::Relaxed);
            }
            takes
        })
    }

    async fn start(&mut self, at: usize) {
        let (log, snapshots) = match self.open(at) {
            Ok(stores) => stores,
            Err(error) => return self.truth.wrong(format!("{} does not open: {error}", SERVERS[at])),
        };
        let executor = self.executor(at);
        let node = &mut self.nodes[at];
        node.starts += 1;
        let values = Arc::new(Mutex::new(Vec::new()));
        let journal = Journal { id: node.id, truth: Arc::clone(&self.truth), values: Arc::clone(&values) };
        let transport = Recorded {
            inner: self.network.transport(address(node.id)),
            id: node.id.into(),
            truth: Arc::clone(&self.truth),
            gap: (!self.options.threads).then_some(self.config.election_timeout / 2),
        };
        let log = Log {
            log,
            sleeps: self.options.threads.then(|| Arc::clone(&node.pace)),
            lies: self.options.disks_lie,
            kept_back: Vec::new(),
        };
        let started = Raft::builder(node.id, SessionStateMachine::new(journal))
            .config(self.config.clone())
            .log_store(log)
            .snapshots(snapshots)
            .transport(transport)
            .executor(executor)
            .seed(self.seed.wrapping_mul(1000) + node.starts * 10 + at as u64)
            .start()
            .await;
        match started {
            Ok(raft) => {
                node.watch = Some(tokio::spawn(Arc::clone(&self.truth).follow(raft.clone())));
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
        format!("{states}{} commands in all", self.truth.order().len())
    }

    /// Power fails, perhaps in the middle of a write; everything that waits on this server must be told, and stopping ends
    /// also where a disk hangs.
    async fn crash(&mut self, at: usize) {
        let Some(up) = lock(&self.up)[at].take() else { return };
        let node = &mut self.nodes[at];
        self.truth.note(&format!("crash {}", node.id));
        node.fs.stop_after(Some(self.random.random_range(0..6)));
        sleep(Duration::from_millis(self.random.random_range(0..5))).await;
        let began = Instant::now();
        let limit = if self.options.threads { PATIENCE } else { STOP_LIMIT };
        if timeout(limit, up.raft.shutdown()).await.is_err() {
            self.truth.wrong(format!("{} does not stop in {:?}", node.id, began.elapsed()));
        }
        drop(up);
        if let Some(watch) = node.watch.take()
            && timeout(PATIENCE, watch).await.is_err()
        {
            self.truth.wrong(format!("the leadership watch of {} never ends", node.id));
        }
        node.fs.crash(&mut Dice(&mut self.random));
        node.doomed = false;
        lock(&node.pace).hangs = None;
    }

    pub(crate) async fn disturb(&mut self) {
        let pause = self.random.random_range(10..150);
        sleep(Duration::from_millis(pause)).await;
        self.look_at_memory();
        let at = self.random.random_range(0..SERVERS.len());
        let other = (at + self.random.random_range(1..SERVERS.len())) % SERVERS.len();
        let is_up = self.handle(at).is_some();
        let dice = self.random.random_range(0..18);
        self.truth.note(&format!("fault {dice} {at} {other}"));
        let id = SERVERS[at];
        match dice {
            0..=1 => self.network.cut(address(id), address(SERVERS[other])),
            2..=3 => self.network.isolate(address(id)),
            4..=6 => self.network.heal(),
            7..=10 if is_up => {
                self.crash(at).await;
                if self.random.random_bool(0.5) {
                    self.start(at).await;
                }
            }
            7..=10 => self.start(at).await,
            11..=13 if is_up => self.break_disk(at),
            14 => lock(&self.nodes[at].pace).write = self.random.random_range(0..200_000),
            15 => lock(&self.nodes[at].pace).apply = self.random.random_range(0..100_000),
            16 => {
                let Some(up) = self.handle(at) else { return };
                if timeout(PATIENCE, up.raft.transfer_leadership(None)).await.is_err() {
                    self.truth.wrong("a transfer never ends".to_owned());
                }
            }
            _ => {
                let Some(up) = self.handle(at) else { return };
                let _ = timeout(Duration::from_millis(50), up.raft.snapshot()).await;
            }
        }
    }

    /// A disk that fails to sync, is full, or hangs; or a state machine that never returns.
    fn break_disk(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        node.doomed = true;
        match self.random.random_range(0..5) {
            0 => node.fs.fail_syncs(1, LostPages::Lost),
            1 => node.fs.fail_syncs(1, LostPages::Kept),
            2 => node.fs.set_capacity(Some(node.fs.used() + self.random.random_range(0..500))),
            // A thread that hangs would stay behind in the test's process.
            _ if self.options.threads => {}
            3 => lock(&node.pace).hangs = Some(Operation::Write),
            _ => lock(&node.pace).hangs = Some(Operation::Apply),
        }
    }

    /// R1: what a server keeps in memory stays within its limits.
    fn look_at_memory(&self) {
        for up in lock(&self.up).iter().flatten() {
            let bytes = up.raft.metrics().borrow().log_bytes;
            // What was let in before the limit was reached, and what the leader had let in.
            if bytes > self.config.log_bytes_max + self.config.uncommitted_bytes_max {
                self.truth.wrong(format!("{} keeps {bytes} bytes of its log in memory", up.raft.id()));
            }
        }
    }

    /// All faults end: a command must go through, and all servers must come to the same list.
    pub(crate) async fn settle(&mut self) {
        self.network.heal();
        for at in 0..SERVERS.len() {
            if self.nodes[at].doomed {
                self.crash(at).await;
            }
            {
                let mut pace = lock(&self.nodes[at].pace);
                (pace.write, pace.apply) = (1000, 1000);
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
            return self.truth.wrong(format!("no fresh command goes through: {}", self.states()));
        }
        let equal = timeout(PATIENCE, async {
            let complete =
                |up: &Option<Up>| up.as_ref().is_some_and(|up| *lock(&up.values) == self.truth.order());
            while !lock(&self.up).iter().all(complete) {
                sleep(Duration::from_millis(5)).await;
            }
        });
        if equal.await.is_err() {
            self.truth.wrong(format!("the servers do not come to the same list: {}", self.states()));
        }
    }

    pub(crate) async fn end(&mut self) {
        for at in 0..SERVERS.len() {
            self.crash(at).await;
        }
    }
}
