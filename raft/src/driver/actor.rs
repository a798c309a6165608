//! The one task that owns the core.
//!
//! Each turn waits for something, takes whatever is there from every queue in batches, steps the core, and performs the
//! effects. Disk and state machine get one batch at a time; what comes meanwhile forms the next.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use raft_types::{EntryId, LogIndex, ServerId, Term, Time};
use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use super::LeaseRead;
use super::ages::Ages;
use super::apply::{Apply, ApplyReply, Work};
use super::disk::Disk;
use super::executor::Executor;
use super::observation::{Observation, Observers};
use super::observe::{Leadership, Metrics, metrics_of};
use super::queues::{Command, Report, take_waiting};
use super::reads::{Reader, Reads};
use super::restores::Storing;
use super::views::{Membership, Views};
use super::waiters::{Client, Waiter};
use crate::config::{Config, ConfigError, ReloadableConfig};
use crate::core::{
    Effect, Event, Input, Outcome, Peer, RaftCore, Refusal, Regard, ReplyToken, Request, RequestId, Response,
    Role, Sequence, SnapshotMeta, Write,
};
use crate::error::{ChangeError, ProposeError, ReadError, SnapshotError};
use crate::state_machine::StateMachine;
use crate::storage::{LogStore, SnapshotStore, StorageError};
use crate::telemetry::{self, Saturation};
use crate::transport::{Incoming, Responder, SendError, Transport};

/// What one turn takes from a queue.
const BATCH: usize = 1024;
/// Bytes of entries handed to the state machine at a time, beyond the first.
const APPLY_BYTES: usize = 4 << 20;
/// How long stopping waits for a thread that is stuck in a system call.
const STOP_LIMIT: Duration = Duration::from_secs(5);
/// Reports that may wait before the core.
const REPORTS: usize = 64;

type LeaseReply = oneshot::Sender<Result<LeaseRead, ReadError>>;

struct Pending {
    index: LogIndex,
    term: Term,
    since: std::time::Instant,
    reply: ApplyReply,
}

pub(super) struct Actor {
    pub(super) core: RaftCore,
    pub(super) config: Config,
    pub(super) start: Instant,
    effects: Vec<Effect>,
    transport: Arc<dyn Transport>,
    pub(super) snapshots: Arc<dyn SnapshotStore>,
    pub(super) executor: Executor,
    disk: Disk,
    disk_busy: bool,
    writes: Vec<Write>,
    apply: Apply,
    apply_busy: bool,
    /// The last entry handed to the state machine, or the end of the snapshot it was told to restore.
    pub(super) handed: LogIndex,
    restore: Option<SnapshotMeta>,
    pub(super) snapshotting: bool,
    /// No snapshot for the number of entries before this moment.
    pub(super) snapshot_after: Time,
    /// A snapshot failed: none by itself before this moment.
    pub(super) snapshot_retry: Time,
    /// Spreads the snapshots of a cluster.
    pub(super) jitter: Xoshiro256PlusPlus,
    pub(super) ages: Ages,
    /// Whether this server was a member, and since when it is none any more.
    pub(super) membership: Membership,
    pub(super) snapshot_waiters: Vec<oneshot::Sender<Result<SnapshotMeta, SnapshotError>>>,
    pub(super) receiving_snapshot: bool,
    next_id: u64,
    replies: BTreeMap<ReplyToken, Responder>,
    pub(super) waiters: BTreeMap<RequestId, Waiter>,
    /// The snapshot from outside that is being stored, and who waits for it.
    pub(super) storing: Option<Storing>,
    pending: VecDeque<Pending>,
    reads: Reads,
    reports: mpsc::Receiver<Report>,
    pub(super) report_sender: mpsc::Sender<Report>,
    pub(super) metrics: watch::Sender<Arc<Metrics>>,
    pub(super) metrics_due: Time,
    pub(super) metrics_now: bool,
    pub(super) leadership: watch::Sender<Leadership>,
    pub(super) reloadable: watch::Sender<ReloadableConfig>,
    pub(super) observers: Observers,
}

/// What a server works with.
pub(super) struct Parts {
    pub(super) log_store: Box<dyn LogStore>,
    pub(super) state_machine: Box<dyn StateMachine>,
    pub(super) snapshots: Arc<dyn SnapshotStore>,
    pub(super) transport: Arc<dyn Transport>,
    pub(super) executor: Executor,
}

