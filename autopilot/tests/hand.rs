//! The operator's hand: what is ordered is done, or left alone, and said.

#![allow(clippy::disallowed_methods, reason = "a test asks the runtime's clock")]

use std::time::Duration;

use autopilot::testing::{Behaviour, FakeApplication, FakeCluster, Situation};
use autopilot::{
    Action, Actor, AddServerError, Autopilot, Config, Decision, EventKind, Hand, HandError, Instruction,
    KnownServer, NodeStatus, OrderError, Reason, Round, Server, ServerId, StablePromoter, Step, Term, Time,
    Verdict, safe_to_stop,
};
use tokio::time::sleep;

const TERM: Term = Term(1);

fn id(text: &str) -> ServerId {
    text.into()
}

fn three() -> Situation {
    Situation::new("n1").voter("n2").voter("n3")
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

#[test]
fn a_cordoned_server_gets_neither_a_vote_nor_leadership() {
    let situation = three().nonvoter("n4").cordoned("n4");
    let round = run(&situation);
    assert_eq!(round.plan.step, None);
    let refused = decision(&round, "n4", Action::Promote);
    assert_eq!((refused.verdict, refused.reason.code()), (Verdict::Refused, "cordoned"));
    assert_eq!(refused.reason.to_string(), "cordoned by somebody (told to)");
    assert_eq!(round.state.servers[&id("n4")].blocked_by.as_ref().unwrap().code(), "cordoned");
    assert_eq!(round.state.optimistic_failure_tolerance, 1, "it does not stand by");
    // A drained leader hands over, and not to one that is cordoned.
    let drained = three().drained("n1").cordoned("n2");
    assert_eq!(step(&drained), Some(Step::Transfer { id: id("n3") }));
    let nobody = three().drained("n1").cordoned("n2").cordoned("n3");
    let refused = decision(&run(&nobody), "n1", Action::Transfer);
    assert_eq!((refused.verdict, refused.reason.code()), (Verdict::Refused, "no-successor"));
}

#[test]
fn a_drained_server_gives_its_vote_away_and_is_not_promoted_again() {
    let situation = three().drained("n2");
    let round = run(&situation);
    let planned = round.plan.step.unwrap();
    assert_eq!(planned.step, Step::Demote { id: id("n2") });
    assert_eq!(planned.reason.code(), "drained");
    assert!(round.events.iter().all(|news| news.what != EventKind::DrainDone));
    let mut after = situation;
    after.inputs.view.configuration = planned.step.apply(&after.inputs.view.configuration).unwrap();
    let round = run(&after);
    assert_eq!(round.plan.step, None, "a healthy member without a vote, and yet");
    assert_eq!(decision(&round, "n2", Action::Promote).reason.code(), "drained");
    let done = |round: &Round| round.events.iter().filter(|news| news.what == EventKind::DrainDone).count();
    assert_eq!(done(&round), 1);
    after.inputs.memory = round.memory;
    assert_eq!(done(&run(&after)), 0, "told once");
}

#[test]
fn a_drain_never_costs_the_quorum_or_the_configured_minimum() {
    let sick = three().drained("n2").failed("n3").config(|config| config.cleanup_dead_servers = false);
    let refused = decision(&run(&sick), "n2", Action::Demote);
    assert_eq!((refused.verdict, refused.reason.code()), (Verdict::Refused, "quorum-after"));
    let least = three().drained("n2").config(|config| config.min_quorum = 3);
    assert_eq!(decision(&run(&least), "n2", Action::Demote).reason.code(), "min-quorum");
    // With somebody to take its place, both are satisfied in one step.
    let replaced = least.nonvoter("n4").with(|inputs| inputs.capabilities.atomic = true);
    let expected = Step::Swap { id: id("n4"), address: "n4.test:8300".into(), out: id("n2"), class: None };
    assert_eq!(step(&replaced), Some(expected));
}

#[test]
fn in_a_maintenance_window_a_server_is_left_alone_and_a_cluster_too() {
    let mut one = Situation::plain("n1").voter("n2").voter("n3").failed("n3").nonvoter("n4");
    one.order(Instruction::Schedule {
        server: Some(id("n3")),
        starts_in: Duration::ZERO,
        lasts: Duration::from_secs(60),
        why: String::from("disk"),
    });
    let round = run(&one);
    let waits = decision(&round, "n3", Action::Remove);
    assert_eq!((waits.verdict, waits.reason.code()), (Verdict::Deferred, "maintenance"));
    assert!(matches!(step(&one), Some(Step::Promote { .. })), "others go on");
    let later = one.clone().with(|inputs| inputs.now = inputs.now + Duration::from_secs(60));
    assert_ne!(decision(&run(&later), "n3", Action::Remove).reason.code(), "maintenance");
    let mut all = Situation::plain("n1").nonvoter("n4");
    all.order(Instruction::Schedule {
        server: None,
        starts_in: Duration::from_secs(60),
        lasts: Duration::from_secs(60),
        why: String::new(),
    });
    assert!(step(&all).is_some(), "not yet");
    let all = all.with(|inputs| inputs.now = inputs.now + Duration::from_secs(61));
    assert_eq!(step(&all), None);
    assert_eq!(run(&all).state.servers[&id("n4")].blocked_by.as_ref().unwrap().code(), "maintenance");
}

#[test]
fn a_pause_ends_by_itself_and_serves_requests() {
    let mut paused = Situation::plain("n1").voter("n2").voter("n3").failed("n3").nonvoter("n4");
    paused.order(Instruction::Pause { lasts: Duration::from_secs(90), why: String::from("audit") });
    let round = run(&paused);
    assert_eq!(round.plan.step, None);
    let waits = decision(&round, "n4", Action::Promote);
    assert_eq!((waits.verdict, waits.reason.code()), (Verdict::Deferred, "paused"));
    assert_eq!(waits.reason.to_string(), "paused by somebody (audit), 90.0s left");
    assert_eq!(round.next_wake, Some(paused.inputs.now + Duration::from_secs(90)));
    let asked = paused.clone().with(|inputs| inputs.mode = autopilot::Mode::Prune);
    assert!(matches!(step(&asked), Some(Step::Remove { .. })), "somebody asked");
    let over = paused.with(|inputs| inputs.now = inputs.now + Duration::from_secs(90));
    assert!(step(&over).is_some());
}

#[test]
fn no_more_steps_are_taken_than_the_rate_allows() {
    let situation = Situation::new("n1").nonvoter("n2").nonvoter("n3").config(|config| {
        config.changes.max = 2;
        config.changes.window = Duration::from_secs(60);
    });
    let ago = |seconds: u64| situation.inputs.now - Duration::from_secs(seconds);
    let with = |changes: Vec<Time>| {
        let mut situation = situation.clone();
        situation.inputs.memory.changes = changes;
        situation
    };
    assert!(step(&with(vec![ago(100), ago(61), ago(10)])).is_some());
    let full = with(vec![ago(50), ago(10)]);
    assert_eq!(step(&full), None);
    let waits = decision(&run(&full), "n2", Action::Promote).reason;
    assert_eq!(waits.to_string(), "2 steps were taken within 60.0s, the next may follow in 10.0s");
    assert_eq!(run(&full).next_wake, Some(full.inputs.now + Duration::from_secs(10)));
}

#[test]
fn whether_a_server_may_stop_depends_on_who_stays() {
    let ask = |situation: &Situation, server: &str| {
        let state = run(situation).state;
        let answer = safe_to_stop(&state, &situation.inputs.hand, &id(server), situation.inputs.now);
        let codes: Vec<_> = answer.reasons.iter().map(Reason::code).collect();
        assert_eq!(answer.safe, codes.is_empty());
        (codes, answer.failure_tolerance)
    };
    assert_eq!(ask(&three(), "n2"), (vec![], 0));
    assert_eq!(ask(&three(), "n1"), (vec!["is-leader"], 0));
    assert_eq!(ask(&three().nonvoter("n4"), "n4"), (vec![], 1));
    assert_eq!(ask(&three(), "stranger"), (vec![], 1), "nothing depends on it");
    assert_eq!(ask(&three().failed("n3"), "n2"), (vec!["quorum-after"], 0));
    assert_eq!(ask(&three().failed("n3"), "n3"), (vec![], 0), "it is down already");
    assert_eq!(ask(&three().drained("n2"), "n2").0, ["draining"]);
    let busy = three().with(|inputs| inputs.view.configuration_committed = false);
    assert_eq!(ask(&busy, "n2").0, ["change-in-progress"]);
    let leaving = three().with(|inputs| {
        inputs.hand.leaving.insert(id("n3"), inputs.now + Duration::from_secs(1));
    });
    assert_eq!(ask(&leaving, "n2").0, ["quorum-after"], "another was let go a moment ago");
    let empty = safe_to_stop(&autopilot::State::default(), &Hand::default(), &id("n2"), Time::ZERO);
    assert_eq!(empty.reasons, [Reason::NoState]);
}

#[test]
fn orders_are_bounded() {
    let (mut hand, now) = (Hand::default(), Time::ZERO);
    let by = Actor::named("alice");
    let cordon = |number: usize, why: &str| Instruction::Cordon {
        server: format!("n{number}").as_str().into(),
        why: why.to_owned(),
    };
    assert_eq!(hand.follow(cordon(0, ""), &by, now), Ok(true));
    assert_eq!(hand.follow(cordon(0, "again"), &by, now), Ok(false), "the first order stands");
    assert_eq!(hand.cordoned[&id("n0")].why, "");
    for number in 1..Hand::ORDERS_MAX {
        assert_eq!(hand.follow(cordon(number, ""), &by, now), Ok(true));
    }
    assert_eq!(hand.follow(cordon(Hand::ORDERS_MAX, ""), &by, now), Err(HandError::TooMany));
    let long = "x".repeat(Hand::TEXT_BYTES_MAX + 1);
    let refused = hand.follow(Instruction::Drain { server: id("n1"), why: long }, &by, now);
    assert_eq!(refused, Err(HandError::TooLong { bytes: Hand::TEXT_BYTES_MAX + 1 }));
    for lasts in [Duration::ZERO, Hand::SPAN_MAX + Duration::from_secs(1)] {
        let refused = hand.follow(Instruction::Pause { lasts, why: String::new() }, &by, now);
        assert_eq!(refused, Err(HandError::Span));
    }
    let json = serde_json::to_string(&cordon(1, "why")).unwrap();
    assert_eq!(json, r#"{"order":"cordon","server":"n1","why":"why"}"#);
    assert_eq!(serde_json::from_str::<Instruction>(&json).unwrap(), cordon(1, "why"));
}

fn cluster(voters: &[&str], nonvoters: &[&str]) -> FakeCluster {
    let address = |id: &str| format!("{id}.test:8300");
    let voters = voters.iter().map(|id| Server::voter(*id, address(id)));
    let nonvoters = nonvoters.iter().map(|id| Server::nonvoter(*id, address(id)));
    FakeCluster::new(voters.chain(nonvoters).collect())
}

async fn seconds(seconds: u64) {
    sleep(Duration::from_secs(seconds)).await;
}

#[tokio::test(start_paused = true)]
async fn a_drain_is_carried_out_audited_and_lifted() {
    let cluster = cluster(&["n1", "n2", "n3"], &[]);
    let application = FakeApplication::knowing(&["n1", "n2", "n3"]);
    let autopilot = Autopilot::builder(cluster.clone(), application.clone()).start(TERM).await;
    let alice = autopilot.acting_as(Actor::named("alice"));
    let hand = alice.drain("n3", "new disk").await.unwrap();
    assert_eq!(hand.drained[&id("n3")].by, Actor::named("alice"));
    assert!(!alice.safe_to_stop("n3").await.unwrap().safe, "not before the vote is gone");
    seconds(3).await;
    assert_eq!(cluster.voters(), [id("n1"), id("n2")]);
    let answer = alice.safe_to_stop("n3").await.unwrap();
    assert!(answer.safe, "{answer:?}");
    assert_eq!(autopilot.hand().drained.len(), 1);
    seconds(30).await;
    assert_eq!(cluster.voters().len(), 2, "it does not get its vote back");
    alice.undrain("n3").await.unwrap();
    seconds(3).await;
    assert_eq!(cluster.voters().len(), 3);
    let audit = autopilot.audit().await.unwrap();
    let told: Vec<_> = audit.iter().map(|event| (event.what, event.actor.as_str())).collect();
    assert_eq!(
        told,
        [
            (EventKind::Draining, "alice"),
            (EventKind::Demoted, "autopilot"),
            (EventKind::DrainDone, "autopilot"),
            (EventKind::Released, "alice"),
            (EventKind::Undrained, "alice"),
            (EventKind::Promoted, "autopilot"),
        ]
    );
    let demoted = &audit[1];
    assert_eq!((demoted.decided_on, demoted.term), (Some(autopilot::LogIndex(1)), TERM));
    assert!(demoted.index > demoted.decided_on);
    assert_eq!(demoted.reason.to_string(), "drained by alice (new disk)");
    let records = autopilot.records().await.unwrap();
    let hash = demoted.inputs.expect("a round decided it");
    let found: Vec<_> = records.iter().filter(|record| record.inputs.hash_of_all() == hash).collect();
    assert_eq!(found.len(), 1, "the hash finds the record");
    assert_eq!(found[0].step.as_ref().unwrap().step, Step::Demote { id: id("n3") });
    let numbers: Vec<_> = application.events().iter().map(|event| event.sequence).collect();
    assert_eq!(numbers, (1..=u64::try_from(numbers.len()).unwrap()).collect::<Vec<_>>(), "without gaps");
    assert!(application.events().iter().any(|event| event.what == EventKind::DrainDone));
    autopilot.stop().await;
    assert!(autopilot.hand().is_empty());
    assert!(alice.cordon("n1", "").await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_drained_leader_hands_over() {
    let cluster = cluster(&["n1", "n2", "n3"], &[]);
    let application = FakeApplication::knowing(&["n1", "n2", "n3"]);
    let autopilot = Autopilot::builder(cluster.clone(), application).start(TERM).await;
    autopilot.drain("n1", "").await.unwrap();
    seconds(3).await;
    let state = autopilot.state();
    assert!(state.leader.as_ref().is_some_and(|leader| *leader != id("n1")), "{:?}", state.leader);
    assert!(autopilot.safe_to_stop("n1").await.is_err(), "the new leader answers that");
    autopilot.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_pause_expires_and_says_so() {
    let cluster = cluster(&["n1"], &["n2"]);
    let application = FakeApplication::knowing(&["n1", "n2"]);
    let autopilot = Autopilot::builder(cluster.clone(), application).start(TERM).await;
    autopilot.pause(Duration::from_secs(60), "release").await.unwrap();
    seconds(55).await;
    assert_eq!(cluster.performed(), []);
    assert_eq!(autopilot.hand().paused.as_ref().unwrap().order.why, "release");
    seconds(20).await;
    assert_eq!(cluster.voters().len(), 2);
    let audit = autopilot.audit().await.unwrap();
    let kinds: Vec<_> = audit.iter().map(|event| event.what).collect();
    assert_eq!(kinds, [EventKind::Paused, EventKind::Resumed, EventKind::Promoted]);
    let refused = autopilot.pause(Duration::ZERO, "").await.unwrap_err();
    assert_eq!(refused, OrderError::Refused(HandError::Span));
    autopilot.stop().await;
}

#[tokio::test(start_paused = true)]
async fn two_who_ask_at_once_are_not_both_let_go() {
    let cluster = cluster(&["n1", "n2", "n3"], &[]);
    let application = FakeApplication::knowing(&["n1", "n2", "n3"]);
    let autopilot = Autopilot::builder(cluster, application).start(TERM).await;
    let (first, second) = tokio::join!(autopilot.safe_to_stop("n2"), autopilot.safe_to_stop("n3"));
    assert!(first.unwrap().safe);
    assert_eq!(second.unwrap().reasons[0].code(), "quorum-after");
    assert!(autopilot.safe_to_stop("n2").await.unwrap().safe, "asking again changes nothing");
    sleep(Hand::LEAVING).await;
    assert!(autopilot.safe_to_stop("n3").await.unwrap().safe, "n2 stayed");
    autopilot.stop().await;
}

#[tokio::test(start_paused = true)]
async fn whoever_was_let_go_counts_as_gone_under_the_next_leader_too() {
    let cluster = cluster(&["n1", "n2", "n3"], &[]);
    let application = FakeApplication::knowing(&["n1", "n2", "n3"]);
    let builder = Autopilot::builder(cluster.clone(), application);
    let autopilot = builder.start(TERM).await;
    assert!(autopilot.safe_to_stop("n2").await.unwrap().safe);
    autopilot.stop().await;
    cluster.edit(|view| view.term = Term(2));
    let next = builder.start(Term(2)).await;
    assert_eq!(next.safe_to_stop("n3").await.unwrap().reasons[0].code(), "quorum-after");
    sleep(Hand::LEAVING).await;
    assert!(next.safe_to_stop("n3").await.unwrap().safe, "n2 stayed");
    next.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_removed_server_is_told_and_stays_out_until_somebody_wants_it() {
    let cluster = cluster(&["n1", "n2", "n3"], &[]);
    let application = FakeApplication::knowing(&["n1", "n2", "n3"]);
    application.know(KnownServer { incarnation: Some(7), ..KnownServer::alive("n3", "n3.test:8300") });
    let builder = Autopilot::builder(cluster.clone(), application.clone());
    let autopilot = builder.start(TERM).await;
    autopilot.acting_as(Actor::named("bob")).remove_server("n3").await.unwrap();
    for incarnation in [Some(7), Some(6), None] {
        let error = autopilot.admit("n3", "n3.test:8300", incarnation).await.unwrap_err();
        assert_eq!(error.to_string(), "server n3 was removed by bob: on request");
    }
    let stones = autopilot.tombstones().await.unwrap();
    assert_eq!((stones.len(), stones[0].incarnation), (1, Some(7)));
    autopilot.admit("n3", "n3.test:8300", Some(8)).await.expect("it has started again");
    assert_eq!(cluster.ids().len(), 3);
    autopilot.remove_server("n3").await.unwrap();
    autopilot.add_server("n3", "n3.test:8300").await.expect("somebody wants it");
    assert_eq!(autopilot.tombstones().await.unwrap(), []);
    let kinds: Vec<_> = autopilot.audit().await.unwrap().iter().map(|event| event.what).collect();
    use EventKind::{Readmitted, Removed};
    assert_eq!(kinds, [Removed, Readmitted, Removed, Readmitted]);
    autopilot.admit("n9", "n9.test:8300", None).await.expect("it was never here");
    autopilot.stop().await;
}

#[tokio::test(start_paused = true)]
async fn servers_removed_as_dead_are_told_too_also_by_the_next_leader() {
    let cluster = cluster(&["n1", "n2", "n3"], &["n4"]);
    let application = FakeApplication::knowing(&["n1", "n2", "n3", "n4"]);
    application.status("n4", NodeStatus::Failed);
    cluster.silent("n4", Duration::from_secs(60));
    let builder = Autopilot::builder(cluster.clone(), application.clone());
    let autopilot = builder.start(TERM).await;
    seconds(60).await;
    assert_eq!(cluster.ids().len(), 3);
    autopilot.cordon("n2", "keep").await.unwrap();
    autopilot.stop().await;
    cluster.edit(|view| view.term = Term(2));
    let next = builder.start(Term(2)).await;
    let error = next.admit("n4", "n4.test:8300", None).await.unwrap_err();
    let AddServerError::Removed { tombstone } = error else { panic!("{error}") };
    assert_eq!((tombstone.by, tombstone.why.code()), (Actor::AUTOPILOT, "failed"));
    assert_eq!(next.hand().cordoned.len(), 1, "orders stand across leaders");
    let told = application.events();
    let taken = told.iter().rfind(|event| event.what == EventKind::LedgerTaken).expect("it was taken over");
    assert_eq!((taken.reason.code(), taken.term), ("ledger-taken", Term(2)));
    assert!(taken.reason.to_string().starts_with("an earlier leader left its history"), "{}", taken.reason);
    next.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_application_that_hangs_or_panics_on_events_and_ledgers_delays_and_never_stops_it() {
    for behaviour in [Behaviour::Hang, Behaviour::Panic] {
        let cluster = cluster(&["n1"], &["n2"]);
        let application = FakeApplication::knowing(&["n1", "n2"]);
        let autopilot = Autopilot::builder(cluster, application.clone()).start(TERM).await;
        application.set_config(Some(Config::default()));
        application.behave(behaviour);
        autopilot.cordon("n2", "").await.expect("the order is taken nonetheless");
        assert!(autopilot.hand().cordoned.contains_key(&id("n2")));
        tokio::time::timeout(Duration::from_secs(10), autopilot.stop()).await.expect("stop is bounded");
    }
}

/// A leader that cordoned n4 and drained n3 a moment ago, and the next one, for which the application does this when it is
/// asked for the ledger.
async fn next_leader(on_load: Behaviour) -> (FakeCluster, FakeApplication, Autopilot) {
    let cluster = cluster(&["n1", "n2", "n3"], &["n4"]);
    let application = FakeApplication::knowing(&["n1", "n2", "n3", "n4"]);
    let builder = Autopilot::builder(cluster.clone(), application.clone());
    let autopilot = builder.start(TERM).await;
    autopilot.cordon("n4", "bad disk").await.unwrap();
    autopilot.stop().await;
    cluster.edit(|view| view.term = Term(2));
    application.behave_on_load(on_load);
    (cluster, application, builder.start(Term(2)).await)
}

#[tokio::test(start_paused = true)]
async fn orders_stand_however_late_the_ledger_can_be_read() {
    for on_load in [Behaviour::Hang, Behaviour::Panic] {
        let (cluster, application, next) = next_leader(on_load).await;
        let kept = application.ledger();
        seconds(60).await;
        assert_eq!(cluster.performed(), [], "a promotion may have been forbidden");
        let state = next.state();
        assert!(next.now().since(state.at) < Duration::from_secs(10), "everybody is judged nonetheless");
        let waits = state.servers[&id("n4")].blocked_by.as_ref().unwrap();
        assert_eq!(waits.reason.code(), "orders-unread");
        for refused in [next.cordon("n2", "").await, next.uncordon("n4").await] {
            let Err(OrderError::Request(error)) = refused else { panic!("{refused:?}") };
            assert!(error.to_string().contains("retry"), "{error}");
        }
        assert!(next.safe_to_stop("n2").await.is_err(), "who was let go is not known");
        assert!(next.plan().await.is_err(), "it is not known what may be done");
        assert!(next.ledger().await.is_err(), "nobody is given an empty one to keep");
        assert_eq!(application.ledger(), kept, "nothing is stored over it");
        application.behave_on_load(Behaviour::Answer);
        seconds(15).await;
        assert_eq!(next.hand().cordoned[&id("n4")].why, "bad disk");
        assert_eq!(cluster.performed(), [], "it is forbidden");
        next.uncordon("n4").await.expect("orders are taken again");
        seconds(15).await;
        assert_eq!(cluster.voters().len(), 4);
        next.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn who_was_removed_before_the_ledger_was_read_is_not_forgotten_with_it() {
    let (_, application, next) = next_leader(Behaviour::Hang).await;
    let error = next.admit("n9", "n9.test:8300", None).await.unwrap_err();
    assert!(matches!(error, AddServerError::Request(_)), "it may have been removed: {error}");
    next.remove_server("n4").await.expect("somebody says so");
    application.behave_on_load(Behaviour::Answer);
    seconds(5).await;
    assert_eq!(next.hand().cordoned.len(), 1);
    let stones = next.tombstones().await.unwrap();
    assert_eq!(stones.iter().map(|stone| &stone.id).collect::<Vec<_>>(), [&id("n4")]);
    next.stop().await;
}

#[tokio::test(start_paused = true)]
async fn no_order_is_taken_and_no_ledger_given_while_the_cluster_cannot_be_seen() {
    let cluster = cluster(&["n1", "n2", "n3"], &["n4"]);
    let application = FakeApplication::knowing(&["n1", "n2", "n3", "n4"]);
    let builder = Autopilot::builder(cluster.clone(), application.clone());
    let autopilot = builder.start(TERM).await;
    autopilot.cordon("n4", "bad disk").await.unwrap();
    let kept = application.ledger();
    let blind = async |autopilot: &Autopilot| {
        assert!(autopilot.state().is_empty());
        assert!(autopilot.cordon("n2", "").await.is_err(), "nothing to store it with");
        assert!(
            autopilot.ledger().await.is_err(),
            "it would be about nobody, and take the place of the old one"
        );
        assert_eq!(application.ledger(), kept);
    };
    cluster.views(Behaviour::Panic);
    seconds(60).await;
    blind(&autopilot).await;
    autopilot.stop().await;
    // One that never saw it.
    cluster.edit(|view| view.term = Term(2));
    let next = builder.start(Term(2)).await;
    blind(&next).await;
    cluster.views(Behaviour::Answer);
    next.cordon("n2", "").await.expect("it looks, and takes the order");
    assert_eq!(next.hand().cordoned.len(), 2, "beside the one that stood");
    let ledger = next.ledger().await.unwrap();
    assert_eq!(application.ledger(), Some(ledger));
    next.stop().await;
}
