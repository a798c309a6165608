//! Who a server is beyond its id: which life of its data speaks, and which cluster it is of.
//!
//! What a quorum rests on is a pair of id and [`Incarnation`]. A server that was there when the cluster was founded has the
//! founder's, and so has everybody who says nothing about it. A server whose disk is empty and that is spoken to by
//! a running cluster begins an incarnation of its own; so does one that is shown that it held more than it does. It then
//! votes and counts where the configuration names that very incarnation, and nowhere else, so that what another life
//! under the same id promised is never taken for its own (catalogue D12, M07).
//!
//! The leader names incarnations where it gives a vote. A voter that answers as another one gets its vote taken and, once
//! it has caught up, given back: two changes of one server each, so all that holds for changes of members holds for these.

use std::collections::BTreeMap;

use raft_types::{Configuration, EntryId, Incarnation, LogIndex, Server, ServerId, Suffrage, Term};
use rand::RngExt;

use super::io::{Effect, Event, Outcome, Refusal, RequestId, Sequence};
use super::message::{Regard, Request, Response};
use super::mutant::Mutant;
use super::progress::Progress;
use super::quorum;
use super::role::{Joining, Leader, RoleState};
use super::{RaftCore, Role};

/// The one entry of a cluster that was just founded.
const FOUNDING: EntryId = EntryId::new(1, 1);
/// How many election timeouts a server that was asked to vote has to answer and catch up before the asker is told.
const JOIN_TIMEOUTS: u32 = 10;

/// What others were known to hold when this server last led: outlives its terms, not its process.
pub(super) type Witnessed = BTreeMap<ServerId, (Incarnation, LogIndex)>;

impl RaftCore {
    /// Whether this server has no past at all, and nobody has told it what cluster it is in.
    pub(super) fn is_blank(&self) -> bool {
        self.hard_state.term.0 == 0
            && self.hard_state.incarnation.is_founder()
            && self.log.last().index == LogIndex::ZERO
            && self.snapshot.is_none()
    }

    /// Begins a life in which nothing was promised yet. What is in the log stays: it may be right, it does not count. What the
    /// former life was about to say, once it is durable, is not said any more.
    pub(super) fn start_over(&mut self) {
        if self.role.role() != Role::Follower {
            self.become_follower(self.hard_state.term, None);
        }
        let incarnation = Incarnation(self.rng.random_range(1..Incarnation::AWAITED.0));
        self.hard_state.incarnation = incarnation;
        self.save_vote(self.hard_state.voted_for.clone());
        let last = self.log.last().index;
        for effect in self.writes.take_held() {
            match effect {
                Effect::Respond { reply, .. } => self.out.push(Effect::Ignore { reply }),
                other => self.out.extend(self.writes.after_entries(last, other)),
            }
        }
        self.out.push(Effect::Notify(Event::StartedOver { incarnation }));
    }

    /// A leader that names nobody by number (hashicorp/raft) counts whoever answers under an id, and its changes of members take
    /// the numbers out of the configuration. Servers that joined under ours would then mean nothing to each other once it is
    /// gone, and so many of them that the others are no quorum could never elect anybody again. So a voter without a number in
    /// the configuration goes by none, as that leader takes it. Not before it holds what was committed until that leader's
    /// term, for the former life of its id may have held that.
    pub(super) fn answer_for_its_id(&mut self, term: Term, committed: LogIndex) {
        let follows = self.role.role() == Role::Follower && self.hard_state.term == term;
        let holds = self.commit >= committed && self.log.term_at(self.commit) == Some(term);
        let unnamed = self.configuration().is_voter_as(&self.me.id, Incarnation::FOUNDER);
        if follows && holds && unnamed && !self.hard_state.incarnation.is_founder() {
            self.hard_state.incarnation = Incarnation::FOUNDER;
            self.save_vote(self.hard_state.voted_for.clone());
        }
    }

    /// Whether the sender of a request is of this server's epoch. One that has no configuration yet takes any (catalogue M16).
    #[must_use]
    pub fn listens_to(&self, regard: Option<Regard>) -> bool {
        let own = self.configuration();
        let same = |regard: Regard| own.is_empty() || regard.epoch == own.epoch();
        regard.is_none_or(same) || self.mutated(Mutant::EpochIgnored)
    }

    /// Looks at what the sender of a request takes this server for. False if the request is not for this server's ears.
    pub(super) fn heed(&mut self, request: &Request, regard: Option<Regard>) -> bool {
        if !self.listens_to(regard) {
            return false;
        }
        let Some(regard) = regard else { return true };
        // Who is spoken to by the leader of a running cluster before it had any part in founding it had none.
        let led = matches!(
            request,
            Request::Append { .. } | Request::Heartbeat { .. } | Request::InstallSnapshot { .. }
        );
        let of_now = request.term().is_some_and(|term| term >= self.hard_state.term);
        let meant = regard.incarnation == self.hard_state.incarnation;
        let lost = meant && of_now && self.log.last().index < regard.held;
        let starts_over = (self.is_blank() && (led || lost) && !self.mutated(Mutant::WipedIsFounder))
            || (!self.is_blank() && lost && !self.mutated(Mutant::LossUnnoticed));
        if starts_over {
            self.start_over();
        }
        true
    }

