//! Clients: commands with unique values, reads, changes of members, transfers; and what they are told.

mod lease;
mod several;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use raft::core::{Entry, Input, Outcome, Refusal, RequestId};
use raft::{ConfigurationChange, EntryId, LogIndex, ServerId, Suffrage, Time};
use rand::RngExt;

use crate::check::Verdict;
use crate::check::clients::Fate;
use crate::linearizable::{Action, Answer, Key, Value};
use crate::mutant::Mutant;
use crate::random::{Random, chance, stream};
use crate::register;
use crate::server::{Reading, Seen, SimServer, Waiting};
use crate::world::{Event, World};

/// Registers that all clients share: few, so that they get into each other's way.
const KEYS: Key = 3;

/// What a client waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    /// These commands.
    Commands(Vec<u64>),
    /// An entry without a command, to read once it is applied: a read by log.
    Barrier {
        /// Of which register.
        key: Key,
        /// When it was asked for.
        began: Time,
    },
    /// A read.
    Read {
        /// It must see everything up to here.
        floor: LogIndex,
        /// Of which register.
        key: Key,
        /// When it was asked for.
        began: Time,
    },
    /// A change of members.
    Change,
    /// A transfer.
    Transfer,
}

/// All clients.
#[derive(Debug)]
pub struct Workload {
    random: Random,
    registers: Random,
    /// What clients saw last in each register, for their conditions.
    seen: BTreeMap<Key, Option<Value>>,
    next: u64,
    next_value: u64,
    pending: BTreeMap<RequestId, (usize, Asked)>,
    outcomes: BTreeMap<RequestId, Outcome>,
    /// Changes that expect a configuration which was not in force when they were asked for.
    stale: BTreeSet<RequestId>,
    /// Until then clients only read.
    pub(crate) quiet_until: Time,
    /// Transfers under way, and where.
    handing_over: BTreeMap<RequestId, usize>,
}

impl Workload {
    /// Clients that have asked for nothing yet.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            random: stream(seed, "clients"),
            registers: stream(seed, "registers"),
            seen: BTreeMap::new(),
            next: 0,
            next_value: 0,
            pending: BTreeMap::new(),
            outcomes: BTreeMap::new(),
            stale: BTreeSet::new(),
            quiet_until: Time::ZERO,
            handing_over: BTreeMap::new(),
        }
    }

    /// A fresh request number.
    pub const fn next_request(&mut self) -> RequestId {
        self.next += 1;
        RequestId(self.next)
    }

    /// One of the few registers that all clients share.
    fn key(&mut self) -> Key {
        self.registers.random_range(0..KEYS)
    }

    /// What a client does with a fresh value. Conditions are mostly on what some client saw last.
    fn action(&mut self, value: Value) -> (Key, Action) {
        let key = self.key();
        let seen = self.seen.get(&key).copied().flatten();
        let action = match self.registers.random_range(0..100) {
            0..=54 => Action::Put(value),
            55..=84 => Action::CompareAndSet(seen, value),
            85..=89 => Action::CompareAndSet(Some(self.registers.random_range(1..=value)), value),
            _ => Action::Delete,
        };
        (key, action)
    }

    /// A core is about to hear of a request: what it may answer depends on what it is like now.
    pub(crate) fn hears(&mut self, core: &raft::core::RaftCore, input: &Input, node: usize) {
        match input {
            Input::Change { request, expected: Some(expected), .. }
            | Input::AddVoter { request, expected: Some(expected), .. }
            | Input::ChangeMembership { request, expected: Some(expected), .. }
                if *expected != core.configuration_index() =>
            {
                self.stale.insert(*request);
            }
            Input::Transfer { request, .. } => {
                self.handing_over.insert(*request, node);
            }
            _ => {}
        }
    }

    /// Takes back a change of members that no server has heard of yet. False for anything else.
    pub(crate) fn withdraws(&mut self, input: &Input) -> bool {
        let (Input::Change { request, .. }
        | Input::AddVoter { request, .. }
        | Input::ChangeMembership { request, .. }) = input
        else {
            return false;
        };
        self.pending.remove(request);
        true
    }

    /// Whether a server is handing leadership over.
    #[must_use]
    pub fn hands_over(&self, node: usize) -> bool {
        self.handing_over.values().any(|at| *at == node)
    }

    /// Whether nobody waits for anything.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.pending.is_empty()
    }

    /// Who waits for what.
    #[must_use]
    pub const fn pending(&self) -> &BTreeMap<RequestId, (usize, Asked)> {
        &self.pending
    }

    /// What became of a change, a transfer, a read or a proposal (that it is in the log).
    #[must_use]
    pub fn outcome(&self, request: RequestId) -> Option<&Outcome> {
        self.outcomes.get(&request)
    }
}

