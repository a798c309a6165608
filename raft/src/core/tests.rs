//! A few servers in one thread, messages delivered at once, disks that finish when told. The simulator goes further.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use raft_types::{Configuration, ConfigurationChange, LogIndex, Server, ServerId, Term, Time};
use rand::RngExt;

use super::*;

struct Net {
    now: Time,
    cores: BTreeMap<ServerId, RaftCore>,
    /// Servers whose disk does nothing.
    stalled: Vec<ServerId>,
    /// Snapshots that are sent do not arrive yet.
    snapshots_travel: bool,
    /// Servers that nothing reaches and that reach nothing.
    isolated: Vec<ServerId>,
    writes: Vec<(ServerId, WriteId)>,
    queue: VecDeque<(ServerId, Input)>,
    replies: BTreeMap<ReplyToken, (ServerId, Sequence, ServerId)>,
    outcomes: BTreeMap<RequestId, Outcome>,
    next: u64,
}

impl Net {
    fn new(voters: &[&str], others: &[&str]) -> Self {
        let mut cores = BTreeMap::new();
        for (seed, id) in voters.iter().chain(others).enumerate() {
            let me = Peer::new(*id, format!("{id}:1"));
            let core = RaftCore::restore(
                me,
                &Config::default(),
                seed as u64,
                Time::ZERO,
                Persisted::default(),
                &mut Vec::new(),
            );
            cores.insert(ServerId::from(*id), core.expect("an empty disk"));
        }
        let mut net = Self {
            now: Time::ZERO,
            cores,
            stalled: Vec::new(),
            snapshots_travel: false,
            isolated: Vec::new(),
            writes: Vec::new(),
            queue: VecDeque::new(),
            replies: BTreeMap::new(),
            outcomes: BTreeMap::new(),
            next: 1,
        };
        let servers = voters.iter().map(|id| Server::voter(*id, format!("{id}:1"))).collect();
        let configuration = Configuration::new(servers);
        let request = net.request(voters[0], |request| Input::Bootstrap { request, configuration });
        assert_eq!(net.outcomes[&request], Outcome::Bootstrapped);
        net
    }

    fn request(&mut self, at: &str, input: impl FnOnce(RequestId) -> Input) -> RequestId {
        let request = RequestId(self.next);
        self.next += 1;
        self.queue.push_back((at.into(), input(request)));
        self.run();
        request
    }

    fn propose(&mut self, at: &str) -> RequestId {
        self.request(at, |request| Input::Propose {
            request,
            commands: vec![(Bytes::from_static(b"x"), Bytes::new())],
        })
    }

    fn change(&mut self, at: &str, change: ConfigurationChange) -> RequestId {
        self.request(at, |request| Input::Change { request, change, expected: None })
    }

    fn run(&mut self) {
        while let Some((id, input)) = self.queue.pop_front() {
            let mut effects = Vec::new();
            self.cores.get_mut(&id).expect("a server").step(self.now, input, &mut effects);
            for effect in effects {
                self.perform(&id, effect);
            }
        }
    }

    fn perform(&mut self, id: &ServerId, effect: Effect) {
        match effect {
            Effect::Persist(write) if self.stalled.contains(id) => self.writes.push((id.clone(), write.id)),
            Effect::Persist(write) => {
                self.queue.push_back((id.clone(), Input::Persisted { through: write.id }));
            }
            Effect::Send { request: Request::InstallSnapshot { .. }, .. } if self.snapshots_travel => {}
            Effect::Send { to, sequence, request, regard } => {
                let cut = self.isolated.contains(id) || self.isolated.contains(&to.id);
                if cut || !self.cores.contains_key(&to.id) {
                    self.queue.push_back((id.clone(), Input::SendFailed { to: to.id, sequence }));
                    return;
                }
                let reply = ReplyToken(self.next);
                self.next += 1;
                self.replies.insert(reply, (id.clone(), sequence, to.id.clone()));
                let from = Peer::new(id.as_str(), format!("{id}:1"));
                self.queue.push_back((to.id, Input::Request { from, request, reply, regard: Some(regard) }));
            }
            Effect::Respond { reply, response } => {
                let (to, sequence, from) = self.replies.remove(&reply).expect("asked once");
                self.queue.push_back((to, Input::Response { from, sequence, response }));
            }
            Effect::Ignore { reply } => {
                let (to, sequence, from) = self.replies.remove(&reply).expect("asked once");
                self.queue.push_back((to, Input::SendFailed { to: from, sequence }));
            }
            Effect::Commit { through } => {
                self.queue.push_back((id.clone(), Input::Applied { index: through }));
            }
            Effect::Restore { meta } => {
                self.queue.push_back((id.clone(), Input::Applied { index: meta.last.index }));
            }
            Effect::Resolve { request, outcome } => {
                assert!(self.outcomes.insert(request, outcome).is_none(), "each request is answered once");
            }
            Effect::Abandon { .. } | Effect::Notify(_) => {}
        }
    }

    fn pass(&mut self, millis: u64) {
        for _ in 0..millis / 10 {
            self.now = self.now + Duration::from_millis(10);
            let ids: Vec<ServerId> = self.cores.keys().cloned().collect();
            for id in ids {
                self.queue.push_back((id, Input::Tick));
            }
            self.run();
        }
    }

    fn leader(&self) -> String {
        let newest = self.cores.values().filter(|c| c.role() == Role::Leader).max_by_key(|c| c.term());
        newest.expect("a leader").me().id.to_string()
    }

    fn core(&self, id: &str) -> &RaftCore {
        &self.cores[&ServerId::from(id)]
    }
}

#[test]
fn three_servers_elect_the_bootstrapped_one_and_commit() {
    let mut net = Net::new(&["a", "b", "c"], &[]);
    net.pass(200);
    assert_eq!(net.leader(), "a");
    net.propose("a");
    for core in net.cores.values() {
        assert_eq!(core.commit_index(), net.core("a").last().index);
        assert_eq!(core.leader().map(|l| l.id.as_str()), Some("a"));
    }
}

#[test]
fn a_single_voter_commits_only_what_it_has_synced() {
    let mut net = Net::new(&["a"], &[]);
    net.pass(100);
    net.stalled.push("a".into());
    net.propose("a");
    let core = net.core("a");
    assert_eq!(core.commit_index(), core.last().index.previous());
    for (id, through) in std::mem::take(&mut net.writes) {
        net.queue.push_back((id, Input::Persisted { through }));
    }
    net.run();
    assert_eq!(net.core("a").commit_index(), net.core("a").last().index);
}

#[test]
fn a_leader_does_not_count_itself_before_its_sync() {
    let mut net = Net::new(&["a", "b", "c"], &[]);
    net.pass(200);
    net.stalled.push("a".into());
    net.isolated.push("c".into());
    net.propose("a");
    let core = net.core("a");
    assert_eq!(core.follower(&"b".into()).expect("a leader").matched, core.last());
    assert_eq!(core.commit_index(), core.last().index.previous());
}

