//! Takes a server out for maintenance: drain it, wait until it may be stopped, let it back in, and read the audit.

use std::error::Error;
use std::time::Duration;

use autopilot::testing::{FakeApplication, FakeCluster};
use autopilot::{Actor, Autopilot, EventKind, Server, Term};

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() -> Result<(), Box<dyn Error>> {
    let voter = |id: &str| Server::voter(id, format!("{id}.test:8300"));
    let standby = Server::nonvoter("n4", "n4.test:8300");
    let cluster = FakeCluster::new(vec![voter("n1"), voter("n2"), voter("n3"), standby]);
    cluster.atomic(true); // an engine that changes two members in one step
    let application = FakeApplication::knowing(&["n1", "n2", "n3", "n4"]);
    let autopilot = Autopilot::builder(cluster.clone(), application).start(Term(1)).await;
    autopilot.cordon("n4", "new hardware, not trusted yet").await?;
    tokio::time::sleep(Duration::from_secs(21)).await;
    println!("voters: {:?}", cluster.voters());

    let alice = autopilot.acting_as(Actor::named("alice"));
    let mut events = autopilot.events();
    alice.drain("n3", "replace a disk").await?;
    alice.uncordon("n4").await?;
    println!("safe at once: {}", alice.safe_to_stop("n3").await?.safe);
    while events.recv().await?.what != EventKind::DrainDone {}
    println!("voters: {:?}", cluster.voters());
    let answer = alice.safe_to_stop("n3").await?;
    println!("safe now: {}, then {} may fail", answer.safe, answer.failure_tolerance);

    alice.undrain("n3").await?;
    for event in autopilot.audit().await? {
        println!("{} {}: {} by {}: {}", event.sequence, event.server, event.what, event.actor, event.reason);
    }
    autopilot.stop().await;
    Ok(())
}
