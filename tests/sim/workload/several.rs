//! Clients that change several members at once.

use raft::core::{Input, RequestId};
use raft::{ConfigurationChange, Suffrage};
use rand::RngExt;
use rand::seq::SliceRandom;

use super::{Asked, address_of};
use crate::random::chance;
use crate::world::World;

impl World {
    /// Someone changes several members at once.
    pub fn change_several(&mut self, node: usize, changes: Vec<ConfigurationChange>) -> RequestId {
        self.ask(node, Asked::Change, |request| Input::ChangeMembership { request, changes, expected: None })
    }

    /// Two or three changes: mostly such that a joint configuration comes of them, for which whoever joins as a voter must
    /// be a member already.
    pub(super) fn random_changes(&mut self, node: usize) {
        // Nobody takes members away while one is lost.
        if self.is_replacing() {
            return;
        }
        let Some(core) = &self.servers[node].core else { return };
        let random = &mut self.workload.random;
        let mut order: Vec<usize> = (0..self.servers.len()).filter(|n| !self.servers[*n].lost).collect();
        order.shuffle(random);
        let count = random.random_range(2..=3);
        let mut changes = Vec::new();
        for target in order {
            let (id, address) = address_of(&self.servers, target);
            let dice = random.random_range(0..100);
            let change = match core.configuration().server(&id).map(|server| server.suffrage) {
                None if dice < 10 => ConfigurationChange::AddVoter { id, address },
                None if dice < 40 => ConfigurationChange::AddNonvoter { id, address },
                None => continue,
                Some(Suffrage::Nonvoter) if dice < 90 => ConfigurationChange::AddVoter { id, address },
                Some(Suffrage::Voter) if dice < 60 => ConfigurationChange::DemoteVoter { id },
                Some(Suffrage::Nonvoter | Suffrage::Voter) => ConfigurationChange::RemoveServer { id },
            };
            changes.push(change);
            if changes.len() == count {
                break;
            }
        }
        let index = core.configuration_index();
        let expected = Some(index).filter(|_| random.random_range(0..2) == 0);
        let input = |request| Input::ChangeMembership { request, changes, expected };
        self.ask(node, Asked::Change, input);
        let begun = self.servers[node].core.as_ref().is_some_and(|core| core.configuration().is_joint());
        if begun && self.has_faults() && chance(&mut self.workload.random, 500) {
            self.strike_a_side(node);
        }
    }
}
