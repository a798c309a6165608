//! M4, M5: the configuration in force is the last one in snapshot and log, recomputed from scratch.

use super::{Step, Verdict};

/// Judges one step.
///
/// # Errors
/// The core acts on another configuration.
pub fn stepped(step: &Step<'_>) -> Verdict {
    let (core, server) = (step.core(), step.server());
    if core.last() == step.before.last && core.commit_index() == step.before.commit {
        return Ok(());
    }
    // The core's own snapshot: a newer one may be stored that it has not accepted yet.
    let (index, configuration) = server.log.configuration(core.snapshot());
    if (index, &configuration) != (core.configuration_index(), core.configuration()) {
        return Err(format!(
            "{} acts on the configuration at {}, its log has {configuration:?} at {index}",
            core.me().id,
            core.configuration_index()
        ));
    }
    Ok(())
}