fn address_of(servers: &[SimServer], node: usize) -> (ServerId, raft::ServerAddress) {
    let peer = &servers[node].peer;
    (peer.id.clone(), peer.address.clone())
}

impl World {
    pub(crate) fn client(&mut self) {
        let every = self.options.client_every;
        let next = every.mul_f64(self.workload.random.random_range(0.0..2.0));
        self.schedule(next.max(Duration::from_micros(10)), Event::Client);
        let up: Vec<usize> = (0..self.servers.len()).filter(|node| self.servers[*node].is_up()).collect();
        if up.is_empty() {
            return;
        }
        let random = &mut self.workload.random;
        let mut node = up[random.random_range(0..up.len())];
        // Most clients find some server that believes it leads; a deposed one among them is as good.
        let leaders: Vec<usize> = up.iter().copied().filter(|node| self.servers[*node].leads()).collect();
        if !leaders.is_empty() && chance(random, 850) {
            node = leaders[random.random_range(0..leaders.len())];
        }
        if self.now < self.workload.quiet_until {
            self.read(node);
            return;
        }
        // A deposed leader that does not know it yet is where reads go wrong.
        if leaders.len() > 1 && chance(random, 600) {
            let term = |node: &usize| self.servers[*node].core.as_ref().map(raft::core::RaftCore::term);
            let oldest = leaders.into_iter().min_by_key(term).unwrap_or(node);
            self.cover("reads at a deposed leader");
            self.read(oldest);
            return;
        }
        // A leader that stands still may be deposed meanwhile: what it then serves first must not be stale (L07).
        let now = self.now;
        let frozen = leaders.iter().copied().find(|node| self.servers[*node].paused_until > now);
        if let Some(frozen) = frozen.filter(|_| chance(random, 500)) {
            self.read(frozen);
            return;
        }
        // Leases are about reads: where there are leases, many clients read.
        if self.options.config.lease_reads && chance(&mut self.workload.registers, 400) {
            self.read(node);
            return;
        }
        let random = &mut self.workload.random;
        let dice = random.random_range(0..100);
        let change = dice >= 90 && self.options.changes;
        match dice {
            _ if change && dice >= 97 => self.random_transfer(node),
            _ if change && chance(random, 400) => self.random_changes(node),
            _ if change => self.random_change(node),
            0..=6 if self.options.config.lease_reads => self.random_lease_read(node),
            0..=9 => {
                // Every server reads, whoever leads.
                let anywhere = chance(&mut self.workload.registers, 500);
                let reader =
                    if anywhere { up[self.workload.registers.random_range(0..up.len())] } else { node };
                self.read(reader);
            }
            10..=12 => {
                let (key, began) = (self.workload.key(), self.now);
                self.ask(node, Asked::Barrier { key, began }, |request| Input::Barrier { request });
            }
            _ => {
                let count = 1 + self.workload.random.random_range(0..4) / 3 * 3;
                self.propose_batch(node, count);
            }
        }
    }

    pub(crate) fn ask(
        &mut self,
        node: usize,
        asked: Asked,
        input: impl FnOnce(RequestId) -> Input,
    ) -> RequestId {
        let request = self.workload.next_request();
        self.workload.pending.insert(request, (node, asked));
        if self.servers[node].paused_until > self.now {
            // It waits in a socket, and may be the first thing that the server sees when it goes on.
            let (epoch, input) = (self.servers[node].epoch, Box::new(input(request)));
            self.schedule(Duration::ZERO, Event::Ask { node, epoch, input });
        } else if self.servers[node].is_up() {
            self.step(node, input(request));
        } else {
            self.workload.pending.remove(&request);
        }
        request
    }

    /// A client asks a server to replicate a few commands.
    pub fn propose_batch(&mut self, node: usize, count: u64) -> Vec<u64> {
        let first = self.workload.next_value + 1;
        self.workload.next_value += count;
        let values: Vec<u64> = (first..first + count).collect();
        let padding = self.workload.random.random_range(0..64);
        let mut commands = Vec::new();
        for value in &values {
            let (key, action) = self.workload.action(*value);
            commands.push((register::encode(*value, key, action, padding), Bytes::new()));
            self.checks.clients.proposes(*value);
            self.checks.linearizable.writes(node, *value, key, action, self.now);
        }
        self.ask(node, Asked::Commands(values.clone()), |request| Input::Propose { request, commands });
        values
    }

