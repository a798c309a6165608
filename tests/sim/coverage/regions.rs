//! The regions, by the ids of the catalogue.

use raft::core::{Effect, EntryKind, Event, Input, Outcome, RaftCore, Refusal, Request, Response, Role};
use raft::{Configuration, LogIndex, Suffrage};

use super::{Moment, Regions};
use crate::server::SimServer;

/// Every region that random runs enter, and what that means.
pub const REGIONS: &[(&str, &str)] = &[
    ("E01", "a server that voted meets another candidate of its term"),
    ("E02", "a candidate restarts, and is asked for its vote in the term of its campaign"),
    ("E03", "a crash while a vote is on its way to the disk"),
    ("E04", "a request of an older term"),
    ("E05", "a vote arrives twice"),
    ("E06", "a pre-vote arrives after the campaign began"),
    ("E08", "a refused pre-vote names a newer term"),
    ("E09", "a pre-vote while the receiver remembers a leader that leads no more"),
    ("E10", "the candidate's log is longer but older than the voter's, or the other way round"),
    ("E11", "a candidate that is no voter to whom it asks"),
    ("E12", "a campaign under a change that is not known to be committed"),
    ("E13", "a server that is no member asks for a vote"),
    ("E14", "a leader steps down while some links work one way only"),
    ("E15", "all servers are down at once"),
    ("E16", "time passes at a server that has no vote"),
    ("E17", "a single voter becomes leader"),
    ("E18", "a TimeoutNow of another term, or of somebody who does not lead"),
    ("E19", "a leader hears of a term that is two or more ahead"),
    ("R01", "a leader begins with entries of older terms that a quorum holds and that are not committed"),
    ("R02", "a request to append ends before the log does, and fits"),
    ("R03", "a request to append begins before what is compacted"),
    ("R04", "a write is done while a later one truncates"),
    ("R05", "a heartbeat while entries are not durable"),
    ("R06", "a leader commits what its own disk does not hold"),
    ("R07", "a commit with an even number of voters, or a joint configuration"),
    ("R08", "an answer to an earlier life of its receiver"),
    ("R09", "a refusal that names less than is known to match"),
    ("R11", "a request of a leader fails while its follower is behind"),
    ("R12", "a request to append at a server whose disk stands still"),
    ("R13", "entries are truncated"),
    ("R14", "five or more entries are truncated"),
    ("R15", "a request without entries moves the commit index"),
    ("R16", "a leader begins with entries that are not committed"),
    ("R17", "a commit goes beyond a configuration in the same step"),
    ("R18", "a write of a leader is done when it leads no more"),
    ("R19", "leadership ends while clients wait"),
    ("R20", "a proposal is refused because too much is uncommitted"),
    ("R21", "a follower has a whole window of requests unanswered"),
    ("R22", "a heartbeat while the state machine is behind"),
    ("D01", "a sync fails"),
    ("D02", "a store fails with several answers waiting for it"),
    ("D03", "a leader's disk stands still"),
    ("D04", "a leader's store fails"),
    ("D05", "a crash while a snapshot is written"),
    ("D07", "a server finds damage and refuses to start"),
    ("D08", "a crash while a truncation is on its way to the disk"),
    ("D09", "a restart between a snapshot and the reset of the log"),
    ("D10", "a restart with a change in the log that is not known to be committed"),
    ("D11", "a disk is full"),
    ("D12", "a server with a damaged disk is replaced, or one comes back with an empty or an older disk"),
    ("D15", "a snapshot from outside becomes the state of the cluster"),
    ("D14", "a single voter restarts with entries to apply"),
    ("D16", "a crash while term and vote are on their way to the disk"),
    ("P01", "a snapshot replaces a log that reaches beyond it and contradicts it"),
    ("P02", "a restart between a snapshot and the reset of the log"),
    ("P03", "a snapshot is installed while entries wait to be applied"),
    ("P04", "a snapshot replaces an uncommitted configuration"),
    ("P05", "a snapshot is taken while an uncommitted configuration is in the log"),
    ("P06", "a backup is restored that knows other members than the cluster has"),
    ("P08", "a request to append begins right after the snapshot"),
    ("P09", "a snapshot is sent by a leader whose log is empty"),
    ("P11", "a leader takes a snapshot while an older one is on its way"),
    ("P12", "a snapshot arrives that is older than the commit index"),
    ("P13", "a snapshot arrives that ends where the receiver's snapshot does"),
    ("P14", "a request from the very beginning arrives at a compacted log"),
    ("P16", "a snapshot arrives at a candidate"),
    ("M01", "a change is asked for before the leader is ready"),
    ("M02", "a change is asked for while another is under way"),
    ("M03", "leadership ends while the configuration is joint"),
    ("M04", "a leader begins with a joint configuration that is not committed"),
    ("M05", "members change among one or two voters"),
    ("M06", "a voter is added that is down"),
    ("M07", "a server that was removed is added again"),
    ("M08", "a leader appends a configuration in which it has no vote"),
    ("M09", "a member is removed while a snapshot is on its way to it"),
    ("M10", "voters change while there are learners"),
    ("M11", "a commit while there are learners"),
    ("M13", "a configuration is truncated"),
    ("M14", "members change while reads wait"),
    ("M15", "a joint configuration while a new voter is behind"),
    ("M17", "a server takes in the entry by which it was removed, and is a member after it"),
    ("M18", "a configuration that was in force is truncated"),
    ("L01", "something is asked for while leadership is handed over"),
    ("L02", "a transfer fails"),
    ("L03", "a read by lease while leadership is handed over"),
    ("L04", "a read by lease after the leader told another to campaign"),
    ("L05", "an answer that a leader gets late"),
    ("L06", "a read is served by lease while clocks drift"),
    ("L07", "a server that served reads by lease stood still"),
    ("L08", "a read before the leader is ready"),
    ("L09", "a read while another one waits"),
    ("L10", "a read at a leader that is cut off from a quorum"),
    ("L13", "what clients saw is judged as a whole"),
];

