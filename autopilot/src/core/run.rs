//! One run of autopilot, from the start in a term to the stop: what is carried from round to round. It reads no clock and
//! asks nobody; whoever drives it (the driver over tokio, or a simulator) gathers, performs and keeps the time.

use std::collections::BTreeMap;
use std::time::Duration;

use raft_types::{LogIndex, ServerId, Term, Time};

use super::inputs::{CoolDown, Inputs, KnownServers, Mode};
use super::mutant::{Mutant, mutated};
use crate::model::{
    Capabilities, ClusterView, Config, Hand, HealthReason, KnownServer, Memory, NodeStatus, Performed, Plan,
    ServerStats, State, Step, Witnesses,
};
use crate::ports::ClusterError;

/// How many update intervals a measurement, or an answer of the application, may be old.
const ROUNDS_OLD_MAX: u32 = 3;
/// How many reconcile intervals a step that failed has to wait, so that other steps get their turn.
const COOL_DOWN_INTERVALS: u32 = 2;

/// What one run carries from round to round.
///
/// A round goes so: [`Run::mode`] says what is due; the application's answers go in with [`Run::heard`]; [`Run::inputs`]
/// makes the inputs of [`Round::run`](super::Round::run), with the memory in them; the round's memory goes back into
/// [`Run::memory`]; after a round that was due, [`Run::reconciled`]; what became of its step, with [`Run::performed`] or
/// [`Run::failed`].
#[derive(Clone, Debug)]
pub struct Run {
    /// What the last round left behind. Empty while a round is under way.
    pub memory: Memory,
    term: Term,
    update: Duration,
    reconcile: Duration,
    config: Option<Config>,
    known: KnownServers,
    known_at: Time,
    cool_down: Option<CoolDown>,
    next_reconcile: Time,
}

/// What the engine, the people and the application said for one round, beside what [`Run::heard`] took.
#[derive(Clone, Debug)]
pub struct Gathered {
    /// What the engine shows.
    pub view: ClusterView,
    /// What it can do.
    pub capabilities: Capabilities,
    /// What the application measured, if it measures.
    pub fetched: Option<BTreeMap<ServerId, ServerStats>>,
    /// What other servers say, if anybody was asked.
    pub witnesses: BTreeMap<ServerId, Witnesses>,
    /// What was ordered.
    pub hand: Hand,
    /// Whether autopilot may change members on its own.
    pub reconciliation_enabled: bool,
}

impl Run {
    /// A run that begins `now` in `term`. It looks every `update` and may act every `reconcile`.
    #[must_use]
    pub fn new(term: Term, now: Time, update: Duration, reconcile: Duration) -> Self {
        Self {
            memory: Memory::default(),
            term,
            update,
            reconcile,
            config: None,
            known: KnownServers::default(),
            known_at: now,
            cool_down: None,
            next_reconcile: now + reconcile,
        }
    }

    /// The term in which it was started.
    #[must_use]
    pub const fn term(&self) -> Term {
        self.term
    }

    /// How old a measurement, or an answer of the application, may be: three rounds.
    #[must_use]
    pub const fn age_max(&self) -> Duration {
        self.update.saturating_mul(ROUNDS_OLD_MAX)
    }

    /// What the next round is for.
    #[must_use]
    pub fn mode(&self, now: Time) -> Mode {
        if now >= self.next_reconcile { Mode::Reconcile } else { Mode::Watch }
    }

    /// A round in which members could be changed is over; the next one is an interval away.
    pub fn reconciled(&mut self, now: Time) {
        self.next_reconcile = now + self.reconcile;
    }

    /// Makes the next update a reconcile: after a step the next one need not wait for the whole interval.
    pub fn reconcile_soon(&mut self, now: Time) {
        self.next_reconcile = now;
    }

    /// Takes what the application answered. `config` is `None` when it did not answer or with something unusable: then the
    /// last one stands. Servers that it did not tell stand for a few rounds, with the error beside them.
    pub fn heard(
        &mut self,
        now: Time,
        config: Option<Option<Config>>,
        known: Result<Vec<KnownServer>, String>,
    ) {
        if let Some(config) = config {
            self.config = config;
        }
        match known {
            Ok(servers) => (self.known, self.known_at) = (KnownServers::from_iter(servers), now),
            Err(error) => {
                if now.since(self.known_at) > self.age_max() {
                    self.known = KnownServers::default();
                }
                self.known.error = Some(error).filter(|_| !mutated(Mutant::OldKnownServersTrusted));
            }
        }
    }

    /// The configuration that the application gave last, if any.
    #[must_use]
    pub const fn config(&self) -> Option<&Config> {
        self.config.as_ref()
    }

    /// The servers that the application knows, as it told last.
    #[must_use]
    pub const fn known(&self) -> &KnownServers {
        &self.known
    }

    /// The inputs of a round. They take the memory along; whoever runs the round gives it back.
    ///
    /// `asked_at` is when the first question of this round was put, not when the last answer came: nothing that is
    /// judged by time may count time in which nobody looked.
    pub fn inputs(&mut self, asked_at: Time, mode: Mode, gathered: Gathered) -> Inputs {
        self.bridge_no_gap(asked_at);
        let Gathered { view, capabilities, fetched, witnesses, hand, reconciliation_enabled } = gathered;
        Inputs {
            now: asked_at,
            term: self.term,
            config: self.config.clone(),
            capabilities,
            view,
            known: self.known.clone(),
            fetched,
            stats_age_max: self.age_max(),
            mode,
            next_reconcile: Some(self.next_reconcile.max(asked_at)),
            reconciliation_enabled,
            cool_down: self.cool_down.clone(),
            hand,
            orders_unread: None,
            witnesses,
            memory: std::mem::take(&mut self.memory),
        }
    }

