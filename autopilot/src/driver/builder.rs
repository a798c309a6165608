//! How an autopilot is put together and started.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use raft_types::Term;
use tokio::sync::{broadcast, mpsc};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::gather::{Lines, Ports};
use super::handle::{Autopilot, Shared};
use super::task::{Published, Shown, Task};
use crate::model::Actor;
use crate::ports::{ApplicationIntegration, Cluster};
use crate::promoter::{Promoter, StablePromoter};

/// How many requests may wait. Requests are made by people and by joining servers, so few are ever under way.
const COMMANDS_MAX: usize = 64;

/// How often the task looks and acts, and how long it waits for others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Intervals {
    /// How often the state is computed. Default: 2 s.
    pub update: Duration,
    /// How often members may be changed. Default: 10 s. After a performed step the next one may follow at the next
    /// update, so that work of several steps does not take this long for each.
    pub reconcile: Duration,
    /// How long one question to the engine, the application or the promoter may take. Default: half of `update`.
    pub query: Duration,
    /// How long one change of members may take. Default: 5 s. After that its outcome counts as unknown.
    pub change: Duration,
}

impl Intervals {
    /// No interval is shorter than this; a zero would spin.
    pub const MIN: Duration = Duration::from_millis(1);

    fn at_least_min(self) -> Self {
        Self {
            update: self.update.max(Self::MIN),
            reconcile: self.reconcile.max(Self::MIN),
            query: self.query.max(Self::MIN),
            change: self.change.max(Self::MIN),
        }
    }
}

impl Default for Intervals {
    fn default() -> Self {
        Self {
            update: Duration::from_secs(2),
            reconcile: Duration::from_secs(10),
            query: Duration::from_secs(1),
            change: Duration::from_secs(5),
        }
    }
}

/// Puts an [`Autopilot`] together. Can be started more than once, one run after the other.
#[derive(Clone)]
pub struct Builder {
    cluster: Arc<dyn Cluster>,
    application: Arc<dyn ApplicationIntegration>,
    promoter: Arc<dyn Promoter>,
    intervals: Intervals,
    reconciliation: bool,
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("promoter", &self.promoter.name())
            .field("intervals", &self.intervals)
            .field("reconciliation", &self.reconciliation)
            .finish_non_exhaustive()
    }
}

impl Builder {
    pub(super) fn new(cluster: Arc<dyn Cluster>, application: Arc<dyn ApplicationIntegration>) -> Self {
        Self {
            cluster,
            application,
            promoter: Arc::new(StablePromoter),
            intervals: Intervals::default(),
            reconciliation: true,
        }
    }

    /// The policy; [`StablePromoter`] unless set.
    #[must_use]
    pub fn promoter(mut self, promoter: impl Promoter) -> Self {
        self.promoter = Arc::new(promoter);
        self
    }

    /// How often the state is computed; a question may take half of that. Default: 2 s; shorter than
    /// [`Intervals::MIN`] counts as that.
    #[must_use]
    pub fn update_interval(mut self, interval: Duration) -> Self {
        self.intervals.update = interval;
        self.intervals.query = interval / 2;
        self
    }

    /// How often members may be changed. Default: 10 s; shorter than [`Intervals::MIN`] counts as that.
    #[must_use]
    pub fn reconcile_interval(mut self, interval: Duration) -> Self {
        self.intervals.reconcile = interval;
        self
    }

    /// All intervals and deadlines at once.
    #[must_use]
    pub fn intervals(mut self, intervals: Intervals) -> Self {
        self.intervals = intervals;
        self
    }

    /// Whether it changes members on its own from the start. Default: true. On a server that does not lead, or
    /// that should only watch, switch it off.
    #[must_use]
    pub fn reconciliation(mut self, enabled: bool) -> Self {
        self.reconciliation = enabled;
        self
    }

    /// Starts in `term`, which fences every step: in any other term, and on a server that does not lead, nothing is
    /// changed. Returns with the first state computed, or after a second without it.
    ///
    /// The caller sees to it that the run before has stopped; [`supervise`](super::supervise) does.
    ///
    /// # Panics
    /// Outside a tokio runtime with time enabled.
    pub async fn start(&self, term: Term) -> Autopilot {
        let (requests, received) = mpsc::channel(COMMANDS_MAX);
        let (published, Shown { state, plan, status, hand }) = Published::new();
        let shared = Arc::new(Shared {
            term,
            epoch: Instant::now(),
            cancel: CancellationToken::new(),
            reconciliation: AtomicBool::new(self.reconciliation),
            requests,
            state,
            plan,
            status,
            hand,
            events: broadcast::Sender::new(Autopilot::EVENTS_MAX),
        });
        let ports = Ports {
            cluster: self.cluster.clone(),
            application: self.application.clone(),
            promoter: self.promoter.clone(),
            intervals: self.intervals.at_least_min(),
            lines: Lines::default(),
        };
        Task::new(ports, shared.clone(), received, published).launch().await;
        Autopilot { shared, by: Actor::REQUESTER }
    }
}
