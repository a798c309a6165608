//! The operator: a server that refuses its damaged disk is taken out of the cluster, and a new one takes its place.

use std::collections::BTreeSet;
use std::time::Duration;

use raft::core::EntryKind;
use raft::storage::StorageError;
use raft::{Configuration, ConfigurationChange, ServerId, Suffrage};

use super::{Event, World};
use crate::check::liveness;
use crate::check::membership::is_quorum;
use crate::disk::Disk;
use crate::disk::files::Files;
use crate::server::SimServer;
use crate::workload::Asked;

/// How often the operator looks.
const EVERY: Duration = Duration::from_millis(300);

impl World {
    /// A server found damage and stays down for good.
    pub(super) fn lose(&mut self, node: usize, error: &StorageError) {
        self.trace(|| format!("{} refuses its disk: {error}", self.servers[node].peer.id));
        self.cover("servers lost to damage");
        self.servers[node].lost = true;
        self.schedule(EVERY, Event::Operate { lost: node, fresh: None });
    }

    /// Whether a server that is lost, or will be at its next start, may still be a member somewhere, so that nothing else
    /// should be taken away.
    pub(crate) fn is_replacing(&self) -> bool {
        let rotten = |disk: &Disk| disk.files.as_ref().is_some_and(Files::is_rotten);
        self.is_restoring()
            || self.servers.iter().any(|server| {
                (server.lost && !server.replaced) || server.forgot || (!server.lost && rotten(&server.disk))
            })
    }

    /// Whether the cluster stays able to work if these servers never come back: in every configuration that any
    /// server may come to use, the others are a quorum. Before anything is committed one server may be the only one that
    /// was bootstrapped. A change that is still on its way could need the very server that is gone, and whoever is gone
    /// already, or about to leave, is no help.
    pub(crate) fn can_lose(&self, nodes: &BTreeSet<usize>) -> bool {
        let nodes = nodes | &self.fleet.gone;
        let ids: BTreeSet<&ServerId> = nodes.iter().map(|node| &self.servers[*node].peer.id).collect();
        let enough = |configuration: &Configuration| {
            configuration.voters_count() == 0 || is_quorum(configuration, |voter| !ids.contains(voter))
        };
        let in_logs = |disk: &Disk| {
            let mut logged =
                disk.log.entries.iter().chain(disk.queue.iter().flat_map(|write| &write.entries));
            logged.all(|entry| match &entry.kind {
                EntryKind::Configuration(configuration) => enough(configuration),
                EntryKind::Command | EntryKind::Noop | EntryKind::Barrier => true,
            }) && disk.newest().is_none_or(|snapshot| enough(&snapshot.meta.configuration))
        };
        let begun = !self.checks.commit.is_empty();
        let changing = self.workload.pending().values().any(|(_, asked)| *asked == Asked::Change);
        begun
            && !changing
            && self.fleet.leaving.is_empty()
            && self.others_count(&nodes)
            && !self.is_replacing()
            && self.servers.iter().filter(|server| !server.lost).all(|s| in_logs(&s.disk))
    }

    /// Removes the lost server, then brings a new one in.
    pub(super) fn operate(&mut self, lost: usize, mut fresh: Option<usize>) {
        let Some(leader) = liveness::ready_leader(&self.servers) else {
            return self.schedule(EVERY, Event::Operate { lost, fresh });
        };
        let Some(core) = &self.servers[leader].core else { return };
        let committed = core.configuration_index() <= core.commit_index();
        let id = self.servers[lost].peer.id.clone();
        if core.configuration().server(&id).is_some() {
            self.change(leader, ConfigurationChange::RemoveServer { id });
        } else if committed {
            let number = *fresh.get_or_insert(self.servers.len());
            if number == self.servers.len() {
                self.servers.push(self.new_server(number));
                self.start(number);
            }
            let peer = self.servers[number].peer.clone();
            let Some(core) = &self.servers[leader].core else { return };
            let suffrage = core.configuration().server(&peer.id).map(|server| server.suffrage);
            if suffrage == Some(Suffrage::Voter) {
                self.servers[lost].replaced = true;
                return self.cover("servers replaced");
            }
            self.change(leader, ConfigurationChange::AddVoter { id: peer.id, address: peer.address });
        }
        self.schedule(EVERY, Event::Operate { lost, fresh });
    }

    /// A server that was never started, with an empty disk.
    pub(super) fn new_server(&self, number: usize) -> SimServer {
        let mut server = SimServer::new(number);
        let spoils = self.options.mutant.is_some_and(crate::mutant::Mutant::spoils_disk);
        if self.options.files && !spoils {
            server.disk.files = Some(Files::new(self.options.segment_bytes));
        }
        server
    }
}
