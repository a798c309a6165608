//! Defects that a test plants in one core, each one condition in one line; what finds them is in `docs/testing.md`.
//!
//! Without the feature `__mutants`, which is for this project's simulator only, [`RaftCore::mutated`] is false whatever
//! it is asked, and the compiler removes every trace of this. With it a core has a defect only if it was restored with
//! one.
#![cfg_attr(not(feature = "__mutants"), allow(unreachable_pub, reason = "public with the feature only"))]

use std::borrow::Cow;

use raft_types::{Configuration, Server, ServerId, Suffrage};

use super::RaftCore;

/// One defect, named after what the core does wrong; the comment names the catalogue's item or the rule it breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mutant {
    /// E01: a candidate that meets the leader of its term forgets its vote.
    VoteForgottenOnStepDown,
    /// E01: a second candidate of a term gets a vote too.
    VotesTwice,
    /// E02: a candidate does not write down its vote for itself.
    OwnVoteNotRecorded,
    /// E02, E03: requests for votes leave before term and vote are durable.
    AsksBeforeDurable,
    /// E03: a vote is sent before it is durable.
    VotesBeforeDurable,
    /// E03: an answer in a new term is sent before the term is durable.
    AnswersBeforeDurable,
    /// E03, D16: the vote never reaches the disk.
    VoteNotWritten,
    /// E04: a leader of an older term is obeyed.
    OldLeaderObeyed,
    /// E04: a candidate of an older term gets a vote.
    OldCandidateGranted,
    /// E04: a vote is given in the voter's older term.
    VoteKeepsOldTerm,
    /// E04: a leader or candidate does not notice a newer term in an answer.
    NewerTermIgnored,
    /// E05: a refusal counts as a vote.
    RefusalsCount,
    /// E05: one voter counts without having voted.
    ElectedOneShort,
    /// E06: a late pre-vote counts in the real vote.
    PreVotesCountAsVotes,
    /// E06: answers to an earlier round of the same kind count.
    OldVotesCount,
    /// E09: the memory of a leader never fades.
    LeaderRemembered,
    /// E10: the longer log wins, whatever its last term.
    LongerLogWins,
    /// E10: the newer last term wins, whatever the length.
    NewerTermWins,
    /// E10: logs are not compared.
    VoteIgnoresLog,
    /// E10: logs are not compared in a pre-vote.
    PreVoteIgnoresLog,
    /// E11: who is no voter in the receiver's configuration gets no vote.
    OnlyKnownVotersGranted,
    /// E12, M11: a server without a vote campaigns.
    NonvoterCampaigns,
    /// E13, E19: a live leader is no reason to refuse a vote.
    LiveLeaderDeposed,
    /// E13, E19: a pre-vote moves the receiver's term.
    PreVoteMovesTerm,
    /// E14: a leader that hears from no quorum goes on.
    NoCheckQuorum,
    /// E14: one voter counts as heard.
    CheckQuorumOneShort,
    /// E14, L05: a follower counts as heard when its answer comes, not when the request left.
    ContactWhenAnswered,
    /// E18: TimeoutNow of an older term is obeyed.
    OldTimeoutNowObeyed,
    /// E18: TimeoutNow of anybody is obeyed.
    AnybodysTimeoutNowObeyed,
    /// R01: entries of older terms are committed by counting.
    CommitsOldTerms,
    /// R02: an older request removes what follows it.
    TruncatesWhatMatches,
    /// R03: a request that begins before the compacted part of the log counts as a conflict.
    CompactedIsConflict,
    /// R03, P14: what is compacted here is not cut off a request.
    CompactedIsAppended,
    /// R04: a write that is done makes durable what was truncated meanwhile.
    OldCompletionCounts,
    /// D13: what is written down as committed is all that is there.
    RemembersTooMuch,
    /// R05: a success is sent before the entries are durable.
    AcksBeforeDurable,
    /// R05: an answered heartbeat moves the match index.
    HeartbeatMatches,
    /// R05: the match index is what the follower holds, not what it was sent.
    MatchesWhatIsThere,
    /// R06: a leader counts itself before its sync.
    CountsItselfUnsynced,
    /// R07: one voter counts without having the entry.
    CommitsOneShort,
    /// R09: a stale refusal takes the match index back.
    RefusalRewindsMatch,
    /// R11: a lost request fills its place in the window for ever.
    WindowLeaks,
    /// R11, R15: a paused follower is not tried again.
    PausedForever,
    /// R12: a failed snapshot leaves the follower waiting for it.
    SnapshotFailureIgnored,
    /// R13: a conflicting entry is kept and acknowledged.
    ConflictKept,
    /// R13: a refused request is sent again as it was.
    NeverGoesBack,
    /// R13, S5: the entry before a request needs only the right index.
    PrevTermUnchecked,
    /// R13: everything a follower holds is committed if the leader's commit index says so.
    CommitsUnmatched,
    /// R15: a follower that forgot the commit index is not told again.
    CommitToldOnce,
    /// R16, V2: a new leader appends nothing of its own.
    NoEntryOfOwnTerm,
    /// R18: what waited to be answered in the old term is answered in the new one.
    OldAnswersSurvive,
    /// R19: a leader that steps down does not tell that proposals are lost.
    ProposalsForgotten,
    /// R19: a leader that steps down does not answer waiting reads.
    ReadsForgotten,
    /// R19: a leader that steps down does not answer a waiting change.
    ChangeForgotten,
    /// R20: what was committed still counts as uncommitted.
    UncommittedNeverFreed,
    /// R20: what is uncommitted has no limit.
    UncommittedUnlimited,
    /// D01: a server whose store failed goes on.
    StorageFailureIgnored,
    /// D08: a truncation does not reach the disk.
    TruncationNotWritten,
    /// D09: a reset of the log does not reach the disk.
    ResetNotWritten,
    /// D12, M07: any life of a voter counts, not the one that the configuration means.
    IncarnationIgnored,
    /// D12: a server without a past votes like one that has its own.
    WipedIsFounder,
    /// D12: a server that is shown that it held more than it does takes no notice.
    LossUnnoticed,
    /// D10: the snapshot's configuration is not read at a restart.
    SnapshotConfigurationUnread,
    /// P01: a conflicting log is kept behind an installed snapshot.
    Rule7Missing,
    /// P01, figure 13 rule 6: what follows an installed snapshot is always removed.
    SnapshotDropsSuffix,
    /// P04: an uncommitted configuration survives the snapshot that replaced it.
    ConfigurationSurvivesSnapshot,
    /// P08: a follower that took a snapshot gets it again.
    SnapshotSentAgain,
    /// P09: a follower that needs a snapshot gets none.
    SnapshotNeverSent,
    /// P11: the log is compacted beyond the snapshot.
    CompactsBeyondSnapshot,
    /// P12: an older snapshot is installed over newer entries.
    OlderSnapshotInstalled,
    /// P13: a snapshot that contradicts what is committed is taken for an older one.
    SnapshotIdentityUnchecked,
    /// M01: members change before an entry of the own term is committed.
    ChangesBeforeReady,
    /// M02: two changes are in flight.
    TwoChangesInFlight,
    /// A05 of the automation: the expected configuration index is not compared.
    ExpectedIgnored,
    /// M07: a server uses the vote that another life under its id had.
    ActsOnOlderLife,
    /// M16: servers of different epochs listen to each other.
    EpochIgnored,
    /// M08: a leader without a vote goes on.
    LeadsWithoutVote,
    /// M08: a leader that crashed over its own removal may not campaign.
    UndecidedRemovalBars,
    /// M09: a removed server is still followed.
    RemovedFollowed,
    /// M10: a new member gets nothing.
    NewMemberForgotten,
    /// M11: non-voters count for commits.
    NonvotersCommit,
    /// M11: non-voters confirm reads.
    NonvotersConfirmReads,
    /// M11: non-voters keep a leader in office.
    NonvotersKeepLeader,
    /// M03: a joint configuration commits what the new voters hold, whatever the old ones do.
    JointCommitsByNewOnly,
    /// M03: a joint configuration commits what the old voters hold, whatever the new ones do.
    JointCommitsByOldOnly,
    /// M03: the votes of the new voters alone elect a leader.
    JointElectedByNewOnly,
    /// M03: the votes of the old voters alone elect a leader.
    JointElectedByOldOnly,
    /// M04: a joint configuration is left before it is committed.
    JointLeftUncommitted,
    /// M03: a joint configuration is never left.
    JointNeverLeft,
    /// M03: a joint configuration that a new leader finds is not left.
    JointFoundNotLeft,
    /// M03: a joint configuration is left twice.
    JointLeftTwice,
    /// M03: a change is answered when its joint configuration is committed.
    JointChangeAnsweredEarly,
    /// L02: leadership is handed to a server that lost its vote when the old side was left.
    JointTransferKept,
    /// M03, L10: answers of the new voters alone confirm a read.
    JointReadsByNewOnly,
    /// M03, L1: answers of the new voters alone make a lease.
    JointLeaseByNewOnly,
    /// M03, E14: the new voters alone keep a leader in office.
    JointQuorumOfNewOnly,
    /// M13, M18: a truncated configuration stays in force.
    ConfigurationSurvivesTruncation,
    /// M4: a configuration is in force from its commit on.
    ConfigurationAtCommit,
    /// C2: a change is answered when it is in the log.
    ChangeAnsweredEarly,
    /// L01: the target of a transfer need not have everything.
    TransfersTooEarly,
    /// L01: writes are taken while leadership is handed over.
    WritesDuringTransfer,
    /// L02: leadership is handed to a server without a vote.
    TransfersToAnybody,
    /// L02: a transfer that fails never ends.
    TransferNeverEnds,
    /// L02, R19: a leader that steps down does not answer a waiting transfer.
    TransferForgotten,
    /// L03, L04: a lease outlives a transfer.
    LeaseOutlivesTransfer,
    /// L06: a lease lasts as long as the longest election timeout.
    LeaseTooLong,
    /// L06, E15: a server that restarts grants a vote at once.
    LeaseForgottenAtRestart,
    /// L08: a lease serves reads before an entry of the own term is committed.
    LeaseBeforeReady,
    /// L1: one voter counts for the lease without having answered.
    LeaseOneShort,
    /// L05, L09: whatever answer comes confirms a read.
    OldAnswersConfirmReads,
    /// L08: reads are served before an entry of the own term is committed.
    ReadsBeforeReady,
    /// L08: a read keeps the commit index at which it came, though the leader was not ready.
    ReadIndexTooOld,
    /// L09: a read joins the round under way.
    ReadJoinsOldRound,
    /// L10: reads are served without asking anybody.
    ReadsUnconfirmed,
    /// R07: one voter counts as having confirmed a read.
    ReadsOneShort,
    /// L09: whatever answer comes confirms the reads that wait on a follower.
    OldReadIndexAccepted,
    /// L09: a read on a follower joins the request under way.
    FollowerReadJoinsOldRequest,
    /// L10: a leader answers a follower that reads without asking anybody.
    ReadIndexUnconfirmed,
    /// L13: a read on a follower is served at the follower's own commit index.
    ReadAtOwnCommit,
    /// R19, C2: a read on a follower that cannot be confirmed is forgotten.
    FollowerReadsForgotten,
    /// D15: a snapshot from outside takes the place of the last entry instead of standing above it, so that followers keep
    /// their state machines.
    RestoreInsideLog,
    /// D15: a leader serves what it restored before a quorum has it.
    RestoreServedAtOnce,
    /// D15: a leader begins a restore while clients may still read by lease.
    RestoreBesideLease,
    /// D15: reads that were confirmed before a snapshot is installed are served from it.
    ReadsOutliveSnapshot,
    /// D15: a server that a restore left behind takes the others' history for its own.
    RestoreDeniesNobody,
    /// D15: a server acknowledges entries while a snapshot from outside may be what its next start finds.
    RestoreUnfenced,
    /// D15: a server serves a read although its state may be one that a restore left behind.
    RestoreReadUnproved,
    /// S11: the commit index follows the leader's down.
    CommitFalls,
}

