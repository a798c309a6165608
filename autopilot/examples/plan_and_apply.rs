//! What would autopilot do? Ask, look at the steps, approve them. A plan for a cluster that has changed is refused.

use autopilot::testing::{FakeApplication, FakeCluster};
use autopilot::{Autopilot, NodeStatus, Server, ServerId, Term};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let voters = ["n1", "n2", "n3"].map(|id| Server::voter(id, format!("{id}.test:8300")));
    let cluster = FakeCluster::new(voters.to_vec());
    let application = FakeApplication::knowing(&["n1", "n2", "n3"]);
    application.status("n3", NodeStatus::Left); // gone on purpose, so it may go at once
    // Only people change this cluster.
    let builder = Autopilot::builder(cluster.clone(), application).reconciliation(false);
    let autopilot = builder.start(Term(1)).await;

    if let Some(explanation) = autopilot.explain(&ServerId::from("n3")) {
        println!("{explanation}");
    }
    let proposal = autopilot.plan().await?;
    println!("{proposal}");
    let report = autopilot.apply(proposal.clone()).await?;
    println!("performed {} of {} steps", report.performed.len(), proposal.steps.len());
    if let Err(error) = autopilot.apply(proposal).await {
        println!("again: {error}");
    }
    autopilot.stop().await;
    Ok(())
}
