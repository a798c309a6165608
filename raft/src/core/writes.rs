//! What was asked of the disk and what is known to be durable; holds effects back until what they rest on is.

use std::collections::{BTreeMap, VecDeque};

use raft_types::{LogIndex, Time};

use super::io::{Effect, Write, WriteId};
use super::mutant::{Mutant, Mutation};

#[derive(Debug)]
struct InFlight {
    id: WriteId,
    since: Time,
    /// The last index on disk once this write is done.
    last: LogIndex,
}

/// One per core. Between `pending` being filled and [`Writes::flush`], everything belongs to the next write.
#[derive(Debug)]
pub(super) struct Writes {
    next: WriteId,
    pending: Option<Write>,
    in_flight: VecDeque<InFlight>,
    done: WriteId,
    durable: LogIndex,
    hard_state: WriteId,
    entries: WriteId,
    held: BTreeMap<WriteId, Vec<Effect>>,
    /// The commit index that the newest write carries.
    commit: LogIndex,
    mutation: Mutation,
}

impl Writes {
    pub(super) const fn new(durable: LogIndex, mutation: Mutation) -> Self {
        Self {
            next: WriteId(1),
            pending: None,
            in_flight: VecDeque::new(),
            done: WriteId(0),
            durable,
            hard_state: WriteId(0),
            entries: WriteId(0),
            held: BTreeMap::new(),
            commit: LogIndex::ZERO,
            mutation,
        }
    }

    /// The write being put together.
    pub(super) fn pending(&mut self) -> &mut Write {
        let id = self.next;
        self.pending.get_or_insert_with(|| Write { id, ..Write::default() })
    }

    /// Says that the pending write changes term or vote.
    pub(super) const fn mark_hard_state(&mut self) {
        self.hard_state = self.next;
    }

    /// Says that the pending write changes the log from `from` on: nothing there is durable any more, whatever writes
    /// on their way say when they are done (catalogue R04).
    pub(super) fn mark_entries(&mut self, from: LogIndex) {
        self.entries = self.next;
        if self.mutation.is(Mutant::OldCompletionCounts) {
            return;
        }
        self.durable = self.durable.min(from.previous());
        for write in &mut self.in_flight {
            write.last = write.last.min(from.previous());
        }
    }

    /// The log was replaced by a snapshot, which is durable itself.
    pub(super) fn mark_reset(&mut self, to: LogIndex) {
        self.entries = self.next;
        self.durable = to;
        self.commit = LogIndex::ZERO;
        for write in &mut self.in_flight {
            write.last = to;
        }
    }

    /// Closes the pending write. `last` is the log's last index now, `commit` its commit index.
    pub(super) fn flush(&mut self, now: Time, last: LogIndex, commit: LogIndex) -> Option<Write> {
        let mut write = self.pending.take()?;
        let commit = if self.mutation.is(Mutant::RemembersTooMuch) { last } else { commit };
        write.commit = (commit > self.commit).then_some(commit);
        self.commit = self.commit.max(commit);
        self.in_flight.push_back(InFlight { id: write.id, since: now, last });
        self.next = WriteId(self.next.0 + 1);
        Some(write)
    }

    /// Everything up to `through` is durable. Returns what waited for it, in order.
    pub(super) fn persisted(&mut self, through: WriteId) -> Vec<Effect> {
        while let Some(write) = self.in_flight.front()
            && write.id <= through
        {
            self.durable = write.last.max(self.durable);
            self.done = write.id;
            self.in_flight.pop_front();
        }
        let later = self.held.split_off(&WriteId(self.done.0 + 1));
        std::mem::replace(&mut self.held, later).into_values().flatten().collect()
    }

    /// The last index known to be durable.
    pub(super) const fn durable(&self) -> LogIndex {
        self.durable
    }

    pub(super) fn hard_state_durable(&self) -> bool {
        self.hard_state <= self.done
    }

    /// When the oldest unfinished write was asked for.
    pub(super) fn oldest(&self) -> Option<Time> {
        self.in_flight.front().map(|write| write.since)
    }

    /// Releases `effect` once term and vote are durable; returns it if they are.
    pub(super) fn after_hard_state(&mut self, effect: Effect) -> Option<Effect> {
        self.after(self.hard_state, effect)
    }

    /// Releases `effect` once term, vote and the log through `index` are durable; returns it if they are.
    pub(super) fn after_entries(&mut self, index: LogIndex, effect: Effect) -> Option<Effect> {
        let entries = if index > self.durable { self.entries } else { WriteId(0) };
        self.after(entries.max(self.hard_state), effect)
    }

    fn after(&mut self, write: WriteId, effect: Effect) -> Option<Effect> {
        if write <= self.done {
            return Some(effect);
        }
        self.held.entry(write).or_default().push(effect);
        None
    }

    /// Takes back everything that waits, in order.
    pub(super) fn take_held(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.held).into_values().flatten().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::ReplyToken;

    fn probe(n: u64) -> Effect {
        Effect::Ignore { reply: ReplyToken(n) }
    }

    #[test]
    fn a_completion_that_comes_after_a_truncation_makes_nothing_durable_above_it() {
        let mut writes = Writes::new(LogIndex(9), Mutation::default());
        writes.pending();
        writes.mark_entries(LogIndex(10));
        writes.flush(Time::ZERO, LogIndex(15), LogIndex::ZERO);
        writes.pending();
        writes.mark_entries(LogIndex(11));
        writes.flush(Time::ZERO, LogIndex(11), LogIndex::ZERO);
        writes.persisted(WriteId(1));
        assert_eq!(writes.durable(), LogIndex(10));
        writes.persisted(WriteId(2));
        assert_eq!(writes.durable(), LogIndex(11));
    }

    #[test]
    fn effects_wait_for_the_write_they_rest_on() {
        let mut writes = Writes::new(LogIndex(0), Mutation::default());
        writes.pending();
        writes.mark_hard_state();
        assert!(writes.after_hard_state(probe(1)).is_none());
        writes.flush(Time::ZERO, LogIndex(0), LogIndex::ZERO);
        writes.pending();
        writes.mark_entries(LogIndex(1));
        assert!(writes.after_entries(LogIndex(1), probe(2)).is_none());
        writes.flush(Time::ZERO, LogIndex(1), LogIndex::ZERO);
        assert_eq!(writes.persisted(WriteId(1)).len(), 1);
        assert!(writes.after_hard_state(probe(3)).is_some());
        assert_eq!(writes.persisted(WriteId(2)).len(), 1);
        assert!(writes.after_entries(LogIndex(1), probe(4)).is_some());
    }
}
