//! What an operator and an embedding program do with a running server: restore from outside, submit without waiting,
//! add servers that lag, read snapshots; and how servers that do not keep up are held back.
#![allow(clippy::disallowed_methods, reason = "tests may start tasks")]
#![allow(missing_docs, reason = "a test")]

mod cluster_support;

use std::io::{self, Read};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use cluster_support::{Cluster, Gate, GatedMachine, Journal, Node, address, lines};
use raft::core::{Entry, SnapshotMeta};
use raft::storage::{FileSnapshots, LogStore, MemoryLog, MemorySnapshots, SnapshotStore, StorageError};
use raft::stream::ApplyMessage;
use raft::testing::{DiscardSnapshots, Faults, Operation};
use raft::transport::MemoryNetwork;
use raft::{
    ChangeError, Config, Configuration, ConfigurationChange, EntryId, Leadership, LogIndex, ProposeError,
    Raft, RestoreError, Role, Server, SnapshotError, SnapshotWriter, StateMachine,
};

/// Ends a test that hangs; nothing is expected to take that long.
const PATIENCE: Duration = Duration::from_secs(60);

async fn in_time<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("{what} never ended"))
}

fn outside(index: u64, state: &str) -> (SnapshotMeta, io::Cursor<Vec<u8>>) {
    let meta =
        SnapshotMeta { last: EntryId::new(3, index), size: state.len() as u64, ..SnapshotMeta::default() };
    (meta, io::Cursor::new(state.as_bytes().to_vec()))
}

fn follower(cluster: &Cluster) -> &Node {
    cluster.nodes.iter().find(|node| node.raft.stats().role == Role::Follower).expect("a follower")
}

/// One server over a log and snapshots of the test's choice, behind a gate.
async fn single(config: Config, log: impl LogStore, snapshots: impl SnapshotStore) -> (Raft, Journal, Gate) {
    let (journal, gate) = (Journal::default(), Gate::default());
    let raft = Raft::builder("a", GatedMachine(journal.clone(), gate.clone()))
        .config(config)
        .log_store(log)
        .snapshots(snapshots)
        .transport(MemoryNetwork::new().transport(address("a")))
        .start()
        .await
        .expect("a server starts");
    if !raft.has_state() {
        let one = Configuration::new(vec![Server::voter("a", address("a"))]);
        raft.bootstrap(one).await.expect("a fresh cluster");
    }
    in_time("the election", raft.metrics().wait_for(|metrics| metrics.ready)).await.expect("running");
    (raft, journal, gate)
}

fn text(journal: &Journal) -> Vec<String> {
    journal.0.lock().expect("not poisoned").iter().map(cluster_support::text).collect()
}

#[tokio::test]
async fn a_snapshot_of_another_cluster_becomes_the_state_of_every_server() {
    let origin = Cluster::bootstrapped(&["x"], Config::default()).await;
    for n in 0..30 {
        origin.nodes[0].raft.propose(format!("old {n}")).await.expect("a leader");
    }
    let taken = origin.nodes[0].raft.snapshot().await.expect("something new");
    let (meta, state) = origin.nodes[0].raft.open_snapshot(taken.last).await.expect("just taken");

    let mut cluster = Cluster::bootstrapped(&["a", "b", "c"], Config::default()).await;
    let leader = cluster.leader().await;
    leader.raft.propose("gone").await.expect("a leader");
    let members = leader.raft.configuration();
    let restored = in_time("the restore", leader.raft.restore(meta.clone(), state)).await.expect("a quorum");
    assert!(restored.index > meta.last.index);
    assert_eq!(restored.term, leader.raft.stats().term);
    assert_eq!(leader.raft.configuration(), members, "members and their index stay");
    leader.raft.linearizable_read().await.expect("a leader");
    let applied = leader.raft.propose("new").await.expect("a leader");
    assert_eq!(
        applied.id.index,
        LogIndex(restored.index.0 + 2),
        "no gap: an entry of the leader's comes between"
    );
    let mut expected: Vec<String> = (0..30).map(|n| format!("old {n}")).collect();
    expected.push("new".to_owned());
    cluster.wait_for("the restore", |node| lines(node) == expected).await;
    cluster.wait_for("the snapshot", |node| node.raft.stats().last_snapshot == restored).await;
    for position in 0..3 {
        cluster.restart(position).await;
    }
    cluster.leader().await;
    cluster.wait_for("recovery", |node| lines(node) == expected).await;
    // Once more, now below the log: indexes go on rising.
    let leader = cluster.leader().await;
    let before = leader.raft.stats().last.index;
    let (meta, state) = outside(2, "again\n");
    let restored = in_time("the restore", leader.raft.restore(meta, state)).await.expect("a quorum");
    assert!(restored.index > before);
    cluster.wait_for("the restore", |node| lines(node) == ["again"]).await;
}

