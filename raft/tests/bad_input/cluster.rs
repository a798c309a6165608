//! Three servers over TCP, a client that never stops, and an eye on panics and memory.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Once};
use std::time::Duration;

use bytes::Bytes;
use raft::core::{Entry, SnapshotMeta};
use raft::storage::{MemoryLog, MemorySnapshots, SnapshotStore};
use raft::transport::{TcpOptions, TcpTransport};
use raft::{Config, Configuration, Metrics, Raft, Role, Server, SnapshotWriter, StateMachine};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{Mutex, MutexGuard};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// Nothing here takes this long; a test that waits for it fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Held by the test that runs.
static TURN: Mutex<()> = Mutex::const_new(());
/// Panics in any thread, also those that a runtime swallows.
static PANICS: AtomicU64 = AtomicU64::new(0);

fn count_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            PANICS.fetch_add(1, Ordering::SeqCst);
            before(panic);
        }));
    });
}

/// Counts what it applies.
#[derive(Clone, Default)]
struct Counter(Arc<AtomicU64>);

impl StateMachine for Counter {
    fn apply(&mut self, commands: &[Entry]) -> Vec<Bytes> {
        self.0.fetch_add(commands.len() as u64, Ordering::SeqCst);
        vec![Bytes::new(); commands.len()]
    }

    fn snapshot(&self) -> SnapshotWriter {
        let count = self.0.load(Ordering::SeqCst);
        Box::new(move |out: &mut dyn Write| out.write_all(&count.to_be_bytes()))
    }

    fn restore(&mut self, state: &mut dyn Read) -> io::Result<()> {
        let mut count = [0; 8];
        state.read_exact(&mut count)?;
        self.0.store(u64::from_be_bytes(count), Ordering::SeqCst);
        Ok(())
    }
}

pub(crate) struct Node {
    pub(crate) raft: Raft,
    applied: Arc<AtomicU64>,
    snapshots: MemorySnapshots,
}

impl Node {
    pub(crate) fn metrics(&self) -> Arc<Metrics> {
        self.raft.metrics().borrow().clone()
    }

    pub(crate) fn stored_snapshot(&self) -> Option<SnapshotMeta> {
        self.snapshots.latest().expect("memory")
    }
}

pub(crate) struct Cluster {
    pub(crate) nodes: Vec<Node>,
    /// Proposals that the client saw applied.
    committed: Arc<AtomicU64>,
    memory_before: u64,
    memory_peak: Arc<AtomicU64>,
    background: JoinSet<()>,
    panics_before: u64,
    _turn: MutexGuard<'static, ()>,
}

/// The memory of this process that is in use, in bytes.
fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm.split_whitespace().nth(1).and_then(|pages| pages.parse::<u64>().ok());
    // Elsewhere than on Linux the bound is not checked.
    pages.unwrap_or(0) * 4096
}

fn is_leader(raft: &Raft) -> bool {
    let metrics = raft.metrics().borrow().clone();
    metrics.role == Role::Leader && metrics.ready
}

impl Cluster {
    pub(crate) async fn start(options: TcpOptions, config: Config) -> Self {
        let turn = TURN.lock().await;
        count_panics();
        let config = Config {
            // Other programs share the machine: a late heartbeat is no failure.
            election_timeout: config.election_timeout.max(Duration::from_secs(1)),
            ..config
        };
        let mut nodes = Vec::new();
        for id in ["a", "b", "c"] {
            let counter = Counter::default();
            let applied = Arc::clone(&counter.0);
            let snapshots = MemorySnapshots::default();
            let transport = TcpTransport::bind("127.0.0.1:0", options.clone()).await.expect("a free port");
            let raft = Raft::builder(id, counter)
                .config(config.clone())
                .log_store(MemoryLog::new())
                .snapshots(snapshots.clone())
                .transport(transport)
                .start()
                .await
                .expect("a server starts");
            nodes.push(Node { raft, applied, snapshots });
        }
        let voter = |node: &Node| Server::voter(node.raft.id().clone(), node.raft.address().clone());
        let members = Configuration::new(nodes.iter().map(voter).collect());
        nodes[0].raft.bootstrap(members).await.expect("a fresh cluster");
        let (committed, memory_peak) = (Arc::default(), Arc::default());
        let mut background = JoinSet::new();
        let rafts: Vec<Raft> = nodes.iter().map(|node| node.raft.clone()).collect();
        background.spawn(propose(rafts, Arc::clone(&committed)));
        let mut cluster = Self {
            nodes,
            committed,
            memory_before: 0,
            memory_peak,
            background,
            panics_before: PANICS.load(Ordering::SeqCst),
            _turn: turn,
        };
        cluster.commit(20).await;
        cluster.memory_before = resident();
        cluster.background.spawn(watch_memory(Arc::clone(&cluster.memory_peak)));
        cluster
    }

