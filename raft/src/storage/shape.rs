//! Which writes fit a log: the rules that every log store shares.

use raft_types::{EntryId, LogIndex};

use crate::core::{HardState, Write};

/// Terms and indexes from here on are damage, as they are on the wire: no cluster gets there, and arithmetic on what is below
/// cannot overflow.
pub(super) const NUMBER_LIMIT: u64 = 1 << 63;

/// What a log store must remember of its log to judge the next write.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Shape {
    pub(super) hard_state: HardState,
    pub(super) base: EntryId,
    pub(super) last: LogIndex,
    pub(super) commit: LogIndex,
}

impl Shape {
    /// The shape after this write.
    ///
    /// # Errors
    /// A sentence about what does not fit: a gap, or the removal of what was compacted.
    pub(super) fn after(mut self, write: &Write) -> Result<Self, String> {
        if let Some(hard_state) = &write.hard_state {
            if hard_state.term < self.hard_state.term {
                return Err(format!("term {} after term {}", hard_state.term, self.hard_state.term));
            }
            self.hard_state.clone_from(hard_state);
        }
        if let Some(base) = write.reset_to {
            self.base = base;
            self.last = base.index;
            self.commit = LogIndex::ZERO;
        }
        if let Some(from) = write.truncate_from {
            if from <= self.base.index {
                return Err(format!("cannot remove entries from {from} on: compacted through {}", self.base));
            }
            self.last = self.last.min(from.previous());
        }
        for entry in &write.entries {
            if entry.id.index != self.last.next() {
                return Err(format!("entry {} does not follow index {}", entry.id, self.last));
            }
            self.last = entry.id.index;
        }
        if let Some(through) = write.compact_through
            && through.index > self.base.index
        {
            self.base = through;
            self.last = self.last.max(through.index);
        }
        self.commit = self.commit.max(write.commit.unwrap_or_default());
        Ok(self)
    }
}