/// Items that random runs do not enter, and why.
pub const OUT_OF_REACH: &[(&str, &str)] = &[
    ("E07", "all servers of a run have pre-vote, or none has; a scenario mixes them"),
    ("R10", "writes are done in order; a unit test reports them in any"),
    ("R23", "servers forward no proposals"),
    ("D06", "lengths in records: a test flips every bit"),
    ("D13", "nothing is applied in place"),
    ("P07", "restoring is never slower than a request's timeout; a scenario makes it so"),
    ("P10", "about a byte stream, which the simulated network is not"),
    ("P15", "about a byte stream, which the simulated network is not"),
    ("M12", "servers keep their addresses"),
    ("M16", "nobody recovers a cluster offline in random runs"),
    ("L11", "a candidate has no lease"),
    ("L12", "about the application"),
];

/// Regions that are entered when the simulator counts something.
pub(super) const COUNTED: &[(&str, &str)] = &[
    ("R08", "answers to an earlier life"),
    ("D01", "disks that fail to sync"),
    ("D07", "servers lost to damage"),
    ("D09", "logs reset to a newer snapshot at a restart"),
    ("P02", "logs reset to a newer snapshot at a restart"),
    ("D11", "full disks"),
    ("D12", "servers replaced"),
    ("D12", "servers taken in anew"),
    ("D12", "disks that come back older"),
    ("D15", "restores done"),
    ("P06", "restores of a backup that knows other members"),
    ("L13", "histories judged"),
];

fn votes(configuration: &Configuration, id: &raft::ServerId) -> bool {
    configuration.is_voter(id)
}

/// Whether a configuration other than the first is in force and not known to be committed.
fn is_open(core: &RaftCore) -> bool {
    core.configuration_index() > core.commit_index().max(LogIndex(1))
}

fn learners(configuration: &Configuration) -> bool {
    configuration.servers().iter().any(|server| server.suffrage == Suffrage::Nonvoter)
}

