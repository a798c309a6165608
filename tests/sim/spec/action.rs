//! The actions: when each may happen, and what it does.

use raft::Term;

use super::{
    Content, Entry, Led, Members, NOTHING, Node, OUTSIDE, Past, Prefix, Role, Rules, Server, State, last,
    newest_members,
};

/// One step of the specification.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// An empty server is given the first configuration.
    Bootstrap {
        /// Which server.
        node: Node,
        /// The configuration.
        members: Members,
    },
    /// A server begins a campaign: the next term, and a vote for itself.
    Timeout {
        /// Which server.
        node: Node,
    },
    /// A candidate asks for votes, and its own vote counts. Its requests may also leave after it met a leader.
    RequestVote {
        /// Which candidate.
        node: Node,
    },
    /// A server hears of a newer term.
    UpdateTerm {
        /// Which server.
        node: Node,
        /// The term.
        term: Term,
    },
    /// A server says something that names its term.
    Speak {
        /// Which server.
        node: Node,
        /// The term.
        term: Term,
    },
    /// A server takes in a request for its vote, and grants it.
    HandleVote {
        /// The voter.
        node: Node,
        /// The candidate.
        candidate: Node,
    },
    /// A vote is sent.
    SendVote {
        /// The voter.
        node: Node,
    },
    /// A candidate has a majority of votes.
    BecomeLeader {
        /// Which candidate.
        node: Node,
    },
    /// A leader or candidate gives up.
    StepDown {
        /// Which server.
        node: Node,
    },
    /// A leader appends anything but a configuration.
    ClientRequest {
        /// Which leader.
        node: Node,
        /// What tells it from other entries.
        content: u64,
    },
    /// A leader appends a configuration: one server more or less, or a joint one.
    ChangeConfiguration {
        /// Which leader.
        node: Node,
        /// The configuration.
        members: Members,
    },
    /// A leader leaves a joint configuration.
    LeaveJoint {
        /// Which leader.
        node: Node,
    },
    /// A leader sends what its log holds and what is committed.
    AppendEntries {
        /// Which leader.
        node: Node,
    },
    /// A server takes in a request to append.
    HandleAppend {
        /// Which server.
        node: Node,
        /// The leader's term.
        term: Term,
        /// How many entries come before the request's first.
        after: usize,
        /// How many entries there are up to its last.
        through: usize,
        /// The commit index that the server takes from it.
        commit: usize,
    },
    /// A server acknowledges that it holds this much of the leader's log durably.
    Acknowledge {
        /// Which server.
        node: Node,
        /// How many entries.
        through: usize,
    },
    /// A leader commits by counting.
    AdvanceCommit {
        /// Which leader.
        node: Node,
        /// The commit index.
        to: usize,
    },
    /// Changes reach the disk.
    Sync {
        /// Whose.
        node: Node,
        /// How many.
        changes: usize,
    },
    /// A snapshot of decided entries is durable, or one from outside.
    StoreSnapshot {
        /// Where.
        node: Node,
        /// The term and the index of its last entry.
        end: (Term, usize),
    },
    /// A leader begins to store a snapshot from outside, which is to be the state of the cluster.
    BeginRestore {
        /// Which leader.
        node: Node,
        /// Where it is to stand: above the log.
        through: usize,
    },
    /// It is durable, and becomes the leader's state.
    TakeRestore {
        /// Which leader.
        node: Node,
    },
    /// It is not on the disk, and never will be.
    DropRestore {
        /// Which server.
        node: Node,
    },
    /// A server takes a leader's snapshot, which is durable already, in place of its log's beginning.
    InstallSnapshot {
        /// Which server.
        node: Node,
        /// The leader's term.
        term: Term,
        /// How many entries it holds.
        through: usize,
    },
    /// A server crashes and starts again.
    Restart {
        /// Which server.
        node: Node,
        /// How many of the changes that were not durable are on its disk all the same.
        kept: usize,
        /// How far its disk says that its log was committed.
        commit: usize,
    },
}

/// Why an action may not happen.
pub type Refusal = &'static str;

fn need(holds: bool, otherwise: Refusal) -> Result<(), Refusal> {
    if holds { Ok(()) } else { Err(otherwise) }
}

