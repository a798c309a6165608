//! What one can ask: why, what next, and what if.

use std::time::Duration;

use autopilot::testing::{FakeApplication, FakeCluster, Situation};
use autopilot::{
    ApplyError, Autopilot, Config, Explanation, Inputs, NodeStatus, Proposal, Record, Round, Server,
    ServerId, StablePromoter, Step, Term, Topic, explain, replay,
};

fn id(text: &str) -> ServerId {
    text.into()
}

fn explained(situation: &Situation, server: &str) -> Explanation {
    let round = situation.round(&StablePromoter);
    explain(&round.state, &round.plan, &id(server)).unwrap()
}

fn said(explanation: &Explanation, topic: Topic) -> Vec<(&'static str, &str)> {
    let facts = explanation.facts.iter().filter(|fact| fact.topic == topic);
    facts.map(|fact| (fact.reason.code(), fact.text.as_str())).collect()
}

#[test]
fn a_server_in_probation_is_told_when_it_may_vote() {
    let situation = Situation::plain("n1").nonvoter("n2").healthy_for("n2", Duration::from_secs(4));
    let explanation = explained(&situation, "n2");
    assert_eq!(said(&explanation, Topic::Health), [("healthy", "It is healthy, and has been for 4.0s.")]);
    assert_eq!(
        said(&explanation, Topic::Vote),
        [("probation", "It does not vote: probation, 6.0s left of 10.0s; in 6.0s at the earliest.")]
    );
    assert_eq!(said(&explanation, Topic::Removal), [("not-dead", "It stays: it is not dead.")]);
    let vote = explanation.facts.iter().find(|fact| fact.topic == Topic::Vote).unwrap();
    assert_eq!(vote.earliest, Some(situation.inputs.now + Duration::from_secs(6)));
}

#[test]
fn a_dead_server_is_told_every_broken_rule_and_why_it_stays() {
    let situation =
        Situation::plain("n1").voter("n2").voter("n3").failed("n3").config(|config| config.min_quorum = 3);
    let explanation = explained(&situation, "n3");
    let health = said(&explanation, Topic::Health);
    assert_eq!(health.iter().map(|(code, _)| *code).collect::<Vec<_>>(), ["not-alive", "last-contact"]);
    assert_eq!(
        said(&explanation, Topic::Removal),
        [("min-quorum", "It is not removed: would leave 2 voters, min_quorum is 3.")]
    );
    let text = explanation.to_string();
    assert!(text.contains("[min-quorum]") && text.contains("limit 200ms"), "{text}");
    let round = situation.round(&StablePromoter);
    assert_eq!(explain(&round.state, &round.plan, &id("n9")), None);
    assert_eq!(said(&explained(&situation, "n1"), Topic::Vote), [("is-leader", "It leads, and votes.")]);
}

#[test]
fn a_proposal_follows_every_step_and_wait_to_the_goal() {
    let mut situation = Situation::plain("n1").voter("n2").voter("n3").failed("n3");
    situation = situation.nonvoter("n4").healthy_for("n4", Duration::from_secs(3));
    let proposal = Proposal::compute(&situation.inputs, &StablePromoter);
    assert!(proposal.complete);
    assert_eq!(proposal.configuration_index, situation.inputs.view.configuration_index);
    let steps: Vec<_> =
        proposal.steps.iter().map(|s| (s.planned.step.to_string(), s.wait.as_secs())).collect();
    assert_eq!(
        steps,
        [("remove failed voter n3".into(), 0), ("promote server n4 at n4.test:8300".into(), 7)]
    );
    let tolerances: Vec<_> =
        proposal.steps.iter().map(|s| (s.tolerance_before, s.tolerance_during, s.tolerance_after)).collect();
    assert_eq!(tolerances, [(0, 0, 0), (0, 0, 1)]);
    let text = serde_json::to_string(&proposal).unwrap();
    assert_eq!(serde_json::from_str::<Proposal>(&text).unwrap(), proposal);
    let healthy = Proposal::compute(&Situation::plain("n1").inputs, &StablePromoter);
    assert!(healthy.complete && healthy.steps.is_empty());
}

/// The steps of a proposal are those that the rounds then take.
#[test]
fn a_proposal_comes_true_if_nothing_else_happens() {
    let mut situation =
        Situation::plain("n1").voter("n2").voter("n3").voter("n6").voter("n7").failed("n3").stale("n2");
    situation = situation.nonvoter("n4").nonvoter("n5").stale("n5");
    let proposal = Proposal::compute(&situation.inputs, &StablePromoter);
    assert_eq!(proposal.steps.len(), 4);
    for proposed in &proposal.steps {
        let planned = situation.round(&StablePromoter).plan.step.unwrap();
        assert_eq!(planned.step, proposed.planned.step);
        let view = &mut situation.inputs.view;
        view.configuration = planned.step.apply(&view.configuration).unwrap();
    }
    assert_eq!(situation.round(&StablePromoter).plan.step, None);
}

