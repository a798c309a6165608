//! What directed scenarios do to a world.

use std::time::Duration;

use raft::Suffrage;
use raft::core::{Input, RaftCore, Regard, ReplyToken, Request, RequestId, Role, Sequence};

use super::World;
use crate::check::liveness;
use crate::options::Options;
use crate::pilot::Flight;
use crate::server::Received;
use crate::workload::Asked;

impl World {
    /// A calm cluster with a leader that can serve.
    ///
    /// # Panics
    /// If there is none within a few election timeouts.
    #[must_use]
    pub fn calm(voters: usize, spares: usize) -> Self {
        let mut world = Self::new(Options::calm(voters, spares));
        world.leader();
        world
    }

    /// A calm cluster with autopilot, set up as `change` says.
    ///
    /// # Panics
    /// If there is no leader within a few election timeouts.
    #[must_use]
    pub fn flown(voters: usize, spares: usize, change: impl FnOnce(&mut Flight)) -> Self {
        let mut flight = Flight::calm();
        change(&mut flight);
        let options = Options { autopilot: Some(flight), files: false, ..Options::calm(voters, spares) };
        let mut world = Self::new(options);
        world.leader();
        world
    }

    /// Whether the leader's configuration has this server as a voter; false without a leader.
    #[must_use]
    pub fn votes(&self, node: usize) -> bool {
        self.member(node) == Some(Suffrage::Voter)
    }

    /// What this server is in the leader's configuration.
    #[must_use]
    pub fn member(&self, node: usize) -> Option<Suffrage> {
        let leader = liveness::ready_leader(&self.servers)?;
        let core = self.servers[leader].core.as_ref()?;
        core.configuration().server(self.servers[node].id()).map(|server| server.suffrage)
    }

    /// How often this was counted.
    #[must_use]
    pub fn count(&self, what: &str) -> u64 {
        self.coverage.get(what).copied().unwrap_or_default()
    }

    /// The leader, waiting for one if there is none.
    ///
    /// # Panics
    /// If there is none within the bound on liveness, or an invariant is broken.
    pub fn leader(&mut self) -> usize {
        let limit = liveness::patience(&self.options, &self.servers);
        let found = self.run_until(limit, |world| liveness::ready_leader(&world.servers).is_some());
        assert!(found, "no leader: {:?}", self.failure);
        liveness::ready_leader(&self.servers).expect("just found")
    }

    /// Lets this much time pass.
    ///
    /// # Panics
    /// If an invariant is broken meanwhile.
    pub fn run_for(&mut self, time: Duration) {
        self.run_until(time, |_| false);
        self.sound();
    }

    /// Lets events happen until this holds.
    ///
    /// # Panics
    /// If it does not within the bound on liveness, or an invariant is broken.
    pub fn wait(&mut self, what: &str, holds: impl FnMut(&Self) -> bool) {
        let limit = liveness::patience(&self.options, &self.servers);
        let held = self.run_until(limit, holds);
        self.sound();
        assert!(held, "waited in vain: {what}");
    }

    /// Checks that no invariant is broken.
    ///
    /// # Panics
    /// If one is.
    pub fn sound(&self) {
        assert_eq!(self.failure, None);
    }

    /// A running server's core.
    ///
    /// # Panics
    /// If the server is down.
    #[must_use]
    pub fn core(&self, node: usize) -> &RaftCore {
        self.servers[node].core.as_ref().expect("the server is up")
    }

    /// Whether a server runs and leads.
    #[must_use]
    pub fn leads(&self, node: usize) -> bool {
        self.servers[node].core.as_ref().is_some_and(|core| core.role() == Role::Leader)
    }

    /// Whether the client of this command knows that it is applied.
    #[must_use]
    pub fn acknowledged(&self, value: u64) -> bool {
        self.checks.clients.is_acknowledged(value)
    }

    /// Hands a server a request that nobody sent, in the name of another.
    pub fn inject(&mut self, from: usize, to: usize, request: Request) {
        self.inject_as(from, to, request, None);
    }

    /// The same, from a server that says what it takes the receiver for.
    pub fn inject_as(&mut self, from: usize, to: usize, request: Request, regard: Option<Regard>) {
        if !matches!(request, Request::TimeoutNow { .. }) {
            // The specification knows only what servers say.
            self.specification.stop();
        }
        self.next_token += 1;
        let reply = ReplyToken(self.next_token);
        let received = Received {
            from,
            epoch: u64::MAX,
            sequence: Sequence(u64::MAX),
            request: request.clone(),
            regard,
        };
        let from = self.servers[from].peer.clone();
        self.servers[to].received.insert(reply, received);
        self.step(to, Input::Request { from, request, reply, regard });
    }

    /// Lets everything arrive that was kept back, however old it is by now.
    pub fn release(&mut self) {
        (self.hold, self.hold_answers) = (None, None);
        for event in std::mem::take(&mut self.held) {
            self.schedule(Duration::ZERO, event);
        }
    }

    /// A server's disk does nothing for this long.
    pub fn stall(&mut self, node: usize, time: Duration) {
        let disk = &mut self.servers[node].disk;
        disk.busy_until = disk.busy_until.max(self.now + time);
    }

    /// Someone gives a server a vote, once it has the log.
    pub fn add_voter(&mut self, node: usize, target: usize) -> RequestId {
        let peer = self.servers[target].peer.clone();
        let (id, address) = (peer.id, peer.address);
        self.ask(node, Asked::Change, |request| Input::AddVoter { request, id, address, expected: None })
    }

    /// Gives one server other tunables than the rest has.
    ///
    /// # Panics
    /// If it is down.
    pub fn reload(&mut self, node: usize, config: &raft::Config) {
        self.servers[node].core.as_mut().expect("the server is up").reload(config);
    }

    /// Ends all faults and checks that the cluster settles.
    ///
    /// # Panics
    /// If it does not.
    pub fn settles(&mut self) {
        self.filter = None;
        self.release();
        self.heal();
        self.settle();
        self.sound();
    }
}
