//! What one round hands to the next, and what is added to it when a step was performed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use raft_types::{LogIndex, ServerId, Term, Time};
use serde::{Deserialize, Serialize};

use super::{
    Action, Actor, CHANGES_REMEMBERED_MAX, Reason, ServerStats, Step, SuspensionCause, Tombstone,
    duration_text,
};

/// What one round hands to the next of the same run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct Memory {
    /// When the first state of the run was computed.
    pub first_state_at: Option<Time>,
    /// When the newest was.
    pub last_state_at: Option<Time>,
    /// What was seen of each member.
    pub servers: BTreeMap<ServerId, ServerMemory>,
    /// How many servers voted.
    pub voters: usize,
    /// The largest number of voters that was seen all stable, which nobody has lowered on purpose since.
    pub stable_size: Option<usize>,
    /// Until when nothing is taken away.
    pub suspended: Option<Suspension>,
    /// When autopilot took its last steps, oldest first.
    pub changes: Vec<Time>,
    /// When dead servers lost their vote or membership by autopilot, oldest first.
    pub removals: Vec<Time>,
    /// When a dead voter did last.
    pub voter_removed_at: Option<Time>,
    /// Who was removed; the oldest are forgotten.
    pub tombstones: BTreeMap<ServerId, Tombstone>,
    /// What was refused in the round before, so that a refusal is told once.
    pub refused: Vec<Refusal>,
    /// Which drained servers were said to be done.
    pub drained: Vec<ServerId>,
}

/// What was seen of one member.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct ServerMemory {
    /// The last name that the application gave it.
    pub name: Arc<str>,
    /// The last version that the application reported.
    pub version: Arc<str>,
    /// Whether it was healthy.
    pub healthy: bool,
    /// Since when it has been like that.
    pub since: Time,
    /// How much longer it had been healthy by then, by the word of an earlier leader.
    #[serde(with = "duration_text")]
    pub credit: Duration,
    /// The newest measurement.
    pub stats: ServerStats,
    /// When that was made, if ever.
    pub stats_at: Option<Time>,
    /// Its last measurements, the newest in the lowest bit; 1 is one that broke a rule.
    pub samples: u32,
    /// When the newest of them was taken, if any was.
    pub sampled_at: Option<Time>,
    /// How often it turned unhealthy, in thousandths, decayed up to `flaps_at`.
    pub flaps: u32,
    /// See `flaps`.
    pub flaps_at: Time,
    /// Whether that made it count as flapping, and it has not decayed enough since.
    pub flapping: bool,
    /// Whether it was ever seen healthy.
    pub proven: bool,
    /// When it last made progress while joining.
    pub progress_at: Option<Time>,
}

impl ServerMemory {
    /// Takes over everything, and shares the names.
    pub(crate) fn copy_from(&mut self, other: &Self) {
        share(&mut self.name, &other.name);
        share(&mut self.version, &other.version);
        let Self { name: _, version: _, healthy, since, credit, stats, stats_at, .. } = *other;
        (self.healthy, self.since, self.credit) = (healthy, since, credit);
        (self.stats, self.stats_at) = (stats, stats_at);
        let Self { samples, sampled_at, flaps, flaps_at, flapping, proven, progress_at, .. } = *other;
        (self.samples, self.sampled_at) = (samples, sampled_at);
        (self.flaps, self.flaps_at, self.flapping) = (flaps, flaps_at, flapping);
        (self.proven, self.progress_at) = (proven, progress_at);
    }
}

/// Whether two texts are equal. Most that are compared are the very same one, which shows without reading them.
pub(crate) fn same_text(a: &str, b: &str) -> bool {
    std::ptr::eq(a, b) || a == b
}

/// Makes both the same shared text, without counting it again where they are.
pub(crate) fn share<T: ?Sized>(to: &mut Arc<T>, from: &Arc<T>) {
    if !Arc::ptr_eq(to, from) {
        *to = Arc::clone(from);
    }
}

/// Nothing is taken away for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Suspension {
    /// Until when.
    pub until: Time,
    /// Why.
    pub cause: SuspensionCause,
}

/// A refusal that was told.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Refusal {
    /// About whom.
    pub server: ServerId,
    /// What was refused.
    pub action: Action,
    /// Why, as a code.
    pub code: String,
}

/// Who performed a step, when, and to what effect.
#[derive(Clone, Debug)]
pub struct Performed<'a> {
    /// When.
    pub at: Time,
    /// In which Raft term.
    pub term: Term,
    /// Who.
    pub by: &'a Actor,
    /// Why.
    pub why: &'a Reason,
    /// Where the configuration that came of it stands.
    pub index: Option<LogIndex>,
    /// In which of its lives a removed server was, if the application counts them.
    pub incarnation: Option<u64>,
}

impl Memory {
    /// How many removed servers are remembered.
    pub const TOMBSTONES_MAX: usize = 256;

    /// Notes that a step was performed: for rate limits, the removal budget and the tombstones.
    pub fn performed(&mut self, step: &Step, how: &Performed<'_>) {
        if *how.by == Actor::AUTOPILOT {
            push(&mut self.changes, how.at);
            if self.is_cleanup(step, how.why) {
                push(&mut self.removals, how.at);
                if loses_vote(step) {
                    self.voter_removed_at = Some(how.at);
                }
            }
        }
        match step {
            Step::Remove { id, .. } | Step::Swap { out: id, class: Some(_), .. } => self.bury(id, how),
            Step::Swap { .. } | Step::Promote { .. } | Step::Demote { .. } | Step::Transfer { .. } => {}
        }
    }

    /// Notes that a server was removed, by whomever.
    pub fn bury(&mut self, id: &ServerId, how: &Performed<'_>) {
        let tombstone = Tombstone {
            id: id.clone(),
            incarnation: how.incarnation,
            by: how.by.clone(),
            why: how.why.clone(),
            at: how.at,
            term: how.term,
            index: how.index,
        };
        self.tombstones.insert(id.clone(), tombstone);
        while self.tombstones.len() > Self::TOMBSTONES_MAX {
            let oldest = self.tombstones.values().min_by_key(|stone| stone.at).map(|stone| stone.id.clone());
            let Some(oldest) = oldest else { return };
            self.tombstones.remove(&oldest);
        }
    }

    /// Whether the step takes something from a dead server, by whatever rule.
    fn is_cleanup(&self, step: &Step, why: &Reason) -> bool {
        match step {
            Step::Remove { .. } => true,
            Step::Swap { out, .. } => self.servers.get(out).is_some_and(|seen| !seen.healthy),
            Step::Demote { id } => {
                !matches!(why, Reason::Drained { .. })
                    && self.servers.get(id).is_some_and(|seen| !seen.healthy)
            }
            Step::Promote { .. } | Step::Transfer { .. } => false,
        }
    }
}

const fn loses_vote(step: &Step) -> bool {
    match step {
        Step::Remove { class, .. } => class.is_voter(),
        Step::Swap { .. } | Step::Demote { .. } => true,
        Step::Promote { .. } | Step::Transfer { .. } => false,
    }
}

fn push(times: &mut Vec<Time>, at: Time) {
    if times.len() >= CHANGES_REMEMBERED_MAX {
        times.remove(0);
    }
    times.push(at);
}
