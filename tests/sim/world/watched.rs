//! What looks at every step beside the checkers: the specification, and the regions of the catalogue.

use raft::core::{Effect, Input};

use super::World;
use crate::check::Verdict;
use crate::coverage::{Before, Moment};
use crate::server::SimServer;
use crate::spec::trace::Made;

impl World {
    pub(super) fn enter_regions(&mut self, node: usize, before: Before, input: &Input, effects: &[Effect]) {
        let Self { now, servers, network, options, regions, .. } = self;
        let (now, Some(core)) = (*now, &servers[node].core) else { return };
        regions.steps(&Moment { now, node, before, input, core, effects, servers, network, options });
    }

    /// Judges by the specification what a core has just done. Whoever asks names the verdict after all others: they say more
    /// exactly what is wrong.
    pub(super) fn specify(&mut self, node: usize, told: Option<&Input>, effects: &[Effect]) -> Verdict {
        let SimServer { core: Some(core), received, .. } = &self.servers[node] else { return Ok(()) };
        self.specification.stepped(told, &Made { node, core, effects, received })
    }
}
