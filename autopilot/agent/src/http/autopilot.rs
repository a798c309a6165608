//! `/v1/operator/autopilot`: the shared configuration, health and the whole state with its reasons.

use std::sync::Arc;

use autopilot::{Autopilot, HealthReason, NodeStatus, NodeType, State, Time};
use axum::http::StatusCode;
use jiff::{SignedDuration, Timestamp, Unit};

use super::call::{Call, Reply};
use super::configuration::AutopilotConfiguration;
use super::duration::GoDuration;
use super::error::ApiError;
use super::params::Consistency;
use super::wire::{
    AutopilotState, Decision, Domain, DomainTolerance, Health, Reason, ServerHealth, ServerState,
};
use super::with_freshness;
use crate::app::{App, META_ZONE};
use crate::kv::{AutopilotSettings, Command, Outcome};

/// The configuration that all servers share.
pub(super) async fn configuration(app: Arc<App>, call: Arc<Call>) -> Result<Reply, ApiError> {
    if call.params.consistency()? != Consistency::Stale {
        app.raft.linearizable_read().await?;
    }
    let stored = app.store.autopilot().ok_or_else(|| {
        ApiError::NotNow(
            "autopilot has no configuration yet: no leader has been elected since the cluster was formed"
                .to_owned(),
        )
    })?;
    let index = stored.modify_index.max(1);
    let reply =
        Reply::json(&call, &AutopilotConfiguration::from(stored)).with_header("x-consul-index", index);
    Ok(with_freshness(&app, reply))
}

/// Replaces the configuration. A key left out takes its default.
pub(super) async fn configure(app: Arc<App>, call: Arc<Call>) -> Result<Reply, ApiError> {
    let cas = call.params.number("cas")?;
    let body: AutopilotConfiguration = serde_json::from_slice(&call.body)
        .map_err(|error| ApiError::Bad(format!("Error parsing autopilot config: {error}")))?;
    let settings = AutopilotSettings::from(body);
    settings.validate().map_err(|error| ApiError::Bad(format!("Error parsing autopilot config: {error}")))?;
    crate::integration::config_of(&settings)
        .validate()
        .map_err(|error| ApiError::Bad(format!("Error parsing autopilot config: {error}")))?;
    let outcome = app.propose(&Command::SetAutopilot { settings: Box::new(settings), cas }).await?;
    Ok(Reply::json(&call, &(outcome == Outcome::Applied)))
}

/// The newest state of the autopilot that runs here.
fn current(app: &App) -> Result<(Autopilot, Arc<State>), ApiError> {
    let autopilot = app.supervisor.current().ok_or(ApiError::NoLeader)?;
    let state = autopilot.state();
    if state.is_empty() {
        return Err(ApiError::NotNow("autopilot has no state yet; retry in a moment".to_owned()));
    }
    Ok((autopilot, state))
}

/// Health for load balancers and dashboards: 429 when anything is unhealthy.
pub(super) async fn health(app: Arc<App>, call: Arc<Call>) -> Result<Reply, ApiError> {
    let (autopilot, state) = current(&app)?;
    let now = autopilot.now();
    let servers = state.servers.values().map(|server| ServerHealth {
        id: server.id.to_string(),
        name: server.name.to_string(),
        address: server.address.to_string(),
        serf_status: if server.node_status == NodeStatus::Unknown {
            "none"
        } else {
            server.node_status.as_str()
        },
        version: server.version.to_string(),
        leader: server.is_leader(),
        last_contact: GoDuration(server.stats.last_contact.unwrap_or_default()),
        last_term: server.stats.last_term.0,
        last_index: server.stats.last_index.0,
        healthy: server.health.healthy,
        voter: server.is_voter(),
        stable_since: wall_clock(server.health.stable_since, now, true),
    });
    let body = Health {
        healthy: state.healthy,
        failure_tolerance: state.failure_tolerance,
        servers: servers.collect(),
    };
    let status = if state.healthy { StatusCode::OK } else { StatusCode::TOO_MANY_REQUESTS };
    Ok(Reply::json(&call, &body).with_status(status))
}

