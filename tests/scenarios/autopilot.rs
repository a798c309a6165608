//! Membership automation (catalogue 1A): autopilot flies on whichever server leads, and every rule about what it may do is
//! judged after each of its looks. A server counts as stable, and as dead, after two seconds.

use std::time::Duration;

use autopilot::testing::Situation;
use autopilot::{Changes, Promoter, PromoterInput, Severity, StablePromoter, Step};
use raft::core::Input;
use raft::{ConfigurationChange, Suffrage};
use simulation::check::autopilot::goal;
use simulation::pilot::{Flying, Policy};
use simulation::world::{Event, World};

use crate::{commit, seconds};

const REMOVALS: [&str; 2] = ["autopilot: removals of failed servers", "autopilot: removals of stale servers"];

fn removals(world: &World) -> u64 {
    REMOVALS.iter().map(|what| world.count(what)).sum()
}

fn voters(world: &World) -> usize {
    (0..world.servers.len()).filter(|node| world.votes(*node)).count()
}

fn followers(world: &mut World) -> Vec<usize> {
    let leader = world.leader();
    (0..world.servers.len()).filter(|node| *node != leader && world.servers[*node].is_up()).collect()
}

fn down(world: &mut World, node: usize, after: Duration, lasts: Duration) {
    world.schedule(after, Event::Flying(Box::new(Flying::Down { node, lasts })));
}

fn term(world: &mut World) -> u64 {
    let leader = world.leader();
    world.core(leader).term().0
}

/// The servers whose votes the leader's configuration has are exactly those that are up.
fn the_living_vote(world: &World) -> bool {
    (0..world.servers.len()).all(|node| world.votes(node) == world.servers[node].is_up())
}

#[test]
fn servers_join_without_a_vote_and_get_it_when_they_are_stable() {
    let mut world = World::flown(1, 2, |_| {});
    world.wait("both are members", |world| world.member(1).is_some() && world.member(2).is_some());
    assert_eq!((world.votes(1), world.votes(2)), (false, false), "nobody votes at once");
    world.wait("both vote", |world| world.count("autopilot: promotions") == 2);
    assert!(world.votes(1) && world.votes(2));
    world.settles();
}

#[test]
fn a01_servers_that_die_one_after_the_other_leave_min_quorum_voters() {
    for (min_quorum, left) in [(5, 5), (4, 4), (0, 3)] {
        let mut world = World::flown(7, 0, |flight| flight.config.min_quorum = min_quorum);
        for _ in 0..4 {
            let victim = followers(&mut world)[0];
            world.retire(victim);
            world.run_for(seconds(6));
            assert!(voters(&world) >= left, "min_quorum {min_quorum}: {} voters", voters(&world));
        }
        assert_eq!(voters(&world), left, "min_quorum {min_quorum}");
        let leader = world.leader();
        commit(&mut world, leader, 1);
    }
}

/// The written formula: with `dead` of `voters` dead nothing goes unless the others are a quorum, and then everybody who is
/// dead goes, down to `min_quorum`. Never half of the voters or more.
#[test]
fn a02_the_cap_on_removals_is_the_formula_for_every_small_cluster() {
    for count in 1..=7_usize {
        for dead in 0..1_u32 << (count - 1) {
            for min_quorum in 0..=count {
                let name = |number: usize| format!("n{number}");
                let mut situation = Situation::new("n0").config(|config| {
                    *config = autopilot::Config { min_quorum, ..autopilot::Config::reference() };
                });
                for number in 1..count {
                    situation = situation.voter(&name(number));
                    if dead >> (number - 1) & 1 == 1 {
                        let stale = number % 2 == 0;
                        situation = match stale {
                            true => situation.stale(&name(number)),
                            false => situation.failed(&name(number)),
                        };
                    }
                }
                let mut removed = 0;
                while let Some(planned) = situation.round(&StablePromoter).plan.step {
                    assert!(matches!(planned.step, Step::Remove { .. }));
                    let view = &mut situation.inputs.view;
                    view.configuration = planned.step.apply(&view.configuration).expect("a valid one");
                    removed += 1;
                }
                let dead = usize::try_from(dead.count_ones()).expect("few");
                let quorum = count - dead > count / 2;
                let allowed = if quorum { dead.min(count - min_quorum) } else { 0 };
                assert_eq!(removed, allowed, "{count} voters, {dead} dead, min_quorum {min_quorum}");
                assert!(removed <= (count - 1) / 2);
            }
        }
    }
}

