//! `/v1/operator/autopilot`: the operator's hand. Orders that stand, who may be stopped, who was removed. Ours; Consul has
//! nothing like it.
//!
//! An order is answered once it is stored in the replicated state, so that it survives this leader.

use std::sync::Arc;
use std::time::Duration;

use autopilot::{
    Actor, AddServerError, Autopilot, Hand, Instruction, Order, OrderError, ServerId, StopAnswer, Time,
    Tombstone,
};
use axum::http::StatusCode;
use serde::Serialize;

use super::PROPOSE_TIMEOUT;
use super::autopilot::wall_clock;
use super::call::{Call, Reply};
use super::duration::{self, GoDuration};
use super::error::ApiError;
use super::wire::Reason;
use crate::app::App;
use crate::integration::keep_ledger;
use crate::kv::Command;
use crate::members::Liveness;

/// Who acts, unless the request says so.
const SOMEBODY: &str = "operator";
/// How long a pause and a maintenance window last unless told.
const LASTS: Duration = Duration::from_secs(30 * 60);

/// Answer of `orders`, and of every order: what stands now.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Orders {
    paused: Option<Paused>,
    cordoned: Vec<Ordered>,
    drained: Vec<Ordered>,
    maintenance: Vec<Maintenance>,
    /// Who was told that it may stop, and counts as gone in answers to others.
    leaving: Vec<Leaving>,
}

