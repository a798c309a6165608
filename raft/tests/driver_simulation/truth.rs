//! What all parts of one run know together, and what is judged by it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use raft::{Raft, ServerId, Term};
use tokio::time::Instant;

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a client did, and between which moments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Operation {
    pub(crate) invoked: u64,
    /// `None` where the client was told nothing certain.
    pub(crate) returned: Option<u64>,
    pub(crate) what: What,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    /// A command that stands behind so many others.
    Write(usize),
    /// So many commands were there.
    Read(usize),
}

/// C1: the state is the list of all commands, so the order is known, and a history is linearizable exactly if no
/// operation comes before one that had ended when it began.
pub(crate) fn linearizable(history: &[Operation]) -> Result<(), String> {
    let mut moments: Vec<(u64, bool, &Operation)> = Vec::new();
    for operation in history {
        moments.push((operation.invoked, true, operation));
        moments.extend(operation.returned.map(|returned| (returned, false, operation)));
    }
    moments.sort_by_key(|(moment, ..)| *moment);
    // How many commands somebody has certainly seen.
    let mut seen = 0;
    for (_, begins, operation) in moments {
        match operation.what {
            What::Write(before) if begins && before < seen => {
                return Err(format!("{operation:?} stands before what was seen already: {seen} commands"));
            }
            What::Read(found) if begins && found < seen => {
                return Err(format!("{operation:?} is stale: {seen} commands were seen before it began"));
            }
            What::Write(before) if !begins => seen = seen.max(before + 1),
            What::Read(found) if !begins => seen = seen.max(found),
            What::Write(_) | What::Read(_) => {}
        }
    }
    Ok(())
}

/// What a client knows of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Acknowledged at this place.
    Done {
        at: usize,
        returned: u64,
    },
    /// Certainly not applied.
    Refused,
    Unknown,
}

/// One run.
pub(crate) struct Truth {
    start: Instant,
    /// Commands in the order in which the first server applied each.
    order: Mutex<Vec<u64>>,
    leaders: Mutex<BTreeMap<Term, ServerId>>,
    wrong: Mutex<Vec<String>>,
    commands: Mutex<BTreeMap<u64, (u64, Fate)>>,
    reads: Mutex<Vec<Operation>>,
    /// When each leader last sent a heartbeat to anybody.
    heartbeats: Mutex<BTreeMap<(ServerId, Term), Instant>>,
    moment: AtomicU64,
    next: AtomicU64,
    hash: AtomicU64,
    /// Operations that never go on.
    pub(crate) hung: AtomicU64,
    pub(crate) stop: AtomicBool,
}

impl Truth {
    pub(crate) fn new(seed: u64) -> Arc<Self> {
        Arc::new(Self {
            start: Instant::now(),
            order: Mutex::default(),
            leaders: Mutex::default(),
            wrong: Mutex::default(),
            commands: Mutex::default(),
            reads: Mutex::default(),
            heartbeats: Mutex::default(),
            moment: AtomicU64::new(0),
            next: AtomicU64::new(0),
            hash: AtomicU64::new(seed),
            hung: AtomicU64::new(0),
            stop: AtomicBool::new(false),
        })
    }