#[test]
fn a03_a_rolling_reboot_costs_nobody_the_vote() {
    for count in [3, 5] {
        for every in [500, 1_000, 1_500, 3_000, 6_000] {
            let mut world = World::flown(count, 0, |_| {});
            let every = Duration::from_millis(every);
            for node in 0..count {
                let after = every * u32::try_from(node).expect("few");
                down(&mut world, node, after, Duration::from_millis(400));
            }
            world.run_for(every * u32::try_from(count).expect("few"));
            world.settles();
            assert_eq!((removals(&world), voters(&world)), (0, count), "every {every:?}");
        }
    }
}

/// Each is down for longer than a dead server is kept, and the next one goes before it votes again.
#[test]
fn a03_a_slow_rolling_reboot_ends_with_everybody_voting() {
    for count in [3, 4, 5] {
        let mut world = World::flown(count, 0, |_| {});
        for node in 0..count {
            let after = seconds(5) * u32::try_from(node).expect("few");
            down(&mut world, node, after, seconds(4));
        }
        world.run_for(seconds(6) * u32::try_from(count).expect("few"));
        world.settles();
        assert_eq!(voters(&world), count);
        assert!(removals(&world) > 0, "{count}: somebody was away for too long");
    }
}

#[test]
fn a04_a_new_leader_watches_a_joiner_for_the_whole_time() {
    let mut world = World::flown(3, 1, |_| {});
    world.wait("the joiner is a member", |world| world.member(3).is_some());
    for time in 1..5 {
        down(&mut world, 3, seconds(1) * time, Duration::from_millis(600));
    }
    world.run_for(seconds(5));
    assert!(!world.votes(3), "it was never up for two seconds");
    let old = world.leader();
    world.crash(old);
    world.wait("another one leads", |world| (0..3).any(|node| node != old && world.leads(node)));
    let elected = world.now;
    world.wait("the joiner votes", |world| world.votes(3));
    assert!(world.now.since(elected) >= seconds(2), "{:?} after the election", world.now.since(elected));
    world.start(old);
    world.settles();
}

#[test]
fn a05_what_the_application_does_not_know_changes_nothing() {
    for ill in 0..6 {
        let mut world = World::flown(5, 1, |flight| flight.measures = ill == 5);
        let leader = world.leader();
        let dead = followers(&mut world)[0];
        world.wait("the joiner is a member", |world| world.member(5).is_some());
        let until = world.now + seconds(60);
        let (now, ills) = (world.now, world.fleet.ills.entry(leader).or_default());
        match ill {
            0 => ills.mute_until = until,
            1 => ills.blank_until = until,
            2 => ills.no_config_until = until,
            3 => ills.frozen = (until, now),
            4 => {
                world.rumour(None, dead, Some(autopilot::NodeStatus::Unknown), seconds(60));
                world.rumour(None, 5, Some(autopilot::NodeStatus::Unknown), seconds(60));
            }
            _ => {
                world.rumour(None, leader, None, seconds(60));
                world.rumour(None, 5, None, seconds(60));
            }
        }
        world.crash(dead);
        world.run_for(seconds(10));
        assert_eq!(world.leader(), leader);
        assert_eq!(removals(&world), 0, "ill {ill}");
        // Late gossip is right about the joiner, and says that the dead one lives.
        assert_eq!(world.votes(5), ill == 3, "ill {ill}");
        world.start(dead);
        world.settles();
        assert_eq!(voters(&world), 6);
    }
}

