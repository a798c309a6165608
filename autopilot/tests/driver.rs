//! The running autopilot with a played engine and application, in paused time: no test waits for the clock.

#![allow(clippy::disallowed_methods, reason = "a test starts tasks and asks the runtime's clock")]

use std::sync::Arc;
use std::time::Duration;

use autopilot::testing::{Behaviour, FakeApplication, FakeCluster};
use autopilot::{
    AddServerError, AddServerOutcome, Autopilot, Capabilities, Cluster, ClusterError, ClusterView, Config,
    Configuration, DeadClass, EventKind, KnownServer, Leadership, LogIndex, NodeStatus, RemoveServerError,
    RequestError, Server, ServerAddress, ServerId, Status, Term, WatchedLeadership, supervise,
};
use tokio::sync::{broadcast, watch};
use tokio::time::{sleep, timeout};

const TERM: Term = Term(1);

fn id(text: &str) -> ServerId {
    text.into()
}

fn cluster(voters: &[&str], nonvoters: &[&str]) -> FakeCluster {
    let address = |id: &str| format!("{id}.test:8300");
    let voters = voters.iter().map(|id| Server::voter(*id, address(id)));
    let nonvoters = nonvoters.iter().map(|id| Server::nonvoter(*id, address(id)));
    FakeCluster::new(voters.chain(nonvoters).collect())
}

/// An application that wants the plain rules; those beyond them are tested in `hand.rs`.
fn knowing(ids: &[&str]) -> FakeApplication {
    let application = FakeApplication::knowing(ids);
    application.set_config(Some(Config::reference()));
    application
}

async fn seconds(seconds: u64) {
    sleep(Duration::from_secs(seconds)).await;
}

fn drain(events: &mut broadcast::Receiver<autopilot::Event>) -> Vec<(EventKind, String, &'static str)> {
    let mut drained = Vec::new();
    while let Ok(event) = events.try_recv() {
        drained.push((event.what, event.server.to_string(), event.reason.code()));
    }
    drained
}

