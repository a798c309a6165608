//! A server gets its vote only once it has the log (Raft dissertation, section 4.2.1): a voter that lags, or never
//! answers, would stand in the way of every commit (catalogue M06).
//!
//! A server that is no member yet first becomes a non-voter. Then its replication is watched in rounds, each up to what the log
//! held when the round began. After a round that was shorter than an election timeout the server becomes a voter; there
//! are ten rounds at most, and a server from which nothing comes for ten election timeouts is given up. It stays a non-voter then.

use raft_types::{ConfigurationChange, LogIndex, ServerAddress, ServerId, Suffrage, Time};

use super::RaftCore;
use super::io::{Refusal, RequestId, Sequence};
use super::progress::{Mode, Progress};
use super::role::RoleState;

/// Rounds before a server counts as too slow; the dissertation's number.
const ROUNDS_MAX: u32 = 10;
/// Election timeouts without progress before a server is given up.
const PATIENCE: u32 = 10;

/// A server on its way to its vote.
#[derive(Debug)]
pub(super) struct CatchUp {
    pub(super) request: RequestId,
    change: ConfigurationChange,
    /// The configuration must still stand here when the vote is given.
    expected: Option<LogIndex>,
    rounds: u32,
    round_end: LogIndex,
    round_began: Time,
    /// The last round was short enough; only another change in flight can be in the way.
    done: bool,
    matched: LogIndex,
    moved: Time,
}

impl RaftCore {
    pub(super) fn on_add_voter(
        &mut self,
        request: RequestId,
        id: ServerId,
        address: ServerAddress,
        expected: Option<LogIndex>,
    ) {
        let change = ConfigurationChange::AddVoter { id: id.clone(), address: address.clone() };
        if self.configuration().is_voter(&id) {
            self.on_change(request, &change, expected);
            return;
        }
        let plain = ConfigurationChange::AddNonvoter { id, address };
        let member = self.check_change(expected).and_then(|now| {
            now.apply(&change).map_err(Refusal::Invalid)?;
            now.apply(&plain).map_err(Refusal::Invalid)
        });
        let member = match member {
            Ok(member) => member,
            Err(refusal) => return self.refuse(request, refusal),
        };
        let index = self.configuration_index();
        if matches!(&self.role, RoleState::Leader(leader) if leader.catch_up.is_some()) {
            return self.refuse(request, Refusal::ChangeInProgress { index });
        }
        if member != *self.configuration() {
            self.start_change(member);
        }
        let (expected, now) = (expected.map(|_| self.configuration_index()), self.now);
        let round_end = self.log.last().index;
        let Some(leader) = self.leader_mut() else { return };
        leader.catch_up = Some(CatchUp {
            request,
            change,
            expected,
            rounds: 1,
            round_end,
            round_began: now,
            done: false,
            matched: LogIndex::ZERO,
            moved: now,
        });
        self.continue_catch_up();
    }

    /// Looks where the server that is to become a voter stands now.
    pub(super) fn continue_catch_up(&mut self) {
        let (now, last) = (self.now, self.log.last().index);
        let timeout = self.config.election_timeout;
        let configuration_index = self.configuration_index();
        let Some(leader) = self.leader_mut() else { return };
        let Some(catch_up) = &mut leader.catch_up else { return };
        let request = catch_up.request;
        let Some(progress) = leader.followers.get(catch_up.change.id()) else {
            leader.catch_up = None;
            return self.refuse(request, Refusal::ConfigurationMoved { index: configuration_index });
        };
        if progress.matched > catch_up.matched {
            (catch_up.matched, catch_up.moved) = (progress.matched, now);
        }
        while !catch_up.done && heard(progress) && progress.matched >= catch_up.round_end {
            catch_up.done = now.since(catch_up.round_began) <= timeout;
            if !catch_up.done && catch_up.rounds >= ROUNDS_MAX {
                return self.give_up_catching_up();
            }
            catch_up.rounds += 1;
            (catch_up.round_end, catch_up.round_began) = (last, now);
        }
        // A snapshot may take its time as long as its receiver answers heartbeats.
        let silent = now.since(progress.contact) > timeout * PATIENCE;
        let stuck = now.since(catch_up.moved) > timeout * PATIENCE;
        if silent || (stuck && progress.mode != Mode::Snapshot && !catch_up.done) {
            return self.give_up_catching_up();
        }
        if catch_up.done {
            self.give_vote();
        }
    }

    fn give_up_catching_up(&mut self) {
        let last = self.log.last().index;
        let Some(leader) = self.leader_mut() else { return };
        let Some(catch_up) = leader.catch_up.take() else { return };
        let server = catch_up.change.id().clone();
        let behind = last.ahead_of(leader.followers.get(&server).map_or(LogIndex::ZERO, |p| p.matched));
        self.refuse(catch_up.request, Refusal::NotCaughtUp { server, behind });
    }

    fn give_vote(&mut self) {
        match self.check_change(None) {
            Ok(_) => {}
            // What is in the way passes; whatever comes to pass then calls again.
            Err(_) => return,
        }
        let Some(catch_up) = self.leader_mut().and_then(|leader| leader.catch_up.take()) else { return };
        let next = self
            .check_change(catch_up.expected)
            .and_then(|now| now.apply(&catch_up.change).map_err(Refusal::Invalid));
        self.begin_or_refuse(catch_up.request, next);
    }

    /// A server that would have to vote after these changes without having the log, and by how much it lags: one that gets
    /// its vote by them, or one without which the new voters have no quorum (catalogue M15). A server lags that has not
    /// answered this leader, or misses more than one append request holds.
    #[must_use]
    pub fn lagging_voter(&self, changes: &[ConfigurationChange]) -> Option<(ServerId, u64)> {
        let RoleState::Leader(leader) = &self.role else { return None };
        let next = self.configuration().apply_all(changes).ok()?;
        let last = self.log.last().index;
        let lag = |id: &ServerId| {
            let Some(progress) = leader.followers.get(id).filter(|p| heard(p)) else { return last.0 };
            last.ahead_of(progress.matched)
        };
        let most = u64::try_from(self.config.append_entries_max).unwrap_or(u64::MAX);
        let voters: Vec<&ServerId> = next
            .servers()
            .iter()
            .filter(|server| server.suffrage == Suffrage::Voter)
            .map(|server| &server.id)
            .collect();
        let lagging: Vec<(&ServerId, u64)> = voters
            .iter()
            .filter(|id| **id != &self.me.id)
            .map(|id| (*id, lag(id)))
            .filter(|(_, behind)| *behind > most)
            .collect();
        let quorum = voters.len() / 2 + 1;
        let too_few = voters.len() - lagging.len() < quorum;
        let found = lagging.iter().find(|(id, _)| too_few || !self.configuration().is_voter(id));
        found.map(|(id, behind)| ((*id).clone(), *behind))
    }
}

/// Whether a follower has answered anything in this leader's term.
fn heard(progress: &Progress) -> bool {
    progress.acknowledged > Sequence(0)
}
