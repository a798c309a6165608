//! An engine, an application or a promoter that blocks its thread, panics or answers nonsense: it is reported, nothing is
//! done on its word, and `stop` completes. In real time, since a thread that blocks holds a paused clock still; nothing here
//! depends on how long anything takes.

#![allow(clippy::disallowed_methods, reason = "a test waits for what it asked for")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use autopilot::testing::{FakeApplication, FakeCluster};
use autopilot::{
    ApplicationError, ApplicationIntegration, Autopilot, Capabilities, Changes, Cluster, ClusterError,
    ClusterView, Config, ConfigurationChange, DeadServers, Event, Hand, Intervals, KnownServer, Ledger,
    LogIndex, Memory, Promoter, PromoterInput, RequestError, Server, ServerAddress, ServerId, ServerState,
    ServerStats, State, Status, StoredLedger, Term, Time, Witnesses,
};
use parking_lot::{Condvar, Mutex};

const TERM: Term = Term(1);
/// For what must happen sooner or later.
const PATIENCE: Duration = Duration::from_secs(60);

/// Blocks the threads that pass while it is shut, and counts them.
#[derive(Default)]
struct Gate {
    shut: Mutex<bool>,
    opened: Condvar,
    waiting: AtomicUsize,
}

impl Gate {
    fn pass(&self) {
        let mut shut = self.shut.lock();
        while *shut {
            self.waiting.fetch_add(1, Ordering::SeqCst);
            self.opened.wait(&mut shut);
            self.waiting.fetch_sub(1, Ordering::SeqCst);
        }
    }

    fn set(&self, shut: bool) {
        *self.shut.lock() = shut;
        self.opened.notify_all();
    }

    fn waiting(&self) -> usize {
        self.waiting.load(Ordering::SeqCst)
    }
}

/// Opens the gate when the test ends, however it ends: the runtime waits for its threads.
struct Open(Arc<Gate>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.set(false);
    }
}

#[derive(Clone)]
struct Gated<T> {
    inner: T,
    gate: Arc<Gate>,
}

fn gated<T>(inner: T) -> (Gated<T>, Open) {
    let gate = Arc::new(Gate::default());
    (Gated { inner, gate: gate.clone() }, Open(gate))
}

#[async_trait]
impl ApplicationIntegration for Gated<FakeApplication> {
    async fn config(&self) -> Option<Config> {
        self.gate.pass();
        self.inner.config().await
    }

    async fn known_servers(&self) -> Result<Vec<KnownServer>, ApplicationError> {
        self.gate.pass();
        self.inner.known_servers().await
    }

    async fn notify_state(&self, state: &Arc<State>) {
        self.gate.pass();
        self.inner.notify_state(state).await;
    }

    async fn notify_events(&self, events: &[Event]) {
        self.gate.pass();
        self.inner.notify_events(events).await;
    }

    async fn load_ledger(&self) -> Result<Option<StoredLedger>, ApplicationError> {
        self.gate.pass();
        self.inner.load_ledger().await
    }

    async fn store_ledger(&self, ledger: &Arc<Ledger>) {
        self.gate.pass();
        self.inner.store_ledger(ledger).await;
    }

    async fn fetch_server_stats(&self, servers: &[KnownServer]) -> Option<BTreeMap<ServerId, ServerStats>> {
        self.gate.pass();
        self.inner.fetch_server_stats(servers).await
    }
}

#[async_trait]
impl Cluster for Gated<FakeCluster> {
    fn capabilities(&self) -> Capabilities {
        self.gate.pass();
        self.inner.capabilities()
    }

    async fn view(&self) -> Result<ClusterView, ClusterError> {
        self.gate.pass();
        self.inner.view().await
    }

    async fn add_nonvoter(
        &self,
        id: ServerId,
        address: ServerAddress,
        expected: Option<LogIndex>,
    ) -> Result<LogIndex, ClusterError> {
        self.gate.pass();
        self.inner.add_nonvoter(id, address, expected).await
    }

