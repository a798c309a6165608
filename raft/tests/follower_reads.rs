//! Linearizable reads on servers that do not lead, through the handle.
#![cfg(feature = "tokio")]
#![allow(clippy::disallowed_methods, reason = "tests may start tasks")]

mod cluster_support;

use std::time::Duration;

use cluster_support::{Cluster, Node, address, lines};
use raft::transport::{TcpOptions, TcpTransport};
use raft::{Config, Configuration, Raft, ReadError, Server};
use tokio::time::timeout;

fn followers<'a>(cluster: &'a Cluster, leader: &Node) -> Vec<&'a Node> {
    cluster.nodes.iter().filter(|node| node.id != leader.id).collect()
}

/// Reads until it is told something else than that the leader is not known well enough yet.
async fn read(raft: &Raft) -> Result<raft::LogIndex, ReadError> {
    let settled = async {
        loop {
            match raft.linearizable_read().await {
                Err(ReadError::NotLeader { leader: None } | ReadError::NotSpoken { .. }) => {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                other => return other,
            }
        }
    };
    timeout(Duration::from_secs(30), settled).await.expect("every read ends")
}

#[tokio::test]
async fn a_follower_shows_what_was_acknowledged_before_it_was_asked() {
    let cluster = Cluster::bootstrapped(&["a", "b", "c"], Config::default()).await;
    let leader = cluster.leader().await;
    for follower in followers(&cluster, leader) {
        read(&follower.raft).await.expect("it knows the leader");
    }
    for number in 0..50 {
        let applied = leader.raft.propose(format!("{number}")).await.expect("a leader");
        for follower in followers(&cluster, leader) {
            let index = follower.raft.linearizable_read().await.expect("the leader answers");
            assert!(index >= applied.id.index);
            assert_eq!(lines(follower).len(), number + 1, "what was just acknowledged is here");
        }
    }
}

#[tokio::test]
async fn a_non_voter_reads_and_a_server_without_a_leader_says_so() {
    let mut cluster = Cluster::bootstrapped(&["a", "b", "c"], Config::default()).await;
    let fresh = cluster.start("d", Default::default(), Default::default()).await;
    assert_eq!(fresh.raft.linearizable_read().await, Err(ReadError::NotLeader { leader: None }));
    let leader = cluster.leader().await.raft.clone();
    leader.add_nonvoter("d".into(), address("d").into(), None).await.expect("a leader");
    leader.propose("x").await.expect("a leader");
    read(&fresh.raft).await.expect("it follows the leader");
    assert_eq!(lines(&fresh), ["x"]);
    cluster.nodes.push(fresh);
}

#[tokio::test]
async fn reads_end_when_the_leader_is_cut_off_with_those_who_ask_it() {
    let cluster = Cluster::bootstrapped(&["a", "b", "c", "d", "e"], Config::default()).await;
    let old = cluster.leader().await;
    let beside = followers(&cluster, old)[0];
    read(&beside.raft).await.expect("it knows the leader");
    for other in followers(&cluster, old).into_iter().filter(|node| node.id != beside.id) {
        for here in [old, beside] {
            cluster.network.cut(address(here.id), address(other.id));
            cluster.network.cut(address(other.id), address(here.id));
        }
    }
    let refused = timeout(Duration::from_secs(30), beside.raft.linearizable_read()).await.expect("it ends");
    assert!(
        matches!(refused, Err(ReadError::Unconfirmed | ReadError::NotLeader { .. })),
        "nobody confirms anything here: {refused:?}"
    );
    cluster.network.heal();
    cluster.leader().await.raft.propose("x").await.expect("a leader");
    while read(&beside.raft).await.is_err() {}
    assert_eq!(lines(beside), ["x"]);
}

#[tokio::test]
async fn a_follower_that_stops_tells_its_readers() {
    let cluster = Cluster::bootstrapped(&["a", "b", "c"], Config::default()).await;
    let leader = cluster.leader().await;
    let follower = followers(&cluster, leader)[0].raft.clone();
    read(&follower).await.expect("it knows the leader");
    // Answers do not come back, so that reads wait.
    cluster.network.cut(address(leader.id), address(follower.id().as_str()));
    let waiting: Vec<_> = (0..20)
        .map(|_| {
            let follower = follower.clone();
            tokio::spawn(async move { follower.linearizable_read().await })
        })
        .collect();
    tokio::task::yield_now().await;
    follower.shutdown().await;
    for read in waiting {
        let ended = timeout(Duration::from_secs(30), read).await.expect("it ends").expect("no panic");
        assert!(ended.is_err());
    }
}

#[tokio::test]
async fn followers_read_over_tcp() {
    let mut servers = Vec::new();
    for id in ["a", "b", "c"] {
        let transport = TcpTransport::bind("127.0.0.1:0", TcpOptions::default()).await.expect("a port");
        let journal = cluster_support::Journal::default();
        let commands = journal.0.clone();
        let raft = Raft::builder(id, journal)
            .config(Config { election_timeout: Duration::from_secs(1), ..Config::default() })
            .log_store(raft::storage::MemoryLog::new())
            .snapshots(raft::storage::MemorySnapshots::default())
            .transport(transport)
            .start()
            .await
            .expect("it starts");
        servers.push((raft, commands));
    }
    let members =
        servers.iter().map(|(raft, _)| Server::voter(raft.id().as_str(), raft.address().as_str())).collect();
    servers[0].0.bootstrap(Configuration::new(members)).await.expect("fresh");
    for number in 0..20 {
        // Whoever leads takes the command; everybody then shows it.
        let proposed = async {
            loop {
                for (raft, _) in &servers {
                    if raft.propose(format!("{number}")).await.is_ok() {
                        return;
                    }
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(Duration::from_secs(30), proposed).await.expect("some server leads");
        for (raft, commands) in &servers {
            while read(raft).await.is_err() {}
            assert!(commands.lock().expect("not poisoned").len() > number);
        }
    }
}
