//! Leaders that are deposed and do not know it (catalogue L05, L09, L10, M11): the moment at which reads go wrong.

use std::time::Duration;

use raft::Time;
use rand::RngExt;

use crate::check::liveness;
use crate::random::{between, chance};
use crate::world::{Event, World};

impl World {
    /// A leader hands over, and hears what the other voters say only late, answers from before among it: it goes on
    /// believing that it leads while another one does and commits. Clients ask it for reads all the while. Non-voters may
    /// be with it and answer at once.
    pub(super) fn depose_and_ask(&mut self) {
        let Some(leader) = self.servers.iter().position(crate::server::SimServer::leads) else { return };
        let Some(core) = &self.servers[leader].core else { return };
        let votes = |node: &usize| core.configuration().is_voter(&self.servers[*node].peer.id);
        let others = (0..self.servers.len()).filter(|node| *node != leader);
        let (voters, rest): (Vec<usize>, Vec<usize>) = others.partition(votes);
        if voters.is_empty() {
            return;
        }
        self.cover("leaders deposed while they are asked");
        let timeout = self.options.config.election_timeout;
        let random = &mut self.nemesis.random;
        let late = between(random, timeout / 20, timeout);
        let heir = voters[random.random_range(0..voters.len())];
        if chance(random, 500) {
            for nonvoter in rest {
                voters.iter().for_each(|voter| self.network.cut(*voter, nonvoter));
            }
        }
        for voter in voters {
            self.network.slow.insert((voter, leader), late);
        }
        // A round is under way when leadership moves.
        self.read(leader);
        self.transfer(leader, Some(heir));
        let until = self.now + late + timeout;
        self.schedule(Duration::ZERO, Event::AskDeposed { node: leader, until });
        self.schedule(timeout * 2, Event::Mend);
    }

    /// Somebody writes at the new leader, and then reads at the old one.
    pub(crate) fn ask_deposed(&mut self, node: usize, until: Time) {
        if !self.has_faults() || self.now > until || !self.servers[node].leads() {
            return;
        }
        if let Some(newest) = liveness::ready_leader(&self.servers).filter(|newest| *newest != node) {
            self.cover("reads at a leader while another one writes");
            self.propose(newest);
            self.read(node);
        }
        let next = between(&mut self.nemesis.random, Duration::from_micros(100), Duration::from_millis(10));
        self.schedule(next, Event::AskDeposed { node, until });
    }
}
