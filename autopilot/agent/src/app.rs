//! What the parts of one running server share.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Instant;

use autopilot::Supervisor;
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
    /// Places for blocking queries.
    pub(crate) waiting: Semaphore,
    /// Somebody asked this server to leave.
    pub(crate) leaving: CancellationToken,
    /// Everything of this server ends.
    pub(crate) stopping: CancellationToken,
    kept_out: KeptOut,
}

/// Members that a person removed while they lived, each with the generation it had: the leader does not take them back
/// in before they start again. Kept in memory: a new leader does not know of them.
#[derive(Debug, Default)]
pub(crate) struct KeptOut(Mutex<BTreeMap<String, u64>>);

impl KeptOut {
    /// Whether this life of this server was removed by a person.
    pub(crate) fn holds(&self, id: &str, generation: u64) -> bool {
        self.0.lock().get(id).is_some_and(|removed| generation <= *removed)
    }
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
            waiting: Semaphore::new(WAITING_MAX),
            leaving: CancellationToken::new(),
            stopping: CancellationToken::new(),
            kept_out: KeptOut::default(),
        }
    }

    /// Replicates a command and tells what the state machine answered.
    ///
    /// # Errors
    /// See [`ProposeError`]; no answer in time counts as an unknown outcome.
    pub(crate) async fn propose(&self, command: &Command) -> Result<Outcome, ProposeError> {
        let proposal = self.raft.propose(command.encode());
        let applied = tokio::time::timeout(crate::http::PROPOSE_TIMEOUT, proposal)
            .await
            .map_err(|_| ProposeError::OutcomeUnknown)??;
        Ok(Outcome::decode(&applied.response))
    }

    pub(crate) fn kept_out(&self) -> &KeptOut {
        &self.kept_out
    }

    /// Remembers that a person removed this server.
    pub(crate) fn keep_out(&self, id: &ServerId) {
        if let Some(member) = self.members.member(id.as_str()) {
            self.kept_out.0.lock().insert(id.to_string(), member.generation);
        }
    }

    /// Forgets it again: the removal failed.
    pub(crate) fn let_in(&self, id: &ServerId) {
        self.kept_out.0.lock().remove(id.as_str());
    }
}
