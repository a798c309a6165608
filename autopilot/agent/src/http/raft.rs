//! `/v1/operator/raft`: the members of the Raft configuration, and changes of them by hand.

use std::sync::Arc;

use autopilot::{Actor, RemoveServerError};
use raft::core::Role;
use raft::{Server, ServerId, Suffrage, TransferError};

use super::autopilot_hand::keep_or_say_so;
use super::call::{Call, Reply};
use super::error::ApiError;
use super::params::Consistency;
use super::wire::{RaftConfiguration, RaftServer, Transferred};
use super::with_freshness;
use crate::app::App;

/// The version of the hashicorp/raft protocol that is spoken.
const PROTOCOL: &str = "3";

/// The configuration in force.
pub(super) async fn configuration(app: Arc<App>, call: Arc<Call>) -> Result<Reply, ApiError> {
    if call.params.consistency()? != Consistency::Stale {
        app.raft.linearizable_read().await?;
    }
    let metrics = app.raft.metrics().borrow().clone();
    let leads = metrics.role == Role::Leader;
    let servers = metrics.configuration.servers().iter().map(|server| {
        let member = app.members.member(server.id.as_str());
        let last_index = if server.id == app.id {
            Some(metrics.last.index.0)
        } else {
            metrics.peers.get(&server.id).filter(|_| leads).map(|peer| peer.match_id.index.0)
        };
        RaftServer {
            id: server.id.to_string(),
            node: member.as_ref().map_or_else(|| "(unknown)".to_owned(), |m| m.profile.name.clone()),
            address: server.address.to_string(),
            leader: metrics.leader.as_ref().is_some_and(|leader| leader.id == server.id),
            protocol_version: if member.is_some() { PROTOCOL } else { "unknown" },
            voter: server.suffrage == Suffrage::Voter,
            last_index,
        }
    });
    let body = RaftConfiguration { servers: servers.collect(), index: metrics.configuration_index.0 };
    Ok(with_freshness(&app, Reply::json(&call, &body)))
}

/// Removes one member, named by `id` or `address`.
///
/// The server stays out until it starts again: while it lives on, it is not taken back in.
pub(super) async fn remove_peer(app: Arc<App>, call: Arc<Call>) -> Result<Reply, ApiError> {
    let given = |name| call.params.get(name).filter(|value| !value.is_empty());
    let state = app.raft.configuration();
    let servers = state.configuration.servers();
    let not_found = |what: &str, value: &str| {
        ApiError::Failed(format!("{what} {value:?} was not found in the Raft configuration"))
    };
    let server: &Server = match (given("id"), given("address")) {
        (Some(id), None) => {
            servers.iter().find(|server| server.id.as_str() == id).ok_or_else(|| not_found("id", id))?
        }
        (None, Some(address)) => servers
            .iter()
            .find(|server| server.address.as_str() == address)
            .ok_or_else(|| not_found("address", address))?,
        (None, None) => {
            return Err(ApiError::Bad(
                "Must specify either ?id with the server's ID or ?address with IP:port of peer to remove"
                    .to_owned(),
            ));
        }
        (Some(_), Some(_)) => {
            return Err(ApiError::Bad("Must specify only one of ?id or ?address".to_owned()));
        }
    };
    // By way of autopilot, which remembers who was removed, by whom and why.
    let autopilot = app.supervisor.current().ok_or(ApiError::NoLeader)?;
    let by = call.params.get("by").filter(|by| !by.is_empty()).unwrap_or("operator");
    let autopilot = autopilot.acting_as(Actor::named(by.to_owned()));
    app.keep_out(&server.id).await?;
    autopilot.remove_server(server.id.clone()).await.map_err(|error| match error {
        RemoveServerError::Request(error) => error.into(),
        error => ApiError::Failed(error.to_string()),
    })?;
    keep_or_say_so(&app, &autopilot).await;
    tracing::info!(id = %server.id, address = %server.address, "removed a Raft peer on request");
    Ok(Reply::empty())
}

/// Hands leadership to `id`, or to whomever fits best.
pub(super) async fn transfer_leader(app: Arc<App>, call: Arc<Call>) -> Result<Reply, ApiError> {
    let target = call.params.get("id").filter(|id| !id.is_empty());
    if let Some(id) = target {
        let state = app.raft.configuration();
        let server = state.configuration.server(&ServerId::from(id)).ok_or_else(|| {
            ApiError::NotFound(format!("id {id:?} was not found in the Raft configuration"))
        })?;
        if server.suffrage != Suffrage::Voter {
            return Err(ApiError::Failed(format!(
                "server {id:?} does not vote and cannot lead; wait until it is promoted"
            )));
        }
        if server.id == app.id {
            return Err(ApiError::Failed(format!("server {id:?} leads already; name another voter")));
        }
    }
    app.raft.transfer_leadership(target.map(ServerId::from)).await.map_err(|error| match error {
        TransferError::InvalidTarget => {
            ApiError::Failed("there is no other voter that could lead".to_owned())
        }
        error => error.into(),
    })?;
    Ok(Reply::json(&call, &Transferred { success: true }))
}