impl Regions {
    /// Looks at a step.
    pub fn steps(&mut self, moment: &Moment<'_>) {
        match moment.input {
            Input::Request { from, request, .. } => {
                self.request(moment, &from.id, request);
                self.snapshot_request(moment, request);
            }
            Input::Response { from, sequence, response } => {
                let key = (moment.node, moment.server().epoch, *sequence);
                self.response(moment, from, key, response);
            }
            other => self.other_input(moment, other),
        }
        self.roles(moment);
        moment.effects.iter().for_each(|effect| self.effect(moment, effect));
        self.commits(moment);
        self.members(moment);
    }

    fn request(&mut self, moment: &Moment<'_>, from: &raft::ServerId, request: &Request) {
        let before = &moment.before;
        let older = request.term().is_some_and(|term| term < before.term);
        self.enter_if("E04", older && !matches!(request, Request::TimeoutNow { .. }));
        match request {
            Request::Vote { term, last, .. } => {
                let (own, me) = (before.last, &moment.core.me().id);
                let voted = before.voted_for.as_ref().filter(|_| *term == before.term);
                self.enter_if("E01", voted.is_some_and(|known| known != from));
                let started = self.started.get(&moment.node) == Some(term);
                self.enter_if("E02", started && voted == Some(me) && from != me);
                let crossed = (last.term < own.term && last.index > own.index)
                    || (last.term > own.term && last.index < own.index);
                self.enter_if("E10", crossed);
                self.asked_by(moment, from);
            }
            Request::PreVote { .. } => {
                let leader = before.leader.as_ref().and_then(|leader| moment.server_of(leader));
                self.enter_if("E09", leader.is_some_and(|leader| !leader.leads()));
                self.asked_by(moment, from);
            }
            Request::Heartbeat { .. } => {
                self.enter_if("R05", before.durable < before.last.index);
                self.enter_if("R22", before.applied < before.commit);
            }
            Request::TimeoutNow { term } => {
                let other = term.is_some_and(|term| term != before.term);
                self.enter_if("E18", other || before.leader.as_ref() != Some(from));
            }
            Request::Append { prev, entries, .. } => self.append(moment, prev.index, entries),
            Request::InstallSnapshot { .. } | Request::ReadIndex => {}
        }
    }

    fn asked_by(&mut self, moment: &Moment<'_>, from: &raft::ServerId) {
        let configuration = moment.core.configuration();
        self.enter_if("E11", !votes(configuration, from));
        self.enter_if("E13", configuration.server(from).is_none() && !configuration.is_empty());
    }

    fn append(&mut self, moment: &Moment<'_>, prev: LogIndex, entries: &[raft::core::Entry]) {
        let (before, server) = (&moment.before, moment.server());
        let end = prev.0 + entries.len() as u64;
        let same = moment.core.last() == before.last;
        let held = entries.iter().all(|entry| server.log.holds(entry.id));
        self.enter_if("R02", !entries.is_empty() && held && same && end < before.last.index.0);
        self.enter_if("R03", prev < server.log.base.index);
        self.enter_if("P14", prev == LogIndex::ZERO && server.log.base.index > LogIndex::ZERO);
        self.enter_if("P08", prev > LogIndex::ZERO && prev == server.log.base.index);
        let stands = moment.options.config.election_timeout;
        self.enter_if("R12", server.disk.busy_until > moment.now + stands);
        self.enter_if("R15", entries.is_empty() && moment.core.commit_index() > before.commit);
        let unanswered = |r: &&crate::server::Received| matches!(r.request, Request::Append { .. });
        let window = moment.options.config.inflight_max;
        self.enter_if("R21", server.received.values().filter(unanswered).count() >= window);
        let me = &moment.core.me().id;
        let removes = entries.iter().any(|entry| match &entry.kind {
            EntryKind::Configuration(configuration) => configuration.server(me).is_none(),
            EntryKind::Command | EntryKind::Noop | EntryKind::Barrier => false,
        });
        self.enter_if("M17", removes && moment.core.configuration().server(me).is_some());
    }

