//! Runs what others wrote where it can hold nothing up: each turn of it on a thread for blocking work, with a deadline.
//!
//! A call that waits as it should is dropped when its time is up. One that blocks its thread cannot be stopped from
//! outside: it keeps that thread until it comes back, and no other call of its kind is begun until then. So there are
//! at most as many such threads as there are kinds of calls.

use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use tokio::sync::{Mutex, Notify};
use tokio::task::{JoinError, spawn_blocking};
use tokio_util::task::AbortOnDropHandle;

/// Why a call gave no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum CallError {
    /// The deadline passed.
    TimedOut(Duration),
    /// The implementation panicked.
    Panicked(String),
    /// An earlier call blocks its thread to this day, so this one was not begun.
    Blocked,
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TimedOut(after) => write!(f, "no answer within {}", humantime::format_duration(*after)),
            Self::Panicked(text) => write!(f, "panicked: {text}"),
            Self::Blocked => f.write_str("an earlier call has not come back"),
        }
    }
}

/// Calls of one kind, of which one is under way at a time.
#[derive(Debug, Default)]
pub(super) struct Line {
    /// Held by the call that is under way.
    turn: Arc<Mutex<()>>,
}

impl Line {
    /// Runs a call, so that neither a panic nor a missing await point reaches the caller. Dropping the future drops the
    /// call.
    pub(super) async fn call<T: Send + 'static>(
        &self,
        deadline: Duration,
        call: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, CallError> {
        // One that was dropped in the midst of a turn comes back in a moment, unless it blocks.
        let held = tokio::time::timeout(deadline / 4, self.turn.clone().lock_owned()).await;
        let held = held.map_err(|_| CallError::Blocked)?;
        let call = async move {
            let answer = call.await;
            drop(held);
            answer
        };
        match tokio::time::timeout(deadline, in_turns(call)).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(CallError::Panicked(error.to_string())),
            Err(_) => Err(CallError::TimedOut(deadline)),
        }
    }
}

/// Polls a future on threads for blocking work. In between it lies here, where it can be dropped.
async fn in_turns<F>(future: F) -> Result<F::Output, JoinError>
where
    F: Future<Output: Send> + Send + 'static,
{
    let mut future = Box::pin(future);
    let woken = Arc::new(Woken(Notify::new()));
    loop {
        let waker = Waker::from(woken.clone());
        let turn = spawn_blocking(move || {
            let poll = future.as_mut().poll(&mut Context::from_waker(&waker));
            (future, poll)
        });
        match AbortOnDropHandle::new(turn).await? {
            (_, Poll::Ready(answer)) => return Ok(answer),
            (waiting, Poll::Pending) => future = waiting,
        }
        woken.0.notified().await;
    }
}

/// Remembers a waking that comes while the future is polled.
struct Woken(Notify);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    const DEADLINE: Duration = Duration::from_millis(20);

    #[tokio::test(start_paused = true)]
    async fn a_call_that_waits_is_woken_and_dropped_at_its_deadline() {
        let line = Line::default();
        let slow = line.call(DEADLINE, async {
            for _ in 0..3 {
                tokio::task::yield_now().await;
                tokio::time::sleep(DEADLINE / 8).await;
            }
            7
        });
        assert_eq!(slow.await, Ok(7));
        let never = line.call(DEADLINE, std::future::pending::<()>());
        assert_eq!(never.await, Err(CallError::TimedOut(DEADLINE)));
        assert_eq!(line.call(DEADLINE, async { 8 }).await, Ok(8), "it was dropped, so the next may begin");
    }

    #[tokio::test]
    async fn a_call_that_blocks_is_left_and_the_next_one_waits_for_it() {
        let line = Line::default();
        let (release, released) = mpsc::channel::<()>();
        let blocks = line.call(DEADLINE, async move { released.recv() });
        assert_eq!(blocks.await, Err(CallError::TimedOut(DEADLINE)));
        assert_eq!(line.call(DEADLINE, async {}).await, Err(CallError::Blocked));
        assert_eq!(Line::default().call(DEADLINE * 1_000, async { 9 }).await, Ok(9), "another kind goes on");
        release.send(()).unwrap();
        assert_eq!(line.call(DEADLINE * 1_000, async { 5 }).await, Ok(5));
    }

    #[tokio::test(start_paused = true)]
    async fn a_panic_is_told() {
        let line = Line::default();
        let panics: Result<(), _> = line.call(DEADLINE, async { panic!("on purpose") }).await;
        assert!(matches!(panics, Err(CallError::Panicked(text)) if text.contains("on purpose")));
    }
}
