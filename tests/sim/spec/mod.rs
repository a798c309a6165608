//! The executable specification: Raft as plain state and named actions, slow and obvious.
//!
//! **What.** [`State`] is all servers together with everything that was ever said. [`Action`] is what may happen next; each is
//! a rule of the Raft paper (figure 2, section 6) or of the dissertation (chapters 3 and 4), written down once more, with
//! sets and counting and without any code of `raft::core`.
//!
//! **Two uses.** [`trace`] maps every event of a simulated run to actions and refuses what the rules do not allow;
//! [`explore`] walks through all interleavings of a small cluster and looks at [`invariants`] in every state.
//!
//! **The log is whole.** A server's log begins at index 1 and is never shortened at the front: a snapshot is a prefix of what
//! is [decided](State::decided), and installing one is taking over that prefix. Compaction changes nothing here.
//!
//! **A snapshot from outside** is an entry that says what the state is from now on, whatever came before. No request to append
//! carries it, only a snapshot does, and there may be [nothing](NOTHING) in front of it where indexes are left out. Its leader
//! knows it to be committed at once, though it is decided like any other entry: with one after it that a majority holds.
//!
//! **What was said stays said.** Messages may be lost, late, doubled and in any order, so the specification only keeps which
//! messages were ever sent, and a server may take in any of them at any time. A leader only ever appends within its term,
//! so the longest log that it sent stands for all its requests, and the largest acknowledged index for all
//! acknowledgements of a follower in a term.
//!
//! **Not here.** Time, and with it pre-vote, check-quorum, leases and reads: they decide when a server acts, not what it may do.
//! To the specification they are steps in which nothing changes.

pub mod action;
pub mod explore;
pub mod invariants;
mod lives;
pub mod trace;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use raft::Term;

pub use action::Action;

/// A server, by its number.
pub type Node = usize;

/// A set of servers, numbered below 64.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Nodes(pub u64);

impl std::fmt::Debug for Nodes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

impl Nodes {
    /// The servers with these numbers.
    #[must_use]
    pub fn of(nodes: impl IntoIterator<Item = Node>) -> Self {
        nodes.into_iter().fold(Self::default(), Self::with)
    }

    /// These and one more.
    #[must_use]
    pub const fn with(self, node: Node) -> Self {
        Self(self.0 | 1 << node)
    }

    /// These without one.
    #[must_use]
    pub const fn without(self, node: Node) -> Self {
        Self(self.0 & !(1 << node))
    }

    /// Whether a server is among them.
    #[must_use]
    pub const fn contains(self, node: Node) -> bool {
        self.0 & (1 << node) != 0
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// How many there are.
    #[must_use]
    pub const fn len(self) -> usize {
        self.0.count_ones() as usize
    }

    /// All of them, in order.
    pub fn iter(self) -> impl Iterator<Item = Node> {
        let end = 64 - self.0.leading_zeros() as usize;
        (0..end).filter(move |node| self.contains(*node))
    }

    /// Those that are in exactly one of two sets.
    #[must_use]
    pub const fn difference(self, other: Self) -> Self {
        Self(self.0 ^ other.0)
    }
}

/// A configuration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Members {
    /// Who votes; while joint, who will.
    pub voters: Nodes,
    /// While joint, who voted before; empty otherwise.
    pub leaving: Nodes,
    /// Who gets the log and never counts.
    pub learners: Nodes,
}

impl Members {
    /// A configuration of voters that is not joint.
    #[must_use]
    pub fn of(voters: Nodes) -> Self {
        Self { voters, ..Self::default() }
    }

    /// Whether two sets of voters must agree.
    #[must_use]
    pub const fn is_joint(self) -> bool {
        !self.leaving.is_empty()
    }

    /// Whether a server votes in either set.
    #[must_use]
    pub const fn is_voter(self, node: Node) -> bool {
        self.voters.contains(node) || self.leaving.contains(node)
    }

    /// Whether those who satisfy a condition are a majority of the voters and, while joint, of those who are leaving
    /// (Raft paper, section 6).
    #[must_use]
    pub fn agreed(self, rules: Rules, holds: impl Fn(Node) -> bool) -> bool {
        let majority_of = |set: Nodes| set.iter().filter(|node| holds(*node)).count() * 2 > set.len();
        majority_of(self.voters) && (!self.is_joint() || !rules.joint_needs_both || majority_of(self.leaving))
    }
}

