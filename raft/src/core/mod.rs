//! The consensus core: one server's part of Raft as a pure state machine.
//!
//! **What.** [`RaftCore::step`] takes the time and one [`Input`] and appends [`Effect`]s to one ordered list. It reads no
//! clock, does no I/O, and draws randomness only from the seed given at construction, so that a simulator can run it.
//!
//! **Invariants**, asserted after every step: compacted ≤ snapshot ≤ commit ≤ last; the configuration in force is the
//! last one in snapshot + log; a leader's view of a follower never passes its own log. Nothing leaves this module
//! before what it depends on was reported durable.
//!
//! **Not here.** Threads, sockets, files, the state machine: [`crate::Raft`] has those.
//!
//! Reading order: [`Input`] and [`Effect`], [`Request`] and [`Response`], this file, `election`, `append`, `replication`,
//! `membership`, `identity`, `catch_up`, `transfer`, `read`, `follower_read`, `snapshot`, `operator_restore`.

mod append;
mod catch_up;
mod election;
mod follower_read;
mod identity;
mod io;
mod log;
mod membership;
mod message;
mod mutant;
mod operator_restore;
mod progress;
mod quorum;
mod read;
mod replication;
mod role;
mod snapshot;
mod status;
mod transfer;
mod writes;

use raft_types::{Configuration, EntryId, Incarnation, LogIndex, ServerAddress, ServerId, Term, Time};
use rand::SeedableRng;
use rand::rngs::Xoshiro256PlusPlus;

use crate::config::Config;

pub use io::{
    Effect, Event, HardState, Input, Outcome, Peer, Refusal, ReplyToken, RequestId, Role, Sequence, Write,
    WriteId,
};
pub use message::{Entry, EntryKind, Features, Regard, Request, Response, SnapshotMeta};
#[cfg(feature = "__mutants")]
pub use mutant::Mutant;
pub use status::{FollowerView, Status};

use follower_read::FollowerReads;
use identity::Witnessed;
use log::Log;
use membership::Configurations;
#[cfg(not(feature = "__mutants"))]
use mutant::Mutant;
use mutant::Mutation;
use operator_restore::Storing;
use role::RoleState;
use writes::Writes;

/// How far a message may be ahead in terms. An election a millisecond takes 49 days to get there.
const TERM_JUMP_MAX: u64 = 1 << 32;

/// What a server finds on its disk when it starts.
#[derive(Clone, Debug, Default)]
pub struct Persisted {
    /// Term and vote.
    pub hard_state: HardState,
    /// The newest snapshot.
    pub snapshot: Option<SnapshotMeta>,
    /// The entry before the first of `entries`.
    pub base: EntryId,
    /// The log.
    pub entries: Vec<Entry>,
    /// How far the log was known to be committed; zero where the store does not say.
    pub commit: LogIndex,
}

/// The disk's content cannot be a server's state: entries are missing between the snapshot and the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the log starts after {base}, but the newest snapshot ends at {snapshot}: entries are missing between them"
)]
pub struct RestoreError {
    /// The entry before the log's first one.
    pub base: EntryId,
    /// The last entry in the snapshot; zero without one.
    pub snapshot: EntryId,
}

/// One server's consensus state.
#[derive(Debug)]
pub struct RaftCore {
    me: Peer,
    config: Config,
    rng: Xoshiro256PlusPlus,
    now: Time,
    hard_state: HardState,
    role: RoleState,
    leader: Option<Peer>,
    /// When the leader of this term was last heard.
    leader_contact: Option<Time>,
    election_deadline: Time,
    /// No vote before this moment, but for a hand-over.
    vote_after: Time,
    log: Log,
    commit: LogIndex,
    applied: LogIndex,
    snapshot: Option<SnapshotMeta>,
    storing: Option<Storing>,
    /// Where the newest snapshot ends that was not taken here: it may be one from outside that no quorum has.
    installed: LogIndex,
    /// The newest term in which the log was shown to be of one history with the leader's.
    agreed: Term,
    configurations: Configurations,
    writes: Writes,
    witnessed: Witnessed,
    follower_reads: FollowerReads,
    next_sequence: u64,
    storage_failed: bool,
    mutation: Mutation,
    out: Vec<Effect>,
}

