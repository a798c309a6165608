//! Snapshots that meet what is there already.

use raft::core::{EntryKind, Request, Response, Role};
use raft::{ConfigurationChange, EntryId, LogIndex};
use simulation::options::Options;
use simulation::world::World;

use crate::{commit, only_campaigns, other_than, seconds};

/// Takes a snapshot every ten entries and keeps no log behind it.
fn compacting(voters: usize, spares: usize) -> World {
    let mut options = Options::calm(voters, spares);
    options.snapshot_every = 10;
    options.config.trailing_logs = 0;
    let mut world = World::new(options);
    world.leader();
    world
}

/// Isolates the leader with entries of its own, lets another one commit and compact beyond them.
fn overtake(world: &mut World, before: impl FnOnce(&mut World, usize)) -> (usize, usize) {
    let old = world.leader();
    let heir = other_than(world, &[old]);
    world.run_for(seconds(1));
    world.isolate(old);
    before(world, old);
    let tail = world.core(old).last();
    world.wait("it is durable there", |world| world.servers[old].disk.log.last() == tail);
    only_campaigns(world, heir);
    world.wait("another one leads", |world| world.leads(heir) && world.core(heir).is_ready());
    commit(world, heir, 100);
    assert!(world.servers[heir].log.base.index > tail.index, "compacted beyond the old leader's log");
    (old, heir)
}

#[test]
fn p01_a_snapshot_replaces_a_history_that_did_not_happen() {
    let mut world = compacting(3, 0);
    let (old, heir) = overtake(&mut world, |world, old| {
        for _ in 0..40 {
            world.propose(old);
        }
    });
    world.network.heal();
    let last = world.core(heir).last();
    world.wait("the old leader has the new history", |world| world.servers[old].machine.last == last);
    assert!(world.coverage["snapshots installed"] <= 2);
    world.settles();
}

#[test]
fn p02_a_crash_before_the_log_is_reset_is_made_good_at_the_restart() {
    let mut repeated = 0;
    for seed in 1..=20 {
        let mut options = Options::calm(3, 0);
        options.seed = seed;
        options.snapshot_every = 10;
        options.config.trailing_logs = 0;
        let mut world = World::new(options);
        let (old, _) = overtake(&mut world, |world, old| {
            for _ in 0..20 {
                world.propose(old);
            }
        });
        world.network.heal();
        world.wait("the snapshot arrives", |world| world.coverage.contains_key("snapshots installed"));
        world.crash(old);
        world.start(old);
        repeated += world.coverage.get("logs reset to a newer snapshot at a restart").copied().unwrap_or(0);
        world.settles();
    }
    assert!(repeated > 0, "some crash came between the two");
}

#[test]
fn p03_p07_a_slow_state_machine_is_overtaken_by_a_snapshot_and_sent_no_second_one() {
    let mut world = compacting(3, 0);
    world.options.apply = seconds(3);
    let leader = world.leader();
    let behind = other_than(&world, &[leader]);
    commit(&mut world, leader, 3);
    world.isolate(behind);
    commit(&mut world, leader, 30);
    let sent = world.coverage.get("snapshots sent").copied().unwrap_or(0);
    world.network.heal();
    let last = world.core(leader).last();
    world.wait("it has everything", |world| world.servers[behind].machine.last == last);
    assert!(world.coverage["snapshots sent"] <= sent + 2, "one stream, perhaps two");
    world.settles();
}

#[test]
fn p04_p05_an_uncommitted_configuration_does_not_survive_the_snapshot_that_replaced_it() {
    let mut world = compacting(3, 1);
    let (old, heir) = overtake(&mut world, |world, old| {
        let peer = world.servers[3].peer.clone();
        world.change(old, ConfigurationChange::AddVoter { id: peer.id, address: peer.address });
    });
    // Nobody has heard it yet, so it is a non-voter first.
    assert!(world.core(old).configuration().server(&world.servers[3].peer.id).is_some());
    world.network.heal();
    let last = world.core(heir).last();
    world.wait("the old leader has the new history", |world| world.servers[old].machine.last == last);
    assert_eq!(world.core(old).configuration(), world.core(heir).configuration());
    world.crash(old);
    world.start(old);
    assert_eq!(world.core(old).configuration(), world.core(heir).configuration());
    world.settles();
}

