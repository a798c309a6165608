//! Health that neither flaps nor lies, how many failures are survived, and what one leader hands to the next.

use std::time::Duration;

use autopilot::testing::Situation;
use autopilot::{
    Action, Config, Decision, EventKind, HealthReason, Inputs, Ledger, LedgerError, LogIndex, Memory,
    NodeStatus, Promoter, Round, ServerId, ServerState, StablePromoter, Step, Term, Time, Verdict,
};

const LOOK: Duration = Duration::from_secs(2);

fn id(text: &str) -> ServerId {
    text.into()
}

fn three() -> Situation {
    Situation::new("n1").voter("n2").voter("n3").nonvoter("n4")
}

/// Looks again after a while; the server has been silent for so long.
fn look(situation: &mut Situation, server: &str, silence_ms: u64, later: Duration) -> ServerState {
    let inputs = &mut situation.inputs;
    inputs.now = inputs.now + later;
    inputs.mode = autopilot::Mode::Watch;
    inputs.view.stats.get_mut(&id(server)).unwrap().last_contact = Some(Duration::from_millis(silence_ms));
    let mut round = Round::run(inputs, &StablePromoter);
    inputs.memory = round.memory;
    round.state.servers.remove(&id(server)).unwrap()
}

#[track_caller]
fn decision(round: &Round, server: &str, action: Action) -> Decision {
    let found = round.plan.decisions.iter().find(|d| d.server == id(server) && d.action == action);
    found.unwrap_or_else(|| panic!("no decision to {action} {server} in {:#?}", round.plan)).clone()
}

// consul#7348
#[test]
fn one_late_heartbeat_costs_nothing_and_two_of_three_do() {
    let mut situation = three();
    let late = look(&mut situation, "n4", 300, LOOK);
    assert!(late.health.healthy);
    assert_eq!(late.health.doubts[0].code(), "last-contact");
    assert!(!look(&mut situation, "n4", 300, LOOK).health.healthy);
    // It takes two good ones out of three to come back.
    let better = look(&mut situation, "n4", 10, LOOK);
    assert_eq!(better.health.reasons, [HealthReason::RecentMisses { bad: 2, of: 3, limit: 2 }]);
    assert!(look(&mut situation, "n4", 10, LOOK).health.healthy);
    // Under the plain rules each counts.
    let mut plain = three().config(|config| *config = Config::reference());
    assert!(!look(&mut plain, "n4", 300, LOOK).health.healthy);
    assert!(look(&mut plain, "n4", 10, LOOK).health.healthy);
}

#[test]
fn many_looks_at_one_moment_are_one_measurement() {
    let mut situation = three();
    for _ in 0..10 {
        let state = look(&mut situation, "n4", 300, Duration::from_millis(50));
        assert!(state.health.healthy, "{:?}", state.health);
    }
    assert!(!look(&mut situation, "n4", 300, LOOK).health.healthy);
}

#[test]
fn nobody_in_doubt_gets_a_vote() {
    let mut situation = three();
    situation.inputs.view.stats.get_mut(&id("n4")).unwrap().last_contact = Some(Duration::from_millis(300));
    situation.inputs.mode = autopilot::Mode::Reconcile;
    let round = situation.round(&StablePromoter);
    assert!(round.state.servers[&id("n4")].health.healthy);
    assert_eq!(decision(&round, "n4", Action::Promote).reason.code(), "last-contact");
}

#[test]
fn who_was_unhealthy_must_do_better_than_who_was_not() {
    let healthy = look(&mut three(), "n4", 190, LOOK);
    assert!(healthy.health.healthy && healthy.health.doubts.is_empty());
    let mut situation = three();
    look(&mut situation, "n4", 300, LOOK);
    look(&mut situation, "n4", 300, LOOK);
    for _ in 0..5 {
        let state = look(&mut situation, "n4", 190, LOOK);
        assert!(!state.health.healthy, "at 190 ms of 200 it would go back and forth");
    }
    for _ in 0..2 {
        look(&mut situation, "n4", 150, LOOK);
    }
    assert!(look(&mut situation, "n4", 150, LOOK).health.healthy);
    let limit = |percent: u32| {
        let mut situation = three().config(|config| config.health.recovery_percent = percent);
        look(&mut situation, "n4", 300, LOOK);
        look(&mut situation, "n4", 300, LOOK);
        situation.inputs.view.stats.get_mut(&id("n4")).unwrap().last_index = LogIndex(850);
        look(&mut situation, "n4", 0, LOOK).health.reasons[0].code()
    };
    assert_eq!((limit(50), limit(75)), ("trailing-logs", "recent-misses"));
}

