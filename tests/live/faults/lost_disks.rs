//! Servers whose disk was lost, or replaced by an older copy of itself (docs/decisions/0013): what was acknowledged is not
//! outvoted by who forgot it, and the cluster becomes whole without anybody's hand.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use live_tests::agent::{binary, run};
use live_tests::http::get;
use live_tests::{Cluster, wait};

/// What a server says when it finds that it has no past, or has lost it.
const STARTED_OVER: &str = "this server has no past in the cluster, or has lost it";

/// What was acknowledged.
type Acknowledged = BTreeMap<String, String>;

/// Writes so many keys, each until it is acknowledged.
fn write(cluster: &Cluster, through: usize, name: &str, count: usize, acknowledged: &mut Acknowledged) {
    for number in 0..count {
        let (key, value) = (format!("{name}/{number}"), format!("value {number}"));
        wait("an acknowledged write", || cluster.write(through, &key, &value));
        acknowledged.insert(key, value);
    }
}

/// Every running server holds every one of these.
fn holds_all(cluster: &Cluster, acknowledged: &Acknowledged) {
    for from in cluster.running() {
        for (key, value) in acknowledged {
            let found = wait("an acknowledged key", || cluster.read_local(from, key));
            assert_eq!(&found, value, "{key} at {}", cluster.agents[from].name);
        }
    }
}

/// The leader that a server names, as an address in quotes.
fn named_leader(cluster: &Cluster, asked: usize) -> Result<String, String> {
    Ok(get(&cluster.agents[asked].url("/v1/status/leader"))?.ok()?.trim().to_owned())
}

