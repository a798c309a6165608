//! One run: the event queue, the clock, the servers. Events are taken one by one in order of time; whatever they cause
//! is put back into the queue.

mod aftermath;
mod directed;
mod ending;
mod event;
mod fleet;
mod flying;
mod identity;
mod operator;
mod orders;
mod perform;
mod report;
mod restores;
mod watched;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::sync::Arc;
use std::time::Duration;

use raft::core::{
    Effect, Input, Persisted, RaftCore, ReplyToken, Request, Response, Role, Sequence, WriteId,
};
use raft::{Configuration, LogIndex, Server, Time};
use rand::RngExt;

use crate::check::{Checks, Step, Verdict, stability};
use crate::clock::Clock;
use crate::coverage::{Before, Regions};
use crate::disk::Start;
use crate::machine::{Machine, Snapshot};
use crate::mutant::Mutant;
use crate::nemesis::Nemesis;
use crate::network::Network;
use crate::options::Options;
use crate::pilot::Fleet;
use crate::random::{Random, between, drift, fold_number, stream};
use crate::server::{Received, Seen, SimServer};
use crate::spec::trace::Trace;
use crate::workload::Workload;

pub use event::Event;
use event::{Scheduled, node_of};
pub use report::{Failure, Report};

/// A message filter of a directed scenario: true lets the request pass.
pub type Filter = Box<dyn FnMut(usize, usize, &Request) -> bool>;

/// One run.
pub struct World {
    /// The shape of the run.
    pub options: Options,
    /// True time.
    pub now: Time,
    /// All servers, also those that never joined.
    pub servers: Vec<SimServer>,
    /// The network.
    pub network: Network,
    /// The checkers.
    pub checks: Checks,
    /// Which regions of the catalogue were entered.
    pub regions: Regions,
    /// The run in the words of the specification.
    pub specification: Trace,
    /// What clients asked for.
    pub workload: Workload,
    /// What went wrong, if anything.
    pub failure: Option<Failure>,
    /// How often each interesting thing happened.
    pub coverage: BTreeMap<&'static str, u64>,
    /// Requests that a directed scenario does not let pass.
    pub filter: Option<Filter>,
    /// Requests that a directed scenario keeps back until [`World::release`].
    pub hold: Option<Filter>,
    /// Answers that it keeps back: from whom, to whom.
    pub hold_answers: Option<(usize, usize)>,
    /// What was answered to injected requests, and by whom.
    pub said: Vec<(usize, Response)>,
    held: Vec<Event>,
    /// Machines, applications and the runs of autopilot, where it flies.
    pub fleet: Fleet,
    pub(crate) nemesis: Nemesis,
    pub(crate) disk_random: Random,
    operator: Random,
    /// States that the operator has kept. The first is that of a new cluster.
    backups: Vec<Arc<Machine>>,
    pause_random: Random,
    queue: BinaryHeap<Reverse<Scheduled>>,
    order: u64,
    events: u64,
    hash: u64,
    next_token: u64,
    faults: bool,
    /// Servers that stay dead or cut off when the faults end.
    broken: BTreeSet<usize>,
    snapshots_sent: BTreeMap<usize, u64>,
}

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("World")
            .field("now", &self.now)
            .field("servers", &self.servers)
            .finish_non_exhaustive()
    }
}

