//! What a leader knows, handed to the next one: the application stores it and gives it back.
//!
//! Two leaders share no clock. So all times in a ledger are distances from the moment at which it was made, and a
//! leader that takes it over counts as if that moment were now: nothing is credited for the time in between. How long
//! that was only the application can say, and what is older than [`Ledger::AGE_MAX`] is refused.

use std::collections::BTreeMap;
use std::time::Duration;

use super::digest::stable_hash;
use super::flaps;
use super::inputs::Inputs;
use super::mutant::{Mutant, mutated};
use crate::model::{
    CHANGES_REMEMBERED_MAX, Config, Hand, InputsHash, Ledger, LedgerError, Memory, Order, ServerMemory, State,
};
use raft_types::{ServerId, Time};

/// The moment at which a ledger was made, on its own clock: far enough from both ends for any distance.
const ORIGIN: Time = Time::from_nanos(u64::MAX / 4);

/// What a new leader takes over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Takeover {
    /// For the first round.
    pub memory: Memory,
    /// The orders that stand.
    pub hand: Hand,
    /// Why the health history is not part of it, if it is not.
    pub refused: Option<LedgerError>,
}

impl Ledger {
    /// Writes down what a leader knows.
    #[must_use]
    pub fn export(state: &State, memory: &Memory, hand: &Hand, config: &Config, now: Time) -> Self {
        let mut memory = memory.clone();
        for seen in memory.servers.values_mut() {
            flaps::update(seen, &config.health, now, false);
            flaps::settle(seen, &config.health, now);
        }
        let within = |times: &mut Vec<Time>, window| times.retain(|at| now.since(*at) < window);
        within(&mut memory.removals, config.removal.window);
        within(&mut memory.changes, config.changes.window);
        memory.voter_removed_at =
            memory.voter_removed_at.filter(|at| now.since(*at) < config.removal.cool_down);
        (memory.refused, memory.drained) = (Vec::new(), Vec::new());
        let mut hand = hand.clone();
        hand.leaving.retain(|_, until| now < *until);
        shift_memory(&mut memory, now, ORIGIN);
        shift_hand(&mut hand, now, ORIGIN);
        let mut ledger = Self {
            format: Self::FORMAT,
            term: state.term,
            configuration_index: state.configuration_index,
            voters: state.voters.clone(),
            memory,
            hand,
            check: InputsHash(0),
        };
        ledger.check = ledger.hash();
        ledger
    }

    /// Takes it over for a run that starts with these inputs. `age` is how long ago it was made at most, as far as the
    /// application can tell.
    ///
    /// Where the run has looked at the cluster already, what it saw stands, and no credit for health is added to it.
    ///
    /// A ledger that is too old, not of an earlier term, or of a time when fewer than half of its voters were members here,
    /// still tells what no clock wears out: the orders, who was removed, and how large the cluster was.
    ///
    /// # Errors
    /// When it is corrupt, or about another cluster: none of its voters is a member here. See [`LedgerError`].
    pub fn import(&self, inputs: &Inputs, age: Duration) -> Result<Takeover, LedgerError> {
        self.import_between(inputs, age, age)
    }

    /// The same where the application can only tell how long ago it was made at least and at most. By the latter it is
    /// too old or not; its orders lose only the time that has certainly passed, so that none ends before its time.
    ///
    /// # Errors
    /// As for [`Ledger::import`].
    pub fn import_between(
        &self,
        inputs: &Inputs,
        at_least: Duration,
        age: Duration,
    ) -> Result<Takeover, LedgerError> {
        self.check_identity(inputs)?;
        let now = inputs.now;
        let mut hand = if mutated(Mutant::OrdersLost) { Hand::default() } else { self.hand.clone() };
        shift_hand(&mut hand, ORIGIN + at_least.min(age), now);
        hand.expire(now);
        let refused = self.check_history(inputs, age).err();
        let memory = match &refused {
            None => self.history(now),
            Some(_) => {
                let mut memory = self.memory.clone();
                shift_memory(&mut memory, ORIGIN, now);
                let (tombstones, stable_size) = (memory.tombstones, memory.stable_size);
                Memory { tombstones, stable_size, ..Memory::default() }
            }
        };
        let memory = match inputs.memory.last_state_at {
            None => memory,
            Some(_) => beside(inputs, memory),
        };
        Ok(Takeover { memory, hand, refused })
    }

