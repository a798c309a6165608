//! The operator keeps backups, and now and then puts one into the running cluster; and clears servers that a restore left
//! behind.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use raft::core::{EntryKind, Input, RequestId, Role, SnapshotMeta};
use raft::{Configuration, EntryId, LogIndex};
use rand::RngExt;

use super::{Event, World};
use crate::check::liveness;
use crate::disk::Disk;
use crate::machine::{Machine, Snapshot};
use crate::mutant::Mutant;
use crate::nemesis::Strike;
use crate::random::{between, chance};
use crate::server::{SimServer, Storing};
use crate::workload::Asked;

/// How often the operator looks for servers that a restore left behind.
const EVERY: Duration = Duration::from_millis(300);
/// How many backups are kept beside the empty one.
const BACKUPS: usize = 6;

impl World {
    pub(super) fn start_operator(&mut self) {
        let every = self.options.restore_every;
        if !every.is_zero() {
            self.schedule(every, Event::Backup);
            self.schedule(EVERY, Event::Tend);
        }
    }

    pub(super) fn restores(&mut self, event: Event) {
        match event {
            Event::Backup if !self.faults => {}
            Event::Backup => self.backup_or_restore(),
            Event::Tend => self.tend(),
            Event::OutsideStored { node, epoch, snapshot } => self.outside_stored(node, epoch, *snapshot),
            Event::OutsideTold { node, epoch, last, size } => self.outside_told(node, epoch, last, size),
            Event::OutsideRemoved { node, epoch, last } => self.outside_removed(node, epoch, last),
            other => unreachable!("{other:?} is no part of a restore"),
        }
    }

    /// The operator takes a backup, or puts one back.
    fn backup_or_restore(&mut self) {
        let next = self.options.restore_every.mul_f64(self.operator.random_range(0.2..2.0));
        self.schedule(next, Event::Backup);
        let up: Vec<usize> = (0..self.servers.len()).filter(|node| self.servers[*node].is_up()).collect();
        if up.is_empty() {
            return;
        }
        let node = up[self.operator.random_range(0..up.len())];
        if chance(&mut self.operator, 400) {
            let machine = &self.servers[node].machine;
            if self.backups.len() <= BACKUPS && self.checks.commit.is_decided(machine.restored) {
                self.backups.push(Arc::new(machine.clone()));
            }
            return;
        }
        // Hardly anybody restores where nobody leads.
        let leaders: Vec<usize> = up.into_iter().filter(|node| self.servers[*node].leads()).collect();
        let leader = leaders.get(self.operator.random_range(0..leaders.len().max(1))).copied();
        let node = leader.filter(|_| chance(&mut self.operator, 950)).unwrap_or(node);
        if self.may_restore(node) {
            let number = self.operator.random_range(0..self.backups.len());
            let of_origin = self.backups[number].last.index;
            let last = self.servers[node].log.last().index;
            let far = LogIndex(last.0 + self.operator.random_range(1..40));
            let above = [LogIndex::ZERO, of_origin, far][self.operator.random_range(0..3)];
            self.restore_backup(node, number, above);
        }
    }

    /// Asks a server to put a backup into the cluster, above this index.
    pub fn restore_backup(&mut self, node: usize, number: usize, above: LogIndex) -> RequestId {
        self.ask(node, Asked::Restore(number), |request| Input::BeginRestore { request, above })
    }

    /// Whether somebody copies the disk of a server that has just crashed.
    pub(crate) fn operator_copies(&mut self) -> bool {
        chance(&mut self.operator, 200)
    }

    /// Keeps the present state of a server; says under which number.
    pub fn back_up(&mut self, node: usize) -> usize {
        self.backups.push(Arc::new(self.servers[node].machine.clone()));
        self.backups.len() - 1
    }

