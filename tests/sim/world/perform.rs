//! What a driver does with a core's effects.

use std::time::Duration;

use bytes::Bytes;
use raft::LogIndex;
use raft::core::{
    Effect, Entry, EntryKind, Input, Peer, Regard, ReplyToken, Request, Response, SnapshotMeta, Write,
};

use super::{Event, World};
use crate::check::contact::Sent;
use crate::check::{Step, acks_durable, transfer};
use crate::machine::{Snapshot, value};
use crate::mutant::Mutant;
use crate::random::{between, chance};
use crate::server::{Received, Seen};

impl World {
    pub(super) fn perform(&mut self, node: usize, before: Seen, effect: Effect) {
        match effect {
            Effect::Persist(write) => self.persist(node, before, write),
            Effect::Send { to, sequence, request, regard } => self.send(node, &to, sequence, request, regard),
            Effect::Respond { reply, response } => self.respond(node, before, reply, response),
            Effect::Ignore { reply } => {
                // The asker hears nothing and gives up in its own time.
                self.servers[node].received.remove(&reply);
                self.cover("requests ignored");
            }
            Effect::Commit { through } => self.commit(node, through),
            Effect::Restore { meta } => self.restore(node, &meta),
            Effect::Resolve { request, outcome } => self.resolve(node, before, request, outcome),
            Effect::Abandon { from } => self.abandon(node, from),
            Effect::Notify(_) => {}
        }
    }

    fn persist(&mut self, node: usize, before: Seen, write: Write) {
        let step = Step { node, now: self.now, before, commits: Vec::new(), servers: &self.servers };
        let verdict = self.checks.writes(&step, &write);
        if let Err((check, sentence)) = verdict {
            self.judge(check, Err(sentence));
            if self.failure.is_some() {
                return;
            }
        }
        self.cover_joint(node, &write);
        if write.truncate_from.is_some() {
            self.cover("truncations");
        }
        if write.compact_through.is_some() {
            self.cover("compactions");
        }
        let taken = self.servers[node].log.apply(&write);
        self.judge("disk", taken);
        let mut takes = self.disk_delay();
        let now = self.now;
        let server = &mut self.servers[node];
        if server.disk.slow_until > now {
            takes *= 50;
        }
        let (epoch, through) = (server.epoch, write.id);
        server.disk.queue.push_back(write);
        // Writes are done in order; those that wait behind one another share a sync.
        let done = server.disk.busy_until.max(now + takes);
        server.disk.busy_until = done;
        self.schedule_at(done, Event::DiskDone { node, epoch, through, told: true });
    }

    fn cover_joint(&mut self, node: usize, write: &Write) {
        let leads = self.servers[node].leads();
        for entry in &write.entries {
            if let EntryKind::Configuration(configuration) = &entry.kind
                && configuration.is_joint()
            {
                self.cover(if leads {
                    "joint configurations begun"
                } else {
                    "joint configurations followed"
                });
            }
        }
    }

    fn send(
        &mut self,
        node: usize,
        to: &Peer,
        sequence: raft::core::Sequence,
        mut request: Request,
        regard: Regard,
    ) {
        let Some(target) = self.servers.iter().position(|server| server.peer == *to) else {
            return self.miss(node, to, sequence);
        };
        if let Some(term) = request.term()
            && !matches!(request, Request::PreVote { .. })
        {
            self.promise(node, term);
        }
        if let Request::Vote { term, .. } = &request {
            let server = &self.servers[node];
            let verdict = self.checks.one_vote.votes(server, *term, &server.peer.id);
            self.judge("one_vote", verdict);
        }
        if let (Request::TimeoutNow { .. }, Some(core)) = (&request, &self.servers[node].core) {
            let verdict = transfer::tells(core, to);
            self.judge("transfer", verdict);
        }
        if self.servers[node].disk.failed {
            let sentence =
                format!("the disk of {} has failed, and it says {request:?}", self.servers[node].peer.id);
            self.judge("poisoned", Err(sentence));
        }
        let epoch = self.servers[node].epoch;
        let sent = Sent { at: self.now, shown: self.servers[node].clock.local(self.now) };
        self.checks.contact.asks(node, epoch, sequence, target, sent);
        let snapshot = self.snapshot_for(node, &request);
        let whole = self.servers[target].is_up() && !self.broken.contains(&target);
        if snapshot.is_some() && whole {
            *self.snapshots_sent.entry(target).or_default() += 1;
        }
        self.servers[node].sent.insert(sequence, target);
        let timeout = self.options.request_timeout;
        self.schedule(timeout, Event::GiveUp { node, epoch, sequence });
        if matches!(request, Request::InstallSnapshot { .. }) && snapshot.is_none() {
            self.cover("snapshots gone before they were sent");
            return;
        }
        if let Some(filter) = &mut self.filter
            && !filter(node, target, &request)
        {
            return;
        }
        if self.options.mutant == Some(Mutant::EntryAltered) && chance(&mut self.disk_random, 5) {
            alter(&mut request);
        }
        if self.hold.as_mut().is_some_and(|hold| hold(node, target, &request)) {
            let received = Box::new(Received { from: node, epoch, sequence, request, regard: Some(regard) });
            self.held.push(Event::Deliver { node: target, received, snapshot: snapshot.map(Box::new) });
            return;
        }
        for delay in self.network.route(node, target) {
            let received = Box::new(Received {
                from: node,
                epoch,
                sequence,
                request: request.clone(),
                regard: Some(regard),
            });
            let snapshot = snapshot.clone().map(Box::new);
            self.schedule(delay, Event::Deliver { node: target, received, snapshot });
        }
    }