impl Action {
    /// The server that acts.
    #[must_use]
    pub const fn node(self) -> Node {
        match self {
            Self::Bootstrap { node, .. }
            | Self::Timeout { node }
            | Self::RequestVote { node }
            | Self::UpdateTerm { node, .. }
            | Self::Speak { node, .. }
            | Self::HandleVote { node, .. }
            | Self::SendVote { node }
            | Self::BecomeLeader { node }
            | Self::StepDown { node }
            | Self::ClientRequest { node, .. }
            | Self::ChangeConfiguration { node, .. }
            | Self::LeaveJoint { node }
            | Self::AppendEntries { node }
            | Self::HandleAppend { node, .. }
            | Self::Acknowledge { node, .. }
            | Self::AdvanceCommit { node, .. }
            | Self::Sync { node, .. }
            | Self::StoreSnapshot { node, .. }
            | Self::BeginRestore { node, .. }
            | Self::TakeRestore { node }
            | Self::DropRestore { node }
            | Self::InstallSnapshot { node, .. }
            | Self::Restart { node, .. } => node,
        }
    }

    /// Whether it may happen.
    ///
    /// # Errors
    /// The rule that forbids it.
    pub fn enabled(self, state: &State, rules: Rules) -> Result<(), Refusal> {
        let server = &state.servers[self.node()];
        match self {
            Self::Bootstrap { members, .. } => {
                need(
                    server.log.is_empty() && server.term == Term(0),
                    "only an empty server is bootstrapped",
                )?;
                need(
                    state.first.is_none_or(|first| first == members),
                    "all start with the same configuration",
                )
            }
            Self::Timeout { node } => {
                need(server.role != Role::Leader, "a leader does not campaign")?;
                need(server.restoring.is_none(), FENCED)?;
                need(may_campaign(server, node), "only voters campaign")
            }
            Self::RequestVote { node } => {
                let own = (server.term, Some(node));
                need(state.durable_vote(node) == own, "its term and its vote for itself are durable first")
            }
            Self::UpdateTerm { term, .. } => {
                need(term > server.term, "terms only grow")?;
                need(state.sent.terms.contains(&term), "nobody ever spoke in that term")
            }
            Self::Speak { node, term } => {
                need(term <= server.term, "nobody speaks in a term that it never entered")?;
                need(state.durable_vote(node).0 >= term, DURABLE_TERM)
            }
            Self::HandleVote { candidate, .. } => may_vote(state, server, candidate, rules),
            Self::SendVote { node } => {
                need(server.voted_for.is_some(), "a vote is for somebody")?;
                let vote = (server.term, server.voted_for);
                need(state.durable_vote(node) == vote, "a vote is durable before it is sent")
            }
            Self::BecomeLeader { node } => {
                need(server.role == Role::Candidate, "only a candidate becomes leader")?;
                let has = |voter| state.sent.votes.contains(&(server.term, voter, node));
                let (_, members) = server.members();
                need(members.agreed(rules, has), "it takes votes of a majority of every electorate")
            }
            Self::StepDown { .. } => need(server.role != Role::Follower, "it follows already"),
            Self::ClientRequest { .. }
            | Self::ChangeConfiguration { .. }
            | Self::LeaveJoint { .. }
            | Self::AppendEntries { .. }
            | Self::HandleAppend { .. }
            | Self::Acknowledge { .. }
            | Self::AdvanceCommit { .. } => self.enabled_on_logs(state, rules),
            Self::Sync { .. }
            | Self::StoreSnapshot { .. }
            | Self::InstallSnapshot { .. }
            | Self::BeginRestore { .. }
            | Self::TakeRestore { .. }
            | Self::DropRestore { .. }
            | Self::Restart { .. } => self.enabled_on_disks(state),
        }
    }

