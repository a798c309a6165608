//! The end of a run: the faults stop, and the cluster must settle.

use std::collections::BTreeSet;

use raft::Time;
use rand::RngExt;
use rand::seq::SliceRandom;

use super::World;
use crate::check::liveness;
use crate::mutant::Mutant;
use crate::random::stream;

impl World {
    /// Chooses what stays broken when the faults end: nothing; a voter, the leader if the others can do without it, which
    /// stays dead; or as many as a quorum can do without, each of them dead, cut off, deaf or mute.
    pub(super) fn choose_ending(&mut self) {
        self.note_mended();
        if self.options.autopilot.is_some() {
            return;
        }
        match self.options.seed % 4 {
            1 | 3 => {
                let leader = liveness::ready_leader(&self.servers);
                let order = leader.into_iter().chain(0..self.servers.len());
                let found = order.into_iter().find(|node| self.can_lose(&BTreeSet::from([*node])));
                let Some(node) = found else { return };
                self.cover("servers that stay dead after the faults");
                self.crash(node);
                self.broken.insert(node);
            }
            2 => self.leave_a_quorum(),
            _ => {}
        }
    }

    fn leave_a_quorum(&mut self) {
        let mut random = stream(self.options.seed, "ending");
        let mut order: Vec<usize> = (0..self.servers.len()).collect();
        order.shuffle(&mut random);
        for node in order {
            let more = self.broken.iter().copied().chain([node]).collect();
            if self.can_lose(&more) {
                self.broken = more;
            }
        }
        for node in self.broken.clone() {
            let (hears, is_heard) = match random.random_range(0..4) {
                0 => {
                    self.crash(node);
                    continue;
                }
                1 => (false, false),
                2 => (true, false),
                _ => (false, true),
            };
            for other in (0..self.servers.len()).filter(|other| *other != node) {
                self.network.lasting.extend((!hears).then_some((other, node)));
                self.network.lasting.extend((!is_heard).then_some((node, other)));
            }
        }
        if !self.broken.is_empty() {
            self.cover("endings with a quorum and nobody else");
        }
    }

    /// Ends all faults and starts whoever is down.
    pub fn heal(&mut self) {
        self.trace(|| "all faults end".to_owned());
        self.faults = false;
        self.network.heal();
        self.heal_fleet();
        for node in 0..self.servers.len() {
            if self.servers[node].disk.is_doomed() {
                self.crash(node);
            }
            self.servers[node].paused_until = Time::ZERO;
            self.servers[node].disk.slow_until = Time::ZERO;
            if !self.servers[node].is_up() && !self.broken.contains(&node) {
                self.start(node);
            }
        }
        if self.options.mutant == Some(Mutant::DeafForever) {
            for from in 1..self.servers.len() {
                self.network.cuts.insert((from, 0));
            }
        }
    }

    /// After healing: a leader is found, a fresh command commits, and all members become equal.
    pub fn settle(&mut self) {
        let limit = liveness::patience(&self.options, &self.servers);
        let began = self.now;
        if !self.run_until(limit, |world| liveness::ready_leader(&world.servers).is_some()) {
            return self.judge("liveness", Err(format!("no leader within {limit:?} after the faults ended")));
        }
        self.longest("ms until a leader after healing, at most", began);
        self.settle_fleet();
        if self.failure.is_some() {
            return;
        }
        let deadline = self.now + limit;
        let value = loop {
            let leader = liveness::ready_leader(&self.servers).unwrap_or(0);
            let value = self.propose(leader);
            let acknowledged = |world: &Self| world.checks.clients.is_acknowledged(value);
            if self.run_until(limit / 10, acknowledged) || self.now > deadline || self.failure.is_some() {
                break value;
            }
        };
        if !self.checks.clients.is_acknowledged(value) {
            return self.judge("liveness", Err(format!("no fresh command commits within {limit:?}")));
        }
        let mut last = Ok(());
        let equal = self.run_until(limit, |world| {
            let Some(leader) = liveness::ready_leader(&world.servers) else { return false };
            last = liveness::converged(&world.servers, leader, &world.broken);
            last.is_ok() && world.workload.is_idle()
        });
        self.longest("ms until all are equal after healing, at most", began);
        if equal {
            self.settle_after_an_idle_restart(limit);
        } else {
            let sentence =
                last.err().unwrap_or_else(|| format!("requests never end: {:?}", self.workload.pending()));
            return self.judge("liveness", Err(sentence));
        }
        if self.failure.is_some() {
            return;
        }
        let leader = liveness::ready_leader(&self.servers).unwrap_or(0);
        let server = &self.servers[leader];
        let verdict =
            self.checks.clients.all_kept(server.peer.id.as_str(), &server.machine, &self.checks.commit);
        self.judge("clients", verdict);
        if self.options.aftermath {
            self.aftermath();
        }
    }

    /// A follower that restarts while nobody asks for anything learns what is committed (R15).
    fn settle_after_an_idle_restart(&mut self, limit: std::time::Duration) {
        let leader = liveness::ready_leader(&self.servers);
        let follower = (0..self.servers.len())
            .find(|node| Some(*node) != leader && !self.servers[*node].lost && !self.broken.contains(node));
        let Some(follower) = follower.filter(|_| !self.is_replacing()) else { return };
        self.crash(follower);
        self.start(follower);
        let mut last = Ok(());
        let equal = self.run_until(limit, |world| {
            let Some(leader) = liveness::ready_leader(&world.servers) else { return false };
            last = liveness::converged(&world.servers, leader, &world.broken);
            last.is_ok()
        });
        if !equal {
            let sentence = last.err().unwrap_or_else(|| "no leader after an idle restart".to_owned());
            self.judge("liveness", Err(sentence));
        }
    }

    /// Judges what all clients saw.
    pub(super) fn judge_history(&mut self) {
        match self.checks.linearizable.judged() {
            Ok(true) => self.cover("histories judged"),
            Ok(false) => self.cover("histories too hard to judge"),
            Err(sentence) => self.judge("linearizable", Err(sentence)),
        }
    }

    pub(super) fn longest(&mut self, what: &'static str, began: Time) {
        let took = u64::try_from(self.now.since(began).as_millis()).unwrap_or(u64::MAX);
        let known = self.coverage.entry(what).or_default();
        *known = took.max(*known);
    }
}
