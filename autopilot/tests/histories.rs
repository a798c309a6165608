//! A thousand random histories of calls to the public interface, against an engine and an application that answer, hang,
//! panic and refuse as chance has it: every call ends, every stop completes, and nothing is left behind.

#![allow(clippy::disallowed_methods, reason = "a test starts tasks and asks the runtime's clock")]

use std::time::Duration;

use autopilot::testing::{Behaviour, FakeApplication, FakeCluster};
use autopilot::{
    Actor, Autopilot, ClusterError, Config, Instruction, Leadership, LogIndex, NodeStatus, Server, ServerId,
    Status, StoredLedger, Term, WatchedLeadership, supervise,
};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

const HISTORIES: u64 = 1_000;
const CALLS: usize = 24;
/// Far more than all deadlines of one call together.
const PATIENCE: Duration = Duration::from_secs(600);

/// A small generator (splitmix64): the histories must be the same in every run.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    fn server(&mut self) -> ServerId {
        format!("n{}", self.below(6) + 1).as_str().into()
    }

    fn behaviour(&mut self) -> Behaviour {
        match self.below(6) {
            0 => Behaviour::Hang,
            1 => Behaviour::Panic,
            _ => Behaviour::Answer,
        }
    }
}

/// The world gets better or worse.
fn disturb(chance: &mut Chance, cluster: &FakeCluster, application: &FakeApplication) {
    let server = chance.server();
    match chance.below(12) {
        0 => cluster.views(chance.behaviour()),
        1 => cluster.changes(chance.behaviour()),
        2 => application.behave(chance.behaviour()),
        3 => application.status(server.as_str(), NodeStatus::Failed),
        4 => application.status(server.as_str(), NodeStatus::Alive),
        5 => cluster.silent(server.as_str(), Duration::from_secs(chance.below(100))),
        6 => cluster.in_contact(server.as_str()),
        7 => cluster.fail_next(ClusterError::OutcomeUnknown { reason: "lost".into() }),
        8 => cluster.fail_next(ClusterError::ConfigurationMoved { index: LogIndex(1) }),
        9 => application.set_config((chance.below(4) > 0).then(Config::default)),
        10 => cluster.atomic(chance.below(2) == 0),
        _ => application.fail((chance.below(2) == 0).then_some("gossip is down")),
    }
}

/// One call, with whatever answer.
async fn call(chance: &mut Chance, autopilot: &Autopilot) {
    let server = chance.server();
    let lasts = Duration::from_secs(chance.below(90));
    match chance.below(20) {
        0 => drop(autopilot.add_server(server.clone(), format!("{server}.test:8300")).await),
        1 => drop(autopilot.admit(server.clone(), "elsewhere:1", Some(chance.below(3))).await),
        2 => drop(autopilot.remove_server(server).await),
        3 => drop(autopilot.remove_dead_servers().await),
        4 => drop(autopilot.compute_state().await),
        5 => {
            if let Ok(proposal) = autopilot.plan().await {
                drop(autopilot.apply(proposal).await);
            }
        }
        6 => drop(autopilot.cordon(server, "chance").await),
        7 => drop(autopilot.uncordon(server).await),
        8 => drop(autopilot.drain(server, "chance").await),
        9 => drop(autopilot.undrain(server).await),
        10 => drop(autopilot.pause(lasts, "chance").await),
        11 => drop(autopilot.resume().await),
        12 => {
            let (starts_in, why) = (Duration::from_secs(chance.below(9)), String::from("chance"));
            let server = (chance.below(2) == 0).then_some(server);
            drop(autopilot.order(Instruction::Schedule { server, starts_in, lasts, why }).await);
        }
        13 => drop(autopilot.safe_to_stop(server).await),
        14 => drop((autopilot.audit().await, autopilot.tombstones().await)),
        15 => drop((autopilot.ledger().await, autopilot.records().await)),
        16 => drop(autopilot.voters_count().await),
        17 => match chance.below(2) {
            0 => autopilot.enable_reconciliation(),
            _ => autopilot.disable_reconciliation(),
        },
        18 => drop((autopilot.explain(&server), autopilot.server_health(&server), autopilot.hand())),
        _ => sleep(Duration::from_secs(chance.below(40))).await,
    }
}

