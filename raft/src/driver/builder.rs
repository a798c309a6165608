//! Putting a server together and starting it from what is on its disk.

use std::fmt;
use std::sync::Arc;

use raft_types::{EntryId, ServerId, Time};
use rand::RngExt;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::actor::{Actor, Parts};
use super::executor::Executor;
use super::{INBOX, Inner, Raft};
use crate::config::Config;
use crate::core::{Peer, Persisted, RaftCore};
use crate::error::StartError;
use crate::state_machine::StateMachine;
use crate::storage::{LogStore, SnapshotStore, StorageError};
use crate::telemetry;
use crate::transport::Transport;

/// Puts a server together. Storage, snapshots and transport are required.
pub struct RaftBuilder {
    id: ServerId,
    state_machine: Box<dyn StateMachine>,
    config: Config,
    log_store: Option<Box<dyn LogStore>>,
    snapshots: Option<Arc<dyn SnapshotStore>>,
    transport: Option<Arc<dyn Transport>>,
    executor: Executor,
    seed: Option<u64>,
}

impl RaftBuilder {
    /// Tunables; [`Config::default`] otherwise.
    #[must_use]
    pub fn config(mut self, config: Config) -> Self {
        self.config = config;
        self
    }

    /// Where term, vote and log are kept.
    #[must_use]
    pub fn log_store(mut self, store: impl LogStore) -> Self {
        self.log_store = Some(Box::new(store));
        self
    }

    /// Where snapshots are kept.
    #[must_use]
    pub fn snapshots(mut self, store: impl SnapshotStore) -> Self {
        self.snapshots = Some(Arc::new(store));
        self
    }

    /// How the other servers are reached.
    #[must_use]
    pub fn transport(mut self, transport: impl Transport) -> Self {
        self.transport = Some(Arc::new(transport));
        self
    }

    /// Where what may block runs; [`Executor::threads`] otherwise.
    #[must_use]
    pub fn executor(mut self, executor: Executor) -> Self {
        self.executor = executor;
        self
    }

    /// What decides the random part of election timeouts; drawn from the system's randomness otherwise. For tests that are to
    /// repeat themselves: servers with the same seed get into each other's way.
    #[must_use]
    pub const fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Reads what is on disk, restores the state machine from the newest snapshot, and starts the server. A server that
    /// was never bootstrapped or joined waits to hear from a leader.
    ///
    /// # Errors
    /// A tunable out of bounds, or data that cannot be read or trusted. Nothing was changed.
    ///
    /// # Panics
    /// Without storage, snapshots or transport, and outside a tokio runtime.
    pub async fn start(self) -> Result<Raft, StartError> {
        self.config.validate()?;
        let mut log_store = self.log_store.expect("a log store was given");
        let snapshots = self.snapshots.expect("a snapshot store was given");
        let transport = self.transport.expect("a transport was given");
        let mut state_machine = self.state_machine;

        let store = Arc::clone(&snapshots);
        let restore = self.config.restore_on_start;
        let recover = move || {
            let persisted = recover(&mut *log_store, &*store, &mut *state_machine, restore)?;
            Ok::<_, StartError>((log_store, state_machine, persisted))
        };
        let (log_store, state_machine, persisted) =
            self.executor.run(async move { recover() }).await.expect("reading the disk does not panic")?;

        info!(
            last = %persisted.entries.last().map_or(persisted.base, |entry| entry.id),
            snapshot = %persisted.snapshot.as_ref().map_or_else(EntryId::default, |meta| meta.last),
            term = %persisted.hard_state.term,
            "read what is on disk"
        );

        let me = Peer { id: self.id, address: transport.local_address() };
        let seed = self.seed.unwrap_or_else(|| rand::rng().random());
        let mut effects = Vec::new();
        let core = RaftCore::restore(me.clone(), &self.config, seed, Time::ZERO, persisted, &mut effects)
            .map_err(|error| StorageError::Corrupt {
                path: "the log".to_owned(),
                offset: 0,
                detail: error.to_string(),
            })?;

        let (commands, commands_receiver) = mpsc::channel(self.config.proposal_queue);
        let (inbox, inbox_receiver) = mpsc::channel(INBOX);
        let stop = CancellationToken::new();
        let (stopped_sender, stopped) = watch::channel(false);
        transport.start(me.clone(), inbox);
        let stored = Arc::clone(&snapshots);
        let parts = Parts { log_store, state_machine, snapshots, transport, executor: self.executor };
        let (actor, views) = Actor::new(core, self.config.clone(), seed, parts);
        let actor_stop = stop.clone();
        tokio::spawn(async move {
            actor.run(effects, commands_receiver, inbox_receiver, actor_stop).await;
            let _ = stopped_sender.send(true);
        });
        let command_bytes_max = self.config.command_bytes_max;
        Ok(Raft {
            inner: Arc::new(Inner {
                me,
                command_bytes_max,
                snapshots: stored,
                commands,
                views,
                stop,
                stopped,
            }),
        })
    }
}

/// Reads log and snapshot, and brings the state machine to the snapshot if it wants that.
fn recover(
    log_store: &mut dyn LogStore,
    snapshots: &dyn SnapshotStore,
    state_machine: &mut dyn StateMachine,
    restore: bool,
) -> Result<Persisted, StartError> {
    let recovered = log_store.recover()?;
    let snapshot = snapshots.latest()?;
    if let Some(meta) = &snapshot {
        if restore {
            let since = std::time::Instant::now();
            let (_, mut state) = snapshots.open(meta.last)?;
            state_machine.restore(&mut *state).map_err(StartError::Restore)?;
            telemetry::restored(since);
        }
        state_machine.configuration_committed(meta.configuration_index, &meta.configuration);
    }
    Ok(Persisted {
        hard_state: recovered.hard_state,
        snapshot,
        base: recovered.base,
        entries: recovered.entries,
        commit: recovered.commit,
    })
}

impl Raft {
    /// Starts putting a server together.
    pub fn builder(id: impl Into<ServerId>, state_machine: impl StateMachine) -> RaftBuilder {
        RaftBuilder {
            id: id.into(),
            state_machine: Box::new(state_machine),
            config: Config::default(),
            log_store: None,
            snapshots: None,
            transport: None,
            executor: Executor::default(),
            seed: None,
        }
    }
}

impl fmt::Debug for RaftBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RaftBuilder").field("id", &self.id).finish_non_exhaustive()
    }
}
