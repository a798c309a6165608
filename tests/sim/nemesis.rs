//! Picks faults: crashes, restarts, cuts, pauses, clocks, bursts of loss, and disks that are slow, stall, fail to sync, are
//! full or damage what they hold.

mod strikes;

use std::collections::BTreeSet;
use std::time::Duration;

use raft::core::Input;
use rand::RngExt;

use crate::options::Options;
use crate::random::{Random, between, chance, stream};
use crate::world::{Event, World};

pub use strikes::Strike;

/// Where faults come from.
#[derive(Debug)]
pub struct Nemesis {
    random: Random,
    /// Faults begun, those included that were left out.
    pub begun: u64,
}

impl Nemesis {
    /// The faults of this seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { random: stream(seed, "faults"), begun: 0 }
    }

    /// Counts a fault. Where single faults are left out, it draws numbers of its own. True if it is left out.
    fn begins(&mut self, options: &Options) -> bool {
        let number = self.begun;
        self.begun += 1;
        let Some(skip) = &options.skip else { return false };
        self.random = stream(options.seed, &format!("fault {number}"));
        skip.contains(&number)
    }
}

impl World {
    pub(crate) fn fault(&mut self) {
        let skipped = self.nemesis.begins(&self.options);
        let every = self.options.fault_every;
        self.note_mended();
        let next = every.mul_f64(self.nemesis.random.random_range(0.1..2.0));
        self.schedule(next, Event::Fault);
        if skipped {
            return;
        }
        let random = &mut self.nemesis.random;
        let mut node = random.random_range(0..self.servers.len());
        // Leaders are where faults hurt.
        if chance(random, 400)
            && let Some(leader) = self.servers.iter().position(crate::server::SimServer::leads)
        {
            node = leader;
        }
        match random.random_range(0..1000) {
            0..=59 => return self.freeze_leader(),
            60..=119 => return self.restart_beside_a_cut(),
            120..=169 => return self.stray_timeout_now(),
            170..=229 => return self.calm_and_depose(),
            _ => {}
        }
        let random = &mut self.nemesis.random;
        let leased = self.options.config.lease_reads && chance(random, 300);
        let dice = random.random_range(0..100);
        let lasts = between(random, Duration::from_millis(5), Duration::from_millis(2500));
        if leased && self.challenge_lease(lasts) {
            return;
        }
        match dice {
            0..=29 => self.crash_for(node, lasts),
            30..=33 => (0..self.servers.len()).for_each(|node| self.crash_for(node, lasts / 4)),
            34..=49 => self.isolate_for(node, lasts),
            50..=61 => self.split_for(lasts),
            62..=64 => self.hand_over_and_cut_for(lasts),
            65..=76 => self.cut_some_ways_for(lasts),
            77..=81 => self.pause(node, lasts / 2),
            82..=84 => self.disturb_clock(node, lasts / 4),
            85..=88 => {
                self.cover("slow disks");
                self.servers[node].disk.slow_until = self.now + lasts;
            }
            89..=90 => {
                self.cover("stalled disks");
                let disk = &mut self.servers[node].disk;
                disk.busy_until = disk.busy_until.max(self.now + lasts);
            }
            91 => self.fail_disk_for(node, lasts),
            92..=93 => self.doom_disk_for(node, lasts),
            94 => self.rot(node, lasts),
            95 => self.wipe_for(node, lasts),
            _ => {
                self.cover("bursts of loss");
                self.network.loss = 400;
                self.schedule(lasts, Event::Mend);
            }
        }
    }

    /// A server that was about to crash comes back with an older copy of its disk, if there is one and the others hold what it
    /// lacks (D12). False otherwise.
    fn ages_for(&mut self, node: usize, lasts: Duration) -> bool {
        let Some(copy) = self.servers[node].copy.take_if(|_| chance(&mut self.nemesis.random, 300)) else {
            return false;
        };
        let ages = !self.servers[node].lost && self.can_age(node, &copy);
        if ages {
            self.put_back(node, copy);
            self.come_back(node, lasts);
        }
        ages
    }

    /// What was on its way to the old process is gone by then.
    fn come_back(&mut self, node: usize, lasts: Duration) {
        let epoch = self.servers[node].epoch;
        self.schedule(lasts.max(Duration::from_millis(1200)), Event::Restart { node, epoch });
    }

    /// A server comes back under its id with an empty disk (D12).
    fn wipe_for(&mut self, node: usize, lasts: Duration) {
        if self.servers[node].lost || !self.can_wipe(node) {
            return;
        }
        self.wipe(node);
        self.come_back(node, lasts);
    }

    fn crash_for(&mut self, node: usize, lasts: Duration) {
        if self.ages_for(node, lasts) {
            return;
        }
        let was_up = self.servers[node].is_up();
        self.crash(node);
        if was_up && self.operator_copies() {
            self.servers[node].copy = self.copy_disk(node);
        }
        let epoch = self.servers[node].epoch;
        // Often at once: what was on its way then meets the next incarnation.
        let lasts = if chance(&mut self.nemesis.random, 300) { lasts / 100 } else { lasts };
        self.schedule(lasts, Event::Restart { node, epoch });
    }

    fn isolate_for(&mut self, node: usize, lasts: Duration) {
        self.cover("isolations");
        self.isolate(node);
        self.schedule(lasts, Event::Mend);
    }