impl RaftCore {
    /// Rebuilds a server from its disk. The state machine must already hold `persisted.snapshot`'s state, if there is one.
    ///
    /// If the newest snapshot replaced the log and a crash came between the two, the log is reset again here
    /// (catalogue P02); `effects` then holds the write.
    ///
    /// # Errors
    /// Entries are missing between the snapshot and the log.
    pub fn restore(
        me: Peer,
        config: &Config,
        seed: u64,
        now: Time,
        persisted: Persisted,
        effects: &mut Vec<Effect>,
    ) -> Result<Self, RestoreError> {
        Self::restore_with(me, config, seed, now, persisted, Mutation::default(), effects)
    }

    /// [`RaftCore::restore`], with a defect for a test to find.
    ///
    /// # Errors
    /// As there.
    #[cfg(feature = "__mutants")]
    pub fn restore_mutated(
        me: Peer,
        config: &Config,
        seed: u64,
        now: Time,
        persisted: Persisted,
        mutant: Option<Mutant>,
        effects: &mut Vec<Effect>,
    ) -> Result<Self, RestoreError> {
        let mutation = Mutation { planted: mutant };
        Self::restore_with(me, config, seed, now, persisted, mutation, effects)
    }

    fn restore_with(
        me: Peer,
        config: &Config,
        seed: u64,
        now: Time,
        persisted: Persisted,
        mutation: Mutation,
        effects: &mut Vec<Effect>,
    ) -> Result<Self, RestoreError> {
        let Persisted { mut hard_state, snapshot, base, entries, commit } = persisted;
        let snapshot_last = snapshot.as_ref().map_or_else(EntryId::default, |meta| meta.last);
        // A snapshot of a newer term that ends before the log begins is of those who went on without a restore that only this
        // server took: the log is of a history that did not happen.
        if base.index > snapshot_last.index && base.term >= snapshot_last.term {
            return Err(RestoreError { base, snapshot: snapshot_last });
        }
        let log = Log::new(base, entries);
        // A leader's snapshot was stored, and a crash came before it was noted whose it is.
        let nameless = hard_state.term == Term(0) && snapshot.is_some();
        // A log that was written was written in a term that had been made durable before.
        let newest = log.last().term.max(snapshot_last.term);
        if newest > hard_state.term {
            // No vote was given in a term that was not durable yet.
            hard_state = HardState { term: newest, voted_for: None, ..hard_state };
        }
        let durable = log.last().index;
        let mut core = Self {
            configurations: Configurations::recompute(
                snapshot.as_ref().filter(|_| !mutation.is(Mutant::SnapshotConfigurationUnread)),
                &log,
            ),
            me,
            config: config.clone(),
            rng: Xoshiro256PlusPlus::seed_from_u64(seed),
            now,
            hard_state,
            role: RoleState::Follower,
            leader: None,
            leader_contact: None,
            election_deadline: now,
            vote_after: Time::ZERO,
            log,
            commit: snapshot_last.index,
            applied: snapshot_last.index,
            snapshot,
            storing: None,
            installed: snapshot_last.index,
            agreed: Term(0),
            writes: Writes::new(durable, mutation),
            witnessed: Witnessed::new(),
            follower_reads: FollowerReads::default(),
            next_sequence: 1,
            storage_failed: false,
            mutation,
            out: Vec::new(),
        };
        if core.contradicts(snapshot_last) {
            core.reset_log(snapshot_last);
            // A configuration in the log that the snapshot replaced was never committed.
            core.configurations = Configurations::recompute(core.snapshot.as_ref(), &core.log);
        } else {
            // A crash between the snapshot and the compaction; a log that stays full would take nothing more.
            core.compact();
        }
        core.commit_again(commit);
        if nameless {
            core.start_over();
        }
        if core.config.lease_reads && core.hard_state.term > Term(0) {
            core.vote_after = now + core.config.election_timeout;
        }
        core.reset_election_deadline();
        core.finish(effects);
        Ok(core)
    }

    /// Commits what was known to be committed before the restart, as far as the log still goes.
    fn commit_again(&mut self, known: LogIndex) {
        let known = known.min(self.log.last().index);
        if known > self.commit {
            self.commit = known;
            self.out.push(Effect::Commit { through: known });
        }
    }

