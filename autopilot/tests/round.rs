//! The rules of one round, and each defect of the reference library that ours must not have.

use std::collections::BTreeMap;
use std::time::Duration;

use autopilot::testing::Situation;
use autopilot::{
    Action, Changes, DeadClass, DeadServers, Decision, HealthReason, LogIndex, Mode, NodeStatus, NodeType,
    Promoter, PromoterInput, RaftState, Reason, Round, ServerId, ServerState, Severity, StablePromoter,
    State, Step, Term, Verdict,
};

fn id(text: &str) -> ServerId {
    text.into()
}

fn three() -> Situation {
    Situation::plain("n1").voter("n2").voter("n3")
}

fn run(situation: &Situation) -> Round {
    situation.round(&StablePromoter)
}

fn step(situation: &Situation) -> Option<Step> {
    run(situation).plan.step.map(|planned| planned.step)
}

fn removal(text: &str, class: DeadClass) -> Option<Step> {
    Some(Step::Remove { id: id(text), class })
}

#[track_caller]
fn decision(round: &Round, server: &str, action: Action) -> Decision {
    let found = round.plan.decisions.iter().find(|d| d.server == id(server) && d.action == action);
    found.unwrap_or_else(|| panic!("no decision to {action} {server} in {:#?}", round.plan)).clone()
}

#[track_caller]
fn refused(round: &Round, server: &str, action: Action) -> &'static str {
    let decision = decision(round, server, action);
    assert_eq!(decision.verdict, Verdict::Refused, "{decision}");
    decision.reason.code()
}

fn health_code(situation: &Situation, server: &str) -> Option<&'static str> {
    run(situation).state.servers[&id(server)].health.reasons.first().map(HealthReason::code)
}

/// Steps until nothing is left to do, each on the configuration that the one before left.
fn settle(mut situation: Situation, promoter: &dyn Promoter) -> (Situation, Vec<Step>) {
    let mut steps = Vec::new();
    while let Some(planned) = situation.round(promoter).plan.step {
        let view = &mut situation.inputs.view;
        view.configuration = planned.step.apply(&view.configuration).unwrap();
        steps.push(planned.step);
        assert!(steps.len() < 20, "{steps:?}");
    }
    (situation, steps)
}

#[test]
fn a_healthy_cluster_is_left_alone_and_counted_right() {
    let round = run(&three().nonvoter("n4").meta("n2", "zone", "b"));
    let state = &round.state;
    assert!(state.healthy);
    assert_eq!(state.severity, Severity::Healthy);
    assert_eq!((state.quorum, state.failure_tolerance, state.optimistic_failure_tolerance), (2, 1, 2));
    assert_eq!(state.voters, [id("n1"), id("n2"), id("n3")]);
    assert_eq!(state.servers[&id("n1")].raft_state, RaftState::Leader);
    assert_eq!(state.servers[&id("n4")].raft_state, RaftState::Nonvoter);
    assert_eq!(state.by_metadata("zone")["b"][0].id, id("n2"));
    assert_eq!(step(&three()), None);
}

#[test]
fn every_health_rule_has_its_code() {
    type Edit = fn(&mut autopilot::Inputs);
    let cases: [(&str, Edit); 7] = [
        ("no-leader", |inputs| (inputs.view.leader, inputs.view.is_leader) = (None, false)),
        ("not-alive", |inputs| {
            inputs.known.servers.get_mut(&"n2".into()).unwrap().node_status = NodeStatus::Left;
        }),
        ("no-stats", |inputs| {
            inputs.view.stats.clear();
            inputs.memory.servers.clear();
        }),
        ("no-contact", |inputs| inputs.view.stats.get_mut(&"n2".into()).unwrap().last_contact = None),
        ("last-contact", |inputs| {
            inputs.view.stats.get_mut(&"n2".into()).unwrap().last_contact = Some(Duration::from_millis(201));
        }),
        ("last-term", |inputs| inputs.view.stats.get_mut(&"n2".into()).unwrap().last_term = Term(2)),
        ("trailing-logs", |inputs| {
            inputs.view.stats.get_mut(&"n2".into()).unwrap().last_index = LogIndex(749);
        }),
    ];
    for (code, edit) in cases {
        assert_eq!(health_code(&three().with(edit), "n2"), Some(code));
    }
    let covered: Vec<_> = cases.iter().map(|(code, _)| *code).chain(["recent-misses"]).collect();
    assert_eq!(covered, HealthReason::CODES);
}

