//! Machines, gossip and people around autopilot: servers that come, go for good, leave, restart one after the other and
//! flap; applications that know late, in part and wrongly.

use std::collections::BTreeSet;
use std::time::Duration;

use autopilot::{Config, Instruction, KnownServer, NodeStatus, ServerId};
use raft::core::EntryKind;
use raft::{Configuration, ConfigurationChange, Suffrage, Time};
use rand::RngExt;

use super::{Event, World};
use crate::check::autopilot::goal;
use crate::check::liveness;
use crate::disk::Disk;
use crate::pilot::people::Promised;
use crate::pilot::{Flying, Ills, Policy, Rumour, Stage};
use crate::random::{between, chance};
use crate::workload::Asked;

/// The most servers that one run starts.
const SERVERS_MAX: usize = 14;
/// How long a server that leaves waits to be taken out.
const DEPARTURE: Duration = Duration::from_secs(4);
/// How often it looks.
const DEPARTURE_LOOK: Duration = Duration::from_millis(100);

impl World {
    /// Starts what stands beside Raft: the gossip of every server, and what happens to machines.
    pub(super) fn start_fleet(&mut self) {
        let Some(flight) = self.options.autopilot.clone() else { return };
        if !flight.fleet_every.is_zero() {
            self.schedule(flight.fleet_every, Event::Flying(Box::new(Flying::Fleet)));
        }
        if !flight.people_every.is_zero() {
            self.schedule(flight.people_every, Event::Flying(Box::new(Flying::People)));
        }
    }

    /// A server has started: it knows itself, and its gossip begins.
    pub(super) fn start_gossip(&mut self, node: usize) {
        if self.options.autopilot.is_none() {
            return;
        }
        let epoch = self.servers[node].epoch;
        let gossip = self.fleet.gossip.entry(node).or_default();
        *gossip = crate::pilot::Gossip { epoch, ..crate::pilot::Gossip::default() };
        gossip.heard.insert(node, self.now);
        gossip.lives.insert(node, epoch);
        self.schedule(Duration::ZERO, Event::Flying(Box::new(Flying::Gossip { node, epoch })));
    }

    /// A server hears of the others, directly and through them.
    pub(super) fn exchange_gossip(&mut self, node: usize, epoch: u64) {
        let Some(flight) = &self.options.autopilot else { return };
        if !self.servers[node].is_up() || self.servers[node].epoch != epoch {
            return;
        }
        let every = flight.gossip;
        let jitter = between(&mut self.fleet.random, every / 2, every);
        self.schedule(jitter, Event::Flying(Box::new(Flying::Gossip { node, epoch })));
        let now = self.now;
        let deaf = self.ills(node).deaf_until > now;
        let hears = |other: usize| {
            let server = &self.servers[other];
            let reached = !self.network.cuts.contains(&(other, node)) && server.paused_until <= now;
            !deaf && other != node && server.is_up() && reached
        };
        let heard: Vec<usize> = (0..self.servers.len()).filter(|other| hears(*other)).collect();
        let mut mine = self.fleet.gossip.remove(&node).unwrap_or_default();
        mine.heard.insert(node, now);
        for other in heard {
            mine.heard.insert(other, now);
            mine.direct.insert(other, now);
            if self.fleet.leaving.contains(&other) {
                mine.left.insert(other);
            }
            let Some(theirs) = self.fleet.gossip.get(&other) else { continue };
            for (about, at) in &theirs.heard {
                let known = mine.heard.entry(*about).or_insert(*at);
                *known = (*known).max(*at);
            }
            for (about, life) in &theirs.lives {
                let known = mine.lives.entry(*about).or_default();
                *known = (*known).max(*life);
            }
            mine.left.extend(&theirs.left);
        }
        for about in mine.heard.keys() {
            mine.met.entry(*about).or_insert(now);
        }
        self.fleet.gossip.insert(node, mine);
    }

    fn ills(&self, node: usize) -> Ills {
        self.fleet.ills.get(&node).copied().unwrap_or_default()
    }

