//! The one task: wake, gather, run a round, perform its step, answer requests.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use raft_types::{ServerId, Time};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, MissedTickBehavior};

use super::audit::Timeline;
use super::command::Request;
use super::gather::Ports;
use super::handle::{Shared, Status};
use super::propose::Records;
use crate::core::{Gathered, Inputs, Mode, News, Round, Run, Spare, everybody_answered};
use crate::model::{Actor, Config, EventKind, Hand, KnownServer, Plan, State};
use crate::ports::ClusterError;

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
    hand: watch::Sender<Arc<Hand>>,
}

/// What the handles read of it.
pub(super) struct Shown {
    pub(super) state: watch::Receiver<Arc<State>>,
    pub(super) plan: watch::Receiver<Arc<Plan>>,
    pub(super) status: watch::Receiver<Status>,
    pub(super) hand: watch::Receiver<Arc<Hand>>,
}

impl Published {
    pub(super) fn new() -> (Self, Shown) {
        let (state, states) = watch::channel(Arc::default());
        let (plan, plans) = watch::channel(Arc::default());
        let (status, statuses) = watch::channel(Status::Running);
        let (hand, hands) = watch::channel(Arc::default());
        let shown = Shown { state: states, plan: plans, status: statuses, hand: hands };
        (Self { state, plan, status, hand }, shown)
    }

    fn clear(&self) {
        self.state.send_replace(Arc::default());
        self.plan.send_replace(Arc::default());
    }
}

impl Drop for Published {
    fn drop(&mut self) {
        self.clear();
        self.hand.send_replace(Arc::default());
        self.status.send_replace(Status::NotRunning);
    }
}

/// Everything that one run of autopilot owns.
pub(super) struct Task {
    pub(super) ports: Ports,
    pub(super) shared: Arc<Shared>,
    requests: mpsc::Receiver<Request>,
    published: Published,
    pub(super) run: Run,
    pub(super) hand: Hand,
    pub(super) timeline: Timeline,
    /// The tunables of the last round.
    pub(super) config: Config,
    pub(super) records: Records,
    /// Why the ledger of an earlier leader is not read, until it is.
    pub(super) unread: Option<String>,
    spare: Spare,
}

