//! People who give autopilot orders and ask it questions, and what one leader leaves to the next: a ledger in the replicated
//! state, as the agent keeps it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use autopilot::core::with_mutant;
use autopilot::{
    Actor, Config, Hand, Inputs, Instruction, Ledger, NodeStatus, ServerId, Step, Takeover, Witnesses,
    safe_to_stop,
};
use raft::Time;
use rand::RngExt;

use super::World;
use crate::check::autopilot::orders;
use crate::check::liveness;
use crate::pilot::people::{Kept, Lie, Promise, Promised, SKEW, Word};
use crate::pilot::{Flying, Stage};
use crate::random::{between, chance};

/// How long people wait before they try a leader again that was busy, or was none.
const AGAIN: Duration = Duration::from_millis(20);
/// After how long nobody waits any more to hear that a ledger is committed.
const STALE: Duration = Duration::from_secs(10);
/// The most orders that wait.
const WAITING_MAX: usize = 8;

impl World {
    /// Somebody gives an order, or asks something.
    pub(super) fn be_people(&mut self) {
        let Some(flight) = self.options.autopilot.clone() else { return };
        if !self.has_faults() || flight.people_every.is_zero() {
            return;
        }
        let random = &mut self.fleet.people.random;
        let next = flight.people_every.mul_f64(random.random_range(0.2..2.0));
        let ms = Duration::from_millis;
        let node = random.random_range(0..self.servers.len());
        let server = self.servers[node].id().clone();
        let (lasts, starts_in) = (between(random, ms(200), ms(4000)), between(random, ms(0), ms(800)));
        let everything = chance(random, 300);
        let about = (!everything).then(|| server.clone());
        let why = "people".to_owned();
        let dice = random.random_range(0..100);
        self.fly_after(next, Flying::People);
        match dice {
            0..=17 => self.order(Instruction::Cordon { server, why }),
            18..=29 => self.order(Instruction::Uncordon { server }),
            30..=45 if self.may_demote() => self.order(Instruction::Drain { server, why }),
            30..=45 => {}
            46..=57 => self.order(Instruction::Undrain { server }),
            58..=64 => self.order(Instruction::Pause { lasts, why }),
            65..=67 => self.order(Instruction::Resume),
            68..=73 => self.order(Instruction::Schedule { server: about, starts_in, lasts, why }),
            74..=75 => self.order(Instruction::Unschedule { server: about }),
            76..=89 => {
                self.wants_to_stop(node);
            }
            90..=94 => {
                self.fleet.people.wanted_back.insert(node);
            }
            _ => self.tell_lies(node, lasts * 2),
        }
    }

    /// Whether the cluster can do with one vote less: not while somebody was lost for good whom nobody has missed yet.
    fn may_demote(&self) -> bool {
        self.fleet.gone.iter().all(|gone| !self.any_voter(self.servers[*gone].id()))
    }

    /// One of those who are asked whether they hear from others says the same of all for a while.
    fn tell_lies(&mut self, node: usize, lasts: Duration) {
        let dead = chance(&mut self.fleet.people.random, 700);
        self.fleet.lies.insert(node, Lie { until: self.now + lasts, dead });
        self.cover("witnesses: lies");
    }

    /// Gives an order to whoever leads, as soon as it listens.
    pub fn order(&mut self, instruction: Instruction) {
        if self.fleet.people.waiting.len() < WAITING_MAX {
            self.fleet.people.waiting.push(instruction);
            self.give_orders();
        }
    }

    /// Once the faults are over people lift half of what stands; the rest they leave.
    pub(super) fn lift_some_orders(&mut self) {
        let standing = self.fleet.people.promises.iter().filter(|promise| !promise.lifted);
        let lifts = standing.filter_map(|promise| match promise.what.clone() {
            Promised::Cordoned(server) => Some(Instruction::Uncordon { server }),
            Promised::Drained(server) => Some(Instruction::Undrain { server }),
            _ => None,
        });
        let lifts: Vec<Instruction> = lifts.collect();
        for lift in lifts {
            if chance(&mut self.fleet.people.random, 500) {
                self.fleet.people.waiting.push(lift);
            }
        }
        self.give_orders();
    }

    /// The leader that would take a request now: its task waits for its next look.
    fn listener(&self) -> Option<usize> {
        let leader = liveness::ready_leader(&self.servers)?;
        let pilot = self.pilot(leader).filter(|p| p.stage == Stage::Idle && p.looks > 0)?;
        let listens = self.servers[leader].paused_until <= self.now && pilot.took_over;
        listens.then_some(leader)
    }

