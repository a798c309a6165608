//! `/v1/status`: who leads and who takes part, as this server sees it.

use std::sync::Arc;

use super::call::{Call, Reply};
use super::error::ApiError;
use crate::app::App;

/// The leader's Raft address, empty when there is none.
pub(super) async fn leader(app: Arc<App>, call: Arc<Call>) -> Result<Reply, ApiError> {
    let metrics = app.raft.metrics();
    let address = metrics.borrow().leader.as_ref().map_or_else(String::new, |peer| peer.address.to_string());
    Ok(Reply::json(&call, &address))
}

/// The Raft addresses of all members.
pub(super) async fn peers(app: Arc<App>, call: Arc<Call>) -> Result<Reply, ApiError> {
    let state = app.raft.configuration();
    let addresses: Vec<&str> =
        state.configuration.servers().iter().map(|server| server.address.as_str()).collect();
    Ok(Reply::json(&call, &addresses))
}
