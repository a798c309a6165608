//! What the handle promises: observers, figures, tunables, recovery, and that every call ends.
#![allow(clippy::disallowed_methods, reason = "tests may start tasks")]
#![allow(missing_docs, reason = "a test")]

mod cluster_support;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use cluster_support::{Cluster, Gate, GatedMachine, Journal, address, lines};
use raft::core::{Peer, Regard, Request, Sequence, Write};
use raft::storage::{
    DataDirectory, LogOptions, LogStore, MemoryLog, MemorySnapshots, Recovered, StorageError,
};
use raft::transport::{Inbox, MemoryNetwork, MemoryTransport, SnapshotState, Transport};
use raft::{
    Applied, Config, Configuration, LogIndex, Observation, ProposeError, Raft, ReadError, ReloadError, Role,
    Server, ServerAddress, ServerId, Suffrage, compat, recovery,
};
use tokio::task::JoinSet;

/// Ends a test that hangs; nothing is expected to take that long.
const PATIENCE: Duration = Duration::from_secs(60);

async fn in_time<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("{what} never ended"))
}

#[tokio::test]
async fn observers_see_what_happens_and_only_what_they_asked_for() {
    let config = Config { trailing_logs: 0, ..Config::default() };
    let mut cluster = Cluster::new(&["a", "b", "c"], config).await;
    let mut everything = cluster.nodes[0].raft.observe(|_| true);
    let mut roles = cluster.nodes[0].raft.observe(|seen| matches!(seen, Observation::Role { .. }));
    let one = Configuration::new(vec![Server::voter("a", address("a"))]);
    cluster.nodes[0].raft.bootstrap(one.clone()).await.expect("a fresh cluster");
    let a = cluster.leader().await.raft.clone();
    let mut saw = Vec::new();
    a.add_voter("b".into(), address("b").into(), None).await.expect("a leader");
    a.snapshot().await.expect("something new");
    // Not there before, so it needs the snapshot.
    a.add_nonvoter("c".into(), address("c").into(), None).await.expect("a leader");
    cluster.wait_for("catching up", |node| node.raft.metrics().borrow().commit_index >= LogIndex(4)).await;
    a.remove_server("c".into(), None).await.expect("a leader");
    cluster.network.isolate(address("b"));
    while !saw.iter().any(|o| matches!(o, Observation::ContactFailed { .. })) {
        saw.push(in_time("the observation", everything.next()).await.expect("running"));
    }

    let has = |what: &str, wanted: &dyn Fn(&Observation) -> bool| {
        assert!(saw.iter().any(wanted), "{what} is missing: {saw:#?}");
    };
    has("leading", &|o| matches!(o, Observation::Role { role: Role::Leader, .. }));
    has("the leader", &|o| matches!(o, Observation::Leader { leader: Some(peer) } if peer.id == "a".into()));
    has("being ready", &|o| matches!(o, Observation::Ready { .. }));
    let first = Observation::Configuration { index: LogIndex(1), configuration: one };
    has("the first configuration", &|o| *o == first);
    let b = Observation::PeerAdded { server: Server::nonvoter("b", address("b")) };
    has("the second server", &|o| *o == b);
    let voter = |server: &Server| {
        server.id == "b".into() && server.suffrage == Suffrage::Voter && server.incarnation.0 > 0
    };
    has("its vote", &|o| matches!(o, Observation::PeerChanged { server } if voter(server)));
    let c = Observation::PeerRemoved { server: Server::nonvoter("c", address("c")) };
    has("the removal", &|o| *o == c);
    has("the snapshot", &|o| matches!(o, Observation::SnapshotTaken { .. }));
    has("sending it", &|o| matches!(o, Observation::SnapshotSent { to } if *to == "c".into()));
    has("the silence", &|o| *o == Observation::ContactFailed { id: "b".into() });
    let times = saw.iter().filter(|o| matches!(o, Observation::ContactFailed { .. })).count();
    assert_eq!(times, 1, "once until it answers again");
    assert_eq!(everything.dropped(), 0);

    cluster.network.heal();
    cluster.nodes.truncate(2);
    cluster.leader().await;
    a.shutdown().await;
    let mut count = 0;
    while let Some(seen) = in_time("the stream", roles.next()).await {
        assert!(matches!(seen, Observation::Role { .. }), "{seen:?}");
        count += 1;
    }
    assert!(count >= 2, "a candidate, then the leader");
    assert!(a.observe(|_| true).next().await.is_none(), "a stopped server has nothing to tell");
}