impl Actor {
    pub(super) fn new(core: RaftCore, config: Config, seed: u64, parts: Parts) -> (Self, Views) {
        let Parts { log_store, state_machine, snapshots, transport, executor } = parts;
        let (report_sender, reports) = mpsc::channel(REPORTS);
        let start = Instant::now();
        let (metrics, metrics_receiver) = watch::channel(Arc::new(metrics_of(&core, start)));
        let (leadership, leadership_receiver) = watch::channel(Leadership::Follower { leader: None });
        let (reloadable, reloadable_receiver) = watch::channel(ReloadableConfig::from(&config));
        let mut jitter = Xoshiro256PlusPlus::seed_from_u64(seed);
        let (observers, observations) = Observers::new(core.configuration());
        let actor = Self {
            start,
            effects: Vec::new(),
            disk: Disk::start(log_store, report_sender.clone(), &executor),
            disk_busy: false,
            writes: Vec::new(),
            apply: Apply::start(state_machine, Arc::clone(&snapshots), report_sender.clone(), &executor),
            apply_busy: false,
            handed: core.applied_index(),
            restore: None,
            snapshotting: false,
            snapshot_after: Time::ZERO + config.snapshot_interval.mul_f64(jitter.random_range(1.0..2.0)),
            snapshot_retry: Time::ZERO,
            jitter,
            ages: Ages::default(),
            membership: Membership::Unknown,
            snapshot_waiters: Vec::new(),
            receiving_snapshot: false,
            next_id: 0,
            replies: BTreeMap::new(),
            waiters: BTreeMap::new(),
            storing: None,
            pending: VecDeque::new(),
            reads: Reads::default(),
            reports,
            report_sender,
            metrics,
            metrics_due: Time::ZERO,
            metrics_now: false,
            leadership,
            reloadable,
            observers,
            core,
            config,
            snapshots,
            transport,
            executor,
        };
        let views = Views {
            metrics: metrics_receiver,
            leadership: leadership_receiver,
            reloadable: reloadable_receiver,
            observations,
        };
        (actor, views)
    }

