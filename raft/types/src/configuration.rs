use std::fmt;

use crate::{Incarnation, ServerAddress, ServerId};

/// Whether a server counts towards quorums.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Suffrage {
    /// Votes, and counts for commits.
    Voter,
    /// Receives the log and never counts (other systems say learner).
    Nonvoter,
}

/// One member of a [`Configuration`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Server {
    /// Who it is.
    pub id: ServerId,
    /// Where the others reach it.
    pub address: ServerAddress,
    /// Whether it votes.
    pub suffrage: Suffrage,
    /// Of a voter, the only incarnation that counts. Of a non-voter, other than [`Incarnation::FOUNDER`] if the leader is to
    /// give it a vote as soon as it has answered and caught up.
    #[cfg_attr(feature = "serde", serde(default, skip_serializing_if = "Incarnation::is_founder"))]
    pub incarnation: Incarnation,
}

impl Server {
    /// A voting member.
    pub fn voter(id: impl Into<ServerId>, address: impl Into<ServerAddress>) -> Self {
        Self {
            id: id.into(),
            address: address.into(),
            suffrage: Suffrage::Voter,
            incarnation: Incarnation::FOUNDER,
        }
    }

    /// A member that does not vote.
    pub fn nonvoter(id: impl Into<ServerId>, address: impl Into<ServerAddress>) -> Self {
        Self { suffrage: Suffrage::Nonvoter, ..Self::voter(id, address) }
    }
}

/// The members of a cluster, in the order in which they were added.
///
/// While several servers change at once it is *joint* (Raft paper, section 6): everything needs a quorum of the new voters
/// and a quorum of the voters that are being left.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Configuration {
    servers: Vec<Server>,
    /// The members that are being left; empty unless joint.
    #[cfg_attr(feature = "serde", serde(default, skip_serializing_if = "Vec::is_empty"))]
    outgoing: Vec<Server>,
    /// See [`Configuration::epoch`].
    #[cfg_attr(feature = "serde", serde(default, skip_serializing_if = "is_zero"))]
    epoch: u64,
}