#[tokio::test]
async fn a_slow_observer_misses_the_oldest_and_learns_how_many() {
    let cluster = Cluster::bootstrapped(&["a"], Config { trailing_logs: 0, ..Config::default() }).await;
    let raft = &cluster.nodes[0].raft;
    let mut slow = raft.observe(|_| true);
    for _ in 0..300 {
        raft.propose("x").await.expect("a leader");
        raft.snapshot().await.expect("something new");
    }
    assert!(slow.next().await.is_some());
    assert!(slow.dropped() >= 300 - 256, "{}", slow.dropped());
}

#[tokio::test]
async fn figures_have_the_keys_and_formats_of_the_original() {
    let cluster = Cluster::bootstrapped(&["a", "b", "c"], Config::default()).await;
    let leader = cluster.leader().await;
    leader.raft.propose("x").await.expect("a leader");
    cluster.wait_for("replication", |node| lines(node) == ["x"]).await;
    let follower = cluster.nodes.iter().find(|node| node.id != leader.id).expect("three servers");
    cluster.wait_for("metrics", |node| node.raft.stats().applied_index >= LogIndex(3)).await;

    let stats = leader.raft.stats();
    assert_eq!((stats.role, stats.num_peers, stats.last_contact), (Role::Leader, 2, Some(Duration::ZERO)));
    let map = stats.to_map();
    let keys: Vec<&str> = map.keys().copied().collect();
    assert_eq!(
        keys,
        [
            "applied_index",
            "commit_index",
            "fsm_pending",
            "last_contact",
            "last_log_index",
            "last_log_term",
            "last_snapshot_index",
            "last_snapshot_term",
            "latest_configuration",
            "latest_configuration_index",
            "num_peers",
            "protocol_version",
            "protocol_version_max",
            "protocol_version_min",
            "snapshot_version_max",
            "snapshot_version_min",
            "state",
            "term",
        ]
    );
    assert_eq!((map["state"].as_str(), map["last_contact"].as_str()), ("Leader", "0"));
    assert_eq!((map["num_peers"].as_str(), map["protocol_version"].as_str()), ("2", "3"));
    assert_eq!(
        map["latest_configuration"],
        "[{Suffrage:Voter ID:a Address:a:1} {Suffrage:Voter ID:b Address:b:1} {Suffrage:Voter ID:c Address:c:1}]"
    );
    let map = follower.raft.stats().to_map();
    assert_eq!(map["state"], "Follower");
    assert!(map["last_contact"].ends_with('s') && map["last_contact"] != "0", "{}", map["last_contact"]);
    follower.raft.shutdown().await;
    assert_eq!(follower.raft.stats().to_map()["state"], "Shutdown");
}

#[tokio::test]
async fn only_a_leader_with_a_quorum_is_verified() {
    let cluster = Cluster::bootstrapped(&["a", "b", "c"], Config::default()).await;
    let leader = cluster.leader().await;
    leader.raft.verify_leader().await.expect("a quorum answers");
    let follower = cluster.nodes.iter().find(|node| node.id != leader.id).expect("three servers");
    assert!(matches!(follower.raft.verify_leader().await, Err(ReadError::NotLeader { .. })));
    cluster.network.isolate(address(leader.id));
    let refused = in_time("the verification", leader.raft.verify_leader()).await;
    assert!(matches!(refused, Err(ReadError::NotLeader { .. })), "{refused:?}");
}

#[tokio::test]
async fn tunables_change_while_the_server_runs() {
    let cluster = Cluster::bootstrapped(&["a"], Config::default()).await;
    let raft = &cluster.nodes[0].raft;
    for n in 0..20 {
        raft.propose(format!("{n}")).await.expect("a leader");
    }
    assert_eq!(raft.stats().last_snapshot.index, LogIndex::ZERO);
    let before = raft.reloadable_config();
    let invalid = raft::ReloadableConfig { election_timeout: before.heartbeat_interval, ..before.clone() };
    let refused = raft.reload_config(invalid).await;
    assert!(
        matches!(&refused, Err(ReloadError::Config(error)) if error.name == "election_timeout"),
        "{refused:?}"
    );
    assert_eq!(raft.reloadable_config(), before, "nothing was changed");

    let wanted = raft::ReloadableConfig { snapshot_threshold: 10, trailing_logs: 3, ..before };
    raft.reload_config(wanted.clone()).await.expect("in bounds");
    assert_eq!(raft.reloadable_config(), wanted);
    raft.propose("one more").await.expect("a leader");
    cluster.wait_for("a snapshot", |node| node.raft.stats().last_snapshot.index > LogIndex(10)).await;
    raft.shutdown().await;
    assert_eq!(raft.reload_config(wanted).await, Err(ReloadError::Stopped));
}

