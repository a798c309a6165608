//! States as bytes: without what makes no difference any more, and the same for states that differ in names only.

use raft::Term;

use super::super::{Content, Entry, Led, Members, Node, Nodes, Role, Sent, Server, State};
use super::Place;

/// A state, written down.
pub(super) type Code = Box<[u8]>;

/// Writes states down and reads them back.
pub(super) struct Coder {
    servers: usize,
    orders: Vec<Order>,
}

/// A new number for every server.
struct Order {
    /// The new number of each old one.
    new: Vec<Node>,
    /// The old number of each new one.
    old: Vec<Node>,
    /// The new set of each old one.
    sets: Vec<u8>,
}

impl Order {
    fn of(new: Vec<Node>) -> Self {
        let old = (0..new.len()).map(|n| new.iter().position(|m| *m == n).expect("a permutation")).collect();
        let renamed = |set: u64| Nodes::of(Nodes(set).iter().map(|node| new[node])).0 as u8;
        let sets = (0..1 << new.len()).map(renamed).collect();
        Self { new, old, sets }
    }

    fn set(&self, nodes: Nodes) -> u8 {
        self.sets[nodes.0 as usize]
    }
}

fn permutations(of: usize) -> Vec<Vec<Node>> {
    if of == 0 {
        return vec![Vec::new()];
    }
    let shorter = permutations(of - 1);
    let with = |at: usize| {
        shorter.iter().map(move |order| {
            let mut order = order.clone();
            order.insert(at, of - 1);
            order
        })
    };
    (0..of).flat_map(with).collect()
}

const VOTED: u8 = 4;

/// What of a server differs from others whatever they are called. Servers are sorted by it, so that few orders remain.
fn looks(server: &Server) -> (Term, Role, bool, usize, Term, usize) {
    let (last, length) = super::super::last(&server.log);
    (server.term, server.role, server.voted_for.is_some(), length, last, server.members().0)
}

impl Coder {
    pub(super) fn new(servers: usize) -> Self {
        assert!((1..=6).contains(&servers), "one to six servers");
        Self { servers, orders: permutations(servers).into_iter().map(Order::of).collect() }
    }

    /// Writes a state down in the order of servers that gives the least bytes.
    pub(super) fn encode(&self, place: &Place) -> Code {
        let looks: Vec<_> = place.state.servers.iter().map(looks).collect();
        let sorted = |order: &&Order| order.old.windows(2).all(|pair| looks[pair[0]] <= looks[pair[1]]);
        let (mut least, mut bytes): (Vec<u8>, Vec<u8>) = (Vec::new(), Vec::new());
        for order in self.orders.iter().filter(sorted) {
            bytes.clear();
            write(place, order, &mut bytes);
            if least.is_empty() || bytes < least {
                std::mem::swap(&mut least, &mut bytes);
            }
        }
        least.into_boxed_slice()
    }

    /// Forgets what makes no difference, and keeps the names.
    pub(super) fn tidied(&self, place: &Place) -> Place {
        let mut bytes = Vec::new();
        write(place, &Order::of((0..self.servers).collect()), &mut bytes);
        self.decode(&bytes)
    }

    pub(super) fn decode(&self, code: &[u8]) -> Place {
        Reader { bytes: code.iter().copied() }.place(self.servers)
    }
}

fn write(place: &Place, order: &Order, bytes: &mut Vec<u8>) {
    let state = &place.state;
    bytes.push(place.changes | u8::from(state.contradicted) << 7);
    for node in &order.old {
        write_server(state, *node, order, bytes);
    }
    let outlives = |(term, led): &(&Term, &Led)| {
        let leads =
            state.servers[led.leader].role == Role::Leader && state.servers[led.leader].term == **term;
        let reaches = |(node, server): (Node, &Server)| node != led.leader && server.term <= **term;
        !leads && state.servers.iter().enumerate().any(reaches)
    };
    for (term, led) in state.sent.led.iter().filter(outlives) {
        bytes.extend([small(term.0), order.new[led.leader] as u8]);
        write_log(&led.log, order, bytes);
    }
    bytes.push(0);
    write_log(&state.decided, order, bytes);
    bytes.extend(state.decided_in.iter().map(|term| small(term.0)));
}