    fn history(&self, now: Time) -> Memory {
        let mut memory = self.memory.clone();
        for seen in memory.servers.values_mut() {
            // How long a dead one has been dead is for this leader to see.
            seen.credit = match seen.healthy {
                true => seen.credit.saturating_add(ORIGIN.since(seen.since)),
                false => Duration::ZERO,
            };
            (seen.since, seen.stats_at, seen.sampled_at) = (ORIGIN, None, None);
        }
        (memory.first_state_at, memory.last_state_at) = (None, None);
        if mutated(Mutant::LimitsLost) {
            (memory.changes, memory.removals, memory.voter_removed_at) = Default::default();
        }
        if mutated(Mutant::TombstonesLost) {
            memory.tombstones.clear();
        }
        shift_memory(&mut memory, ORIGIN, now);
        memory
    }

    fn check_identity(&self, inputs: &Inputs) -> Result<(), LedgerError> {
        if self.format != Self::FORMAT {
            return Err(LedgerError::Format { found: self.format });
        }
        if self.hash() != self.check {
            return Err(LedgerError::Corrupt { what: "the check does not fit" });
        }
        self.check_bounds()?;
        // Voters come and go between two ledgers. One that is left is enough for the orders: what is ordered about
        // strangers does no harm, and what is lost nobody gives again.
        match self.members(inputs) {
            0 => Err(LedgerError::Foreign { members: 0, voters: self.voters.len() }),
            _ => Ok(()),
        }
    }

    /// How many of its voters are members here.
    fn members(&self, inputs: &Inputs) -> usize {
        let configuration = &inputs.view.configuration;
        self.voters.iter().filter(|id| configuration.server(id).is_some()).count()
    }

    fn check_history(&self, inputs: &Inputs, age: Duration) -> Result<(), LedgerError> {
        let (members, voters) = (self.members(inputs), self.voters.len());
        if members < voters.div_ceil(2) {
            return Err(LedgerError::Foreign { members, voters });
        }
        if self.term >= inputs.term {
            return Err(LedgerError::NotEarlier { made: self.term, current: inputs.term });
        }
        let (made, current) = (self.configuration_index, inputs.view.configuration_index);
        if made > current {
            return Err(LedgerError::Ahead { made, current });
        }
        if age > Self::AGE_MAX {
            return Err(LedgerError::TooOld { age });
        }
        Ok(())
    }

    fn check_bounds(&self) -> Result<(), LedgerError> {
        let corrupt = |what| Err(LedgerError::Corrupt { what });
        let (memory, hand) = (&self.memory, &self.hand);
        if memory.servers.len() > Self::SERVERS_MAX || memory.tombstones.len() > Memory::TOMBSTONES_MAX {
            return corrupt("too many servers");
        }
        let orders = [hand.cordoned.len(), hand.drained.len(), hand.windows.len(), hand.leaving.len()];
        if orders.iter().any(|count| *count > Hand::ORDERS_MAX) {
            return corrupt("too many orders");
        }
        if memory.changes.len().max(memory.removals.len()) > CHANGES_REMEMBERED_MAX {
            return corrupt("too many changes");
        }
        let past = memory.servers.values().map(|seen| seen.since).chain(memory.changes.iter().copied());
        let mut past = past.chain(memory.removals.iter().copied());
        if past.any(|at| at > ORIGIN) {
            return corrupt("something is said to have happened after it was made");
        }
        let ends = hand.windows.iter().map(|window| window.until);
        let ends = ends.chain(hand.leaving.values().copied());
        let mut ends = ends.chain(hand.paused.iter().map(|pause| pause.until));
        if ends.any(|until| until.since(ORIGIN) > Hand::SPAN_MAX * 2) {
            return corrupt("an order lasts for longer than any may");
        }
        Ok(())
    }

