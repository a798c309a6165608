//! Requests of servers that are no leader and no member, at a follower that hears its leader.

use bytes::Bytes;
use raft::core::{
    Effect, Entry, EntryKind, Features, HardState, Input, Peer, Persisted, RaftCore, ReplyToken, Request,
    Role,
};
use raft::{Config, Configuration, EntryId, LogIndex, Server, Term, Time};

/// `b` of three voters, in term 5 with two entries, right after a heartbeat of `a`.
fn follower() -> RaftCore {
    let members = ["a", "b", "c"].map(|id| Server::voter(id, format!("{id}:1"))).to_vec();
    let configuration = EntryKind::Configuration(Configuration::new(members));
    let persisted = Persisted {
        hard_state: HardState { term: Term(5), ..HardState::default() },
        entries: vec![
            Entry::new(EntryId::new(1, 1), configuration, Bytes::new()),
            Entry::new(EntryId::new(5, 2), EntryKind::Noop, Bytes::new()),
        ],
        ..Persisted::default()
    };
    let me = Peer::new("b", "b:1");
    let mut effects = Vec::new();
    let mut core = RaftCore::restore(me, &Config::default(), 1, Time::ZERO, persisted, &mut effects)
        .expect("a whole log");
    ask(&mut core, "a", Request::Heartbeat { term: Term(5), features: Features(0) });
    assert_eq!(core.leader(), Some(&Peer::new("a", "a:1")));
    core
}

fn ask(core: &mut RaftCore, from: &str, request: Request) -> Vec<Effect> {
    let mut effects = Vec::new();
    let from = Peer::new(from, format!("{from}:1"));
    core.step(Time::ZERO, Input::Request { from, request, reply: ReplyToken(1), regard: None }, &mut effects);
    effects
}

/// A campaign that skips the rule about a live leader is one that this leader asked for: the next term, by a voter.
#[test]
fn a_stranger_that_claims_a_transfer_does_not_lift_the_term() {
    let mut core = follower();
    let last = EntryId::new(1 << 61, 1 << 61);
    ask(&mut core, "stranger", Request::Vote { term: Term(1 << 62), last, transfer: true });
    assert_eq!(core.term(), Term(5));
}

/// From the last term that the wire carries no election leads on, for the next one is refused everywhere: one such
/// message would end the cluster.
#[test]
fn one_message_does_not_use_up_all_terms() {
    for from in ["stranger", "a"] {
        let mut core = follower();
        ask(&mut core, from, Request::Heartbeat { term: Term((1 << 63) - 1), features: Features(0) });
        assert!(core.term() < Term(1 << 62), "{from} lifted the term to {}", core.term());
    }
}

/// A term has one leader. Entries of another would stand where the leader's stand, under the same term and index.
#[test]
fn a_second_leader_of_the_same_term_is_not_followed() {
    let mut core = follower();
    let forged = Entry::new(EntryId::new(5, 3), EntryKind::Command, Bytes::from_static(b"forged"));
    let prev = EntryId::new(5, 2);
    let commit = LogIndex(3);
    ask(&mut core, "rival", Request::Append { term: Term(5), prev, entries: vec![forged], commit });
    assert_eq!(core.last(), prev, "the forged entry was taken");
    assert_eq!(core.leader(), Some(&Peer::new("a", "a:1")));
}

#[test]
fn a_stranger_cannot_become_the_leader_to_start_a_campaign() {
    let mut core = follower();
    ask(&mut core, "rival", Request::Heartbeat { term: Term(5), features: Features(0) });
    ask(&mut core, "rival", Request::TimeoutNow { term: Some(Term(5)) });
    assert_eq!((core.role(), core.term()), (Role::Follower, Term(5)));
}
