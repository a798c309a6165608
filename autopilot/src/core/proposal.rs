//! The steps to the policy's goal, computed without taking any: each round's step is played on paper, and where only
//! time is in the way the clock of the paper moves on.

use std::fmt;
use std::time::Duration;

use raft_types::{LogIndex, Term, Time};
use serde::{Deserialize, Serialize};

use super::inputs::{Inputs, Mode, Round};
use crate::model::{Action, Actor, Performed, PlannedStep, Step, duration_text};
use crate::promoter::Promoter;

/// What autopilot would do from here on if every server stayed as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proposal {
    /// When it was made.
    pub at: Time,
    /// The Raft term it is valid in.
    pub term: Term,
    /// The stamp of the configuration it starts from; on any other it is refused.
    pub configuration_index: LogIndex,
    /// How many voters may fail now.
    pub failure_tolerance: usize,
    /// The steps in order.
    pub steps: Vec<ProposedStep>,
    /// Whether the steps end where nothing more is wanted. Otherwise there were too many to follow, or leadership
    /// moves, and the new leader decides.
    pub complete: bool,
}

/// One step of a [`Proposal`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProposedStep {
    /// What to do and why.
    #[serde(flatten)]
    pub planned: PlannedStep,
    /// How long after the proposal was made it may be taken, at the earliest.
    #[serde(with = "duration_text")]
    pub wait: Duration,
    /// How many voters may fail before it.
    pub tolerance_before: usize,
    /// How many may fail while it is under way, when neither the configuration before nor the one after is certain.
    pub tolerance_during: usize,
    /// How many may fail after it.
    pub tolerance_after: usize,
}

impl Proposal {
    /// The most steps that are followed.
    pub const STEPS_MAX: usize = 64;

    /// Follows the rounds from these inputs on. What is switched off for autopilot itself is proposed too: a person
    /// decides about a proposal.
    #[must_use]
    pub fn compute(inputs: &Inputs, promoter: &dyn Promoter) -> Self {
        let mut paper = Inputs { mode: Mode::Reconcile, reconciliation_enabled: true, ..inputs.clone() };
        paper.hand.paused = None;
        let mut round = Round::run(&paper, promoter);
        let mut proposal = Self {
            at: inputs.now,
            term: inputs.term,
            configuration_index: inputs.view.configuration_index,
            failure_tolerance: round.state.failure_tolerance,
            steps: Vec::new(),
            complete: false,
        };
        // Each turn takes a step or moves the clock on; without either the goal is reached.
        for _ in 0..Self::STEPS_MAX * 2 {
            match (&round.plan.step, round.next_wake) {
                (Some(_), _) if proposal.steps.len() == Self::STEPS_MAX => return proposal,
                (Some(planned), _) => {
                    let planned = planned.clone();
                    let changed = perform(&mut paper, &planned.step);
                    proposal.steps.push(ProposedStep {
                        planned,
                        wait: paper.now.since(inputs.now),
                        tolerance_before: round.state.failure_tolerance,
                        tolerance_during: round.state.failure_tolerance,
                        tolerance_after: round.state.failure_tolerance,
                    });
                    if !changed {
                        return proposal;
                    }
                }
                (None, Some(wake)) => pass_time(&mut paper, wake),
                (None, None) => {
                    proposal.complete = true;
                    return proposal;
                }
            }
            let stepped = round.plan.step.is_some();
            paper.memory = std::mem::take(&mut round.memory);
            // The clock of the paper jumps, and that is no reason to doubt what is seen on it.
            paper.memory.last_state_at = Some(paper.now);
            if let (true, Some(last)) = (stepped, proposal.steps.last()) {
                note(&mut paper, &last.planned);
            }
            round = Round::run(&paper, promoter);
            if let (true, Some(last)) = (stepped, proposal.steps.last_mut()) {
                last.tolerance_after = round.state.failure_tolerance;
                last.tolerance_during = last.tolerance_before.min(last.tolerance_after);
            }
        }
        proposal
    }

    /// The steps that need no waiting.
    pub fn due(&self) -> impl Iterator<Item = &ProposedStep> {
        self.steps.iter().take_while(|step| step.wait.is_zero())
    }
}

/// Moves the clock of the paper on: whoever is silent stays so, and everybody else goes on answering.
fn pass_time(paper: &mut Inputs, wake: Time) {
    let limit = paper.config.as_ref().map_or(Duration::ZERO, |config| config.last_contact_threshold);
    let passed = wake.since(paper.now);
    paper.now = wake;
    let measured = paper.fetched.iter_mut().flat_map(|fetched| fetched.values_mut());
    let contacts = paper.view.stats.values_mut().chain(measured).filter_map(|s| s.last_contact.as_mut());
    contacts.filter(|contact| **contact > limit).for_each(|c| *c = c.saturating_add(passed));
}

/// Plays a change on paper. False when it cannot be played, as a transfer cannot: what follows is another leader's.
fn perform(paper: &mut Inputs, step: &Step) -> bool {
    if step.action() == Action::Transfer {
        return false;
    }
    let Ok(configuration) = step.apply(&paper.view.configuration) else { return false };
    paper.view.configuration = configuration;
    true
}

fn note(paper: &mut Inputs, planned: &PlannedStep) {
    let how = Performed {
        at: paper.now,
        term: paper.term,
        by: &Actor::AUTOPILOT,
        why: &planned.reason,
        index: None,
        incarnation: None,
    };
    paper.memory.performed(&planned.step, &how);
}

impl fmt::Display for Proposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "On the configuration at index {}, where {} may fail:",
            self.configuration_index, self.failure_tolerance
        )?;
        for (number, proposed) in self.steps.iter().enumerate() {
            let ProposedStep { planned, wait, .. } = proposed;
            let (before, during, after) =
                (proposed.tolerance_before, proposed.tolerance_during, proposed.tolerance_after);
            let wait = match wait.is_zero() {
                true => String::from("now"),
                false => format!("after {}", duration_text::short(*wait)),
            };
            write!(
                f,
                "\n{}. {}, {wait}: {}\n   may fail: {before} before, {during} during, {after} after",
                number + 1,
                planned.step,
                planned.reason
            )?;
        }
        match (self.steps.is_empty(), self.complete) {
            (true, true) => f.write_str("\nNothing is to be done."),
            (false, true) => f.write_str("\nThen nothing more is to be done."),
            (_, false) => f.write_str("\nWhat comes then cannot be told yet."),
        }
    }
}
