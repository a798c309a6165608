//! A leader that is wrong about how long its lease lasts.

use std::time::Duration;

use live_tests::http::request;
use live_tests::{Cluster, wait};
use simulation::linearizable::{STEPS_MAX, Verdict, check};

use crate::clients::Clients;
use crate::namespaces::Namespaces;

/// Who is wrong, counted from 0.
pub(crate) const SLOW: usize = 0;
/// Its election timeout, as long as settings allow. The others campaign after less than a second.
pub(crate) const TOO_LONG: &str = "5s";
/// How often it is cut off before this is given up.
const TRIES: usize = 10;

/// Has the slow server lead and cuts it off from the others, which elect another, while clients reach all of them; again, until
/// what they saw is wrong.
pub(crate) fn cut_off_too_long(cluster: &Cluster, namespaces: &Namespaces, clients: &Clients) -> usize {
    let noticed = || matches!(check(&clients.so_far(), STEPS_MAX), Verdict::Violation(_));
    let mut tries = 0;
    while tries < TRIES && !noticed() {
        tries += 1;
        have_it_lead(cluster);
        for other in (0..cluster.agents.len()).filter(|other| *other != SLOW) {
            namespaces.cut(SLOW, other);
            namespaces.cut(other, SLOW);
        }
        clients.write_and_read(SLOW + 1, SLOW, Duration::from_secs(4));
        namespaces.heal();
    }
    tries
}

fn have_it_lead(cluster: &Cluster) {
    let slow = &cluster.agents[SLOW].name;
    wait("the slow server to lead", || {
        if cluster.members(1)?.iter().any(|member| member.leader && member.id == *slow) {
            return Ok(());
        }
        let path = format!("/v1/operator/raft/transfer-leader?id={slow}");
        Err(request("POST", &cluster.agents[1].url(&path), b"")?.body)
    });
    // Its lease begins with the first heartbeat that the others answer.
    wait("a write under the slow server", || cluster.write(SLOW, "leases/before", "1"));
}