fn cluster() -> (FakeCluster, FakeApplication) {
    let voters = ["n1", "n2", "n3", "n4", "n5"].map(|id| Server::voter(id, format!("{id}.test:8300")));
    let application = FakeApplication::knowing(&["n1", "n2", "n3", "n4", "n5"]);
    application.set_config(Some(Config::reference()));
    application.status("n4", NodeStatus::Left);
    application.status("n5", NodeStatus::Left);
    (FakeCluster::new(voters.to_vec()), application)
}

#[tokio::test(start_paused = true)]
async fn an_approved_proposal_is_performed_and_a_stale_one_is_refused() {
    let (cluster, application) = cluster();
    let builder = Autopilot::builder(cluster.clone(), application.clone()).reconciliation(false);
    let autopilot = builder.start(Term(1)).await;
    let proposal = autopilot.plan().await.unwrap();
    assert_eq!(proposal.steps.len(), 2);
    assert_eq!(cluster.performed(), [], "asking changes nothing");
    let other = Proposal { term: Term(2), ..proposal.clone() };
    let refused = autopilot.apply(other).await.unwrap_err();
    assert_eq!(refused, ApplyError::OtherTerm { proposed: Term(2), current: Term(1) });
    let report = autopilot.apply(proposal.clone()).await.unwrap();
    assert_eq!((report.performed.len(), report.left, report.stopped), (2, 0, None));
    assert_eq!(cluster.ids(), [id("n1"), id("n2"), id("n3")]);
    let refused = autopilot.apply(proposal).await.unwrap_err();
    assert!(matches!(refused, ApplyError::Stale { .. }), "{refused}");
    assert_eq!(cluster.performed().len(), 2);
    autopilot.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_approved_step_that_is_not_due_any_more_is_not_taken() {
    let (cluster, application) = cluster();
    let builder = Autopilot::builder(cluster.clone(), application.clone()).reconciliation(false);
    let autopilot = builder.start(Term(1)).await;
    let proposal = autopilot.plan().await.unwrap();
    application.status("n4", NodeStatus::Alive);
    let report = autopilot.apply(proposal).await.unwrap();
    assert_eq!((report.performed.len(), report.left), (0, 2));
    assert_eq!(report.stopped.unwrap().code(), "overtaken");
    assert_eq!(cluster.performed(), []);
    autopilot.stop().await;
}

#[tokio::test(start_paused = true)]
async fn recorded_rounds_are_decided_again_and_differently_under_another_configuration() {
    let (cluster, application) = cluster();
    let autopilot = Autopilot::builder(cluster.clone(), application).start(Term(1)).await;
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(cluster.ids().len(), 3);
    let records = autopilot.records().await.unwrap();
    let records: Vec<Record> = records.iter().map(|record| (**record).clone()).collect();
    let lines: Vec<String> = records.iter().map(|record| serde_json::to_string(record).unwrap()).collect();
    let read: Vec<Record> = lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(read, records, "a record survives a file");
    let again = replay(&records, None, &StablePromoter);
    assert_eq!(again.len(), records.len());
    assert!(again.iter().all(|round| !round.differs()), "the same inputs decide the same");
    assert_eq!(again.iter().filter(|round| round.then.is_some()).count(), 2);
    let config = Config { min_quorum: 5, ..Config::reference() };
    let stricter = replay(&records, Some(&config), &StablePromoter);
    let first = stricter.iter().find(|round| round.differs()).unwrap();
    assert!(matches!(first.then.as_ref().unwrap().step, Step::Remove { .. }) && first.replayed.is_none());
    assert_eq!(first.decisions[0].reason.code(), "min-quorum");
    autopilot.stop().await;
}

/// Health history follows the replay's own judgement: under a lower threshold the same silence is a change of health.
#[test]
fn a_replay_carries_its_own_history() {
    let mut situation = Situation::plain("n1").nonvoter("n2").healthy_for("n2", Duration::from_secs(5));
    let mut records = Vec::new();
    for (second, contact) in [(0, 150), (2, 10), (4, 10), (6, 10)] {
        let start = Situation::plain("n1").inputs.now;
        situation.inputs.now = start + Duration::from_secs(second);
        let stats = situation.inputs.view.stats.get_mut(&id("n2")).unwrap();
        stats.last_contact = Some(Duration::from_millis(contact));
        let round = Round::run(&situation.inputs, &StablePromoter);
        let inputs: Inputs = situation.inputs.clone();
        records.push(Record { inputs, step: round.plan.step });
        situation.inputs.memory = round.memory;
    }
    assert!(matches!(records[3].step.as_ref().unwrap().step, Step::Promote { .. }), "10 s without a break");
    let config = Config { last_contact_threshold: Duration::from_millis(100), ..Config::reference() };
    let stricter = replay(&records, Some(&config), &StablePromoter);
    assert_eq!(stricter[3].replayed, None, "the break at the start restarts the probation");
    assert!(stricter[3].differs());
}
