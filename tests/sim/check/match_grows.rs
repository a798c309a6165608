//! R09, S16: what a leader knows to be durable at a follower does not shrink while it leads.

use std::collections::BTreeMap;

use raft::core::Role;
use raft::{EntryId, Incarnation, Term};

use super::{Step, Verdict};

/// The newest match index of each leader and follower.
#[derive(Debug, Default)]
pub struct MatchGrows {
    known: BTreeMap<(usize, usize), (Term, EntryId, Option<Incarnation>)>,
}

impl MatchGrows {
    /// Judges one step.
    ///
    /// # Errors
    /// A match index fell.
    pub fn stepped(&mut self, step: &Step<'_>) -> Verdict {
        let (core, node) = (step.core(), step.node);
        if core.role() != Role::Leader {
            return Ok(());
        }
        for (other, server) in step.servers.iter().enumerate() {
            let Some(view) = core.follower(&server.peer.id) else {
                self.known.remove(&(node, other));
                continue;
            };
            let known = self.known.insert((node, other), (core.term(), view.matched, view.incarnation));
            if let Some((term, matched, incarnation)) = known
                && term == core.term()
                && incarnation == view.incarnation
                && matched.index > view.matched.index
            {
                return Err(format!(
                    "{} knew that {} holds {matched}, and now believes {}",
                    core.me().id,
                    server.peer.id,
                    view.matched
                ));
            }
        }
        Ok(())
    }
}
