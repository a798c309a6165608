//! `/v1/kv`: keys and values.

use std::sync::Arc;
use std::time::Duration;

use axum::http::StatusCode;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use rand::RngExt;

use super::call::{Call, Reply};
use super::error::ApiError;
use super::read::{self, with_source};
use super::wire::KvEntry;
use super::with_freshness;
use crate::app::App;
use crate::kv::command::KEY_BYTES_MAX;
use crate::kv::{Command, Entry, Outcome};

/// Where keys begin in the path.
const PREFIX: &str = "/v1/kv/";

fn key_of(call: &Call) -> Result<String, ApiError> {
    let key = call.path_after(PREFIX)?;
    if key.len() > KEY_BYTES_MAX {
        return Err(ApiError::Bad(format!("the key has {} bytes, the limit is {KEY_BYTES_MAX}", key.len())));
    }
    Ok(key)
}

fn required_key(call: &Call) -> Result<String, ApiError> {
    let key = key_of(call)?;
    if key.is_empty() { Err(ApiError::Bad("Missing key name".to_owned())) } else { Ok(key) }
}

/// One key, the keys with a prefix, or only their names; with `index` waits for a change.
pub(super) async fn read(app: Arc<App>, call: Arc<Call>) -> Result<Reply, ApiError> {
    let blocking = call.params.blocking()?;
    let wanted = call.params.consistency()?;
    let mut changed = app.store.watch();
    changed.borrow_and_update();
    let ((reply, index), by) = read::read(&app.raft, wanted, || look(&app, &call)).await?;
    let Some(blocking) = blocking.filter(|blocking| index <= blocking.index) else {
        return Ok(with_source(reply, wanted, by));
    };
    let _place = app.waiting.try_acquire().map_err(|_| {
        ApiError::Busy(
            "too many blocking queries are waiting here; retry later or ask another server".to_owned(),
        )
    })?;
    // Spreads the return of clients that started together, by at most a sixteenth as documented.
    let jitter = blocking.wait.mul_f64(rand::rng().random_range(0.0..1.0 / 16.0));
    let deadline = tokio::time::Instant::now() + blocking.wait + jitter;
    loop {
        tokio::select! {
            news = changed.changed() => {
                // Whatever is applied after a fresh look is newer than it.
                let (reply, index) = look(&app, &call)?;
                if index > blocking.index || news.is_err() {
                    return Ok(with_source(reply, wanted, by));
                }
            }
            () = tokio::time::sleep_until(deadline) => {
                let ((reply, _), by) = read::read(&app.raft, wanted, || look(&app, &call)).await?;
                return Ok(with_source(reply, wanted, by));
            }
            () = app.stopping.cancelled() => {
                return Err(ApiError::Failed("this server is shutting down".to_owned()));
            }
        }
    }
}

/// What is there now, and the index to wait from.
fn look(app: &App, call: &Call) -> Result<(Reply, u64), ApiError> {
    let params = &call.params;
    let (reply, index) = if params.flag("keys") {
        let prefix = key_of(call)?;
        let separator = params.get("separator").or_else(|| params.get("seperator"));
        let names = app.store.keys(&prefix, separator);
        // Names below the root are an empty list when there are none; any other prefix is then not found.
        let reply = if names.value.is_empty() && !prefix.is_empty() {
            not_found()
        } else {
            Reply::json(call, &names.value)
        };
        (reply, names.index)
    } else if params.flag("recurse") {
        let entries = app.store.list(&key_of(call)?);
        let found: Vec<KvEntry> = entries.value.into_iter().map(|(key, entry)| wire(key, &entry)).collect();
        (if found.is_empty() { not_found() } else { Reply::json(call, &found) }, entries.index)
    } else {
        let key = required_key(call)?;
        let entry = app.store.get(&key);
        let reply = match entry.value {
            None => not_found(),
            Some(found) if params.flag("raw") => {
                // A value is data, whatever it looks like: a browser must not run it.
                Reply::new(StatusCode::OK, "text/plain; charset=utf-8", found.value)
                    .with_header("x-content-type-options", "nosniff")
                    .with_header("content-security-policy", "sandbox")
            }
            Some(found) => Reply::json(call, &[wire(key, &found)]),
        };
        (reply, entry.index)
    };
    Ok((with_freshness(app, reply.with_header("x-consul-index", index)), index))
}

fn not_found() -> Reply {
    Reply::empty().with_status(StatusCode::NOT_FOUND)
}

pub(super) fn wire(key: String, entry: &Entry) -> KvEntry {
    KvEntry {
        lock_index: 0,
        key,
        flags: entry.flags,
        value: (!entry.value.is_empty()).then(|| BASE64.encode(&entry.value)),
        create_index: entry.create_index,
        modify_index: entry.modify_index,
    }
}

/// Stores the body. Answers `true`, or `false` when the condition did not hold.
pub(super) async fn put(app: Arc<App>, call: Arc<Call>) -> Result<Reply, ApiError> {
    let key = required_key(&call)?;
    for name in ["acquire", "release"] {
        if call.params.get(name).is_some() {
            return Err(ApiError::Bad(format!(
                "{name} is not supported: there are no sessions here; use cas"
            )));
        }
    }
    let command = Command::Put {
        key,
        value: call.body.clone(),
        flags: call.params.number("flags")?.unwrap_or(0),
        cas: call.params.number("cas")?,
    };
    let outcome = app.propose(&command).await?;
    Ok(Reply::json(&call, &(outcome == Outcome::Applied)))
}

/// Removes a key, or with `recurse` all keys with a prefix.
pub(super) async fn delete(app: Arc<App>, call: Arc<Call>) -> Result<Reply, ApiError> {
    let cas = call.params.number("cas")?;
    let command = if call.params.flag("recurse") {
        if cas.is_some() {
            return Err(ApiError::Bad(
                "Conflicting flags: recurse and cas cannot be given together".to_owned(),
            ));
        }
        Command::DeletePrefix { prefix: key_of(&call)? }
    } else {
        Command::Delete { key: required_key(&call)?, cas }
    };
    let outcome = app.propose(&command).await?;
    Ok(Reply::json(&call, &(outcome == Outcome::Applied)))
}

/// How long a proposal may take before its outcome counts as unknown.
pub(crate) const PROPOSE_TIMEOUT: Duration = Duration::from_secs(10);
