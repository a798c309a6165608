//! Why something was done, or was not, or not yet: a stable code, the numbers, and a sentence made in one place.

use std::fmt;
use std::time::Duration;

use raft_types::{LogIndex, ServerId, Time};
use serde::{Deserialize, Serialize};

use super::{HealthReason, NodeStatus, NodeType, duration_text};

/// Why a step was chosen, put off or refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "code", rename_all = "kebab-case", rename_all_fields = "snake_case")]
#[non_exhaustive]
pub enum Reason {
    /// The promoter wants it.
    Policy {
        /// Which promoter.
        promoter: String,
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
        promoter: String,
    },
    /// The promoter says that this server must never vote.
    NeverVotes {
        /// Which promoter.
        promoter: String,
        /// What it takes the server for.
        node_type: NodeType,
    },
    /// The promoter wants the dead server to stay.
    KeptByPolicy {
        /// Which promoter.
        promoter: String,
        /// What it says.
        text: String,
    },
    /// The promoter asked for something that makes no sense, or panicked; this part of its answer is ignored.
    PromoterFault {
        /// Which promoter.
        promoter: String,
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
            Self::Health(reason) => reason.code(),
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Policy { promoter, text } => write!(f, "{text} (promoter {promoter})"),
            Self::Stale => f.write_str("a member that the application does not know"),
            Self::Failed { status } => write!(f, "the application reports it as {status}"),
            Self::Requested => f.write_str("on request"),
            Self::Healthy => f.write_str("every health rule holds"),
            Self::Probation { left, required } => {
                let (left, required) = (duration_text::short(*left), duration_text::short(*required));
                write!(f, "probation, {left} left of {required}")
            }
            Self::Grace { left, required } => {
                let (left, required) = (duration_text::short(*left), duration_text::short(*required));
                write!(f, "dead for a short time only, {left} left of {required}")
            }
            Self::NextRound => f.write_str("waiting for the next round of changes"),
            Self::OneStepAtATime { first } => write!(f, "waiting for the step about server {first}"),
            Self::CoolDown { left, error } => {
                write!(f, "failed a moment ago ({error}), tried again in {}", duration_text::short(*left))
            }
            Self::NotWanted { promoter } => write!(f, "promoter {promoter} does not ask for it"),
            Self::NeverVotes { promoter, node_type } => {
                write!(f, "promoter {promoter} takes it for a {node_type}, which never votes")
            }
            Self::KeptByPolicy { promoter, text } => write!(f, "promoter {promoter} keeps it: {text}"),
            Self::PromoterFault { promoter, fault } => write!(f, "promoter {promoter} is wrong: {fault}"),
            Self::NotLeader => f.write_str("this server does not lead in the expected term"),
            Self::LeaderNotReady => f.write_str("the leader has committed nothing in its term yet"),
            Self::ChangeInProgress { index } => {
                write!(f, "the change of members at index {index} is not committed yet")
            }
            Self::ReconciliationDisabled => f.write_str("changes by autopilot are switched off"),
            Self::CleanupDisabled => f.write_str("the removal of dead servers is switched off"),
            Self::NoConfig => f.write_str("the application gave no configuration"),
            Self::Unsupported { what } => write!(f, "the engine cannot {what}"),
            Self::IsLeader => f.write_str("it is the leader"),
            Self::IsStaging => f.write_str("the engine is catching it up"),
            Self::NotVoter => f.write_str("it does not vote"),
            Self::AlreadyVoter => f.write_str("it votes already"),
            Self::NoQuorum { healthy, quorum } => {
                write!(f, "{healthy} healthy voters, a quorum needs {quorum}")
            }
            Self::QuorumAfter { healthy, quorum } => {
                write!(f, "would leave {healthy} healthy voters where a quorum needs {quorum}")
            }
            Self::MinQuorum { voters, min_quorum } => {
                write!(f, "would leave {voters} voters, min_quorum is {min_quorum}")
            }
            Self::ApplicationKnowsNobody => f.write_str("the application reports no servers at all"),
            Self::ApplicationMissesLeader { leader } => {
                write!(f, "the application does not know the leader {leader}")
            }
            Self::ApplicationError { error } => write!(f, "the application did not answer: {error}"),
            Self::StatusUnknown => f.write_str("the application cannot tell whether it is alive"),
            Self::StillAnswers { last_contact } => {
                write!(f, "it answered the leader {} ago", duration_text::short(*last_contact))
            }
            Self::Overtaken { index } => {
                write!(f, "the cluster is not what it was; the configuration stands at index {index}")
            }
            Self::NotDead => f.write_str("it is not dead"),
            Self::EngineRefused { error } => write!(f, "the engine refused: {error}"),
            Self::Health(reason) => reason.fmt(f),
        }
    }
}

/// Why a server does not vote yet, and when that may change by itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
