//! Checks a run of the simulator against the specification: every event of every server is a step of it, or one in which
//! nothing changes.
//!
//! **How.** The checker keeps a [`State`] of its own beside the cores. What a core was given, what it did in answer and what
//! reached its disk are mapped to [`Action`]s; each must be [enabled](Action::enabled), and afterwards the core must show
//! what the specification holds: term, vote, leadership, log, commit index, configuration. A core may always do less than
//! it may, so a message that it ignores is a message that was lost.
//!
//! **Whose word counts.** Votes and acknowledgements are counted by what was sent, not by what a core says that it received;
//! what is durable, by the completed writes.

use std::collections::{BTreeMap, VecDeque};

use raft::core::{
    Effect, Entry as RealEntry, EntryKind, Event, Input, Outcome, Persisted, RaftCore, ReplyToken, Request,
    Response, Role as RealRole, SnapshotMeta, Write, WriteId,
};
use raft::{Configuration, EntryId, Server as Member, ServerId, Suffrage, Term};

use super::newest_members;
use super::{
    Action, Change, Content, Disk, Entry, Members, Node, Nodes, Role, Rules, Server, State, invariants, last,
};
use crate::check::Verdict;
use crate::disk::Disk as RealDisk;
use crate::random::{fold, fold_number};
use crate::server::Received;

/// What a core is about to be told, in the words of the specification.
#[derive(Clone, Debug)]
pub enum Heard {
    /// Nothing that the specification knows of.
    Nothing,
    /// Something of a server in this term.
    Term(Term),
    /// A vote.
    Vote {
        /// Who gave it.
        voter: Node,
        /// In which term.
        term: Term,
    },
    /// A request for a vote.
    Campaign {
        /// Who asks.
        candidate: Node,
        /// In which term.
        term: Term,
        /// How the candidate's log ends.
        last: (Term, usize),
    },
    /// A request to append.
    Append(Part),
    /// A snapshot.
    Snapshot {
        /// The leader's term.
        term: Term,
        /// The last entry in it.
        last: (Term, usize),
    },
    /// The first configuration.
    Bootstrap(Members),
}

/// A part of what a leader said.
#[derive(Clone, Debug)]
pub struct Part {
    leader: Node,
    term: Term,
    after: (Term, usize),
    entries: Vec<Entry>,
    commit: usize,
}

impl Part {
    const fn through(&self) -> usize {
        self.after.1 + self.entries.len()
    }
}

/// The checker.
#[derive(Debug, Default)]
pub struct Trace {
    state: State,
    /// For every server the writes under way, each with the number of changes in it.
    writes: Vec<VecDeque<(WriteId, usize)>>,
    off: bool,
}

fn index(id: EntryId) -> usize {
    usize::try_from(id.index.0).unwrap_or(usize::MAX)
}

const fn pair(id: EntryId) -> (Term, usize) {
    (id.term, id.index.0 as usize)
}

/// Servers are called `s0`, `s1` and so on.
fn node_of(id: &ServerId) -> Node {
    id.as_str().get(1..).and_then(|number| number.parse().ok()).unwrap_or(63)
}

fn members_of(configuration: &Configuration) -> Members {
    let set = |servers: &[Member], suffrage: Suffrage| {
        Nodes::of(
            servers.iter().filter(|server| server.suffrage == suffrage).map(|server| node_of(&server.id)),
        )
    };
    Members {
        voters: set(configuration.servers(), Suffrage::Voter),
        leaving: set(configuration.outgoing(), Suffrage::Voter),
        learners: set(configuration.servers(), Suffrage::Nonvoter),
    }
}

fn entry_of(entry: &RealEntry) -> Entry {
    let plain = |kind| Content::Plain(fold(fold(fold_number(0, kind), &entry.data), &entry.extensions));
    let content = match &entry.kind {
        EntryKind::Command => plain(1),
        EntryKind::Noop => plain(2),
        EntryKind::Barrier => plain(3),
        EntryKind::Configuration(configuration) => Content::Members(members_of(configuration)),
    };
    Entry { term: entry.id.term, content }
}

