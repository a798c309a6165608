//! The operator's hand: orders that stand, and the questions that go with them.

use std::sync::Arc;
use std::time::Duration;

use raft_types::ServerId;

use super::command::Command;
use super::error::{OrderError, RequestError};
use super::handle::Autopilot;
use super::task::Task;
use crate::core::{Mode, safe_to_stop};
use crate::model::{Actor, Event, EventKind, Hand, Instruction, Ledger, Reason, StopAnswer, Tombstone};

impl Autopilot {
    /// This handle under a name: what is asked through it is attributed to that name in events and orders. Without a
    /// name it is [`Actor::REQUESTER`]. The name is not checked; that is for whoever lets people in.
    #[must_use]
    pub fn acting_as(&self, by: Actor) -> Self {
        Self { shared: self.shared.clone(), by }
    }

    /// Gives an order; it stands until it is lifted or runs out, also across leaders if the application stores the
    /// ledger. Returns the orders that stand then. To give one again changes nothing.
    ///
    /// # Errors
    /// See [`OrderError`]. Dropping the future does not undo anything.
    pub async fn order(&self, instruction: Instruction) -> Result<Arc<Hand>, OrderError> {
        self.ask(|reply| Command::Order { instruction, reply }).await
    }

    /// The server gets neither a vote nor leadership; it keeps what it has.
    ///
    /// # Errors
    /// As for [`Autopilot::order`].
    pub async fn cordon(
        &self,
        server: impl Into<ServerId>,
        why: impl Into<String>,
    ) -> Result<Arc<Hand>, OrderError> {
        self.order(Instruction::Cordon { server: server.into(), why: why.into() }).await
    }

    /// Lifts [`Autopilot::cordon`].
    ///
    /// # Errors
    /// As for [`Autopilot::order`].
    pub async fn uncordon(&self, server: impl Into<ServerId>) -> Result<Arc<Hand>, OrderError> {
        self.order(Instruction::Uncordon { server: server.into() }).await
    }

    /// The server gives away leadership and then its vote, as soon as each is safe, and gets neither back. The event
    /// [`EventKind::DrainDone`] tells when that is done; [`Autopilot::safe_to_stop`] answers in between.
    ///
    /// # Errors
    /// As for [`Autopilot::order`].
    pub async fn drain(
        &self,
        server: impl Into<ServerId>,
        why: impl Into<String>,
    ) -> Result<Arc<Hand>, OrderError> {
        self.order(Instruction::Drain { server: server.into(), why: why.into() }).await
    }

    /// Lifts [`Autopilot::drain`]: the server may vote again when its turn comes.
    ///
    /// # Errors
    /// As for [`Autopilot::order`].
    pub async fn undrain(&self, server: impl Into<ServerId>) -> Result<Arc<Hand>, OrderError> {
        self.order(Instruction::Undrain { server: server.into() }).await
    }

    /// Changes nothing on its own account for so long, and goes on by itself. Requests are served.
    ///
    /// # Errors
    /// As for [`Autopilot::order`].
    pub async fn pause(&self, lasts: Duration, why: impl Into<String>) -> Result<Arc<Hand>, OrderError> {
        self.order(Instruction::Pause { lasts, why: why.into() }).await
    }

    /// Ends [`Autopilot::pause`].
    ///
    /// # Errors
    /// As for [`Autopilot::order`].
    pub async fn resume(&self) -> Result<Arc<Hand>, OrderError> {
        self.order(Instruction::Resume).await
    }

    /// The orders that stand, as of the last round. Empty after a stop. Waits for nothing.
    #[must_use]
    pub fn hand(&self) -> Arc<Hand> {
        self.shared.hand.borrow().clone()
    }

    /// Whether this server may be stopped now, from a fresh look. After a yes it counts as gone in the answers about
    /// others for [`Hand::LEAVING`], so that two who ask at once are not both let go.
    ///
    /// # Errors
    /// See [`RequestError`]; also on a server that does not lead. Dropping the future does not undo anything.
    pub async fn safe_to_stop(&self, server: impl Into<ServerId>) -> Result<StopAnswer, RequestError> {
        let id = server.into();
        self.ask(|reply| Command::SafeToStop { id, reply }).await
    }

    /// Who was removed, by whom and why: at most [`Memory::TOMBSTONES_MAX`](crate::Memory::TOMBSTONES_MAX).
    ///
    /// # Errors
    /// See [`RequestError`]. Cancel safe.
    pub async fn tombstones(&self) -> Result<Vec<Tombstone>, RequestError> {
        self.ask(|reply| Command::Tombstones { reply }).await
    }

    /// The last changes and orders of this run, oldest first: at most [`Autopilot::AUDIT_MAX`].
    ///
    /// # Errors
    /// See [`RequestError`]. Cancel safe.
    pub async fn audit(&self) -> Result<Vec<Arc<Event>>, RequestError> {
        self.ask(|reply| Command::Audit { reply }).await
    }

    /// How many changes and orders are held for [`Autopilot::audit`].
    pub const AUDIT_MAX: usize = 1_024;

    /// What this leader knows, for the next one; the application is given the same to store after every reconcile.
    ///
    /// # Errors
    /// See [`RequestError`]. Cancel safe.
    pub async fn ledger(&self) -> Result<Ledger, RequestError> {
        self.ask(|reply| Command::Ledger { reply }).await
    }
}

impl Task {
    pub(super) async fn order(
        &mut self,
        instruction: Instruction,
        by: &Actor,
    ) -> Result<Arc<Hand>, OrderError> {
        self.ready().await?;
        let (what, reason) = (instruction.event(), instruction.reason(by));
        let about = instruction.server().cloned();
        let now = self.now();
        if self.hand.follow(instruction, by, now)? {
            let server = about.unwrap_or_else(|| self.leader());
            self.tell(Event { actor: by.clone(), ..self.event(what, server, reason) });
            // Lifting an order, or a drain, may give something to do.
            self.reconcile_soon();
            self.show_hand();
            self.keep_ledger().await;
        }
        Ok(Arc::new(self.hand.clone()))
    }

    pub(super) async fn safe_to_stop(
        &mut self,
        server: ServerId,
        by: &Actor,
    ) -> Result<StopAnswer, RequestError> {
        self.leading_view().await?;
        self.look(Mode::Watch).await?;
        self.ready().await?;
        let now = self.now();
        self.hand.expire(now);
        let answer = safe_to_stop(&self.shared.state.borrow(), &self.hand, &server, now);
        if answer.safe && self.hand.leaving.len() < Hand::ORDERS_MAX {
            self.hand.leaving.insert(server.clone(), now + Hand::LEAVING);
            let released = self.event(EventKind::Released, server, Reason::Requested);
            self.tell(Event { actor: by.clone(), ..released });
            self.show_hand();
            // The next leader must know, or it lets another one go as well.
            self.keep_ledger().await;
        }
        Ok(answer)
    }

    /// Drops the orders that have run out, and says so about a pause.
    pub(super) fn expire_orders(&mut self) {
        let now = self.now();
        let pause = self.hand.paused.clone();
        self.hand.expire(now);
        if let (Some(pause), None) = (pause, &self.hand.paused) {
            let left = pause.until.since(now);
            let reason = Reason::Paused { by: pause.order.by, why: pause.order.why, left };
            let server = self.leader();
            self.tell(self.event(EventKind::Resumed, server, reason));
        }
        self.show_hand();
    }

    /// Whom an event is about that is about nobody in particular.
    pub(super) fn leader(&self) -> ServerId {
        let leader = self.shared.state.borrow().leader.clone();
        leader.unwrap_or_else(|| ServerId::from(""))
    }
}
