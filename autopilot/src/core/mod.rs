//! The pure round: everything it may look at comes in as [`Inputs`], everything it decides goes out as a [`Round`].
//!
//! Order of a round: assess (is each server healthy) → compose (the state) → candidates (what could be done, judged
//! by safety) → plan (at most one step) → why each server does not vote yet. Nothing here reads a clock, asks anybody
//! or performs anything.
//!
//! [`Run`] carries what one round leaves to the next.
//!
//! Not here: gathering the inputs and performing the step, which are the driver's.

mod assess;
pub(crate) mod candidates;
mod compose;
mod explain;
mod inputs;
mod mutant;
mod plan;
mod policy;
mod proposal;
mod replay;
mod run;
mod safety;

pub use explain::{Explanation, Fact, Topic, explain};
pub use inputs::{CoolDown, Inputs, KnownServers, Memory, Mode, Round, ServerMemory};
#[cfg(feature = "__mutants")]
pub use mutant::{Mutant, with_mutant};
pub use proposal::{Proposal, ProposedStep};
pub use replay::{Record, ReplayedRound, replay};
pub use run::{Run, everybody_answered, expected};
pub use safety::{AddPlan, AddRefusal, plan_add};

use raft_types::Time;

use self::policy::Policy;
use self::safety::Safety;
use crate::model::{BlockedBy, Plan, Reason};
use crate::promoter::{Promoter, PromoterInput};

impl Round {
    /// Runs one round. The same inputs always give the same round.
    ///
    /// A promoter that panics is reported in the plan, and its wishes count as none.
    #[must_use]
    pub fn run(inputs: &Inputs, promoter: &dyn Promoter) -> Self {
        let config = inputs.config.clone().unwrap_or_default();
        let mut policy = Policy::new(promoter);
        let mut state = compose::state(inputs, &config, &mut policy);
        let memory = compose::memory(&state);
        let (plan, blocked) = {
            let input = PromoterInput { now: inputs.now, config: &config, state: &state };
            let safety = Safety::new(inputs.now, &config, inputs.capabilities, &state);
            let wishes = candidates::wishes(&input, &safety, &mut policy);
            let removals = candidates::removals(inputs, &input, &safety, &mut policy);
            let plan = plan::plan(inputs, &state, wishes, removals, &policy);
            let blocked = plan::blocked(inputs, &state, &safety, &plan, &mut policy);
            (plan, blocked)
        };
        let next_wake = next_wake(inputs.now, &plan, &blocked);
        for (server, blocked_by) in state.servers.values_mut().zip(blocked) {
            server.blocked_by = blocked_by;
        }
        Self { state, plan, memory, next_wake }
    }
}

/// The end of the first wait that anything is held up by.
fn next_wake(now: Time, plan: &Plan, blocked: &[Option<BlockedBy>]) -> Option<Time> {
    let waits = plan.decisions.iter().filter_map(|decision| match &decision.reason {
        Reason::Grace { left, .. } | Reason::Probation { left, .. } | Reason::CoolDown { left, .. } => {
            Some(now + *left)
        }
        _ => None,
    });
    let blocked = blocked.iter().filter_map(|blocked| blocked.as_ref()?.earliest);
    waits.chain(blocked).filter(|at| *at > now).min()
}
