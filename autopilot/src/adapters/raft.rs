//! [`Cluster`] for `raft::Raft`, and its leadership as a [`LeadershipSource`].

#![allow(
    clippy::disallowed_methods,
    reason = "the age of a contact is measured where the engine tells its moment"
)]

use std::time::{Duration, Instant};

use async_trait::async_trait;
use raft::{ChangeError, Metrics, Raft, TransferError};
use raft_types::{ConfigurationChange, LogIndex, ServerAddress, ServerId};

use crate::driver::{Leadership, LeadershipSource};
use crate::model::{Capabilities, ClusterView, ServerStats};
use crate::ports::{Cluster, ClusterError};

#[async_trait]
impl Cluster for Raft {
    fn capabilities(&self) -> Capabilities {
        Capabilities { atomic: true, ..Capabilities::default() }
    }

    async fn view(&self) -> Result<ClusterView, ClusterError> {
        // One snapshot of the metrics, so that the parts belong together.
        let metrics = self.metrics().borrow().clone();
        if metrics.storage_failed {
            return Err(ClusterError::Unavailable {
                reason: "the store of this server has failed".to_owned(),
            });
        }
        Ok(view(self.id(), &metrics, Instant::now()))
    }

    async fn add_nonvoter(
        &self,
        id: ServerId,
        address: ServerAddress,
        expected: Option<LogIndex>,
    ) -> Result<LogIndex, ClusterError> {
        Ok(Self::add_nonvoter(self, id, address, expected).await?)
    }

    async fn add_voter(
        &self,
        id: ServerId,
        address: ServerAddress,
        expected: Option<LogIndex>,
    ) -> Result<LogIndex, ClusterError> {
        Ok(Self::add_voter(self, id, address, expected).await?)
    }

    async fn demote_voter(&self, id: ServerId, expected: Option<LogIndex>) -> Result<LogIndex, ClusterError> {
        Ok(Self::demote_voter(self, id, expected).await?)
    }

    async fn remove_server(
        &self,
        id: ServerId,
        expected: Option<LogIndex>,
    ) -> Result<LogIndex, ClusterError> {
        Ok(Self::remove_server(self, id, expected).await?)
    }

    async fn change_members(
        &self,
        changes: Vec<ConfigurationChange>,
        expected: Option<LogIndex>,
    ) -> Result<LogIndex, ClusterError> {
        Ok(Self::change_membership(self, changes, expected).await?)
    }

    async fn transfer_leadership(&self, to: ServerId) -> Result<(), ClusterError> {
        Ok(Self::transfer_leadership(self, Some(to)).await?)
    }
}

fn view(id: &ServerId, metrics: &Metrics, now: Instant) -> ClusterView {
    let leader = metrics.leader.as_ref().map(|peer| peer.id.clone());
    let is_leader = matches!(metrics.role, raft::core::Role::Leader);
    let mut stats: std::collections::BTreeMap<ServerId, ServerStats> = metrics
        .peers
        .iter()
        .map(|(peer, seen)| {
            let stats = ServerStats {
                last_contact: seen.last_contact.map(|at| now.saturating_duration_since(at)),
                last_term: seen.match_id.term,
                last_index: seen.match_id.index,
            };
            (peer.clone(), stats)
        })
        .collect();
    if is_leader {
        let own = ServerStats {
            last_contact: Some(Duration::ZERO),
            last_term: metrics.last.term,
            last_index: metrics.last.index,
        };
        stats.insert(id.clone(), own);
    }
    ClusterView {
        id: id.clone(),
        term: metrics.term,
        leader,
        is_leader,
        ready: metrics.ready,
        configuration: metrics.configuration.clone(),
        configuration_index: metrics.configuration_index,
        configuration_committed: metrics.configuration_committed,
        last: metrics.last,
        stats,
        installing: metrics
            .peers
            .iter()
            .filter(|(_, seen)| seen.snapshotting)
            .map(|(peer, _)| peer.clone())
            .collect(),
    }
}

impl From<ChangeError> for ClusterError {
    fn from(error: ChangeError) -> Self {
        match error {
            ChangeError::NotLeader { leader } => Self::NotLeader { leader: leader.map(|peer| peer.id) },
            ChangeError::NotReady => Self::NotReady,
            ChangeError::ChangeInProgress { index } => Self::ChangeInProgress { index },
            ChangeError::ConfigurationMoved { index } => Self::ConfigurationMoved { index },
            ChangeError::Invalid(error) => Self::Invalid(error),
            ChangeError::NotSpoken { .. } => Self::Unsupported {
                what: "change several members in one step, since one of them never said it can",
            },
            lagging @ ChangeError::NotCaughtUp { .. } => Self::Refused { reason: lagging.to_string() },
            stopped @ ChangeError::Stopped => Self::Unavailable { reason: stopped.to_string() },
            unknown => Self::OutcomeUnknown { reason: unknown.to_string() },
        }
    }
}

impl From<TransferError> for ClusterError {
    fn from(error: TransferError) -> Self {
        match error {
            TransferError::NotLeader { leader } => Self::NotLeader { leader: leader.map(|peer| peer.id) },
            TransferError::InProgress | TransferError::RestoreInProgress => Self::NotReady,
            TransferError::InvalidTarget => Self::Refused { reason: error.to_string() },
            unknown => Self::OutcomeUnknown { reason: unknown.to_string() },
        }
    }
}

#[async_trait]
impl LeadershipSource for raft::LeadershipWatch {
    async fn next(&mut self) -> Option<Leadership> {
        Some(match Self::next(self).await? {
            raft::Leadership::Leader { term } => Leadership::Leader { term },
            raft::Leadership::Follower { .. } => Leadership::Follower,
        })
    }
}