    /// Takes one input at a time that never runs backwards (an earlier `now` counts as the latest one seen), runs the
    /// timers that are due, and appends what should happen to `effects`.
    ///
    /// # Panics
    /// If one of the module's invariants is broken: going on would risk committed data.
    pub fn step(&mut self, now: Time, input: Input, effects: &mut Vec<Effect>) {
        self.now = self.now.max(now);
        if self.storage_failed {
            self.refuse_everything(&input);
        } else {
            self.dispatch(input);
            if !self.storage_failed {
                self.run_timers();
            }
        }
        self.finish(effects);
    }

    /// Takes other tunables from now on; timers that run keep their deadline. The caller has validated them.
    ///
    /// What leases rest on stays as it was at the start: the others could not know.
    pub fn reload(&mut self, config: &Config) {
        let Config { lease_reads, clock_drift_permille, election_timeout, .. } = self.config;
        self.config = Config { lease_reads, clock_drift_permille, ..config.clone() };
        if lease_reads {
            self.config.election_timeout = election_timeout;
        }
    }

    fn dispatch(&mut self, input: Input) {
        match input {
            Input::Tick => self.mend_members(),
            Input::Request { from, request, reply, regard } => self.on_request(from, request, reply, regard),
            Input::Response { from, sequence, response } => self.on_response(&from, sequence, response),
            Input::SendFailed { to, sequence } => self.on_send_failed(&to, sequence),
            Input::Persisted { through } => self.on_persisted(through),
            Input::StorageFailed => self.on_storage_failed(),
            Input::Applied { index } => self.applied = self.applied.max(index),
            Input::SnapshotTaken { meta } => self.on_snapshot_taken(meta),
            Input::Bootstrap { request, configuration } => self.on_bootstrap(request, configuration),
            Input::Propose { request, commands } => self.on_propose(request, commands),
            Input::Barrier { request } => self.on_barrier(request),
            Input::Read { request } => self.on_read(request),
            Input::VerifyLeader { request } => self.on_verify_leader(request),
            Input::LeaseRead { request } => self.on_lease_read(request),
            Input::Change { request, change, expected } => self.on_change(request, &change, expected),
            Input::ChangeMembership { request, changes, expected } => {
                self.on_change_membership(request, &changes, expected);
            }
            Input::AddVoter { request, id, address, expected } => {
                self.on_add_voter(request, id, address, expected);
            }
            Input::Transfer { request, to } => self.on_transfer(request, to),
            Input::BeginRestore { request, above } => self.on_begin_restore(request, above),
            Input::RestoreStored { request, last, size } => self.on_restore_stored(request, last, size),
            Input::Campaign => self.on_campaign(),
            Input::ForgetLeader => self.on_forget_leader(),
        }
    }

    fn on_request(&mut self, from: Peer, request: Request, reply: ReplyToken, regard: Option<Regard>) {
        if request.term().is_some_and(|term| self.is_out_of_reach(term)) || !self.heed(&request, regard) {
            self.out.push(Effect::Ignore { reply });
            return;
        }
        match request {
            Request::PreVote { term, last } => {
                let eligible = self.may_vote_for(last, regard);
                self.on_pre_vote(&from, term, last, eligible, reply);
            }
            Request::Vote { last, .. } if !self.may_vote_for(last, regard) => self.refuse_vote(reply),
            Request::Vote { term, last, transfer } => self.on_vote(&from, term, last, transfer, reply),
            Request::Append { term, prev, entries, commit } => {
                self.on_append(from, term, prev, entries, commit, reply);
                if regard.is_none() {
                    self.answer_for_its_id(term, commit);
                }
            }
            Request::Heartbeat { term, features } => self.on_heartbeat(from, term, features, reply),
            Request::ReadIndex => self.on_read_index(reply),
            Request::InstallSnapshot { term, meta } => self.on_install_snapshot(from, term, meta, reply),
            Request::TimeoutNow { term } => self.on_timeout_now(&from, term, reply),
        }
    }

