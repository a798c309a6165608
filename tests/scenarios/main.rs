//! Stories with an exact script, named by the fault catalogue's ids. Every invariant is judged after every event, so most
//! of them only have to bring the cluster into the situation.

mod autopilot;
mod catalogue;
mod completions;
mod defects;
mod elections;
mod follower_reads;
mod identity;
mod joint;
mod leases;
mod membership;
mod orders;
mod partial;
mod readiness;
mod reads;
mod replication;
mod resizing;
mod restarts;
mod snapshots;
mod streams;
mod votes;

use std::time::Duration;

use raft::core::{Outcome, Request, RequestId};
use simulation::world::World;

const fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

fn other_than(world: &World, nodes: &[usize]) -> usize {
    (0..world.servers.len()).find(|node| !nodes.contains(node)).expect("another server")
}

/// Whether a change of members is done.
fn changed(world: &World, request: RequestId) -> bool {
    matches!(world.workload.outcome(request), Some(Outcome::Changed { .. }))
}

const fn is_vote(request: &Request) -> bool {
    matches!(request, Request::PreVote { .. } | Request::Vote { .. })
}

/// Lets only one server campaign.
fn only_campaigns(world: &mut World, node: usize) {
    world.filter = Some(Box::new(move |from, _, request| from == node || !is_vote(request)));
}

/// Commits this many commands, one after the other.
fn commit(world: &mut World, leader: usize, count: u64) {
    for _ in 0..count {
        let value = world.propose(leader);
        world.wait("it commits", |world| world.acknowledged(value));
    }
}

/// Lets nothing pass that carries entries.
fn no_appends(world: &mut World) {
    world.filter = Some(Box::new(|_, _, request| !matches!(request, Request::Append { .. })));
}