/// Says which defects there are.
#[cfg(feature = "__mutants")]
impl Mutant {
    /// All of them.
    pub const ALL: &[Self] = &[
        Self::VoteForgottenOnStepDown,
        Self::VotesTwice,
        Self::OwnVoteNotRecorded,
        Self::AsksBeforeDurable,
        Self::VotesBeforeDurable,
        Self::AnswersBeforeDurable,
        Self::VoteNotWritten,
        Self::OldLeaderObeyed,
        Self::OldCandidateGranted,
        Self::VoteKeepsOldTerm,
        Self::NewerTermIgnored,
        Self::RefusalsCount,
        Self::ElectedOneShort,
        Self::PreVotesCountAsVotes,
        Self::OldVotesCount,
        Self::LeaderRemembered,
        Self::LongerLogWins,
        Self::NewerTermWins,
        Self::VoteIgnoresLog,
        Self::PreVoteIgnoresLog,
        Self::OnlyKnownVotersGranted,
        Self::NonvoterCampaigns,
        Self::LiveLeaderDeposed,
        Self::PreVoteMovesTerm,
        Self::NoCheckQuorum,
        Self::CheckQuorumOneShort,
        Self::ContactWhenAnswered,
        Self::OldTimeoutNowObeyed,
        Self::AnybodysTimeoutNowObeyed,
        Self::CommitsOldTerms,
        Self::TruncatesWhatMatches,
        Self::CompactedIsConflict,
        Self::CompactedIsAppended,
        Self::OldCompletionCounts,
        Self::RemembersTooMuch,
        Self::AcksBeforeDurable,
        Self::HeartbeatMatches,
        Self::MatchesWhatIsThere,
        Self::CountsItselfUnsynced,
        Self::CommitsOneShort,
        Self::RefusalRewindsMatch,
        Self::WindowLeaks,
        Self::PausedForever,
        Self::SnapshotFailureIgnored,
        Self::ConflictKept,
        Self::NeverGoesBack,
        Self::PrevTermUnchecked,
        Self::CommitsUnmatched,
        Self::CommitToldOnce,
        Self::NoEntryOfOwnTerm,
        Self::OldAnswersSurvive,
        Self::ProposalsForgotten,
        Self::ReadsForgotten,
        Self::ChangeForgotten,
        Self::UncommittedNeverFreed,
        Self::UncommittedUnlimited,
        Self::StorageFailureIgnored,
        Self::TruncationNotWritten,
        Self::ResetNotWritten,
        Self::IncarnationIgnored,
        Self::WipedIsFounder,
        Self::LossUnnoticed,
        Self::SnapshotConfigurationUnread,
        Self::Rule7Missing,
        Self::SnapshotDropsSuffix,
        Self::ConfigurationSurvivesSnapshot,
        Self::SnapshotSentAgain,
        Self::SnapshotNeverSent,
        Self::CompactsBeyondSnapshot,
        Self::OlderSnapshotInstalled,
        Self::SnapshotIdentityUnchecked,
        Self::ChangesBeforeReady,
        Self::TwoChangesInFlight,
        Self::ExpectedIgnored,
        Self::ActsOnOlderLife,
        Self::EpochIgnored,
        Self::LeadsWithoutVote,
        Self::UndecidedRemovalBars,
        Self::RemovedFollowed,
        Self::NewMemberForgotten,
        Self::NonvotersCommit,
        Self::NonvotersConfirmReads,
        Self::NonvotersKeepLeader,
        Self::JointCommitsByNewOnly,
        Self::JointCommitsByOldOnly,
        Self::JointElectedByNewOnly,
        Self::JointElectedByOldOnly,
        Self::JointLeftUncommitted,
        Self::JointNeverLeft,
        Self::JointFoundNotLeft,
        Self::JointLeftTwice,
        Self::JointChangeAnsweredEarly,
        Self::JointTransferKept,
        Self::JointReadsByNewOnly,
        Self::JointLeaseByNewOnly,
        Self::JointQuorumOfNewOnly,
        Self::ConfigurationSurvivesTruncation,
        Self::ConfigurationAtCommit,
        Self::ChangeAnsweredEarly,
        Self::TransfersTooEarly,
        Self::WritesDuringTransfer,
        Self::TransfersToAnybody,
        Self::TransferNeverEnds,
        Self::TransferForgotten,
        Self::LeaseOutlivesTransfer,
        Self::LeaseTooLong,
        Self::LeaseForgottenAtRestart,
        Self::LeaseBeforeReady,
        Self::LeaseOneShort,
        Self::OldAnswersConfirmReads,
        Self::ReadsBeforeReady,
        Self::ReadIndexTooOld,
        Self::ReadJoinsOldRound,
        Self::ReadsUnconfirmed,
        Self::ReadsOneShort,
        Self::OldReadIndexAccepted,
        Self::FollowerReadJoinsOldRequest,
        Self::ReadIndexUnconfirmed,
        Self::ReadAtOwnCommit,
        Self::FollowerReadsForgotten,
        Self::RestoreInsideLog,
        Self::RestoreServedAtOnce,
        Self::RestoreBesideLease,
        Self::ReadsOutliveSnapshot,
        Self::RestoreDeniesNobody,
        Self::RestoreUnfenced,
        Self::RestoreReadUnproved,
        Self::CommitFalls,
    ];