    pub(super) fn given_config(&self, node: usize) -> Option<Config> {
        let config = self.options.autopilot.as_ref()?.config.clone();
        (self.ills(node).no_config_until <= self.now).then_some(config)
    }

    /// Whom the application of this server knows, as it answers now.
    ///
    /// # Errors
    /// It does not answer.
    pub fn known_servers(&self, node: usize) -> Result<Vec<KnownServer>, String> {
        let Some(flight) = &self.options.autopilot else { return Ok(Vec::new()) };
        let ills = self.ills(node);
        if ills.mute_until > self.now {
            return Err("mute".to_owned());
        }
        let Some(gossip) = self.fleet.gossip.get(&node).filter(|_| ills.blank_until <= self.now) else {
            return Ok(Vec::new());
        };
        let (frozen_until, frozen_at) = ills.frozen;
        let at = if frozen_until > self.now { frozen_at } else { self.now };
        let rumour = |about: usize| {
            let rumour = self.fleet.rumours.get(&(node, about));
            rumour.filter(|rumour| rumour.until > self.now).map(|rumour| rumour.status)
        };
        let status = |about: usize| match (gossip.heard.get(&about), rumour(about)) {
            (_, Some(said)) => said,
            (None, None) => None,
            (Some(_), None) if gossip.met.get(&about).is_none_or(|met| *met > at) => None,
            (Some(_), None) if gossip.left.contains(&about) => Some(NodeStatus::Left),
            (Some(heard), None) if at.since(*heard) > flight.suspicion => Some(NodeStatus::Failed),
            (Some(_), None) => Some(NodeStatus::Alive),
        };
        let known = (0..self.servers.len()).filter_map(|about| {
            let peer = &self.servers[about].peer;
            let mut known = KnownServer::alive(peer.id.clone(), peer.address.clone());
            known.node_status = status(about)?;
            known.incarnation = gossip.lives.get(&about).copied();
            if flight.policy.is_replica(about) {
                known.meta = std::sync::Arc::new([("read_replica".to_owned(), "true".to_owned())].into());
            }
            Some(known)
        });
        Ok(known.collect())
    }

    /// The application forgets a server that autopilot removed. Others may bring it up again.
    pub(super) fn forget_in_gossip(&mut self, node: usize, id: &ServerId) {
        let about = self.servers.iter().position(|server| server.id() == id);
        if let (Some(gossip), Some(about)) = (self.fleet.gossip.get_mut(&node), about) {
            gossip.heard.remove(&about);
            gossip.met.remove(&about);
            gossip.left.remove(&about);
        }
    }

    /// Lets the application of one server, or of all, say this about another for some time; `None`: it knows no such server.
    pub fn rumour(&mut self, at: Option<usize>, about: usize, status: Option<NodeStatus>, lasts: Duration) {
        let until = self.now + lasts;
        for node in (0..self.servers.len()).filter(|node| at.is_none_or(|at| at == *node)) {
            self.fleet.rumours.insert((node, about), Rumour { until, status });
        }
    }

    /// Starts a new machine with an empty disk; autopilot takes it in.
    pub fn spawn(&mut self) -> usize {
        let node = self.servers.len();
        let server = self.new_server(node);
        self.servers.push(server);
        self.cover("machines: new ones");
        self.start(node);
        node
    }

    /// A machine is gone for good.
    pub fn retire(&mut self, node: usize) {
        self.cover("machines: gone for good");
        self.trace(|| format!("{} is gone for good", self.servers[node].id()));
        self.crash(node);
        let server = &mut self.servers[node];
        (server.lost, server.replaced) = (true, true);
        self.fleet.leaving.remove(&node);
        self.fleet.gone.insert(node);
    }

    /// A server says that it leaves, and waits to be taken out.
    pub fn leave(&mut self, node: usize) {
        self.cover("machines: leaving");
        self.fleet.leaving.insert(node);
        let patience = self.now + DEPARTURE;
        self.schedule(DEPARTURE_LOOK, Event::Flying(Box::new(Flying::Depart { node, patience })));
    }

