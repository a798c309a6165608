//! What the handle sees of the actor without asking.

use std::sync::Arc;
use std::time::Duration;

use raft_types::Time;
use tokio::sync::watch;

use super::actor::Actor;
use super::observation::Source;
use super::observe::{Leadership, Metrics, metrics_of};
use crate::config::ReloadableConfig;
use crate::core::Role;
use crate::telemetry;

/// How far apart routine metrics are.
const METRICS_INTERVAL: Duration = Duration::from_millis(20);

/// What the handle reads without asking.
pub(super) struct Views {
    pub(super) metrics: watch::Receiver<Arc<Metrics>>,
    pub(super) leadership: watch::Receiver<Leadership>,
    pub(super) reloadable: watch::Receiver<ReloadableConfig>,
    pub(super) observations: Source,
}

/// Whether a server belongs to the cluster, as far as it knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Membership {
    /// It was never a member that it knows of: it waits to join.
    Unknown,
    Member,
    /// The change that removed it is committed, and this server has known it since then.
    Removed {
        since: Time,
    },
}

impl Actor {
    /// Whether to stop, as [`crate::Config::shutdown_on_remove`] wants it: an election timeout after the removal, so that
    /// what a leader still has to say is said.
    pub(super) fn has_been_removed(&mut self) -> bool {
        let core = &self.core;
        let member = core.configuration().server(&core.me().id).is_some();
        let committed = core.configuration_index() <= core.commit_index();
        let now = self.now();
        self.membership = match self.membership {
            _ if member => Membership::Member,
            Membership::Member if committed => Membership::Removed { since: now },
            same => same,
        };
        let Membership::Removed { since } = self.membership else { return false };
        self.config.shutdown_on_remove && now.since(since) >= self.config.election_timeout
    }

    fn report(&mut self, now: Time) {
        let core = &self.core;
        metrics::gauge!(telemetry::PEERS).set(telemetry::count(core.configuration().everyone().count()));
        let first = core.first_index();
        let age = self.ages.note(now, first, core.last().index);
        metrics::gauge!(telemetry::OLDEST_LOG_AGE).set(telemetry::millis(age));
        if core.role() == Role::Leader {
            let voters = core.configuration().voters().filter_map(|server| core.follower(&server.id));
            if let Some(oldest) = voters.map(|voter| voter.contact).min() {
                let silence = telemetry::millis(now.since(oldest));
                metrics::histogram!(telemetry::LAST_CONTACT).record(silence);
            }
        }
    }

    /// Whoever is told that something changed must find it changed.
    pub(super) fn publish_now(&mut self) {
        self.metrics_now = true;
        self.publish();
    }

    pub(super) fn publish(&mut self) {
        let now = self.now();
        if !self.metrics_now && now < self.metrics_due {
            return;
        }
        if self.metrics_now {
            self.metrics_now = false;
            let leadership = match self.core.role() {
                Role::Leader => Leadership::Leader { term: self.core.term() },
                Role::Follower | Role::Candidate => {
                    Leadership::Follower { leader: self.core.leader().cloned() }
                }
            };
            self.leadership.send_if_modified(|old| {
                let changed = *old != leadership;
                *old = leadership;
                changed
            });
        }
        self.report(now);
        self.metrics.send_replace(Arc::new(metrics_of(&self.core, self.start)));
        self.metrics_due = now + METRICS_INTERVAL;
    }
}
