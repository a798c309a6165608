//! What a round may decide: A1 to A3, A5, A6, A9, A11, A12, A14, A15 by what the run was shown, A7 and A16 on paper, and
//! that every switch is obeyed.

use std::time::Duration;

use autopilot::core::{Mode, Proposal};
use autopilot::{
    Config, Configuration, Inputs, NodeStatus, PlannedStep, Promoter, Reason, Round, ServerId, Step, Suffrage,
};
use raft::Time;

use super::observed::is_quorum;
use super::{Pass, Watch};

/// A checker's name with what it found.
pub type Found = Result<(), (&'static str, String)>;

/// Judges one round. `watch` has taken the look in already.
///
/// # Errors
/// The first rule that is broken.
pub fn decided(watch: &mut Watch, inputs: &Inputs, round: &Round) -> Found {
    let named = |name, verdict: Result<(), String>| verdict.map_err(|sentence| (name, sentence));
    named("a15_tolerance", tolerance(watch, inputs, round))?;
    let dead = watch.observed.dead_voters(&inputs.view.configuration);
    let voters = inputs.view.configuration.voters_count();
    if dead != watch.pass.dead || voters > watch.pass.voters {
        watch.pass = Pass { voters, dead, removed: 0 };
    }
    watch.pass.voters = watch.pass.voters.max(voters);
    let Some(planned) = &round.plan.step else { return Ok(()) };
    let default = Config::default();
    let config = inputs.config.as_ref().unwrap_or(&default);
    let case = Case { watch, inputs, config, planned };
    named("a5_fence", case.fence())?;
    named("a_switches", case.switches())?;
    named("a1_quorum", case.quorum())?;
    named("a2_healthy_stay", case.healthy_stay())?;
    named("a3_probation", case.probation())?;
    named("a3_grace", case.grace())?;
    named("a6_tolerance", case.keeps_tolerance())?;
    named("a12_contact", case.contact())?;
    named("a13_cool_down", case.cool_down())?;
    named("a14_unknown", case.unknown())?;
    named("a9_forward", case.forward())?;
    named("a11_budget", case.budget())?;
    watch.decided_on = inputs.view.configuration_index;
    Ok(())
}

/// Takes a change of members in that the engine took: the next pass counts on.
pub fn changed(watch: &mut Watch, step: &Step, configuration: &Configuration) {
    match step {
        Step::Remove { id, .. } if configuration.is_voter(id) => {
            watch.pass.removed += 1;
            watch.pass.dead.remove(id);
        }
        Step::Promote { .. } | Step::Swap { .. } => watch.pass = Pass::default(),
        _ => {}
    }
}

struct Case<'a> {
    watch: &'a Watch,
    inputs: &'a Inputs,
    config: &'a Config,
    planned: &'a PlannedStep,
}

