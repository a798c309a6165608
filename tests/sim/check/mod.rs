//! The invariants, one file each, named in the fault catalogue's section 3 (S safety, M membership, L reads, C clients,
//! V liveness).
//!
//! Each checker keeps what it has seen over the whole run, crashes included, and is told of every event by
//! [`crate::world::World`]. It returns the sentence that says what is wrong.

pub mod acks_durable;
pub mod autopilot;
pub mod clients;
pub mod commit;
pub mod configuration_in_force;
pub mod contact;
pub mod election_safety;
pub mod leader_completeness;
pub mod leases;
pub mod linearizable;
pub mod liveness;
pub mod log_matching;
pub mod match_grows;
pub mod membership;
pub mod monotonic;
pub mod one_vote;
pub mod progress;
pub mod reads;
pub mod stability;
pub mod state_machine_safety;
pub mod transfer;

use raft::core::{Effect, Event, RaftCore, Write};
use raft::{LogIndex, Time};

use crate::server::{Seen, SimServer};

/// What a checker finds: nothing, or a sentence.
pub type Verdict = Result<(), String>;

/// One step of one server's core, after its effects were taken in.
#[derive(Debug)]
pub struct Step<'a> {
    /// Which server.
    pub node: usize,
    /// True time.
    pub now: Time,
    /// What it showed before.
    pub before: Seen,
    /// How far it committed, one after the other, and where the configuration stood that was in force each time.
    pub commits: Vec<(LogIndex, LogIndex)>,
    /// All servers.
    pub servers: &'a [SimServer],
}

impl<'a> Step<'a> {
    /// What the effects of a step say about its commits: a leader may commit a joint configuration and append the next
    /// one at once, and what it committed is judged by the one that was in force then.
    #[must_use]
    pub fn commits_of(before: Seen, effects: &[Effect]) -> Vec<(LogIndex, LogIndex)> {
        let mut in_force = before.configuration;
        let mut commits = Vec::new();
        for effect in effects {
            match effect {
                Effect::Notify(Event::Configuration { index }) => in_force = *index,
                Effect::Commit { through } => commits.push((*through, in_force)),
                _ => {}
            }
        }
        commits
    }

    /// The server that made the step.
    #[must_use]
    pub fn server(&self) -> &'a SimServer {
        &self.servers[self.node]
    }

    /// Its core.
    ///
    /// # Panics
    /// Never: only a running server makes steps.
    #[must_use]
    pub fn core(&self) -> &'a RaftCore {
        self.server().core.as_ref().expect("a server that steps is up")
    }

    /// Whether the server leads now and did not lead in this term before.
    #[must_use]
    pub fn begins_to_lead(&self) -> bool {
        use raft::core::Role::Leader;
        let core = self.core();
        core.role() == Leader && (self.before.role != Leader || self.before.term != core.term())
    }
}

/// All checkers that judge every step.
#[derive(Debug, Default)]
pub struct Checks {
    /// S1.
    pub election_safety: election_safety::ElectionSafety,
    /// S2.
    pub one_vote: one_vote::OneVote,
    /// S5.
    pub log_matching: log_matching::LogMatching,
    /// S7, S13.
    pub state_machine_safety: state_machine_safety::StateMachineSafety,
    /// S8, S9.
    pub commit: commit::Commit,
    /// R09.
    pub match_grows: match_grows::MatchGrows,
    /// E14, L05.
    pub contact: contact::Contact,
    /// C2, C3.
    pub clients: clients::Clients,
    /// L3.
    pub reads: reads::Reads,
    /// C1.
    pub linearizable: linearizable::Linearizable,
}

impl Checks {
    /// Judges one step. Returns the checker's name with its sentence.
    ///
    /// # Errors
    /// The first invariant that is broken.
    pub fn stepped(&mut self, step: &Step<'_>) -> Result<(), (&'static str, String)> {
        let named = |name, verdict: Verdict| verdict.map_err(|sentence| (name, sentence));
        let commit_before = self.commit.len();
        named("monotonic", monotonic::stepped(step))?;
        named("election_safety", self.election_safety.stepped(step, &self.one_vote))?;
        named("commit", self.commit.stepped(step))?;
        named("leader_completeness", leader_completeness::stepped(step, &self.commit))?;
        named("membership", membership::stepped(step, &self.commit))?;
        named("leases", leases::stepped(step, commit_before, &self.commit))?;
        named("configuration_in_force", configuration_in_force::stepped(step))?;
        named("progress", progress::stepped(step))?;
        named("match_grows", self.match_grows.stepped(step))
    }

    /// Judges a write that a core has just asked for, before it is taken in.
    ///
    /// # Errors
    /// The first invariant that is broken.
    pub fn writes(&mut self, step: &Step<'_>, write: &Write) -> Result<(), (&'static str, String)> {
        let named = |name, verdict: Verdict| verdict.map_err(|sentence| (name, sentence));
        named("monotonic", monotonic::writes(step, write))?;
        named("log_matching", self.log_matching.writes(step, write))?;
        named("membership", membership::writes(step, write))
    }
}
