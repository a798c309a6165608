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

mod heard;

use std::collections::{BTreeMap, VecDeque};

use raft::core::{
    Effect, Event, Input, Outcome, Persisted, RaftCore, ReplyToken, Request, Response, Role as RealRole,
    SnapshotMeta, Write, WriteId,
};
use raft::{EntryId, Term};

use self::heard::{Heard, Part, entries_of, heard, part_of};
use super::lives::{Lives, ROOM, number_of};
use super::newest_members;
use super::{Action, Change, Content, Disk, Entry, Node, Role, Rules, Server, State, invariants, last};
use crate::check::Verdict;
use crate::disk::Disk as RealDisk;
use crate::server::Received;

/// The checker.
#[derive(Debug, Default)]
pub struct Trace {
    state: State,
    /// Who is who.
    lives: Lives,
    /// The disks that the operator has copied, and of which life.
    copies: BTreeMap<usize, (Node, Disk)>,
    /// For every server the writes under way, each with the number of changes in it.
    writes: BTreeMap<usize, VecDeque<(WriteId, usize)>>,
    off: bool,
}

fn index(id: EntryId) -> usize {
    usize::try_from(id.index.0).unwrap_or(usize::MAX)
}

const fn pair(id: EntryId) -> (Term, usize) {
    (id.term, id.index.0 as usize)
}

