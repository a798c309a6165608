//! Answers requests. Each looks at the cluster first: a request is decided on what is, not on the last state.

use raft_types::{LogIndex, ServerAddress, ServerId};

use super::command::{Command, Join, Request};
use super::error::{AddServerError, PruneError, RemoveServerError};
use super::task::Task;
use crate::core::{AddPlan, AddRefusal, Mode, expected, plan_add};
use crate::model::{
    Action, Actor, AddServerOutcome, ClusterView, Event, EventKind, KeptServer, Performed, Plan, PruneReport,
    Reason, RemovedServer, Step, Verdict,
};
use crate::ports::ClusterError;

impl Task {
    /// Answers one request. An asker that went away does not stop it half way.
    pub(super) async fn answer(&mut self, request: Request) {
        let Request { by, command } = request;
        match command {
            Command::AddServer { join, reply } => {
                let _ = reply.send(self.add_server(join, &by).await);
            }
            Command::RemoveServer { id, reply } => {
                let _ = reply.send(self.remove_server(id, &by).await);
            }
            Command::RemoveDead { reply } => {
                let _ = reply.send(self.remove_dead(&by).await);
            }
            Command::Order { instruction, reply } => {
                let _ = reply.send(self.order(instruction, &by).await);
            }
            Command::SafeToStop { id, reply } => {
                let _ = reply.send(self.safe_to_stop(id, &by).await);
            }
            Command::Tombstones { reply } => {
                let _ = reply.send(Ok(self.run.memory.tombstones.values().cloned().collect()));
            }
            Command::Audit { reply } => {
                let _ = reply.send(Ok(self.timeline.changes()));
            }
            Command::Ledger { reply } => {
                let ready = self.ready().await;
                let _ = reply.send(ready.map(|()| self.export()));
            }
            Command::ComputeState { reply } => {
                let answer = self.look(Mode::Watch).await.map(|_| self.shared.state.borrow().clone());
                let _ = reply.send(answer.map_err(Into::into));
            }
            Command::Plan { reply } => {
                let _ = reply.send(self.propose().await);
            }
            Command::Apply { proposal, reply } => {
                let _ = reply.send(self.apply(&proposal, &by).await);
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

    pub(super) async fn leading_view(&self) -> Result<ClusterView, ClusterError> {
        let view = self.ports.view().await?;
        if view.is_leader && view.term == self.shared.term {
            return Ok(view);
        }
        Err(ClusterError::NotLeader { leader: view.leader })
    }

    /// Only a configuration that is committed may be decided on: another leader may still undo any other one and put a
    /// different one in its place, at the same index, and then the index would not tell them apart.
    fn settled(view: &ClusterView) -> Result<LogIndex, ClusterError> {
        let index = view.configuration_index;
        match view.configuration_committed && !view.configuration.is_joint() {
            true => Ok(index),
            false => Err(ClusterError::ChangeInProgress { index }),
        }
    }

    async fn add_server(&mut self, join: Join, by: &Actor) -> Result<AddServerOutcome, AddServerError> {
        let Join { id, address, wanted } = join;
        if wanted.is_err() {
            // It may have been removed under an earlier leader.
            self.ready().await?;
        }
        let view = self.leading_view().await?;
        let stone = self.run.memory.tombstones.get(&id);
        if let (Err(incarnation), Some(stone)) = (wanted, stone)
            && view.configuration.server(&id).is_none()
            && stone.holds(incarnation)
        {
            return Err(AddServerError::Removed { tombstone: Box::new(stone.clone()) });
        }
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
        let mut index = Self::settled(&view)?;
        let mut removed = Vec::new();
        let partly = |removed: &[ServerId], source: ClusterError| match removed {
            [] => source.into(),
            _ => AddServerError::PartlyDone { removed: removed.to_vec(), source },
        };
        for other in removals {
            index = self.remove(&other, index, by).await.map_err(|error| partly(&removed, error))?;
            removed.push(other);
        }
        let index = self.add(&id, address, as_voter, index).await.map_err(|error| partly(&removed, error))?;
        let what = match self.run.memory.tombstones.remove(&id) {
            Some(_) => EventKind::Readmitted,
            None => EventKind::Added,
        };
        self.tell_request(what, id, index, by);
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
        let id = id.clone();
        let change = self.ports.change(move |cluster| async move {
            let capabilities = cluster.capabilities();
            if !as_voter && !capabilities.nonvoters {
                return Err(ClusterError::Unsupported { what: "add members without a vote" });
            }
            let expected = expected(decided_on, capabilities);
            match as_voter {
                true => cluster.add_voter(id, address, expected).await,
                false => cluster.add_nonvoter(id, address, expected).await,
            }
        });
        change.await
    }

    fn tell_request(&mut self, what: EventKind, server: ServerId, index: LogIndex, by: &Actor) {
        let event = self.event(what, server, Reason::Requested);
        self.tell(Event { actor: by.clone(), index: Some(index), ..event });
    }

    async fn remove(
        &mut self,
        id: &ServerId,
        decided_on: LogIndex,
        by: &Actor,
    ) -> Result<LogIndex, ClusterError> {
        let server = id.clone();
        let change = self.ports.change(move |cluster| async move {
            cluster.remove_server(server, expected(decided_on, cluster.capabilities())).await
        });
        let index = change.await?;
        let incarnation = self.known_server(id).and_then(|server| server.incarnation);
        let (at, term, why) = (self.now(), self.shared.term, &Reason::Requested);
        self.run.memory.bury(id, &Performed { at, term, by, why, index: Some(index), incarnation });
        self.tell_request(EventKind::Removed, id.clone(), index, by);
        Ok(index)
    }

    async fn remove_server(&mut self, id: ServerId, by: &Actor) -> Result<LogIndex, RemoveServerError> {
        let view = self.leading_view().await?;
        if view.configuration.server(&id).is_none() {
            return Err(RemoveServerError::NotMember { id });
        }
        let index = self.remove(&id, Self::settled(&view)?, by).await?;
        self.refresh().await;
        Ok(index)
    }

    /// One removal a round, each decided on a fresh look, until nobody else may go.
    async fn remove_dead(&mut self, by: &Actor) -> Result<PruneReport, PruneError> {
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
            match self.execute(planned, plan.configuration_index, by).await {
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
