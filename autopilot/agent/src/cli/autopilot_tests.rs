//! Tests of `operator autopilot` against a fake server.

use clap::Parser;

use super::super::fake::Fake;
use super::*;

const CONFIG: &str = r#"{"CleanupDeadServers":true,"LastContactThreshold":"200ms","MaxTrailingLogs":250,
    "MinQuorum":0,"ServerStabilizationTime":"10s","RedundancyZoneTag":"zone","DisableUpgradeMigration":false,
    "UpgradeVersionTag":"","Removal":{"Budget":5,"VoterAfter":null,"Window":"10m0s"},"CreateIndex":4,"ModifyIndex":12,
    "Future":{"Kept":true}}"#;

const STATE: &str = r#"{"Healthy":true,"FailureTolerance":0,"OptimisticFailureTolerance":1,"Leader":"id-1",
    "Voters":["id-1"],"ReadReplicas":["id-3"],
    "RedundancyZones":{"a":{"Servers":["id-1","id-2"],"Voters":["id-1"],"FailureTolerance":1}},
    "Upgrade":{"Status":"idle","TargetVersion":"0.1.0","TargetVersionVoters":["id-1"]},
    "Servers":{
    "id-2":{"ID":"id-2","Name":"n2","Address":"127.0.0.1:2","Version":"0.1.0","Status":"non-voter","NodeType":"voter",
        "NodeStatus":"alive","Healthy":true,"LastContact":"12ms","LastTerm":2,"LastIndex":30,"StableFor":"1.2s",
        "BlockedBy":{"Code":"probation","Text":"probation, 1.8s left of 3s"},"Reasons":[],"Meta":null},
    "id-1":{"ID":"id-1","Name":"n1","Address":"127.0.0.1:1","Version":"0.1.0","Status":"leader","NodeType":"voter",
        "NodeStatus":"alive","Healthy":true,"LastContact":"0s","LastTerm":2,"LastIndex":30,"RedundancyZone":"a",
        "Meta":{"zone":"a"}}}}"#;

const HEALTH: &str = r#"{"Healthy":false,"FailureTolerance":0,"Servers":[{"ID":"id-1","Name":"n1",
    "Address":"127.0.0.1:1","SerfStatus":"alive","Version":"0.1.0","Leader":true,"LastContact":"0s","LastTerm":2,
    "LastIndex":30,"Healthy":false,"Voter":true,"StableSince":"2026-01-02T03:04:05Z"}]}"#;

fn text(outcome: &Outcome) -> &str {
    std::str::from_utf8(&outcome.out).expect("text")
}

#[derive(Debug, Parser)]
struct Line {
    #[command(flatten)]
    changes: ConfigChanges,
}

fn changes(line: &[&str]) -> Result<ConfigChanges, clap::Error> {
    Line::try_parse_from([&["set-config"], line].concat()).map(|line| line.changes)
}

#[test]
fn get_config_prints_consuls_lines() {
    let fake = Fake::start(|_| (200, CONFIG.into()));
    assert_eq!(
        text(&get_config(&fake.client(), Format::Pretty).expect("an answer")),
        "\
CleanupDeadServers = true
LastContactThreshold = 200ms
MaxTrailingLogs = 250
MinQuorum = 0
ServerStabilizationTime = 10s
RedundancyZoneTag = \"zone\"
DisableUpgradeMigration = false
UpgradeVersionTag = \"\"
Removal.Budget = 5
Removal.VoterAfter = null
Removal.Window = 10m0s
"
    );
}

#[test]
fn set_config_overlays_what_is_given_and_compares() {
    let fake = Fake::start(|request| match request.method.as_str() {
        "GET" => (200, CONFIG.into()),
        _ => (200, "true".into()),
    });
    let changes =
        changes(&["--min-quorum=3", "--cleanup-dead-servers=false", "--last-contact-threshold", "1.5s"]);
    let outcome = set_config(&fake.client(), &changes.expect("good flags")).expect("updated");
    assert_eq!(outcome, Outcome::line("Configuration updated!"));
    assert_eq!(
        fake.requests(),
        ["GET /v1/operator/autopilot/configuration", "PUT /v1/operator/autopilot/configuration?cas=12"]
    );
    let sent: Value = serde_json::from_slice(&fake.last_body()).expect("JSON");
    let mut expected: Value = serde_json::from_str(CONFIG).expect("JSON");
    expected["MinQuorum"] = 3.into();
    expected["CleanupDeadServers"] = false.into();
    expected["LastContactThreshold"] = "1.5s".into();
    assert_eq!(sent, expected, "everything else is sent back as it was read");
}

