//! An engine and an application that do as they are told.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use raft_types::{
    Configuration, ConfigurationChange, EntryId, LogIndex, Server, ServerAddress, ServerId, Term,
};

use crate::model::{
    Capabilities, ClusterView, Config, Event, KnownServer, Ledger, NodeStatus, ServerStats, State, Witnesses,
};
use crate::ports::{ApplicationError, ApplicationIntegration, Cluster, ClusterError, StoredLedger};

/// How a played engine or application takes calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Behaviour {
    /// It answers.
    #[default]
    Answer,
    /// It never answers.
    Hang,
    /// It panics.
    Panic,
}

impl Behaviour {
    async fn act(self) {
        match self {
            Self::Answer => {}
            Self::Hang => std::future::pending().await,
            Self::Panic => panic!("told to panic"),
        }
    }
}

/// An engine in which every change is committed at once. Clones share it.
#[derive(Clone, Debug)]
pub struct FakeCluster {
    played: Arc<Mutex<Played>>,
}

#[derive(Debug)]
struct Played {
    view: ClusterView,
    views: Behaviour,
    changes: Behaviour,
    fail_next: Option<ClusterError>,
    performed: Vec<ConfigurationChange>,
    atomic: bool,
}

impl FakeCluster {
    /// A cluster in term 1 whose first server leads. All servers are in contact and up to date.
    ///
    /// # Panics
    /// Without servers.
    #[must_use]
    pub fn new(servers: Vec<Server>) -> Self {
        let leader = servers.first().expect("a cluster has a leader").id.clone();
        let last = EntryId::new(1, 100);
        let view = ClusterView {
            id: leader.clone(),
            term: Term(1),
            leader: Some(leader),
            is_leader: true,
            ready: true,
            configuration: Configuration::new(servers),
            configuration_index: LogIndex(1),
            configuration_committed: true,
            last,
            stats: BTreeMap::new(),
            installing: BTreeSet::new(),
        };
        let played = Played {
            view,
            views: Behaviour::Answer,
            changes: Behaviour::Answer,
            fail_next: None,
            performed: Vec::new(),
            atomic: false,
        };
        let cluster = Self { played: Arc::new(Mutex::new(played)) };
        let ids: Vec<ServerId> = cluster.ids();
        for id in &ids {
            cluster.in_contact(id.as_str());
        }
        cluster
    }

    /// The members.
    #[must_use]
    pub fn ids(&self) -> Vec<ServerId> {
        self.played.lock().view.configuration.servers().iter().map(|server| server.id.clone()).collect()
    }

    /// The members that vote.
    #[must_use]
    pub fn voters(&self) -> Vec<ServerId> {
        self.played.lock().view.configuration.voters().map(|server| server.id.clone()).collect()
    }

    /// The changes made, oldest first.
    #[must_use]
    pub fn performed(&self) -> Vec<ConfigurationChange> {
        self.played.lock().performed.clone()
    }

    /// Changes what the engine shows.
    pub fn edit(&self, edit: impl FnOnce(&mut ClusterView)) {
        edit(&mut self.played.lock().view);
    }

    /// Lets a server be in contact and up to date.
    pub fn in_contact(&self, id: &str) {
        self.edit(|view| {
            let stats = ServerStats {
                last_contact: Some(Duration::from_millis(5)),
                last_term: view.last.term,
                last_index: view.last.index,
            };
            view.stats.insert(id.into(), stats);
        });
    }

    /// Lets a server have been silent for this long.
    pub fn silent(&self, id: &str, silence: Duration) {
        self.edit(|view| {
            view.stats.entry(id.into()).or_default().last_contact = Some(silence);
        });
    }

    /// How questions are taken from now on.
    pub fn views(&self, behaviour: Behaviour) {
        self.played.lock().views = behaviour;
    }

    /// How changes are taken from now on.
    pub fn changes(&self, behaviour: Behaviour) {
        self.played.lock().changes = behaviour;
    }

    /// Lets it change several members in one step, or not.
    pub fn atomic(&self, atomic: bool) {
        self.played.lock().atomic = atomic;
    }

    /// Lets the next change fail with this.
    pub fn fail_next(&self, error: ClusterError) {
        self.played.lock().fail_next = Some(error);
    }