/// Everything that autopilot knows, and why it did or did not act.
pub(super) async fn state(app: Arc<App>, call: Arc<Call>) -> Result<Reply, ApiError> {
    let (autopilot, state) = current(&app)?;
    let plan = autopilot.last_plan();
    let decisions = plan.decisions.iter().map(|decision| Decision {
        server: decision.server.to_string(),
        action: decision.action.to_string(),
        verdict: decision.verdict.to_string(),
        reason: Reason { code: decision.reason.code(), text: decision.reason.to_string() },
    });
    let now = autopilot.now();
    let replicas = state.servers.values().filter(|server| server.node_type == NodeType::READ_REPLICA);
    let body = AutopilotState {
        healthy: state.healthy,
        failure_tolerance: state.failure_tolerance,
        optimistic_failure_tolerance: state.optimistic_failure_tolerance,
        servers: state
            .servers
            .iter()
            .map(|(id, server)| (id.to_string(), server_state(server, now)))
            .collect(),
        leader: state.leader.as_ref().map_or_else(String::new, ToString::to_string),
        voters: state.voters.iter().map(ToString::to_string).collect(),
        read_replicas: replicas.map(|server| server.id.to_string()).collect(),
        domain_tolerance: state.domain_tolerance.as_ref().map(domain_tolerance),
        severity: state.severity.as_str(),
        quorum: state.quorum,
        promoter: state.promoter.clone(),
        configuration_index: state.configuration_index.0,
        decisions: decisions.collect(),
    };
    Ok(Reply::json(&call, &body))
}

fn domain_tolerance(tolerance: &autopilot::DomainTolerance) -> DomainTolerance {
    let domain = |domain: &autopilot::DomainState| Domain {
        voters: domain.voters,
        healthy_voters: domain.healthy_voters,
        standbys: domain.standbys,
        expendable: domain.expendable,
    };
    DomainTolerance {
        worst: tolerance.worst,
        best: tolerance.best,
        domains: tolerance.domains.iter().map(|(name, state)| (name.clone(), domain(state))).collect(),
    }
}

fn reasons(reasons: &[HealthReason]) -> Vec<Reason> {
    reasons.iter().map(|reason| Reason { code: reason.code(), text: reason.to_string() }).collect()
}

fn server_state(server: &autopilot::ServerState, now: Time) -> ServerState {
    let healthy = server.health.healthy;
    let stable_for = now.since(server.health.stable_since);
    ServerState {
        id: server.id.to_string(),
        name: server.name.to_string(),
        address: server.address.to_string(),
        node_status: server.node_status.as_str(),
        version: server.version.to_string(),
        last_contact: GoDuration(server.stats.last_contact.unwrap_or_default()),
        last_term: server.stats.last_term.0,
        last_index: server.stats.last_index.0,
        healthy,
        stable_since: wall_clock(server.health.stable_since, now, false),
        redundancy_zone: server.meta.get(META_ZONE).cloned().unwrap_or_default(),
        read_replica: server.node_type == NodeType::READ_REPLICA,
        status: server.raft_state.as_str(),
        meta: (*server.meta).clone(),
        node_type: server.node_type.to_string(),
        stable_for: healthy.then(|| {
            GoDuration(std::time::Duration::from_millis(
                u64::try_from(stable_for.as_millis()).unwrap_or(u64::MAX),
            ))
        }),
        reasons: reasons(&server.health.reasons),
        doubts: reasons(&server.health.doubts),
        blocked_by: server
            .blocked_by
            .as_ref()
            .map(|blocked| Reason { code: blocked.code(), text: blocked.to_string() }),
    }
}

/// The date of a moment on autopilot's clock, in RFC 3339.
pub(super) fn wall_clock(at: Time, now: Time, whole_seconds: bool) -> String {
    let ago = SignedDuration::try_from(now.since(at)).unwrap_or(SignedDuration::MAX);
    let date = Timestamp::now().checked_sub(ago).unwrap_or(Timestamp::MIN);
    let date = if whole_seconds { date.round(Unit::Second).unwrap_or(date) } else { date };
    date.to_string()
}