    /// The same for what is about logs.
    fn enabled_on_logs(self, state: &State, rules: Rules) -> Result<(), Refusal> {
        let server = &state.servers[self.node()];
        match self {
            Self::ClientRequest { .. } => {
                need(server.role == Role::Leader, "only a leader appends")?;
                need(
                    server.restoring.is_none(),
                    "nothing is appended while a snapshot from outside is stored",
                )
            }
            Self::ChangeConfiguration { members, .. } => may_change(server, members, rules),
            Self::LeaveJoint { .. } => {
                let (index, members) = server.members();
                need(server.role == Role::Leader, "only a leader changes members")?;
                need(members.is_joint(), "the configuration is not joint")?;
                need(index <= server.commit, "a joint configuration is left after it is committed")?;
                need(has_committed(server) || !rules.own_term_before_change, NO_OWN_COMMIT)
            }
            Self::AppendEntries { node } => {
                need(server.role == Role::Leader, "only a leader sends entries")?;
                let led = state.sent.led.get(&server.term);
                need(led.is_none_or(|led| led.leader == node), "a term has one leader")?;
                need(state.durable_vote(node).0 >= server.term, DURABLE_TERM)
            }
            Self::HandleAppend { term, after, through, commit, .. } => {
                need(server.restoring.is_none(), FENCED)?;
                may_append(state, server, term, after, through, commit)
            }
            Self::Acknowledge { node, through } => {
                let Some(led) = state.sent.led.get(&server.term) else {
                    return Err("its term has no leader");
                };
                let equal = match through.checked_sub(1) {
                    None => true,
                    Some(at) => match (led.log.get(at), state.durable_log(node).get(at)) {
                        (Some(theirs), Some(own)) => theirs == own,
                        _ => false,
                    },
                };
                need(equal, "entries are durable before they are acknowledged, and equal to the leader's")?;
                need(server.restoring.is_none(), FENCED)?;
                need(state.durable_vote(node).0 >= server.term, DURABLE_TERM)
            }
            Self::AdvanceCommit { node, to } => may_commit(state, node, to, rules),
            Self::Bootstrap { .. }
            | Self::Timeout { .. }
            | Self::RequestVote { .. }
            | Self::UpdateTerm { .. }
            | Self::Speak { .. }
            | Self::HandleVote { .. }
            | Self::SendVote { .. }
            | Self::BecomeLeader { .. }
            | Self::StepDown { .. }
            | Self::Sync { .. }
            | Self::StoreSnapshot { .. }
            | Self::InstallSnapshot { .. }
            | Self::BeginRestore { .. }
            | Self::TakeRestore { .. }
            | Self::DropRestore { .. }
            | Self::Restart { .. } => unreachable!("{self:?} is not about logs"),
        }
    }

    /// The same for disks, snapshots and starts.
    fn enabled_on_disks(self, state: &State) -> Result<(), Refusal> {
        let server = &state.servers[self.node()];
        match self {
            Self::Sync { changes, .. } => {
                let pending = server.disk.as_ref().map_or(0, |disk| disk.unsynced.len());
                need(changes <= pending, "nothing is made durable that did not change")
            }
            Self::StoreSnapshot { end, .. } => {
                let known = state.past().ending_in(end).is_some();
                need(known, "a snapshot holds committed entries only, or is from outside")
            }
            Self::BeginRestore { through, .. } => {
                let (index, members) = server.members();
                need(server.role == Role::Leader, "only a leader restores")?;
                need(has_committed(server), NO_OWN_COMMIT)?;
                need(index <= server.commit && !members.is_joint(), "the change before is not over")?;
                need(server.restoring.is_none(), "one restore at a time")?;
                need(through > server.log.len(), "a snapshot from outside stands above the log")
            }
            Self::TakeRestore { .. } => {
                let end = server.restoring.map(|through| (server.term, through));
                let outside = server.disk.as_ref().and_then(|disk| disk.outside);
                let stored = server.disk.is_none() || outside.and_then(|outside| outside.outside) == end;
                need(
                    server.role == Role::Leader && end.is_some(),
                    "its leader is storing none in this term",
                )?;
                need(stored, "a snapshot is durable before it replaces the log")
            }
            Self::DropRestore { .. } => need(server.restoring.is_some(), "nothing is being restored"),
            Self::InstallSnapshot { term, through, .. } => {
                let Some(led) = state.sent.led.get(&term) else { return Err("nobody sent that snapshot") };
                need(
                    term == server.term && server.role != Role::Leader,
                    "it follows the leader of its term",
                )?;
                need(server.restoring.is_none(), FENCED)?;
                need(through <= led.commit, "a leader sends what it knows to be committed")?;
                need(through > server.commit, "an older snapshot changes nothing")?;
                let stored = server
                    .disk
                    .as_ref()
                    .is_none_or(|disk| state.past().end(disk.snapshot) >= last(&led.log[..through]));
                need(stored, "a snapshot is durable before it replaces the log")
            }
            Self::Restart { kept, .. } => {
                let pending = server.disk.as_ref().map_or(0, |disk| disk.unsynced.len());
                need(kept <= pending, "a crash keeps no more than there was")
            }
            Self::Bootstrap { .. }
            | Self::Timeout { .. }
            | Self::RequestVote { .. }
            | Self::UpdateTerm { .. }
            | Self::Speak { .. }
            | Self::HandleVote { .. }
            | Self::SendVote { .. }
            | Self::BecomeLeader { .. }
            | Self::StepDown { .. }
            | Self::ClientRequest { .. }
            | Self::ChangeConfiguration { .. }
            | Self::LeaveJoint { .. }
            | Self::AppendEntries { .. }
            | Self::HandleAppend { .. }
            | Self::Acknowledge { .. }
            | Self::AdvanceCommit { .. } => unreachable!("{self:?} is not about disks"),
        }
    }