#[test]
fn the_word_of_the_application_counts_at_once() {
    let mut situation = three();
    situation = situation.status("n4", NodeStatus::Failed);
    assert_eq!(look(&mut situation, "n4", 0, LOOK).health.reasons[0].code(), "not-alive");
}

#[test]
fn a_server_that_flaps_is_trusted_again_only_after_a_while() {
    let mut situation = three();
    let mut flapping = None;
    for _ in 0..3 {
        situation = situation.status("n4", NodeStatus::Failed);
        look(&mut situation, "n4", 0, LOOK);
        situation = situation.status("n4", NodeStatus::Alive);
        flapping = look(&mut situation, "n4", 0, LOOK).flapping_until;
    }
    let until = flapping.expect("three times within seconds");
    assert!(until > situation.inputs.now + Duration::from_secs(100), "{until}");
    let soon = situation.clone().with(|inputs| {
        inputs.now = inputs.now + Duration::from_secs(30);
        inputs.memory.last_state_at = Some(inputs.now);
        inputs.mode = autopilot::Mode::Reconcile;
    });
    let round = soon.round(&StablePromoter);
    assert_eq!(round.plan.step, None, "its probation is over, and yet");
    let blocked = round.state.servers[&id("n4")].blocked_by.clone().unwrap();
    assert_eq!((blocked.code(), blocked.earliest), ("flapping", Some(until)));
    let later = soon.with(|inputs| {
        inputs.now = until;
        inputs.memory.last_state_at = Some(until);
    });
    assert!(matches!(later.round(&StablePromoter).plan.step.unwrap().step, Step::Promote { .. }));
}

#[test]
fn a_leader_that_loses_its_place_makes_nobody_flap() {
    let mut situation = three();
    for _ in 0..4 {
        situation.inputs.view.leader = None;
        situation.inputs.view.is_leader = false;
        look(&mut situation, "n2", 0, LOOK);
        situation.inputs.view.leader = Some(id("n1"));
        situation.inputs.view.is_leader = true;
        look(&mut situation, "n2", 0, LOOK);
    }
    assert_eq!(situation.inputs.memory.servers[&id("n2")].flaps, 0);
}

/// A dead voter and a dead member without a vote, both of which would go, and a stable one that would be promoted.
fn to_be_cleaned() -> Situation {
    let situation = Situation::new("n1").voter("n2").voter("n3").voter("n4").voter("n5").nonvoter("n6");
    situation.nonvoter("n7").failed("n5").failed("n6").config(|config| config.removal.floor_from_size = false)
}

#[track_caller]
fn nothing_is_taken_away(situation: &Situation) -> Round {
    let round = situation.round(&StablePromoter);
    for server in ["n5", "n6"] {
        let waits = decision(&round, server, Action::Remove);
        assert_eq!((waits.verdict, waits.reason.code()), (Verdict::Deferred, "suspended"), "{waits}");
    }
    assert!(matches!(round.plan.step.as_ref().unwrap().step, Step::Promote { .. }), "votes may be given");
    assert!(round.events.iter().any(|news| news.what == EventKind::Suspended));
    round
}