impl World {
    /// A cluster that is just being bootstrapped.
    #[must_use]
    pub fn new(mut options: Options) -> Self {
        if options.mutant == Some(Mutant::ClocksRunAway) {
            options.drift = 400_000;
        }
        let mut clocks = stream(options.seed, "clocks");
        let mut world = Self {
            now: Time::from_millis(1),
            network: Network::new(&options),
            checks: Checks::default(),
            specification: Trace::default(),
            regions: Regions::default(),
            workload: Workload::new(options.seed),
            nemesis: Nemesis::new(options.seed),
            fleet: Fleet::new(options.seed),
            failure: None,
            coverage: BTreeMap::new(),
            filter: None,
            hold: None,
            hold_answers: None,
            said: Vec::new(),
            held: Vec::new(),
            disk_random: stream(options.seed, "disk"),
            operator: stream(options.seed, "operator"),
            backups: vec![Arc::default()],
            pause_random: stream(options.seed, "pauses"),
            queue: BinaryHeap::new(),
            order: 0,
            events: 0,
            hash: options.seed,
            next_token: 0,
            broken: BTreeSet::new(),
            snapshots_sent: BTreeMap::new(),
            faults: !options.fault_every.is_zero(),
            servers: Vec::new(),
            options,
        };
        for number in 0..world.options.voters + world.options.spares {
            let mut server = world.new_server(number);
            let start = Duration::from_millis(clocks.random_range(0..10_000));
            server.clock = Clock::new(start, drift(&mut clocks, world.options.drift));
            world.servers.push(server);
        }
        for node in 0..world.servers.len() {
            world.start(node);
        }
        world.bootstrap();
        // Nobody would repeat a bootstrap that a crash undoes.
        let durable = |world: &Self| world.servers[0].disk.log.last().index > LogIndex::ZERO;
        world.run_until(Duration::from_secs(1), durable);
        if !world.options.client_every.is_zero() {
            world.schedule(world.options.client_every, Event::Client);
        }
        if world.faults {
            world.schedule(world.options.fault_every, Event::Fault);
        }
        world.start_operator();
        world.start_fleet();
        world
    }

    fn bootstrap(&mut self) {
        let members = self.servers[..self.options.voters].iter();
        let configuration = Configuration::new(
            members.map(|s| Server::voter(s.peer.id.clone(), s.peer.address.clone())).collect(),
        );
        let count = if self.options.bootstrap_all { self.options.voters } else { 1 };
        for node in 0..count {
            let request = self.workload.next_request();
            self.step(node, Input::Bootstrap { request, configuration: configuration.clone() });
        }
    }

    /// Runs to the end: faults, then healing, then the liveness checks.
    pub fn run(&mut self) -> Report {
        while self.events < self.options.events && self.failure.is_none() {
            self.advance();
        }
        if self.failure.is_none() {
            self.choose_ending();
            self.heal();
            self.settle();
        }
        if self.failure.is_none() {
            self.judge_history();
        }
        self.report()
    }

    fn report(&mut self) -> Report {
        use crate::check::clients::Fate;
        let clients = &self.checks.clients;
        for (name, count) in [
            ("elections won", self.checks.election_safety.elections()),
            ("entries committed", self.checks.commit.len()),
            ("commands acknowledged", clients.count(Fate::Acknowledged)),
            ("commands refused", clients.count(Fate::Refused)),
            ("commands with unknown fate", clients.count(Fate::Unknown)),
        ] {
            self.coverage.insert(name, count);
        }
        Report {
            seed: self.options.seed,
            events: self.events,
            time: self.now.since(Time::ZERO),
            hash: self.hash,
            coverage: self.coverage.clone(),
            regions: self.regions.entered().clone(),
            faults: self.nemesis.begun,
            failure: self.failure.clone(),
        }
    }

    /// Counts something interesting.
    pub fn cover(&mut self, what: &'static str) {
        self.regions.counts(what);
        *self.coverage.entry(what).or_default() += 1;
    }

    /// Prints a line of the trace, if one is wanted.
    pub fn trace(&self, line: impl FnOnce() -> String) {
        if self.options.trace {
            println!("{} {}", self.now, line());
        }
    }

    /// Notes a failure, unless there is one already.
    pub fn judge(&mut self, check: &'static str, verdict: Verdict) {
        if let Err(sentence) = verdict
            && self.failure.is_none()
            // A core whose timers are stuck would go on for ever.
            && self.options.only.is_none_or(|only| only == check || check == "timers")
        {
            self.trace(|| format!("FAILED {check}: {sentence}"));
            self.failure = Some(Failure { check, sentence, at: self.now });
        }
    }

    /// Puts an event into the queue.
    pub fn schedule(&mut self, after: Duration, event: Event) {
        self.schedule_at(self.now + after, event);
    }

