//! C3: what was acknowledged is never lost, what was refused is never applied, nothing is applied twice.
//! C2: every request of a client ends.

use std::collections::BTreeMap;

use raft::{EntryId, LogIndex};

use super::Verdict;
use super::commit::Commit;
use crate::machine::Machine;

/// What a client knows of its command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It waits.
    Open,
    /// Certainly not applied.
    Refused,
    /// Certainly applied.
    Acknowledged,
    /// It may be applied.
    Unknown,
}

/// Every command that a client ever sent.
#[derive(Debug, Default)]
pub struct Clients {
    fates: BTreeMap<u64, Fate>,
    /// Where each command stands, and in which history.
    applied: BTreeMap<u64, (EntryId, LogIndex)>,
}

impl Clients {
    /// A command is sent.
    pub fn proposes(&mut self, value: u64) {
        self.fates.insert(value, Fate::Open);
    }

    /// Whether this command's client knows that it is applied.
    #[must_use]
    pub fn is_acknowledged(&self, value: u64) -> bool {
        self.fates.get(&value) == Some(&Fate::Acknowledged)
    }

    /// How many commands ended like this.
    #[must_use]
    pub fn count(&self, fate: Fate) -> u64 {
        self.fates.values().filter(|known| **known == fate).count() as u64
    }

    /// A client learns what became of its command.
    ///
    /// # Errors
    /// It was told before, or it is told a lie.
    pub fn learns(&mut self, value: u64, fate: Fate) -> Verdict {
        let known = self.fates.insert(value, fate);
        if known != Some(Fate::Open) {
            return Err(format!("the client of command {value} was told {known:?}, and now {fate:?}"));
        }
        let applied = self.applied.contains_key(&value);
        match fate {
            Fate::Refused if applied => Err(format!("command {value} was refused, but it is applied")),
            Fate::Acknowledged if !applied => {
                Err(format!("command {value} is acknowledged, but it is not applied"))
            }
            _ => Ok(()),
        }
    }

    /// A server has applied a command.
    ///
    /// # Errors
    /// It was refused, or it stands at two places.
    pub fn applies(&mut self, value: u64, place: (EntryId, LogIndex)) -> Verdict {
        if self.fates.get(&value) == Some(&Fate::Refused) {
            return Err(format!("command {value} was refused, and is applied at {}", place.1));
        }
        let first = *self.applied.entry(value).or_insert(place);
        if first != place {
            return Err(format!("command {value} is applied at {first:?} and at {place:?}"));
        }
        Ok(())
    }

    /// At the end: everything acknowledged is in this state machine, but for what was acknowledged before a snapshot from outside
    /// took the place of it all; that one counts then.
    ///
    /// # Errors
    /// The first command that is not.
    pub fn all_kept(&self, who: &str, machine: &Machine, commit: &Commit) -> Verdict {
        if machine.restored != commit.history() {
            let other = commit.history();
            return Err(format!("{who} is in the history of {}, not in that of {other}", machine.restored));
        }
        let held: std::collections::BTreeSet<u64> = machine.values.iter().copied().collect();
        let acknowledged = self.fates.iter().filter(|(_, fate)| **fate == Fate::Acknowledged);
        let ended = |value: &u64| {
            let applied = self.applied.get(value);
            applied.is_some_and(|(history, _)| commit.ended(*history).is_some())
        };
        let mut lost = acknowledged.filter(|(value, _)| !held.contains(value) && !ended(value));
        lost.next()
            .map_or(Ok(()), |(value, _)| Err(format!("{who} does not hold the acknowledged command {value}")))
    }
}
