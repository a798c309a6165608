//! The gossip task: owns the socket, the timers and the SWIM state machine.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::num::{NonZeroU8, NonZeroUsize};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use foca::{Config, Foca, Member, Notification, PeriodicParams, Runtime, State, Timer};
use rand::SeedableRng;
use rand::rngs::Xoshiro256PlusPlus;
use tokio::net::UdpSocket;
use tokio::sync::{mpsc, oneshot, watch};

use super::identity::{DATAGRAM_BYTES_MAX, DatagramCodec, Identity};
use super::{Liveness, MemberList, MemberView};

/// How often the addresses to join are tried while nobody answered.
const ANNOUNCE_INTERVAL: Duration = Duration::from_millis(500);
/// Tries between two warnings that nobody answers.
const ANNOUNCES_PER_WARNING: u32 = 10;
/// A member that is down is forgotten after this long (as in Serf).
const FORGET_AFTER: Duration = Duration::from_secs(72 * 60 * 60);
/// Members that are remembered, dead ones included. Beyond it strangers are not heard, so that forged datagrams cannot
/// fill the memory.
const MEMBERS_MAX: usize = 4096;
/// Rounds of gossip at leaving, so that one lost datagram does not turn a leave into a failure.
const LEAVE_ROUNDS: u32 = 3;

/// What the handle asks for.
#[derive(Debug)]
pub(super) enum Request {
    /// Say hello to this address.
    Announce(SocketAddr),
    /// Carry the flag from now on.
    Bootstrapped,
    /// Declare a failed member gone for good.
    ForceLeave(String),
    /// Stop, with or without saying so.
    End {
        /// Whether to say so.
        leave: bool,
        /// Told when the task ends.
        done: oneshot::Sender<()>,
    },
}

/// What the state machine asked for during one call.
#[derive(Default)]
struct Outbox {
    datagrams: VecDeque<(SocketAddr, Bytes)>,
    timers: Vec<(Instant, Timer<Identity>)>,
    changed: bool,
}

impl Runtime<Identity> for &mut Outbox {
    fn notify(&mut self, _: Notification<'_, Identity>) {
        // What changed is read from the whole state afterwards: fewer cases, none forgotten.
        self.changed = true;
    }

    fn send_to(&mut self, to: Identity, data: &[u8]) {
        self.datagrams.push_back((to.address, Bytes::copy_from_slice(data)));
    }

    fn submit_after(&mut self, event: Timer<Identity>, after: Duration) {
        self.timers.push((Instant::now() + after, event));
    }
}

pub(super) struct Driver {
    socket: UdpSocket,
    foca: Foca<Identity, DatagramCodec, Xoshiro256PlusPlus, foca::NoCustomBroadcast>,
    outbox: Outbox,
    /// Timers in the order in which they fall due; equal moments keep their order.
    timers: BTreeMap<(Instant, u64), Timer<Identity>>,
    timers_made: u64,
    join: Vec<SocketAddr>,
    unanswered: u32,
    publish: watch::Sender<MemberList>,
}

impl Driver {
    pub(super) fn new(socket: UdpSocket, identity: Identity, join: Vec<SocketAddr>) -> Self {
        let list: MemberList = Arc::new([own_view(&identity)]);
        let (publish, _) = watch::channel(list);
        let seed = identity.generation ^ u64::from(identity.address.port());
        let rng = Xoshiro256PlusPlus::seed_from_u64(seed);
        Self {
            socket,
            foca: Foca::new(identity, config(), rng, DatagramCodec),
            outbox: Outbox::default(),
            timers: BTreeMap::new(),
            timers_made: 0,
            join,
            unanswered: 0,
            publish,
        }
    }

    pub(super) fn list(&self) -> watch::Receiver<MemberList> {
        self.publish.subscribe()
    }

