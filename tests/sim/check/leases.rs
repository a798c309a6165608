//! L1: in true time at most one server holds a valid lease. L2: while one holds it, nobody else begins to lead in a newer
//! term or commits anything new. Clocks are as fast and slow as the configuration allows.

use raft::Time;
use raft::core::RaftCore;

use super::commit::Commit;
use super::{Step, Verdict};
use crate::server::SimServer;

/// Whether a server believes now, by its own clock, that nobody else can lead.
#[must_use]
pub fn holds(server: &SimServer, now: Time) -> bool {
    let until = server.core.as_ref().and_then(RaftCore::lease);
    until.is_some_and(|until| server.clock.local(now) < until)
}

/// Judges one step, given how many entries were committed before it.
///
/// # Errors
/// A second lease, or a leader or a commit beside a lease.
pub fn stepped(step: &Step<'_>, committed_before: u64, commit: &Commit) -> Verdict {
    let core = step.core();
    let own = holds(step.server(), step.now);
    let (begins, commits) = (step.begins_to_lead(), commit.len() > committed_before);
    if !(own || begins || commits) {
        return Ok(());
    }
    let others = step.servers.iter().enumerate().filter(|(node, _)| *node != step.node);
    for (_, other) in others.filter(|(_, other)| holds(other, step.now)) {
        let Some(theirs) = &other.core else { continue };
        // A candidate of an older term may yet win it: it can commit nothing, and has no lease.
        let does = match () {
            () if own => "holds a lease",
            () if commits => "commits",
            () if begins && core.term() > theirs.term() => "begins to lead",
            () => continue,
        };
        return Err(format!(
            "{} {does} in term {}, while {} holds a lease in term {}",
            core.me().id,
            core.term(),
            other.peer.id,
            theirs.term()
        ));
    }
    Ok(())
}