    pub(super) fn depart(&mut self, node: usize, patience: Time) {
        if !self.fleet.leaving.contains(&node) {
            return;
        }
        let out = liveness::ready_leader(&self.servers).is_some_and(|leader| {
            let core = self.servers[leader].core.as_ref();
            core.is_some_and(|core| core.configuration().server(self.servers[node].id()).is_none())
        });
        // Members may have changed since it said so: without its vote the others may be no quorum any more.
        if out || (self.now >= patience && self.survives_without(&BTreeSet::from([node]))) {
            self.cover(if out { "machines: left once they were out" } else { "machines: left too early" });
            return self.retire(node);
        }
        self.schedule(DEPARTURE_LOOK, Event::Flying(Box::new(Flying::Depart { node, patience })));
    }

    pub(super) fn go_down(&mut self, node: usize, lasts: Duration) {
        // In a directed scenario only what it says happens, and there are no other faults.
        let directed = self.options.fault_every.is_zero();
        if (!self.faults && !directed) || !self.servers[node].is_up() {
            return;
        }
        self.crash(node);
        let epoch = self.servers[node].epoch;
        self.schedule(lasts, Event::Restart { node, epoch });
    }

    /// Whether the cluster can go on without these servers and without all that are gone or leaving already: in every
    /// configuration that any server may come to use those left are a quorum, even if the lost ones had been promoted a
    /// moment ago, and nobody who lost its disk still has to be taken in anew.
    fn survives_without(&self, lost: &BTreeSet<usize>) -> bool {
        let lost: BTreeSet<usize> =
            lost.iter().chain(&self.fleet.gone).chain(&self.fleet.leaving).copied().collect();
        if self.is_replacing() || !self.others_count(&lost) {
            return false;
        }
        let lost: BTreeSet<&ServerId> = lost.iter().map(|node| self.servers[*node].id()).collect();
        // Before anybody misses the lost ones, one who is to lose its vote may do so.
        let unwanted: BTreeSet<&ServerId> =
            (0..self.servers.len()).filter(|n| self.is_unwanted(*n)).map(|n| self.servers[n].id()).collect();
        let enough = |configuration: &Configuration| {
            configuration.electorates().all(|set| {
                let dead = set.iter().filter(|server| lost.contains(&server.id)).count();
                let votes = |server: &&raft::Server| server.suffrage == Suffrage::Voter;
                let left: Vec<_> = set.iter().filter(votes).filter(|s| !lost.contains(&s.id)).collect();
                let loses = usize::from(left.iter().any(|server| unwanted.contains(&server.id)));
                left.len() - loses > (left.len() - loses + dead) / 2
            })
        };
        let in_logs = |disk: &Disk| {
            let mut logged =
                disk.log.entries.iter().chain(disk.queue.iter().flat_map(|write| &write.entries));
            logged.all(|entry| match &entry.kind {
                EntryKind::Configuration(configuration) => enough(configuration),
                EntryKind::Command | EntryKind::Noop | EntryKind::Barrier => true,
            }) && disk.newest().is_none_or(|snapshot| enough(&snapshot.meta.configuration))
        };
        // What a crashed server holds may be stale, and counts all the same.
        let known = |node: usize| in_logs(&self.servers[node].disk);
        !self.checks.commit.is_empty()
            && (0..self.servers.len()).filter(|n| !self.fleet.gone.contains(n)).all(known)
    }

    /// Whether the policy, or an order, may take the vote of this server.
    fn is_unwanted(&self, node: usize) -> bool {
        let Some(flight) = &self.options.autopilot else { return false };
        let id = self.servers[node].id();
        let drained = Promised::Drained(id.clone());
        let waits = |order: &Instruction| matches!(order, Instruction::Drain { server, .. } if server == id);
        let people = &self.fleet.people;
        flight.policy.is_replica(node)
            || flight.policy == Policy::Wilful
            || people.waiting.iter().any(waits)
            || people.promises.iter().any(|promise| promise.what == drained && !promise.lifted)
    }

