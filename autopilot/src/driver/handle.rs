//! The handle of a running autopilot.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use raft_types::{LogIndex, ServerAddress, ServerId, Term, Time};
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::builder::Builder;
use super::command::{Command, Join, Request};
use super::error::{AddServerError, ApplyError, PruneError, RemoveServerError, RequestError};
use crate::core::{Explanation, Proposal, Record, explain};
use crate::model::{
    Actor, AddServerOutcome, ApplyReport, Event, Hand, Plan, PruneReport, ServerHealth, State,
};
use crate::ports::{ApplicationIntegration, Cluster};

/// Whether autopilot runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// It does not, and holds no state.
    NotRunning,
    /// It watches, and acts unless that is switched off.
    Running,
    /// It was told to stop and is about to.
    ShuttingDown,
}

/// A handle to one run of autopilot on the leader. Cheap to clone; dropping it does not stop anything.
#[derive(Clone)]
pub struct Autopilot {
    pub(super) shared: Arc<Shared>,
    pub(super) by: Actor,
}

/// What the handles share with the task: channels and flags only.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) term: Term,
    pub(super) epoch: Instant,
    pub(super) cancel: CancellationToken,
    pub(super) reconciliation: AtomicBool,
    pub(super) requests: mpsc::Sender<Request>,
    pub(super) state: watch::Receiver<Arc<State>>,
    pub(super) plan: watch::Receiver<Arc<Plan>>,
    pub(super) status: watch::Receiver<Status>,
    pub(super) hand: watch::Receiver<Arc<Hand>>,
    pub(super) events: broadcast::Sender<Event>,
}

impl fmt::Debug for Autopilot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Autopilot")
            .field("term", &self.shared.term)
            .field("status", &self.status())
            .finish_non_exhaustive()
    }
}

impl Autopilot {
    /// Prepares an autopilot for this engine and this application. Either may be an `Arc` that is shared.
    pub fn builder(cluster: impl Cluster, application: impl ApplicationIntegration) -> Builder {
        Builder::new(Arc::new(cluster), Arc::new(application))
    }

    /// The newest state; empty after a stop. Waits for nothing.
    #[must_use]
    pub fn state(&self) -> Arc<State> {
        self.shared.state.borrow().clone()
    }

    /// Follows the state. The channel closes when autopilot has stopped.
    #[must_use]
    pub fn state_changes(&self) -> watch::Receiver<Arc<State>> {
        self.shared.state.clone()
    }

    /// What the last round decided; empty after a stop.
    #[must_use]
    pub fn last_plan(&self) -> Arc<Plan> {
        self.shared.plan.borrow().clone()
    }

    /// Follows what happens from now on. A reader that is more than [`Autopilot::EVENTS_MAX`] events behind misses
    /// the oldest and is told how many.
    #[must_use]
    pub fn events(&self) -> broadcast::Receiver<Event> {
        self.shared.events.subscribe()
    }

    /// How many events are held for slow readers.
    pub const EVENTS_MAX: usize = 256;

    /// The health of one member, if it is one.
    #[must_use]
    pub fn server_health(&self, id: &ServerId) -> Option<ServerHealth> {
        self.shared.state.borrow().server(id).map(|server| server.health.clone())
    }

    /// The present on the clock of [`State::at`] and the other times.
    #[must_use]
    pub fn now(&self) -> Time {
        Time::ZERO + self.shared.epoch.elapsed()
    }

    /// The Raft term in which it was started and which fences every step.
    #[must_use]
    pub fn term(&self) -> Term {
        self.shared.term
    }

    /// Whether it runs.
    #[must_use]
    pub fn status(&self) -> Status {
        let status = *self.shared.status.borrow();
        if status == Status::Running && self.shared.cancel.is_cancelled() {
            return Status::ShuttingDown;
        }
        status
    }

    /// Lets it change members on its own again. Requests such as [`Autopilot::add_server`] are not affected.
    pub fn enable_reconciliation(&self) {
        self.shared.reconciliation.store(true, Ordering::Relaxed);
    }

    /// Makes it watch only: no promotion, demotion, removal or transfer on its own.
    pub fn disable_reconciliation(&self) {
        self.shared.reconciliation.store(false, Ordering::Relaxed);
    }

    /// Whether it changes members on its own.
    #[must_use]
    pub fn is_reconciliation_enabled(&self) -> bool {
        self.shared.reconciliation.load(Ordering::Relaxed)
    }

    /// Adds a server without a vote; it gets its vote when the promoter finds it fit. A known id at a new address
    /// keeps its suffrage and gets the address; members with the same address under another id are removed first,
    /// as far as the quorum allows.
    ///
    /// # Errors
    /// See [`AddServerError`]. Dropping the future does not undo anything.
    pub async fn add_server(
        &self,
        id: impl Into<ServerId>,
        address: impl Into<ServerAddress>,
    ) -> Result<AddServerOutcome, AddServerError> {
        let (id, address) = (id.into(), address.into());
        self.ask(|reply| Command::AddServer { join: Join { id, address, wanted: Ok(()) }, reply }).await
    }

