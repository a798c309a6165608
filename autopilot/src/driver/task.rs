//! The one task: wake, gather, run a round, perform its step, answer requests.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use raft_types::{ServerId, Time};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, MissedTickBehavior};

use super::command::Command;
use super::gather::Ports;
use super::handle::{Shared, Status};
use super::propose::Records;
use crate::core::{Inputs, Memory, Mode, Round, Run, everybody_answered};
use crate::model::{Action, EventKind, KnownServer, Plan, Reason, State, Verdict};
use crate::ports::ClusterError;
use crate::promoter::Promoter;

/// How long a start waits for the first state.
const FIRST_STATE_WAIT: Duration = Duration::from_secs(1);
/// How much of that a new leader waits for the first answers of the other voters.
const FIRST_CONTACT_WAIT: Duration = Duration::from_millis(400);
/// How often it looks for them.
const FIRST_CONTACT_PAUSE: Duration = Duration::from_millis(20);

/// What the task shows to the handles. Emptied when the task ends, however it ends.
#[derive(Debug)]
pub(super) struct Published {
    state: watch::Sender<Arc<State>>,
    plan: watch::Sender<Arc<Plan>>,
    status: watch::Sender<Status>,
}

type Shown = (Published, watch::Receiver<Arc<State>>, watch::Receiver<Arc<Plan>>, watch::Receiver<Status>);

impl Published {
    pub(super) fn new() -> Shown {
        let (state, states) = watch::channel(Arc::default());
        let (plan, plans) = watch::channel(Arc::default());
        let (status, statuses) = watch::channel(Status::Running);
        (Self { state, plan, status }, states, plans, statuses)
    }

    fn clear(&self) {
        self.state.send_replace(Arc::default());
        self.plan.send_replace(Arc::default());
    }
}

impl Drop for Published {
    fn drop(&mut self) {
        self.clear();
        self.status.send_replace(Status::NotRunning);
    }
}

/// Everything that one run of autopilot owns.
pub(super) struct Task {
    pub(super) ports: Ports,
    pub(super) promoter: Arc<dyn Promoter>,
    pub(super) shared: Arc<Shared>,
    requests: mpsc::Receiver<Command>,
    published: Published,
    pub(super) run: Run,
    pub(super) records: Records,
    known: Vec<KnownServer>,
    /// What was refused in the last round, so that a refusal is told once.
    refused: BTreeSet<(ServerId, Action, &'static str)>,
}

impl Task {
    pub(super) fn new(
        ports: Ports,
        promoter: Arc<dyn Promoter>,
        shared: Arc<Shared>,
        requests: mpsc::Receiver<Command>,
        published: Published,
    ) -> Self {
        let run = Run::new(shared.term, Time::ZERO, ports.intervals.update, ports.intervals.reconcile);
        Self {
            ports,
            promoter,
            shared,
            requests,
            published,
            run,
            records: Records::default(),
            known: Vec::new(),
            refused: BTreeSet::new(),
        }
    }

    /// Starts the task and waits for the first state, not for long.
    pub(super) async fn launch(self) {
        let (ready, first_state) = oneshot::channel();
        tokio::spawn(self.live(ready));
        // Without a first state the run goes on and tries again at the next update.
        let _ = tokio::time::timeout(FIRST_STATE_WAIT, first_state).await;
    }

    async fn live(mut self, ready: oneshot::Sender<()>) {
        let cancel = self.shared.cancel.clone();
        tracing::info!(term = %self.shared.term, promoter = self.promoter.name(), "autopilot starts");
        // Whatever is under way is dropped on a stop, so that a stop never waits for the engine or the application.
        let _ = cancel.run_until_cancelled(self.first_look()).await;
        let _ = ready.send(());
        let _ = cancel.run_until_cancelled(self.serve()).await;
        self.published.clear();
        self.ports.notify(Arc::default()).await;
        tracing::info!(term = %self.shared.term, "autopilot has stopped");
    }

