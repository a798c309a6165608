//! Performs the one step of a plan and says what came of it.

use raft_types::LogIndex;

use super::task::Task;
use crate::model::{Actor, Event, EventKind, Performed, PlannedStep, Reason, Step};
use crate::ports::ClusterError;

impl Task {
    /// Performs the step on the configuration it was decided on, and waits for the outcome.
    pub(super) async fn execute(
        &mut self,
        planned: PlannedStep,
        decided_on: LogIndex,
        by: &Actor,
    ) -> Result<Option<LogIndex>, ClusterError> {
        let PlannedStep { step, reason } = planned;
        tracing::info!(%step, %reason, %by, code = reason.code(), "taking a step");
        let inputs = self.records.newest_hash();
        let outcome = self.ports.perform(step.clone(), decided_on).await;
        let (what, told) = match &outcome {
            Ok(_) => (done(&step), reason.clone()),
            Err(error) => (EventKind::Failed, Reason::EngineRefused { error: error.to_string() }),
        };
        self.tell(Event {
            actor: by.clone(),
            decided_on: Some(decided_on),
            index: outcome.as_ref().ok().copied().flatten(),
            inputs,
            ..self.event(what, step.id().clone(), told)
        });
        match &outcome {
            Ok(index) => {
                self.succeeded(&step, &reason, *index, by).await;
            }
            Err(error) => {
                tracing::warn!(%step, %error, "the step failed");
                self.run.failed(self.now(), &step, error);
            }
        }
        outcome
    }

    async fn succeeded(&mut self, step: &Step, reason: &Reason, index: Option<LogIndex>, by: &Actor) {
        let (at, term) = (self.now(), self.shared.term);
        let gone = step.loser().and_then(|id| self.known_server(id));
        let incarnation = gone.as_ref().and_then(|server| server.incarnation);
        self.run.performed(step, &Performed { at, term, by, why: reason, index, incarnation });
        let class = match step {
            Step::Remove { class, .. } | Step::Swap { class: Some(class), .. } => *class,
            Step::Swap { .. } | Step::Promote { .. } | Step::Demote { .. } | Step::Transfer { .. } => return,
        };
        if let Some(server) = gone.filter(|_| class.is_failed()) {
            // Only now: an application that forgets a server which is still a member would see it come back as stale.
            self.ports.forget(server).await;
        }
    }
}

const fn done(step: &Step) -> EventKind {
    match step {
        Step::Promote { .. } => EventKind::Promoted,
        Step::Demote { .. } => EventKind::Demoted,
        Step::Remove { .. } => EventKind::Removed,
        Step::Swap { .. } => EventKind::Swapped,
        Step::Transfer { .. } => EventKind::Transferred,
    }
}