#[test]
fn a06_replacements_that_come_faster_than_the_dead_go_end_well() {
    for pause in [500, 2_000, 3_000] {
        let mut world = World::flown(5, 0, |_| {});
        for _ in 0..2 {
            world.wait("five live and vote", |world| the_living_vote(world) && voters(world) == 5);
            for victim in followers(&mut world).into_iter().take(2) {
                world.retire(victim);
                world.spawn();
                world.run_for(Duration::from_millis(pause));
            }
        }
        world.wait("five live and vote", |world| the_living_vote(world) && voters(world) == 5);
        assert_eq!(world.servers.len(), 9);
        world.settles();
    }
}

/// Servers named `new` vote as soon as three of them are there, and the others stop voting; the leader is one of the latter.
struct Upgrade;

impl Promoter for Upgrade {
    fn name(&self) -> &str {
        "upgrade"
    }

    fn changes(&self, input: &PromoterInput<'_>) -> Changes {
        let mut changes = Changes::default();
        let servers = || input.state.servers.values();
        let is_new = |server: &&autopilot::ServerState| server.id.as_str().starts_with("new");
        for server in servers().filter(is_new).filter(|server| server.is_promotable(input.now)) {
            changes.promote(&server.id, "the new version");
        }
        let votes = servers().filter(is_new).filter(|server| server.is_healthy_voter()).count();
        let old = servers().filter(|server| !is_new(server) && server.is_voter() && !server.is_leader());
        old.filter(|_| votes >= 3).for_each(|server| changes.demote(&server.id, "the old version"));
        changes
    }
}

/// Three servers are replaced by three newer ones, and one of the six dies before any of the steps: what is left is a quorum
/// of every configuration, and without a death one failure could be borne all the time.
#[test]
fn a07_an_upgrade_bears_a_death_at_each_of_its_steps() {
    let names = ["new1", "new2", "new3", "old1", "old2"];
    let deaths = (0..8).flat_map(|when| names.iter().map(move |name| Some((when, *name))));
    for death in deaths.chain([None]) {
        let mut situation = Situation::new("old0").voter("old1").voter("old2");
        for name in &names[..3] {
            situation = situation.nonvoter(name);
        }
        situation = situation.config(|config| *config = autopilot::Config::reference());
        let mut dead = None;
        for step in 0..12 {
            if let Some((_, name)) = death.filter(|(when, _)| *when == step) {
                situation = situation.failed(name);
                dead = Some(name);
            }
            let view = &mut situation.inputs.view;
            let alive = |c: &raft::Configuration| c.voters().filter(|s| Some(s.id.as_str()) != dead).count();
            let borne = alive(&view.configuration).checked_sub(view.configuration.quorum());
            let enough = if dead.is_some() { 0 } else { 1 };
            assert!(borne.is_some_and(|borne| borne >= enough), "{death:?}: {:?}", view.configuration);
            let Some(planned) = situation.round(&Upgrade).plan.step else { break };
            let view = &mut situation.inputs.view;
            view.configuration = planned.step.apply(&view.configuration).expect("a valid one");
        }
        let view = &situation.inputs.view;
        assert_eq!(situation.round(&Upgrade).plan.step, None, "{death:?}: it comes to rest");
        if death.is_none() {
            assert_eq!(view.configuration.voters_count(), 4, "three new ones and the leader");
        }
    }
}

#[test]
fn a08_a_blind_application_costs_no_live_server_its_place() {
    for known in 0..16_u32 {
        for status in [None, Some(autopilot::NodeStatus::Failed)] {
            let mut world = World::flown(5, 0, |_| {});
            let hidden: Vec<usize> = followers(&mut world)
                .into_iter()
                .enumerate()
                .filter(|(bit, _)| known >> bit & 1 == 0)
                .map(|(_, node)| node)
                .collect();
            for node in &hidden {
                world.rumour(None, *node, status, seconds(20));
            }
            world.run_for(seconds(8));
            assert_eq!((removals(&world), voters(&world)), (0, 5), "without {hidden:?}, {status:?}");
        }
    }
}