    /// Nobody of that id is at that address: whoever is there refuses, or nobody answers (M12).
    fn miss(&mut self, node: usize, to: &Peer, sequence: raft::core::Sequence) {
        if !self.servers.iter().any(|server| server.peer.id == to.id) {
            return self.judge("addresses", Err(format!("{} sends to {to:?}", self.servers[node].peer.id)));
        }
        let taken = self.servers.iter().position(|server| server.peer.address == to.address);
        self.cover(if taken.is_some() {
            "requests refused by another server"
        } else {
            "requests to an old address"
        });
        let epoch = self.servers[node].epoch;
        self.servers[node].sent.insert(sequence, taken.unwrap_or(node));
        let after = if taken.is_some() { 2 * self.options.delay.1 } else { self.options.request_timeout };
        self.schedule(after, Event::GiveUp { node, epoch, sequence });
    }

    fn promise(&mut self, node: usize, term: raft::Term) {
        let server = &mut self.servers[node];
        server.promised = server.promised.max(term);
    }

    fn snapshot_for(&mut self, node: usize, request: &Request) -> Option<Snapshot> {
        let Request::InstallSnapshot { meta, .. } = request else { return None };
        self.cover("snapshots sent");
        let read = self.servers[node].disk.read_snapshot(meta.last);
        read.unwrap_or_else(|sentence| {
            self.judge("snapshots", Err(sentence));
            None
        })
    }

    fn respond(&mut self, node: usize, before: Seen, reply: ReplyToken, response: Response) {
        let Some(received) = self.servers[node].received.remove(&reply) else {
            return self
                .judge("answers", Err(format!("{} answers {reply:?} twice", self.servers[node].peer.id)));
        };
        if let Some(term) = response.term() {
            self.promise(node, term);
        }
        let server = &self.servers[node];
        let verdict = acks_durable::answers(server, before.term, &received, &response);
        self.judge("acks_durable", verdict);
        if let (Request::Vote { .. }, Response::Vote { term, granted: true, .. }) =
            (&received.request, &response)
        {
            let server = &self.servers[node];
            let candidate = &self.servers[received.from].peer.id;
            let verdict = self.checks.one_vote.votes(server, *term, candidate);
            self.judge("one_vote", verdict);
        }
        if let (Response::ReadIndex { index: Some(_), .. }, Some(core)) =
            (&response, &self.servers[node].core)
        {
            let verdict = self.checks.contact.gives_read_index((node, before), core, &self.servers, reply);
            self.judge("reads", verdict);
        }
        let response = self.forge(response);
        if received.epoch == u64::MAX {
            self.said.push((node, response));
        } else if self.hold_answers == Some((node, received.from)) {
            let Received { from, epoch, sequence, .. } = received;
            self.held.push(Event::Answer { node: from, epoch, from: node, sequence, response });
            return;
        }
        for delay in self.network.route(node, received.from) {
            let Received { from, epoch, sequence, .. } = received;
            self.schedule(delay, Event::Answer { node: from, epoch, from: node, sequence, response });
        }
    }

    fn forge(&mut self, response: Response) -> Response {
        match (self.options.mutant, response) {
            (Some(Mutant::GrantForged), Response::Vote { term, granted: false, incarnation }) => {
                Response::Vote { term, granted: true, incarnation }
            }
            (
                Some(Mutant::AckForged),
                Response::Append { success: false, term, last_log, features, incarnation },
            ) => Response::Append { success: true, term, last_log, features, incarnation },
            (_, response) => response,
        }
    }

    fn commit(&mut self, node: usize, through: LogIndex) {
        let server = &mut self.servers[node];
        let reached = server.to_apply.back().map_or(server.machine.last.index, |entry| entry.id.index);
        let Some(core) = &server.core else { return };
        let entries = core.entries(reached.next(), through, usize::MAX);
        let complete = entries.last().is_some_and(|entry| entry.id.index == through);
        if through > reached && !complete {
            let sentence = format!(
                "{} commits through {through} but does not hold what follows {reached}",
                server.peer.id
            );
            return self.judge("commit", Err(sentence));
        }
        server.to_apply.extend(entries);
        self.plan_apply(node);
    }

    fn plan_apply(&mut self, node: usize) {
        let server = &mut self.servers[node];
        if server.applying || server.to_apply.is_empty() {
            return;
        }
        server.applying = true;
        let epoch = server.epoch;
        let takes = between(&mut self.disk_random, Duration::ZERO, self.options.apply);
        self.schedule(takes, Event::ApplyDone { node, epoch });
    }

