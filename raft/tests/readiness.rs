//! Leaders whose application cannot serve (catalogue L12).
#![cfg(feature = "tokio")]
#![allow(clippy::disallowed_methods, reason = "tests may start tasks")]
#![allow(missing_docs, reason = "a test")]

mod cluster_support;

use std::time::Duration;

use cluster_support::{Gate, GatedMachine, Journal, address};
use raft::storage::{MemoryLog, MemorySnapshots};
use raft::transport::MemoryNetwork;
use raft::{Config, Configuration, Raft, Role, Server};

/// Ends a test that hangs; nothing is expected to take that long.
const PATIENCE: Duration = Duration::from_secs(60);

async fn in_time<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("{what} never ended"))
}

struct Node {
    raft: Raft,
    journal: Journal,
    gate: Gate,
}

async fn three(network: &MemoryNetwork, config: &Config) -> Vec<Node> {
    let mut nodes = Vec::new();
    for id in ["a", "b", "c"] {
        let (journal, gate) = (Journal::default(), Gate::default());
        let raft = Raft::builder(id, GatedMachine(journal.clone(), gate.clone()))
            .config(config.clone())
            .log_store(MemoryLog::new())
            .snapshots(MemorySnapshots::default())
            .transport(network.transport(address(id)))
            .start()
            .await
            .expect("a server starts");
        nodes.push(Node { raft, journal, gate });
    }
    let members = ["a", "b", "c"].map(|id| Server::voter(id, address(id)));
    nodes[0].raft.bootstrap(Configuration::new(members.to_vec())).await.expect("a fresh cluster");
    nodes
}

async fn leader(nodes: &[Node]) -> usize {
    let find = async {
        loop {
            let leads = |node: &Node| {
                let metrics = node.raft.metrics().borrow().clone();
                metrics.role == Role::Leader && metrics.ready && !metrics.storage_failed
            };
            if let Some(leader) = nodes.iter().position(leads) {
                return leader;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    in_time("an election", find).await
}

fn lines(node: &Node) -> Vec<String> {
    node.journal.0.lock().expect("not poisoned").iter().map(cluster_support::text).collect()
}

/// The machine of a new leader hangs over what earlier leaders committed: it leads, and serves no read of any kind, however
/// long it takes; then every one of them sees everything.
#[tokio::test]
async fn l12_a_leader_that_has_not_applied_what_was_committed_serves_no_read() {
    let config = Config { lease_reads: true, ..Config::default() };
    let network = MemoryNetwork::new();
    let nodes = three(&network, &config).await;
    let old = leader(&nodes).await;
    let heir = (old + 1) % 3;
    nodes[heir].gate.set(true);
    for n in 0..5 {
        nodes[old].raft.propose(format!("{n}")).await.expect("a leader");
    }
    let id = nodes[heir].raft.id().clone();
    nodes[old].raft.transfer_leadership(Some(id)).await.expect("it has the log");
    let new = in_time("the heir leads", async {
        let mut metrics = nodes[heir].raft.metrics();
        metrics
            .wait_for(|metrics| metrics.role == Role::Leader && metrics.ready)
            .await
            .map(|m| m.commit_index)
    });
    let committed = new.await.expect("running");
    let (confirmed, leased, barrier) = {
        let raft = nodes[heir].raft.clone();
        let (for_lease, for_barrier) = (raft.clone(), raft.clone());
        (
            tokio::spawn(async move { raft.linearizable_read().await.expect("it still leads") }),
            tokio::spawn(async move { for_lease.lease_read().await.expect("it still leads").index }),
            tokio::spawn(async move { for_barrier.barrier().await.is_ok() }),
        )
    };
    tokio::time::sleep(config.election_timeout / 2).await;
    assert!(!confirmed.is_finished() && !leased.is_finished() && !barrier.is_finished());
    assert_eq!(lines(&nodes[heir]), Vec::<String>::new());
    nodes[heir].gate.set(false);
    let confirmed = in_time("the read", confirmed).await.expect("no panic");
    let leased = in_time("the lease read", leased).await.expect("no panic");
    assert!(confirmed >= committed && leased >= committed, "{confirmed}, {leased}, {committed}");
    assert!(in_time("the barrier", barrier).await.expect("no panic"));
    assert_eq!(lines(&nodes[heir]), ["0", "1", "2", "3", "4"]);
    for node in &nodes {
        node.raft.shutdown().await;
    }
}

/// The machine of the leader fails, and those of the others do not: leadership moves, and reads are served there.
#[tokio::test]
async fn l12_a_leader_whose_state_machine_fails_gives_up_and_another_serves() {
    let network = MemoryNetwork::new();
    let nodes = three(&network, &Config::default()).await;
    let old = leader(&nodes).await;
    nodes[old].raft.propose("kept").await.expect("a leader");
    // The others come to this command when the first one has failed over it.
    let others = [(old + 1) % 3, (old + 2) % 3];
    others.iter().for_each(|other| nodes[*other].gate.set(true));
    let raft = nodes[old].raft.clone();
    let outcome = in_time("the command", raft.propose("panic")).await;
    assert!(outcome.is_err_and(|error| error.may_be_applied()), "nobody can tell what became of it");
    in_time("it gives up", async {
        let mut metrics = raft.metrics();
        metrics.wait_for(|metrics| metrics.storage_failed && metrics.role != Role::Leader).await.map(drop)
    })
    .await
    .expect("running");
    assert!(raft.linearizable_read().await.is_err(), "and serves nothing");
    assert!(raft.lease_read().await.is_err());
    let new = leader(&nodes).await;
    assert_ne!(new, old);
    others.iter().for_each(|other| nodes[*other].gate.set(false));
    for node in &nodes {
        node.raft.shutdown().await;
    }
}
