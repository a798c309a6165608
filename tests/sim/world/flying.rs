//! The rounds of autopilot on whichever server leads: what the driver over tokio does with tasks and deadlines, as events.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::time::Duration;

use autopilot::core::{AddPlan, Gathered, Mode, Run, everybody_answered, expected, plan_add, with_mutant};
use autopilot::{
    Actor, Capabilities, ClusterError, ClusterView, Hand, Inputs, Performed, Plan, PlannedStep, Round,
    ServerId, ServerStats, State, Step, Verdict as Decided,
};
use raft::core::{Outcome, RaftCore, Refusal, RequestId, Role};
use raft::{ConfigurationChange, LogIndex, Time};

use super::{Event, World};
use crate::check::autopilot::accepted::Engine;
use crate::check::autopilot::{Watch, decision, limits};
use crate::pilot::{Flying, Pilot, Questions, Stage};
use crate::random::{between, chance, fold_number};
use crate::workload::Asked;

/// How long a first look waits for the voters' first answers, and how often it looks for them, as the driver does.
const FIRST_CONTACT_WAIT: Duration = Duration::from_millis(400);
const FIRST_CONTACT_PAUSE: Duration = Duration::from_millis(20);
/// What the engine can do: everything.
const CAPABILITIES: Capabilities =
    Capabilities { nonvoters: true, demotion: true, transfer: true, compare_and_set: true, atomic: true };
/// How late a supervisor hears of leadership, at most.
const SUPERVISOR_LAG: Duration = Duration::from_millis(3);

impl World {
    pub(super) fn fly(&mut self, flying: Flying) {
        match flying {
            Flying::Supervise { node, epoch } => self.supervise(node, epoch),
            Flying::Look { node, pilot, refresh } => self.look(node, pilot, refresh),
            Flying::Decide { node, pilot, asked } => self.decide(node, pilot, *asked),
            Flying::Act { node, pilot, planned } => self.act(node, pilot, &planned),
            Flying::Deadline { node, pilot, request } => self.change_takes_too_long(node, pilot, request),
            Flying::Gossip { node, epoch } => self.exchange_gossip(node, epoch),
            Flying::Fleet => self.disturb_fleet(),
            Flying::Down { node, lasts } => self.go_down(node, lasts),
            Flying::Depart { node, patience } => self.depart(node, patience),
            Flying::Keep { node, pilot } => {
                if self.has_pilot(node, pilot) {
                    self.keep_ledger(node);
                }
            }
            Flying::People => self.be_people(),
            Flying::Orders => self.give_orders(),
            Flying::Spawn => {
                if self.faults {
                    self.spawn();
                }
            }
        }
    }

    pub(super) fn fly_after(&mut self, after: Duration, flying: Flying) {
        self.schedule(after, Event::Flying(Box::new(flying)));
    }

    /// The run of autopilot on this server, if there is one.
    #[must_use]
    pub fn pilot(&self, node: usize) -> Option<&Pilot> {
        let current = |pilot: &&Pilot| {
            pilot.epoch == self.servers[node].epoch && self.servers[node].is_up() && self.leads(node)
        };
        self.fleet.pilots.get(&node).filter(current)
    }

    fn has_pilot(&self, node: usize, number: u64) -> bool {
        let server = &self.servers[node];
        let same = |pilot: &Pilot| pilot.number == number && pilot.epoch == server.epoch;
        server.is_up() && self.fleet.pilots.get(&node).is_some_and(same)
    }

    /// After a step of a core: its supervisor hears of leadership won and lost.
    pub(super) fn follow_leadership(&mut self, node: usize) {
        if self.options.autopilot.is_none() {
            return;
        }
        let server = &self.servers[node];
        let leads = server.core.as_ref().filter(|core| core.role() == Role::Leader).map(RaftCore::term);
        let epoch = server.epoch;
        let flies = self.fleet.pilots.get(&node).filter(|pilot| pilot.epoch == epoch).map(|p| p.run.term());
        if leads != flies {
            let lag = between(&mut self.fleet.random, Duration::ZERO, SUPERVISOR_LAG);
            self.fly_after(lag, Flying::Supervise { node, epoch });
        }
    }

