//! Three servers in one process, with disks and sockets: elect, replicate, lose the leader, go on.

use std::error::Error;
use std::io::{self, Read, Write};

use bytes::Bytes;
use raft::core::Entry;
use raft::storage::{DataDirectory, LogOptions};
use raft::transport::{TcpOptions, TcpTransport};
use raft::{Configuration, Raft, Role, Server, SnapshotWriter, StateMachine};

/// Adds numbers up.
struct Sum(u64);

impl StateMachine for Sum {
    fn apply(&mut self, commands: &[Entry]) -> Vec<Bytes> {
        let mut add = |entry: &Entry| {
            let number: u64 = String::from_utf8_lossy(&entry.data).parse().unwrap_or(0);
            self.0 = self.0.wrapping_add(number);
            Bytes::from(self.0.to_string())
        };
        commands.iter().map(&mut add).collect()
    }

    fn snapshot(&self) -> SnapshotWriter {
        let sum = self.0;
        Box::new(move |out: &mut dyn Write| write!(out, "{sum}"))
    }

    fn restore(&mut self, state: &mut dyn Read) -> io::Result<()> {
        self.0 = io::read_to_string(state)?.parse().map_err(io::Error::other)?;
        Ok(())
    }
}

async fn start(id: &str, path: &std::path::Path) -> Result<Raft, Box<dyn Error>> {
    let mut directory = DataDirectory::open(path.join(id))?;
    let transport = TcpTransport::bind("127.0.0.1:0", TcpOptions::default()).await?;
    Ok(Raft::builder(id, Sum(0))
        .log_store(directory.log(LogOptions::default())?)
        .snapshots(directory.snapshots(2)?)
        .transport(transport)
        .start()
        .await?)
}

/// The server that leads and may be written to.
async fn leader(servers: &[Raft]) -> Result<Raft, Box<dyn Error>> {
    loop {
        for server in servers {
            let mut metrics = server.metrics();
            let wait = metrics.wait_for(|m| m.role == Role::Leader && m.ready);
            if let Ok(Ok(_)) = tokio::time::timeout(std::time::Duration::from_millis(50), wait).await {
                return Ok(server.clone());
            }
        }
    }
}

#[tokio::main(flavor = "multi_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let path = tempfile::tempdir()?;
    let mut servers = Vec::new();
    for id in ["n1", "n2", "n3"] {
        servers.push(start(id, path.path()).await?);
    }
    let members = servers.iter().map(|s| Server::voter(s.id().clone(), s.address().clone())).collect();
    servers[0].bootstrap(Configuration::new(members)).await?;

    let first = leader(&servers).await?;
    println!("{} leads", first.id());
    for number in 1..=4 {
        first.propose(number.to_string()).await?;
    }
    first.shutdown().await;
    servers.retain(|server| server.id() != first.id());
    println!("{} is gone", first.id());

    let second = leader(&servers).await?;
    let applied = second.propose("10").await?;
    println!("{} leads, the sum is {}", second.id(), String::from_utf8_lossy(&applied.response));
    assert_eq!(applied.response, "20");
    for server in servers {
        server.shutdown().await;
    }
    Ok(())
}
