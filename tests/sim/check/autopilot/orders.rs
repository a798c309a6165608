//! What people were promised: no step breaks an order that stands, no limit is exceeded over changes of leaders, nobody comes
//! back from a tombstone by itself, and whoever may stop can stop.

use std::collections::BTreeSet;
use std::time::Duration;

use autopilot::{Config, Inputs, Ledger, ServerId, Step};

use super::Observed;
use super::decision::Found;
use crate::check::Verdict;
use crate::pilot::people::{Kept, Promise, Promised};

/// Whether what a ledger says about health and limits may be believed: it is of an earlier term, young enough, and not ahead.
#[must_use]
pub fn has_history(kept: &Kept, inputs: &Inputs, age: Duration) -> bool {
    let young = age <= Ledger::AGE_MAX;
    young && kept.term < inputs.term && kept.configuration <= inputs.view.configuration_index
}

/// Judges a step by the promises that bind the run.
///
/// # Errors
/// The first that is broken.
pub fn decided(binding: &[Promise], inputs: &Inputs, step: &Step) -> Found {
    for promise in binding {
        if breaks(&promise.what, inputs, step) {
            let given = promise.given.0;
            return Err(("a_orders", format!("{step}, though at {given} was promised: {:?}", promise.what)));
        }
    }
    let default = Config::default();
    let config = inputs.config.as_ref().unwrap_or(&default);
    let count = |what: &Promised| binding.iter().filter(|promise| promise.what == *what).count();
    let (removal, changes) = (&config.removal, &config.changes);
    let (takes, votes) = match step {
        Step::Remove { class, .. } => (true, class.is_voter()),
        Step::Swap { class, .. } => (class.is_some(), class.is_some()),
        _ => (false, false),
    };
    let spent = count(&Promised::Spent);
    if takes && removal.budget > 0 && spent >= removal.budget {
        return Err(("a_budget", format!("{step}, after {spent} within {:?}", removal.window)));
    }
    if votes && count(&Promised::Cooling) > 0 {
        return Err((
            "a_budget",
            format!("{step}, less than {:?} after another dead voter", removal.cool_down),
        ));
    }
    let stepped = count(&Promised::Stepped);
    if changes.max > 0 && stepped >= changes.max {
        return Err(("a_rate", format!("{step}, after {stepped} steps within {:?}", changes.window)));
    }
    Ok(())
}

fn breaks(promised: &Promised, inputs: &Inputs, step: &Step) -> bool {
    let raised = match step {
        Step::Promote { id, .. } | Step::Swap { id, .. } | Step::Transfer { id } => Some(id),
        Step::Demote { .. } | Step::Remove { .. } => None,
    };
    let lowered = match step {
        Step::Remove { id, .. } | Step::Demote { id } | Step::Swap { out: id, .. } => Some(id),
        Step::Promote { .. } | Step::Transfer { .. } => None,
    };
    // Who is drained is not left alone: it is to lose its vote.
    let drained = |id: &ServerId| inputs.hand.drained.contains_key(id);
    match promised {
        Promised::Cordoned(id) | Promised::Drained(id) => raised == Some(id),
        Promised::Paused | Promised::Maintained(None) => true,
        Promised::Maintained(Some(id)) => raised == Some(id) || (lowered == Some(id) && !drained(id)),
        _ => false,
    }
}

/// Whether a server that comes by itself, in this of its lives, is one that was taken out and that nobody wants back.
///
/// # Errors
/// It is.
pub fn admitted(binding: &[Promise], id: &ServerId, life: Option<u64>) -> Verdict {
    let same = |buried: Option<u64>| match (buried, life) {
        (Some(buried), Some(now)) => now <= buried,
        _ => true,
    };
    let held =
        binding.iter().find(|p| matches!(&p.what, Promised::Buried(other, at) if other == id && same(*at)));
    match held {
        Some(promise) => Err(format!("{id} comes back in its life {life:?}: {promise:?}")),
        None => Ok(()),
    }
}

/// Judges a yes to somebody who wants to stop a server, by the looks: it does not lead, nothing is changing, and without it
/// and those who may stop already the healthy voters are a quorum.
///
/// # Errors
/// What it is missed for.
pub fn may_stop(
    observed: &Observed,
    inputs: &Inputs,
    server: &ServerId,
    released: &BTreeSet<ServerId>,
    drained: bool,
) -> Verdict {
    let view = &inputs.view;
    let Some(member) = view.configuration.server(server) else { return Ok(()) };
    let votes = member.suffrage == autopilot::Suffrage::Voter;
    let stays = |id: &ServerId| id != server && !released.contains(id) && observed.is_healthy(id);
    let left = view.configuration.voters().filter(|voter| stays(&voter.id)).count();
    let wrong = [
        (view.is_leader && view.id == *server, "it leads"),
        (!view.configuration_committed || view.configuration.is_joint(), "members are changing"),
        (votes && drained, "it still votes and is being drained"),
        (votes && left < view.configuration.quorum(), "those who stay are no quorum"),
    ];
    match wrong.iter().find(|(broken, _)| *broken) {
        Some((_, why)) => Err(format!("{server} may stop, though {why}: {left} of {:?}", view.configuration)),
        None => Ok(()),
    }
}
