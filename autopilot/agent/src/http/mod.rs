//! The HTTP API: Consul's paths, parameters, statuses and shapes, answered by any server.
//!
//! `router` maps paths to handlers and does no I/O; `serve` runs it on a listener within limits on connections,
//! headers and bodies. Each endpoint says where it is answered: here, at the leader, or at the leader unless the client
//! asked for `stale`. In reading order: `call`, `forward`, then one file per family of endpoints.

mod agent;
mod autopilot;
mod autopilot_ask;
mod autopilot_hand;
mod call;
mod configuration;
pub mod duration;
mod error;
mod forward;
mod kv;
mod params;
mod raft;
mod read;
mod server;
mod status;
mod txn;
pub(crate) mod wire;

use std::pin::Pin;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode};
use axum::response::Response;
use axum::routing::{delete, get, post, put};

use crate::app::App;
use crate::kv::command::VALUE_BYTES_MAX;
use call::{Call, Reply};
use error::ApiError;
use params::Consistency;

pub(crate) use forward::Peers;
pub(crate) use kv::PROPOSE_TIMEOUT;
pub(crate) use server::serve;

/// The largest body of anything but a value.
const BODY_BYTES_MAX: usize = 64 * 1024;

/// Where an endpoint is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// By the server that was asked.
    Here,
    /// By the leader.
    Leader,
    /// By the leader, or here when the client asked for `stale`.
    LeaderUnlessStale,
    /// The same, and here too when the client asked for `consistent` and the leader says how fresh the answer has to be.
    Anywhere,
}

/// All paths.
pub(crate) fn router(app: Arc<App>) -> Router {
    use Place::{Anywhere, Here, Leader, LeaderUnlessStale};
    const SMALL: usize = BODY_BYTES_MAX;
    let kv = get(endpoint(Anywhere, SMALL, kv::read))
        .put(endpoint(Leader, VALUE_BYTES_MAX, kv::put))
        .delete(endpoint(Leader, SMALL, kv::delete));
    orders()
        .route("/v1/status/leader", get(endpoint(Here, SMALL, status::leader)))
        .route("/v1/status/peers", get(endpoint(Here, SMALL, status::peers)))
        .route(
            "/v1/operator/autopilot/configuration",
            get(endpoint(LeaderUnlessStale, SMALL, autopilot::configuration)).put(endpoint(
                Leader,
                SMALL,
                autopilot::configure,
            )),
        )
        .route("/v1/operator/autopilot/health", get(endpoint(Leader, SMALL, autopilot::health)))
        .route("/v1/operator/autopilot/state", get(endpoint(Leader, SMALL, autopilot::state)))
        .route("/v1/operator/autopilot/explain", get(endpoint(Leader, SMALL, autopilot_ask::explain)))
        .route("/v1/operator/autopilot/inputs", get(endpoint(Leader, SMALL, autopilot_ask::inputs)))
        .route(
            "/v1/operator/autopilot/plan",
            get(endpoint(Leader, SMALL, autopilot_ask::plan)).put(endpoint(
                Leader,
                SMALL,
                autopilot_ask::apply,
            )),
        )
        .route(
            "/v1/operator/raft/configuration",
            get(endpoint(LeaderUnlessStale, SMALL, raft::configuration)),
        )
        .route("/v1/operator/raft/peer", delete(endpoint(Leader, SMALL, raft::remove_peer)))
        .route("/v1/operator/raft/transfer-leader", post(endpoint(Leader, SMALL, raft::transfer_leader)))
        .route("/v1/agent/members", get(endpoint(Here, SMALL, agent::members)))
        .route("/v1/agent/self", get(endpoint(Here, SMALL, agent::this)))
        .route("/v1/agent/join/{address}", put(endpoint(Here, SMALL, agent::join)))
        .route("/v1/agent/leave", put(endpoint(Here, SMALL, agent::leave)))
        .route("/v1/agent/force-leave/{node}", put(endpoint(Here, SMALL, agent::force_leave)))
        .route("/v1/agent/autopilot/events", get(endpoint(Leader, SMALL, agent::events)))
        .route("/v1/kv", kv.clone())
        .route("/v1/kv/", kv.clone())
        .route("/v1/kv/{*key}", kv)
        .route("/v1/txn", put(endpoint(Leader, txn::BODY_BYTES_MAX, txn::run)))
        .fallback(unknown_path)
        .method_not_allowed_fallback(wrong_method)
        .with_state(app)
}

/// The operator's hand, all answered by the leader.
fn orders() -> Router<Arc<App>> {
    const AT: &str = "/v1/operator/autopilot";
    const SMALL: usize = BODY_BYTES_MAX;
    let path = |name: &str| format!("{AT}/{name}");
    Router::new()
        .route(&path("orders"), get(endpoint(Place::Leader, SMALL, autopilot_hand::orders)))
        .route(
            &path("cordon"),
            put(endpoint(Place::Leader, SMALL, autopilot_hand::cordon)).delete(endpoint(
                Place::Leader,
                SMALL,
                autopilot_hand::uncordon,
            )),
        )
        .route(
            &path("drain"),
            put(endpoint(Place::Leader, SMALL, autopilot_hand::drain)).delete(endpoint(
                Place::Leader,
                SMALL,
                autopilot_hand::undrain,
            )),
        )
        .route(
            &path("pause"),
            put(endpoint(Place::Leader, SMALL, autopilot_hand::pause)).delete(endpoint(
                Place::Leader,
                SMALL,
                autopilot_hand::resume,
            )),
        )
        .route(
            &path("maintenance"),
            put(endpoint(Place::Leader, SMALL, autopilot_hand::schedule)).delete(endpoint(
                Place::Leader,
                SMALL,
                autopilot_hand::unschedule,
            )),
        )
        .route(&path("safe-to-stop"), put(endpoint(Place::Leader, SMALL, autopilot_hand::safe_to_stop)))
        .route(
            &path("tombstones"),
            get(endpoint(Place::Leader, SMALL, autopilot_hand::tombstones)).delete(endpoint(
                Place::Leader,
                SMALL,
                autopilot_hand::readmit,
            )),
        )
}

