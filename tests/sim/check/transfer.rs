//! L01, L02: leadership is handed to a voter that holds everything, and nothing is appended meanwhile.

use raft::core::{Peer, RaftCore, Role};

use super::Verdict;

/// Judges TimeoutNow when it leaves. A leader that has just lost its vote hands over to the best there is.
///
/// # Errors
/// The target may not lead, or lacks entries.
pub fn tells(core: &RaftCore, to: &Peer) -> Verdict {
    let me = &core.me().id;
    if !core.configuration().is_voter(&to.id) {
        return Err(format!("{me} hands over to {}, which has no vote", to.id));
    }
    let matched = core.follower(&to.id).map(|view| view.matched);
    if core.role() == Role::Leader && matched != Some(core.last()) {
        return Err(format!(
            "{me} ends at {} and hands over to {}, which holds {matched:?}",
            core.last(),
            to.id
        ));
    }
    Ok(())
}
