//! Each reason as a sentence: the one place where the words are made.

use std::fmt;

use super::{Reason, duration_text};

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
            _ => order_or_limit(self, f),
        }
    }
}

/// The sentences about orders and limits.
fn order_or_limit(reason: &Reason, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match reason {
        Reason::Cordoned { by, why } => write!(f, "cordoned by {by}{}", because(why)),
        Reason::Drained { by, why } => write!(f, "drained by {by}{}", because(why)),
        Reason::Maintenance { by, why, left } => {
            write!(f, "maintenance by {by}{}, {} left", because(why), duration_text::short(*left))
        }
        Reason::Paused { by, why, left } => {
            write!(f, "paused by {by}{}, {} left", because(why), duration_text::short(*left))
        }
        Reason::RateLimit { left, max, window } => write!(
            f,
            "{max} steps were taken within {}, the next may follow in {}",
            duration_text::short(*window),
            duration_text::short(*left)
        ),
        Reason::RemovalBudget { left, max, window } => write!(
            f,
            "{max} dead servers were taken out within {}, the next may follow in {}",
            duration_text::short(*window),
            duration_text::short(*left)
        ),
        Reason::RemovalCoolDown { left, required } => write!(
            f,
            "a dead voter was taken out a moment ago, {} left of {}",
            duration_text::short(*left),
            duration_text::short(*required)
        ),
        Reason::Floor { voters, size } => write!(
            f,
            "would leave {voters} voters where {size} were stable; it goes once another votes in its place"
        ),
        Reason::NotReplaced { voters, size } => {
            write!(f, "not replaced yet: would leave {voters} voters where {size} were stable")
        }
        Reason::Replaces { server, why } => write!(f, "it takes the place of server {server}: {why}"),
        Reason::Suspended { cause, left } => {
            write!(f, "{cause}, so nothing is taken away, {} left", duration_text::short(*left))
        }
        Reason::Joining { left } => write!(
            f,
            "it is joining and makes progress; that counts for another {}",
            duration_text::short(*left)
        ),
        Reason::NotCorroborated { dead, alive, required } => write!(
            f,
            "{dead} other servers call it dead and {alive} hear from it; {required} must call it dead, and more than hear from it"
        ),
        Reason::Flapping { left, count } => write!(
            f,
            "it turned unhealthy about {} times lately, {} left until it is trusted again",
            count / 1_000,
            duration_text::short(*left)
        ),
        Reason::LedgerTaken { age } => {
            write!(f, "an earlier leader left its history, at most {} old", duration_text::short(*age))
        }
        Reason::LedgerRefused { error } => write!(f, "the history of an earlier leader is not used: {error}"),
        Reason::OrdersUnread { error } => {
            write!(f, "what an earlier leader left, orders included, is not read yet: {error}")
        }
        Reason::NoSuccessor => f.write_str("no other voter is fit to lead"),
        Reason::NoState => f.write_str("nothing is known about the cluster now"),
        Reason::NotMember => f.write_str("it is no member"),
        Reason::Draining => f.write_str("it still votes; its vote is being given away"),
        Reason::DrainDone => f.write_str("it has neither vote nor leadership any more and may be stopped"),
        other => f.write_str(other.code()),
    }
}

fn because(why: &str) -> String {
    if why.is_empty() { String::new() } else { format!(" ({why})") }
}