    fn schedule_at(&mut self, at: Time, event: Event) {
        self.order += 1;
        self.queue.push(Reverse(Scheduled { at, order: self.order, event }));
    }

    /// Lets the next event happen. False if there is none.
    pub fn advance(&mut self) -> bool {
        let Some(Reverse(Scheduled { at, event, .. })) = self.queue.pop() else { return false };
        self.now = self.now.max(at);
        if let Some(node) = node_of(&event)
            && self.servers[node].paused_until > self.now
        {
            // A process that goes on finds its timers and its sockets in any order.
            let jitter = between(&mut self.pause_random, Duration::ZERO, Duration::from_millis(2));
            let later = self.servers[node].paused_until + jitter;
            self.schedule_at(later, event);
            return true;
        }
        self.events += 1;
        self.happen(event);
        true
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Wake { node, epoch } => self.wake(node, epoch),
            Event::Deliver { node, received, snapshot } => {
                self.deliver(node, *received, snapshot.map(|s| *s));
            }
            Event::Answer { node, epoch, from, sequence, response } => {
                self.answer(node, epoch, from, sequence, response);
            }
            Event::GiveUp { node, epoch, sequence } => self.give_up(node, epoch, sequence),
            Event::DiskDone { node, epoch, through, told } => self.disk_done(node, epoch, through, told),
            Event::ApplyDone { node, epoch } => self.apply_done(node, epoch),
            Event::SnapshotDone { node, epoch, snapshot } => self.snapshot_done(node, epoch, *snapshot),
            Event::Restored { node, epoch, index } => {
                if self.is_current(node, epoch) {
                    self.step(node, Input::Applied { index });
                }
            }
            Event::Restart { node, epoch } => {
                let dead = self.servers[node].epoch == epoch && !self.servers[node].is_up();
                if dead && !self.broken.contains(&node) {
                    self.start(node);
                }
            }
            Event::Replace { node, epoch } => {
                if self.is_current(node, epoch) && self.servers[node].disk.is_doomed() {
                    self.crash(node);
                    self.start(node);
                }
            }
            Event::Operate { lost, fresh } => self.operate(lost, fresh),
            event @ (Event::Backup
            | Event::Tend
            | Event::OutsideStored { .. }
            | Event::OutsideTold { .. }
            | Event::OutsideRemoved { .. }) => self.restores(event),
            Event::Flying(flying) => self.fly(*flying),
            Event::Ask { node, epoch, input } => {
                // Nobody adds a server that was lost while the request waited in a socket.
                let too_late =
                    self.servers.iter().any(|server| server.lost) && self.workload.withdraws(&input);
                if self.is_current(node, epoch) && !too_late {
                    self.step(node, *input);
                }
            }
            Event::LateAsk { node, epoch, clock } => self.late_ask(node, epoch, clock),
            Event::LeaseLook { node, epoch, told } => self.lease_look(node, epoch, told),
            Event::Client => {
                if self.faults {
                    self.client();
                }
            }
            Event::Fault => {
                if self.faults {
                    self.fault();
                }
            }
            Event::Strike(strike) => {
                if self.faults {
                    self.strike(strike);
                }
            }
            Event::AskDeposed { node, until } => self.ask_deposed(node, until),
            Event::Mend => {
                self.network.cuts.clear();
                self.network.slow.clear();
                self.network.loss = if self.faults { self.options.loss } else { 0 };
                self.trace(|| "network mended".to_owned());
            }
        }
    }

    /// Whether the faults, and with them the clients, go on.
    pub(crate) const fn has_faults(&self) -> bool {
        self.faults
    }

    pub(crate) fn is_current(&self, node: usize, epoch: u64) -> bool {
        self.servers[node].is_up() && self.servers[node].epoch == epoch
    }

    fn wake(&mut self, node: usize, epoch: u64) {
        if !self.is_current(node, epoch) {
            return;
        }
        self.servers[node].wake = None;
        let local = self.servers[node].clock.local(self.now);
        let due = self.servers[node].core.as_ref().is_some_and(|core| core.next_wake() <= local);
        if due {
            self.step(node, Input::Tick);
            let server = &self.servers[node];
            let stuck = server.core.as_ref().is_some_and(|core| core.next_wake() <= local);
            if stuck {
                let sentence = format!("{} asks to be woken in the past", server.peer.id);
                self.judge("timers", Err(sentence));
            }
        } else {
            self.plan_wake(node);
        }
    }

    pub(crate) fn plan_wake(&mut self, node: usize) {
        let server = &self.servers[node];
        let Some(core) = &server.core else { return };
        if self.options.mutant == Some(Mutant::TimersStop) && server.epoch > 1 {
            return;
        }
        let at = server.clock.global(core.next_wake()).max(self.now + Duration::from_nanos(1));
        if at == Time::NEVER || server.wake.is_some_and(|planned| planned <= at) {
            return;
        }
        let epoch = server.epoch;
        self.servers[node].wake = Some(at);
        self.schedule_at(at, Event::Wake { node, epoch });
    }

    fn deliver(&mut self, node: usize, received: Received, snapshot: Option<Snapshot>) {
        let asker = (received.from, received.epoch, received.sequence);
        if !self.servers[node].is_up() || self.servers[node].disk.failed {
            let after = self.options.delay.1;
            self.schedule(after, Event::GiveUp { node: asker.0, epoch: asker.1, sequence: asker.2 });
            return;
        }
        if let Some(mut snapshot) = snapshot {
            if self.options.mutant == Some(Mutant::SnapshotStale)
                && let Some(older) = self.servers[received.from].disk.snapshots.first()
            {
                snapshot.state = older.state.clone();
            }
            self.judge_stored(node, &snapshot);
            match self.servers[node].disk.store(snapshot) {
                Ok(Some(meta)) => {
                    let verdict = self.specification.stored(node, &meta);
                    self.judge("specification", verdict);
                }
                Ok(None) => {
                    self.cover("snapshots that could not be stored");
                    let after = self.options.delay.1;
                    let (node, epoch, sequence) = asker;
                    return self.schedule(after, Event::GiveUp { node, epoch, sequence });
                }
                Err(sentence) => self.judge("disk", Err(sentence)),
            }
        }
        self.next_token += 1;
        let reply = ReplyToken(self.next_token);
        let from = self.servers[received.from].peer.clone();
        let (request, regard) = (received.request.clone(), received.regard);
        if request == Request::ReadIndex {
            self.checks.contact.read_index(reply, self.now);
        }
        self.servers[node].received.insert(reply, received);
        self.step(node, Input::Request { from, request, reply, regard });
    }

    fn judge_stored(&mut self, node: usize, snapshot: &Snapshot) {
        let verdict = self.checks.state_machine_safety.stored(self.servers[node].peer.id.as_str(), snapshot);
        self.judge("state_machine_safety", verdict);
    }

    fn answer(&mut self, node: usize, epoch: u64, from: usize, sequence: Sequence, response: Response) {
        if !self.is_current(node, epoch) {
            return self.cover("answers to an earlier life");
        }
        self.checks.contact.answered(node, epoch, sequence);
        if self.servers[node].sent.remove(&sequence).is_none() {
            self.cover("answers after the sender gave up");
        }
        let mut sequence = sequence;
        if self.options.mutant == Some(Mutant::AnswersMixedUp)
            && let Some((other, _)) =
                self.servers[node].sent.iter().next_back().filter(|(_, to)| **to == from)
        {
            sequence = *other;
        }
        let from = self.servers[from].peer.id.clone();
        self.step(node, Input::Response { from, sequence, response });
    }

    fn give_up(&mut self, node: usize, epoch: u64, sequence: Sequence) {
        if !self.is_current(node, epoch) {
            return;
        }
        if let Some(to) = self.servers[node].sent.remove(&sequence) {
            self.checks.contact.gives_up(node, epoch, sequence);
            let to = self.servers[to].peer.id.clone();
            self.step(node, Input::SendFailed { to, sequence });
        }
    }

    fn disk_done(&mut self, node: usize, epoch: u64, through: WriteId, told: bool) {
        if !self.is_current(node, epoch) || self.servers[node].disk.failed {
            return;
        }
        if told && self.options.mutant == Some(Mutant::DiskLies) {
            let late = Event::DiskDone { node, epoch, through, told: false };
            self.schedule(Duration::from_millis(300), late);
        } else {
            match self.servers[node].disk.complete(through) {
                Ok(true) => {}
                Ok(false) => {
                    self.cover("writes that failed");
                    return self.step(node, Input::StorageFailed);
                }
                Err(sentence) => return self.judge("disk", Err(sentence)),
            }
            let verdict = self.specification.synced(node, through, &self.servers[node].disk);
            self.judge("specification", verdict);
        }
        if told {
            self.step(node, Input::Persisted { through });
        }
    }

    /// Gives a core an input, takes its effects in, and judges all invariants.
    pub fn step(&mut self, node: usize, input: Input) {
        let local = self.servers[node].clock.local(self.now);
        self.step_at(node, local, input);
    }

    /// The same, for a server that looked at its clock some time ago.
    pub(crate) fn step_at(&mut self, node: usize, local: Time, input: Input) {
        if self.failure.is_some() {
            return;
        }
        self.trace(|| format!("{} <- {input:?}", self.servers[node].peer.id));
        let Some(core) = &mut self.servers[node].core else { return };
        self.workload.hears(core, &input, node);
        // A follower's read is confirmed by its leader; that it is not stale is judged like any other read.
        if let Input::Read { request } | Input::LeaseRead { request } = &input
            && core.role() == Role::Leader
        {
            self.checks.contact.reads(*request, self.now);
        }
        let (before, shown, told) = (Seen::of(core), Before::of(core), input.clone());
        let asked = stability::Asked::of(core, &input, local, self.options.config.election_timeout);
        let mut effects = Vec::new();
        core.step(local, input, &mut effects);
        if let Some(Err(sentence)) = asked.map(|asked| asked.judge(core, &effects)) {
            self.judge("stability", Err(sentence));
        }
        self.enter_regions(node, shown, &told, &effects);
        let specified = self.specify(node, Some(&told), &effects);
        self.take_in(node, before, effects);
        // Whoever goes by a clock that it looked at long ago cannot see how long it has heard nothing.
        if local == self.servers[node].clock.local(self.now) && self.servers[node].is_up() {
            let bound = self.longest_without_quorum();
            let step = Step { node, now: self.now, before, commits: Vec::new(), servers: &self.servers };
            let verdict = self.checks.contact.stepped(&step, bound);
            self.judge("contact", verdict);
        }
        self.judge("specification", specified);
    }

    fn take_in(&mut self, node: usize, before: Seen, effects: Vec<Effect>) {
        let commits = Step::commits_of(before, &effects);
        for effect in effects {
            if self.failure.is_some() {
                return;
            }
            self.trace(|| format!("{}    -> {effect:?}", self.servers[node].peer.id));
            self.perform(node, before, effect);
        }
        let step = Step { node, now: self.now, before, commits, servers: &self.servers };
        let verdict = self.checks.stepped(&step);
        if let Err((check, sentence)) = verdict {
            self.judge(check, Err(sentence));
        }
        let Some(core) = &self.servers[node].core else { return };
        let now = Seen::of(core);
        for number in
            [self.now.as_nanos(), node as u64, now.term.0, now.last.index.0, now.commit.0, now.applied.0]
        {
            self.hash = fold_number(self.hash, number);
        }
        self.servers[node].highest_term = self.servers[node].highest_term.max(now.term);
        self.plan_wake(node);
        self.follow_leadership(node);
    }

    /// How long a leader may go without an answer of a quorum: it looks once a heartbeat interval, by its own clock.
    fn longest_without_quorum(&self) -> Duration {
        let config = &self.options.config;
        let slack = Duration::from_millis(1) + config.election_timeout.mul_f64(0.05);
        #[expect(clippy::cast_precision_loss, reason = "a rate of a few percent")]
        let slowest = 1.0 - self.options.drift as f64 / 1e6;
        (config.election_timeout + config.heartbeat_interval).div_f64(slowest) + slack
    }

    /// Starts a server from what its disk holds.
    pub fn start(&mut self, node: usize) {
        if self.servers[node].lost {
            return;
        }
        if let Some(mutant) = self.options.mutant
            && self.servers[node].epoch > 0
        {
            self.servers[node].disk.spoil(mutant);
        }
        let id = self.servers[node].peer.id.clone();
        match self.servers[node].disk.start(&mut self.disk_random, &id) {
            Ok(Start::Sound) => {}
            Ok(Start::Refused(error)) => return self.lose(node, &error),
            Err(sentence) => return self.judge("disk", Err(sentence)),
        }
        let local = self.servers[node].clock.local(self.now);
        let seed = self.options.seed.wrapping_mul(1_000_003) + self.order;
        let config = self.options.config.clone();
        let server = &mut self.servers[node];
        server.epoch += 1;
        server.log = server.disk.log.clone();
        if let Some(snapshot) = server.disk.newest() {
            server.machine = (*snapshot.state).clone();
        }
        let persisted = Persisted {
            hard_state: server.disk.hard_state.clone(),
            snapshot: server.disk.newest().map(|snapshot| snapshot.meta.clone()),
            base: server.log.base,
            entries: server.log.entries.iter().cloned().collect(),
            commit: server.log.commit,
        };
        let specified = self.specification.restarts(node, &persisted);
        let mut effects = Vec::new();
        let mutant = self.options.mutant.and_then(Mutant::core);
        let me = server.peer.clone();
        let restored = RaftCore::restore_mutated(me, &config, seed, local, persisted, mutant, &mut effects);
        match restored {
            Ok(core) => {
                let before = Seen { commit: LogIndex::ZERO, ..Seen::of(&core) };
                let id = &server.peer.id;
                if self.options.trace {
                    println!(
                        "{} {id} starts: {:?}, log {}..{}",
                        self.now,
                        server.disk.hard_state,
                        server.log.base,
                        server.log.last()
                    );
                }
                self.regions.starts(node, &core);
                server.core = Some(core);
                let resets = |effect: &Effect| matches!(effect, Effect::Persist(w) if w.reset_to.is_some());
                if effects.iter().any(resets) {
                    self.cover("logs reset to a newer snapshot at a restart");
                }
                let specified = specified.and_then(|()| self.specify(node, None, &effects));
                self.take_in(node, before, effects);
                self.judge("specification", specified);
                self.start_gossip(node);
            }
            Err(error) => self.judge("restart", Err(format!("{}: {error}", self.servers[node].peer.id))),
        }
    }

    /// Kills a server.
    pub fn crash(&mut self, node: usize) {
        if !self.servers[node].is_up() {
            return;
        }
        self.trace(|| format!("{} crashes", self.servers[node].peer.id));
        self.regions.crashes(node, &self.servers);
        self.abandon_clients_of(node);
        for received in std::mem::take(&mut self.servers[node].received).into_values() {
            let after = self.options.delay.1;
            self.schedule(
                after,
                Event::GiveUp { node: received.from, epoch: received.epoch, sequence: received.sequence },
            );
        }
        let crashed = self.servers[node].disk.crash(&mut self.disk_random);
        match crashed {
            Ok(true) => self.cover("torn writes"),
            Ok(false) => {}
            Err(sentence) => self.judge("disk", Err(sentence)),
        }
        self.servers[node].forget();
        self.cover("crashes");
    }

    /// Lets events happen until this holds. False if the time runs out first or an invariant is broken.
    pub fn run_until(&mut self, limit: Duration, mut holds: impl FnMut(&Self) -> bool) -> bool {
        let deadline = self.now + limit;
        while self.failure.is_none() {
            if holds(self) {
                return true;
            }
            let next = self.queue.peek().map_or(Time::NEVER, |Reverse(scheduled)| scheduled.at);
            if next > deadline {
                self.now = deadline;
                return false;
            }
            self.advance();
        }
        false
    }

    /// Draws from the stream for disks.
    pub(crate) fn disk_delay(&mut self) -> Duration {
        let (low, high) = self.options.disk;
        between(&mut self.disk_random, low, high)
    }
}
