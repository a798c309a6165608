//! E14: a leader that no quorum of voters has answered steps down in time. L05: an answer proves contact at the moment when
//! its request left, not when it came.

use std::collections::BTreeMap;
use std::time::Duration;

use raft::core::{Role, Sequence};
use raft::{LogIndex, Term, Time};

use super::membership::is_quorum;
use super::{Step, Verdict};

/// When which request left, and whose answers came.
#[derive(Debug, Default)]
pub struct Contact {
    asked: BTreeMap<(usize, u64, Sequence), (usize, Time)>,
    /// For each leader and follower, when the newest answered request left.
    heard: BTreeMap<(usize, usize), Time>,
    /// Since when each server leads with its present configuration: members count as heard then.
    since: BTreeMap<usize, (Term, LogIndex, Time)>,
}

impl Contact {
    /// A request leaves.
    pub fn asks(&mut self, node: usize, epoch: u64, sequence: Sequence, to: usize, now: Time) {
        self.asked.insert((node, epoch, sequence), (to, now));
    }

    /// The sender does not wait for it any more.
    pub fn gives_up(&mut self, node: usize, epoch: u64, sequence: Sequence) {
        self.asked.remove(&(node, epoch, sequence));
    }

    /// An answer arrives.
    pub fn answered(&mut self, node: usize, epoch: u64, sequence: Sequence) {
        if let Some((to, sent)) = self.asked.remove(&(node, epoch, sequence)) {
            let newest = self.heard.entry((node, to)).or_insert(sent);
            *newest = sent.max(*newest);
        }
    }

    /// Judges one step; `bound` is how long a leader may go without a quorum.
    ///
    /// # Errors
    /// It leads on its own.
    pub fn stepped(&mut self, step: &Step<'_>, bound: Duration) -> Verdict {
        let (core, node, now) = (step.core(), step.node, step.now);
        if core.role() != Role::Leader {
            self.since.remove(&node);
            return Ok(());
        }
        let is = (core.term(), core.configuration_index());
        let since = self.since.entry(node).or_insert((is.0, is.1, now));
        if (since.0, since.1) != is {
            *since = (is.0, is.1, now);
        }
        let began = since.2;
        let recent = |id: &raft::ServerId| {
            let other = step.servers.iter().position(|server| server.peer.id == *id);
            let heard = other.and_then(|other| self.heard.get(&(node, other))).copied();
            *id == core.me().id || now.since(heard.unwrap_or(began).max(began)) <= bound
        };
        if is_quorum(core.configuration(), recent) {
            return Ok(());
        }
        Err(format!(
            "{} leads on, though no quorum of {:?} answered anything sent in the last {bound:?}",
            core.me().id,
            core.configuration()
        ))
    }
}
