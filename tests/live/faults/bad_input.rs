//! Nonsense gets one clear line, and the cluster goes on.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;

use live_tests::agent::{binary, run};
use live_tests::http::{Answer, request};
use live_tests::{Agent, Cluster};

/// Runs a command that must fail, and returns what it says last on standard error.
fn refused(command: &mut Command, code: i32) -> String {
    let output = run(command);
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{command:?}: {errors}");
    assert!(!errors.contains("panicked"), "{errors}");
    assert!(!String::from_utf8_lossy(&output.stdout).contains("agent ready"));
    errors
}

/// The same for a server, which says it in one line.
fn refused_start(command: &mut Command, words: &[&str]) {
    let errors = refused(command, 1);
    let last = errors.trim().lines().last().unwrap_or_default().to_owned();
    for word in words {
        assert!(last.contains(word), "{last:?} does not say {word:?}; all of it:\n{errors}");
    }
}

#[test]
fn a_server_that_cannot_start_says_why() {
    let mut cluster = Cluster::start(3);
    let folder = cluster.folder().to_owned();
    let agent = |name: &str| Agent::new(&folder, name);

    let mut taken = agent("taken");
    taken.raft = cluster.agents[0].raft.clone();
    refused_start(&mut taken.command(), &[&taken.raft]);
    let mut taken = agent("taken-too");
    taken.http = cluster.agents[0].http.clone();
    refused_start(&mut taken.command(), &[&taken.http]);

    let mut second = agent("n1");
    second.data = cluster.agents[0].data.clone();
    refused_start(&mut second.command(), &[&second.data.display().to_string()]);

    let stranger = agent("stranger");
    std::fs::create_dir_all(&stranger.data).expect("a folder");
    let file = stranger.data.join("server.toml");
    std::fs::write(&file, "colour = \"red\"\n").expect("a file");
    refused_start(stranger.command().arg("--config").arg(&file), &["colour"]);
    std::fs::write(&file, "[autopilot]\nupdate_interval = \"soon\"\n").expect("a file");
    refused_start(stranger.command().arg("--config").arg(&file), &["soon"]);

    cluster.agents[2].kill();
    let mut foreign = agent("another");
    foreign.data = cluster.agents[2].data.clone();
    refused_start(&mut foreign.command(), &["n3"]);
    cluster.restart(2);
    cluster.settle();
    cluster.serves("after all that");
}

#[test]
fn a_wrong_command_line_is_refused_with_a_hint() {
    let autopilot = || Command::new(binary());
    let errors = refused(autopilot().args(["agent", "--autopilot-update-interval", "soon"]), 2);
    assert!(errors.contains("soon"), "{errors}");
    let errors = refused(autopilot().args(["agent", "--raft-addr", "nowhere"]), 2);
    assert!(errors.contains("nowhere"), "{errors}");
    let errors = refused(autopilot().args(["operate"]), 2);
    assert!(errors.contains("operate"), "{errors}");
    let errors = refused(autopilot().args(["kv", "get", "x", "--http-addr", "127.0.0.1:1"]), 1);
    assert_eq!(errors.trim().lines().count(), 1, "{errors}");
}

fn refused_request(cluster: &Cluster, method: &str, path: &str, body: &[u8], statuses: &[u16]) {
    for agent in &cluster.agents {
        let Answer { status, body } = request(method, &agent.url(path), body).expect("an answer");
        assert!(statuses.contains(&status), "{method} {path} at {}: {status} {body}", agent.name);
        assert!(!body.trim().is_empty(), "{method} {path}: {status} without a word");
        assert!(body.trim().lines().count() == 1, "{method} {path}: {body}");
    }
}

#[test]
fn bad_requests_get_a_status_and_a_line() {
    let cluster = Cluster::start(3);
    let c = &cluster;
    refused_request(c, "GET", "/v1/nothing", b"", &[404]);
    refused_request(c, "PATCH", "/v1/kv/x", b"y", &[405]);
    refused_request(c, "PUT", "/v1/operator/autopilot/configuration", b"{", &[400]);
    refused_request(c, "PUT", "/v1/operator/autopilot/configuration", b"{\"MinQuorum\": \"many\"}", &[400]);
    refused_request(c, "PUT", "/v1/operator/autopilot/configuration", b"{\"Colour\": 1}", &[400]);
    refused_request(c, "PUT", "/v1/operator/autopilot/configuration", &vec![b' '; 1 << 17], &[413]);
    refused_request(c, "PUT", "/v1/kv/large", &vec![b'x'; 1 << 20], &[413]);
    refused_request(c, "PUT", &format!("/v1/kv/{}", "k".repeat(3000)), b"x", &[400, 414]);
    refused_request(c, "DELETE", "/v1/operator/raft/peer?id=nobody", b"", &[400, 404, 500]);
    refused_request(c, "POST", "/v1/operator/raft/transfer-leader?id=nobody", b"", &[400, 404, 500]);
    refused_request(c, "GET", "/v1/kv/x?index=minus", b"", &[400]);
    refused_request(c, "PUT", "/v1/kv/x?cas=minus", b"y", &[400]);
    cluster.settle();
    cluster.serves("after bad requests");
}

/// Sends bytes and reads until the other side closes or says nothing for a while.
fn send(address: &str, bytes: &[u8]) {
    let mut stream = TcpStream::connect(address).expect("the port is open");
    stream.set_read_timeout(Some(Duration::from_millis(300))).expect("a timeout");
    stream.set_write_timeout(Some(Duration::from_secs(5))).expect("a timeout");
    // The server may close before everything is written.
    let _ = stream.write_all(bytes);
    let mut sink = [0; 4096];
    while stream.read(&mut sink).is_ok_and(|count| count > 0) {}
}

#[test]
fn garbage_on_the_raft_port_harms_nobody() {
    let cluster = Cluster::start(3);
    let mut nonsense: Vec<Vec<u8>> = vec![
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(),
        vec![0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3],
        vec![0xff; 1000],
        vec![0; 1000],
    ];
    for kind in 0..=5_u8 {
        // Headers of msgpack that announce four billion of something.
        for length in [0xdd, 0xdb, 0xc6, 0xdf, 0xc9] {
            nonsense.push([kind, length, 0xff, 0xff, 0xff, 0xff].to_vec());
        }
        // Arrays in arrays in arrays.
        nonsense.push([vec![kind], vec![0x91; 100_000]].concat());
        // A map that ends early, and one that never ends.
        nonsense.push(vec![kind, 0x82, 0xa4, b'T', b'e', b'r', b'm']);
        nonsense.push([vec![kind, 0xdf, 0x00, 0xff, 0xff, 0xff], b"\xa1a\x01".repeat(100_000)].concat());
    }
    for agent in &cluster.agents {
        for bytes in &nonsense {
            send(&agent.raft, bytes);
        }
        send(&agent.http, b"\x00\x01\x02 nonsense\r\n\r\n");
        send(&agent.http, &[b"GET /".to_vec(), vec![b'a'; 200_000]].concat());
    }
    cluster.settle();
    cluster.serves("after garbage");
}
