//! Removes the dead servers that may go, now, and says why the others stay.

use std::error::Error;
use std::time::Duration;

use autopilot::testing::{FakeApplication, FakeCluster};
use autopilot::{Autopilot, Config, NodeStatus, Server, Term};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let voters = ["n1", "n2", "n3"].map(|id| Server::voter(id, format!("{id}:8300")));
    let cluster = FakeCluster::new(voters.into_iter().chain([Server::nonvoter("n4", "n4:8300")]).collect());
    let application = FakeApplication::knowing(&["n1", "n2", "n3"]); // nobody knows n4 any more
    application.set_config(Some(Config { min_quorum: 3, ..Config::reference() }));
    application.status("n3", NodeStatus::Failed);
    cluster.silent("n3", Duration::from_secs(60));
    let autopilot = Autopilot::builder(cluster, application).start(Term(1)).await;

    let report = autopilot.remove_dead_servers().await?;
    for removed in &report.removed {
        println!("removed {} ({}) at index {}", removed.id, removed.class, removed.index);
    }
    for kept in &report.kept {
        println!("kept {}: {}", kept.id, kept.reason);
    }
    autopilot.stop().await;
    Ok(())
}