    async fn add_voter(
        &self,
        id: ServerId,
        address: ServerAddress,
        expected: Option<LogIndex>,
    ) -> Result<LogIndex, ClusterError> {
        self.inner.add_voter(id, address, expected).await
    }

    async fn demote_voter(&self, id: ServerId, expected: Option<LogIndex>) -> Result<LogIndex, ClusterError> {
        self.inner.demote_voter(id, expected).await
    }

    async fn remove_server(
        &self,
        id: ServerId,
        expected: Option<LogIndex>,
    ) -> Result<LogIndex, ClusterError> {
        self.inner.remove_server(id, expected).await
    }

    async fn change_members(
        &self,
        changes: Vec<ConfigurationChange>,
        expected: Option<LogIndex>,
    ) -> Result<LogIndex, ClusterError> {
        self.inner.change_members(changes, expected).await
    }

    async fn transfer_leadership(&self, to: ServerId) -> Result<(), ClusterError> {
        self.inner.transfer_leadership(to).await
    }
}

/// What goes wrong in a promoter, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Where {
    Name,
    Changes,
    MayVote,
    KeepFailed,
    Domain,
}

const EVERYWHERE: [Where; 5] =
    [Where::Name, Where::Changes, Where::MayVote, Where::KeepFailed, Where::Domain];

/// The default promoter with a mishap.
struct Mishap {
    at: Where,
    then: Box<dyn Fn() + Send + Sync>,
}

impl Mishap {
    fn reach(&self, at: Where) {
        if self.at == at {
            (self.then)();
        }
    }
}

impl Promoter for Mishap {
    fn name(&self) -> &str {
        self.reach(Where::Name);
        "mishap"
    }

    fn changes(&self, input: &PromoterInput<'_>) -> Changes {
        self.reach(Where::Changes);
        autopilot::StablePromoter.changes(input)
    }

    fn may_vote(&self, _: &ServerState) -> bool {
        self.reach(Where::MayVote);
        true
    }

    fn keep_failed(&self, _: &PromoterInput<'_>, _: &DeadServers) -> BTreeMap<ServerId, String> {
        self.reach(Where::KeepFailed);
        BTreeMap::new()
    }

    fn failure_domain(&self, _: &ServerState) -> Option<String> {
        self.reach(Where::Domain);
        None
    }
}

/// Asks for what makes no sense, and for the worst that does.
struct Nonsense;

impl Promoter for Nonsense {
    fn name(&self) -> &str {
        ""
    }

    fn changes(&self, input: &PromoterInput<'_>) -> Changes {
        let mut changes = Changes::default();
        let strangers = [ServerId::from("stranger"), ServerId::from("")];
        for id in input.state.servers.keys().chain(&strangers) {
            changes.demote(id, "");
            changes.demote(id, "");
        }
        changes.transfer_to(&strangers[0], "");
        changes
    }

    fn keep_failed(&self, _: &PromoterInput<'_>, _: &DeadServers) -> BTreeMap<ServerId, String> {
        BTreeMap::from([("stranger".into(), String::new())])
    }

    fn optimistic_failure_tolerance(&self, _: &State) -> Option<usize> {
        Some(usize::MAX)
    }
}

fn server(id: &str) -> Server {
    Server::voter(id, format!("{id}.test:8300"))
}

/// Three voters, one member that waits for its vote and one without a vote that is dead.
fn five() -> (FakeCluster, FakeApplication) {
    let waiting = ["n4", "n5"].map(|id| Server::nonvoter(id, format!("{id}.test:8300")));
    let cluster = FakeCluster::new(["n1", "n2", "n3"].map(server).into_iter().chain(waiting).collect());
    cluster.silent("n5", Duration::from_secs(3_600));
    let application = FakeApplication::knowing(&["n1", "n2", "n3", "n4"]);
    let brief = Duration::from_millis(100);
    application.set_config(Some(Config { server_stabilization_time: brief, ..Config::reference() }));
    (cluster, application)
}

