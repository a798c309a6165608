//! Probation survives an election: one leader's ledger is stored, and the next one takes it over.

use std::error::Error;
use std::time::Duration;

use autopilot::testing::{FakeApplication, FakeCluster};
use autopilot::{Autopilot, Server, Term};

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() -> Result<(), Box<dyn Error>> {
    let servers = vec![Server::voter("n1", "n1.test:8300"), Server::nonvoter("n2", "n2.test:8300")];
    for stored in [true, false] {
        let cluster = FakeCluster::new(servers.clone());
        // It stores the ledger; yours would put it where every server finds it.
        let application = FakeApplication::knowing(&["n1", "n2"]);
        let builder = Autopilot::builder(cluster.clone(), application.clone());
        let first = builder.reconciliation(false).start(Term(1)).await;
        tokio::time::sleep(Duration::from_secs(15)).await;
        first.stop().await;
        if !stored {
            application.set_ledger(None);
        }

        cluster.edit(|view| view.term = Term(2));
        let next = Autopilot::builder(cluster, application).start(Term(2)).await;
        let blocked = next.state().servers[&"n2".into()].blocked_by.clone();
        let blocked = blocked.map_or_else(String::new, |blocked| blocked.to_string());
        println!("{} ledger: n2 is held up by: {blocked}", if stored { "with a" } else { "without a" });
        next.stop().await;
    }
    Ok(())
}