    pub(super) fn apply_done(&mut self, node: usize, epoch: u64) {
        if !self.is_current(node, epoch) {
            return;
        }
        self.servers[node].applying = false;
        let batch: Vec<Entry> = self.servers[node].to_apply.drain(..).collect();
        for entry in &batch {
            self.apply(node, entry);
            if self.failure.is_some() {
                return;
            }
        }
        self.serve_reads(node);
        if let Some(last) = batch.last() {
            self.step(node, Input::Applied { index: last.id.index });
        }
        self.maybe_snapshot(node);
        self.plan_apply(node);
    }

    fn apply(&mut self, node: usize, entry: &Entry) {
        let times = self.times_applied(entry);
        let server = &mut self.servers[node];
        if entry.id.index != server.machine.last.index.next() {
            let sentence = format!("{} applies {} after {}", server.peer.id, entry.id, server.machine.last);
            return self.judge("state_machine_safety", Err(sentence));
        }
        let mut answer = None;
        for _ in 0..times {
            answer = answer.or(server.machine.apply(entry));
        }
        server.machine.last = entry.id;
        let verdict = self.checks.state_machine_safety.reached(server.peer.id.as_str(), &server.machine);
        self.judge("state_machine_safety", verdict);
        if entry.kind == EntryKind::Command {
            let place = (self.servers[node].machine.restored, entry.id.index);
            let verdict = self.checks.clients.applies(value(entry), place);
            self.judge("clients", verdict);
        }
        self.answer_proposal(node, entry, answer);
    }

    fn times_applied(&mut self, entry: &Entry) -> u32 {
        let hit = entry.kind == EntryKind::Command && chance(&mut self.disk_random, 20);
        match self.options.mutant {
            Some(Mutant::ApplySkips) if hit => 0,
            Some(Mutant::ApplyRepeats) if hit => 2,
            _ => 1,
        }
    }

    fn maybe_snapshot(&mut self, node: usize) {
        let server = &mut self.servers[node];
        let stored = server.disk.newest().map_or(LogIndex::ZERO, |snapshot| snapshot.meta.last.index);
        let due = server.machine.last.index.ahead_of(stored) >= self.options.snapshot_every;
        if !due || server.snapshotting || server.disk.failed {
            return;
        }
        server.snapshotting = true;
        let mut snapshot = server.machine.snapshot();
        if self.options.mutant == Some(Mutant::SnapshotConfigurationAhead)
            && let Some(core) = &server.core
        {
            snapshot.meta.configuration = core.configuration().clone();
            snapshot.meta.configuration_index = core.configuration_index();
        }
        let epoch = server.epoch;
        server.disk.writing = Some(snapshot.clone());
        let takes = self.disk_delay() * 3;
        self.schedule(takes, Event::SnapshotDone { node, epoch, snapshot: Box::new(snapshot) });
    }

    pub(super) fn snapshot_done(&mut self, node: usize, epoch: u64, snapshot: Snapshot) {
        if !self.is_current(node, epoch) || self.servers[node].disk.failed {
            return;
        }
        self.servers[node].snapshotting = false;
        self.judge_stored(node, &snapshot);
        self.cover("snapshots taken");
        self.servers[node].disk.writing = None;
        match self.servers[node].disk.store(snapshot) {
            Ok(Some(meta)) => {
                let verdict = self.specification.stored(node, &meta);
                self.judge("specification", verdict);
                self.step(node, Input::SnapshotTaken { meta });
            }
            Ok(None) => self.cover("snapshots that could not be stored"),
            Err(sentence) => self.judge("disk", Err(sentence)),
        }
    }

    fn restore(&mut self, node: usize, meta: &SnapshotMeta) {
        self.cover("snapshots installed");
        let server = &mut self.servers[node];
        let Ok(Some(snapshot)) = server.disk.read_snapshot(meta.last) else {
            let sentence =
                format!("{} installs a snapshot of {} that is not stored", server.peer.id, meta.last);
            return self.judge("snapshots", Err(sentence));
        };
        let index = meta.last.index;
        let before = std::mem::replace(&mut server.machine, (*snapshot.state).clone()).restored;
        server.to_apply.retain(|entry| entry.id.index > index);
        let epoch = server.epoch;
        self.note_rescue(before, &snapshot.state);
        // What was confirmed is not to be read from another state.
        if self.options.mutant != Some(Mutant::ReadsOutliveRestore) {
            self.servers[node].reading.clear();
        }
        self.serve_reads(node);
        self.overtake(node, index);
        let takes = between(&mut self.disk_random, Duration::ZERO, self.options.apply);
        self.schedule(takes, Event::Restored { node, epoch, index });
    }
}

fn alter(request: &mut Request) {
    if let Request::Append { entries, .. } = request
        && let Some(entry) = entries.iter_mut().rev().find(|entry| entry.kind == EntryKind::Command)
    {
        entry.data = Bytes::from_static(b"altered on its way");
    }
}