    pub(super) fn give_orders(&mut self) {
        if self.fleet.people.waiting.is_empty() {
            return;
        }
        let Some(leader) = self.listener() else { return self.fly_after(AGAIN, Flying::Orders) };
        let instruction = self.fleet.people.waiting.remove(0);
        self.instruct(leader, &instruction);
        if !self.fleet.people.waiting.is_empty() {
            self.fly_after(AGAIN, Flying::Orders);
        }
    }

    /// This leader follows an order, and stores what stands.
    fn instruct(&mut self, node: usize, instruction: &Instruction) {
        let local = self.servers[node].clock.local(self.now);
        self.trace(|| format!("{} is told: {instruction:?}", self.servers[node].id()));
        let Some(pilot) = self.fleet.pilots.get_mut(&node) else { return };
        let stood = pilot.hand.clone();
        let changed = pilot.hand.follow(instruction.clone(), &Actor::named("people"), local);
        if !matches!(changed, Ok(true)) {
            return;
        }
        pilot.run.reconcile_soon(local);
        self.note_order(node, instruction, &stood);
        self.cover(match instruction {
            Instruction::Cordon { .. } => "people: cordons",
            Instruction::Uncordon { .. } => "people: cordons lifted",
            Instruction::Drain { .. } => "people: drains",
            Instruction::Undrain { .. } => "people: drains lifted",
            Instruction::Pause { .. } => "people: pauses",
            Instruction::Resume => "people: pauses ended",
            Instruction::Schedule { .. } => "people: maintenance windows",
            _ => "people: maintenance windows taken back",
        });
        self.keep_ledger(node);
    }

    fn note_order(&mut self, node: usize, instruction: &Instruction, stood: &Hand) {
        let always = (Duration::ZERO, Duration::MAX);
        match instruction.clone() {
            Instruction::Cordon { server, .. } => self.note_promise(node, Promised::Cordoned(server), always),
            Instruction::Drain { server, .. } => self.note_promise(node, Promised::Drained(server), always),
            Instruction::Pause { lasts, .. } => {
                if stood.paused.is_some() {
                    self.fleet.people.lift(|what| *what == Promised::Paused);
                }
                self.note_promise(node, Promised::Paused, (Duration::ZERO, lasts));
            }
            Instruction::Schedule { server, starts_in, lasts, .. } => {
                self.note_promise(node, Promised::Maintained(server), (starts_in, starts_in + lasts));
            }
            Instruction::Uncordon { server } => {
                self.fleet.people.lift(|what| *what == Promised::Cordoned(server.clone()));
            }
            Instruction::Undrain { server } => {
                self.fleet.people.lift(|what| *what == Promised::Drained(server.clone()));
            }
            Instruction::Resume => self.fleet.people.lift(|what| *what == Promised::Paused),
            Instruction::Unschedule { server } => {
                self.fleet.people.lift(|what| *what == Promised::Maintained(server.clone()));
            }
            _ => {}
        }
    }

    /// Notes what the run on this server has promised.
    pub(super) fn note_promise(&mut self, node: usize, what: Promised, holds: (Duration, Duration)) {
        let local = self.servers[node].clock.local(self.now);
        let jumps = self.count(JUMPS);
        let Some(pilot) = self.fleet.pilots.get(&node) else { return };
        let (run, term, given) = (pilot.number, pilot.run.term(), (self.now, local));
        let promise = Promise { what, run, term, given, holds, jumps, kept: false, lifted: false };
        self.fleet.people.promises.push(promise);
    }

    /// The promises that bind the run on this server at this moment of its clock.
    pub(super) fn binding(&self, node: usize, local: Time) -> Vec<Promise> {
        let Some(pilot) = self.fleet.pilots.get(&node) else { return Vec::new() };
        let (run, term, jumps) = (pilot.number, pilot.run.term(), self.count(JUMPS));
        let binds = |promise: &&Promise| promise.binds(run, term, (self.now, local), jumps);
        self.fleet.people.promises.iter().filter(binds).cloned().collect()
    }

    /// Takes in which of the ledgers are committed by now.
    pub(super) fn settle_ledgers(&mut self) {
        let done = |value: &&u64| self.checks.clients.is_acknowledged(**value);
        let kept: Vec<u64> = self.fleet.people.unsettled.iter().filter(done).copied().collect();
        kept.into_iter().for_each(|value| self.fleet.people.is_kept(value));
        // Nobody hears any more of what takes so long.
        let people = &mut self.fleet.people;
        let recent = |value: &u64| people.ledgers.get(value).is_some_and(|k| self.now.since(k.at) < STALE);
        people.unsettled.retain(recent);
    }