    pub(super) async fn run(
        mut self,
        effects: Vec<Effect>,
        mut commands: mpsc::Receiver<Command>,
        mut inbox: mpsc::Receiver<Incoming>,
        stop: CancellationToken,
    ) {
        self.effects = effects;
        self.perform();
        let mut arrived = Vec::with_capacity(BATCH);
        let mut asked = Vec::with_capacity(BATCH);
        let mut reported = Vec::with_capacity(REPORTS);
        let mut saturation = Saturation::new(telemetry::MAIN_SATURATION);
        loop {
            let wake = self.start + self.wake().since(Time::ZERO);
            saturation.idle();
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                _ = self.reports.recv_many(&mut reported, REPORTS) => {}
                count = inbox.recv_many(&mut arrived, BATCH) => if count == 0 { break },
                count = commands.recv_many(&mut asked, BATCH) => if count == 0 { break },
                () = tokio::time::sleep_until(wake) => {}
            }
            saturation.busy();
            // Whatever woke us, every queue gets its turn.
            take_waiting(&mut self.reports, &mut reported, REPORTS);
            take_waiting(&mut inbox, &mut arrived, BATCH);
            take_waiting(&mut commands, &mut asked, BATCH);
            for report in reported.drain(..) {
                self.on_report(report);
            }
            for incoming in arrived.drain(..) {
                self.on_incoming(incoming);
            }
            self.on_commands(&mut asked);
            self.give_up_unwanted_restore();
            self.step(Input::Tick);
            self.perform();
            self.publish();
            if self.has_been_removed() {
                info!("removed from the cluster: stopping");
                break;
            }
        }
        // What is still queued will not be taken any more; its clients need not wait for the threads to end.
        commands.close();
        while let Ok(command) = commands.try_recv() {
            command.turn_away();
        }
        drop((commands, inbox, asked, arrived));
        self.stop().await;
    }

    pub(super) fn now(&self) -> Time {
        Time::from_nanos(u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    fn wake(&self) -> Time {
        let far = self.now() + Duration::from_secs(3600);
        self.core.next_wake().min(self.metrics_due).min(far)
    }

    pub(super) fn step(&mut self, input: Input) {
        let now = self.now();
        self.core.step(now, input, &mut self.effects);
    }

    fn take_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    fn on_report(&mut self, report: Report) {
        match report {
            Report::Persisted { through } => {
                self.disk_busy = false;
                self.step(Input::Persisted { through });
            }
            Report::StorageFailed { error } => self.on_storage_failed(&error),
            Report::Applied { index } => {
                self.apply_busy = false;
                self.step(Input::Applied { index });
                self.serve_reads();
            }
            Report::Restored { last } => {
                self.apply_busy = false;
                self.step(Input::Applied { index: last.index });
                self.observers.tell(Observation::SnapshotInstalled { last });
                self.serve_reads();
            }
            Report::SnapshotStarted => self.apply_busy = false,
            Report::SnapshotTaken { result } => self.on_snapshot_taken(result),
            Report::SnapshotReceived { from, request, regard, responder, result } => {
                self.receiving_snapshot = false;
                match result {
                    Ok(()) => self.on_request(from, request, regard, responder),
                    Err(error) => warn!(%error, leader = %from.id, "could not store the leader's snapshot"),
                }
            }
            Report::RestoreStored { request, last, stored } => {
                self.on_restore_stored(request, last, stored);
                self.publish_now();
            }
            Report::RestoreRemoved { request, last, removed } => {
                self.on_restore_removed(request, last, removed);
            }
            Report::SnapshotUnsendable { to, sequence, error } => {
                warn!(%error, follower = %to, "cannot read the snapshot to send");
                self.step(Input::SendFailed { to, sequence });
            }
        }
    }

    pub(super) fn on_storage_failed(&mut self, error: &StorageError) {
        if !self.core.storage_failed() {
            error!(%error, "the store failed; this server takes no part until it is restarted");
            self.step(Input::StorageFailed);
            self.metrics_now = true;
            self.observers.tell(Observation::StorageFailed { reason: error.to_string() });
            // Nothing is applied any more, so whoever waits for that would wait for good. The state machine may still
            // answer what it has.
            self.reads.abandon();
            self.snapshot_waiters.clear();
            self.settle();
            self.abandon(&ProposeError::OutcomeUnknown, |_| true);
        }
    }

    fn on_incoming(&mut self, incoming: Incoming) {
        match incoming {
            Incoming::Request { from, request, regard, responder } => {
                self.on_request(from, request, regard, responder);
            }
            Incoming::Snapshot { from, request, regard, meta, state, responder } => {
                self.receive_snapshot(from, request, regard, meta, state, responder);
            }
            Incoming::Response { from, sequence, response } => {
                self.observers.contact(&from);
                if matches!(response, Response::InstallSnapshot { success: true, .. }) {
                    self.observers.tell(Observation::SnapshotSent { to: from.clone() });
                }
                self.step(Input::Response { from, sequence, response });
            }
            Incoming::SendFailed { to, sequence, reason } => {
                debug!(peer = %to, %reason, "no answer");
                let full = matches!(reason, SendError::QueueFull { .. });
                if self.core.role() == Role::Leader && !full {
                    self.observers.contact_failed(&to);
                }
                self.step(Input::SendFailed { to, sequence });
            }
        }
    }

    pub(super) fn on_request(
        &mut self,
        from: Peer,
        request: Request,
        regard: Option<Regard>,
        responder: Responder,
    ) {
        if let Request::Vote { term, .. } | Request::PreVote { term, .. } = &request {
            let pre_vote = matches!(request, Request::PreVote { .. });
            self.observers.tell(Observation::VoteRequested { from: from.clone(), term: *term, pre_vote });
        }
        let reply = ReplyToken(self.take_id());
        self.replies.insert(reply, responder);
        self.step(Input::Request { from, request, reply, regard });
    }

    /// Takes a batch of requests; neighbouring proposals become one.
    fn on_commands(&mut self, commands: &mut Vec<Command>) {
        let mut batch = Vec::new();
        let mut replies = Vec::new();
        for command in commands.drain(..) {
            match command {
                Command::Propose { data, extensions, client } => {
                    batch.push((data, extensions));
                    replies.push(client);
                }
                other => {
                    self.propose(std::mem::take(&mut batch), std::mem::take(&mut replies));
                    self.on_command(other);
                }
            }
        }
        self.propose(batch, replies);
    }

    fn propose(&mut self, commands: Vec<(Bytes, Bytes)>, clients: Vec<Client>) {
        if !commands.is_empty() {
            metrics::counter!(telemetry::APPLY).increment(commands.len() as u64);
            let request = self.wait(Waiter::Proposals(clients));
            self.step(Input::Propose { request, commands });
            self.settle();
        }
    }

    pub(super) fn take_request(&mut self) -> RequestId {
        RequestId(self.take_id())
    }

    pub(super) fn wait(&mut self, waiter: Waiter) -> RequestId {
        let request = self.take_request();
        self.waiters.insert(request, waiter);
        request
    }

    fn on_command(&mut self, command: Command) {
        let input = match command {
            Command::Propose { data, extensions, client } => {
                return self.propose(vec![(data, extensions)], vec![client]);
            }
            Command::Barrier { reply } => {
                metrics::counter!(telemetry::BARRIER).increment(1);
                let client = Client { placed: None, done: reply };
                Input::Barrier { request: self.wait(Waiter::Proposals(vec![client])) }
            }
            Command::Read { reply } => Input::Read { request: self.wait(Waiter::Read(reply)) },
            Command::Verify { reply } => {
                metrics::counter!(telemetry::VERIFY_LEADER).increment(1);
                Input::VerifyLeader { request: self.wait(Waiter::Verify(reply)) }
            }
            Command::Reload { config, reply } => {
                let _ = reply.send(self.reload(&config));
                return;
            }
            Command::LeaseRead { reply } => Input::LeaseRead { request: self.wait(Waiter::LeaseRead(reply)) },
            Command::Bootstrap { configuration, reply } => {
                Input::Bootstrap { request: self.wait(Waiter::Bootstrap(reply)), configuration }
            }
            Command::AddVoter { id, address, expected, reply } => {
                Input::AddVoter { request: self.wait(Waiter::Change(reply)), id, address, expected }
            }
            Command::Change { change, expected, reply } => {
                Input::Change { request: self.wait(Waiter::Change(reply)), change, expected }
            }
            Command::ChangeMembership { changes, expected, unchecked, reply } => {
                let lagging = self.core.lagging_voter(&changes).filter(|_| !unchecked);
                if let Some((server, behind)) = lagging {
                    let _ = reply.send(Err(ChangeError::NotCaughtUp { server, behind }));
                    return;
                }
                Input::ChangeMembership { request: self.wait(Waiter::Change(reply)), changes, expected }
            }
            Command::Transfer { to, reply } => {
                Input::Transfer { request: self.wait(Waiter::Transfer(reply)), to }
            }
            Command::Restore(outside) => {
                self.begin_restore(outside);
                return self.settle();
            }
            Command::Snapshot { reply } => {
                if self.core.storage_failed() {
                    let _ = reply.send(Err(SnapshotError::Stopped));
                } else if self.handed <= self.snapshot_index() {
                    let _ = reply.send(Err(SnapshotError::NothingNew));
                } else {
                    self.snapshot_waiters.push(reply);
                }
                return;
            }
        };
        self.step(input);
        self.settle();
    }

    fn reload(&mut self, reloadable: &ReloadableConfig) -> Result<(), ConfigError> {
        let config = reloadable.applied_to(&self.config);
        config.validate()?;
        if config.lease_reads && config.election_timeout != self.config.election_timeout {
            let bound = "as it was while lease_reads is on: leases rest on every member having the same";
            return Err(ConfigError { name: "election_timeout", bound });
        }
        self.core.reload(&config);
        self.config = config;
        self.reloadable.send_replace(reloadable.clone());
        info!(?reloadable, "other tunables");
        Ok(())
    }

    /// Performs effects until a pass leaves none.
    fn perform(&mut self) {
        self.settle();
        self.feed_disk();
        self.feed_state_machine();
    }

    fn settle(&mut self) {
        while !self.effects.is_empty() {
            for effect in std::mem::take(&mut self.effects) {
                self.perform_one(effect);
            }
        }
    }

    fn perform_one(&mut self, effect: Effect) {
        match effect {
            Effect::Persist(write) => self.writes.push(write),
            Effect::Send { to, sequence, request, regard } => self.send(&to, sequence, request, regard),
            Effect::Respond { reply, response } => {
                if let Some(responder) = self.replies.remove(&reply) {
                    responder.respond(response);
                }
            }
            Effect::Ignore { reply } => drop(self.replies.remove(&reply)),
            // The state machine is fed from the core's commit index.
            Effect::Commit { .. } => {}
            Effect::Restore { meta } => {
                let by_operator = self.core.role() == Role::Leader;
                let why =
                    if by_operator { ProposeError::AbortedByRestore } else { ProposeError::OutcomeUnknown };
                self.abandon(&why, |pending| pending.index <= meta.last.index);
                self.reads.overtaken(meta.last.index);
                self.restore = Some(meta);
            }
            Effect::Resolve { request, outcome } => self.resolve(request, outcome),
            Effect::Abandon { from } => {
                self.abandon(&ProposeError::OutcomeUnknown, |pending| pending.index >= from);
            }
            Effect::Notify(event) => self.on_event(&event),
        }
    }

    fn send(&mut self, to: &Peer, sequence: Sequence, request: Request, regard: Regard) {
        let Request::InstallSnapshot { meta, .. } = &request else {
            self.transport.send(to, sequence, request, regard);
            return;
        };
        info!(follower = %to.id, last = %meta.last, "sending a snapshot");
        let last = meta.last;
        let (snapshots, transport) = (Arc::clone(&self.snapshots), Arc::clone(&self.transport));
        let (to, reports) = (to.clone(), self.report_sender.clone());
        self.executor.run(async move {
            match snapshots.open(last) {
                Ok((stored, state)) => {
                    let term = request.term().unwrap_or_default();
                    let request = Request::InstallSnapshot { term, meta: stored };
                    transport.send_snapshot(&to, sequence, request, regard, state);
                }
                Err(error) => {
                    let _ = reports.send(Report::SnapshotUnsendable { to: to.id, sequence, error }).await;
                }
            }
        });
    }

    fn abandon(&mut self, why: &ProposeError, hopeless: impl Fn(&Pending) -> bool) {
        let pending = std::mem::take(&mut self.pending);
        let (gone, kept): (VecDeque<_>, VecDeque<_>) = pending.into_iter().partition(hopeless);
        self.pending = kept;
        for pending in gone {
            let _ = pending.reply.send(Err(why.clone()));
        }
    }

    fn resolve(&mut self, request: RequestId, outcome: Outcome) {
        let Some(waiter) = self.waiters.remove(&request) else { return };
        match (outcome, waiter) {
            (Outcome::Proposed { first, .. }, Waiter::Proposals(replies)) => {
                let mut index = first.index;
                let since = Instant::now().into_std();
                for Client { placed, done: reply } in replies {
                    if let Some(placed) = placed {
                        let _ = placed.send(EntryId { term: first.term, index });
                    }
                    self.pending.push_back(Pending { index, term: first.term, since, reply });
                    index = index.next();
                }
            }
            (Outcome::Read { index }, Waiter::Read(reply)) => {
                self.reads.wait(index, Reader::Index(reply));
                self.serve_reads();
            }
            (Outcome::Read { .. }, Waiter::Verify(reply)) => drop(reply.send(Ok(()))),
            (Outcome::Read { index }, Waiter::LeaseRead(reply)) => self.serve_at(index, None, reply),
            (Outcome::LeaseRead { index, until }, Waiter::LeaseRead(reply)) => {
                self.serve_at(index, Some(until), reply);
            }
            (Outcome::Changed { index }, Waiter::Change(reply)) => {
                self.publish_now();
                let _ = reply.send(Ok(index));
            }
            (Outcome::Bootstrapped, Waiter::Bootstrap(reply)) => {
                self.publish_now();
                let _ = reply.send(Ok(()));
            }
            (Outcome::Transferred, Waiter::Transfer(reply)) => drop(reply.send(Ok(()))),
            (Outcome::RestoreBegun { meta }, Waiter::BeginRestore(outside)) => {
                self.store_restore(meta, *outside);
            }
            (Outcome::Restored { last }, Waiter::Restore(reply)) => drop(reply.send(Ok(last))),
            (Outcome::Refused(refusal), waiter) => waiter.refuse(&refusal),
            (_, waiter) => waiter.refuse(&Refusal::LeadershipLost),
        }
    }

    fn on_event(&mut self, event: &Event) {
        self.metrics_now = true;
        match event {
            Event::Role { role, term } => {
                info!(%role, %term, "role");
                let name = match role {
                    Role::Follower => telemetry::STATE_FOLLOWER,
                    Role::Candidate => telemetry::STATE_CANDIDATE,
                    Role::Leader => telemetry::STATE_LEADER,
                };
                metrics::counter!(name).increment(1);
                self.observers.role(*role, *term);
            }
            Event::Leader { leader } => {
                debug!(leader = ?leader.as_ref().map(|l| &l.id), "leader");
                self.observers.tell(Observation::Leader { leader: leader.clone() });
            }
            Event::Configuration { index } => {
                let members: Vec<ServerId> =
                    self.core.configuration().everyone().map(|s| s.id.clone()).collect();
                debug!(%index, ?members, "configuration");
                self.transport.retain(&members);
                self.observers.configuration(*index, self.core.configuration());
            }
            Event::NotCounted { id } => {
                warn!(server = %id, "this member answers with another disk than the one it voted with: it does not count until it has been taken in anew, which happens by itself while the other voters are a quorum");
                self.observers.tell(Observation::NotCounted { id: id.clone() });
            }
            Event::StartedOver { incarnation } => {
                warn!(%incarnation, "this server has no past in the cluster, or has lost it: it neither votes nor counts until the leader has taken it in anew");
                self.observers.tell(Observation::StartedOver { incarnation: *incarnation });
            }
            Event::Ready { term } => self.observers.tell(Observation::Ready { term: *term }),
        }
    }

    fn serve_reads(&mut self) {
        self.reads.serve(self.core.applied_index());
    }

    /// A confirmed read waits for the state machine; by lease it holds no longer than `until`.
    fn serve_at(&mut self, index: LogIndex, until: Option<Time>, reply: LeaseReply) {
        let until = until.map(|until| self.start + until.since(Time::ZERO));
        self.reads.wait(index, Reader::Lease(LeaseRead { index, until }, reply));
        self.serve_reads();
    }

    fn feed_disk(&mut self) {
        if !self.disk_busy && !self.writes.is_empty() {
            self.disk_busy = true;
            self.disk.submit(std::mem::take(&mut self.writes));
        }
    }

    fn feed_state_machine(&mut self) {
        if self.apply_busy || self.core.storage_failed() {
            return;
        }
        if let Some(meta) = self.restore.take() {
            self.handed = meta.last.index;
            self.give(Work::Restore(meta));
        } else if self.snapshot_due() {
            self.begin_snapshot();
        } else if self.core.commit_index() > self.handed {
            let entries = self.core.entries(self.handed.next(), self.core.commit_index(), APPLY_BYTES);
            self.handed = entries.last().map_or(self.handed, |entry| entry.id.index);
            if let Some(oldest) = self.pending.front().filter(|oldest| oldest.index <= self.handed) {
                telemetry::took(telemetry::COMMIT_TIME, oldest.since);
            }
            metrics::histogram!(telemetry::COMMIT_NUM_LOGS).record(telemetry::count(entries.len()));
            let replies =
                entries.iter().map(|entry| self.take_reply(entry.id.index, entry.id.term)).collect();
            self.give(Work::Entries(entries, replies));
        }
    }

    pub(super) fn give(&mut self, work: Work) {
        self.apply_busy = true;
        self.apply.submit(work);
    }

    fn take_reply(&mut self, index: LogIndex, term: Term) -> Option<ApplyReply> {
        while self.pending.front().is_some_and(|pending| pending.index <= index) {
            let pending = self.pending.pop_front()?;
            if pending.index == index && pending.term == term {
                return Some(pending.reply);
            }
            let _ = pending.reply.send(Err(ProposeError::OutcomeUnknown));
        }
        None
    }

    async fn stop(self) {
        self.transport.shutdown();
        let Self { disk, apply, reports, pending, waiters, reads, replies, snapshot_waiters, .. } = self;
        // Dropped replies tell whoever waits that the server has stopped.
        drop((reports, pending, waiters, reads, replies, snapshot_waiters));
        let stop = async { tokio::join!(disk.stop(), apply.stop()) };
        if tokio::time::timeout(STOP_LIMIT, stop).await.is_err() {
            warn!("the disk or the state machine does not return; its thread was left behind");
        }
    }
}
