//! Disks that come back empty or older than they were, and servers that move.

use raft::core::{EntryKind, Role};
use raft::{Configuration, EntryId, ServerAddress, Suffrage};

use super::World;
use crate::check::liveness;
use crate::check::membership::is_quorum;
use crate::disk::Disk;
use crate::server::Past;

/// The one entry of a cluster that was just founded.
const FOUNDING: EntryId = EntryId::new(1, 1);

impl World {
    /// Takes everything from a server's disk; it stays down until it is started.
    pub fn wipe(&mut self, node: usize) {
        self.crash(node);
        self.trace(|| format!("{} loses its disk", self.servers[node].peer.id));
        self.cover("disks that come back empty");
        let fresh = self.new_server(node).disk;
        self.specification.wiped(node);
        self.put_disk(node, fresh);
    }

    /// A copy of a server's disk as it is now; `None` where the real stores are at work on it.
    #[must_use]
    pub fn copy_disk(&mut self, node: usize) -> Option<Disk> {
        if self.servers[node].is_up() && self.servers[node].disk.files.is_some() {
            return None;
        }
        self.specification.copied(node);
        Some(self.servers[node].disk.copy())
    }

    /// Puts an older copy in the place of a server's disk; it stays down until it is started.
    pub fn put_back(&mut self, node: usize, copy: Disk) {
        self.crash(node);
        self.trace(|| format!("{} gets an older disk", self.servers[node].peer.id));
        self.cover("disks that come back older");
        self.specification.put_back(node);
        self.put_disk(node, copy);
    }

    fn put_disk(&mut self, node: usize, disk: Disk) {
        let server = &mut self.servers[node];
        server.past.push(Past::of(&server.disk));
        server.copy = None;
        server.forgot = true;
        server.promised = raft::Term(0);
        server.highest_term = raft::Term(0);
        server.disk = disk;
    }

    /// Gives a server another address, as after a move; it must be down.
    ///
    /// # Panics
    /// If it is up.
    pub fn readdress(&mut self, node: usize, address: &str) {
        assert!(!self.servers[node].is_up(), "a server moves while it is down");
        self.servers[node].peer.address = ServerAddress::from(address);
    }

    /// Whether this server's disk may come back empty now: the others are able to work without it, whatever becomes of it,
    /// and none of them might still take it for a founder.
    pub(crate) fn can_wipe(&self, node: usize) -> bool {
        self.can_lose(&std::collections::BTreeSet::from([node])) && !self.is_founding()
    }

    /// Whether somebody might still take a server without a past for a founder.
    pub(super) fn is_founding(&self) -> bool {
        let founding = |server: &crate::server::SimServer| {
            server.disk.log.last() == FOUNDING || server.log.last() == FOUNDING
        };
        self.servers.iter().any(founding)
    }

    /// Whether the others can do without all that this server holds and promised, so that none of them can win an election, or
    /// commit, by what it has forgotten: an old copy of a disk may not be found out (decision 13).
    ///
    /// In every configuration that anybody may use, whoever lacks the end of its log, or is behind its term, makes no quorum
    /// together with it.
    pub(crate) fn can_age(&self, node: usize, copy: &Disk) -> bool {
        let (lost, term) = (self.servers[node].disk.log.last(), self.servers[node].promised);
        let holds = |disk: &Disk| {
            let stored = disk.newest().is_some_and(|snapshot| snapshot.meta.last >= lost);
            disk.hard_state.term >= term && (stored || disk.log.lists(lost))
        };
        let lacks = |id: &raft::ServerId| {
            let server = self.servers.iter().enumerate().find(|(_, server)| server.peer.id == *id);
            server.is_none_or(|(other, server)| other == node || server.lost || !holds(&server.disk))
        };
        let safe = |configuration: &Configuration| {
            configuration.voters_count() == 0 || !is_quorum(configuration, lacks)
        };
        let in_logs = |disk: &Disk| {
            let queued = disk.queue.iter().flat_map(|write| &write.entries);
            disk.log.entries.iter().chain(queued).all(|entry| match &entry.kind {
                EntryKind::Configuration(configuration) => safe(configuration),
                EntryKind::Command | EntryKind::Noop | EntryKind::Barrier => true,
            }) && disk.newest().is_none_or(|snapshot| safe(&snapshot.meta.configuration))
        };
        let all = self.servers.iter().filter(|server| !server.lost).map(|server| &server.disk);
        self.can_wipe(node)
            && copy.hard_state.incarnation == self.servers[node].disk.hard_state.incarnation
            && copy.log.last() > FOUNDING
            && all.chain([copy]).all(in_logs)
    }

    /// Notes which servers have been taken in anew, and which hold again what they had lost without anybody's having noticed.
    pub(crate) fn note_mended(&mut self) {
        let Some(leader) = liveness::ready_leader(&self.servers) else { return };
        let Some(core) = &self.servers[leader].core else { return };
        if core.role() != Role::Leader || core.configuration_index() > core.commit_index() {
            return;
        }
        let members = core.configuration().clone();
        let (mut mended, mut unnoticed) = (0, 0);
        for server in self.servers.iter_mut().filter(|server| server.forgot && server.core.is_some()) {
            let life = server.disk.hard_state.incarnation;
            let anew = members.server(&server.peer.id).is_none_or(|member| match member.suffrage {
                Suffrage::Voter => member.incarnation == life,
                Suffrage::Nonvoter => member.incarnation.is_founder(),
            });
            let same = server.past.last().filter(|past| past.life == life);
            let holds = |past: &Past| {
                let stored =
                    server.disk.newest().is_some_and(|snapshot| snapshot.meta.last >= past.log.last());
                server.disk.hard_state.term >= past.term && (stored || server.disk.log.lists(past.log.last()))
            };
            // A restored copy that was not found out is the same life.
            if anew && server.disk.hard_state.term.0 > 0 && !server.past.iter().any(|past| past.life == life)
            {
                server.forgot = false;
                mended += 1;
            } else if same.is_some_and(holds) {
                server.forgot = false;
                unnoticed += 1;
            }
        }
        for _ in 0..unnoticed {
            self.cover("old copies that nobody found out");
        }
        for _ in 0..mended {
            self.cover("servers taken in anew");
        }
    }

    /// Whether the voters besides these are a quorum of servers that count, and the configuration that says so is committed:
    /// a founder that never held anything, or came after the first election, gives no vote until it is taken in anew.
    pub(crate) fn others_count(&self, nodes: &std::collections::BTreeSet<usize>) -> bool {
        let Some(leader) = liveness::ready_leader(&self.servers) else { return false };
        let Some(core) = &self.servers[leader].core else { return false };
        let members = core.configuration();
        let committed = core.configuration_index() <= core.commit_index();
        committed
            && is_quorum(members, |id| {
                let named = members.server(id).map(|member| member.incarnation);
                self.servers.iter().enumerate().any(|(other, server)| {
                    !nodes.contains(&other)
                        && server.peer.id == *id
                        && server.disk.hard_state.term.0 > 0
                        && Some(server.disk.hard_state.incarnation) == named
                })
            })
    }
}