    /// The leader has what it knows replicated.
    pub(super) fn keep_ledger(&mut self, node: usize) {
        let Some(flight) = self.options.autopilot.clone() else { return };
        let mutant = self.options.mutant.and_then(crate::mutant::Mutant::autopilot);
        let local = self.servers[node].clock.local(self.now);
        let Some(pilot) = self.fleet.pilots.get(&node) else { return };
        if !flight.ledgers || !pilot.took_over || pilot.state.is_empty() {
            return;
        }
        let config = pilot.run.config().cloned().unwrap_or_default();
        let kept = Kept {
            ledger: Arc::new(with_mutant(mutant, || {
                Ledger::export(&pilot.state, &pilot.run.memory, &pilot.hand, &config, local)
            })),
            at: self.now,
            run: pilot.number,
            term: pilot.run.term(),
            configuration: pilot.state.configuration_index,
            promises: self.fleet.people.promises.len(),
            healthy_for: pilot.watch.healthy_for(local),
            size: pilot.watch.size,
        };
        self.cover("ledgers: stored");
        if let Some(pilot) = self.fleet.pilots.get_mut(&node) {
            pilot.kept_at = self.now;
        }
        let value = self.propose(node);
        self.fleet.people.ledgers.insert(value, kept);
        self.fleet.people.unsettled.insert(value);
    }

    /// The ledger that the state of this server holds, with the age that its application tells.
    pub(super) fn stored_ledger(&mut self, node: usize) -> Option<(Kept, Duration)> {
        let ledgers = &self.fleet.people.ledgers;
        let values = self.servers[node].machine.values.iter().rev();
        let kept = values.filter_map(|value| ledgers.get(value)).next()?.clone();
        let age = self.now.since(kept.at) + between(&mut self.fleet.people.random, Duration::ZERO, SKEW);
        Some((kept, age))
    }

    /// What a run that begins takes over: changes its inputs, and returns the orders that stand.
    pub(super) fn take_over(&mut self, node: usize, inputs: &mut Inputs) {
        let mutant = self.options.mutant.and_then(crate::mutant::Mutant::autopilot);
        let keeps = self.options.autopilot.as_ref().is_some_and(|flight| flight.ledgers);
        let found = if keeps { self.stored_ledger(node) } else { None };
        let Some(pilot) = self.fleet.pilots.get_mut(&node) else { return };
        pilot.took_over = true;
        let Some((kept, age)) = found else { return };
        let history = orders::has_history(&kept, inputs, age);
        let what = match with_mutant(mutant, || kept.ledger.import(inputs, age)) {
            Ok(Takeover { memory, hand, refused }) => {
                (inputs.memory, inputs.hand) = (memory, hand.clone());
                pilot.hand = hand;
                refused.map_or("ledgers: taken over", |_| "ledgers: taken over without history")
            }
            Err(_) => "ledgers: refused",
        };
        pilot.watch.inherit(&kept, history, inputs.now);
        if !history {
            self.fleet
                .people
                .lift(|what| matches!(what, Promised::Spent | Promised::Cooling | Promised::Stepped));
        }
        self.cover(what);
    }

    /// A person, or whoever runs the machines, asks whether this server may be stopped, and perhaps stops it. Tells what was
    /// answered; `None` if nobody was there to answer.
    pub fn wants_to_stop(&mut self, node: usize) -> Option<bool> {
        let leader = self.listener()?;
        let mutant = self.options.mutant.and_then(crate::mutant::Mutant::autopilot);
        let local = self.servers[leader].clock.local(self.now);
        let (inputs, _) = self.glance(leader)?;
        let server = self.servers[node].id().clone();
        let released = self.released(leader, local);
        let pilot = self.fleet.pilots.get_mut(&leader)?;
        pilot.hand.expire(local);
        let answer = with_mutant(mutant, || safe_to_stop(&pilot.state, &pilot.hand, &server, local));
        let reasons: Vec<&str> = answer.reasons.iter().map(autopilot::Reason::code).collect();
        let said = format!("answers whether {server} may stop: {reasons:?}");
        if !answer.safe {
            self.trace(|| format!("{} {said}", self.servers[leader].id()));
            self.cover("people: told not to stop a server");
            return Some(false);
        }
        if pilot.hand.leaving.len() < Hand::ORDERS_MAX {
            pilot.hand.leaving.insert(server.clone(), local + Hand::LEAVING);
        }
        let drained = pilot.hand.drained.contains_key(&server);
        let found = orders::may_stop(&pilot.watch.observed, &inputs, &server, &released, drained);
        self.judge("a_safe_to_stop", found);
        self.trace(|| format!("{} {said}", self.servers[leader].id()));
        self.note_promise(leader, Promised::Released(server), (Duration::ZERO, Hand::LEAVING));
        self.keep_ledger(leader);
        self.cover("people: told that a server may stop");
        self.stop_as_told(node, &released);
        Some(true)
    }

