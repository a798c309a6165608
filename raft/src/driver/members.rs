//! The handle's calls about members.

use raft_types::{Configuration, ConfigurationChange, LogIndex, ServerAddress, ServerId};
use tokio::sync::oneshot;

use super::Raft;
use super::queues::{Command, Gone};
use crate::error::ChangeError;

/// The configuration in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigurationState {
    /// The members.
    pub configuration: Configuration,
    /// Where it stands in the log; the stamp for compare-and-set changes.
    pub index: LogIndex,
    /// Whether it is committed.
    pub committed: bool,
}

impl Raft {
    /// The configuration in force as of the last metrics, at most 20 ms old.
    #[must_use]
    pub fn configuration(&self) -> ConfigurationState {
        let metrics = self.inner.views.metrics.borrow();
        ConfigurationState {
            configuration: metrics.configuration.clone(),
            index: metrics.configuration_index,
            committed: metrics.configuration_committed,
        }
    }

    /// Adds a voter, promotes a non-voter, or changes a voter's address. Answers where the new configuration stands.
    ///
    /// A server gets its vote only once it has the log: one that is no member becomes a non-voter first, and is then brought up
    /// to date, in at most ten rounds (Raft dissertation, section 4.2.1). One that never answers, or from which nothing comes for
    /// ten election timeouts, stays without. Other changes go on meanwhile.
    ///
    /// With `expected`, refused unless the configuration in force stands there, and unless nobody else changes it until
    /// the server has its vote.
    ///
    /// # Errors
    /// See [`ChangeError`]. Dropping the future does not undo the call.
    pub async fn add_voter(
        &self,
        id: ServerId,
        address: ServerAddress,
        expected: Option<LogIndex>,
    ) -> Result<LogIndex, ChangeError> {
        self.ask_change(|reply| Command::AddVoter { id, address, expected, reply }).await
    }

    /// Like [`Raft::add_voter`], at once, however far the server lags: it then stands in the way of commits until it has the log.
    /// One that does not answer has to answer and catch up all the same, for which life of it gets the vote must be known.
    /// A server whose disk was lost a moment ago may get the vote for the life that is over; a change from one voter to two then
    /// leaves no leader. [`Raft::add_voter`] hears from the server first.
    ///
    /// # Errors
    /// See [`ChangeError`]. Dropping the future does not undo the call.
    pub async fn add_voter_unchecked(
        &self,
        id: ServerId,
        address: ServerAddress,
        expected: Option<LogIndex>,
    ) -> Result<LogIndex, ChangeError> {
        self.change(ConfigurationChange::AddVoter { id, address }, expected).await
    }

    /// Adds a server that does not vote, or changes a member's address. Otherwise like [`Raft::add_voter`].
    ///
    /// # Errors
    /// See [`ChangeError`]. Dropping the future does not undo the call.
    pub async fn add_nonvoter(
        &self,
        id: ServerId,
        address: ServerAddress,
        expected: Option<LogIndex>,
    ) -> Result<LogIndex, ChangeError> {
        self.change(ConfigurationChange::AddNonvoter { id, address }, expected).await
    }

    /// Takes a member's vote. Otherwise like [`Raft::add_voter`].
    ///
    /// # Errors
    /// See [`ChangeError`]. Dropping the future does not undo the call.
    pub async fn demote_voter(
        &self,
        id: ServerId,
        expected: Option<LogIndex>,
    ) -> Result<LogIndex, ChangeError> {
        self.change(ConfigurationChange::DemoteVoter { id }, expected).await
    }

    /// Takes a member out. A leader that removes itself hands over once the change is committed. Otherwise like
    /// [`Raft::add_voter`].
    ///
    /// # Errors
    /// See [`ChangeError`]. Dropping the future does not undo the call.
    pub async fn remove_server(
        &self,
        id: ServerId,
        expected: Option<LogIndex>,
    ) -> Result<LogIndex, ChangeError> {
        self.change(ConfigurationChange::RemoveServer { id }, expected).await
    }

    /// Makes several changes take effect together: through a joint configuration where more than one vote changes hands,
    /// and left automatically, by the next leader if this one fails. Answers where the configuration stands in which
    /// all of it is done.
    ///
    /// Servers to become voters must be members already, so that they have caught up and shown that they understand joint
    /// configurations. Refused while one of them lags, or so many voters that those that have the log make no quorum (catalogue
    /// M15).
    ///
    /// # Errors
    /// See [`ChangeError`]. Dropping the future does not undo the call.
    pub async fn change_membership(
        &self,
        changes: Vec<ConfigurationChange>,
        expected: Option<LogIndex>,
    ) -> Result<LogIndex, ChangeError> {
        let unchecked = false;
        self.ask_change(|reply| Command::ChangeMembership { changes, expected, unchecked, reply }).await
    }

    /// Like [`Raft::change_membership`], also to voters that lag. Safe, but nothing may be committed until they have the log.
    ///
    /// # Errors
    /// See [`ChangeError`]. Dropping the future does not undo the call.
    pub async fn change_membership_unchecked(
        &self,
        changes: Vec<ConfigurationChange>,
        expected: Option<LogIndex>,
    ) -> Result<LogIndex, ChangeError> {
        let unchecked = true;
        self.ask_change(|reply| Command::ChangeMembership { changes, expected, unchecked, reply }).await
    }

    async fn change(
        &self,
        change: ConfigurationChange,
        expected: Option<LogIndex>,
    ) -> Result<LogIndex, ChangeError> {
        self.ask_change(|reply| Command::Change { change, expected, reply }).await
    }

    async fn ask_change(
        &self,
        command: impl FnOnce(oneshot::Sender<Result<LogIndex, ChangeError>>) -> Command,
    ) -> Result<LogIndex, ChangeError> {
        let gone = |gone: Gone| Err(gone.either(ChangeError::Stopped, ChangeError::OutcomeUnknown));
        self.ask(command).await.unwrap_or_else(gone)
    }
}
