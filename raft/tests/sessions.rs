//! Sessions over whole servers.
#![allow(missing_docs, reason = "a test")]

mod cluster_support;

use std::time::Duration;

use bytes::Bytes;
use cluster_support::{Commands, Journal, address};
use raft::sessions::{Session, SessionError, SessionRequest, SessionResponse, SessionStateMachine};
use raft::storage::{MemoryLog, MemorySnapshots};
use raft::transport::MemoryNetwork;
use raft::{Configuration, Raft, Server};

/// Ends a test that hangs; nothing is expected to take that long.
const PATIENCE: Duration = Duration::from_secs(60);

async fn in_time<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("{what} never ended"))
}

async fn three(network: &MemoryNetwork) -> Vec<(Raft, Commands)> {
    let mut servers = Vec::new();
    for id in ["a", "b", "c"] {
        let journal = Journal::default();
        let commands = journal.0.clone();
        let raft = Raft::builder(id, SessionStateMachine::new(journal))
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
async fn a_request_takes_effect_once_through_changes_of_leader() {
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
