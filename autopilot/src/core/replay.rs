//! Recorded rounds, decided again: would another configuration or another promoter have done something else?

use raft_types::Time;
use serde::{Deserialize, Serialize};

use super::inputs::{Inputs, Mode, Round};
use crate::model::{Config, Decision, Memory, PlannedStep};
use crate::promoter::Promoter;

/// One round as it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// What went into it.
    pub inputs: Inputs,
    /// The step that it chose, if any.
    pub step: Option<PlannedStep>,
}

/// One round decided again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplayedRound {
    /// When the round was.
    pub at: Time,
    /// What it was for.
    pub mode: Mode,
    /// The step that was chosen then.
    pub then: Option<PlannedStep>,
    /// The step that is chosen in the replay.
    pub replayed: Option<PlannedStep>,
    /// What the replay decided about the servers of both steps.
    pub decisions: Vec<Decision>,
}

impl ReplayedRound {
    /// Whether the replay does something else.
    #[must_use]
    pub fn differs(&self) -> bool {
        let step = |planned: &Option<PlannedStep>| planned.as_ref().map(|planned| planned.step.clone());
        step(&self.then) != step(&self.replayed)
    }
}

/// Decides every record again, in order, under `config` if given and else under the recorded one.
///
/// Each round sees the cluster as it was then, also after a round in which the replay would have done something else:
/// what the cluster would have become cannot be known. Health history is carried from round to round by the replay's
/// own judgement, so records must be consecutive; a new run of autopilot among them starts afresh.
#[must_use]
pub fn replay(records: &[Record], config: Option<&Config>, promoter: &dyn Promoter) -> Vec<ReplayedRound> {
    let mut carried: Option<(Time, Memory)> = None;
    let mut rounds = Vec::with_capacity(records.len());
    for record in records {
        let mut inputs = record.inputs.clone();
        if let Some(config) = config
            && inputs.config.is_some()
        {
            inputs.config = Some(config.clone());
        }
        let recorded = &inputs.memory;
        match carried.take() {
            // The same run goes on.
            Some((first, memory)) if recorded.first_state_at == Some(first) => inputs.memory = memory,
            _ => {}
        }
        let mut round = Round::run(&inputs, promoter);
        carried = Some((round.state.first_state_at, std::mem::take(&mut round.memory)));
        let (then, replayed) = (record.step.clone(), round.plan.step.take());
        let ids: Vec<_> = then.iter().chain(&replayed).map(|planned| planned.step.id().clone()).collect();
        let about = round.plan.decisions.into_iter().filter(|decision| ids.contains(&decision.server));
        let decisions = about.collect();
        rounds.push(ReplayedRound { at: inputs.now, mode: inputs.mode, then, replayed, decisions });
    }
    rounds
}
