//! The figures of a server under the names that hashicorp/raft gives them.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use raft_types::{Configuration, EntryId, LogIndex, Suffrage, Term};

use super::observe::Metrics;
use crate::core::Role;

/// The protocol versions of the wire format that this crate speaks: 3, and it understands those of 0 on.
const PROTOCOL: (u8, u8, u8) = (3, 0, 3);
/// The versions of the snapshot format that this crate reads; it writes the newest.
const SNAPSHOT_VERSIONS: (u8, u8) = (0, 1);

/// A server's figures, at most 20 ms old.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Its part in the term; what it was last, once it has stopped.
    pub role: Role,
    /// Whether it has stopped.
    pub stopped: bool,
    /// The highest term it has seen.
    pub term: Term,
    /// The last entry of its log.
    pub last: EntryId,
    /// The last entry known to be committed.
    pub commit_index: LogIndex,
    /// The last entry that its state machine has applied.
    pub applied_index: LogIndex,
    /// Entries that are committed and not applied yet.
    pub fsm_pending: u64,
    /// The last entry in its newest snapshot; zero without one.
    pub last_snapshot: EntryId,
    /// The version of the wire format that it speaks.
    pub protocol_version: u8,
    /// The oldest version of the wire format that it understands.
    pub protocol_version_min: u8,
    /// The newest version of the wire format that it understands.
    pub protocol_version_max: u8,
    /// The oldest snapshot format that it reads.
    pub snapshot_version_min: u8,
    /// The newest snapshot format that it reads, and the one that it writes.
    pub snapshot_version_max: u8,
    /// The configuration in force.
    pub latest_configuration: Configuration,
    /// Where that configuration stands.
    pub latest_configuration_index: LogIndex,
    /// How long ago it heard a leader of its term; zero for the leader itself, `None` if it heard none.
    pub last_contact: Option<Duration>,
    /// The other voters; zero for a server that does not vote.
    pub num_peers: usize,
}

impl Stats {
    pub(super) fn new(metrics: &Metrics, me: &raft_types::ServerId, stopped: bool) -> Self {
        let last_contact = match metrics.role {
            Role::Leader => Some(Duration::ZERO),
            Role::Follower | Role::Candidate => metrics.last_leader_contact.map(|at| at.elapsed()),
        };
        let others = metrics.configuration.voters_count().saturating_sub(1);
        Self {
            role: metrics.role,
            stopped,
            term: metrics.term,
            last: metrics.last,
            commit_index: metrics.commit_index,
            applied_index: metrics.applied_index,
            fsm_pending: metrics.commit_index.ahead_of(metrics.applied_index),
            last_snapshot: EntryId { term: metrics.snapshot_term, index: metrics.snapshot_index },
            protocol_version: PROTOCOL.0,
            protocol_version_min: PROTOCOL.1,
            protocol_version_max: PROTOCOL.2,
            snapshot_version_min: SNAPSHOT_VERSIONS.0,
            snapshot_version_max: SNAPSHOT_VERSIONS.1,
            latest_configuration: metrics.configuration.clone(),
            latest_configuration_index: metrics.configuration_index,
            last_contact,
            num_peers: if metrics.configuration.is_voter(me) { others } else { 0 },
        }
    }

