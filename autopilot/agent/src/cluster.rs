//! One running server: storage, Raft, gossip, autopilot and HTTP, started in the order in which they need each other and
//! stopped together.

use std::io::{self, IsTerminal, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use autopilot::{Autopilot, Intervals, StablePromoter, Supervisor};
use promoter_plugins::ReadReplicas;
use raft::core::Role;
use raft::storage::{DataDirectory, LogOptions, StorageError};
use raft::transport::{TcpOptions, TcpTransport, Transport};
use raft::{Raft, ServerAddress, ServerId, recovery};
use rand::RngExt;
use thiserror::Error;
use tokio::net::TcpListener;
use tokio_util::task::TaskTracker;

use crate::app::{Addresses, App, Parts, VERSION};
use crate::config::{AgentConfig, ConfigError, LogLevel, PromoterKind};
use crate::integration::Application;
use crate::kv::{KvMachine, KvStore};
use crate::leadership::CaughtUp;
use crate::members::{GossipError, GossipSocket, Members, Profile};
use crate::zones::InZones;
use crate::{bootstrap, events, http, leader, removed};

/// How long handing leadership over may delay a stop.
const TRANSFER_TIMEOUT: Duration = Duration::from_secs(3);
/// How long the cluster may take to remove a server that leaves.
const REMOVE_TIMEOUT: Duration = Duration::from_secs(10);
/// The number of this server's last life, for gossip; beside Raft's files in the data directory.
const GENERATION_FILE: &str = "generation";

/// Why a server did not start. What was opened is closed again, and no data was changed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StartError {
    /// A setting is out of bounds.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The data directory cannot be used.
    #[error("data_dir {}: {cause}{}", .path.display(), advice(.cause))]
    DataDir {
        /// The directory.
        path: PathBuf,
        /// Why. Part of the text, so not a source that would repeat it.
        cause: StorageError,
    },
    /// The operator's `peers.json` cannot be applied. It is still there.
    #[error("data_dir {}: {cause}", .path.display())]
    Recovery {
        /// The directory.
        path: PathBuf,
        /// Why. Part of the text, as above.
        cause: recovery::RecoverError,
    },
    /// A TCP port cannot be opened.
    #[error(
        "cannot open the {what} port {address} (TCP): {cause}; stop the other process or choose another {key}"
    )]
    Port {
        /// What for.
        what: &'static str,
        /// The setting.
        key: &'static str,
        /// The address.
        address: SocketAddr,
        /// What the system said. Part of the text, as above.
        cause: io::Error,
    },
    /// Gossip did not start.
    #[error(transparent)]
    Gossip(#[from] GossipError),
    /// Raft did not start.
    #[error(transparent)]
    Raft(#[from] raft::StartError),
}

fn advice(error: &StorageError) -> &'static str {
    match error {
        StorageError::Locked { .. } => "; stop that process or choose another data_dir",
        StorageError::Foreign { .. } => "; choose an empty or new data_dir",
        StorageError::Io { .. } => "; check the path and its permissions",
        _ => "",
    }
}

/// One running server. Dropping it does not stop it: call [`Agent::stop`] or [`Agent::leave`].
#[derive(Debug)]
pub struct Agent {
    app: Arc<App>,
    transport: Arc<TcpTransport>,
    tasks: TaskTracker,
}

impl Agent {
    /// Starts a server. When this returns its ports are open and it answers; it need not be part of a cluster yet.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn start(config: AgentConfig) -> Result<Self, StartError> {
        config.validate()?;
        let (directory, id) = open_data(&config)?;
        let transport = Arc::new(bind_raft(&config).await?);
        let http = TcpListener::bind(config.http_addr).await.and_then(|listener| {
            let address = listener.local_addr()?;
            Ok((listener, address))
        });
        let (listener, http_address) = http.map_err(|cause| StartError::Port {
            what: "HTTP",
            key: "http_addr",
            address: config.http_addr,
            cause,
        })?;
        let socket = GossipSocket::bind(config.gossip_addr, config.advertise).await?;
        let advertised = |mut address: SocketAddr| {
            if let Some(ip) = config.advertise {
                address.set_ip(ip);
            }
            address
        };
        let addresses = Addresses {
            http: advertised(http_address),
            raft: advertised(transport.bound_address()),
            gossip: socket.address(),
        };
        let generation_file = config.data_dir.join(GENERATION_FILE);
        let (raft, store) = start_raft(&config, directory, id.clone(), &transport).await?;
        let profile = profile(&config, &id, addresses, raft.has_state());
        let members = match Members::start(socket, profile, &config.join, &generation_file).await {
            Ok(members) => members,
            Err(error) => {
                raft.shutdown().await;
                return Err(error.into());
            }
        };
        let supervisor = start_autopilot(&config, &raft, &store, &members);
        let app = Arc::new(App::new(Parts { config, addresses, raft, store, members, supervisor }));