#[test]
fn a09_a_server_that_was_removed_without_knowing_comes_back_and_disturbs_nobody() {
    let mut world = World::flown(4, 0, |_| {});
    let leader = world.leader();
    let removed = followers(&mut world)[0];
    let before = term(&mut world);
    world.isolate(removed);
    let id = world.servers[removed].id().clone();
    world.change(leader, ConfigurationChange::RemoveServer { id });
    world.wait("it is out", |world| world.member(removed).is_none());
    world.run_for(seconds(5));
    world.network.cuts.clear();
    // Taken in once more before anybody missed it, and then taken out as dead: by itself it does not come back.
    world.fleet.people.wanted_back.insert(removed);
    world.wait("it votes again", |world| world.votes(removed));
    assert_eq!(term(&mut world), before, "nobody was elected meanwhile");
    world.settles();
}

#[test]
fn a10_a_leave_takes_a_server_out_once() {
    let mut world = World::flown(4, 0, |_| {});
    let leaver = followers(&mut world)[0];
    world.leave(leaver);
    let asked = world.now;
    world.wait("it is out", |world| removals(world) == 1);
    assert!(world.now.since(asked) < seconds(2), "it did not have to be silent for two seconds first");
    world.wait("it has stopped", |world| !world.servers[leaver].is_up());
    // The word goes round once more, and another word about somebody who is no member.
    world.rumour(None, leaver, Some(autopilot::NodeStatus::Left), seconds(20));
    world.run_for(seconds(8));
    assert_eq!((removals(&world), voters(&world)), (1, 3));
    world.settles();
}

#[test]
fn a10_a_leave_that_nobody_hears_is_a_death() {
    let mut world = World::flown(4, 0, |_| {});
    let leader = world.leader();
    let leaver = followers(&mut world)[0];
    for node in 0..4 {
        world.fleet.ills.entry(node).or_default().deaf_until = world.now + seconds(5);
    }
    world.leave(leaver);
    world.wait("it has stopped", |world| !world.servers[leaver].is_up());
    assert!(world.member(leaver).is_some(), "nobody heard it");
    world.wait("it is out", |world| removals(world) == 1);
    assert_eq!((world.leader(), world.member(leaver)), (leader, None));
    world.settles();
}

#[test]
fn a11_ghosts_are_told_of_where_nobody_cleans_up() {
    let mut world = World::flown(5, 0, |flight| flight.config.cleanup_dead_servers = false);
    for ghosts in 1..=2 {
        let victim = followers(&mut world)[0];
        world.retire(victim);
        world.run_for(seconds(2));
        let leader = world.leader();
        let state = &world.pilot(leader).expect("it flies").state;
        let worse = if ghosts == 1 { Severity::Degraded } else { Severity::QuorumAtRisk };
        assert_eq!(state.severity, worse, "{ghosts} ghosts");
        world.spawn();
        world.wait("the replacement votes", |world| voters(world) == 5 + ghosts);
        world.run_for(seconds(1));
        let state = &world.pilot(leader).expect("it flies").state;
        let configuration = world.core(leader).configuration();
        assert_eq!(goal::truth_is_told(state, configuration, &world.servers), Ok(()));
        assert_eq!(state.failure_tolerance, 5 - configuration.quorum());
    }
    assert_eq!(removals(&world), 0);
    world.settles();
}

/// The leader decides to promote, and stands still before it does, until another one leads.
#[test]
fn a12_a_decision_does_not_outlive_its_leader() {
    let mut world = World::flown(3, 1, |_| {});
    let old = world.leader();
    world.fleet.freeze_next = Some(seconds(3));
    world.wait("it stands still over a decision", |world| world.servers[old].paused_until > world.now);
    world.wait("another one leads", |world| (0..3).any(|node| node != old && world.leads(node)));
    world.run_for(seconds(3));
    assert!(world.count("autopilot: decisions that were too old") + world.count("autopilot: runs") >= 2);
    assert_eq!(world.count("autopilot: promotions"), u64::from(world.votes(3)));
    world.wait("the joiner votes", |world| world.votes(3));
    world.settles();
}

