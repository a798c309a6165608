//! Bounded exhaustive search: every interleaving of a small cluster, breadth first, every state looked at once.
//!
//! **What is left out, and why nothing is lost by it.**
//!
//! - *Restarts.* Every change is durable at once, so a restarted server has lost its role and what it was counting, and nothing
//!   else; a server that simply does nothing any more is the same to all others.
//! - *Commit indices of followers.* A follower commits what its leader committed and what it holds of that leader's log; that
//!   both are equal is judged as log matching in every state. Whoever becomes leader is taken to know everything to be
//!   committed that its log holds, which may be more than it was told: so it may do more, never less.
//! - *Requests that begin in the middle of a log.* Whoever can take such a request in can also take in the one from the first
//!   entry to the same end, with the same result, as long as log matching holds, which is judged.
//! - *Messages that can do nothing any more.* Votes for a campaign that is over, entries of a term that everybody has left,
//!   acknowledgements to a leader that is none any more or of what is committed. Everything else may arrive late, twice,
//!   in any order or never: a leader's requests outlive its leadership.
//! - *Whom* a server voted for, once the vote is counted as sent: a candidate's votes are a set.
//! - *Snapshots.* Logs are whole here; installing a snapshot is taking over a prefix.
//! - *Commands.* Two entries of the same term at the same index are the same, whatever they hold.
//!
//! **What is lost.** Whatever needs more servers, terms, entries or changes than the bounds; crashes that undo what was not
//! durable, which [`trace`](super::trace) and the simulator cover; learners.
//!
//! **How.** A state is written down as a few bytes (`code.rs`), for the order of the servers' numbers that makes them least, so
//! that states which differ in the names of servers only are one. Of visited states a 64-bit hash is kept, with the hash
//! of the state from which it was reached: among ten million states the odds that two share a hash are 1 in 370,000.
#![allow(clippy::disallowed_types, reason = "a map of hashes whose order nobody sees")]

mod code;
mod moves;

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::{Action, Content, Entry, Members, Nodes, Rules, Server, State, invariants};
use crate::random::fold;
use code::Code;

/// How far the search goes.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Servers there are, at most 6.
    pub servers: usize,
    /// Changes of members in the whole run, the end of a joint configuration not counted.
    pub changes: u8,
    /// The last term.
    pub terms: u64,
    /// Entries in a log, the first configuration counted.
    pub log: usize,
    /// Whether changes through a joint configuration are made, too.
    pub joint: bool,
    /// The rules.
    pub rules: Rules,
    /// Give up beyond so many states.
    pub states: u64,
    /// Threads.
    pub threads: usize,
}

/// A state, with the changes of members that were made on the way to it.
#[derive(Clone, Debug)]
pub struct Place {
    /// The state.
    pub state: State,
    /// Changes so far.
    pub changes: u8,
}

/// How far a search has come.
#[derive(Clone, Copy, Debug, Default)]
pub struct Progress {
    /// Steps from the beginning.
    pub depth: usize,
    /// Different states seen.
    pub states: u64,
    /// Steps tried.
    pub steps: u64,
    /// States of this depth.
    pub frontier: usize,
}

/// What breaks, and how to get there.
#[derive(Clone, Debug)]
pub struct Violation {
    /// Which invariant.
    pub invariant: &'static str,
    /// What is wrong.
    pub sentence: String,
    /// The shortest way there, each step with what it consists of.
    pub path: Vec<Vec<Action>>,
    /// The state in which it ends.
    pub end: State,
}

/// What a search came to.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// How far it came.
    pub progress: Progress,
    /// Whether every state within the bounds was seen.
    pub exhausted: bool,
    /// What breaks, if anything.
    pub violation: Option<Violation>,
}

/// Hashes are their own hash.
#[derive(Debug, Default)]
struct Same(u64);

impl Hasher for Same {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0 = fold(self.0, bytes);
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = number;
    }
}

const SHARDS: usize = 64;

type Shard = Mutex<HashMap<u64, u64, BuildHasherDefault<Same>>>;

struct Visited(Vec<Shard>);

impl Visited {
    fn shard(&self, hash: u64) -> &Shard {
        &self.0[(hash >> 32) as usize % SHARDS]
    }

    /// Notes a state and where it came from; false if it is known.
    fn is_new(&self, hash: u64, from: u64) -> bool {
        let mut shard = self.shard(hash).lock().expect("nobody panics while holding it");
        let known = shard.len();
        shard.entry(hash).or_insert(from);
        shard.len() > known
    }

    fn from(&self, hash: u64) -> u64 {
        self.shard(hash).lock().expect("nobody panics while holding it")[&hash]
    }
}

