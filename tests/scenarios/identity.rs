//! Disks that come back empty or old, servers that move, clusters that were recovered apart.

use std::cell::Cell;
use std::panic::catch_unwind;

use raft::core::{EntryKind, Outcome, Refusal, Regard, Request, Response, Role, SnapshotMeta};
use raft::{ConfigurationChange, ConfigurationError, EntryId, Incarnation, LogIndex, Suffrage, Term};
use simulation::mutant::Mutant;
use simulation::options::Options;
use simulation::world::World;

use crate::{commit, other_than, seconds};

thread_local! {
    /// The defect with which the stories are told.
    static PLANTED: Cell<Option<Mutant>> = const { Cell::new(None) };
}

fn calm(voters: usize, spares: usize) -> World {
    let mut world = World::new(Options { mutant: PLANTED.get(), ..Options::calm(voters, spares) });
    world.leader();
    world
}

/// Three servers over the model of a disk, which can be copied.
fn over_models() -> World {
    World::new(Options { files: false, mutant: PLANTED.get(), ..Options::calm(3, 0) })
}

/// A leader, the follower that the story is about, and the third one.
fn three(world: &mut World) -> (usize, usize, usize) {
    let leader = world.leader();
    let subject = other_than(world, &[leader]);
    (leader, subject, other_than(world, &[leader, subject]))
}

fn leads_nobody(world: &mut World, time: u64) {
    world.run_for(seconds(time));
    assert!(!(0..world.servers.len()).any(|node| world.leads(node)), "nobody may lead");
}

/// Whether the newest configuration gives its vote to the present life of a server.
fn taken_in_anew(world: &World, leader: usize, node: usize) -> bool {
    let (id, life) = (&world.servers[node].peer.id, world.core(node).incarnation());
    !life.is_founder() && world.core(leader).configuration().is_voter_as(id, life)
}

/// What only the leader and the lost disk held must not be outvoted by the lost disk's successor and a server that lacks it.
fn nobody_is_elected_by_who_lost_its_past(mut world: World, lose: impl FnOnce(&mut World, usize)) {
    let (leader, subject, behind) = three(&mut world);
    let had = world.core(behind).last().index;
    world.crash(behind);
    commit(&mut world, leader, 1000);
    lose(&mut world, subject);
    world.start(subject);
    leads_nobody(&mut world, 5);
    assert!(!world.core(subject).incarnation().is_founder(), "it knows that it lost its past");
    world.crash(leader);
    world.start(behind);
    leads_nobody(&mut world, 10);
    assert!(world.core(behind).commit_index() <= had, "what it lacks is not replaced");
    world.start(leader);
    let leader = world.leader();
    world.wait("it is taken in anew", |world| taken_in_anew(world, leader, subject));
    world.settles();
}

#[test]
fn d12_a_wiped_voter_elects_nobody_while_others_lack_what_it_had() {
    let world = calm(3, 0);
    nobody_is_elected_by_who_lost_its_past(world, World::wipe);
}

#[test]
fn d12_a_voter_restored_from_an_old_copy_elects_nobody_while_others_lack_what_it_had() {
    let mut world = over_models();
    let (leader, subject, _) = three(&mut world);
    commit(&mut world, leader, 5);
    world.run_for(seconds(1));
    let copy = world.copy_disk(subject).expect("the model of a disk");
    nobody_is_elected_by_who_lost_its_past(world, |world, node| {
        assert_eq!(node, subject);
        world.put_back(node, copy);
    });
}

#[test]
fn d12_an_old_copy_beside_a_live_leader_is_found_out_and_taken_in_anew() {
    let mut world = over_models();
    let (leader, subject, third) = three(&mut world);
    commit(&mut world, leader, 5);
    let copy = world.copy_disk(subject).expect("the model of a disk");
    commit(&mut world, leader, 100);
    world.put_back(subject, copy);
    world.start(subject);
    world.wait("it is taken in anew", |world| taken_in_anew(world, leader, subject));
    world.crash(third);
    commit(&mut world, leader, 3);
    world.settles();
}