#[test]
fn a_follower_acknowledges_only_what_it_has_synced() {
    let mut net = Net::new(&["a", "b"], &[]);
    net.pass(200);
    net.stalled.push("b".into());
    net.propose("a");
    net.pass(100);
    assert_eq!(net.core("b").last(), net.core("a").last());
    assert_eq!(net.core("a").commit_index(), net.core("a").last().index.previous());
}

#[test]
fn an_isolated_leader_steps_down_and_its_return_deposes_nobody() {
    let mut net = Net::new(&["a", "b", "c"], &[]);
    net.pass(200);
    net.isolated.push("a".into());
    net.pass(3000);
    let leader = net.leader();
    let term = net.core(&leader).term();
    assert_ne!(leader, "a");
    assert_eq!(net.core("a").role(), Role::Candidate);
    assert!(net.core("a").term() < term, "pre-vote keeps the isolated server's term");
    net.isolated.clear();
    net.pass(1000);
    assert_eq!((net.leader(), net.core(&leader).term()), (leader, term));
}

#[test]
fn nonvoters_receive_the_log_and_never_count() {
    let mut net = Net::new(&["a"], &["n"]);
    net.pass(100);
    let request = net.change("a", ConfigurationChange::AddNonvoter { id: "n".into(), address: "n:1".into() });
    assert!(matches!(net.outcomes[&request], Outcome::Changed { .. }));
    assert_eq!(net.core("n").last(), net.core("a").last());
    net.isolated.push("n".into());
    net.propose("a");
    assert_eq!(net.core("a").commit_index(), net.core("a").last().index);
}

#[test]
fn one_change_at_a_time_and_only_on_the_expected_configuration() {
    let mut net = Net::new(&["a", "b", "c"], &[]);
    net.pass(200);
    net.isolated.extend(["b".into(), "c".into()]);
    let first = net.change("a", ConfigurationChange::DemoteVoter { id: "b".into() });
    let index = net.core("a").configuration_index();
    let second = net.change("a", ConfigurationChange::DemoteVoter { id: "c".into() });
    assert!(!net.outcomes.contains_key(&first));
    assert_eq!(net.outcomes[&second], Outcome::Refused(Refusal::ChangeInProgress { index }));
    let third = net.request("a", |request| Input::Change {
        request,
        change: ConfigurationChange::DemoteVoter { id: "c".into() },
        expected: Some(LogIndex(1)),
    });
    assert_eq!(net.outcomes[&third], Outcome::Refused(Refusal::ConfigurationMoved { index }));
}

fn voter(id: &str) -> ConfigurationChange {
    ConfigurationChange::AddVoter { id: id.into(), address: format!("{id}:1").as_str().into() }
}

fn gone(id: &str) -> ConfigurationChange {
    ConfigurationChange::RemoveServer { id: id.into() }
}

fn voters(net: &Net, at: &str) -> Vec<String> {
    net.core(at).configuration().voters().map(|server| server.id.to_string()).collect()
}

/// Three voters and two caught-up non-voters.
fn three_and_two() -> Net {
    let mut net = Net::new(&["a", "b", "c"], &["d", "e"]);
    net.pass(200);
    for id in ["d", "e"] {
        net.change(
            "a",
            ConfigurationChange::AddNonvoter { id: id.into(), address: format!("{id}:1").as_str().into() },
        );
    }
    net
}

#[test]
fn several_servers_change_at_once_and_the_joint_configuration_is_left() {
    let mut net = three_and_two();
    let changes = vec![voter("d"), voter("e"), gone("a"), gone("b")];
    let request = net.request("a", |request| Input::ChangeMembership { request, changes, expected: None });
    let Outcome::Changed { index } = net.outcomes[&request] else { panic!("{:?}", net.outcomes[&request]) };
    assert_eq!(voters(&net, "c"), ["c", "d", "e"]);
    assert_eq!(net.core("c").configuration_index(), index);
    net.pass(2000);
    assert!(["c", "d", "e"].contains(&net.leader().as_str()), "the old leader is no member any more");
}

#[test]
fn while_joint_both_quorums_are_needed() {
    let mut net = three_and_two();
    // Of the new voters c, d, e only c can be reached.
    net.isolated.extend(["d".into(), "e".into()]);
    let changes = vec![voter("d"), voter("e"), gone("a"), gone("b")];
    let request = net.request("a", |request| Input::ChangeMembership { request, changes, expected: None });
    let write = net.propose("a");
    assert!(matches!(net.outcomes[&write], Outcome::Proposed { .. }));
    assert!(!net.outcomes.contains_key(&request));
    assert!(net.core("a").configuration_index() > net.core("a").commit_index());
    let second = net.change("a", ConfigurationChange::DemoteVoter { id: "b".into() });
    assert!(matches!(net.outcomes[&second], Outcome::Refused(Refusal::ChangeInProgress { .. })));
}

#[test]
fn the_next_leader_leaves_a_joint_configuration_that_it_finds() {
    let mut net = three_and_two();
    net.isolated.extend(["d".into(), "e".into()]);
    let changes = vec![voter("d"), voter("e"), gone("b")];
    let request = net.request("a", |request| Input::ChangeMembership { request, changes, expected: None });
    assert!(net.core("b").configuration().is_joint());
    net.isolated = vec!["a".into()];
    net.pass(5000);
    assert_eq!(net.outcomes[&request], Outcome::Refused(Refusal::LeadershipLost));
    let leader = net.leader();
    assert_ne!(leader, "a");
    assert_eq!(voters(&net, &leader), ["a", "c", "d", "e"]);
    assert!(!net.core(&leader).configuration().is_joint());
}

#[test]
fn servers_that_have_not_shown_that_they_understand_are_not_changed_together() {
    let mut net = Net::new(&["a", "b", "c"], &["d", "e"]);
    net.pass(200);
    let changes = vec![voter("d"), voter("e")];
    let request = net.request("a", |request| Input::ChangeMembership { request, changes, expected: None });
    assert_eq!(net.outcomes[&request], Outcome::Refused(Refusal::NotSpoken { server: "d".into() }));
}

#[test]
fn a_leader_that_removes_itself_hands_over() {
    let mut net = Net::new(&["a", "b", "c"], &[]);
    net.pass(200);
    let request = net.change("a", ConfigurationChange::RemoveServer { id: "a".into() });
    assert!(matches!(net.outcomes[&request], Outcome::Changed { .. }));
    assert_ne!(net.core("a").role(), Role::Leader);
    net.pass(50);
    assert_ne!(net.leader(), "a");
}

#[test]
fn transfer_moves_leadership_at_once_and_refuses_nonvoters() {
    let mut net = Net::new(&["a", "b", "c"], &["n"]);
    net.pass(200);
    net.change("a", ConfigurationChange::AddNonvoter { id: "n".into(), address: "n:1".into() });
    let refused = net.request("a", |request| Input::Transfer { request, to: Some("n".into()) });
    assert_eq!(net.outcomes[&refused], Outcome::Refused(Refusal::InvalidTarget));
    let request = net.request("a", |request| Input::Transfer { request, to: Some("b".into()) });
    assert_eq!(net.outcomes[&request], Outcome::Transferred);
    assert_eq!(net.leader(), "b");
}

