//! Removals that surprise nobody, and votes that change hands in one step.

use std::time::Duration;

use autopilot::testing::Situation;
use autopilot::{
    Action, Actor, ClusterView, Config, DeadClass, Decision, Inputs, Memory, NodeStatus, Performed,
    PlannedStep, Promoter, Reason, Round, ServerId, StablePromoter, Step, Suffrage, Verdict, Witnesses,
};

fn id(text: &str) -> ServerId {
    text.into()
}

fn five() -> Situation {
    Situation::new("n1").voter("n2").voter("n3").voter("n4").voter("n5")
}

fn run(situation: &Situation) -> Round {
    situation.round(&StablePromoter)
}

fn step(situation: &Situation) -> Option<Step> {
    run(situation).plan.step.map(|planned| planned.step)
}

#[track_caller]
fn decision(round: &Round, server: &str, action: Action) -> Decision {
    let found = round.plan.decisions.iter().find(|d| d.server == id(server) && d.action == action);
    found.unwrap_or_else(|| panic!("no decision to {action} {server} in {:#?}", round.plan)).clone()
}

#[track_caller]
fn why_it_stays(situation: &Situation, server: &str) -> (Verdict, &'static str) {
    let decision = decision(&run(situation), server, Action::Remove);
    (decision.verdict, decision.reason.code())
}

/// Performs a step on paper, as a driver would.
fn perform(inputs: &mut Inputs, planned: &PlannedStep) {
    inputs.view.configuration = planned.step.apply(&inputs.view.configuration).unwrap();
    let how = Performed {
        at: inputs.now,
        term: inputs.term,
        by: &Actor::AUTOPILOT,
        why: &planned.reason,
        index: None,
        incarnation: None,
    };
    inputs.memory.performed(&planned.step, &how);
}

/// Goes on for so long, a look every two seconds, and returns the steps that were taken.
fn go_on(situation: &mut Situation, time: Duration, promoter: &dyn Promoter) -> Vec<Step> {
    let mut steps = Vec::new();
    let inputs = &mut situation.inputs;
    let end = inputs.now + time;
    while inputs.now < end {
        let round = Round::run(inputs, promoter);
        inputs.memory = round.memory;
        if let Some(planned) = round.plan.step {
            perform(inputs, &planned);
            steps.push(planned.step);
        }
        inputs.now = inputs.now + Duration::from_secs(2);
    }
    steps
}

fn edit_stats(view: &mut ClusterView, server: &str, edit: impl FnOnce(&mut autopilot::ServerStats)) {
    edit(view.stats.get_mut(&id(server)).unwrap());
}

fn kill(situation: &mut Situation, server: &str) {
    edit_stats(&mut situation.inputs.view, server, |stats| {
        stats.last_contact = Some(Duration::from_secs(60));
    });
    situation.inputs.known.servers.get_mut(&id(server)).unwrap().node_status = NodeStatus::Failed;
}

fn revive(situation: &mut Situation, server: &str) {
    edit_stats(&mut situation.inputs.view, server, |stats| stats.last_contact = Some(Duration::ZERO));
    situation.inputs.known.servers.get_mut(&id(server)).unwrap().node_status = NodeStatus::Alive;
}

// A01: consul#5922
#[test]
fn a_cluster_is_not_shrunk_step_by_step_below_the_size_that_was_stable() {
    let mut situation = five();
    for dead in ["n5", "n4"] {
        kill(&mut situation, dead);
        assert_eq!(go_on(&mut situation, Duration::from_secs(600), &StablePromoter), []);
    }
    let stays = decision(&run(&situation), "n5", Action::Remove);
    assert_eq!((stays.verdict, stays.reason.code()), (Verdict::Refused, "floor"));
    assert_eq!(
        stays.reason.to_string(),
        "would leave 4 voters where 5 were stable; it goes once another votes in its place"
    );
    // Under the plain rules both go.
    let mut plain = five().config(|config| *config = Config::reference());
    for dead in ["n5", "n4"] {
        kill(&mut plain, dead);
        assert_eq!(go_on(&mut plain, Duration::from_secs(600), &StablePromoter).len(), 1);
    }
    assert_eq!(plain.inputs.view.configuration.voters_count(), 3);
}

#[test]
fn a_configured_minimum_takes_the_place_of_the_size_that_was_seen() {
    let mut situation = five().config(|config| config.min_quorum = 4);
    assert_eq!(go_on(&mut situation, Duration::from_secs(4), &StablePromoter), []);
    kill(&mut situation, "n5");
    let steps = go_on(&mut situation, Duration::from_secs(120), &StablePromoter);
    assert_eq!(steps, [Step::Remove { id: id("n5"), class: DeadClass::FailedVoter }]);
    kill(&mut situation, "n4");
    assert_eq!(go_on(&mut situation, Duration::from_secs(120), &StablePromoter), []);
    assert_eq!(why_it_stays(&situation, "n4"), (Verdict::Refused, "min-quorum"));
    let strict = five().failed("n5").config(|config| {
        config.min_quorum = 3;
        config.removal.only_when_replaced = true;
    });
    assert_eq!(why_it_stays(&strict, "n5"), (Verdict::Refused, "not-replaced"));
}

