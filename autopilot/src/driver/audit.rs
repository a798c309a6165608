//! The timeline: what happened is told to subscribers and to the application, and changes are kept for the audit.

use std::collections::VecDeque;
use std::sync::Arc;

use raft_types::ServerId;

use super::handle::Autopilot;
use super::task::Task;
use crate::model::{Actor, Event, EventKind, Reason};

/// The newest changes, and what the application was not told yet. Both bounded.
#[derive(Debug, Default)]
pub(super) struct Timeline {
    sequence: u64,
    changes: VecDeque<Arc<Event>>,
    untold: Vec<Event>,
}

impl Timeline {
    fn push(&mut self, event: &Event) {
        if event.is_change() {
            if self.changes.len() == Autopilot::AUDIT_MAX {
                self.changes.pop_front();
            }
            self.changes.push_back(Arc::new(event.clone()));
        }
        // An application that does not take them loses the newest; numbers tell that some are missing.
        if self.untold.len() < Autopilot::EVENTS_MAX {
            self.untold.push(event.clone());
        }
    }

    pub(super) fn changes(&self) -> Vec<Arc<Event>> {
        self.changes.iter().cloned().collect()
    }

    pub(super) fn take_untold(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.untold)
    }
}

impl Task {
    /// An event by autopilot, about no change of members.
    pub(super) fn event(&self, what: EventKind, server: ServerId, reason: Reason) -> Event {
        Event {
            sequence: 0,
            at: self.now(),
            term: self.shared.term,
            actor: Actor::AUTOPILOT,
            what,
            server,
            reason,
            decided_on: None,
            index: None,
            inputs: None,
        }
    }

    /// Numbers it and passes it on.
    pub(super) fn tell(&mut self, event: Event) {
        self.timeline.sequence += 1;
        let event = Event { sequence: self.timeline.sequence, ..event };
        self.timeline.push(&event);
        // Nobody listening is no error.
        let _ = self.shared.events.send(event);
    }
}