#[test]
fn limits_themselves_are_healthy() {
    let at_the_limits = three().with(|inputs| {
        let stats = inputs.view.stats.get_mut(&"n2".into()).unwrap();
        stats.last_contact = Some(Duration::from_millis(200));
        stats.last_index = LogIndex(750);
    });
    assert_eq!(health_code(&at_the_limits, "n2"), None);
}

#[test]
fn reasons_say_it_in_a_sentence_with_numbers() {
    let trailing = three().nonvoter("n4").with(|inputs| {
        inputs.view.stats.get_mut(&"n4".into()).unwrap().last_index = LogIndex(188);
    });
    let blocked = run(&trailing).state.servers[&id("n4")].blocked_by.clone().unwrap();
    assert_eq!(
        (blocked.code(), blocked.to_string().as_str()),
        ("trailing-logs", "trailing 812 entries, limit 250")
    );
    let new = three().nonvoter("n4").healthy_for("n4", Duration::from_millis(3_800));
    let blocked = run(&new).state.servers[&id("n4")].blocked_by.clone().unwrap();
    assert_eq!(blocked.to_string(), "probation, 6.2s left of 10.0s");
    assert_eq!(blocked.earliest, Some(new.inputs.now + Duration::from_millis(6_200)));
    assert_eq!(run(&new).next_wake, blocked.earliest);
    let json = serde_json::to_value(&blocked).unwrap();
    assert_eq!(
        json["reason"],
        serde_json::json!({"code": "probation", "left": "6s 200ms", "required": "10s"})
    );
}

#[test]
fn every_reason_survives_a_recording() {
    let health = Reason::Health(HealthReason::TrailingLogs { behind: 812, limit: 250 });
    for reason in [health, Reason::Stale, Reason::MinQuorum { voters: 2, min_quorum: 3 }] {
        let text = serde_json::to_string(&reason).unwrap();
        assert!(text.contains(&format!("\"code\":\"{}\"", reason.code())), "{text}");
        assert!(Reason::CODES.contains(&reason.code()));
        assert_eq!(serde_json::from_str::<Reason>(&text).unwrap(), reason);
    }
    let situation = three().nonvoter("n4").failed("n2").stale("n3");
    let text = serde_json::to_string(&situation.inputs).unwrap();
    let again: autopilot::Inputs = serde_json::from_str(&text).unwrap();
    assert_eq!(Round::run(&again, &StablePromoter), run(&situation));
    let round = run(&situation);
    let text = serde_json::to_string(&round).unwrap();
    assert_eq!(serde_json::from_str::<Round>(&text).unwrap(), round);
}

#[test]
fn a_stable_nonvoter_gets_its_vote_and_one_at_a_time() {
    let round = run(&three().nonvoter("n4").nonvoter("n5"));
    assert_eq!(round.plan.configuration_index, LogIndex(900));
    let first = decision(&round, "n4", Action::Promote);
    assert_eq!((first.verdict, first.reason.code()), (Verdict::Chosen, "policy"));
    let second = decision(&round, "n5", Action::Promote);
    assert_eq!((second.verdict, second.reason.code()), (Verdict::Deferred, "one-step-at-a-time"));
    assert_eq!(round.state.servers[&id("n5")].blocked_by.as_ref().unwrap().code(), "one-step-at-a-time");
}

#[test]
fn nothing_is_changed_while_a_gate_is_closed() {
    type Edit = fn(&mut autopilot::Inputs);
    let cases: [(&str, Edit); 7] = [
        ("not-leader", |inputs| inputs.view.is_leader = false),
        ("not-leader", |inputs| inputs.view.term = Term(4)),
        ("no-config", |inputs| inputs.config = None),
        ("leader-not-ready", |inputs| inputs.view.ready = false),
        ("change-in-progress", |inputs| inputs.view.configuration_committed = false),
        ("reconciliation-disabled", |inputs| inputs.reconciliation_enabled = false),
        ("next-round", |inputs| inputs.mode = Mode::Watch),
    ];
    for (code, edit) in cases {
        let situation = three().nonvoter("n4").nonvoter("n5").failed("n5").with(edit);
        let round = run(&situation);
        assert_eq!(round.plan.step, None, "{code}");
        for (server, action) in [("n4", Action::Promote), ("n5", Action::Remove)] {
            let decision = decision(&round, server, action);
            assert_eq!((decision.verdict, decision.reason.code()), (Verdict::Deferred, code));
        }
    }
}

