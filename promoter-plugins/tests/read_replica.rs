//! Read replicas, tested through `Promoter` alone.

use autopilot::testing::Situation;
use autopilot::{Changes, NodeType, Promoter, PromoterInput, ServerId, StablePromoter};
use promoter_plugins::ReadReplicas;

fn policy() -> ReadReplicas {
    ReadReplicas::default()
}

fn three() -> Situation {
    Situation::new("n1").voter("n2").voter("n3")
}

fn changes(situation: &Situation) -> Changes {
    let policy = policy();
    situation.ask(&policy, |input| policy.changes(input))
}

fn ids(wishes: &[autopilot::Wish]) -> Vec<&str> {
    wishes.iter().map(|wish| wish.server.as_str()).collect()
}

#[test]
fn a_read_replica_is_never_promoted_and_others_are() {
    let situation = three().nonvoter("n4").nonvoter("n5").meta("n4", "read_replica", "true");
    assert_eq!(ids(&changes(&situation).promotions), ["n5"]);
    let state = situation.state(&policy());
    let replica = &state.servers[&ServerId::from("n4")];
    assert_eq!(replica.node_type, NodeType::READ_REPLICA);
    assert!(!policy().may_vote(replica));
    let blocked = replica.blocked_by.as_ref().unwrap();
    assert_eq!(blocked.code(), "never-votes");
    assert_eq!(blocked.to_string(), "promoter read-replicas takes it for a read-replica, which never votes");
    assert_eq!(state.servers[&ServerId::from("n5")].node_type, NodeType::VOTER);
}

#[test]
fn a_read_replica_that_votes_is_demoted_with_a_reason() {
    let situation = three().meta("n3", "read_replica", "true");
    let changes = changes(&situation);
    assert_eq!(ids(&changes.demotions), ["n3"]);
    assert_eq!(changes.demotions[0].reason, "it is declared a read replica");
    assert!(changes.promotions.is_empty() && changes.leader.is_none());
}

#[test]
fn only_the_value_true_declares_a_read_replica() {
    for (value, declared) in
        [("true", true), ("TRUE", true), (" true ", true), ("", false), ("yes", false), ("false", false)]
    {
        let situation = three().meta("n3", "read_replica", value);
        assert_eq!(!changes(&situation).demotions.is_empty(), declared, "{value:?}");
    }
}

#[test]
fn a_leader_that_is_a_read_replica_hands_over_first() {
    let situation = three().meta("n1", "read_replica", "true").meta("n2", "read_replica", "true");
    let wanted = changes(&situation);
    assert_eq!(wanted.leader.as_ref().unwrap().server.as_str(), "n3");
    assert_eq!(ids(&wanted.demotions), ["n2"], "the leader itself cannot be demoted");
    let alone = Situation::new("n1").meta("n1", "read_replica", "true");
    assert!(changes(&alone).is_empty(), "the only voter stays");
}

/// Wants to promote, demote and put in charge whatever there is.
#[derive(Default)]
struct Everything;

impl Promoter for Everything {
    fn name(&self) -> &str {
        "everything"
    }

    fn changes(&self, input: &PromoterInput<'_>) -> Changes {
        let mut changes = Changes::default();
        for server in input.state.servers.values() {
            if server.is_voter() {
                changes.demote(&server.id, "inner");
            } else {
                changes.promote(&server.id, "inner");
            }
            changes.transfer_to(&server.id, "inner");
        }
        changes
    }
}

#[test]
fn the_inner_policy_decides_about_the_others_only() {
    let policy = ReadReplicas::with_inner(Everything);
    let situation = three().nonvoter("n4").nonvoter("n5").meta("n5", "read_replica", "true");
    let wanted = situation.meta("n2", "read_replica", "true").ask(&policy, |input| policy.changes(input));
    assert_eq!(ids(&wanted.promotions), ["n4"]);
    assert_eq!(ids(&wanted.demotions), ["n1", "n3", "n2"]);
    assert_eq!(wanted.demotions[2].reason, "it is declared a read replica");
    assert_eq!(wanted.leader, None, "the inner choice, n5, is a read replica");
}

#[test]
fn without_read_replicas_it_is_the_inner_policy() {
    let situation = three().nonvoter("n4");
    assert_eq!(changes(&situation), situation.ask(&StablePromoter, |input| StablePromoter.changes(input)));
}
