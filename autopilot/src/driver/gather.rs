//! Asks the engine, the application and the promoter, each with a deadline and apart from this task.

use std::collections::BTreeMap;
use std::sync::Arc;

use raft_types::{LogIndex, ServerId, Time};

use super::apart::{CallError, Line};
use super::builder::Intervals;
use crate::core::{KnownServers, Run, expected};
use crate::model::{
    Capabilities, ClusterView, Config, Event, KnownServer, Ledger, NodeStatus, ServerStats, State, Step,
    Witnesses,
};
use crate::ports::{ApplicationIntegration, Cluster, ClusterError, StoredLedger};
use crate::promoter::Promoter;

/// The two sides that are asked, and how long they may take.
pub(super) struct Ports {
    pub(super) cluster: Arc<dyn Cluster>,
    pub(super) application: Arc<dyn ApplicationIntegration>,
    pub(super) promoter: Arc<dyn Promoter>,
    pub(super) intervals: Intervals,
    pub(super) lines: Lines,
}

/// The kinds of calls.
#[derive(Debug, Default)]
pub(super) struct Lines {
    view: Line,
    change: Line,
    config: Line,
    known: Line,
    fetch: Line,
    witnesses: Line,
    load: Line,
    store: Line,
    state: Line,
    events: Line,
    forget: Line,
    promoter: Line,
}

/// What was gathered for one round, beside what the application told the run.
pub(super) struct Gathered {
    pub(super) view: ClusterView,
    pub(super) capabilities: Capabilities,
    pub(super) fetched: Option<BTreeMap<ServerId, ServerStats>>,
    pub(super) witnesses: BTreeMap<ServerId, Witnesses>,
}

impl Ports {
    pub(super) async fn view(&self) -> Result<ClusterView, ClusterError> {
        self.engine().await.map(|(view, _)| view)
    }

    /// What the engine shows, and what it can do.
    async fn engine(&self) -> Result<(ClusterView, Capabilities), ClusterError> {
        let cluster = self.cluster.clone();
        let shown = async move { Ok((cluster.view().await?, cluster.capabilities())) };
        let answer = self.lines.view.call(self.intervals.query, shown);
        answer.await.unwrap_or_else(|error| Err(ClusterError::Unavailable { reason: error.to_string() }))
    }

    pub(super) async fn gather(&self, now: Time, run: &mut Run) -> Result<Gathered, ClusterError> {
        let (engine, config, known) = tokio::join!(self.engine(), self.config(), self.known());
        let (view, capabilities) = engine?;
        if let Err(error) = &known {
            tracing::warn!(%error, "the application did not say which servers it knows");
        }
        run.heard(now, config, known);
        let asked = run.config().is_some_and(|config| config.health.witnesses > 0);
        let known = run.known();
        let (fetched, witnesses) = tokio::join!(self.fetch(known), self.witnesses(asked, &view, known));
        Ok(Gathered { view, capabilities, fetched, witnesses })
    }

    /// What others say about the members that the application does not call alive.
    async fn witnesses(
        &self,
        asked: bool,
        view: &ClusterView,
        known: &KnownServers,
    ) -> BTreeMap<ServerId, Witnesses> {
        let alive = |id: &ServerId| {
            known.servers.get(id).is_some_and(|server| server.node_status == NodeStatus::Alive)
        };
        let members = view.configuration.servers().iter().filter(|_| asked);
        let silent: Vec<ServerId> = members.map(|m| m.id.clone()).filter(|id| !alive(id)).collect();
        if silent.is_empty() {
            return BTreeMap::new();
        }
        let application = self.application.clone();
        let answer = self
            .lines
            .witnesses
            .call(self.intervals.query, async move { application.witnesses(&silent).await });
        answer.await.unwrap_or_else(|error| {
            tracing::warn!(%error, "the application asked no other servers");
            BTreeMap::new()
        })
    }

    pub(super) async fn load_ledger(&self) -> Result<Option<StoredLedger>, String> {
        let application = self.application.clone();
        let answer = self.lines.load.call(self.intervals.query, async move {
            application.load_ledger().await.map_err(|error| error.to_string())
        });
        answer.await.unwrap_or_else(|error| Err(error.to_string()))
    }

    pub(super) async fn store_ledger(&self, ledger: Arc<Ledger>) {
        let application = self.application.clone();
        let told = self
            .lines
            .store
            .call(self.intervals.query, async move { application.store_ledger(&ledger).await });
        if let Err(error) = told.await {
            tracing::warn!(%error, "the application did not take the ledger");
        }
    }

