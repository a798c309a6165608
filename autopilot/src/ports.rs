//! What autopilot needs from the outside: an engine to watch and change, and an application to ask.
//!
//! Every call is made with a deadline and from a task of its own, so that an implementation that hangs or panics
//! delays autopilot and is reported, and never stops it. A call may be dropped at any await.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use raft_types::{ConfigurationChange, ConfigurationError, LogIndex, ServerAddress, ServerId};
use thiserror::Error;

use crate::model::{
    Capabilities, ClusterView, Config, Event, KnownServer, Ledger, ServerStats, State, Witnesses,
};

/// The consensus engine of this server.
#[async_trait]
pub trait Cluster: Send + Sync + 'static {
    /// What the engine can do. Everything but changing several members at once, unless overridden.
    fn capabilities(&self) -> Capabilities {
        Capabilities::default()
    }

    /// The cluster as this server sees it, at one moment: the parts must belong together.
    ///
    /// # Errors
    /// Nothing is changed by asking; any error may be retried.
    async fn view(&self) -> Result<ClusterView, ClusterError>;

    /// Adds a member without a vote, or changes a member's address. Returns where the committed configuration stands.
    ///
    /// `expected` is the configuration index that the change was decided on; on any other the change must be refused
    /// with [`ClusterError::ConfigurationMoved`]. `None` skips the check.
    ///
    /// # Errors
    /// [`ClusterError::may_have_changed`] tells whether the change may take effect nonetheless.
    async fn add_nonvoter(
        &self,
        id: ServerId,
        address: ServerAddress,
        expected: Option<LogIndex>,
    ) -> Result<LogIndex, ClusterError>;

    /// Gives a member its vote, or changes a voter's address. See [`Cluster::add_nonvoter`].
    ///
    /// # Errors
    /// As for [`Cluster::add_nonvoter`].
    async fn add_voter(
        &self,
        id: ServerId,
        address: ServerAddress,
        expected: Option<LogIndex>,
    ) -> Result<LogIndex, ClusterError>;

    /// Takes a member's vote; it stays a member. See [`Cluster::add_nonvoter`].
    ///
    /// # Errors
    /// As for [`Cluster::add_nonvoter`].
    async fn demote_voter(&self, id: ServerId, expected: Option<LogIndex>) -> Result<LogIndex, ClusterError>;

    /// Takes a member out. See [`Cluster::add_nonvoter`].
    ///
    /// # Errors
    /// As for [`Cluster::add_nonvoter`].
    async fn remove_server(&self, id: ServerId, expected: Option<LogIndex>)
    -> Result<LogIndex, ClusterError>;

    /// Makes several changes in one step, after which either all are made or none. Asked only of an engine whose
    /// [`Capabilities::atomic`] says so. See [`Cluster::add_nonvoter`].
    ///
    /// # Errors
    /// As for [`Cluster::add_nonvoter`]. [`ClusterError::Unsupported`] where some member does not understand such a
    /// change: then members are changed one at a time, and it is tried again later.
    async fn change_members(
        &self,
        changes: Vec<ConfigurationChange>,
        expected: Option<LogIndex>,
    ) -> Result<LogIndex, ClusterError> {
        let _ = (changes, expected);
        Err(ClusterError::Unsupported { what: "change several members in one step" })
    }

    /// Hands leadership to another voter and returns when this server no longer leads.
    ///
    /// # Errors
    /// Members are never changed by this. After any error this server may or may not lead.
    async fn transfer_leadership(&self, to: ServerId) -> Result<(), ClusterError>;
}