// etcd#6005 and others
#[test]
fn after_a_pause_or_a_jump_of_the_clock_nothing_is_taken_away_for_a_while() {
    let before = to_be_cleaned().with(|inputs| inputs.memory.last_state_at = Some(inputs.now - LOOK));
    assert!(decision(&before.round(&StablePromoter), "n5", Action::Remove).reason.code() != "suspended");
    let paused = to_be_cleaned().with(|inputs| {
        inputs.memory.last_state_at = Some(inputs.now - Duration::from_secs(7));
    });
    let round = nothing_is_taken_away(&paused);
    let next = paused.clone().with(|inputs| {
        inputs.memory = round.memory.clone();
        inputs.now = inputs.now + LOOK;
    });
    assert_eq!(decision(&next.round(&StablePromoter), "n5", Action::Remove).reason.code(), "suspended");
    let over = paused.with(|inputs| {
        inputs.memory = round.memory.clone();
        inputs.now = inputs.now + Duration::from_secs(10);
        inputs.memory.last_state_at = Some(inputs.now - LOOK);
    });
    assert_ne!(decision(&over.round(&StablePromoter), "n5", Action::Remove).reason.code(), "suspended");
    let backwards = to_be_cleaned()
        .with(|inputs| inputs.memory.last_state_at = Some(inputs.now + Duration::from_secs(1)));
    nothing_is_taken_away(&backwards);
}

// A12, A15
#[test]
fn a_leader_that_was_cut_off_takes_nothing_away_for_a_while() {
    let mut situation = to_be_cleaned();
    let silence = |inputs: &mut Inputs, ms| {
        for server in ["n2", "n3", "n4"] {
            inputs.view.stats.get_mut(&id(server)).unwrap().last_contact = Some(Duration::from_millis(ms));
        }
    };
    silence(&mut situation.inputs, 300);
    let cut = situation.round(&StablePromoter);
    assert_eq!(decision(&cut, "n6", Action::Remove).reason.code(), "suspended");
    silence(&mut situation.inputs, 10);
    situation.inputs.memory = cut.memory;
    situation.inputs.now = situation.inputs.now + LOOK;
    let back = situation.round(&StablePromoter);
    assert!(back.state.failure_tolerance > 0, "a quorum is there again");
    assert_eq!(decision(&back, "n5", Action::Remove).reason.code(), "suspended");
    // Most members fell silent at once, though the voters did not.
    let mut many = Situation::new("n1").voter("n2").voter("n3");
    for number in 4..=10 {
        let server = format!("n{number}");
        many = many.nonvoter(&server);
        let inputs = &mut many.inputs;
        inputs.view.stats.get_mut(&id(&server)).unwrap().last_contact = Some(Duration::from_secs(9));
        inputs.memory.servers.get_mut(&id(&server)).unwrap().samples = 1;
    }
    let round = many.round(&StablePromoter);
    assert!(round.memory.suspended.is_some());
    assert_eq!(three().round(&StablePromoter).memory.suspended, None);
}

struct Zones;

impl Promoter for Zones {
    fn name(&self) -> &str {
        "zones"
    }

    fn changes(&self, input: &autopilot::PromoterInput<'_>) -> autopilot::Changes {
        StablePromoter.changes(input)
    }

    fn failure_domain(&self, server: &ServerState) -> Option<String> {
        server.meta.get("zone").cloned()
    }
}