#[tokio::test]
async fn the_election_timeout_stays_while_leases_rest_on_it() {
    let cluster = Cluster::bootstrapped(&["a"], Config { lease_reads: true, ..Config::default() }).await;
    let raft = &cluster.nodes[0].raft;
    let before = raft.reloadable_config();
    let longer = raft::ReloadableConfig { election_timeout: 2 * before.election_timeout, ..before.clone() };
    let refused = raft.reload_config(longer).await;
    assert!(
        matches!(&refused, Err(ReloadError::Config(error)) if error.name == "election_timeout"),
        "{refused:?}"
    );
    raft.reload_config(raft::ReloadableConfig { trailing_logs: 1, ..before })
        .await
        .expect("no lease rests on it");
}

struct GatedLog(MemoryLog, Gate);

impl LogStore for GatedLog {
    fn recover(&mut self) -> Result<Recovered, StorageError> {
        self.0.recover()
    }

    fn write(&mut self, writes: &[Write]) -> Result<(), StorageError> {
        self.1.pass();
        self.0.write(writes)
    }
}

/// A transport that, once it hangs, never carries anything nor says so.
struct Hanging(MemoryTransport, Arc<AtomicBool>);

impl Transport for Hanging {
    fn start(&self, local: Peer, inbox: Inbox) {
        self.0.start(local, inbox);
    }

    fn local_address(&self) -> ServerAddress {
        self.0.local_address()
    }

    fn send(&self, to: &Peer, sequence: Sequence, request: Request, regard: Regard) {
        if !self.1.load(Ordering::Relaxed) {
            self.0.send(to, sequence, request, regard);
        }
    }

    fn send_snapshot(
        &self,
        to: &Peer,
        sequence: Sequence,
        request: Request,
        regard: Regard,
        state: SnapshotState,
    ) {
        if !self.1.load(Ordering::Relaxed) {
            self.0.send_snapshot(to, sequence, request, regard, state);
        }
    }

    fn retain(&self, members: &[ServerId]) {
        self.0.retain(members);
    }

    fn shutdown(&self) {}
}

/// A leader whose disk, state machine and transport can be made to hang.
struct Fragile {
    raft: Raft,
    disk: Gate,
    machine: Gate,
    hanging: Arc<AtomicBool>,
    _others: Vec<Raft>,
}

async fn fragile(others: &[&str]) -> Fragile {
    let network = MemoryNetwork::new();
    let (disk, machine, hanging) = (Gate::default(), Gate::default(), Arc::<AtomicBool>::default());
    let raft = Raft::builder("a", GatedMachine(Journal::default(), machine.clone()))
        .log_store(GatedLog(MemoryLog::new(), disk.clone()))
        .snapshots(MemorySnapshots::default())
        .transport(Hanging(network.transport(address("a")), Arc::clone(&hanging)))
        .start()
        .await
        .expect("a server starts");
    let mut running = Vec::new();
    let mut members = vec![Server::voter("a", address("a"))];
    for id in others {
        members.push(Server::voter(*id, address(id)));
        let other = Raft::builder(*id, Journal::default())
            // They vote and never campaign in the time of a test.
            .config(Config {
                election_timeout: Duration::from_secs(60),
                disk_stall_limit: Duration::from_secs(60),
                ..Config::default()
            })
            .log_store(MemoryLog::new())
            .snapshots(MemorySnapshots::default())
            .transport(network.transport(address(id)))
            .start()
            .await
            .expect("a server starts");
        running.push(other);
    }
    raft.bootstrap(Configuration::new(members)).await.expect("a fresh cluster");
    in_time("the election", raft.metrics().wait_for(|metrics| metrics.ready)).await.expect("running");
    raft.propose("before").await.expect("a leader");
    Fragile { raft, disk, machine, hanging, _others: running }
}

