//! L1: in true time at most one server holds a valid lease. L2: while one holds it, nobody leads in a newer term or commits
//! anything new. Clocks are as fast and slow as the configuration allows.

use raft::Time;
use raft::core::{RaftCore, Role};

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
    let (core, server) = (step.core(), step.server());
    let (own, leads) = (holds(server, step.now), core.role() == Role::Leader);
    let commits = commit.len() > committed_before;
    if !(own || leads || commits) {
        return Ok(());
    }
    for other in step.servers.iter().filter(|other| other.peer != server.peer) {
        let Some(theirs) = &other.core else { continue };
        let held = holds(other, step.now);
        // A candidate of an older term may yet win it: it can commit nothing, and has no lease.
        let (holder, does, who) = match () {
            () if own && held => (other, "holds a lease", core),
            () if held && commits => (other, "commits", core),
            () if held && leads && core.term() > theirs.term() => (other, "leads", core),
            () if own && theirs.role() == Role::Leader && theirs.term() > core.term() => {
                (server, "leads", theirs)
            }
            () => continue,
        };
        return Err(format!(
            "{} {does} in term {}, while {} holds a lease",
            who.me().id,
            who.term(),
            holder.peer.id
        ));
    }
    Ok(())
}