/// Whoever led is forgotten, and for longer than many elections take nobody leads, and nobody acknowledges anything.
fn nobody_leads(cluster: &Cluster) {
    const NOBODY: &str = "\"\"";
    for asked in cluster.running() {
        wait("the old leader to be forgotten", || match named_leader(cluster, asked)? {
            leader if leader == NOBODY => Ok(()),
            leader => Err(leader),
        });
    }
    for _ in 0..50 {
        for asked in cluster.running() {
            let leader = wait("who leads", || named_leader(cluster, asked));
            assert_eq!(leader, NOBODY, "{} follows somebody", cluster.agents[asked].name);
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    for asked in cluster.running() {
        let written = cluster.write(asked, "never", "nobody may acknowledge this");
        assert!(written.is_err(), "{} acknowledges what no quorum holds", cluster.agents[asked].name);
    }
}

/// The only one that remembers everything leads.
fn leads_again(cluster: &Cluster, which: usize) {
    wait("the one that remembers to lead", || {
        let members = cluster.members(which)?;
        let leads = members.iter().any(|member| member.leader && member.id == cluster.agents[which].name);
        if leads { Ok(()) } else { Err(format!("{members:?}")) }
    });
}

/// How often a server has said that it starts over.
fn starts_over(cluster: &Cluster, which: usize) -> usize {
    let log = cluster.folder().join(format!("{}.log", cluster.agents[which].name));
    fs::read_to_string(log).expect("its log").matches(STARTED_OVER).count()
}

/// Kills one server, deletes its data, and starts it again.
fn wipe(cluster: &mut Cluster, which: usize) {
    cluster.agents[which].kill();
    fs::remove_dir_all(&cluster.agents[which].data).expect("its data");
    cluster.restart(which);
}

/// A leader, the follower that the story is about, and the third.
fn three(cluster: &Cluster) -> (usize, usize, usize) {
    let leader = cluster.leader();
    let others: Vec<usize> = cluster.running().into_iter().filter(|which| *which != leader).collect();
    (leader, others[0], others[1])
}

/// Nobody takes servers out because they are down.
fn keep_the_dead(cluster: &Cluster, asked: usize) {
    let mut command = Command::new(binary());
    command.args(["operator", "autopilot", "set-config", "--cleanup-dead-servers=false"]);
    command.args(["--http-addr", &cluster.agents[asked].http]);
    let done = run(&mut command);
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

/// All is well again, also with the server in question needed for every commit.
fn is_whole(cluster: &mut Cluster, subject: usize, third: usize, acknowledged: &mut Acknowledged) {
    cluster.settle();
    holds_all(cluster, acknowledged);
    cluster.agents[third].kill();
    wait("a write that needs the one that is back", || cluster.write(subject, "needed", "it votes"));
    acknowledged.insert("needed".to_owned(), "it votes".to_owned());
    cluster.restart(third);
    cluster.settle();
    holds_all(cluster, acknowledged);
    cluster.serves("all-three");
}

#[test]
fn d12_a_wiped_voter_beside_a_quorum_is_let_in_again_by_itself() {
    let mut cluster = Cluster::start(3);
    let (leader, subject, third) = three(&cluster);
    let mut acknowledged = Acknowledged::new();
    write(&cluster, leader, "before", 20, &mut acknowledged);
    let before = starts_over(&cluster, subject);
    wipe(&mut cluster, subject);
    write(&cluster, leader, "meanwhile", 20, &mut acknowledged);
    wait("the wiped server to find that it is one", || {
        if starts_over(&cluster, subject) > before { Ok(()) } else { Err("it does not say so".to_owned()) }
    });
    is_whole(&mut cluster, subject, third, &mut acknowledged);
}

/// Only the leader and the voter that is wiped hold what was acknowledged last. When both have gone, the wiped one and the
/// third are two of three, and must elect nobody until one comes back that remembers.
#[test]
fn d12_a_wiped_voter_elects_nobody_before_it_is_let_in_again() {
    let mut cluster = Cluster::start(3);
    let (leader, subject, third) = three(&cluster);
    keep_the_dead(&cluster, leader);
    let mut acknowledged = Acknowledged::new();
    write(&cluster, leader, "before", 5, &mut acknowledged);
    cluster.agents[third].kill();
    write(&cluster, leader, "without-the-third", 20, &mut acknowledged);
    cluster.agents[subject].kill();
    cluster.agents[leader].kill();
    fs::remove_dir_all(&cluster.agents[subject].data).expect("its data");
    cluster.restart(subject);
    cluster.restart(third);
    nobody_leads(&cluster);
    cluster.restart(leader);
    leads_again(&cluster, leader);
    is_whole(&mut cluster, subject, third, &mut acknowledged);
}

fn copy_all(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).expect("a folder") {
        let path = entry.expect("an entry").path();
        let target: PathBuf = to.join(path.file_name().expect("a name"));
        if path.is_dir() {
            copy_all(&path, &target);
        } else {
            fs::copy(&path, &target).expect("a copy");
        }
    }
}

/// An older copy is found out where a server that led, and saw what the copy lacks acknowledged, speaks to it first. From then
/// on it is like a wiped one.
#[test]
fn d12_an_older_copy_is_found_out_by_the_leader_and_elects_nobody() {
    let mut cluster = Cluster::start(3);
    let (leader, subject, third) = three(&cluster);
    keep_the_dead(&cluster, leader);
    let mut acknowledged = Acknowledged::new();
    write(&cluster, leader, "before", 10, &mut acknowledged);
    cluster.agents[subject].kill();
    let (data, copy) = (cluster.agents[subject].data.clone(), cluster.folder().join("copy"));
    copy_all(&data, &copy);
    cluster.restart(subject);
    cluster.settle();
    assert_eq!(cluster.leader(), leader, "a follower's restart deposes nobody");
    cluster.agents[third].kill();
    write(&cluster, leader, "after-the-copy", 30, &mut acknowledged);
    let last = "after-the-copy/29".to_owned();
    wait("the follower holds it", || cluster.read_local(subject, &last));

    let before = starts_over(&cluster, subject);
    cluster.agents[subject].kill();
    fs::remove_dir_all(&data).expect("its data");
    copy_all(&copy, &data);
    cluster.restart(subject);
    wait("the older copy to be found out", || {
        if starts_over(&cluster, subject) > before { Ok(()) } else { Err("it does not say so".to_owned()) }
    });
    // The third lacks the same: the two of them are two of three, and one of them has forgotten.
    cluster.agents[leader].kill();
    cluster.restart(third);
    nobody_leads(&cluster);
    cluster.restart(leader);
    leads_again(&cluster, leader);
    is_whole(&mut cluster, subject, third, &mut acknowledged);
}