#[test]
fn a_step_that_failed_lets_others_go_first() {
    let situation = three().nonvoter("n4").nonvoter("n5");
    let failed = step(&situation).unwrap();
    let situation = situation.with(|inputs| {
        let until = inputs.now + Duration::from_secs(5);
        inputs.cool_down = Some(autopilot::CoolDown { step: failed, until, error: "disk".into() });
    });
    assert!(matches!(step(&situation), Some(Step::Promote { id, .. }) if id == ServerId::from("n5")));
    assert_eq!(decision(&run(&situation), "n4", Action::Promote).reason.code(), "cool-down");
    let later = situation.with(|inputs| inputs.now = inputs.now + Duration::from_secs(5));
    assert!(matches!(step(&later), Some(Step::Promote { id, .. }) if id == ServerId::from("n4")));
}

#[test]
fn dead_servers_go_in_order_and_without_asking_for_more() {
    let situation = three()
        .voter("n4")
        .voter("n5")
        .nonvoter("n6")
        .nonvoter("n7")
        .failed("n4")
        .stale("n5")
        .failed("n6")
        .stale("n7");
    let (_, steps) = settle(situation, &StablePromoter);
    let order: Vec<_> = steps
        .iter()
        .map(|step| match step {
            Step::Remove { id, class } => (id.as_str(), *class),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(
        order,
        [
            ("n7", DeadClass::StaleNonvoter),
            ("n6", DeadClass::FailedNonvoter),
            ("n5", DeadClass::StaleVoter),
            ("n4", DeadClass::FailedVoter),
        ]
    );
}

#[test]
fn removal_can_be_switched_off_and_asked_for() {
    let off = three().failed("n3").config(|config| config.cleanup_dead_servers = false);
    assert_eq!(step(&off), None);
    assert_eq!(refused(&run(&off), "n3", Action::Remove), "cleanup-disabled");
    let asked = off.with(|inputs| {
        inputs.mode = Mode::Prune;
        inputs.reconciliation_enabled = false;
    });
    assert_eq!(step(&asked), removal("n3", DeadClass::FailedVoter));
}

#[test]
fn a_short_death_costs_nobody_the_membership() {
    let down_for = |seconds: u64| {
        three().nonvoter("n4").failed("n3").stale("n4").with(|inputs| {
            let now = inputs.now;
            for server in ["n3", "n4"] {
                let seen = inputs.memory.servers.get_mut(&server.into()).unwrap();
                seen.since = now - Duration::from_secs(seconds);
            }
        })
    };
    let round = run(&down_for(9));
    assert_eq!(round.plan.step, None);
    for server in ["n3", "n4"] {
        let decision = decision(&round, server, Action::Remove);
        assert_eq!((decision.verdict, decision.reason.code()), (Verdict::Deferred, "grace"));
    }
    assert_eq!(round.next_wake, Some(down_for(9).inputs.now + Duration::from_secs(1)));
    assert_eq!(step(&down_for(10)), removal("n4", DeadClass::StaleNonvoter));
    let left = down_for(1).status("n3", NodeStatus::Left);
    assert_eq!(step(&left), removal("n3", DeadClass::FailedVoter), "it left on purpose");
    let asked = down_for(1).with(|inputs| inputs.mode = Mode::Prune);
    assert_eq!(step(&asked), removal("n4", DeadClass::StaleNonvoter), "somebody asked");
}

// S1
#[test]
fn s1_stable_since_moves_with_every_change_of_health() {
    let mut situation = three().nonvoter("n4").healthy_for("n4", Duration::from_secs(600));
    let mut since = Vec::new();
    for status in [NodeStatus::Alive, NodeStatus::Failed, NodeStatus::Failed, NodeStatus::Alive] {
        situation = situation.status("n4", status).with(|inputs| {
            inputs.now = inputs.now + Duration::from_secs(60);
            inputs.config.as_mut().unwrap().cleanup_dead_servers = false;
        });
        let round = run(&situation);
        since.push(round.state.servers[&id("n4")].health.stable_since);
        situation.inputs.memory = round.memory;
    }
    let now = situation.inputs.now;
    let ago = |seconds| now - Duration::from_secs(seconds);
    assert_eq!(since, [ago(60 * 4 + 600 - 60 * 4 + 180 + 60), ago(120), ago(120), now]);
    assert_eq!(step(&situation), None, "a server that was down a minute ago is on probation");
}

// S3
#[test]
fn s3_a_server_that_is_not_measured_turns_unhealthy() {
    let aged = |seconds: u64| {
        three().nonvoter("n4").with(|inputs| {
            inputs.view.stats.remove(&"n4".into());
            let now = inputs.now;
            let seen = inputs.memory.servers.get_mut(&"n4".into()).unwrap();
            seen.stats_at = Some(now - Duration::from_secs(seconds));
        })
    };
    assert_eq!(health_code(&aged(6), "n4"), None);
    assert_eq!(health_code(&aged(7), "n4"), Some("no-stats"));
    assert_eq!(step(&aged(7)), None);
}

// S4, one by one
#[test]
fn s4_stale_voters_count_against_min_quorum() {
    let situation = three().voter("n4").voter("n5").stale("n4").stale("n5").config(|c| c.min_quorum = 5);
    assert_eq!(step(&situation), None);
    assert_eq!(refused(&run(&situation), "n4", Action::Remove), "min-quorum");
}

#[test]
fn s4_a_dead_majority_is_not_removed() {
    let situation = Situation::plain("n1").voter("n2").voter("n3").voter("n4").nonvoter("n5").nonvoter("n6");
    let situation = situation.stale("n2").stale("n3").stale("n4");
    let round = run(&situation);
    assert_eq!(round.plan.step, None);
    assert_eq!(refused(&round, "n2", Action::Remove), "no-quorum");
    assert_eq!(refused(&round, "n5", Action::Promote), "no-quorum");
}

#[test]
fn s4_nonvoters_do_not_stand_in_for_voters() {
    let situation = Situation::plain("n1").voter("n2").voter("n3").voter("n4").voter("n5");
    let situation = situation.failed("n3").failed("n4").failed("n5").config(|config| config.min_quorum = 3);
    let situation = ["n6", "n7", "n8", "n9"].iter().fold(situation, |situation, id| situation.nonvoter(id));
    let (situation, steps) = settle(situation, &StablePromoter);
    assert_eq!(steps, [], "without a quorum nothing can be committed");
    assert_eq!(situation.inputs.view.configuration.voters_count(), 5);
}

struct NeverVoters(&'static [&'static str]);

impl Promoter for NeverVoters {
    fn name(&self) -> &str {
        "never"
    }

    fn changes(&self, _: &PromoterInput<'_>) -> Changes {
        Changes::default()
    }

    fn may_vote(&self, server: &ServerState) -> bool {
        !self.0.contains(&server.id.as_str())
    }
}

#[test]
fn s4_what_the_promoter_calls_a_server_does_not_make_its_vote_worthless() {
    let situation = three().voter("n4").voter("n5").voter("n6").voter("n7");
    let situation = situation.failed("n4").failed("n5").failed("n6").failed("n7");
    let round = situation.round(&NeverVoters(&["n4", "n5", "n6", "n7"]));
    assert_eq!(round.plan.step, None);
    assert_eq!(refused(&round, "n4", Action::Remove), "no-quorum");
}

#[test]
fn s4_the_leader_is_never_removed() {
    for status in [NodeStatus::Failed, NodeStatus::Left, NodeStatus::Unknown] {
        let situation = three().status("n1", status);
        assert_eq!(step(&situation), None, "{status}");
    }
    assert_eq!(refused(&run(&three().status("n1", NodeStatus::Left)), "n1", Action::Remove), "is-leader");
}

/// An application that is blind, or wrong, for long: what answers the leader is not dead.
#[test]
fn a08_who_answers_the_leader_stays_unless_somebody_asks_or_it_left() {
    let long_ago = |situation: Situation| {
        situation.with(|inputs| {
            let seen = inputs.memory.servers.get_mut(&id("n3")).expect("a member");
            (seen.healthy, seen.since) = (false, inputs.now - Duration::from_secs(600));
        })
    };
    let unknown = long_ago(three().with(|inputs| drop(inputs.known.servers.remove(&id("n3")))));
    assert_eq!(step(&unknown), None);
    assert_eq!(refused(&run(&unknown), "n3", Action::Remove), "still-answers");
    let said_dead = long_ago(three().status("n3", NodeStatus::Failed));
    assert_eq!(refused(&run(&said_dead), "n3", Action::Remove), "still-answers");
    let asked = said_dead.clone().with(|inputs| inputs.mode = Mode::Prune);
    assert_eq!(step(&asked), removal("n3", DeadClass::FailedVoter));
    assert_eq!(step(&three().status("n3", NodeStatus::Left)), removal("n3", DeadClass::FailedVoter));

    // Down for ten minutes by the application's word, silent for five seconds only.
    let silent = said_dead.with(|inputs| {
        let stats = inputs.view.stats.get_mut(&id("n3")).expect("a member");
        stats.last_contact = Some(Duration::from_secs(5));
    });
    assert_eq!(step(&silent), None);
    let left = Reason::Grace { left: Duration::from_secs(5), required: Duration::from_secs(10) };
    assert_eq!(decision(&run(&silent), "n3", Action::Remove).reason, left);
}

#[test]
fn s4_an_application_that_knows_nobody_prunes_nothing_and_says_so() {
    let nobody = three().nonvoter("n4").with(|inputs| inputs.known.servers.clear());
    assert_eq!(step(&nobody), None);
    assert_eq!(refused(&run(&nobody), "n4", Action::Remove), "application-knows-nobody");
    let leader_missing = three().nonvoter("n4").stale("n1").failed("n4");
    assert_eq!(step(&leader_missing), None);
    assert_eq!(refused(&run(&leader_missing), "n4", Action::Remove), "application-misses-leader");
    let silent = three().failed("n3").with(|inputs| inputs.known.error = Some("gossip is down".into()));
    assert_eq!(refused(&run(&silent), "n3", Action::Remove), "application-error");
}

#[test]
fn s4_one_stale_of_three_voters_goes_as_one_failed_does() {
    assert_eq!(step(&three().stale("n3")), removal("n3", DeadClass::StaleVoter));
    assert_eq!(step(&three().failed("n3")), removal("n3", DeadClass::FailedVoter));
}

#[test]
fn s4_a_failed_nonvoter_goes_whatever_min_quorum_says() {
    let situation = three().nonvoter("n4").failed("n4").config(|config| config.min_quorum = 4);
    assert_eq!(step(&situation), removal("n4", DeadClass::FailedNonvoter));
}

#[test]
fn s4_seven_voters_never_lose_more_than_the_quorum_allows() {
    let base = || three().voter("n4").voter("n5").voter("n6").voter("n7");
    let (after, steps) = settle(base().failed("n5").stale("n6").failed("n7"), &StablePromoter);
    assert_eq!((steps.len(), after.inputs.view.configuration.voters_count()), (3, 4));
    let (after, steps) = settle(base().failed("n4").failed("n5").stale("n6").failed("n7"), &StablePromoter);
    assert_eq!((steps.len(), after.inputs.view.configuration.voters_count()), (0, 7));
    let floor = base().failed("n5").stale("n6").failed("n7").config(|config| config.min_quorum = 5);
    assert_eq!(settle(floor, &StablePromoter).0.inputs.view.configuration.voters_count(), 5);
}

#[test]
fn a_server_of_unknown_status_stays_and_the_reason_is_told() {
    let situation = three().failed("n3").status("n3", NodeStatus::Unknown);
    assert_eq!(step(&situation), None);
    assert_eq!(refused(&run(&situation), "n3", Action::Remove), "status-unknown");
}

/// Wishes whatever it is told.
struct Says {
    promote: &'static [&'static str],
    demote: &'static [&'static str],
    leader: Option<&'static str>,
    keep: &'static [&'static str],
}

