//! The operator's hand on a real cluster: orders outlive their leader, a drained leader costs no write, and a removed
//! server is told.

use std::collections::BTreeMap;
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use live_tests::agent::{binary, run};
use live_tests::http::{get, put, request};
use live_tests::{Cluster, wait};

fn operator(cluster: &Cluster, asked: usize, line: &[&str]) -> Output {
    let mut command = Command::new(binary());
    command.args(["operator", "autopilot"]).args(line).args(["--http-addr", &cluster.agents[asked].http]);
    run(&mut command)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Writes one key after the other until told to stop; gives back what was acknowledged.
fn keep_writing(http: &str, stop: &AtomicBool) -> BTreeMap<String, String> {
    let mut acknowledged = BTreeMap::new();
    for number in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let (key, value) = (format!("during/{number}"), format!("value {number}"));
        let answer = put(&format!("http://{http}/v1/kv/{key}"), value.as_bytes());
        if answer.and_then(live_tests::http::Answer::ok).is_ok_and(|body| body.trim() == "true") {
            acknowledged.insert(key, value);
        }
    }
    acknowledged
}

#[test]
fn draining_the_leader_hands_over_and_loses_no_write() {
    let mut cluster = Cluster::start(3);
    let drained = cluster.leader();
    let asked = cluster.follower();
    let name = cluster.agents[drained].name.clone();
    let answer = operator(&cluster, asked, &["safe-to-stop", &name]);
    assert_eq!(answer.status.code(), Some(1), "a leader must not be stopped: {}", text(&answer.stdout));
    assert!(text(&answer.stdout).contains("[is-leader]"), "{}", text(&answer.stdout));

    let stop = Arc::new(AtomicBool::new(false));
    let writer = std::thread::spawn({
        let (stop, http) = (stop.clone(), cluster.agents[asked].http.clone());
        move || keep_writing(&http, &stop)
    });
    let answer = operator(&cluster, asked, &["drain", &name, "--why", "new kernel", "--timeout", "60s"]);
    let printed = text(&answer.stdout);
    assert!(answer.status.success(), "{printed}{}", text(&answer.stderr));
    assert!(printed.contains("[is-leader]") && printed.contains("Drained: "), "{printed}");
    assert_ne!(cluster.leader(), drained, "it handed over");
    let member = cluster.members(asked).expect("an answer").into_iter().find(|member| member.id == name);
    assert!(member.is_some_and(|member| !member.voter), "it stays a member without a vote");

    let answer = operator(&cluster, asked, &["safe-to-stop", &name]);
    assert!(answer.status.success(), "{}{}", text(&answer.stdout), text(&answer.stderr));
    assert!(cluster.agents[drained].terminate().success());
    stop.store(true, Ordering::Relaxed);
    let acknowledged = writer.join().expect("the writer ends");
    assert!(!acknowledged.is_empty(), "something was written meanwhile");
    for (key, value) in &acknowledged {
        let read = get(&cluster.agents[asked].url(&format!("/v1/kv/{key}?raw"))).and_then(|a| a.ok());
        assert_eq!(read.as_ref(), Ok(value), "{key} was acknowledged");
    }
    cluster.serves("without the drained one");
}

#[test]
fn a_cordon_survives_its_leader() {
    let mut cluster = Cluster::start(3);
    let leader = cluster.leader();
    let cordoned = cluster.agents[cluster.follower()].name.clone();
    let answer =
        operator(&cluster, leader, &["cordon", &cordoned, "--why", "noisy disk", "--by", "night shift"]);
    assert!(answer.status.success(), "{}", text(&answer.stderr));
    cluster.agents[leader].kill();
    let asked = cluster.leader();
    let printed = wait("the orders", || {
        let answer = operator(&cluster, asked, &["orders"]);
        if answer.status.success() { Ok(text(&answer.stdout)) } else { Err(text(&answer.stderr)) }
    });
    let order = format!("Cordoned: {cordoned}, by night shift at ");
    assert!(printed.contains(&order) && printed.contains(": noisy disk"), "{printed}");
    // And a restart of everybody, from the disks.
    for which in cluster.running() {
        cluster.agents[which].kill();
    }
    for which in 0..3 {
        cluster.restart(which);
    }
    let asked = cluster.leader();
    let printed = wait("the orders after the restart", || {
        let answer = operator(&cluster, asked, &["orders"]);
        if answer.status.success() { Ok(text(&answer.stdout)) } else { Err(text(&answer.stderr)) }
    });
    assert!(printed.contains(&order), "{printed}");
}