#[test]
fn a_transfer_to_a_dead_target_fails_and_writes_go_on() {
    let mut net = Net::new(&["a", "b", "c"], &[]);
    net.pass(200);
    net.isolated.push("b".into());
    net.propose("a");
    let request = net.request("a", |request| Input::Transfer { request, to: Some("b".into()) });
    let write = net.propose("a");
    assert_eq!(net.outcomes[&write], Outcome::Refused(Refusal::TransferInProgress));
    net.pass(1000);
    assert_eq!(net.outcomes[&request], Outcome::Refused(Refusal::TransferFailed));
    let write = net.propose("a");
    assert!(matches!(net.outcomes[&write], Outcome::Proposed { .. }));
}

#[test]
fn reads_wait_for_a_quorum() {
    let mut net = Net::new(&["a", "b", "c"], &[]);
    net.pass(200);
    let served = net.request("a", |request| Input::Read { request });
    assert_eq!(net.outcomes[&served], Outcome::Read { index: net.core("a").commit_index() });
    net.isolated.extend(["b".into(), "c".into()]);
    let waiting = net.request("a", |request| Input::Read { request });
    assert!(!net.outcomes.contains_key(&waiting));
    net.pass(1000);
    assert_eq!(net.outcomes[&waiting], Outcome::Refused(Refusal::NotLeader { leader: None }));
}

/// A cluster whose members all use leases.
fn with_leases() -> Net {
    let mut net = Net::new(&["a", "b", "c"], &[]);
    for core in net.cores.values_mut() {
        core.config.lease_reads = true;
    }
    net.pass(200);
    net
}

fn lease(net: &mut Net, at: &str) -> Option<Outcome> {
    let request = net.request(at, |request| Input::LeaseRead { request });
    net.outcomes.get(&request).cloned()
}

#[test]
fn a_lease_ends_before_anybody_else_can_be_elected() {
    let mut net = with_leases();
    let Some(Outcome::LeaseRead { until, .. }) = lease(&mut net, "a") else { panic!("a lease") };
    assert!(until < net.now + Config::default().election_timeout);
    net.isolated.push("a".into());
    let term = net.core("a").term();
    loop {
        net.pass(10);
        let others_lead = net.cores.values().any(|core| core.role() == Role::Leader && core.term() > term);
        let held = matches!(lease(&mut net, "a"), Some(Outcome::LeaseRead { .. }));
        assert!(!(others_lead && held), "a lease while another leads");
        if others_lead {
            break;
        }
    }
}

#[test]
fn telling_somebody_to_campaign_ends_the_lease_for_the_term() {
    let mut net = with_leases();
    assert!(matches!(lease(&mut net, "a"), Some(Outcome::LeaseRead { .. })));
    net.isolated.push("b".into());
    let request = net.request("a", |request| Input::Transfer { request, to: Some("b".into()) });
    assert_eq!(net.outcomes[&request], Outcome::Refused(Refusal::TransferFailed));
    net.pass(100);
    assert!(matches!(lease(&mut net, "a"), Some(Outcome::Read { .. })), "asks a quorum instead");
}

#[test]
fn a_restarted_server_grants_nothing_while_a_lease_may_hold() {
    let config = Config { lease_reads: true, ..Config::default() };
    let hard_state = HardState { term: Term(1), ..HardState::default() };
    let voters = Configuration::new(["b", "c"].map(|id| Server::voter(id, format!("{id}:1"))).to_vec());
    let first = Entry::new(EntryId::new(1, 1), EntryKind::Configuration(voters), Bytes::new());
    let persisted = Persisted { hard_state, entries: vec![first], ..Persisted::default() };
    let me = Peer::new("b", "b:1");
    let mut core = RaftCore::restore(me, &config, 1, Time::ZERO, persisted, &mut Vec::new()).expect("a disk");
    let mut ask = |now: Time, transfer| {
        let request = Request::Vote { term: Term(2), last: EntryId::new(1, 1), transfer };
        let mut effects = Vec::new();
        let input =
            Input::Request { from: Peer::new("c", "c:1"), request, reply: ReplyToken(1), regard: None };
        core.step(now, input, &mut effects);
        core.hard_state().voted_for.is_some()
    };
    assert!(!ask(Time::from_millis(399), false));
    assert!(ask(Time::from_millis(399), true));
}

#[test]
fn a_forged_timeout_now_is_ignored() {
    let mut net = Net::new(&["a", "b", "c"], &[]);
    net.pass(200);
    let term = net.core("a").term();
    for (from, term) in [("c", None), ("a", Some(Term(0)))] {
        let reply = ReplyToken(u64::MAX);
        net.replies.insert(reply, ("c".into(), Sequence(u64::MAX), "b".into()));
        let from = Peer::new(from, "x:1");
        let request = Request::TimeoutNow { term };
        net.queue.push_back(("b".into(), Input::Request { from, request, reply, regard: None }));
        net.run();
    }
    assert_eq!((net.leader().as_str(), net.core("b").term()), ("a", term));
}

#[test]
fn a_fresh_member_gets_the_snapshot_when_the_log_is_gone() {
    let mut net = Net::new(&["a"], &["n"]);
    net.pass(100);
    for core in net.cores.values_mut() {
        core.config.trailing_logs = 0;
    }
    for _ in 0..5 {
        net.propose("a");
    }
    let (index, configuration) = net.core("a").configuration_at(net.core("a").commit_index());
    let meta = SnapshotMeta {
        last: net.core("a").last(),
        configuration: configuration.clone(),
        configuration_index: index,
        size: 0,
    };
    net.queue.push_back(("a".into(), Input::SnapshotTaken { meta: meta.clone() }));
    net.run();
    assert_eq!(net.core("a").term_at(LogIndex(1)), None);
    net.change("a", ConfigurationChange::AddNonvoter { id: "n".into(), address: "n:1".into() });
    assert_eq!(net.core("n").snapshot().map(|m| m.last), Some(meta.last));
    assert_eq!(net.core("n").last(), net.core("a").last());
    assert_eq!(net.core("n").configuration(), net.core("a").configuration());
}