#[test]
fn whoever_leaves_on_purpose_or_is_asked_to_go_lowers_the_floor() {
    let mut left = five();
    go_on(&mut left, Duration::from_secs(4), &StablePromoter);
    assert_eq!(left.inputs.memory.stable_size, Some(5));
    kill(&mut left, "n5");
    left = left.status("n5", NodeStatus::Left);
    let steps = go_on(&mut left, Duration::from_secs(4), &StablePromoter);
    assert_eq!(steps, [Step::Remove { id: id("n5"), class: DeadClass::FailedVoter }]);
    assert_eq!(left.inputs.memory.stable_size, Some(4));
    // By hand, whatever the floor says.
    let asked = five().failed("n5").with(|inputs| {
        inputs.memory.stable_size = Some(5);
        inputs.mode = autopilot::Mode::Prune;
    });
    assert!(matches!(step(&asked), Some(Step::Remove { .. })));
}

#[test]
fn in_the_midst_of_a_replacement_a_new_leader_knows_the_size_by_the_odd_number_below() {
    let four = Situation::new("n1").voter("n2").voter("n3").voter("n4").failed("n4");
    assert_eq!(step(&four), Some(Step::Remove { id: id("n4"), class: DeadClass::FailedVoter }));
    let three = Situation::new("n1").voter("n2").voter("n3").failed("n3");
    assert_eq!(why_it_stays(&three, "n3"), (Verdict::Refused, "floor"));
}

#[test]
fn dead_voters_go_one_after_the_other_and_only_so_many_within_the_window() {
    let config = |config: &mut Config| {
        config.removal.floor_from_size = false;
        config.removal.cool_down = Duration::from_secs(20);
        config.removal.budget = 2;
        config.removal.window = Duration::from_secs(600);
        config.health.suspension = Duration::ZERO;
    };
    let mut situation = five().voter("n6").voter("n7").config(config);
    for dead in ["n5", "n6", "n7"] {
        situation = situation.failed(dead);
    }
    let first = run(&situation);
    situation.inputs.memory = first.memory;
    perform(&mut situation.inputs, &first.plan.step.unwrap());
    assert_eq!(why_it_stays(&situation, "n6"), (Verdict::Deferred, "removal-cool-down"));
    let steps = go_on(&mut situation, Duration::from_secs(100), &StablePromoter);
    assert_eq!(steps.len(), 1, "{steps:?}");
    assert_eq!(why_it_stays(&situation, "n7"), (Verdict::Deferred, "removal-budget"));
    let asked = situation.clone().with(|inputs| inputs.mode = autopilot::Mode::Prune);
    assert!(matches!(step(&asked), Some(Step::Remove { .. })), "a person is not limited");
    let steps = go_on(&mut situation, Duration::from_secs(600), &StablePromoter);
    assert_eq!(steps.len(), 1, "the window has passed");
    let stones: Vec<_> = situation.inputs.memory.tombstones.keys().map(ServerId::as_str).collect();
    assert_eq!(stones, ["n5", "n6", "n7"]);
}

#[test]
fn how_long_a_server_must_be_dead_depends_on_its_role() {
    struct Replicas;
    impl Promoter for Replicas {
        fn name(&self) -> &str {
            "replicas"
        }
        fn changes(&self, input: &autopilot::PromoterInput<'_>) -> autopilot::Changes {
            StablePromoter.changes(input)
        }
        fn may_vote(&self, server: &autopilot::ServerState) -> bool {
            server.id != id("n9")
        }
    }
    let situation = five().nonvoter("n8").nonvoter("n9").config(|config| {
        config.removal.floor_from_size = false;
        config.removal.voter_after = Some(Duration::from_secs(90));
        config.removal.nonvoter_after = Some(Duration::from_secs(61));
        config.removal.replica_after = Some(Duration::from_secs(120));
    });
    let situation = situation.failed("n5").failed("n8").failed("n9");
    let round = situation.round(&Replicas);
    let required = |server: &str| match decision(&round, server, Action::Remove).reason {
        Reason::Grace { required, .. } => required.as_secs(),
        other => panic!("{server}: {other}"),
    };
    assert_eq!([required("n5"), required("n8"), required("n9")], [90, 61, 120]);
}