    /// A client asks a server to replicate one command; returns its value.
    pub fn propose(&mut self, node: usize) -> u64 {
        self.propose_batch(node, 1)[0]
    }

    /// A client reads.
    pub fn read(&mut self, node: usize) -> RequestId {
        let (floor, key, began) = (self.checks.reads.floor(), self.workload.key(), self.now);
        if self.options.mutant == Some(Mutant::UnconfirmedReads) && self.servers[node].leads() {
            self.serve_read(node, key, began);
            return self.workload.next_request();
        }
        if self.options.config.lease_reads && chance(&mut self.workload.registers, 500) {
            return self.lease_read(node);
        }
        self.ask(node, Asked::Read { floor, key, began }, |request| Input::Read { request })
    }

    /// Someone changes the members.
    pub fn change(&mut self, node: usize, change: ConfigurationChange) -> RequestId {
        self.ask(node, Asked::Change, |request| Input::Change { request, change, expected: None })
    }

    /// Someone hands leadership over.
    pub fn transfer(&mut self, node: usize, to: Option<usize>) -> RequestId {
        let to = to.map(|to| self.servers[to].peer.id.clone());
        self.ask(node, Asked::Transfer, |request| Input::Transfer { request, to })
    }

    fn random_transfer(&mut self, node: usize) {
        let to = self.workload.random.random_range(0..=self.servers.len());
        self.transfer(node, Some(to).filter(|to| *to < self.servers.len()));
    }

    fn random_change(&mut self, node: usize) {
        let target = self.workload.random.random_range(0..self.servers.len());
        // Nobody takes members away while one is lost.
        if self.servers[target].lost || self.is_replacing() {
            return;
        }
        let (id, address) = address_of(&self.servers, target);
        let Some(core) = &self.servers[node].core else { return };
        let dice = self.workload.random.random_range(0..100);
        let change = match core.configuration().server(&id).map(|server| server.suffrage) {
            None if dice < 70 => ConfigurationChange::AddNonvoter { id, address },
            None => ConfigurationChange::AddVoter { id, address },
            Some(Suffrage::Nonvoter) if dice < 80 => ConfigurationChange::AddVoter { id, address },
            Some(Suffrage::Voter) if dice < 40 => ConfigurationChange::DemoteVoter { id },
            Some(Suffrage::Nonvoter | Suffrage::Voter) => ConfigurationChange::RemoveServer { id },
        };
        let index = core.configuration_index();
        let expected = [None, Some(index), Some(index.previous())][self.workload.random.random_range(0..3)];
        match change {
            ConfigurationChange::AddVoter { id, address } => {
                self.ask(node, Asked::Change, |request| Input::AddVoter { request, id, address, expected });
            }
            change => {
                self.ask(node, Asked::Change, |request| Input::Change { request, change, expected });
            }
        }
    }

    /// A change is answered once it is committed, and refused if it expects another configuration than the one in force.
    fn judge_change(&self, node: usize, request: RequestId, index: LogIndex) -> Verdict {
        let Some(core) = &self.servers[node].core else { return Ok(()) };
        let id = &core.me().id;
        if self.workload.stale.contains(&request) {
            return Err(format!("{id} makes a change that expects another configuration than its own"));
        }
        if index > core.commit_index() {
            return Err(format!("{id} says that its change at {index} is done, before it is committed"));
        }
        let (stands, configuration) = core.configuration_at(index);
        if stands == index && configuration.is_joint() {
            return Err(format!("{id} says that its change at {index} is done, which is joint"));
        }
        Ok(())
    }

    /// A leader takes nothing while it hands over (L01), and no more than the limit on what is uncommitted (R20).
    fn judge_proposal(&self, node: usize, first: EntryId, count: u64) -> Verdict {
        let Some(core) = &self.servers[node].core else { return Ok(()) };
        let id = &core.me().id;
        if self.workload.handing_over.values().any(|at| *at == node) {
            return Err(format!("{id} takes a command while it hands leadership over"));
        }
        let others = core.entries(core.commit_index().next(), core.last().index, usize::MAX);
        let before = others.iter().filter(|e| {
            e.id.term == first.term && !(first.index.0..first.index.0 + count).contains(&e.id.index.0)
        });
        let bytes: usize = before.map(Entry::size).sum();
        if bytes >= self.options.config.uncommitted_bytes_max {
            return Err(format!("{id} takes a command on top of {bytes} bytes that are not committed"));
        }
        Ok(())
    }