const NOTHING: Says = Says { promote: &[], demote: &[], leader: None, keep: &[] };

impl Promoter for Says {
    fn name(&self) -> &str {
        "says"
    }

    fn changes(&self, _: &PromoterInput<'_>) -> Changes {
        let mut changes = Changes::default();
        self.promote.iter().for_each(|server| changes.promote(&id(server), "told to"));
        self.demote.iter().for_each(|server| changes.demote(&id(server), "told to"));
        self.leader.iter().for_each(|server| changes.transfer_to(&id(server), "told to"));
        changes
    }

    fn keep_failed(&self, _: &PromoterInput<'_>, _: &DeadServers) -> BTreeMap<ServerId, String> {
        self.keep.iter().map(|server| (id(server), String::from("told to"))).collect()
    }
}

// S5
#[test]
fn s5_one_unhealthy_voter_is_demoted_once_before_its_replacement_is_promoted() {
    let promoter = Says { promote: &["n4"], demote: &["n3"], ..NOTHING };
    let situation = three().nonvoter("n4").failed("n3");
    let round = situation.round(&promoter);
    assert_eq!(round.plan.step.as_ref().unwrap().step, Step::Demote { id: id("n3") });
    let about_n3 = round.plan.decisions.iter().filter(|d| d.server == id("n3") && d.action == Action::Demote);
    assert_eq!(about_n3.count(), 1);
    let healthy = three().nonvoter("n4").round(&promoter);
    assert!(matches!(healthy.plan.step.unwrap().step, Step::Promote { .. }), "a healthy voter waits");
    let floor = situation.config(|config| config.min_quorum = 3).round(&promoter);
    assert!(matches!(floor.plan.step.unwrap().step, Step::Promote { .. }), "min_quorum: promote first");
}

