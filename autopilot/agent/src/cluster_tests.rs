//! Whole servers in one process, over loopback sockets and real files.

use std::path::Path;
use std::time::Duration;

use axum::http::{HeaderMap, Request, StatusCode};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;

use crate::config::AgentConfig;
use crate::{Agent, StartError};

/// Ends a test that hangs; nothing is expected to take that long.
const PATIENCE: Duration = Duration::from_secs(60);

fn config(dir: &Path, name: &str, expect: u32, join: &[&Agent]) -> AgentConfig {
    let free = "127.0.0.1:0".parse().expect("address");
    let mut config = AgentConfig {
        node_name: name.to_owned(),
        node_id: Some(format!("id-{name}")),
        data_dir: dir.join(name),
        raft_addr: free,
        http_addr: free,
        gossip_addr: free,
        bootstrap_expect: expect,
        join: join.iter().map(|agent| agent.addresses().gossip.to_string()).collect(),
        zone: "z1".to_owned(),
        update_interval: Duration::from_millis(200),
        reconcile_interval: Duration::from_millis(400),
        ..AgentConfig::default()
    };
    // Generous, for machines that are busy with other tests.
    config.autopilot.last_contact_threshold = Duration::from_secs(2);
    config.autopilot.server_stabilization_time = Duration::from_millis(500);
    config
}

async fn start(dir: &Path, name: &str, expect: u32, join: &[&Agent]) -> Agent {
    Agent::start(config(dir, name, expect, join)).await.expect("start")
}

async fn three(dir: &Path) -> [Agent; 3] {
    let a = start(dir, "a", 3, &[]).await;
    let b = start(dir, "b", 3, &[&a]).await;
    let c = start(dir, "c", 3, &[&a]).await;
    [a, b, c]
}

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

impl Answer {
    fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("text")
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    fn index(&self) -> u64 {
        self.headers["x-consul-index"].to_str().expect("text").parse().expect("a number")
    }
}

async fn call(agent: &Agent, method: &str, path: &str, body: impl Into<Bytes>) -> Answer {
    let client: Client<HttpConnector, Full<Bytes>> = Client::builder(TokioExecutor::new()).build_http();
    let request = Request::builder()
        .method(method)
        .uri(format!("http://{}{path}", agent.addresses().http))
        .body(Full::new(body.into()))
        .expect("a valid request");
    let response =
        tokio::time::timeout(PATIENCE, client.request(request)).await.expect("in time").expect("an answer");
    let (parts, body) = response.into_parts();
    let body = body.collect().await.expect("a whole answer").to_bytes();
    Answer { status: parts.status, headers: parts.headers, body }
}

async fn get(agent: &Agent, path: &str) -> Answer {
    call(agent, "GET", path, "").await
}