        warn_if_exposed(addresses);
        let tasks = TaskTracker::new();
        tasks.spawn(bootstrap::run(Arc::clone(&app)));
        tasks.spawn(leader::run(Arc::clone(&app)));
        tasks.spawn(events::record(Arc::clone(&app)));
        tasks.spawn(removed::watch(Arc::clone(&app)));
        tasks.spawn(http::serve(listener, http::router(Arc::clone(&app)), app.stopping.clone()));
        tasks.close();
        tracing::info!(id = %app.id, name = %app.config.node_name, http = %addresses.http, raft = %addresses.raft, gossip = %addresses.gossip, version = VERSION, "started");
        Ok(Self { app, transport, tasks })
    }

    /// Where it is reached.
    #[must_use]
    pub fn addresses(&self) -> Addresses {
        self.app.addresses
    }

    /// Who it is.
    #[must_use]
    pub fn id(&self) -> &ServerId {
        &self.app.id
    }

    /// Its Raft handle, for programs that embed the agent and for tests.
    #[must_use]
    pub fn raft(&self) -> &Raft {
        &self.app.raft
    }

    /// Resolves once somebody asked it to leave (`PUT /v1/agent/leave`). The caller then calls [`Agent::leave`]. Cancel safe.
    pub async fn leave_requested(&self) {
        self.app.leaving.cancelled().await;
    }

    /// Resolves once its storage has failed, after which it takes no part in the cluster until it is started again.
    /// Cancel safe.
    pub async fn storage_failed(&self) {
        let mut metrics = self.app.raft.metrics();
        if metrics.wait_for(|metrics| metrics.storage_failed).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Stops it. It stays a member of the cluster, which sees it fail until it is started again. A leader hands over first.
    pub async fn stop(self) {
        self.hand_over().await;
        self.app.members.stop().await;
        self.end().await;
    }

    /// Takes it out of the cluster, tells the others, and stops it. What cannot be done in time is left to the others, who
    /// see that it left.
    pub async fn leave(self) {
        self.app.leaving.cancel();
        self.hand_over().await;
        let state = self.app.raft.configuration().configuration;
        let others_vote = state.voters().any(|voter| voter.id != self.app.id);
        if state.server(&self.app.id).is_some() && others_vote {
            let removed = tokio::time::timeout(REMOVE_TIMEOUT, http::ask_leader_to_remove(&self.app)).await;
            match removed {
                Ok(Ok(())) => tracing::info!("left the Raft configuration"),
                Ok(Err(error)) => {
                    tracing::warn!(%error, "the leader did not remove this server; it will once it sees it left");
                }
                Err(_) => {
                    tracing::warn!(
                        "the leader did not remove this server in time; it will once it sees it left"
                    );
                }
            }
        }
        self.app.members.leave().await;
        self.end().await;
    }

    async fn hand_over(&self) {
        let metrics = self.app.raft.metrics().borrow().clone();
        if metrics.role != Role::Leader || metrics.configuration.voters_count() < 2 {
            return;
        }
        match tokio::time::timeout(TRANSFER_TIMEOUT, self.app.raft.transfer_leadership(None)).await {
            Ok(Ok(())) => tracing::info!("handed leadership over"),
            Ok(Err(error)) => tracing::warn!(%error, "could not hand leadership over"),
            Err(_) => tracing::warn!("could not hand leadership over in time"),
        }
    }

    async fn end(self) {
        self.app.stopping.cancel();
        self.app.supervisor.stop().await;
        self.tasks.wait().await;
        self.app.raft.shutdown().await;
        self.transport.stopped().await;
    }
}