    pub(super) async fn run(mut self, mut requests: mpsc::Receiver<Request>) {
        let mut buffer = vec![0; DATAGRAM_BYTES_MAX + 1];
        let mut announce = tokio::time::interval(ANNOUNCE_INTERVAL);
        announce.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            self.flush().await;
            let next_timer = self.timers.first_key_value().map(|((at, _), _)| *at);
            tokio::select! {
                received = self.socket.recv_from(&mut buffer) => match received {
                    Ok((length, from)) => self.receive(&buffer[..length], from),
                    // Some systems report a peer's closed port here; the next datagram is unaffected.
                    Err(error) => {
                        tracing::debug!(%error, "gossip receive");
                        tokio::time::sleep(Duration::from_millis(1)).await;
                    }
                },
                () = sleep_until(next_timer) => self.run_timers(),
                _ = announce.tick() => self.announce_until_answered(),
                request = requests.recv() => match request {
                    Some(Request::End { leave, done }) => {
                        if leave {
                            self.leave().await;
                        }
                        let _ = done.send(());
                        return;
                    }
                    Some(request) => self.handle(request),
                    // Every handle is gone: nobody can ask or look any more.
                    None => return,
                },
            }
        }
    }

    fn receive(&mut self, datagram: &[u8], from: SocketAddr) {
        let mut known = self.foca.iter_membership_state();
        if known.len() >= MEMBERS_MAX && known.all(|member| member.id().address != from) {
            tracing::warn!(%from, "a gossip datagram of a stranger was dropped: {MEMBERS_MAX} members are known");
            return;
        }
        drop(known);
        if let Err(error) = self.foca.handle_data(datagram, &mut self.outbox) {
            tracing::debug!(%from, %error, "a gossip datagram was dropped");
        }
    }

    fn run_timers(&mut self) {
        let now = Instant::now();
        while let Some(due) = self.timers.first_entry().filter(|entry| entry.key().0 <= now) {
            let timer = due.remove();
            if let Err(error) = self.foca.handle_timer(timer, &mut self.outbox) {
                tracing::debug!(%error, "gossip timer");
            }
        }
    }

    /// Says hello to the addresses to join for as long as nobody at all answers.
    fn announce_until_answered(&mut self) {
        if self.foca.num_members() > 0 || self.join.is_empty() {
            self.unanswered = 0;
            return;
        }
        self.unanswered += 1;
        if self.unanswered.is_multiple_of(ANNOUNCES_PER_WARNING) {
            tracing::warn!(addresses = ?self.join, "no server answers at the addresses to join; still trying");
        }
        for at in 0..self.join.len() {
            self.announce(self.join[at]);
        }
    }

    fn announce(&mut self, to: SocketAddr) {
        if let Err(error) = self.foca.announce(Identity::at(to, 0), &mut self.outbox) {
            tracing::warn!(%to, %error, "cannot announce");
        }
    }

    fn handle(&mut self, request: Request) {
        match request {
            Request::Announce(to) => self.announce(to),
            Request::Bootstrapped => {
                let mut identity = self.foca.identity().clone();
                if identity.profile.bootstrapped {
                    return;
                }
                identity.profile.bootstrapped = true;
                identity.generation += 1;
                self.change_identity(identity);
            }
            Request::ForceLeave(id) => self.force_leave(&id),
            Request::End { .. } => unreachable!("handled by the loop, which ends with it"),
        }
    }

    fn change_identity(&mut self, identity: Identity) {
        if let Err(error) = self.foca.change_identity(identity, &mut self.outbox) {
            tracing::warn!(%error, "cannot change the gossip identity");
        }
        self.outbox.changed = true;
    }

    fn force_leave(&mut self, id: &str) {
        let gone: Vec<Member<Identity>> = self
            .foca
            .iter_membership_state()
            .filter(|member| member.id().profile.id == id && member.state() == State::Down)
            .map(|member| {
                let mut identity = member.id().clone();
                identity.left = true;
                identity.generation += 1;
                Member::down(identity)
            })
            .collect();
        if let Err(error) = self.foca.apply_many(gone.into_iter(), true, &mut self.outbox) {
            tracing::warn!(%error, %id, "cannot force a member to leave");
        }
        self.outbox.changed = true;
    }

    async fn leave(&mut self) {
        let mut identity = self.foca.identity().clone();
        identity.left = true;
        identity.generation += 1;
        self.change_identity(identity);
        self.flush().await;
        for round in 0..LEAVE_ROUNDS {
            if round > 0 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            let _ = self.foca.gossip(&mut self.outbox);
            self.flush().await;
        }
        let _ = self.foca.leave_cluster(&mut self.outbox);
        self.flush().await;
    }

    /// Performs what the state machine asked for and publishes what it knows now.
    async fn flush(&mut self) {
        while let Some((to, datagram)) = self.outbox.datagrams.pop_front() {
            if let Err(error) = self.socket.send_to(&datagram, to).await {
                tracing::debug!(%to, %error, "gossip send");
            }
        }
        for (at, timer) in self.outbox.timers.drain(..) {
            self.timers_made += 1;
            self.timers.insert((at, self.timers_made), timer);
        }
        if std::mem::take(&mut self.outbox.changed) {
            self.publish_list();
        }
    }

    fn publish_list(&self) {
        let own = self.foca.identity();
        let mut members: BTreeMap<&str, MemberView> = BTreeMap::new();
        let before = Arc::clone(&self.publish.borrow());
        for member in self.foca.iter_membership_state() {
            let identity = member.id();
            let profile = &identity.profile;
            if profile.id.is_empty() || profile.datacenter != own.profile.datacenter {
                continue;
            }
            if profile.id == own.profile.id {
                if member.state() != State::Down {
                    tracing::error!(id = %profile.id, other = %identity.address, "another server has the same node_id; stop one of them and give it its own");
                }
                continue;
            }
            let newer = members.get(profile.id.as_str()).is_none_or(|m| m.generation < identity.generation);
            if newer {
                members.insert(&profile.id, view(member, &before));
            }
        }
        members.insert(&own.profile.id, own_view(own));
        let mut list: Vec<MemberView> = members.into_values().collect();
        list.sort_by(|a, b| (&a.profile.name, &a.profile.id).cmp(&(&b.profile.name, &b.profile.id)));
        log_changes(&before, &list);
        self.publish.send_replace(list.into());
    }
}

