//! The latest events of the autopilot that runs here, for those who ask later.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use autopilot::{Autopilot, Event};
use parking_lot::Mutex;
use tokio::sync::broadcast::error::RecvError;

use crate::app::App;
use crate::http::wire;

/// Events that are kept.
const EVENTS_MAX: usize = 512;
/// Events of one term that can be told apart: indexes of a later term are higher than all of an earlier one.
const TERM_SHIFT: u32 = 20;

/// A bounded list of events, newest last.
#[derive(Debug, Default)]
pub(crate) struct EventLog {
    ring: Mutex<Ring>,
}

#[derive(Debug, Default)]
struct Ring {
    events: VecDeque<wire::Event>,
    last_index: u64,
}

impl EventLog {
    /// The events after this index.
    pub(crate) fn after(&self, index: u64) -> Vec<wire::Event> {
        self.ring.lock().events.iter().filter(|event| event.index > index).cloned().collect()
    }

    fn push(&self, event: &Event) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut ring = self.ring.lock();
        let index = (ring.last_index + 1).max((event.term.0 << TERM_SHIFT) + 1);
        ring.last_index = index;
        if ring.events.len() == EVENTS_MAX {
            ring.events.pop_front();
        }
        ring.events.push_back(wire::Event {
            index,
            time_unix_ms: u64::try_from(now.as_millis()).unwrap_or(u64::MAX),
            kind: event.what.to_string(),
            server: event.server.to_string(),
            reason: event.reason.code(),
            text: event.reason.to_string(),
        });
    }
}

/// Copies the events of each autopilot that runs here, for as long as it does.
pub(crate) async fn record(app: Arc<App>) {
    let mut changes = app.supervisor.changes();
    loop {
        let current = changes.borrow_and_update().clone();
        let ended = async {
            match current {
                Some(autopilot) => copy(&app, &autopilot).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = ended => if changes.changed().await.is_err() { return },
            changed = changes.changed() => if changed.is_err() { return },
            () = app.stopping.cancelled() => return,
        }
    }
}

async fn copy(app: &App, autopilot: &Autopilot) {
    let mut events = autopilot.events();
    loop {
        match events.recv().await {
            Ok(event) => {
                tracing::info!(what = %event.what, server = %event.server, reason = %event.reason, "autopilot");
                app.events.push(&event);
            }
            Err(RecvError::Lagged(missed)) => tracing::warn!(missed, "autopilot events were missed"),
            Err(RecvError::Closed) => return,
        }
    }
}