#[test]
fn a_removed_server_is_told_and_comes_back_only_when_it_is_let_in() {
    let mut cluster = Cluster::start(3);
    let extra = cluster.add("n4", &[]);
    cluster.settle();
    let asked = cluster.leader();
    let url = cluster.agents[asked].url("/v1/operator/raft/peer?id=n4&by=night%20shift");
    let status = |method, url: &str| request(method, url, b"").map(|answer| (answer.status, answer.body));
    wait("the removal", || match status("DELETE", &url) {
        Ok((200, _)) => Ok(()),
        other => Err(format!("{other:?}")),
    });
    // Another leader, which did not remove it.
    let moved = request("POST", &cluster.agents[asked].url("/v1/operator/raft/transfer-leader"), b"");
    assert_eq!(moved.map(|answer| answer.status), Ok(200));
    let told = wait("the removed server to be told", || {
        let this = get(&cluster.agents[extra].url("/v1/agent/self"))?.json();
        let told = this["Stats"]["consul"]["removed"].as_str().unwrap_or_default().to_owned();
        if told.is_empty() { Err(this["Stats"].to_string()) } else { Ok(told) }
    });
    assert!(told.starts_with("removed by night shift at "), "{told}");
    let log = cluster.agents[extra].log_tail();
    assert!(log.contains("this server is not part of its cluster any more"), "{log}");
    for _ in 0..10 {
        std::thread::sleep(std::time::Duration::from_millis(200));
        let members = wait("the members", || cluster.members(asked));
        assert!(members.iter().all(|member| member.id != "n4"), "{members:?}");
    }
    let stones = operator(&cluster, asked, &["tombstones"]);
    assert!(text(&stones.stdout).contains("night shift"), "{}", text(&stones.stdout));
    let back = operator(&cluster, asked, &["readmit", "n4"]);
    assert!(back.status.success(), "{}", text(&back.stderr));
    cluster.settle();
    wait("it to know that it is back", || {
        let this = get(&cluster.agents[extra].url("/v1/agent/self"))?.json();
        match this["Stats"]["consul"]["removed"].as_str() {
            Some("") => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
}

#[test]
fn orders_that_make_no_sense_are_one_clear_line() {
    let cluster = Cluster::start(1);
    for (line, code, complaint) in [
        (&["cordon", "nobody"][..], 1, "no server has the id or name \"nobody\""),
        (&["drain", "nobody"], 1, "no server has the id or name \"nobody\""),
        (&["safe-to-stop", "nobody"], 1, "no server has the id or name \"nobody\""),
        (&["readmit", "nobody"], 1, "no server has the id or name \"nobody\""),
        (&["maintenance", "nobody"], 1, "no server has the id or name \"nobody\""),
        (&["pause", "--for", "9000h"], 1, "at most 365 days"),
        (&["pause", "--for", "0s"], 1, "more than nothing"),
        (&["pause", "--for", "soon"], 2, "is not a duration"),
        (&["set-config", "--json", "{\"Removal\":{\"Budgt\":1}}"], 1, "Budgt"),
    ] {
        let answer = operator(&cluster, 0, line);
        let errors = text(&answer.stderr);
        assert_eq!(answer.status.code(), Some(code), "{line:?}: {errors}");
        assert!(errors.contains(complaint), "{line:?}: {errors}");
        assert!(code == 2 || errors.trim().lines().count() == 1, "{line:?}: {errors}");
    }
    let zoned = get(&cluster.agents[0].url("/v1/operator/autopilot/state")).expect("an answer").json();
    assert!(zoned["DomainTolerance"].is_null(), "nobody says in which zone it is");
}

#[test]
fn zones_are_shown_with_what_they_cost() {
    let mut cluster = Cluster::start(1);
    cluster.add("n2", &["--zone", "east"]);
    cluster.add("n3", &["--zone", "west"]);
    cluster.settle();
    let answer = operator(&cluster, 0, &["state"]);
    let printed = text(&answer.stdout);
    assert!(printed.contains("Failure Domains To Lose:      1\n"), "{printed}");
    assert!(printed.contains("   east: 1 of 1 voters healthy, 0 standing by; may be lost\n"), "{printed}");
}
