//! S8: the committed list only grows, and nobody's differs. S9: what is committed is durable on a quorum, while
//! joint on one of each set of voters, and the last entry of what a leader commits is of its own term.

use raft::core::Role;
use raft::{Configuration, EntryId, LogIndex, Term};

use super::membership::is_quorum;
use super::{Step, Verdict};

/// Every committed entry.
#[derive(Debug, Default)]
pub struct Commit {
    list: Vec<EntryId>,
    /// The term of the leader that committed it; never falls along the list.
    by: Vec<Term>,
}

impl Commit {
    /// The newest committed entry.
    #[must_use]
    pub fn last(&self) -> Option<EntryId> {
        self.list.last().copied()
    }

    /// The newest entry that was committed by a leader of an earlier term than this.
    #[must_use]
    pub fn before(&self, term: Term) -> Option<EntryId> {
        let count = self.by.partition_point(|by| *by < term);
        count.checked_sub(1).map(|last| self.list[last])
    }

    /// How many are committed.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.list.len() as u64
    }

    /// Whether nothing is committed yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Judges one step.
    ///
    /// # Errors
    /// A server commits another entry than was committed before, or too early.
    pub fn stepped(&mut self, step: &Step<'_>) -> Verdict {
        let core = step.core();
        let known = self.len();
        let log = &step.server().log;
        for index in step.before.commit.0.max(log.base.index.0) + 1..=core.commit_index().0 {
            let position = usize::try_from(index - 1).expect("a run has few entries");
            let Some(term) = log.term_at(LogIndex(index)) else {
                return Err(format!("{} commits {index}, which it does not hold", core.me().id));
            };
            let id = EntryId { term, index: LogIndex(index) };
            match self.list.get(position) {
                Some(first) if *first != id => {
                    return Err(format!("{} commits {id}, but {first} was committed", core.me().id));
                }
                Some(_) => {}
                None if position > self.list.len() => {
                    return Err(format!(
                        "{} commits {id}, but the list ends at {}",
                        core.me().id,
                        self.list.len()
                    ));
                }
                None => self.list.push(id),
            }
        }
        for (through, in_force) in &step.commits {
            if through.0 > known {
                self.newly_committed(step, *through, core.configuration_at(*in_force).1)?;
            }
        }
        if self.by.len() < self.list.len() {
            return Err(format!("{} commits through {} without a word", core.me().id, core.commit_index()));
        }
        Ok(())
    }

    fn newly_committed(
        &mut self,
        step: &Step<'_>,
        through: LogIndex,
        configuration: &Configuration,
    ) -> Verdict {
        let core = step.core();
        let count = usize::try_from(through.0).expect("a run has few entries");
        let last = self.list[count - 1];
        // A leader that commits its own removal has stepped down when the step ends.
        let term = match (core.role(), step.before.role) {
            (Role::Leader, _) => core.term(),
            (_, Role::Leader) => step.before.term,
            _ => return Err(format!("{} commits {last} first, but does not lead", core.me().id)),
        };
        self.by.resize(count, term);
        if last.term != term {
            return Err(format!("{} commits {last} by counting in term {term} (figure 8)", core.me().id));
        }
        let durable = |id: &raft::ServerId| {
            step.servers.iter().any(|server| {
                let disk = &server.disk;
                let stored = disk.newest().is_some_and(|snapshot| snapshot.meta.last >= last);
                // One whose disk is gone may have acknowledged it before.
                server.peer.id == *id && (stored || disk.log.holds(last) || server.forgot)
            })
        };
        if !is_quorum(configuration, durable) {
            let holders = configuration.everyone().filter(|server| durable(&server.id));
            let holders: Vec<&str> = holders.map(|server| server.id.as_str()).collect();
            return Err(format!(
                "{} commits {last}, which is durable on {holders:?} only, under {configuration:?}",
                core.me().id,
            ));
        }
        Ok(())
    }
}