#[test]
fn d12_a_wiped_voter_does_not_count_and_is_taken_in_anew_by_itself() {
    let mut world = calm(3, 0);
    let (leader, subject, third) = three(&mut world);
    world.network.cut(leader, third);
    world.run_for(seconds(1));
    commit(&mut world, leader, 20);
    world.wipe(subject);
    world.start(subject);
    world.run_for(seconds(1) / 5);
    let (value, read) = (world.propose(leader), world.read(leader));
    world.run_for(seconds(5));
    assert!(!world.acknowledged(value), "one voter and one who forgot are no quorum");
    assert!(!matches!(world.workload.outcome(read), Some(Outcome::Read { .. })));
    world.network.heal();
    let leader = world.leader();
    world.wait("it is taken in anew", |world| taken_in_anew(world, leader, subject));
    let (index, voters) = {
        let core = world.core(leader);
        (core.configuration_index(), core.configuration().voters_count())
    };
    assert_eq!(voters, 3);
    world.crash(other_than(&world, &[leader, subject]));
    commit(&mut world, leader, 3);
    world.settles();
    assert_eq!(world.core(leader).configuration_index(), index, "once is enough");
}

/// A wiped server loses its vote and gets it back by two changes of one server.
#[test]
fn d12_each_life_of_a_disk_is_taken_in_once() {
    let mut world = calm(3, 0);
    let (leader, subject, _) = three(&mut world);
    let mut lives = vec![world.core(subject).incarnation()];
    for _ in 0..3 {
        commit(&mut world, leader, 3);
        world.wipe(subject);
        world.start(subject);
        world.wait("it is taken in anew", |world| {
            !lives.contains(&world.core(subject).incarnation()) && taken_in_anew(world, leader, subject)
        });
        lives.push(world.core(subject).incarnation());
    }
    world.settles();
}

#[test]
fn d12_a_founder_that_comes_late_is_taken_in() {
    let mut options = Options { mutant: PLANTED.get(), ..Options::calm(3, 0) };
    options.bootstrap_all = false;
    let mut world = World::new(options);
    world.crash(2);
    let leader = world.leader();
    commit(&mut world, leader, 3);
    world.start(2);
    commit(&mut world, leader, 3);
    world.run_for(seconds(2));
    let id = world.servers[2].peer.id.clone();
    let life = world.core(2).incarnation();
    assert!(world.core(leader).configuration().is_voter_as(&id, life));
    world.crash(other_than(&world, &[leader, 2]));
    commit(&mut world, leader, 3);
    world.settles();
}

/// Two voters, of which one was removed, wiped and added again; it has replayed the entry in which it was one of the two.
#[test]
fn m07_a_server_that_replays_history_does_not_act_on_what_its_former_life_was() {
    for pre_vote in [true, false] {
        let mut options = Options { mutant: PLANTED.get(), ..Options::calm(2, 1) };
        options.config.append_entries_max = 1;
        options.config.pre_vote = pre_vote;
        let mut world = World::new(options);
        let leader = world.leader();
        let former = 1 - leader;
        let peer = world.servers[former].peer.clone();
        let third = world.servers[2].peer.clone();
        for change in [
            ConfigurationChange::AddVoter { id: third.id, address: third.address },
            ConfigurationChange::RemoveServer { id: peer.id.clone() },
        ] {
            let request = world.change(leader, change);
            world.wait("it commits", |world| {
                matches!(world.workload.outcome(request), Some(Outcome::Changed { .. }))
            });
        }
        world.wipe(former);
        world.start(former);
        world.filter = Some(Box::new(move |from, to, request| match request {
            Request::Append { prev, .. } => to != former || prev.index == LogIndex(0),
            Request::Heartbeat { .. } => to != former,
            _ => from == former || to != former,
        }));
        let add = ConfigurationChange::AddNonvoter { id: peer.id.clone(), address: peer.address };
        world.change(leader, add);
        world.wait("it has replayed the first entry", |world| world.core(former).last().index == LogIndex(1));
        assert!(world.core(former).configuration().is_voter(&peer.id), "its former life was a voter there");
        world.isolate(former);
        let term = world.core(former).term();
        for _ in 0..100 {
            world.run_for(seconds(1) / 10);
            assert_eq!((world.core(former).role(), world.core(former).term()), (Role::Follower, term));
        }
        world.settles();
        let suffrage = world.core(leader).configuration().server(&peer.id).map(|server| server.suffrage);
        assert_eq!(suffrage, Some(Suffrage::Nonvoter));
    }
}

