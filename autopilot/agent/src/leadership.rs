//! When this server's autopilot may start: not before everything that earlier leaders stored can be read here.

use std::time::Duration;

use async_trait::async_trait;
use autopilot::{Leadership, LeadershipSource};
use raft::{Raft, Term};

/// Pause after a leader could not commit yet.
const RETRY_PAUSE: Duration = Duration::from_millis(20);

/// The leadership of Raft, told once the state of earlier leaders is applied: the orders and the history that they left
/// are part of it, and an autopilot that started without them would overwrite them.
#[derive(Debug)]
pub(crate) struct CaughtUp<S> {
    raft: Raft,
    source: S,
    /// Leads in this term, and has not told so.
    waiting: Option<Term>,
}

impl<S> CaughtUp<S> {
    pub(crate) const fn new(raft: Raft, source: S) -> Self {
        Self { raft, source, waiting: None }
    }
}

#[async_trait]
impl<S: LeadershipSource> LeadershipSource for CaughtUp<S> {
    async fn next(&mut self) -> Option<Leadership> {
        loop {
            let change = match self.waiting {
                None => self.source.next().await?,
                Some(term) => tokio::select! {
                    change = self.source.next() => change?,
                    () = caught_up(&self.raft) => {
                        self.waiting = None;
                        return Some(Leadership::Leader { term });
                    }
                },
            };
            match change {
                Leadership::Leader { term } => self.waiting = Some(term),
                Leadership::Follower => {
                    self.waiting = None;
                    return Some(Leadership::Follower);
                }
            }
        }
    }
}

async fn caught_up(raft: &Raft) {
    while let Err(error) = raft.barrier().await {
        tracing::debug!(%error, "the state of earlier leaders is not applied yet");
        tokio::time::sleep(RETRY_PAUSE).await;
    }
}