    fn split_for(&mut self, lasts: Duration) {
        self.cover("partitions");
        let sides: u32 = self.nemesis.random.random();
        for a in 0..self.servers.len() {
            for b in 0..a {
                if (sides >> a) & 1 != (sides >> b) & 1 {
                    self.network.cut(a, b);
                }
            }
        }
        self.schedule(lasts, Event::Mend);
    }

    fn cut_some_ways_for(&mut self, lasts: Duration) {
        self.cover("one-way cuts");
        for from in 0..self.servers.len() {
            for to in 0..self.servers.len() {
                if from != to && chance(&mut self.nemesis.random, 250) {
                    self.network.cuts.insert((from, to));
                }
            }
        }
        self.schedule(lasts, Event::Mend);
    }

    /// A leader hands over and is then cut off from what comes next: it goes on believing that it leads.
    fn hand_over_and_cut_for(&mut self, lasts: Duration) {
        let Some(leader) = self.servers.iter().position(crate::server::SimServer::leads) else { return };
        self.cover("leaders cut off while they hand over");
        let deaf_only = chance(&mut self.nemesis.random, 500);
        self.transfer(leader, None);
        let after = between(&mut self.nemesis.random, Duration::ZERO, self.options.delay.1 * 2);
        self.schedule(after, Event::Strike(Strike::CutOff { node: leader, deaf_only }));
        self.schedule(after + lasts, Event::Mend);
    }

    /// A leader stands still for about as long as the others need to elect another one (L07).
    fn freeze_leader(&mut self) {
        let Some(leader) = self.servers.iter().position(crate::server::SimServer::leads) else { return };
        let timeout = self.options.config.election_timeout;
        let lasts = between(&mut self.nemesis.random, timeout, timeout * 2);
        self.pause(leader, lasts);
    }

    /// A TimeoutNow that is late, or that its sender had no right to send, arrives (E18).
    fn stray_timeout_now(&mut self) {
        let random = &mut self.nemesis.random;
        let (from, to) =
            (random.random_range(0..self.servers.len()), random.random_range(0..self.servers.len()));
        let older = random.random_range(0..3);
        let Some(core) = self.servers[to].core.as_ref().filter(|core| from != to && core.term().0 > older)
        else {
            return;
        };
        let rightful = core.leader().is_some_and(|leader| leader.id == self.servers[from].peer.id);
        if (rightful && older == 0) || self.servers[to].disk.is_doomed() {
            return;
        }
        let term = raft::Term(core.term().0 - older);
        self.cover("stray TimeoutNow");
        self.inject(from, to, raft::core::Request::TimeoutNow { term: Some(term) });
        self.said.clear();
    }

    fn pause(&mut self, node: usize, lasts: Duration) {
        self.cover("pauses");
        self.regions.pauses(&self.servers[node], self.options.config.lease_reads);
        self.servers[node].paused_until = self.now + lasts;
    }

    fn fail_disk_for(&mut self, node: usize, lasts: Duration) {
        if !self.servers[node].is_up() || self.servers[node].disk.failed {
            return;
        }
        self.cover("failed disks");
        self.servers[node].disk.failed = true;
        self.step(node, Input::StorageFailed);
        // Its operator restarts it some time later, if nothing else did.
        let epoch = self.servers[node].epoch;
        self.schedule(lasts, Event::Replace { node, epoch });
    }

    /// From now on its syncs fail, or it is full. The operator notices some time later.
    fn doom_disk_for(&mut self, node: usize, lasts: Duration) {
        let server = &mut self.servers[node];
        if server.core.is_none() || server.disk.is_doomed() {
            return;
        }
        let Some(files) = &mut server.disk.files else { return self.fail_disk_for(node, lasts) };
        let random = &mut self.nemesis.random;
        let what = if chance(random, 500) {
            files.fail_syncs(random);
            "disks that fail to sync"
        } else {
            files.fill(random);
            "full disks"
        };
        let epoch = server.epoch;
        self.cover(what);
        self.schedule(lasts, Event::Replace { node, epoch });
    }

    /// Damages what lies on a disk, where the others can do without that server for good.
    fn rot(&mut self, node: usize, lasts: Duration) {
        if self.servers[node].lost
            || self.servers[node].disk.files.is_none()
            || !self.can_lose(&BTreeSet::from([node]))
        {
            return;
        }
        self.crash(node);
        let server = &mut self.servers[node];
        let Some(files) = &mut server.disk.files else { return };
        if let Some(place) = files.rot(&mut self.nemesis.random) {
            self.trace(|| format!("{node}: damage at {place}"));
            self.cover("damage at rest");
        }
        let epoch = self.servers[node].epoch;
        self.schedule(lasts / 4, Event::Restart { node, epoch });
    }

    fn disturb_clock(&mut self, node: usize, by: Duration) {
        let (now, drift) = (self.now, self.options.drift);
        let random = &mut self.nemesis.random;
        // Leases rest on clocks that run evenly enough.
        let evenly = self.options.config.lease_reads;
        if drift > 0 && (evenly || chance(random, 500)) {
            let drift = crate::random::drift(random, drift);
            self.servers[node].clock.set_drift(now, drift);
            self.cover("clocks that change their rate");
        } else if !evenly {
            self.servers[node].clock.jump(by);
            self.cover("clocks that jump");
        }
        self.plan_wake(node);
    }

    /// Stops everything to and from a server.
    pub fn isolate(&mut self, node: usize) {
        for other in (0..self.servers.len()).filter(|other| *other != node) {
            self.network.cut(node, other);
        }
    }
}