    fn released(&self, leader: usize, local: Time) -> BTreeSet<ServerId> {
        let binding = self.binding(leader, local).into_iter();
        let released = binding.filter_map(|promise| match promise.what {
            Promised::Released(server) => Some(server),
            _ => None,
        });
        released.collect()
    }

    /// Where everybody is up and reached, what was answered is the truth: stopping it leaves a quorum.
    fn stop_as_told(&mut self, node: usize, released: &BTreeSet<ServerId>) {
        // Who was lost a moment ago nobody has missed yet.
        let lost = self.fleet.gone.iter().map(|gone| self.servers[*gone].id());
        let quiet = self.is_quiet() && lost.into_iter().all(|id| !self.any_voter(id));
        if chance(&mut self.fleet.people.random, 500) {
            self.cover("people: servers stopped as told");
            let lasts = between(&mut self.fleet.people.random, AGAIN, Duration::from_secs(2));
            self.go_down(node, lasts);
        }
        let Some(leader) = liveness::ready_leader(&self.servers).filter(|_| quiet) else { return };
        let Some(core) = &self.servers[leader].core else { return };
        let configuration = core.configuration();
        let stays = |id: &ServerId| {
            let at = self.servers.iter().position(|server| server.id() == id);
            let up = at.is_some_and(|at| at != node && self.servers[at].is_up());
            up && !released.contains(id)
        };
        let voted = configuration.is_voter(self.servers[node].id());
        let quorum = configuration.quorum();
        let left = configuration.voters().filter(|voter| stays(&voter.id)).count();
        let verdict = match voted && left < quorum {
            true => Err(format!(
                "{} may stop, they said, and {left} stay of {configuration:?}",
                self.servers[node].id()
            )),
            false => Ok(()),
        };
        self.cover("people: told that a server may stop while all were well");
        self.judge("a_safe_to_stop", verdict);
    }

    /// Whether the newest leader's configuration has this server as a voter.
    fn any_voter(&self, id: &ServerId) -> bool {
        let leader = liveness::ready_leader(&self.servers);
        let core = leader.and_then(|leader| self.servers[leader].core.as_ref());
        core.is_some_and(|core| core.configuration().is_voter(id))
    }

    /// What other servers say about those that this leader's application does not call alive.
    pub(super) fn hear_witnesses(&mut self, node: usize, config: &Config) -> BTreeMap<ServerId, Witnesses> {
        let mut words: BTreeMap<ServerId, Vec<Word>> = BTreeMap::new();
        let known = self.known_servers(node).unwrap_or_default();
        let alive = |id: &ServerId| known.iter().any(|k| k.id == *id && k.node_status == NodeStatus::Alive);
        if let Some(core) = self.servers[node].core.as_ref().filter(|_| config.health.witnesses > 0) {
            let members = core.configuration().servers().iter().map(|server| server.id.clone());
            let silent: Vec<ServerId> = members.filter(|id| !alive(id)).collect();
            words.extend(silent.into_iter().map(|id| (id.clone(), self.words_about(node, &id))));
        }
        let count = |words: &Vec<Word>| {
            let dead = words.iter().filter(|word| word.dead).count();
            Witnesses { dead, alive: words.len() - dead }
        };
        let counted = words.iter().map(|(id, words)| (id.clone(), count(words))).collect();
        if let Some(pilot) = self.fleet.pilots.get_mut(&node) {
            pilot.watch.words = words;
        }
        counted
    }

