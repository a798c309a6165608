//! L3: a linearizable read sees everything that was acknowledged before it began.

use raft::{EntryId, LogIndex, Time};

use super::Verdict;
use super::commit::Commit;

/// The newest index that a client saw applied, by an acknowledgement or by a read.
#[derive(Debug, Default)]
pub struct Reads {
    newest: LogIndex,
}

impl Reads {
    /// What a read that begins now must see.
    #[must_use]
    pub const fn floor(&self) -> LogIndex {
        self.newest
    }

    /// A client saw this index applied.
    pub fn saw(&mut self, index: LogIndex) {
        self.newest = self.newest.max(index);
    }

    /// A read that was asked for then is answered from a state of this history.
    ///
    /// # Errors
    /// No quorum has that state, or a snapshot from outside had taken its place before.
    pub fn served(who: &str, history: EntryId, began: Time, commit: &Commit) -> Verdict {
        if !commit.is_decided(history) {
            return Err(format!("{who} serves a read from the restore {history}, which no quorum has"));
        }
        match commit.ended(history) {
            Some(ended) if ended < began => {
                Err(format!("{who} serves a read from the history of {history}, which was over at {ended}"))
            }
            _ => Ok(()),
        }
    }

    /// A read was confirmed.
    ///
    /// # Errors
    /// It misses what was acknowledged before it began.
    pub fn read(&mut self, who: &str, floor: LogIndex, index: LogIndex) -> Verdict {
        if index < floor {
            return Err(format!("{who} serves a read at {index}, but {floor} was seen before it began"));
        }
        Ok(())
    }
}
