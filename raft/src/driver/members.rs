//! The handle's calls about members.

use raft_types::{Configuration, ConfigurationChange, LogIndex, ServerAddress, ServerId};

use super::Raft;
use super::queues::Command;
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
    /// With `expected`, refused unless the configuration in force stands there.
    ///
    /// # Errors
    /// See [`ChangeError`]. Dropping the future does not undo the call.
    pub async fn add_voter(
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
    /// configurations.
    ///
    /// # Errors
    /// See [`ChangeError`]. Dropping the future does not undo the call.
    pub async fn change_membership(
        &self,
        changes: Vec<ConfigurationChange>,
        expected: Option<LogIndex>,
    ) -> Result<LogIndex, ChangeError> {
        let ask = self.ask(|reply| Command::ChangeMembership { changes, expected, reply });
        ask.await.unwrap_or(Err(ChangeError::Stopped))
    }

    async fn change(
        &self,
        change: ConfigurationChange,
        expected: Option<LogIndex>,
    ) -> Result<LogIndex, ChangeError> {
        self.ask(|reply| Command::Change { change, expected, reply })
            .await
            .unwrap_or(Err(ChangeError::Stopped))
    }
}