fn part_of(leader: Node, request: &Request) -> Option<Part> {
    let Request::Append { term, prev, entries, commit } = request else { return None };
    Some(Part {
        leader,
        term: *term,
        after: pair(*prev),
        entries: entries.iter().map(entry_of).collect(),
        commit: usize::try_from(commit.0).unwrap_or(usize::MAX),
    })
}

/// Says what an input means to the specification.
#[must_use]
pub fn heard(input: &Input) -> Heard {
    match input {
        Input::Request { from, request, .. } => {
            let node = node_of(&from.id);
            match request {
                Request::Vote { term, last, .. } => {
                    Heard::Campaign { candidate: node, term: *term, last: pair(*last) }
                }
                Request::Append { .. } => part_of(node, request).map_or(Heard::Nothing, Heard::Append),
                Request::Heartbeat { term, .. } => Heard::Term(*term),
                Request::InstallSnapshot { term, meta } => {
                    Heard::Snapshot { term: *term, last: pair(meta.last) }
                }
                Request::PreVote { .. } | Request::TimeoutNow { .. } | Request::ReadIndex => Heard::Nothing,
            }
        }
        Input::Response { from, response, .. } => match response {
            Response::Vote { term, granted: true, .. } => Heard::Vote { voter: node_of(from), term: *term },
            other => other.term().map_or(Heard::Nothing, Heard::Term),
        },
        Input::Bootstrap { configuration, .. } => Heard::Bootstrap(members_of(configuration)),
        _ => Heard::Nothing,
    }
}

impl Heard {
    const fn term(&self) -> Option<Term> {
        match self {
            Self::Term(term)
            | Self::Vote { term, .. }
            | Self::Campaign { term, .. }
            | Self::Append(Part { term, .. })
            | Self::Snapshot { term, .. } => Some(*term),
            Self::Nothing | Self::Bootstrap(_) => None,
        }
    }
}

/// One step of a core, after it was made.
#[derive(Debug)]
pub struct Made<'a> {
    /// Whose.
    pub node: Node,
    /// The core.
    pub core: &'a RaftCore,
    /// What it asked for, in order.
    pub effects: &'a [Effect],
    /// What it had been asked and not answered before.
    pub received: &'a BTreeMap<ReplyToken, Received>,
}

impl Made<'_> {
    fn write(&self) -> Option<&Write> {
        self.effects.iter().find_map(|effect| match effect {
            Effect::Persist(write) => Some(write),
            _ => None,
        })
    }
}

impl Trace {
    /// Stops checking: somebody says what no server would, which only directed scenarios do.
    pub const fn stop(&mut self) {
        self.off = true;
    }

    /// Whether it still checks.
    #[must_use]
    pub const fn is_on(&self) -> bool {
        !self.off
    }

    fn server(&mut self, node: Node) -> &mut Server {
        while self.state.servers.len() <= node {
            self.state.servers.push(Server { disk: Some(Disk::default()), ..Server::default() });
            self.writes.push(VecDeque::new());
        }
        &mut self.state.servers[node]
    }

    fn act(&mut self, action: Action) -> Verdict {
        let rules = Rules::default();
        action.enabled(&self.state, rules).map_err(|rule| {
            let server = &self.state.servers[action.node()];
            let (term, role, end) = (server.term, server.role, server.log.len());
            format!("s{}, {role:?} in term {term} with {end} entries, does {action:?}: {rule}", action.node())
        })?;
        action.apply(&mut self.state);
        let harm = match action {
            Action::BecomeLeader { .. } => invariants::of_a_leader(&self.state),
            Action::AdvanceCommit { .. } | Action::Restart { .. } => invariants::of_a_commit(&self.state),
            _ => None,
        };
        harm.map_or(Ok(()), Err)
    }

