//! V1, V2, V3, V7: once the faults are over, a leader is found, a fresh command commits, and all members become equal.
//! V5: then it stays so. V6: no joint configuration is left.

use std::collections::BTreeSet;
use std::time::Duration;

use raft::core::Role;

use super::Verdict;
use crate::options::Options;
use crate::server::SimServer;

/// How many longest election timeouts each phase may take. The catalogue asks for 10; the swarm's slowest networks and
/// disks take a fifth of a timeout for one round trip, so votes split more often than in a real cluster.
pub const PATIENCE: u32 = 40;

/// How long a phase may take: the bound on elections, and four round trips for every append request that the server
/// farthest behind needs.
#[must_use]
pub fn patience(options: &Options, servers: &[SimServer]) -> Duration {
    let newest = servers.iter().map(|server| server.log.last().index.0).max().unwrap_or(0);
    let oldest = servers.iter().map(|server| server.log.last().index.0).min().unwrap_or(0);
    // Entries have about 100 bytes.
    let batch = options.config.append_entries_max.min(options.config.append_bytes_max / 100).max(1);
    let requests = (newest - oldest) / batch as u64;
    let trip = 2 * options.delay.1 + options.disk.1;
    let backlog = trip * 4 * u32::try_from(requests).unwrap_or(u32::MAX);
    options.config.election_timeout * 2 * PATIENCE + backlog
}

/// How far the term may grow, how often the leader may change and how many snapshots a server may be sent in a hundred
/// election timeouts after everything has settled.
const CALM: (u64, u64, u64) = (3, 1, 2);

/// Whether this much in a hundred election timeouts is not a live-lock (V5).
///
/// # Errors
/// What there was too much of.
pub fn stays_calm(terms: u64, leaders: u64, snapshots: u64) -> Verdict {
    if terms > CALM.0 || leaders > CALM.1 || snapshots > CALM.2 {
        return Err(format!(
            "in a hundred calm election timeouts the term grew by {terms}, the leader changed {leaders} times, and one server was sent {snapshots} snapshots"
        ));
    }
    Ok(())
}

/// The leader of the newest term that can serve, if there is one (V1).
#[must_use]
pub fn ready_leader(servers: &[SimServer]) -> Option<usize> {
    let cores = servers.iter().enumerate().filter_map(|(node, server)| Some((node, server.core.as_ref()?)));
    let leaders = cores.filter(|(_, core)| core.role() == Role::Leader && core.is_ready());
    leaders.max_by_key(|(_, core)| core.term()).map(|(node, _)| node)
}

/// Whether all members of the leader's configuration, but for those that stay broken, hold and have applied the leader's log (V3, V7).
///
/// # Errors
/// Who does not, and how far it is.
pub fn converged(servers: &[SimServer], leader: usize, broken: &BTreeSet<usize>) -> Verdict {
    let head = &servers[leader];
    let core = head.core.as_ref().ok_or("the leader is down")?;
    if core.commit_index() != core.last().index {
        return Err(format!("{} has committed {} of {}", head.peer.id, core.commit_index(), core.last()));
    }
    if core.configuration().is_joint() {
        return Err(format!("the joint configuration at {} is not left", core.configuration_index()));
    }
    for member in core.configuration().servers() {
        let node =
            servers.iter().position(|server| server.peer.id == member.id).ok_or("an unknown member")?;
        // One that was lost and replaced may stay a member: autopilot may not be allowed to take it out.
        if broken.contains(&node) || (servers[node].lost && servers[node].replaced) {
            continue;
        }
        let server = &servers[node];
        let behind =
            server.core.is_none() || server.log.last() != core.last() || server.machine.last != core.last();
        if behind {
            return Err(format!(
                "{} ends at {} and has applied {}, the leader {} ends at {}",
                member.id,
                server.log.last(),
                server.machine.last,
                head.peer.id,
                core.last()
            ));
        }
        if server.machine.hash != head.machine.hash || server.machine.values != head.machine.values {
            return Err(format!(
                "{} and {} are in different states at {}",
                member.id,
                head.peer.id,
                core.last()
            ));
        }
    }
    Ok(())
}