    async fn change(
        &self,
        changes: Vec<ConfigurationChange>,
        expected: Option<LogIndex>,
    ) -> Result<LogIndex, ClusterError> {
        let behaviour = self.played.lock().changes;
        behaviour.act().await;
        let mut played = self.played.lock();
        if let Some(error) = played.fail_next.take() {
            return Err(error);
        }
        let view = &mut played.view;
        if !view.is_leader {
            return Err(ClusterError::NotLeader { leader: view.leader.clone() });
        }
        if expected.is_some_and(|expected| expected != view.configuration_index) {
            return Err(ClusterError::ConfigurationMoved { index: view.configuration_index });
        }
        view.configuration = view.configuration.apply_all(&changes)?.settled();
        view.last.index = view.last.index.next();
        view.configuration_index = view.last.index;
        let index = view.configuration_index;
        played.performed.extend(changes);
        Ok(index)
    }
}

#[async_trait]
impl Cluster for FakeCluster {
    fn capabilities(&self) -> Capabilities {
        Capabilities { atomic: self.played.lock().atomic, ..Capabilities::default() }
    }

    async fn change_members(
        &self,
        changes: Vec<ConfigurationChange>,
        expected: Option<LogIndex>,
    ) -> Result<LogIndex, ClusterError> {
        self.change(changes, expected).await
    }

    async fn view(&self) -> Result<ClusterView, ClusterError> {
        let behaviour = self.played.lock().views;
        behaviour.act().await;
        Ok(self.played.lock().view.clone())
    }

    async fn add_nonvoter(
        &self,
        id: ServerId,
        address: ServerAddress,
        expected: Option<LogIndex>,
    ) -> Result<LogIndex, ClusterError> {
        self.change(vec![ConfigurationChange::AddNonvoter { id, address }], expected).await
    }

    async fn add_voter(
        &self,
        id: ServerId,
        address: ServerAddress,
        expected: Option<LogIndex>,
    ) -> Result<LogIndex, ClusterError> {
        self.change(vec![ConfigurationChange::AddVoter { id, address }], expected).await
    }

    async fn demote_voter(&self, id: ServerId, expected: Option<LogIndex>) -> Result<LogIndex, ClusterError> {
        self.change(vec![ConfigurationChange::DemoteVoter { id }], expected).await
    }

    async fn remove_server(
        &self,
        id: ServerId,
        expected: Option<LogIndex>,
    ) -> Result<LogIndex, ClusterError> {
        self.change(vec![ConfigurationChange::RemoveServer { id }], expected).await
    }

    async fn transfer_leadership(&self, to: ServerId) -> Result<(), ClusterError> {
        let behaviour = self.played.lock().changes;
        behaviour.act().await;
        let mut played = self.played.lock();
        if let Some(error) = played.fail_next.take() {
            return Err(error);
        }
        (played.view.leader, played.view.is_leader) = (Some(to), false);
        Ok(())
    }
}

/// An application that knows what it is told. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct FakeApplication {
    told: Arc<Mutex<Told>>,
}

#[derive(Debug)]
struct Told {
    config: Option<Config>,
    known: BTreeMap<ServerId, KnownServer>,
    behaviour: Behaviour,
    error: Option<String>,
    forgotten: Vec<ServerId>,
    states: Vec<Arc<State>>,
    events: Vec<Event>,
    witnesses: BTreeMap<ServerId, Witnesses>,
    ledger: Option<StoredLedger>,
    on_load: Behaviour,
}

impl Default for Told {
    fn default() -> Self {
        Self {
            config: Some(Config::default()),
            known: BTreeMap::new(),
            behaviour: Behaviour::Answer,
            error: None,
            forgotten: Vec::new(),
            states: Vec::new(),
            events: Vec::new(),
            witnesses: BTreeMap::new(),
            ledger: None,
            on_load: Behaviour::Answer,
        }
    }
}

/// How many notified states are remembered.
const STATES_MAX: usize = 1_000;

impl FakeApplication {
    /// Knows these servers, all alive, at the address `<id>.test:8300`.
    #[must_use]
    pub fn knowing(ids: &[&str]) -> Self {
        let application = Self::default();
        for id in ids {
            application.know(KnownServer::alive(*id, format!("{id}.test:8300")));
        }
        application
    }

