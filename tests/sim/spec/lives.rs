//! Which server of the specification a server of the simulator is: to the specification every life of a server's data is a
//! server of its own.
//!
//! A wiped server is a new server with an empty log, which no configuration names; the one that it was is gone for good, and
//! what it had promised counts for what it counted for. Taking it in anew is a change of two servers. So there is no rule about
//! incarnations in the specification: it is enough that nobody takes one server for another.

use std::collections::{BTreeMap, BTreeSet};

use raft::{Configuration, Incarnation, Server as Member, ServerId, Suffrage};

use super::{Members, Node, Nodes};

/// How many servers the specification has room for.
pub(super) const ROOM: usize = 64;
/// The founder's life of a server has the server's own number, below this one.
const FOUNDERS: usize = 24;

/// Who is who.
#[derive(Debug)]
pub(super) struct Lives {
    numbers: BTreeMap<(usize, Incarnation), Node>,
    /// Which server each one is now, where it is not the founder's life.
    present: BTreeMap<usize, Node>,
    /// Whose lives these are.
    owners: BTreeMap<Node, usize>,
    /// Servers whose founder's life is over.
    wiped: BTreeSet<usize>,
    next: Node,
}

impl Default for Lives {
    fn default() -> Self {
        Self {
            numbers: BTreeMap::new(),
            present: BTreeMap::new(),
            owners: BTreeMap::new(),
            wiped: BTreeSet::new(),
            next: FOUNDERS,
        }
    }
}

/// Servers are called `s0`, `s1` and so on.
pub(super) fn number_of(id: &ServerId) -> usize {
    id.as_str().get(1..).and_then(|number| number.parse().ok()).unwrap_or(FOUNDERS - 1)
}

impl Lives {
    /// Whether there were more lives than there is room for: the specification can go on no more.
    pub(super) const fn is_full(&self) -> bool {
        self.next >= ROOM
    }

    /// Which server this one is now.
    pub(super) fn present(&self, server: usize) -> Node {
        self.present.get(&server).copied().unwrap_or(server)
    }

    /// Whose life this is.
    pub(super) fn owner(&self, node: Node) -> usize {
        self.owners.get(&node).copied().unwrap_or(node)
    }

    fn fresh(&mut self, server: usize) -> Node {
        let node = self.next.min(ROOM - 1);
        self.next = (self.next + 1).min(ROOM);
        self.owners.insert(node, server);
        node
    }

    /// The server that is meant by an id and an incarnation.
    pub(super) fn of(&mut self, id: &ServerId, incarnation: Incarnation) -> Node {
        let server = number_of(id);
        if incarnation.is_founder() {
            return server;
        }
        if let Some(known) = self.numbers.get(&(server, incarnation)) {
            return *known;
        }
        let node = self.fresh(server);
        self.numbers.insert((server, incarnation), node);
        node
    }

    /// A server lost its data: it is a new one, and nobody knows its incarnation yet.
    pub(super) fn begins(&mut self, server: usize) -> Node {
        let node = self.fresh(server);
        self.wiped.insert(server);
        self.present.insert(server, node);
        node
    }

    /// A server begins an incarnation. Says who it was and who it is.
    pub(super) fn starts_over(&mut self, server: usize, incarnation: Incarnation) -> (Node, Node) {
        let was = self.present(server);
        let nameless = was >= FOUNDERS && !self.numbers.values().any(|node| *node == was);
        let now = if nameless { was } else { self.fresh(server) };
        self.numbers.insert((server, incarnation), now);
        self.present.insert(server, now);
        (was, now)
    }

    /// A server starts and finds an incarnation on its disk: the one that it had begun may not have been durable. Says who it was
    /// and who it is.
    pub(super) fn finds(&mut self, server: usize, incarnation: Incarnation) -> (Node, Node) {
        let was = self.present(server);
        let now = match self.numbers.get(&(server, incarnation)) {
            Some(known) => *known,
            None if incarnation.is_founder() && !self.wiped.contains(&server) => server,
            None => was,
        };
        self.present.insert(server, now);
        (was, now)
    }

    /// A configuration in the words of the specification. Lives matter where there are votes.
    pub(super) fn members(&mut self, configuration: &Configuration) -> Members {
        let mut voters = |servers: &[Member]| {
            let voters = servers.iter().filter(|server| server.suffrage == Suffrage::Voter);
            Nodes::of(voters.map(|server| self.of(&server.id, server.incarnation)))
        };
        let (new, leaving) = (voters(configuration.servers()), voters(configuration.outgoing()));
        let learners = configuration.servers().iter().filter(|server| server.suffrage == Suffrage::Nonvoter);
        Members { voters: new, leaving, learners: Nodes::of(learners.map(|server| number_of(&server.id))) }
    }
}
