//! Configurations: which one is in force, and changing it: by one server at a time (Raft dissertation, chapter 4), or by
//! several through a joint one (Raft paper, section 6).

use raft_types::{Configuration, ConfigurationChange, LogIndex, ServerId};

use super::RaftCore;
use super::io::{Effect, Outcome, Peer, Refusal, RequestId};
use super::log::Log;
use super::message::{EntryKind, Features, SnapshotMeta};
use super::mutant::Mutant;
use super::progress::Progress;
use super::role::RoleState;

/// The configurations in snapshot and log, by index. The last one is in force, committed or not; there is always one,
/// at index zero and empty where nobody was bootstrapped.
#[derive(Debug)]
pub(super) struct Configurations(Vec<(LogIndex, Configuration)>);

impl Configurations {
    pub(super) fn recompute(snapshot: Option<&SnapshotMeta>, log: &Log) -> Self {
        let first = snapshot.map_or_else(
            || (LogIndex::ZERO, Configuration::default()),
            |meta| (meta.configuration_index, meta.configuration.clone()),
        );
        let mut all = Self(vec![first]);
        for entry in log.iter_from(log.base().index.next()) {
            if let EntryKind::Configuration(configuration) = &entry.kind {
                all.push(entry.id.index, configuration.clone());
            }
        }
        all
    }

    /// Adds one. An index that is here already is the snapshot's and the log's copy of the same entry.
    pub(super) fn push(&mut self, index: LogIndex, configuration: Configuration) {
        if index > self.latest().0 {
            self.0.push((index, configuration));
        }
    }

    pub(super) fn latest(&self) -> (LogIndex, &Configuration) {
        let (index, configuration) = self.0.last().expect("there is always one");
        (*index, configuration)
    }

    /// The newest one at or below an index.
    pub(super) fn at(&self, index: LogIndex) -> (LogIndex, &Configuration) {
        let (found, configuration) =
            self.0.iter().rev().find(|(at, _)| *at <= index).unwrap_or_else(|| &self.0[0]);
        (*found, configuration)
    }

    pub(super) fn truncate_from(&mut self, index: LogIndex) {
        self.0.retain(|(at, _)| *at < index);
        assert!(
            !self.0.is_empty(),
            "only uncommitted entries are truncated, and one configuration is committed"
        );
    }

    /// Forgets everything but the newest one at or below `index`: the log after it is gone.
    pub(super) fn truncate_after_reset(&mut self, index: LogIndex) {
        let (at, configuration) = self.at(index);
        self.0 = vec![(at, configuration.clone())];
    }

    /// Forgets the ones that a snapshot at `index` supersedes.
    pub(super) fn compact_through(&mut self, index: LogIndex) {
        let keep = self.0.iter().rposition(|(at, _)| *at <= index).unwrap_or(0);
        self.0.drain(..keep);
    }

    /// Takes a snapshot's, and with it whatever the log keeps after it (catalogue P04).
    pub(super) fn replace(&mut self, meta: &SnapshotMeta) {
        self.0.retain(|(at, _)| *at > meta.last.index);
        self.0.insert(0, (meta.configuration_index, meta.configuration.clone()));
    }
}

impl RaftCore {
    pub(super) fn on_bootstrap(&mut self, request: RequestId, configuration: Configuration) {
        if !self.is_blank() {
            self.refuse(request, Refusal::AlreadyBootstrapped);
            return;
        }
        if let Err(error) = configuration.validate() {
            self.refuse(request, Refusal::Invalid(error));
            return;
        }
        // Term 1 and index 1, as hashicorp/raft writes it.
        self.become_follower(raft_types::Term(1), None);
        self.append_own(EntryKind::Configuration(configuration), bytes::Bytes::new(), bytes::Bytes::new());
        self.election_deadline = self.now + self.config.heartbeat_interval;
        let effect = Effect::Resolve { request, outcome: Outcome::Bootstrapped };
        let last = self.log.last().index;
        self.out.extend(self.writes.after_entries(last, effect));
    }