    pub(crate) fn resolve(&mut self, node: usize, before: Seen, request: RequestId, outcome: Outcome) {
        self.cover(kind(&outcome));
        let pending = self.workload.pending.remove(&request);
        self.workload.handing_over.remove(&request);
        let values = match &pending {
            Some((_, Asked::Commands(values))) => values.clone(),
            _ => Vec::new(),
        };
        match &outcome {
            Outcome::Proposed { first, count } => {
                self.proposed(node, request, *first, *count, pending, &values);
            }
            Outcome::Refused(refusal) => {
                let fate = if *refusal == Refusal::LeadershipLost { Fate::Unknown } else { Fate::Refused };
                values.iter().for_each(|value| self.learn(*value, fate));
            }
            Outcome::Read { index } | Outcome::LeaseRead { index, .. } => {
                if !self.servers[node].leads() {
                    self.cover("reads confirmed for followers");
                }
                if let Some((_, Asked::Read { floor, key, began })) = pending {
                    let reading = Reading { index: *index, floor, key, began, until: Time::NEVER };
                    if let Outcome::LeaseRead { until, .. } = outcome {
                        self.judge_lease(node, before, until);
                        self.lease_told(node, Reading { until, ..reading });
                    } else {
                        self.judge_confirmed(node, before, request);
                        self.judge_read(node, &reading);
                        self.confirmed(node, reading);
                    }
                }
            }
            Outcome::Changed { index } => {
                let verdict = self.judge_change(node, request, *index);
                self.judge("changes", verdict);
            }
            // Nothing is restored from outside here: a state machine that goes back breaks every promise on purpose.
            Outcome::Bootstrapped
            | Outcome::Transferred
            | Outcome::RestoreBegun { .. }
            | Outcome::Restored { .. } => {}
        }
        self.hear_outcome(node, request, &outcome);
        self.workload.outcomes.insert(request, outcome);
    }

    fn proposed(
        &mut self,
        node: usize,
        request: RequestId,
        first: EntryId,
        count: u64,
        pending: Option<(usize, Asked)>,
        values: &[u64],
    ) {
        let verdict = self.judge_proposal(node, first, count);
        self.judge("proposals", verdict);
        if let Some(pending) = pending {
            self.workload.pending.insert(request, pending);
        }
        if self.options.mutant == Some(Mutant::RefusalLies) && chance(&mut self.workload.random, 50) {
            values.iter().for_each(|value| self.learn(*value, Fate::Refused));
            self.workload.pending.remove(&request);
            return;
        }
        if self.options.mutant == Some(Mutant::EarlyAnswer) && chance(&mut self.workload.random, 50) {
            values.iter().for_each(|value| self.learn(*value, Fate::Acknowledged));
            self.workload.pending.remove(&request);
            return;
        }
        for offset in 0..count {
            let value = values.get(usize::try_from(offset).unwrap_or(usize::MAX)).copied();
            let index = LogIndex(first.index.0 + offset);
            self.servers[node].waiting.insert(index, Waiting { term: first.term, request, value });
        }
    }

    fn judge_confirmed(&mut self, node: usize, before: Seen, request: RequestId) {
        let Some(core) = &self.servers[node].core else { return };
        let verdict = self.checks.contact.confirmed((node, before), core, &self.servers, request);
        self.judge("reads", verdict);
    }

    fn judge_read(&mut self, node: usize, reading: &Reading) {
        let who = self.servers[node].peer.id.clone();
        let verdict = self.checks.reads.read(who.as_str(), reading.floor, reading.index);
        self.judge("reads", verdict);
        self.checks.reads.saw(reading.index);
    }

    fn confirmed(&mut self, node: usize, reading: Reading) {
        if self.options.mutant == Some(Mutant::EarlyReads) {
            self.serve_read(node, reading.key, reading.began);
        } else {
            self.servers[node].reading.push(reading);
            self.serve_reads(node);
        }
    }

    /// Answers the confirmed reads for which a server has applied enough.
    pub(crate) fn serve_reads(&mut self, node: usize) {
        let applied = self.servers[node].machine.last.index;
        let reading = std::mem::take(&mut self.servers[node].reading);
        let (due, later): (Vec<Reading>, _) = reading.into_iter().partition(|r| r.index <= applied);
        self.servers[node].reading = later;
        for reading in due {
            let Reading { key, began, until, .. } = reading;
            // The clock is read last: the server may have stood still since it was told that it holds the lease (L07).
            let ignored = self.options.mutant == Some(Mutant::LeaseEndIgnored);
            if ignored || self.servers[node].clock.local(self.now) < until {
                self.judge_read(node, &reading);
                self.serve_read(node, key, began);
            } else {
                self.cover("leases over before the answer");
            }
        }
    }

