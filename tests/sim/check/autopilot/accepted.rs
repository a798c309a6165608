//! A change at the moment at which the engine takes it: A4, A5, A10 and A13, with what the server really is.

use std::time::Duration;

use autopilot::{Plan, Term};
use raft::core::{RaftCore, Role};
use raft::{LogIndex, Time};

use crate::check::Verdict;

/// What the engine was like before.
#[derive(Clone, Copy, Debug)]
pub struct Engine {
    role: Role,
    term: Term,
    configuration: LogIndex,
    committed: bool,
    joint: bool,
}

impl Engine {
    /// Takes it from a core.
    #[must_use]
    pub fn of(core: &RaftCore) -> Self {
        Self {
            role: core.role(),
            term: core.term(),
            configuration: core.configuration_index(),
            committed: core.configuration_index() <= core.commit_index(),
            joint: core.configuration().is_joint(),
        }
    }

    /// Whether a change was taken since.
    #[must_use]
    pub fn moved(&self, core: &RaftCore) -> bool {
        core.configuration_index() > self.configuration
    }

    /// Judges a change that was taken: it was decided by this leader in this term (A5), on this configuration (A5), which
    /// was committed (A4) and not joint (A13), not longer ago than an interval (A10), and not while leadership is handed
    /// over (A13).
    ///
    /// # Errors
    /// What it was not.
    pub fn takes(&self, plan: &Plan, now: Time, interval: Duration, handing_over: bool) -> Verdict {
        let age = now.since(plan.at);
        let wrong = [
            (self.role != Role::Leader || self.term != plan.term, "in another term"),
            (self.configuration != plan.configuration_index, "on another configuration"),
            (!self.committed, "while a change is in flight"),
            (self.joint, "while several servers change"),
            (handing_over, "while leadership is handed over"),
            (age > interval, "too late"),
        ];
        match wrong.iter().find(|(broken, _)| *broken) {
            Some((_, how)) => Err(format!("{:?} is taken {how}: {self:?}, decided {age:?} ago", plan.step)),
            None => Ok(()),
        }
    }
}