    /// Whether the others can do without this server if the restore leaves it behind; or could not elect anybody without it,
    /// so that it is not left behind.
    fn may_restore(&self, node: usize) -> bool {
        let few = |configuration: &Configuration| configuration.everyone().count() <= 2;
        let in_logs = |disk: &Disk| {
            let mut logged =
                disk.log.entries.iter().chain(disk.queue.iter().flat_map(|write| &write.entries));
            logged.all(|entry| match &entry.kind {
                EntryKind::Configuration(configuration) => few(configuration),
                EntryKind::Command | EntryKind::Noop | EntryKind::Barrier => true,
            }) && disk.newest().is_none_or(|snapshot| few(&snapshot.meta.configuration))
        };
        let changing = self.workload.pending().values().any(|(_, asked)| *asked == Asked::Change);
        let alone = !changing && !self.is_replacing() && self.servers.iter().all(|s| in_logs(&s.disk));
        !self.checks.commit.is_empty() && (alone || self.can_lose(&BTreeSet::from([node])))
    }

    /// Whether a restore is under way, or has left a server with a state that is not the cluster's.
    pub(crate) fn is_restoring(&self) -> bool {
        let astray = |of: EntryId| !self.checks.commit.is_decided(of);
        let unsettled = |server: &SimServer| {
            let stored = server.disk.newest().map(|snapshot| snapshot.state.restored);
            server.storing.is_some() || astray(server.machine.restored) || stored.is_some_and(astray)
        };
        let asked = self.workload.pending().values().any(|(_, asked)| matches!(asked, Asked::Restore(_)));
        asked || self.servers.iter().any(|server| !server.lost && unsettled(server))
    }

    /// A leader has said under which identity the backup is to be stored.
    pub(crate) fn store_outside(&mut self, node: usize, meta: SnapshotMeta, number: usize) {
        let backup = Arc::clone(&self.backups[number]);
        if backup.configuration.0 < meta.configuration_index {
            self.cover("restores of a backup that knows other members");
        }
        let last = meta.last;
        let state = backup.restored_as(&meta);
        self.checks.state_machine_safety.restores(&state);
        self.checks.commit.restores(last, self.servers[node].machine.restored);
        self.checks.linearizable.restores(last, &state.registers);
        let snapshot = Snapshot { meta, state: Arc::new(state) };
        let request = self.workload.wait(node, Asked::Restored);
        let server = &mut self.servers[node];
        server.storing = Some(Storing { request, last });
        if server.disk.writing.is_none() {
            server.disk.writing = Some(snapshot.clone());
        }
        let epoch = server.epoch;
        let takes = self.disk_delay() * self.operator.random_range(1..40);
        self.schedule(takes, Event::OutsideStored { node, epoch, snapshot: Box::new(snapshot) });
        self.strike_restorer(node);
    }

    /// Sometimes the leader that restores is cut off, alone or with one other, or dies: others go on without it.
    fn strike_restorer(&mut self, node: usize) {
        if !self.faults || !chance(&mut self.operator, 400) {
            return;
        }
        self.cover("leaders struck while they restore");
        let timeout = self.options.config.election_timeout;
        let after = between(&mut self.operator, Duration::ZERO, self.options.delay.1);
        let lasts = between(&mut self.operator, timeout, timeout * 5);
        if chance(&mut self.operator, 300) {
            return self.schedule(after, Event::Strike(Strike::Kill { node, lasts }));
        }
        let friend = self.operator.random_range(0..self.servers.len() * 2);
        self.schedule(after, Event::Strike(Strike::Part { node, friend }));
        self.schedule(after + lasts, Event::Mend);
    }

    /// The last byte of a backup is written, unless nobody wants it any more.
    fn outside_stored(&mut self, node: usize, epoch: u64, snapshot: Snapshot) {
        let last = snapshot.meta.last;
        if !self.is_storing(node, epoch, last) {
            return;
        }
        let server = &mut self.servers[node];
        server.disk.writing.take_if(|writing| writing.meta.last == last);
        let leads = server.core.as_ref().is_some_and(|c| c.role() == Role::Leader && c.term() == last.term);
        // Whoever stores it and whoever gives it up may be equally fast.
        let given_up = chance(&mut self.operator, if leads { 50 } else { 500 });
        if given_up {
            self.cover("restores given up");
            return self.tell_of_outside(node, last, None);
        }
        match self.servers[node].disk.store(snapshot) {
            Ok(Some(meta)) => {
                let verdict = self.specification.stored(node, &meta);
                self.judge("specification", verdict);
                let after = self.some_disk_delay();
                let size = Some(meta.size);
                self.schedule(after, Event::OutsideTold { node, epoch, last, size });
            }
            Ok(None) => self.fail_disk(node),
            Err(sentence) => self.judge("disk", Err(sentence)),
        }
    }