    /// Adds a server that comes by itself, and not because somebody wants it. Otherwise like
    /// [`Autopilot::add_server`]: but one that was removed stays out, and is told by whom and why, until somebody adds
    /// it or it has started again, which shows by a higher `incarnation`.
    ///
    /// # Errors
    /// See [`AddServerError`]. Dropping the future does not undo anything.
    pub async fn admit(
        &self,
        id: impl Into<ServerId>,
        address: impl Into<ServerAddress>,
        incarnation: Option<u64>,
    ) -> Result<AddServerOutcome, AddServerError> {
        let join = Join { id: id.into(), address: address.into(), wanted: Err(incarnation) };
        self.ask(|reply| Command::AddServer { join, reply }).await
    }

    /// Removes a member because somebody says so: no rule but the engine's own stands against it. Returns where
    /// the configuration without it stands.
    ///
    /// # Errors
    /// See [`RemoveServerError`]. Dropping the future does not undo anything.
    pub async fn remove_server(&self, id: impl Into<ServerId>) -> Result<LogIndex, RemoveServerError> {
        let id = id.into();
        self.ask(|reply| Command::RemoveServer { id, reply }).await
    }

    /// Removes every dead server that may go, one after the other, now, also while automatic removal or
    /// reconciliation is switched off; all rules of safety hold. Tells who went and why the others stay.
    ///
    /// # Errors
    /// See [`PruneError`]. Dropping the future does not undo anything.
    pub async fn remove_dead_servers(&self) -> Result<PruneReport, PruneError> {
        self.ask(|reply| Command::RemoveDead { reply }).await
    }

    /// Looks at the cluster now instead of at the next interval, publishes the state and returns it.
    ///
    /// # Errors
    /// See [`RequestError`]. Cancel safe.
    pub async fn compute_state(&self) -> Result<Arc<State>, RequestError> {
        self.ask(|reply| Command::ComputeState { reply }).await
    }

    /// Why a member is as it is, by the last round: its health, its vote, whether it stays. `None` for a server that
    /// is no member, and after a stop. Waits for nothing.
    #[must_use]
    pub fn explain(&self, server: &ServerId) -> Option<Explanation> {
        explain(&self.state(), &self.last_plan(), server)
    }

    /// Computes the steps to the policy's goal from a fresh look, and takes none.
    ///
    /// # Errors
    /// See [`RequestError`]. Cancel safe.
    pub async fn plan(&self) -> Result<Proposal, RequestError> {
        self.ask(|reply| Command::Plan { reply }).await
    }

    /// Performs the steps of a proposal that need no waiting, also while reconciliation is switched off. Each must
    /// be the very step that a round on a fresh look takes, so that all rules hold; at the first that is not, it ends.
    ///
    /// # Errors
    /// See [`ApplyError`]: nothing was changed. Dropping the future does not undo anything.
    pub async fn apply(&self, proposal: Proposal) -> Result<ApplyReport, ApplyError> {
        let proposal = Box::new(proposal);
        self.ask(|reply| Command::Apply { proposal, reply }).await
    }

    /// The last rounds of this run, oldest first, for [`replay`](crate::replay): at most 1,024, fewer in clusters of
    /// more than 32 servers.
    ///
    /// # Errors
    /// See [`RequestError`]. Cancel safe.
    pub async fn records(&self) -> Result<Vec<Arc<Record>>, RequestError> {
        self.ask(|reply| Command::Records { reply }).await
    }

    /// How many servers vote, asked of the engine now.
    ///
    /// # Errors
    /// See [`RequestError`]. Cancel safe.
    pub async fn voters_count(&self) -> Result<usize, RequestError> {
        self.ask(|reply| Command::VotersCount { reply }).await
    }

    /// Stops it and waits until it has stopped: no step is taken afterwards, and the state is empty. Bounded, also
    /// with an engine or an application that hangs. May be called more than once; cancel safe.
    ///
    /// A change that the engine was asked for a moment ago may still take effect.
    pub async fn stop(&self) {
        self.shared.cancel.cancel();
        let mut status = self.shared.status.clone();
        // An error means that the task is gone, which is what is waited for.
        let _ = status.wait_for(|status| *status == Status::NotRunning).await;
    }

    pub(super) async fn ask<T, E: From<RequestError>>(
        &self,
        command: impl FnOnce(oneshot::Sender<Result<T, E>>) -> Command,
    ) -> Result<T, E> {
        if self.shared.cancel.is_cancelled() {
            return Err(RequestError::NotRunning.into());
        }
        let (reply, answer) = oneshot::channel();
        let request = Request { by: self.by.clone(), command: command(reply) };
        self.shared.requests.try_send(request).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => RequestError::Overloaded,
            mpsc::error::TrySendError::Closed(_) => RequestError::NotRunning,
        })?;
        answer.await.map_err(|_| RequestError::Stopped)?
    }
}
