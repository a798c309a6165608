//! Replication and commit.

use raft::core::Request;
use raft::{Config, LogIndex};
use simulation::options::Options;
use simulation::world::World;

use crate::{only_campaigns, other_than, seconds};

/// Figure 8 of the Raft paper, step by step. s1 is the first leader, s5 the rival, s2 to s4 the rest.
#[test]
fn r01_an_entry_of_an_older_term_is_not_committed_by_counting() {
    let mut options = Options::calm(5, 0);
    options.config.append_entries_max = 1;
    let mut world = World::new(options);
    let s1 = world.leader();
    let rest: Vec<usize> = (0..5).filter(|node| *node != s1).collect();
    let (s2, s3, s4, s5) = (rest[0], rest[1], rest[2], rest[3]);
    world.run_for(seconds(1));

    // (a) s1 replicates x to s2 only.
    world.filter =
        Some(Box::new(move |_, to, request| to == s2 || !matches!(request, Request::Append { .. })));
    world.propose(s1);
    let x = world.core(s1).last();
    world.wait("x is on s2", |world| world.servers[s2].disk.log.last() == x);
    world.crash(s1);
    world.isolate(s2);

    // (b) s5 leads with s3 and s4, and writes another entry at the same index, to itself only.
    world.filter =
        Some(Box::new(move |from, _, request| from == s5 && !matches!(request, Request::Append { .. })));
    world.wait("s5 leads", |world| world.leads(s5));
    let rival = world.core(s5).last();
    world.wait("its entry is durable", |world| world.servers[s5].disk.log.last() == rival);
    assert_eq!(rival.index, x.index);
    world.crash(s5);

    // (c) s1 leads again and brings x to s3: a majority holds it now. Its own entry reaches nobody.
    world.start(s1);
    world.filter = Some(Box::new(move |from, to, request| match request {
        Request::Append { entries, .. } => to != s4 && entries.iter().all(|entry| entry.id.index <= x.index),
        _ => from == s1,
    }));
    world.wait("s1 leads", |world| world.leads(s1));
    // Entries travel one at a time: s3 gets x from s1, and s1's own entry reaches nobody.
    world.filter = Some(Box::new(move |_, to, request| to != s4 && !reaches_beyond(request, x.index)));
    world.network.heal();
    world.wait("s1 knows that two others hold x", |world| {
        [s2, s3].iter().all(|node| {
            let seen = world.core(s1).follower(world.servers[*node].id());
            seen.is_some_and(|view| view.matched.index >= x.index)
        })
    });
    for node in [s1, s2, s3] {
        assert!(world.servers[node].disk.log.holds(x), "a majority holds x");
        assert!(world.core(node).commit_index() < x.index, "and still it is not committed");
    }

    // (d) s1 crashes; s5 wins with its newer last term and overwrites x everywhere.
    world.crash(s1);
    world.start(s5);
    only_campaigns(&mut world, s5);
    world.wait("s5 leads again", |world| world.leads(s5) && world.core(s5).is_ready());
    assert_eq!(world.core(s5).term_at(x.index), Some(rival.term));
    world.settles();
}

fn reaches_beyond(request: &Request, index: LogIndex) -> bool {
    matches!(request, Request::Append { entries, .. } if entries.iter().any(|entry| entry.id.index > index))
}

fn previous(world: &World, node: usize, index: LogIndex) -> raft::EntryId {
    let index = index.previous();
    raft::EntryId { term: world.core(node).term_at(index).expect("it is there"), index }
}

#[test]
fn r02_an_older_request_removes_nothing() {
    let mut world = World::calm(3, 0);
    let leader = world.leader();
    let follower = other_than(&world, &[leader]);
    let first = world.core(leader).last().index.next();
    for _ in 0..5 {
        let value = world.propose(leader);
        world.wait("it commits", |world| world.acknowledged(value));
    }
    world.run_for(seconds(1));
    let last = world.core(follower).last();
    world.inject(
        leader,
        follower,
        Request::Append {
            term: world.core(leader).term(),
            prev: previous(&world, leader, first),
            entries: world.core(leader).entries(first, first, usize::MAX),
            commit: LogIndex::ZERO,
        },
    );
    assert_eq!(world.core(follower).last(), last);
    world.settles();
}

/// The same while what follows is acknowledged and not committed.
#[test]
fn r02_an_older_request_removes_nothing_that_was_acknowledged() {
    let mut world = World::calm(3, 0);
    let leader = world.leader();
    let follower = other_than(&world, &[leader]);
    world.isolate(other_than(&world, &[leader, follower]));
    world.run_for(seconds(1) / 10);
    world.hold_answers = Some((follower, leader));
    let first = world.core(leader).last().index.next();
    for _ in 0..5 {
        world.propose(leader);
    }
    let last = world.core(leader).last();
    world.wait("it is durable there", |world| world.servers[follower].disk.log.last() == last);
    assert!(world.core(follower).commit_index() < first);
    let request = Request::Append {
        term: last.term,
        prev: previous(&world, leader, first),
        entries: world.core(leader).entries(first, LogIndex(first.0 + 1), usize::MAX),
        commit: LogIndex::ZERO,
    };
    world.inject(leader, follower, request);
    world.sound();
    assert_eq!(world.core(follower).last(), last);
    assert_eq!(world.servers[follower].log.last(), last, "nor is it taken from the disk");
    world.settles();
}

