//! Runs autopilot for as long as this server leads: the one call that most programs need.

use std::error::Error;
use std::time::Duration;

use autopilot::testing::{FakeApplication, FakeCluster};
use autopilot::{Autopilot, Leadership, Server, Term, WatchedLeadership, supervise};
use tokio::sync::watch;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    // A program with a real engine passes `raft.clone()` here and `raft.leadership()` below.
    let cluster = FakeCluster::new(vec![Server::voter("n1", "n1:8300"), Server::nonvoter("n2", "n2:8300")]);
    let application = FakeApplication::knowing(&["n1", "n2"]);
    let (leadership, watched) = watch::channel(Leadership::Follower);

    let builder = Autopilot::builder(cluster, application).update_interval(Duration::from_millis(50));
    let supervisor = supervise(WatchedLeadership::from(watched), builder);
    let mut runs = supervisor.changes();

    leadership.send(Leadership::Leader { term: Term(1) })?;
    let run = runs.wait_for(Option::is_some).await?.clone().ok_or("a run was seen")?;
    println!("{run:?}, healthy: {}", run.state().healthy);

    leadership.send(Leadership::Follower)?;
    runs.wait_for(Option::is_none).await?;
    supervisor.stop().await;
    println!("{run:?}, servers in the state: {}", run.state().servers.len());
    Ok(())
}