    /// Whether everybody who is left is up, reached and known to be, and no change is on its way: only then does anything
    /// end for good, for the sake of runs that can be judged in the end.
    pub(super) fn is_quiet(&self) -> bool {
        let changing = self.workload.pending().values().any(|(_, asked)| *asked == Asked::Change);
        let acting = self.fleet.pilots.iter().any(|(node, pilot)| {
            pilot.epoch == self.servers[*node].epoch
                && matches!(pilot.stage, Stage::Telling | Stage::Changing { .. } | Stage::Asking)
        });
        let Some(leader) = liveness::ready_leader(&self.servers) else { return false };
        let Some(core) = &self.servers[leader].core else { return false };
        let heard = |node: usize| {
            let server = &self.servers[node];
            let now = self.servers[leader].clock.local(self.now);
            let recent = self.options.config.heartbeat_interval * 3 + self.options.delay.1 * 2;
            let follower = core.follower(server.id());
            node == leader || follower.is_none_or(|f| f.heard && now.since(f.contact) <= recent)
        };
        let fine = |node: usize| {
            let server = &self.servers[node];
            // A voter without a log gives no vote yet.
            let begun = core.configuration().server(server.id()).is_none()
                || server.disk.log.last().index > raft::LogIndex::ZERO;
            let up = server.is_up() && server.paused_until <= self.now && !server.disk.failed;
            up && begun && heard(node)
        };
        let left = (0..self.servers.len()).filter(|node| !self.fleet.gone.contains(node));
        !changing && !acting && self.network.cuts.is_empty() && left.into_iter().all(fine)
    }

    pub(super) fn disturb_fleet(&mut self) {
        let Some(flight) = self.options.autopilot.clone() else { return };
        if !self.faults || flight.fleet_every.is_zero() {
            return;
        }
        let next = flight.fleet_every.mul_f64(self.fleet.random.random_range(0.2..2.0));
        self.schedule(next, Event::Flying(Box::new(Flying::Fleet)));
        let up: Vec<usize> = (0..self.servers.len()).filter(|node| self.servers[*node].is_up()).collect();
        if up.is_empty() {
            return;
        }
        let random = &mut self.fleet.random;
        let mut node = up[random.random_range(0..up.len())];
        let leader = liveness::ready_leader(&self.servers);
        if let Some(leader) = leader.filter(|_| chance(random, 300)) {
            node = leader;
        }
        let patience = flight.config.server_stabilization_time;
        let lasts = between(random, Duration::from_millis(100), patience * 2);
        match random.random_range(0..100) {
            0..=21 => self.lose_for_good(node),
            22..=29 => self.ask_to_leave(node),
            30..=36 => self.grow(),
            37..=43 => self.reboot_one_after_the_other(patience),
            44..=51 => self.flap(node, patience),
            52..=57 => self.go_down(node, lasts),
            58..=67 => self.change_by_hand(node),
            68..=69 => self.fleet.rival_next = true,
            70..=89 => self.trouble_application(leader.unwrap_or(node), lasts),
            90..=91 => self.suspend_everybody(lasts),
            92..=93 => {
                let lasts = (flight.update + lasts / 2).min(Duration::from_secs(2));
                self.fleet.freeze_next = Some(lasts);
            }
            94..=95 => self.fleet.switched_off_until = self.now + lasts * 2,
            _ => {
                self.cover("engine: changes refused");
                let id = self.servers[node].id().clone();
                self.fleet.refused = Some((id, self.now + lasts * 3));
            }
        }
    }

    fn lose_for_good(&mut self, node: usize) {
        if self.is_quiet() && self.survives_without(&BTreeSet::from([node])) {
            self.retire(node);
            if chance(&mut self.fleet.random, 200) {
                // Nobody's application can tell what became of it.
                self.rumour(None, node, Some(NodeStatus::Unknown), Duration::from_secs(10));
            }
            if self.servers.len() < SERVERS_MAX {
                let after = between(&mut self.fleet.random, Duration::ZERO, Duration::from_secs(3));
                self.schedule(after, Event::Flying(Box::new(Flying::Spawn)));
            }
        }
    }