#[test]
fn the_log_is_kept_for_a_follower_whose_snapshot_is_on_its_way() {
    let mut net = Net::new(&["a"], &["n"]);
    net.pass(100);
    for core in net.cores.values_mut() {
        core.config.trailing_logs = 0;
    }
    let snapshot = |net: &mut Net| {
        let (index, configuration) = net.core("a").configuration_at(net.core("a").commit_index());
        let meta = SnapshotMeta {
            last: EntryId { term: net.core("a").term(), index: net.core("a").commit_index() },
            configuration: configuration.clone(),
            configuration_index: index,
            size: 0,
        };
        net.queue.push_back(("a".into(), Input::SnapshotTaken { meta: meta.clone() }));
        net.run();
        meta.last.index
    };
    net.propose("a");
    let first = snapshot(&mut net);
    net.snapshots_travel = true;
    net.change("a", ConfigurationChange::AddNonvoter { id: "n".into(), address: "n:1".into() });
    assert!(net.core("a").follower(&"n".into()).expect("a leader").snapshotting);
    for _ in 0..5 {
        net.propose("a");
    }
    let second = snapshot(&mut net);
    assert!(second > first);
    assert!(
        net.core("a").term_at(first.next()).is_some(),
        "what comes after the first snapshot is still there"
    );
}

#[test]
fn a_leader_whose_disk_stalls_gives_up_and_does_not_campaign() {
    let mut net = Net::new(&["a", "b", "c"], &[]);
    net.pass(200);
    net.stalled.push("a".into());
    net.propose("a");
    let limit = u64::try_from(Config::default().disk_stall_limit.as_millis()).expect("a few seconds");
    net.pass(limit - 500);
    assert_eq!(net.leader(), "a", "a short stall is no reason");
    net.pass(5000);
    assert_eq!(net.core("a").role(), Role::Follower);
    assert_ne!(net.leader(), "a");
}

#[test]
fn a_failed_store_ends_leadership_and_silences_the_server() {
    let mut net = Net::new(&["a", "b", "c"], &[]);
    net.pass(200);
    net.queue.push_back(("a".into(), Input::StorageFailed));
    net.run();
    assert_eq!(net.core("a").role(), Role::Follower);
    let refused = net.propose("a");
    assert_eq!(net.outcomes[&refused], Outcome::Refused(Refusal::StorageFailed));
    net.pass(2000);
    assert_ne!(net.leader(), "a");
}

#[test]
fn a_restarted_follower_learns_the_commit_index_of_an_idle_leader() {
    let mut net = Net::new(&["a", "b"], &[]);
    net.pass(200);
    net.propose("a");
    let old = net.core("b");
    let persisted = Persisted {
        hard_state: old.hard_state().clone(),
        entries: old.entries(LogIndex(1), old.last().index, usize::MAX),
        ..Persisted::default()
    };
    let me = old.me().clone();
    let core = RaftCore::restore(me, &Config::default(), 9, net.now, persisted, &mut Vec::new());
    net.cores.insert("b".into(), core.expect("a whole log"));
    assert_eq!(net.core("b").commit_index(), LogIndex(0));
    net.pass(100);
    assert_eq!(net.core("b").commit_index(), net.core("a").commit_index());
}

#[test]
fn a_failed_store_silences_a_server_whose_election_timer_is_due_at_that_moment() {
    let mut net = Net::new(&["a", "b", "c"], &[]);
    net.pass(200);
    let late = net.now + Duration::from_secs(5);
    let mut effects = Vec::new();
    net.cores.get_mut(&ServerId::from("b")).expect("a server").step(late, Input::StorageFailed, &mut effects);
    assert!(!effects.iter().any(|effect| matches!(effect, Effect::Send { .. })), "{effects:?}");
    assert_eq!(net.core("b").role(), Role::Follower);
}

fn add_voter(net: &mut Net, id: &str) -> RequestId {
    let leader = net.leader();
    net.request(&leader, |request| Input::AddVoter {
        request,
        id: id.into(),
        address: format!("{id}:1").into(),
        expected: None,
    })
}

#[test]
fn a_server_that_is_no_member_gets_its_vote_once_it_has_the_log() {
    let mut net = Net::new(&["a"], &["b"]);
    net.pass(100);
    for _ in 0..50 {
        net.propose("a");
    }
    let request = add_voter(&mut net, "b");
    let index = net.core("a").configuration_index();
    assert_eq!(net.outcomes.get(&request), Some(&Outcome::Changed { index }));
    assert!(net.core("a").configuration().is_voter(&"b".into()));
    let (_, before) = net.core("a").configuration_at(index.previous());
    assert_eq!(before.server(&"b".into()).map(|s| s.suffrage), Some(raft_types::Suffrage::Nonvoter));
    assert!(net.core("b").last().index >= index);
}

/// Catalogue M06.
#[test]
fn a_server_that_never_answers_gets_no_vote_and_costs_nothing() {
    let mut net = Net::new(&["a", "b"], &["n"]);
    net.pass(200);
    net.isolated.push("n".into());
    let request = add_voter(&mut net, "n");
    let other = add_voter(&mut net, "n");
    assert!(
        matches!(net.outcomes[&other], Outcome::Refused(Refusal::ChangeInProgress { .. })),
        "one at a time"
    );
    for _ in 0..20 {
        net.pass(100);
        let before = net.core("a").commit_index();
        net.propose("a");
        assert!(net.core("a").commit_index() > before, "it never stands in the way");
    }
    let meanwhile =
        net.change("a", ConfigurationChange::AddNonvoter { id: "x".into(), address: "x:1".into() });
    assert!(matches!(net.outcomes[&meanwhile], Outcome::Changed { .. }), "other changes go on");
    assert_eq!(net.outcomes.get(&request), None);
    net.pass(3000);
    let Outcome::Refused(Refusal::NotCaughtUp { server, behind }) = &net.outcomes[&request] else {
        panic!("{:?}", net.outcomes[&request]);
    };
    assert_eq!((server.as_str(), *behind), ("n", net.core("a").last().index.0));
    assert!(!net.core("a").configuration().is_voter(&"n".into()));
    assert_eq!((net.leader(), net.core("a").term()), ("a".to_owned(), Term(2)));
}

#[test]
fn a_server_that_is_too_slow_gets_no_vote_after_ten_rounds() {
    let mut net = Net::new(&["a"], &["b"]);
    net.pass(100);
    net.stalled.push("b".into());
    let request = add_voter(&mut net, "b");
    let mut rounds = 0;
    while !net.outcomes.contains_key(&request) {
        // What comes in one round is durable there only in the next, and each is longer than an election timeout.
        let writes = std::mem::take(&mut net.writes);
        net.propose("a");
        net.pass(500);
        for (id, through) in writes {
            net.queue.push_back((id, Input::Persisted { through }));
        }
        net.run();
        rounds += 1;
        assert!(rounds < 30, "it is given up");
    }
    assert!(
        matches!(&net.outcomes[&request], Outcome::Refused(Refusal::NotCaughtUp { .. })),
        "{rounds} rounds"
    );
    assert!(rounds >= 10, "{rounds} rounds");
}

#[test]
fn catching_up_ends_with_the_leadership_or_the_membership() {
    let mut net = Net::new(&["a", "b", "c"], &["n"]);
    net.pass(200);
    net.isolated.push("n".into());
    let request = add_voter(&mut net, "n");
    net.change("a", ConfigurationChange::RemoveServer { id: "n".into() });
    assert!(matches!(net.outcomes[&request], Outcome::Refused(Refusal::ConfigurationMoved { .. })));
    let request = add_voter(&mut net, "n");
    net.isolated.push("a".into());
    net.pass(2000);
    assert_eq!(net.outcomes[&request], Outcome::Refused(Refusal::LeadershipLost));
}