#[tokio::test]
async fn a_restore_that_fails_changes_nothing() {
    let cluster = Cluster::bootstrapped(&["a", "b", "c"], Config::default()).await;
    cluster.leader().await;
    cluster.wait_for("a leader", |node| node.raft.metrics().borrow().leader.is_some()).await;
    let (meta, state) = outside(9, "x\n");
    let refused = follower(&cluster).raft.restore(meta, state).await;
    assert!(matches!(refused, Err(RestoreError::NotLeader { leader: Some(_) })), "{refused:?}");

    let faults = Faults::new();
    let snapshots = MemorySnapshots::default();
    let (raft, journal, _) =
        single(Config::default(), MemoryLog::new(), faults.store(snapshots.clone())).await;
    raft.propose("kept").await.expect("a leader");
    let (meta, _) = outside(9, "short\n");
    let refused = raft.restore(meta.clone(), io::empty()).await;
    assert!(matches!(refused, Err(RestoreError::WrongSize { expected: 6, read: 0 })), "{refused:?}");
    let refused = raft.restore(meta.clone(), io::repeat(b'x')).await;
    assert!(matches!(refused, Err(RestoreError::WrongSize { expected: 6, .. })), "{refused:?}");
    let broken = Read::chain(io::Cursor::new(b"sho".to_vec()), Broken);
    let refused = raft.restore(meta, broken).await;
    assert!(matches!(refused, Err(RestoreError::State(_))), "{refused:?}");
    let (meta, state) = outside(u64::MAX, "x\n");
    let refused = raft.restore(meta, state).await;
    assert!(matches!(refused, Err(RestoreError::Invalid)), "{refused:?}");
    for operation in [Operation::CreateSnapshot, Operation::WriteSnapshot, Operation::FinishSnapshot] {
        faults.fail(operation, 0);
        let (meta, state) = outside(9, "x\n");
        let refused = raft.restore(meta, state).await;
        assert!(matches!(refused, Err(RestoreError::Write(_) | RestoreError::Storage(_))), "{refused:?}");
    }
    assert_eq!(faults.failed(), 3);
    raft.propose("and more").await.expect("it goes on");
    assert_eq!(text(&journal), ["kept", "and more"]);
    assert_eq!(snapshots.latest().expect("memory"), None);
    raft.shutdown().await;
    let (meta, state) = outside(9, "x\n");
    assert!(matches!(raft.restore(meta, state).await, Err(RestoreError::Stopped)));
}