// A03: consul#8118
#[test]
fn a_rolling_reboot_costs_nobody_its_vote() {
    for pause in [4, 6, 10, 20, 40] {
        let mut situation = Situation::new("n1").voter("n2").voter("n3");
        go_on(&mut situation, Duration::from_secs(20), &StablePromoter);
        for rebooted in ["n2", "n3", "n2", "n3"] {
            kill(&mut situation, rebooted);
            let down = go_on(&mut situation, Duration::from_secs(pause), &StablePromoter);
            revive(&mut situation, rebooted);
            let up = go_on(&mut situation, Duration::from_secs(pause), &StablePromoter);
            assert_eq!((down, up), (vec![], vec![]), "a reboot of {rebooted} every {pause} s");
        }
        let voters: Vec<_> = situation.inputs.view.configuration.voters().map(|v| v.id.clone()).collect();
        assert_eq!(voters, [id("n1"), id("n2"), id("n3")]);
    }
}

// vault#16919
#[test]
fn a_server_that_still_installs_its_snapshot_is_not_removed() {
    let new = Situation::new("n1").voter("n2").voter("n3").member("n4", Suffrage::Nonvoter).stale("n4");
    let mut situation = new.with(|inputs| {
        inputs.memory.servers.remove(&id("n4"));
        // It answers now and then; one that never does is dead, whatever is sent to it.
        let seldom = Some(Duration::from_secs(15));
        let stats = autopilot::ServerStats { last_contact: seldom, ..autopilot::ServerStats::default() };
        inputs.view.stats.insert(id("n4"), stats);
        inputs.view.installing.insert(id("n4"));
    });
    assert_eq!(go_on(&mut situation, Duration::from_secs(300), &StablePromoter), []);
    assert_eq!(why_it_stays(&situation, "n4"), (Verdict::Deferred, "joining"));
    situation.inputs.view.installing.clear();
    assert_eq!(go_on(&mut situation, Duration::from_secs(20), &StablePromoter), [], "patience");
    let steps = go_on(&mut situation, Duration::from_secs(20), &StablePromoter);
    assert_eq!(steps, [Step::Remove { id: id("n4"), class: DeadClass::StaleNonvoter }], "no progress");
}

#[test]
fn entries_that_arrive_are_progress_and_a_proven_server_is_an_ordinary_one() {
    let mut situation = Situation::new("n1").voter("n2").voter("n3").nonvoter("n4").stale("n4");
    assert!(step(&situation).is_some(), "it was healthy once, so it does not count as joining");
    situation.inputs.memory.servers.remove(&id("n4"));
    for index in [10, 20, 30, 40, 50, 60] {
        let last = autopilot::LogIndex(index);
        edit_stats(&mut situation.inputs.view, "n4", |stats| stats.last_index = last);
        assert_eq!(go_on(&mut situation, Duration::from_secs(20), &StablePromoter), []);
    }
    assert!(run(&situation).state.servers[&id("n4")].joining_until.is_some());
    assert_eq!(go_on(&mut situation, Duration::from_secs(40), &StablePromoter).len(), 1);
}

#[test]
fn where_others_are_asked_enough_of_them_must_agree() {
    let situation = five().failed("n5").config(|config| {
        config.health.witnesses = 2;
        config.removal.floor_from_size = false;
    });
    assert_eq!(why_it_stays(&situation, "n5"), (Verdict::Refused, "not-corroborated"));
    let heard = |dead, alive| {
        situation.clone().with(|inputs| {
            inputs.witnesses.insert(id("n5"), Witnesses { dead, alive });
        })
    };
    assert_eq!(why_it_stays(&heard(1, 0), "n5").1, "not-corroborated");
    assert_eq!(why_it_stays(&heard(2, 2), "n5").1, "not-corroborated", "as many hear from it");
    assert!(matches!(step(&heard(2, 1)), Some(Step::Remove { .. })));
    let left = situation.clone().status("n5", NodeStatus::Left);
    assert!(matches!(step(&left), Some(Step::Remove { .. })), "its own word is enough");
}

// Item 6.
#[test]
fn a_dead_voter_is_replaced_in_one_step_where_the_engine_can() {
    let situation = five().nonvoter("n6").failed("n5").with(|inputs| inputs.capabilities.atomic = true);
    let round = run(&situation);
    let planned = round.plan.step.clone().unwrap();
    let expected = Step::Swap {
        id: id("n6"),
        address: "n6.test:8300".into(),
        out: id("n5"),
        class: Some(DeadClass::FailedVoter),
    };
    assert_eq!(planned.step, expected);
    assert_eq!(planned.step.to_string(), "replace failed voter n5 with server n6");
    assert_eq!(
        planned.reason.to_string(),
        "it takes the place of server n5: the application reports it as failed"
    );
    let blocked = round.state.servers[&id("n6")].blocked_by.clone().unwrap();
    assert_eq!(blocked.code(), "next-round");
    let after = planned.step.apply(&situation.inputs.view.configuration).unwrap();
    assert_eq!((after.voters_count(), after.is_voter(&id("n6"))), (5, true));
    assert!(after.server(&id("n5")).is_none());
    // Told in the timeline of a server.
    let explained = autopilot::explain(&round.state, &round.plan, &id("n6")).unwrap();
    assert!(explained.to_string().contains("Giving it the vote of another server is the next step"));
}