/// Another change comes between the decision and the step: the step is refused, and decided anew.
#[test]
fn a12_a_decision_on_another_configuration_is_refused() {
    let mut world = World::flown(3, 2, |flight| flight.query = Duration::from_millis(100));
    world.fleet.kept_out.insert(4);
    world.fleet.rival_next = true;
    world.wait("the joiner votes", |world| world.count("autopilot: promotions") == 1);
    assert_eq!(world.count("people: changes just before a step"), 1);
    assert_eq!(world.count("autopilot: steps decided on another configuration"), 1);
    assert!(world.votes(3));
    world.settles();
}

#[test]
fn a13_a_step_that_always_fails_is_tried_seldom_and_stops_nobody_else() {
    let mut world = World::flown(3, 2, |_| {});
    let id = world.servers[3].id().clone();
    world.fleet.refused = Some((id, world.now + seconds(30)));
    world.wait("the other joiner votes", |world| world.votes(4));
    world.run_for(seconds(20));
    let tries = world.count("autopilot: steps refused by the engine");
    assert!((2..=16).contains(&tries), "{tries} tries within thirty seconds, one in two at most");
    assert!(!world.votes(3));
    world.wait("it votes once the engine lets it", |world| world.votes(3));
    world.settles();
}

#[test]
fn a14_only_the_leaders_configuration_says_who_is_a_member() {
    let mut world = World::flown(3, 2, |flight| flight.config.min_quorum = 3);
    world.wait("all five vote", |world| voters(world) == 5);
    let leader = world.leader();
    // The application stands where it stood a moment ago, while two more come.
    let now = world.now;
    world.fleet.ills.entry(leader).or_default().frozen = (now + seconds(20), now);
    world.fleet.kept_out.insert(5);
    let fresh = world.spawn();
    world.run_for(Duration::from_millis(100));
    let peer = world.servers[fresh].peer.clone();
    world.change(leader, ConfigurationChange::AddNonvoter { id: peer.id, address: peer.address });
    world.run_for(seconds(8));
    assert_eq!((removals(&world), voters(&world)), (0, 5), "what it does not know it neither removes");
    assert_eq!(world.member(fresh), Some(Suffrage::Nonvoter), "nor promotes");
    world.settles();
}

/// The leader's network fails for two election timeouts, and its gossip for much longer.
#[test]
fn a15_a_leader_that_hears_nobody_removes_nobody() {
    for deaf in [1, 5, 10] {
        let mut world = World::flown(5, 0, |_| {});
        let leader = world.leader();
        world.fleet.ills.entry(leader).or_default().deaf_until = world.now + seconds(deaf);
        world.isolate(leader);
        let timeout = world.options.config.election_timeout;
        world.run_for(timeout * 2);
        world.network.cuts.clear();
        world.run_for(seconds(12));
        assert_eq!((removals(&world), voters(&world)), (0, 5), "deaf for {deaf} s");
        world.settles();
    }
    let mut world = World::flown(5, 0, |_| {});
    let leader = world.leader();
    world.fleet.ills.entry(leader).or_default().deaf_until = world.now + seconds(10);
    world.run_for(seconds(15));
    assert_eq!((world.leader(), removals(&world), voters(&world)), (leader, 0, 5), "it hears by Raft alone");
    world.settles();
}

/// Somebody is dead for long enough at the moment at which leadership is being handed to another dead server.
#[test]
fn a16_nothing_is_removed_while_leadership_is_handed_over() {
    let mut world = World::flown(5, 0, |_| {});
    let leader = world.leader();
    let victims = followers(&mut world);
    world.crash(victims[0]);
    world.crash(victims[1]);
    world.run_for(Duration::from_millis(1_900));
    while removals(&world) == 0 {
        let transfer = world.transfer(leader, Some(victims[1]));
        let before = world.core(leader).configuration_index();
        while world.workload.outcome(transfer).is_none() {
            assert!(world.advance());
            assert_eq!(world.core(leader).configuration_index(), before, "members change during a transfer");
        }
        world.run_for(Duration::from_millis(300));
    }
    assert!(world.leads(leader));
    for victim in [victims[0], victims[1]] {
        world.start(victim);
    }
    world.settles();
    assert_eq!(voters(&world), 5);
}

