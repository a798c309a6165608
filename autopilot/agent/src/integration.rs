//! What autopilot asks of this application: the shared configuration, and who is there.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use autopilot::{
    ApplicationError, ApplicationIntegration, Config, KnownServer, Ledger, NodeStatus, ServerAddress,
    StoredLedger,
};
use bytes::Bytes;
use promoter_plugins::ReadReplicas;
use raft::{ProposeError, Raft};
use thiserror::Error;

use crate::app::META_ZONE;
use crate::kv::command::LEDGER_BYTES_MAX;
use crate::kv::{AutopilotSettings, Command, KeptLedger, KvStore};
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
        health: settings.health.clone(),
        removal: settings.removal.clone(),
        changes: settings.changes.clone(),
    }
}

/// How far two clocks of servers are taken to be apart at most. Where they show to be farther, the age of a ledger counts
/// as unknown.
const CLOCK_SKEW_MAX: Duration = Duration::from_secs(1);

/// A ledger as the replicated state has it.
fn stored(kept: &KeptLedger, now_unix_ms: u64) -> Result<StoredLedger, serde_json::Error> {
    let ledger = serde_json::from_slice(&kept.ledger)?;
    let future = Duration::from_millis(kept.unix_ms.saturating_sub(now_unix_ms));
    let past = Duration::from_millis(now_unix_ms.saturating_sub(kept.unix_ms));
    // One from the future was made by another clock: what age it has nobody can tell.
    let age = match future > CLOCK_SKEW_MAX {
        true => Ledger::AGE_MAX + CLOCK_SKEW_MAX,
        false => past,
    };
    // A clock that runs ahead here must not end an order early, within what is taken for possible.
    Ok(StoredLedger { ledger, age, age_min: past.saturating_sub(CLOCK_SKEW_MAX) })
}

/// Why what autopilot knows was not stored. A later one takes its place, so a retry is safe and rarely needed.
#[derive(Debug, Error)]
pub(crate) enum KeepError {
    /// There are too many servers or orders. A retry fails again.
    #[error("what autopilot knows takes {bytes} bytes, the limit is {LEDGER_BYTES_MAX}")]
    TooLarge {
        /// How many.
        bytes: usize,
    },
    /// Replication failed; it may be stored nonetheless.
    #[error(transparent)]
    Propose(#[from] ProposeError),
}

/// Stores what autopilot knows in the replicated state, where the next leader finds it.
pub(crate) async fn keep_ledger(raft: &Raft, ledger: &Ledger) -> Result<(), KeepError> {
    let ledger = serde_json::to_vec(ledger).expect("a ledger holds nothing that JSON cannot");
    if ledger.len() > LEDGER_BYTES_MAX {
        return Err(KeepError::TooLarge { bytes: ledger.len() });
    }
    let command = Command::KeepLedger { ledger: Bytes::from(ledger), unix_ms: crate::app::unix_ms() };
    raft.propose(command.encode()).await?;
    Ok(())
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

    async fn load_ledger(&self) -> Result<Option<StoredLedger>, ApplicationError> {
        // Leadership is told to autopilot only once everything before it is applied here.
        let Some(kept) = self.store.ledger() else { return Ok(None) };
        // To ask again would not help: what cannot be read now can never be.
        let read = stored(&kept, crate::app::unix_ms());
        Ok(read.inspect_err(|error| tracing::warn!(%error, "what the last leader knew cannot be read")).ok())
    }

    async fn store_ledger(&self, ledger: &Arc<Ledger>) {
        if let Err(error) = keep_ledger(&self.raft, ledger).await {
            tracing::warn!(%error, "what autopilot knows is not stored; will try again");
        }
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
        incarnation: Some(member.generation),
    })
}

#[cfg(test)]
mod tests {
    use autopilot::testing::Situation;
    use autopilot::{Hand, Instruction, Memory, Round, StablePromoter};

    use super::*;

    fn ledger() -> Ledger {
        let inputs = Situation::new("n1").voter("n2").voter("n3").inputs;
        let state = Round::run(&inputs, &StablePromoter).state;
        let mut hand = Hand::default();
        let cordon = Instruction::Cordon { server: "n2".into(), why: "noisy disk".to_owned() };
        hand.follow(cordon, &autopilot::Actor::REQUESTER, inputs.now).expect("a good order");
        Ledger::export(&state, &Memory::default(), &hand, &Config::default(), inputs.now)
    }

    #[test]
    fn a_ledger_survives_the_replicated_state_with_its_age() {
        let ledger = ledger();
        let bytes = serde_json::to_vec(&ledger).expect("JSON");
        let kept = KeptLedger { ledger: bytes.into(), unix_ms: 1_000_000 };
        let read = stored(&kept, 1_003_000).expect("readable");
        assert_eq!((read.ledger, read.age), (ledger, Duration::from_secs(3)));
        assert_eq!(read.age_min, Duration::from_secs(2), "this clock may be ahead");
        let little = stored(&kept, 999_500).expect("readable");
        assert_eq!((little.age, little.age_min), (Duration::ZERO, Duration::ZERO), "clocks differ a little");
        let wrong = stored(&kept, 900_000).expect("readable");
        assert!(wrong.age > Ledger::AGE_MAX, "one of two clocks is wrong");
        assert_eq!(wrong.age_min, Duration::ZERO, "and that ends no order");
    }

    #[test]
    fn what_is_no_ledger_is_an_error_and_no_panic() {
        assert!(stored(&KeptLedger { ledger: "{}".into(), unix_ms: 0 }, 0).is_err());
    }
}