#[test]
fn a_swap_waits_for_a_fit_newcomer_and_for_a_certain_death() {
    let atomic = |inputs: &mut Inputs| inputs.capabilities.atomic = true;
    let new = five().nonvoter("n6").healthy_for("n6", Duration::from_secs(3)).failed("n5").with(atomic);
    assert_eq!(step(&new), None, "probation, and the floor");
    let cordoned = five().nonvoter("n6").cordoned("n6").failed("n5").with(atomic);
    assert_eq!(step(&cordoned), None);
    let short = five().nonvoter("n6").failed("n5").with(atomic).with(|inputs| {
        inputs.memory.servers.get_mut(&id("n5")).unwrap().since = inputs.now - Duration::from_secs(20);
    });
    assert!(matches!(step(&short), Some(Step::Promote { .. })), "a reboot is no death");
    let kept = five().nonvoter("n6").failed("n5").with(atomic).config(|c| c.cleanup_dead_servers = false);
    assert!(matches!(step(&kept), Some(Step::Promote { .. })), "nobody is to be removed");
    let off = five().nonvoter("n6").failed("n5").with(atomic).config(|c| c.removal.swap = false);
    assert!(matches!(step(&off), Some(Step::Promote { .. })));
    // An engine that refuses: the swap waits, and one change follows the other.
    let refused = five().nonvoter("n6").failed("n5").with(atomic);
    let swap = step(&refused).unwrap();
    let mut refused = refused.with(|inputs| {
        let until = inputs.now + Duration::from_secs(60);
        inputs.cool_down = Some(autopilot::CoolDown { step: swap, until, error: "old peer".into() });
    });
    let steps = go_on(&mut refused, Duration::from_secs(30), &StablePromoter);
    assert!(matches!(steps[0], Step::Promote { .. }), "{steps:?}");
    assert!(matches!(steps[1], Step::Remove { .. }), "{steps:?}");
    assert_eq!(refused.inputs.view.configuration.voters_count(), 5);
}

/// What `docs/autopilot.md` says about the two orders in which an engine that changes one member at a time can replace
/// a dead voter.
#[test]
fn either_order_of_a_replacement_survives_as_many_failures_in_between() {
    for voters in 1..=9_usize {
        for healthy in voters / 2 + 1..=voters {
            let tolerance = |voters: usize, healthy: usize| healthy as i64 - (voters / 2 + 1) as i64;
            assert_eq!(tolerance(voters + 1, healthy + 1), tolerance(voters - 1, healthy));
        }
    }
}

// consul#3611: promotion and removal must not wait for each other.
#[test]
fn one_by_one_every_voter_can_be_replaced_with_or_without_one_step_for_both() {
    for atomic in [true, false] {
        let mut situation = Situation::new("n1").voter("n2").voter("n3");
        situation.inputs.capabilities.atomic = atomic;
        go_on(&mut situation, Duration::from_secs(20), &StablePromoter);
        for (dead, new) in [("n2", "n4"), ("n3", "n5"), ("n4", "n6"), ("n5", "n7")] {
            kill(&mut situation, dead);
            situation = situation.nonvoter(new);
            let now = situation.inputs.now;
            situation.inputs.memory.servers.get_mut(&id(new)).unwrap().since = now;
            go_on(&mut situation, Duration::from_secs(120), &StablePromoter);
            let configuration = &situation.inputs.view.configuration;
            assert_eq!(configuration.voters_count(), 3, "atomic {atomic}: {configuration:?}");
            assert!(configuration.is_voter(&id(new)) && configuration.server(&id(dead)).is_none());
        }
    }
}

#[test]
fn removed_servers_are_remembered_up_to_a_bound() {
    let mut memory = Memory::default();
    for number in 0..Memory::TOMBSTONES_MAX as u64 + 10 {
        let how = Performed {
            at: autopilot::Time::from_millis(number),
            term: autopilot::Term(1),
            by: &Actor::AUTOPILOT,
            why: &Reason::Stale,
            index: None,
            incarnation: None,
        };
        memory.bury(&id(&format!("n{number}")), &how);
    }
    assert_eq!(memory.tombstones.len(), Memory::TOMBSTONES_MAX);
    assert!(!memory.tombstones.contains_key(&id("n9")), "the oldest go first");
    assert!(memory.tombstones.contains_key(&id("n10")));
}