/// A joint change of two servers is under way and cannot commit.
#[test]
fn a16_nothing_is_decided_while_several_servers_change_at_once() {
    let mut world = World::flown(3, 2, |flight| flight.config.cleanup_dead_servers = false);
    world.wait("all are members", |world| world.member(3).is_some() && world.member(4).is_some());
    world.run_for(Duration::from_millis(500));
    let leader = world.leader();
    let others: Vec<usize> = (0..3).filter(|node| *node != leader).collect();
    let change = |node: usize| {
        let peer = world.servers[node].peer.clone();
        ConfigurationChange::AddVoter { id: peer.id, address: peer.address }
    };
    let changes =
        vec![change(3), ConfigurationChange::DemoteVoter { id: world.servers[others[0]].id().clone() }];
    let request = world.workload.next_request();
    world.hold_answers = Some((others[1], leader));
    world.step(leader, Input::ChangeMembership { request, changes, expected: None });
    assert_eq!(world.workload.outcome(request), None);
    assert!(world.core(leader).configuration().is_joint());
    world.run_for(Duration::from_millis(300));
    assert_eq!(world.count("autopilot: promotions"), 0);
    world.release();
    world.settles();
    assert_eq!(voters(&world), 5, "then everybody gets the vote");
}

/// A voter and the server that would have replaced it die in the same moment.
#[test]
fn a_voter_and_its_standby_die_in_the_same_moment() {
    let mut world = World::flown(3, 1, |_| {});
    world.wait("the joiner is a member", |world| world.member(3).is_some());
    let victim = followers(&mut world)[0];
    world.retire(victim);
    world.retire(3);
    world.wait("both are out", |world| world.member(3).is_none() && world.member(victim).is_none());
    assert_eq!(voters(&world), 2);
    world.spawn();
    world.wait("a third one votes", |world| voters(world) == 3);
    world.settles();
}

#[test]
fn two_of_five_die_and_then_a_third() {
    let mut world = World::flown(5, 0, |flight| flight.config.min_quorum = 3);
    for victim in followers(&mut world).into_iter().take(2) {
        world.retire(victim);
    }
    world.wait("both are out", |world| voters(world) == 3);
    let victim = followers(&mut world)[0];
    world.retire(victim);
    world.run_for(seconds(10));
    assert_eq!(voters(&world), 3, "min_quorum holds it");
    world.spawn();
    world.wait("three live and vote", |world| the_living_vote(world) && voters(world) == 3);
    world.settles();
}

#[test]
fn a_server_that_joins_during_an_election_is_watched_for_the_whole_time() {
    let mut world = World::flown(3, 0, |_| {});
    let old = world.leader();
    world.crash(old);
    let joiner = world.spawn();
    world.wait("it is a member", |world| world.member(joiner).is_some());
    let joined = world.now;
    world.start(old);
    world.wait("it votes", |world| world.votes(joiner));
    assert!(world.now.since(joined) >= seconds(2), "{:?}", world.now.since(joined));
    world.settles();
}

/// A joiner that catches up does not answer gossip: it is told from the dead by its answers to the leader.
#[test]
fn a_joiner_that_installs_a_snapshot_is_not_taken_for_dead() {
    let mut world = World::flown(3, 0, |_| {});
    let leader = world.leader();
    commit(&mut world, leader, 50);
    let joiner = world.spawn();
    world.wait("it is a member", |world| world.member(joiner).is_some());
    world.rumour(None, joiner, Some(autopilot::NodeStatus::Failed), seconds(10));
    world.run_for(seconds(9));
    assert_eq!((world.member(joiner), removals(&world)), (Some(Suffrage::Nonvoter), 0));
    world.wait("it votes", |world| world.votes(joiner));
    world.settles();
}

