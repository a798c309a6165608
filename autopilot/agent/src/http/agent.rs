//! `/v1/agent`: this server, and whom it sees.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::call::{Call, Reply};
use super::error::ApiError;
use super::wire::{AgentSelf, Member, SelfConfig};
use crate::app::{App, VERSION};
use crate::members::{Liveness, MemberView};

/// Everyone that gossip knows.
pub(super) async fn members(app: Arc<App>, call: Arc<Call>) -> Result<Reply, ApiError> {
    // There is no second, wide-area gossip.
    let list = if call.params.flag("wan") { [].into() } else { app.members.list() };
    let members: Vec<Member> = list.iter().map(|member| wire(&app, member)).collect();
    Ok(Reply::json(&call, &members))
}

fn wire(app: &App, member: &MemberView) -> Member {
    let profile = &member.profile;
    let mut tags = BTreeMap::from([
        ("role", "consul".to_owned()),
        ("id", profile.id.clone()),
        ("dc", profile.datacenter.clone()),
        ("build", format!("{}:", profile.version)),
        ("vsn", "2".to_owned()),
        ("vsn_min", "2".to_owned()),
        ("vsn_max", "3".to_owned()),
        ("raft_vsn", "3".to_owned()),
        ("expect", profile.expect.to_string()),
        ("zone", profile.zone.clone()),
        ("read_replica", profile.read_replica.to_string()),
    ]);
    if profile.bootstrapped {
        tags.insert("bootstrap", "1".to_owned());
    }
    if let Some(raft) = profile.raft {
        tags.insert("port", raft.port().to_string());
        tags.insert("raft_addr", raft.to_string());
    }
    if let Some(http) = profile.http {
        tags.insert("http_addr", http.to_string());
    }
    tags.retain(|_, value| !value.is_empty());
    let leaving = profile.id == app.id.as_str() && app.leaving.is_cancelled();
    Member {
        name: profile.name.clone(),
        addr: member.gossip.ip().to_string(),
        port: member.gossip.port(),
        tags,
        status: match member.liveness {
            Liveness::Alive if leaving => 2,
            Liveness::Alive => 1,
            Liveness::Left => 3,
            Liveness::Failed => 4,
        },
        protocol_min: 1,
        protocol_max: 5,
        protocol_cur: 2,
        delegate_min: 2,
        delegate_max: 5,
        delegate_cur: 4,
    }
}

/// This server: configuration, itself as a member, and numbers.
pub(super) async fn this(app: Arc<App>, call: Arc<Call>) -> Result<Reply, ApiError> {
    let config = &app.config;
    let addresses = &app.addresses;
    let debug_config = BTreeMap::from([
        ("DataDir", config.data_dir.display().to_string()),
        ("RaftAddr", addresses.raft.to_string()),
        ("HTTPAddr", addresses.http.to_string()),
        ("GossipAddr", addresses.gossip.to_string()),
        ("BootstrapExpect", config.bootstrap_expect.to_string()),
        ("Join", config.join.join(",")),
        ("Promoter", format!("{:?}", config.promoter)),
    ]);
    let body = AgentSelf {
        config: SelfConfig {
            datacenter: config.datacenter.clone(),
            node_name: config.node_name.clone(),
            node_id: app.id.to_string(),
            server: true,
            revision: "",
            version: VERSION,
        },
        debug_config,
        member: app.members.member(app.id.as_str()).map(|member| wire(&app, &member)),
        stats: stats(&app),
        meta: config.meta.clone(),
    };
    Ok(Reply::json(&call, &body))
}