#[test]
fn s5_the_leader_the_last_voter_and_unfit_targets_are_guarded() {
    let demote = Says { demote: &["n1"], ..NOTHING };
    assert_eq!(refused(&three().round(&demote), "n1", Action::Demote), "is-leader");
    assert_eq!(refused(&Situation::plain("n1").round(&demote), "n1", Action::Demote), "is-leader");
    let transfer = Says { leader: Some("n4"), ..NOTHING };
    assert_eq!(refused(&three().nonvoter("n4").round(&transfer), "n4", Action::Transfer), "not-voter");
    let silent = three().voter("n4").failed("n4").config(|config| config.cleanup_dead_servers = false);
    assert_eq!(refused(&silent.round(&transfer), "n4", Action::Transfer), "not-alive");
    let fit = three().voter("n4").round(&transfer);
    assert_eq!(fit.plan.step.unwrap().step, Step::Transfer { id: id("n4") });
    let demote = Says { demote: &["n2", "n3"], ..NOTHING };
    let (after, steps) = settle(three(), &demote);
    assert_eq!((steps.len(), after.inputs.view.configuration.voters_count()), (2, 1));
    let unhealthy = three().failed("n2").failed("n3").round(&demote);
    assert_eq!(refused(&unhealthy, "n2", Action::Demote), "no-quorum");
}

