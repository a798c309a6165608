//! S5: entries with the same term and index are the same, and so is everything before them.

use std::collections::BTreeMap;

use raft::EntryId;
use raft::core::Write;

use super::{Step, Verdict};
use crate::machine::fingerprint;

/// For every entry ever written: what it holds and which entry stands before it. Equal for all who write it, so by
/// induction the prefixes are equal.
#[derive(Debug, Default)]
pub struct LogMatching {
    entries: BTreeMap<EntryId, (u64, EntryId)>,
}

impl LogMatching {
    /// Judges a write.
    ///
    /// # Errors
    /// An entry that differs from another server's under the same id.
    pub fn writes(&mut self, step: &Step<'_>, write: &Write) -> Verdict {
        let Some(first) = write.entries.first() else { return Ok(()) };
        let log = &step.server().log;
        let before = first.id.index.previous();
        let mut previous = match write.reset_to {
            Some(base) => base,
            None => EntryId { term: log.term_at(before).unwrap_or_default(), index: before },
        };
        for entry in &write.entries {
            let here = (fingerprint(entry), previous);
            let known = *self.entries.entry(entry.id).or_insert(here);
            if known != here {
                let id = &step.server().peer.id;
                return Err(format!(
                    "{id} holds entry {} after {previous}; elsewhere it is another or follows {}",
                    entry.id, known.1
                ));
            }
            previous = entry.id;
        }
        Ok(())
    }
}