/// Numbers as text in groups, under the names that hashicorp/raft uses.
fn stats(app: &App) -> BTreeMap<&'static str, BTreeMap<&'static str, String>> {
    let metrics = app.raft.metrics().borrow().clone();
    let leads = metrics.role == raft::core::Role::Leader;
    let contact = match metrics.last_leader_contact {
        _ if leads => "0".to_owned(),
        None => "never".to_owned(),
        Some(at) => super::duration::format(at.elapsed()),
    };
    let raft = BTreeMap::from([
        ("state", format!("{:?}", metrics.role)),
        ("term", metrics.term.to_string()),
        ("last_log_index", metrics.last.index.to_string()),
        ("last_log_term", metrics.last.term.to_string()),
        ("commit_index", metrics.commit_index.to_string()),
        ("applied_index", metrics.applied_index.to_string()),
        ("last_snapshot_index", metrics.snapshot_index.to_string()),
        ("latest_configuration_index", metrics.configuration_index.to_string()),
        ("num_peers", metrics.configuration.voters_count().saturating_sub(1).to_string()),
        ("last_contact", contact),
        ("storage_failed", metrics.storage_failed.to_string()),
    ]);
    let leader = metrics.leader.as_ref().map_or_else(String::new, |peer| peer.address.to_string());
    let server = BTreeMap::from([
        ("leader", leads.to_string()),
        ("leader_addr", leader),
        ("bootstrap", (app.config.bootstrap_expect == 1).to_string()),
        ("removed", app.removed.lock().clone().unwrap_or_default()),
        ("uptime", super::duration::format(std::time::Duration::from_secs(app.started.elapsed().as_secs()))),
    ]);
    BTreeMap::from([("raft", raft), ("consul", server)])
}

/// Joins the cluster of the server at this gossip address.
pub(super) async fn join(app: Arc<App>, call: Arc<Call>) -> Result<Reply, ApiError> {
    let address = call.path_after("/v1/agent/join/")?;
    app.members
        .join(&address)
        .await
        .map_err(|error| ApiError::Failed(format!("Error joining {address}: {error}")))?;
    Ok(Reply::empty())
}

/// Leaves: hands leadership over, is taken out of the configuration, tells the others, and ends. Answers first.
pub(super) async fn leave(app: Arc<App>, _: Arc<Call>) -> Result<Reply, ApiError> {
    app.leaving.cancel();
    Ok(Reply::empty())
}

/// Declares a failed member, named by name or id, gone for good.
pub(super) async fn force_leave(app: Arc<App>, call: Arc<Call>) -> Result<Reply, ApiError> {
    let node = call.path_after("/v1/agent/force-leave/")?;
    let list = app.members.list();
    let member = list.iter().find(|member| member.profile.name == node || member.profile.id == node);
    let Some(member) = member else {
        return Err(ApiError::Failed(format!("agent: No node found with name '{node}'")));
    };
    match member.liveness {
        Liveness::Left => Ok(Reply::empty()),
        Liveness::Alive => Err(ApiError::Failed(format!(
            "{node} is alive; stop it first, or let it leave with PUT /v1/agent/leave"
        ))),
        Liveness::Failed if app.members.force_leave(&member.profile.id) => Ok(Reply::empty()),
        Liveness::Failed => {
            Err(ApiError::NotNow("too many requests are waiting; retry after a pause".to_owned()))
        }
    }
}

/// What autopilot did lately: events of the leader after `index`, with `wait` as soon as there are any, with `audit`
/// only what was changed, tried or ordered.
pub(super) async fn events(app: Arc<App>, call: Arc<Call>) -> Result<Reply, ApiError> {
    let after = call.params.number("index")?.unwrap_or(0);
    let audit = call.params.flag("audit");
    let look = || {
        let mut events = app.events.after(after);
        events.retain(|event| event.change || !audit);
        events
    };
    let Some(wait) = call.params.wait()? else {
        return Ok(Reply::json(&call, &look()));
    };
    let _place = app.waiting.try_acquire().map_err(|_| {
        ApiError::Busy("too many queries are waiting here; retry later or ask another server".to_owned())
    })?;
    let mut news = app.events.watch();
    let mut leaders = app.supervisor.changes();
    let come = async {
        while look().is_empty() {
            tokio::select! {
                changed = news.changed() => if changed.is_err() { return },
                // Another server leads: the client finds it with the next request.
                _ = leaders.changed() => return,
                () = app.stopping.cancelled() => return,
            }
        }
    };
    // No news in time is an answer too.
    let _ = tokio::time::timeout(wait, come).await;
    Ok(Reply::json(&call, &look()))
}