impl Case<'_> {
    fn step(&self) -> &Step {
        &self.planned.step
    }

    fn id(&self) -> &ServerId {
        self.step().id()
    }

    fn before(&self) -> &Configuration {
        &self.inputs.view.configuration
    }

    /// Whom the step takes out of the configuration.
    fn gone(&self) -> Option<&ServerId> {
        match self.step() {
            Step::Remove { id, .. } | Step::Swap { out: id, class: Some(_), .. } => Some(id),
            _ => None,
        }
    }

    /// Who gets a vote.
    fn gains(&self) -> Option<&ServerId> {
        match self.step() {
            Step::Promote { id, .. } | Step::Swap { id, .. } => Some(id),
            _ => None,
        }
    }

    fn after(&self) -> Result<Configuration, String> {
        self.step().apply(self.before()).map_err(|error| format!("{} cannot be done: {error}", self.step()))
    }

    /// A5: only the leader of the run's own term acts, once it has committed an entry of that term, and on a configuration
    /// that is committed and not joint (A4, A13).
    fn fence(&self) -> Result<(), String> {
        let view = &self.inputs.view;
        let leads = view.is_leader && view.term == self.inputs.term && view.ready;
        let settled = view.configuration_committed && !view.configuration.is_joint();
        if leads && settled {
            return Ok(());
        }
        Err(format!("{} is decided in term {} of {view:?}", self.step(), self.inputs.term))
    }

    fn switches(&self) -> Result<(), String> {
        let prune = self.inputs.mode == Mode::Prune;
        let on = self.inputs.config.is_some() && (self.inputs.reconciliation_enabled || prune);
        let clean = self.config.cleanup_dead_servers || prune || self.gone().is_none();
        let due = self.inputs.mode != Mode::Watch;
        if on && clean && due { Ok(()) } else { Err(format!("{} though that is switched off", self.step())) }
    }

    /// A1: healthy voters are a quorum before and after, and no vote is taken below `min_quorum`.
    fn quorum(&self) -> Result<(), String> {
        let after = self.after()?;
        let healthy = |id: &ServerId| self.watch.observed.is_healthy(id);
        if !is_quorum(self.before(), healthy) || !is_quorum(&after, healthy) {
            return Err(format!("{}, though those healthy are no quorum of {after:?}", self.step()));
        }
        let fewer = after.voters_count() < self.before().voters_count();
        if fewer && after.voters_count() < self.config.min_quorum {
            return Err(format!("{} leaves fewer than {} voters", self.step(), self.config.min_quorum));
        }
        Ok(())
    }

    /// A2: a healthy voter keeps its vote unless the policy, or an order, takes it, and the leader always does. Who is asked to lead is a
    /// healthy voter.
    fn healthy_stay(&self) -> Result<(), String> {
        let about = self.gone().unwrap_or_else(|| self.id());
        let healthy = self.watch.observed.is_healthy(about);
        let drained = &self.inputs.hand.drained;
        let ordered = match self.step() {
            Step::Transfer { .. } => drained.contains_key(&self.inputs.view.id),
            step => step.loser().is_some_and(|id| drained.contains_key(id)),
        };
        let by_policy = matches!(self.planned.reason, Reason::Policy { .. })
            || (ordered && matches!(self.planned.reason, Reason::Drained { .. }));
        let leads = self.step().loser() == Some(&self.inputs.view.id);
        let votes = self.before().is_voter(about);
        let wrong = leads
            || match self.step() {
                Step::Remove { .. } | Step::Swap { class: Some(_), .. } => healthy,
                Step::Demote { .. } => !by_policy || !votes,
                Step::Transfer { .. } => !healthy || !votes || !by_policy,
                _ => false,
            };
        if wrong {
            Err(format!("{}, healthy: {healthy}, by policy: {by_policy}", self.step()))
        } else {
            Ok(())
        }
    }

    /// A3: a vote goes to a member that this run, and those before it by their ledgers, saw healthy in every look for the
    /// whole time.
    fn probation(&self) -> Result<(), String> {
        let Some(id) = self.gains() else { return Ok(()) };
        let member = self.before().server(id);
        if member.is_none_or(|member| member.suffrage != Suffrage::Nonvoter) {
            return Err(format!("{} is promoted without being a member that does not vote", id));
        }
        let seen = self.watch.healthy_since(id, self.inputs.now);
        let required = self.config.server_stabilization_time;
        if seen.is_some_and(|seen| seen >= required) {
            return Ok(());
        }
        Err(format!("{id} is promoted after {seen:?} of health, not {required:?}"))
    }

    fn left_on_purpose(&self) -> bool {
        let known = self.gone().and_then(|id| self.inputs.known.servers.get(id));
        known.is_some_and(|known| known.node_status == NodeStatus::Left)
    }

    /// How long a member must be dead.
    fn required(&self, id: &ServerId) -> Duration {
        let removal = &self.config.removal;
        let ordinary = self.config.server_stabilization_time;
        let nonvoter = removal.nonvoter_after.unwrap_or(ordinary);
        match self.before().is_voter(id) {
            true => removal.voter_after.unwrap_or(ordinary),
            false => nonvoter.min(removal.replica_after.unwrap_or(nonvoter)),
        }
    }

    /// A3 for removals (A03, A08): nobody goes that was healthy, or answered the leader, within the time, unless it left.
    fn grace(&self) -> Result<(), String> {
        let asked = self.inputs.mode == Mode::Prune || self.left_on_purpose();
        let (Some(id), false) = (self.gone(), asked) else { return Ok(()) };
        let required = self.required(id);
        let Some(member) = self.watch.observed.members.get(id) else {
            return Err(format!("{id} is removed and was never looked at"));
        };
        let ago = |at: Time| self.inputs.now.since(at);
        let down = member.unhealthy_since.map_or(Duration::ZERO, ago);
        let silent = member.answered_at.map_or(Duration::MAX, ago);
        // What is doubtful counts as healthy here, and may count as bad there.
        if down + self.inputs.stats_age_max * 2 >= required && silent >= required {
            return Ok(());
        }
        Err(format!(
            "{id} is removed after {down:?} of bad health and {silent:?} of silence, not {required:?}"
        ))
    }

    /// A6: no promotion and no removal costs tolerance.
    fn keeps_tolerance(&self) -> Result<(), String> {
        if !matches!(self.step(), Step::Promote { .. } | Step::Remove { .. } | Step::Swap { .. }) {
            return Ok(());
        }
        let (before, after) =
            (self.watch.observed.tolerance(self.before()), self.watch.observed.tolerance(&self.after()?));
        if after >= before {
            return Ok(());
        }
        Err(format!("{} takes the tolerance from {before} to {after}", self.step()))
    }

    /// A12: whoever removes the silent has heard from a quorum all the time, but for the first moments in office.
    fn contact(&self) -> Result<(), String> {
        let Some(gone) = self.gone() else { return Ok(()) };
        let required = match self.inputs.mode == Mode::Prune || self.left_on_purpose() {
            true => Duration::ZERO,
            false => self.required(gone),
        };
        let since = self.watch.observed.quorum_since;
        let at_first = self.inputs.stats_age_max;
        if since.is_some_and(|since| self.inputs.now.since(since) + at_first >= required) {
            return Ok(());
        }
        Err(format!("{}, though the leader hears a quorum since {since:?} only", self.step()))
    }

    /// A13: the step that failed last waits.
    fn cool_down(&self) -> Result<(), String> {
        let failed = self.watch.failed.as_ref();
        match failed.filter(|(step, until)| step == self.step() && *until > self.inputs.now) {
            Some((step, until)) => Err(format!("{step} again at {}, not at {until}", self.inputs.now)),
            None => Ok(()),
        }
    }

    /// A14: what nobody knows proves nothing.
    fn unknown(&self) -> Result<(), String> {
        let known = &self.inputs.known;
        let status = |id: &ServerId| known.servers.get(id).map(|server| server.node_status);
        let doubtful = !self.watch.answered
            || known.error.is_some()
            || !known.servers.contains_key(&self.inputs.view.id);
        let lives = |id| matches!(status(id), Some(NodeStatus::Unknown | NodeStatus::Alive));
        let wrong = self.gone().is_some_and(|id| doubtful || lives(id))
            || self.gains().is_some_and(|id| status(id) != Some(NodeStatus::Alive));
        if wrong { Err(format!("{}, {:?}: {:?}", self.step(), known.error, known.servers)) } else { Ok(()) }
    }

    /// A9: configurations only move forward under a run.
    fn forward(&self) -> Result<(), String> {
        let now = self.inputs.view.configuration_index;
        if now >= self.watch.decided_on {
            return Ok(());
        }
        Err(format!("{} is decided on {now}, after one on {}", self.step(), self.watch.decided_on))
    }

    /// A11: one pass removes fewer than half of the voters that it began with.
    fn budget(&self) -> Result<(), String> {
        let votes = |id: &ServerId| self.before().is_voter(id);
        if !matches!(self.step(), Step::Remove { id, .. } if votes(id)) {
            return Ok(());
        }
        let pass = &self.watch.pass;
        if pass.removed < pass.voters.saturating_sub(1) / 2 {
            return Ok(());
        }
        Err(format!("{}, after {} of {} voters in one pass", self.step(), pass.removed, pass.voters))
    }
}