/// Catalogue M15.
#[test]
fn voters_that_lag_far_behind_are_named() {
    let mut net = Net::new(&["a", "b", "c"], &["d"]);
    net.pass(200);
    let remove = |id: &str| ConfigurationChange::RemoveServer { id: id.into() };
    assert_eq!(net.core("a").lagging_voter(&[remove("b"), remove("c")]), None);
    net.change("a", ConfigurationChange::AddNonvoter { id: "d".into(), address: "d:1".into() });
    assert_eq!(net.core("a").lagging_voter(&[voter("d"), remove("c")]), None, "it has everything");
    net.isolated.extend(["c".into(), "d".into()]);
    for _ in 0..1100 {
        net.propose("a");
    }
    let core = net.core("a");
    assert_eq!(core.lagging_voter(&[remove("b")]), Some(("c".into(), 1100)), "no quorum without it");
    assert_eq!(core.lagging_voter(&[remove("c")]), None, "the others go on");
    assert_eq!(core.lagging_voter(&[voter("d"), remove("c")]), Some(("d".into(), 1100)));
}

fn restore(net: &mut Net, above: u64) -> (SnapshotMeta, RequestId) {
    let leader = net.leader();
    let begun = net.request(&leader, |request| Input::BeginRestore { request, above: LogIndex(above) });
    let Outcome::RestoreBegun { meta } = net.outcomes[&begun].clone() else {
        panic!("{:?}", net.outcomes[&begun]);
    };
    let last = meta.last;
    let request = net.request(&leader, |request| Input::RestoreStored { request, last, size: Some(7) });
    (meta, request)
}

/// Catalogue P06 and D15.
#[test]
fn a_restore_reaches_everybody_above_every_index_and_keeps_the_configuration() {
    let mut net = Net::new(&["a", "b", "c"], &["n"]);
    net.pass(200);
    net.change("a", ConfigurationChange::AddNonvoter { id: "n".into(), address: "n:1".into() });
    for above in [0, 5_000] {
        let (before, configuration) = (net.core("a").last(), net.core("a").configuration_index());
        let (meta, request) = restore(&mut net, above);
        assert_eq!(meta.last.index, LogIndex(before.index.0.max(above) + 1));
        assert_eq!(net.outcomes[&request], Outcome::Restored { last: meta.last });
        net.propose("a");
        net.pass(200);
        for core in net.cores.values() {
            assert_eq!(core.snapshot().map(|s| s.last), Some(meta.last));
            assert_eq!(core.last().index, LogIndex(meta.last.index.0 + 2), "no gap");
            assert_eq!(core.commit_index(), core.last().index);
            assert_eq!(core.configuration_index(), configuration);
            assert_eq!(core.configuration().servers().len(), 4);
        }
    }
}

#[test]
fn nothing_is_appended_read_or_changed_while_a_restore_is_under_way() {
    let mut net = Net::new(&["a", "b", "c"], &[]);
    net.pass(200);
    let last = net.core("a").last();
    let begun = net.request("a", |request| Input::BeginRestore { request, above: LogIndex(0) });
    let Outcome::RestoreBegun { meta } = net.outcomes[&begun].clone() else { panic!() };
    let refused = Outcome::Refused(Refusal::RestoreInProgress);
    let proposal = net.propose("a");
    let change = net.change("a", voter("x"));
    let transfer = net.request("a", |request| Input::Transfer { request, to: None });
    let again = net.request("a", |request| Input::BeginRestore { request, above: LogIndex(0) });
    for request in [proposal, change, transfer, again] {
        assert_eq!(net.outcomes[&request], refused);
    }
    let first = meta.last;
    let failed = net.request("a", |request| Input::RestoreStored { request, last: first, size: None });
    assert_eq!(net.outcomes[&failed], Outcome::Refused(Refusal::RestoreFailed));
    assert_eq!(net.core("a").last(), last, "nothing happened");
    net.propose("a");

    let begun = net.request("a", |request| Input::BeginRestore { request, above: LogIndex(0) });
    let Outcome::RestoreBegun { meta: second } = net.outcomes[&begun].clone() else { panic!() };
    assert!(second.last > meta.last);
    net.snapshots_travel = true;
    let late = net.request("a", |request| Input::RestoreStored { request, last: first, size: Some(7) });
    assert_eq!(net.outcomes[&late], Outcome::Refused(Refusal::RestoreFailed), "it was given up");
    let last = second.last;
    let taken = net.request("a", |request| Input::RestoreStored { request, last, size: Some(7) });
    let read = net.request("a", |request| Input::Read { request });
    assert_eq!((net.outcomes.get(&taken), net.outcomes.get(&read)), (None, None), "no quorum has it yet");
    assert!(!net.core("a").is_ready());
}

/// A leader takes a snapshot from outside and fails before anybody has it; the others go on without it.
#[test]
fn a_server_left_behind_by_a_restore_acknowledges_nothing_until_it_has_a_newer_snapshot() {
    let mut net = Net::new(&["a", "b", "c"], &[]);
    net.pass(200);
    net.isolated.push("a".into());
    let (meta, request) = restore(&mut net, 20);
    net.pass(3000);
    assert_eq!(net.outcomes[&request], Outcome::Refused(Refusal::LeadershipLost));
    let leader = net.leader();
    assert_ne!(leader, "a");
    net.isolated.clear();
    for _ in 0..30 {
        net.propose(&leader);
        net.pass(100);
        assert_eq!(net.core(&leader).follower(&"a".into()).expect("a leader").matched.index, LogIndex(0));
    }
    assert_eq!((net.leader(), net.core("a").last().term), (leader.clone(), meta.last.term));
    // What the leader has is above what was restored now.
    let core = net.core(&leader);
    let snapshot = SnapshotMeta {
        last: core.last(),
        configuration: core.configuration().clone(),
        configuration_index: core.configuration_index(),
        size: 0,
    };
    let config = Config { trailing_logs: 0, ..Config::default() };
    net.cores.get_mut(&ServerId::from(leader.as_str())).expect("a server").reload(&config);
    net.queue.push_back((leader.as_str().into(), Input::SnapshotTaken { meta: snapshot.clone() }));
    net.run();
    net.pass(1000);
    assert_eq!(net.core("a").snapshot(), Some(&snapshot));
    assert_eq!(net.core("a").last(), net.core(&leader).last());
}