    /// Judges one step of a core.
    ///
    /// # Errors
    /// What the specification does not allow.
    pub fn stepped(&mut self, heard: &Heard, made: &Made<'_>) -> Verdict {
        if self.off {
            return Ok(());
        }
        self.server(made.node);
        let written: Vec<Entry> =
            made.write().map_or_else(Vec::new, |write| write.entries.iter().map(entry_of).collect());
        let first = made.write().and_then(|write| write.entries.first()).map_or(0, |entry| index(entry.id));
        let mut step = Step { trace: self, made, written, first };
        step.takes_in(heard)?;
        for effect in made.effects {
            step.does(effect)?;
        }
        step.appends(usize::MAX)?;
        step.shows_what_is_specified()?;
        self.notes_term_and_vote(made);
        self.notes_the_write(made)
    }

    /// Whoever writes its term and vote makes them durable, also those that a snapshot told it at a restart.
    fn notes_term_and_vote(&mut self, made: &Made<'_>) {
        if made.write().is_none_or(|write| write.hard_state.is_none()) {
            return;
        }
        let server = &mut self.state.servers[made.node];
        let now = (server.term, server.voted_for);
        let Some(disk) = &server.disk else { return };
        let noted = disk.unsynced.iter().rev().find_map(|change| match change {
            Change::Vote(term, vote) => Some((*term, *vote)),
            _ => None,
        });
        if noted.unwrap_or((disk.term, disk.voted_for)) != now {
            server.vote(now.0, now.1);
        }
    }

    fn notes_the_write(&mut self, made: &Made<'_>) -> Verdict {
        let noted: usize = self.writes[made.node].iter().map(|(_, changes)| changes).sum();
        let pending = self.state.servers[made.node].disk.as_ref().map_or(0, |disk| disk.unsynced.len());
        match made.write() {
            Some(write) => self.writes[made.node].push_back((write.id, pending - noted)),
            None if pending > noted => {
                return Err(format!("s{} changes term, vote or log and writes nothing", made.node));
            }
            None => {}
        }
        Ok(())
    }

    /// Writes are durable.
    ///
    /// # Errors
    /// The disk holds something else than the specification.
    pub fn synced(&mut self, node: Node, through: WriteId, real: &RealDisk) -> Verdict {
        if self.off {
            return Ok(());
        }
        self.server(node);
        let mut changes = 0;
        while let Some((id, count)) = self.writes[node].front()
            && *id <= through
        {
            changes += count;
            self.writes[node].pop_front();
        }
        self.act(Action::Sync { node, changes })?;
        let Some(disk) = &self.state.servers[node].disk else { return Ok(()) };
        let vote = real.hard_state.voted_for.as_ref().map(node_of);
        let holds = (real.hard_state.term, vote, pair(real.log.last()));
        let specified = (disk.term, disk.voted_for, last(&disk.log));
        if holds == specified {
            return Ok(());
        }
        Err(format!(
            "the disk of s{node} holds {holds:?} (term, vote, end of the log), specified is {specified:?}"
        ))
    }

    /// A snapshot is durable.
    ///
    /// # Errors
    /// It is not one of decided entries with the configuration among them.
    pub fn stored(&mut self, node: Node, meta: &SnapshotMeta) -> Verdict {
        if self.off {
            return Ok(());
        }
        self.server(node);
        let end = pair(meta.last);
        self.act(Action::StoreSnapshot { node, end })?;
        let past = self.state.past();
        let decided = past.ending_in(end).map_or(&[][..], |prefix| past.entries(prefix));
        let named =
            (usize::try_from(meta.configuration_index.0).unwrap_or(0), members_of(&meta.configuration));
        if named != newest_members(decided) {
            return Err(format!("a snapshot of s{node} names {named:?}, not {:?}", newest_members(decided)));
        }
        Ok(())
    }

    /// A snapshot from outside is not on a server's disk, and never will be.
    ///
    /// # Errors
    /// None was on its way there.
    pub fn drops(&mut self, node: Node) -> Verdict {
        if self.off {
            return Ok(());
        }
        self.server(node);
        self.act(Action::DropRestore { node })
    }