    fn hash(&self) -> InputsHash {
        let about = (self.format, self.term, self.configuration_index, &self.voters);
        InputsHash(stable_hash(&(about, &self.memory, &self.hand)))
    }
}

/// What the run remembers already, and beside it what an earlier leader left that no look can tell.
fn beside(inputs: &Inputs, left: Memory) -> Memory {
    let mut memory = inputs.memory.clone();
    for (id, seen) in left.servers {
        let Some(own) = memory.servers.get_mut(&id) else { continue };
        own.proven |= seen.proven;
        if seen.flaps > own.flaps {
            (own.flaps, own.flaps_at, own.flapping) = (seen.flaps, seen.flaps_at, seen.flapping);
        }
    }
    let together = |own: &mut Vec<Time>, left: Vec<Time>| {
        own.extend(left);
        own.sort_unstable();
        own.drain(..own.len().saturating_sub(CHANGES_REMEMBERED_MAX));
    };
    together(&mut memory.changes, left.changes);
    together(&mut memory.removals, left.removals);
    memory.voter_removed_at = memory.voter_removed_at.max(left.voter_removed_at);
    memory.stable_size = memory.stable_size.max(left.stable_size);
    for (id, stone) in left.tombstones {
        // A member was wanted again since.
        let room = memory.tombstones.len() < Memory::TOMBSTONES_MAX;
        if room && inputs.view.configuration.server(&id).is_none() {
            memory.tombstones.entry(id).or_insert(stone);
        }
    }
    memory
}

/// Moves a moment from one clock to another on which `from` is called `to`.
fn shift(at: &mut Time, from: Time, to: Time) {
    *at = if *at >= from { to + at.since(from) } else { to - from.since(*at) };
}

fn shift_memory(memory: &mut Memory, from: Time, to: Time) {
    let each = |at: &mut Time| shift(at, from, to);
    memory.servers.values_mut().for_each(|seen| shift_server(seen, from, to));
    memory.first_state_at.iter_mut().for_each(each);
    memory.last_state_at.iter_mut().for_each(each);
    memory.changes.iter_mut().for_each(each);
    memory.removals.iter_mut().for_each(each);
    memory.voter_removed_at.iter_mut().for_each(each);
    memory.suspended.iter_mut().for_each(|suspension| shift(&mut suspension.until, from, to));
    memory.tombstones.values_mut().for_each(|stone| shift(&mut stone.at, from, to));
}

fn shift_server(seen: &mut ServerMemory, from: Time, to: Time) {
    let each = |at: &mut Time| shift(at, from, to);
    each(&mut seen.since);
    each(&mut seen.flaps_at);
    seen.stats_at.iter_mut().for_each(each);
    seen.sampled_at.iter_mut().for_each(each);
    seen.progress_at.iter_mut().for_each(each);
}

fn shift_hand(hand: &mut Hand, from: Time, to: Time) {
    let each = |at: &mut Time| shift(at, from, to);
    let orders = |orders: &mut BTreeMap<ServerId, Order>| {
        orders.values_mut().for_each(|order| shift(&mut order.at, from, to));
    };
    orders(&mut hand.cordoned);
    orders(&mut hand.drained);
    hand.leaving.values_mut().for_each(each);
    if let Some(pause) = &mut hand.paused {
        each(&mut pause.until);
        each(&mut pause.order.at);
    }
    for window in &mut hand.windows {
        each(&mut window.from);
        each(&mut window.until);
        each(&mut window.order.at);
    }
}