    /// Whether no cluster gets from the present term to this one: adopting it would only use up the terms there are.
    fn is_out_of_reach(&self, term: Term) -> bool {
        term.0.saturating_sub(self.hard_state.term.0) > TERM_JUMP_MAX
    }

    fn on_response(&mut self, from: &ServerId, sequence: Sequence, response: Response) {
        if response.term().is_some_and(|term| self.is_out_of_reach(term)) {
            return;
        }
        // A rejected pre-vote carries the term that was asked for when a hashicorp/raft server answers, so its term
        // is judged where the answer is (catalogue E08).
        if !matches!(response, Response::PreVote { .. })
            && let Some(term) = response.term()
            && term > self.hard_state.term
            && !self.mutated(Mutant::NewerTermIgnored)
        {
            self.become_follower(term, None);
            return;
        }
        self.meet(from, sequence, &response);
        match response {
            Response::PreVote { term, granted, incarnation } => {
                self.on_pre_vote_response(from, sequence, term, granted, incarnation);
            }
            Response::Vote { granted, incarnation, .. } => {
                self.on_vote_response(from, sequence, granted, incarnation);
            }
            Response::Append { success, last_log, features, .. } => {
                self.note_features(from, features);
                self.on_append_response(from, sequence, success, last_log);
            }
            Response::InstallSnapshot { success, .. } => self.on_snapshot_response(from, sequence, success),
            Response::TimeoutNow => self.on_timeout_now_response(from, sequence),
            Response::ReadIndex { index, .. } => self.on_read_index_response(from, sequence, index),
        }
    }

    fn on_persisted(&mut self, through: WriteId) {
        let released = self.writes.persisted(through);
        self.out.extend(released);
        self.count_own_vote();
        self.advance_commit();
    }

    /// Ends a step: closes the pending write and hands the effects over.
    fn finish(&mut self, effects: &mut Vec<Effect>) {
        if let Some(write) = self.writes.flush(self.now, self.log.last().index, self.commit) {
            self.out.push(Effect::Persist(write));
        }
        self.check_invariants();
        effects.append(&mut self.out);
    }

    fn check_invariants(&self) {
        let last = self.log.last().index;
        let snapshot = self.snapshot_last().index;
        assert!(self.log.base().index <= snapshot, "nothing is compacted that no snapshot holds");
        assert!(snapshot <= self.commit && self.commit <= last, "snapshot <= commit <= last");
        assert!(self.writes.durable() <= last, "nothing is durable that is not in the log");
        if let RoleState::Leader(leader) = &self.role {
            for progress in leader.followers.values() {
                assert!(progress.matched < progress.next, "matched < next");
                assert!(progress.matched <= last, "a follower matches no more than there is");
            }
        }
    }

    // What the outside may know.

    /// Who this is.
    #[must_use]
    pub const fn me(&self) -> &Peer {
        &self.me
    }

    /// Which life of its data this is.
    #[must_use]
    pub const fn incarnation(&self) -> Incarnation {
        self.hard_state.incarnation
    }

    /// The role in the present term.
    #[must_use]
    pub const fn role(&self) -> Role {
        self.role.role()
    }

    /// The highest term seen.
    #[must_use]
    pub const fn term(&self) -> Term {
        self.hard_state.term
    }

    /// Term and vote as they are in memory.
    #[must_use]
    pub const fn hard_state(&self) -> &HardState {
        &self.hard_state
    }

    /// The leader of the present term, if known.
    #[must_use]
    pub const fn leader(&self) -> Option<&Peer> {
        self.leader.as_ref()
    }

    /// When a leader of the present term was last heard; `None` for the leader itself.
    #[must_use]
    pub const fn leader_contact(&self) -> Option<Time> {
        self.leader_contact
    }

