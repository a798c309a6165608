//! S8: the committed list only grows, and nobody's differs. S9: what is committed is durable on a quorum, while
//! joint on one of each set of voters, and the last entry of what a leader commits is of its own term.

use std::collections::{BTreeMap, BTreeSet};

use raft::core::Role;
use raft::{Configuration, EntryId, LogIndex, Term, Time};

use super::membership::is_quorum;
use super::{Step, Verdict};

/// Every committed entry.
///
/// A snapshot from outside begins a history of its own, named by its entry; the first history is named zero. It counts once an
/// entry after it is committed. From then on nothing new is committed in the one before.
#[derive(Debug)]
pub struct Commit {
    /// In the order in which they were committed.
    list: Vec<Committed>,
    /// The term of the leader that committed it; never falls along the list.
    by: Vec<Term>,
    /// Where in the list each index of each history stands.
    places: BTreeMap<(EntryId, LogIndex), usize>,
    /// Which history each snapshot from outside would end.
    restores: BTreeMap<EntryId, EntryId>,
    /// Snapshots from outside that somebody was told to be the state of the cluster.
    promised: BTreeSet<EntryId>,
    /// The histories that counted one after the other, and since when.
    histories: Vec<(EntryId, Time)>,
}

/// A committed entry, and in which history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Committed {
    /// The entry.
    pub id: EntryId,
    /// The snapshot from outside with which its history began.
    pub history: EntryId,
}

impl Default for Commit {
    fn default() -> Self {
        Self {
            list: Vec::new(),
            by: Vec::new(),
            places: BTreeMap::new(),
            restores: BTreeMap::new(),
            promised: BTreeSet::new(),
            histories: vec![(EntryId::default(), Time::ZERO)],
        }
    }
}

impl Commit {
    /// The newest committed entry.
    #[must_use]
    pub fn last(&self) -> Option<EntryId> {
        self.list.last().map(|last| last.id)
    }

    /// The newest entry that was committed by a leader of an earlier term than this.
    #[must_use]
    pub fn before(&self, term: Term) -> Option<Committed> {
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

    /// A snapshot from outside may become the state of the cluster.
    pub fn restores(&mut self, history: EntryId, before: EntryId) {
        self.restores.insert(history, before);
    }

    /// Somebody is told that this snapshot from outside is the state of the cluster.
    pub fn promises(&mut self, history: EntryId) {
        self.promised.insert(history);
    }

    /// The history that counts now.
    #[must_use]
    pub fn history(&self) -> EntryId {
        self.histories.last().map_or_else(EntryId::default, |(history, _)| *history)
    }

    /// Whether a history counts, or did before another one took its place.
    #[must_use]
    pub fn is_decided(&self, history: EntryId) -> bool {
        self.histories.iter().any(|(known, _)| *known == history)
    }

    /// Since when a history counts no more; `None` for the present one.
    #[must_use]
    pub fn ended(&self, history: EntryId) -> Option<Time> {
        let at = self.histories.iter().position(|(known, _)| *known == history)?;
        self.histories.get(at + 1).map(|(_, since)| *since)
    }

    /// Whether whoever is in a history has an entry of another one behind it: a snapshot from outside took its place.
    #[must_use]
    pub fn supersedes(&self, history: EntryId, other: Committed) -> bool {
        let mut at = history;
        while let Some(before) = self.restores.get(&at) {
            if *before == other.history {
                return at.index > other.id.index;
            }
            at = *before;
        }
        false
    }

    /// Judges one step.
    ///
    /// # Errors
    /// A server commits another entry than was committed before, or too early.
    pub fn stepped(&mut self, step: &Step<'_>) -> Verdict {
        let core = step.core();
        let known = self.len();
        let log = &step.server().log;
        let history = step.server().machine.restored;
        for index in step.before.commit.0.max(log.base.index.0) + 1..=core.commit_index().0 {
            let Some(term) = log.term_at(LogIndex(index)) else {
                return Err(format!("{} commits {index}, which it does not hold", core.me().id));
            };
            let id = EntryId { term, index: LogIndex(index) };
            match self.places.get(&(history, id.index)).map(|place| self.list[*place].id) {
                Some(first) if first != id => {
                    return Err(format!("{} commits {id}, but {first} was committed", core.me().id));
                }
                Some(_) => {}
                None => {
                    self.comes_next(Committed { id, history }, step.now)
                        .map_err(|sentence| format!("{} commits {id}, but {sentence}", core.me().id))?;
                }
            }
        }
        for (through, in_force) in &step.commits {
            let count = self.places.get(&(history, *through)).map_or(0, |place| place + 1);
            if count as u64 > known {
                self.newly_committed(step, count, core.configuration_at(*in_force).1)?;
            }
        }
        if let Some(early) = self.promised.iter().find(|history| !self.is_decided(**history)) {
            return Err(format!("{} says that {early} is restored, which no quorum has", core.me().id));
        }
        if self.by.len() < self.list.len() {
            return Err(format!("{} commits through {} without a word", core.me().id, core.commit_index()));
        }
        Ok(())
    }

    /// An entry is committed that was not before.
    fn comes_next(&mut self, next: Committed, now: Time) -> Verdict {
        let present = self.history();
        let last = self.list.last().map_or(LogIndex::ZERO, |last| last.id.index);
        if next.history != present {
            let follows = self.restores.get(&next.history) == Some(&present);
            if !follows || self.is_decided(next.history) {
                return Err(format!("the history of {} is over, that of {present} counts", next.history));
            }
            if next.history.index <= last {
                return Err(format!("{} is not above the committed {last}", next.history));
            }
            self.histories.push((next.history, now));
        }
        let base = if next.history == present { last } else { next.history.index };
        if next.id.index != base.next() {
            return Err(format!("the list ends at {base}"));
        }
        self.places.insert((next.history, next.id.index), self.list.len());
        self.list.push(next);
        Ok(())
    }

    fn newly_committed(&mut self, step: &Step<'_>, count: usize, configuration: &Configuration) -> Verdict {
        let core = step.core();
        let Committed { id: last, history } = self.list[count - 1];
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
        // Answers of another life than the one that the configuration names count for nothing.
        let durable = |id: &raft::ServerId| {
            let named = configuration.voter_or_member(id).map(|server| server.incarnation);
            step.servers.iter().any(|server| {
                let disk = &server.disk;
                let stored = disk
                    .newest()
                    .is_some_and(|snapshot| snapshot.meta.last >= last && snapshot.state.restored == history);
                let present = Some(disk.hard_state.incarnation) == named && (stored || disk.log.lists(last));
                // One whose disk is gone may have acknowledged it before.
                let before = server.past.iter().any(|past| Some(past.life) == named && past.held(last));
                server.peer.id == *id && (present || before)
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