/// A15: the reported tolerance is not above what the looks show, and the quorum is that of the configuration.
fn tolerance(watch: &Watch, inputs: &Inputs, round: &Round) -> Result<(), String> {
    let configuration = &inputs.view.configuration;
    if configuration.is_joint() {
        return Ok(());
    }
    let shown = watch.observed.tolerance(configuration);
    let state = &round.state;
    if state.failure_tolerance > shown
        || (state.quorum != configuration.quorum() && !configuration.is_empty())
    {
        return Err(format!(
            "tolerance {} and quorum {} are reported, the looks show {shown} and {}",
            state.failure_tolerance,
            state.quorum,
            configuration.quorum()
        ));
    }
    Ok(())
}

/// A16: the same round again, and one with the members in another order, decide the same.
///
/// # Errors
/// Another decision.
pub fn repeats(inputs: &Inputs, round: &Round, promoter: &dyn Promoter) -> Found {
    let again = Round::run(inputs, promoter);
    let mut turned = inputs.clone();
    let view = &mut turned.view;
    let (servers, outgoing) = (view.configuration.servers(), view.configuration.outgoing());
    let reversed = |list: &[autopilot::Server]| list.iter().rev().cloned().collect::<Vec<_>>();
    view.configuration = Configuration::joint(reversed(servers), reversed(outgoing));
    let other = Round::run(&turned, promoter);
    if again == *round && other.plan.step == round.plan.step {
        return Ok(());
    }
    Err(("a16_pure", format!("{:?}, {:?}, {:?}", round.plan.step, again.plan.step, other.plan.step)))
}

/// A7: with nothing else happening, at most two changes more than members, and then nothing.
///
/// # Errors
/// More, or no end.
pub fn comes_to_rest(inputs: &Inputs, promoter: &dyn Promoter) -> Found {
    // To whom a snapshot is on its way is joining for as long as it is, which on paper has no end.
    if !inputs.view.installing.is_empty() {
        return Ok(());
    }
    let proposal = Proposal::compute(inputs, promoter);
    let members = inputs.view.configuration.servers().len();
    let moves = proposal.steps.iter().any(|step| matches!(step.planned.step, Step::Transfer { .. }));
    if proposal.steps.len() <= members + 2 && (proposal.complete || moves) {
        return Ok(());
    }
    let waits: Vec<String> =
        Round::run(inputs, promoter).plan.decisions.iter().map(ToString::to_string).collect();
    Err(("a7_rest", format!("{members} members, and no end: {proposal} {waits:?}")))
}