    fn is_storing(&self, node: usize, epoch: u64, last: EntryId) -> bool {
        let server = &self.servers[node];
        self.is_current(node, epoch)
            && !server.disk.failed
            && server.storing.as_ref().is_some_and(|storing| storing.last == last)
    }

    fn some_disk_delay(&mut self) -> Duration {
        let longest = self.disk_delay() * 20;
        between(&mut self.operator, Duration::ZERO, longest)
    }

    fn fail_disk(&mut self, node: usize) {
        self.cover("restores that the disk fails");
        self.servers[node].disk.failed = true;
        self.step(node, Input::StorageFailed);
    }

    fn outside_told(&mut self, node: usize, epoch: u64, last: EntryId, size: Option<u64>) {
        if self.is_storing(node, epoch, last) {
            self.tell_of_outside(node, last, size);
        }
    }

    fn tell_of_outside(&mut self, node: usize, last: EntryId, size: Option<u64>) {
        let Some(storing) = &self.servers[node].storing else { return };
        let request = storing.request;
        if size.is_none() {
            self.servers[node].storing = None;
            let verdict = self.specification.drops(node);
            self.judge("specification", verdict);
        }
        self.step(node, Input::RestoreStored { request, last, size });
        let server = &mut self.servers[node];
        let taken =
            server.core.as_ref().and_then(|core| core.snapshot()).is_some_and(|meta| meta.last == last);
        if taken {
            server.storing = None;
            self.cover("restores taken over by a leader");
            self.strike_restorer(node);
        } else if size.is_some() {
            let (epoch, after) = (self.servers[node].epoch, self.some_disk_delay());
            self.schedule(after, Event::OutsideRemoved { node, epoch, last });
        }
    }

    /// A backup that came too late to be restored goes from the disk again.
    fn outside_removed(&mut self, node: usize, epoch: u64, last: EntryId) {
        if !self.is_storing(node, epoch, last) {
            return;
        }
        self.cover("restores that came too late");
        if self.options.mutant == Some(Mutant::RestoreLeftLying) {
            return self.tell_of_outside(node, last, None);
        }
        match self.servers[node].disk.remove(last) {
            true => self.tell_of_outside(node, last, None),
            false => self.fail_disk(node),
        }
    }

    /// Looks for servers that a restore left behind. Snapshots of the others may bring them back; if it takes too long, the
    /// operator clears them.
    fn tend(&mut self) {
        self.schedule(EVERY, Event::Tend);
        let patient = self.faults && chance(&mut self.operator, 800);
        let Some(leader) = liveness::ready_leader(&self.servers).filter(|_| !patient) else { return };
        let Some(term) = self.servers[leader].core.as_ref().map(raft::core::RaftCore::term) else { return };
        let decided = |world: &Self, of: EntryId| world.checks.commit.is_decided(of);
        if !decided(self, self.servers[leader].machine.restored) {
            return;
        }
        let behind = |world: &Self, server: &SimServer| {
            let stored = || server.disk.newest().map(|snapshot| snapshot.state.restored);
            let of = if server.is_up() { server.machine.restored } else { stored().unwrap_or_default() };
            !server.lost && server.storing.is_none() && !decided(world, of) && of.term < term
        };
        let found: Vec<usize> = (0..self.servers.len())
            .filter(|node| !self.broken.contains(node) && behind(self, &self.servers[*node]))
            .collect();
        for node in found {
            if self.is_founding() {
                continue;
            }
            self.cover("servers left behind by a restore and cleared");
            self.wipe(node);
            let epoch = self.servers[node].epoch;
            self.schedule(Duration::from_millis(1200), Event::Restart { node, epoch });
        }
    }

    /// Notes that a snapshot of the others has replaced a state that a restore left behind.
    pub(super) fn note_rescue(&mut self, from: EntryId, to: &Machine) {
        if !self.checks.commit.is_decided(from) && self.checks.commit.is_decided(to.restored) {
            self.cover("servers left behind by a restore and brought back by a snapshot");
        }
    }
}