    /// The same under the keys, and in the formats, of `Stats()` in hashicorp/raft, for dashboards made for it.
    #[must_use]
    pub fn to_map(&self) -> BTreeMap<&'static str, String> {
        let state = match (self.stopped, self.role) {
            (true, _) => "Shutdown",
            (false, Role::Follower) => "Follower",
            (false, Role::Candidate) => "Candidate",
            (false, Role::Leader) => "Leader",
        };
        let last_contact = match (self.role, self.last_contact) {
            (Role::Leader, _) => "0".to_owned(),
            (_, None) => "never".to_owned(),
            (_, Some(since)) => go_duration(since),
        };
        BTreeMap::from([
            ("state", state.to_owned()),
            ("term", self.term.to_string()),
            ("last_log_index", self.last.index.to_string()),
            ("last_log_term", self.last.term.to_string()),
            ("commit_index", self.commit_index.to_string()),
            ("applied_index", self.applied_index.to_string()),
            ("fsm_pending", self.fsm_pending.to_string()),
            ("last_snapshot_index", self.last_snapshot.index.to_string()),
            ("last_snapshot_term", self.last_snapshot.term.to_string()),
            ("protocol_version", self.protocol_version.to_string()),
            ("protocol_version_min", self.protocol_version_min.to_string()),
            ("protocol_version_max", self.protocol_version_max.to_string()),
            ("snapshot_version_min", self.snapshot_version_min.to_string()),
            ("snapshot_version_max", self.snapshot_version_max.to_string()),
            ("latest_configuration", go_servers(&self.latest_configuration)),
            ("latest_configuration_index", self.latest_configuration_index.to_string()),
            ("last_contact", last_contact),
            ("num_peers", self.num_peers.to_string()),
        ])
    }
}

/// As Go prints a list of servers with `%+v`.
fn go_servers(configuration: &Configuration) -> String {
    let mut text = "[".to_owned();
    for (position, server) in configuration.servers().iter().enumerate() {
        let space = if position == 0 { "" } else { " " };
        let suffrage = match server.suffrage {
            Suffrage::Voter => "Voter",
            Suffrage::Nonvoter => "Nonvoter",
        };
        let (id, address) = (&server.id, &server.address);
        let _ = write!(text, "{space}{{Suffrage:{suffrage} ID:{id} Address:{address}}}");
    }
    text.push(']');
    text
}

/// As Go prints a `time.Duration`: `1.5µs`, `25.3ms`, `2.04s`, `1m2s`, `1h0m0.5s`.
fn go_duration(duration: Duration) -> String {
    let nanos = duration.as_nanos();
    let (unit, name) = match nanos {
        0 => return "0s".to_owned(),
        1..1_000 => (1, "ns"),
        1_000..1_000_000 => (1_000, "µs"),
        1_000_000..1_000_000_000 => (1_000_000, "ms"),
        _ => (1_000_000_000, "s"),
    };
    let (whole, rest) = (nanos / unit, nanos % unit);
    let digits = unit.ilog10() as usize;
    let fraction = if digits == 0 { String::new() } else { format!(".{rest:0digits$}") };
    let fraction = fraction.trim_end_matches('0').trim_end_matches('.');
    let (hours, minutes, seconds) = (whole / 3600, whole / 60 % 60, whole % 60);
    match (name, hours, minutes) {
        ("s", 0, 0) => format!("{seconds}{fraction}s"),
        ("s", 0, _) => format!("{minutes}m{seconds}{fraction}s"),
        ("s", _, _) => format!("{hours}h{minutes}m{seconds}{fraction}s"),
        _ => format!("{whole}{fraction}{name}"),
    }
}

#[cfg(test)]
mod tests {
    use raft_types::Server;

    use super::*;

    #[test]
    fn durations_read_as_in_go() {
        for (nanos, text) in [
            (0, "0s"),
            (7, "7ns"),
            (1_500, "1.5µs"),
            (25_300_000, "25.3ms"),
            (1_000_000_000, "1s"),
            (2_040_000_001, "2.040000001s"),
            (62_000_000_000, "1m2s"),
            (60_000_000_000, "1m0s"),
            (3_600_500_000_000, "1h0m0.5s"),
        ] {
            assert_eq!(go_duration(Duration::from_nanos(nanos)), text);
        }
    }

    #[test]
    fn members_read_as_in_go() {
        assert_eq!(go_servers(&Configuration::default()), "[]");
        let two = Configuration::new(vec![Server::voter("a", "a:1"), Server::nonvoter("b", "b:1")]);
        assert_eq!(
            go_servers(&two),
            "[{Suffrage:Voter ID:a Address:a:1} {Suffrage:Nonvoter ID:b Address:b:1}]"
        );
    }
}
