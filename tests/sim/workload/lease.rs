//! Clients that read by lease: they are told an index and until when it may be relied on, take their time, read the state,
//! and look at the server's clock last (catalogue L07).

use std::time::Duration;

use raft::Time;
use raft::core::{Input, RequestId};

use super::Asked;
use crate::random::{between, chance};
use crate::server::{Reading, Seen};
use crate::world::{Event, World};

impl World {
    /// A client reads by lease.
    pub fn lease_read(&mut self, node: usize) -> RequestId {
        let asked = self.asks_to_read();
        self.ask(node, asked, |request| Input::LeaseRead { request })
    }

    fn asks_to_read(&mut self) -> Asked {
        Asked::Read { floor: self.checks.reads.floor(), key: self.workload.key(), began: self.now }
    }

    /// A client reads by lease, sometimes just when the process has looked at its clock and is stopped before it takes the
    /// request: it then answers by a time long past.
    pub(super) fn random_lease_read(&mut self, node: usize) {
        let random = &mut self.workload.random;
        if !chance(random, 150) || self.servers[node].paused_until > self.now {
            self.lease_read(node);
            return;
        }
        let lasts = between(random, Duration::ZERO, self.options.config.election_timeout * 3);
        let (epoch, clock) = (self.servers[node].epoch, self.servers[node].clock.local(self.now));
        self.cover("lease reads at a server that stopped after it looked at its clock");
        self.servers[node].paused_until = self.now + lasts;
        self.schedule(lasts, Event::LateAsk { node, epoch, clock });
    }

    pub(crate) fn late_ask(&mut self, node: usize, epoch: u64, clock: Time) {
        if self.is_current(node, epoch) {
            self.late_lease_read(node, clock);
        }
    }

    /// A read by lease reaches a server that goes by what its clock showed some time ago.
    pub fn late_lease_read(&mut self, node: usize, clock: Time) -> RequestId {
        let asked = self.asks_to_read();
        let request = self.workload.next_request();
        self.workload.pending.insert(request, (node, asked));
        self.step_at(node, clock, Input::LeaseRead { request });
        request
    }

    pub(super) fn judge_lease(&mut self, node: usize, before: Seen, until: Time) {
        let Some(core) = &self.servers[node].core else { return };
        let drift = self.options.config.clock_drift_permille;
        let lasts = self.options.config.election_timeout * (1000 - drift) / (1000 + drift);
        let verdict = self.checks.contact.leased((node, before), core, &self.servers, until, lasts);
        self.judge("leases", verdict);
    }

    /// A client was told that it may read by lease, and comes to it some time later.
    pub(super) fn lease_told(&mut self, node: usize, told: Reading) {
        if !self.has_faults() || chance(&mut self.workload.random, 500) {
            return self.confirmed(node, told);
        }
        let random = &mut self.workload.random;
        let pause = between(random, Duration::ZERO, self.options.config.election_timeout);
        if chance(random, 300) {
            // The whole server stands still meanwhile.
            let until = self.now + pause;
            self.servers[node].paused_until = self.servers[node].paused_until.max(until);
        }
        let epoch = self.servers[node].epoch;
        self.schedule(pause, Event::LeaseLook { node, epoch, told });
    }

    pub(crate) fn lease_look(&mut self, node: usize, epoch: u64, told: Reading) {
        if self.is_current(node, epoch) {
            self.confirmed(node, told);
        }
    }
}