#[test]
fn a_custom_promoter_cannot_skip_probation_or_health() {
    let promote = Says { promote: &["n4"], ..NOTHING };
    let new = three().nonvoter("n4").healthy_for("n4", Duration::from_secs(9));
    let waits = decision(&new.round(&promote), "n4", Action::Promote);
    assert_eq!((waits.verdict, waits.reason.code()), (Verdict::Deferred, "probation"));
    let down = three().nonvoter("n4").failed("n4").round(&promote);
    assert_eq!(refused(&down, "n4", Action::Promote), "not-alive");
    assert_eq!(refused(&three().voter("n4").round(&promote), "n4", Action::Promote), "already-voter");
}

// S6
#[test]
fn s6_adding_to_a_configuration_without_voters_is_allowed() {
    let plan =
        autopilot::core::plan_add(&autopilot::Configuration::default(), None, &id("n1"), &"a:1".into());
    let expected = autopilot::core::AddPlan::Change { removals: vec![], as_voter: false, member: false };
    assert_eq!(plan, Ok(expected));
}

struct Panics;

impl Promoter for Panics {
    fn name(&self) -> &str {
        "panics"
    }

    fn changes(&self, _: &PromoterInput<'_>) -> Changes {
        panic!("no idea")
    }

    fn node_type(&self, _: &ServerState, _: &State) -> NodeType {
        panic!("no type")
    }

    fn keep_failed(&self, _: &PromoterInput<'_>, _: &DeadServers) -> BTreeMap<ServerId, String> {
        panic!("keep?")
    }
}

// S7
#[test]
fn s7_nonsense_from_a_promoter_is_reported_and_ignored() {
    let promoter = Says {
        promote: &["ghost", "n4", "n4"],
        demote: &["nobody"],
        leader: Some("no"),
        keep: &["n1", "ghost"],
    };
    let round = three().nonvoter("n4").round(&promoter);
    assert!(matches!(round.plan.step.as_ref().unwrap().step, Step::Promote { .. }));
    for (server, action) in [
        ("ghost", Action::Promote),
        ("nobody", Action::Demote),
        ("no", Action::Transfer),
        ("n1", Action::Remove),
        ("ghost", Action::Remove),
    ] {
        assert_eq!(refused(&round, server, action), "promoter-fault");
    }
    let faults = round.plan.decisions.iter().filter(|d| d.reason.code() == "promoter-fault");
    assert_eq!(faults.count(), 6, "five and the repeated name");
}

