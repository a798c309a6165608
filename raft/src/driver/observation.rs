//! What happens in a server, one thing at a time, for whoever wants to follow it.

use std::collections::BTreeSet;
use std::fmt;

use raft_types::{Configuration, EntryId, Incarnation, LogIndex, Server, ServerId, Term};
use tokio::sync::broadcast;

use crate::core::{Peer, Role};

/// Observations that are kept for an observer that is behind; beyond it the oldest are dropped.
const BACKLOG: usize = 256;

/// Something happened in a server.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Observation {
    /// The role or the term changed. A candidate has started a campaign, or first asks for pre-votes.
    Role {
        /// The role now.
        role: Role,
        /// The term now.
        term: Term,
    },
    /// Another leader is known, or none.
    Leader {
        /// Who leads.
        leader: Option<Peer>,
    },
    /// This server leads, and its first own entry is committed: it may change members and serve reads.
    Ready {
        /// In this term.
        term: Term,
    },
    /// Another configuration is in force; it need not be committed.
    Configuration {
        /// Where it stands.
        index: LogIndex,
        /// The members.
        configuration: Configuration,
    },
    /// A server became a member.
    PeerAdded {
        /// The member.
        server: Server,
    },
    /// A member got another address or suffrage.
    PeerChanged {
        /// The member as it is now.
        server: Server,
    },
    /// A server is no member any more.
    PeerRemoved {
        /// The former member.
        server: Server,
    },
    /// The leader got no answer from a follower that answered before. Not repeated until it answers again.
    ContactFailed {
        /// The follower.
        id: ServerId,
    },
    /// A follower answers the leader again.
    ContactResumed {
        /// The follower.
        id: ServerId,
    },
    /// Another server asked for this server's vote, or whether it would get it.
    VoteRequested {
        /// The candidate.
        from: Peer,
        /// The term of its campaign.
        term: Term,
        /// Whether it only asks what it would get.
        pre_vote: bool,
    },
    /// A snapshot of the own state is durable.
    SnapshotTaken {
        /// The last entry in it.
        last: EntryId,
    },
    /// The state machine took over a leader's snapshot.
    SnapshotInstalled {
        /// The last entry in it.
        last: EntryId,
    },
    /// A follower has installed the snapshot that this leader sent.
    SnapshotSent {
        /// The follower.
        to: ServerId,
    },
    /// A voter answers this leader with another disk than the one that it voted with, and does not count. The leader takes
    /// its vote and gives it back once it has caught up, as long as the other voters are a quorum.
    NotCounted {
        /// The member.
        id: ServerId,
    },
    /// This server has no past in the cluster that speaks to it, or was shown that it lost it. It neither votes nor counts
    /// until the leader has taken it in anew.
    StartedOver {
        /// The incarnation that begins.
        incarnation: Incarnation,
    },
    /// The store or the state machine failed; the server takes no part until it is restarted.
    StorageFailed {
        /// Why.
        reason: String,
    },
}

/// A stream of [`Observation`]s. It never holds the server up: whoever is too far behind misses the oldest.
pub struct Observer {
    receiver: broadcast::Receiver<Observation>,
    filter: Box<dyn FnMut(&Observation) -> bool + Send>,
    dropped: u64,
}

impl Observer {
    /// The next one that passes the filter. `None` once the server has stopped and everything was read. Cancel safe.
    pub async fn next(&mut self) -> Option<Observation> {
        loop {
            match self.receiver.recv().await {
                Ok(observation) if (self.filter)(&observation) => return Some(observation),
                Ok(_) => {}
                Err(broadcast::error::RecvError::Lagged(missed)) => self.dropped += missed,
                Err(broadcast::error::RecvError::Closed) => return None,
            }
        }
    }

    /// How many were missed up to the last one read, before the filter.
    #[must_use]
    pub const fn dropped(&self) -> u64 {
        self.dropped
    }
}

impl fmt::Debug for Observer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Observer").field("dropped", &self.dropped).finish_non_exhaustive()
    }
}

/// Where the handle gets observers from. Does not keep the stream open.
#[derive(Clone)]
pub(super) struct Source(broadcast::WeakSender<Observation>);

impl Source {
    pub(super) fn observe(&self, filter: Box<dyn FnMut(&Observation) -> bool + Send>) -> Observer {
        let receiver = match self.0.upgrade() {
            Some(sender) => sender.subscribe(),
            // Stopped: a stream without a source ends at once.
            None => broadcast::channel(1).1,
        };
        Observer { receiver, filter, dropped: 0 }
    }
}

/// The server's side.
pub(super) struct Observers {
    sender: broadcast::Sender<Observation>,
    members: Vec<Server>,
    /// Followers that did not answer, while this server leads.
    silent: BTreeSet<ServerId>,
}

impl Observers {
    pub(super) fn new(members: &Configuration) -> (Self, Source) {
        let sender = broadcast::channel(BACKLOG).0;
        let source = Source(sender.downgrade());
        (Self { sender, members: members.everyone().cloned().collect(), silent: BTreeSet::new() }, source)
    }

    pub(super) fn tell(&self, observation: Observation) {
        // Without observers it is lost, as it should be.
        let _ = self.sender.send(observation);
    }

    pub(super) fn role(&mut self, role: Role, term: Term) {
        self.silent.clear();
        self.tell(Observation::Role { role, term });
    }

    pub(super) fn configuration(&mut self, index: LogIndex, configuration: &Configuration) {
        self.tell(Observation::Configuration { index, configuration: configuration.clone() });
        let before = std::mem::replace(&mut self.members, configuration.everyone().cloned().collect());
        for server in configuration.everyone() {
            match before.iter().find(|old| old.id == server.id) {
                None => self.tell(Observation::PeerAdded { server: server.clone() }),
                Some(old) if old != server => self.tell(Observation::PeerChanged { server: server.clone() }),
                Some(_) => {}
            }
        }
        for server in before {
            if configuration.server(&server.id).is_none() {
                self.silent.remove(&server.id);
                self.tell(Observation::PeerRemoved { server });
            }
        }
    }

    pub(super) fn contact_failed(&mut self, id: &ServerId) {
        if self.members.iter().any(|server| server.id == *id) && self.silent.insert(id.clone()) {
            self.tell(Observation::ContactFailed { id: id.clone() });
        }
    }

    pub(super) fn contact(&mut self, id: &ServerId) {
        if self.silent.remove(id) {
            self.tell(Observation::ContactResumed { id: id.clone() });
        }
    }
}
