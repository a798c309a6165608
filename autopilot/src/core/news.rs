//! What is new since the round before.

use raft_types::ServerId;

use super::inputs::{Inputs, News};
use super::{orders, suspend};
use crate::model::{EventKind, Memory, Plan, Reason, Refusal, State, Verdict};

/// Compares the round with the one before, and notes in `memory` what has been told.
pub(super) fn news(inputs: &Inputs, state: &State, plan: &Plan, memory: &mut Memory) -> Vec<News> {
    let mut news = Vec::new();
    health(inputs, state, &mut news);
    let suspended = |memory: &Memory| suspend::reason(memory.suspended, inputs.now);
    if let (None, Some(reason)) = (suspended(&inputs.memory), suspended(memory)) {
        let server = state.leader.clone().unwrap_or_else(|| inputs.view.id.clone());
        news.push(News { what: EventKind::Suspended, server, reason });
    }
    let done = |id: &&ServerId| orders::is_drained(state, id) && !state.is_empty();
    memory.drained = inputs.hand.drained.keys().filter(done).cloned().collect();
    for server in memory.drained.iter().filter(|id| !inputs.memory.drained.contains(id)) {
        let (server, reason) = (server.clone(), Reason::DrainDone);
        news.push(News { what: EventKind::DrainDone, server, reason });
    }
    refusals(inputs, plan, memory, &mut news);
    news
}

fn health(inputs: &Inputs, state: &State, news: &mut Vec<News>) {
    let mut before = inputs.memory.servers.iter().peekable();
    for server in state.servers.values() {
        while before.next_if(|(id, _)| **id < server.id).is_some() {}
        let was = before.next_if(|(id, _)| **id == server.id).map(|(_, seen)| seen.healthy);
        if was.is_none_or(|was| was == server.health.healthy) {
            continue;
        }
        let (what, reason) = match server.health.reasons.first() {
            None => (EventKind::BecameHealthy, Reason::Healthy),
            Some(reason) => (EventKind::BecameUnhealthy, Reason::Health(reason.clone())),
        };
        news.push(News { what, server: server.id.clone(), reason });
    }
}

/// A refusal is told once, and again when its reason is another.
fn refusals(inputs: &Inputs, plan: &Plan, memory: &mut Memory, news: &mut Vec<News>) {
    let mut refused = Vec::new();
    for decision in plan.decisions.iter().filter(|decision| decision.verdict == Verdict::Refused) {
        let (server, action) = (decision.server.clone(), decision.action);
        refused.push(Refusal { server, action, code: decision.reason.code().to_owned() });
        let told = refused.last().is_some_and(|refusal| inputs.memory.refused.binary_search(refusal).is_ok());
        if !told {
            let (server, reason) = (decision.server.clone(), decision.reason.clone());
            news.push(News { what: EventKind::Refused, server, reason });
        }
    }
    refused.sort_unstable();
    refused.dedup();
    memory.refused = refused;
}