const fn small(number: u64) -> u8 {
    assert!(number < 64, "bounds are small");
    number as u8
}

fn write_server(state: &State, node: Node, order: &Order, bytes: &mut Vec<u8>) {
    let server = &state.servers[node];
    let role = match server.role {
        Role::Follower => 0,
        Role::Candidate => 1,
        Role::Leader => 2,
    };
    let voted = if server.voted_for.is_some() { VOTED } else { 0 };
    bytes.extend([small(server.term.0), role | voted]);
    write_log(&server.log, order, bytes);
    match server.role {
        Role::Follower => {}
        Role::Candidate => {
            let votes = state.sent.votes.iter().filter(|(term, _, of)| (*term, *of) == (server.term, node));
            bytes.push(order.set(Nodes::of(votes.map(|(_, voter, _)| *voter))));
        }
        Role::Leader => {
            bytes.push(server.commit as u8);
            bytes.extend(order.old.iter().map(|from| {
                let held = state.sent.held.get(&(server.term, *from)).copied().unwrap_or(0);
                if held > server.commit { held as u8 } else { 0 }
            }));
        }
    }
}

fn write_log(log: &[Entry], order: &Order, bytes: &mut Vec<u8>) {
    bytes.push(log.len() as u8);
    for entry in log {
        match entry.content {
            Content::Plain(_) => bytes.push(small(entry.term.0)),
            Content::Members(members) => {
                bytes.extend([
                    small(entry.term.0) | 64,
                    order.set(members.voters),
                    order.set(members.leaving),
                ]);
            }
        }
    }
}

struct Reader<I> {
    bytes: I,
}

impl<I: Iterator<Item = u8>> Reader<I> {
    fn next(&mut self) -> u8 {
        self.bytes.next().expect("as much as was written")
    }

    fn place(mut self, servers: usize) -> Place {
        let head = self.next();
        let mut state = State { contradicted: head >> 7 == 1, ..State::default() };
        for node in 0..servers {
            let server = self.server(node, servers, &mut state.sent);
            state.servers.push(server);
        }
        loop {
            let term = Term(u64::from(self.next()));
            if term == Term(0) {
                break;
            }
            let leader = usize::from(self.next());
            state.sent.led.insert(term, Led { leader, log: self.log(), commit: 0 });
        }
        state.decided = self.log();
        state.decided_in = state.decided.iter().map(|_| Term(u64::from(self.next()))).collect();
        // Every term up to the newest was somebody's, who asked for votes in it.
        let newest = state.servers.iter().map(|server| server.term.0).max().unwrap_or(0);
        state.sent.terms = (1..=newest).map(Term).collect();
        Place { state, changes: head & 127 }
    }

    fn server(&mut self, node: Node, servers: usize, sent: &mut Sent) -> Server {
        let term = Term(u64::from(self.next()));
        let flags = self.next();
        let log = self.log();
        let asked_with = super::super::last(&log);
        let mut server = Server { term, log, ..Server::default() };
        server.voted_for = (flags & VOTED != 0).then_some(node);
        match flags & 3 {
            1 => {
                server.role = Role::Candidate;
                server.asked_with = asked_with;
                let votes = Nodes(u64::from(self.next()));
                sent.votes.extend(votes.iter().map(|voter| (term, voter, node)));
                sent.campaigns.insert((term, node), asked_with);
            }
            2 => {
                server.role = Role::Leader;
                server.commit = usize::from(self.next());
                for from in 0..servers {
                    let held = usize::from(self.next());
                    if held > 0 {
                        sent.held.insert((term, from), held);
                    }
                }
                let led = Led { leader: node, log: server.log.clone(), commit: server.commit };
                sent.led.insert(term, led);
            }
            _ => {}
        }
        server
    }

    fn log(&mut self) -> Vec<Entry> {
        let length = self.next();
        (0..length).map(|_| self.entry()).collect()
    }

    fn entry(&mut self) -> Entry {
        let head = self.next();
        let content = if head & 64 == 0 {
            Content::Plain(0)
        } else {
            let mut set = || Nodes(u64::from(self.next()));
            let (voters, leaving) = (set(), set());
            Content::Members(Members { voters, leaving, ..Members::default() })
        };
        Entry { term: Term(u64::from(head & 63)), content }
    }
}