/// One step of a core, after it was made.
#[derive(Debug)]
pub struct Made<'a> {
    /// Whose.
    pub node: usize,
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

    /// Who a server is now.
    fn present(&mut self, server: usize) -> Node {
        if self.state.servers.is_empty() {
            let blank = Server { disk: Some(Disk::default()), ..Server::default() };
            self.state.servers.resize(ROOM, blank);
        }
        self.off |= self.lives.is_full();
        self.lives.present(server)
    }

    /// A server's disk is empty.
    pub fn wiped(&mut self, server: usize) {
        if !self.off {
            self.present(server);
            let node = self.lives.begins(server);
            self.state.servers[node] = Server { disk: Some(Disk::default()), ..Server::default() };
            self.writes.remove(&server);
            self.copies.remove(&server);
        }
    }

    /// Somebody copies a server's disk: what is durable, and whatever of the rest a crash has kept.
    pub fn copied(&mut self, server: usize) {
        let node = self.present(server);
        if let Some(disk) = &self.state.servers[node].disk {
            self.copies.insert(server, (node, disk.clone()));
        }
    }

    /// A server's disk is the one that was copied. What it said meanwhile stays said.
    pub fn put_back(&mut self, server: usize) {
        let node = self.present(server);
        match self.copies.remove(&server) {
            Some((of, disk)) if of == node => {
                self.state.servers[node] = Server { disk: Some(disk), ..Server::default() };
                self.writes.remove(&server);
            }
            // The copy is of a life that is over, or nobody knows what is in it.
            Some(_) | None => self.off = true,
        }
    }

    /// A server goes on as another one: with what it holds, and without anything that it has said.
    fn becomes(&mut self, (was, now): (Node, Node)) {
        if was != now {
            self.state.servers[now] = self.state.servers[was].clone();
        }
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
    pub fn stepped(&mut self, input: Option<&Input>, made: &Made<'_>) -> Verdict {
        if self.off {
            return Ok(());
        }
        self.present(made.node);
        for effect in made.effects {
            if let Effect::Notify(Event::StartedOver { incarnation }) = effect {
                let lives = self.lives.starts_over(made.node, *incarnation);
                self.becomes(lives);
            }
        }
        let node = self.present(made.node);
        let heard = input.map_or(Heard::Nothing, |input| heard(input, &mut self.lives));
        let written = made.write().map_or_else(Vec::new, |write| entries_of(&write.entries, &mut self.lives));
        let first = made.write().and_then(|write| write.entries.first()).map_or(0, |entry| index(entry.id));
        let mut step = Step { trace: self, made, node, written, first };
        step.takes_in(&heard)?;
        for effect in made.effects {
            step.does(effect)?;
        }
        step.appends(usize::MAX)?;
        step.shows_what_is_specified()?;
        self.notes_term_and_vote(made, node);
        self.notes_the_write(made, node)
    }

    /// Whoever writes its term and vote makes them durable, also those that a snapshot told it at a restart.
    fn notes_term_and_vote(&mut self, made: &Made<'_>, node: Node) {
        if made.write().is_none_or(|write| write.hard_state.is_none()) {
            return;
        }
        let server = &mut self.state.servers[node];
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

    fn notes_the_write(&mut self, made: &Made<'_>, node: Node) -> Verdict {
        let writes = self.writes.entry(made.node).or_default();
        let noted: usize = writes.iter().map(|(_, changes)| changes).sum();
        let pending = self.state.servers[node].disk.as_ref().map_or(0, |disk| disk.unsynced.len());
        match made.write() {
            Some(write) => writes.push_back((write.id, pending - noted)),
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
    pub fn synced(&mut self, server: usize, through: WriteId, real: &RealDisk) -> Verdict {
        if self.off {
            return Ok(());
        }
        let node = self.present(server);
        let mut changes = 0;
        let writes = self.writes.entry(server).or_default();
        while let Some((id, count)) = writes.front()
            && *id <= through
        {
            changes += count;
            writes.pop_front();
        }
        self.act(Action::Sync { node, changes })?;
        let Some(disk) = &self.state.servers[node].disk else { return Ok(()) };
        let vote = real.hard_state.voted_for.as_ref().map(number_of);
        let holds = (real.hard_state.term, vote, pair(real.log.last()));
        let voted_for = disk.voted_for.map(|node| self.lives.owner(node));
        let specified = (disk.term, voted_for, last(&disk.log));
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
    pub fn stored(&mut self, server: usize, meta: &SnapshotMeta) -> Verdict {
        if self.off {
            return Ok(());
        }
        let node = self.present(server);
        let end = pair(meta.last);
        self.act(Action::StoreSnapshot { node, end })?;
        let members = self.lives.members(&meta.configuration);
        let past = self.state.past();
        let decided = past.ending_in(end).map_or(&[][..], |prefix| past.entries(prefix));
        let named = (usize::try_from(meta.configuration_index.0).unwrap_or(0), members);
        if named != newest_members(decided) {
            return Err(format!("a snapshot of s{node} names {named:?}, not {:?}", newest_members(decided)));
        }
        Ok(())
    }

    /// A snapshot from outside is not on a server's disk, and never will be.
    ///
    /// # Errors
    /// None was on its way there.
    pub fn drops(&mut self, server: usize) -> Verdict {
        if self.off {
            return Ok(());
        }
        let node = self.present(server);
        self.act(Action::DropRestore { node })
    }

    /// A server starts from what its disk holds.
    ///
    /// # Errors
    /// That is not what was durable and the beginning of what was not.
    pub fn restarts(&mut self, server: usize, found: &Persisted) -> Verdict {
        if self.off {
            return Ok(());
        }
        self.present(server);
        let lives = self.lives.finds(server, found.hard_state.incarnation);
        self.becomes(lives);
        let node = lives.1;
        self.writes.remove(&server);
        let stored = found.snapshot.as_ref().map_or_else(Default::default, |meta| pair(meta.last));
        if let Some(meta) = &found.snapshot {
            self.stored(server, meta)?;
        }
        let Some(disk) = &self.state.servers[node].disk else { return Ok(()) };
        let durable = self.state.past().end(disk.newest(self.state.past()));
        if durable > stored {
            return Err(format!("s{node} finds the snapshot at {stored:?}, durable was {durable:?}"));
        }
        let entries = entries_of(&found.entries, &mut self.lives);
        let Some(disk) = &self.state.servers[node].disk else { return Ok(()) };
        let mut image = disk.clone();
        let mut kept = 0;
        while !is_what_was_found(&image, found, &entries, &self.lives) {
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

fn is_what_was_found(disk: &Disk, found: &Persisted, entries: &[Entry], lives: &Lives) -> bool {
    let vote = found.hard_state.voted_for.as_ref().map(number_of);
    let base = index(found.base);
    disk.term == found.hard_state.term
        && disk.voted_for.map(|node| lives.owner(node)) == vote
        && disk.log.len() == base + entries.len()
        && last(&disk.log[..base]) == pair(found.base)
        && disk.log[base..] == *entries
}

/// One step of a core while it is being explained.
struct Step<'t, 'm> {
    trace: &'t mut Trace,
    made: &'m Made<'m>,
    /// Who it is now.
    node: Node,
    /// The entries of the step's write.
    written: Vec<Entry>,
    /// The index of the first of them.
    first: usize,
}

impl Step<'_, '_> {
    fn spec(&self) -> &Server {
        &self.trace.state.servers[self.node]
    }

    fn act(&mut self, action: Action) -> Verdict {
        self.trace.act(action)
    }

    /// Takes in the message, if the core did.
    fn takes_in(&mut self, heard: &Heard) -> Verdict {
        let node = self.node;
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

    fn takes_in_campaign(&mut self, server: usize, term: Term, last: (Term, usize)) -> Verdict {
        let node = self.node;
        let Trace { state, lives, .. } = &*self.trace;
        let mut asked = state.sent.campaigns.range((term, 0)..=(term, ROOM));
        let Some(((_, candidate), _)) =
            asked.find(|((_, candidate), with)| lives.owner(*candidate) == server && **with == last)
        else {
            return Err(format!("s{node} is asked for a vote by s{server} in term {term}, who never asked"));
        };
        let candidate = *candidate;
        let hard_state = self.made.core.hard_state();
        let grants = hard_state.term == term
            && hard_state.voted_for.as_ref().map(number_of) == Some(server)
            && (self.spec().term, self.spec().voted_for) == (term, None);
        if grants { self.act(Action::HandleVote { node, candidate }) } else { Ok(()) }
    }

    fn takes_in_entries(&mut self, part: &Part) -> Verdict {
        let node = self.node;
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
        self.trace.lives.owner(led.leader) == part.leader
            && through <= led.log.len()
            && part.commit <= led.commit
            && last(&led.log[..after]) == part.after
            && led.log[after..through] == part.entries
    }

    /// Explains one effect.
    fn does(&mut self, effect: &Effect) -> Verdict {
        let node = self.node;
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
        let node = self.node;
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
        let node = self.node;
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
        let node = self.node;
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
        let server = self.trace.lives.owner(node);
        if let Some(part) = part_of(server, request, &mut self.trace.lives)
            && !self.was_sent(&part)
        {
            return Err(format!("s{node} sends {part:?}, which its log does not hold"));
        }
        self.speaks(request.term())
    }

    fn speaks(&mut self, term: Option<Term>) -> Verdict {
        let node = self.node;
        match term {
            None => Ok(()),
            Some(term) if term == self.spec().term => self.act(Action::Speak { node, term }),
            Some(term) => Err(format!("s{node} speaks in term {term}, but is in {}", self.spec().term)),
        }
    }

    fn answers(&mut self, received: &Received, response: &Response) -> Verdict {
        let node = self.node;
        if let Response::PreVote { term, .. } | Response::ReadIndex { term, .. } = response {
            // These may be of the term that is just over: they promise nothing that the specification knows of.
            return self.act(Action::Speak { node, term: *term });
        }
        self.speaks(response.term())?;
        match (&received.request, response) {
            (Request::Vote { .. }, Response::Vote { granted: true, .. }) => {
                let voted_for = self.spec().voted_for.map(|node| self.trace.lives.owner(node));
                if voted_for != Some(received.from) {
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
    fn shows_what_is_specified(&mut self) -> Verdict {
        let members = self.trace.lives.members(self.made.core.configuration());
        let (core, spec, node) = (self.made.core, self.spec(), self.node);
        let vote = core.hard_state().voted_for.as_ref().map(number_of);
        let shown =
            (core.term(), vote, core.role() == RealRole::Leader, pair(core.last()), core.commit_index().0);
        let voted_for = spec.voted_for.map(|node| self.trace.lives.owner(node));
        let specified =
            (spec.term, voted_for, spec.role == Role::Leader, last(&spec.log), spec.commit as u64);
        if shown != specified {
            return Err(format!(
                "s{node} shows {shown:?} (term, vote, leads, end of the log, commit), specified is {specified:?}"
            ));
        }
        let in_force = (core.configuration_index().0, members);
        let (at, specified) = spec.members();
        if in_force != (at as u64, specified) {
            return Err(format!("s{node} uses {in_force:?}, specified is {:?}", (at, specified)));
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