    fn snapshot_request(&mut self, moment: &Moment<'_>, request: &Request) {
        let Request::InstallSnapshot { meta, .. } = request else { return };
        let (before, last) = (&moment.before, meta.last.index);
        let restores = moment.effects.iter().any(|effect| matches!(effect, Effect::Restore { .. }));
        let resets = moment.effects.iter().any(|e| matches!(e, Effect::Persist(w) if w.reset_to.is_some()));
        self.enter_if("P01", restores && resets && before.last.index >= last);
        self.enter_if("P03", restores && before.applied < before.commit);
        let replaced = before.configuration > before.commit && before.configuration <= last;
        self.enter_if("P04", restores && (replaced || (resets && before.configuration > before.commit)));
        self.enter_if("P12", last < before.commit);
        self.enter_if("P13", moment.server().machine.last.index == last);
        self.enter_if("P16", before.role == Role::Candidate);
    }

    fn response(
        &mut self,
        moment: &Moment<'_>,
        from: &raft::ServerId,
        key: (usize, u64, raft::core::Sequence),
        response: &Response,
    ) {
        let before = &moment.before;
        let ahead = response.term().is_some_and(|term| term.0 >= before.term.0 + 2);
        self.enter_if("E19", before.leads() && ahead);
        match response {
            Response::Vote { granted: true, .. } => {
                let again = !self.grants.insert(key);
                self.enter_if("E05", again);
            }
            Response::PreVote { granted: true, .. } => {
                let began = before.voted_for.as_ref() == Some(&moment.core.me().id) || before.leads();
                self.enter_if("E06", began);
            }
            Response::PreVote { term, granted: false, .. } => self.enter_if("E08", *term > before.term),
            Response::Append { success, last_log, .. } if before.leads() => {
                let known = moment.core.follower(from);
                self.enter_if("R09", !success && known.is_some_and(|known| known.matched.index > *last_log));
                let late = moment.options.config.election_timeout / 2;
                let local = moment.server().clock.local(moment.now);
                self.enter_if("L05", known.is_some_and(|known| local.since(known.contact) > late));
            }
            _ => {}
        }
    }

    fn other_input(&mut self, moment: &Moment<'_>, input: &Input) {
        let (before, server) = (&moment.before, moment.server());
        let disk = &server.disk;
        match input {
            Input::Tick => {
                let me = &moment.core.me().id;
                self.enter_if("E16", !votes(moment.core.configuration(), me));
                let stands = moment.options.config.election_timeout;
                self.enter_if("D03", before.leads() && disk.busy_until > moment.now + stands);
            }
            Input::SendFailed { to, .. } => {
                let known = moment.core.follower(to);
                let behind = known.is_some_and(|known| known.matched.index < before.last.index);
                self.enter_if("R11", before.leads() && behind);
            }
            Input::Persisted { .. } => {
                self.enter_if("R04", disk.queue.iter().any(|write| write.truncate_from.is_some()));
                let left = self.unsynced.remove(&moment.node);
                self.enter_if("R18", left && before.role != Role::Leader);
            }
            Input::StorageFailed => {
                self.enter_if("D02", server.received.len() >= 2);
                self.enter_if("D04", before.leads());
            }
            Input::SnapshotTaken { .. } => {
                self.enter_if("P05", before.configuration > before.commit);
                let on_their_way = self.snapshots.iter().any(|(node, to)| {
                    *node == moment.node && moment.core.follower(to).is_some_and(|f| f.snapshotting)
                });
                self.enter_if("P11", before.leads() && on_their_way);
            }
            Input::Transfer { request, .. } if before.leads() => {
                self.handing_over.insert((moment.node, *request));
            }
            Input::Read { .. } | Input::LeaseRead { .. } if before.leads() => self.read(moment, input),
            _ => {}
        }
    }