    /// Whether this is a leader whose first own entry is committed.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        matches!(&self.role, RoleState::Leader(leader) if leader.ready)
    }

    /// The first entry that is not compacted; one after the last if there is none.
    #[must_use]
    pub fn first_index(&self) -> LogIndex {
        self.log.base().index.next()
    }

    /// Until when nobody else can lead, by this server's clock, as far as this leader knows; `None` for all others, for a
    /// leader that may not rely on it, and without [`Config::lease_reads`].
    #[must_use]
    pub fn lease(&self) -> Option<Time> {
        self.lease_until()
    }

    /// The last entry of the log.
    #[must_use]
    pub fn last(&self) -> EntryId {
        self.log.last()
    }

    /// The last entry known to be durable here.
    #[must_use]
    pub const fn durable_index(&self) -> LogIndex {
        self.writes.durable()
    }

    /// The last entry known to be committed.
    #[must_use]
    pub const fn commit_index(&self) -> LogIndex {
        self.commit
    }

    /// The last entry reported as applied.
    #[must_use]
    pub const fn applied_index(&self) -> LogIndex {
        self.applied
    }

    /// The newest durable snapshot.
    #[must_use]
    pub const fn snapshot(&self) -> Option<&SnapshotMeta> {
        self.snapshot.as_ref()
    }

    /// The configuration in force: the last one in the log, committed or not.
    #[must_use]
    pub fn configuration(&self) -> &Configuration {
        if self.mutated(Mutant::ConfigurationAtCommit) {
            return self.configurations.at(self.commit).1;
        }
        self.configurations.latest().1
    }

    /// Where the configuration in force stands.
    #[must_use]
    pub fn configuration_index(&self) -> LogIndex {
        self.configurations.latest().0
    }

    /// The newest configuration at or below an index, and where it stands.
    #[must_use]
    pub fn configuration_at(&self, index: LogIndex) -> (LogIndex, &Configuration) {
        self.configurations.at(index)
    }

    /// The term of the entry at an index; `None` if it is compacted or not there.
    #[must_use]
    pub fn term_at(&self, index: LogIndex) -> Option<Term> {
        self.log.term_at(index)
    }

    /// Entries in a range, at most `bytes` beyond the first; fewer where the log does not reach.
    #[must_use]
    pub fn entries(&self, from: LogIndex, through: LogIndex, bytes: usize) -> Vec<Entry> {
        self.log.slice(from, through, usize::MAX, bytes)
    }

    /// Bytes of all entries in memory.
    #[must_use]
    pub const fn log_bytes(&self) -> usize {
        self.log.bytes()
    }

    /// Whether [`Input::StorageFailed`] was seen.
    #[must_use]
    pub const fn storage_failed(&self) -> bool {
        self.storage_failed
    }

    /// When [`RaftCore::step`] must be called again, if nothing else happens before.
    #[must_use]
    pub fn next_wake(&self) -> Time {
        if self.storage_failed {
            return Time::NEVER;
        }
        let by_role = match &self.role {
            RoleState::Leader(leader) => {
                let transfer = leader.transfer.as_ref().map_or(Time::NEVER, |t| t.deadline);
                leader.heartbeat_due.min(transfer).min(self.restore_due().unwrap_or(Time::NEVER))
            }
            RoleState::Follower | RoleState::Candidate(_) => self.election_deadline,
        };
        by_role.min(self.follower_reads.deadline())
    }

    fn snapshot_last(&self) -> EntryId {
        self.snapshot.as_ref().map_or_else(EntryId::default, |meta| meta.last)
    }

    fn respond_after_hard_state(&mut self, reply: ReplyToken, response: Response) {
        let effect = Effect::Respond { reply, response };
        let early = self.mutated(Mutant::AnswersBeforeDurable)
            || (self.mutated(Mutant::VotesBeforeDurable) && matches!(response, Response::Vote { .. }));
        self.out.extend(if early { Some(effect) } else { self.writes.after_hard_state(effect) });
    }

    fn refuse(&mut self, request: RequestId, refusal: Refusal) {
        self.out.push(Effect::Resolve { request, outcome: Outcome::Refused(refusal) });
    }

    fn not_leader(&self) -> Refusal {
        Refusal::NotLeader { leader: self.leader.clone() }
    }

    fn take_sequence(&mut self) -> Sequence {
        let sequence = Sequence(self.next_sequence);
        self.next_sequence += 1;
        sequence
    }
}

impl Peer {
    /// Puts an id and an address together.
    pub fn new(id: impl Into<ServerId>, address: impl Into<ServerAddress>) -> Self {
        Self { id: id.into(), address: address.into() }
    }
}

#[cfg(test)]
mod tests;