    pub(crate) fn addresses(&self) -> Vec<SocketAddr> {
        let parse = |node: &Node| node.raft.address().as_str().parse().expect("loopback");
        self.nodes.iter().map(parse).collect()
    }

    /// The highest term of any server.
    pub(crate) fn term(&self) -> u64 {
        self.nodes.iter().map(|node| node.metrics().term.0).max().unwrap_or(0)
    }

    pub(crate) async fn leader(&self) -> usize {
        let find = async {
            loop {
                if let Some(leader) = self.nodes.iter().position(|node| is_leader(&node.raft)) {
                    return leader;
                }
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(PATIENCE, find).await.expect("a leader")
    }

    /// Waits until the client saw this many proposals applied.
    pub(crate) async fn commit(&self, count: u64) {
        let wait = async {
            while self.committed.load(Ordering::SeqCst) < count {
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(PATIENCE, wait)
            .await
            .unwrap_or_else(|_| panic!("the cluster does not commit: {}", self.state()));
    }

    pub(crate) async fn still_commits(&self) {
        self.commit(self.committed.load(Ordering::SeqCst) + 10).await;
        assert_eq!(PANICS.load(Ordering::SeqCst), self.panics_before, "something panicked");
    }

    fn state(&self) -> String {
        let line = |node: &Node| {
            let m = node.metrics();
            format!(
                "{} {:?} term {} last {} commit {}",
                node.raft.id(),
                m.role,
                m.term,
                m.last,
                m.commit_index
            )
        };
        self.nodes.iter().map(line).collect::<Vec<_>>().join("; ")
    }

    /// The cluster commits, every server applies everything, nothing panicked, and no more memory was taken than this.
    pub(crate) async fn finish(mut self, memory: u64) {
        self.still_commits().await;
        let peak = self.memory_peak.load(Ordering::SeqCst).max(resident());
        let grown = peak.saturating_sub(self.memory_before);
        assert!(grown <= memory, "memory grew by {} MiB", grown >> 20);
        self.background.shutdown().await;
        let settled = async {
            loop {
                let counts: Vec<_> = self.nodes.iter().map(|n| n.applied.load(Ordering::SeqCst)).collect();
                let commits: Vec<_> = self.nodes.iter().map(|node| node.metrics().commit_index).collect();
                let all_equal =
                    counts.iter().all(|c| *c == counts[0]) && commits.iter().all(|c| *c == commits[0]);
                if all_equal {
                    return;
                }
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(PATIENCE, settled).await.unwrap_or_else(|_| panic!("not all follow: {}", self.state()));
        for node in &self.nodes {
            node.raft.shutdown().await;
        }
        assert_eq!(PANICS.load(Ordering::SeqCst), self.panics_before, "something panicked");
    }
}

/// Proposes to whoever leads, one at a time.
async fn propose(rafts: Vec<Raft>, committed: Arc<AtomicU64>) {
    loop {
        match rafts.iter().find(|raft| is_leader(raft)) {
            Some(leader) => {
                if leader.propose(&b"a small command"[..]).await.is_ok() {
                    committed.fetch_add(1, Ordering::SeqCst);
                }
            }
            None => sleep(Duration::from_millis(5)).await,
        }
        tokio::task::yield_now().await;
    }
}

async fn watch_memory(peak: Arc<AtomicU64>) {
    loop {
        peak.fetch_max(resident(), Ordering::SeqCst);
        sleep(Duration::from_millis(5)).await;
    }
}

/// Sends this on a connection of its own, half-closes it, and gives the answer.
pub(crate) async fn talk(address: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).await.expect("the server listens");
    // The server may close while this is being sent.
    let _ = stream.write_all(bytes).await;
    let _ = stream.shutdown().await;
    read_to_end(stream).await
}

/// Everything up to the end of the connection.
pub(crate) async fn read_to_end(mut stream: TcpStream) -> Vec<u8> {
    let mut answer = Vec::new();
    // A connection closed with unread bytes ends in a reset, which is as good an end.
    let _ = timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("the connection is closed");
    answer
}
