//! Asks who is healthy, why not, and why somebody does not vote yet. Reading the state waits for nothing.

use std::time::Duration;

use autopilot::testing::{FakeApplication, FakeCluster};
use autopilot::{Autopilot, Server, Term};

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let servers = ["n1", "n2", "n3"].map(|id| Server::voter(id, format!("{id}:8300")));
    let cluster = FakeCluster::new(servers.into_iter().chain([Server::nonvoter("n4", "n4:8300")]).collect());
    cluster.silent("n3", Duration::from_secs(3));
    let application = FakeApplication::knowing(&["n1", "n2", "n3", "n4"]);
    let autopilot = Autopilot::builder(cluster, application).start(Term(1)).await;

    let state = autopilot.state();
    println!(
        "healthy: {}, severity: {}, tolerance: {}",
        state.healthy, state.severity, state.failure_tolerance
    );
    for server in state.servers.values() {
        let stable_for = autopilot.now().since(server.health.stable_since);
        println!("{} is a {}, as it is for {stable_for:?}", server.id, server.raft_state);
        for reason in &server.health.reasons {
            println!("  unhealthy, {}: {reason}", reason.code());
        }
        if let Some(blocked) = &server.blocked_by {
            println!("  not promoted, {}: {blocked}", blocked.code());
        }
    }
    autopilot.stop().await;
}