    fn supervise(&mut self, node: usize, epoch: u64) {
        let Some(flight) = self.options.autopilot.clone() else { return };
        let server = &self.servers[node];
        if !server.is_up() || server.epoch != epoch {
            return;
        }
        let leads = server.core.as_ref().filter(|core| core.role() == Role::Leader).map(RaftCore::term);
        let current = self.fleet.pilots.get(&node).filter(|pilot| pilot.epoch == epoch);
        if current.map(|pilot| pilot.run.term()) == leads {
            return;
        }
        self.fleet.pilots.remove(&node);
        let Some(term) = leads else { return };
        // Until it is, each of its steps asks again.
        if flight.ledgers && !self.has_caught_up(node) {
            return;
        }
        self.cover("autopilot: runs");
        let local = self.servers[node].clock.local(self.now);
        self.fleet.next_pilot += 1;
        let number = self.fleet.next_pilot;
        let pilot = Pilot {
            number,
            epoch,
            run: Run::new(term, local, flight.update, flight.reconcile),
            state: State::default(),
            plan: Plan::default(),
            stage: Stage::Idle,
            looks: 0,
            first_deadline: local + FIRST_CONTACT_WAIT.min(flight.update / 2),
            look_began: self.now,
            refused: BTreeSet::new(),
            admitting: None,
            hand: Hand::default(),
            took_over: false,
            keep_due: false,
            kept_at: Time::ZERO,
            watch: Watch::default(),
        };
        self.fleet.pilots.insert(node, pilot);
        self.fly_after(Duration::ZERO, Flying::Look { node, pilot: number, refresh: true });
    }

    /// Whether everything that earlier leaders stored can be read on this leader, as the agent waits for with a barrier.
    fn has_caught_up(&self, node: usize) -> bool {
        let server = &self.servers[node];
        server.core.as_ref().is_some_and(|c| c.is_ready() && server.machine.last.term == c.term())
    }

    /// What the engine of this server shows, as the adapter for `raft::Raft` shows it.
    fn view(&self, node: usize) -> Option<ClusterView> {
        let server = &self.servers[node];
        let core = server.core.as_ref().filter(|core| !core.storage_failed())?;
        let local = server.clock.local(self.now);
        let own = ServerStats {
            last_contact: Some(Duration::ZERO),
            last_term: core.last().term,
            last_index: core.last().index,
        };
        let is_leader = core.role() == Role::Leader;
        let others = core.configuration().everyone().filter_map(|member| {
            let seen = core.follower(&member.id)?;
            let stats = ServerStats {
                last_contact: seen.heard.then(|| local.since(seen.contact)),
                last_term: seen.matched.term,
                last_index: seen.matched.index,
            };
            Some((member.id.clone(), stats))
        });
        let own = is_leader.then(|| (server.peer.id.clone(), own));
        Some(ClusterView {
            id: server.peer.id.clone(),
            term: core.term(),
            leader: core.leader().map(|peer| peer.id.clone()),
            is_leader,
            ready: core.is_ready(),
            configuration: core.configuration().clone(),
            configuration_index: core.configuration_index(),
            configuration_committed: core.configuration_index() <= core.commit_index(),
            last: core.last(),
            stats: others.chain(own).collect(),
            installing: core
                .configuration()
                .everyone()
                .filter(|member| core.follower(&member.id).is_some_and(|seen| seen.snapshotting))
                .map(|member| member.id.clone())
                .collect(),
        })
    }

