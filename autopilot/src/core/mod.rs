//! The pure round: everything it may look at comes in as [`Inputs`], everything it decides goes out as a [`Round`].
//!
//! Order of a round: assess (is each server healthy) → compose (the state) → suspend (may it be trusted) → candidates,
//! orders, removals and replace (what could be done, judged by safety, floor and limits) → plan (at most one step) →
//! why each server does not vote yet → news. Nothing here reads a clock, asks anybody
//! or performs anything.
//!
//! [`Run`] carries what one round leaves to the next.
//!
//! Not here: gathering the inputs and performing the step, which are the driver's.

mod assess;
mod candidates;
mod compose;
mod digest;
mod explain;
mod flaps;
mod floor;
mod inputs;
mod ledger;
mod limits;
mod mutant;
mod news;
mod orders;
mod plan;
mod policy;
mod proposal;
pub(crate) mod removals;
mod replace;
mod replay;
mod run;
mod safety;
mod stop;
mod suspend;
mod tolerance;

pub use explain::{Explanation, Fact, Topic, explain};
pub use inputs::{CoolDown, Inputs, KnownServers, Mode, News, Round, Spare};
pub use ledger::Takeover;
#[cfg(feature = "__mutants")]
pub use mutant::{Mutant, with_mutant};
pub use proposal::{Proposal, ProposedStep};
pub use replay::{Record, ReplayedRound, replay};
pub use run::{Gathered, Run, everybody_answered, expected};
pub use safety::{AddPlan, AddRefusal, plan_add};
pub use stop::safe_to_stop;

use self::plan::Considered;
use self::policy::Policy;
use self::safety::Safety;
use crate::promoter::{Promoter, PromoterInput};

impl Round {
    /// Runs one round. The same inputs always give the same round.
    ///
    /// A promoter that panics is reported in the plan, and its wishes count as none.
    #[must_use]
    pub fn run(inputs: &Inputs, promoter: &dyn Promoter) -> Self {
        Self::run_with(inputs, promoter, &mut Spare::default())
    }

    /// The same, into the memory of what an earlier round left behind and nobody needs any more. Where the members are
    /// the same ones, nothing is allocated for those about whom nothing is to be said.
    #[must_use]
    pub fn run_with(inputs: &Inputs, promoter: &dyn Promoter, spare: &mut Spare) -> Self {
        Self::run_by(inputs, Policy::new(promoter), spare)
    }

    /// A round while the promoter of this name does not answer, and why: everybody is judged, nobody gets a vote by its
    /// wish, and nobody is removed, since it may have wanted to keep all.
    #[must_use]
    pub fn run_without(inputs: &Inputs, promoter: &str, fault: &str, spare: &mut Spare) -> Self {
        Self::run_by(inputs, Policy::absent(promoter, fault), spare)
    }

    fn run_by(inputs: &Inputs, mut policy: Policy<'_>, spare: &mut Spare) -> Self {
        let config = inputs.config.clone().unwrap_or_default();
        let (mut state, servers, tally) = compose::state(inputs, &config, &mut policy, spare);
        let mut memory = compose::memory(inputs, &state, servers);
        memory.suspended = suspend::judge(inputs, &config, &state, &tally);
        let suspended = suspend::reason(memory.suspended, inputs.now);
        let safety = Safety::new(inputs.now, &config, inputs.capabilities, &state);
        let plan = {
            let input = PromoterInput { now: inputs.now, config: &config, state: &state };
            let considered = consider(inputs, &input, &safety, &mut policy, tally.not_alive > 0);
            plan::plan(inputs, &config, &state, considered, suspended.as_ref(), &policy)
        };
        let vote_at = plan::blocked(inputs, &mut state.servers, &safety, &plan, &mut policy);
        let waits = plan.decisions.iter().filter_map(|decision| Some(inputs.now + decision.reason.left()?));
        let next_wake = waits.chain(vote_at).filter(|at| *at > inputs.now).min();
        let events = news::news(inputs, &state, &plan, &mut memory, tally.turns);
        Self { state, plan, events, memory, next_wake }
    }
}

/// Everything that could be done: a vote that changes hands, what was ordered, what the promoter wishes, who is dead.
fn consider(
    inputs: &Inputs,
    input: &PromoterInput<'_>,
    safety: &Safety<'_>,
    policy: &mut Policy<'_>,
    somebody_dead: bool,
) -> Considered {
    let state = input.state;
    let wanted = candidates::wishes(inputs, input, safety, policy);
    let removals = removals::removals(inputs, input, safety, policy, somebody_dead);
    let swap = replace::swap(inputs, input.config, state, safety, &wanted, &removals);
    let mut wishes: Vec<_> = swap.into_iter().collect();
    wishes.extend(orders::drains(inputs, state, safety));
    wishes.extend(wanted);
    Considered { wishes, removals: removals.into_iter().map(|removal| removal.candidate).collect() }
}
