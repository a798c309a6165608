//! Why something was done, or was not, or not yet: a stable code, the numbers, and a sentence made in one place.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use raft_types::{LogIndex, ServerId, Time};
use serde::{Deserialize, Serialize};

use super::{Actor, HealthReason, NodeStatus, NodeType, duration_text};

/// Why a step was chosen, put off or refused.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "code", rename_all = "kebab-case", rename_all_fields = "snake_case")]
#[non_exhaustive]
pub enum Reason {
    /// The promoter wants it.
    Policy {
        /// Which promoter.
        promoter: Arc<str>,
        /// What it says.
        text: String,
    },
    /// The server is in the configuration and unknown to the application.
    Stale,
    /// The application knows the server and reports it as down or gone.
    Failed {
        /// What it reports.
        status: NodeStatus,
    },
    /// A person or the application asked for it.
    Requested,
    /// Every health rule holds.
    Healthy,
    /// Healthy, but not for long enough.
    Probation {
        /// How much is left.
        #[serde(with = "duration_text")]
        left: Duration,
        /// How long it must be healthy without a break.
        #[serde(with = "duration_text")]
        required: Duration,
    },
    /// Dead, but not for long enough to be removed without being asked.
    Grace {
        /// How much is left.
        #[serde(with = "duration_text")]
        left: Duration,
        /// How long it must be dead without a break.
        #[serde(with = "duration_text")]
        required: Duration,
    },
    /// Nothing speaks against it; members are changed in a later round.
    NextRound,
    /// Another step comes first; members are changed one at a time.
    OneStepAtATime {
        /// The server whose turn it is.
        first: ServerId,
    },
    /// The same step failed a moment ago and is not repeated at once.
    CoolDown {
        /// How much is left.
        #[serde(with = "duration_text")]
        left: Duration,
        /// What went wrong.
        error: String,
    },
    /// The promoter did not ask for it.
    NotWanted {
        /// Which promoter.
        promoter: Arc<str>,
    },
    /// The promoter says that this server must never vote.
    NeverVotes {
        /// Which promoter.
        promoter: Arc<str>,
        /// What it takes the server for.
        node_type: NodeType,
    },
    /// The promoter wants the dead server to stay.
    KeptByPolicy {
        /// Which promoter.
        promoter: Arc<str>,
        /// What it says.
        text: String,
    },
    /// The promoter asked for something that makes no sense, panicked, or did not answer in time; this part of its answer
    /// is ignored.
    PromoterFault {
        /// Which promoter.
        promoter: Arc<str>,
        /// What is wrong with the answer.
        fault: String,
    },
    /// This server does not lead, or not in the term in which autopilot was started.
    NotLeader,
    /// The leader has not committed an entry of its own term yet.
    LeaderNotReady,
    /// An earlier change of members is not committed yet.
    ChangeInProgress {
        /// Where it stands in the log.
        index: LogIndex,
    },
    /// Changes by autopilot are switched off.
    ReconciliationDisabled,
    /// `cleanup_dead_servers` is off.
    CleanupDisabled,
    /// The application gave no configuration.
    NoConfig,
    /// The engine cannot do this.
    Unsupported {
        /// What it cannot do.
        what: String,
    },
    /// It is the leader, which autopilot never demotes or removes.
    IsLeader,
    /// It is being caught up by the engine on its own.
    IsStaging,
    /// It does not vote, so it cannot lead.
    NotVoter,
    /// It votes already.
    AlreadyVoter,
    /// Fewer voters are healthy than make a quorum.
    NoQuorum {
        /// How many voters are healthy.
        healthy: usize,
        /// How many are needed.
        quorum: usize,
    },
    /// Fewer healthy voters than make a quorum would be left.
    QuorumAfter {
        /// How many healthy voters would be left.
        healthy: usize,
        /// How many would be needed.
        quorum: usize,
    },
    /// Fewer voters than `min_quorum` would be left.
    MinQuorum {
        /// How many voters would be left.
        voters: usize,
        /// The configured minimum.
        min_quorum: usize,
    },
    /// The application reports no servers at all, which says more about the application than about the servers.
    ApplicationKnowsNobody,
    /// The application does not know the leader, so what it does not know means nothing.
    ApplicationMissesLeader {
        /// Who leads.
        leader: ServerId,
    },
    /// The application did not say which servers it knows.
    ApplicationError {
        /// What went wrong.
        error: String,
    },
    /// The application cannot tell whether the server is alive; only dead servers are removed.
    StatusUnknown,
    /// The application takes the server for dead, and it still answers the leader.
    StillAnswers {
        /// How long ago it did.
        #[serde(with = "duration_text")]
        last_contact: Duration,
    },
    /// The cluster is not any more what the step was proposed for.
    Overtaken {
        /// Where the configuration stands now.
        index: LogIndex,
    },
    /// The application reports the server as alive, so there is nothing to remove.
    NotDead,
    /// The engine did not make the change.
    EngineRefused {
        /// What it said.
        error: String,
    },
    /// Somebody ordered that the server gets neither a vote nor leadership.
    Cordoned {
        /// Who ordered it.
        by: Actor,
        /// Why, in their words.
        why: String,
    },
    /// Somebody ordered that the server gives its vote and leadership away.
    Drained {
        /// Who ordered it.
        by: Actor,
        /// Why, in their words.
        why: String,
    },
    /// Somebody works on the server, or on the cluster.
    Maintenance {
        /// Who ordered it.
        by: Actor,
        /// Why, in their words.
        why: String,
        /// How much is left.
        #[serde(with = "duration_text")]
        left: Duration,
    },
    /// Somebody paused autopilot.
    Paused {
        /// Who ordered it.
        by: Actor,
        /// Why, in their words.
        why: String,
        /// How much is left.
        #[serde(with = "duration_text")]
        left: Duration,
    },
    /// So many steps were taken within a short time that the next has to wait.
    RateLimit {
        /// How much is left.
        #[serde(with = "duration_text")]
        left: Duration,
        /// How many are allowed.
        max: usize,
        /// Within what time.
        #[serde(with = "duration_text")]
        window: Duration,
    },
    /// So many dead servers were taken out within a short time that the next has to wait.
    RemovalBudget {
        /// How much is left.
        #[serde(with = "duration_text")]
        left: Duration,
        /// How many are allowed.
        max: usize,
        /// Within what time.
        #[serde(with = "duration_text")]
        window: Duration,
    },
    /// A dead voter was taken out a moment ago.
    RemovalCoolDown {
        /// How much is left.
        #[serde(with = "duration_text")]
        left: Duration,
        /// How long the next has to wait.
        #[serde(with = "duration_text")]
        required: Duration,
    },
    /// Fewer voters would be left than the largest number that was seen stable.
    Floor {
        /// How many voters would be left.
        voters: usize,
        /// The largest number that was seen stable.
        size: usize,
    },
    /// Dead voters go only when replaced, and nobody votes in its place yet.
    NotReplaced {
        /// How many voters would be left.
        voters: usize,
        /// How many there were when all were stable.
        size: usize,
    },
    /// It takes the vote of a server that is dead, unfit or being drained.
    Replaces {
        /// Whose vote it takes.
        server: ServerId,
        /// Why that one loses it, as a sentence.
        why: String,
    },
    /// What the leader sees cannot be trusted with taking anything away for a moment.
    Suspended {
        /// What happened.
        cause: SuspensionCause,
        /// How much is left.
        #[serde(with = "duration_text")]
        left: Duration,
    },
    /// It is joining and makes progress.
    Joining {
        /// How much is left.
        #[serde(with = "duration_text")]
        left: Duration,
    },
    /// Too few other servers call it dead.
    NotCorroborated {
        /// How many call it dead.
        dead: usize,
        /// How many hear from it.
        alive: usize,
        /// How many must call it dead.
        required: usize,
    },
    /// It turned unhealthy too often lately.
    Flapping {
        /// How much is left.
        #[serde(with = "duration_text")]
        left: Duration,
        /// How often, decayed, in thousandths.
        count: u32,
    },
    /// An earlier leader left its history, and it fits.
    LedgerTaken {
        /// How old it is at most.
        #[serde(with = "duration_text")]
        age: Duration,
    },
    /// The history of an earlier leader cannot be used.
    LedgerRefused {
        /// Why not.
        error: String,
    },
    /// What an earlier leader left is not read yet, and an order in it may forbid the step.
    OrdersUnread {
        /// Why not.
        error: String,
    },
    /// No other voter is fit to lead.
    NoSuccessor,
    /// Nothing is known about the cluster now.
    NoState,
    /// It is no member.
    NotMember,
    /// It still votes and is being drained.
    Draining,
    /// It has neither vote nor leadership any more and may be stopped.
    DrainDone,
    /// A rule of health does not hold.
    #[serde(untagged)]
    Health(HealthReason),
}