    pub(super) fn on_change(
        &mut self,
        request: RequestId,
        change: &ConfigurationChange,
        expected: Option<LogIndex>,
    ) {
        let next = self.check_change(expected).and_then(|now| now.apply(change).map_err(Refusal::Invalid));
        match (next, change) {
            (Ok(next), ConfigurationChange::AddVoter { id, .. }) if self.is_unheard(id) => {
                self.begin_joining(request, id.clone(), next);
            }
            (next, _) => self.begin_or_refuse(request, next),
        }
    }

    pub(super) fn on_change_membership(
        &mut self,
        request: RequestId,
        changes: &[ConfigurationChange],
        expected: Option<LogIndex>,
    ) {
        let next =
            self.check_change(expected).and_then(|now| now.apply_all(changes).map_err(Refusal::Invalid));
        let next = next.and_then(|next| match self.member_without_joint(&next) {
            Some(server) => Err(Refusal::NotSpoken { server }),
            None => Ok(next),
        });
        self.begin_or_refuse(request, next);
    }

    /// A member, old or new, that would not understand a joint configuration. New ones have to be added as non-voters first.
    fn member_without_joint(&self, next: &Configuration) -> Option<ServerId> {
        let RoleState::Leader(leader) = &self.role else { return None };
        let speaks = |id: &ServerId| {
            *id == self.me.id
                || leader.followers.get(id).is_some_and(|p| p.features.contains(Features::JOINT))
        };
        let silent = |server: &&raft_types::Server| !speaks(&server.id);
        next.is_joint().then(|| next.servers().iter().find(silent)).flatten().map(|server| server.id.clone())
    }

    pub(super) fn note_features(&mut self, from: &ServerId, features: Features) {
        if let Some(progress) = self.leader_mut().and_then(|leader| leader.followers.get_mut(from)) {
            progress.features = features;
        }
    }

    pub(super) fn begin_or_refuse(&mut self, request: RequestId, next: Result<Configuration, Refusal>) {
        match next {
            Ok(next) if next == *self.configuration() => {
                let index = self.configuration_index();
                self.out.push(Effect::Resolve { request, outcome: Outcome::Changed { index } });
            }
            Ok(next) => {
                let next = self.name_voters(next);
                if self.can_commit_with(&next) {
                    self.begin_change(request, next);
                } else {
                    self.refuse(request, Refusal::VotersUnheard);
                }
            }
            Err(refusal) => self.refuse(request, refusal),
        }
    }

    /// The configuration in force, if it may be changed now.
    pub(super) fn check_change(&self, expected: Option<LogIndex>) -> Result<&Configuration, Refusal> {
        let RoleState::Leader(leader) = &self.role else { return Err(self.not_leader()) };
        if leader.transfer.is_some() {
            return Err(Refusal::TransferInProgress);
        }
        if self.is_restoring() {
            return Err(Refusal::RestoreInProgress);
        }
        // Without an entry of its own term committed a leader may not know of a change that is (catalogue M01).
        if !leader.ready && !self.mutated(Mutant::ChangesBeforeReady) {
            return Err(Refusal::NotReady);
        }
        let index = self.configuration_index();
        if expected.is_some_and(|expected| expected != index) && !self.mutated(Mutant::ExpectedIgnored) {
            return Err(Refusal::ConfigurationMoved { index });
        }
        let in_flight = index > self.commit || self.configuration().is_joint();
        if in_flight && !self.mutated(Mutant::TwoChangesInFlight) {
            return Err(Refusal::ChangeInProgress { index });
        }
        Ok(self.configuration())
    }

    fn begin_change(&mut self, request: RequestId, next: Configuration) {
        let index = self.append_configuration(next);
        if let Some(leader) = self.leader_mut() {
            leader.change = Some((request, index));
        }
        self.spread_change();
    }

    /// Makes a change that nobody waits for.
    pub(super) fn start_change(&mut self, next: Configuration) {
        self.append_configuration(next);
        self.spread_change();
    }

