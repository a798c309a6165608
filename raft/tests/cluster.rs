//! Whole servers, driver included, over a network and disks in memory.
#![allow(clippy::disallowed_methods, reason = "tests may start tasks")]
#![allow(missing_docs, reason = "a test")]

mod cluster_support;

use std::time::Duration;

use cluster_support::{Cluster, Node, address, lines, text};
use raft::storage::{MemoryLog, MemorySnapshots};
use raft::{
    BootstrapError, ChangeError, Config, Configuration, Leadership, ProposeError, ReadError, Server,
    ServerId, SnapshotError, TransferError,
};

#[tokio::test]
async fn commands_reach_every_server_in_one_order_and_survive_restarts() {
    let mut cluster = Cluster::bootstrapped(&["a", "b", "c"], Config::default()).await;
    for n in 0..20 {
        let applied = cluster.leader().await.raft.propose(format!("command {n}")).await.expect("a leader");
        assert_eq!(text(&applied.response), n.to_string());
    }
    let expected: Vec<String> = (0..20).map(|n| format!("command {n}")).collect();
    cluster.wait_for("replication", |node| lines(node) == expected).await;
    for position in 0..3 {
        cluster.restart(position).await;
    }
    cluster.leader().await;
    cluster.wait_for("recovery", |node| lines(node) == expected).await;
}

#[tokio::test]
async fn a_server_that_finds_nobody_applies_what_it_knew_to_be_committed() {
    let mut cluster = Cluster::bootstrapped(&["a", "b", "c"], Config::default()).await;
    for n in 0..20 {
        cluster.leader().await.raft.propose(format!("command {n}")).await.expect("a leader");
    }
    cluster.wait_for("replication", |node| lines(node).len() == 20).await;
    for node in &cluster.nodes {
        node.raft.shutdown().await;
    }
    let Node { id, log, snapshots, .. } = &cluster.nodes[0];
    cluster.nodes = vec![cluster.start(id, log.clone(), snapshots.clone()).await];
    // That the last one was committed it heard after its last write.
    cluster.wait_for("recovery", |node| lines(node).len() >= 19).await;
    let expected: Vec<String> = (0..20).map(|n| format!("command {n}")).collect();
    assert!(expected.starts_with(&lines(&cluster.nodes[0])));
}

#[tokio::test]
async fn proposals_of_many_tasks_are_each_answered_once_and_in_order() {
    let cluster = Cluster::bootstrapped(&["a", "b", "c"], Config::default()).await;
    let raft = cluster.leader().await.raft.clone();
    let tasks: Vec<_> = (0..200)
        .map(|n| {
            let raft = raft.clone();
            tokio::spawn(async move { raft.propose(format!("{n}")).await.expect("a leader").id.index })
        })
        .collect();
    let mut indexes = Vec::new();
    for task in tasks {
        indexes.push(task.await.expect("no panic"));
    }
    indexes.sort_unstable();
    indexes.dedup();
    assert_eq!(indexes.len(), 200);
    cluster.wait_for("replication", |node| lines(node).len() == 200).await;
}

#[tokio::test]
async fn the_others_go_on_when_the_leader_is_cut_off_and_its_clients_are_told() {
    let cluster = Cluster::bootstrapped(&["a", "b", "c"], Config::default()).await;
    let old = cluster.leader().await;
    old.raft.propose("before").await.expect("a leader");
    cluster.network.isolate(address(old.id));
    let lost = old.raft.propose("lost").await;
    assert_eq!(lost, Err(ProposeError::OutcomeUnknown));
    assert!(matches!(old.raft.linearizable_read().await, Err(ReadError::NotLeader { .. })));
    let new = cluster.leader().await;
    assert_ne!(new.id, old.id);
    new.raft.propose("after").await.expect("a new leader");
    cluster.network.heal();
    cluster.wait_for("agreement", |node| lines(node) == ["before", "after"]).await;
}

