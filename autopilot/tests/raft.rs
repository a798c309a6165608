//! Autopilot over real servers of ours, whose network and disks are in memory.

#![allow(clippy::disallowed_methods, reason = "a test starts a task")]

use std::io::{self, Read, Write};
use std::time::Duration;

use autopilot::testing::FakeApplication;
use autopilot::{
    Autopilot, Config, Configuration, EventKind, KnownServer, NodeStatus, Plan, RemovalPolicy, Server,
    ServerId, State, Supervisor, supervise,
};
use bytes::Bytes;
use raft::storage::{MemoryLog, MemorySnapshots};
use raft::transport::MemoryNetwork;
use raft::{Raft, SnapshotWriter, StateMachine};
use tokio::time::{sleep, timeout};

/// Keeps nothing: only membership matters here.
struct Nothing;

impl StateMachine for Nothing {
    fn apply(&mut self, commands: &[raft::core::Entry]) -> Vec<Bytes> {
        vec![Bytes::new(); commands.len()]
    }

    fn snapshot(&self) -> SnapshotWriter {
        Box::new(|_: &mut dyn Write| Ok(()))
    }

    fn restore(&mut self, _: &mut dyn Read) -> io::Result<()> {
        Ok(())
    }
}

struct Node {
    raft: Raft,
    supervisor: Supervisor,
}

async fn start(network: &MemoryNetwork, application: &FakeApplication, id: &str) -> Node {
    let raft = Raft::builder(id, Nothing)
        .log_store(MemoryLog::new())
        .snapshots(MemorySnapshots::default())
        .transport(network.transport(format!("{id}:1")))
        .start()
        .await
        .unwrap();
    let builder = Autopilot::builder(raft.clone(), application.clone())
        .update_interval(Duration::from_millis(100))
        .reconcile_interval(Duration::from_millis(200));
    let supervisor = supervise(raft.leadership(), builder);
    Node { raft, supervisor }
}

/// Waits until one of the autopilots, which runs on the leader, shows such a state.
async fn until(nodes: &[Node], what: &str, holds: impl Fn(&State) -> bool) -> (usize, Autopilot) {
    let shown = async {
        loop {
            for (number, node) in nodes.iter().enumerate() {
                if let Some(running) = node.supervisor.current()
                    && holds(&running.state())
                {
                    return (number, running);
                }
            }
            sleep(Duration::from_millis(10)).await;
        }
    };
    let states =
        || nodes.iter().filter_map(|node| Some(node.supervisor.current()?.state())).collect::<Vec<_>>();
    timeout(Duration::from_secs(60), shown).await.unwrap_or_else(|_| panic!("{what}: {:#?}", states()))
}