    fn spread_change(&mut self) {
        self.replicate_to_all();
        // Fewer voters may be enough for what is waiting (catalogue M14).
        self.advance_commit();
        self.confirm_reads();
    }

    pub(super) fn append_configuration(&mut self, next: Configuration) -> LogIndex {
        let id = self.append_own(EntryKind::Configuration(next), bytes::Bytes::new(), bytes::Bytes::new());
        self.update_followers();
        id.index
    }

    /// Follows exactly the members of the configuration in force, at their present addresses.
    fn update_followers(&mut self) {
        let configuration = self.configuration().clone();
        let (now, next, me) = (self.now, self.log.last().index.next(), self.me.id.clone());
        let mutation = self.mutation;
        let Some(leader) = self.leader_mut() else { return };
        let stays = mutation.is(Mutant::RemovedFollowed);
        leader.followers.retain(|id, _| stays || configuration.server(id).is_some());
        if mutation.is(Mutant::NewMemberForgotten) {
            return;
        }
        for server in configuration.everyone().filter(|server| server.id != me) {
            let peer = Peer { id: server.id.clone(), address: server.address.clone() };
            leader
                .followers
                .entry(server.id.clone())
                .and_modify(|progress| progress.peer.clone_from(&peer))
                .or_insert_with(|| Progress::new(peer, next, now));
        }
    }

    /// Answers a change that is committed now. A leader that is no voter any more hands over and steps down
    /// (Raft dissertation, section 4.2.2).
    pub(super) fn finish_change(&mut self) {
        let commit = self.commit;
        if self.configuration().is_joint() {
            self.leave_joint();
            return;
        }
        let early = self.mutated(Mutant::ChangeAnsweredEarly);
        let Some(leader) = self.leader_mut() else { return };
        if let Some((request, index)) = leader.change.take_if(|(_, index)| early || *index <= commit) {
            self.out.push(Effect::Resolve { request, outcome: Outcome::Changed { index } });
        }
        self.answer_joining();
        if self.configuration_index() <= commit && !self.configuration().is_voter(&self.me.id) {
            if let Some(heir) = self.best_voter() {
                self.send_timeout_now(&heir);
            }
            if !self.mutated(Mutant::LeadsWithoutVote) {
                self.become_follower(self.hard_state.term, None);
            }
        }
    }

    /// Leaves a joint configuration once it is committed, this leader's own or one that it found (catalogue M03, M04).
    fn leave_joint(&mut self) {
        let uncommitted =
            self.configuration_index() > self.commit && !self.mutated(Mutant::JointLeftUncommitted);
        if uncommitted || !self.is_ready() || self.stays_joint() {
            return;
        }
        let settled = self.configuration().settled();
        if self.mutated(Mutant::JointLeftTwice) {
            self.append_configuration(settled.clone());
        }
        let index = self.append_configuration(settled);
        let early = self.mutated(Mutant::JointChangeAnsweredEarly);
        let change = self.leader_mut().and_then(|leader| leader.change.as_mut());
        if let Some((_, waits_for)) = change.filter(|_| !early) {
            *waits_for = index;
        }
        if !self.mutated(Mutant::JointTransferKept) {
            self.fail_transfer_to_nonvoter();
        }
        self.replicate_to_all();
        // A single voter may be all that is left.
        self.advance_commit();
    }

    /// Whether a defect keeps this leader from leaving a joint configuration.
    fn stays_joint(&self) -> bool {
        let RoleState::Leader(leader) = &self.role else { return false };
        self.mutated(Mutant::JointNeverLeft)
            || (self.mutated(Mutant::JointFoundNotLeft) && leader.change.is_none())
    }

    /// The other voter with the longest log.
    pub(super) fn best_voter(&self) -> Option<ServerId> {
        let RoleState::Leader(leader) = &self.role else { return None };
        self.configuration()
            .voters()
            .filter_map(|server| self.counted(leader, server))
            .max_by_key(|progress| (progress.matched, progress.contact))
            .map(|progress| progress.peer.id.clone())
    }
}