    /// A server starts from what its disk holds.
    ///
    /// # Errors
    /// That is not what was durable and the beginning of what was not.
    pub fn restarts(&mut self, node: Node, found: &Persisted) -> Verdict {
        if self.off {
            return Ok(());
        }
        self.server(node);
        self.writes[node].clear();
        let stored = found.snapshot.as_ref().map_or_else(Default::default, |meta| pair(meta.last));
        if let Some(meta) = &found.snapshot {
            self.stored(node, meta)?;
        }
        let Some(disk) = &self.state.servers[node].disk else { return Ok(()) };
        let durable = self.state.past().end(disk.newest(self.state.past()));
        if durable > stored {
            return Err(format!("s{node} finds the snapshot at {stored:?}, durable was {durable:?}"));
        }
        let entries: Vec<Entry> = found.entries.iter().map(entry_of).collect();
        let mut image = disk.clone();
        let mut kept = 0;
        while !is_what_was_found(&image, found, &entries) {
            if !image.sync_one(self.state.past()) {
                let end =
                    entries.last().map_or(found.base.index.0, |_| found.base.index.0 + entries.len() as u64);
                return Err(format!(
                    "s{node} finds {:?} and a log that ends at {end}, which is nothing that it wrote",
                    found.hard_state
                ));
            }
            kept += 1;
        }
        let commit = usize::try_from(found.commit.0).unwrap_or(usize::MAX);
        self.act(Action::Restart { node, kept, commit })
    }
}

fn is_what_was_found(disk: &Disk, found: &Persisted, entries: &[Entry]) -> bool {
    let vote = found.hard_state.voted_for.as_ref().map(node_of);
    let base = index(found.base);
    disk.term == found.hard_state.term
        && disk.voted_for == vote
        && disk.log.len() == base + entries.len()
        && last(&disk.log[..base]) == pair(found.base)
        && disk.log[base..] == *entries
}

/// One step of a core while it is being explained.
struct Step<'t, 'm> {
    trace: &'t mut Trace,
    made: &'m Made<'m>,
    /// The entries of the step's write.
    written: Vec<Entry>,
    /// The index of the first of them.
    first: usize,
}

impl Step<'_, '_> {
    fn spec(&self) -> &Server {
        &self.trace.state.servers[self.made.node]
    }

    fn act(&mut self, action: Action) -> Verdict {
        self.trace.act(action)
    }

    /// Takes in the message, if the core did.
    fn takes_in(&mut self, heard: &Heard) -> Verdict {
        let node = self.made.node;
        if let Some(term) = heard.term().filter(|term| *term > self.spec().term) {
            let adopts = |effect: &Effect| matches!(effect, Effect::Notify(Event::Role { role: RealRole::Follower, term: to }) if *to == term);
            if self.made.effects.iter().any(adopts) {
                self.act(Action::UpdateTerm { node, term })?;
            }
        }
        match heard {
            Heard::Nothing | Heard::Term(_) => Ok(()),
            Heard::Bootstrap(members) => {
                let takes = self.spec().log.is_empty() && self.made.core.last().index.0 == 1;
                if takes { self.act(Action::Bootstrap { node, members: *members }) } else { Ok(()) }
            }
            Heard::Vote { voter, term } => {
                if self.trace.state.sent.votes.contains(&(*term, *voter, node)) {
                    return Ok(());
                }
                Err(format!("s{node} receives a vote of s{voter} in term {term} that was never sent"))
            }
            Heard::Campaign { candidate, term, last } => self.takes_in_campaign(*candidate, *term, *last),
            Heard::Append(part) => self.takes_in_entries(part),
            Heard::Snapshot { term, last } => {
                let restores = |effect: &Effect| matches!(effect, Effect::Restore { .. });
                if !self.made.effects.iter().any(restores) {
                    return Ok(());
                }
                self.act(Action::InstallSnapshot { node, term: *term, through: last.1 })
            }
        }
    }

    fn takes_in_campaign(&mut self, candidate: Node, term: Term, last: (Term, usize)) -> Verdict {
        let node = self.made.node;
        if self.trace.state.sent.campaigns.get(&(term, candidate)) != Some(&last) {
            return Err(format!(
                "s{node} is asked for a vote by s{candidate} in term {term}, who never asked"
            ));
        }
        let hard_state = self.made.core.hard_state();
        let grants = hard_state.term == term
            && hard_state.voted_for.as_ref().map(node_of) == Some(candidate)
            && (self.spec().term, self.spec().voted_for) == (term, None);
        if grants { self.act(Action::HandleVote { node, candidate }) } else { Ok(()) }
    }

