use std::time::Duration;

use thiserror::Error;

/// Bounds that keep every append request, with what the wire adds to each entry, below the 64 MiB that receivers take.
const COMMAND_BYTES_LIMIT: usize = 48 << 20;
const APPEND_BYTES_LIMIT: usize = 16 << 20;

/// Tunables of one server. Every member of a cluster should have the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// How often a leader says that it lives. Default 50 ms; at least 1 ms. Lower costs messages; higher delays the
    /// noticing of failures and must stay well under `election_timeout`.
    pub heartbeat_interval: Duration,
    /// A follower that hears nothing for this long, times a random factor of 1 to 2, campaigns; a leader that hears from
    /// no quorum for this long steps down. Default 400 ms; at least three heartbeat intervals. Lower fails over
    /// sooner and mistakes pauses for failures.
    pub election_timeout: Duration,
    /// A leader that hears from no quorum for this long steps down; `None`, the default, means the election timeout. At least two
    /// heartbeat intervals, at most the election timeout. Leases do not depend on it. (`LeaderLeaseTimeout` of hashicorp/raft.)
    pub leader_lease_timeout: Option<Duration>,
    /// Ask before campaigning whether a majority would vote for us (Raft dissertation, section 9.6). Default true.
    pub pre_vote: bool,
    /// Entries in one append request. Default 1,024; at least 1.
    pub append_entries_max: usize,
    /// Bytes in one append request, beyond its first entry. Default 1 MiB; at most 16 MiB.
    pub append_bytes_max: usize,
    /// Append requests on their way to one follower. Default 16; at least 1; 1 means no pipelining.
    pub inflight_max: usize,
    /// Bytes of entries on their way to one follower, beyond the first request. Default 16 MiB.
    pub inflight_bytes_max: usize,
    /// Bytes of entries in memory at which a leader refuses proposals as overloaded: the state machine or the snapshots do
    /// not keep up. Default 512 MiB; at least twice `snapshot_threshold_bytes`.
    pub log_bytes_max: usize,
    /// Serve [`RaftCore`](crate::core::RaftCore) lease reads without asking a quorum each time. Default false. Must be the
    /// same on every member, with the same `election_timeout`: a restarted server then grants no vote for that long.
    pub lease_reads: bool,
    /// How far two servers' clocks may drift apart, in thousandths; shortens the lease. Default 50; below 500. Beyond
    /// it lease reads may be stale.
    pub clock_drift_permille: u32,
    /// Bytes of entries that may wait to be committed; beyond it proposals are refused as overloaded. Default 64 MiB.
    pub uncommitted_bytes_max: usize,
    /// Largest command, in bytes. Default 8 MiB; at most 48 MiB, because a message of more than 64 MiB is refused by its
    /// receiver, so that an entry of that size would stop replication for good.
    pub command_bytes_max: usize,
    /// Take a snapshot once this many entries were applied since the last. Default 16,384; at least 1.
    pub snapshot_threshold: u64,
    /// Look for `snapshot_threshold` this long, times a random factor of 1 to 2, after the last snapshot, so that the servers of a
    /// cluster do not take theirs at the same time. Default 500 ms; zero looks all the time.
    pub snapshot_interval: Duration,
    /// Take a snapshot at once when the entries in memory hold this many bytes; at most half of it is kept behind one.
    /// Default 64 MiB.
    pub snapshot_threshold_bytes: usize,
    /// Entries kept behind a snapshot for followers that are a little late. Default 10,240.
    pub trailing_logs: u64,
    /// Snapshots kept on disk. Default 2; at least 1, which keeps 2 all the same: a restore from outside may yet be undone.
    pub snapshots_retained: usize,
    /// Proposals that may wait in the queue before the core; beyond it they are refused as overloaded. Default 8,192.
    pub proposal_queue: usize,
    /// Restore the state machine from the newest snapshot at the start. Default true. A state machine that keeps its state
    /// itself, up to at least the snapshot, turns it off and gets only the entries after the snapshot.
    pub restore_on_start: bool,
    /// Stop the server once its removal from the cluster is committed. Default false: it goes on as a quiet follower that can
    /// be added again.
    pub shutdown_on_remove: bool,
    /// A leader whose write takes longer than this gives up leadership (catalogue D03). Default 5 s.
    pub disk_stall_limit: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            heartbeat_interval: Duration::from_millis(50),
            election_timeout: Duration::from_millis(400),
            leader_lease_timeout: None,
            pre_vote: true,
            append_entries_max: 1024,
            append_bytes_max: 1 << 20,
            inflight_max: 16,
            inflight_bytes_max: 16 << 20,
            log_bytes_max: 512 << 20,
            lease_reads: false,
            clock_drift_permille: 50,
            uncommitted_bytes_max: 64 << 20,
            command_bytes_max: 8 << 20,
            snapshot_threshold: 16_384,
            snapshot_interval: Duration::from_millis(500),
            snapshot_threshold_bytes: 64 << 20,
            trailing_logs: 10_240,
            snapshots_retained: 2,
            proposal_queue: 8_192,
            restore_on_start: true,
            shutdown_on_remove: false,
            disk_stall_limit: Duration::from_secs(5),
        }
    }
}

