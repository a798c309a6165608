//! Faults that take several steps: they look for the moments at which leases, reads and joint configurations go wrong.

use std::time::Duration;

use raft::Time;
use raft::core::Role;
use rand::RngExt;

use crate::check::{leases, liveness};
use crate::random::{between, chance};
use crate::server::SimServer;
use crate::world::{Event, World};

/// A step of a fault that was begun before.
#[derive(Clone, Copy, Debug)]
pub enum Strike {
    /// Nothing reaches a server any more and, unless it is only deaf, nothing comes from it.
    CutOff {
        /// Which.
        node: usize,
        /// Whether what it says still arrives.
        deaf_only: bool,
    },
    /// A follower and its leader hear each other no more.
    Deafen {
        /// The follower.
        deaf: usize,
        /// Its leader.
        leader: usize,
    },
    /// A server crashes, starts again at once, and hears nothing of that leader from then on.
    Reboot {
        /// Which.
        node: usize,
        /// Whom it hears no more.
        leader: usize,
    },
    /// A server is cut off from all but one, or from all.
    Part {
        /// Which.
        node: usize,
        /// Who stays with it, if there is a server of that number.
        friend: usize,
    },
    /// A server dies for some time.
    Kill {
        /// Which.
        node: usize,
        /// How long.
        lasts: Duration,
    },
    /// A leader is deposed and does not hear of it.
    Depose {
        /// Which.
        leader: usize,
    },
}

impl World {
    /// Takes the next step of a fault.
    pub(crate) fn strike(&mut self, strike: Strike) {
        match strike {
            Strike::CutOff { node, deaf_only } => self.cut_off(node, deaf_only),
            Strike::Deafen { deaf, leader } => self.deafen(deaf, leader),
            Strike::Reboot { node, leader } => {
                if self.servers[node].is_up() {
                    self.network.cut(leader, node);
                    self.crash(node);
                    self.start(node);
                }
            }
            Strike::Part { node, friend } => self.part(node, friend),
            Strike::Kill { node, lasts } => {
                self.crash(node);
                let epoch = self.servers[node].epoch;
                self.schedule(lasts, Event::Restart { node, epoch });
            }
            Strike::Depose { leader } => self.depose(leader),
        }
    }

    fn cut_off(&mut self, node: usize, deaf_only: bool) {
        for other in (0..self.servers.len()).filter(|other| *other != node) {
            self.network.cuts.insert((other, node));
            if !deaf_only {
                self.network.cuts.insert((node, other));
            }
        }
    }

    fn part(&mut self, node: usize, friend: usize) {
        let pair = [node, friend];
        for other in (0..self.servers.len()).filter(|other| !pair.contains(other)) {
            pair.iter()
                .filter(|one| **one < self.servers.len())
                .for_each(|one| self.network.cut(*one, other));
        }
    }

    /// Half of the time nobody writes for a while, so that everybody comes to hold what there is.
    fn sometimes_quiet(&mut self, lasts: Duration) -> Duration {
        if chance(&mut self.nemesis.random, 500) {
            return Duration::ZERO;
        }
        self.workload.quiet_until = self.now + lasts;
        self.options.config.election_timeout / 2
    }

    /// All others: who has a vote in this server's configuration, and who has not.
    fn others_of(&self, node: usize) -> (Vec<usize>, Vec<usize>) {
        let core = self.servers[node].core.as_ref();
        let others = (0..self.servers.len()).filter(|other| *other != node);
        others.partition(|other| {
            core.is_some_and(|core| core.configuration().is_voter(&self.servers[*other].peer.id))
        })
    }

    /// A follower hears nothing of the leader; shortly before it asks for votes all others forget that they hear it, and
    /// hear it no more (E15, L06).
    pub(super) fn restart_beside_a_cut(&mut self) {
        let Some(leader) = self.servers.iter().position(SimServer::leads) else { return };
        let (voters, _) = self.others_of(leader);
        if voters.len() < 2 {
            return;
        }
        let quiet = self.sometimes_quiet(self.options.config.election_timeout * 4);
        let deaf = voters[self.nemesis.random.random_range(0..voters.len())];
        self.schedule(quiet, Event::Strike(Strike::Deafen { deaf, leader }));
    }