    pub(crate) fn wrong(&self, sentence: String) {
        self.note(&sentence);
        lock(&self.wrong).push(sentence);
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    /// Makes an event, with its time, part of what the run is.
    pub(crate) fn note(&self, event: &str) {
        let fold = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        let time = self.elapsed().as_nanos().to_le_bytes();
        let hash = time.iter().chain(event.as_bytes()).fold(self.hash.load(Ordering::Relaxed), fold);
        self.hash.store(hash, Ordering::Relaxed);
    }

    pub(crate) fn hash(&self) -> u64 {
        self.hash.load(Ordering::Relaxed)
    }

    /// The next moment in the order of everything that clients do.
    pub(crate) fn moment(&self) -> u64 {
        self.moment.fetch_add(1, Ordering::SeqCst)
    }

    /// A fresh command, which is sent now.
    pub(crate) fn fresh(&self) -> u64 {
        let value = self.next.fetch_add(1, Ordering::Relaxed) + 1;
        lock(&self.commands).insert(value, (self.moment(), Fate::Unknown));
        value
    }

    /// A client learns what became of its command.
    pub(crate) fn learns(&self, value: u64, fate: Fate) {
        self.note(&format!("{value} {fate:?}"));
        if let Some((_, known)) = lock(&self.commands).get_mut(&value) {
            *known = fate;
        }
    }

    pub(crate) fn reads(&self, invoked: u64, mode: &str, found: usize) {
        self.note(&format!("{mode} {found}"));
        let read = Operation { invoked, returned: Some(self.moment()), what: What::Read(found) };
        lock(&self.reads).push(read);
    }

    /// S7: all servers apply the same commands in the same order.
    pub(crate) fn applied(&self, id: &str, position: usize, value: u64) {
        let mut order = lock(&self.order);
        match order.get(position) {
            None if position == order.len() => order.push(value),
            Some(first) if *first == value => {}
            other => self.wrong(format!("{id} applies {value} at {position}, others {other:?}")),
        }
        self.note(&format!("{id} {position} {value}"));
    }

    pub(crate) fn order(&self) -> Vec<u64> {
        lock(&self.order).clone()
    }

    /// R2: a leader's heartbeats do not wait for disk, state machine or snapshots.
    pub(crate) fn heartbeat(&self, id: &ServerId, term: Term, limit: Duration) {
        let now = Instant::now();
        let last = lock(&self.heartbeats).insert((id.clone(), term), now);
        if let Some(gap) = last.map(|last| now - last).filter(|gap| *gap > limit) {
            self.wrong(format!("{id} sends no heartbeat for {gap:?} in term {term}"));
        }
    }

    /// S1: one leader a term, and no term twice or backwards.
    pub(crate) async fn follow(self: Arc<Self>, raft: Raft) {
        let (mut watch, id) = (raft.leadership(), raft.id().clone());
        drop(raft);
        let mut newest = Term(0);
        while let Some(leadership) = watch.next().await {
            self.note(&format!("{id} {leadership:?}"));
            let raft::Leadership::Leader { term } = leadership else { continue };
            if term < newest {
                self.wrong(format!("{id} leads in {term} after {newest}"));
            }
            newest = term;
            let leader = lock(&self.leaders).entry(term).or_insert_with(|| id.clone()).clone();
            if leader != id {
                self.wrong(format!("{leader} and {id} lead in term {term}"));
            }
        }
    }

    /// Judges what clients saw. C3: nothing acknowledged is lost, nothing refused is applied. C4: nothing is applied twice,
    /// however often it was sent.
    pub(crate) fn judge(&self) -> Outcome {
        let order = self.order();
        let places: BTreeMap<u64, usize> = order.iter().enumerate().map(|(at, value)| (*value, at)).collect();
        if order.iter().collect::<BTreeSet<_>>().len() != order.len() {
            self.wrong("a command was applied twice".to_owned());
        }
        let mut history = lock(&self.reads).clone();
        let reads = history.len();
        let mut acknowledged = 0;
        for (value, (invoked, fate)) in lock(&self.commands).iter() {
            let place = places.get(value).copied();
            let mut returned = None;
            match fate {
                Fate::Done { at, returned: moment } => {
                    acknowledged += 1;
                    returned = Some(*moment);
                    if place != Some(*at) {
                        self.wrong(format!("{value} was acknowledged at {at} and is at {place:?}"));
                    }
                }
                Fate::Refused if place.is_some() => {
                    self.wrong(format!("{value} was refused and applied"));
                }
                Fate::Refused | Fate::Unknown => {}
            }
            if let Some(place) = place {
                history.push(Operation { invoked: *invoked, returned, what: What::Write(place) });
            }
        }
        if let Err(sentence) = linearizable(&history) {
            self.wrong(sentence);
        }
        let (hash, time) = (self.hash(), self.elapsed());
        let hung = self.hung.load(Ordering::Relaxed);
        Outcome { wrong: lock(&self.wrong).clone(), acknowledged, reads, hash, time, hung }
    }
}

/// What a run came to.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    pub(crate) wrong: Vec<String>,
    pub(crate) acknowledged: usize,
    pub(crate) reads: usize,
    pub(crate) hash: u64,
    pub(crate) time: Duration,
    /// Operations that never go on.
    pub(crate) hung: u64,
}

#[test]
fn the_judge_of_histories_knows_right_from_wrong() {
    let operation = |invoked, returned, what| Operation { invoked, returned, what };
    let (write, read) = (What::Write, What::Read);
    let right = [
        operation(0, Some(1), write(0)),
        operation(2, Some(5), read(1)),
        operation(3, Some(4), write(1)),
        operation(6, None, write(2)),
        operation(7, Some(8), read(2)),
        operation(9, Some(10), read(3)),
    ];
    assert_eq!(linearizable(&right), Ok(()));
    let stale = [right[0], operation(2, Some(3), read(0))];
    let backwards = [right[0], operation(1, Some(2), read(1)), operation(3, Some(4), read(0))];
    let overtaking = [operation(0, Some(1), write(1)), operation(2, Some(3), write(0))];
    let from_the_future = [operation(0, Some(1), read(1)), operation(2, Some(3), write(0))];
    let late_unknown = [operation(0, Some(1), read(1)), operation(2, None, write(0))];
    for wrong in [&stale[..], &backwards, &overtaking, &from_the_future, &late_unknown] {
        assert!(linearizable(wrong).is_err(), "{wrong:?}");
    }
}
