//! How fresh an answer is, and who vouches for it: the leader's lease, a quorum, or nobody.

use std::fmt;

use raft::Raft;

use super::call::{EFFECTIVE_CONSISTENCY, READ_BY, Reply};
use super::error::ApiError;
use super::params::Consistency;

/// What an answer rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReadBy {
    /// The leader's lease: nobody was asked.
    Lease,
    /// A quorum that confirmed the leader.
    ReadIndex,
    /// The read went through the log, as writes do.
    Log,
    /// Nothing: what this server happened to hold.
    Local,
}

impl fmt::Display for ReadBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Lease => "lease",
            Self::ReadIndex => "read-index",
            Self::Log => "log",
            Self::Local => "local",
        })
    }
}

/// Looks at the state when it is as fresh as wanted. `look` may be called twice; only what it saw last counts.
pub(super) async fn read<T>(
    raft: &Raft,
    wanted: Consistency,
    look: impl Fn() -> Result<T, ApiError>,
) -> Result<(T, ReadBy), ApiError> {
    match wanted {
        Consistency::Stale => return Ok((look()?, ReadBy::Local)),
        Consistency::Default => {
            let permission = raft.lease_read().await?;
            let seen = look()?;
            // Asked after the look: this process may have stood still meanwhile, and another may lead by now.
            if permission.is_valid() {
                let by = if permission.is_by_lease() { ReadBy::Lease } else { ReadBy::ReadIndex };
                return Ok((seen, by));
            }
        }
        Consistency::Consistent => {}
    }
    raft.linearizable_read().await?;
    Ok((look()?, ReadBy::ReadIndex))
}

/// Says on an answer how it was asked for and what it rests on.
pub(super) fn with_source(reply: Reply, wanted: Consistency, by: ReadBy) -> Reply {
    let wanted = match wanted {
        Consistency::Default => "leader",
        Consistency::Consistent => "consistent",
        Consistency::Stale => "stale",
    };
    reply.with_header(EFFECTIVE_CONSISTENCY, wanted).with_header(READ_BY, by)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::pin::pin;
    use std::task::{Context, Waker};
    use std::time::Duration;

    use raft::core::Role;
    use raft::storage::{MemoryLog, MemorySnapshots};
    use raft::transport::MemoryNetwork;
    use raft::{Config, Configuration, Executor, Server};

    use super::*;
    use crate::kv::KvMachine;

    async fn leader(lease_reads: bool) -> Raft {
        let (machine, _) = KvMachine::new();
        let network = MemoryNetwork::new();
        let raft = Raft::builder("a", machine)
            .config(Config { lease_reads, ..Config::default() })
            .log_store(MemoryLog::new())
            .snapshots(MemorySnapshots::default())
            .transport(network.transport("a"))
            // Nothing waits for threads, else the paused clock would run meanwhile.
            .executor(Executor::tasks(|_| Duration::ZERO))
            .start()
            .await
            .expect("start");
        let only = Server::voter(raft.id().clone(), raft.address().clone());
        raft.bootstrap(Configuration::new(vec![only])).await.expect("a fresh cluster");
        let mut metrics = raft.metrics();
        let leads = metrics.wait_for(|metrics| metrics.role == Role::Leader && metrics.ready);
        leads.await.expect("it runs");
        raft
    }

    /// Lets the paused clock jump, at once.
    fn stand_still(time: Duration) {
        let mut jump = pin!(tokio::time::advance(time));
        let _ = jump.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    }

    #[tokio::test(start_paused = true)]
    async fn each_way_to_read_says_what_it_rests_on() {
        let raft = leader(true).await;
        for (wanted, by) in [
            (Consistency::Default, ReadBy::Lease),
            (Consistency::Consistent, ReadBy::ReadIndex),
            (Consistency::Stale, ReadBy::Local),
        ] {
            assert_eq!(read(&raft, wanted, || Ok(7)).await, Ok((7, by)), "{wanted:?}");
        }
        raft.shutdown().await;
        assert_eq!(read(&raft, Consistency::Stale, || Ok(7)).await, Ok((7, ReadBy::Local)));
        assert!(read(&raft, Consistency::Default, || Ok(7)).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_lease_a_quorum_is_asked() {
        let raft = leader(false).await;
        assert_eq!(read(&raft, Consistency::Default, || Ok(())).await, Ok(((), ReadBy::ReadIndex)));
        raft.shutdown().await;
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_seen_when_the_lease_had_ended_does_not_count() {
        let raft = leader(true).await;
        let looks = Cell::new(0);
        let look = || {
            looks.set(looks.get() + 1);
            if looks.get() == 1 {
                // As a stopped process does, between the permission and the look.
                stand_still(Duration::from_secs(1));
            }
            Ok(looks.get())
        };
        assert_eq!(read(&raft, Consistency::Default, look).await, Ok((2, ReadBy::ReadIndex)));
        raft.shutdown().await;
    }
}
