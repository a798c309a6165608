//! Adding a server.

use std::collections::BTreeSet;

use autopilot::Configuration;
use autopilot::core::{AddPlan, AddRefusal, plan_add};
use serde_json::Value;

use super::{members, replay, text};

#[test]
fn servers_are_added_as_there() {
    replay("add_server", check);
}

fn check(case: &Value) -> BTreeSet<&'static str> {
    let name = text(&case["case"]);
    let calls: Vec<_> = case["expected"]["calls"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|call| (text(&call["op"]), text(&call["id"])))
        .collect();
    let kind = text(&case["expected"]["error_kind"]);
    if case["raft_config_error"] == true {
        // Without an answer of the engine nothing is planned, there as here.
        assert!(calls.is_empty() && kind == "raft_config", "{name}");
        return BTreeSet::new();
    }
    let mut rules = BTreeSet::new();
    let configuration = Configuration::new(members(&case["raft_config"]));
    let server = &case["server"];
    let (id, address) = (text(&server["id"]), text(&server["address"]));
    let plan = plan_add(&configuration, None, &id.into(), &address.into());
    let mut ours: Vec<(&str, &str)> = match &plan {
        Err(AddRefusal::TooManyRemovals { would_remove, allowed }) => {
            assert!(would_remove > allowed && kind == "too_many_removals", "{name}");
            assert!(calls.is_empty(), "{name}");
            return rules;
        }
        Err(other) => panic!("{other:?}: {name}"),
        Ok(AddPlan::Unchanged) => Vec::new(),
        Ok(AddPlan::Change { removals, as_voter, .. }) => {
            let add = if *as_voter { "add_voter" } else { "add_nonvoter" };
            let removals = removals.iter().map(|id| ("remove_server", id.as_str()));
            removals.chain([(add, id)]).collect()
        }
    };
    if kind == "too_many_removals" {
        // There, "0 voters would go, -1 may" is too many.
        assert_eq!(configuration.voters_count(), 0, "{name}");
        rules.insert("no-voters");
        return rules;
    }
    // There, a member that the engine catches up gets its vote when it moves.
    let recorded = case["raft_config"].as_array().unwrap().iter();
    let staging = recorded.filter(|member| member["id"] == id).any(|member| member["suffrage"] == "staging");
    if staging && calls.last() == Some(&("add_voter", id)) {
        assert_eq!(ours.pop(), Some(("add_nonvoter", id)), "{name}");
        ours.push(("add_voter", id));
        rules.insert("staging");
    }
    // There, a call that fails is the last one.
    assert_eq!(ours[..calls.len().min(ours.len())], calls, "{name}");
    assert!(kind != "none" || ours.len() == calls.len(), "{name}");
    rules
}
