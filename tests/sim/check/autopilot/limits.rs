//! The limits on what autopilot does without being asked: flapping servers get no vote, dead voters stay down to the floor,
//! nothing is taken away by a leader that was ill itself or that other servers contradict.

use std::collections::BTreeMap;
use std::time::Duration;

use autopilot::core::Mode;
use autopilot::{Config, HealthReason, Inputs, NodeStatus, Round, ServerId, State, Step};
use raft::Time;

use super::Watch;
use crate::check::Verdict;
use crate::check::autopilot::decision::Found;

/// How often a member turned unhealthy, the older times counting less.
#[derive(Clone, Copy, Debug, Default)]
pub struct Flaps {
    count: f64,
    at: Time,
    flapping: bool,
    healthy: bool,
}

/// Takes in a look that was just added to what was observed: a gap since the one `before` it, or too few voters in contact.
pub fn suspend(watch: &mut Watch, inputs: &Inputs, before: Option<Time>) {
    let default = Config::default();
    let config = inputs.config.as_ref().unwrap_or(&default);
    let gap = before.is_some_and(|at| inputs.now.since(at) > inputs.stats_age_max);
    let hears = |id: &ServerId| {
        let sample = watch.observed.members.get(id).and_then(|member| member.sample);
        sample.is_some_and(|(stats, at)| {
            let fresh = inputs.now.since(at) <= inputs.stats_age_max;
            fresh && stats.last_contact.is_some_and(|contact| contact <= config.last_contact_threshold)
        })
    };
    let configuration = &inputs.view.configuration;
    let heard = configuration.voters().filter(|voter| hears(&voter.id)).count();
    let cut_off = inputs.view.is_leader && heard < configuration.quorum();
    if gap || cut_off {
        watch.suspended_until = inputs.now + config.health.suspension;
    }
}

/// Takes in what a round showed.
pub fn take_in(watch: &mut Watch, inputs: &Inputs, state: &State) {
    let default = Config::default();
    let config = inputs.config.as_ref().unwrap_or(&default);
    let mut flaps = std::mem::take(&mut watch.flaps);
    for server in state.servers.values() {
        let seen = flaps.remove(&server.id).unwrap_or_default();
        let deposed = matches!(server.health.reasons.first(), Some(HealthReason::NoLeader));
        let worse = seen.healthy && !server.health.healthy && !deposed;
        let seen = turn(seen, config, inputs.now, worse, server.health.healthy);
        watch.flaps.insert(server.id.clone(), seen);
    }
    if !inputs.view.is_leader {
        return;
    }
    let voters = state.voters.len();
    let stable = |id: &ServerId| state.server(id).is_some_and(|server| server.is_stable(inputs.now));
    watch.size = match state.voters.iter().all(stable) && voters > 0 {
        true => Some(voters),
        false => watch.size.map(|size| size.min(voters)),
    };
}

fn turn(before: Flaps, config: &Config, now: Time, worse: bool, healthy: bool) -> Flaps {
    let limit = f64::from(config.health.flap_limit);
    let left = decayed(before, config.health.flap_half_life, now);
    let (count, at) = if worse { (left + 1.0, now) } else { (before.count, before.at) };
    let now_left = if worse { count } else { left };
    let reached = limit > 0.0 && now_left >= limit - 0.45;
    let flapping = reached || (before.flapping && now_left > limit / 2.0);
    Flaps { count, at, flapping, healthy }
}

fn decayed(flaps: Flaps, half_life: Duration, now: Time) -> f64 {
    let passed = now.since(flaps.at).as_secs_f64() / half_life.as_secs_f64();
    flaps.count * 0.5_f64.powf(passed.floor()) * (1.0 - passed.fract() / 2.0)
}

/// Judges a step by all of them.
///
/// # Errors
/// The first that is broken.
pub fn decided(watch: &Watch, inputs: &Inputs, round: &Round) -> Found {
    let Some(step) = round.plan.step.as_ref().map(|planned| &planned.step) else { return Ok(()) };
    let named = |name, verdict: Verdict| verdict.map_err(|sentence| (name, sentence));
    let default = Config::default();
    let config = inputs.config.as_ref().unwrap_or(&default);
    named("a_flaps", calm(watch, inputs, config, step))?;
    named("a_floor", replaced(watch, inputs, config, &round.state, step))?;
    named("a_suspension", sound(watch, inputs, config, step))?;
    named("a_witnesses", corroborated(watch, inputs, config, step))
}

fn calm(watch: &Watch, inputs: &Inputs, config: &Config, step: &Step) -> Verdict {
    let (Step::Promote { id, .. } | Step::Swap { id, .. }) = step else { return Ok(()) };
    let flaps = watch.flaps.get(id).copied().unwrap_or_default();
    let left = decayed(flaps, config.health.flap_half_life, inputs.now);
    let limit = f64::from(config.health.flap_limit);
    if limit > 0.0 && flaps.flapping && left > limit / 2.0 + 0.05 {
        return Err(format!("{step}, though {id} turned unhealthy {left:.2} times lately"));
    }
    Ok(())
}

/// Who is taken out without being asked about and without having said that it leaves.
fn unasked<'a>(inputs: &Inputs, step: &'a Step) -> Option<&'a ServerId> {
    let (Step::Remove { id, .. } | Step::Swap { out: id, class: Some(_), .. }) = step else { return None };
    let known = inputs.known.servers.get(id);
    let left = known.is_some_and(|known| known.node_status == NodeStatus::Left);
    (inputs.mode != Mode::Prune && !left).then_some(id)
}

/// A dead voter goes only if as many stay as were seen all stable.
fn replaced(watch: &Watch, inputs: &Inputs, config: &Config, state: &State, step: &Step) -> Verdict {
    let holds =
        config.removal.only_when_replaced || (config.removal.floor_from_size && config.min_quorum == 0);
    let Some(id) = unasked(inputs, step).filter(|_| holds && matches!(step, Step::Remove { .. })) else {
        return Ok(());
    };
    let left = state.voters.len().saturating_sub(1);
    let size = watch.size.unwrap_or(left | 1);
    if inputs.view.configuration.is_voter(id) && left < size {
        return Err(format!("{step} leaves {left} voters of {size}"));
    }
    Ok(())
}

fn sound(watch: &Watch, inputs: &Inputs, config: &Config, step: &Step) -> Verdict {
    let suspended = !config.health.suspension.is_zero() && inputs.now < watch.suspended_until;
    if suspended && step.loser().is_some() {
        return Err(format!(
            "{step} at {}, though the leader is in doubt until {}",
            inputs.now, watch.suspended_until
        ));
    }
    Ok(())
}

/// As many as there must be call it dead, and more than hear from it: no single one that lies or is cut off is enough where
/// two are asked for.
fn corroborated(watch: &Watch, inputs: &Inputs, config: &Config, step: &Step) -> Verdict {
    let required = config.health.witnesses;
    let Some(id) = unasked(inputs, step).filter(|_| required > 0) else { return Ok(()) };
    let words = watch.words.get(id).map_or(&[][..], Vec::as_slice);
    let speakers: BTreeMap<&ServerId, bool> = words.iter().map(|word| (&word.by, word.dead)).collect();
    let dead = speakers.values().filter(|dead| **dead).count();
    let honest = words.iter().filter(|word| word.dead && !word.lies).count();
    let liars = words.iter().filter(|word| word.lies).count();
    let enough = dead >= required && dead > speakers.len() - dead;
    if enough && (honest > 0 || liars >= required) {
        return Ok(());
    }
    Err(format!("{step}, though of others only these spoke: {words:?}"))
}
