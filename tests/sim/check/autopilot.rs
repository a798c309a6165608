//! What autopilot may do, judged from the outside: the checkers keep what each run was shown and count health, probation,
//! grace and tolerance for themselves, by other means than the library's.
//!
//! [`decision`] and [`limits`] judge every round, [`orders`] what people were promised, [`accepted`] every change that the
//! engine took, [`goal`] where it all ends.

pub mod accepted;
pub mod decision;
pub mod goal;
pub mod limits;
pub mod observed;
pub mod orders;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use autopilot::{LogIndex, ServerId, Step};
use raft::Time;

use crate::pilot::people::{Kept, Word};
pub use limits::Flaps;
pub use observed::Observed;

/// What the checkers know of one run.
#[derive(Clone, Debug, Default)]
pub struct Watch {
    /// What the run was shown.
    pub observed: Observed,
    /// Whether the application said in the last look whom it knows.
    pub answered: bool,
    /// The step that failed last, and until when it must not be tried again.
    pub failed: Option<(Step, Time)>,
    /// The largest configuration index on which it decided a step.
    pub decided_on: LogIndex,
    /// The removals of voters since the set of dead voters last changed.
    pub pass: Pass,
    /// When it took over a ledger, and how long each member had been healthy by then.
    pub credit: Option<(Time, BTreeMap<ServerId, Duration>)>,
    /// The largest number of voters that was seen all stable, which nobody has lowered since.
    pub size: Option<usize>,
    /// What was seen of the turns of each member.
    pub flaps: BTreeMap<ServerId, Flaps>,
    /// Until when nothing may be taken away.
    pub suspended_until: Time,
    /// What others said in this round about those that are not called alive.
    pub words: BTreeMap<ServerId, Vec<Word>>,
}

impl Watch {
    /// What an earlier leader left, at this moment of the clock. Whoever it saw healthy counts as seen, until a look shows
    /// something else.
    pub fn inherit(&mut self, kept: &Kept, history: bool, now: Time) {
        self.size = kept.size;
        if history {
            self.observed.expect(kept.healthy_for.keys(), now);
            self.credit = Some((now, kept.healthy_for.clone()));
        }
    }

    /// For how long this member was healthy in every look, those of earlier leaders included if nothing came between.
    #[must_use]
    pub fn healthy_since(&self, id: &ServerId, now: Time) -> Option<Duration> {
        let since = self.observed.members.get(id)?.healthy_since?;
        let earlier = self.credit.as_ref().filter(|(at, _)| *at == since).and_then(|(_, all)| all.get(id));
        Some(now.since(since) + earlier.copied().unwrap_or_default())
    }

    /// The same for all who are.
    #[must_use]
    pub fn healthy_for(&self, now: Time) -> BTreeMap<ServerId, Duration> {
        let all = self.observed.members.keys();
        all.filter_map(|id| Some((id.clone(), self.healthy_since(id, now)?))).collect()
    }
}

/// One pass of removals: it begins with the first one, and ends when somebody else dies or gets a vote.
#[derive(Clone, Debug, Default)]
pub struct Pass {
    /// How many voted at the start.
    pub voters: usize,
    /// The dead voters that were seen.
    pub dead: BTreeSet<ServerId>,
    /// How many voters it has removed.
    pub removed: usize,
}