    /// Whether a candidate means this life of this server, and whether it may judge the candidate at all: a server without a
    /// past only takes part in founding a cluster.
    pub(super) fn may_vote_for(&self, last: EntryId, regard: Option<Regard>) -> bool {
        let meant = regard.is_none_or(|regard| regard.incarnation == self.hard_state.incarnation);
        (meant && (!self.is_blank() || last == FOUNDING)) || self.mutated(Mutant::WipedIsFounder)
    }

    /// What a request to this server says about it.
    pub(super) fn regard(&self, id: &ServerId) -> Regard {
        let configuration = self.configuration();
        let named = configuration.voter_or_member(id).map(|server| server.incarnation).unwrap_or_default();
        let progress = match &self.role {
            RoleState::Leader(leader) => leader.followers.get(id),
            RoleState::Follower | RoleState::Candidate(_) => None,
        };
        let incarnation = progress.and_then(|progress| progress.incarnation).unwrap_or(named);
        let matched = progress.map_or(LogIndex::ZERO, |progress| progress.matched);
        let witnessed = self.witnessed.get(id).filter(|(known, _)| *known == incarnation);
        let held = witnessed.map_or(matched, |(_, index)| matched.max(*index));
        Regard { incarnation, held, epoch: configuration.epoch() }
    }

    /// Remembers what followers are sure to hold: what is committed is never given up.
    pub(super) fn witness(&mut self, leader: &Leader) {
        for (id, progress) in &leader.followers {
            let Some(incarnation) = progress.incarnation else { continue };
            let held = progress.matched.min(self.commit);
            let known = self.witnessed.entry(id.clone()).or_insert((incarnation, held));
            *known =
                if known.0 == incarnation { (incarnation, known.1.max(held)) } else { (incarnation, held) };
        }
        let members = self.configurations.latest().1;
        self.witnessed.retain(|id, _| members.server(id).is_some());
    }