    fn look(&mut self, node: usize, number: u64, refresh: bool) {
        if !self.has_pilot(node, number) {
            return;
        }
        let Some(flight) = self.options.autopilot.clone() else { return };
        let local = self.servers[node].clock.local(self.now);
        let Some(view) = self.view(node) else {
            return self.fly_after(flight.update, Flying::Look { node, pilot: number, refresh });
        };
        let config = self.given_config(node);
        let known = self.known_servers(node);
        let now = self.now;
        let Some(pilot) = self.fleet.pilots.get_mut(&node) else { return };
        // A refresh after a step does not move the times of the looks.
        if !refresh {
            pilot.look_began = now;
        }
        let mode = if refresh { Mode::Watch } else { pilot.run.mode(local) };
        pilot.stage = Stage::Asking;
        let takes = between(&mut self.fleet.random, Duration::ZERO, flight.query);
        let asked = Box::new(Questions { at: local, mode, view, config, known });
        self.fly_after(takes, Flying::Decide { node, pilot: number, asked });
    }

    /// One round on what was asked; `None` while a first look waits for answers, or if there was nobody to judge it for.
    fn round(&mut self, node: usize, asked: Questions) -> Option<(Inputs, Round)> {
        let flight = self.options.autopilot.clone()?;
        let mutant = self.options.mutant.and_then(crate::mutant::Mutant::autopilot);
        let fetched = self.measure(node);
        let enabled = self.fleet.switched_off_until <= self.now;
        let local = self.servers[node].clock.local(self.now);
        let promoter = flight.policy.promoter();
        let Questions { at, mode, view, config, known } = asked;
        let witnesses = config.clone().map(|config| self.hear_witnesses(node, &config)).unwrap_or_default();
        let pilot = self.fleet.pilots.get_mut(&node)?;
        pilot.watch.answered = known.is_ok();
        pilot.hand.expire(at);
        let (hand, takes_over) = (pilot.hand.clone(), !pilot.took_over);
        let mut inputs = with_mutant(mutant, || {
            pilot.run.heard(at, Some(config), known);
            let capabilities = CAPABILITIES;
            let gathered =
                Gathered { view, capabilities, fetched, witnesses, hand, reconciliation_enabled: enabled };
            pilot.run.inputs(at, mode, gathered)
        });
        if takes_over {
            self.take_over(node, &mut inputs);
        }
        let round = with_mutant(mutant, || Round::run(&inputs, &*promoter));
        let pilot = self.fleet.pilots.get_mut(&node)?;
        let number = pilot.number;
        if pilot.looks == 0 && local < pilot.first_deadline && !everybody_answered(&round.state) {
            pilot.run.memory = inputs.memory;
            self.fly_after(FIRST_CONTACT_PAUSE, Flying::Look { node, pilot: number, refresh: true });
            return None;
        }
        pilot.looks += 1;
        pilot.run.memory = round.memory.clone();
        if mode != Mode::Watch {
            pilot.run.reconciled(local);
            pilot.keep_due = true;
        }
        (pilot.state, pilot.plan) = (round.state.clone(), round.plan.clone());
        self.settle_ledgers();
        self.judge_round(node, &inputs, &round);
        self.failure.is_none().then_some((inputs, round))
    }

    /// A look that somebody's question takes, between those that are due.
    pub(super) fn glance(&mut self, node: usize) -> Option<(Inputs, Round)> {
        let at = self.servers[node].clock.local(self.now);
        let view = self.view(node)?;
        let (config, known) = (self.given_config(node), self.known_servers(node));
        self.round(node, Questions { at, mode: Mode::Watch, view, config, known })
    }