#[tokio::test]
async fn a_fresh_server_joins_by_snapshot_and_is_promoted() {
    let config = Config { snapshot_threshold: 10, trailing_logs: 2, ..Config::default() };
    let mut cluster = Cluster::bootstrapped(&["a", "b", "c"], config).await;
    for n in 0..55 {
        cluster.leader().await.raft.propose(format!("{n}")).await.expect("a leader");
    }
    let leader = cluster.leader().await.raft.clone();
    let mut metrics = leader.metrics();
    metrics.wait_for(|m| m.snapshot_index.0 > 10).await.expect("alive");
    let node = cluster.start("d", MemoryLog::new(), MemorySnapshots::default()).await;
    cluster.nodes.push(node);
    leader.add_nonvoter("d".into(), address("d").into(), None).await.expect("a leader");
    cluster.wait_for("catching up", |node| lines(node).len() == 55).await;
    let stamp = leader.configuration().index;
    let moved = leader.add_voter("d".into(), address("d").into(), Some(raft::LogIndex(1))).await;
    assert_eq!(moved, Err(ChangeError::ConfigurationMoved { index: stamp }));
    leader.add_voter("d".into(), address("d").into(), Some(stamp)).await.expect("the expected configuration");
    cluster
        .wait_for("the configuration", |node| node.raft.configuration().configuration.voters_count() == 4)
        .await;
    // And what it restored from the snapshot it keeps over a restart.
    cluster.restart(3).await;
    cluster.wait_for("recovery", |node| lines(node).len() == 55).await;
}

#[tokio::test]
async fn leadership_moves_on_request_and_watchers_see_it() {
    let cluster = Cluster::bootstrapped(&["a", "b", "c"], Config::default()).await;
    let old = cluster.leader().await;
    let target = cluster.nodes.iter().find(|node| node.id != old.id).expect("three servers");
    let mut leadership = target.raft.leadership();
    assert!(matches!(leadership.next().await, Some(Leadership::Follower { .. })));
    old.raft.transfer_leadership(Some(target.id.into())).await.expect("a live target");
    while !matches!(leadership.next().await, Some(Leadership::Leader { .. })) {}
    let unknown: ServerId = "x".into();
    cluster.leader().await;
    assert_eq!(target.raft.transfer_leadership(Some(unknown)).await, Err(TransferError::InvalidTarget));
}

#[tokio::test]
async fn what_cannot_be_is_refused_with_its_reason() {
    let config = Config { command_bytes_max: 8, ..Config::default() };
    let cluster = Cluster::bootstrapped(&["a", "b", "c"], config).await;
    let leader = cluster.leader().await;
    let follower = cluster.nodes.iter().find(|node| node.id != leader.id).expect("three servers");
    let again = leader.raft.bootstrap(Configuration::new(vec![Server::voter("a", "a:1")])).await;
    assert_eq!(again, Err(BootstrapError::AlreadyBootstrapped));
    let large = leader.raft.propose("nine bytes").await;
    assert_eq!(large, Err(ProposeError::TooLarge { size: 10, limit: 8 }));
    let Err(ProposeError::NotLeader { leader: Some(named) }) = follower.raft.propose("x").await else {
        panic!("a follower takes no proposals");
    };
    assert_eq!(named.id, leader.id.into());
    leader.raft.shutdown().await;
    leader.raft.shutdown().await;
    assert_eq!(leader.raft.propose("x").await, Err(ProposeError::Stopped));
}

#[tokio::test]
async fn snapshots_on_request_shorten_the_log_and_refuse_to_repeat_themselves() {
    let cluster = Cluster::bootstrapped(&["a"], Config { trailing_logs: 0, ..Config::default() }).await;
    let raft = &cluster.nodes[0].raft;
    raft.propose("x").await.expect("a leader");
    raft.barrier().await.expect("a leader");
    let meta = raft.snapshot().await.expect("something new");
    assert_eq!(meta.configuration.voters_count(), 1);
    assert!(matches!(raft.snapshot().await, Err(SnapshotError::NothingNew)));
}

#[tokio::test]
async fn lease_reads_ask_nobody_and_say_when_they_end() {
    let config = Config { lease_reads: true, ..Config::default() };
    let cluster = Cluster::bootstrapped(&["a", "b", "c"], config).await;
    let leader = cluster.leader().await;
    let applied = leader.raft.propose("x").await.expect("a leader");
    let read = leader.raft.lease_read().await.expect("a leader");
    assert!(read.index >= applied.id.index && read.is_valid());
    cluster.network.isolate(address(leader.id));
    // The lease runs out, and without a quorum there is no other.
    while read.is_valid() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(matches!(leader.raft.lease_read().await, Err(ReadError::NotLeader { .. })));
}