impl Reason {
    /// The stable name of the rule that decided.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Policy { .. } => "policy",
            Self::Stale => "stale",
            Self::Failed { .. } => "failed",
            Self::Requested => "requested",
            Self::Healthy => "healthy",
            Self::Probation { .. } => "probation",
            Self::Grace { .. } => "grace",
            Self::NextRound => "next-round",
            Self::OneStepAtATime { .. } => "one-step-at-a-time",
            Self::CoolDown { .. } => "cool-down",
            Self::NotWanted { .. } => "not-wanted",
            Self::NeverVotes { .. } => "never-votes",
            Self::KeptByPolicy { .. } => "kept-by-policy",
            Self::PromoterFault { .. } => "promoter-fault",
            Self::NotLeader => "not-leader",
            Self::LeaderNotReady => "leader-not-ready",
            Self::ChangeInProgress { .. } => "change-in-progress",
            Self::ReconciliationDisabled => "reconciliation-disabled",
            Self::CleanupDisabled => "cleanup-disabled",
            Self::NoConfig => "no-config",
            Self::Unsupported { .. } => "unsupported",
            Self::IsLeader => "is-leader",
            Self::IsStaging => "is-staging",
            Self::NotVoter => "not-voter",
            Self::AlreadyVoter => "already-voter",
            Self::NoQuorum { .. } => "no-quorum",
            Self::QuorumAfter { .. } => "quorum-after",
            Self::MinQuorum { .. } => "min-quorum",
            Self::ApplicationKnowsNobody => "application-knows-nobody",
            Self::ApplicationMissesLeader { .. } => "application-misses-leader",
            Self::ApplicationError { .. } => "application-error",
            Self::StatusUnknown => "status-unknown",
            Self::StillAnswers { .. } => "still-answers",
            Self::Overtaken { .. } => "overtaken",
            Self::NotDead => "not-dead",
            Self::EngineRefused { .. } => "engine-refused",
            Self::Cordoned { .. } => "cordoned",
            Self::Drained { .. } => "drained",
            Self::Maintenance { .. } => "maintenance",
            Self::Paused { .. } => "paused",
            Self::RateLimit { .. } => "rate-limit",
            Self::RemovalBudget { .. } => "removal-budget",
            Self::RemovalCoolDown { .. } => "removal-cool-down",
            Self::Floor { .. } => "floor",
            Self::NotReplaced { .. } => "not-replaced",
            Self::Replaces { .. } => "replaces",
            Self::Suspended { .. } => "suspended",
            Self::Joining { .. } => "joining",
            Self::NotCorroborated { .. } => "not-corroborated",
            Self::Flapping { .. } => "flapping",
            Self::LedgerTaken { .. } => "ledger-taken",
            Self::LedgerRefused { .. } => "ledger-refused",
            Self::OrdersUnread { .. } => "orders-unread",
            Self::NoSuccessor => "no-successor",
            Self::NoState => "no-state",
            Self::NotMember => "not-member",
            Self::Draining => "draining",
            Self::DrainDone => "drain-done",
            Self::Health(reason) => reason.code(),
        }
    }
}

