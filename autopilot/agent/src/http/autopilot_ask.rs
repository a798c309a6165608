//! `/v1/operator/autopilot`: why, what next, and what was. Ours; Consul has nothing like it.

use std::fmt::Write;
use std::sync::Arc;

use autopilot::{ApplyError, Autopilot, Explanation, Proposal, ServerId, Time};

use axum::http::StatusCode;

use super::call::{Call, Reply};
use super::duration::GoDuration;
use super::error::ApiError;
use super::wire::{Explained, Fact};
use crate::app::App;

fn running(app: &App) -> Result<Autopilot, ApiError> {
    app.supervisor.current().ok_or(ApiError::NoLeader)
}

/// Why a server, named by id or name, or every server, is as it is.
pub(super) async fn explain(app: Arc<App>, call: Arc<Call>) -> Result<Reply, ApiError> {
    let autopilot = running(&app)?;
    let state = autopilot.state();
    let asked = call.params.get("server").filter(|name| !name.is_empty());
    let wanted = |id: &ServerId, name: &str| asked.is_none_or(|asked| asked == id.as_str() || asked == name);
    let servers = state.servers.values().filter(|server| wanted(&server.id, &server.name));
    let plan = autopilot.last_plan();
    let explained: Vec<Explained> = servers
        .filter_map(|server| autopilot::explain(&state, &plan, &server.id))
        .map(|explanation| wire(explanation, state.at))
        .collect();
    match asked {
        Some(asked) if explained.is_empty() => {
            Err(ApiError::NotFound(format!("no member has the id or name {asked:?}")))
        }
        _ => Ok(Reply::json(&call, &explained)),
    }
}

fn wire(explanation: Explanation, now: Time) -> Explained {
    let facts = explanation.facts.into_iter().map(|fact| Fact {
        topic: fact.topic.to_string(),
        code: fact.reason.code(),
        text: fact.text,
        earliest_in: fact.earliest.map(|at| GoDuration(at.since(now))),
    });
    Explained {
        id: explanation.server.to_string(),
        name: explanation.name.to_string(),
        facts: facts.collect(),
    }
}

/// What would be done from here on.
pub(super) async fn plan(app: Arc<App>, call: Arc<Call>) -> Result<Reply, ApiError> {
    let proposal = running(&app)?.plan().await?;
    Ok(Reply::json(&call, &proposal))
}

/// Performs the steps of an approved plan that need no waiting.
pub(super) async fn apply(app: Arc<App>, call: Arc<Call>) -> Result<Reply, ApiError> {
    let proposal: Proposal = serde_json::from_slice(&call.body)
        .map_err(|error| ApiError::Bad(format!("the body is not a plan: {error}")))?;
    match running(&app)?.apply(proposal).await {
        Ok(report) => Ok(Reply::json(&call, &report)),
        Err(ApplyError::Request(error)) => Err(error.into()),
        // Nothing was changed, and the same plan is refused again.
        Err(error) => Err(ApiError::Stale(error.to_string())),
    }
}

/// The last rounds with everything that went into them, one a line, oldest first.
pub(super) async fn inputs(app: Arc<App>, call: Arc<Call>) -> Result<Reply, ApiError> {
    let last = call.params.number("last")?.unwrap_or(RECORDS_DEFAULT);
    let records = running(&app)?.records().await?;
    let skipped = records.len().saturating_sub(usize::try_from(last).unwrap_or(usize::MAX));
    let mut text = String::new();
    for record in records.iter().skip(skipped) {
        let line = serde_json::to_string(&**record).expect("a record holds nothing that JSON cannot");
        let _ = writeln!(text, "{line}");
    }
    Ok(Reply::new(StatusCode::OK, "application/x-ndjson", text))
}

/// Rounds that are given unless asked for more: about ten minutes.
const RECORDS_DEFAULT: u64 = 300;
