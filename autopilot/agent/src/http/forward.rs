//! Requests that only the leader can answer: served here when this server leads, else handed on to it.
//!
//! A server that knows of no leader looks again for a while before it gives up. A request is repeated only after an
//! error that says that certainly nothing was changed.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::http::{Request, StatusCode, header};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use raft::core::Role;

use super::call::{Call, EFFECTIVE_CONSISTENCY, HOPS, NOT_APPLIED, READ_BY, Reply};
use super::error::ApiError;
use crate::app::App;
use crate::members::Liveness;

/// How long a request waits for a leader to be elected.
const LEADER_WAIT: Duration = Duration::from_secs(5);
/// Pause between two looks.
const RETRY_PAUSE: Duration = Duration::from_millis(50);
/// Looks without a leader after which another server is asked: this one may have been removed, or not added yet.
const LOOKS_ALONE: usize = 10;
/// A request passes at most this many servers after the first.
const HOPS_MAX: u32 = 2;
/// How long the leader may take to answer, beyond what a blocking query asked for.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);
/// How long a connection to the leader may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// The largest answer that is handed through.
const ANSWER_BYTES_MAX: usize = 256 << 20;

/// The headers of an answer that are handed through, under the names that handlers use.
const HANDED_ON: [&str; 6] = [
    "x-consul-index",
    "x-consul-knownleader",
    "x-consul-lastcontact",
    EFFECTIVE_CONSISTENCY,
    READ_BY,
    NOT_APPLIED,
];

/// Keeps connections to the other servers.
#[derive(Clone, Debug)]
pub(crate) struct Peers {
    client: Client<HttpConnector, Full<Bytes>>,
}

impl Peers {
    pub(crate) fn new() -> Self {
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
        connector.set_nodelay(true);
        let client = Client::builder(TokioExecutor::new())
            .pool_max_idle_per_host(16)
            .pool_idle_timeout(Duration::from_secs(30))
            .build(connector);
        Self { client }
    }
}

/// Where the leader is, as this server sees it.
enum Leader {
    Here,
    At(SocketAddr),
    Unknown,
}

fn leader(app: &App) -> Leader {
    let metrics = app.raft.metrics();
    let metrics = metrics.borrow();
    if metrics.role == Role::Leader {
        return Leader::Here;
    }
    let member = metrics.leader.as_ref().and_then(|peer| app.members.member(peer.id.as_str()));
    member.and_then(|member| member.profile.http).map_or(Leader::Unknown, Leader::At)
}

/// Answers `call` at the leader, wherever that is.
pub(super) async fn at_leader<F, Fut>(
    app: &Arc<App>,
    call: &Arc<Call>,
    handler: &F,
) -> Result<Reply, ApiError>
where
    F: Fn(Arc<App>, Arc<Call>) -> Fut,
    Fut: Future<Output = Result<Reply, ApiError>>,
{
    let started = Instant::now();
    let mut look = 0_usize;
    loop {
        look += 1;
        let found = match leader(app) {
            Leader::Unknown if look.is_multiple_of(LOOKS_ALONE) => another(app, look / LOOKS_ALONE),
            found => found,
        };
        let failed = match found {
            Leader::Here => match handler(Arc::clone(app), Arc::clone(call)).await {
                Err(error) if error.may_be_retried() => error,
                answer => return answer,
            },
            Leader::At(address) if call.hops < HOPS_MAX => match hand_on(app, address, call).await {
                Err(error) if error.may_be_retried() => error,
                answer => return answer,
            },
            Leader::At(_) | Leader::Unknown => ApiError::NoLeader,
        };
        // The first server waits; the others answer at once, so that waits do not add up.
        if call.hops > 0 || started.elapsed() >= LEADER_WAIT {
            return Err(failed);
        }
        tokio::time::sleep(RETRY_PAUSE).await;
    }
}

/// Any other live server, a different one each time: it may know the leader.
fn another(app: &App, turn: usize) -> Leader {
    let list = app.members.list();
    let others: Vec<SocketAddr> = list
        .iter()
        .filter(|member| member.liveness == Liveness::Alive && member.profile.id != app.id.as_str())
        .filter_map(|member| member.profile.http)
        .collect();
    others.get(turn % others.len().max(1)).map_or(Leader::Unknown, |address| Leader::At(*address))
}

async fn hand_on(app: &App, to: SocketAddr, call: &Call) -> Result<Reply, ApiError> {
    let query = if call.query.is_empty() { String::new() } else { format!("?{}", call.query) };
    let request = Request::builder()
        .method(call.method.clone())
        .uri(format!("http://{to}{}{query}", call.path))
        .header(HOPS, call.hops + 1)
        .body(Full::new(call.body.clone()))
        .map_err(|error| ApiError::Bad(format!("the request cannot be handed to the leader: {error}")))?;
    let blocking = call.params.blocking()?.map(|blocking| blocking.wait + blocking.wait / 16);
    let waits = blocking.or(call.params.wait()?).unwrap_or_default();
    let exchange = async {
        let response = app.peers.client.request(request).await.map_err(|error| {
            if error.is_connect() {
                ApiError::NotNow(format!("the leader at {to} cannot be reached"))
            } else {
                lost(call, to, &error.to_string())
            }
        })?;
        let (parts, body) = response.into_parts();
        let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await;
        let body = body.map_err(|error| lost(call, to, &error.to_string()))?.to_bytes();
        Ok::<_, ApiError>((parts, body))
    };
    let (parts, body) = tokio::time::timeout(waits + ANSWER_TIMEOUT, exchange)
        .await
        .map_err(|_| lost(call, to, "no answer in time"))??;
    if parts.headers.contains_key(NOT_APPLIED) {
        let text = String::from_utf8_lossy(&body).into_owned();
        return Err(if parts.status == StatusCode::INTERNAL_SERVER_ERROR && text == "No cluster leader" {
            ApiError::NoLeader
        } else {
            ApiError::NotNow(text)
        });
    }
    let mut headers = Vec::new();
    for name in HANDED_ON {
        if let Some(value) = parts.headers.get(name).and_then(|value| value.to_str().ok()) {
            headers.push((name, value.to_owned()));
        }
    }
    let content_type = parts.headers.get(header::CONTENT_TYPE).cloned();
    Ok(Reply { status: parts.status, content_type, headers, body })
}

/// The exchange broke after it had begun: a read may be repeated, of a write nobody knows.
fn lost(call: &Call, to: SocketAddr, reason: &str) -> ApiError {
    if call.method == axum::http::Method::GET {
        ApiError::NotNow(format!("the leader at {to} did not answer: {reason}"))
    } else {
        ApiError::Failed(format!(
            "the leader at {to} did not answer: {reason}; the change may have been made: read before trying again"
        ))
    }
}
