//! The log as the core sees it: everything after the last compaction, in memory.
//!
//! Entries are dropped only behind a durable snapshot, so the core never waits for the disk to read. What of it is
//! durable is kept in [`super::writes`].

use std::collections::VecDeque;

use raft_types::{EntryId, LogIndex, Term};

use super::message::Entry;

#[derive(Debug)]
pub(super) struct Log {
    /// The entry before the first one here: zero, or the last one compacted.
    base: EntryId,
    entries: VecDeque<Entry>,
    bytes: usize,
}

impl Log {
    pub(super) fn new(base: EntryId, entries: Vec<Entry>) -> Self {
        let bytes = entries.iter().map(Entry::size).sum();
        Self { base, entries: entries.into(), bytes }
    }

    pub(super) const fn base(&self) -> EntryId {
        self.base
    }

    pub(super) fn last(&self) -> EntryId {
        self.entries.back().map_or(self.base, |entry| entry.id)
    }

    /// Bytes of all entries here.
    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// The term at an index; `None` before the base and after the end.
    pub(super) fn term_at(&self, index: LogIndex) -> Option<Term> {
        if index == self.base.index {
            return Some(self.base.term);
        }
        self.get(index).map(|entry| entry.id.term)
    }

    pub(super) fn get(&self, index: LogIndex) -> Option<&Entry> {
        let offset = index.0.checked_sub(self.base.index.0 + 1)?;
        self.entries.get(usize::try_from(offset).ok()?)
    }

    /// Entries from `from` through `through`, at most `count` of them, and no more than `bytes` beyond the first.
    pub(super) fn slice(&self, from: LogIndex, through: LogIndex, count: usize, bytes: usize) -> Vec<Entry> {
        let mut taken = Vec::new();
        let mut size = 0;
        let mut index = from;
        while index <= through && taken.len() < count {
            let Some(entry) = self.get(index) else { break };
            size += entry.size();
            if size > bytes && !taken.is_empty() {
                break;
            }
            taken.push(entry.clone());
            index = index.next();
        }
        taken
    }

    pub(super) fn iter_from(&self, from: LogIndex) -> impl Iterator<Item = &Entry> {
        let skip = from.0.saturating_sub(self.base.index.0 + 1);
        self.entries.iter().skip(usize::try_from(skip).unwrap_or(usize::MAX))
    }

    pub(super) fn push(&mut self, entry: Entry) {
        assert_eq!(entry.id.index, self.last().index.next(), "entries are consecutive");
        assert!(entry.id.term >= self.last().term, "terms never fall along the log");
        self.bytes += entry.size();
        self.entries.push_back(entry);
    }

    pub(super) fn truncate_from(&mut self, from: LogIndex) {
        assert!(from > self.base.index, "compacted entries are committed");
        while self.last().index >= from {
            let gone = self.entries.pop_back().expect("the last index is above the base");
            self.bytes -= gone.size();
        }
    }

    /// Drops the entries up to and including `index`, which must be here.
    pub(super) fn compact_through(&mut self, index: LogIndex) {
        while self.base.index < index {
            let gone = self.entries.pop_front().expect("only entries that are here are compacted");
            self.bytes -= gone.size();
            self.base = gone.id;
        }
    }

    pub(super) fn reset(&mut self, base: EntryId) {
        self.base = base;
        self.entries.clear();
        self.bytes = 0;
    }

    /// Where a leader should try next after `prev` did not match here: below every entry that cannot match, and never
    /// below `floor`, which is known to.
    ///
    /// The wire carries one index and no term, so whole terms are skipped at once: a leader needs at most one round a
    /// term (Raft paper, end of section 5.3).
    pub(super) fn conflict_hint(&self, prev: EntryId, floor: LogIndex) -> LogIndex {
        let here = self.term_at(prev.index);
        let mut index = prev.index.previous();
        match here {
            None => return self.last().index,
            Some(term) if term > prev.term => {
                while index > floor && self.term_at(index).is_some_and(|t| t > prev.term) {
                    index = index.previous();
                }
            }
            Some(term) => {
                while index > floor && self.term_at(index) == Some(term) {
                    index = index.previous();
                }
            }
        }
        index.max(floor)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::core::EntryKind;

    fn log(base: u64, terms: &[u64]) -> Log {
        let entries = terms
            .iter()
            .zip(base + 1..)
            .map(|(term, index)| Entry::new(EntryId::new(*term, index), EntryKind::Command, Bytes::new()))
            .collect();
        Log::new(EntryId::new(1, base), entries)
    }

    #[test]
    fn slices_hold_at_least_one_entry_and_stop_at_every_limit() {
        let log = log(2, &[1, 1, 2, 2]);
        let ids = |from, through, count, bytes| -> Vec<u64> {
            log.slice(LogIndex(from), LogIndex(through), count, bytes).iter().map(|e| e.id.index.0).collect()
        };
        assert_eq!(ids(3, 6, 9, 9999), [3, 4, 5, 6]);
        assert_eq!(ids(4, 6, 9, 0), [4]);
        assert_eq!(ids(4, 6, 2, 9999), [4, 5]);
        assert_eq!(ids(2, 6, 9, 9999), [0_u64; 0], "compacted entries are not here");
        assert_eq!(ids(7, 9, 9, 9999), [0_u64; 0]);
    }

    #[test]
    fn hints_skip_whole_terms() {
        let log = log(0, &[1, 1, 3, 3, 3, 5]);
        assert_eq!(log.conflict_hint(EntryId::new(9, 9), LogIndex(0)), LogIndex(6), "too short: the end");
        assert_eq!(
            log.conflict_hint(EntryId::new(4, 6), LogIndex(0)),
            LogIndex(5),
            "newer term: down to an older one"
        );
        assert_eq!(log.conflict_hint(EntryId::new(4, 5), LogIndex(0)), LogIndex(2), "older term: all of it");
        assert_eq!(
            log.conflict_hint(EntryId::new(4, 5), LogIndex(4)),
            LogIndex(4),
            "never below what is committed"
        );
    }

    #[test]
    fn compaction_and_truncation_keep_the_count_of_bytes() {
        let mut log = log(0, &[1, 1, 2, 2]);
        let one = log.bytes() / 4;
        log.compact_through(LogIndex(2));
        log.truncate_from(LogIndex(4));
        assert_eq!((log.base(), log.last(), log.bytes()), (EntryId::new(1, 2), EntryId::new(2, 3), one));
        assert_eq!(log.term_at(LogIndex(1)), None);
        assert_eq!(log.term_at(LogIndex(2)), Some(Term(1)));
    }
}
