//! Performs the one step of a plan and says what came of it.

use raft_types::LogIndex;

use super::task::Task;
use crate::core::CoolDown;
use crate::model::{Event, EventKind, PlannedStep, Reason, Step};
use crate::ports::ClusterError;

/// How many reconcile intervals a step that failed has to wait, so that other steps get their turn.
const COOL_DOWN_INTERVALS: u32 = 2;

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
                self.cool_down = None;
                self.succeeded(step, reason, index).await;
                Ok(index)
            }
            Err(error) => {
                tracing::warn!(%step, %error, "the step failed");
                if waits(&error) {
                    self.cool_down = Some(CoolDown {
                        step: step.clone(),
                        until: self.now() + self.ports.intervals.reconcile * COOL_DOWN_INTERVALS,
                        error: error.to_string(),
                    });
                }
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

/// Whether the same step should wait. Not where the engine only says that things moved on: the next round sees that.
const fn waits(error: &ClusterError) -> bool {
    !matches!(
        error,
        ClusterError::NotLeader { .. }
            | ClusterError::NotReady
            | ClusterError::ChangeInProgress { .. }
            | ClusterError::ConfigurationMoved { .. }
    )
}