#[test]
fn m07_a_vote_goes_only_to_a_candidate_that_means_this_life() {
    let mut world = calm(3, 0);
    let (leader, subject, third) = three(&mut world);
    commit(&mut world, leader, 3);
    world.wipe(subject);
    world.start(subject);
    world.wait("it is taken in anew", |world| taken_in_anew(world, leader, subject));
    world.isolate(leader);
    world.run_for(seconds(1));
    let life = world.core(subject).incarnation();
    let last = world.core(subject).last();
    for (incarnation, granted) in
        [(Incarnation::FOUNDER, false), (Incarnation(life.0 ^ 1), false), (life, true)]
    {
        let term = Term(world.core(subject).term().0.max(world.core(third).term().0) + 1);
        world.said.clear();
        let regard = Regard { incarnation, ..Regard::default() };
        world.inject_as(third, subject, Request::Vote { term, last, transfer: false }, Some(regard));
        world.run_for(seconds(1) / 100);
        let said: Vec<bool> = world
            .said
            .iter()
            .filter_map(|(_, response)| match response {
                Response::Vote { granted, .. } => Some(*granted),
                _ => None,
            })
            .collect();
        assert_eq!(said, [granted], "{incarnation:?}");
        assert_eq!(world.core(subject).term() == term, granted, "a refusal changes nothing");
    }
}

#[test]
fn m12_a_server_that_moves_is_found_again_by_a_change_in_place() {
    let mut world = calm(3, 1);
    let (leader, moves, _) = three(&mut world);
    let old = world.servers[moves].peer.clone();
    world.crash(moves);
    world.readdress(moves, "elsewhere:7000");
    world.start(moves);
    // Another server now has the address that it had.
    world.crash(3);
    world.readdress(3, old.address.as_str());
    world.start(3);
    commit(&mut world, leader, 5);
    world.run_for(seconds(2));
    assert!(world.coverage["requests refused by another server"] > 0);
    assert_eq!(world.core(3).last(), EntryId::default(), "nothing that was meant for another reached it");
    assert!(world.core(moves).commit_index() < world.core(leader).commit_index());
    let taken = ConfigurationChange::AddVoter { id: "s9".into(), address: old.address };
    let refused = world.change(leader, taken);
    assert!(matches!(
        world.workload.outcome(refused),
        Some(Outcome::Refused(Refusal::Invalid(ConfigurationError::RepeatedAddress { .. })))
    ));
    let peer = world.servers[moves].peer.clone();
    let change = ConfigurationChange::AddVoter { id: peer.id.clone(), address: peer.address.clone() };
    let request = world.change(leader, change);
    world.wait("the address changes", |world| world.workload.outcome(request).is_some());
    world.settles();
    let members = world.core(leader).configuration();
    assert_eq!(members.servers().len(), 3, "no new voter");
    assert_eq!(members.server(&peer.id).map(|server| &server.address), Some(&peer.address));
}

#[test]
fn m12_two_servers_that_swap_addresses_are_not_taken_for_each_other() {
    let mut world = calm(3, 0);
    let (leader, b, c) = three(&mut world);
    commit(&mut world, leader, 5);
    let swap = |world: &mut World| {
        let (of_b, of_c) = (world.servers[b].peer.address.clone(), world.servers[c].peer.address.clone());
        for node in [b, c] {
            world.crash(node);
        }
        world.readdress(b, of_c.as_str());
        world.readdress(c, of_b.as_str());
        for node in [b, c] {
            world.start(node);
        }
    };
    swap(&mut world);
    let value = world.propose(leader);
    world.run_for(seconds(5));
    assert!(!world.acknowledged(value), "neither of them took what was meant for the other");
    assert!(world.coverage["requests refused by another server"] > 0);
    swap(&mut world);
    world.settles();
}

