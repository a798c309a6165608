//! Why a server is as it is, in sentences that a person understands.

use std::fmt;
use std::sync::Arc;

use raft_types::{ServerId, Time};
use serde::{Deserialize, Serialize};

use crate::model::duration_text::short;
use crate::model::{Action, Decision, Plan, Reason, ServerState, State, Verdict};

/// Everything that is to be said about one server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explanation {
    /// Who it is about.
    pub server: ServerId,
    /// Its name for people; may be empty.
    pub name: Arc<str>,
    /// Its health first, then its vote, then whether it stays, then what else was considered.
    pub facts: Vec<Fact>,
}

/// One sentence with the reason behind it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fact {
    /// What it is about.
    pub topic: Topic,
    /// The reason, with its code and numbers.
    pub reason: Reason,
    /// The sentence.
    pub text: String,
    /// When this may change by the mere passing of time; `None` when that cannot be told.
    pub earliest: Option<Time>,
}

/// What a sentence is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Topic {
    /// Whether it is healthy.
    Health,
    /// Whether it votes.
    Vote,
    /// Whether it stays a member.
    Removal,
    /// Whether it should lead.
    Leadership,
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Health => "health",
            Self::Vote => "vote",
            Self::Removal => "removal",
            Self::Leadership => "leadership",
        })
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name.is_empty() {
            true => write!(f, "Server {}:", self.server)?,
            false => write!(f, "Server {} ({}):", self.server, self.name)?,
        }
        self.facts.iter().try_for_each(|fact| write!(f, "\n  {} [{}]", fact.text, fact.reason.code()))
    }
}

/// Explains a member by the state and the plan of one round; `None` for a server that is no member.
#[must_use]
pub fn explain(state: &State, plan: &Plan, server: &ServerId) -> Option<Explanation> {
    let server = state.server(server)?;
    let mut facts = health(state, server);
    facts.push(vote(state, server));
    let about = || plan.decisions.iter().filter(|decision| decision.server == server.id);
    facts.push(removal(plan, about().find(|decision| decision.action == Action::Remove)));
    facts.extend(about().filter_map(|decision| considered(plan, decision)));
    Some(Explanation { server: server.id.clone(), name: server.name.clone(), facts })
}

fn health(state: &State, server: &ServerState) -> Vec<Fact> {
    let since = short(state.at.since(server.health.stable_since));
    let fact = |reason: Reason, text| Fact { topic: Topic::Health, reason, text, earliest: None };
    if server.health.healthy {
        return vec![fact(Reason::Healthy, format!("It is healthy, and has been for {since}."))];
    }
    let reasons = server.health.reasons.iter();
    reasons
        .map(|reason| {
            let text = format!("It is unhealthy, for {since} now: {reason}.");
            fact(Reason::Health(reason.clone()), text)
        })
        .collect()
}

fn vote(state: &State, server: &ServerState) -> Fact {
    let fact = |reason, text, earliest| Fact { topic: Topic::Vote, reason, text, earliest };
    match &server.blocked_by {
        None if server.is_leader() => fact(Reason::IsLeader, String::from("It leads, and votes."), None),
        None => fact(Reason::AlreadyVoter, String::from("It votes."), None),
        Some(blocked) => {
            let when = when(blocked.earliest, state.at);
            let text = format!("It does not vote: {blocked}{when}.");
            fact(blocked.reason.clone(), text, blocked.earliest)
        }
    }
}

fn removal(plan: &Plan, decision: Option<&Decision>) -> Fact {
    let fact = |reason, text, earliest| Fact { topic: Topic::Removal, reason, text, earliest };
    let Some(decision) = decision else {
        return fact(Reason::NotDead, String::from("It stays: it is not dead."), None);
    };
    let reason = decision.reason.clone();
    let earliest = earliest(plan, &reason);
    let text = match decision.verdict {
        Verdict::Chosen => format!("It is being removed: {reason}."),
        Verdict::Deferred => {
            format!("It is to be removed, but not yet: {reason}{}.", when(earliest, plan.at))
        }
        Verdict::Refused => format!("It is not removed: {reason}."),
    };
    fact(reason, text, earliest)
}

/// A demotion or a transfer that somebody wanted. Promotions are told with the vote.
fn considered(plan: &Plan, decision: &Decision) -> Option<Fact> {
    let (topic, what) = match decision.action {
        Action::Demote => (Topic::Vote, "Taking its vote"),
        Action::Swap => (Topic::Vote, "Giving it the vote of another server"),
        Action::Transfer => (Topic::Leadership, "Handing leadership to it"),
        Action::Promote | Action::Remove => return None,
    };
    let reason = decision.reason.clone();
    let earliest = earliest(plan, &reason);
    let text = match decision.verdict {
        Verdict::Chosen => format!("{what} is the next step: {reason}."),
        Verdict::Deferred => format!("{what} has to wait: {reason}{}.", when(earliest, plan.at)),
        Verdict::Refused => format!("{what} is refused: {reason}."),
    };
    Some(Fact { topic, reason, text, earliest })
}

fn earliest(plan: &Plan, reason: &Reason) -> Option<Time> {
    reason.left().map(|left| plan.at + left)
}

fn when(earliest: Option<Time>, now: Time) -> String {
    earliest.map_or_else(String::new, |at| format!("; in {} at the earliest", short(at.since(now))))
}
