//! A cluster grows, loses its leader and is made whole again, by itself.

use live_tests::{Cluster, wait};

fn voters(cluster: &Cluster, count: usize) {
    wait("the voters", || {
        let members = cluster.members(cluster.leader())?;
        let voters = members.iter().filter(|member| member.voter).count();
        if voters == count && members.len() == count { Ok(()) } else { Err(format!("{members:?}")) }
    });
}

#[test]
fn servers_join_are_promoted_and_replace_the_dead() {
    let mut cluster = Cluster::start(3);
    cluster.add("n4", &[]);
    cluster.add("n5", &[]);
    voters(&cluster, 5);
    let value = "written before the leader dies";
    wait("a write", || cluster.write(0, "kept", value));

    let dead = cluster.leader();
    let name = cluster.agents[dead].name.clone();
    cluster.agents[dead].kill();
    let leader = cluster.leader();
    assert_ne!(leader, dead);
    wait("the dead server to be removed", || {
        let members = cluster.members(cluster.leader())?;
        if members.iter().any(|member| member.id == name) { Err(format!("{members:?}")) } else { Ok(()) }
    });
    voters(&cluster, 4);

    let replacement = cluster.add("n6", &[]);
    voters(&cluster, 5);
    cluster.settle();
    wait("the replacement to hold everything", || {
        let found = cluster.read_local(replacement, "kept")?;
        if found == value { Ok(()) } else { Err(found) }
    });
    cluster.serves("whole again");
}

#[test]
fn a_server_that_is_asked_to_stop_does_and_comes_back() {
    let mut cluster = Cluster::start(3);
    let follower = cluster.follower();
    let status = cluster.agents[follower].terminate();
    assert!(status.success(), "{status}");
    cluster.serves("two of three");
    cluster.restart(follower);
    cluster.settle();
    cluster.serves("all three");
}

#[test]
fn a_server_that_leaves_is_removed_and_ends() {
    let mut cluster = Cluster::start(3);
    cluster.add("n4", &[]);
    voters(&cluster, 4);
    let answer = live_tests::http::put(&cluster.agents[3].url("/v1/agent/leave"), b"");
    assert_eq!(answer.map(|answer| answer.status), Ok(200));
    let status = cluster.agents[3].ended();
    assert!(status.success(), "{status}");
    voters(&cluster, 3);
    cluster.serves("the rest");
}
