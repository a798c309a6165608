//! Sessions over whole servers.
#![allow(missing_docs, reason = "a test")]

mod cluster_support;

use std::collections::BTreeSet;
use std::io::{self, Read};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use cluster_support::{Commands, Journal, address};
use raft::core::Entry;
use raft::sessions::{Session, SessionError, SessionRequest, SessionResponse, SessionStateMachine};
use raft::storage::{MemoryLog, MemorySnapshots};
use raft::transport::MemoryNetwork;
use raft::{Configuration, Raft, Server, SnapshotWriter, StateMachine};

/// Ends a test that hangs; nothing is expected to take that long.
const PATIENCE: Duration = Duration::from_secs(60);

async fn in_time<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("{what} never ended"))
}

async fn three(network: &MemoryNetwork) -> Vec<(Raft, Commands)> {
    three_with(network, SessionStateMachine::new).await
}

async fn three_with<S: StateMachine>(
    network: &MemoryNetwork,
    machine: impl Fn(Journal) -> S,
) -> Vec<(Raft, Commands)> {
    let mut servers = Vec::new();
    for id in ["a", "b", "c"] {
        let journal = Journal::default();
        let commands = journal.0.clone();
        let raft = Raft::builder(id, machine(journal))
            .log_store(MemoryLog::new())
            .snapshots(MemorySnapshots::default())
            .transport(network.transport(address(id)))
            .start()
            .await
            .expect("a server starts");
        servers.push((raft, commands));
    }
    let members = ["a", "b", "c"].map(|id| Server::voter(id, address(id)));
    servers[0].0.bootstrap(Configuration::new(members.to_vec())).await.expect("a fresh cluster");
    servers
}