#[test]
fn groups_are_changed_key_by_key() {
    let fake = Fake::start(|request| match request.method.as_str() {
        "GET" => (200, CONFIG.into()),
        _ => (200, "true".into()),
    });
    let changes = changes(&["--json", r#"{"Removal":{"Budget":2,"VoterAfter":"1m"},"MinQuorum":1}"#]);
    set_config(&fake.client(), &changes.expect("good flags")).expect("updated");
    let sent: Value = serde_json::from_slice(&fake.last_body()).expect("JSON");
    let mut expected: Value = serde_json::from_str(CONFIG).expect("JSON");
    expected["Removal"] = serde_json::json!({"Budget": 2, "VoterAfter": "1m", "Window": "10m0s"});
    expected["MinQuorum"] = 1.into();
    assert_eq!(sent, expected);
}

#[test]
fn a_lost_race_is_an_error_with_a_hint() {
    let fake = Fake::start(|request| match request.method.as_str() {
        "GET" => (200, CONFIG.into()),
        _ => (200, "false".into()),
    });
    let changes = changes(&["--disable-upgrade-migration"]).expect("a bare flag means true");
    assert_eq!(changes.values(), [("DisableUpgradeMigration", Value::from(true))]);
    let error = set_config(&fake.client(), &changes).expect_err("somebody was faster");
    assert!(matches!(error, VerbError::LostRace), "{error:?}");
    assert!(error.to_string().contains("run the command again"), "{error}");
}

#[test]
fn flags_are_checked_before_anything_is_sent() {
    for (line, complaint) in [
        (&["--server-stabilization-time", "10"][..], "has no unit"),
        (&["--last-contact-threshold=-5s"], "is not a duration"),
        (&["--min-quorum", "-1"], "unexpected argument '-1'"),
        (&["--cleanup-dead-servers=maybe"], "invalid value 'maybe'"),
        (&["--json", "[1]"], "not a JSON object"),
        (&["--json", "@/nowhere/at/all"], "cannot read /nowhere/at/all"),
        (&[], "required arguments were not provided"),
    ] {
        let error = changes(line).expect_err(complaint);
        assert_eq!(error.exit_code(), 2);
        assert!(error.to_string().contains(complaint), "{error}");
    }
}

#[test]
fn state_is_one_block() {
    let fake = Fake::start(|_| (200, STATE.into()));
    assert_eq!(
        text(&state(&fake.client(), Format::Pretty).expect("an answer")),
        r#"Healthy:                      true
Failure Tolerance:            0
Optimistic Failure Tolerance: 1
Leader:                       id-1
Voters:
   id-1
Read Replicas:
   id-3
Redundancy Zones:
   a:
      Failure Tolerance: 1
      Voters:
         id-1
      Servers:
         id-1
         id-2
Upgrade:
   Status:                    idle
   TargetVersion:             0.1.0
   TargetVersionVoters:
      id-1
Servers:
   id-1
      Name:             n1
      Address:          127.0.0.1:1
      Version:          0.1.0
      Status:           leader
      Node Type:        voter
      Node Status:      alive
      Healthy:          true
      Last Contact:     0s
      Last Term:        2
      Last Index:       30
      Redundancy Zone:  a
      Meta
         "zone": "a"
   id-2
      Name:             n2
      Address:          127.0.0.1:2
      Version:          0.1.0
      Status:           non-voter
      Node Type:        voter
      Node Status:      alive
      Healthy:          true
      Last Contact:     12ms
      Last Term:        2
      Last Index:       30
      Stable For:       1.2s
      Not Voting:       probation, 1.8s left of 3s
      Meta
"#
    );
}

#[test]
fn state_as_json_keeps_what_this_program_does_not_know() {
    let fake = Fake::start(|_| (200, STATE.into()));
    let outcome = state(&fake.client(), Format::Json).expect("an answer");
    let value: Value = serde_json::from_str(text(&outcome)).expect("JSON");
    assert_eq!(value, serde_json::from_str::<Value>(STATE).expect("JSON"));
}

#[test]
fn an_unhealthy_cluster_is_shown_and_ends_with_2() {
    let fake = Fake::start(|_| (429, HEALTH.into()));
    let outcome = health(&fake.client(), Format::Pretty, Palette::PLAIN).expect("429 is an answer");
    assert_eq!(outcome.code, 2);
    assert_eq!(
        text(&outcome),
        "\
Healthy:            false
Failure Tolerance:  0

ID    Name  Address      SerfStatus  Version  Leader  Voter  Healthy  LastContact  LastTerm  LastIndex  StableSince
id-1  n1    127.0.0.1:1  alive       0.1.0    true    true   false    0s           2         30         2026-01-02T03:04:05Z
"
    );
    let json = health(&fake.client(), Format::Json, Palette::PLAIN).expect("429 is an answer");
    assert_eq!(json.code, 2);
    assert_eq!(
        serde_json::from_slice::<Value>(&json.out).expect("JSON"),
        serde_json::from_str::<Value>(HEALTH).expect("JSON")
    );
}

#[test]
fn other_statuses_of_health_are_errors() {
    let fake = Fake::start(|_| (500, "No cluster leader".into()));
    let error = health(&fake.client(), Format::Pretty, Palette::PLAIN).expect_err("500");
    assert!(error.to_string().contains("knows no leader"), "{error}");
}