/// Why an engine did not do what it was asked.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum ClusterError {
    /// Ask the leader. Certainly not applied.
    #[error("not the leader{}", .leader.as_ref().map_or_else(String::new, |id| format!("; the leader is {id}")))]
    NotLeader {
        /// The leader, as far as the engine knows.
        leader: Option<ServerId>,
    },
    /// The leader cannot change members yet or is handing over. Certainly not applied; retry shortly.
    #[error("the leader is not ready")]
    NotReady,
    /// An earlier change is not committed. Certainly not applied; retry later.
    #[error("the configuration change at index {index} is not committed yet")]
    ChangeInProgress {
        /// Where it stands.
        index: LogIndex,
    },
    /// The configuration is not the expected one. Certainly not applied; read it and decide again.
    #[error("the configuration has changed; it now stands at index {index}")]
    ConfigurationMoved {
        /// Where the one in force stands.
        index: LogIndex,
    },
    /// The change makes no valid configuration. Certainly not applied; a retry fails again.
    #[error(transparent)]
    Invalid(#[from] ConfigurationError),
    /// The engine cannot do this. Certainly not applied; a retry fails again.
    #[error("the engine cannot {what}")]
    Unsupported {
        /// What it cannot do.
        what: &'static str,
    },
    /// The engine refused for a reason of its own. Certainly not applied; whether a retry helps is its affair.
    #[error("{reason}")]
    Refused {
        /// What it says.
        reason: String,
    },
    /// The engine was shut down or cannot be reached. Certainly not applied; a retry is safe.
    #[error("the engine cannot be reached: {reason}")]
    Unavailable {
        /// What is known about it.
        reason: String,
    },
    /// The change **may** have been made or may be made yet: read the configuration before anything else.
    #[error("the outcome is not known: {reason}")]
    OutcomeUnknown {
        /// What is known about it, for example that a deadline passed.
        reason: String,
    },
}

impl ClusterError {
    /// Whether the change may have been made, or may be made yet, in spite of the error.
    #[must_use]
    pub const fn may_have_changed(&self) -> bool {
        matches!(self, Self::OutcomeUnknown { .. })
    }
}

/// Any error of an application.
pub type ApplicationError = Box<dyn std::error::Error + Send + Sync>;

/// The application that embeds autopilot: it knows who should be there and who is alive.
#[async_trait]
pub trait ApplicationIntegration: Send + Sync + 'static {
    /// The tunables now in force. Without any, the state is computed with the defaults and nothing is changed.
    async fn config(&self) -> Option<Config>;

    /// Every server that the application knows, alive or not, members or not.
    ///
    /// # Errors
    /// While this fails the last answer serves for a few rounds and nothing is removed.
    async fn known_servers(&self) -> Result<Vec<KnownServer>, ApplicationError>;

    /// Tells of a new state. Called after every round, and with an empty state on stop; never under a lock.
    async fn notify_state(&self, state: &Arc<State>) {
        let _ = state;
    }

    /// Tells that autopilot removed this failed server from the configuration, so that the application forgets it.
    ///
    /// Told once. An application that does not get to it need not worry: a server that is no member means nothing
    /// to autopilot.
    async fn remove_failed_server(&self, server: &KnownServer) {
        let _ = server;
    }

    /// Tells what happened since the last call, oldest first: changes, orders, refusals, turns of health. Called at most
    /// once a round. What an application that hangs or panics was to be told is not told again.
    async fn notify_events(&self, events: &[Event]) {
        let _ = events;
    }

    /// Whether other servers hear from these, which the leader takes for dead. Asked only while
    /// [`HealthPolicy::witnesses`](crate::HealthPolicy::witnesses) is not 0. Default: nobody says anything, so nobody
    /// dead is removed.
    async fn witnesses(&self, silent: &[ServerId]) -> BTreeMap<ServerId, Witnesses> {
        let _ = silent;
        BTreeMap::new()
    }

    /// The ledger that [`ApplicationIntegration::store_ledger`] stored last, by whichever leader. Asked when a run
    /// starts. Default: none, and the run starts without history.
    ///
    /// # Errors
    /// When the application cannot tell now. It is asked again in every round; until it says what there is, or that there
    /// is none, nothing is stored, orders are refused and nothing is changed that was not asked for.
    async fn load_ledger(&self) -> Result<Option<StoredLedger>, ApplicationError> {
        Ok(None)
    }

    /// Stores what this leader knows where the next one finds it, for example in the replicated state machine. Called
    /// after every round that may change members; storing may be skipped or late, which only makes the ledger older.
    async fn store_ledger(&self, ledger: &Arc<Ledger>) {
        let _ = ledger;
    }

    /// Measures the members in the application's own way and replaces the engine's measurements with that. The
    /// default keeps the engine's.
    async fn fetch_server_stats(&self, servers: &[KnownServer]) -> Option<BTreeMap<ServerId, ServerStats>> {
        let _ = servers;
        None
    }
}