/// Who gave an order, why and when.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Given {
    by: String,
    why: String,
    since: String,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Paused {
    left: GoDuration,
    #[serde(flatten)]
    given: Given,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Ordered {
    server: String,
    #[serde(flatten)]
    given: Given,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Maintenance {
    /// Absent for the whole cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    server: Option<String>,
    starts_in: GoDuration,
    left: GoDuration,
    #[serde(flatten)]
    given: Given,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Leaving {
    server: String,
    left: GoDuration,
}

/// Answer of `safe-to-stop`.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Stop {
    server: String,
    safe: bool,
    failure_tolerance: usize,
    reasons: Vec<Reason>,
}

/// One entry of `tombstones`.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Removed {
    #[serde(rename = "ID")]
    id: String,
    by: String,
    reason: Reason,
    since: String,
    term: u64,
    /// Where the configuration without it stands in the log.
    #[serde(skip_serializing_if = "Option::is_none")]
    index: Option<u64>,
    /// The life that was removed: a later one, after a new start, is let in.
    #[serde(skip_serializing_if = "Option::is_none")]
    incarnation: Option<u64>,
}

fn given(order: &Order, now: Time) -> Given {
    Given { by: order.by.to_string(), why: order.why.clone(), since: wall_clock(order.at, now, true) }
}

fn orders_of(hand: &Hand, now: Time) -> Orders {
    let left = |until: Time| GoDuration(whole_millis(until.since(now)));
    let ordered = |(server, order): (&ServerId, &Order)| Ordered {
        server: server.to_string(),
        given: given(order, now),
    };
    Orders {
        paused: hand
            .paused
            .as_ref()
            .map(|pause| Paused { left: left(pause.until), given: given(&pause.order, now) }),
        cordoned: hand.cordoned.iter().map(ordered).collect(),
        drained: hand.drained.iter().map(ordered).collect(),
        maintenance: hand
            .windows
            .iter()
            .map(|window| Maintenance {
                server: window.server.as_ref().map(ToString::to_string),
                starts_in: left(window.from),
                left: left(window.until),
                given: given(&window.order, now),
            })
            .collect(),
        leaving: hand
            .leaving
            .iter()
            .map(|(server, until)| Leaving { server: server.to_string(), left: left(*until) })
            .collect(),
    }
}

fn whole_millis(duration: Duration) -> Duration {
    Duration::from_millis(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
}

/// The autopilot that runs here, acting for whoever asks.
fn running(app: &App, call: &Call) -> Result<Autopilot, ApiError> {
    let by = call.params.get("by").filter(|by| !by.is_empty()).unwrap_or(SOMEBODY);
    let autopilot = app.supervisor.current().ok_or(ApiError::NoLeader)?;
    Ok(autopilot.acting_as(Actor::named(by.to_owned())))
}

/// The server that `server` names by id or name: a member, one that gossip knows, or one that an order is about.
fn server(app: &App, autopilot: &Autopilot, call: &Call) -> Result<ServerId, ApiError> {
    named(app, autopilot, call)?
        .ok_or_else(|| ApiError::Bad("Missing server: name one, by id or name, with ?server=".to_owned()))
}

fn named(app: &App, autopilot: &Autopilot, call: &Call) -> Result<Option<ServerId>, ApiError> {
    let Some(asked) = call.params.get("server").filter(|asked| !asked.is_empty()) else { return Ok(None) };
    let state = autopilot.state();
    let fits = |id: &str, name: &str| asked == id || asked == name;
    let member = state.servers.values().find(|s| fits(s.id.as_str(), &s.name)).map(|s| s.id.clone());
    if member.is_some() {
        return Ok(member);
    }
    let list = app.members.list();
    if let Some(member) = list.iter().find(|m| fits(&m.profile.id, &m.profile.name)) {
        return Ok(Some(ServerId::from(member.profile.id.as_str())));
    }
    let (id, hand) = (ServerId::from(asked), autopilot.hand());
    let ordered = hand.cordoned.contains_key(&id)
        || hand.drained.contains_key(&id)
        || hand.windows.iter().any(|window| window.server.as_ref() == Some(&id))
        || app.raft.configuration().configuration.server(&id).is_some();
    match ordered {
        true => Ok(Some(id)),
        false => Err(ApiError::NotFound(format!("no server has the id or name {asked:?}"))),
    }
}

fn why(call: &Call) -> String {
    call.params.get("why").unwrap_or_default().to_owned()
}

fn span(call: &Call, name: &str, default: Duration) -> Result<Duration, ApiError> {
    match call.params.get(name).filter(|text| !text.is_empty()) {
        None => Ok(default),
        Some(text) => {
            duration::parse(text).map_err(|error| ApiError::Bad(format!("Invalid {name}: {error}")))
        }
    }
}

/// Gives an order and answers, once it is stored, with what stands.
async fn order(
    app: &App,
    call: &Call,
    autopilot: &Autopilot,
    instruction: Instruction,
) -> Result<Reply, ApiError> {
    let hand = autopilot.order(instruction).await.map_err(|error| match error {
        OrderError::Request(error) => error.into(),
        error => ApiError::Bad(error.to_string()),
    })?;
    keep(app, autopilot).await.map_err(|reason| {
        ApiError::Failed(format!(
            "the order stands, but it is not stored: {reason}; give it again, or it may end with this leader"
        ))
    })?;
    Ok(Reply::json(call, &orders_of(&hand, autopilot.now())))
}

/// Stores what autopilot knows, orders and removals included, for the next leader.
async fn keep(app: &App, autopilot: &Autopilot) -> Result<(), String> {
    let ledger = autopilot.ledger().await.map_err(|error| error.to_string())?;
    tokio::time::timeout(PROPOSE_TIMEOUT, keep_ledger(&app.raft, &ledger))
        .await
        .map_err(|_| "it was not replicated in time".to_owned())?
        .map_err(|error| error.to_string())
}

/// The same where the answer does not depend on it: the next round tries again.
pub(super) async fn keep_or_say_so(app: &App, autopilot: &Autopilot) {
    if let Err(reason) = keep(app, autopilot).await {
        tracing::warn!(%reason, "what autopilot knows is not stored; will try again");
    }
}

/// The orders that stand.
pub(super) async fn orders(app: Arc<App>, call: Arc<Call>) -> Result<Reply, ApiError> {
    let autopilot = running(&app, &call)?;
    Ok(Reply::json(&call, &orders_of(&autopilot.hand(), autopilot.now())))
}

/// A server gets neither a vote nor leadership.
pub(super) async fn cordon(app: Arc<App>, call: Arc<Call>) -> Result<Reply, ApiError> {
    let autopilot = running(&app, &call)?;
    let server = server(&app, &autopilot, &call)?;
    order(&app, &call, &autopilot, Instruction::Cordon { server, why: why(&call) }).await
}

/// Lifts that.
pub(super) async fn uncordon(app: Arc<App>, call: Arc<Call>) -> Result<Reply, ApiError> {
    let autopilot = running(&app, &call)?;
    let server = server(&app, &autopilot, &call)?;
    order(&app, &call, &autopilot, Instruction::Uncordon { server }).await
}

/// A server gives leadership and its vote away.
pub(super) async fn drain(app: Arc<App>, call: Arc<Call>) -> Result<Reply, ApiError> {
    let autopilot = running(&app, &call)?;
    let server = server(&app, &autopilot, &call)?;
    order(&app, &call, &autopilot, Instruction::Drain { server, why: why(&call) }).await
}

/// Lifts that.
pub(super) async fn undrain(app: Arc<App>, call: Arc<Call>) -> Result<Reply, ApiError> {
    let autopilot = running(&app, &call)?;
    let server = server(&app, &autopilot, &call)?;
    order(&app, &call, &autopilot, Instruction::Undrain { server }).await
}

/// Changes nothing on autopilot's own account for a while.
pub(super) async fn pause(app: Arc<App>, call: Arc<Call>) -> Result<Reply, ApiError> {
    let autopilot = running(&app, &call)?;
    let lasts = span(&call, "for", LASTS)?;
    order(&app, &call, &autopilot, Instruction::Pause { lasts, why: why(&call) }).await
}

/// Ends that.
pub(super) async fn resume(app: Arc<App>, call: Arc<Call>) -> Result<Reply, ApiError> {
    let autopilot = running(&app, &call)?;
    order(&app, &call, &autopilot, Instruction::Resume).await
}

/// Sets a maintenance window for a server, or for everything.
pub(super) async fn schedule(app: Arc<App>, call: Arc<Call>) -> Result<Reply, ApiError> {
    let autopilot = running(&app, &call)?;
    let server = named(&app, &autopilot, &call)?;
    let lasts = span(&call, "for", LASTS)?;
    let starts_in = span(&call, "in", Duration::ZERO)?;
    let instruction = Instruction::Schedule { server, starts_in, lasts, why: why(&call) };
    order(&app, &call, &autopilot, instruction).await
}

/// Takes its windows back.
pub(super) async fn unschedule(app: Arc<App>, call: Arc<Call>) -> Result<Reply, ApiError> {
    let autopilot = running(&app, &call)?;
    let server = named(&app, &autopilot, &call)?;
    order(&app, &call, &autopilot, Instruction::Unschedule { server }).await
}

/// Whether a server may be stopped now: 200 yes, 409 no. Not a GET, because a yes is remembered for a minute.
pub(super) async fn safe_to_stop(app: Arc<App>, call: Arc<Call>) -> Result<Reply, ApiError> {
    let autopilot = running(&app, &call)?;
    let server = server(&app, &autopilot, &call)?;
    let StopAnswer { server, safe, failure_tolerance, reasons } = autopilot.safe_to_stop(server).await?;
    let reasons = reasons.iter().map(|reason| Reason { code: reason.code(), text: reason.to_string() });
    let body = Stop { server: server.to_string(), safe, failure_tolerance, reasons: reasons.collect() };
    let status = if safe { StatusCode::OK } else { StatusCode::CONFLICT };
    Ok(Reply::json(&call, &body).with_status(status))
}

fn buried(stone: &Tombstone, now: Time) -> Removed {
    Removed {
        id: stone.id.to_string(),
        by: stone.by.to_string(),
        reason: Reason { code: stone.why.code(), text: stone.why.to_string() },
        since: wall_clock(stone.at, now, true),
        term: stone.term.0,
        index: stone.index.map(|index| index.0),
        incarnation: stone.incarnation,
    }
}

/// Who was removed, by whom and why: one server, by its id, or all.
pub(super) async fn tombstones(app: Arc<App>, call: Arc<Call>) -> Result<Reply, ApiError> {
    let autopilot = running(&app, &call)?;
    let asked = call.params.get("server").filter(|asked| !asked.is_empty());
    let stones = autopilot.tombstones().await?;
    let now = autopilot.now();
    let wanted = stones.iter().filter(|stone| asked.is_none_or(|asked| asked == stone.id.as_str()));
    let body: Vec<Removed> = wanted.map(|stone| buried(stone, now)).collect();
    Ok(Reply::json(&call, &body))
}

/// Lets a removed server back in without a new start.
pub(super) async fn readmit(app: Arc<App>, call: Arc<Call>) -> Result<Reply, ApiError> {
    let autopilot = running(&app, &call)?;
    let id = server(&app, &autopilot, &call)?;
    let member = app.members.member(id.as_str()).filter(|member| member.liveness == Liveness::Alive);
    let address = member.and_then(|member| member.profile.raft).ok_or_else(|| {
        ApiError::Stale(format!("{id} is not alive; start it: a server that starts again is let in"))
    })?;
    app.propose(&Command::KeepOut { id: id.to_string(), generation: 0 }).await?;
    autopilot.add_server(id, address.to_string()).await.map_err(|error| match error {
        AddServerError::Request(error) => error.into(),
        error => ApiError::Failed(error.to_string()),
    })?;
    keep_or_say_so(&app, &autopilot).await;
    Ok(Reply::json(&call, &true))
}