/// Kinds of calls.
const KINDS: usize = 14;

/// One of every kind of call; each tells only that it ended.
fn every_call(calls: &mut JoinSet<&'static str>, raft: &Raft) {
    macro_rules! call {
        ($name:literal, $raft:ident => $call:expr) => {{
            let $raft = raft.clone();
            calls.spawn(async move {
                let _ = $call.await;
                $name
            });
        }};
    }
    call!("propose", r => r.propose("x"));
    call!("submit", r => r.submit("x"));
    call!("barrier", r => r.barrier());
    call!("linearizable_read", r => r.linearizable_read());
    call!("verify_leader", r => r.verify_leader());
    call!("add_nonvoter", r => r.add_nonvoter("z".into(), "z:1".into(), None));
    call!("add_voter", r => r.add_voter("y".into(), "y:1".into(), None));
    call!("remove_server", r => r.remove_server("z".into(), None));
    call!("snapshot", r => r.snapshot());
    call!("transfer_leadership", r => r.transfer_leadership(None));
    call!("bootstrap", r => r.bootstrap(Configuration::new(vec![Server::voter("a", "a:1")])));
    call!("lease_read", r => r.lease_read());
    call!("change_membership", r => r.change_membership(Vec::new(), None));
    call!("reload_config", r => r.reload_config(r.reloadable_config()));
}

async fn all_end(mut calls: JoinSet<&'static str>) {
    let mut ended = Vec::new();
    in_time("a call", async {
        while let Some(call) = calls.join_next().await {
            ended.push(call.expect("no panic"));
        }
    })
    .await;
    assert!(ended.len() >= KINDS && ended.len().is_multiple_of(KINDS), "{ended:?}");
}

#[tokio::test]
async fn stopping_ends_with_a_disk_that_hangs() {
    let fragile = fragile(&[]).await;
    fragile.disk.set(true);
    let mut calls = JoinSet::new();
    every_call(&mut calls, &fragile.raft);
    every_call(&mut calls, &fragile.raft);
    tokio::task::yield_now().await;
    in_time("stopping", fragile.raft.shutdown()).await;
    all_end(calls).await;
    fragile.disk.set(false);
}

#[tokio::test]
async fn stopping_ends_with_a_state_machine_that_hangs() {
    let fragile = fragile(&[]).await;
    fragile.machine.set(true);
    let stuck = tokio::spawn({
        let raft = fragile.raft.clone();
        async move { raft.propose("stuck").await }
    });
    let committed = fragile.raft.metrics().borrow().commit_index;
    let mut metrics = fragile.raft.metrics();
    in_time("the commit", metrics.wait_for(|m| m.commit_index > committed)).await.expect("running");
    let mut calls = JoinSet::new();
    every_call(&mut calls, &fragile.raft);
    tokio::task::yield_now().await;
    in_time("stopping", fragile.raft.shutdown()).await;
    all_end(calls).await;
    let stuck = in_time("the stuck proposal", stuck).await.expect("no panic").expect_err("never applied");
    assert!(stuck.may_be_applied(), "{stuck}: it was committed");
    fragile.machine.set(false);
}

#[tokio::test]
async fn calls_end_and_stopping_too_with_a_transport_that_hangs() {
    let fragile = fragile(&["b", "c"]).await;
    fragile.hanging.store(true, Ordering::Relaxed);
    let mut calls = JoinSet::new();
    every_call(&mut calls, &fragile.raft);
    let refused = in_time("the proposal", fragile.raft.propose("x")).await;
    assert!(refused.is_err(), "without a quorum nothing is committed: {refused:?}");
    in_time("stopping", fragile.raft.shutdown()).await;
    all_end(calls).await;
}

#[tokio::test]
async fn a_state_machine_that_panics_stops_the_server_aloud() {
    let fragile = fragile(&[]).await;
    let mut observer = fragile.raft.observe(|seen| matches!(seen, Observation::StorageFailed { .. }));
    let lost = in_time("the proposal", fragile.raft.propose("panic")).await.expect_err("never applied");
    assert!(lost.may_be_applied(), "{lost}");
    let told = in_time("the observation", observer.next()).await;
    assert!(
        matches!(&told, Some(Observation::StorageFailed { reason }) if reason.contains("panicked")),
        "{told:?}"
    );
    in_time("the metrics", fragile.raft.metrics().wait_for(|m| m.storage_failed)).await.expect("running");
    let mut calls = JoinSet::new();
    every_call(&mut calls, &fragile.raft);
    all_end(calls).await;
    in_time("stopping", fragile.raft.shutdown()).await;
}