    fn decide(&mut self, node: usize, number: u64, asked: Questions) {
        if !self.has_pilot(node, number) {
            return;
        }
        let Some(flight) = self.options.autopilot.clone() else { return };
        let Some((_, round)) = self.round(node, asked) else { return };
        self.hash = fold_number(self.hash, round.state.failure_tolerance as u64);
        let Some(planned) = round.plan.step else { return self.admit(node, number) };
        self.trace(|| format!("{} decides: {}: {}", self.servers[node].id(), planned.step, planned.reason));
        let Some(pilot) = self.fleet.pilots.get_mut(&node) else { return };
        pilot.stage = Stage::Telling;
        let takes = between(&mut self.fleet.random, Duration::ZERO, flight.query);
        if std::mem::take(&mut self.fleet.rival_next) {
            self.overtake_by_hand(node, &planned.step);
        }
        if let Some(lasts) = self.fleet.freeze_next.take() {
            self.cover("autopilot: leaders that stood still over a decision");
            self.servers[node].paused_until = self.now + lasts;
        }
        self.fly_after(takes, Flying::Act { node, pilot: number, planned: Box::new(planned) });
    }

    fn judge_round(&mut self, node: usize, inputs: &Inputs, round: &Round) {
        let Some(flight) = self.options.autopilot.clone() else { return };
        let mutant = self.options.mutant.and_then(crate::mutant::Mutant::autopilot);
        let promoter = flight.policy.promoter();
        if let Some(planned) = &round.plan.step {
            self.judge_promises(node, inputs, &planned.step);
        }
        let Some(pilot) = self.fleet.pilots.get_mut(&node) else { return };
        let watch = &mut pilot.watch;
        let before = watch.observed.looked_at;
        watch.observed.look(inputs);
        limits::suspend(watch, inputs, before);
        limits::take_in(watch, inputs, &round.state);
        let mut found = decision::decided(watch, inputs, round);
        found = found.and_then(|()| limits::decided(watch, inputs, round));
        if pilot.looks.is_multiple_of(4) || round.plan.step.is_some() {
            found = found.and_then(|()| with_mutant(mutant, || decision::repeats(inputs, round, &*promoter)));
        }
        if pilot.looks % 16 == 5 {
            found = found.and_then(|()| with_mutant(mutant, || decision::comes_to_rest(inputs, &*promoter)));
        }
        let mut news = Vec::new();
        let refused = round.plan.decisions.iter().filter(|d| d.verdict == Decided::Refused);
        let refused = refused.map(|d| (d.server.clone(), d.action, d.reason.code()));
        let refused: BTreeSet<_> = refused.collect();
        news.extend(refused.difference(&pilot.refused).map(|(_, _, code)| *code));
        pilot.refused = refused;
        self.cover("autopilot: looks");
        for code in news {
            self.cover(refusal(code));
        }
        if let Err((check, sentence)) = found {
            self.judge(check, Err(format!("{}: {sentence}", self.servers[node].id())));
        }
    }

    /// Performs a step that was decided, if it is not too late.
    fn act(&mut self, node: usize, number: u64, planned: &PlannedStep) {
        if !self.has_pilot(node, number) {
            return;
        }
        let Some(flight) = self.options.autopilot.clone() else { return };
        let mutant = self.options.mutant.and_then(crate::mutant::Mutant::autopilot);
        let local = self.servers[node].clock.local(self.now);
        let Some(pilot) = self.fleet.pilots.get(&node) else { return };
        let plan = pilot.plan.clone();
        let outdated = with_mutant(mutant, || pilot.run.is_outdated(&plan, local));
        if outdated {
            self.cover("autopilot: decisions that were too old");
            return self.idle(node, number);
        }
        let decided_on = plan.configuration_index;
        let expected = with_mutant(mutant, || expected(decided_on, CAPABILITIES));
        let step = planned.step.clone();
        if self.engine_refuses(step.id()) {
            let refused = Outcome::Refused(Refusal::StorageFailed);
            return self.finish(node, Some(&step), &refused);
        }
        let mut changes = step.changes();
        let before =
            self.servers[node].core.as_ref().map(|core| (Engine::of(core), core.configuration().clone()));
        let Some((engine, configuration)) = before else { return };
        let handing_over = self.workload.hands_over(node);
        let request = match (changes.len(), changes.pop()) {
            (1, Some(change)) => self.change_expecting(node, change, expected),
            (_, Some(last)) => {
                changes.push(last);
                let input = |request| raft::core::Input::ChangeMembership { request, changes, expected };
                self.ask(node, Asked::Change, input)
            }
            (_, None) => {
                let to = self.servers.iter().position(|server| server.peer.id == *step.id());
                self.transfer(node, to)
            }
        };
        let taken = self.servers[node].core.as_ref().is_some_and(|core| engine.moved(core));
        if taken {
            self.judge("accepted", engine.takes(&plan, local, flight.update, handing_over));
            self.count_truth(node, &step);
            if let Some(pilot) = self.fleet.pilots.get_mut(&node) {
                decision::changed(&mut pilot.watch, &step, &configuration);
            }
        }
        self.await_change(node, number, request, Some(step));
    }

