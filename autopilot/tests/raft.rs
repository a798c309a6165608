//! Autopilot over real servers of ours, whose network and disks are in memory.

use std::io::{self, Read, Write};
use std::time::Duration;

use autopilot::testing::FakeApplication;
use autopilot::{
    Autopilot, Config, Configuration, KnownServer, NodeStatus, Server, ServerId, State, Supervisor, supervise,
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