    /// Lets it happen. Call [`Action::enabled`] first.
    pub fn apply(self, state: &mut State) {
        let State { servers, sent, .. } = state;
        let server = &mut servers[self.node()];
        match self {
            Self::Bootstrap { members, .. } => {
                server.vote(Term(1), None);
                server.append(Entry { term: Term(1), content: Content::Members(members) });
                sent.terms.insert(Term(1));
                state.first = Some(members);
            }
            Self::Timeout { node } => {
                server.role = Role::Candidate;
                server.asked_with = last(&server.log);
                server.vote(Term(server.term.0 + 1), Some(node));
            }
            Self::RequestVote { node } => {
                sent.terms.insert(server.term);
                sent.campaigns.insert((server.term, node), server.asked_with);
                sent.votes.insert((server.term, node, node));
            }
            Self::UpdateTerm { term, .. } => {
                server.role = Role::Follower;
                server.vote(term, None);
            }
            Self::Speak { term, .. } => _ = sent.terms.insert(term),
            Self::HandleVote { candidate, .. } => {
                if server.voted_for.is_none() {
                    server.vote(server.term, Some(candidate));
                }
            }
            Self::SendVote { node } => {
                sent.votes.extend(server.voted_for.map(|candidate| (server.term, node, candidate)));
            }
            Self::BecomeLeader { .. } => server.role = Role::Leader,
            Self::StepDown { .. } => server.role = Role::Follower,
            Self::ClientRequest { .. }
            | Self::ChangeConfiguration { .. }
            | Self::LeaveJoint { .. }
            | Self::AppendEntries { .. }
            | Self::HandleAppend { .. }
            | Self::Acknowledge { .. }
            | Self::AdvanceCommit { .. } => self.apply_to_logs(state),
            Self::Sync { .. }
            | Self::StoreSnapshot { .. }
            | Self::InstallSnapshot { .. }
            | Self::BeginRestore { .. }
            | Self::TakeRestore { .. }
            | Self::DropRestore { .. }
            | Self::Restart { .. } => self.apply_to_disks(state),
        }
    }

