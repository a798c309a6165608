//! What a server makes of the disk that an interrupted write left, as the simulator found it.
#![allow(missing_docs, reason = "a test")]

use bytes::Bytes;
use raft::core::{
    Effect, Entry, EntryKind, HardState, Input, Peer, Persisted, RaftCore, Regard, ReplyToken, Request,
    SnapshotMeta, WriteId,
};
use raft::{Config, Configuration, EntryId, Incarnation, LogIndex, Server, Term, Time};

fn members(ids: &[&str]) -> Configuration {
    Configuration::new(ids.iter().map(|id| Server::voter(*id, format!("{id}:1"))).collect())
}

/// Seed 4188 of the swarm with 20,000 events: a leader's snapshot was durable, the reset of the log before it was not.
#[test]
fn a_configuration_in_a_log_that_a_newer_snapshot_replaces_does_not_count() {
    let (committed, stale) = (members(&["a", "b", "c"]), members(&["a", "b", "c", "d"]));
    let entry = |index| {
        let kind = if index == 601 { EntryKind::Configuration(stale.clone()) } else { EntryKind::Noop };
        Entry::new(EntryId::new(91, index), kind, Bytes::new())
    };
    let snapshot = SnapshotMeta {
        last: EntryId::new(127, 712),
        configuration: committed.clone(),
        configuration_index: LogIndex(273),
        size: 0,
    };
    let persisted = Persisted {
        hard_state: HardState { term: Term(126), ..HardState::default() },
        snapshot: Some(snapshot.clone()),
        base: EntryId::new(91, 587),
        entries: (588..=610).map(entry).collect(),
        commit: LogIndex(605),
    };
    let me = Peer { id: "d".into(), address: "d:1".into() };
    let mut effects = Vec::new();
    let core = RaftCore::restore(me, &Config::default(), 1, Time::ZERO, persisted, &mut effects)
        .expect("a state that a crash leaves");
    assert_eq!((core.last(), core.commit_index()), (snapshot.last, snapshot.last.index));
    assert_eq!((core.configuration_index(), core.configuration()), (LogIndex(273), &committed));
    let resets =
        |effect: &Effect| matches!(effect, Effect::Persist(write) if write.reset_to == Some(snapshot.last));
    assert!(effects.iter().any(resets), "the old log goes");
}

/// `RestoreCommittedLogs` of hashicorp/raft: a server that finds nobody applies what it knew to be committed.
#[test]
fn what_was_known_to_be_committed_is_applied_before_anybody_is_heard() {
    let restarted = |commit| {
        let entry = |index, kind| Entry::new(EntryId::new(1, index), kind, Bytes::new());
        let mut entries = vec![entry(1, EntryKind::Configuration(members(&["a", "b", "c"])))];
        entries.extend((2..=6).map(|index| entry(index, EntryKind::Command)));
        let hard_state = HardState { term: Term(1), ..HardState::default() };
        let persisted = Persisted { hard_state, entries, commit: LogIndex(commit), ..Persisted::default() };
        let mut effects = Vec::new();
        let me = Peer::new("a", "a:1");
        let core = RaftCore::restore(me, &Config::default(), 1, Time::ZERO, persisted, &mut effects)
            .expect("a sound disk");
        let told = effects.iter().find_map(|effect| match effect {
            Effect::Commit { through } => Some(through.0),
            _ => None,
        });
        (core.commit_index().0, told)
    };
    assert_eq!(restarted(4), (4, Some(4)));
    assert_eq!(restarted(0), (0, None), "a store that does not say");
    assert_eq!(restarted(9), (6, Some(6)), "no further than the log goes");
}

/// Seed 5888 of the swarm with 20,000 events: a server from an old copy learns that it lost something while its vote is being
/// written.
#[test]
fn a_vote_of_a_life_that_is_over_does_not_leave() {
    let entry =
        Entry::new(EntryId::new(1, 1), EntryKind::Configuration(members(&["a", "b", "c"])), Bytes::new());
    let hard_state = HardState { term: Term(1), ..HardState::default() };
    let persisted = Persisted { hard_state, entries: vec![entry], ..Persisted::default() };
    let mut effects = Vec::new();
    let config = Config::default();
    let mut core = RaftCore::restore(Peer::new("a", "a:1"), &config, 1, Time::ZERO, persisted, &mut effects)
        .expect("a sound disk");
    let now = Time::ZERO + config.election_timeout;
    let ask = |request, from, held, reply| Input::Request {
        from: Peer::new(from, format!("{from}:1")),
        request,
        reply: ReplyToken(reply),
        regard: Some(Regard { incarnation: Incarnation::FOUNDER, held: LogIndex(held), epoch: 0 }),
    };
    let last = EntryId::new(1, 9);
    core.step(now, ask(Request::Vote { term: Term(2), last, transfer: false }, "b", 0, 1), &mut effects);
    assert_eq!(core.hard_state().voted_for, Some("b".into()));
    core.step(now, ask(Request::PreVote { term: Term(3), last }, "c", 5, 2), &mut effects);
    assert!(!core.incarnation().is_founder(), "it held five entries once");
    core.step(now, Input::Persisted { through: WriteId(2) }, &mut effects);
    let answers = |token: u64| {
        effects
            .iter()
            .filter(move |effect| matches!(effect, Effect::Respond { reply, .. } if reply.0 == token))
            .count()
    };
    let ignored = |effect: &Effect| matches!(effect, Effect::Ignore { reply } if reply.0 == 1);
    assert_eq!((answers(1), effects.iter().filter(|effect| ignored(effect)).count()), (0, 1));
}