/// For serde alone.
#[cfg(feature = "serde")]
#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde wants it so")]
const fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl Configuration {
    /// Takes any list, also one that [`Configuration::validate`] refuses: decoders and tests need that.
    #[must_use]
    pub const fn new(servers: Vec<Server>) -> Self {
        Self { servers, outgoing: Vec::new(), epoch: 0 }
    }

    /// A joint configuration on the way from `outgoing` to `servers`; not joint if `outgoing` is empty.
    #[must_use]
    pub const fn joint(servers: Vec<Server>, outgoing: Vec<Server>) -> Self {
        Self { servers, outgoing, epoch: 0 }
    }

    /// The same members in another epoch.
    #[must_use]
    pub const fn in_epoch(mut self, epoch: u64) -> Self {
        self.epoch = epoch;
        self
    }

    /// Zero until the cluster is recovered by force, then a number that only those share who were recovered to the same
    /// members from the same last entry. Servers of different epochs refuse each other.
    #[must_use]
    pub const fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The same with this in the place of the member of the same id; unchanged without one.
    #[must_use]
    pub fn with(&self, server: Server) -> Self {
        let mut next = self.clone();
        if let Some(member) = next.servers.iter_mut().find(|member| member.id == server.id) {
            *member = server;
        }
        next
    }

    /// The members; while joint, the new ones.
    #[must_use]
    pub fn servers(&self) -> &[Server] {
        &self.servers
    }

    /// The members that are being left; empty unless joint.
    #[must_use]
    pub fn outgoing(&self) -> &[Server] {
        &self.outgoing
    }

    /// Whether two sets of voters must agree.
    #[must_use]
    pub const fn is_joint(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// The configuration that a joint one leads to; itself otherwise.
    #[must_use]
    pub fn settled(&self) -> Self {
        Self::new(self.servers.clone()).in_epoch(self.epoch)
    }

    /// Everybody who receives the log: the members and, while joint, those who are being left.
    pub fn everyone(&self) -> impl Iterator<Item = &Server> {
        let leaving = |server: &&Server| !self.servers.iter().any(|s| s.id == server.id);
        self.servers.iter().chain(self.outgoing.iter().filter(leaving))
    }

    /// The one with this id, among everybody who receives the log.
    #[must_use]
    pub fn server(&self, id: &ServerId) -> Option<&Server> {
        self.servers.iter().chain(&self.outgoing).find(|s| s.id == *id)
    }

    /// The one at this address, among everybody who receives the log.
    #[must_use]
    pub fn server_at(&self, address: &ServerAddress) -> Option<&Server> {
        self.servers.iter().chain(&self.outgoing).find(|s| s.address == *address)
    }

    /// Whether this server votes, in either set while joint.
    #[must_use]
    pub fn is_voter(&self, id: &ServerId) -> bool {
        self.electorates().any(|set| set.iter().any(|s| s.id == *id && s.suffrage == Suffrage::Voter))
    }

    /// Whether this incarnation of a server votes, in either set while joint.
    #[must_use]
    pub fn is_voter_as(&self, id: &ServerId, incarnation: Incarnation) -> bool {
        let is = |s: &Server| s.id == *id && s.suffrage == Suffrage::Voter && s.incarnation == incarnation;
        self.electorates().any(|set| set.iter().any(is))
    }

    /// The one with this id as a voter, in either set while joint, or else as whatever member it is.
    #[must_use]
    pub fn voter_or_member(&self, id: &ServerId) -> Option<&Server> {
        let mut all = self.electorates().flatten();
        all.find(|s| s.id == *id && s.suffrage == Suffrage::Voter).or_else(|| self.server(id))
    }

    /// The sets of servers of which each must have a quorum of its voters: one, or two while joint.
    pub fn electorates(&self) -> impl Iterator<Item = &[Server]> {
        [self.servers.as_slice(), self.outgoing.as_slice()].into_iter().take(1 + usize::from(self.is_joint()))
    }

    /// The voting members; while joint, the new ones.
    pub fn voters(&self) -> impl Iterator<Item = &Server> {
        self.servers.iter().filter(|s| s.suffrage == Suffrage::Voter)
    }

    /// How many members vote.
    #[must_use]
    pub fn voters_count(&self) -> usize {
        self.voters().count()
    }

    /// How many voters make a quorum: more than half. One for a configuration without voters, so that nothing passes unasked.
    #[must_use]
    pub fn quorum(&self) -> usize {
        self.voters_count() / 2 + 1
    }

    /// Whether nobody is a member, which is how a server that was never bootstrapped or joined looks.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.servers.is_empty()
    }

    /// Checks what every configuration in a log must satisfy.
    ///
    /// # Errors
    /// Empty, unfit (see [`is_plain_name`]) or repeated ids and addresses, and a set of members in which nobody votes.
    pub fn validate(&self) -> Result<(), ConfigurationError> {
        self.electorates().try_for_each(Self::validate_set)
    }

    fn validate_set(servers: &[Server]) -> Result<(), ConfigurationError> {
        for (position, server) in servers.iter().enumerate() {
            if server.id.is_empty() {
                return Err(ConfigurationError::EmptyId { address: server.address.clone() });
            }
            if server.address.is_empty() {
                return Err(ConfigurationError::EmptyAddress { id: server.id.clone() });
            }
            if !is_plain_name(server.id.as_str()) {
                return Err(ConfigurationError::UnfitName { what: "id", position });
            }
            if !is_plain_name(server.address.as_str()) {
                return Err(ConfigurationError::UnfitName { what: "address", position });
            }
            for earlier in &servers[..position] {
                if earlier.id == server.id {
                    return Err(ConfigurationError::RepeatedId { id: server.id.clone() });
                }
                if earlier.address == server.address {
                    return Err(ConfigurationError::RepeatedAddress {
                        address: server.address.clone(),
                        first: earlier.id.clone(),
                        second: server.id.clone(),
                    });
                }
            }
        }
        if servers.iter().any(|s| s.suffrage == Suffrage::Voter) {
            Ok(())
        } else {
            Err(ConfigurationError::NoVoters)
        }
    }

    /// The joint configuration through which several changes take effect at once, or the plain one if at most one vote
    /// changes hands, for then any two quorums share a server anyway.
    ///
    /// # Errors
    /// Those of [`Configuration::apply`], for the result of all changes together.
    pub fn apply_all(&self, changes: &[ConfigurationChange]) -> Result<Self, ConfigurationError> {
        let mut next = self.clone();
        for change in changes {
            next.change(change)?;
        }
        next.validate()?;
        let differs = |a: &Self, b: &Self| a.voters().filter(|s| !b.is_voter(&s.id)).count();
        if differs(self, &next) + differs(&next, self) > 1 {
            next.outgoing.clone_from(&self.servers);
        }
        Ok(next)
    }

    /// The configuration after one single-server change. Any quorum of the result and any quorum of `self` share a
    /// server (Raft dissertation, section 4.1).
    ///
    /// Adding a server that is there already updates its address; adding a voter as non-voter leaves it a voter, as
    /// hashicorp/raft does.
    ///
    /// # Errors
    /// An unknown server to demote or remove, and whatever [`Configuration::validate`] finds in the result.
    pub fn apply(&self, change: &ConfigurationChange) -> Result<Self, ConfigurationError> {
        let mut next = self.clone();
        next.change(change)?;
        next.validate()?;
        Ok(next)
    }

    fn change(&mut self, change: &ConfigurationChange) -> Result<(), ConfigurationError> {
        if self.is_joint() {
            return Err(ConfigurationError::Joint);
        }
        let known = self.servers.iter().position(|s| s.id == *change.id());
        match (change, known) {
            (ConfigurationChange::AddVoter { address, .. }, Some(at)) => {
                self.servers[at].address = address.clone();
                self.servers[at].suffrage = Suffrage::Voter;
            }
            (ConfigurationChange::AddNonvoter { address, .. }, Some(at)) => {
                self.servers[at].address = address.clone();
            }
            (ConfigurationChange::AddVoter { id, address }, None) => {
                self.servers.push(Server::voter(id.clone(), address.clone()));
            }
            (ConfigurationChange::AddNonvoter { id, address }, None) => {
                self.servers.push(Server::nonvoter(id.clone(), address.clone()));
            }
            (ConfigurationChange::DemoteVoter { .. }, Some(at)) => {
                self.servers[at].suffrage = Suffrage::Nonvoter;
                self.servers[at].incarnation = Incarnation::FOUNDER;
            }
            (ConfigurationChange::RemoveServer { .. }, Some(at)) => {
                self.servers.remove(at);
            }
            (ConfigurationChange::DemoteVoter { id } | ConfigurationChange::RemoveServer { id }, None) => {
                return Err(ConfigurationError::UnknownServer { id: id.clone() });
            }
        }
        Ok(())
    }
}