impl Reason {
    /// How long it stands in the way at most, if it is only a matter of time.
    #[must_use]
    pub const fn left(&self) -> Option<Duration> {
        match self {
            Self::Probation { left, .. }
            | Self::Grace { left, .. }
            | Self::CoolDown { left, .. }
            | Self::Maintenance { left, .. }
            | Self::Paused { left, .. }
            | Self::RateLimit { left, .. }
            | Self::RemovalBudget { left, .. }
            | Self::RemovalCoolDown { left, .. }
            | Self::Suspended { left, .. }
            | Self::Joining { left }
            | Self::Flapping { left, .. } => Some(*left),
            _ => None,
        }
    }
}

/// Why what a leader sees cannot be trusted for a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SuspensionCause {
    /// Much more time than usual lies between two rounds: the process or the machine stood still, or the clock jumped.
    TimeGap,
    /// The leader was in contact with too few voters for a quorum, or most members fell silent at once.
    CutOff,
}

impl fmt::Display for SuspensionCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::TimeGap => "the leader stood still or its clock jumped",
            Self::CutOff => "the leader was cut off from most servers",
        })
    }
}

/// Why a server does not vote yet, and when that may change by itself.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct BlockedBy {
    /// The first rule in the way.
    pub reason: Reason,
    /// When the rule stops being in the way if nothing else happens; `None` when that cannot be told.
    #[serde(default)]
    pub earliest: Option<Time>,
}

impl BlockedBy {
    /// The stable name of the rule.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        self.reason.code()
    }
}

impl fmt::Display for BlockedBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.reason.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_words_and_end_with_those_of_health() {
        let mut codes = Reason::CODES.to_vec();
        assert!(codes.ends_with(HealthReason::CODES));
        let word = |code: &&str| code.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-');
        assert!(codes.iter().all(word), "{codes:?}");
        let all = codes.len();
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), all);
    }
}