    fn ask_to_leave(&mut self, node: usize) {
        if self.is_quiet() && self.survives_without(&BTreeSet::from([node])) {
            self.leave(node);
        }
    }

    fn grow(&mut self) {
        let living = self.servers.len() - self.fleet.gone.len();
        if self.servers.len() < SERVERS_MAX && living < 7 {
            self.spawn();
        }
    }

    /// A03: everybody is restarted, one after the other, faster or slower than anybody counts as stable.
    fn reboot_one_after_the_other(&mut self, patience: Duration) {
        self.cover("machines: rolling reboots");
        let random = &mut self.fleet.random;
        let every = between(random, patience / 8, patience + patience / 2);
        let lasts = between(random, Duration::from_millis(10), every);
        let left: Vec<usize> = (0..self.servers.len()).filter(|n| !self.fleet.gone.contains(n)).collect();
        for node in left {
            let after = every * u32::try_from(node).unwrap_or(0);
            self.schedule(after, Event::Flying(Box::new(Flying::Down { node, lasts })));
        }
    }

    /// A server comes and goes, each time for less than it takes to count as stable.
    fn flap(&mut self, node: usize, patience: Duration) {
        self.cover("machines: flapping");
        let random = &mut self.fleet.random;
        let every = between(random, patience / 4, patience);
        let lasts = between(random, Duration::from_millis(10), every / 2);
        for time in 0..random.random_range(2..6) {
            self.schedule(every * time, Event::Flying(Box::new(Flying::Down { node, lasts })));
        }
    }

    /// The whole cluster is suspended, as a laptop is; a cluster of one voter does not notice.
    fn suspend_everybody(&mut self, lasts: Duration) {
        self.cover("machines: all suspended at once");
        let until = self.now + lasts;
        for server in &mut self.servers {
            server.paused_until = server.paused_until.max(until);
        }
    }

    /// A person demotes, removes or promotes a member, or hands leadership over, without asking autopilot.
    fn change_by_hand(&mut self, node: usize) {
        let Some(leader) = liveness::ready_leader(&self.servers) else { return };
        let dice = self.fleet.random.random_range(0..100);
        if dice < 30 {
            self.transfer(leader, Some(node).filter(|node| *node != leader));
            return;
        }
        let (id, address) = (self.servers[node].peer.id.clone(), self.servers[node].peer.address.clone());
        let Some(core) = &self.servers[leader].core else { return };
        let suffrage = core.configuration().server(&id).map(|server| server.suffrage);
        let safe = self.is_quiet() && self.survives_without(&BTreeSet::from([node])) && node != leader;
        let change = match suffrage {
            Some(Suffrage::Voter) if !safe => return,
            Some(Suffrage::Voter) if dice < 65 => ConfigurationChange::DemoteVoter { id },
            Some(Suffrage::Voter | Suffrage::Nonvoter)
                if dice < 75 && safe && self.fleet.kept_out.is_empty() =>
            {
                self.fleet.kept_out.insert(node);
                ConfigurationChange::RemoveServer { id }
            }
            Some(Suffrage::Nonvoter) if self.is_quiet() => ConfigurationChange::AddVoter { id, address },
            _ => return,
        };
        self.cover("people: changes by hand");
        self.change(leader, change);
    }

    /// A person adds or removes a member without a vote, just before autopilot takes this step.
    pub(super) fn overtake_by_hand(&mut self, leader: usize, step: &autopilot::Step) {
        let Some(core) = &self.servers[leader].core else { return };
        let configuration = core.configuration();
        let others = (0..self.servers.len()).filter(|node| self.servers[*node].id() != step.id());
        let change = others.into_iter().find_map(|node| {
            let peer = self.servers[node].peer.clone();
            match configuration.server(&peer.id).map(|server| server.suffrage) {
                None if self.servers[node].is_up() => {
                    Some(ConfigurationChange::AddNonvoter { id: peer.id, address: peer.address })
                }
                Some(Suffrage::Nonvoter) => Some(ConfigurationChange::RemoveServer { id: peer.id }),
                _ => None,
            }
        });
        let Some(change) = change else { return };
        self.cover("people: changes just before a step");
        self.change(leader, change);
    }