fn own_view(identity: &Identity) -> MemberView {
    MemberView {
        gossip: identity.address,
        generation: identity.generation,
        liveness: if identity.left { Liveness::Left } else { Liveness::Alive },
        since: Instant::now(),
        profile: identity.profile.clone(),
    }
}

fn view(member: &Member<Identity>, before: &[MemberView]) -> MemberView {
    let identity = member.id();
    let liveness = match (member.state(), identity.left) {
        // A suspect counts as alive until the suspicion is confirmed.
        (State::Alive | State::Suspect, false) => Liveness::Alive,
        (State::Down, false) => Liveness::Failed,
        (_, true) => Liveness::Left,
    };
    let known = before.iter().find(|m| m.profile.id == identity.profile.id && m.liveness == liveness);
    MemberView {
        gossip: identity.address,
        generation: identity.generation,
        liveness,
        since: known.map_or_else(Instant::now, |m| m.since),
        profile: identity.profile.clone(),
    }
}

fn log_changes(before: &[MemberView], after: &[MemberView]) {
    for member in after {
        let known = before.iter().find(|m| m.profile.id == member.profile.id);
        if known.is_none_or(|m| m.liveness != member.liveness) {
            let profile = &member.profile;
            tracing::info!(id = %profile.id, name = %profile.name, gossip = %member.gossip, liveness = ?member.liveness, "member");
        }
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

/// Finds a dead neighbour within two to three seconds and heals a partition within five.
fn config() -> Config {
    let periodic = |millis, members| {
        Some(PeriodicParams {
            frequency: Duration::from_millis(millis),
            num_members: NonZeroUsize::new(members).expect("given above zero"),
        })
    };
    Config {
        probe_period: Duration::from_millis(500),
        probe_rtt: Duration::from_millis(200),
        num_indirect_probes: NonZeroUsize::new(3).expect("not zero"),
        max_transmissions: NonZeroU8::new(8).expect("not zero"),
        suspect_to_down_after: Duration::from_millis(1500),
        remove_down_after: Some(FORGET_AFTER),
        max_packet_size: NonZeroUsize::new(DATAGRAM_BYTES_MAX).expect("not zero"),
        notify_down_members: true,
        periodic_announce: periodic(5_000, 1),
        periodic_announce_to_down_members: periodic(2_000, 2),
        periodic_gossip: periodic(200, 3),
    }
}