impl Config {
    /// Checks every bound.
    ///
    /// # Errors
    /// The first bound that does not hold.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let at_least = |name: &'static str, holds: bool, bound: &'static str| {
            if holds { Ok(()) } else { Err(ConfigError { name, bound }) }
        };
        at_least("heartbeat_interval", self.heartbeat_interval >= Duration::from_millis(1), "at least 1ms")?;
        at_least(
            "election_timeout",
            self.election_timeout >= 3 * self.heartbeat_interval,
            "at least three heartbeat intervals",
        )?;
        let lease = self.leader_lease_timeout.unwrap_or(self.election_timeout);
        at_least(
            "leader_lease_timeout",
            lease >= 2 * self.heartbeat_interval && lease <= self.election_timeout,
            "at least two heartbeat intervals and at most the election timeout",
        )?;
        at_least("append_entries_max", self.append_entries_max >= 1, "at least 1")?;
        at_least("inflight_max", self.inflight_max >= 1, "at least 1")?;
        at_least("uncommitted_bytes_max", self.uncommitted_bytes_max >= 1, "at least 1")?;
        at_least(
            "log_bytes_max",
            self.log_bytes_max / 2 >= self.snapshot_threshold_bytes,
            "at least twice snapshot_threshold_bytes",
        )?;
        at_least("clock_drift_permille", self.clock_drift_permille < 500, "below 500")?;
        at_least("command_bytes_max", self.command_bytes_max >= 1, "at least 1")?;
        at_least("command_bytes_max", self.command_bytes_max <= COMMAND_BYTES_LIMIT, "at most 48 MiB")?;
        at_least("append_bytes_max", self.append_bytes_max <= APPEND_BYTES_LIMIT, "at most 16 MiB")?;
        at_least("snapshot_threshold", self.snapshot_threshold >= 1, "at least 1")?;
        at_least("snapshots_retained", self.snapshots_retained >= 1, "at least 1")?;
        at_least("proposal_queue", self.proposal_queue >= 1, "at least 1")?;
        at_least(
            "disk_stall_limit",
            self.disk_stall_limit >= self.election_timeout,
            "at least the election timeout",
        )
    }
}

/// A [`Config`] field is out of bounds. Nothing was started.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{name} must be {bound}")]
pub struct ConfigError {
    /// The field.
    pub name: &'static str,
    /// What it must be.
    pub bound: &'static str,
}

