//! The latest events of the autopilot that runs here, for those who ask later.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use autopilot::{Autopilot, Event};
use parking_lot::Mutex;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::watch;

use crate::app::{App, unix_ms};
use crate::http::wire;

/// Events that are kept.
const EVENTS_MAX: usize = 512;
/// Events of one term that can be told apart: indexes of a later term are higher than all of an earlier one.
const TERM_SHIFT: u32 = 20;

/// A bounded list of events, newest last.
#[derive(Debug)]
pub(crate) struct EventLog {
    ring: Mutex<Ring>,
    last: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Ring {
    events: VecDeque<wire::Event>,
    last_index: u64,
}

impl Default for EventLog {
    fn default() -> Self {
        Self { ring: Mutex::default(), last: watch::Sender::new(0) }
    }
}

impl EventLog {
    /// The events after this index.
    pub(crate) fn after(&self, index: u64) -> Vec<wire::Event> {
        self.ring.lock().events.iter().filter(|event| event.index > index).cloned().collect()
    }

    /// Follows the index of the newest event.
    pub(crate) fn watch(&self) -> watch::Receiver<u64> {
        self.last.subscribe()
    }

    /// Adds an event that is so old by now.
    fn push(&self, event: &Event, age: Duration) {
        let age = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
        let mut ring = self.ring.lock();
        let index = (ring.last_index + 1).max((event.term.0 << TERM_SHIFT) + event.sequence);
        ring.last_index = index;
        if ring.events.len() == EVENTS_MAX {
            ring.events.pop_front();
        }
        ring.events.push_back(wire::Event {
            index,
            time_unix_ms: unix_ms().saturating_sub(age),
            kind: event.what.to_string(),
            server: event.server.to_string(),
            reason: event.reason.code(),
            text: event.reason.to_string(),
            by: event.actor.to_string(),
            term: event.term.0,
            change: event.is_change(),
            decided_on: event.decided_on.map(|index| index.0),
            configuration_index: event.index.map(|index| index.0),
            inputs: event.inputs.map(|hash| hash.to_string()),
        });
        drop(ring);
        self.last.send_replace(index);
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
    let mut told = 0;
    let mut tell = |event: &Event| {
        if event.sequence > told {
            told = event.sequence;
            tracing::info!(what = %event.what, server = %event.server, by = %event.actor, reason = %event.reason, "autopilot");
            app.events.push(event, autopilot.now().since(event.at));
        }
    };
    // What happened before this server began to listen.
    for event in autopilot.audit().await.unwrap_or_default() {
        tell(&event);
    }
    loop {
        match events.recv().await {
            Ok(event) => tell(&event),
            Err(RecvError::Lagged(missed)) => tracing::warn!(missed, "autopilot events were missed"),
            Err(RecvError::Closed) => return,
        }
    }
}
