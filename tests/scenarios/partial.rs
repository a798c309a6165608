//! Partial partitions, cut one way or both (catalogue E14): wherever one server has two-way links with a majority, somebody
//! leads and commits, and goes on doing so.

use std::collections::BTreeSet;

use simulation::options::Options;
use simulation::random::stream;
use simulation::world::World;

use rand::seq::SliceRandom;

type Cuts = BTreeSet<(usize, usize)>;

/// The ordered pairs of different servers.
fn pairs(servers: usize) -> Vec<(usize, usize)> {
    let all = (0..servers).flat_map(|from| (0..servers).map(move |to| (from, to)));
    all.filter(|(from, to)| from != to).collect()
}

fn cuts_of(servers: usize, mask: u32) -> Cuts {
    pairs(servers)
        .into_iter()
        .enumerate()
        .filter(|(bit, _)| mask & (1 << bit) != 0)
        .map(|(_, pair)| pair)
        .collect()
}

/// Whether some server hears, and is heard by, enough others for a majority.
fn has_a_hub(servers: usize, cuts: &Cuts) -> bool {
    let linked = |a: usize, b: usize| a == b || !(cuts.contains(&(a, b)) || cuts.contains(&(b, a)));
    (0..servers).any(|hub| 2 * (0..servers).filter(|other| linked(hub, *other)).count() > servers)
}

/// Cuts these links of a calm cluster. Says what goes wrong.
fn survives(servers: usize, cuts: &Cuts, seed: u64) -> Result<(), String> {
    let mut world = World::new(Options { seed, ..Options::calm(servers, 0) });
    let leader = world.leader();
    let value = world.propose(leader);
    world.wait("it commits", |world| world.acknowledged(value));
    let timeout = world.options.config.election_timeout;
    world.run_for(timeout);
    world.network.cuts.clone_from(cuts);
    // V1, V2: somebody commits within ten election timeouts.
    world.run_for(timeout * 8);
    commits(&mut world, timeout * 2).map_err(|what| format!("{what} after ten election timeouts"))?;
    // V5: and goes on for the next hundred.
    let before = world.checks.election_safety.elections();
    for round in 0..10 {
        world.run_for(timeout * 8);
        commits(&mut world, timeout * 2).map_err(|what| format!("{what} in round {round} after that"))?;
    }
    let elections = world.checks.election_safety.elections() - before;
    if elections > 3 {
        return Err(format!("{elections} leaders in a hundred election timeouts"));
    }
    world.settles();
    Ok(())
}

fn commits(world: &mut World, within: std::time::Duration) -> Result<(), String> {
    let leaders: Vec<usize> = (0..world.servers.len()).filter(|node| world.leads(*node)).collect();
    let values: Vec<u64> = leaders.iter().map(|leader| world.propose(*leader)).collect();
    let done = world.run_until(within, |world| values.iter().any(|value| world.acknowledged(*value)));
    world.sound();
    if done { Ok(()) } else { Err(format!("leaders {leaders:?} commit nothing")) }
}

fn judge(servers: usize, masks: impl Iterator<Item = u32>) {
    let mut wrong = Vec::new();
    let mut judged = 0;
    for mask in masks {
        let cuts = cuts_of(servers, mask);
        if !has_a_hub(servers, &cuts) {
            continue;
        }
        judged += 1;
        if let Err(what) = survives(servers, &cuts, u64::from(mask) + 1) {
            wrong.push(format!("{cuts:?}: {what}"));
        }
    }
    assert!(judged > 0);
    assert!(wrong.is_empty(), "{} of {judged}:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn e14_three_servers_with_every_set_of_one_way_cuts() {
    judge(3, 0..1 << 6);
}

/// The smallest mask among those that renumber the servers in any way: servers are alike, so one stands for all of them.
fn stands_for_all(servers: usize, mask: u32, orders: &[Vec<usize>], position: &[Vec<u32>]) -> bool {
    let all = pairs(servers);
    orders.iter().all(|order| {
        let cut = all.iter().enumerate().filter(|(bit, _)| mask & (1 << bit) != 0);
        let renumbered = cut.fold(0, |sum, (_, (from, to))| sum | 1 << position[order[*from]][order[*to]]);
        renumbered >= mask
    })
}

fn orders(servers: usize) -> Vec<Vec<usize>> {
    let Some(last) = servers.checked_sub(1) else { return vec![Vec::new()] };
    let shorter = orders(last);
    let put = |order: &Vec<usize>, at: usize| {
        let mut longer = order.clone();
        longer.insert(at, last);
        longer
    };
    shorter.iter().flat_map(|order| (0..servers).map(move |at| put(order, at))).collect()
}

/// Every set of one-way cuts between five servers that leaves somebody two-way links with two others, up to the servers'
/// names.
fn sets_of_five() -> Vec<u32> {
    let mut position = vec![vec![0; 5]; 5];
    for (bit, (from, to)) in (0..).zip(pairs(5)) {
        position[from][to] = bit;
    }
    let orders = orders(5);
    let masks = (0..1_u32 << 20).filter(|mask| stands_for_all(5, *mask, &orders, &position));
    masks.filter(|mask| has_a_hub(5, &cuts_of(5, *mask))).collect()
}

/// There are 9608 sets up to the servers' names, and 6338 of them leave a hub; a sample of these, or with `E14_ALL` all.
#[test]
fn e14_five_servers_with_sets_of_one_way_cuts() {
    let mut sets = sets_of_five();
    assert_eq!(sets.len(), 6338);
    if std::env::var_os("E14_ALL").is_none() {
        sets.shuffle(&mut stream(14, "cuts"));
        sets.truncate(60);
    }
    judge(5, sets.into_iter());
}
