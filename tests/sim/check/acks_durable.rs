//! S10: a success says what is durable. S3: nothing that was said is undone by a crash.

use raft::core::{Request, Response};
use raft::{EntryId, Term};

use super::Verdict;
use crate::server::{Received, SimServer};

/// Judges an answer at the moment when it leaves a server that was in this term already.
///
/// # Errors
/// An answer that promises more than the disk holds, or that speaks for a term which is over (R18).
pub fn answers(server: &SimServer, term: Term, received: &Received, response: &Response) -> Verdict {
    let id = &server.peer.id;
    let disk = &server.disk;
    // What the snapshot or the log implies counts: nobody can have written it in an older term.
    let implied = disk.log.last().term.max(disk.newest().map_or(Term(0), |snapshot| snapshot.meta.last.term));
    let durable_term = disk.hard_state.term.max(implied);
    if let Some(term) = response.term()
        && term > durable_term
    {
        return Err(format!("{id} answers in term {term}, but its disk holds term {durable_term}"));
    }
    if !matches!(response, Response::PreVote { .. }) && response.term().is_some_and(|spoken| spoken < term) {
        return Err(format!("{id} is in term {term} and still answers in an older one: {response:?}"));
    }
    match (&received.request, response) {
        (Request::Append { prev, entries, .. }, Response::Append { success: true, .. }) => {
            let held = |entry: EntryId| {
                disk.log.holds(entry) || disk.newest().is_some_and(|s| s.meta.last.index >= entry.index)
            };
            let missing = entries.iter().map(|entry| entry.id).chain([*prev]).find(|entry| !held(*entry));
            missing.map_or(Ok(()), |entry| {
                Err(format!("{id} acknowledges {entry}, but its disk ends at {}", disk.log.last()))
            })
        }
        (Request::InstallSnapshot { meta, .. }, Response::InstallSnapshot { success: true, .. }) => {
            let held = disk.newest().is_some_and(|s| s.meta.last.index >= meta.last.index);
            if held || disk.log.holds(meta.last) {
                return Ok(());
            }
            Err(format!("{id} acknowledges a snapshot of {} that its disk does not hold", meta.last))
        }
        _ => Ok(()),
    }
}