    /// What this leader knows of a member, unless it was another incarnation that answered.
    pub(super) fn counted<'a>(&self, leader: &'a Leader, server: &Server) -> Option<&'a Progress> {
        let means = |progress: &&Progress| {
            progress.incarnation.is_none_or(|known| known == server.incarnation)
                || self.mutated(Mutant::IncarnationIgnored)
        };
        leader.followers.get(&server.id).filter(means)
    }

    /// Takes note of whose answer it is. Another incarnation starts from nothing: what was known of the former one, and
    /// answers of that one that are still on their way, say nothing of this one (catalogue R08).
    pub(super) fn meet(&mut self, from: &ServerId, sequence: Sequence, response: &Response) {
        let Some(incarnation) = response.incarnation() else { return };
        let (now, next) = (self.now, self.log.last().index.next());
        let named = self.configuration().voter_or_member(from).cloned();
        let Some(progress) = self.leader_mut().and_then(|leader| leader.followers.get_mut(from)) else {
            return;
        };
        if progress.incarnation == Some(incarnation) || !progress.awaits(sequence) {
            return;
        }
        if progress.incarnation.is_some() {
            *progress = Progress::new(progress.peer.clone(), next, now);
        }
        progress.incarnation = Some(incarnation);
        if named.is_some_and(|named| named.suffrage == Suffrage::Voter && named.incarnation != incarnation) {
            self.out.push(Effect::Notify(Event::NotCounted { id: from.clone() }));
        }
    }

    /// `next` with the incarnation of every server that gets a vote in it.
    pub(super) fn name_voters(&self, mut next: Configuration) -> Configuration {
        let now = self.configuration();
        let gaining: Vec<Server> =
            next.voters().filter(|server| !now.is_voter(&server.id)).cloned().collect();
        for server in gaining {
            let incarnation = self.incarnation_of(&server.id).unwrap_or(server.incarnation);
            next = next.with(Server { incarnation, ..server });
        }
        next
    }

    /// Whether a quorum of these voters has answered this leader as the ones that are meant. Otherwise the change would be
    /// stuck, and with it the next one, which could take in anew whoever does not count.
    pub(super) fn can_commit_with(&self, next: &Configuration) -> bool {
        quorum::has_quorum(next, |server| {
            self.incarnation_of(&server.id).is_some_and(|known| known == server.incarnation)
        })
    }

    fn incarnation_of(&self, id: &ServerId) -> Option<Incarnation> {
        match &self.role {
            _ if *id == self.me.id => Some(self.hard_state.incarnation),
            RoleState::Leader(leader) => leader.followers.get(id)?.incarnation,
            RoleState::Follower | RoleState::Candidate(_) => None,
        }
    }

    /// Whether this would give a vote to a server that does not answer this leader: which life of it would get the vote is
    /// then not known.
    pub(super) fn is_unheard(&self, id: &ServerId) -> bool {
        let RoleState::Leader(leader) = &self.role else { return false };
        let answers = |progress: &Progress| progress.incarnation.is_some() && self.is_present(progress);
        !self.configuration().is_voter(id)
            && *id != self.me.id
            && !leader.followers.get(id).is_some_and(answers)
    }

    fn is_present(&self, progress: &Progress) -> bool {
        self.now.since(progress.contact) <= self.config.election_timeout
    }

    /// A server that nobody has heard becomes a non-voter first and a voter once it has answered and caught up, so that it
    /// never holds the others up (catalogue M06), and so that it is known who gets the vote.
    pub(super) fn begin_joining(&mut self, request: RequestId, id: ServerId, next: Configuration) {
        let mut next = next;
        if let Some(server) = next.server(&id).cloned() {
            let suffrage = Suffrage::Nonvoter;
            next = next.with(Server { suffrage, incarnation: Incarnation::AWAITED, ..server });
        }
        if next != *self.configuration() {
            self.append_configuration(next);
            self.replicate_to_all();
            self.advance_commit();
            self.confirm_reads();
        }
        let deadline = self.now + self.config.election_timeout * JOIN_TIMEOUTS;
        if let Some(leader) = self.leader_mut() {
            leader.joining.push(Joining { request, id, deadline });
        }
    }

    /// Answers whoever waits for a server to become a voter.
    pub(super) fn answer_joining(&mut self) {
        if !matches!(&self.role, RoleState::Leader(leader) if !leader.joining.is_empty()) {
            return;
        }
        let (now, commit, index) = (self.now, self.commit, self.configuration_index());
        let (members, last) = (self.configuration().clone(), self.log.last().index);
        let Some(leader) = self.leader_mut() else { return };
        let mut answers = Vec::new();
        let mut waiting = std::mem::take(&mut leader.joining);
        waiting.retain(|joining| {
            let answer = if members.is_voter(&joining.id) {
                (index <= commit).then_some(Outcome::Changed { index })
            } else if now >= joining.deadline || members.server(&joining.id).is_none() {
                let behind = last.ahead_of(
                    leader.followers.get(&joining.id).map_or(LogIndex::ZERO, |progress| progress.matched),
                );
                Some(Outcome::Refused(Refusal::NotCaughtUp { server: joining.id.clone(), behind }))
            } else {
                None
            };
            let waits = answer.is_none();
            answers.extend(answer.map(|outcome| Effect::Resolve { request: joining.request, outcome }));
            waits
        });
        leader.joining = waiting;
        self.out.extend(answers);
    }

    /// Takes the vote from a voter that is not the one it was, and gives it to a non-voter that is to have it. Called when
    /// nothing else happens, so that nothing else is judged by two configurations in one step.
    pub(super) fn mend_members(&mut self) {
        self.answer_joining();
        let due =
            matches!(&self.role, RoleState::Leader(leader) if leader.may_need_mending(self.configuration()));
        if !due || self.check_change(None).is_err() {
            return;
        }
        if let Some(next) = self.configuration().servers().iter().find_map(|server| self.mended(server)) {
            self.append_configuration(next);
            self.replicate_to_all();
            self.advance_commit();
            self.confirm_reads();
        }
    }

    /// The configuration after the next step for one member, if there is one to take.
    fn mended(&self, server: &Server) -> Option<Configuration> {
        let RoleState::Leader(leader) = &self.role else { return None };
        let progress = leader.followers.get(&server.id)?;
        let incarnation = progress.incarnation?;
        if !self.is_present(progress) {
            return None;
        }
        match server.suffrage {
            Suffrage::Voter if incarnation != server.incarnation => {
                let mark = if incarnation.is_founder() { Incarnation::AWAITED } else { incarnation };
                let without = self.configuration().with(Server {
                    suffrage: Suffrage::Nonvoter,
                    incarnation: mark,
                    ..server.clone()
                });
                let enough = quorum::has_quorum(&without, |other| {
                    other.id == self.me.id
                        || self.counted(leader, other).is_some_and(|progress| self.is_present(progress))
                });
                enough.then_some(without)
            }
            Suffrage::Nonvoter if !server.incarnation.is_founder() => {
                let behind = self.log.last().index.ahead_of(progress.matched);
                let caught_up = behind <= self.config.append_entries_max as u64
                    && progress.mode == super::progress::Mode::Replicate;
                let voter = Server { suffrage: Suffrage::Voter, incarnation, ..server.clone() };
                caught_up.then(|| self.configuration().with(voter))
            }
            Suffrage::Voter | Suffrage::Nonvoter => None,
        }
    }
}

impl Leader {
    /// Cheap, and mostly false.
    fn may_need_mending(&self, configuration: &Configuration) -> bool {
        configuration.servers().iter().any(|server| match server.suffrage {
            Suffrage::Voter => self
                .followers
                .get(&server.id)
                .and_then(|progress| progress.incarnation)
                .is_some_and(|incarnation| incarnation != server.incarnation),
            Suffrage::Nonvoter => !server.incarnation.is_founder(),
        })
    }
}