    fn serve_read(&mut self, node: usize, key: Key, began: Time) {
        let found = self.servers[node].machine.registers.get(key);
        self.workload.seen.insert(key, found);
        self.checks.linearizable.read(node, key, began, found, self.now);
        self.cover("reads served");
    }

    fn learn(&mut self, value: u64, fate: Fate) {
        if fate == Fate::Refused {
            self.checks.linearizable.refused(value);
        }
        let verdict = self.checks.clients.learns(value, fate);
        self.judge("clients", verdict);
    }

    /// An entry was applied where a client may wait for it.
    pub(crate) fn answer_proposal(&mut self, node: usize, entry: &Entry, answer: Option<Answer>) {
        let Some(waiting) = self.servers[node].waiting.remove(&entry.id.index) else { return };
        if waiting.term != entry.id.term {
            let sentence =
                format!("the client waiting for {} was never told that it is lost", entry.id.index);
            return self.judge("clients", Err(sentence));
        }
        self.checks.reads.saw(entry.id.index);
        let asked = self.workload.pending.remove(&waiting.request);
        if let Some((_, Asked::Barrier { key, began })) = asked {
            self.cover("reads by log");
            self.serve_read(node, key, began);
        }
        if let Some(value) = waiting.value {
            self.learn(value, Fate::Acknowledged);
            if let Some(answer) = answer {
                self.cover(if answer == Answer::Held(false) {
                    "conditions not met"
                } else {
                    "writes answered"
                });
                self.checks.linearizable.answered(value, answer, self.now);
            }
        }
    }

    pub(crate) fn abandon(&mut self, node: usize, from: LogIndex) {
        let lost = self.servers[node].waiting.split_off(&from);
        self.forget_waiting(lost);
    }

    /// A snapshot replaced what these clients wait for: nobody here sees it applied, as in the driver.
    pub(crate) fn overtake(&mut self, node: usize, through: LogIndex) {
        let waiting = &mut self.servers[node].waiting;
        let later = waiting.split_off(&through.next());
        let lost = std::mem::replace(waiting, later);
        self.forget_waiting(lost);
    }

    fn forget_waiting(&mut self, lost: BTreeMap<LogIndex, Waiting>) {
        for waiting in lost.into_values() {
            self.workload.pending.remove(&waiting.request);
            if let Some(value) = waiting.value {
                self.learn(value, Fate::Unknown);
            }
        }
    }

    pub(crate) fn abandon_clients_of(&mut self, node: usize) {
        let lost = std::mem::take(&mut self.servers[node].waiting);
        self.forget_waiting(lost);
        self.workload.handing_over.retain(|_, at| *at != node);
        let mine = |pending: &(usize, Asked)| pending.0 == node;
        let gone: Vec<RequestId> =
            self.workload.pending.iter().filter(|(_, pending)| mine(pending)).map(|(id, _)| *id).collect();
        for request in gone {
            if let Some((_, Asked::Commands(values))) = self.workload.pending.remove(&request) {
                values.iter().for_each(|value| self.learn(*value, Fate::Unknown));
            }
        }
    }
}

const fn kind(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Proposed { .. } => "proposals in a log",
        Outcome::Read { .. } => "reads confirmed",
        Outcome::LeaseRead { .. } => "reads by lease",
        Outcome::Changed { .. } => "changes of members committed",
        Outcome::Bootstrapped => "bootstraps",
        Outcome::Transferred => "transfers done",
        Outcome::RestoreBegun { .. } | Outcome::Restored { .. } => "restores",
        Outcome::Refused(Refusal::NotLeader { .. }) => "refused: not leader",
        Outcome::Refused(Refusal::LeadershipLost) => "refused: leadership lost",
        Outcome::Refused(Refusal::TransferInProgress) => "refused: transfer in progress",
        Outcome::Refused(Refusal::Overloaded) => "refused: overloaded",
        Outcome::Refused(Refusal::NotReady) => "refused: not ready",
        Outcome::Refused(Refusal::ChangeInProgress { .. }) => "refused: change in progress",
        Outcome::Refused(Refusal::ConfigurationMoved { .. }) => "refused: configuration moved",
        Outcome::Refused(Refusal::TransferFailed) => "refused: transfer failed",
        Outcome::Refused(Refusal::NotSpoken { .. }) => "refused: not spoken",
        Outcome::Refused(_) => "refused: invalid",
    }
}