#[test]
fn p08_p09_a_leader_without_a_log_serves_a_fresh_member_once() {
    let mut world = compacting(1, 1);
    commit(&mut world, 0, 40);
    world.crash(0);
    world.start(0);
    world.leader();
    let peer = world.servers[1].peer.clone();
    world.change(0, ConfigurationChange::AddNonvoter { id: peer.id, address: peer.address });
    let last = world.core(0).last();
    world.wait("the fresh member has everything", |world| world.servers[1].machine.last >= last);
    world.run_for(seconds(5));
    assert_eq!(world.coverage["snapshots sent"], 1, "the log follows right after the snapshot");
    world.settles();
}

#[test]
fn p12_an_older_snapshot_changes_nothing() {
    let mut world = compacting(3, 0);
    let leader = world.leader();
    let follower = other_than(&world, &[leader]);
    commit(&mut world, leader, 15);
    world.run_for(seconds(1));
    let old = world.core(leader).snapshot().expect("one was taken").clone();
    commit(&mut world, leader, 30);
    world.run_for(seconds(1));
    let (commit_index, last) = (world.core(follower).commit_index(), world.core(follower).last());
    let term = world.core(leader).term();
    world.inject(leader, follower, Request::InstallSnapshot { term, meta: old });
    assert_eq!((world.core(follower).commit_index(), world.core(follower).last()), (commit_index, last));
    assert!(matches!(world.said[..], [(_, Response::InstallSnapshot { success: true, .. })]));
    world.settles();
}

#[test]
fn r03_p14_a_request_that_begins_before_the_snapshot_is_no_conflict() {
    let mut world = compacting(3, 0);
    let leader = world.leader();
    let follower = other_than(&world, &[leader]);
    commit(&mut world, leader, 5);
    let early = world.core(leader).entries(LogIndex(1), LogIndex(5), usize::MAX);
    commit(&mut world, leader, 40);
    world.run_for(seconds(1));
    assert!(world.servers[follower].log.base.index > LogIndex(5));
    let last = world.core(follower).last();
    let term = world.core(leader).term();
    let request = Request::Append { term, prev: EntryId::default(), entries: early, commit: LogIndex::ZERO };
    world.inject(leader, follower, request);
    assert!(matches!(world.said[..], [(_, Response::Append { success: true, .. })]), "{:?}", world.said);
    assert_eq!(world.core(follower).last(), last);
    world.settles();
}

#[test]
fn p16_a_candidate_takes_the_snapshot_it_needs() {
    let mut world = compacting(3, 0);
    let leader = world.leader();
    let behind = other_than(&world, &[leader]);
    world.isolate(behind);
    commit(&mut world, leader, 40);
    world.wait("it campaigns", |world| world.core(behind).role() == Role::Candidate);
    world.network.heal();
    let last = world.core(leader).last();
    world.wait("it has everything", |world| world.servers[behind].machine.last == last);
    assert!(world.coverage["snapshots installed"] >= 1);
    assert!(world.leads(leader));
    world.settles();
}

#[test]
fn m09_a_member_that_never_answers_can_be_removed_in_the_middle_of_a_snapshot() {
    let mut world = compacting(3, 1);
    let leader = world.leader();
    commit(&mut world, leader, 30);
    world.isolate(3);
    let peer = world.servers[3].peer.clone();
    let add = ConfigurationChange::AddNonvoter { id: peer.id.clone(), address: peer.address };
    let added = world.change(leader, add);
    world.wait("it is added", |world| world.workload.outcome(added).is_some());
    world.wait("a snapshot is on its way", |world| {
        world.core(leader).follower(&peer.id).is_some_and(|view| view.snapshotting)
    });
    let removed = world.change(leader, ConfigurationChange::RemoveServer { id: peer.id.clone() });
    world.wait("it is removed", |world| world.workload.outcome(removed).is_some());
    assert_eq!(world.core(leader).follower(&peer.id), None);
    world.settles();
}

