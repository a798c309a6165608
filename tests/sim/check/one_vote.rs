//! S2: a server votes for one candidate a term, over restarts, judged by what it sent; S3: durably so.

use std::collections::BTreeMap;

use raft::core::HardState;
use raft::{ServerId, Term};

use super::Verdict;

/// Who voted for whom.
#[derive(Debug, Default)]
pub struct OneVote {
    votes: BTreeMap<(ServerId, Term), ServerId>,
}

impl OneVote {
    /// Whether this vote was given.
    #[must_use]
    pub fn has(&self, voter: &ServerId, term: Term, candidate: &ServerId) -> bool {
        self.votes.get(&(voter.clone(), term)) == Some(candidate)
    }

    /// A vote leaves its voter, or a candidate asks others for theirs and so has voted for itself.
    ///
    /// # Errors
    /// A second candidate in one term, or a vote that a crash would undo.
    pub fn votes(
        &mut self,
        voter: &ServerId,
        term: Term,
        candidate: &ServerId,
        durable: &HardState,
    ) -> Verdict {
        let first = self.votes.entry((voter.clone(), term)).or_insert_with(|| candidate.clone());
        if first != candidate {
            return Err(format!("{voter} votes for {first} and for {candidate} in term {term}"));
        }
        let kept =
            durable.term > term || (durable.term == term && durable.voted_for.as_ref() == Some(candidate));
        if !kept {
            return Err(format!(
                "{voter} votes for {candidate} in term {term}, but its disk holds {durable:?}"
            ));
        }
        Ok(())
    }
}
