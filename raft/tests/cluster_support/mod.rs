//! A cluster in one process that several tests share.

#![allow(dead_code, reason = "each test program uses its own part")]

use std::io::{self, Read, Write};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use bytes::Bytes;
use raft::core::{Entry, Role};
use raft::storage::{MemoryLog, MemorySnapshots};
use raft::transport::MemoryNetwork;
use raft::{Config, Configuration, Raft, Server, SnapshotWriter, StateMachine};

pub(crate) type Commands = Arc<Mutex<Vec<Bytes>>>;

/// Remembers every command and answers with how many there were before.
#[derive(Clone, Default)]
pub(crate) struct Journal(pub(crate) Commands);

impl StateMachine for Journal {
    fn apply(&mut self, commands: &[Entry]) -> Vec<Bytes> {
        let mut all = self.0.lock().expect("not poisoned");
        let number = |entry: &Entry| {
            all.push(entry.data.clone());
            Bytes::from((all.len() - 1).to_string())
        };
        commands.iter().map(number).collect()
    }

    fn snapshot(&self) -> SnapshotWriter {
        let all = self.0.lock().expect("not poisoned").clone();
        Box::new(move |out: &mut dyn Write| all.iter().try_for_each(|line| writeln!(out, "{}", text(line))))
    }

    fn restore(&mut self, state: &mut dyn Read) -> io::Result<()> {
        let mut all = String::new();
        state.read_to_string(&mut all)?;
        *self.0.lock().expect("not poisoned") =
            all.lines().map(|line| Bytes::from(line.to_owned())).collect();
        Ok(())
    }
}

pub(crate) fn text(bytes: &Bytes) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

pub(crate) struct Node {
    pub(crate) id: &'static str,
    pub(crate) log: MemoryLog,
    pub(crate) snapshots: MemorySnapshots,
    pub(crate) commands: Commands,
    pub(crate) raft: Raft,
}

pub(crate) struct Cluster {
    pub(crate) network: MemoryNetwork,
    pub(crate) config: Config,
    pub(crate) nodes: Vec<Node>,
}

/// Servers that are named after their address are there already.
pub(crate) fn address(id: &str) -> String {
    if id.contains(':') { id.to_owned() } else { format!("{id}:1") }
}

impl Cluster {
    pub(crate) async fn new(ids: &[&'static str], config: Config) -> Self {
        let mut cluster = Self { network: MemoryNetwork::new(), config, nodes: Vec::new() };
        for id in ids {
            let node = cluster.start(id, MemoryLog::new(), MemorySnapshots::default()).await;
            cluster.nodes.push(node);
        }
        cluster
    }

    pub(crate) async fn bootstrapped(ids: &[&'static str], config: Config) -> Self {
        let cluster = Self::new(ids, config).await;
        let servers = ids.iter().map(|id| Server::voter(*id, address(id))).collect();
        cluster.nodes[0].raft.bootstrap(Configuration::new(servers)).await.expect("a fresh cluster");
        cluster.leader().await;
        cluster
    }

    pub(crate) async fn start(&self, id: &'static str, log: MemoryLog, snapshots: MemorySnapshots) -> Node {
        let journal = Journal::default();
        let commands = Arc::clone(&journal.0);
        let raft = Raft::builder(id, journal)
            .config(self.config.clone())
            .log_store(log.clone())
            .snapshots(snapshots.clone())
            .transport(self.network.transport(address(id)))
            .start()
            .await
            .expect("a server starts");
        Node { id, log, snapshots, commands, raft }
    }

    /// A leader that most servers follow and that is ready.
    pub(crate) async fn leader(&self) -> &Node {
        for _ in 0..2000 {
            for node in &self.nodes {
                let metrics = node.raft.metrics().borrow().clone();
                if metrics.role == Role::Leader && metrics.ready {
                    return node;
                }
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("no leader");
    }

    pub(crate) async fn restart(&mut self, position: usize) {
        self.nodes[position].raft.shutdown().await;
        let Node { id, log, snapshots, .. } = &self.nodes[position];
        let node = self.start(id, log.clone(), snapshots.clone()).await;
        self.nodes[position] = node;
    }

    pub(crate) async fn wait_for(&self, what: &str, holds: impl Fn(&Node) -> bool) {
        for _ in 0..2000 {
            if self.nodes.iter().all(&holds) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("{what} did not come about");
    }
}

pub(crate) fn lines(node: &Node) -> Vec<String> {
    node.commands.lock().expect("not poisoned").iter().map(text).collect()
}

/// A gate that whatever it guards waits at.
#[derive(Clone, Default)]
pub(crate) struct Gate(Arc<(Mutex<bool>, Condvar)>);

impl Gate {
    pub(crate) fn set(&self, closed: bool) {
        *self.0.0.lock().expect("not poisoned") = closed;
        self.0.1.notify_all();
    }

    pub(crate) fn pass(&self) {
        let closed = self.0.0.lock().expect("not poisoned");
        drop(self.0.1.wait_while(closed, |closed| *closed).expect("not poisoned"));
    }
}

/// A journal behind a gate; the command `panic` makes it panic.
pub(crate) struct GatedMachine(pub(crate) Journal, pub(crate) Gate);

impl StateMachine for GatedMachine {
    fn apply(&mut self, commands: &[Entry]) -> Vec<Bytes> {
        self.1.pass();
        assert!(commands.iter().all(|entry| entry.data != "panic"), "told to");
        self.0.apply(commands)
    }

    fn snapshot(&self) -> SnapshotWriter {
        self.0.snapshot()
    }

    fn restore(&mut self, state: &mut dyn Read) -> io::Result<()> {
        self.0.restore(state)
    }
}