/// Nothing here asks who is calling: on a network that others use, that must be somebody else's task.
fn warn_if_exposed(addresses: Addresses) {
    for (what, address) in [("HTTP", addresses.http), ("Raft", addresses.raft), ("gossip", addresses.gossip)]
    {
        if !address.ip().is_loopback() {
            tracing::warn!(what, %address, "this port is neither authenticated nor encrypted; keep it inside a trusted network");
        }
    }
}

fn open_data(config: &AgentConfig) -> Result<(DataDirectory, ServerId), StartError> {
    let failed = |cause| StartError::DataDir { path: config.data_dir.clone(), cause };
    let mut directory = DataDirectory::open(&config.data_dir).map_err(failed)?;
    let id = match (&config.node_id, directory.server_id()) {
        (Some(wanted), _) => ServerId::from(wanted.as_str()),
        (None, Some(known)) => known,
        (None, None) => ServerId::from(random_id()),
    };
    directory.bind_id(&id).map_err(failed)?;
    Ok((directory, id))
}

async fn bind_raft(config: &AgentConfig) -> Result<TcpTransport, StartError> {
    let advertise = config
        .advertise
        .map(|ip| ServerAddress::from(SocketAddr::new(ip, config.raft_addr.port()).to_string()));
    let options = TcpOptions { advertise, ..TcpOptions::default() };
    TcpTransport::bind(config.raft_addr, options).await.map_err(|cause| StartError::Port {
        what: "Raft",
        key: "raft_addr",
        address: config.raft_addr,
        cause,
    })
}

/// Applies and removes the `peers.json` that an operator left in the data directory, if there is one.
async fn recover(
    config: &AgentConfig,
    mut directory: DataDirectory,
    id: ServerId,
) -> Result<DataDirectory, StartError> {
    let retained = config.raft.snapshots_retained;
    let run = move || {
        let (mut machine, _) = KvMachine::new();
        let recovery =
            recovery::recover_from_file(&mut directory, &id, LogOptions::default(), retained, &mut machine)?;
        Ok::<_, recovery::RecoverError>((directory, recovery))
    };
    let result = tokio::task::spawn_blocking(run).await.expect("reading the disk does not panic");
    let (directory, recovery) =
        result.map_err(|cause| StartError::Recovery { path: config.data_dir.clone(), cause })?;
    if let Some(recovery) = recovery {
        tracing::warn!(index = %recovery.snapshot.last.index, "applied and removed {}: {recovery}", recovery::PEERS_FILE);
    }
    Ok(directory)
}

async fn start_raft(
    config: &AgentConfig,
    directory: DataDirectory,
    id: ServerId,
    transport: &Arc<TcpTransport>,
) -> Result<(Raft, KvStore), StartError> {
    let mut directory = recover(config, directory, id.clone()).await?;
    let failed = |cause| StartError::DataDir { path: config.data_dir.clone(), cause };
    let log = directory.log(LogOptions::default()).map_err(failed)?;
    let snapshots = directory.snapshots(config.raft.snapshots_retained).map_err(failed)?;
    let (machine, store) = KvMachine::new();
    let raft = Raft::builder(id, machine)
        .config(config.raft.clone())
        .log_store(log)
        .snapshots(snapshots)
        .transport(SharedTransport(Arc::clone(transport)))
        .start()
        .await?;
    Ok((raft, store))
}

fn profile(config: &AgentConfig, id: &ServerId, addresses: Addresses, bootstrapped: bool) -> Profile {
    Profile {
        id: id.to_string(),
        name: config.node_name.clone(),
        datacenter: config.datacenter.clone(),
        version: VERSION.to_owned(),
        zone: config.zone.clone(),
        read_replica: config.read_replica,
        expect: config.bootstrap_expect,
        bootstrapped,
        raft: Some(addresses.raft),
        http: Some(addresses.http),
        meta: config.meta.clone(),
    }
}