impl Task {
    pub(super) fn new(
        ports: Ports,
        shared: Arc<Shared>,
        requests: mpsc::Receiver<Request>,
        published: Published,
    ) -> Self {
        let run = Run::new(shared.term, Time::ZERO, ports.intervals.update, ports.intervals.reconcile);
        Self {
            ports,
            shared,
            requests,
            published,
            run,
            hand: Hand::default(),
            timeline: Timeline::default(),
            config: Config::default(),
            records: Records::default(),
            unread: Some(String::from("nobody asked for it yet")),
            spare: Spare::default(),
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
        tracing::info!(term = %self.shared.term, "autopilot starts");
        // Whatever is under way is dropped on a stop, so that a stop never waits for the engine or the application.
        let _ = cancel.run_until_cancelled(self.first_look()).await;
        let _ = ready.send(());
        let _ = cancel.run_until_cancelled(self.serve()).await;
        self.published.clear();
        self.ports.notify(Arc::default(), self.timeline.take_untold()).await;
        tracing::info!(term = %self.shared.term, "autopilot has stopped");
    }

    async fn serve(&mut self) {
        let update = self.ports.intervals.update;
        let mut updates = tokio::time::interval_at(Instant::now() + update, update);
        updates.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                Some(request) = self.requests.recv() => self.answer(request).await,
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
            && self.execute(planned, plan.configuration_index, &Actor::AUTOPILOT).await.is_ok()
        {
            self.reconcile_soon();
            self.refresh().await;
        }
        self.keep_ledger().await;
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
        let (inputs, round) = self.round(inputs).await;
        Ok(self.publish(inputs, round).await)
    }

    /// Runs a round. Where the promoter does not answer in time, it is one without it.
    pub(super) async fn round(&mut self, inputs: Inputs) -> (Inputs, Round) {
        let inputs = Arc::new(inputs);
        let (asked, mut spare) = (inputs.clone(), std::mem::take(&mut self.spare));
        let answer = self.ports.judge(move |promoter| {
            let round = Round::run_with(&asked, promoter, &mut spare);
            drop(asked);
            (round, spare)
        });
        let round = match answer.await {
            Ok((round, spare)) => {
                self.spare = spare;
                round
            }
            Err(error) => {
                // It is not asked for its name either.
                let name = Some(self.shared.state.borrow().promoter.clone()).filter(|name| !name.is_empty());
                let name = name.unwrap_or_else(|| String::from("unnamed"));
                tracing::warn!(promoter = name, %error, "the promoter did not answer");
                Round::run_without(&inputs, &name, &error.to_string(), &mut self.spare)
            }
        };
        (Arc::unwrap_or_clone(inputs), round)
    }

    /// The first look of a run. A leader that was elected a moment ago has heard from nobody, which says nothing about
    /// the others: it gives them a moment to answer before it calls them unhealthy.
    async fn first_look(&mut self) -> Result<(), ClusterError> {
        let patience = FIRST_CONTACT_WAIT.min(self.ports.intervals.update / 2);
        let deadline = Instant::now() + patience;
        let mut inputs = self.inputs(Mode::Watch).await?;
        loop {
            let (looked_at, round) = self.round(inputs).await;
            inputs = looked_at;
            if Instant::now() >= deadline || everybody_answered(&round.state) {
                self.publish(inputs, round).await;
                return Ok(());
            }
            self.run.memory = inputs.memory;
            let pause = tokio::time::sleep(FIRST_CONTACT_PAUSE);
            let _ = tokio::time::timeout_at(deadline, pause).await;
            inputs = self.inputs(Mode::Watch).await?;
        }
    }

    /// What the engine and the application say now.
    pub(super) async fn inputs(&mut self, mode: Mode) -> Result<Inputs, ClusterError> {
        self.expire_orders();
        let asked_at = self.now();
        let gathered = match self.ports.gather(asked_at, &mut self.run).await {
            Ok(gathered) => gathered,
            Err(error) => {
                self.blind(&error);
                return Err(error);
            }
        };
        let gathered = Gathered {
            view: gathered.view,
            capabilities: gathered.capabilities,
            fetched: gathered.fetched,
            witnesses: gathered.witnesses,
            hand: self.hand.clone(),
            reconciliation_enabled: self.shared.reconciliation.load(Ordering::Relaxed),
        };
        let mut inputs = self.run.inputs(asked_at, mode, gathered);
        if self.unread.is_some() {
            self.take_over(&mut inputs).await;
        }
        inputs.orders_unread.clone_from(&self.unread);
        Ok(inputs)
    }

    pub(super) async fn publish(&mut self, inputs: Inputs, round: Round) -> Arc<Plan> {
        for News { what, server, reason } in round.events {
            if what == EventKind::Refused {
                tracing::info!(%server, %reason, "refused");
            }
            self.tell(self.event(what, server, reason));
        }
        self.config = inputs.config.clone().unwrap_or_default();
        // A memory that no record needs any more is filled again.
        self.spare.memory = self.records.push(inputs, round.plan.step.clone()).unwrap_or_default();
        self.run.memory = round.memory;
        let state = Arc::new(round.state);
        let plan = Arc::new(round.plan);
        let overtaken = self.published.state.send_replace(state.clone());
        self.published.plan.send_replace(plan.clone());
        // A state that nobody holds any more is filled again.
        self.spare.state = Arc::try_unwrap(overtaken).unwrap_or_default();
        self.ports.notify(state, self.timeline.take_untold()).await;
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

    pub(super) fn show_hand(&self) {
        let shown = self.published.hand.borrow().clone();
        if *shown != self.hand {
            self.published.hand.send_replace(Arc::new(self.hand.clone()));
        }
    }

    pub(super) fn known_server(&self, id: &ServerId) -> Option<KnownServer> {
        self.run.known().servers.get(id).cloned()
    }

    pub(super) fn now(&self) -> Time {
        Time::ZERO + self.shared.epoch.elapsed()
    }
}
