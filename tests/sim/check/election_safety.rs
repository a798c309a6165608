//! S1: a term has at most one leader, ever. M7: it was elected by a quorum of voters, while joint of both
//! sets.

use std::collections::BTreeMap;

use raft::{ServerId, Term};

use super::membership::is_quorum;
use super::one_vote::OneVote;
use super::{Step, Verdict};

/// Who led in each term.
#[derive(Debug, Default)]
pub struct ElectionSafety {
    leaders: BTreeMap<Term, usize>,
}

impl ElectionSafety {
    /// How many terms had a leader.
    #[must_use]
    pub fn elections(&self) -> u64 {
        self.leaders.len() as u64
    }

    /// Judges one step.
    ///
    /// # Errors
    /// A second leader of a term, or a leader without a quorum of votes.
    pub fn stepped(&mut self, step: &Step<'_>, votes: &OneVote) -> Verdict {
        if !step.begins_to_lead() {
            return Ok(());
        }
        let (core, node) = (step.core(), step.node);
        let first = *self.leaders.entry(core.term()).or_insert(node);
        if first != node {
            let other = &step.servers[first].peer.id;
            return Err(format!("{other} and {} both lead in term {}", core.me().id, core.term()));
        }
        // Where nobody else is asked, the vote for itself is seen on the disk only.
        let own = &step.server().disk.hard_state;
        let own = own.term == core.term() && own.voted_for.as_ref() == Some(&core.me().id);
        let granted =
            |id: &ServerId| votes.has(id, core.term(), &core.me().id) || (own && *id == core.me().id);
        if !is_quorum(core.configuration(), granted) {
            let voters = core.configuration().everyone().filter(|server| granted(&server.id));
            let voters: Vec<&str> = voters.map(|server| server.id.as_str()).collect();
            return Err(format!(
                "{} leads in term {} with the votes of {voters:?} only, under {:?}",
                core.me().id,
                core.term(),
                core.configuration()
            ));
        }
        Ok(())
    }
}