#[test]
fn a_follower_whose_memory_is_full_takes_no_more_until_there_is_room() {
    let mut net = Net::new(&["a", "b"], &[]);
    net.pass(200);
    net.propose("a");
    let full = net.core("b").log_bytes();
    let config = Config { log_bytes_max: full, snapshot_threshold_bytes: full / 2, ..Config::default() };
    let b = ServerId::from("b");
    net.cores.get_mut(&b).expect("a server").reload(&config);
    let last = net.core("b").last();
    net.propose("a");
    net.pass(500);
    assert_eq!((net.core("b").last(), net.core("b").log_bytes()), (last, full));
    assert_eq!(net.core("b").commit_index(), last.index, "what is there can be applied");
    let room = Config { log_bytes_max: 2 * full, ..config };
    net.cores.get_mut(&b).expect("a server").reload(&room);
    net.pass(200);
    assert_eq!(net.core("b").last(), net.core("a").last());
    assert_eq!(net.core("a").commit_index(), net.core("a").last().index);
}

#[test]
fn a_follower_that_is_full_of_what_is_not_committed_takes_what_commits_it() {
    let mut net = Net::new(&["a", "b"], &[]);
    net.pass(200);
    let b = ServerId::from("b");
    let room = net.core("b").log_bytes() + 1;
    let config = Config { log_bytes_max: room, snapshot_threshold_bytes: room, ..Config::default() };
    net.cores.get_mut(&b).expect("a server").reload(&config);
    net.stalled.push("b".into());
    net.propose("a");
    assert!(net.core("b").log_bytes() > room && net.core("b").commit_index() < net.core("b").last().index);
    net.propose("a");
    assert_eq!(net.core("b").last(), net.core("a").last());
}

#[test]
fn a_vote_of_an_older_term_is_none_in_the_term_that_a_snapshot_brings() {
    let snapshot = SnapshotMeta { last: EntryId::new(5, 9), ..SnapshotMeta::default() };
    let hard_state = HardState { term: Term(3), voted_for: Some("b".into()), ..HardState::default() };
    let persisted = Persisted { hard_state, snapshot: Some(snapshot), ..Persisted::default() };
    let me = Peer::new("a", "a:1");
    let core = RaftCore::restore(me, &Config::default(), 1, Time::ZERO, persisted, &mut Vec::new());
    let hard_state = HardState { term: Term(5), ..HardState::default() };
    assert_eq!(core.expect("a disk").hard_state(), &hard_state);
}

#[test]
fn what_a_crash_kept_from_compaction_is_compacted_at_the_start() {
    let entry = |index| Entry {
        id: EntryId::new(1, index),
        kind: EntryKind::Noop,
        data: Bytes::new(),
        extensions: Bytes::new(),
    };
    let snapshot = SnapshotMeta { last: EntryId::new(1, 10), ..SnapshotMeta::default() };
    let hard_state = HardState { term: Term(1), ..HardState::default() };
    let entries = (1..=12).map(entry).collect();
    let persisted = Persisted { hard_state, snapshot: Some(snapshot), entries, ..Persisted::default() };
    let config = Config { trailing_logs: 2, ..Config::default() };
    let mut effects = Vec::new();
    let core = RaftCore::restore(Peer::new("a", "a:1"), &config, 1, Time::ZERO, persisted, &mut effects);
    assert_eq!(core.expect("a disk").first_index(), LogIndex(9));
    let base = Some(EntryId::new(1, 8));
    assert!(matches!(&effects[..], [Effect::Persist(write)] if write.compact_through == base), "{effects:?}");
}

#[test]
fn a_server_can_be_told_to_campaign_and_to_forget_its_leader() {
    let mut net = Net::new(&["a", "b", "c"], &[]);
    net.pass(200);
    net.queue.push_back(("b".into(), Input::Campaign));
    net.run();
    assert_eq!(net.leader(), "a", "the others hear a leader and grant no pre-vote");
    net.queue.push_back(("c".into(), Input::ForgetLeader));
    net.queue.push_back(("b".into(), Input::Campaign));
    net.run();
    assert_eq!(net.leader(), "b", "c is free to vote");
    net.queue.push_back(("b".into(), Input::ForgetLeader));
    net.queue.push_back(("b".into(), Input::Campaign));
    net.run();
    let term = net.core("b").term();
    assert_eq!((net.leader(), net.core("b").term()), ("b".to_owned(), term), "a leader goes on");
}

#[test]
fn a_status_shows_what_is_on_its_way() {
    let mut net = Net::new(&["a", "b", "c"], &[]);
    net.pass(200);
    let idle = net.core("a").status();
    assert_eq!((idle.role, idle.hard_state.voted_for), (Role::Leader, Some("a".into())));
    assert_eq!((idle.last.index, idle.commit, idle.applied), (LogIndex(2), LogIndex(2), LogIndex(2)));
    let b = idle.followers[&ServerId::from("b")];
    assert!(b.replicating && b.heard && b.matched == idle.last && b.next == idle.last.index.next());
    assert_eq!((b.requests_in_flight, b.bytes_in_flight), (0, 0));
    net.stalled.push("b".into());
    net.propose("a");
    let busy = net.core("a").status().followers[&ServerId::from("b")];
    assert!(busy.requests_in_flight >= 1 && busy.bytes_in_flight > 0, "{busy:?}");
    assert!(net.core("b").status().followers.is_empty());
}

#[test]
fn requests_on_their_way_are_limited_by_count_and_by_bytes() {
    for (count, bytes, requests) in [(3, usize::MAX, 3), (100, 100, 2)] {
        let mut net = Net::new(&["a", "b"], &[]);
        net.pass(200);
        let config = Config { inflight_max: count, inflight_bytes_max: bytes, ..Config::default() };
        net.cores.get_mut(&ServerId::from("a")).expect("a server").reload(&config);
        net.stalled.push("b".into());
        for _ in 0..10 {
            // 51 bytes each.
            let commands = vec![(Bytes::from_static(b"abc"), Bytes::new())];
            net.request("a", |request| Input::Propose { request, commands });
        }
        let view = net.core("a").status().followers[&ServerId::from("b")];
        assert_eq!(view.requests_in_flight, requests, "{view:?}");
        for _ in 0..20 {
            for (id, through) in std::mem::take(&mut net.writes) {
                net.queue.push_back((id, Input::Persisted { through }));
            }
            net.run();
        }
        assert_eq!(net.core("a").commit_index(), net.core("a").last().index);
    }
}

#[test]
fn a_leader_steps_down_after_its_own_limit_if_that_is_shorter() {
    for (limit, role) in [(None, Role::Leader), (Some(Duration::from_millis(150)), Role::Follower)] {
        let mut net = Net::new(&["a", "b", "c"], &[]);
        net.pass(200);
        let config = Config { leader_lease_timeout: limit, ..Config::default() };
        net.cores.get_mut(&ServerId::from("a")).expect("a server").reload(&config);
        net.isolated.push("a".into());
        net.pass(300);
        assert_eq!(net.core("a").role(), role);
        net.pass(1500);
        assert_ne!(net.core("a").role(), Role::Leader);
    }
}

