//! What the handle sees of the actor without asking.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::actor::Actor;
use super::observation::Source;
use super::observe::{Leadership, Metrics, metrics_of};
use crate::config::ReloadableConfig;
use crate::core::Role;

/// How far apart routine metrics are.
const METRICS_INTERVAL: Duration = Duration::from_millis(20);

/// What the handle reads without asking.
pub(super) struct Views {
    pub(super) metrics: watch::Receiver<Arc<Metrics>>,
    pub(super) leadership: watch::Receiver<Leadership>,
    pub(super) reloadable: watch::Receiver<ReloadableConfig>,
    pub(super) observations: Source,
}

impl Actor {
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
        self.metrics.send_replace(Arc::new(metrics_of(&self.core, self.start)));
        self.metrics_due = now + METRICS_INTERVAL;
    }
}