/// A state that never comes keeps nobody: not the proposals once the caller is gone, not the caller once the server stops.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restore_whose_state_never_comes_can_be_given_up() {
    let (raft, journal, _) = single(Config::default(), MemoryLog::new(), MemorySnapshots::default()).await;
    let never = Gate::default();
    never.set(true);
    let restore = |index| {
        let (raft, state) = (raft.clone(), Gated(never.clone()));
        tokio::spawn(async move { raft.restore(outside(index, "x\n").0, state).await })
    };
    let abandoned = restore(5);
    let refused = async {
        while raft.propose("x").await != Err(ProposeError::Overloaded) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    in_time("the restore", refused).await;
    abandoned.abort();
    let taken = async {
        while raft.propose("y").await.is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    in_time("room", taken).await;
    let waiting = restore(9);
    in_time("the restore", async {
        while raft.propose("x").await != Err(ProposeError::Overloaded) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    in_time("stopping", raft.shutdown()).await;
    let end = in_time("the answer", waiting).await.expect("no panic");
    assert!(matches!(end, Err(RestoreError::OutcomeUnknown)), "{end:?}");
    assert!(text(&journal).contains(&"y".to_owned()));
    never.set(false);
}

/// A restore that was given up leaves nothing behind, however late its state comes: the next start would take it for the newest.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restore_that_was_given_up_stores_nothing() {
    let snapshots = MemorySnapshots::default();
    let (raft, journal, _) = single(Config::default(), MemoryLog::new(), snapshots.clone()).await;
    let never = Gate::default();
    never.set(true);
    let (late, whole) = (raft.clone(), io::Cursor::new(b"x\n".to_vec()).chain(Gated(never.clone())));
    let abandoned = tokio::spawn(async move { late.restore(outside(5, "x\n").0, whole).await });
    in_time("the restore", async {
        while raft.propose("x").await != Err(ProposeError::Overloaded) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    abandoned.abort();
    in_time("room", async {
        while raft.propose("y").await.is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    never.set(false);
    raft.shutdown().await;
    assert_eq!(snapshots.latest().expect("memory"), None);
    assert!(text(&journal).contains(&"y".to_owned()));
}

struct Gated(Gate);

impl Read for Gated {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        self.0.pass();
        Ok(0)
    }
}

struct Broken;

impl Read for Broken {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::Error::other("the tape is torn"))
    }
}

#[tokio::test]
async fn what_waits_when_a_snapshot_is_restored_is_told_so() {
    let (raft, journal, gate) = single(Config::default(), MemoryLog::new(), MemorySnapshots::default()).await;
    raft.propose("first").await.expect("a leader");
    gate.set(true);
    // The first is with the state machine, the second waits for it.
    let at_work = raft.submit("at work").await.expect("a leader");
    let index = at_work.id.index;
    in_time("the commit", raft.metrics().wait_for(|m| m.commit_index >= index)).await.expect("running");
    let waiting = raft.submit("waiting").await.expect("a leader");
    let index = waiting.id.index;
    in_time("the commit", raft.metrics().wait_for(|m| m.commit_index >= index)).await.expect("running");
    let (meta, state) = outside(0, "restored\n");
    let restored = in_time("the restore", raft.restore(meta, state)).await.expect("a leader");
    assert!(restored.index > index);
    let aborted = in_time("the answer", waiting.applied()).await.expect_err("never applied");
    assert!(aborted == ProposeError::AbortedByRestore && aborted.may_be_applied(), "{aborted}");
    gate.set(false);
    at_work.applied().await.expect("the state machine had it");
    raft.barrier().await.expect("a leader");
    assert_eq!(text(&journal), ["restored"]);
}

#[tokio::test]
async fn a_submitted_command_has_its_place_before_it_is_applied() {
    let (raft, journal, gate) = single(Config::default(), MemoryLog::new(), MemorySnapshots::default()).await;
    gate.set(true);
    let one = in_time("the place", raft.submit("one")).await.expect("a leader");
    let two = in_time("the place", raft.submit("two")).await.expect("a leader");
    assert_eq!((two.id.term, two.id.index), (one.id.term, one.id.index.next()));
    drop(one);
    gate.set(false);
    let id = two.id;
    assert_eq!(in_time("the answer", two.applied()).await.expect("a leader").id, id);
    assert_eq!(text(&journal), ["one", "two"]);
    raft.shutdown().await;
    let stopped = raft.submit("three").await.expect_err("it has stopped");
    assert!(stopped == ProposeError::Stopped && !stopped.may_be_applied());

    let cluster = Cluster::bootstrapped(&["a", "b", "c"], Config::default()).await;
    cluster.leader().await;
    let refused = follower(&cluster).raft.submit("x").await;
    assert!(matches!(refused, Err(ProposeError::NotLeader { .. })), "{refused:?}");
}

#[tokio::test]
async fn a_snapshot_can_be_read_while_newer_ones_are_taken() {
    let (raft, _, _) = single(Config::default(), MemoryLog::new(), MemorySnapshots::new(1)).await;
    raft.propose("one").await.expect("a leader");
    let first = raft.snapshot().await.expect("something new");
    let (meta, mut state) = raft.open_snapshot(first.last).await.expect("just taken");
    assert_eq!(meta, first);
    raft.propose("two").await.expect("a leader");
    let second = raft.snapshot().await.expect("something new");
    assert!(second.last > first.last);
    let mut text = String::new();
    state.read_to_string(&mut text).expect("memory");
    assert_eq!(text, "one\n");
    assert!(raft.open_snapshot(first.last).await.is_ok(), "two stay even where one is asked for");
    raft.propose("three").await.expect("a leader");
    raft.snapshot().await.expect("something new");
    let gone = raft.open_snapshot(first.last).await.err();
    assert!(matches!(gone, Some(StorageError::NoSnapshot { last }) if last == first.last), "{gone:?}");
}

#[tokio::test]
async fn a_server_that_does_not_answer_gets_no_vote() {
    let config = Config { append_entries_max: 8, ..Config::default() };
    let mut cluster = Cluster::bootstrapped(&["a", "b", "c"], config).await;
    let leader = cluster.leader().await.raft.clone();
    let dead = leader.add_voter("dead".into(), "dead:1".into(), None);
    let alive = async {
        for n in 0..40 {
            leader.propose(format!("{n}")).await.expect("nothing is in the way");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let (dead, ()) = in_time("the change", async { tokio::join!(dead, alive) }).await;
    assert!(
        matches!(&dead, Err(ChangeError::NotCaughtUp { server, .. }) if *server == "dead".into()),
        "{dead:?}"
    );
    let members = leader.configuration().configuration;
    assert!(!members.is_voter(&"dead".into()) && members.server(&"dead".into()).is_some());
    // It has everything once it lives.
    let node = cluster.start("d", MemoryLog::new(), MemorySnapshots::default()).await;
    cluster.nodes.push(node);
    in_time("the change", leader.add_voter("d".into(), address("d").into(), None)).await.expect("it answers");
    cluster.wait_for("replication", |node| lines(node).len() >= 40).await;

    let vote = |id: &str| ConfigurationChange::AddVoter { id: id.into(), address: format!("{id}:1").into() };
    let both = vec![vote("dead"), ConfigurationChange::RemoveServer { id: "d".into() }];
    let refused = leader.change_membership(both.clone(), None).await;
    assert!(
        matches!(&refused, Err(ChangeError::NotCaughtUp { server, .. }) if *server == "dead".into()),
        "{refused:?}"
    );
    assert!(!refused.expect_err("refused").may_be_applied());
    let unheard = leader.change_membership_unchecked(both, None).await;
    assert!(
        matches!(unheard, Err(ChangeError::NotSpoken { .. })),
        "it goes on to the next check: {unheard:?}"
    );
    // Which life of it would get the vote is not known before it answers, so not even force helps.
    let forced =
        in_time("the change", leader.add_voter_unchecked("dead".into(), "dead:1".into(), None)).await;
    assert!(matches!(forced, Err(ChangeError::NotCaughtUp { .. })), "{forced:?}");
    let node = cluster.start("e", MemoryLog::new(), MemorySnapshots::default()).await;
    cluster.nodes.push(node);
    in_time("the change", leader.add_voter_unchecked("e".into(), address("e").into(), None))
        .await
        .expect("it answers");
    let members = leader.configuration().configuration;
    assert!(members.is_voter(&"e".into()) && !members.is_voter(&"dead".into()));
}

#[tokio::test]
async fn a_removed_server_stops_if_it_is_told_to() {
    for shutdown_on_remove in [true, false] {
        let config = Config { shutdown_on_remove, ..Config::default() };
        let mut cluster = Cluster::bootstrapped(&["a", "b", "c"], config).await;
        let removed = cluster.leader().await.id;
        let raft = cluster.leader().await.raft.clone();
        raft.remove_server(removed.into(), None).await.expect("a leader");
        cluster.nodes.retain(|node| node.id != removed);
        cluster.leader().await.raft.propose("x").await.expect("the others go on");
        if shutdown_on_remove {
            let metrics = raft.metrics();
            let end = async {
                while metrics.has_changed().is_ok() {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            };
            in_time("stopping", end).await;
            in_time("stopping", raft.shutdown()).await;
            assert_eq!(raft.stats().to_map()["state"], "Shutdown");
        } else {
            assert_ne!(raft.stats().to_map()["state"], "Shutdown");
            assert!(matches!(raft.propose("y").await, Err(ProposeError::NotLeader { .. })));
        }
    }
}

/// A leader's snapshot was durable, and a crash came before it replaced the log: nobody is there to send it again.
#[tokio::test]
async fn a_snapshot_that_was_received_before_a_crash_is_not_sent_again() {
    let (log, snapshots) = (MemoryLog::new(), MemorySnapshots::default());
    let (raft, _, _) = single(Config::default(), log.clone(), snapshots.clone()).await;
    raft.propose("replaced").await.expect("a leader");
    let term = raft.stats().term;
    let (last, configuration) = (raft.stats().last, raft.configuration().configuration);
    raft.shutdown().await;
    let meta = SnapshotMeta {
        last: EntryId::new(term.0 + 1, last.index.0 + 20),
        configuration,
        configuration_index: LogIndex(1),
        size: 0,
    };
    let mut sink = snapshots.create(&meta).expect("memory");
    io::Write::write_all(&mut sink, b"received\n").expect("memory");
    sink.finish().expect("memory");
    let (raft, journal, _) = single(Config::default(), log, snapshots).await;
    assert_eq!(text(&journal), ["received"]);
    raft.propose("and more").await.expect("a leader");
    assert_eq!(text(&journal), ["received", "and more"]);
    assert!(raft.stats().last.index > meta.last.index);
    raft.shutdown().await;
}

#[tokio::test]
async fn a_state_machine_that_keeps_its_state_is_not_restored_at_the_start() {
    for restore_on_start in [true, false] {
        let config = Config { restore_on_start, trailing_logs: 0, ..Config::default() };
        let (log, snapshots) = (MemoryLog::new(), MemorySnapshots::default());
        let (raft, _, _) = single(config.clone(), log.clone(), snapshots.clone()).await;
        raft.propose("in the snapshot").await.expect("a leader");
        raft.snapshot().await.expect("something new");
        raft.propose("after it").await.expect("a leader");
        raft.shutdown().await;
        let (raft, journal, _) = single(config, log, snapshots).await;
        raft.barrier().await.expect("a leader");
        let expected: &[&str] =
            if restore_on_start { &["in the snapshot", "after it"] } else { &["after it"] };
        assert_eq!(text(&journal), expected);
    }
}

#[tokio::test]
async fn snapshots_by_count_keep_an_interval_and_those_by_size_do_not() {
    let config =
        Config { snapshot_threshold: 5, snapshot_interval: Duration::from_secs(3600), ..Config::default() };
    let (raft, _, _) = single(config, MemoryLog::new(), MemorySnapshots::default()).await;
    for _ in 0..50 {
        raft.propose("x").await.expect("a leader");
    }
    assert_eq!(raft.stats().last_snapshot.index, LogIndex::ZERO);
    let now = raft.reloadable_config();
    raft.reload_config(raft::ReloadableConfig { snapshot_threshold_bytes: 1000, ..now })
        .await
        .expect("in bounds");
    let at_once = raft.metrics().wait_for(|m| m.snapshot_index > LogIndex::ZERO).await.map(drop);
    in_time("the snapshot", async { at_once }).await.expect("running");
}

#[tokio::test]
async fn a_snapshot_store_that_keeps_nothing_keeps_the_log() {
    let config = Config { trailing_logs: 0, snapshot_threshold: 3, ..Config::default() };
    let (raft, _, _) = single(config, MemoryLog::new(), DiscardSnapshots).await;
    for _ in 0..20 {
        raft.propose("x").await.expect("a leader");
    }
    assert!(matches!(raft.snapshot().await, Err(SnapshotError::Storage(_))));
    in_time("metrics", raft.metrics().wait_for(|m| m.log_bytes > 20 * 48)).await.expect("running");
    assert_eq!(raft.metrics().borrow().snapshot_index, LogIndex::ZERO);
    raft.propose("x").await.expect("it goes on");
}

#[tokio::test]
async fn a_disk_that_fails_ends_the_part_that_a_server_takes() {
    let faults = Faults::new();
    let log = MemoryLog::new();
    let (raft, _, _) = single(Config::default(), faults.store(log.clone()), MemorySnapshots::default()).await;
    raft.propose("kept").await.expect("a leader");
    faults.fail(Operation::Write, 1);
    raft.propose("the last").await.expect("one is spared");
    let lost = in_time("the answer", raft.propose("lost")).await.expect_err("not durable");
    assert!(lost.may_be_applied(), "{lost}");
    in_time("the end", raft.metrics().wait_for(|m| m.storage_failed)).await.expect("running");
    assert_eq!(raft.propose("x").await, Err(ProposeError::Stopped));
    raft.shutdown().await;

    faults.fail(Operation::Recover, 0);
    let again = Raft::builder("a", Journal::default())
        .log_store(faults.store(log))
        .snapshots(MemorySnapshots::default())
        .transport(MemoryNetwork::new().transport(address("a")))
        .start()
        .await;
    assert!(matches!(again, Err(raft::StartError::Storage(_))), "{again:?}");
}

/// The leader's own state machine does not keep up: proposals are refused before memory is full, and taken again later.
#[tokio::test]
async fn a_slow_state_machine_holds_proposals_back() {
    let limit = 64 << 10;
    let config = Config {
        log_bytes_max: limit,
        snapshot_threshold_bytes: limit / 4,
        trailing_logs: 0,
        ..Config::default()
    };
    let (raft, journal, gate) = single(config, MemoryLog::new(), MemorySnapshots::default()).await;
    gate.set(true);
    let mut taken = 0;
    let refused = loop {
        match raft.submit(vec![b'x'; 1000]).await {
            Ok(_) => taken += 1,
            Err(error) => break error,
        }
        assert!(taken < 1000, "it is bounded");
    };
    assert_eq!(refused, ProposeError::Overloaded);
    in_time("metrics", raft.metrics().wait_for(|m| m.log_bytes >= limit)).await.expect("running");
    assert!(raft.metrics().borrow().log_bytes <= limit + 2000);
    gate.set(false);
    let again = async {
        while raft.propose("again").await.is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    in_time("room", again).await;
    assert_eq!(text(&journal).len(), taken + 1);
}

/// A follower's state machine does not keep up: it takes no more than its memory holds, the others go on, and it
/// catches up later.
#[tokio::test]
async fn a_slow_follower_is_bounded_and_slows_nobody() {
    let limit = 64 << 10;
    let config = Config {
        log_bytes_max: limit,
        snapshot_threshold_bytes: limit / 4,
        append_bytes_max: 4 << 10,
        trailing_logs: 0,
        ..Config::default()
    };
    let mut cluster = Cluster::bootstrapped(&["a", "b"], config.clone()).await;
    let (journal, gate) = (Journal::default(), Gate::default());
    let slow = Raft::builder("s", GatedMachine(journal.clone(), gate.clone()))
        .config(config)
        .log_store(MemoryLog::new())
        .snapshots(MemorySnapshots::default())
        .transport(cluster.network.transport(address("s")))
        .start()
        .await
        .expect("a server starts");
    let leader = cluster.leader().await.raft.clone();
    in_time("joining", leader.add_voter("s".into(), address("s").into(), None)).await.expect("a leader");
    gate.set(true);
    let mut most = 0;
    for n in 0..300 {
        let command = format!("{n} {}", "x".repeat(1000));
        let propose = async {
            while leader.propose(command.clone()).await.is_err() {
                tokio::task::yield_now().await;
            }
        };
        in_time("a commit", propose).await;
        most = most.max(slow.metrics().borrow().log_bytes);
    }
    assert!(most >= limit / 2, "it did fall behind: {most} bytes");
    assert!(most <= limit + (8 << 10), "{most} bytes");
    gate.set(false);
    let end = leader.barrier().await.expect("a leader").index;
    in_time("catching up", slow.metrics().wait_for(|m| m.applied_index >= end)).await.expect("running");
    assert_eq!(text(&journal).len(), 300);
    cluster.nodes.truncate(2);
}

#[tokio::test]
async fn snapshots_go_on_through_changes_of_members_and_newer_snapshots() {
    let config = Config {
        snapshot_threshold: 5,
        snapshot_interval: Duration::ZERO,
        trailing_logs: 0,
        ..Config::default()
    };
    let mut cluster = Cluster::bootstrapped(&["a", "b", "c"], config).await;
    for id in ["d", "e"] {
        let node = cluster.start(id, MemoryLog::new(), MemorySnapshots::default()).await;
        cluster.nodes.push(node);
    }
    let leader = cluster.leader().await.raft.clone();
    let load = async {
        for n in 0..300 {
            leader.propose(format!("{n}")).await.expect("a leader");
        }
    };
    let members = async {
        for _ in 0..3 {
            for id in ["d", "e"] {
                leader.add_nonvoter(id.into(), address(id).into(), None).await.expect("a leader");
                leader.add_voter(id.into(), address(id).into(), None).await.expect("it answers");
            }
            for id in ["d", "e"] {
                leader.remove_server(id.into(), None).await.expect("a leader");
            }
        }
        for id in ["d", "e"] {
            leader.add_voter(id.into(), address(id).into(), None).await.expect("it answers");
        }
    };
    in_time("the load", async { tokio::join!(load, members) }).await;
    let expected: Vec<String> = (0..300).map(|n| n.to_string()).collect();
    cluster.wait_for("agreement", |node| lines(node) == expected).await;
    let voters = |node: &Node| node.raft.configuration().configuration.voters_count();
    cluster
        .wait_for("the members", |node| {
            voters(node) == 5 && node.raft.stats().last_snapshot.index > LogIndex(200)
        })
        .await;
    for position in 0..5 {
        cluster.restart(position).await;
    }
    cluster.leader().await;
    cluster.wait_for("recovery", |node| lines(node) == expected && voters(node) == 5).await;
}

/// What a state machine was told, and the state of a [`Journal`].
#[derive(Clone, Default)]
struct Attentive {
    journal: Journal,
    extensions: Arc<Mutex<Vec<Bytes>>>,
    configurations: Arc<Mutex<Vec<(LogIndex, usize)>>>,
    writing: Gate,
}

impl StateMachine for Attentive {
    fn apply(&mut self, commands: &[Entry]) -> Vec<Bytes> {
        self.extensions.lock().expect("not poisoned").extend(commands.iter().map(|c| c.extensions.clone()));
        self.journal.apply(commands)
    }

    fn snapshot(&self) -> SnapshotWriter {
        let (writer, writing) = (self.journal.snapshot(), self.writing.clone());
        Box::new(move |out| {
            writing.pass();
            writer(out)
        })
    }

    fn restore(&mut self, state: &mut dyn Read) -> io::Result<()> {
        self.journal.restore(state)
    }

    fn configuration_committed(&mut self, index: LogIndex, configuration: &Configuration) {
        let members = configuration.servers().len();
        self.configurations.lock().expect("not poisoned").push((index, members));
    }
}

async fn attentive(machine: Attentive, log: MemoryLog, snapshots: MemorySnapshots) -> Raft {
    let raft = Raft::builder("a", machine)
        .config(Config { trailing_logs: 0, ..Config::default() })
        .log_store(log)
        .snapshots(snapshots)
        .transport(MemoryNetwork::new().transport(address("a")))
        .start()
        .await
        .expect("a server starts");
    if !raft.has_state() {
        let one = Configuration::new(vec![Server::voter("a", address("a"))]);
        raft.bootstrap(one).await.expect("a fresh cluster");
    }
    in_time("the election", raft.metrics().wait_for(|metrics| metrics.ready)).await.expect("running");
    raft
}

#[tokio::test]
async fn a_state_machine_sees_extensions_and_committed_configurations() {
    let (log, snapshots) = (MemoryLog::new(), MemorySnapshots::default());
    let machine = Attentive::default();
    let raft = attentive(machine.clone(), log.clone(), snapshots.clone()).await;
    let extensions = Bytes::from_static(b"trace 7");
    raft.propose_with("x", extensions.clone()).await.expect("a leader");
    raft.propose("y").await.expect("a leader");
    assert_eq!(*machine.extensions.lock().expect("not poisoned"), [extensions, Bytes::new()]);
    let added = raft.add_nonvoter("n".into(), address("n").into(), None).await.expect("a leader");
    raft.barrier().await.expect("a leader");
    let seen = machine.configurations.lock().expect("not poisoned").clone();
    assert_eq!(seen, [(LogIndex(1), 1), (added, 2)]);
    raft.snapshot().await.expect("something new");
    raft.shutdown().await;

    let machine = Attentive::default();
    let _raft = attentive(machine.clone(), log, snapshots).await;
    let seen = machine.configurations.lock().expect("not poisoned").clone();
    assert_eq!(seen, [(added, 2)], "the snapshot's");
}

#[tokio::test]
async fn commands_are_applied_while_a_snapshot_is_written() {
    let machine = Attentive::default();
    let raft = attentive(machine.clone(), MemoryLog::new(), MemorySnapshots::default()).await;
    raft.propose("in it").await.expect("a leader");
    machine.writing.set(true);
    let taking = tokio::spawn({
        let raft = raft.clone();
        async move { raft.snapshot().await }
    });
    for n in 0..20 {
        in_time("a command", raft.propose(format!("{n}"))).await.expect("a leader");
    }
    assert!(!taking.is_finished());
    machine.writing.set(false);
    let meta = in_time("the snapshot", taking).await.expect("no panic").expect("something new");
    let (_, mut state) = raft.open_snapshot(meta.last).await.expect("just taken");
    let mut content = String::new();
    state.read_to_string(&mut content).expect("memory");
    assert!(content.lines().count() <= 21 && content.starts_with("in it\n"), "{content}");
    assert_eq!(text(&machine.journal).len(), 21);
}

#[tokio::test]
async fn a_slow_watcher_of_the_leadership_sees_the_newest() {
    let cluster = Cluster::bootstrapped(&["a", "b", "c"], Config::default()).await;
    let first = cluster.leader().await;
    let mut watch = first.raft.leadership();
    assert!(matches!(watch.next().await, Some(Leadership::Leader { .. })));
    let others: Vec<&Node> = cluster.nodes.iter().filter(|node| node.id != first.id).collect();
    let mut from = first;
    for to in [others[0], first, others[1]] {
        in_time("the transfer", from.raft.transfer_leadership(Some(to.id.into())))
            .await
            .expect("a live target");
        in_time("being ready", to.raft.metrics().wait_for(|m| m.ready && m.has_current_term_entry()))
            .await
            .expect("running");
        from = to;
    }
    let follows = |m: &Arc<raft::Metrics>| m.leader.as_ref().is_some_and(|l| l.id == others[1].id.into());
    in_time("following", first.raft.metrics().wait_for(follows)).await.expect("running");
    let seen = in_time("the newest", watch.next()).await;
    let Some(Leadership::Follower { leader: Some(leader) }) = seen else { panic!("{seen:?}") };
    assert_eq!((leader.id, leader.address), (others[1].id.into(), others[1].raft.address().clone()));
    // Nothing is pending after the newest.
    assert!(tokio::time::timeout(Duration::from_millis(50), watch.next()).await.is_err());
}

/// A follower that is stopped while a snapshot comes in begins anew with a whole one.
#[tokio::test]
async fn an_incoming_snapshot_that_was_interrupted_is_sent_again() {
    let directory = tempfile::tempdir().expect("a directory");
    let config = Config { trailing_logs: 0, ..Config::default() };
    let cluster = Cluster::bootstrapped(&["a"], config.clone()).await;
    let leader = cluster.leader().await.raft.clone();
    for n in 0..50 {
        leader.propose(format!("{n} {}", "x".repeat(10_000))).await.expect("a leader");
    }
    leader.snapshot().await.expect("something new");
    let path = directory.path().join("snapshots");
    let faults = Faults::new();
    // The state comes in several pieces; the second life finds what the first one left.
    faults.fail(Operation::WriteSnapshot, 2);
    let mut lives = 0;
    loop {
        let journal = Journal::default();
        let store = FileSnapshots::open(&path, 2).expect("a directory");
        let follower = Raft::builder("b", journal.clone())
            .config(config.clone())
            .log_store(MemoryLog::new())
            .snapshots(faults.store(store))
            .transport(cluster.network.transport(address("b")))
            .start()
            .await
            .expect("a server starts");
        lives += 1;
        if lives == 1 {
            leader.add_nonvoter("b".into(), address("b").into(), None).await.expect("a leader");
            while faults.failed() == 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            follower.shutdown().await;
            std::fs::create_dir(path.join("2-9-1.tmp")).expect("what a killed server leaves");
            continue;
        }
        in_time("the snapshot", follower.metrics().wait_for(|m| m.applied_index >= LogIndex(52)))
            .await
            .expect("running");
        assert_eq!(text(&journal).len(), 50);
        break;
    }
    assert!(!path.join("2-9-1.tmp").exists());
}

/// As the MIT labs have it: the application drives, reads a channel, and keeps its own state.
#[tokio::test]
async fn an_application_that_keeps_its_state_reads_commands_and_snapshots_from_a_channel() {
    let network = MemoryNetwork::new();
    let start = async |id: &'static str, log: MemoryLog, snapshots: MemorySnapshots| {
        let (machine, messages) = raft::stream::channel(64);
        let raft = Raft::builder(id, machine)
            .config(Config { trailing_logs: 0, ..Config::default() })
            .log_store(log)
            .snapshots(snapshots)
            .transport(network.transport(address(id)))
            .start()
            .await
            .expect("a server starts");
        (raft, messages)
    };
    let (log, snapshots) = (MemoryLog::new(), MemorySnapshots::default());
    let (a, mut messages) = start("a", log.clone(), snapshots.clone()).await;
    a.bootstrap(Configuration::new(vec![Server::voter("a", address("a"))])).await.expect("a fresh cluster");
    in_time("the election", a.metrics().wait_for(|m| m.ready)).await.expect("running");
    let mut ids = Vec::new();
    for n in 0..6 {
        ids.push(a.submit(format!("{n}")).await.expect("a leader").id);
    }
    for (n, id) in ids.iter().enumerate() {
        let command = Bytes::from(n.to_string());
        let expected = ApplyMessage::Command { id: *id, command };
        assert_eq!(in_time("a command", messages.next()).await, Some(expected));
    }
    let early = log.copy();
    assert!(early.bytes() > 0);
    assert!(messages.compact(ids[3].index, "zero to three"));
    a.snapshot().await.expect("something new");
    let whole = early.bytes();
    in_time("a shorter log", async {
        while log.bytes() >= whole {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    a.shutdown().await;

    let (a, mut messages) = start("a", log, snapshots).await;
    in_time("the election", a.metrics().wait_for(|m| m.ready)).await.expect("running");
    let (b, mut others) = start("b", MemoryLog::new(), MemorySnapshots::default()).await;
    a.add_voter("b".into(), address("b").into(), None).await.expect("it answers");
    for stream in [&mut messages, &mut others] {
        let state = Bytes::from_static(b"zero to three");
        let expected = ApplyMessage::Snapshot { index: ids[3].index, state };
        assert_eq!(in_time("the capture", stream.next()).await, Some(expected));
        assert!(stream.install_if_newer(ids[3].index));
        for n in [4, 5] {
            let expected = ApplyMessage::Command { id: ids[n], command: Bytes::from(n.to_string()) };
            assert_eq!(in_time("a command", stream.next()).await, Some(expected));
        }
        assert!(!stream.install_if_newer(ids[3].index), "something newer was read");
    }
    for raft in [a, b] {
        raft.shutdown().await;
    }
    assert_eq!(messages.next().await, None);
}