/// Catalogue P13.
#[test]
fn a_snapshot_that_contradicts_what_is_committed_is_not_taken() {
    let mut net = Net::new(&["a", "b"], &[]);
    net.pass(200);
    net.propose("a");
    let core = net.core("b");
    let before = (core.last(), core.commit_index());
    let id = EntryId { term: Term(1), index: core.commit_index() };
    let meta =
        SnapshotMeta { last: id, configuration: core.configuration().clone(), ..SnapshotMeta::default() };
    let reply = ReplyToken(1 << 40);
    let request = Request::InstallSnapshot { term: core.term(), meta };
    let mut effects = Vec::new();
    let input = Input::Request { from: Peer::new("a", "a:1"), request, reply, regard: None };
    net.cores.get_mut(&ServerId::from("b")).expect("a server").step(net.now, input, &mut effects);
    assert!(matches!(effects[..], [Effect::Ignore { reply: to }] if to == reply), "{effects:?}");
    let core = net.core("b");
    assert_eq!(((core.last(), core.commit_index()), core.snapshot()), (before, None));
}

/// Restores, proposals, snapshots and cuts in random order. A server whose state comes from a restore that no majority has
/// may differ from the others, but acknowledges nothing to them; all others agree on everything that is committed, and
/// a restore that was answered is never lost.
#[test]
fn restores_between_cuts_cost_nothing_that_is_committed() {
    let (mut restored, mut left_behind) = (0, 0);
    for seed in 0..100 {
        let (done, behind) = restores_between_cuts(seed);
        restored += done;
        left_behind += behind;
    }
    assert!(restored > 60 && left_behind > 5, "{restored} restored, {left_behind} left behind");
}

/// Cuts a server off, heals, restores from outside, takes a snapshot, or writes.
fn cut_or_restore(
    net: &mut Net,
    at: &ServerId,
    dice: &mut Xoshiro256PlusPlus,
    asked: &mut Vec<(RequestId, EntryId)>,
) {
    match dice.random_range(0..10) {
        0 => net.isolated = vec![["a", "b", "c"][dice.random_range(0..3)].into()],
        1 => net.isolated.clear(),
        2 => {
            let above = LogIndex(dice.random_range(0..60));
            let begun = net.request(at.as_str(), |request| Input::BeginRestore { request, above });
            if let Outcome::RestoreBegun { meta } = net.outcomes[&begun].clone() {
                let last = meta.last;
                let size = dice.random_bool(0.9).then_some(1);
                let request =
                    net.request(at.as_str(), |request| Input::RestoreStored { request, last, size });
                asked.push((request, last));
            }
        }
        3 => {
            let core = &net.cores[at];
            let index = core.applied_index();
            let (configuration_index, configuration) = core.configuration_at(index);
            let last = core.term_at(index).map(|term| EntryId { term, index });
            let configuration = configuration.clone();
            if let Some(last) = last.filter(|_| index > LogIndex::ZERO) {
                let meta = SnapshotMeta { last, configuration, configuration_index, size: 1 };
                net.queue.push_back((at.clone(), Input::SnapshotTaken { meta }));
                net.run();
            }
        }
        _ => drop(net.propose(at.as_str())),
    }
}

fn restores_between_cuts(seed: u64) -> (usize, usize) {
    let ids = ["a", "b", "c"];
    let mut dice = Xoshiro256PlusPlus::seed_from_u64(seed);
    let mut net = Net::new(&ids, &[]);
    let config = Config { trailing_logs: 3, ..Config::default() };
    net.cores.values_mut().for_each(|core| core.reload(&config));
    let mut committed: BTreeMap<LogIndex, Term> = BTreeMap::new();
    let mut asked: Vec<(RequestId, EntryId)> = Vec::new();
    let (mut done, mut behind) = (LogIndex::ZERO, 0);
    for step in 0..120 {
        let leaders: Vec<ServerId> = net
            .cores
            .values()
            .filter(|core| core.role() == Role::Leader)
            .map(|core| core.me().id.clone())
            .collect();
        let at =
            leaders.get(dice.random_range(0..leaders.len().max(1))).cloned().unwrap_or_else(|| "a".into());
        cut_or_restore(&mut net, &at, &mut dice, &mut asked);
        net.pass(dice.random_range(0..60) * 10);
        for (request, last) in &asked {
            if matches!(net.outcomes.get(request), Some(Outcome::Restored { .. })) {
                done = done.max(last.index);
            }
        }
        let holders = |id: EntryId| {
            net.cores.values().filter(|core| core.snapshot().is_some_and(|meta| meta.last == id)).count()
        };
        for core in net.cores.values() {
            let snapshot = core.snapshot().map_or_else(EntryId::default, |meta| meta.last);
            let alone = asked.iter().any(|(request, last)| {
                let lost = matches!(net.outcomes.get(request), Some(Outcome::Refused(_)) | None);
                *last == snapshot && lost && holders(snapshot) < 2
            });
            if alone {
                behind += 1;
                continue;
            }
            for index in core.first_index().0.saturating_sub(1)..=core.commit_index().0 {
                let Some(term) = core.term_at(LogIndex(index)) else { continue };
                let known = *committed.entry(LogIndex(index)).or_insert(term);
                assert_eq!(known, term, "seed {seed}, step {step}: {} at {index}", core.me().id);
            }
        }
        if let Some(leader) = net.cores.values().filter(|core| core.is_ready()).max_by_key(|core| core.term())
        {
            assert!(leader.commit_index() >= done, "seed {seed}, step {step}: a restore was lost");
        }
    }
    (usize::from(done > LogIndex::ZERO), usize::from(behind > 0))
}

/// What was stored too late may be what a restart finds, which would drop the log for it.
#[test]
fn a_server_gives_no_word_that_a_restore_which_comes_too_late_would_break() {
    let mut net = Net::new(&["a", "b", "c"], &[]);
    net.pass(200);
    let begun = net.request("a", |request| Input::BeginRestore { request, above: LogIndex(0) });
    let Outcome::RestoreBegun { meta } = net.outcomes[&begun].clone() else { panic!() };
    let last = net.core("a").last();
    net.isolated.push("a".into());
    net.pass(3000);
    net.isolated.clear();
    let leader = net.leader();
    assert_ne!(leader, "a");
    let fenced = |net: &mut Net| {
        for _ in 0..10 {
            net.propose(&leader);
            net.pass(500);
            assert_eq!(net.core(&leader).follower(&"a".into()).expect("a leader").matched.index, LogIndex(0));
            assert_eq!((net.core("a").last(), net.core("a").role()), (last, Role::Follower));
        }
    };
    fenced(&mut net);
    let late = net.request("a", |request| Input::RestoreStored { request, last: meta.last, size: Some(7) });
    assert!(matches!(net.outcomes[&late], Outcome::Refused(Refusal::NotLeader { leader: Some(_) })));
    fenced(&mut net);
    net.queue.push_back(("a".into(), Input::RestoreStored { request: late, last: meta.last, size: None }));
    net.run();
    net.pass(1000);
    assert_eq!(net.core("a").last(), net.core(&leader).last(), "it is gone from the disk");
}