/// Proposes to leaders that are cut off until one of them cannot say what became of it.
async fn until_unknown(cluster: &Cluster) -> Vec<(String, Result<Applied, ProposeError>)> {
    let mut outcomes = Vec::new();
    loop {
        let leader = cluster.leader().await;
        cluster.network.isolate(address(leader.id));
        let data = format!("cut off {}", outcomes.len());
        let proposal = tokio::spawn({
            let (raft, data) = (leader.raft.clone(), data.clone());
            async move { raft.propose(data).await }
        });
        let others = cluster.nodes.iter().filter(|node| node.id != leader.id);
        while !others.clone().any(|node| node.raft.metrics().borrow().ready) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        cluster.network.heal();
        let outcome = proposal.await.expect("no panic");
        let unknown = outcome == Err(ProposeError::OutcomeUnknown);
        outcomes.push((data, outcome));
        if unknown {
            return outcomes;
        }
    }
}

/// Catalogue R19: leaders are cut off and a server stops while hundreds of calls wait.
#[tokio::test]
async fn every_call_ends_once_and_says_truly_whether_it_was_applied() {
    let config = Config { snapshot_threshold: 40, trailing_logs: 5, ..Config::default() };
    let cluster = Cluster::bootstrapped(&["a", "b", "c"], config).await;
    let mut proposals = JoinSet::new();
    let mut calls = JoinSet::new();
    let mut number = 0;
    let mut fire = |cluster: &Cluster| {
        for _ in 0..20 {
            for node in &cluster.nodes {
                let (raft, data) = (node.raft.clone(), format!("proposal {number}"));
                number += 1;
                proposals.spawn(async move { (data.clone(), raft.propose(data).await) });
            }
        }
        for node in &cluster.nodes {
            every_call(&mut calls, &node.raft);
        }
    };
    let mut first = None;
    for round in 0..4 {
        let leader = cluster.leader().await;
        first.get_or_insert(leader.id);
        fire(&cluster);
        tokio::time::sleep(Duration::from_millis(round)).await;
        cluster.network.isolate(address(leader.id));
        fire(&cluster);
        tokio::time::sleep(Duration::from_millis(600)).await;
        cluster.network.heal();
    }
    let cut_off = in_time("an unknown outcome", until_unknown(&cluster)).await;
    let stopped = cluster.leader().await;
    fire(&cluster);
    stopped.raft.shutdown().await;
    fire(&cluster);
    all_end(calls).await;

    let mut outcomes = Vec::new();
    in_time("a proposal", async {
        while let Some(outcome) = proposals.join_next().await {
            outcomes.push(outcome.expect("no panic"));
        }
    })
    .await;
    assert_eq!(outcomes.len(), number);
    outcomes.extend(cut_off);
    let stopped = stopped.id;
    let mut cluster = cluster;
    cluster.nodes.retain(|node| node.id != stopped);
    let raft = cluster.leader().await.raft.clone();
    raft.propose("the end").await.expect("two of three");
    cluster.wait_for("the end", |node| lines(node).iter().any(|line| line == "the end")).await;
    let applied = lines(&cluster.nodes[0]);
    let (mut done, mut refused, mut unknown) = (0, 0, 0);
    for (data, outcome) in outcomes {
        let times = applied.iter().filter(|line| **line == data).count();
        match outcome {
            Ok(_) => {
                assert_eq!(times, 1, "{data} was acknowledged");
                done += 1;
            }
            Err(error) if !error.may_be_applied() => {
                assert_eq!(times, 0, "{data}: {error}, and yet it was applied");
                refused += 1;
            }
            Err(error) => {
                assert!(times <= 1, "{data}: {error}, and it was applied {times} times");
                assert_eq!(error, ProposeError::OutcomeUnknown);
                unknown += 1;
            }
        }
    }
    assert!(done > 0 && refused > 0 && unknown > 0, "{done} done, {refused} refused, {unknown} unknown");
}

