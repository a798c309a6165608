//! What autopilot asks of this application: the shared configuration, and who is there.

use std::time::{Duration, Instant};

use async_trait::async_trait;
use autopilot::{ApplicationError, ApplicationIntegration, Config, KnownServer, NodeStatus, ServerAddress};
use promoter_plugins::ReadReplicas;
use raft::Raft;

use crate::app::META_ZONE;
use crate::kv::{AutopilotSettings, KvStore};
use crate::members::{Liveness, MemberView, Members};

/// After its start a server may not have heard of everyone yet. For this long a member of the configuration that gossip
/// never showed counts as unknown, which autopilot leaves alone, and not as gone.
const GOSSIP_SETTLES: Duration = Duration::from_secs(30);

/// The key with which read replicas declare themselves.
const META_READ_REPLICA: &str = <ReadReplicas>::META_KEY;

/// This application, as autopilot sees it.
#[derive(Debug)]
pub(crate) struct Application {
    pub(crate) store: KvStore,
    pub(crate) members: Members,
    pub(crate) raft: Raft,
    pub(crate) started: Instant,
}

/// The part of the shared configuration that autopilot's loops read.
pub(crate) fn config_of(settings: &AutopilotSettings) -> Config {
    Config {
        cleanup_dead_servers: settings.cleanup_dead_servers,
        last_contact_threshold: settings.last_contact_threshold,
        max_trailing_logs: settings.max_trailing_logs,
        min_quorum: usize::try_from(settings.min_quorum).unwrap_or(usize::MAX),
        server_stabilization_time: settings.server_stabilization_time,
        ..Config::reference()
    }
}

#[async_trait]
impl ApplicationIntegration for Application {
    async fn config(&self) -> Option<Config> {
        self.store.autopilot().map(|stored| config_of(&stored.value))
    }

    async fn known_servers(&self) -> Result<Vec<KnownServer>, ApplicationError> {
        let mut known: Vec<KnownServer> = self.members.list().iter().filter_map(known_server).collect();
        if self.started.elapsed() < GOSSIP_SETTLES {
            for server in self.raft.configuration().configuration.servers() {
                if known.iter().all(|k| k.id != server.id) {
                    known.push(KnownServer {
                        node_status: NodeStatus::Unknown,
                        ..KnownServer::alive(server.id.clone(), server.address.clone())
                    });
                }
            }
        }
        Ok(known)
    }

    async fn remove_failed_server(&self, server: &KnownServer) {
        // Shown as left from now on, so that nobody goes on counting it as failed.
        self.members.force_leave(server.id.as_str());
    }
}

fn known_server(member: &MemberView) -> Option<KnownServer> {
    let profile = &member.profile;
    let raft = profile.raft?;
    let mut meta = profile.meta.clone();
    if !profile.zone.is_empty() {
        meta.insert(META_ZONE.to_owned(), profile.zone.clone());
    }
    if profile.read_replica {
        meta.insert(META_READ_REPLICA.to_owned(), "true".to_owned());
    }
    Some(KnownServer {
        id: profile.id.as_str().into(),
        name: profile.name.as_str().into(),
        address: ServerAddress::from(raft.to_string()),
        version: profile.version.as_str().into(),
        node_status: match member.liveness {
            Liveness::Alive => NodeStatus::Alive,
            Liveness::Failed => NodeStatus::Failed,
            Liveness::Left => NodeStatus::Left,
        },
        meta: meta.into(),
        incarnation: None,
    })
}