async fn unknown_path(request: Request) -> Response {
    Reply::of_error(ApiError::NotFound(format!("there is no endpoint {}", request.uri().path())))
        .into_response()
}

async fn wrong_method(method: Method) -> Response {
    let text = format!("method {method} not allowed");
    Reply::new(StatusCode::METHOD_NOT_ALLOWED, "text/plain; charset=utf-8", text).into_response()
}

type Answer = Pin<Box<dyn Future<Output = Response> + Send>>;

/// Makes a handler into what the router takes: reads the request, finds the place, turns errors into texts.
fn endpoint<F, Fut>(
    place: Place,
    body_limit: usize,
    handler: F,
) -> impl Fn(State<Arc<App>>, Request) -> Answer + Clone + Send + Sync + 'static
where
    F: Fn(Arc<App>, Arc<Call>) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = Result<Reply, ApiError>> + Send + 'static,
{
    move |State(app), request| {
        let handler = handler.clone();
        Box::pin(async move {
            let answer = match Call::read(request, body_limit).await {
                Ok(call) => answer(&app, &Arc::new(call), place, &handler).await,
                Err(error) => Err(error),
            };
            answer.unwrap_or_else(Reply::of_error).into_response()
        })
    }
}

async fn answer<F, Fut>(
    app: &Arc<App>,
    call: &Arc<Call>,
    place: Place,
    handler: &F,
) -> Result<Reply, ApiError>
where
    F: Fn(Arc<App>, Arc<Call>) -> Fut,
    Fut: Future<Output = Result<Reply, ApiError>>,
{
    if let Some(wanted) = call.params.get("dc").filter(|dc| !dc.is_empty() && *dc != app.config.datacenter) {
        return Err(ApiError::Failed(format!(
            "No path to datacenter: {wanted:?}; this is {:?}",
            app.config.datacenter
        )));
    }
    let here = match place {
        Place::Here => true,
        Place::Leader => false,
        Place::LeaderUnlessStale | Place::Anywhere => call.params.consistency()? == Consistency::Stale,
    };
    // A blocking query may wait for minutes; one that then found no leader would have to wait again elsewhere.
    let reads_here =
        place == Place::Anywhere && call.params.flag("consistent") && call.params.blocking()?.is_none();
    if reads_here {
        match handler(Arc::clone(app), Arc::clone(call)).await {
            Err(error) if error.may_be_retried() => {}
            answer => return answer,
        }
    }
    if here {
        handler(Arc::clone(app), Arc::clone(call)).await
    } else {
        forward::at_leader(app, call, handler).await
    }
}

/// Asks the leader, on behalf of this server, to take it out of the configuration.
///
/// # Errors
/// What the leader answered.
pub(crate) async fn ask_leader_to_remove(app: &Arc<App>) -> Result<(), String> {
    let query = format!("id={}", params::encode(app.id.as_str()));
    let call = Arc::new(Call::internal(Method::DELETE, "/v1/operator/raft/peer", &query));
    let answer = forward::at_leader(app, &call, &raft::remove_peer).await.map_err(ApiError::text)?;
    if answer.status == StatusCode::OK {
        Ok(())
    } else {
        Err(String::from_utf8_lossy(&answer.body).into_owned())
    }
}

/// One server that was removed, as far as that server wants to know it.
#[derive(Clone, Debug, serde::Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Removal {
    pub(crate) by: String,
    pub(crate) reason: RemovalReason,
    pub(crate) since: String,
    pub(crate) incarnation: Option<u64>,
}

/// See [`Removal`].
#[derive(Clone, Debug, serde::Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct RemovalReason {
    pub(crate) text: String,
}

/// Asks the leader whether this server was removed.
///
/// # Errors
/// Why there is no answer.
pub(crate) async fn ask_leader_about_removal(app: &Arc<App>) -> Result<Option<Removal>, String> {
    let query = format!("server={}", params::encode(app.id.as_str()));
    let call = Arc::new(Call::internal(Method::GET, "/v1/operator/autopilot/tombstones", &query));
    let answer = forward::at_leader(app, &call, &autopilot_hand::tombstones).await.map_err(ApiError::text)?;
    if answer.status != StatusCode::OK {
        return Err(String::from_utf8_lossy(&answer.body).into_owned());
    }
    let removals: Vec<Removal> = serde_json::from_slice(&answer.body).map_err(|error| error.to_string())?;
    Ok(removals.into_iter().next())
}

/// Adds what tells a client how fresh the answer is.
fn with_freshness(app: &App, reply: Reply) -> Reply {
    let metrics = app.raft.metrics();
    let metrics = metrics.borrow();
    let contact = metrics.last_leader_contact.map_or(0, |at| at.elapsed().as_millis());
    reply
        .with_header("x-consul-knownleader", metrics.leader.is_some())
        .with_header("x-consul-lastcontact", contact)
}