    fn read(&mut self, moment: &Moment<'_>, input: &Input) {
        let before = &moment.before;
        let leased = matches!(input, Input::LeaseRead { .. });
        let told = self.told.contains(&(moment.node, before.term));
        self.enter_if("L03", leased && self.handing_over.iter().any(|(node, _)| *node == moment.node));
        self.enter_if("L04", leased && told);
        self.enter_if("L08", !before.ready);
        let waiting = self.reads.entry(moment.node).or_default();
        let others = *waiting > 0;
        *waiting += 1;
        self.enter_if("L09", others);
        let reached = |id: &raft::ServerId| {
            let other = moment.servers.iter().position(|server| server.peer.id == *id);
            other.is_some_and(|other| {
                other == moment.node
                    || (moment.servers[other].is_up() && !moment.network.cuts.contains(&(other, moment.node)))
            })
        };
        let configuration = moment.core.configuration();
        let count = configuration.voters().filter(|voter| reached(&voter.id)).count();
        self.enter_if("L10", count < configuration.quorum());
    }

    fn roles(&mut self, moment: &Moment<'_>) {
        let (before, core) = (&moment.before, moment.core);
        let left = before.leads() && !moment.leads();
        if left {
            self.reads.remove(&moment.node);
            let one_way = |(from, to): &&(usize, usize)| !moment.network.cuts.contains(&(*to, *from));
            let same_term = before.term == core.term();
            self.enter_if("E14", same_term && moment.network.cuts.iter().any(|cut| one_way(&cut)));
            self.enter_if("R19", !moment.server().waiting.is_empty());
            self.enter_if("M03", before.joint);
            if before.durable < before.last.index {
                self.unsynced.insert(moment.node);
            }
        }
        let campaigns = core.role() == Role::Candidate && core.term() > before.term;
        self.enter_if("E12", campaigns && is_open(core));
        if !moment.begins_to_lead() {
            return;
        }
        self.enter_if("E17", core.configuration().voters_count() == 1 && !core.configuration().is_joint());
        self.enter_if("R16", before.last.index > before.commit.max(LogIndex(1)));
        self.enter_if("M04", before.joint && before.configuration > before.commit);
        let committed =
            moment.servers.iter().filter_map(|server| server.core.as_ref()).map(RaftCore::commit_index);
        let open = before.last.index > committed.max().unwrap_or_default();
        let holders = core.configuration().voters().filter(|voter| {
            moment.server_of(&voter.id).is_some_and(|server| server.disk.log.holds(before.last))
        });
        self.enter_if("R01", open && holders.count() >= core.configuration().quorum());
    }

    fn effect(&mut self, moment: &Moment<'_>, effect: &Effect) {
        let before = &moment.before;
        match effect {
            Effect::Persist(write) => {
                if let Some(from) = write.truncate_from {
                    self.enter("R13");
                    self.enter_if("R14", from.0 + 5 <= before.last.index.next().0);
                    self.enter_if("M13", from <= before.configuration);
                    self.enter_if("M18", from == before.configuration);
                }
            }
            Effect::Send { to, request: Request::InstallSnapshot { .. }, .. } => {
                self.snapshots.insert((moment.node, to.id.clone()));
                self.enter_if("P09", moment.server().log.entries.is_empty());
            }
            Effect::Send { request: Request::TimeoutNow { .. }, .. } => {
                self.told.insert((moment.node, before.term));
            }
            Effect::Resolve { request, outcome } => {
                self.handing_over.remove(&(moment.node, *request));
                self.outcome(moment, outcome);
            }
            _ => {}
        }
    }

    fn outcome(&mut self, moment: &Moment<'_>, outcome: &Outcome) {
        let changes = matches!(moment.input, Input::Change { .. } | Input::ChangeMembership { .. });
        match outcome {
            Outcome::Refused(Refusal::Overloaded) => self.enter("R20"),
            Outcome::Refused(Refusal::NotReady) => self.enter_if("M01", changes),
            Outcome::Refused(Refusal::ChangeInProgress { .. }) => self.enter_if("M02", changes),
            Outcome::Refused(Refusal::TransferInProgress) => self.enter("L01"),
            Outcome::Refused(Refusal::TransferFailed) => self.enter("L02"),
            Outcome::Read { .. } | Outcome::LeaseRead { .. } => {
                if let Some(waiting) = self.reads.get_mut(&moment.node) {
                    *waiting = waiting.saturating_sub(1);
                }
                let leased = matches!(outcome, Outcome::LeaseRead { .. });
                self.enter_if("L06", leased && moment.options.drift > 0);
            }
            _ => {}
        }
    }

