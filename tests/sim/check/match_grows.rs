//! R09, S16: what a leader knows to be durable at a follower does not shrink while it leads.

use std::collections::{BTreeMap, BTreeSet};

use raft::core::Role;
use raft::{EntryId, Incarnation, Term};

use super::{Step, Verdict};

/// The newest match index of each leader and follower.
#[derive(Debug, Default)]
pub struct MatchGrows {
    known: BTreeMap<(usize, usize), (Term, EntryId, Option<Incarnation>)>,
    /// The lives of each follower that each leader has taken for over, and in which term.
    over: BTreeMap<(usize, usize), (Term, BTreeSet<Incarnation>)>,
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
            if let Some((term, _, Some(life))) = known
                && term == core.term()
                && view.incarnation != Some(life)
            {
                let (of, over) = self.over.entry((node, other)).or_insert((term, BTreeSet::new()));
                if *of != term {
                    (*of, *over) = (term, BTreeSet::new());
                }
                over.insert(life);
                if view.incarnation.is_none_or(|now| over.contains(&now)) {
                    let (me, now) = (&core.me().id, view.incarnation);
                    return Err(format!("{me} takes {} for {now:?} again, after {life:?}", server.peer.id));
                }
            }
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