#[test]
fn m17_a_member_that_comes_back_is_not_stopped_by_its_own_removal_in_the_log() {
    let mut world = World::calm(3, 1);
    let leader = world.leader();
    let peer = world.servers[3].peer.clone();
    for _ in 0..2 {
        let add = ConfigurationChange::AddVoter { id: peer.id.clone(), address: peer.address.clone() };
        for change in [add, ConfigurationChange::RemoveServer { id: peer.id.clone() }] {
            world.network.heal();
            let request = world.change(leader, change);
            world.wait("the change commits", |world| world.workload.outcome(request).is_some());
        }
    }
    world.isolate(3);
    let add = ConfigurationChange::AddVoter { id: peer.id.clone(), address: peer.address.clone() };
    world.change(leader, add);
    world.run_for(seconds(1));
    world.network.heal();
    let last = world.core(leader).last();
    world.wait("it replays all of it and stays", |world| world.servers[3].machine.last == last);
    world.wait("it gets its vote", |world| world.core(3).configuration().is_voter(&peer.id));
    world.settles();
}

/// A member that has nothing, to which a snapshot takes half a second, while every few milliseconds a command is written:
/// many more than the log keeps behind a snapshot.
fn outrun(change: impl FnOnce(&mut Options)) -> (World, usize) {
    let mut options = Options::calm(3, 1);
    options.snapshot_every = 10;
    options.config.trailing_logs = 3;
    options.request_timeout = seconds(5);
    change(&mut options);
    let mut world = World::new(options);
    let leader = world.leader();
    commit(&mut world, leader, 40);
    let half = seconds(1) / 2;
    world.network.slow.insert((leader, 3), half);
    let peer = world.servers[3].peer.clone();
    world.change(leader, ConfigurationChange::AddNonvoter { id: peer.id, address: peer.address });
    world.wait("a snapshot is on its way", |world| is_sent_a_snapshot(world, leader, 3));
    (world, leader)
}

fn is_sent_a_snapshot(world: &World, leader: usize, node: usize) -> bool {
    world.core(leader).follower(world.servers[node].id()).is_some_and(|view| view.snapshotting)
}

/// Writes until the member is this close behind, or for so long.
fn write_until_close(world: &mut World, leader: usize, within: u64, longest: u32) -> bool {
    for _ in 0..longest {
        world.propose(leader);
        world.run_for(seconds(1) / 200);
        if world.core(leader).last().index.ahead_of(world.servers[3].machine.last.index) <= within {
            return true;
        }
    }
    false
}

#[test]
fn p11_a_snapshot_that_takes_longer_than_the_log_lasts_brings_its_receiver_up_to_date_all_the_same() {
    let (mut world, leader) = outrun(|_| {});
    let sent = world.core(leader).snapshot().expect("it is sent").last.index;
    let mut overtaken = false;
    for _ in 0..90 {
        world.propose(leader);
        world.run_for(seconds(1) / 200);
        let newest = world.core(leader).snapshot().expect("one was taken").last.index;
        overtaken |= newest.ahead_of(sent) >= 20;
        if is_sent_a_snapshot(&world, leader, 3) {
            let base = world.servers[leader].log.base.index;
            assert!(base <= sent, "what follows the snapshot under way is kept: {base} after {sent}");
        }
    }
    assert!(overtaken, "the leader took newer snapshots meanwhile");
    assert!(write_until_close(&mut world, leader, 220, 1000), "it catches up under load");
    assert_eq!(world.count("snapshots sent"), 1, "the one that was under way is enough");
    world.network.slow.clear();
    assert!(write_until_close(&mut world, leader, 5, 1000));
    commit(&mut world, leader, 20);
    assert!(world.servers[leader].log.base.index > sent, "then the log is let go");
    world.settles();
}

#[test]
fn p11_a_log_is_kept_for_a_slow_receiver_within_its_limit_and_then_a_newer_snapshot_follows() {
    let limit = 12_000;
    let (mut world, leader) = outrun(|options| {
        options.config.log_bytes_max = limit;
        options.config.snapshot_threshold_bytes = limit / 2;
    });
    // Ten times slower still: the log cannot wait for that.
    world.network.slow.insert((leader, 3), seconds(4));
    for _ in 0..600 {
        world.propose(leader);
        world.run_for(seconds(1) / 200);
        let bytes = world.core(leader).log_bytes();
        assert!(bytes <= limit, "{bytes} bytes are kept");
    }
    assert_eq!(world.count("refused: overloaded"), 0, "nobody else waits for the slow one");
    world.network.slow.clear();
    assert!(write_until_close(&mut world, leader, 5, 2000), "it is brought up in the end");
    world.settles();
    assert!(world.count("snapshots sent") <= 4, "{} were sent", world.count("snapshots sent"));
}