    fn takes_in_entries(&mut self, part: &Part) -> Verdict {
        let node = self.made.node;
        if !self.was_sent(part) {
            return Err(format!("s{node} is asked to append {part:?}, which nobody sent"));
        }
        let commit = self.made.effects.iter().find_map(|effect| match effect {
            Effect::Commit { through } => usize::try_from(through.0).ok(),
            _ => None,
        });
        let changes = self.made.write().is_some_and(|w| w.truncate_from.is_some() || !w.entries.is_empty());
        let follows = self.spec().term == part.term && self.spec().role != Role::Leader;
        if !follows || (commit.is_none() && !changes) {
            return Ok(());
        }
        let commit = commit.unwrap_or_else(|| self.spec().commit);
        let after = part.after.1;
        // A server without memory for more commits what it holds of the message: it might have come that short.
        let held = usize::try_from(self.made.core.last().index.0).unwrap_or(usize::MAX);
        let through = part.through().min(held).max(after);
        self.act(Action::HandleAppend { node, term: part.term, after, through, commit })
    }

    fn was_sent(&self, part: &Part) -> bool {
        let Some(led) = self.trace.state.sent.led.get(&part.term) else { return false };
        let (after, through) = (part.after.1, part.through());
        led.leader == part.leader
            && through <= led.log.len()
            && part.commit <= led.commit
            && last(&led.log[..after]) == part.after
            && led.log[after..through] == part.entries
    }

    /// Explains one effect.
    fn does(&mut self, effect: &Effect) -> Verdict {
        let node = self.made.node;
        match effect {
            Effect::Notify(Event::Role { role, term }) => self.turns(*role, *term),
            Effect::Notify(Event::Configuration { index }) => {
                self.appends(usize::try_from(index.0).unwrap_or(usize::MAX))
            }
            Effect::Commit { through } => {
                let to = usize::try_from(through.0).unwrap_or(usize::MAX);
                self.appends(to)?;
                if self.spec().commit == to { Ok(()) } else { self.act(Action::AdvanceCommit { node, to }) }
            }
            Effect::Resolve { outcome: Outcome::RestoreBegun { meta }, .. } => {
                self.act(Action::BeginRestore { node, through: index(meta.last) })
            }
            Effect::Restore { meta } if self.spec().restoring == Some(index(meta.last)) => {
                self.act(Action::TakeRestore { node })
            }
            Effect::Send { request, .. } => self.sends(request),
            Effect::Respond { reply, response } => match self.made.received.get(reply) {
                Some(received) => self.answers(received, response),
                None => Ok(()),
            },
            _ => Ok(()),
        }
    }

    fn turns(&mut self, role: RealRole, term: Term) -> Verdict {
        let node = self.made.node;
        let (known, was) = (self.spec().term, self.spec().role);
        match role {
            RealRole::Leader => {
                let own = (known, node, node);
                if !self.trace.state.sent.votes.contains(&own) {
                    self.act(Action::RequestVote { node })?;
                }
                self.act(Action::BecomeLeader { node })
            }
            RealRole::Candidate if term > known => self.act(Action::Timeout { node }),
            RealRole::Follower if term > known => self.act(Action::UpdateTerm { node, term }),
            RealRole::Follower if was != Role::Follower => {
                self.appends(usize::MAX)?;
                self.act(Action::StepDown { node })
            }
            // Asking for pre-votes changes nothing.
            RealRole::Candidate | RealRole::Follower => Ok(()),
        }
    }