#[test]
fn s7_a_promoter_that_panics_is_reported_and_nothing_is_removed() {
    let round = three().failed("n3").round(&Panics);
    assert_eq!(round.plan.step, None);
    assert!(round.state.servers[&id("n2")].health.healthy, "the state is computed nonetheless");
    assert_eq!(refused(&round, "n3", Action::Remove), "promoter-fault");
    assert!(
        round.plan.decisions.iter().any(|d| d.reason.to_string().contains("no type")),
        "{:#?}",
        round.plan
    );
}

#[test]
fn a_promoter_may_keep_a_dead_server() {
    let promoter = Says { keep: &["n3"], ..NOTHING };
    assert_eq!(refused(&three().failed("n3").round(&promoter), "n3", Action::Remove), "kept-by-policy");
}

// S10
#[test]
fn s10_the_largest_limit_makes_nobody_unhealthy() {
    let situation = three().config(|config| config.max_trailing_logs = u64::MAX);
    assert_eq!(health_code(&situation, "n2"), None);
    let ahead = three().with(|inputs| {
        inputs.view.stats.get_mut(&"n2".into()).unwrap().last_index = LogIndex(u64::MAX);
    });
    assert_eq!(health_code(&ahead, "n2"), None);
}

// S11
#[test]
fn s11_a_leader_without_a_vote_is_not_counted() {
    let situation = three().nonvoter("n4").with(|inputs| inputs.view.leader = Some("n4".into()));
    let state = run(&situation).state;
    assert_eq!((state.voters.len(), state.quorum), (3, 2));
    assert!(state.servers[&id("n4")].is_leader() && !state.servers[&id("n4")].is_voter());
    assert!(!state.servers[&id("n1")].is_leader());
}

// L6: what may be done is bound to the configuration it was decided on.
#[test]
fn l6_a_plan_names_its_configuration_and_holds_one_step() {
    let round = run(&three().nonvoter("n4").nonvoter("n5").failed("n3"));
    assert_eq!(round.plan.configuration_index, LogIndex(900));
    assert_eq!(round.plan.decisions.iter().filter(|d| d.verdict == Verdict::Chosen).count(), 1);
}

// L8
#[test]
fn l8_a_sick_nonvoter_weighs_less_than_a_sick_voter() {
    let severity = |situation: Situation| run(&situation).state.severity;
    let replica = three().nonvoter("n4").failed("n4");
    assert!(!run(&replica).state.healthy, "the compatible meaning");
    assert_eq!(severity(replica), Severity::Informational);
    assert_eq!(severity(three().failed("n3")), Severity::QuorumAtRisk);
    assert_eq!(severity(three().voter("n4").voter("n5").failed("n3")), Severity::Degraded);
    assert_eq!(State::default().severity, Severity::QuorumAtRisk);
}

// The stabilisation hatch.
#[test]
fn a_new_leader_trusts_voters_at_once_and_joiners_only_after_probation() {
    let situation = three().nonvoter("n4").with(|inputs| inputs.memory = autopilot::Memory::default());
    let first = run(&situation);
    let now = situation.inputs.now;
    assert!(first.state.servers[&id("n2")].is_stable(now));
    assert!(!first.state.servers[&id("n4")].is_stable(now));
    assert_eq!(first.plan.step, None);
    let later = |seconds: u64| {
        let memory = first.memory.clone();
        situation.clone().with(|inputs| {
            inputs.memory = memory;
            inputs.now = inputs.now + Duration::from_secs(seconds);
        })
    };
    assert_eq!(step(&later(9)), None);
    assert!(run(&later(9)).state.servers[&id("n2")].is_stable(later(9).inputs.now));
    assert!(matches!(step(&later(10)), Some(Step::Promote { .. })));
}

#[test]
fn the_same_inputs_give_the_same_round() {
    let situation = three().nonvoter("n4").failed("n3").stale("n2");
    assert_eq!(run(&situation), run(&situation));
}