/// The leader sends it a snapshot again and again: that alone is no progress.
#[test]
fn a_joiner_that_died_before_its_snapshot_arrived_is_taken_out() {
    let mut options = simulation::options::Options::calm(3, 0);
    let mut flight = simulation::pilot::Flight::calm();
    flight.config.health.joining = seconds(3);
    options.autopilot = Some(flight);
    (options.files, options.snapshot_every, options.config.trailing_logs) = (false, 10, 0);
    let mut world = World::new(options);
    let leader = world.leader();
    commit(&mut world, leader, 40);
    let joiner = world.spawn();
    world.network.cuts.insert((leader, joiner));
    world.wait("it is a member", |world| world.member(joiner).is_some());
    world.wait("a snapshot is on its way", |world| world.count("snapshots sent") > 0);
    world.retire(joiner);
    world.network.cuts.clear();
    world.run_for(seconds(20));
    assert_eq!(world.member(joiner), None);
    world.settles();
}

#[test]
fn a_member_that_a_person_took_out_stays_out() {
    let mut world = World::flown(4, 0, |_| {});
    let leader = world.leader();
    let removed = followers(&mut world)[0];
    let id = world.servers[removed].id().clone();
    world.fleet.kept_out.insert(removed);
    world.change(leader, ConfigurationChange::RemoveServer { id });
    world.run_for(seconds(10));
    assert_eq!((world.member(removed), voters(&world)), (None, 3));
    world.settles();
}

/// A cluster of one does not notice that it stood still: its clock shows that much time has passed.
#[test]
fn a_pause_or_a_clock_that_jumps_is_no_probation() {
    for jump in [false, true] {
        let mut world = World::flown(1, 1, |_| {});
        world.wait("the joiner is a member", |world| world.member(1).is_some());
        world.run_for(seconds(1));
        if jump {
            world.servers[0].clock.jump(seconds(30));
        } else {
            for node in 0..2 {
                world.servers[node].paused_until = world.now + seconds(30);
            }
            world.run_for(seconds(30));
        }
        let back = world.now;
        world.wait("it votes", |world| world.votes(1));
        assert!(world.now.since(back) >= seconds(2), "after {:?}, jump: {jump}", world.now.since(back));
        world.settles();
    }
}

#[test]
fn a_leader_that_stood_still_for_long_changes_nothing_when_it_wakes_up() {
    let mut world = World::flown(3, 0, |_| {});
    let leader = world.leader();
    world.servers[leader].paused_until = world.now + seconds(30);
    world.run_for(seconds(31));
    assert_ne!(world.leader(), leader);
    world.settles();
    assert_eq!(voters(&world), 3);
}

/// Measurements hang: a server of which nothing is measured gets no vote, however good its last measurement was.
#[test]
fn servers_that_nobody_measures_get_no_vote() {
    let mut world = World::flown(3, 1, |flight| flight.measures = true);
    let leader = world.leader();
    world.wait("the joiner is a member", |world| world.member(3).is_some());
    world.fleet.ills.entry(leader).or_default().blind_until = world.now + seconds(20);
    world.fleet.measured_by_chance = 0;
    world.run_for(seconds(10));
    assert!(!world.votes(3));
    world.settles();
    assert!(world.votes(3));
}

#[test]
fn a_policy_that_wants_three_voters_of_ten_gets_exactly_three() {
    let mut world = World::flown(1, 9, |flight| flight.policy = Policy::Wilful);
    let member = |world: &World, node: usize| world.member(node).is_some();
    world.wait("all ten are members", |world| (0..10).all(|node| member(world, node)));
    world.wait("three vote", |world| voters(world) == 3);
    world.run_for(seconds(10));
    assert_eq!(voters(&world), 3);
    let leader = world.leader();
    world.retire(leader);
    world.wait("another takes its place", |world| voters(world) == 3 && !world.votes(leader));
    world.settles();
}

#[test]
fn the_leader_that_a_demotion_names_keeps_its_vote() {
    let mut world = World::flown(5, 0, |flight| flight.policy = Policy::Wilful);
    world.wait("three vote", |world| world.count("autopilot: demotions") == 2);
    let leader = world.leader();
    assert_eq!((voters(&world), world.votes(leader)), (3, true));
    world.wait("the one that the policy wants leads", |world| world.leads(0));
    world.settles();
}
