//! What the parts of one running server share.

use std::net::SocketAddr;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use autopilot::Supervisor;
use bytes::Bytes;
use parking_lot::Mutex;
use raft::{ProposeError, Raft, ServerId};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::config::AgentConfig;
use crate::events::EventLog;
use crate::http::Peers;
use crate::kv::{Command, KvStore, Outcome};
use crate::members::Members;

/// The program's version, which gossip carries.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");
/// The metadata key under which autopilot finds a server's failure domain.
pub(crate) const META_ZONE: &str = "zone";
/// Blocking queries that may wait on one server.
pub(crate) const WAITING_MAX: usize = 1024;

/// Milliseconds since 1970, by the clock of this machine.
pub(crate) fn unix_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}

/// Where a server is reached; with port 0 in the configuration, the port that was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// HTTP.
    pub http: SocketAddr,
    /// Raft over TCP.
    pub raft: SocketAddr,
    /// Gossip over UDP.
    pub gossip: SocketAddr,
}

#[derive(Debug)]
pub(crate) struct App {
    pub(crate) config: AgentConfig,
    pub(crate) id: ServerId,
    pub(crate) addresses: Addresses,
    pub(crate) started: Instant,
    pub(crate) raft: Raft,
    pub(crate) store: KvStore,
    pub(crate) members: Members,
    pub(crate) supervisor: Supervisor,
    pub(crate) events: EventLog,
    pub(crate) peers: Peers,
    /// By whom and why this server was removed from its cluster, if it was and knows.
    pub(crate) removed: Mutex<Option<String>>,
    /// Places for blocking queries.
    pub(crate) waiting: Semaphore,
    /// Somebody asked this server to leave.
    pub(crate) leaving: CancellationToken,
    /// Everything of this server ends.
    pub(crate) stopping: CancellationToken,
}

/// The parts of an [`App`].
pub(crate) struct Parts {
    pub(crate) config: AgentConfig,
    pub(crate) addresses: Addresses,
    pub(crate) raft: Raft,
    pub(crate) store: KvStore,
    pub(crate) members: Members,
    pub(crate) supervisor: Supervisor,
}

impl App {
    pub(crate) fn new(parts: Parts) -> Self {
        Self {
            id: parts.raft.id().clone(),
            config: parts.config,
            addresses: parts.addresses,
            started: Instant::now(),
            raft: parts.raft,
            store: parts.store,
            members: parts.members,
            supervisor: parts.supervisor,
            events: EventLog::default(),
            peers: Peers::new(),
            removed: Mutex::new(None),
            waiting: Semaphore::new(WAITING_MAX),
            leaving: CancellationToken::new(),
            stopping: CancellationToken::new(),
        }
    }

    /// Replicates a command and tells what the state machine answered.
    ///
    /// # Errors
    /// See [`ProposeError`]; no answer in time counts as an unknown outcome.
    pub(crate) async fn propose(&self, command: &Command) -> Result<Outcome, ProposeError> {
        Ok(Outcome::decode(&self.replicate(command).await?))
    }

    /// The same, with the answer as it came.
    ///
    /// # Errors
    /// As [`App::propose`].
    pub(crate) async fn replicate(&self, command: &Command) -> Result<Bytes, ProposeError> {
        let proposal = self.raft.propose(command.encode());
        let applied = tokio::time::timeout(crate::http::PROPOSE_TIMEOUT, proposal)
            .await
            .map_err(|_| ProposeError::OutcomeUnknown)??;
        Ok(applied.response)
    }

    /// Lets no leader take this life of a server back in. Safe to repeat.
    ///
    /// # Errors
    /// As [`App::propose`].
    pub(crate) async fn keep_out(&self, id: &ServerId) -> Result<(), ProposeError> {
        if let Some(member) = self.members.member(id.as_str()) {
            self.propose(&Command::KeepOut { id: id.to_string(), generation: member.generation }).await?;
        }
        Ok(())
    }
}
