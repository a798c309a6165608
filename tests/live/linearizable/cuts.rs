//! Cuts between servers, mostly one way. Clients reach everybody all the time, also a leader that nobody follows any more.

use std::time::Duration;

use live_tests::Cluster;
use rand::RngExt;
use rand::rngs::Xoshiro256PlusPlus;

use crate::clients::Clients;
use crate::namespaces::Namespaces;
use crate::nemesis::{kill, pause_for, victim};

/// Cuts servers off, and now and then kills or stops one meanwhile, until the clients' time is over.
pub(crate) fn cuts_and_pauses(
    cluster: &mut Cluster,
    namespaces: &Namespaces,
    clients: &Clients,
    random: &mut Xoshiro256PlusPlus,
) -> usize {
    let mut faults = 0;
    while clients.goes_on() {
        faults += 1;
        let which = victim(cluster, random);
        let others: Vec<usize> = (0..cluster.agents.len()).filter(|other| *other != which).collect();
        let name = cluster.agents[which].name.clone();
        match random.random_range(0..5) {
            0 => {
                println!("{name} is not heard");
                others.iter().for_each(|other| namespaces.cut(which, *other));
            }
            1 => {
                println!("{name} hears nobody");
                others.iter().for_each(|other| namespaces.cut(*other, which));
            }
            2 => {
                println!("{name} is alone");
                for other in &others {
                    namespaces.cut(which, *other);
                    namespaces.cut(*other, which);
                }
                // If it leads, its lease is about to end.
                let lasts = Duration::from_millis(random.random_range(500..2000));
                clients.write_and_read(others[0], which, lasts);
            }
            _ => {
                let other = others[random.random_range(0..others.len())];
                println!("{name} is not heard by {}", cluster.agents[other].name);
                namespaces.cut(which, other);
            }
        }
        pause_for(random, 3000);
        match random.random_range(0..4) {
            0 => {
                println!("stop {name}");
                cluster.agents[which].signal("STOP");
                pause_for(random, 1500);
                namespaces.heal();
                cluster.agents[which].signal("CONT");
            }
            1 => {
                println!("kill -9 {name}");
                kill(cluster, clients, which);
                namespaces.heal();
                cluster.restart(which);
            }
            _ => namespaces.heal(),
        }
        pause_for(random, 1000);
    }
    faults
}