    fn words_about(&mut self, asker: usize, id: &ServerId) -> Vec<Word> {
        let Some(flight) = self.options.autopilot.clone() else { return Vec::new() };
        let Some(core) = &self.servers[asker].core else { return Vec::new() };
        let about = self.servers.iter().position(|server| server.id() == id);
        let member = |node: &usize| core.configuration().server(self.servers[*node].id()).is_some();
        let reached = |node: &usize| {
            let cut =
                self.network.cuts.contains(&(*node, asker)) || self.network.cuts.contains(&(asker, *node));
            let server = &self.servers[*node];
            !cut && server.is_up() && server.paused_until <= self.now
        };
        let others = (0..self.servers.len()).filter(|node| *node != asker && Some(*node) != about);
        let says = |node: usize| {
            let lie = self.fleet.lies.get(&node).filter(|lie| lie.until > self.now);
            let heard = self.fleet.gossip.get(&node).and_then(|gossip| gossip.direct.get(&about?));
            let dead = heard.is_none_or(|heard| self.now.since(*heard) > flight.suspicion);
            let (by, lies) = (self.servers[node].id().clone(), lie.is_some());
            Word { by, dead: lie.map_or(dead, |lie| lie.dead), lies }
        };
        others.filter(member).filter(reached).map(says).collect()
    }

    /// Judges a step by everything that people were promised.
    pub(super) fn judge_promises(&mut self, node: usize, inputs: &Inputs, step: &Step) {
        let binding = self.binding(node, inputs.now);
        if let Err((check, sentence)) = orders::decided(&binding, inputs, step) {
            self.judge(check, Err(format!("{}: {sentence}", self.servers[node].id())));
        }
    }

    /// The first server that the leader's application knows to be alive and that is no member. Who was taken out stays out
    /// until it has started again, or somebody wants it back.
    pub(super) fn joiner(&mut self, node: usize) -> Option<usize> {
        let known = self.known_servers(node).ok()?;
        let configuration = self.servers[node].core.as_ref()?.configuration();
        let stones = &self.fleet.pilots.get(&node)?.run.memory.tombstones;
        let mut refused = false;
        let found = (0..self.servers.len()).find(|candidate| {
            let id = self.servers[*candidate].id();
            let life = known.iter().find(|k| k.id == *id && k.node_status == NodeStatus::Alive);
            let Some(life) = life.filter(|_| configuration.server(id).is_none()) else { return false };
            let held = stones.get(id).is_some_and(|stone| stone.holds(life.incarnation));
            let wanted = self.fleet.people.wanted_back.contains(candidate);
            refused |= held && !wanted;
            (!held || wanted) && !self.fleet.kept_out.contains(candidate)
        });
        if refused {
            self.cover("autopilot: admissions refused, they were taken out");
        }
        found
    }

    /// Judges that a server is asked for, and takes note: from here on it is no return any more.
    pub(super) fn judge_admission(&mut self, node: usize, joiner: usize) {
        let id = self.servers[joiner].id().clone();
        let known = self.known_servers(node).unwrap_or_default();
        let life = known.iter().find(|known| known.id == id).and_then(|known| known.incarnation);
        let local = self.servers[node].clock.local(self.now);
        if self.fleet.people.wanted_back.contains(&joiner) {
            self.cover("people: servers wanted back");
        } else {
            let verdict = orders::admitted(&self.binding(node, local), &id, life);
            self.judge("a_tombstones", verdict);
        }
        self.fleet.people.lift(|what| matches!(what, Promised::Buried(buried, _) if *buried == id));
    }

    /// A server that was asked for is a member: nothing is held against it any more.
    pub(super) fn welcome(&mut self, node: usize, joiner: &ServerId) {
        if let Some(pilot) = self.fleet.pilots.get_mut(&node) {
            pilot.run.memory.tombstones.remove(joiner);
        }
        let at = self.servers.iter().position(|server| server.id() == joiner);
        if let Some(at) = at.filter(|_| self.has_faults()) {
            self.fleet.people.wanted_back.remove(&at);
        }
    }

    /// Notes what a step that was taken uses up, and whom it buries.
    pub(super) fn note_step(&mut self, node: usize, step: &Step, life: Option<u64>) {
        let Some(flight) = self.options.autopilot.clone() else { return };
        let window = |window| (Duration::ZERO, window);
        self.note_promise(node, Promised::Stepped, window(flight.config.changes.window));
        let gone = match step {
            Step::Remove { id, class } => Some((id, class.is_voter())),
            Step::Swap { out, class: Some(_), .. } => Some((out, true)),
            _ => None,
        };
        if let Some((id, voted)) = gone {
            self.note_promise(node, Promised::Spent, window(flight.config.removal.window));
            if voted && !flight.config.removal.cool_down.is_zero() {
                self.note_promise(node, Promised::Cooling, window(flight.config.removal.cool_down));
            }
            self.note_promise(node, Promised::Buried(id.clone(), life), (Duration::ZERO, Duration::MAX));
        }
    }
}

/// What counts the jumps of clocks.
const JUMPS: &str = "clocks that jump";
