//! Clients: commands, commands in a session, and reads in every way there is.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use raft::sessions::{Session, SessionError, SessionRequest};
use raft::{ProposeError, Raft};
use rand::RngExt;
use tokio::time::{sleep, timeout};

use super::truth::{Fate, Truth, lock};
use super::{PATIENCE, Random, SERVERS};

/// A running server, as clients see it.
#[derive(Clone)]
pub(crate) struct Up {
    pub(crate) raft: Raft,
    pub(crate) values: Arc<Mutex<Vec<u64>>>,
}

pub(crate) type Servers = Arc<Mutex<Vec<Option<Up>>>>;

fn command(value: u64) -> Bytes {
    Bytes::copy_from_slice(&value.to_le_bytes())
}

fn place(answer: &Bytes) -> usize {
    String::from_utf8_lossy(answer).parse().unwrap_or(usize::MAX)
}

/// R3: waits for a call, which ends.
async fn in_time<T>(truth: &Truth, what: &str, call: impl Future<Output = T>) -> Option<T> {
    let ended = timeout(PATIENCE, call).await;
    if ended.is_err() {
        truth.wrong(format!("{what} never ends"));
    }
    ended.ok()
}

/// Proposes a fresh command; true if it was acknowledged.
pub(crate) async fn propose(up: &Up, truth: &Truth) -> bool {
    let value = truth.fresh();
    let Some(ended) = in_time(truth, "a proposal", up.raft.propose(command(value))).await else {
        return false;
    };
    let fate = match &ended {
        Ok(applied) => Fate::Done { at: place(&applied.response), returned: truth.moment() },
        Err(ProposeError::NotLeader { .. } | ProposeError::Overloaded) => Fate::Refused,
        Err(_) => Fate::Unknown,
    };
    truth.learns(value, fate);
    ended.is_ok()
}

async fn read(up: &Up, truth: &Truth, random: &mut Random, confirmed: bool) {
    let invoked = truth.moment();
    let found = || lock(&up.values).len();
    match random.random_range(0..4) {
        _ if !confirmed => truth.reads(invoked, "unconfirmed", found()),
        0 => {
            if let Some(Ok(read)) = in_time(truth, "a lease read", up.raft.lease_read()).await {
                let found = found();
                if read.is_valid() {
                    truth.reads(invoked, "lease", found);
                }
            }
        }
        1 => {
            if let Some(Ok(_)) = in_time(truth, "a barrier", up.raft.barrier()).await {
                truth.reads(invoked, "log", found());
            }
        }
        _ => {
            if let Some(Ok(_)) = in_time(truth, "a read", up.raft.linearizable_read()).await {
                truth.reads(invoked, "index", found());
            }
        }
    }
}

/// One client. With `confirmed` false, a planted defect, it reads what it finds.
pub(crate) async fn client(up: Servers, truth: Arc<Truth>, mut random: Random, confirmed: bool) {
    while !truth.stop.load(Ordering::Relaxed) {
        let at = random.random_range(0..SERVERS.len());
        let chosen = lock(&up)[at].clone();
        if let Some(up) = chosen {
            if random.random_bool(0.4) {
                read(&up, &truth, &mut random, confirmed).await;
            } else {
                propose(&up, &truth).await;
            }
        }
        sleep(Duration::from_millis(random.random_range(1..8))).await;
    }
}

/// Sends a request to one server after the other until it is answered.
async fn insist(
    request: &SessionRequest<'_>,
    up: &Servers,
    truth: &Truth,
    random: &mut Random,
) -> Option<usize> {
    loop {
        let at = random.random_range(0..SERVERS.len());
        let chosen = lock(up)[at].clone();
        if let Some(up) = chosen {
            match in_time(truth, "a request of a session", request.send(&up.raft)).await {
                Some(Ok(done)) => return Some(place(&done.response)),
                Some(Err(SessionError::Propose(_))) => {}
                Some(Err(error)) => {
                    truth.wrong(format!("a session is told {error}"));
                    return None;
                }
                None => return None,
            }
        }
        if truth.stop.load(Ordering::Relaxed) {
            return None;
        }
        sleep(Duration::from_millis(random.random_range(1..20))).await;
    }
}

/// A client with a session, which sends every command until it knows that it is done, and so more than once.
pub(crate) async fn insistent_client(up: Servers, truth: Arc<Truth>, mut random: Random) {
    let mut session = None;
    while !truth.stop.load(Ordering::Relaxed) {
        let at = random.random_range(0..SERVERS.len());
        let chosen = lock(&up)[at].clone();
        if let Some(up) = chosen
            && session.is_none()
        {
            let opened = in_time(&truth, "opening a session", Session::open(&up.raft)).await;
            session = opened.and_then(Result::ok);
        }
        if let Some(session) = &mut session {
            let value = truth.fresh();
            let request = session.request(command(value));
            if let Some(at) = insist(&request, &up, &truth, &mut random).await {
                truth.learns(value, Fate::Done { at, returned: truth.moment() });
            }
        }
        sleep(Duration::from_millis(random.random_range(1..20))).await;
    }
}
