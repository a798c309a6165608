//! Whole servers over the TCP transport on loopback: elections, replication, snapshots and restarts on the same port.
#![cfg(feature = "tokio")]
#![allow(clippy::disallowed_methods, reason = "tests may start tasks")]

use std::io::{self, Read, Write};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use raft::core::{Entry, Role};
use raft::storage::{MemoryLog, MemorySnapshots};
use raft::transport::{TcpOptions, TcpTransport};
use raft::{Config, Configuration, Raft, Server, SnapshotWriter, StateMachine};

type Commands = Arc<Mutex<Vec<Bytes>>>;

#[derive(Clone, Default)]
struct Journal(Commands);

impl StateMachine for Journal {
    fn apply(&mut self, commands: &[Entry]) -> Vec<Bytes> {
        let mut all = self.0.lock().expect("not poisoned");
        all.extend(commands.iter().map(|entry| entry.data.clone()));
        vec![Bytes::new(); commands.len()]
    }

    fn snapshot(&self) -> SnapshotWriter {
        let all = self.0.lock().expect("not poisoned").clone();
        Box::new(move |out: &mut dyn Write| {
            all.iter().try_for_each(|line| out.write_all(line).and_then(|()| out.write_all(b"\n")))
        })
    }

    fn restore(&mut self, state: &mut dyn Read) -> io::Result<()> {
        let mut all = String::new();
        state.read_to_string(&mut all)?;
        *self.0.lock().expect("not poisoned") =
            all.lines().map(|line| Bytes::from(line.to_owned())).collect();
        Ok(())
    }
}

struct Node {
    raft: Raft,
    commands: Commands,
    log: MemoryLog,
    snapshots: MemorySnapshots,
}

async fn start(id: &str, address: &str, log: MemoryLog, snapshots: MemorySnapshots) -> Node {
    let journal = Journal::default();
    let commands = Arc::clone(&journal.0);
    let config = Config {
        // Several test binaries share the machine: a late heartbeat is no failure.
        election_timeout: Duration::from_secs(1),
        // Few entries are kept behind a snapshot, so that a server that was away needs one.
        snapshot_threshold: 500,
        trailing_logs: 10,
        ..Config::default()
    };
    let raft = Raft::builder(id, journal)
        .config(config)
        .log_store(log.clone())
        .snapshots(snapshots.clone())
        .transport(TcpTransport::bind(address, TcpOptions::default()).await.expect("the port is free"))
        .start()
        .await
        .expect("a server starts");
    Node { raft, commands, log, snapshots }
}

async fn until(what: &str, holds: impl Fn() -> bool) {
    for _ in 0..6000 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("{what} did not come about");
}

fn leader(nodes: &[Node]) -> Option<usize> {
    nodes.iter().position(|node| {
        let metrics = node.raft.metrics().borrow().clone();
        metrics.role == Role::Leader && metrics.ready
    })
}

async fn propose(nodes: &[Node], from: usize, to: usize) {
    let leader = &nodes[leader(nodes).expect("there is a leader")].raft;
    let mut proposals = tokio::task::JoinSet::new();
    for number in from..to {
        let raft = leader.clone();
        proposals.spawn(async move { raft.propose(format!("{number:0>256}")).await });
    }
    while let Some(done) = proposals.join_next().await {
        done.expect("no panic").expect("the leader stays and commits");
    }
}

fn all_have(nodes: &[Node], count: usize) -> bool {
    let lists: Vec<_> = nodes.iter().map(|n| n.commands.lock().expect("not poisoned").clone()).collect();
    lists.iter().all(|list| list.len() == count && *list == lists[0])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_servers_over_tcp_replicate_and_bring_a_restarted_one_up_to_date() {
    let mut nodes = Vec::new();
    for id in ["a", "b", "c"] {
        nodes.push(start(id, "127.0.0.1:0", MemoryLog::new(), MemorySnapshots::default()).await);
    }
    let servers =
        nodes.iter().map(|n| Server::voter(n.raft.id().clone(), n.raft.address().clone())).collect();
    nodes[0].raft.bootstrap(Configuration::new(servers)).await.expect("a fresh cluster");
    until("a leader", || leader(&nodes).is_some()).await;
    propose(&nodes, 0, 1000).await;
    until("replication", || all_have(&nodes, 1000)).await;

    let away = (leader(&nodes).expect("there is a leader") + 1) % 3;
    let stopped = nodes.remove(away);
    stopped.raft.shutdown().await;
    propose(&nodes, 1000, 4000).await;
    let (id, address) = (stopped.raft.id().to_string(), stopped.raft.address().to_string());
    let back = start(&id, &address, stopped.log.clone(), stopped.snapshots.clone()).await;
    nodes.push(back);
    until("a leader again", || leader(&nodes).is_some()).await;
    propose(&nodes, 4000, 4100).await;
    until("catching up", || all_have(&nodes, 4100)).await;

    let old = leader(&nodes).expect("there is a leader");
    nodes[old].raft.transfer_leadership(None).await.expect("another server takes over");
    until("the new leader", || leader(&nodes).is_some_and(|new| new != old)).await;
    propose(&nodes, 4100, 4200).await;
    until("replication by the new leader", || all_have(&nodes, 4200)).await;
    for node in &nodes {
        node.raft.shutdown().await;
    }
}
