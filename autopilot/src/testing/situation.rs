//! A cluster to be judged by one round, written down in a few words.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use raft_types::{Configuration, EntryId, LogIndex, Server, ServerId, Suffrage, Term, Time};

use crate::core::{Inputs, KnownServers, Mode, Round};
use crate::model::{
    Actor, Capabilities, ClusterView, Config, Hand, Instruction, KnownServer, Memory, NodeStatus,
    ServerMemory, ServerStats, State,
};
use crate::promoter::{Promoter, PromoterInput};

/// The inputs of a round, starting from a leader that has led for an hour. Servers are alive, up to date and healthy
/// for an hour unless said otherwise. Everything can be changed through [`Situation::inputs`].
#[derive(Clone, Debug)]
pub struct Situation {
    /// The inputs as they are.
    pub inputs: Inputs,
}

const TERM: Term = Term(3);
const LAST: EntryId = EntryId::new(3, 1_000);
const HOUR: Duration = Duration::from_secs(3_600);

impl Situation {
    /// One voter, which leads.
    #[must_use]
    pub fn new(leader: &str) -> Self {
        let now = Time::ZERO + HOUR * 2;
        let view = ClusterView {
            id: leader.into(),
            term: TERM,
            leader: Some(leader.into()),
            is_leader: true,
            ready: true,
            configuration: Configuration::default(),
            configuration_index: LogIndex(900),
            configuration_committed: true,
            last: LAST,
            stats: BTreeMap::new(),
            installing: BTreeSet::new(),
        };
        let inputs = Inputs {
            now,
            term: TERM,
            config: Some(Config::default()),
            capabilities: Capabilities::default(),
            view,
            known: KnownServers::default(),
            fetched: None,
            stats_age_max: Duration::from_secs(6),
            mode: Mode::Reconcile,
            next_reconcile: None,
            reconciliation_enabled: true,
            cool_down: None,
            hand: Hand::default(),
            orders_unread: None,
            witnesses: BTreeMap::new(),
            memory: Memory { first_state_at: Some(now - HOUR), ..Memory::default() },
        };
        Self { inputs }.voter(leader)
    }

    /// The same under the plain rules of [`Config::reference`].
    #[must_use]
    pub fn plain(leader: &str) -> Self {
        Self::new(leader).config(|config| *config = Config::reference())
    }

    /// Adds a voter.
    #[must_use]
    pub fn voter(self, id: &str) -> Self {
        self.member(id, Suffrage::Voter)
    }

    /// Adds a member without a vote.
    #[must_use]
    pub fn nonvoter(self, id: &str) -> Self {
        self.member(id, Suffrage::Nonvoter)
    }

    /// Adds a member with this suffrage.
    #[must_use]
    pub fn member(mut self, id: &str, suffrage: Suffrage) -> Self {
        let view = &mut self.inputs.view;
        let id = ServerId::from(id);
        let address = raft_types::ServerAddress::from(format!("{id}.test:8300"));
        let mut servers = view.configuration.servers().to_vec();
        servers.push(Server { suffrage, ..Server::voter(id.clone(), address.clone()) });
        view.configuration = Configuration::new(servers);
        let stats = ServerStats {
            last_contact: Some(Duration::from_millis(10)),
            last_term: LAST.term,
            last_index: LAST.index,
        };
        view.stats.insert(id.clone(), stats);
        let since = self.inputs.now - HOUR;
        let seen = ServerMemory {
            healthy: true,
            proven: true,
            since,
            stats,
            stats_at: Some(since),
            ..ServerMemory::default()
        };
        self.inputs.memory.servers.insert(id.clone(), seen);
        self.inputs.known.servers.insert(id.clone(), KnownServer::alive(id, address));
        self
    }

    /// Lets the application report this server so.
    #[must_use]
    pub fn status(mut self, id: &str, status: NodeStatus) -> Self {
        if let Some(server) = self.inputs.known.servers.get_mut(&ServerId::from(id)) {
            server.node_status = status;
        }
        self
    }

    /// Lets the server be down: the application says so, and the leader has not heard from it for a minute.
    #[must_use]
    pub fn failed(mut self, id: &str) -> Self {
        self.silence(id);
        self.status(id, NodeStatus::Failed)
    }

    /// Lets the application not know the server, which is silent too.
    #[must_use]
    pub fn stale(mut self, id: &str) -> Self {
        self.silence(id);
        self.inputs.known.servers.remove(&ServerId::from(id));
        self
    }

    /// Gives the server metadata.
    #[must_use]
    pub fn meta(mut self, id: &str, key: &str, value: &str) -> Self {
        if let Some(server) = self.inputs.known.servers.get_mut(&ServerId::from(id)) {
            Arc::make_mut(&mut server.meta).insert(key.to_owned(), value.to_owned());
        }
        self
    }

    /// Lets the server have been healthy for only this long.
    #[must_use]
    pub fn healthy_for(mut self, id: &str, healthy_for: Duration) -> Self {
        let since = self.inputs.now - healthy_for;
        if let Some(seen) = self.inputs.memory.servers.get_mut(&ServerId::from(id)) {
            seen.since = since;
        }
        self
    }

    /// Orders that the server is drained.
    #[must_use]
    pub fn drained(mut self, id: &str) -> Self {
        self.order(Instruction::Drain { server: id.into(), why: String::from("told to") });
        self
    }

    /// Orders that the server is cordoned.
    #[must_use]
    pub fn cordoned(mut self, id: &str) -> Self {
        self.order(Instruction::Cordon { server: id.into(), why: String::from("told to") });
        self
    }

    /// Gives an order, in the name of "somebody".
    ///
    /// # Panics
    /// When it is refused.
    pub fn order(&mut self, instruction: Instruction) {
        let followed = self.inputs.hand.follow(instruction, &Actor::named("somebody"), self.inputs.now);
        followed.expect("an order that may be given");
    }

    /// Changes the tunables.
    #[must_use]
    pub fn config(mut self, change: impl FnOnce(&mut Config)) -> Self {
        change(self.inputs.config.get_or_insert_default());
        self
    }

    /// Changes anything.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Inputs)) -> Self {
        change(&mut self.inputs);
        self
    }

    /// Runs the round.
    #[must_use]
    pub fn round(&self, promoter: &dyn Promoter) -> Round {
        Round::run(&self.inputs, promoter)
    }

    /// The state of that round.
    #[must_use]
    pub fn state(&self, promoter: &dyn Promoter) -> State {
        self.round(promoter).state
    }

    /// Hands `look` what the promoter would be handed.
    pub fn ask<T>(&self, promoter: &dyn Promoter, look: impl FnOnce(&PromoterInput<'_>) -> T) -> T {
        let state = self.state(promoter);
        let config = self.inputs.config.clone().unwrap_or_default();
        look(&PromoterInput { now: self.inputs.now, config: &config, state: &state })
    }

    fn silence(&mut self, id: &str) {
        let id = ServerId::from(id);
        let silent = Some(Duration::from_secs(60));
        if let Some(stats) = self.inputs.view.stats.get_mut(&id) {
            stats.last_contact = silent;
        }
        if let Some(seen) = self.inputs.memory.servers.get_mut(&id) {
            seen.healthy = false;
            seen.since = self.inputs.now - Duration::from_secs(60);
        }
    }
}