/// What an entry holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Content {
    /// Anything but a configuration; the number tells different ones apart.
    Plain(u64),
    /// A configuration, in force as soon as it is in the log.
    Members(Members),
}

/// One entry. Its index is its place in the log, from one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Entry {
    /// The term of the leader that made it.
    pub term: Term,
    /// What it holds.
    pub content: Content,
}

/// A server's part in its term.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Follows or waits.
    #[default]
    Follower,
    /// Asks for votes.
    Candidate,
    /// Leads.
    Leader,
}

/// One change of what a server must not forget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Term and vote.
    Vote(Term, Option<Node>),
    /// Keep this many entries.
    Truncate(usize),
    /// Add an entry.
    Append(Entry),
    /// The log is what a snapshot stands for.
    Replace(Prefix),
}

/// What stands at the indexes that a snapshot from outside leaves out.
pub const NOTHING: Content = Content::Plain(0x006e_6f74);
/// A snapshot from outside.
pub const OUTSIDE: Content = Content::Plain(0x6f75_7473);

/// What a snapshot stands for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Prefix {
    /// How many entries.
    pub through: usize,
    /// Term and index of the snapshot from outside that ends them, where they are not decided.
    pub outside: Option<(Term, usize)>,
}

/// Every history that a snapshot may stand for.
#[derive(Clone, Copy, Debug)]
pub struct Past<'a> {
    /// What was committed.
    pub decided: &'a [Entry],
    /// What was before each snapshot from outside, with it.
    pub outside: &'a BTreeMap<(Term, usize), Vec<Entry>>,
}

impl<'a> Past<'a> {
    /// The entries that a snapshot stands for.
    #[must_use]
    pub fn entries(self, prefix: Prefix) -> &'a [Entry] {
        let of = prefix.outside.and_then(|key| self.outside.get(&key)).map_or(self.decided, Vec::as_slice);
        &of[..prefix.through]
    }

    /// Term and index of the last of them: of two snapshots the one of the newer term is newer, wherever it ends.
    #[must_use]
    pub fn end(self, prefix: Prefix) -> (Term, usize) {
        last(self.entries(prefix))
    }

    /// What a snapshot stands for that ends in this entry; `None` if nobody can have taken it.
    #[must_use]
    pub fn ending_in(self, end: (Term, usize)) -> Option<Prefix> {
        let decided = self.decided.get(..end.1).filter(|decided| last(decided) == end);
        let outside = self.outside.get(&end).map(|_| end);
        (decided.is_some() || outside.is_some())
            .then_some(Prefix { through: end.1, outside: outside.filter(|_| decided.is_none()) })
    }
}

/// What a crash leaves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Disk {
    /// The durable term.
    pub term: Term,
    /// The durable vote in that term.
    pub voted_for: Option<Node>,
    /// The durable log.
    pub log: Vec<Entry>,
    /// What the newest durable snapshot stands for.
    pub snapshot: Prefix,
    /// A durable snapshot from outside that is not the server's state, and would be after a restart.
    pub outside: Option<Prefix>,
    /// Changes that are not durable yet. A crash keeps the first few of them, or all or none.
    pub unsynced: VecDeque<Change>,
}

impl Disk {
    /// The log that a restart finds: the durable one, unless it contradicts the newest snapshot (Raft paper, figure 13).
    #[must_use]
    pub fn recovered<'a>(&'a self, past: Past<'a>) -> &'a [Entry] {
        let stored = past.entries(self.newest(past));
        let fits = stored.is_empty() || self.log.get(stored.len() - 1) == stored.last();
        if fits { &self.log } else { stored }
    }

    /// The newest snapshot.
    #[must_use]
    pub fn newest(&self, past: Past<'_>) -> Prefix {
        let newer = |outside: &Prefix| past.end(*outside) > past.end(self.snapshot);
        self.outside.filter(newer).unwrap_or(self.snapshot)
    }

    /// The term that a restart finds: nothing is in the log or in a snapshot of a term that was not entered.
    #[must_use]
    pub fn recovered_term(&self, past: Past<'_>) -> Term {
        self.term.max(last(&self.log).0).max(past.end(self.newest(past)).0)
    }