    /// Learns of a server, or of what has changed about it.
    pub fn know(&self, server: KnownServer) {
        self.told.lock().known.insert(server.id.clone(), server);
    }

    /// Forgets a server.
    pub fn forget(&self, id: &str) {
        self.told.lock().known.remove(&ServerId::from(id));
    }

    /// Learns whether a server is alive.
    pub fn status(&self, id: &str, status: NodeStatus) {
        if let Some(server) = self.told.lock().known.get_mut(&ServerId::from(id)) {
            server.node_status = status;
        }
    }

    /// Sets the tunables.
    pub fn set_config(&self, config: Option<Config>) {
        self.told.lock().config = config;
    }

    /// How calls are taken from now on.
    pub fn behave(&self, behaviour: Behaviour) {
        self.told.lock().behaviour = behaviour;
    }

    /// How the question for the ledger is taken from now on.
    pub fn behave_on_load(&self, behaviour: Behaviour) {
        self.told.lock().on_load = behaviour;
    }

    /// Lets the question for known servers fail with this, or succeed again.
    pub fn fail(&self, error: Option<&str>) {
        self.told.lock().error = error.map(str::to_owned);
    }

    /// Which removed servers it was told to forget, oldest first.
    #[must_use]
    pub fn forgotten(&self) -> Vec<ServerId> {
        self.told.lock().forgotten.clone()
    }

    /// Which states it was told of, oldest first, at most a thousand.
    #[must_use]
    pub fn states(&self) -> Vec<Arc<State>> {
        self.told.lock().states.clone()
    }

    /// Which events it was told of, oldest first, at most a thousand.
    #[must_use]
    pub fn events(&self) -> Vec<Event> {
        self.told.lock().events.clone()
    }

    /// Lets other servers say this about a silent one.
    pub fn witness(&self, id: &str, witnesses: Witnesses) {
        self.told.lock().witnesses.insert(id.into(), witnesses);
    }

    /// The ledger that was stored last.
    #[must_use]
    pub fn ledger(&self) -> Option<Ledger> {
        self.told.lock().ledger.as_ref().map(|stored| stored.ledger.clone())
    }

    /// Puts another ledger in its place, or none.
    pub fn set_ledger(&self, ledger: Option<StoredLedger>) {
        self.told.lock().ledger = ledger;
    }

    async fn behaviour(&self) {
        let behaviour = self.told.lock().behaviour;
        behaviour.act().await;
    }
}

#[async_trait]
impl ApplicationIntegration for FakeApplication {
    async fn config(&self) -> Option<Config> {
        self.behaviour().await;
        self.told.lock().config.clone()
    }

    async fn known_servers(&self) -> Result<Vec<KnownServer>, ApplicationError> {
        self.behaviour().await;
        let told = self.told.lock();
        match &told.error {
            Some(error) => Err(error.clone().into()),
            None => Ok(told.known.values().cloned().collect()),
        }
    }

    async fn notify_state(&self, state: &Arc<State>) {
        self.behaviour().await;
        let states = &mut self.told.lock().states;
        if states.len() < STATES_MAX {
            states.push(state.clone());
        }
    }

    async fn notify_events(&self, events: &[Event]) {
        self.behaviour().await;
        let told = &mut self.told.lock().events;
        told.extend(events.iter().take(STATES_MAX.saturating_sub(told.len())).cloned());
    }

    async fn witnesses(&self, silent: &[ServerId]) -> BTreeMap<ServerId, Witnesses> {
        self.behaviour().await;
        let told = self.told.lock();
        silent.iter().filter_map(|id| Some((id.clone(), *told.witnesses.get(id)?))).collect()
    }

    async fn load_ledger(&self) -> Result<Option<StoredLedger>, ApplicationError> {
        self.behaviour().await;
        let on_load = self.told.lock().on_load;
        on_load.act().await;
        Ok(self.told.lock().ledger.clone())
    }

    async fn store_ledger(&self, ledger: &Arc<Ledger>) {
        self.behaviour().await;
        self.told.lock().ledger =
            Some(StoredLedger { ledger: (**ledger).clone(), age: Duration::ZERO, age_min: Duration::ZERO });
    }

    async fn remove_failed_server(&self, server: &KnownServer) {
        self.behaviour().await;
        let mut told = self.told.lock();
        told.forgotten.push(server.id.clone());
        told.known.remove(&server.id);
    }
}
