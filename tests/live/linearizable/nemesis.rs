//! `kill -9` and SIGSTOP.

use std::sync::atomic::Ordering;
use std::time::Duration;

use live_tests::Cluster;
use rand::RngExt;
use rand::rngs::Xoshiro256PlusPlus;

use crate::clients::Clients;

/// A server that most probably leads, or any.
pub(crate) fn victim(cluster: &Cluster, random: &mut Xoshiro256PlusPlus) -> usize {
    let any = random.random_range(0..cluster.agents.len());
    if random.random_range(0..2) == 0 {
        return any;
    }
    let named = cluster.members(any).unwrap_or_default().into_iter().find(|member| member.leader);
    named.and_then(|leader| cluster.agents.iter().position(|agent| agent.name == leader.id)).unwrap_or(any)
}

pub(crate) fn pause_for(random: &mut Xoshiro256PlusPlus, longest: u64) {
    std::thread::sleep(Duration::from_millis(random.random_range(100..longest)));
}

/// Longer than any lease: who is stopped so long is not the leader any more, and finds out when it goes on.
fn outlast_the_lease(random: &mut Xoshiro256PlusPlus) {
    std::thread::sleep(Duration::from_millis(random.random_range(450..2500)));
}

pub(crate) fn kill(cluster: &mut Cluster, clients: &Clients, which: usize) {
    clients.lives[which].fetch_add(1, Ordering::SeqCst);
    cluster.agents[which].kill();
}

/// Kills and stops servers until the clients' time is over; all of them run at the end.
pub(crate) fn kills_and_pauses(
    cluster: &mut Cluster,
    clients: &Clients,
    random: &mut Xoshiro256PlusPlus,
) -> usize {
    let mut faults = 0;
    while clients.goes_on() {
        faults += 1;
        let which = victim(cluster, random);
        let name = cluster.agents[which].name.clone();
        match random.random_range(0..10) {
            0..=3 => {
                println!("kill -9 {name}");
                kill(cluster, clients, which);
                pause_for(random, 1200);
                cluster.restart(which);
            }
            4..=8 => {
                println!("stop {name}");
                cluster.agents[which].signal("STOP");
                outlast_the_lease(random);
                let other = (which + 1) % cluster.agents.len();
                clients.ask_who_wakes(other, which, || cluster.agents[which].signal("CONT"));
            }
            _ => {
                // One sleeps while another dies: nobody can decide anything until one is back.
                let other = (which + 1) % cluster.agents.len();
                println!("stop {name}, kill -9 {}", cluster.agents[other].name);
                cluster.agents[which].signal("STOP");
                kill(cluster, clients, other);
                pause_for(random, 1200);
                cluster.agents[which].signal("CONT");
                cluster.restart(other);
            }
        }
        pause_for(random, 800);
    }
    faults
}
