//! The ledger: taken over at the start of a run, and given to the application to keep.

use std::sync::Arc;

use super::error::RequestError;
use super::task::Task;
use crate::core::{Inputs, Mode, Takeover};
use crate::model::{EventKind, Ledger, Reason};
use crate::ports::ClusterError;

impl Task {
    /// Takes over what an earlier leader knew, if the application kept it. While the application does not say whether it
    /// did, nothing may be stored over it, and nothing done that an order in it could forbid.
    pub(super) async fn take_over(&mut self, inputs: &mut Inputs) {
        let stored = match self.ports.load_ledger().await {
            Ok(stored) => stored,
            Err(error) => {
                tracing::warn!(
                    error,
                    "the application did not give the ledger; it is asked again in the next round"
                );
                self.unread = Some(error);
                return;
            }
        };
        self.unread = None;
        let Some(stored) = stored else { return };
        let refused = match stored.ledger.import_between(inputs, stored.age_min, stored.age) {
            Ok(Takeover { memory, hand, refused }) => {
                (inputs.memory, inputs.hand) = (memory, hand.clone());
                self.hand = hand;
                self.show_hand();
                refused
            }
            Err(error) => Some(error),
        };
        let leader = inputs.view.leader.clone().unwrap_or_else(|| inputs.view.id.clone());
        match refused {
            None => {
                tracing::info!("the history of an earlier leader is taken over");
                let reason = Reason::LedgerTaken { age: stored.age };
                self.tell(self.event(EventKind::LedgerTaken, leader, reason));
            }
            Some(error) => {
                tracing::warn!(%error, code = error.code(), "the history of an earlier leader is refused");
                let reason = Reason::LedgerRefused { error: error.to_string() };
                self.tell(self.event(EventKind::LedgerRefused, leader, reason));
            }
        }
    }

    /// Looks once more, if need be, so that what an earlier leader left is read and there is a cluster to write a ledger
    /// about: one about nobody would be foreign to the next leader, and the orders in it lost.
    pub(super) async fn ready(&mut self) -> Result<(), RequestError> {
        let blind = |task: &Self| task.shared.state.borrow().is_empty();
        if self.unread.is_some() || blind(self) {
            self.look(Mode::Watch).await?;
        }
        match &self.unread {
            Some(why) => Err(RequestError::LedgerUnread { why: why.clone() }),
            None if blind(self) => {
                Err(ClusterError::Unavailable { reason: String::from("it shows no members") }.into())
            }
            None => Ok(()),
        }
    }

    /// What this leader knows now.
    pub(super) fn export(&self) -> Ledger {
        let state = self.shared.state.borrow().clone();
        Ledger::export(&state, &self.run.memory, &self.hand, &self.config, self.now())
    }

    /// Gives it to the application to keep. Nothing is kept before anything was seen and the one
    /// before was read.
    pub(super) async fn keep_ledger(&self) {
        if self.unread.is_none() && !self.shared.state.borrow().is_empty() {
            self.ports.store_ledger(Arc::new(self.export())).await;
        }
    }
}
