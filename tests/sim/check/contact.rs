//! E14: a leader that no quorum of voters has answered steps down in time. L05: an answer proves contact at the moment when
//! its request left, not when it came. So a read is confirmed by answers of a quorum to what left after the read came, and
//! a lease lasts from when what a quorum answered left.

use std::collections::BTreeMap;
use std::time::Duration;

use raft::core::{RaftCore, ReplyToken, RequestId, Role, Sequence};
use raft::{LogIndex, ServerId, Term, Time};

use super::membership::is_quorum;
use super::{Step, Verdict};
use crate::server::{Seen, SimServer};

/// When which request left, and whose answers came.
#[derive(Debug, Default)]
pub struct Contact {
    asked: BTreeMap<(usize, u64, Sequence), (usize, Sent)>,
    /// For each leader and follower, when the newest answered request left.
    heard: BTreeMap<(usize, usize), Sent>,
    /// When each read came to the server that is asked.
    reads: BTreeMap<RequestId, Time>,
    /// When a follower's request for a read index came to its leader.
    read_indexes: BTreeMap<ReplyToken, Time>,
    /// Since when each server leads with its present configuration: members count as heard then.
    since: BTreeMap<usize, (Term, LogIndex, Time)>,
}

/// When a request left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Sent {
    /// In true time.
    pub at: Time,
    /// By its sender's clock.
    pub shown: Time,
}

impl Contact {
    /// A request leaves.
    pub fn asks(&mut self, node: usize, epoch: u64, sequence: Sequence, to: usize, sent: Sent) {
        self.asked.insert((node, epoch, sequence), (to, sent));
    }

    /// A read comes to a server.
    pub fn reads(&mut self, request: RequestId, now: Time) {
        self.reads.insert(request, now);
    }

    /// Judges a read that a leader says is confirmed.
    ///
    /// # Errors
    /// No quorum has answered anything that left after the read came.
    pub fn confirmed(
        &mut self,
        (node, before): (usize, Seen),
        core: &RaftCore,
        servers: &[SimServer],
        request: RequestId,
    ) -> Verdict {
        let came = self.reads.remove(&request);
        // Where it does not lead, its leader confirmed the read, and was judged when it said so.
        let came = came.filter(|_| core.role() == Role::Leader);
        came.map_or(Ok(()), |came| self.confirmed_since((node, before), core, servers, came))
    }

    /// A follower asks a server for a read index.
    pub fn read_index(&mut self, reply: ReplyToken, now: Time) {
        self.read_indexes.insert(reply, now);
    }

    /// Judges a leader that gives a follower a read index.
    ///
    /// # Errors
    /// As for its own clients.
    pub fn gives_read_index(
        &mut self,
        (node, before): (usize, Seen),
        core: &RaftCore,
        servers: &[SimServer],
        reply: ReplyToken,
    ) -> Verdict {
        let came = self.read_indexes.remove(&reply);
        came.map_or(Ok(()), |came| self.confirmed_since((node, before), core, servers, came))
    }

    fn confirmed_since(
        &self,
        asked: (usize, Seen),
        core: &RaftCore,
        servers: &[SimServer],
        came: Time,
    ) -> Verdict {
        if self.answered_by_quorum(asked, core, servers, |sent| sent.at >= came) {
            return Ok(());
        }
        let sentence = "confirms a read, though no quorum answered anything that left after it came";
        Err(format!("{} {sentence}: {:?}", core.me().id, core.configuration()))
    }

    /// Judges a lease that a leader says ends then, by its clock.
    ///
    /// # Errors
    /// What a quorum has answered left too long before.
    pub fn leased(
        &self,
        asked: (usize, Seen),
        core: &RaftCore,
        servers: &[SimServer],
        until: Time,
        lasts: Duration,
    ) -> Verdict {
        if self.answered_by_quorum(asked, core, servers, |sent| sent.shown + lasts >= until) {
            return Ok(());
        }
        let sentence = "holds a lease until then, but what a quorum answered left too long before";
        Err(format!("{} {sentence}: {until}, {:?}", core.me().id, core.configuration()))
    }

    /// By the configuration in force, or the one that was when the step began: a step that ends one change can confirm a
    /// read by it and then begin the next change.
    fn answered_by_quorum(
        &self,
        (node, before): (usize, Seen),
        core: &RaftCore,
        servers: &[SimServer],
        enough: impl Fn(Sent) -> bool,
    ) -> bool {
        let answered = |id: &ServerId| {
            let other = servers.iter().position(|server| server.peer.id == *id);
            let heard = other.and_then(|other| self.heard.get(&(node, other)));
            *id == core.me().id || heard.is_some_and(|sent| enough(*sent))
        };
        let (_, earlier) = core.configuration_at(before.configuration);
        is_quorum(core.configuration(), answered) || is_quorum(earlier, answered)
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
        let recent = |id: &ServerId| {
            let other = step.servers.iter().position(|server| server.peer.id == *id);
            let heard = other.and_then(|other| self.heard.get(&(node, other))).map(|sent| sent.at);
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