#[test]
fn r06_a_leader_counts_itself_only_for_what_is_on_its_disk() {
    let mut world = World::calm(3, 0);
    let leader = world.leader();
    let dead = other_than(&world, &[leader]);
    world.crash(dead);
    world.servers[leader].disk.busy_until = world.now + seconds(3);
    let value = world.propose(leader);
    let last = world.core(leader).last().index;
    world.run_for(seconds(1));
    let follower = other_than(&world, &[leader, dead]);
    assert!(world.servers[follower].disk.log.last().index >= last, "the follower has it");
    assert!(!world.acknowledged(value), "one of three");
    world.crash(leader);
    world.settles();
}

#[test]
fn r13_a_deposed_leaders_own_entry_at_the_tail_is_found_and_replaced() {
    let mut world = World::calm(3, 0);
    let old = world.leader();
    world.isolate(old);
    let lost = world.propose(old);
    let left = world.core(old).last();
    world.wait("it is durable there", |world| world.servers[old].disk.log.last() == left);
    world.crash(old);
    let new = world.leader();
    let kept = world.propose(new);
    world.wait("the others go on", |world| world.acknowledged(kept));
    world.settles();
    assert!(!world.acknowledged(lost));
    assert_ne!(world.core(old).term_at(left.index), Some(left.term), "replaced");
    assert!(world.coverage["truncations"] >= 1);
}

#[test]
fn r15_an_idle_cluster_heals_a_follower_that_is_behind() {
    let mut world = World::calm(3, 0);
    let leader = world.leader();
    let behind = other_than(&world, &[leader]);
    world.isolate(behind);
    let value = world.propose(leader);
    world.wait("it commits", |world| world.acknowledged(value));
    world.network.heal();
    let last = world.core(leader).last();
    world.wait("heartbeats find it", |world| world.servers[behind].machine.last == last);
    world.settles();
}

#[test]
fn d14_one_server_applies_everything_again_after_a_restart() {
    let mut world = World::calm(1, 0);
    for _ in 0..100 {
        let value = world.propose(0);
        world.wait("it commits", |world| world.acknowledged(value));
    }
    world.crash(0);
    world.start(0);
    world.wait("all of it is applied again", |world| world.servers[0].machine.values.len() == 100);
    world.settles();
}

/// What a leader could not commit fills its followers' memory. Only an entry of the next leader's term commits it, so there
/// is room for that.
#[test]
fn r20_a_follower_full_of_what_is_not_committed_takes_what_commits_it() {
    let mut options = Options::calm(3, 0);
    options.config.log_bytes_max = 4000;
    options.config.snapshot_threshold_bytes = 2000;
    options.config.trailing_logs = 0;
    options.snapshot_every = 10;
    let mut world = World::new(options);
    let old = world.leader();
    let heir = other_than(&world, &[old]);
    let third = other_than(&world, &[old, heir]);
    world.network.cut(old, third);
    world.hold_answers = Some((heir, old));
    while world.core(old).log_bytes() < 4000 {
        world.propose(old);
    }
    let last = world.core(old).last();
    world.wait("the heir holds it", |world| world.core(heir).last() == last);
    world.crash(old);
    // In small steps, so that the third, which has less memory, is full before it has everything.
    let config = world.options.config.clone();
    world.reload(heir, &Config { append_entries_max: 2, ..config.clone() });
    world.reload(third, &Config { log_bytes_max: 2000, snapshot_threshold_bytes: 1000, ..config });
    world.hold_answers = None;
    world.network.cuts.clear();
    world.wait("it leads and commits", |world| world.core(heir).commit_index() > last.index);
    world.settles();
}

/// The leader commits beyond what a follower holds of it; what the follower has there itself is another history.
#[test]
fn r13_a_request_that_ends_before_the_conflict_commits_nothing_of_the_conflict() {
    let mut world = World::calm(3, 0);
    let old = world.leader();
    world.run_for(seconds(1));
    let common = world.core(old).last();
    world.isolate(old);
    for _ in 0..3 {
        world.propose(old);
    }
    let tail = world.core(old).last();
    world.wait("they are durable there", |world| world.servers[old].disk.log.last() == tail);
    world.wait("another one leads", |world| (0..3).any(|node| node != old && world.leads(node)));
    let new = (0..3).find(|node| *node != old && world.leads(*node)).expect("just seen");
    world.wait("it commits", |world| world.core(new).is_ready());
    crate::commit(&mut world, new, 5);
    let (term, commit) = (world.core(new).term(), world.core(new).commit_index());
    assert!(commit > tail.index);
    world.inject(new, old, Request::Append { term, prev: common, entries: Vec::new(), commit });
    world.sound();
    assert_eq!(world.core(old).commit_index(), common.index);
    world.settles();
}