    fn apply_to_logs(self, state: &mut State) {
        let State { servers, sent, decided, decided_in, .. } = state;
        let server = &mut servers[self.node()];
        match self {
            Self::ClientRequest { content, .. } => {
                server.append(Entry { term: server.term, content: Content::Plain(content) });
            }
            Self::ChangeConfiguration { members, .. } => {
                server.append(Entry { term: server.term, content: Content::Members(members) });
            }
            Self::LeaveJoint { .. } => {
                let members = Members { leaving: super::Nodes::default(), ..server.members().1 };
                server.append(Entry { term: server.term, content: Content::Members(members) });
            }
            Self::AppendEntries { node } => {
                let led =
                    sent.led.entry(server.term).or_insert_with(|| Led { leader: node, ..Led::default() });
                if led.leader == node {
                    led.log.extend_from_slice(&server.log[led.log.len()..]);
                    led.commit = led.commit.max(server.commit);
                }
            }
            Self::HandleAppend { term, after, through, commit, .. } => {
                server.role = Role::Follower;
                if let Some(led) = sent.led.get(&term) {
                    take_entries(server, &led.log[after..through], after);
                }
                server.commit = server.commit.max(commit);
            }
            Self::Acknowledge { node, through } => {
                let held = sent.held.entry((server.term, node)).or_default();
                *held = through.max(*held);
            }
            Self::AdvanceCommit { to, .. } => {
                let known = to.min(decided.len());
                state.contradicted |= server.log[..known] != decided[..known];
                decided.extend_from_slice(&server.log[known..to]);
                decided_in.resize(decided.len(), server.term);
                server.commit = to;
            }
            Self::Bootstrap { .. }
            | Self::Timeout { .. }
            | Self::RequestVote { .. }
            | Self::UpdateTerm { .. }
            | Self::Speak { .. }
            | Self::HandleVote { .. }
            | Self::SendVote { .. }
            | Self::BecomeLeader { .. }
            | Self::StepDown { .. }
            | Self::Sync { .. }
            | Self::StoreSnapshot { .. }
            | Self::InstallSnapshot { .. }
            | Self::BeginRestore { .. }
            | Self::TakeRestore { .. }
            | Self::DropRestore { .. }
            | Self::Restart { .. } => unreachable!("{self:?} is not about logs"),
        }
    }

    fn apply_to_disks(self, state: &mut State) {
        let State { servers, sent, decided, outside, contradicted, .. } = state;
        let server = &mut servers[self.node()];
        if let Self::BeginRestore { through, .. } = self {
            let history = outside.entry((server.term, through)).or_default();
            history.clone_from(&server.log);
            history.resize(through - 1, Entry { term: server.term, content: NOTHING });
            history.push(Entry { term: server.term, content: OUTSIDE });
        }
        let past = Past { decided, outside };
        match self {
            Self::Sync { changes, .. } => {
                if let Some(disk) = &mut server.disk {
                    (0..changes).for_each(|_| _ = disk.sync_one(past));
                }
            }
            Self::StoreSnapshot { end, .. } => {
                let Some((prefix, disk)) = past.ending_in(end).zip(server.disk.as_mut()) else { return };
                if server.restoring == Some(end.1) && prefix.outside.is_some() {
                    disk.outside = Some(prefix);
                } else if end > past.end(disk.snapshot) {
                    disk.snapshot = prefix;
                }
            }
            Self::InstallSnapshot { term, through, .. } => {
                server.role = Role::Follower;
                let Some(led) = sent.led.get(&term) else { return };
                let end = last(&led.log[..through]);
                if let Some(prefix) = past.ending_in(end)
                    && server.log.get(through - 1) != led.log.get(through - 1)
                {
                    server.replace(prefix, past);
                }
                server.commit = through;
            }
            Self::BeginRestore { through, .. } => server.restoring = Some(through),
            Self::TakeRestore { .. } => {
                let Some(through) = server.restoring.take() else { return };
                let prefix = Prefix { through, outside: Some((server.term, through)) };
                if let Some(disk) = &mut server.disk {
                    (disk.snapshot, disk.outside) = (prefix, None);
                }
                server.replace(prefix, past);
                server.commit = through;
            }
            Self::DropRestore { .. } => {
                server.restoring = None;
                if let Some(disk) = &mut server.disk {
                    disk.outside = None;
                }
            }
            Self::Restart { kept, commit, .. } => *contradicted |= !server.restart(past, kept, commit),
            Self::Bootstrap { .. }
            | Self::Timeout { .. }
            | Self::RequestVote { .. }
            | Self::UpdateTerm { .. }
            | Self::Speak { .. }
            | Self::HandleVote { .. }
            | Self::SendVote { .. }
            | Self::BecomeLeader { .. }
            | Self::StepDown { .. }
            | Self::ClientRequest { .. }
            | Self::ChangeConfiguration { .. }
            | Self::LeaveJoint { .. }
            | Self::AppendEntries { .. }
            | Self::HandleAppend { .. }
            | Self::Acknowledge { .. }
            | Self::AdvanceCommit { .. } => unreachable!("{self:?} is not about disks"),
        }
    }
}