    fn commits(&mut self, moment: &Moment<'_>) {
        let (before, core) = (&moment.before, moment.core);
        let Some(through) = moment.commits().filter(|_| before.leads()) else { return };
        self.enter_if("R06", through > before.durable);
        self.enter_if("R07", before.joint || before.voters.is_multiple_of(2));
        let crosses = before.configuration > before.commit && through > before.configuration;
        self.enter_if("R17", crosses && before.configuration > LogIndex(1));
        self.enter_if("M11", learners(core.configuration()));
    }

    /// Looks at configurations that a leader appends.
    fn members(&mut self, moment: &Moment<'_>) {
        let core = moment.core;
        let appended = moment.effects.iter().any(|effect| {
            matches!(effect, Effect::Notify(Event::Configuration { index }) if *index > moment.before.last.index)
        });
        if !appended || !moment.before.leads() || !moment.leads() {
            return;
        }
        let (_, old) = core.configuration_at(core.configuration_index().previous());
        let new = core.configuration();
        let members =
            |of: &Configuration| -> Vec<raft::ServerId> { of.everyone().map(|s| s.id.clone()).collect() };
        for id in members(old).into_iter().filter(|id| new.server(id).is_none()) {
            let on_its_way = self.snapshots.contains(&(moment.node, id.clone()));
            self.enter_if("M09", on_its_way);
            self.removed.insert(id);
        }
        for id in members(new).into_iter().filter(|id| old.server(id).is_none()) {
            let again = self.removed.contains(&id);
            self.enter_if("M07", again);
        }
        let added = || new.voters().filter(|voter| !votes(old, &voter.id));
        let down = |id: &raft::ServerId| moment.server_of(id).is_none_or(|server| !server.is_up());
        self.enter_if("M06", added().any(|voter| down(&voter.id)));
        let behind = |id: &raft::ServerId| {
            core.follower(id).is_some_and(|known| known.matched.index < moment.before.last.index)
        };
        self.enter_if("M15", new.is_joint() && added().any(|voter| behind(&voter.id)));
        self.enter_if("M05", old.voters_count() <= 2 && new.voters_count() != old.voters_count());
        self.enter_if("M08", !votes(new, &core.me().id));
        self.enter_if("M10", learners(old) && learners(new));
        let waiting = self.reads.get(&moment.node).is_some_and(|waiting| *waiting > 0);
        self.enter_if("M14", waiting);
    }

    /// Looks at a crash, before anything is lost.
    pub fn crashes(&mut self, node: usize, servers: &[SimServer]) {
        let disk = &servers[node].disk;
        let vote = |write: &raft::core::Write| {
            write.hard_state.as_ref().is_some_and(|hard_state| hard_state.voted_for.is_some())
        };
        self.enter_if("E03", disk.queue.iter().any(vote));
        self.enter_if("D16", disk.queue.iter().any(|write| write.hard_state.is_some()));
        self.enter_if("D08", disk.queue.iter().any(|write| write.truncate_from.is_some()));
        self.enter_if("D05", disk.writing.is_some());
        let up = servers.iter().filter(|server| server.is_up()).count();
        self.enter_if("E15", up == 1 && servers.len() > 1);
        self.unsynced.remove(&node);
        self.handing_over.retain(|(other, _)| *other != node);
        self.reads.remove(&node);
    }

    /// Looks at a server that has just started.
    pub fn starts(&mut self, node: usize, core: &RaftCore) {
        self.started.insert(node, core.term());
        self.enter_if("D10", is_open(core));
        let alone = core.configuration().voters_count() == 1 && core.configuration().is_voter(&core.me().id);
        self.enter_if("D14", alone && core.last().index > core.commit_index());
    }

    /// Looks at a process that begins to stand still.
    pub fn pauses(&mut self, server: &SimServer, leases: bool) {
        self.enter_if("L07", leases && server.leads());
    }
}
