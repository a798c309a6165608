//! S6: whoever leads holds every entry that was committed in an earlier term.

use raft::core::Role;

use super::commit::Commit;
use super::{Step, Verdict};

/// Judges one step: a server that begins to lead, and a commit while another leads in a newer term.
///
/// # Errors
/// A leader that lacks a committed entry.
pub fn stepped(step: &Step<'_>, commit: &Commit) -> Verdict {
    let Some(last) = commit.last() else { return Ok(()) };
    let moved = step.core().commit_index() > step.before.commit;
    for (node, server) in step.servers.iter().enumerate() {
        let Some(core) = &server.core else { continue };
        let newly = node == step.node && step.begins_to_lead();
        if core.role() != Role::Leader || !(newly || (moved && core.term() > last.term)) {
            continue;
        }
        if !server.log.holds(last) {
            return Err(format!(
                "{} leads in term {} without the committed entry {last}; its log ends at {}",
                server.peer.id,
                core.term(),
                server.log.last()
            ));
        }
    }
    Ok(())
}
