//! Many commands share one sync: what becomes of them when it fails (catalogue D02).
#![cfg(feature = "tokio")]
#![allow(clippy::disallowed_methods, reason = "tests may start tasks")]
#![allow(missing_docs, reason = "a test")]

mod cluster_support;

use std::collections::BTreeSet;
use std::time::Duration;

use cluster_support::{Gate, Journal, address};
use raft::core::{EntryKind, Write};
use raft::storage::{LogStore, MemoryLog, MemorySnapshots, Recovered, StorageError};
use raft::testing::{Faults, Faulty, Operation};
use raft::transport::MemoryNetwork;
use raft::{Config, Configuration, ProposeError, Raft, Server};
use tokio::task::JoinSet;

/// Ends a test that hangs; nothing is expected to take that long.
const PATIENCE: Duration = Duration::from_secs(60);

/// A log behind a gate, so that what comes meanwhile shares the next write.
struct Gated(Faulty<MemoryLog>, Gate);

impl LogStore for Gated {
    fn recover(&mut self) -> Result<Recovered, StorageError> {
        self.0.recover()
    }

    fn write(&mut self, writes: &[Write]) -> Result<(), StorageError> {
        self.1.pass();
        self.0.write(writes)
    }
}

/// The commands that a log holds.
fn commands(log: &MemoryLog) -> BTreeSet<String> {
    let entries = log.clone().recover().expect("memory").entries;
    let commands = entries.iter().filter(|entry| entry.kind == EntryKind::Command);
    commands.map(|entry| cluster_support::text(&entry.data)).collect()
}

/// One sync of many fails, once, and the next would succeed. Everybody whose command was in it, or behind it, is told that it
/// is not known to be applied; nobody is acknowledged by a later one.
#[tokio::test]
async fn d02_whoever_waits_for_a_sync_that_failed_is_told_and_no_later_one_acknowledges() {
    for spared in 0..4 {
        let (faults, gate, log) = (Faults::new(), Gate::default(), MemoryLog::new());
        let journal = Journal::default();
        let raft = Raft::builder("a", journal.clone())
            .config(Config { append_entries_max: 8, ..Config::default() })
            .log_store(Gated(faults.store(log.clone()), gate.clone()))
            .snapshots(MemorySnapshots::default())
            .transport(MemoryNetwork::new().transport(address("a")))
            .start()
            .await
            .expect("a server starts");
        let one = Configuration::new(vec![Server::voter("a", address("a"))]);
        raft.bootstrap(one).await.expect("a fresh cluster");
        raft.metrics().wait_for(|metrics| metrics.ready).await.expect("running");
        raft.propose("before").await.expect("a leader");

        faults.fail(Operation::Write, spared);
        let mut waiting = JoinSet::new();
        for wave in 0..6 {
            // All of a wave is in one write, behind the one that is held up.
            gate.set(true);
            for n in 0..20 {
                let raft = raft.clone();
                let command = format!("{wave}.{n}");
                waiting.spawn(async move { (command.clone(), raft.propose(command).await) });
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
            gate.set(false);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let mut acknowledged = BTreeSet::from(["before".to_owned()]);
        let (mut refused, mut total) = (0, 121);
        let all = async {
            while let Some(done) = waiting.join_next().await {
                let (command, outcome) = done.expect("no panic");
                match outcome {
                    Ok(_) => drop(acknowledged.insert(command)),
                    Err(ProposeError::OutcomeUnknown) => refused += 1,
                    Err(error) => {
                        assert!(!error.may_be_applied(), "{error}");
                        refused += 1;
                    }
                }
            }
        };
        tokio::time::timeout(PATIENCE, all).await.expect("every waiter is answered");
        // On a slow machine all of them may have been in fewer writes.
        while faults.failed() == 0 {
            match raft.propose(format!("more {total}")).await {
                Ok(_) => drop(acknowledged.insert(format!("more {total}"))),
                Err(_) => refused += 1,
            }
            total += 1;
        }
        assert_eq!(faults.failed(), 1, "the sync failed once, and none was tried after it");
        let durable = commands(&log);
        assert!(acknowledged.is_subset(&durable), "{:?}", acknowledged.difference(&durable));
        assert_eq!(acknowledged.len() + refused, total);
        assert!(refused > 0);
        assert_eq!(durable, acknowledged, "nothing was written after the failure");
        assert!(raft.metrics().borrow().storage_failed);
        raft.propose("after").await.expect_err("the disk is working again, the server is not");
        let applied: BTreeSet<String> =
            journal.0.lock().expect("not poisoned").iter().map(cluster_support::text).collect();
        assert_eq!(applied, acknowledged);
        raft.shutdown().await;
    }
}
