//! Runs autopilot for as long as this server leads: the one call that most programs need.

use std::error::Error;
use std::io::{self, Read, Write};

use autopilot::testing::FakeApplication;
use autopilot::{Autopilot, Configuration, Server, supervise};
use bytes::Bytes;
use raft::storage::{MemoryLog, MemorySnapshots};
use raft::transport::MemoryNetwork;
use raft::{Raft, SnapshotWriter, StateMachine};

/// A replicated counter.
#[derive(Default)]
struct Counter(u64);

impl StateMachine for Counter {
    fn apply(&mut self, commands: &[raft::core::Entry]) -> Vec<Bytes> {
        let mut count = || {
            self.0 += 1;
            Bytes::from(self.0.to_string())
        };
        commands.iter().map(|_| count()).collect()
    }

    fn snapshot(&self) -> SnapshotWriter {
        let count = self.0;
        Box::new(move |out: &mut dyn Write| out.write_all(&count.to_be_bytes()))
    }

    fn restore(&mut self, state: &mut dyn Read) -> io::Result<()> {
        let mut bytes = [0; 8];
        state.read_exact(&mut bytes)?;
        self.0 = u64::from_be_bytes(bytes);
        Ok(())
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let raft = Raft::builder("n1", Counter::default())
        .log_store(MemoryLog::new())
        .snapshots(MemorySnapshots::default())
        .transport(MemoryNetwork::new().transport("n1:8300"))
        .start()
        .await?;
    // A program implements `ApplicationIntegration` for what it knows, for example from gossip.
    let application = FakeApplication::knowing(&["n1"]);
    let supervisor = supervise(raft.leadership(), Autopilot::builder(raft.clone(), application));
    let mut runs = supervisor.changes();

    raft.bootstrap(Configuration::new(vec![Server::voter("n1", "n1:8300")])).await?;
    let run = runs.wait_for(Option::is_some).await?.clone().ok_or("a run was seen")?;
    println!("leading: {run:?}, healthy: {}", run.state().healthy);

    raft.shutdown().await; // leadership ends with the server, and autopilot with leadership
    runs.wait_for(Option::is_none).await?;
    supervisor.stop().await;
    println!("stopped: {run:?}, servers in the state: {}", run.state().servers.len());
    Ok(())
}
