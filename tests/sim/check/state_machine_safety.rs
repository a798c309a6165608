//! S7: all state machines go through the same states, without gaps. S13: so do snapshots.

use raft::{LogIndex, Term};

use super::Verdict;
use crate::machine::{Machine, Snapshot};

/// The state after every index, as the first server had it.
#[derive(Debug, Default)]
pub struct StateMachineSafety {
    states: Vec<(Term, u64, LogIndex)>,
}

impl StateMachineSafety {
    /// A server has applied one entry, or stands at a snapshot.
    ///
    /// # Errors
    /// Another server was in another state at that index.
    pub fn reached(&mut self, who: &str, machine: &Machine) -> Verdict {
        let state = (machine.last.term, machine.hash, machine.configuration.0);
        let Some(position) = machine.last.index.0.checked_sub(1) else { return Ok(()) };
        let position = usize::try_from(position).expect("a run has few entries");
        if position == self.states.len() {
            self.states.push(state);
        }
        match self.states.get(position) {
            None => Err(format!("{who} is at {}, which nobody has reached step by step", machine.last)),
            Some(known) if *known != state => {
                Err(format!("{who} is in another state at {} than another server was", machine.last))
            }
            Some(_) => Ok(()),
        }
    }

    /// A snapshot is stored.
    ///
    /// # Errors
    /// It does not hold what it says.
    pub fn stored(&mut self, who: &str, snapshot: &Snapshot) -> Verdict {
        let (meta, state) = (&snapshot.meta, &snapshot.state);
        if meta.last != state.last {
            return Err(format!(
                "{who} stores a snapshot of {} that holds the state at {}",
                meta.last, state.last
            ));
        }
        if (meta.configuration_index, &meta.configuration) != (state.configuration.0, &state.configuration.1)
        {
            return Err(format!(
                "{who} stores a snapshot at {} with the configuration of {}, not of {}",
                meta.last, meta.configuration_index, state.configuration.0
            ));
        }
        self.reached(who, state)
    }
}
