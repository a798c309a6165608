//! What a server does for the members while it leads: adds those that gossip shows, removes those that left, and
//! seeds the shared configuration. Failed members are autopilot's affair.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use autopilot::{Actor, AddServerError, AddServerOutcome, Autopilot};
use raft::ServerId;

use crate::app::App;
use crate::kv::Command;
use crate::members::{Liveness, MemberView};

/// How often members are compared with the configuration when gossip reports no change.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// A server that could not be added or removed is left alone for this long.
const PAUSE_AFTER_ERROR: Duration = Duration::from_secs(2);

/// In whose name that is done.
const ACTOR: &str = "agent";

/// Runs for as long as this server does, and works while it leads.
pub(crate) async fn run(app: Arc<App>) {
    let mut changes = app.supervisor.changes();
    loop {
        let current = changes.borrow_and_update().clone();
        let work = async {
            match &current {
                Some(autopilot) => lead(&app, autopilot).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = work => {}
            changed = changes.changed() => if changed.is_err() { return },
            () = app.stopping.cancelled() => return,
        }
    }
}

async fn lead(app: &App, autopilot: &Autopilot) {
    let mut list = app.members.watch();
    let mut paused: BTreeMap<String, Instant> = BTreeMap::new();
    // Who was found to have been removed, in which life.
    let mut kept_out: BTreeMap<String, u64> = BTreeMap::new();
    let autopilot = &autopilot.acting_as(Actor::named(ACTOR));
    loop {
        seed_configuration(app).await;
        list.borrow_and_update();
        paused.retain(|_, until| *until > Instant::now());
        for member in app.members.list().iter() {
            if app.leaving.is_cancelled() || paused.contains_key(&member.profile.id) {
                continue;
            }
            let reconciled = reconcile(app, autopilot, member).await;
            if let Ok(Known::KeptOut(tombstone)) = &reconciled
                && kept_out.insert(member.profile.id.clone(), member.generation) != Some(member.generation)
            {
                tracing::warn!(name = %member.profile.name, "{tombstone}; it stays out until it starts again or somebody readmits it");
            }
            if let Err(error) = reconciled {
                tracing::warn!(id = %member.profile.id, name = %member.profile.name, %error, "cannot change a member; will try again");
                paused.insert(member.profile.id.clone(), Instant::now() + PAUSE_AFTER_ERROR);
            }
        }
        let _ = tokio::time::timeout(LOOK_INTERVAL, list.changed()).await;
    }
}

/// The first leader of a cluster stores its own settings as everyone's.
async fn seed_configuration(app: &App) {
    if app.store.autopilot().is_some() {
        return;
    }
    let seed = Command::SetAutopilot { settings: Box::new(app.config.autopilot.clone()), cas: Some(0) };
    if let Err(error) = app.propose(&seed).await {
        tracing::debug!(%error, "the autopilot configuration is not stored yet");
    }
}

/// What became of comparing a member with the configuration.
enum Known {
    /// It is as it should be.
    Fine,
    /// It was removed, in this life: when, by whom and why.
    KeptOut(String),
}

async fn reconcile(app: &App, autopilot: &Autopilot, member: &MemberView) -> Result<Known, String> {
    let profile = &member.profile;
    let id = ServerId::from(profile.id.as_str());
    let Some(raft) = profile.raft else { return Ok(Known::Fine) };
    let state = app.raft.configuration();
    let known = state.configuration.server(&id);
    match (member.liveness, known) {
        (Liveness::Alive, Some(server)) if server.address.as_str() == raft.to_string() => Ok(Known::Fine),
        (Liveness::Alive, None) if app.store.is_kept_out(&profile.id, member.generation) => {
            Ok(Known::KeptOut(format!("server {id} was removed on request")))
        }
        (Liveness::Alive, _) => {
            match autopilot.admit(id, raft.to_string(), Some(member.generation)).await {
                Err(error @ AddServerError::Removed { .. }) => return Ok(Known::KeptOut(error.to_string())),
                Err(error) => return Err(error.to_string()),
                Ok(AddServerOutcome::Unchanged) => {}
                Ok(_) => {
                    tracing::info!(id = %profile.id, name = %profile.name, address = %raft, "added a server");
                }
            }
            Ok(Known::Fine)
        }
        (Liveness::Left, Some(_)) if id != app.id => {
            autopilot.remove_server(id).await.map_err(|error| error.to_string())?;
            tracing::info!(id = %profile.id, name = %profile.name, "removed a server that left");
            Ok(Known::Fine)
        }
        (Liveness::Left | Liveness::Failed, _) => Ok(Known::Fine),
    }
}