#[test]
fn a_restore_begins_once_nobody_may_read_by_lease() {
    let entry = Entry::new(
        EntryId::new(1, 1),
        EntryKind::Configuration(Configuration::new(vec![Server::voter("a", "a:1")])),
        Bytes::new(),
    );
    let hard_state = HardState { term: Term(1), ..HardState::default() };
    let persisted = Persisted { hard_state, entries: vec![entry], ..Persisted::default() };
    let config = Config { lease_reads: true, ..Config::default() };
    let mut effects = Vec::new();
    let mut core = RaftCore::restore(Peer::new("a", "a:1"), &config, 1, Time::ZERO, persisted, &mut effects)
        .expect("a disk");
    let mut step = |now: Time, input: Input| -> Vec<Outcome> {
        let mut effects = Vec::new();
        core.step(now, input, &mut effects);
        let mut outcomes = Vec::new();
        while let Some(effect) = (!effects.is_empty()).then(|| effects.remove(0)) {
            match effect {
                Effect::Persist(write) => {
                    core.step(now, Input::Persisted { through: write.id }, &mut effects);
                }
                Effect::Resolve { outcome, .. } => outcomes.push(outcome),
                _ => {}
            }
        }
        outcomes
    };
    let mut now = Time::ZERO;
    while now < Time::from_millis(5000) {
        now = now + Duration::from_millis(10);
        step(now, Input::Tick);
    }
    let [Outcome::LeaseRead { until, .. }] = step(now, Input::LeaseRead { request: RequestId(1) })[..] else {
        panic!("the only voter holds a lease");
    };
    assert!(until > now);
    assert_eq!(step(now, Input::BeginRestore { request: RequestId(2), above: LogIndex(0) }), []);
    let read = step(now, Input::LeaseRead { request: RequestId(3) });
    assert!(matches!(read[..], [Outcome::Read { .. }]), "no new lease: {read:?}");
    let refused = step(now, Input::Barrier { request: RequestId(4) });
    assert_eq!(refused, [Outcome::Refused(Refusal::RestoreInProgress)]);
    assert_eq!(step(until - Duration::from_nanos(1), Input::Tick), []);
    let begun = step(until, Input::Tick);
    assert!(matches!(begun[..], [Outcome::RestoreBegun { .. }]), "{begun:?}");
}

/// A restore that was lost stands above what the others did instead: a snapshot of theirs that is newer and ends earlier is on
/// the disk beside it.
#[test]
fn a_start_prefers_the_history_of_a_newer_term_to_a_restore_that_was_lost() {
    let start = |term| {
        let snapshot = SnapshotMeta {
            last: EntryId::new(term, 861),
            configuration: Configuration::new(vec![Server::voter("a", "a:1"), Server::voter("b", "b:1")]),
            configuration_index: LogIndex(1),
            size: 1,
        };
        let base = EntryId::new(25, 875);
        let entry = Entry::new(EntryId::new(25, 876), EntryKind::Noop, Bytes::new());
        let hard_state = HardState { term: Term(30), ..HardState::default() };
        let entries = vec![entry];
        let persisted =
            Persisted { hard_state, snapshot: Some(snapshot), base, entries, ..Persisted::default() };
        let mut effects = Vec::new();
        let me = Peer::new("a", "a:1");
        let core = RaftCore::restore(me, &Config::default(), 1, Time::ZERO, persisted, &mut effects);
        (core.map(|core| (core.last(), core.commit_index())), effects)
    };
    let (found, effects) = start(26);
    assert_eq!(found, Ok((EntryId::new(26, 861), LogIndex(861))));
    let resets =
        |effect: &Effect| matches!(effect, Effect::Persist(w) if w.reset_to == Some(EntryId::new(26, 861)));
    assert!(effects.iter().any(resets), "{effects:?}");
    assert!(start(25).0.is_err(), "entries are missing");
}

/// What a hashicorp/raft server sends that leads in the next term: it names nobody by number, neither as whom it means nor in
/// the configuration that it writes. It has committed so many entries after the last one here, the first of them its own.
fn lead_without_numbers(net: &mut Net, to: &[&str], committed: u64) -> Configuration {
    let last = net.core("a").last();
    let term = net.core("a").term().next();
    let servers = ["a", "b", "c", "g"].map(|id| Server::voter(id, format!("{id}:1")));
    let configuration = Configuration::new(servers.to_vec());
    let entry = |ahead: u64, kind| Entry::new(EntryId::new(term.0, last.index.0 + ahead), kind, Bytes::new());
    let entries = vec![entry(1, EntryKind::Noop), entry(2, EntryKind::Configuration(configuration.clone()))];
    for id in to {
        let reply = ReplyToken(net.next);
        net.next += 1;
        net.replies.insert(reply, ("g".into(), Sequence(1), (*id).into()));
        let commit = LogIndex(last.index.0 + committed);
        let request = Request::Append { term, prev: last, entries: entries.clone(), commit };
        let from = Peer::new("g", "g:1");
        net.queue.push_back(((*id).into(), Input::Request { from, request, reply, regard: None }));
    }
    net.run();
    configuration
}

/// A cluster that one server founded, so that the two others have numbers of their own.
fn joined_by_number() -> Net {
    let mut net = Net::new(&["a"], &["b", "c", "g"]);
    net.isolated.push("g".into());
    net.pass(200);
    for id in ["b", "c"] {
        net.request("a", |request| Input::Change {
            request,
            change: ConfigurationChange::AddVoter {
                id: id.into(),
                address: format!("{id}:1").as_str().into(),
            },
            expected: None,
        });
        net.pass(1000);
        assert!(net.core("a").configuration().is_voter(&id.into()), "{id} votes");
        assert!(!net.core(id).incarnation().is_founder(), "{id} joined");
    }
    net
}

#[test]
fn after_a_leader_without_numbers_servers_that_joined_elect_one_of_themselves() {
    let mut net = joined_by_number();
    let written = lead_without_numbers(&mut net, &["a", "b", "c"], 1);
    assert_eq!(*net.core("b").configuration(), written);
    // That leader never comes back: three of four are a quorum, and no longer without the two that joined.
    net.pass(5000);
    let leader = net.leader();
    assert!(net.core(&leader).is_ready(), "{leader} commits in its term");
    net.propose(&leader);
    assert_eq!(net.core(&leader).commit_index(), net.core(&leader).last().index);
}

#[test]
fn who_may_lack_what_a_leader_without_numbers_has_committed_keeps_its_own() {
    // What is committed is of an earlier term, so the leader may yet commit what came before its own; or is not here yet.
    for committed in [0, 3] {
        let mut net = joined_by_number();
        let written = lead_without_numbers(&mut net, &["b"], committed);
        assert_eq!(*net.core("b").configuration(), written);
        assert!(!net.core("b").incarnation().is_founder(), "{committed}");
    }
}