    async fn serve(&mut self) {
        let update = self.ports.intervals.update;
        let mut updates = tokio::time::interval_at(Instant::now() + update, update);
        updates.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                Some(command) = self.requests.recv() => self.answer(command).await,
                _ = updates.tick() => self.update().await,
            }
        }
    }

    /// One update, which is a reconcile as well when that is due.
    async fn update(&mut self) {
        let mode = self.run.mode(self.now());
        let Ok(plan) = self.look(mode).await else { return };
        if mode == Mode::Watch {
            return;
        }
        self.run.reconciled(self.now());
        if let Some(planned) = plan.step.clone()
            && !self.run.is_outdated(&plan, self.now())
            && self.execute(planned, plan.configuration_index).await.is_ok()
        {
            self.reconcile_soon();
            self.refresh().await;
        }
    }

    /// Makes the next update a reconcile: after a step the next one need not wait for the whole interval.
    pub(super) fn reconcile_soon(&mut self) {
        self.run.reconcile_soon(self.now());
    }

    /// Shows what a change made of the cluster. When that fails, the next update does it.
    pub(super) async fn refresh(&mut self) {
        let _ = self.look(Mode::Watch).await;
    }

    /// Gathers, runs one round and publishes it.
    pub(super) async fn look(&mut self, mode: Mode) -> Result<Arc<Plan>, ClusterError> {
        let inputs = self.inputs(mode).await?;
        let round = Round::run(&inputs, &*self.promoter);
        Ok(self.publish(inputs, round).await)
    }

    /// The first look of a run. A leader that was elected a moment ago has heard from nobody, which says nothing about
    /// the others: it gives them a moment to answer before it calls them unhealthy.
    async fn first_look(&mut self) -> Result<(), ClusterError> {
        let patience = FIRST_CONTACT_WAIT.min(self.ports.intervals.update / 2);
        let deadline = Instant::now() + patience;
        loop {
            let inputs = self.inputs(Mode::Watch).await?;
            let round = Round::run(&inputs, &*self.promoter);
            if Instant::now() >= deadline || everybody_answered(&round.state) {
                self.publish(inputs, round).await;
                return Ok(());
            }
            let pause = tokio::time::sleep(FIRST_CONTACT_PAUSE);
            let _ = tokio::time::timeout_at(deadline, pause).await;
        }
    }

    /// What the engine and the application say now.
    pub(super) async fn inputs(&mut self, mode: Mode) -> Result<Inputs, ClusterError> {
        let asked_at = self.now();
        let gathered = match self.ports.gather(asked_at, &mut self.run).await {
            Ok(gathered) => gathered,
            Err(error) => {
                self.blind(&error);
                return Err(error);
            }
        };
        let enabled = self.shared.reconciliation.load(Ordering::Relaxed);
        let capabilities = self.ports.cluster.capabilities();
        Ok(self.run.inputs(asked_at, mode, gathered.view, capabilities, gathered.fetched, enabled))
    }

    pub(super) async fn publish(&mut self, inputs: Inputs, round: Round) -> Arc<Plan> {
        self.tell_news(&inputs.memory, &round);
        self.known = inputs.known.servers.values().cloned().collect();
        self.records.push(inputs, round.plan.step.clone());
        self.run.looked(&round);
        let state = Arc::new(round.state);
        let plan = Arc::new(round.plan);
        self.published.state.send_replace(state.clone());
        self.published.plan.send_replace(plan.clone());
        self.ports.notify(state).await;
        plan
    }

    /// An engine that cannot be asked: the last state stands for as long as a measurement would, and then none does.
    fn blind(&self, error: &ClusterError) {
        tracing::warn!(%error, "the engine did not show the cluster");
        let shown = self.published.state.borrow().clone();
        if !shown.is_empty() && self.now().since(shown.at) > self.run.age_max() {
            self.published.clear();
        }
    }

    /// Events for what changed since the round before.
    fn tell_news(&mut self, before: &Memory, round: &Round) {
        for server in round.state.servers.values() {
            let was = before.servers.get(&server.id).map(|memory| memory.healthy);
            if was.is_none_or(|was| was == server.health.healthy) {
                continue;
            }
            let (what, reason) = match server.health.reasons.first() {
                None => (EventKind::BecameHealthy, Reason::Healthy),
                Some(reason) => (EventKind::BecameUnhealthy, Reason::Health(reason.clone())),
            };
            self.tell(what, server.id.clone(), reason, None);
        }
        let mut refused = BTreeSet::new();
        for decision in round.plan.decisions.iter().filter(|d| d.verdict == Verdict::Refused) {
            let key = (decision.server.clone(), decision.action, decision.reason.code());
            if !self.refused.contains(&key) {
                tracing::info!(%decision, "refused");
                self.tell(EventKind::Refused, decision.server.clone(), decision.reason.clone(), None);
            }
            refused.insert(key);
        }
        self.refused = refused;
    }

    pub(super) fn known_server(&self, id: &ServerId) -> Option<KnownServer> {
        self.known.iter().find(|server| server.id == *id).cloned()
    }

    pub(super) fn now(&self) -> Time {
        Time::ZERO + self.shared.epoch.elapsed()
    }
}
