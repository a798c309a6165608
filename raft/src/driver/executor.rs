//! Where the work runs that may block: on threads of its own or, for tests, as tasks of the runtime.

use std::fmt;
use std::future::pending;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Duration;

use tokio::task::JoinHandle;

/// Where a server runs its disk, its state machine and its snapshots.
///
/// By default each has a thread of its own, so that whatever blocks delays nothing else. For tests on a paused clock
/// ([`Executor::tasks`]) they are tasks of the runtime: a server then has no thread of its own, its time is the clock's, and
/// on a runtime with one thread and with seeds ([`RaftBuilder::seed`](crate::RaftBuilder::seed), `MemoryNetwork::weather`) a
/// run repeats itself exactly.
#[derive(Clone, Default)]
pub struct Executor(Kind);

#[derive(Clone, Default)]
enum Kind {
    #[default]
    Threads,
    Tasks(Arc<dyn Fn(Operation) -> Duration + Send + Sync>),
}

/// A moment in the work of the disk or the state machine at which a test may have it wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Operation {
    /// A batch is about to be written to the log.
    Write,
    /// A batch is written and about to be reported.
    Written,
    /// Entries are about to be applied, or a snapshot to be restored or begun.
    Apply,
    /// That is done and about to be reported.
    Applied,
    /// A snapshot's state is about to be stored, the own one or a leader's.
    Store,
}

impl Executor {
    /// A thread for the disk, one for the state machine, one for each snapshot. The default.
    #[must_use]
    pub const fn threads() -> Self {
        Self(Kind::Threads)
    }

    /// For tests: tasks of the runtime. Stores and state machine then block the runtime while they work; with stores in
    /// memory that takes no time on the clock, and `delay` says how long each operation shall take.
    /// [`Duration::MAX`] stands for a disk that hangs: the operation never goes on.
    #[must_use]
    pub fn tasks(delay: impl Fn(Operation) -> Duration + Send + Sync + 'static) -> Self {
        Self(Kind::Tasks(Arc::new(delay)))
    }

    /// Starts something that works for long.
    pub(super) fn start(&self, name: &str, work: impl Future<Output = ()> + Send + 'static) {
        match &self.0 {
            Kind::Threads => drop(
                thread::Builder::new()
                    .name(name.to_owned())
                    .spawn(move || block_on(work))
                    .expect("the system can start a thread"),
            ),
            Kind::Tasks(_) => drop(tokio::spawn(work)),
        }
    }

    /// Runs something short that may block.
    pub(super) fn run<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> JoinHandle<T> {
        match &self.0 {
            Kind::Threads => tokio::task::spawn_blocking(move || block_on(work)),
            Kind::Tasks(_) => tokio::spawn(work),
        }
    }

    /// Waits for as long as a test wants.
    pub(super) async fn pause(&self, at: Operation) {
        if let Kind::Tasks(delay) = &self.0 {
            match delay(at) {
                Duration::ZERO => {}
                Duration::MAX => pending().await,
                time => tokio::time::sleep(time).await,
            }
        }
    }
}

impl fmt::Debug for Executor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Kind::Threads => "Executor::threads",
            Kind::Tasks(_) => "Executor::tasks",
        })
    }
}

/// Runs a future on this thread, which sleeps while there is nothing to do.
///
/// The runtime's own `block_on` would put the thread inside the runtime, where a state machine that blocks, as it may, panics.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    struct Unpark(Thread);

    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }

        fn wake_by_ref(self: &Arc<Self>) {
            self.0.unpark();
        }
    }

    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(value) => return value,
            Poll::Pending => thread::park(),
        }
    }
}
