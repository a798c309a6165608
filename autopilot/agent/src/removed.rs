//! A server that was removed from its cluster is told: Raft itself simply stops talking to it.

use std::sync::Arc;
use std::time::Duration;

use crate::app::App;
use crate::http;

/// How often a server that sees no leader, or is no member as far as it knows, asks whether it was removed.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// Runs for as long as the server does.
pub(crate) async fn watch(app: Arc<App>) {
    while app.stopping.run_until_cancelled(tokio::time::sleep(LOOK_INTERVAL)).await.is_some() {
        let metrics = app.raft.metrics().borrow().clone();
        let member = metrics.configuration.server(&app.id).is_some();
        if member && metrics.leader.is_some() {
            *app.removed.lock() = None;
            continue;
        }
        let Some(Ok(found)) = app.stopping.run_until_cancelled(http::ask_leader_about_removal(&app)).await
        else {
            continue;
        };
        let own = app.members.member(app.id.as_str()).map(|member| member.generation);
        // A later life than the one that was removed is let in.
        let found = found.filter(|removal| removal.incarnation.is_none() || own <= removal.incarnation);
        let text = found.map(|removal| {
            format!("removed by {} at {}: {}", removal.by, removal.since, removal.reason.text)
        });
        let mut known = app.removed.lock();
        if let Some(text) = text.as_ref().filter(|text| known.as_ref() != Some(text)) {
            tracing::error!(
                "this server is not part of its cluster any more: {text}; it stays out until it is started again, or let in with: autopilot operator autopilot readmit {}",
                app.id
            );
        }
        *known = text;
    }
}