async fn leader(servers: &[(Raft, Commands)]) -> Raft {
    let find = async {
        loop {
            if let Some((raft, _)) = servers.iter().find(|(raft, _)| raft.metrics().borrow().ready) {
                return raft.clone();
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    in_time("an election", find).await
}

/// Sends a request to one leader after the other, `to` first; counts the unknown outcomes and mends the network after
/// each failure.
async fn send(
    request: &SessionRequest<'_>,
    to: &Raft,
    servers: &[(Raft, Commands)],
    network: &MemoryNetwork,
    unknown: &mut usize,
) -> SessionResponse {
    let mut to = to.clone();
    let sending = async {
        loop {
            match request.send(&to).await {
                Ok(response) => return response,
                Err(SessionError::Propose(error)) => {
                    *unknown += usize::from(error.may_be_applied());
                    network.heal();
                    tokio::time::sleep(Duration::from_millis(5)).await;
                    to = leader(servers).await;
                }
                Err(other) => panic!("{other}"),
            }
        }
    };
    in_time("a request", sending).await
}

/// Catalogue R23: the same request goes to every leader there is until one answers.
#[tokio::test]
async fn r23_a_request_takes_effect_once_through_changes_of_leader() {
    let network = MemoryNetwork::new();
    let servers = three(&network).await;
    let mut session = Session::open(&leader(&servers).await).await.expect("a leader");
    let mut unknown = 0;
    for n in 0..12 {
        let request = session.request(format!("{n}"));
        let to = leader(&servers).await;
        if n % 3 == 1 {
            // Nothing comes back to the leader: the followers have the command, and its client does not know.
            for id in ["a", "b", "c"] {
                network.cut(address(id), to.address().clone());
            }
        }
        let response = send(&request, &to, &servers, &network, &mut unknown).await;
        assert_eq!(response.response, n.to_string(), "the journal's answer is the command's place in it");
        let again = send(&request, &to, &servers, &network, &mut unknown).await;
        assert_eq!(again.response, response.response, "asked again, it answers the same");
    }
    assert!(unknown > 0, "the outcome was unknown now and then");
    let expected: Vec<Bytes> = (0..12).map(|n: u32| n.to_string().into()).collect();
    let end = session.request("the end");
    let to = leader(&servers).await;
    let end = send(&end, &to, &servers, &network, &mut unknown).await.id.index;
    for (raft, commands) in &servers {
        in_time("agreement", raft.metrics().wait_for(|m| m.applied_index >= end)).await.expect("running");
        assert_eq!(commands.lock().expect("not poisoned")[..12], expected);
        assert_eq!(commands.lock().expect("not poisoned").len(), 13);
    }
}

/// Sees every command on its way to the state machine, as a proxy sees requests on their way to the leader.
struct Tap<S>(S, Arc<Mutex<Vec<Entry>>>);

impl<S: StateMachine> StateMachine for Tap<S> {
    fn apply(&mut self, commands: &[Entry]) -> Vec<Bytes> {
        self.1.lock().expect("not poisoned").extend(commands.iter().cloned());
        self.0.apply(commands)
    }

    fn snapshot(&self) -> SnapshotWriter {
        self.0.snapshot()
    }

    fn restore(&mut self, state: &mut dyn Read) -> io::Result<()> {
        self.0.restore(state)
    }
}

/// Catalogue R23, a proxy: every request reaches the leader three times at once, and everything that ever passed comes again
/// later, also after a change of leader.
#[tokio::test]
async fn r23_requests_that_a_proxy_repeats_and_delays_take_effect_once() {
    let network = MemoryNetwork::new();
    let passed = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&passed);
    let servers =
        three_with(&network, move |journal| Tap(SessionStateMachine::new(journal), Arc::clone(&seen))).await;
    let mut session = Session::open(&leader(&servers).await).await.expect("a leader");
    for n in 0..8 {
        let to = leader(&servers).await;
        let request = session.request(format!("{n}"));
        let answers = tokio::join!(request.send(&to), request.send(&to), request.send(&to));
        for answer in [answers.0, answers.1, answers.2] {
            assert_eq!(answer.expect("a leader").response, n.to_string(), "the place of the command");
        }
        if n % 4 == 3 {
            in_time("a change of leader", to.transfer_leadership(None)).await.expect("a live voter");
        }
        let earlier: Vec<Entry> = passed.lock().expect("not poisoned").clone();
        let to = leader(&servers).await;
        for entry in earlier {
            let late = to.propose_with(entry.data, entry.extensions);
            // It opens a session, or repeats, or is overtaken: what it does to the state is looked at below.
            in_time("a late request", late).await.expect("a leader");
            passed.lock().expect("not poisoned").clear();
        }
    }
    let to = leader(&servers).await;
    let end = in_time("the end", to.barrier()).await.expect("a leader");
    for (raft, commands) in &servers {
        in_time("agreement", raft.metrics().wait_for(|m| m.applied_index >= end.index))
            .await
            .expect("running");
        let expected: Vec<Bytes> = (0..8).map(|n: u32| n.to_string().into()).collect();
        assert_eq!(*commands.lock().expect("not poisoned"), expected);
    }
}

/// What the sessions are for: without them the same clients do apply commands twice.
#[tokio::test]
async fn without_a_session_a_command_that_is_tried_again_may_be_applied_twice() {
    let network = MemoryNetwork::new();
    let servers = three_with(&network, |journal| journal).await;
    let mut twice = false;
    for n in 0..20 {
        let mut to = leader(&servers).await;
        for id in ["a", "b", "c"] {
            network.cut(address(id), to.address().clone());
        }
        while in_time("a command", to.propose(format!("{n}"))).await.is_err() {
            network.heal();
            tokio::time::sleep(Duration::from_millis(5)).await;
            to = leader(&servers).await;
        }
        to.barrier().await.expect("a leader");
        let index = servers.iter().position(|(raft, _)| raft.id() == to.id()).expect("one of them");
        let applied = servers[index].1.lock().expect("not poisoned").clone();
        twice = applied.iter().collect::<BTreeSet<_>>().len() < applied.len();
        if twice {
            break;
        }
    }
    assert!(twice, "the story of the test above comes about");
}