async fn history(seed: u64) {
    let mut chance = Chance(seed);
    let servers = ["n1", "n2", "n3"].map(|id| Server::voter(id, format!("{id}.test:8300")));
    let cluster = FakeCluster::new(servers.to_vec());
    let application = FakeApplication::knowing(&["n1", "n2", "n3", "n4"]);
    let builder = Autopilot::builder(cluster.clone(), application.clone());
    let mut term = 1;
    let mut autopilot = builder.start(Term(term)).await;
    for number in 0..CALLS {
        let about = || format!("seed {seed}, call {number}");
        disturb(&mut chance, &cluster, &application);
        let several = autopilot.acting_as(Actor::named("chance"));
        match chance.below(12) {
            // Calls at once, one of them given up half way.
            0 => {
                let mut other = Chance(chance.next());
                let given_up =
                    timeout(Duration::from_millis(chance.below(3_000)), call(&mut other, &several));
                let both = async { tokio::join!(given_up, call(&mut chance, &autopilot)) };
                drop(timeout(PATIENCE, both).await.unwrap_or_else(|_| panic!("{}", about())));
            }
            // A stop while a call is under way, and the next run.
            1 => {
                let mut other = Chance(chance.next());
                let pending = tokio::spawn(async move { call(&mut other, &several).await });
                sleep(Duration::from_millis(chance.below(100))).await;
                timeout(PATIENCE, autopilot.stop()).await.unwrap_or_else(|_| panic!("{}: stop", about()));
                assert_eq!(autopilot.status(), Status::NotRunning);
                assert!(autopilot.state().is_empty() && autopilot.hand().is_empty(), "{}", about());
                timeout(PATIENCE, pending).await.unwrap_or_else(|_| panic!("{}", about())).unwrap();
                term += chance.below(2);
                cluster.edit(|view| {
                    (view.term, view.is_leader, view.leader) = (Term(term), true, Some(view.id.clone()));
                });
                let old = application.ledger().filter(|_| chance.below(2) == 0);
                let age = Duration::from_secs(chance.below(120));
                application.set_ledger(old.map(|ledger| StoredLedger { ledger, age, age_min: age }));
                let started = timeout(PATIENCE, builder.start(Term(term))).await;
                autopilot = started.unwrap_or_else(|_| panic!("{}: start", about()));
            }
            _ => {
                let called = timeout(PATIENCE, call(&mut chance, &autopilot));
                called.await.unwrap_or_else(|_| panic!("{}", about()));
            }
        }
        let voters = cluster.voters();
        assert!(!voters.is_empty(), "{}: nobody votes", about());
    }
    timeout(PATIENCE, autopilot.stop()).await.unwrap_or_else(|_| panic!("seed {seed}: the last stop"));
    assert_eq!(autopilot.status(), Status::NotRunning);
}

#[tokio::test(start_paused = true)]
async fn no_history_of_calls_ends_in_a_deadlock() {
    for seed in 0..HISTORIES {
        history(seed).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_supervisor_follows_whatever_leadership_does() {
    for seed in 0..100 {
        let mut chance = Chance(seed);
        let cluster = FakeCluster::new(vec![Server::voter("n1", "n1.test:8300")]);
        let application = FakeApplication::knowing(&["n1"]);
        let (leadership, watched) = watch::channel(Leadership::Follower);
        let builder = Autopilot::builder(cluster.clone(), application.clone());
        let supervisor = supervise(WatchedLeadership::from(watched), builder);
        for term in 1..10 {
            disturb(&mut chance, &cluster, &application);
            leadership.send_replace(match chance.below(3) {
                0 => Leadership::Follower,
                _ => Leadership::Leader { term: Term(term) },
            });
            sleep(Duration::from_millis(chance.below(5_000))).await;
        }
        let last = supervisor.current();
        timeout(PATIENCE, supervisor.stop()).await.unwrap_or_else(|_| panic!("seed {seed}"));
        assert!(last.is_none_or(|last| last.status() == Status::NotRunning), "seed {seed}");
    }
}