    /// After standing still for longer than a measurement may be old, nobody can be said to have been healthy, or dead,
    /// without a break: every server is watched anew (a suspended machine, a stopped process).
    fn bridge_no_gap(&mut self, now: Time) {
        let gap = self.memory.last_state_at.is_some_and(|at| now.since(at) > self.age_max());
        if gap && !mutated(Mutant::GapsIgnored) {
            self.memory.first_state_at = None;
            self.memory.servers.values_mut().for_each(|s| (s.since, s.credit) = (now, Duration::ZERO));
        }
    }

    /// Whether a decision is too old to be carried out: what it rests on was seen more than an update interval ago.
    #[must_use]
    pub fn is_outdated(&self, plan: &Plan, now: Time) -> bool {
        now.since(plan.at) > self.update && !mutated(Mutant::OldDecisionsPerformed)
    }

    /// Notes that a step was performed.
    pub fn performed(&mut self, step: &Step, how: &Performed<'_>) {
        self.cool_down = None;
        self.memory.performed(step, how);
    }

    /// Notes that a step failed. It waits then, unless the engine only says that things moved on: the next round sees
    /// that.
    pub fn failed(&mut self, now: Time, step: &Step, error: &ClusterError) {
        if waits(error) && !mutated(Mutant::CoolDownForgotten) {
            let until = now + self.reconcile * COOL_DOWN_INTERVALS;
            self.cool_down = Some(CoolDown { step: step.clone(), until, error: error.to_string() });
        }
    }
}

/// What an engine is told to compare a change with.
#[must_use]
pub fn expected(decided_on: LogIndex, capabilities: Capabilities) -> Option<LogIndex> {
    let compares = capabilities.compare_and_set && !mutated(Mutant::ConfigurationIndexIgnored);
    compares.then_some(decided_on)
}

/// Whether the same step should wait after this.
const fn waits(error: &ClusterError) -> bool {
    !matches!(
        error,
        ClusterError::NotLeader { .. }
            | ClusterError::NotReady
            | ClusterError::ChangeInProgress { .. }
            | ClusterError::ConfigurationMoved { .. }
    )
}

/// Whether every voter that the application calls alive has answered this leader: before that nothing is known about its
/// contact and where its log ends, which says nothing about the voter. The first look of a run waits for it, not for long.
#[must_use]
pub fn everybody_answered(state: &State) -> bool {
    let unheard = |reason: &HealthReason| {
        matches!(
            reason,
            HealthReason::NoContact | HealthReason::NoStats { age: None, .. } | HealthReason::LastTerm { .. }
        )
    };
    let mut alive = state.servers.values().filter(|s| s.is_voter() && s.node_status == NodeStatus::Alive);
    state.leader.is_none() || alive.all(|server| !server.health.reasons.iter().any(unheard))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::Round;
    use crate::promoter::StablePromoter;
    use crate::testing::Situation;

    const SECOND: Duration = Duration::from_secs(1);

    fn run_at(now: Time) -> Run {
        Run::new(Term(3), now, SECOND * 2, SECOND * 10)
    }

    fn look(run: &mut Run, situation: &Situation, now: Time) -> Round {
        let known = situation.inputs.known.servers.values().cloned().collect();
        run.heard(now, Some(Some(Config::default())), Ok(known));
        let gathered = Gathered {
            view: situation.inputs.view.clone(),
            capabilities: Capabilities::default(),
            fetched: None,
            witnesses: BTreeMap::new(),
            hand: Hand::default(),
            reconciliation_enabled: true,
        };
        let round = Round::run(&run.inputs(now, Mode::Reconcile, gathered), &StablePromoter);
        run.memory = round.memory.clone();
        round
    }

    #[test]
    fn time_in_which_nobody_looked_counts_for_nobody() {
        let joiner = Situation::new("a").nonvoter("b");
        let begin = Time::from_millis(5);
        let mut run = run_at(begin);
        for second in [0, 2, 4] {
            assert_eq!(look(&mut run, &joiner, begin + SECOND * second).plan.step, None);
        }
        // The process stood still for a minute; the leader leads on.
        assert_eq!(look(&mut run, &joiner, begin + SECOND * 64).plan.step, None);
        assert_eq!(look(&mut run, &joiner, begin + SECOND * 66).plan.step, None);
        for second in [68, 70, 72] {
            look(&mut run, &joiner, begin + SECOND * second);
        }
        let round = look(&mut run, &joiner, begin + SECOND * 74);
        assert!(matches!(round.plan.step.unwrap().step, Step::Promote { .. }));
    }

    #[test]
    fn a_decision_grows_old_with_what_it_rests_on() {
        let run = run_at(Time::ZERO);
        let plan = Plan { at: Time::ZERO + SECOND, ..Plan::default() };
        assert!(!run.is_outdated(&plan, Time::ZERO + SECOND * 3));
        assert!(run.is_outdated(&plan, Time::ZERO + SECOND * 4));
    }

    #[test]
    fn an_application_that_fails_is_remembered_for_three_rounds() {
        let mut run = run_at(Time::ZERO);
        run.heard(Time::ZERO, None, Ok(vec![KnownServer::alive("a", "a:1")]));
        run.heard(Time::ZERO + SECOND * 6, None, Err(String::from("away")));
        assert_eq!((run.known().servers.len(), run.known().error.as_deref()), (1, Some("away")));
        run.heard(Time::ZERO + SECOND * 7, None, Err(String::from("away")));
        assert_eq!(run.known().servers.len(), 0);
    }
}
