//! Clients that read by lease: they are told an index and until when it may be relied on, take their time, read the state,
//! and look at the server's clock last (catalogue L07).

use std::time::Duration;

use raft::core::{Input, RequestId};
use raft::{LogIndex, Time};

use super::Asked;
use crate::linearizable::Key;
use crate::mutant::Mutant;
use crate::random::{between, chance};
use crate::world::{Event, World};

/// What a client was told about a read.
#[derive(Clone, Copy, Debug)]
pub struct LeaseTold {
    /// The index.
    pub index: LogIndex,
    /// When the lease ends, by the server's clock.
    pub until: Time,
    /// What the read must see.
    pub floor: LogIndex,
    /// Of which register.
    pub key: Key,
    /// When it was asked for.
    pub began: Time,
}

impl World {
    /// A client reads by lease.
    pub fn lease_read(&mut self, node: usize) -> RequestId {
        let asked = self.asks_to_read();
        self.ask(node, asked, |request| Input::LeaseRead { request })
    }

    fn asks_to_read(&mut self) -> Asked {
        Asked::LeaseRead { floor: self.checks.reads.floor(), key: self.workload.key(), began: self.now }
    }

    pub(super) fn random_lease_read(&mut self, node: usize) {
        let random = &mut self.workload.random;
        if !chance(random, 150) || self.servers[node].paused_until > self.now {
            self.lease_read(node);
            return;
        }
        // The process looks at its clock, is stopped, and then takes the request: it answers by a time long past.
        let lasts = between(random, Duration::ZERO, self.options.config.election_timeout * 3);
        let (epoch, clock) = (self.servers[node].epoch, self.servers[node].clock.local(self.now));
        self.cover("lease reads at a server that stopped after it looked at its clock");
        self.servers[node].paused_until = self.now + lasts;
        self.schedule(lasts, Event::LateAsk { node, epoch, clock });
    }

    /// A read by lease reaches a server that goes by what its clock showed some time ago.
    pub fn late_lease_read(&mut self, node: usize, clock: Time) {
        let asked = self.asks_to_read();
        let request = self.workload.next_request();
        self.workload.pending.insert(request, (node, asked));
        self.step_at(node, clock, Input::LeaseRead { request });
    }

    /// A client was told that it may read by lease, and comes to it some time later.
    pub(super) fn lease_told(&mut self, node: usize, told: LeaseTold) {
        let random = &mut self.workload.random;
        let longest = self.options.config.election_timeout;
        let pause =
            if chance(random, 500) { Duration::ZERO } else { between(random, Duration::ZERO, longest) };
        if pause > Duration::ZERO && chance(random, 300) {
            // The whole server stands still meanwhile.
            self.servers[node].paused_until = self.servers[node].paused_until.max(self.now + pause);
        }
        let epoch = self.servers[node].epoch;
        self.schedule(pause, Event::LeaseLook { node, epoch, told });
    }

    /// The client reads the state, and then the clock.
    pub(crate) fn lease_look(&mut self, node: usize, epoch: u64, told: LeaseTold) {
        let server = &self.servers[node];
        let Some(core) = server.core.as_ref().filter(|_| server.epoch == epoch) else { return };
        if server.machine.last.index < told.index {
            // Not applied yet: the read waits.
            self.schedule(Duration::from_millis(1), Event::LeaseLook { node, epoch, told });
            return;
        }
        let valid = server.clock.local(self.now) < told.until;
        if !valid && self.options.mutant != Some(Mutant::LeaseEndIgnored) {
            self.cover("lease reads that came too late");
            return;
        }
        let who = server.peer.id.clone();
        let verdict = self.checks.reads.read(who.as_str(), told.floor, told.index);
        // As long as the lease was not given up, nothing newer was acknowledged by anybody else.
        let held = core.lease().is_some();
        let newest = self.checks.reads.floor();
        let behind = held && valid && core.commit_index() < newest;
        let applied = server.machine.last.index;
        self.judge("reads", verdict);
        if behind {
            let sentence = format!("{who} holds a lease, but has not committed {newest}, which was seen");
            self.judge("leases", Err(sentence));
        }
        self.cover("lease reads served");
        self.serve_read(node, told.key, told.began);
        self.checks.reads.saw(applied);
    }
}
