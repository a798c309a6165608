//! Everything about a server at a glance, for whoever drives a core of their own.

use std::collections::BTreeMap;

use raft_types::{Configuration, EntryId, Incarnation, LogIndex, ServerId, Time};

use super::io::{HardState, Peer, Role, Sequence};
use super::progress::{Mode, Progress};
use super::role::RoleState;
use super::{RaftCore, SnapshotMeta};

/// A server's state at a moment, see [`RaftCore::status`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Status {
    /// Who this is.
    pub me: Peer,
    /// Its part in the term.
    pub role: Role,
    /// Term and vote.
    pub hard_state: HardState,
    /// The leader of the term, if known.
    pub leader: Option<Peer>,
    /// The last entry of the log.
    pub last: EntryId,
    /// The last entry known to be durable here.
    pub durable: LogIndex,
    /// The last entry known to be committed.
    pub commit: LogIndex,
    /// The last entry reported as applied.
    pub applied: LogIndex,
    /// The newest durable snapshot.
    pub snapshot: Option<SnapshotMeta>,
    /// The configuration in force.
    pub configuration: Configuration,
    /// Where it stands.
    pub configuration_index: LogIndex,
    /// To whom leadership is being handed over.
    pub transfer_to: Option<ServerId>,
    /// What a leader knows of each follower; empty elsewhere.
    pub followers: BTreeMap<ServerId, FollowerView>,
}

/// What a leader knows of a follower.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FollowerView {
    /// The last entry known to be durable there and equal to the leader's.
    pub matched: EntryId,
    /// The next entry to send.
    pub next: LogIndex,
    /// When the newest answered request was sent.
    pub contact: Time,
    /// Whether it has answered anything in this leader's term yet.
    pub heard: bool,
    /// Whether the logs are known to agree up to `matched`, so that requests are pipelined.
    pub replicating: bool,
    /// Whether a snapshot is on its way to it.
    pub snapshotting: bool,
    /// Which life of its data answers; `None` while none has in this leader's term.
    pub incarnation: Option<Incarnation>,
    /// Whether its answers count, in so far as it votes: it is the one that the configuration means.
    pub counted: bool,
    /// Append requests on their way to it.
    pub requests_in_flight: usize,
    /// Bytes of the entries in them.
    pub bytes_in_flight: usize,
}

impl RaftCore {
    /// Everything about this server at a glance. Copies; for a single figure there are cheaper calls.
    #[must_use]
    pub fn status(&self) -> Status {
        let (transfer_to, followers) = match &self.role {
            RoleState::Leader(leader) => {
                let views = leader.followers.iter().map(|(id, progress)| (id.clone(), self.view(progress)));
                (leader.transfer.as_ref().map(|transfer| transfer.target.clone()), views.collect())
            }
            RoleState::Follower | RoleState::Candidate(_) => (None, BTreeMap::new()),
        };
        Status {
            me: self.me.clone(),
            role: self.role(),
            hard_state: self.hard_state.clone(),
            leader: self.leader.clone(),
            last: self.last(),
            durable: self.durable_index(),
            commit: self.commit,
            applied: self.applied,
            snapshot: self.snapshot.clone(),
            configuration: self.configuration().clone(),
            configuration_index: self.configuration_index(),
            transfer_to,
            followers,
        }
    }

    /// What the leader knows of a follower; `None` unless this is the leader and knows it.
    #[must_use]
    pub fn follower(&self, id: &ServerId) -> Option<FollowerView> {
        let RoleState::Leader(leader) = &self.role else { return None };
        leader.followers.get(id).map(|progress| self.view(progress))
    }

    fn view(&self, progress: &Progress) -> FollowerView {
        let term = self.log.term_at(progress.matched).unwrap_or_default();
        let (requests_in_flight, bytes_in_flight) = progress.in_flight();
        FollowerView {
            matched: EntryId { term, index: progress.matched },
            next: progress.next,
            contact: progress.contact,
            heard: progress.acknowledged > Sequence(0),
            replicating: progress.mode == Mode::Replicate,
            snapshotting: progress.mode == Mode::Snapshot,
            incarnation: progress.incarnation,
            counted: self
                .configuration()
                .voter_or_member(&progress.peer.id)
                .is_some_and(|server| progress.incarnation == Some(server.incarnation)),
            requests_in_flight,
            bytes_in_flight,
        }
    }
}
