use std::time::Duration;

use raft_types::{Configuration, EntryId, Server, Term};

use crate::Config;
use crate::core::{Entry, EntryKind, HardState, Input, Persisted, SnapshotMeta};

use super::*;

/// `b` of three voters, in term 5 with two entries, of which one is known to be committed.
struct Follower {
    core: RaftCore,
    now: Time,
    tokens: u64,
}

impl Follower {
    fn new() -> Self {
        let members = ["a", "b", "c"].map(|id| Server::voter(id, format!("{id}:1"))).to_vec();
        let entry = |index, kind| Entry::new(EntryId::new(5, index), kind, bytes::Bytes::new());
        let persisted = Persisted {
            hard_state: HardState { term: Term(5), ..HardState::default() },
            snapshot: None,
            base: EntryId::default(),
            entries: vec![
                entry(1, EntryKind::Configuration(Configuration::new(members))),
                entry(2, EntryKind::Noop),
            ],
            commit: LogIndex::ZERO,
        };
        let (me, config) = (Peer::new("b", "b:1"), Config::default());
        let core = RaftCore::restore(me, &config, 1, Time::ZERO, persisted, &mut Vec::new());
        let mut follower = Self { core: core.expect("a sound disk"), now: Time::from_millis(1), tokens: 0 };
        follower.hears("a", 5, Features::OURS);
        follower.learns(1);
        follower
    }

    fn step(&mut self, input: Input) -> Vec<Effect> {
        let mut effects = Vec::new();
        self.core.step(self.now, input, &mut effects);
        let write = effects.iter().find_map(|effect| match effect {
            Effect::Persist(write) => Some(write.id),
            _ => None,
        });
        if let Some(through) = write {
            self.core.step(self.now, Input::Persisted { through }, &mut effects);
        }
        effects
    }

    fn asked(&mut self, from: &str, request: Request) -> Vec<Effect> {
        self.tokens += 1;
        let reply = ReplyToken(self.tokens);
        let from = Peer::new(from, format!("{from}:1"));
        self.step(Input::Request { from, request, reply, regard: None })
    }

    fn hears(&mut self, leader: &str, term: u64, features: Features) -> Vec<Effect> {
        self.asked(leader, Request::Heartbeat { term: Term(term), features })
    }

    /// The leader tells the commit index.
    fn learns(&mut self, commit: u64) -> Vec<Effect> {
        let (prev, commit) = (EntryId::new(5, 2), LogIndex(commit));
        self.asked("a", Request::Append { term: Term(5), prev, entries: Vec::new(), commit })
    }

    fn read(&mut self, request: u64) -> Vec<Effect> {
        self.step(Input::Read { request: RequestId(request) })
    }

    fn answer(&mut self, sequence: Sequence, index: Option<u64>) -> Vec<Effect> {
        let response = Response::ReadIndex { term: Term(5), index: index.map(LogIndex) };
        self.step(Input::Response { from: "a".into(), sequence, response })
    }
}

fn sent(effects: &[Effect]) -> Option<Sequence> {
    effects.iter().find_map(|effect| match effect {
        Effect::Send { to, sequence, request: Request::ReadIndex, .. } => {
            assert_eq!(to.id, "a".into(), "the leader is asked");
            Some(*sequence)
        }
        _ => None,
    })
}

fn ended(effects: &[Effect]) -> Vec<(u64, Outcome)> {
    let outcome = |effect: &Effect| match effect {
        Effect::Resolve { request, outcome } => Some((request.0, outcome.clone())),
        _ => None,
    };
    effects.iter().filter_map(outcome).collect()
}

fn served(request: u64, index: u64) -> (u64, Outcome) {
    (request, Outcome::Read { index: LogIndex(index) })
}

fn refused(request: u64, refusal: Refusal) -> (u64, Outcome) {
    (request, Outcome::Refused(refusal))
}