    /// `None` when there is no new answer and the last one stands.
    async fn config(&self) -> Option<Option<Config>> {
        let application = self.application.clone();
        match self.lines.config.call(self.intervals.query, async move { application.config().await }).await {
            Ok(Some(config)) => match config.validate() {
                Ok(()) => Some(Some(config)),
                Err(error) => {
                    tracing::warn!(%error, "the application gave a configuration that cannot be used");
                    None
                }
            },
            Ok(None) => Some(None),
            Err(error) => {
                tracing::warn!(%error, "the application gave no configuration");
                None
            }
        }
    }

    async fn known(&self) -> Result<Vec<KnownServer>, String> {
        let application = self.application.clone();
        let answer = self.lines.known.call(self.intervals.query, async move {
            application.known_servers().await.map_err(|error| error.to_string())
        });
        answer.await.unwrap_or_else(|error| Err(error.to_string()))
    }

    /// An application that measures and fails to is one that measured nobody; the measurements remembered then age.
    async fn fetch(&self, known: &KnownServers) -> Option<BTreeMap<ServerId, ServerStats>> {
        let there = |server: &&KnownServer| server.node_status != NodeStatus::Left;
        let servers: Vec<KnownServer> = known.servers.values().filter(there).cloned().collect();
        let application = self.application.clone();
        let answer = self
            .lines
            .fetch
            .call(self.intervals.query, async move { application.fetch_server_stats(&servers).await });
        answer.await.unwrap_or_else(|error| {
            tracing::warn!(%error, "the application measured nobody");
            Some(BTreeMap::new())
        })
    }

    /// Tells of a new state and of what happened, both within one deadline.
    pub(super) async fn notify(&self, state: Arc<State>, events: Vec<Event>) {
        let application = self.application.clone();
        let told = self
            .lines
            .state
            .call(self.intervals.query, async move { application.notify_state(&state).await });
        let application = self.application.clone();
        let quiet = events.is_empty();
        let noticed = self.lines.events.call(self.intervals.query, async move {
            if !quiet {
                application.notify_events(&events).await;
            }
        });
        let (told, noticed) = tokio::join!(told, noticed);
        if let Err(error) = told {
            tracing::warn!(%error, "the application did not take the new state");
        }
        if let Err(error) = noticed {
            tracing::warn!(%error, "the application did not take the events");
        }
    }

    pub(super) async fn forget(&self, server: KnownServer) {
        let application = self.application.clone();
        let id = server.id.clone();
        let told = self
            .lines
            .forget
            .call(self.intervals.query, async move { application.remove_failed_server(&server).await });
        if let Err(error) = told.await {
            tracing::warn!(%error, server = %id, "the application did not forget the removed server");
        }
    }

    /// Performs a step. `None` as the index: leadership moved, and no configuration came of it.
    pub(super) async fn perform(
        &self,
        step: Step,
        decided_on: LogIndex,
    ) -> Result<Option<LogIndex>, ClusterError> {
        self.change(move |cluster| async move {
            let expected = expected(decided_on, cluster.capabilities());
            match step {
                Step::Promote { id, address } => cluster.add_voter(id, address, expected).await.map(Some),
                Step::Demote { id } => cluster.demote_voter(id, expected).await.map(Some),
                Step::Remove { id, .. } => cluster.remove_server(id, expected).await.map(Some),
                Step::Transfer { id } => cluster.transfer_leadership(id).await.map(|()| None),
                Step::Swap { .. } => cluster.change_members(step.changes(), expected).await.map(Some),
            }
        })
        .await
    }

    /// Runs a change. When it does not end in time, or panics half way, nobody can tell what it did.
    pub(super) async fn change<T: Send + 'static, F>(
        &self,
        change: impl FnOnce(Arc<dyn Cluster>) -> F,
    ) -> Result<T, ClusterError>
    where
        F: Future<Output = Result<T, ClusterError>> + Send + 'static,
    {
        let answer = self.lines.change.call(self.intervals.change, change(self.cluster.clone()));
        answer.await.unwrap_or_else(|error| {
            let reason = error.to_string();
            match error {
                CallError::Blocked => Err(ClusterError::Unavailable { reason }),
                CallError::TimedOut(_) | CallError::Panicked(_) => {
                    Err(ClusterError::OutcomeUnknown { reason })
                }
            }
        })
    }

    /// Asks the promoter, with whatever of the core puts the question.
    pub(super) async fn judge<T: Send + 'static>(
        &self,
        question: impl FnOnce(&dyn Promoter) -> T + Send + 'static,
    ) -> Result<T, CallError> {
        let promoter = self.promoter.clone();
        self.lines.promoter.call(self.intervals.query, async move { question(&*promoter) }).await
    }
}