    /// Its name on the command line and in the documentation: `votes-twice` for `VotesTwice`.
    #[must_use]
    pub fn name(self) -> String {
        let mut name = String::new();
        for letter in format!("{self:?}").chars() {
            if letter.is_ascii_uppercase() && !name.is_empty() {
                name.push('-');
            }
            name.push(letter.to_ascii_lowercase());
        }
        name
    }
}

/// The defect of one core, if it has one.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Mutation {
    #[cfg(feature = "__mutants")]
    pub(super) planted: Option<Mutant>,
}

impl Mutation {
    #[cfg(feature = "__mutants")]
    pub(super) fn is(self, mutant: Mutant) -> bool {
        self.planted == Some(mutant)
    }

    #[cfg(not(feature = "__mutants"))]
    pub(super) const fn is(self, mutant: Mutant) -> bool {
        let _ = (self, mutant);
        false
    }
}

impl RaftCore {
    /// Whether this core has this defect.
    pub(super) fn mutated(&self, mutant: Mutant) -> bool {
        self.mutation.is(mutant)
    }

    /// Whether a defect makes this server count without having answered: the first voter besides this one does.
    pub(super) fn counts_unseen(&self, mutant: Mutant, id: &ServerId) -> bool {
        self.mutated(mutant)
            && self.configuration().voters().find(|server| server.id != self.me.id).map(|server| &server.id)
                == Some(id)
    }

    /// The configuration in force, or what one of these defects takes for it: one that counts non-voters too, or that sees
    /// one side of a joint configuration.
    pub(super) fn electorate(&self, defects: &[Mutant]) -> Cow<'_, Configuration> {
        let Some(defect) = defects.iter().find(|defect| self.mutated(**defect)) else {
            return Cow::Borrowed(self.configuration());
        };
        let promoted = |server: &Server| Server { suffrage: Suffrage::Voter, ..server.clone() };
        let now = self.configuration();
        Cow::Owned(match defect {
            Mutant::JointCommitsByNewOnly
            | Mutant::JointElectedByNewOnly
            | Mutant::JointReadsByNewOnly
            | Mutant::JointLeaseByNewOnly
            | Mutant::JointQuorumOfNewOnly => now.settled(),
            Mutant::JointCommitsByOldOnly | Mutant::JointElectedByOldOnly if now.is_joint() => {
                Configuration::new(now.outgoing().to_vec())
            }
            Mutant::JointCommitsByOldOnly | Mutant::JointElectedByOldOnly => now.clone(),
            _ => Configuration::new(now.servers().iter().map(promoted).collect()),
        })
    }
}
