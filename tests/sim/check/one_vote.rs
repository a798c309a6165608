//! S2: a server votes for one candidate a term, over restarts, judged by what it sent; S3: durably so. One whose disk was lost or
//! came back older remembers nothing of it, and may vote once more.

use std::collections::BTreeMap;

use raft::{ServerId, Term};

use super::Verdict;
use crate::server::SimServer;

/// Who voted for whom.
#[derive(Debug, Default)]
pub struct OneVote {
    votes: BTreeMap<(ServerId, Term), BTreeMap<usize, ServerId>>,
}

impl OneVote {
    /// Whether this vote was given.
    #[must_use]
    pub fn has(&self, voter: &ServerId, term: Term, candidate: &ServerId) -> bool {
        let given = self.votes.get(&(voter.clone(), term));
        given.is_some_and(|given| given.values().any(|to| to == candidate))
    }

    /// A vote leaves its voter, or a candidate asks others for theirs and so has voted for itself.
    ///
    /// # Errors
    /// A second candidate in one term, or a vote that a crash would undo.
    pub fn votes(&mut self, server: &SimServer, term: Term, candidate: &ServerId) -> Verdict {
        let (voter, durable) = (&server.peer.id, &server.disk.hard_state);
        let given = self.votes.entry((voter.clone(), term)).or_default();
        let first = given.entry(server.past.len()).or_insert_with(|| candidate.clone());
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