fn builder(cluster: impl Cluster, application: impl ApplicationIntegration) -> autopilot::Builder {
    let brief = Duration::from_millis(40);
    let intervals = Intervals { update: brief, reconcile: brief * 2, query: brief, change: brief };
    Autopilot::builder(cluster, application).intervals(intervals)
}

/// Waits until it is so.
async fn until(what: &str, mut so: impl FnMut() -> bool) {
    let wait = async {
        while !so() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("never: {what}"));
}

async fn stops(autopilot: &Autopilot) {
    tokio::time::timeout(PATIENCE, autopilot.stop()).await.expect("stop completes");
    assert_eq!(autopilot.status(), Status::NotRunning);
    assert!(autopilot.state().is_empty());
}

/// The dead member is gone, and nobody else.
fn settled(cluster: &FakeCluster) -> bool {
    cluster.ids().iter().map(ServerId::as_str).eq(["n1", "n2", "n3", "n4"])
}

/// Whether the last plan complains about the promoter.
fn complains(autopilot: &Autopilot) -> bool {
    autopilot.last_plan().decisions.iter().any(|decision| decision.reason.code() == "promoter-fault")
}

// One worker thread, so that a call that blocked it would block everything.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_application_that_blocks_its_thread_is_left_alone_and_asked_again_later() {
    let (cluster, application) = five();
    let (application, open) = gated(application);
    open.0.set(true);
    let autopilot = builder(cluster.clone(), application.clone()).start(TERM).await;
    until("the engine is shown", || autopilot.state().servers.len() == 5).await;
    let before = autopilot.state().at;
    until("rounds go on", || autopilot.state().at > before + Duration::from_millis(400)).await;
    assert!(!autopilot.state().healthy && cluster.performed().is_empty());
    // Each kind of call at most once, however many rounds there were.
    assert!(open.0.waiting() <= 7, "{} threads are blocked", open.0.waiting());
    open.0.set(false);
    until("it works again", || settled(&cluster)).await;
    open.0.set(true);
    stops(&autopilot).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_engine_that_blocks_its_thread_never_keeps_it_from_stopping() {
    let (cluster, application) = five();
    let (gated_cluster, open) = gated(cluster.clone());
    open.0.set(true);
    let autopilot = builder(gated_cluster, application).start(TERM).await;
    for _ in 0..5 {
        let answer = autopilot.compute_state().await;
        assert!(matches!(answer, Err(RequestError::Cluster(ClusterError::Unavailable { .. }))), "{answer:?}");
    }
    assert_eq!(open.0.waiting(), 1, "one thread, however often it is asked");
    open.0.set(false);
    until("it works again", || settled(&cluster)).await;
    open.0.set(true);
    assert!(autopilot.add_server("n6", "n6:1").await.is_err());
    stops(&autopilot).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_promoter_that_blocks_its_thread_is_reported_and_not_asked_again_before_it_returns() {
    for at in EVERYWHERE {
        let (cluster, application) = five();
        let gate = Arc::new(Gate::default());
        let open = Open(gate.clone());
        open.0.set(true);
        let mishap = Mishap { at, then: Box::new(move || gate.pass()) };
        let autopilot = builder(cluster.clone(), application).promoter(mishap).start(TERM).await;
        until("it is reported", || complains(&autopilot)).await;
        let before = autopilot.state().at;
        until("rounds go on", || autopilot.state().at > before + Duration::from_millis(400)).await;
        let state = autopilot.state();
        let waits = state.server(&"n4".into()).unwrap();
        assert!(waits.health.healthy, "the others are judged nonetheless");
        assert_eq!(waits.blocked_by.as_ref().unwrap().reason.code(), "promoter-fault");
        assert_eq!(cluster.performed(), [], "nothing is done on the word of nobody: {at:?}");
        assert_eq!(open.0.waiting(), 1, "one thread, however many rounds: {at:?}");
        let proposal = autopilot.plan().await;
        assert!(matches!(proposal, Err(RequestError::Promoter { .. })), "{proposal:?}");
        open.0.set(false);
        until("it works again", || settled(&cluster)).await;
        until("nothing is wrong any more", || !complains(&autopilot)).await;
        open.0.set(true);
        stops(&autopilot).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_promoter_that_panics_or_answers_nonsense_is_reported_and_stops() {
    for at in EVERYWHERE {
        let (cluster, application) = five();
        let mishap = Mishap { at, then: Box::new(|| panic!("on purpose")) };
        let autopilot = builder(cluster.clone(), application).promoter(mishap).start(TERM).await;
        until("it is reported", || complains(&autopilot)).await;
        let state = autopilot.state();
        assert_eq!((state.servers.len(), state.quorum), (5, 2), "{at:?}");
        stops(&autopilot).await;
        let member = |id: &str| cluster.ids().iter().any(|member| member.as_str() == id);
        assert!(["n1", "n2", "n3", "n4"].into_iter().all(member), "{at:?}: {:?}", cluster.ids());
        assert!(at != Where::KeepFailed || member("n5"), "it could not say whom to keep");
    }
    let (cluster, application) = five();
    let autopilot = builder(cluster.clone(), application).promoter(Nonsense).start(TERM).await;
    until("it is reported", || complains(&autopilot)).await;
    let before = autopilot.state().at;
    until("rounds go on", || autopilot.state().at > before + Duration::from_millis(400)).await;
    stops(&autopilot).await;
    let view = cluster.view().await.unwrap();
    assert!(view.is_leader && view.configuration.is_voter(&"n1".into()), "the leader stays: {view:?}");
}

/// Says whatever a broken application could.
struct Babble {
    number: AtomicUsize,
}

#[async_trait]
impl ApplicationIntegration for Babble {
    async fn config(&self) -> Option<Config> {
        // One that can be used first, then one that cannot.
        match self.number.fetch_add(1, Ordering::SeqCst) {
            0 => Some(Config::reference()),
            _ => Some(Config { max_trailing_logs: 0, min_quorum: usize::MAX, ..Config::reference() }),
        }
    }

    async fn known_servers(&self) -> Result<Vec<KnownServer>, ApplicationError> {
        // The leader twice, strangers, nobody with an address, and none of the others.
        let ids = ["n1", "n1", "", "stranger", "\u{0}", "n2"];
        Ok(ids.map(|id| KnownServer::alive(id, "")).into_iter().collect())
    }

    async fn witnesses(&self, _: &[ServerId]) -> BTreeMap<ServerId, Witnesses> {
        BTreeMap::from([("stranger".into(), Witnesses { dead: usize::MAX, alive: usize::MAX })])
    }

    async fn load_ledger(&self) -> Result<Option<StoredLedger>, ApplicationError> {
        let (state, memory, hand) = (State::default(), Memory::default(), Hand::default());
        let ledger = Ledger::export(&state, &memory, &hand, &Config::default(), Time::NEVER);
        Ok(Some(StoredLedger { ledger, age: Duration::MAX, age_min: Duration::MAX }))
    }

    async fn fetch_server_stats(&self, _: &[KnownServer]) -> Option<BTreeMap<ServerId, ServerStats>> {
        let far = ServerStats {
            last_contact: Some(Duration::MAX),
            last_term: Term(u64::MAX),
            last_index: LogIndex(u64::MAX),
        };
        Some(["n2", "n3", "n4", "stranger"].map(|id| (id.into(), far)).into_iter().collect())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_application_that_answers_nonsense_changes_nothing_and_is_stopped() {
    let (cluster, _) = five();
    let autopilot = builder(cluster.clone(), Babble { number: AtomicUsize::new(0) }).start(TERM).await;
    let before = autopilot.state().at;
    until("rounds go on", || autopilot.state().at > before + Duration::from_millis(400)).await;
    let state = autopilot.state();
    assert_eq!((state.servers.len(), state.healthy), (5, false), "strangers are no members");
    assert_eq!(state.healthy_voters_count(), 1, "only the leader can be vouched for");
    assert_eq!(cluster.performed(), [], "without a quorum in sight nothing is changed");
    stops(&autopilot).await;
}