#[test]
fn m16_servers_of_different_epochs_do_not_listen_to_each_other() {
    let mut world = calm(3, 1);
    let (leader, follower, third) = three(&mut world);
    commit(&mut world, leader, 3);
    world.run_for(seconds(1));
    let foreign = Regard { epoch: 7, ..Regard::default() };
    let before = (world.core(follower).term(), world.core(follower).last());
    let term = Term(before.0.0 + 9);
    let meta = SnapshotMeta {
        last: EntryId::new(term.0, 99),
        configuration: world.core(leader).configuration().clone().in_epoch(7),
        configuration_index: LogIndex(99),
        size: 0,
    };
    for request in [
        Request::Heartbeat { term, features: raft::core::Features::OURS },
        Request::Append { term, prev: before.1, entries: Vec::new(), commit: LogIndex(0) },
        Request::InstallSnapshot { term, meta },
        Request::PreVote { term, last: EntryId::new(term.0, 99) },
        Request::Vote { term, last: EntryId::new(term.0, 99), transfer: true },
    ] {
        world.inject_as(third, follower, request, Some(foreign));
        world.run_for(seconds(1) / 100);
        assert_eq!((world.core(follower).term(), world.core(follower).last()), before);
    }
    assert!(world.said.is_empty(), "{:?}", world.said);
    // Whoever is of no cluster yet may join any.
    world.inject_as(
        third,
        3,
        Request::Heartbeat { term, features: raft::core::Features::OURS },
        Some(foreign),
    );
    world.run_for(seconds(1) / 100);
    assert_eq!(world.core(3).term(), term);
    assert_eq!(world.core(3).configuration().servers().len(), 0);
    world.servers[3].disk.hard_state.term = Term(0);
    world.wipe(3);
    world.settles();
}

#[test]
fn p13_a_snapshot_that_contradicts_what_is_committed_is_refused() {
    let mut options = Options { mutant: PLANTED.get(), ..Options::calm(3, 0) };
    options.snapshot_every = 10;
    options.config.trailing_logs = 3;
    let mut world = World::new(options);
    let (leader, follower, _) = three(&mut world);
    commit(&mut world, leader, 40);
    world.run_for(seconds(1));
    let core = world.core(follower);
    let (term, commit_index, last) = (core.term(), core.commit_index(), core.last());
    let own = core.snapshot().expect("one was taken").clone();
    let contradicts = |index: LogIndex| SnapshotMeta {
        last: EntryId { term: Term(term.0 - 1), index },
        configuration_index: LogIndex(1),
        ..own.clone()
    };
    for index in [commit_index, commit_index.previous(), own.last.index] {
        world.inject(leader, follower, Request::InstallSnapshot { term, meta: contradicts(index) });
        world.run_for(seconds(1) / 100);
        assert!(world.said.is_empty(), "it must not say that this is in place: {:?}", world.said);
    }
    // The same in an append request: another entry where one was compacted.
    let base = world.servers[follower].log.base;
    let entries: Vec<raft::core::Entry> = (base.index.0 - 1..=base.index.0)
        .map(|index| {
            raft::core::Entry::new(EntryId::new(term.0 - 1, index), EntryKind::Noop, Default::default())
        })
        .collect();
    let prev = EntryId::new(1, base.index.0 - 2);
    world.inject(leader, follower, Request::Append { term, prev, entries, commit: LogIndex(0) });
    world.run_for(seconds(1) / 100);
    assert!(world.said.is_empty(), "{:?}", world.said);
    assert_eq!((world.core(follower).commit_index(), world.core(follower).last()), (commit_index, last));
    world.inject(leader, follower, Request::InstallSnapshot { term, meta: own });
    assert!(matches!(world.said[..], [(_, Response::InstallSnapshot { success: true, .. })]));
    world.settles();
}