    /// Makes the oldest change durable. False if there is none.
    pub fn sync_one(&mut self, past: Past<'_>) -> bool {
        match self.unsynced.pop_front() {
            Some(Change::Vote(term, vote)) => (self.term, self.voted_for) = (term, vote),
            Some(Change::Truncate(keep)) => self.log.truncate(keep),
            Some(Change::Append(entry)) => self.log.push(entry),
            Some(Change::Replace(with)) => self.log = past.entries(with).to_vec(),
            None => return false,
        }
        true
    }
}

/// One server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Server {
    /// The highest term it knows.
    pub term: Term,
    /// Whom it voted for in that term.
    pub voted_for: Option<Node>,
    /// Its log.
    pub log: Vec<Entry>,
    /// How many entries it knows to be committed.
    pub commit: usize,
    /// Its role.
    pub role: Role,
    /// Where its log ended when it began its last campaign.
    pub asked_with: (Term, usize),
    /// Where the snapshot from outside stands that it is storing, or has not removed yet: a restart may find it.
    pub restoring: Option<usize>,
    /// What a crash leaves; `None` where every change is durable at once.
    pub disk: Option<Disk>,
}

/// Term and index of a log's last entry: what candidates are compared by (Raft paper, section 5.4.1).
#[must_use]
pub fn last(log: &[Entry]) -> (Term, usize) {
    (log.last().map_or(Term(0), |entry| entry.term), log.len())
}

/// The newest configuration in a log, and how many entries there are up to and including it.
#[must_use]
pub fn newest_members(log: &[Entry]) -> (usize, Members) {
    let found = log.iter().enumerate().rev().find_map(|(at, entry)| match entry.content {
        Content::Members(members) => Some((at + 1, members)),
        Content::Plain(_) => None,
    });
    found.unwrap_or_default()
}

impl Server {
    /// It starts again, with so many changes that were not durable; its disk says that its log was committed so far. Whether
    /// that is true.
    fn restart(&mut self, past: Past<'_>, kept: usize, commit: usize) -> bool {
        (self.role, self.restoring, self.commit) = (Role::Follower, None, 0);
        let Some(disk) = &mut self.disk else { return true };
        (0..kept).for_each(|_| _ = disk.sync_one(past));
        disk.unsynced.clear();
        (disk.snapshot, disk.outside) = (disk.newest(past), None);
        self.term = disk.recovered_term(past);
        self.voted_for = disk.voted_for.filter(|_| self.term == disk.term);
        let (snapshot, recovered) = (disk.snapshot, disk.recovered(past).to_vec());
        self.commit = snapshot.through;
        if recovered == disk.log {
            self.log = recovered;
        } else {
            // What the snapshot contradicts is removed again.
            self.replace(snapshot, past);
        }
        let stored = snapshot.through;
        self.commit = stored.max(commit.min(self.log.len()));
        self.commit == stored || past.decided.get(stored..self.commit) == Some(&self.log[stored..self.commit])
    }

    /// The configuration in force, which is the last one in the log, and its index.
    #[must_use]
    pub fn members(&self) -> (usize, Members) {
        newest_members(&self.log)
    }

    fn note(&mut self, change: Change) {
        if let Some(disk) = &mut self.disk {
            disk.unsynced.push_back(change);
        }
    }

    pub(crate) fn vote(&mut self, term: Term, voted_for: Option<Node>) {
        (self.term, self.voted_for) = (term, voted_for);
        self.note(Change::Vote(term, voted_for));
    }

    pub(crate) fn truncate(&mut self, keep: usize) {
        self.log.truncate(keep);
        self.note(Change::Truncate(keep));
    }

    pub(crate) fn append(&mut self, entry: Entry) {
        self.log.push(entry);
        self.note(Change::Append(entry));
    }

    pub(crate) fn replace(&mut self, with: Prefix, past: Past<'_>) {
        self.log = past.entries(with).to_vec();
        self.note(Change::Replace(with));
    }
}

/// What a leader said in its term: all its requests to append are parts of this.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Led {
    /// Who led.
    pub leader: Node,
    /// The longest log that it sent.
    pub log: Vec<Entry>,
    /// The largest commit index that it sent.
    pub commit: usize,
}