    fn deafen(&mut self, deaf: usize, leader: usize) {
        let server = &self.servers[deaf];
        let Some(core) = &server.core else { return };
        let asks = server.clock.global(core.next_wake()).max(self.now).since(self.now);
        self.cover("restarts beside a cut");
        self.network.cut(leader, deaf);
        let timeout = self.options.config.election_timeout;
        let before = between(&mut self.nemesis.random, Duration::ZERO, timeout / 3);
        for node in (0..self.servers.len()).filter(|node| *node != leader && *node != deaf) {
            self.schedule(asks.saturating_sub(before), Event::Strike(Strike::Reboot { node, leader }));
        }
        self.schedule(asks + timeout * 2, Event::Mend);
    }

    /// A leader is about to be deposed, mostly when everybody holds what it holds.
    pub(super) fn calm_and_depose(&mut self) {
        let Some(leader) = self.servers.iter().position(SimServer::leads) else { return };
        let quiet = self.sometimes_quiet(self.options.config.election_timeout / 2);
        self.schedule(quiet, Event::Strike(Strike::Depose { leader }));
    }

    /// It hands over, and hears what the other voters say only late, answers from before among it: it goes on believing that
    /// it leads while another one does and commits. Clients ask it for reads all the while (L05, L09, L10). Non-voters may
    /// be with it and answer at once (M11).
    fn depose(&mut self, leader: usize) {
        let (voters, rest) = self.others_of(leader);
        if voters.is_empty() || !self.servers[leader].leads() {
            return;
        }
        self.cover("leaders deposed while they are asked");
        let timeout = self.options.config.election_timeout;
        let random = &mut self.nemesis.random;
        let late = between(random, timeout / 20, timeout / 2);
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

    /// A leader that has just begun a joint configuration loses those who are on one side of it only, or hands over to
    /// one who is about to lose its vote (M03).
    pub(crate) fn strike_a_side(&mut self, leader: usize) {
        let Some(core) = &self.servers[leader].core else { return };
        let configuration = core.configuration();
        let (new, old) = (configuration.settled(), configuration.outgoing());
        let votes_in_old =
            |id: &raft::ServerId| old.iter().any(|s| s.id == *id && s.suffrage == raft::Suffrage::Voter);
        let random = &mut self.nemesis.random;
        let (hands_over, of_new) = (chance(random, 300), chance(random, 500));
        let side: Vec<usize> = (0..self.servers.len())
            .filter(|node| *node != leader)
            .filter(|node| {
                let id = &self.servers[*node].peer.id;
                let (is_new, is_old) = (new.is_voter(id), votes_in_old(id));
                if of_new && !hands_over { is_new && !is_old } else { is_old && !is_new }
            })
            .collect();
        if hands_over {
            if let Some(target) = side.first() {
                self.transfer(leader, Some(*target));
            }
            return;
        }
        self.cover("joint configurations with one side cut off");
        side.into_iter().for_each(|node| self.network.cut(leader, node));
        let timeout = self.options.config.election_timeout;
        let lasts = between(&mut self.nemesis.random, timeout / 2, timeout * 4);
        self.schedule(lasts, Event::Mend);
    }

    /// Where leases hurt: nobody hears the holder any more; or, once somebody asks for votes, whoever keeps the holder in
    /// office is restarted and has forgotten it. False if nobody holds one.
    pub(super) fn challenge_lease(&mut self, lasts: Duration) -> bool {
        let servers = 0..self.servers.len();
        let holds = |world: &Self, node: usize| leases::holds(&world.servers[node], world.now);
        let Some(holder) = servers.clone().find(|node| holds(self, *node)) else { return false };
        let others: Vec<usize> = servers.filter(|node| *node != holder).collect();
        let asks = |node: &usize| {
            self.servers[*node].core.as_ref().is_some_and(|core| core.role() == Role::Candidate)
        };
        let keepers: Vec<usize> = others.iter().copied().filter(|node| !asks(node)).collect();
        if keepers.len() < others.len() {
            self.cover("restarts of those who keep a lease");
            for node in keepers {
                self.crash(node);
                let epoch = self.servers[node].epoch;
                self.schedule(Duration::from_millis(1), Event::Restart { node, epoch });
            }
            return true;
        }
        self.cover("leases challenged");
        let some = chance(&mut self.nemesis.random, 500);
        let deaf = if some { self.nemesis.random.random_range(0..others.len().max(1)) } else { others.len() };
        for (position, other) in others.iter().enumerate() {
            if !some || position == deaf {
                self.network.cuts.insert((holder, *other));
            }
        }
        self.schedule(lasts.max(self.options.config.election_timeout * 3), Event::Mend);
        true
    }
}