#[tokio::test(start_paused = true)]
async fn the_first_state_is_there_when_start_returns() {
    let application = knowing(&["n1", "n2", "n3"]);
    let autopilot =
        Autopilot::builder(cluster(&["n1", "n2", "n3"], &[]), application.clone()).start(TERM).await;
    assert_eq!(autopilot.status(), Status::Running);
    let state = autopilot.state();
    assert!(state.healthy);
    assert_eq!((state.servers.len(), state.failure_tolerance, state.term), (3, 1, TERM));
    assert!(autopilot.server_health(&id("n2")).unwrap().healthy);
    assert_eq!(autopilot.server_health(&id("n9")), None);
    assert_eq!(autopilot.voters_count().await, Ok(3));
    assert_eq!(application.states().len(), 1);
    autopilot.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_new_leader_waits_for_first_answers_before_it_calls_anybody_unhealthy() {
    let cluster = cluster(&["n1", "n2", "n3"], &[]);
    let application = knowing(&["n1", "n2", "n3"]);
    for unheard in ["n2", "n3"] {
        cluster.edit(|view| view.stats.get_mut(&id(unheard)).unwrap().last_contact = None);
    }
    let later = cluster.clone();
    tokio::spawn(async move {
        sleep(Duration::from_millis(100)).await;
        later.in_contact("n2");
        later.in_contact("n3");
    });
    let autopilot = Autopilot::builder(cluster.clone(), application.clone()).start(TERM).await;
    let first = application.states().first().cloned().unwrap();
    assert!(first.healthy, "{first:#?}");
    assert_eq!(application.states().len(), 1, "what was looked at while waiting is not published");
    autopilot.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_voter_that_never_answers_does_not_hold_up_the_first_state() {
    let cluster = cluster(&["n1", "n2", "n3"], &[]);
    let application = knowing(&["n1", "n2", "n3"]);
    cluster.edit(|view| view.stats.get_mut(&id("n3")).unwrap().last_contact = None);
    let autopilot = Autopilot::builder(cluster.clone(), application.clone()).start(TERM).await;
    let state = autopilot.state();
    assert!(!state.is_empty(), "the wait ends within the budget of a start");
    assert!(state.servers[&id("n2")].health.healthy);
    assert_eq!(state.servers[&id("n3")].health.reasons[0].code(), "no-contact");
    // Nobody is waited for whom the application does not call alive.
    application.status("n3", NodeStatus::Failed);
    let again = Autopilot::builder(cluster, application).start(TERM).await;
    assert_eq!(again.state().at, again.state().first_state_at);
    assert!(again.now().since(again.state().at).is_zero(), "without any wait");
    autopilot.stop().await;
    again.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_joiner_is_promoted_after_probation_and_not_before() {
    let cluster = cluster(&["n1"], &[]);
    let application = knowing(&["n1", "n2"]);
    let autopilot = Autopilot::builder(cluster.clone(), application).start(TERM).await;
    let mut events = autopilot.events();
    let added = autopilot.add_server("n2", "n2.test:8300").await.unwrap();
    assert!(matches!(added, AddServerOutcome::Added { removed, .. } if removed.is_empty()));
    cluster.in_contact("n2");
    seconds(9).await;
    assert_eq!(cluster.voters(), [id("n1")]);
    let blocked = autopilot.state().servers[&id("n2")].blocked_by.clone().unwrap();
    assert_eq!(blocked.code(), "probation");
    assert!(blocked.earliest.unwrap() > autopilot.now());
    seconds(15).await;
    assert_eq!(cluster.voters(), [id("n1"), id("n2")]);
    assert_eq!(autopilot.state().voters.len(), 2, "the state shows the step without waiting");
    let told = drain(&mut events);
    assert_eq!(told[0], (EventKind::Added, "n2".into(), "requested"));
    assert!(told.contains(&(EventKind::Promoted, "n2".into(), "policy")), "{told:?}");
    autopilot.stop().await;
}

#[tokio::test(start_paused = true)]
async fn work_of_several_steps_goes_on_at_every_update() {
    let cluster = cluster(&["n1"], &["n2", "n3", "n4"]);
    let application = knowing(&["n1", "n2", "n3", "n4"]);
    let autopilot = Autopilot::builder(cluster.clone(), application).start(TERM).await;
    seconds(17).await;
    assert_eq!(cluster.voters().len(), 4, "10 s of probation and an update for each");
    let expected = cluster.performed().len();
    assert_eq!(expected, 3);
    autopilot.stop().await;
}

#[tokio::test(start_paused = true)]
async fn watching_only_changes_nothing_until_enabled() {
    let cluster = cluster(&["n1"], &["n2"]);
    let application = knowing(&["n1", "n2"]);
    let builder = Autopilot::builder(cluster.clone(), application).reconciliation(false);
    let autopilot = builder.start(TERM).await;
    seconds(60).await;
    assert_eq!(cluster.performed(), []);
    let blocked = autopilot.state().servers[&id("n2")].blocked_by.clone().unwrap();
    assert_eq!(blocked.code(), "reconciliation-disabled");
    autopilot.enable_reconciliation();
    assert!(autopilot.is_reconciliation_enabled());
    seconds(12).await;
    assert_eq!(cluster.voters().len(), 2);
    autopilot.stop().await;
}

#[tokio::test(start_paused = true)]
async fn dead_servers_are_removed_and_the_application_forgets_the_failed_ones() {
    let cluster = cluster(&["n1", "n2", "n3"], &["n4"]);
    let application = knowing(&["n1", "n2", "n3"]);
    application.status("n3", NodeStatus::Failed);
    cluster.silent("n3", Duration::from_secs(60));
    cluster.silent("n4", Duration::from_secs(60));
    let autopilot = Autopilot::builder(cluster.clone(), application.clone()).start(TERM).await;
    seconds(20).await;
    assert_eq!(cluster.ids(), [id("n1"), id("n2")]);
    assert_eq!(application.forgotten(), [id("n3")]);
    autopilot.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_removal_on_request_reports_who_went_and_why_the_others_stay() {
    let cluster = cluster(&["n1", "n2", "n3"], &["n4", "n5"]);
    let application = knowing(&["n1", "n2", "n3", "n4"]);
    application.set_config(Some(Config {
        cleanup_dead_servers: false,
        min_quorum: 3,
        ..Config::reference()
    }));
    for failed in ["n3", "n4"] {
        application.status(failed, NodeStatus::Failed);
        cluster.silent(failed, Duration::from_secs(60));
    }
    let builder = Autopilot::builder(cluster.clone(), application.clone()).reconciliation(false);
    let autopilot = builder.start(TERM).await;
    let report = autopilot.remove_dead_servers().await.unwrap();
    let removed: Vec<_> = report.removed.iter().map(|r| (r.id.as_str(), r.class, r.index)).collect();
    assert_eq!(
        removed,
        [("n5", DeadClass::StaleNonvoter, LogIndex(101)), ("n4", DeadClass::FailedNonvoter, LogIndex(102)),]
    );
    let kept: Vec<_> = report.kept.iter().map(|k| (k.id.as_str(), k.reason.code())).collect();
    assert_eq!(kept, [("n3", "min-quorum")]);
    assert_eq!(application.forgotten(), [id("n4")]);
    autopilot.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_removal_that_the_engine_refuses_is_reported() {
    let cluster = cluster(&["n1", "n2", "n3"], &[]);
    let application = knowing(&["n1", "n2"]);
    let autopilot = Autopilot::builder(cluster.clone(), application).reconciliation(false).start(TERM).await;
    cluster.fail_next(ClusterError::OutcomeUnknown { reason: "leadership was lost".into() });
    let report = autopilot.remove_dead_servers().await.unwrap();
    assert_eq!(report.removed, []);
    assert_eq!((report.kept[0].id.as_str(), report.kept[0].reason.code()), ("n3", "engine-refused"));
    autopilot.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_step_decided_on_an_older_configuration_is_not_taken() {
    let cluster = cluster(&["n1"], &["n2"]);
    let application = knowing(&["n1", "n2"]);
    let autopilot = Autopilot::builder(cluster.clone(), application.clone()).start(TERM).await;
    let mut events = autopilot.events();
    seconds(8).await;
    cluster.fail_next(ClusterError::ConfigurationMoved { index: LogIndex(7) });
    seconds(3).await;
    assert_eq!(cluster.performed(), []);
    let told = drain(&mut events);
    assert_eq!(told, [(EventKind::Failed, "n2".into(), "engine-refused")]);
    seconds(12).await;
    assert_eq!(cluster.voters().len(), 2, "decided again on what is");
    autopilot.stop().await;
}

#[tokio::test(start_paused = true)]
async fn in_another_term_or_without_leadership_nothing_is_changed() {
    for (term, is_leader) in [(Term(2), true), (TERM, false)] {
        let cluster = cluster(&["n1"], &["n2", "n3"]);
        let application = knowing(&["n1", "n2"]);
        let autopilot = Autopilot::builder(cluster.clone(), application).start(TERM).await;
        cluster.edit(|view| (view.term, view.is_leader) = (term, is_leader));
        seconds(60).await;
        assert_eq!(cluster.performed(), []);
        let error = autopilot.add_server("n9", "n9:1").await.unwrap_err();
        assert!(
            matches!(error, AddServerError::Request(RequestError::Cluster(ClusterError::NotLeader { .. }))),
            "{error}"
        );
        let kept = autopilot.remove_dead_servers().await.unwrap().kept;
        assert_eq!((kept[0].id.as_str(), kept[0].reason.code()), ("n3", "not-leader"));
        autopilot.stop().await;
    }
}

// S2
#[tokio::test(start_paused = true)]
async fn s2_a_stopped_autopilot_holds_no_state_and_the_next_run_starts_fresh() {
    let cluster = cluster(&["n1"], &["n2"]);
    let application = knowing(&["n1", "n2"]);
    let builder = Autopilot::builder(cluster.clone(), application.clone());
    for _ in 0..20 {
        let autopilot = builder.start(TERM).await;
        let changes = autopilot.state_changes();
        autopilot.stop().await;
        assert_eq!(autopilot.status(), Status::NotRunning);
        assert!(autopilot.state().is_empty() && autopilot.last_plan().decisions.is_empty());
        assert!(changes.has_changed().is_err() || changes.borrow().is_empty());
        assert!(application.states().last().unwrap().is_empty(), "the application is told");
        assert_eq!(autopilot.voters_count().await, Err(RequestError::NotRunning));
    }
    seconds(9).await;
    let again = builder.start(TERM).await;
    seconds(9).await;
    assert_eq!(cluster.performed(), [], "a new run watches a joiner for the whole time");
    again.stop().await;
}

// A delegate that hangs or panics.
#[tokio::test(start_paused = true)]
async fn an_application_that_hangs_or_panics_delays_and_never_stops_it() {
    for behaviour in [Behaviour::Hang, Behaviour::Panic] {
        let cluster = cluster(&["n1", "n2", "n3"], &["n4"]);
        cluster.silent("n4", Duration::from_secs(60));
        let application = knowing(&["n1", "n2", "n3"]);
        application.behave(behaviour);
        let builder = Autopilot::builder(cluster.clone(), application.clone());
        let autopilot = timeout(Duration::from_secs(2), builder.start(TERM)).await.expect("start is bounded");
        seconds(60).await;
        assert_eq!(cluster.performed(), [], "an application that does not answer removes nobody");
        assert_eq!(autopilot.state().servers.len(), 4, "the engine is shown nonetheless");
        assert!(!autopilot.state().healthy);
        application.behave(Behaviour::Answer);
        seconds(30).await;
        assert!(autopilot.state().healthy, "{behaviour:?}: {:#?}", autopilot.state());
        assert_eq!(cluster.ids().len(), 3, "the stale server went");
        application.behave(behaviour);
        timeout(Duration::from_secs(5), autopilot.stop()).await.expect("stop is bounded");
        assert!(autopilot.state().is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_hangs_or_panics_never_keeps_it_from_stopping() {
    for behaviour in [Behaviour::Hang, Behaviour::Panic] {
        let cluster = cluster(&["n1"], &["n2"]);
        let application = knowing(&["n1", "n2"]);
        cluster.views(behaviour);
        let builder = Autopilot::builder(cluster.clone(), application);
        let autopilot = timeout(Duration::from_secs(2), builder.start(TERM)).await.expect("start is bounded");
        assert!(autopilot.state().is_empty());
        assert!(matches!(autopilot.compute_state().await, Err(RequestError::Cluster(_))));
        cluster.views(Behaviour::Answer);
        cluster.changes(behaviour);
        let mut events = autopilot.events();
        seconds(30).await;
        let told = drain(&mut events);
        assert!(told.contains(&(EventKind::Failed, "n2".into(), "engine-refused")), "{told:?}");
        let asked = autopilot.clone();
        let pending = tokio::spawn(async move { asked.add_server("n3", "n3:1").await });
        sleep(Duration::from_millis(1)).await;
        timeout(Duration::from_secs(1), autopilot.stop()).await.expect("stop does not wait for the engine");
        let answer = pending.await.unwrap();
        assert!(answer.is_err(), "{answer:?}");
        assert!(autopilot.state().is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_falls_silent_leaves_no_stale_state() {
    let cluster = cluster(&["n1"], &[]);
    let autopilot = Autopilot::builder(cluster.clone(), knowing(&["n1"])).start(TERM).await;
    assert!(autopilot.state().healthy);
    cluster.views(Behaviour::Hang);
    seconds(30).await;
    assert!(autopilot.state().is_empty() && !autopilot.state().healthy);
    cluster.views(Behaviour::Answer);
    seconds(5).await;
    assert!(autopilot.state().healthy);
    autopilot.stop().await;
}

// S9: the application asks for the state while it is told of it.
struct Asks {
    inner: FakeApplication,
    autopilot: parking_lot::Mutex<Option<Autopilot>>,
    seen: parking_lot::Mutex<usize>,
}

#[async_trait::async_trait]
impl autopilot::ApplicationIntegration for Asks {
    async fn config(&self) -> Option<Config> {
        self.inner.config().await
    }

    async fn known_servers(&self) -> Result<Vec<KnownServer>, autopilot::ApplicationError> {
        self.inner.known_servers().await
    }

    async fn notify_state(&self, state: &Arc<autopilot::State>) {
        let autopilot = self.autopilot.lock().clone();
        if let Some(autopilot) = autopilot {
            let asked = autopilot.state();
            assert_eq!(asked.at, state.at);
            *self.seen.lock() += 1;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn s9_the_state_may_be_asked_for_while_it_is_told() {
    let application = Arc::new(Asks {
        inner: knowing(&["n1"]),
        autopilot: parking_lot::Mutex::new(None),
        seen: parking_lot::Mutex::new(0),
    });
    let autopilot = Autopilot::builder(cluster(&["n1"], &[]), application.clone()).start(TERM).await;
    *application.autopilot.lock() = Some(autopilot.clone());
    seconds(11).await;
    assert_eq!(*application.seen.lock(), 5);
    *application.autopilot.lock() = None;
    autopilot.stop().await;
}

// S8: a state computed on demand is the one that is published.
#[tokio::test(start_paused = true)]
async fn s8_a_state_on_demand_comes_from_the_one_owner() {
    let cluster = cluster(&["n1"], &[]);
    let autopilot = Autopilot::builder(cluster.clone(), knowing(&["n1"])).start(TERM).await;
    cluster.edit(|view| view.configuration = Configuration::new(vec![Server::voter("n1", "moved:1")]));
    let state = autopilot.compute_state().await.unwrap();
    assert_eq!(state.servers[&id("n1")].address.as_str(), "moved:1");
    assert!(Arc::ptr_eq(&state, &autopilot.state()));
    autopilot.stop().await;
}

#[tokio::test(start_paused = true)]
async fn servers_are_added_moved_replaced_and_removed_on_request() {
    let cluster = cluster(&["n1", "n2", "n3"], &[]);
    let application = knowing(&["n1", "n2", "n3", "n4"]);
    let autopilot = Autopilot::builder(cluster.clone(), application).reconciliation(false).start(TERM).await;
    assert_eq!(autopilot.add_server("n2", "n2.test:8300").await, Ok(AddServerOutcome::Unchanged));
    let moved = autopilot.add_server("n2", "elsewhere:1").await.unwrap();
    assert!(matches!(moved, AddServerOutcome::AddressChanged { .. }));
    assert_eq!(cluster.voters().len(), 3, "it keeps its vote");
    let replaced = autopilot.add_server("n4", "elsewhere:1").await.unwrap();
    assert!(matches!(replaced, AddServerOutcome::Added { removed, .. } if removed == [id("n2")]));
    let taken = autopilot.add_server("n5", "n3.test:8300").await.unwrap_err();
    let expected = AddServerError::TooManyRemovals { id: id("n5"), would_remove: 1, allowed: 0 };
    assert_eq!(taken, expected);
    let leader = autopilot.add_server("n5", "n1.test:8300").await.unwrap_err();
    assert!(matches!(leader, AddServerError::AddressOfLeader { .. }));
    autopilot.remove_server("n4").await.unwrap();
    let error = autopilot.remove_server("n4").await.unwrap_err();
    assert_eq!(error.to_string(), "server n4 is not in the configuration");
    assert_eq!(cluster.ids(), [id("n1"), id("n3")]);
    autopilot.stop().await;
}

#[tokio::test(start_paused = true)]
async fn nothing_is_decided_on_a_configuration_that_another_leader_may_undo() {
    let cluster = cluster(&["n1", "n2", "n3"], &[]);
    let autopilot = Autopilot::builder(cluster.clone(), knowing(&["n1", "n2", "n3"])).start(TERM).await;
    cluster.edit(|view| view.configuration_committed = false);
    let index = cluster.view().await.unwrap().configuration_index;
    let added = autopilot.add_server("n4", "n4.test:8300").await.unwrap_err();
    assert!(added.to_string().contains("not committed"), "{added}");
    let removed = autopilot.remove_server("n3").await;
    let refused = RequestError::Cluster(ClusterError::ChangeInProgress { index });
    assert_eq!(removed, Err(RemoveServerError::Request(refused)));
    assert_eq!(cluster.performed(), []);
    // Who is there already needs no change.
    let there = autopilot.add_server("n3", "n3.test:8300").await;
    assert_eq!(there, Ok(AddServerOutcome::Unchanged));
    autopilot.stop().await;
}

// A change that was decided before its leader was deposed, and reaches it after it was elected again.
#[tokio::test(start_paused = true)]
async fn a_change_decided_in_an_earlier_term_is_made_only_on_the_same_configuration() {
    for moved in [false, true] {
        let cluster = cluster(&["n1", "n2", "n3"], &["n4"]);
        let late = Late { inner: cluster.clone(), moved };
        let autopilot = Autopilot::builder(late, knowing(&["n1", "n2", "n3", "n4"])).start(TERM).await;
        let mut events = autopilot.events();
        let before = cluster.view().await.unwrap();
        seconds(30).await;
        let view = cluster.view().await.unwrap();
        let refused = drain(&mut events).into_iter().any(|(what, ..)| what == EventKind::Failed);
        assert_eq!((refused, view.configuration.is_voter(&id("n4"))), (moved, !moved));
        assert_eq!(view.configuration.voters_count(), if moved { 2 } else { 4 });
        assert!(view.term > before.term);
        autopilot.stop().await;
    }
}

/// An engine that is deposed and elected again while a change is on its way; if `moved`, the other leader removes a voter
/// meanwhile.
struct Late {
    inner: FakeCluster,
    moved: bool,
}

#[async_trait::async_trait]
impl Cluster for Late {
    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    async fn view(&self) -> Result<ClusterView, ClusterError> {
        self.inner.view().await
    }

    async fn add_voter(
        &self,
        id: ServerId,
        address: ServerAddress,
        expected: Option<LogIndex>,
    ) -> Result<LogIndex, ClusterError> {
        if self.moved {
            self.inner.remove_server("n3".into(), None).await?;
        }
        self.inner.edit(|view| view.term = Term(3));
        self.inner.add_voter(id, address, expected).await
    }

    async fn add_nonvoter(
        &self,
        id: ServerId,
        address: ServerAddress,
        expected: Option<LogIndex>,
    ) -> Result<LogIndex, ClusterError> {
        self.inner.add_nonvoter(id, address, expected).await
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

    async fn transfer_leadership(&self, to: ServerId) -> Result<(), ClusterError> {
        self.inner.transfer_leadership(to).await
    }
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_told_once() {
    let cluster = cluster(&["n1", "n2", "n3"], &[]);
    let application = knowing(&["n1", "n2", "n3"]);
    let autopilot = Autopilot::builder(cluster.clone(), application.clone()).start(TERM).await;
    let mut events = autopilot.events();
    application.status("n2", NodeStatus::Failed);
    application.status("n3", NodeStatus::Failed);
    seconds(60).await;
    let told = drain(&mut events);
    let refusals: Vec<_> = told.iter().filter(|(what, ..)| *what == EventKind::Refused).collect();
    assert_eq!(refusals.len(), 2, "{told:?}");
    assert!(told.contains(&(EventKind::BecameUnhealthy, "n2".into(), "not-alive")));
    autopilot.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_supervisor_starts_on_gain_and_has_stopped_on_loss() {
    let cluster = cluster(&["n1"], &[]);
    let application = knowing(&["n1"]);
    let (leadership, watched) = watch::channel(Leadership::Follower);
    let supervisor =
        supervise(WatchedLeadership::from(watched), Autopilot::builder(cluster, application.clone()));
    let mut changes = supervisor.changes();
    assert!(supervisor.current().is_none());
    leadership.send_replace(Leadership::Leader { term: Term(1) });
    changes.changed().await.unwrap();
    let first = supervisor.current().unwrap();
    assert!(first.state().healthy);
    // Another term without a visible loss in between is another run.
    leadership.send_replace(Leadership::Leader { term: Term(5) });
    let second = changes.wait_for(|run| run.as_ref().is_some_and(|run| run.term() == Term(5))).await;
    let second = second.unwrap().clone().unwrap();
    assert_eq!(first.status(), Status::NotRunning, "never two at once");
    leadership.send_replace(Leadership::Follower);
    changes.wait_for(Option::is_none).await.unwrap();
    seconds(1).await;
    assert_eq!(second.status(), Status::NotRunning);
    assert!(second.state().is_empty());
    leadership.send_replace(Leadership::Leader { term: Term(6) });
    changes.wait_for(Option::is_some).await.unwrap();
    let third = supervisor.current().unwrap();
    supervisor.stop().await;
    assert_eq!(third.status(), Status::NotRunning);
    assert!(supervisor.current().is_none());
}

#[tokio::test(start_paused = true)]
async fn measurements_of_the_application_replace_those_of_the_engine() {
    struct Measures(FakeApplication);

    #[async_trait::async_trait]
    impl autopilot::ApplicationIntegration for Measures {
        async fn config(&self) -> Option<Config> {
            self.0.config().await
        }

        async fn known_servers(&self) -> Result<Vec<KnownServer>, autopilot::ApplicationError> {
            self.0.known_servers().await
        }

        async fn fetch_server_stats(
            &self,
            servers: &[KnownServer],
        ) -> Option<std::collections::BTreeMap<ServerId, autopilot::ServerStats>> {
            assert!(servers.iter().all(|server| server.node_status != NodeStatus::Left));
            Some(std::collections::BTreeMap::new())
        }
    }

    let application = knowing(&["n1", "n2", "n3"]);
    application.status("n3", NodeStatus::Left);
    let cluster = cluster(&["n1", "n2", "n3"], &[]);
    let autopilot = Autopilot::builder(cluster, Measures(application)).start(TERM).await;
    let state = autopilot.state();
    assert_eq!(state.servers[&id("n2")].health.reasons[0].code(), "no-stats");
    assert!(state.servers[&id("n1")].health.healthy, "the leader knows its own log");
    autopilot.stop().await;
}