/// A ledger as the application kept it.
#[derive(Clone, Debug)]
pub struct StoredLedger {
    /// The ledger.
    pub ledger: Ledger,
    /// How long ago it was made, at most, by whatever clock the application has for that. An application that cannot
    /// tell must give an age beyond [`Ledger::AGE_MAX`], so that it is refused.
    pub age: Duration,
    /// How long ago it was made, at least: by so much are its orders nearer to their end. An application that cannot tell
    /// gives zero, and orders last longer rather than end before their time.
    pub age_min: Duration,
}

#[async_trait]
impl<T: Cluster + ?Sized> Cluster for Arc<T> {
    fn capabilities(&self) -> Capabilities {
        (**self).capabilities()
    }

    async fn view(&self) -> Result<ClusterView, ClusterError> {
        (**self).view().await
    }

    async fn add_nonvoter(
        &self,
        id: ServerId,
        address: ServerAddress,
        expected: Option<LogIndex>,
    ) -> Result<LogIndex, ClusterError> {
        (**self).add_nonvoter(id, address, expected).await
    }

    async fn add_voter(
        &self,
        id: ServerId,
        address: ServerAddress,
        expected: Option<LogIndex>,
    ) -> Result<LogIndex, ClusterError> {
        (**self).add_voter(id, address, expected).await
    }

    async fn demote_voter(&self, id: ServerId, expected: Option<LogIndex>) -> Result<LogIndex, ClusterError> {
        (**self).demote_voter(id, expected).await
    }

    async fn remove_server(
        &self,
        id: ServerId,
        expected: Option<LogIndex>,
    ) -> Result<LogIndex, ClusterError> {
        (**self).remove_server(id, expected).await
    }

    async fn change_members(
        &self,
        changes: Vec<ConfigurationChange>,
        expected: Option<LogIndex>,
    ) -> Result<LogIndex, ClusterError> {
        (**self).change_members(changes, expected).await
    }

    async fn transfer_leadership(&self, to: ServerId) -> Result<(), ClusterError> {
        (**self).transfer_leadership(to).await
    }
}

#[async_trait]
impl<T: ApplicationIntegration + ?Sized> ApplicationIntegration for Arc<T> {
    async fn config(&self) -> Option<Config> {
        (**self).config().await
    }

    async fn known_servers(&self) -> Result<Vec<KnownServer>, ApplicationError> {
        (**self).known_servers().await
    }

    async fn notify_state(&self, state: &Arc<State>) {
        (**self).notify_state(state).await;
    }

    async fn remove_failed_server(&self, server: &KnownServer) {
        (**self).remove_failed_server(server).await;
    }

    async fn notify_events(&self, events: &[Event]) {
        (**self).notify_events(events).await;
    }

    async fn witnesses(&self, silent: &[ServerId]) -> BTreeMap<ServerId, Witnesses> {
        (**self).witnesses(silent).await
    }

    async fn load_ledger(&self) -> Result<Option<StoredLedger>, ApplicationError> {
        (**self).load_ledger().await
    }

    async fn store_ledger(&self, ledger: &Arc<Ledger>) {
        (**self).store_ledger(ledger).await;
    }

    async fn fetch_server_stats(&self, servers: &[KnownServer]) -> Option<BTreeMap<ServerId, ServerStats>> {
        (**self).fetch_server_stats(servers).await
    }
}