/// A server campaigns if it is a voter, or was one before a change that may still be undone: it may be needed to bring that
/// change about (dissertation, section 4.2.2).
fn may_campaign(server: &Server, node: Node) -> bool {
    let (index, members) = server.members();
    let before = newest_members(&server.log[..index.saturating_sub(1)]).1;
    members.is_voter(node) || (index > server.commit && before.is_voter(node))
}

fn may_vote(state: &State, server: &Server, candidate: Node, rules: Rules) -> Result<(), Refusal> {
    let asked = state.sent.campaigns.get(&(server.term, candidate));
    let Some(theirs) = asked else { return Err("it did not ask for votes in this term") };
    need(server.voted_for.is_none_or(|known| known == candidate), "one vote in a term")?;
    need(server.role != Role::Leader, "a leader votes for itself")?;
    let newer = *theirs >= last(&server.log);
    need(newer || !rules.newer_log_wins, "the candidate's log is older than the voter's")
}

const DURABLE_TERM: Refusal = "a term is durable before it is spoken in";

const FENCED: Refusal = "a snapshot from outside may be what the next start finds";

const NO_OWN_COMMIT: Refusal = "no entry of the leader's own term is committed";

/// Whether a leader has committed an entry of its own term.
fn has_committed(leader: &Server) -> bool {
    leader.commit.checked_sub(1).is_some_and(|at| leader.log[at].term == leader.term)
}

fn may_change(server: &Server, members: Members, rules: Rules) -> Result<(), Refusal> {
    need(server.role == Role::Leader, "only a leader changes members")?;
    let (index, present) = server.members();
    need(!members.voters.is_empty(), "somebody must vote")?;
    let settled = index <= server.commit && !present.is_joint();
    need(settled || !rules.one_change_at_a_time, "the change before is not over")?;
    need(has_committed(server) || !rules.own_term_before_change, NO_OWN_COMMIT)?;
    if members.is_joint() {
        return need(members.leaving == present.voters, "a joint configuration leaves the present one");
    }
    let moved = members.voters.difference(present.voters).len();
    need(moved <= 1 || !rules.one_server_at_a_time, "more than one vote changes hands")
}

fn may_append(
    state: &State,
    server: &Server,
    term: Term,
    after: usize,
    through: usize,
    commit: usize,
) -> Result<(), Refusal> {
    let Some(led) = state.sent.led.get(&term) else { return Err("nobody sent that") };
    need(after <= through && through <= led.log.len(), "the leader did not send these entries")?;
    need(term == server.term && server.role != Role::Leader, "it follows the leader of its term")?;
    let fits =
        after == 0 || server.log.get(after - 1).map(|e| e.term) == led.log.get(after - 1).map(|e| e.term);
    need(fits, "its log does not hold the entry before the first one")?;
    let bound = led.commit.min(through);
    need(commit <= bound.max(server.commit), "more is committed than was compared, or than the leader said")
}

/// Appends what is not there, and removes entries only where the terms differ (Raft paper, figure 2).
fn take_entries(server: &mut Server, entries: &[Entry], after: usize) {
    for (offset, entry) in entries.iter().enumerate() {
        let at = after + offset;
        match server.log.get(at) {
            Some(own) if own.term == entry.term => continue,
            Some(_) => server.truncate(at),
            None => {}
        }
        server.append(*entry);
    }
}

fn may_commit(state: &State, node: Node, to: usize, rules: Rules) -> Result<(), Refusal> {
    let server = &state.servers[node];
    need(server.role == Role::Leader, "only a leader commits by counting")?;
    need(to > server.commit && to <= server.log.len(), "the commit index only grows, within the log")?;
    let own = server.log[to - 1].term == server.term;
    need(own || !rules.own_term_commit, "an entry of an older term is not committed by counting")?;
    let durable = state.durable_log(node);
    let holds = |voter: Node| {
        if voter == node {
            durable.get(to - 1) == server.log.get(to - 1)
        } else {
            state.sent.held.get(&(server.term, voter)).is_some_and(|held| *held >= to)
        }
    };
    let (_, members) = server.members();
    need(members.agreed(rules, holds), "a majority of every electorate holds the entry durably")
}