    fn await_change(&mut self, node: usize, number: u64, request: RequestId, step: Option<Step>) {
        let Some(flight) = self.options.autopilot.clone() else { return };
        let done = self.workload.outcome(request).cloned();
        let Some(pilot) = self.fleet.pilots.get_mut(&node) else { return };
        if let Some(outcome) = done {
            return self.finish(node, step.as_ref(), &outcome);
        }
        pilot.stage = Stage::Changing { request, step };
        self.fly_after(flight.change, Flying::Deadline { node, pilot: number, request });
    }

    /// A client of a core was told something: perhaps it is autopilot.
    pub(crate) fn hear_outcome(&mut self, node: usize, request: RequestId, outcome: &Outcome) {
        let waits = |pilot: &Pilot| match &pilot.stage {
            Stage::Changing { request: waiting, step } if *waiting == request => Some(step.clone()),
            _ => None,
        };
        let Some(step) = self.fleet.pilots.get(&node).and_then(waits) else { return };
        self.finish(node, step.as_ref(), outcome);
    }

    fn change_takes_too_long(&mut self, node: usize, number: u64, request: RequestId) {
        if self.has_pilot(node, number) && self.workload.outcome(request).is_none() {
            self.cover("autopilot: changes of unknown outcome");
            self.hear_outcome(node, request, &Outcome::Refused(Refusal::LeadershipLost));
        }
    }

    /// Takes the outcome of a change in, and goes on.
    fn finish(&mut self, node: usize, step: Option<&Step>, outcome: &Outcome) {
        let local = self.servers[node].clock.local(self.now);
        let mutant = self.options.mutant.and_then(crate::mutant::Mutant::autopilot);
        let cool_down = self.options.autopilot.as_ref().map_or(Duration::ZERO, |flight| flight.reconcile * 2);
        let failure = failure(outcome);
        self.trace(|| format!("{}: {step:?} ends: {outcome:?}", self.servers[node].id()));
        let Some(pilot) = self.fleet.pilots.get_mut(&node) else { return };
        let number = pilot.number;
        pilot.stage = Stage::Idle;
        if failure.is_none() {
            pilot.run.reconcile_soon(local);
        }
        let life = step.and_then(Step::loser).and_then(|id| pilot.run.known().servers.get(id));
        let incarnation = life.and_then(|server| server.incarnation);
        let Some(step) = step else {
            if let (None, Some(id)) = (&failure, pilot.admitting.take()) {
                self.welcome(node, &id);
            }
            self.cover(if failure.is_none() {
                "autopilot: servers added"
            } else {
                "autopilot: additions that failed"
            });
            return self.refresh_or_idle(node, number, failure.is_none());
        };
        match (&failure, pilot.plan.step.as_ref().map(|planned| &planned.reason)) {
            (Some(error), _) => with_mutant(mutant, || pilot.run.failed(local, step, error)),
            (None, Some(why)) => {
                let (term, by) = (pilot.run.term(), &Actor::AUTOPILOT);
                let how = Performed { at: local, term, by, why, index: None, incarnation };
                pilot.run.performed(step, &how);
            }
            (None, None) => {}
        }
        let waits = !matches!(
            failure,
            Some(
                ClusterError::NotLeader { .. }
                    | ClusterError::NotReady
                    | ClusterError::ChangeInProgress { .. }
                    | ClusterError::ConfigurationMoved { .. }
            )
        );
        match failure {
            None => pilot.watch.failed = None,
            Some(_) if waits => pilot.watch.failed = Some((step.clone(), local + cool_down)),
            Some(_) => {}
        }
        self.count_step(failure.as_ref(), step);
        if failure.is_none() {
            self.note_step(node, step, incarnation);
        }
        if failure.is_none()
            && let Step::Remove { id, class } | Step::Swap { out: id, class: Some(class), .. } = step
            && class.is_failed()
        {
            self.forget_in_gossip(node, id);
        }
        self.refresh_or_idle(node, number, failure.is_none());
    }