#[test]
fn r03_a_request_that_reaches_from_before_the_snapshot_to_beyond_it_is_taken() {
    let mut world = compacting(3, 0);
    let leader = world.leader();
    let follower = other_than(&world, &[leader]);
    let mut entries = world.core(leader).entries(LogIndex(1), world.core(leader).last().index, usize::MAX);
    for _ in 0..25 {
        commit(&mut world, leader, 1);
        let last = world.core(leader).last().index;
        entries.extend(world.core(leader).entries(last, last, usize::MAX));
    }
    world.run_for(seconds(1));
    let (base, last) = (world.servers[follower].log.base.index, world.core(follower).last());
    assert!(LogIndex(3) < base && base < last.index, "{base} and {last}");
    let prev = entries[2].id;
    let term = world.core(leader).term();
    let request = Request::Append { term, prev, entries: entries[3..].to_vec(), commit: LogIndex::ZERO };
    world.inject(leader, follower, request);
    world.run_for(seconds(1) / 100);
    assert!(
        matches!(world.said[..], [(_, Response::Append { success: true, last_log, .. })] if last_log == last.index),
        "{:?}",
        world.said
    );
    assert_eq!(world.core(follower).last(), last);
    world.settles();
}

/// The snapshot ends within the log of the old leader, where that log has another term: nothing of it may stay behind.
#[test]
fn p01_a_snapshot_that_ends_within_another_history_replaces_all_of_it() {
    let mut world = compacting(3, 0);
    let old = world.leader();
    let heir = other_than(&world, &[old]);
    world.run_for(seconds(1));
    world.isolate(old);
    for _ in 0..40 {
        world.propose(old);
    }
    let tail = world.core(old).last();
    world.wait("it is durable there", |world| world.servers[old].disk.log.last() == tail);
    only_campaigns(&mut world, heir);
    world.wait("another one leads", |world| world.leads(heir) && world.core(heir).is_ready());
    commit(&mut world, heir, 15);
    world.run_for(seconds(1));
    let base = world.servers[heir].log.base;
    let there = world.core(old).term_at(base.index);
    assert!(there.is_some_and(|term| term != base.term), "{base} is within the old log: {there:?}");
    world.network.heal();
    let last = world.core(heir).last();
    world.wait("the old leader has the new history", |world| world.servers[old].machine.last == last);
    assert!(world.count("snapshots installed") >= 1 && world.count("snapshots sent") <= 2);
    world.settles();
}

/// A snapshot is taken while a change of members is in the log and not committed; then that change is undone.
#[test]
fn p05_a_snapshot_names_the_configuration_at_its_last_entry() {
    for seed in 1..=5 {
        let mut options = Options::calm(3, 1);
        options.seed = seed;
        options.snapshot_every = 10;
        options.config.trailing_logs = 0;
        options.apply = seconds(1) / 20;
        let mut world = World::new(options);
        let leader = world.leader();
        world.filter = Some(Box::new(|_, _, request| match request {
            Request::Append { entries, .. } => {
                entries.iter().all(|entry| !matches!(entry.kind, EntryKind::Configuration(_)))
            }
            _ => true,
        }));
        for _ in 0..12 {
            world.propose(leader);
        }
        let last = world.core(leader).last().index;
        world.wait("they are committed and not applied", |world| {
            world.core(leader).commit_index() >= last && world.servers[leader].machine.last.index < last
        });
        let peer = world.servers[3].peer.clone();
        let add = ConfigurationChange::AddNonvoter { id: peer.id.clone(), address: peer.address };
        world.change(leader, add);
        assert!(world.core(leader).configuration().server(&peer.id).is_some(), "in force");
        world.wait("a snapshot is taken", |world| world.core(leader).snapshot().is_some());
        let taken = world.core(leader).snapshot().expect("just seen").clone();
        assert!(taken.configuration.server(&peer.id).is_none(), "not committed at {}", taken.last);
        assert!(taken.configuration_index <= taken.last.index);
        world.crash(leader);
        world.leader();
        world.start(leader);
        world.wait("the change is undone", |world| {
            world.core(leader).configuration().server(&peer.id).is_none()
        });
        world.settles();
    }
}