/// A leader takes a backup over that nobody else gets, and the others go on without it.
#[test]
fn d15_a_server_that_a_restore_left_behind_neither_acknowledges_nor_serves() {
    let mut world = calm(3, 0);
    let (leader, _, _) = three(&mut world);
    commit(&mut world, leader, 5);
    let number = world.back_up(leader);
    commit(&mut world, leader, 5);
    world.isolate(leader);
    let above = LogIndex(world.core(leader).last().index.0 + 20);
    world.restore_backup(leader, number, above);
    world.wait("it takes the backup over", |world| world.count("restores taken over by a leader") > 0);
    world.run_for(seconds(5));
    let next = other_than(&world, &[leader]);
    let next = if world.leads(next) { next } else { other_than(&world, &[leader, next]) };
    // The same index, so that only the terms tell the two histories apart.
    while world.core(next).commit_index() <= above {
        commit(&mut world, next, 1);
    }
    assert_eq!(world.core(next).commit_index(), above.next());
    world.filter =
        Some(Box::new(move |_, to, request| to != leader || !matches!(request, Request::Append { .. })));
    world.network.heal();
    world.run_for(seconds(1));
    let read = world.read(leader);
    world.run_for(seconds(3));
    assert_eq!(world.workload.outcome(read), Some(&Outcome::Refused(Refusal::ReadUnconfirmed)));
    world.filter = None;
    commit(&mut world, next, 30);
    world.run_for(seconds(3));
    let id = world.servers[leader].peer.id.clone();
    let matched = world.core(next).follower(&id).map(|follower| follower.matched.index);
    assert_eq!(matched, Some(LogIndex(0)), "it acknowledges nothing");
    world.wipe(leader);
    world.start(leader);
    world.settles();
}

#[test]
fn every_defect_of_identity_spoils_a_story() {
    let stories: [(&str, fn()); 13] = [
        (
            "d12_a_wiped_voter_elects_nobody_while_others_lack_what_it_had",
            d12_a_wiped_voter_elects_nobody_while_others_lack_what_it_had,
        ),
        (
            "d12_a_voter_restored_from_an_old_copy_elects_nobody_while_others_lack_what_it_had",
            d12_a_voter_restored_from_an_old_copy_elects_nobody_while_others_lack_what_it_had,
        ),
        (
            "d12_an_old_copy_beside_a_live_leader_is_found_out_and_taken_in_anew",
            d12_an_old_copy_beside_a_live_leader_is_found_out_and_taken_in_anew,
        ),
        (
            "d12_a_wiped_voter_does_not_count_and_is_taken_in_anew_by_itself",
            d12_a_wiped_voter_does_not_count_and_is_taken_in_anew_by_itself,
        ),
        ("d12_each_life_of_a_disk_is_taken_in_once", d12_each_life_of_a_disk_is_taken_in_once),
        ("d12_a_founder_that_comes_late_is_taken_in", d12_a_founder_that_comes_late_is_taken_in),
        (
            "m07_a_server_that_replays_history_does_not_act_on_what_its_former_life_was",
            m07_a_server_that_replays_history_does_not_act_on_what_its_former_life_was,
        ),
        (
            "m07_a_vote_goes_only_to_a_candidate_that_means_this_life",
            m07_a_vote_goes_only_to_a_candidate_that_means_this_life,
        ),
        (
            "m12_a_server_that_moves_is_found_again_by_a_change_in_place",
            m12_a_server_that_moves_is_found_again_by_a_change_in_place,
        ),
        (
            "m12_two_servers_that_swap_addresses_are_not_taken_for_each_other",
            m12_two_servers_that_swap_addresses_are_not_taken_for_each_other,
        ),
        (
            "m16_servers_of_different_epochs_do_not_listen_to_each_other",
            m16_servers_of_different_epochs_do_not_listen_to_each_other,
        ),
        (
            "p13_a_snapshot_that_contradicts_what_is_committed_is_refused",
            p13_a_snapshot_that_contradicts_what_is_committed_is_refused,
        ),
        (
            "d15_a_server_that_a_restore_left_behind_neither_acknowledges_nor_serves",
            d15_a_server_that_a_restore_left_behind_neither_acknowledges_nor_serves,
        ),
    ];
    for defect in Mutant::all().filter(|defect| defect.is_told()) {
        PLANTED.set(Some(defect));
        let spoilt: Vec<&str> =
            stories.iter().filter(|(_, story)| catch_unwind(story).is_err()).map(|(name, _)| *name).collect();
        PLANTED.set(None);
        println!("{}: {spoilt:?}", defect.name());
        assert!(!spoilt.is_empty(), "{} spoils no story", defect.name());
    }
}