// Item 8.
#[test]
fn tolerance_is_told_by_failure_domain_where_domains_are_known() {
    let zones = |layout: &[(&str, &str)]| {
        let mut situation = Situation::new(layout[0].0).meta(layout[0].0, "zone", layout[0].1);
        for (server, zone) in &layout[1..] {
            situation = situation.voter(server).meta(server, "zone", zone);
        }
        situation
    };
    assert_eq!(three().round(&StablePromoter).state.domain_tolerance, None);
    let spread = zones(&[("n1", "a"), ("n2", "b"), ("n3", "c")]).nonvoter("n4").meta("n4", "zone", "c");
    let state = spread.state(&Zones);
    let told = state.domain_tolerance.unwrap();
    assert_eq!((told.worst, told.best, state.failure_tolerance), (1, 1, 1));
    assert!(told.domains.values().all(|domain| domain.expendable));
    assert_eq!((told.domains["c"].voters, told.domains["c"].standbys), (1, 1));
    // Two of three in one zone: one server may fail, but not that zone.
    let state = zones(&[("n1", "a"), ("n2", "a"), ("n3", "b")]).state(&Zones);
    let told = state.domain_tolerance.unwrap();
    assert_eq!((told.worst, told.best, state.failure_tolerance), (0, 1, 1));
    assert!(!told.domains["a"].expendable && told.domains["b"].expendable);
    let dead = zones(&[("n1", "a"), ("n2", "b"), ("n3", "c")]).failed("n3").state(&Zones);
    let told = dead.domain_tolerance.unwrap();
    assert_eq!((told.worst, told.domains["c"].healthy_voters), (0, 0));
    // A11: a ghost among the voters is counted at once.
    assert_eq!(dead.failure_tolerance, 0);
    let stuck = zones(&[("n1", "a"), ("n2", "b"), ("n3", "c")]).failed("n3").failed("n2").nonvoter("n4");
    assert_eq!(stuck.state(&Zones).optimistic_failure_tolerance, 0, "nobody can be promoted any more");
}

fn exported(situation: &Situation) -> Ledger {
    let round = situation.round(&StablePromoter);
    let inputs = &situation.inputs;
    Ledger::export(&round.state, &round.memory, &inputs.hand, &Config::default(), inputs.now)
}

/// A leader of the next term, whose clock has just begun.
fn next_leader(situation: &Situation) -> Situation {
    situation.clone().with(|inputs| {
        inputs.memory = Memory::default();
        inputs.hand = autopilot::Hand::default();
        inputs.now = Time::from_millis(5);
        inputs.term = Term(4);
        inputs.view.term = Term(4);
    })
}

// Probation survives an election.
#[test]
fn the_next_leader_takes_over_what_was_seen() {
    let ledger = exported(&three().cordoned("n2").failed("n3"));
    let text = serde_json::to_string(&ledger).unwrap();
    let ledger: Ledger = serde_json::from_str(&text).unwrap();
    let mut next = next_leader(&three());
    assert_eq!(next.round(&StablePromoter).plan.step, None, "without history: probation");
    let taken = ledger.import(&next.inputs, Duration::from_secs(1)).unwrap();
    assert_eq!(taken.refused, None);
    (next.inputs.memory, next.inputs.hand) = (taken.memory, taken.hand);
    assert!(next.inputs.hand.cordoned.contains_key(&id("n2")));
    let round = next.round(&StablePromoter);
    assert!(matches!(round.plan.step.unwrap().step, Step::Promote { .. }), "healthy for an hour by then");
    assert_eq!(round.state.stable_size, Some(3));
    // Whoever is not healthy at the first look has no credit.
    let mut sick = next.clone().status("n4", NodeStatus::Failed);
    let memory = sick.round(&StablePromoter).memory;
    sick = sick.status("n4", NodeStatus::Alive).with(|inputs| {
        inputs.memory = memory;
        inputs.now = inputs.now + LOOK;
    });
    assert_eq!(sick.round(&StablePromoter).plan.step, None);
}

#[test]
fn flaps_and_limits_are_handed_on_too() {
    let mut flapper = three();
    flapper.inputs.memory.removals = vec![flapper.inputs.now - Duration::from_secs(5); 5];
    for _ in 0..3 {
        flapper = flapper.status("n4", NodeStatus::Failed);
        look(&mut flapper, "n4", 0, LOOK);
        flapper = flapper.status("n4", NodeStatus::Alive);
        look(&mut flapper, "n4", 0, LOOK);
    }
    let ledger = exported(&flapper);
    let next = next_leader(&flapper);
    let taken = ledger.import(&next.inputs, Duration::ZERO).unwrap();
    assert!(taken.memory.servers[&id("n4")].flapping);
    assert_eq!(taken.memory.removals.len(), 5);
    assert!(taken.memory.removals.iter().all(|at| *at <= next.inputs.now));
}

