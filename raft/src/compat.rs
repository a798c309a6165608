//! The oldest calls of hashicorp/raft, which know servers by address alone, for programs that are moved over.
//!
//! As there, a server added in this way has its address as its id. Everything else should use [`Raft::add_voter`] and its
//! like.

use raft_types::{LogIndex, ServerAddress, ServerId};

use crate::driver::Raft;
use crate::error::ChangeError;

/// Adds a voter whose id is its address, unless a server at this address votes already.
///
/// # Errors
/// See [`ChangeError`]. Dropping the future does not undo the call.
pub async fn add_peer(raft: &Raft, address: ServerAddress) -> Result<LogIndex, ChangeError> {
    let state = raft.configuration();
    let id = match state.configuration.server_at(&address) {
        Some(server) if state.configuration.is_voter(&server.id) => return Ok(state.index),
        Some(server) => server.id.clone(),
        None => ServerId::from(address.as_str()),
    };
    raft.add_voter(id, address, Some(state.index)).await
}

/// Removes the server at this address, if there is one.
///
/// # Errors
/// See [`ChangeError`]. Dropping the future does not undo the call.
pub async fn remove_peer(raft: &Raft, address: &ServerAddress) -> Result<LogIndex, ChangeError> {
    let state = raft.configuration();
    match state.configuration.server_at(address) {
        Some(server) => raft.remove_server(server.id.clone(), Some(state.index)).await,
        None => Ok(state.index),
    }
}

/// Makes the voters those at `addresses`, one change after the other: first it adds, then it removes, this server last.
/// Answers where the last configuration stands.
///
/// # Errors
/// See [`ChangeError`]. The changes before the one that failed stay; calling it again goes on from there.
pub async fn set_peers(raft: &Raft, addresses: &[ServerAddress]) -> Result<LogIndex, ChangeError> {
    let mut index = raft.configuration().index;
    for address in addresses {
        index = add_peer(raft, address.clone()).await?;
    }
    let configuration = raft.configuration().configuration;
    let (own, others): (Vec<_>, Vec<_>) = configuration
        .everyone()
        .filter(|server| !addresses.contains(&server.address))
        .partition(|server| server.id == *raft.id());
    for server in others.into_iter().chain(own) {
        index = remove_peer(raft, &server.address).await?;
    }
    Ok(index)
}