/// A change of one server.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum ConfigurationChange {
    /// Add a voter, give a non-voter its vote, or change a voter's address.
    AddVoter {
        /// Who.
        id: ServerId,
        /// Where it is reached.
        address: ServerAddress,
    },
    /// Add a member without a vote, or change a member's address.
    AddNonvoter {
        /// Who.
        id: ServerId,
        /// Where it is reached.
        address: ServerAddress,
    },
    /// Take the vote from a member, which stays.
    DemoteVoter {
        /// Who.
        id: ServerId,
    },
    /// Take a member out.
    RemoveServer {
        /// Who.
        id: ServerId,
    },
}

impl ConfigurationChange {
    /// The one server that the change is about.
    #[must_use]
    pub const fn id(&self) -> &ServerId {
        match self {
            Self::AddVoter { id, .. }
            | Self::AddNonvoter { id, .. }
            | Self::DemoteVoter { id }
            | Self::RemoveServer { id } => id,
        }
    }
}

impl fmt::Display for ConfigurationChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AddVoter { id, address } => write!(f, "add voter {id} at {address}"),
            Self::AddNonvoter { id, address } => write!(f, "add non-voter {id} at {address}"),
            Self::DemoteVoter { id } => write!(f, "demote voter {id}"),
            Self::RemoveServer { id } => write!(f, "remove server {id}"),
        }
    }
}

/// Longest id and address of a server, in bytes. Longer ones are refused on the wire, so a configuration that held one could
/// never be replicated.
pub const NAME_BYTES_MAX: usize = 1024;

/// Whether this is fit to be a server's id or address: at most [`NAME_BYTES_MAX`] bytes, and nothing in it that would start
/// a new line in a log or control a terminal.
#[must_use]
pub fn is_plain_name(text: &str) -> bool {
    let breaks = |c: char| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}');
    text.len() <= NAME_BYTES_MAX && !text.contains(breaks)
}

/// Why a configuration cannot stand. Nothing was changed; a retry of the same change fails again.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConfigurationError {
    /// A server without an id.
    EmptyId {
        /// Its address.
        address: ServerAddress,
    },
    /// A server without an address.
    EmptyAddress {
        /// Its id.
        id: ServerId,
    },
    /// Two servers under one id.
    RepeatedId {
        /// The id.
        id: ServerId,
    },
    /// Two servers at one address.
    RepeatedAddress {
        /// The address.
        address: ServerAddress,
        /// Who has it.
        first: ServerId,
        /// Who would have it too.
        second: ServerId,
    },
    /// An id or address that is too long or holds control characters. The text itself is left out: this may be logged.
    UnfitName {
        /// "id" or "address".
        what: &'static str,
        /// The server's place in the list.
        position: usize,
    },
    /// Nobody would vote, so nothing could ever be decided again.
    NoVoters,
    /// The configuration is on its way to another one; it cannot be changed before it is there.
    Joint,
    /// The server to demote or remove is no member.
    UnknownServer {
        /// The id asked for.
        id: ServerId,
    },
}

