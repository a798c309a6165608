//! S11: compacted ≤ snapshot ≤ applied ≤ commit ≤ last, none of them and no term ever falls while a process lives.
//! S4, S14: a leader removes nothing, and nobody removes what is committed. S12: no hole before the log.

use raft::LogIndex;
use raft::core::{Role, Write};

use super::{Step, Verdict};
use crate::machine::Snapshot;

/// Judges one step.
///
/// # Errors
/// An index or a term that fell, or that passed another.
pub fn stepped(step: &Step<'_>) -> Verdict {
    let (core, before, server) = (step.core(), step.before, step.server());
    let id = &core.me().id;
    if core.term() < before.term.max(server.promised) {
        let highest = before.term.max(server.promised);
        return Err(format!("{id} falls from term {highest} to {}", core.term()));
    }
    if core.commit_index() < before.commit || core.applied_index() < before.applied {
        return Err(format!(
            "{id} falls from commit {} to {}, or from applied {} to {}",
            before.commit,
            core.commit_index(),
            before.applied,
            core.applied_index()
        ));
    }
    if core.applied_index() > core.commit_index() || core.commit_index() > core.last().index {
        return Err(format!(
            "{id} has applied {}, commit {}, last {}",
            core.applied_index(),
            core.commit_index(),
            core.last()
        ));
    }
    if core.last() != server.log.last() {
        return Err(format!(
            "{id} says its log ends at {}, its writes say {}",
            core.last(),
            server.log.last()
        ));
    }
    let base = server.log.base;
    // A server that a restore left behind may hold newer snapshots of the others that end earlier.
    let holds =
        |snapshot: &Snapshot| snapshot.meta.last.index >= base.index || snapshot.meta.last.term > base.term;
    if base.index > LogIndex::ZERO && !server.disk.snapshots.iter().any(holds) {
        return Err(format!("{id} compacts through {base}, which no snapshot of its holds"));
    }
    Ok(())
}

/// Judges a write.
///
/// # Errors
/// It removes committed entries, a leader's own, or what follows a snapshot.
pub fn writes(step: &Step<'_>, write: &Write) -> Verdict {
    let (core, before) = (step.core(), step.before);
    let id = &core.me().id;
    if let Some(base) = write.reset_to
        && step.server().log.term_at(base.index) == Some(base.term)
    {
        return Err(format!(
            "{id} drops its log for a snapshot of {base}, which it holds (figure 13, rule 6)"
        ));
    }
    let Some(from) = write.truncate_from else { return Ok(()) };
    if from <= before.commit {
        return Err(format!("{id} truncates from {from}, but {} is committed", before.commit));
    }
    if core.role() == Role::Leader && before.role == Role::Leader && core.term() == before.term {
        return Err(format!("{id} truncates its own log from {from} while it leads"));
    }
    Ok(())
}
