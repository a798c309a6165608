//! The ledger: taken over at the start of a run, and given to the application to keep.

use std::sync::Arc;

use super::task::Task;
use crate::core::{Inputs, Takeover};
use crate::model::{EventKind, Ledger, Reason};

impl Task {
    /// Takes over what an earlier leader knew, if the application kept it.
    pub(super) async fn take_over(&mut self, inputs: &mut Inputs) {
        let Some(stored) = self.ports.load_ledger().await else { return };
        let refused = match stored.ledger.import(inputs, stored.age) {
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

    /// What this leader knows now.
    pub(super) fn export(&self) -> Ledger {
        let state = self.shared.state.borrow().clone();
        Ledger::export(&state, &self.run.memory, &self.hand, &self.config, self.now())
    }

    /// Gives it to the application to keep. Nothing is kept before anything was seen.
    pub(super) async fn keep_ledger(&self) {
        if !self.shared.state.borrow().is_empty() {
            self.ports.store_ledger(Arc::new(self.export())).await;
        }
    }
}