/// Asks until the answer fits; the limit only ends a failing test.
async fn until(agent: &Agent, path: &str, fits: impl Fn(&Answer) -> bool) -> Answer {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let answer = get(agent, path).await;
        if fits(&answer) {
            return answer;
        }
        assert!(tokio::time::Instant::now() < deadline, "{path}: {} {}", answer.status, answer.text());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Waits until everyone agrees on a leader and tells which of them it is.
async fn leader_of(agents: &[Agent]) -> usize {
    let leader = until(&agents[0], "/v1/status/leader", |answer| answer.text() != "\"\"").await;
    let address = leader.json().as_str().expect("an address").to_owned();
    for agent in agents {
        until(agent, "/v1/status/leader", |answer| answer.json() == address.as_str()).await;
    }
    let found = agents.iter().position(|agent| agent.addresses().raft.to_string() == address);
    found.expect("the leader is one of them")
}

async fn healthy(agent: &Agent, servers: usize) -> Answer {
    until(agent, "/v1/operator/autopilot/health", |answer| {
        answer.status == StatusCode::OK
            && answer.json()["Servers"].as_array().is_some_and(|s| s.len() == servers)
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_servers_form_a_cluster_and_any_of_them_answers() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let agents = three(dir.path()).await;
    let leader = leader_of(&agents).await;
    let follower = (leader + 1) % 3;
    assert_eq!(call(&agents[follower], "PUT", "/v1/kv/a/b?flags=7", "hello").await.text(), "true");
    for agent in &agents {
        assert_eq!(get(agent, "/v1/kv/a/b?raw").await.text(), "hello", "on {}", agent.id());
        healthy(agent, 3).await;
    }

    let entry = get(&agents[follower], "/v1/kv/a/b").await;
    let index = entry.index();
    assert_eq!(entry.json()[0]["Value"], "aGVsbG8=");
    assert_eq!(entry.json()[0]["Flags"], 7);
    assert_eq!(entry.json()[0]["ModifyIndex"], index);
    assert_eq!(entry.headers["x-consul-knownleader"], "true");
    let cas = |index: u64| format!("/v1/kv/a/b?cas={index}");
    assert_eq!(call(&agents[follower], "PUT", &cas(index + 1), "no").await.text(), "false");
    assert_eq!(call(&agents[leader], "PUT", &cas(index), "yes").await.text(), "true");
    assert_eq!(get(&agents[follower], "/v1/kv/a/b?raw&consistent").await.text(), "yes");

    reads_say_what_they_rest_on(&agents[leader], &agents[follower]).await;
    transactions_are_done_whole(&agents[follower]).await;
    for agent in &agents {
        every_endpoint_answers(agent).await;
    }
    for agent in agents {
        agent.stop().await;
    }
}

/// Also where another server hands the request on to the leader.
async fn reads_say_what_they_rest_on(leader: &Agent, follower: &Agent) {
    for (asked, query, consistency, by) in [
        (leader, "", "leader", "lease"),
        (follower, "", "leader", "lease"),
        (follower, "?recurse", "leader", "lease"),
        (leader, "?index=1", "leader", "lease"),
        (leader, "?consistent", "consistent", "read-index"),
        (follower, "?consistent", "consistent", "read-index"),
        (follower, "?stale", "stale", "local"),
    ] {
        // The first term's lease begins with its first answered heartbeat, and a pause of this machine ends it.
        let path = format!("/v1/kv/a/b{query}");
        let answer = until(asked, &path, |answer| answer.headers["x-autopilot-read-by"] == by).await;
        assert_eq!(answer.headers["x-consul-effective-consistency"], consistency, "{path}");
    }
}

/// Leaves nothing behind.
async fn transactions_are_done_whole(agent: &Agent) {
    let run = async |body: &str| call(agent, "PUT", "/v1/txn", body.to_owned()).await;
    let done = run(r#"[{"KV": {"Verb": "set", "Key": "t", "Value": "aGVsbG8=", "Flags": 7}},
            {"KV": {"Verb": "get", "Key": "t"}},
            {"KV": {"Verb": "get-or-empty", "Key": "nothing"}}]"#)
    .await;
    assert_eq!(done.status, StatusCode::OK, "{}", done.text());
    assert_eq!(done.headers["x-autopilot-read-by"], "log");
    let done = done.json();
    let index = &done["Results"][0]["KV"]["ModifyIndex"];
    let entry = serde_json::json!({
        "LockIndex": 0, "Key": "t", "Flags": 7, "Value": "aGVsbG8=", "CreateIndex": index, "ModifyIndex": index,
    });
    assert_eq!(done["Results"][0]["KV"]["Value"], Value::Null);
    assert_eq!(done["Results"][1]["KV"], entry);
    assert_eq!(done["Results"][2]["KV"]["Value"], Value::Null);
    assert_eq!(done["Errors"], Value::Null);

    let undone = run(r#"[{"KV": {"Verb": "delete", "Key": "t"}},
            {"KV": {"Verb": "get", "Key": "t"}},
            {"KV": {"Verb": "check-not-exists", "Key": "a/b"}}]"#)
    .await;
    assert_eq!(undone.status, StatusCode::CONFLICT, "{}", undone.text());
    let undone = undone.json();
    assert_eq!(undone["Results"], Value::Null);
    let failed: Vec<_> =
        undone["Errors"].as_array().expect("a list").iter().map(|e| e["OpIndex"].clone()).collect();
    assert_eq!(failed, [1, 2]);
    assert!(
        undone["Errors"][0]["What"].as_str().is_some_and(|text| text.contains("doesn't exist")),
        "{undone}"
    );

    assert_eq!(get(agent, "/v1/kv/t").await.json()[0], entry, "still there");
    let gone = run(&format!(r#"[{{"KV": {{"Verb": "delete-cas", "Key": "t", "Index": {index}}}}}]"#)).await;
    assert_eq!((gone.status, &gone.json()["Results"]), (StatusCode::OK, &serde_json::json!([])));
}

async fn every_endpoint_answers(agent: &Agent) {
    let ok = |answer: Answer| {
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
        answer
    };
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    assert_eq!(ok(get(agent, "/v1/status/peers").await).json().as_array().map(Vec::len), Some(3));
    let state = ok(get(agent, "/v1/operator/autopilot/state?pretty").await).json();
    assert_eq!(state["Voters"].as_array().map(Vec::len), Some(3));
    assert_eq!(state["FailureTolerance"], 1);
    let leader = text(&state["Leader"]);
    assert_eq!(state["Servers"][&leader]["Status"], "leader");
    assert_eq!(state["Servers"][&leader]["RedundancyZone"], "z1");
    let configuration = ok(get(agent, "/v1/operator/autopilot/configuration").await).json();
    assert_eq!(configuration["LastContactThreshold"], "2s");
    let raft = ok(get(agent, "/v1/operator/raft/configuration").await).json();
    assert_eq!(raft["Servers"].as_array().map(Vec::len), Some(3));
    assert!(raft["Servers"][0]["LastIndex"].as_u64().is_some_and(|index| index > 0), "{raft}");
    ok(get(agent, "/v1/operator/raft/configuration?stale").await);
    let members = ok(get(agent, "/v1/agent/members").await).json();
    let names: Vec<_> = members.as_array().expect("a list").iter().map(|m| text(&m["Name"])).collect();
    assert_eq!(names, ["a", "b", "c"]);
    assert!(
        members.as_array().expect("a list").iter().all(|m| m["Status"] == 1 && m["Tags"]["role"] == "consul")
    );
    let this = ok(get(agent, "/v1/agent/self").await).json();
    assert_eq!(this["Config"]["NodeID"], agent.id().as_str());
    assert!(this["Stats"]["raft"]["commit_index"].as_str().is_some_and(|index| index != "0"));
    ok(get(agent, "/v1/agent/autopilot/events").await);
    assert_eq!(ok(get(agent, "/v1/kv/?keys").await).json(), serde_json::json!(["a/b"]));
    assert_eq!(ok(get(agent, "/v1/kv/a?recurse").await).json()[0]["Key"], "a/b");
    let missing = get(agent, "/v1/kv/missing").await;
    assert_eq!((missing.status, missing.body.len()), (StatusCode::NOT_FOUND, 0));
    assert!(missing.index() > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_leases_the_default_asks_a_quorum() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut config = config(dir.path(), "a", 1, &[]);
    config.raft.lease_reads = false;
    let agent = Agent::start(config).await.expect("start");
    healthy(&agent, 1).await;
    let answer = get(&agent, "/v1/kv/a").await;
    assert_eq!(answer.headers["x-consul-effective-consistency"], "leader");
    assert_eq!(answer.headers["x-autopilot-read-by"], "read-index");
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_joins_is_promoted_and_leaves() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let agents = three(dir.path()).await;
    leader_of(&agents).await;
    let joined = start(dir.path(), "d", 0, &[]).await;
    let path = format!("/v1/agent/join/{}", agents[1].addresses().gossip);
    assert_eq!(call(&joined, "PUT", &path, "").await.status, StatusCode::OK);
    let voter = |answer: &Answer| answer.json()["Servers"]["id-d"]["Status"] == "voter";
    until(&agents[0], "/v1/operator/autopilot/state", voter).await;
    let events = get(&agents[0], "/v1/agent/autopilot/events").await.json();
    let promoted = |event: &Value| event["Kind"] == "promoted" && event["Server"] == "id-d";
    assert!(events.as_array().expect("a list").iter().any(promoted), "{events}");

    assert_eq!(call(&joined, "PUT", "/v1/agent/leave", "").await.status, StatusCode::OK);
    joined.leave_requested().await;
    joined.leave().await;
    let peers = get(&agents[0], "/v1/status/peers").await.json();
    assert_eq!(peers.as_array().map(Vec::len), Some(3), "gone from the configuration: {peers}");
    until(&agents[2], "/v1/agent/members", |answer| {
        answer.json().as_array().is_some_and(|list| list.iter().any(|m| m["Name"] == "d" && m["Status"] == 3))
    })
    .await;
    for agent in agents {
        agent.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_leader_leaves_and_the_others_go_on() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut agents = Vec::from(three(dir.path()).await);
    let leader = leader_of(&agents).await;
    healthy(&agents[0], 3).await;
    assert_eq!(call(&agents[leader], "PUT", "/v1/kv/k", "v").await.text(), "true");
    agents.remove(leader).leave().await;
    leader_of(&agents).await;
    for agent in &agents {
        assert_eq!(get(agent, "/v1/kv/k?raw").await.text(), "v");
        until(agent, "/v1/status/peers", |answer| answer.json().as_array().map(Vec::len) == Some(2)).await;
    }
    for agent in agents {
        agent.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_server_is_removed_and_comes_back_with_its_data() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut agents = Vec::from(three(dir.path()).await);
    let leader = leader_of(&agents).await;
    healthy(&agents[0], 3).await;
    let failed = agents.remove((leader + 1) % 3);
    let name = failed.id().as_str().trim_start_matches("id-").to_owned();
    failed.stop().await;
    // Removed by autopilot, not by us.
    until(&agents[0], "/v1/operator/raft/configuration", |answer| {
        answer.json()["Servers"].as_array().is_some_and(|servers| servers.len() == 2)
    })
    .await;
    assert_eq!(call(&agents[0], "PUT", "/v1/kv/k", "while away").await.text(), "true");
    let back = start(dir.path(), &name, 3, &[&agents[0]]).await;
    let id = back.id().to_string();
    until(&agents[0], "/v1/operator/autopilot/state", |answer| {
        answer.json()["Servers"][&id]["Status"] == "voter"
    })
    .await;
    assert_eq!(get(&back, "/v1/kv/k?raw").await.text(), "while away");
    agents.push(back);
    for agent in agents {
        agent.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_removed_by_hand_stays_out_until_it_starts_again() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut agents = Vec::from(three(dir.path()).await);
    let leader = leader_of(&agents).await;
    healthy(&agents[0], 3).await;
    let removed = agents.remove((leader + 1) % 3);
    let id = removed.id().to_string();
    let name = id.trim_start_matches("id-").to_owned();
    let path = format!("/v1/operator/raft/peer?address={}", removed.addresses().raft);
    assert_eq!(call(&agents[0], "DELETE", &path, "").await.status, StatusCode::OK);
    // Another leader does not know of the removal from its own memory.
    let moved = call(&agents[0], "POST", "/v1/operator/raft/transfer-leader", "").await;
    assert_eq!(moved.text(), "{\"Success\":true}");
    let members = |answer: &Answer| answer.json()["Servers"].as_array().map_or(0, |servers| servers.len());
    until(&agents[0], "/v1/agent/autopilot/events", |answer| answer.status == StatusCode::OK).await;
    for _ in 0..20 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(members(&get(&agents[0], "/v1/operator/raft/configuration").await), 2);
    }
    assert_eq!(call(&agents[0], "PUT", "/v1/kv/k", "v").await.text(), "true");
    assert_eq!(
        get(&removed, "/v1/kv/k?raw").await.text(),
        "v",
        "a server outside the cluster asks one inside"
    );
    removed.stop().await;
    let back = start(dir.path(), &name, 0, &[&agents[0]]).await;
    until(&agents[0], "/v1/operator/raft/configuration", |answer| members(answer) == 3).await;
    agents.push(back);
    for agent in agents {
        agent.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_server_keeps_its_data_over_a_restart() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let agent = start(dir.path(), "a", 1, &[]).await;
    assert_eq!(call(&agent, "PUT", "/v1/kv/k", "v").await.text(), "true");
    let body = r#"{"MinQuorum": 3, "LastContactThreshold": "1s", "ServerStabilizationTime": 5000000000}"#;
    assert_eq!(call(&agent, "PUT", "/v1/operator/autopilot/configuration", body).await.text(), "true");

    let second = Agent::start(config(dir.path(), "a", 1, &[])).await.expect_err("in use").to_string();
    assert!(second.contains("in use") && second.contains("data_dir"), "{second}");
    let mut other = config(dir.path(), "b", 1, &[]);
    other.http_addr = agent.addresses().http;
    let taken = Agent::start(other.clone()).await.expect_err("taken");
    assert!(matches!(taken, StartError::Port { key: "http_addr", .. }), "{taken}");
    other.raft_addr = agent.addresses().raft;
    let taken = Agent::start(other).await.expect_err("taken").to_string();
    assert!(taken.contains("raft_addr"), "{taken}");
    agent.stop().await;

    let agent = start(dir.path(), "a", 1, &[]).await;
    until(&agent, "/v1/kv/k?raw", |answer| answer.text() == "v").await;
    let stored = get(&agent, "/v1/operator/autopilot/configuration").await.json();
    assert_eq!((&stored["MinQuorum"], &stored["ServerStabilizationTime"]), (&3.into(), &"5s".into()));
    assert_eq!(stored["MaxTrailingLogs"], 250, "left out, so the default");
    agent.stop().await;

    std::fs::create_dir(dir.path().join("foreign")).expect("create");
    std::fs::write(dir.path().join("foreign/notes.txt"), "mine").expect("write");
    let foreign = Agent::start(config(dir.path(), "foreign", 1, &[])).await.expect_err("foreign").to_string();
    assert!(foreign.contains("notes.txt") && foreign.contains("data_dir"), "{foreign}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_requests_get_their_status_and_a_reason() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let agent = start(dir.path(), "a", 1, &[]).await;
    healthy(&agent, 1).await;
    let check = async |method: &str, path: &str, body: Bytes, status: u16, said: &str| {
        let answer = call(&agent, method, path, body).await;
        assert_eq!(answer.status.as_u16(), status, "{method} {path}: {}", answer.text());
        assert!(answer.text().contains(said), "{method} {path}: {}", answer.text());
    };
    let none = Bytes::new;
    let large = |size: usize| Bytes::from(vec![b'x'; size]);
    check("PUT", "/v1/kv/full", large(512 * 1024), 200, "true").await;
    check("PUT", "/v1/kv/large", large(512 * 1024 + 1), 413, "524288").await;
    check("PUT", "/v1/operator/autopilot/configuration", large(65 * 1024), 413, "65536").await;
    check("PUT", "/v1/operator/autopilot/configuration", "{".into(), 400, "autopilot config").await;
    check("PUT", "/v1/operator/autopilot/configuration", r#"{"MinQuorom":3}"#.into(), 400, "MinQuorom").await;
    let soon = r#"{"ServerStabilizationTime":"soon"}"#;
    check("PUT", "/v1/operator/autopilot/configuration", soon.into(), 400, "soon").await;
    check("PUT", "/v1/operator/autopilot/configuration?cas=x", "{}".into(), 400, "cas").await;
    check("PUT", "/v1/operator/autopilot/configuration?cas=1", "{}".into(), 200, "false").await;
    check("PUT", "/v1/kv/", "x".into(), 400, "Missing key name").await;
    check("PUT", "/v1/txn", "[".into(), 400, "Failed to parse the transaction").await;
    check("PUT", "/v1/txn", r#"[{"KV":{"Verb":"lock","Key":"a"}}]"#.into(), 400, "sessions").await;
    check("PUT", "/v1/txn", large((1 << 20) + 1), 413, "1048576").await;
    check("PUT", "/v1/kv/a?cas=-1", "x".into(), 400, "cas").await;
    check("PUT", &format!("/v1/kv/{}", "k".repeat(1025)), "x".into(), 400, "1024").await;
    check("DELETE", "/v1/kv/a?recurse&cas=1", none(), 400, "recurse").await;
    check("GET", "/v1/kv/a?stale&consistent", none(), 400, "conflicting").await;
    check("GET", "/v1/kv/a?index=1&wait=soon", none(), 400, "Invalid wait time").await;
    check("GET", "/v1/kv/a?index=x", none(), 400, "Invalid index").await;
    check("GET", "/v1/kv/%ff", none(), 400, "UTF-8").await;
    check("GET", "/v1/kv/a?dc=elsewhere", none(), 500, "No path to datacenter").await;
    check("DELETE", "/v1/operator/raft/peer", none(), 400, "Must specify").await;
    check("DELETE", "/v1/operator/raft/peer?id=a&address=b", none(), 400, "only one").await;
    check("DELETE", "/v1/operator/raft/peer?id=nobody", none(), 500, "\"nobody\" was not found").await;
    check("DELETE", "/v1/operator/raft/peer?id=id-a", none(), 500, "no voter").await;
    check("POST", "/v1/operator/raft/transfer-leader?id=nobody", none(), 404, "nobody").await;
    check("POST", "/v1/operator/raft/transfer-leader", none(), 500, "voter").await;
    check("PUT", "/v1/agent/force-leave/nobody", none(), 500, "nobody").await;
    check("PUT", "/v1/agent/join/127.0.0.1", none(), 500, "127.0.0.1").await;
    check("GET", "/v1/nothing", none(), 404, "/v1/nothing").await;
    let wrong = call(&agent, "POST", "/v1/status/leader", "").await;
    assert_eq!(wrong.status, StatusCode::METHOD_NOT_ALLOWED);
    assert!(wrong.headers["allow"].to_str().expect("text").contains("GET"), "{:?}", wrong.headers);
    assert_eq!(get(&agent, "/v1/kv/full?raw").await.body.len(), 512 * 1024, "nothing was lost");
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_blocking_query_returns_on_a_change_or_after_its_wait() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let agent = start(dir.path(), "a", 1, &[]).await;
    call(&agent, "PUT", "/v1/kv/k", "1").await;
    let index = get(&agent, "/v1/kv/k").await.index();
    let waited = get(&agent, &format!("/v1/kv/k?index={index}&wait=50ms")).await;
    assert_eq!(waited.index(), index, "nothing changed");
    let path = format!("/v1/kv/k?raw&index={index}&wait=50s");
    let (woken, _) = tokio::join!(get(&agent, &path), async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        call(&agent, "PUT", "/v1/kv/k", "2").await
    });
    assert_eq!(woken.text(), "2");
    assert!(woken.index() > index);
    let path = format!("/v1/kv/?recurse&index={}&wait=50s", woken.index());
    let (deleted, _) = tokio::join!(get(&agent, &path), call(&agent, "DELETE", "/v1/kv/k", ""));
    assert_eq!(deleted.status, StatusCode::NOT_FOUND);
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_quorum_a_request_says_so_and_stale_reads_go_on() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let [a, b, c] = three(dir.path()).await;
    until(&a, "/v1/status/leader", |answer| answer.text() != "\"\"").await;
    assert_eq!(call(&a, "PUT", "/v1/kv/k", "v").await.text(), "true");
    until(&a, "/v1/kv/k?raw&stale", |answer| answer.text() == "v").await;
    b.stop().await;
    c.stop().await;
    let refused = until(&a, "/v1/kv/k", |answer| answer.status == StatusCode::INTERNAL_SERVER_ERROR).await;
    assert!(!refused.text().is_empty());
    assert_eq!(get(&a, "/v1/kv/k?raw&stale").await.text(), "v");
    assert_eq!(get(&a, "/v1/agent/members").await.status, StatusCode::OK);
    a.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_survivor_with_a_peers_file_leads_on_with_all_data() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let [a, b, c] = three(dir.path()).await;
    until(&a, "/v1/status/leader", |answer| answer.text() != "\"\"").await;
    assert_eq!(call(&a, "PUT", "/v1/kv/k", "v").await.text(), "true");
    until(&a, "/v1/kv/k?raw&stale", |answer| answer.text() == "v").await;
    let raft_addr = a.addresses().raft;
    b.stop().await;
    c.stop().await;
    a.stop().await;

    let survivor = || AgentConfig { raft_addr, ..config(dir.path(), "a", 0, &[]) };
    let file = dir.path().join("a").join(raft::recovery::PEERS_FILE);
    std::fs::write(&file, r#"[{"id": "id-b", "address": "127.0.0.1:1"}]"#).expect("a file");
    let refused = Agent::start(survivor()).await.expect_err("the file is about another server");
    assert!(refused.to_string().contains("does not name this server, id-a"), "{refused}");
    let peers = format!(r#"[{{"id": "id-a", "address": "{raft_addr}"}}]"#);
    std::fs::write(&file, peers).expect("a file");
    let a = Agent::start(survivor()).await.expect("it recovers");
    assert!(!file.exists(), "the file is consumed");
    until(&a, "/v1/kv/k?raw", |answer| answer.text() == "v").await;
    assert_eq!(call(&a, "PUT", "/v1/kv/k", "w").await.text(), "true");
    let servers = get(&a, "/v1/operator/raft/configuration").await.json();
    assert_eq!(servers["Servers"].as_array().map(Vec::len), Some(1), "{servers}");

    // A server with nothing of its own joins what was recovered.
    let d = start(dir.path(), "d", 0, &[&a]).await;
    until(&d, "/v1/kv/k?raw&stale", |answer| answer.text() == "w").await;
    d.stop().await;
    a.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_is_told_to_those_who_wait_and_is_no_key() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let agents = three(dir.path()).await;
    let leader = leader_of(&agents).await;
    healthy(&agents[0], 3).await;
    let follower = &agents[(leader + 1) % 3];
    let id = follower.id().to_string();
    let before = get(follower, "/v1/agent/autopilot/events").await.json();
    let last =
        before.as_array().and_then(|events| events.last()).map_or(0, |e| e["Index"].as_u64().unwrap_or(0));
    let path = format!("/v1/agent/autopilot/events?audit&wait=60s&index={last}");
    let cordon = format!("/v1/operator/autopilot/cordon?server={id}&why=noisy&by=night");
    // Both through a follower, which hands them on.
    let (told, ordered) = tokio::join!(get(follower, &path), call(follower, "PUT", &cordon, ""));
    assert_eq!(ordered.json()["Cordoned"][0]["Server"], id, "{}", ordered.text());
    let event = told.json()[0].clone();
    assert_eq!(
        (&event["Kind"], &event["By"], &event["Server"]),
        (&"cordoned".into(), &"night".into(), &id.into())
    );
    assert_eq!(get(follower, "/v1/kv/?keys").await.text(), "[]", "an order is no key");
    for agent in agents {
        agent.stop().await;
    }
}