#[test]
fn a_read_is_served_once_what_the_leader_had_committed_is_here() {
    let mut follower = Follower::new();
    let asked = sent(&follower.read(1)).expect("asked at once");
    assert_eq!(ended(&follower.answer(asked, Some(2))), [], "it is not known to be committed here");
    assert_eq!(ended(&follower.learns(2)), [served(1, 2)]);
    assert_eq!(ended(&follower.answer(asked, Some(2))), [], "the answer came before");
}

#[test]
fn reads_that_come_while_a_request_is_on_its_way_share_the_next_one() {
    let mut follower = Follower::new();
    let first = sent(&follower.read(1)).expect("asked at once");
    assert_eq!(sent(&follower.read(2)), None);
    assert_eq!(sent(&follower.read(3)), None);
    let effects = follower.answer(first, Some(1));
    assert_eq!(ended(&effects), [served(1, 1)]);
    let second = sent(&effects).expect("for both");
    assert_eq!(ended(&follower.answer(first, Some(1))), [], "an old answer confirms nothing");
    assert_eq!(ended(&follower.answer(second, Some(1))), [served(2, 1), served(3, 1)]);
}

#[test]
fn a_leader_that_does_not_say_that_it_knows_the_call_is_not_asked() {
    let mut follower = Follower::new();
    follower.hears("a", 5, Features(0));
    let effects = follower.read(1);
    assert_eq!(sent(&effects), None);
    let leader = Peer::new("a", "a:1");
    assert_eq!(ended(&effects), [refused(1, Refusal::ReadNotSpoken { leader })]);
    // What the last leader could do says nothing of the next.
    let mut follower = Follower::new();
    let term = Term(6);
    let prev = EntryId::new(5, 2);
    follower.asked("c", Request::Append { term, prev, entries: Vec::new(), commit: LogIndex(1) });
    let leader = Peer::new("c", "c:1");
    assert_eq!(ended(&follower.read(1)), [refused(1, Refusal::ReadNotSpoken { leader })]);
}

#[test]
fn every_read_ends_when_the_leader_says_no_changes_or_is_not_reached() {
    let no = Refusal::ReadUnconfirmed;
    let mut follower = Follower::new();
    let asked = sent(&follower.read(1)).expect("asked");
    follower.read(2);
    let effects = follower.answer(asked, None);
    assert_eq!(ended(&effects), [refused(1, no.clone())]);
    let asked = sent(&effects).expect("the second waited for its own request");
    let effects = follower.step(Input::SendFailed { to: "a".into(), sequence: asked });
    assert_eq!((ended(&effects), sent(&effects)), (vec![refused(2, no)], None));

    let asked = sent(&follower.read(3)).expect("asked");
    let effects = follower.hears("c", 6, Features::OURS);
    assert_eq!(ended(&effects), [refused(3, Refusal::NotLeader { leader: None })]);
    assert_eq!(ended(&follower.answer(asked, Some(1))), [], "it ended before");
}

#[test]
fn a_read_that_nobody_answers_or_whose_index_does_not_come_ends_in_time() {
    let mut follower = Follower::new();
    let asked = sent(&follower.read(1)).expect("asked");
    follower.answer(asked, Some(9));
    follower.now = follower.now + Duration::from_millis(100);
    let lost = sent(&follower.read(2)).expect("asked");
    let limit = Config::default().election_timeout * 2;
    let mut ends = Vec::new();
    // The leader goes on: it is heard, and nothing else comes.
    for _ in 0..100 {
        follower.now = follower.now + limit / 40;
        ends.extend(ended(&follower.hears("a", 5, Features::OURS)));
    }
    assert_eq!(ends, [refused(1, Refusal::ReadUnconfirmed), refused(2, Refusal::ReadUnconfirmed)]);
    let asked = sent(&follower.read(3)).expect("a lost request keeps nobody from asking again");
    assert_eq!(ended(&follower.answer(lost, Some(1))), [], "that one is over");
    assert_eq!(ended(&follower.answer(asked, Some(1))), [served(3, 1)]);
}