/// Every message that was ever sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    /// Terms that any message named as its sender's.
    pub terms: BTreeSet<Term>,
    /// Requests for votes: term and candidate; the end of the candidate's log.
    pub campaigns: BTreeMap<(Term, Node), (Term, usize)>,
    /// Votes: term, voter, candidate. A candidate's vote for itself is one, too.
    pub votes: BTreeSet<(Term, Node, Node)>,
    /// Requests to append, and snapshots, by term.
    pub led: BTreeMap<Term, Led>,
    /// Acknowledgements: term and follower; how much of that term's leader's log it holds durably.
    pub held: BTreeMap<(Term, Node), usize>,
}

/// The rules that can be switched off, to see that something notices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// By counting, a leader commits entries of its own term only (Raft paper, section 5.4.2).
    pub own_term_commit: bool,
    /// A leader changes members only after it committed an entry of its own term (Ongaro, raft-dev 2015).
    pub own_term_before_change: bool,
    /// While joint, majorities of both sets of voters are needed (Raft paper, section 6).
    pub joint_needs_both: bool,
    /// A change waits until the one before it is committed (dissertation, section 4.1).
    pub one_change_at_a_time: bool,
    /// Without a joint configuration one vote changes hands at most (dissertation, section 4.1).
    pub one_server_at_a_time: bool,
    /// A voter refuses a candidate whose log is older than its own (Raft paper, section 5.4.1).
    pub newer_log_wins: bool,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            own_term_commit: true,
            own_term_before_change: true,
            joint_needs_both: true,
            one_change_at_a_time: true,
            one_server_at_a_time: true,
            newer_log_wins: true,
        }
    }
}

impl Rules {
    /// The names of the rules on the command line.
    pub const NAMES: [&'static str; 6] = [
        "own-term-commit",
        "own-term-before-change",
        "joint-needs-both",
        "one-change-at-a-time",
        "one-server-at-a-time",
        "newer-log-wins",
    ];

    /// These without one of them; `None` if no rule has that name.
    #[must_use]
    pub fn without(mut self, name: &str) -> Option<Self> {
        let rule = match name {
            "own-term-commit" => &mut self.own_term_commit,
            "own-term-before-change" => &mut self.own_term_before_change,
            "joint-needs-both" => &mut self.joint_needs_both,
            "one-change-at-a-time" => &mut self.one_change_at_a_time,
            "one-server-at-a-time" => &mut self.one_server_at_a_time,
            "newer-log-wins" => &mut self.newer_log_wins,
            _ => return None,
        };
        *rule = false;
        Some(self)
    }
}

/// Everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// All servers.
    pub servers: Vec<Server>,
    /// All messages.
    pub sent: Sent,
    /// What any server ever committed, in order. Not part of Raft: it is what the invariants speak of.
    pub decided: Vec<Entry>,
    /// In which leader's term each of them was committed.
    pub decided_in: Vec<Term>,
    /// What was before each snapshot from outside, with it, by the term and index of that.
    pub outside: BTreeMap<(Term, usize), Vec<Entry>>,
    /// A committed entry was different from the one decided before: state machine safety is broken.
    pub contradicted: bool,
    /// The first configuration, once a server was given one.
    pub first: Option<Members>,
}

impl State {
    /// Every history that a snapshot may stand for.
    #[must_use]
    pub fn past(&self) -> Past<'_> {
        Past { decided: &self.decided, outside: &self.outside }
    }

    /// The log of which a server can be sure after a crash.
    #[must_use]
    pub fn durable_log(&self, node: Node) -> &[Entry] {
        let server = &self.servers[node];
        server.disk.as_ref().map_or(&server.log, |disk| disk.recovered(self.past()))
    }

    /// The term and vote of which a server can be sure after a crash.
    #[must_use]
    pub fn durable_vote(&self, node: Node) -> (Term, Option<Node>) {
        let server = &self.servers[node];
        let Some(disk) = &server.disk else { return (server.term, server.voted_for) };
        let term = disk.recovered_term(self.past());
        (term, disk.voted_for.filter(|_| term == disk.term))
    }
}