#[tokio::test]
async fn one_of_three_servers_goes_on_alone_after_recovery() {
    let dir = tempfile::tempdir().expect("a directory");
    let network = MemoryNetwork::new();
    let start = |id: &'static str, network: MemoryNetwork| {
        let mut data = DataDirectory::open(dir.path().join(id)).expect("a directory");
        let recovered = recovery::recover_from_file(
            &mut data,
            &id.into(),
            LogOptions::default(),
            2,
            &mut Journal::default(),
        )
        .expect("a good file or none");
        async move {
            let journal = Journal::default();
            let commands = Arc::clone(&journal.0);
            let raft = Raft::builder(id, journal)
                .log_store(data.log(LogOptions::default()).expect("a log"))
                .snapshots(data.snapshots(2).expect("snapshots"))
                .transport(network.transport(address(id)))
                .start()
                .await
                .expect("a server starts");
            (raft, commands, recovered)
        }
    };
    let mut servers = Vec::new();
    for id in ["a", "b", "c"] {
        servers.push(start(id, network.clone()).await.0);
    }
    let three = ["a", "b", "c"].map(|id| Server::voter(id, address(id)));
    servers[0].bootstrap(Configuration::new(three.to_vec())).await.expect("a fresh cluster");
    let mut leader = 0;
    for n in 0..30 {
        if n == 29 {
            // What two of two acknowledge is on the disk of the one that will be recovered.
            servers[2].shutdown().await;
        }
        loop {
            match servers[leader].propose(format!("{n}")).await {
                Ok(_) => break,
                // Possibly applied twice, which the comparison below forgives.
                Err(_) => leader = (leader + 1) % 3,
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    for server in servers {
        server.shutdown().await;
    }

    let file = dir.path().join("a").join(recovery::PEERS_FILE);
    std::fs::write(&file, r#"[{"id": "a", "address": "a:1"}]"#).expect("a file");
    let network = MemoryNetwork::new();
    let (a, commands, recovered) = start("a", network.clone()).await;
    assert!(recovered.is_some() && !file.exists());
    in_time("the election", a.metrics().wait_for(|metrics| metrics.ready)).await.expect("running");
    let expected: Vec<String> = (0..30).map(|n| n.to_string()).collect();
    let content = |commands: &Mutex<Vec<Bytes>>| -> Vec<String> {
        let mut all = commands.lock().expect("not poisoned").clone();
        all.dedup();
        all.iter().map(|line| String::from_utf8_lossy(line).into_owned()).collect()
    };
    assert_eq!(content(&commands), expected);
    assert_eq!(a.configuration().configuration.servers().len(), 1);

    // A cleared server joins and receives everything.
    std::fs::remove_dir_all(dir.path().join("b")).expect("it was there");
    let (b, commands, _) = start("b", network).await;
    a.add_voter("b".into(), address("b").into(), None).await.expect("a leader");
    let end = a.propose("after").await.expect("a leader").id.index;
    in_time("catching up", b.metrics().wait_for(|m| m.applied_index >= end)).await.expect("running");
    assert_eq!(content(&commands), [expected, vec!["after".to_owned()]].concat());
    for server in [a, b] {
        server.shutdown().await;
    }
}

#[tokio::test]
async fn servers_can_be_added_and_removed_by_address_alone() {
    let cluster = Cluster::new(&["a:1", "b:1", "c:1"], Config::default()).await;
    let one = Configuration::new(vec![Server::voter("a:1", address("a:1"))]);
    cluster.nodes[0].raft.bootstrap(one).await.expect("a fresh cluster");
    let raft = cluster.leader().await.raft.clone();
    let at = |id: &str| ServerAddress::from(address(id));
    let voters = || -> Vec<ServerAddress> {
        raft.configuration().configuration.voters().map(|server| server.address.clone()).collect()
    };
    let added = compat::add_peer(&raft, at("b")).await.expect("a leader");
    assert_eq!(compat::add_peer(&raft, at("b")).await, Ok(added), "once is enough");
    assert_eq!(voters(), [at("a"), at("b")]);
    assert!(raft.configuration().configuration.is_voter(&"b:1".into()), "the id is the address");
    compat::set_peers(&raft, &[at("a"), at("c")]).await.expect("a leader");
    assert_eq!(voters(), [at("a"), at("c")]);
    compat::remove_peer(&raft, &at("c")).await.expect("a leader");
    let same = compat::remove_peer(&raft, &at("x")).await.expect("nothing to do");
    assert_eq!(same, raft.configuration().index);
    assert_eq!(voters(), [at("a")]);
}