#[test]
fn the_core_asks_to_be_woken_when_a_read_must_end() {
    let mut follower = Follower::new();
    let asked = sent(&follower.read(1)).expect("asked");
    follower.answer(asked, Some(9));
    for _ in 0..100 {
        follower.now = follower.core.next_wake();
        let ends = ended(&follower.step(Input::Tick));
        if !ends.is_empty() {
            assert_eq!(ends, [refused(1, Refusal::ReadUnconfirmed)]);
            assert!(follower.now <= Time::from_millis(1) + Config::default().election_timeout * 2);
            return;
        }
    }
    panic!("the read never ends");
}

#[test]
fn a_failed_store_ends_reads_in_every_state() {
    let mut follower = Follower::new();
    let asked = sent(&follower.read(1)).expect("asked");
    follower.answer(asked, Some(9));
    follower.read(2);
    follower.read(3);
    let mut ends = ended(&follower.step(Input::StorageFailed));
    ends.sort_by_key(|(request, _)| *request);
    assert_eq!(ends.iter().map(|(request, _)| *request).collect::<Vec<_>>(), [1, 2, 3]);
    assert!(ends.iter().all(|(_, outcome)| matches!(outcome, Outcome::Refused(_))));
}

#[test]
fn no_more_reads_wait_than_fit() {
    let mut follower = Follower::new();
    for request in 0..READS_MAX as u64 {
        assert_eq!(ended(&follower.read(request)), []);
    }
    assert_eq!(ended(&follower.read(1 << 40)), [refused(1 << 40, Refusal::Overloaded)]);
}

#[test]
fn who_does_not_lead_says_no_at_once() {
    let mut follower = Follower::new();
    let effects = follower.asked("c", Request::ReadIndex);
    let says_no = |effect: &Effect| {
        matches!(effect, Effect::Respond { response: Response::ReadIndex { index: None, .. }, .. })
    };
    assert!(effects.iter().any(says_no), "{effects:?}");
    assert_eq!(follower.core.leader().map(|leader| leader.id.clone()), Some("a".into()));
}

/// A snapshot may be one from outside that no quorum has: what was confirmed for the state before says nothing about it.
#[test]
fn reads_confirmed_below_an_installed_snapshot_are_not_served_from_it() {
    let mut follower = Follower::new();
    let waiting = sent(&follower.read(1)).expect("asked at once");
    assert_eq!(ended(&follower.answer(waiting, Some(2))), [], "it is not known to be committed here");
    let asked = sent(&follower.read(2)).expect("asked at once");
    let meta = SnapshotMeta {
        last: EntryId::new(5, 9),
        configuration: follower.core.configuration().clone(),
        configuration_index: LogIndex(1),
        size: 1,
    };
    let installed = follower.asked("a", Request::InstallSnapshot { term: Term(5), meta });
    assert_eq!(ended(&installed), [refused(1, Refusal::ReadUnconfirmed)]);
    assert_eq!(ended(&follower.answer(asked, Some(2))), [refused(2, Refusal::ReadUnconfirmed)]);
    let asked = sent(&follower.read(3)).expect("asked at once");
    assert_eq!(ended(&follower.answer(asked, Some(9))), [served(3, 9)]);
}

/// In a new term the state here may be one that a restore left behind until the logs are compared.
#[test]
fn a_read_is_served_once_the_log_is_known_to_be_the_leaders() {
    let mut follower = Follower::new();
    follower.learns(2);
    follower.hears("c", 6, Features::OURS);
    let effects = follower.read(1);
    let sequence = effects.iter().find_map(|effect| match effect {
        Effect::Send { sequence, request: Request::ReadIndex, .. } => Some(*sequence),
        _ => None,
    });
    let response = Response::ReadIndex { term: Term(6), index: Some(LogIndex(2)) };
    let sequence = sequence.expect("asked at once");
    let told = follower.step(Input::Response { from: "c".into(), sequence, response });
    assert_eq!(ended(&told), []);
    let (prev, entries) = (EntryId::new(5, 2), Vec::new());
    let same = follower.asked("c", Request::Append { term: Term(6), prev, entries, commit: LogIndex(2) });
    assert_eq!(ended(&same), [served(1, 2)]);
}
