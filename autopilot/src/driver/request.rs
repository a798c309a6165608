//! Answers requests. Each looks at the cluster first: a request is decided on what is, not on the last state.

use raft_types::{LogIndex, ServerAddress, ServerId};

use super::command::Command;
use super::error::{AddServerError, PruneError, RemoveServerError};
use super::task::Task;
use crate::core::{AddPlan, AddRefusal, Mode, plan_add};
use crate::model::{
    Action, AddServerOutcome, ClusterView, EventKind, KeptServer, Plan, PruneReport, Reason, RemovedServer,
    Step, Verdict,
};
use crate::ports::ClusterError;

impl Task {
    /// Answers one request. An asker that went away does not stop it half way.
    pub(super) async fn answer(&mut self, command: Command) {
        match command {
            Command::AddServer { id, address, reply } => {
                let _ = reply.send(self.add_server(id, address).await);
            }
            Command::RemoveServer { id, reply } => {
                let _ = reply.send(self.remove_server(id).await);
            }
            Command::RemoveDead { reply } => {
                let _ = reply.send(self.remove_dead().await);
            }
            Command::ComputeState { reply } => {
                let answer = self.look(Mode::Watch).await.map(|_| self.shared.state.borrow().clone());
                let _ = reply.send(answer.map_err(Into::into));
            }
            Command::Plan { reply } => {
                let _ = reply.send(self.propose().await);
            }
            Command::Apply { proposal, reply } => {
                let _ = reply.send(self.apply(&proposal).await);
            }
            Command::Records { reply } => {
                let _ = reply.send(Ok(self.records.list()));
            }
            Command::VotersCount { reply } => {
                let count = self.ports.view().await.map(|view| view.configuration.voters_count());
                let _ = reply.send(count.map_err(Into::into));
            }
        }
    }

    async fn leading_view(&self) -> Result<ClusterView, ClusterError> {
        let view = self.ports.view().await?;
        if view.is_leader && view.term == self.shared.term {
            return Ok(view);
        }
        Err(ClusterError::NotLeader { leader: view.leader })
    }

    async fn add_server(
        &mut self,
        id: ServerId,
        address: ServerAddress,
    ) -> Result<AddServerOutcome, AddServerError> {
        let view = self.leading_view().await?;
        let plan = plan_add(&view.configuration, view.leader.as_ref(), &id, &address);
        let (removals, as_voter, member) = match plan {
            Ok(AddPlan::Unchanged) => return Ok(AddServerOutcome::Unchanged),
            Ok(AddPlan::Change { removals, as_voter, member }) => (removals, as_voter, member),
            Err(AddRefusal::TooManyRemovals { would_remove, allowed }) => {
                return Err(AddServerError::TooManyRemovals { id, would_remove, allowed });
            }
            Err(AddRefusal::AddressOfLeader { leader }) => {
                return Err(AddServerError::AddressOfLeader { id, leader });
            }
        };
        let mut index = view.configuration_index;
        let mut removed = Vec::new();
        let partly = |removed: &[ServerId], source: ClusterError| match removed {
            [] => source.into(),
            _ => AddServerError::PartlyDone { removed: removed.to_vec(), source },
        };
        for other in removals {
            index = self.remove(&other, index).await.map_err(|error| partly(&removed, error))?;
            removed.push(other);
        }
        let index = self.add(&id, address, as_voter, index).await.map_err(|error| partly(&removed, error))?;
        self.tell(EventKind::Added, id, Reason::Requested, Some(index));
        self.reconcile_soon();
        self.refresh().await;
        Ok(match member {
            true => AddServerOutcome::AddressChanged { index, removed },
            false => AddServerOutcome::Added { index, removed },
        })
    }

    async fn add(
        &self,
        id: &ServerId,
        address: ServerAddress,
        as_voter: bool,
        decided_on: LogIndex,
    ) -> Result<LogIndex, ClusterError> {
        let capabilities = self.ports.cluster.capabilities();
        if !as_voter && !capabilities.nonvoters {
            return Err(ClusterError::Unsupported { what: "add members without a vote" });
        }
        let expected = capabilities.compare_and_set.then_some(decided_on);
        let id = id.clone();
        let change = self.ports.change(move |cluster| async move {
            match as_voter {
                true => cluster.add_voter(id, address, expected).await,
                false => cluster.add_nonvoter(id, address, expected).await,
            }
        });
        change.await
    }

    async fn remove(&self, id: &ServerId, decided_on: LogIndex) -> Result<LogIndex, ClusterError> {
        let expected = self.ports.cluster.capabilities().compare_and_set.then_some(decided_on);
        let server = id.clone();
        let change =
            self.ports.change(move |cluster| async move { cluster.remove_server(server, expected).await });
        let index = change.await?;
        self.tell(EventKind::Removed, id.clone(), Reason::Requested, Some(index));
        Ok(index)
    }

    async fn remove_server(&mut self, id: ServerId) -> Result<LogIndex, RemoveServerError> {
        let view = self.leading_view().await?;
        if view.configuration.server(&id).is_none() {
            return Err(RemoveServerError::NotMember { id });
        }
        let index = self.remove(&id, view.configuration_index).await?;
        self.refresh().await;
        Ok(index)
    }

    /// One removal a round, each decided on a fresh look, until nobody else may go.
    async fn remove_dead(&mut self) -> Result<PruneReport, PruneError> {
        let mut report = PruneReport::default();
        loop {
            let plan = self.look(Mode::Prune).await?;
            let Some(planned) = plan.step.clone() else {
                report.kept = kept(&plan);
                return Ok(report);
            };
            let (id, class) = match planned.step.clone() {
                // An engine that says done and does not do it would keep this going for ever.
                Step::Remove { id, class } if report.removed.iter().all(|removed| removed.id != id) => {
                    (id, class)
                }
                _ => {
                    report.kept = kept(&plan);
                    return Ok(report);
                }
            };
            match self.execute(planned, plan.configuration_index).await {
                Ok(index) => {
                    let index = index.unwrap_or(plan.configuration_index);
                    report.removed.push(RemovedServer { id, class, index });
                }
                Err(error) => {
                    // The others wait: after a failure nothing is changed before somebody looked.
                    report.kept = kept(&plan);
                    report.kept.retain(|kept| kept.id != id);
                    let reason = Reason::EngineRefused { error: error.to_string() };
                    report.kept.push(KeptServer { id, reason });
                    return Ok(report);
                }
            }
        }
    }
}

fn kept(plan: &Plan) -> Vec<KeptServer> {
    let stays = plan.decisions.iter().filter(|d| d.action == Action::Remove && d.verdict != Verdict::Chosen);
    stays.map(|d| KeptServer { id: d.server.clone(), reason: d.reason.clone() }).collect()
}
