//! Which regions of the fault catalogue a run enters: that no defect was found there means something only then.
//!
//! A region is the situation in which an item of the catalogue goes wrong, not the defect. [`Regions`] looks at every step of
//! every core, at crashes and at starts; [`regions`] says what it looks for.

pub mod regions;

use std::collections::{BTreeMap, BTreeSet};

use raft::core::{Effect, Input, RaftCore, RequestId, Role, Sequence};
use raft::{EntryId, LogIndex, ServerId, Term, Time};

use crate::network::Network;
use crate::options::Options;
use crate::server::SimServer;

/// What a core showed before a step.
#[derive(Clone, Debug)]
pub struct Before {
    role: Role,
    term: Term,
    voted_for: Option<ServerId>,
    leader: Option<ServerId>,
    commit: LogIndex,
    applied: LogIndex,
    durable: LogIndex,
    last: EntryId,
    ready: bool,
    configuration: LogIndex,
    joint: bool,
    voters: usize,
}

impl Before {
    /// Takes it from a core.
    #[must_use]
    pub fn of(core: &RaftCore) -> Self {
        Self {
            role: core.role(),
            term: core.term(),
            voted_for: core.hard_state().voted_for.clone(),
            leader: core.leader().map(|leader| leader.id.clone()),
            commit: core.commit_index(),
            applied: core.applied_index(),
            durable: core.durable_index(),
            last: core.last(),
            ready: core.is_ready(),
            configuration: core.configuration_index(),
            joint: core.configuration().is_joint(),
            voters: core.configuration().voters_count(),
        }
    }

    fn leads(&self) -> bool {
        self.role == Role::Leader
    }
}

/// One step, before anything around the core has taken its effects in.
#[derive(Debug)]
pub struct Moment<'a> {
    /// True time.
    pub now: Time,
    /// Whose step.
    pub node: usize,
    /// What its core showed before.
    pub before: Before,
    /// What it was told.
    pub input: &'a Input,
    /// The core.
    pub core: &'a RaftCore,
    /// What it asked for.
    pub effects: &'a [Effect],
    /// All servers.
    pub servers: &'a [SimServer],
    /// The network.
    pub network: &'a Network,
    /// The shape of the run.
    pub options: &'a Options,
}

impl<'a> Moment<'a> {
    fn server(&self) -> &'a SimServer {
        &self.servers[self.node]
    }

    fn server_of(&self, id: &ServerId) -> Option<&'a SimServer> {
        self.servers.iter().find(|server| server.peer.id == *id)
    }

    fn leads(&self) -> bool {
        self.core.role() == Role::Leader
    }

    fn begins_to_lead(&self) -> bool {
        self.leads() && !(self.before.leads() && self.before.term == self.core.term())
    }

    fn commits(&self) -> Option<LogIndex> {
        self.effects.iter().rev().find_map(|effect| match effect {
            Effect::Commit { through } => Some(*through),
            _ => None,
        })
    }
}

/// Counts how often each region was entered.
#[derive(Debug, Default)]
pub struct Regions {
    entered: BTreeMap<&'static str, u64>,
    /// In which term each server started.
    started: BTreeMap<usize, Term>,
    /// Who left leadership with entries that were not durable.
    unsynced: BTreeSet<usize>,
    /// Grants that were received.
    grants: BTreeSet<(usize, u64, Sequence)>,
    /// Leaders that sent a snapshot, and to whom.
    snapshots: BTreeSet<(usize, ServerId)>,
    /// Leaders that told somebody to campaign, and in which term.
    told: BTreeSet<(usize, Term)>,
    /// Servers that were members once and are none.
    removed: BTreeSet<ServerId>,
    /// Transfers of leadership that are under way, each with its request.
    handing_over: BTreeSet<(usize, RequestId)>,
    /// Reads that wait at a leader.
    reads: BTreeMap<usize, u32>,
}

impl Regions {
    fn enter(&mut self, region: &'static str) {
        *self.entered.entry(region).or_default() += 1;
    }

    fn enter_if(&mut self, region: &'static str, entered: bool) {
        if entered {
            self.enter(region);
        }
    }

    /// How often each region was entered; those that were not are not there.
    #[must_use]
    pub const fn entered(&self) -> &BTreeMap<&'static str, u64> {
        &self.entered
    }

    /// Looks at what the simulator counts anyway.
    pub fn counts(&mut self, what: &str) {
        for (region, counted) in regions::COUNTED {
            self.enter_if(region, *counted == what);
        }
    }
}