fn is_voter(state: &State, id: &str) -> bool {
    state.server(&ServerId::from(id)).is_some_and(|server| server.is_voter())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_joiner_votes_a_dead_voter_goes_and_leadership_takes_autopilot_along() {
    let network = MemoryNetwork::new();
    let application = FakeApplication::default();
    application.set_config(Some(Config {
        // Generous: the machine that runs the tests may be busy.
        last_contact_threshold: Duration::from_secs(3),
        server_stabilization_time: Duration::from_millis(300),
        ..Config::reference()
    }));
    let mut nodes = Vec::new();
    for id in ["n1", "n2", "n3", "n4"] {
        application.know(KnownServer::alive(id, format!("{id}:1")));
        nodes.push(start(&network, &application, id).await);
    }
    let first = ["n1", "n2", "n3"].map(|id| Server::voter(id, format!("{id}:1")));
    nodes[0].raft.bootstrap(Configuration::new(first.to_vec())).await.unwrap();

    let (leader, autopilot) = until(&nodes, "three healthy voters", |state| state.healthy).await;
    assert_eq!(autopilot.state().failure_tolerance, 1);
    assert_eq!(autopilot.voters_count().await, Ok(3));
    autopilot.add_server("n4", "n4:1").await.unwrap();
    let (_, _) = until(&nodes, "n4 votes", |state| is_voter(state, "n4")).await;

    let victim = (0..3).find(|number| *number != leader).unwrap();
    let dead = nodes[victim].raft.id().clone();
    nodes[victim].raft.shutdown().await;
    application.status(dead.as_str(), NodeStatus::Failed);
    let (leader, _) =
        until(&nodes, "the dead voter goes", |state| state.healthy && state.server(&dead).is_none()).await;
    assert_eq!(application.forgotten(), std::slice::from_ref(&dead));

    let before = nodes[leader].supervisor.current().unwrap();
    let heir = (0..4).find(|number| *number != leader && *number != victim).unwrap();
    nodes[leader].raft.transfer_leadership(Some(nodes[heir].raft.id().clone())).await.unwrap();
    let heir_id = nodes[heir].raft.id().clone();
    let moved = |state: &State| state.healthy && state.leader.as_ref() == Some(&heir_id);
    let (running_on, after) = until(&nodes, "autopilot runs on the new leader", moved).await;
    assert_eq!(running_on, heir);
    assert!(after.term() > before.term());
    for node in &nodes {
        node.supervisor.stop().await;
        node.raft.shutdown().await;
    }
    assert!(before.state().is_empty() && after.state().is_empty());
}

/// The voters of every configuration that this server comes to see, until it stops.
fn follow_voters(raft: &Raft) -> tokio::task::JoinHandle<Vec<usize>> {
    let mut metrics = raft.metrics();
    tokio::spawn(async move {
        let mut counts = Vec::new();
        loop {
            let count = metrics.borrow_and_update().configuration.voters_count();
            if counts.last() != Some(&count) {
                counts.push(count);
            }
            if metrics.changed().await.is_err() {
                return counts;
            }
        }
    })
}

/// A dead voter keeps its vote until another one is fit to vote, and hands it on in one joint change, through the driver, the
/// adapter and the engine: there are never two or four voters.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_newcomer_takes_the_vote_of_a_dead_voter_in_one_step() {
    let network = MemoryNetwork::new();
    let application = FakeApplication::default();
    let floor = RemovalPolicy { swap: true, floor_from_size: true, ..RemovalPolicy::reference() };
    application.set_config(Some(Config {
        last_contact_threshold: Duration::from_secs(3),
        server_stabilization_time: Duration::from_millis(300),
        removal: floor,
        ..Config::reference()
    }));
    let mut nodes = Vec::new();
    for id in ["n1", "n2", "n3", "n4"] {
        application.know(KnownServer::alive(id, format!("{id}:1")));
        nodes.push(start(&network, &application, id).await);
    }
    let first = ["n1", "n2", "n3"].map(|id| Server::voter(id, format!("{id}:1")));
    nodes[0].raft.bootstrap(Configuration::new(first.to_vec())).await.unwrap();
    let stable = |state: &State| state.healthy && state.stable_size == Some(3);
    let (leader, autopilot) = until(&nodes, "three stable voters", stable).await;
    let counts = follow_voters(&nodes[leader].raft);

    let victim = (0..3).find(|number| *number != leader).unwrap();
    let dead = nodes[victim].raft.id().clone();
    nodes[victim].raft.shutdown().await;
    application.status(dead.as_str(), NodeStatus::Failed);
    // Until nothing but the floor holds it.
    let held = async {
        let held =
            |plan: &Plan| plan.decisions.iter().any(|d| d.server == dead && d.reason.code() == "floor");
        while !held(&autopilot.last_plan()) || answered_lately(&autopilot.state(), &dead) {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(Duration::from_secs(60), held).await.expect("it stays while nobody votes in its place");
    autopilot.add_server("n4", "n4:1").await.unwrap();
    let replaced = |state: &State| state.healthy && is_voter(state, "n4") && state.server(&dead).is_none();
    let (_, running) = until(&nodes, "n4 votes in its place", replaced).await;
    assert_eq!(running.voters_count().await, Ok(3));
    let changes: Vec<EventKind> = running.audit().await.unwrap().iter().map(|event| event.what).collect();
    assert_eq!(changes, [EventKind::Added, EventKind::Swapped], "one step, by the leader that there was");
    let configuration = nodes[leader].raft.metrics().borrow().configuration.clone();
    assert!(!configuration.is_joint() && configuration.server(&dead).is_none());
    for node in &nodes {
        node.supervisor.stop().await;
        node.raft.shutdown().await;
    }
    drop(nodes);
    assert_eq!(counts.await.unwrap(), [3], "never two or four");
}

/// Whether the leader has heard from this server within the threshold and the time for which a server must be dead.
fn answered_lately(state: &State, id: &ServerId) -> bool {
    let contact = state.server(id).and_then(|server| server.stats.last_contact);
    contact.is_some_and(|contact| contact < Duration::from_millis(3_500))
}
