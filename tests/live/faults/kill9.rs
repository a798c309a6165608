//! What was acknowledged survives `kill -9`.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use live_tests::http::{get, put};
use live_tests::{Cluster, wait};
use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};

const KILLS: usize = 20;
const WRITERS: u64 = 3;

/// Writes unique keys through servers picked at random until told to stop; returns what was acknowledged.
fn write(
    seed: u64,
    servers: &[String],
    stop: &AtomicBool,
    newest: &Mutex<Option<(String, String)>>,
) -> BTreeMap<String, String> {
    let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
    let mut acknowledged = BTreeMap::new();
    let mut number = 0_u64;
    while !stop.load(Ordering::Relaxed) {
        number += 1;
        let (key, value) = (format!("w/{seed}/{number}"), random.random::<u64>().to_string());
        let server = &servers[random.random_range(0..servers.len())];
        let answer = put(&format!("http://{server}/v1/kv/{key}"), value.as_bytes());
        if answer.is_ok_and(|answer| answer.status == 200 && answer.body.trim() == "true") {
            *newest.lock().expect("no writer panics") = Some((key.clone(), value.clone()));
            acknowledged.insert(key, value);
        }
        std::thread::sleep(Duration::from_millis(random.random_range(5..40)));
    }
    acknowledged
}

/// Kills one server after another at random moments; each is back and follows before the next one goes.
fn kill_and_restart(
    cluster: &mut Cluster,
    random: &mut Xoshiro256PlusPlus,
    newest: &Mutex<Option<(String, String)>>,
) {
    for round in 1..=KILLS {
        std::thread::sleep(Duration::from_millis(random.random_range(0..600)));
        let victim = random.random_range(0..cluster.agents.len());
        cluster.agents[victim].kill();
        std::thread::sleep(Duration::from_millis(random.random_range(0..700)));
        cluster.restart(victim);
        wait("the restarted server to follow", || {
            let Some((key, value)) = newest.lock().expect("no writer panics").clone() else { return Ok(()) };
            let found = cluster.read_local(victim, &key)?;
            if found == value { Ok(()) } else { Err(format!("{key} is {found}")) }
        });
        println!("round {round} of {KILLS}: {} is back", cluster.agents[victim].name);
    }
}

#[test]
fn acknowledged_writes_survive_twenty_kills() {
    let seed = std::env::var("LIVE_SEED")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or_else(rand::random::<u32>);
    println!("LIVE_SEED={seed}");
    let mut random = Xoshiro256PlusPlus::seed_from_u64(u64::from(seed));
    let mut cluster = Cluster::start(3);
    let servers: Vec<String> = cluster.agents.iter().map(|agent| agent.http.clone()).collect();
    let stop = AtomicBool::new(false);
    let newest = Mutex::new(None);
    let mut acknowledged = BTreeMap::new();
    let next = AtomicU64::new(u64::from(seed) * WRITERS);
    std::thread::scope(|scope| {
        let writers: Vec<_> = (0..WRITERS)
            .map(|_| scope.spawn(|| write(next.fetch_add(1, Ordering::Relaxed), &servers, &stop, &newest)))
            .collect();
        let killer = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            kill_and_restart(&mut cluster, &mut random, &newest);
        }));
        stop.store(true, Ordering::Relaxed);
        for writer in writers {
            acknowledged.extend(writer.join().expect("a writer does not panic"));
        }
        if let Err(panic) = killer {
            std::panic::resume_unwind(panic);
        }
    });
    println!("{} writes were acknowledged", acknowledged.len());
    assert!(acknowledged.len() > KILLS, "a cluster that is never without a quorum for long serves writes");
    cluster.settle();
    for server in &servers {
        for (key, value) in &acknowledged {
            let found =
                wait("an acknowledged key", || get(&format!("http://{server}/v1/kv/{key}?raw&stale"))?.ok());
            assert_eq!(&found, value, "{key} at {server}");
        }
    }
}