fn start_autopilot(config: &AgentConfig, raft: &Raft, store: &KvStore, members: &Members) -> Supervisor {
    let application = Application {
        store: store.clone(),
        members: members.clone(),
        raft: raft.clone(),
        started: Instant::now(),
    };
    let intervals = Intervals {
        update: config.update_interval,
        reconcile: config.reconcile_interval,
        query: config.update_interval / 2,
        ..Intervals::default()
    };
    let builder = Autopilot::builder(raft.clone(), application).intervals(intervals);
    let builder = match config.promoter {
        PromoterKind::Stable => builder.promoter(InZones(StablePromoter)),
        PromoterKind::ReadReplicas => builder.promoter(InZones(<ReadReplicas>::default())),
    };
    autopilot::supervise(CaughtUp::new(raft.clone(), raft.leadership()), builder)
}

/// A random UUID (version 4).
fn random_id() -> String {
    let bits: u128 = rand::rng().random();
    let bits = (bits & !(0xf << 76) & !(0x3 << 62)) | (0x4 << 76) | (0x2 << 62);
    let hex = format!("{bits:032x}");
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

/// Lets the agent keep the transport that Raft uses, to wait until its port is free.
struct SharedTransport(Arc<TcpTransport>);

impl Transport for SharedTransport {
    fn start(&self, local: raft::core::Peer, inbox: raft::transport::Inbox) {
        self.0.start(local, inbox);
    }

    fn local_address(&self) -> ServerAddress {
        self.0.local_address()
    }

    fn send(
        &self,
        to: &raft::core::Peer,
        sequence: raft::core::Sequence,
        request: raft::core::Request,
        regard: raft::core::Regard,
    ) {
        self.0.send(to, sequence, request, regard);
    }

    fn send_snapshot(
        &self,
        to: &raft::core::Peer,
        sequence: raft::core::Sequence,
        request: raft::core::Request,
        regard: raft::core::Regard,
        state: raft::transport::SnapshotState,
    ) {
        self.0.send_snapshot(to, sequence, request, regard, state);
    }

    fn retain(&self, members: &[ServerId]) {
        self.0.retain(members);
    }

    fn shutdown(&self) {
        self.0.shutdown();
    }
}

/// Sends the log to standard error, where standard output is for the one line of [`run`]. Call it once, first.
///
/// # Panics
/// When a logger is installed already.
pub fn log_to_stderr(level: LogLevel) {
    let level = match level {
        LogLevel::Error => tracing::Level::ERROR,
        LogLevel::Warn => tracing::Level::WARN,
        LogLevel::Info => tracing::Level::INFO,
        LogLevel::Debug => tracing::Level::DEBUG,
        LogLevel::Trace => tracing::Level::TRACE,
    };
    tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .init();
}

/// Runs one server until `shutdown` resolves or somebody asks it to leave. Prints one line on standard output once it is
/// ready: `agent ready: http=ADDRESS raft=ADDRESS gossip=ADDRESS id=ID`.
///
/// # Errors
/// See [`StartError`]; and storage that failed, after which the process must be started again.
pub async fn run(config: AgentConfig, shutdown: impl Future<Output = ()>) -> anyhow::Result<()> {
    let agent = Agent::start(config).await?;
    let addresses = agent.addresses();
    let ready = format!(
        "agent ready: http={} raft={} gossip={} id={}\n",
        addresses.http,
        addresses.raft,
        addresses.gossip,
        agent.id()
    );
    // Nobody may be reading, which is no reason to stop.
    let _ = io::stdout().write_all(ready.as_bytes()).and_then(|()| io::stdout().flush());
    let failed = tokio::select! {
        () = shutdown => false,
        () = agent.leave_requested() => {
            agent.leave().await;
            return Ok(());
        }
        () = agent.storage_failed() => true,
    };
    let data_dir = agent.app.config.data_dir.clone();
    agent.stop().await;
    if failed {
        anyhow::bail!(
            "the storage in {} failed; see the log, free or repair the disk, and start this server again",
            data_dir.display()
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_ids_are_uuids() {
        let id = random_id();
        assert_eq!(id.len(), 36);
        assert_eq!(&id[14..15], "4", "version: {id}");
        assert!(matches!(&id[19..20], "8" | "9" | "a" | "b"), "variant: {id}");
        assert_ne!(id, random_id());
    }
}
