//! The one task.

use std::sync::Arc;

use tokio::sync::{mpsc, watch};

use super::builder::Intervals;
use super::command::Command;
use super::handle::{Shared, Status};
use crate::model::{Plan, State};
use crate::ports::{ApplicationIntegration, Cluster};
use crate::promoter::Promoter;

pub(super) struct Task {
    cluster: Arc<dyn Cluster>,
    application: Arc<dyn ApplicationIntegration>,
    promoter: Arc<dyn Promoter>,
    intervals: Intervals,
    shared: Arc<Shared>,
    requests: mpsc::Receiver<Command>,
    state: watch::Sender<Arc<State>>,
    plan: watch::Sender<Arc<Plan>>,
}

impl Task {
    #[allow(clippy::too_many_arguments)]
    pub(super) fn new(
        cluster: Arc<dyn Cluster>,
        application: Arc<dyn ApplicationIntegration>,
        promoter: Arc<dyn Promoter>,
        intervals: Intervals,
        shared: Arc<Shared>,
        requests: mpsc::Receiver<Command>,
        state: watch::Sender<Arc<State>>,
        plan: watch::Sender<Arc<Plan>>,
    ) -> Self {
        Self { cluster, application, promoter, intervals, shared, requests, state, plan }
    }

    pub(super) async fn launch(self, status: watch::Sender<Status>) {
        drop(status);
    }
}
