//! Performs the one step of a plan and says what came of it.

use raft_types::LogIndex;

use super::task::Task;
use crate::model::{Event, EventKind, PlannedStep, Reason, Step};
use crate::ports::ClusterError;

impl Task {
    /// Performs the step on the configuration it was decided on, and waits for the outcome.
    pub(super) async fn execute(
        &mut self,
        planned: PlannedStep,
        decided_on: LogIndex,
    ) -> Result<Option<LogIndex>, ClusterError> {
        let PlannedStep { step, reason } = planned;
        tracing::info!(%step, %reason, code = reason.code(), "taking a step");
        match self.ports.perform(step.clone(), decided_on).await {
            Ok(index) => {
                self.run.performed(self.now(), &step, None);
                self.succeeded(step, reason, index).await;
                Ok(index)
            }
            Err(error) => {
                tracing::warn!(%step, %error, "the step failed");
                self.run.performed(self.now(), &step, Some(&error));
                let refused = Reason::EngineRefused { error: error.to_string() };
                self.tell(EventKind::Failed, step.id().clone(), refused, None);
                Err(error)
            }
        }
    }

    async fn succeeded(&mut self, step: Step, reason: Reason, index: Option<LogIndex>) {
        let what = match &step {
            Step::Promote { .. } => EventKind::Promoted,
            Step::Demote { .. } => EventKind::Demoted,
            Step::Remove { .. } => EventKind::Removed,
            Step::Transfer { .. } => EventKind::Transferred,
        };
        self.tell(what, step.id().clone(), reason, index);
        if let Step::Remove { id, class } = step
            && class.is_failed()
            && let Some(server) = self.known_server(&id)
        {
            // Only now: an application that forgets a server which is still a member would see it come back as stale.
            self.ports.forget(server).await;
        }
    }

    pub(super) fn tell(
        &self,
        what: EventKind,
        server: raft_types::ServerId,
        reason: Reason,
        index: Option<LogIndex>,
    ) {
        let event = Event { at: self.now(), term: self.shared.term, what, server, reason, index };
        // Nobody listening is no error.
        let _ = self.shared.events.send(event);
    }
}