    fn trouble_application(&mut self, node: usize, lasts: Duration) {
        let (now, until) = (self.now, self.now + lasts);
        let random = &mut self.fleet.random;
        let mut about = random.random_range(0..self.servers.len());
        match random.random_range(0..100) {
            0..=24 => about = node,
            25..=64 => {
                let gone: Vec<usize> = self.fleet.gone.iter().copied().collect();
                about = if gone.is_empty() { about } else { gone[random.random_range(0..gone.len())] };
            }
            _ => {}
        }
        let dice = random.random_range(0..100);
        let ills = self.fleet.ills.entry(node).or_default();
        let what = match dice {
            0..=9 => {
                ills.mute_until = until;
                "application: does not answer"
            }
            10..=17 => {
                ills.blank_until = until;
                "application: knows nobody"
            }
            18..=29 => {
                ills.deaf_until = until;
                "application: hears no gossip"
            }
            30..=39 => {
                ills.frozen = (until, now);
                "application: late gossip"
            }
            40..=47 => {
                ills.no_config_until = until;
                "application: gives no configuration"
            }
            48..=61 => {
                ills.blind_until = until;
                "application: measures only some"
            }
            _ => {
                let status =
                    [None, Some(NodeStatus::Failed), Some(NodeStatus::Unknown), Some(NodeStatus::Alive)];
                let status = status[self.fleet.random.random_range(0..4)];
                self.rumour(Some(node), about, status, lasts * 2);
                "application: wrong about a server"
            }
        };
        self.cover(what);
    }

    /// Ends what is wrong with machines and applications; whoever was about to leave is gone.
    pub(super) fn heal_fleet(&mut self) {
        self.fleet.heal();
        self.fleet.people.wanted_back = (0..self.servers.len()).collect();
        for node in self.fleet.leaving.clone() {
            if self.survives_without(&BTreeSet::from([node])) {
                self.retire(node);
            } else {
                // Whoever is needed thinks better of it.
                self.fleet.leaving.remove(&node);
                for gossip in self.fleet.gossip.values_mut() {
                    gossip.left.remove(&node);
                }
            }
        }
    }

    /// V4 and A15: the members become what the policy wants, and the report becomes true.
    pub fn settle_fleet(&mut self) {
        let Some(flight) = self.options.autopilot.clone() else { return };
        self.lift_some_orders();
        let election = liveness::patience(&self.options, &self.servers);
        let wait = flight.patience();
        let changes = u32::try_from(self.servers.len() * 2 + 4).unwrap_or(u32::MAX);
        let limit = election * 2 + wait * changes;
        let began = self.now;
        let mut last = Ok(());
        let settled = self.run_until(limit, |world| {
            let Some(leader) = liveness::ready_leader(&world.servers) else {
                last = Err("nobody leads".to_owned());
                return false;
            };
            let Some(pilot) = world.pilot(leader).filter(|_| world.fleet.people.waiting.is_empty()) else {
                last = Err("no autopilot runs that was told everything".to_owned());
                return false;
            };
            last = goal::reached(&flight, &world.fleet, &world.servers, leader, pilot);
            last.is_ok()
        });
        if self.failure.is_some() {
            return;
        }
        if !settled {
            let sentence = last.err().unwrap_or_default();
            return self.judge("v4_goal", Err(format!("not within {limit:?}: {sentence}")));
        }
        self.longest("autopilot: ms until the goal after healing, at most", began);
        let told = self.run_until(election + wait, |world| {
            let Some(leader) = liveness::ready_leader(&world.servers) else { return false };
            let (Some(pilot), Some(core)) = (world.pilot(leader), &world.servers[leader].core) else {
                return false;
            };
            last = goal::truth_is_told(&pilot.state, core.configuration(), &world.servers);
            last.is_ok()
        });
        if !told && self.failure.is_none() {
            let sentence = last.err().unwrap_or_else(|| "no autopilot runs".to_owned());
            self.judge("a15_truth", Err(sentence));
        }
    }
}
