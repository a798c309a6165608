//! Proposals: what would be done, and doing it when somebody approves; and the record of what was decided.

use std::collections::VecDeque;
use std::sync::Arc;

use super::error::{ApplyError, RequestError};
use super::task::Task;
use crate::core::{Inputs, Mode, Proposal, Record, Round};
use crate::model::{Actor, AppliedStep, ApplyReport, InputsHash, Memory, PlannedStep, Reason};
use crate::ports::ClusterError;

/// The last rounds, for a replay. Bounded by rounds, about half an hour of them, and by what they hold.
#[derive(Debug, Default)]
pub(super) struct Records {
    ring: VecDeque<Arc<Record>>,
    servers: usize,
}

impl Records {
    const ROUNDS_MAX: usize = 1_024;
    /// Servers in all rounds together: one round of a huge cluster must not take the memory of a thousand.
    const SERVERS_MAX: usize = 32_768;

    /// Keeps a round, and returns the memory of one that had to make room for it and that nobody else holds.
    pub(super) fn push(&mut self, inputs: Inputs, step: Option<PlannedStep>) -> Option<Memory> {
        self.servers += Self::weight(&inputs);
        self.ring.push_back(Arc::new(Record { inputs, step }));
        let mut spare = None;
        while self.ring.len() > 1 && (self.ring.len() > Self::ROUNDS_MAX || self.servers > Self::SERVERS_MAX)
        {
            let Some(oldest) = self.ring.pop_front() else { break };
            self.servers -= Self::weight(&oldest.inputs);
            spare = Arc::try_unwrap(oldest).ok().map(|record| record.inputs.memory);
        }
        spare
    }

    pub(super) fn list(&self) -> Vec<Arc<Record>> {
        self.ring.iter().cloned().collect()
    }

    /// The hash of what the newest round looked at.
    pub(super) fn newest_hash(&self) -> Option<InputsHash> {
        self.ring.back().map(|record| record.inputs.hash_of_all())
    }

    fn weight(inputs: &Inputs) -> usize {
        inputs.view.configuration.servers().len().max(inputs.known.servers.len())
    }
}

impl Task {
    pub(super) async fn propose(&mut self) -> Result<Proposal, RequestError> {
        // Without the orders it would say that nothing is to be done.
        self.ready().await?;
        let inputs = self.inputs(Mode::Reconcile).await?;
        self.run.memory = inputs.memory.clone();
        let answer = self.ports.judge(move |promoter| Proposal::compute(&inputs, promoter)).await;
        answer.map_err(|error| RequestError::Promoter { fault: error.to_string() })
    }

    /// Performs the steps that are due, each only if a round on a fresh look would take the very same one.
    pub(super) async fn apply(&mut self, proposal: &Proposal, by: &Actor) -> Result<ApplyReport, ApplyError> {
        if proposal.term != self.shared.term {
            return Err(ApplyError::OtherTerm { proposed: proposal.term, current: self.shared.term });
        }
        let mut expected = proposal.configuration_index;
        let mut report = ApplyReport { left: proposal.steps.len(), ..ApplyReport::default() };
        for proposed in proposal.due() {
            let round = match self.approved_round().await {
                Ok(round) => round,
                Err(error) if report.performed.is_empty() => return Err(error.into()),
                Err(error) => return Ok(stopped(report, &error)),
            };
            let current = round.plan.configuration_index;
            if current != expected && report.performed.is_empty() {
                return Err(ApplyError::Stale { proposed: proposal.configuration_index, current });
            }
            let planned = round.plan.step.filter(|planned| planned.step == proposed.planned.step);
            let (Some(planned), true) = (planned, current == expected) else {
                report.stopped = Some(Reason::Overtaken { index: current });
                break;
            };
            let step = planned.step.clone();
            match self.execute(planned, current, by).await {
                Ok(index) => {
                    expected = index.unwrap_or(expected);
                    report.performed.push(AppliedStep { step, index });
                    report.left -= 1;
                }
                Err(error) => return Ok(stopped(report, &error)),
            }
        }
        self.refresh().await;
        Ok(report)
    }

    /// A round that may take a step because a person approved it, whatever is switched off for autopilot itself.
    async fn approved_round(&mut self) -> Result<Round, ClusterError> {
        let mut inputs = self.inputs(Mode::Reconcile).await?;
        inputs.reconciliation_enabled = true;
        inputs.hand.paused = None;
        let (inputs, round) = self.round(inputs).await;
        self.publish(inputs, round.clone()).await;
        Ok(round)
    }
}

fn stopped(mut report: ApplyReport, error: &ClusterError) -> ApplyReport {
    report.stopped = Some(Reason::EngineRefused { error: error.to_string() });
    report
}