    fn count_step(&mut self, failure: Option<&ClusterError>, step: &Step) {
        self.cover(match (failure, step) {
            (None, Step::Promote { .. }) => "autopilot: promotions",
            (None, Step::Demote { .. }) => "autopilot: demotions",
            (None, Step::Remove { class, .. }) if class.is_failed() => {
                "autopilot: removals of failed servers"
            }
            (None, Step::Remove { .. }) => "autopilot: removals of stale servers",
            (None, Step::Swap { class: Some(_), .. }) => "autopilot: swaps for dead voters",
            (None, Step::Swap { .. }) => "autopilot: swaps for voters that stay",
            (None, Step::Transfer { .. }) => "autopilot: transfers",
            (Some(ClusterError::OutcomeUnknown { .. }), _) => "autopilot: steps of unknown outcome",
            (Some(ClusterError::ConfigurationMoved { .. }), _) => {
                "autopilot: steps decided on another configuration"
            }
            (Some(_), _) => "autopilot: steps refused by the engine",
        });
    }

    fn refresh_or_idle(&mut self, node: usize, number: u64, refresh: bool) {
        if refresh {
            self.fly_after(Duration::ZERO, Flying::Look { node, pilot: number, refresh: true });
        } else {
            self.idle(node, number);
        }
    }

    /// Waits for the time of the next look.
    fn idle(&mut self, node: usize, number: u64) {
        let Some(flight) = self.options.autopilot.clone() else { return };
        let now = self.now;
        let Some(pilot) = self.fleet.pilots.get_mut(&node) else { return };
        pilot.stage = Stage::Idle;
        let keep = pilot.keep_due && now.since(pilot.kept_at) >= flight.ledger_every;
        pilot.keep_due &= !keep;
        let passed = now.since(pilot.look_began);
        let after = flight.update.saturating_sub(passed).max(Duration::from_millis(1));
        self.fly_after(after, Flying::Look { node, pilot: number, refresh: false });
        if keep {
            // Not within a step of the core, whose outcome may have led here.
            self.fly_after(Duration::ZERO, Flying::Keep { node, pilot: number });
        }
    }

    /// The leader's application asks for a live server that it knows and that is no member, if there is one.
    fn admit(&mut self, node: usize, number: u64) {
        let joiner = self.joiner(node);
        let core = self.servers[node].core.as_ref().filter(|core| core.is_ready());
        let (Some(joiner), Some(core)) = (joiner, core) else { return self.idle(node, number) };
        let peer = self.servers[joiner].peer.clone();
        let leader = core.leader().map(|leader| leader.id.clone());
        let plan = plan_add(core.configuration(), leader.as_ref(), &peer.id, &peer.address);
        let index = core.configuration_index();
        let Ok(AddPlan::Change { .. }) = plan else { return self.idle(node, number) };
        self.judge_admission(node, joiner);
        if let Some(pilot) = self.fleet.pilots.get_mut(&node) {
            pilot.admitting = Some(peer.id.clone());
        }
        let change = ConfigurationChange::AddNonvoter { id: peer.id, address: peer.address };
        let request = self.change_expecting(node, change, Some(index));
        self.await_change(node, number, request, None);
    }

