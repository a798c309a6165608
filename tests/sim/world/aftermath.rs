//! V5: a cluster that has settled stays settled. A live-lock looks fine at any moment: there is a leader, and commands
//! commit; but leaders follow one another, or the same snapshot is sent again and again.

use raft::Term;

use super::World;
use crate::check::liveness;
use crate::mutant::Mutant;

/// How many rounds of ten election timeouts.
const ROUNDS: u32 = 10;

impl World {
    /// Watches the cluster for a hundred election timeouts, with a command in every tenth.
    pub(super) fn aftermath(&mut self) {
        let (term, elections) = (self.newest_term(), self.checks.election_safety.elections());
        self.snapshots_sent.clear();
        for _ in 0..ROUNDS {
            if let Some(leader) = liveness::ready_leader(&self.servers) {
                self.propose(leader);
                if self.options.mutant == Some(Mutant::Restless) {
                    self.transfer(leader, None);
                }
            }
            self.run_until(self.options.config.election_timeout * 10, |_| false);
        }
        self.cover("clusters watched after they settled");
        let grown = self.newest_term().0.saturating_sub(term.0);
        let changes = self.checks.election_safety.elections() - elections;
        let snapshots = self.snapshots_sent.values().max().copied().unwrap_or(0);
        let verdict = liveness::stays_calm(grown, changes, snapshots);
        self.judge("liveness", verdict);
    }

    /// The newest term among the members that are not broken; whoever was removed may go on asking in ever newer ones.
    fn newest_term(&self) -> Term {
        let Some(leader) = liveness::ready_leader(&self.servers) else { return Term(0) };
        let Some(leader) = &self.servers[leader].core else { return Term(0) };
        let whole = self.servers.iter().enumerate().filter(|(node, _)| !self.broken.contains(node));
        let members = whole.filter_map(|(_, server)| server.core.as_ref());
        let members = members.filter(|core| leader.configuration().server(&core.me().id).is_some());
        members.map(raft::core::RaftCore::term).max().unwrap_or_default()
    }
}