#[test]
fn a_ledger_that_is_foreign_stale_or_corrupt_is_refused_with_a_reason() {
    let ledger = exported(&three().cordoned("n2"));
    let next = next_leader(&three());
    let mut value = serde_json::to_value(&ledger).unwrap();
    value["memory"]["servers"]["n4"]["since"] = serde_json::json!(1);
    let forged: Ledger = serde_json::from_value(value.clone()).unwrap();
    assert_eq!(forged.import(&next.inputs, Duration::ZERO).unwrap_err().code(), "corrupt");
    value["format"] = serde_json::json!(2);
    let other: Ledger = serde_json::from_value(value.clone()).unwrap();
    assert_eq!(other.import(&next.inputs, Duration::ZERO), Err(LedgerError::Format { found: 2 }));
    value["more"] = serde_json::json!(1);
    assert!(serde_json::from_value::<Ledger>(value).is_err());
    let elsewhere = next_leader(&Situation::new("x1").voter("x2").voter("x3"));
    let foreign = ledger.import(&elsewhere.inputs, Duration::ZERO).unwrap_err();
    assert_eq!(foreign, LedgerError::Foreign { members: 0, voters: 3 });
    // Of this cluster, but not to be trusted about health: orders and tombstones stand nonetheless.
    let too_old = Ledger::AGE_MAX + Duration::from_secs(1);
    let same_term = next.clone().with(|inputs| inputs.term = Term(3));
    let behind = next.clone().with(|inputs| inputs.view.configuration_index = LogIndex(899));
    for (inputs, age, code) in [
        (&next.inputs, too_old, "too-old"),
        (&same_term.inputs, Duration::ZERO, "not-earlier"),
        (&behind.inputs, Duration::ZERO, "ahead"),
    ] {
        let taken = ledger.import(inputs, age).unwrap();
        assert_eq!(taken.refused.unwrap().code(), code);
        assert!(taken.memory.servers.is_empty());
        assert!(taken.hand.cordoned.contains_key(&id("n2")));
    }
}

// Voters come and go between two ledgers: one is stored after a reconcile, or not at all if that fails.
#[test]
fn orders_stand_as_long_as_one_voter_of_the_ledger_is_a_member() {
    let two = exported(&Situation::new("n1").voter("n2").cordoned("n1"));
    let one_left = next_leader(&Situation::new("n1"));
    let taken = two.import(&one_left.inputs, Duration::ZERO).unwrap();
    assert!(taken.refused.is_none() && taken.hand.cordoned.contains_key(&id("n1")), "{taken:?}");
    let three = exported(&three().cordoned("n2"));
    let replaced = next_leader(&Situation::new("x1").voter("x2").voter("n3"));
    let taken = three.import(&replaced.inputs, Duration::ZERO).unwrap();
    assert_eq!(taken.refused, Some(LedgerError::Foreign { members: 1, voters: 3 }));
    assert!(taken.hand.cordoned.contains_key(&id("n2")));
    assert!(taken.memory.servers.is_empty(), "about health it is not believed");
}

#[test]
fn orders_that_run_out_do_so_by_the_age_of_the_ledger() {
    let mut situation = three();
    situation.order(autopilot::Instruction::Pause { lasts: Duration::from_secs(90), why: String::new() });
    let ledger = exported(&situation);
    let next = next_leader(&three());
    let left = |age: u64| {
        let taken = ledger.import(&next.inputs, Duration::from_secs(age)).unwrap();
        taken.hand.paused.map(|pause| pause.until.since(next.inputs.now).as_secs())
    };
    assert_eq!([left(0), left(50), left(90), left(1_000)], [Some(90), Some(40), None, None]);
    // Where the clocks do not tell how old it is, none ends before its time.
    let unknown = Ledger::AGE_MAX + Duration::from_secs(1);
    let taken = ledger.import_between(&next.inputs, Duration::ZERO, unknown).unwrap();
    assert_eq!(taken.hand.paused.unwrap().until.since(next.inputs.now).as_secs(), 90);
    assert_eq!(taken.refused, Some(LedgerError::TooOld { age: unknown }), "about health it is not believed");
}
