//! S16: a leader believes no more of a follower than the follower's disk holds, and tracks members only.

use raft::core::Role;

use super::{Step, Verdict};

/// Judges one step of the leader of the newest term.
///
/// # Errors
/// A match index above what is durable there.
pub fn stepped(step: &Step<'_>) -> Verdict {
    let core = step.core();
    if core.role() != Role::Leader {
        return Ok(());
    }
    for server in step.servers {
        let Some(view) = core.follower(&server.peer.id) else { continue };
        if core.configuration().server(&server.peer.id).is_none() {
            return Err(format!("{} tracks {}, which is no member", core.me().id, server.peer.id));
        }
        let disk = &server.disk;
        // A follower that has moved on to a newer term may have dropped what it acknowledged.
        if disk.hard_state.term > core.term() || server.highest_term > core.term() {
            continue;
        }
        let stored = disk.newest().map_or(raft::LogIndex::ZERO, |snapshot| snapshot.meta.last.index);
        // Of a disk that is gone it remembers what that one held.
        let before = server.past.iter().filter(|past| Some(past.life) == view.incarnation);
        let before = before.map(|past| past.log.last().index.max(past.snapshot.index)).max();
        let durable = disk.log.last().index.max(stored).max(before.unwrap_or_default());
        if view.matched.index > durable {
            return Err(format!(
                "{} believes that {} holds {}, its disk ends at {durable}",
                core.me().id,
                server.peer.id,
                view.matched
            ));
        }
    }
    Ok(())
}