    /// A leader appends what it writes in this step, up to an index.
    fn appends(&mut self, through: usize) -> Verdict {
        let node = self.made.node;
        while self.spec().role == Role::Leader {
            let next = self.spec().log.len() + 1;
            let entry = next.checked_sub(self.first).and_then(|at| self.written.get(at)).copied();
            let Some(entry) = entry.filter(|_| self.first > 0 && next <= through) else { return Ok(()) };
            if entry.term != self.spec().term {
                return Err(format!(
                    "s{node} appends an entry of term {} in {}",
                    entry.term,
                    self.spec().term
                ));
            }
            let (_, present) = self.spec().members();
            self.act(match entry.content {
                Content::Plain(content) => Action::ClientRequest { node, content },
                Content::Members(members) if present.is_joint() && !members.is_joint() => {
                    if members.voters != present.voters {
                        return Err(format!("s{node} leaves {present:?} for {members:?}"));
                    }
                    Action::LeaveJoint { node }
                }
                Content::Members(members) => Action::ChangeConfiguration { node, members },
            })?;
        }
        Ok(())
    }

    fn sends(&mut self, request: &Request) -> Verdict {
        let node = self.made.node;
        match request {
            Request::PreVote { .. } => return Ok(()),
            Request::Vote { term, last, .. } => {
                let asks = (*term, pair(*last));
                if asks != (self.spec().term, self.spec().asked_with) {
                    return Err(format!("s{node} asks for votes with {asks:?}: {:?}", self.spec()));
                }
                return self.act(Action::RequestVote { node });
            }
            Request::Append { .. } | Request::InstallSnapshot { .. } => {
                self.appends(usize::MAX)?;
                self.act(Action::AppendEntries { node })?;
            }
            Request::Heartbeat { .. } | Request::TimeoutNow { .. } | Request::ReadIndex => {}
        }
        if let Some(part) = part_of(node, request)
            && !self.was_sent(&part)
        {
            return Err(format!("s{node} sends {part:?}, which its log does not hold"));
        }
        self.speaks(request.term())
    }

    fn speaks(&mut self, term: Option<Term>) -> Verdict {
        let node = self.made.node;
        match term {
            None => Ok(()),
            Some(term) if term == self.spec().term => self.act(Action::Speak { node, term }),
            Some(term) => Err(format!("s{node} speaks in term {term}, but is in {}", self.spec().term)),
        }
    }

    fn answers(&mut self, received: &Received, response: &Response) -> Verdict {
        let node = self.made.node;
        if let Response::PreVote { term, .. } | Response::ReadIndex { term, .. } = response {
            // These may be of the term that is just over: they promise nothing that the specification knows of.
            return self.act(Action::Speak { node, term: *term });
        }
        self.speaks(response.term())?;
        match (&received.request, response) {
            (Request::Vote { .. }, Response::Vote { granted: true, .. }) => {
                if self.spec().voted_for != Some(received.from) {
                    return Err(format!("s{node} grants s{} a vote that it did not give", received.from));
                }
                self.act(Action::SendVote { node })
            }
            (Request::Append { prev, entries, .. }, Response::Append { success: true, .. }) => {
                self.act(Action::Acknowledge { node, through: index(*prev) + entries.len() })
            }
            (Request::InstallSnapshot { meta, .. }, Response::InstallSnapshot { success: true, .. }) => {
                self.act(Action::Acknowledge { node, through: index(meta.last) })
            }
            _ => Ok(()),
        }
    }

    /// The core shows what the specification holds.
    fn shows_what_is_specified(&self) -> Verdict {
        let (core, spec, node) = (self.made.core, self.spec(), self.made.node);
        let vote = core.hard_state().voted_for.as_ref().map(node_of);
        let shown =
            (core.term(), vote, core.role() == RealRole::Leader, pair(core.last()), core.commit_index().0);
        let specified =
            (spec.term, spec.voted_for, spec.role == Role::Leader, last(&spec.log), spec.commit as u64);
        if shown != specified {
            return Err(format!(
                "s{node} shows {shown:?} (term, vote, leads, end of the log, commit), specified is {specified:?}"
            ));
        }
        let in_force = (core.configuration_index().0, members_of(core.configuration()));
        let (at, members) = spec.members();
        if in_force != (at as u64, members) {
            return Err(format!("s{node} uses {in_force:?}, specified is {:?}", (at, members)));
        }
        let from = self.first.max(1) - 1;
        if !self.written.is_empty() && spec.log.get(from..) != Some(&self.written[..]) {
            return Err(format!(
                "s{node} writes entries from {} that are not the specified ones",
                self.first
            ));
        }
        Ok(())
    }
}