/// The tunables that can be changed while a server runs, see [`Config`] for each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReloadableConfig {
    /// As [`Config::heartbeat_interval`].
    pub heartbeat_interval: Duration,
    /// As [`Config::election_timeout`]. A timer that runs already keeps its deadline.
    pub election_timeout: Duration,
    /// As [`Config::snapshot_threshold`].
    pub snapshot_threshold: u64,
    /// As [`Config::snapshot_interval`]; shows after the next snapshot.
    pub snapshot_interval: Duration,
    /// As [`Config::snapshot_threshold_bytes`].
    pub snapshot_threshold_bytes: usize,
    /// As [`Config::trailing_logs`]; shows at the next snapshot.
    pub trailing_logs: u64,
}

impl From<&Config> for ReloadableConfig {
    fn from(config: &Config) -> Self {
        Self {
            heartbeat_interval: config.heartbeat_interval,
            election_timeout: config.election_timeout,
            snapshot_threshold: config.snapshot_threshold,
            snapshot_interval: config.snapshot_interval,
            snapshot_threshold_bytes: config.snapshot_threshold_bytes,
            trailing_logs: config.trailing_logs,
        }
    }
}

impl ReloadableConfig {
    /// `config` with these values instead of its own.
    #[must_use]
    pub fn applied_to(&self, config: &Config) -> Config {
        Config {
            heartbeat_interval: self.heartbeat_interval,
            election_timeout: self.election_timeout,
            snapshot_threshold: self.snapshot_threshold,
            snapshot_interval: self.snapshot_interval,
            snapshot_threshold_bytes: self.snapshot_threshold_bytes,
            trailing_logs: self.trailing_logs,
            ..config.clone()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bound_has_a_message_of_its_own() {
        type Spoil = fn(&mut Config);
        let good = Config::default();
        assert_eq!(good.validate(), Ok(()));
        let millis = Duration::from_millis;
        let cases: &[(Spoil, &str)] = &[
            (|c| c.heartbeat_interval = Duration::ZERO, "heartbeat_interval must be at least 1ms"),
            (
                |c| c.election_timeout = 2 * c.heartbeat_interval,
                "election_timeout must be at least three heartbeat intervals",
            ),
            (
                |c| c.leader_lease_timeout = Some(c.heartbeat_interval),
                "leader_lease_timeout must be at least two heartbeat intervals and at most the election timeout",
            ),
            (
                |c| c.leader_lease_timeout = Some(2 * c.election_timeout),
                "leader_lease_timeout must be at least two heartbeat intervals and at most the election timeout",
            ),
            (|c| c.append_entries_max = 0, "append_entries_max must be at least 1"),
            (|c| c.inflight_max = 0, "inflight_max must be at least 1"),
            (|c| c.uncommitted_bytes_max = 0, "uncommitted_bytes_max must be at least 1"),
            (
                |c| c.log_bytes_max = c.snapshot_threshold_bytes,
                "log_bytes_max must be at least twice snapshot_threshold_bytes",
            ),
            (|c| c.clock_drift_permille = 500, "clock_drift_permille must be below 500"),
            (|c| c.command_bytes_max = 0, "command_bytes_max must be at least 1"),
            (|c| c.command_bytes_max = (48 << 20) + 1, "command_bytes_max must be at most 48 MiB"),
            (|c| c.append_bytes_max = (16 << 20) + 1, "append_bytes_max must be at most 16 MiB"),
            (|c| c.snapshot_threshold = 0, "snapshot_threshold must be at least 1"),
            (|c| c.snapshots_retained = 0, "snapshots_retained must be at least 1"),
            (|c| c.proposal_queue = 0, "proposal_queue must be at least 1"),
            (
                |c| c.disk_stall_limit = c.heartbeat_interval,
                "disk_stall_limit must be at least the election timeout",
            ),
        ];
        for (spoil, message) in cases {
            let mut config = good.clone();
            spoil(&mut config);
            assert_eq!(config.validate().map_err(|error| error.to_string()), Err((*message).to_owned()));
        }
        let short = Config { leader_lease_timeout: Some(millis(100)), ..good.clone() };
        assert_eq!(short.validate(), Ok(()));
        let large = Config { command_bytes_max: 48 << 20, append_bytes_max: 16 << 20, ..good };
        assert_eq!(large.validate(), Ok(()));
    }
}