/// Mixes well in all bits: shards and table positions are taken from them.
fn hash_of(code: &[u8]) -> u64 {
    let mut hash = fold(0x5bd1_e995, code);
    for _ in 0..2 {
        hash = (hash ^ (hash >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
    }
    hash ^ (hash >> 32)
}

struct Found {
    code: Code,
    invariant: &'static str,
    sentence: String,
}

#[derive(Default)]
struct Layer {
    next: Vec<Code>,
    steps: u64,
    found: Option<Found>,
}

/// A cluster of which the first servers are the members, just begun.
fn beginning(servers: usize, members: usize) -> State {
    let first = Members::of(Nodes::of(0..members));
    let entry = Entry { term: raft::Term(0), content: Content::Members(first) };
    let member = Server { log: vec![entry], ..Server::default() };
    let servers = (0..servers).map(|node| if node < members { member.clone() } else { Server::default() });
    let decided = vec![entry];
    State { servers: servers.collect(), decided_in: vec![raft::Term(0)], decided, ..State::default() }
}

/// The states with which a search begins: every number of members.
fn beginnings(bounds: &Bounds) -> Vec<Place> {
    (1..=bounds.servers)
        .map(|members| Place { state: beginning(bounds.servers, members), changes: 0 })
        .collect()
}

/// Looks at every state within the bounds, or at all until one breaks an invariant. The first configuration may have any
/// number of members.
///
/// # Panics
/// Only if a thread does.
#[must_use]
pub fn explore(bounds: &Bounds, progress: impl Fn(&Progress)) -> Outcome {
    explore_from(&beginnings(bounds), bounds, progress)
}

/// The same for what can be reached from these states.
///
/// # Panics
/// Only if a thread does.
#[must_use]
pub fn explore_from(beginnings: &[Place], bounds: &Bounds, progress: impl Fn(&Progress)) -> Outcome {
    let visited = Visited((0..SHARDS).map(|_| Shard::default()).collect());
    let coder = code::Coder::new(bounds.servers);
    let mut frontier: Vec<Code> = beginnings.iter().map(|place| coder.encode(place)).collect();
    for code in &frontier {
        visited.is_new(hash_of(code), 0);
    }
    let mut so_far = Progress { states: frontier.len() as u64, ..Progress::default() };
    loop {
        so_far.frontier = frontier.len();
        progress(&so_far);
        if frontier.is_empty() || so_far.states > bounds.states {
            return Outcome { progress: so_far, exhausted: frontier.is_empty(), violation: None };
        }
        let layer = search_layer(bounds, &coder, &visited, &frontier);
        so_far.depth += 1;
        so_far.steps += layer.steps;
        so_far.states += layer.next.len() as u64;
        if let Some(found) = layer.found {
            let violation = Some(retrace(beginnings, bounds, &coder, &visited, &found));
            return Outcome { progress: so_far, exhausted: false, violation };
        }
        frontier = layer.next;
    }
}

/// How many states a thread takes at once.
const PORTION: usize = 512;

fn search_layer(bounds: &Bounds, coder: &code::Coder, visited: &Visited, frontier: &[Code]) -> Layer {
    let taken = AtomicUsize::new(0);
    let search = || {
        let mut layer = Layer::default();
        loop {
            let from = taken.fetch_add(PORTION, Ordering::Relaxed);
            if from >= frontier.len() || layer.found.is_some() {
                return layer;
            }
            for code in &frontier[from..frontier.len().min(from + PORTION)] {
                search_from(bounds, coder, visited, code, &mut layer);
            }
        }
    };
    let layers: Vec<Layer> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..bounds.threads.max(1)).map(|_| scope.spawn(search)).collect();
        threads.into_iter().map(|thread| thread.join().expect("the search does not panic")).collect()
    });
    layers.into_iter().fold(Layer::default(), |mut all, layer| {
        all.next.extend(layer.next);
        all.steps += layer.steps;
        all.found = all.found.or(layer.found);
        all
    })
}

fn search_from(bounds: &Bounds, coder: &code::Coder, visited: &Visited, code: &Code, layer: &mut Layer) {
    let place = coder.decode(code);
    let from = hash_of(code);
    moves::all(&place, bounds, |_, next| {
        layer.steps += 1;
        let code = coder.encode(&next);
        if !visited.is_new(hash_of(&code), from) {
            return;
        }
        if let Some((invariant, sentence)) = invariants::broken(&next.state, bounds.rules)
            && layer.found.is_none()
        {
            layer.found = Some(Found { code: code.clone(), invariant, sentence });
        }
        layer.next.push(code);
    });
}

/// Walks from a beginning to a state that was found, with the same names for the same servers all the way.
fn retrace(
    beginnings: &[Place],
    bounds: &Bounds,
    coder: &code::Coder,
    visited: &Visited,
    found: &Found,
) -> Violation {
    let mut hashes = vec![hash_of(&found.code)];
    while let Some(last) = hashes.last().copied().map(|hash| visited.from(hash)).filter(|from| *from != 0) {
        hashes.push(last);
    }
    let first = hashes.pop();
    let begins = |place: &&Place| first == Some(hash_of(&coder.encode(place)));
    let mut place = beginnings.iter().find(begins).expect("every way begins at a beginning").clone();
    let mut path = Vec::new();
    for hash in hashes.into_iter().rev() {
        let mut found = None;
        moves::all(&place, bounds, |actions, next| {
            if found.is_none() && hash_of(&coder.encode(&next)) == hash {
                found = Some((actions.to_vec(), next));
            }
        });
        let (actions, next) = found.expect("the step was made before");
        path.push(actions);
        // What the search forgets must be forgotten here, too.
        place = coder.tidied(&next);
    }
    let (invariant, sentence) = invariants::broken(&place.state, bounds.rules)
        .unwrap_or_else(|| (found.invariant, found.sentence.clone()));
    Violation { invariant, sentence, path, end: place.state }
}

#[cfg(test)]
mod tests;