impl fmt::Display for ConfigurationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::EmptyId { address } => write!(f, "the server at {address} has an empty id"),
            Self::EmptyAddress { id } => write!(f, "server {id} has an empty address"),
            Self::RepeatedId { id } => write!(f, "server id {id} appears twice"),
            Self::UnfitName { what, position } => write!(
                f,
                "the {what} of server {} is longer than {NAME_BYTES_MAX} bytes or holds control characters",
                position + 1
            ),
            Self::RepeatedAddress { address, first, second } => {
                write!(f, "address {address} of server {second} already belongs to server {first}")
            }
            Self::NoVoters => f.write_str("the configuration would have no voter"),
            Self::Joint => f.write_str("a change of several servers is under way"),
            Self::UnknownServer { id } => write!(f, "server {id} is not in the configuration"),
        }
    }
}

impl std::error::Error for ConfigurationError {}

#[cfg(test)]
mod tests {
    use super::*;

    fn three() -> Configuration {
        Configuration::new(vec![
            Server::voter("a", "a:1"),
            Server::voter("b", "b:1"),
            Server::nonvoter("c", "c:1"),
        ])
    }

    #[test]
    fn nonvoters_never_count() {
        assert_eq!((three().voters_count(), three().quorum()), (2, 2));
        assert!(!three().is_voter(&"c".into()));
    }

    #[test]
    fn adding_a_voter_as_nonvoter_keeps_its_vote() {
        let change = ConfigurationChange::AddNonvoter { id: "a".into(), address: "a:2".into() };
        let next = three().apply(&change).expect("a plain address change");
        assert!(next.is_voter(&"a".into()));
        assert_eq!(next.server(&"a".into()).expect("still there").address, "a:2".into());
    }

    fn add(id: &str) -> ConfigurationChange {
        ConfigurationChange::AddVoter { id: id.into(), address: format!("{id}:1").into() }
    }

    #[test]
    fn several_votes_change_hands_through_a_joint_configuration() {
        let swap = [add("c"), ConfigurationChange::RemoveServer { id: "a".into() }];
        let joint = three().apply_all(&swap).expect("a valid swap");
        assert!(joint.is_joint() && joint.is_voter(&"a".into()) && joint.is_voter(&"c".into()));
        assert_eq!(joint.everyone().count(), 3);
        assert_eq!(joint.apply(&add("d")), Err(ConfigurationError::Joint));
        let settled = joint.settled();
        assert!(!settled.is_joint() && !settled.is_voter(&"a".into()));
        let one = three().apply_all(&[add("c")]).expect("a valid promotion");
        assert!(!one.is_joint(), "one vote more needs no second set");
    }

    #[test]
    fn changes_that_cannot_stand_are_refused() {
        let unknown = ConfigurationChange::RemoveServer { id: "x".into() };
        assert_eq!(three().apply(&unknown), Err(ConfigurationError::UnknownServer { id: "x".into() }));
        let taken = ConfigurationChange::AddVoter { id: "d".into(), address: "a:1".into() };
        assert!(matches!(three().apply(&taken), Err(ConfigurationError::RepeatedAddress { .. })));
        for name in ["a\nb", "a\u{1b}[2J", "a\u{2028}", &"n".repeat(NAME_BYTES_MAX + 1)] {
            let id = ConfigurationChange::AddNonvoter { id: name.into(), address: "x:1".into() };
            let address = ConfigurationChange::AddNonvoter { id: "x".into(), address: name.into() };
            for change in [id, address] {
                assert!(
                    matches!(three().apply(&change), Err(ConfigurationError::UnfitName { .. })),
                    "{name:?}"
                );
            }
        }
        let longest = ConfigurationChange::AddNonvoter { id: "ü".repeat(512).into(), address: "x:1".into() };
        three().apply(&longest).expect("1024 bytes of text");
        let one = Configuration::new(vec![Server::voter("a", "a:1")]);
        let last = ConfigurationChange::DemoteVoter { id: "a".into() };
        assert_eq!(one.apply(&last), Err(ConfigurationError::NoVoters));
    }
}
