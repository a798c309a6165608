use std::io;

use bytes::Bytes;
use raft_types::{Configuration, LogIndex};

use crate::core::Entry;

/// What the log is for: deterministic, applied in the same order on every server.
///
/// All calls come from one task that may block; none overlaps another, except that a [`SnapshotWriter`] runs beside
/// later calls of [`StateMachine::apply`].
pub trait StateMachine: Send + 'static {
    /// Applies committed commands in order and answers each, in the same order. Only commands come here; there are no
    /// gaps other than entries of other kinds.
    fn apply(&mut self, commands: &[Entry]) -> Vec<Bytes>;

    /// Fixes the present state and returns what writes it out later. Should be quick; the writing need not be.
    fn snapshot(&self) -> SnapshotWriter;

    /// Replaces the state by a snapshot's.
    ///
    /// # Errors
    /// Whatever makes the state unusable; the server stops taking part.
    fn restore(&mut self, state: &mut dyn io::Read) -> io::Result<()>;

    /// A configuration was committed. Does nothing by default.
    fn configuration_committed(&mut self, index: LogIndex, configuration: &Configuration) {
        let _ = (index, configuration);
    }
}

/// Writes the state fixed by [`StateMachine::snapshot`].
pub type SnapshotWriter = Box<dyn FnOnce(&mut dyn io::Write) -> io::Result<()> + Send>;
