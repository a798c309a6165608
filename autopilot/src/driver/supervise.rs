//! Follows leadership: starts on gain, stops on loss, never two runs at once.

use async_trait::async_trait;
use raft_types::Term;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::builder::Builder;
use super::handle::Autopilot;

/// Whether this server leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leadership {
    /// It does, in this term.
    Leader {
        /// The term.
        term: Term,
    },
    /// It does not.
    Follower,
}

/// Where changes of leadership come from.
#[async_trait]
pub trait LeadershipSource: Send + 'static {
    /// The next change; the first call answers at once with how things are. Changes that a later one made moot may
    /// be left out. `None` when there will be no more. Must be cancel safe.
    async fn next(&mut self) -> Option<Leadership>;
}

/// A watch channel as a source: the present value first, then every change that is seen.
#[derive(Debug)]
pub struct WatchedLeadership {
    receiver: watch::Receiver<Leadership>,
    started: bool,
}

impl From<watch::Receiver<Leadership>> for WatchedLeadership {
    fn from(receiver: watch::Receiver<Leadership>) -> Self {
        Self { receiver, started: false }
    }
}

#[async_trait]
impl LeadershipSource for WatchedLeadership {
    async fn next(&mut self) -> Option<Leadership> {
        if self.started {
            self.receiver.changed().await.ok()?;
        }
        self.started = true;
        Some(*self.receiver.borrow_and_update())
    }
}

/// Follows a source of leadership until stopped. Cheap to clone; dropping it does not stop anything.
#[derive(Clone, Debug)]
pub struct Supervisor {
    cancel: CancellationToken,
    current: watch::Receiver<Option<Autopilot>>,
}

impl Supervisor {
    /// The autopilot that runs now, if this server leads.
    #[must_use]
    pub fn current(&self) -> Option<Autopilot> {
        self.current.borrow().clone()
    }

    /// Follows which autopilot runs. The channel closes when the supervisor has stopped.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<Option<Autopilot>> {
        self.current.clone()
    }

    /// Stops following, stops the running autopilot, and waits for both. Cancel safe.
    pub async fn stop(&self) {
        self.cancel.cancel();
        let mut current = self.current.clone();
        while current.changed().await.is_ok() {}
    }
}

/// Starts `builder`'s autopilot whenever `source` says that this server leads, and stops it, awaited, whenever the
/// term changes or leadership is lost.
///
/// # Panics
/// Outside a tokio runtime with time enabled.
pub fn supervise(mut source: impl LeadershipSource, builder: Builder) -> Supervisor {
    let cancel = CancellationToken::new();
    let (current_to, current) = watch::channel(None);
    let supervisor = Supervisor { cancel: cancel.clone(), current };
    tokio::spawn(async move {
        let mut running: Option<Autopilot> = None;
        while let Some(Some(change)) = cancel.run_until_cancelled(source.next()).await {
            let term = match change {
                Leadership::Leader { term } => Some(term),
                Leadership::Follower => None,
            };
            if term.is_some() && running.as_ref().map(Autopilot::term) == term {
                continue;
            }
            if let Some(previous) = running.take() {
                current_to.send_replace(None);
                previous.stop().await;
            }
            if let Some(term) = term {
                let started = builder.start(term).await;
                current_to.send_replace(Some(started.clone()));
                running = Some(started);
            }
        }
        if let Some(previous) = running {
            current_to.send_replace(None);
            previous.stop().await;
        }
    });
    supervisor
}
