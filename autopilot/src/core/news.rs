//! What is new since the round before.

use raft_types::ServerId;

use super::inputs::{Inputs, News};
use super::{orders, suspend};
use crate::model::{EventKind, Memory, Plan, Reason, Refusal, ServerState, State, Verdict};

/// Compares the round with the one before, and notes in `memory` what has been told.
/// `turns` are those of health.
pub(super) fn news(
    inputs: &Inputs,
    state: &State,
    plan: &Plan,
    memory: &mut Memory,
    turns: Vec<News>,
) -> Vec<News> {
    let mut news = turns;
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

/// A turn of health.
pub(super) fn turn(server: &ServerState) -> News {
    let (what, reason) = match server.health.reasons.first() {
        None => (EventKind::BecameHealthy, Reason::Healthy),
        Some(reason) => (EventKind::BecameUnhealthy, Reason::Health(reason.clone())),
    };
    News { what, server: server.id.clone(), reason }
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