    /// Somebody other than autopilot changes members, on whatever configuration is in force.
    pub(crate) fn change_expecting(
        &mut self,
        node: usize,
        change: ConfigurationChange,
        expected: Option<LogIndex>,
    ) -> RequestId {
        let input = |request| raft::core::Input::Change { request, change, expected };
        self.ask(node, Asked::Change, input)
    }

    fn engine_refuses(&self, id: &ServerId) -> bool {
        self.fleet.refused.as_ref().is_some_and(|(refused, until)| refused == id && *until > self.now)
    }

    /// What the application measures, if it does: what the engine shows, without those that it cannot reach.
    fn measure(&mut self, node: usize) -> Option<BTreeMap<ServerId, ServerStats>> {
        let flight = self.options.autopilot.as_ref()?;
        if !flight.measures {
            return None;
        }
        let mut stats = self.view(node).map(|view| view.stats).unwrap_or_default();
        let ills = self.fleet.ills.get(&node).copied().unwrap_or_default();
        if ills.blind_until > self.now {
            let (random, measured) = (&mut self.fleet.random, self.fleet.measured_by_chance);
            stats.retain(|_, _| chance(random, measured));
        }
        Some(stats)
    }

    /// How often autopilot was wrong about who is alive. Nothing can make it right: what it knows is always old.
    fn count_truth(&mut self, node: usize, step: &Step) {
        let up = |id: &ServerId| {
            self.servers.iter().position(|server| server.id() == id).is_some_and(|at| {
                let server = &self.servers[at];
                let cut = |from, to| self.network.cuts.contains(&(from, to));
                let reached = at == node || (!cut(at, node) && !cut(node, at));
                server.is_up() && reached && server.paused_until <= self.now
            })
        };
        let Some(core) = &self.servers[node].core else { return };
        let configuration = core.configuration();
        let alive = configuration.voters().filter(|voter| up(&voter.id)).count();
        let quorum = alive >= configuration.quorum();
        let removed_alive = step.loser().is_some_and(up);
        if !quorum {
            self.cover("autopilot: changes while fewer voters than a quorum were really up");
        }
        if removed_alive {
            self.cover("autopilot: votes taken from servers that were up");
        }
    }
}

/// What an engine's answer means, as the adapter for `raft::Raft` has it; `None` for success.
fn failure(outcome: &Outcome) -> Option<ClusterError> {
    let Outcome::Refused(refusal) = outcome else { return None };
    Some(match refusal {
        Refusal::NotLeader { leader } => {
            ClusterError::NotLeader { leader: leader.as_ref().map(|peer| peer.id.clone()) }
        }
        Refusal::NotReady | Refusal::TransferInProgress => ClusterError::NotReady,
        Refusal::ChangeInProgress { index } => ClusterError::ChangeInProgress { index: *index },
        Refusal::ConfigurationMoved { index } => ClusterError::ConfigurationMoved { index: *index },
        Refusal::Invalid(error) => ClusterError::Invalid(error.clone()),
        Refusal::LeadershipLost | Refusal::TransferFailed => {
            ClusterError::OutcomeUnknown { reason: refusal.to_string() }
        }
        Refusal::NotSpoken { .. } => ClusterError::Unsupported { what: "change several members at once" },
        other => ClusterError::Refused { reason: other.to_string() },
    })
}

/// The counter of refusals for this reason. There are as many as there are codes.
fn refusal(code: &'static str) -> &'static str {
    static NAMES: Mutex<BTreeMap<&'static str, &'static str>> = Mutex::new(BTreeMap::new());
    let mut names = NAMES.lock().expect("no thread panics while it looks a name up");
    names.entry(code).or_insert_with(|| Box::leak(format!("autopilot refuses: {code}").into_boxed_str()))
}
