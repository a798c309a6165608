//! S6: whoever leads holds every entry that was committed in an earlier term.

use raft::core::Role;

use super::commit::Commit;
use super::{Step, Verdict};

/// Judges one step: a server that begins to lead, and a commit while another leads in a newer term.
///
/// # Errors
/// A leader that lacks a committed entry.
pub fn stepped(step: &Step<'_>, commit: &Commit) -> Verdict {
    let moved = step.core().commit_index() > step.before.commit;
    for (node, server) in step.servers.iter().enumerate() {
        let Some(core) = &server.core else { continue };
        let newly = node == step.node && step.begins_to_lead();
        if core.role() != Role::Leader || !(newly || moved) {
            continue;
        }
        // A deposed candidate may yet win an old term; it need not hold what newer terms committed.
        let Some(last) = commit.before(core.term()) else { continue };
        let history = server.machine.restored;
        let holds = if history == last.history {
            server.log.holds(last.id)
        } else {
            commit.supersedes(history, last)
        };
        if !holds {
            return Err(format!(
                "{} leads in term {} without the committed entry {}; its log ends at {}",
                server.peer.id,
                core.term(),
                last.id,
                server.log.last()
            ));
        }
    }
    Ok(())
}
