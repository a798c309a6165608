//! Tests of the operator's hand against a fake server.

use std::sync::atomic::{AtomicUsize, Ordering};

use clap::Parser;

use super::super::fake::Fake;
use super::*;

fn text(outcome: &Outcome) -> &str {
    std::str::from_utf8(&outcome.out).expect("text")
}

fn order(why: &str) -> OrderArgs {
    OrderArgs { why: why.to_owned(), by: "operator".to_owned() }
}

#[derive(Debug, Parser)]
struct Line<T: Args> {
    #[command(flatten)]
    args: T,
}

fn args<T: Args>(line: &[&str]) -> T {
    Line::<T>::try_parse_from([&["verb"], line].concat()).expect("good flags").args
}

#[test]
fn orders_say_who_and_why() {
    let fake = Fake::start(|_| (200, "{}".into()));
    let client = fake.client();
    cordon(&client, "n2", &order("noisy disk")).expect("ordered");
    pause(&client, "5m", &order("")).expect("ordered");
    resume(&client, &order("")).expect("lifted");
    uncordon(&client, "n2", &order("")).expect("lifted");
    readmit(&client, "n2", &order("")).expect("let in");
    assert_eq!(
        fake.requests(),
        [
            "PUT /v1/operator/autopilot/cordon?server=n2&by=operator&why=noisy%20disk",
            "PUT /v1/operator/autopilot/pause?by=operator&for=5m",
            "DELETE /v1/operator/autopilot/pause?by=operator",
            "DELETE /v1/operator/autopilot/drain?server=n2&by=operator",
            "DELETE /v1/operator/autopilot/cordon?server=n2&by=operator",
            "DELETE /v1/operator/autopilot/tombstones?server=n2&by=operator",
        ]
    );
}

#[test]
fn an_unknown_server_is_one_clear_line() {
    let fake = Fake::start(|_| (404, "no server has the id or name \"nobody\"".into()));
    let error = cordon(&fake.client(), "nobody", &order("")).expect_err("unknown").to_string();
    assert!(error.contains("no server has the id or name") && !error.contains('\n'), "{error}");
}

#[test]
fn what_stands_is_told_in_lines() {
    let fake = Fake::start(|_| {
        let body = r#"{"Paused":{"Left":"29m5s","By":"operator","Why":"deploy","Since":"2026-01-02T03:04:05Z"},
            "Cordoned":[{"Server":"id-2","By":"operator","Why":"","Since":"2026-01-02T03:04:05Z"}],"Drained":[],
            "Maintenance":[{"StartsIn":"1h0m0s","Left":"2h0m0s","By":"operator","Why":"","Since":"2026-01-02T03:04:05Z"}],
            "Leaving":[{"Server":"id-3","Left":"59s"}]}"#;
        (200, body.into())
    });
    assert_eq!(
        text(&orders(&fake.client(), Format::Pretty).expect("an answer")),
        "\
Paused for 29m05s more, by operator at 2026-01-02T03:04:05Z: deploy
Cordoned: id-2, by operator at 2026-01-02T03:04:05Z
Maintenance of the whole cluster from in 1h00m to in 2h00m, by operator at 2026-01-02T03:04:05Z
Told that it may stop: id-3, counts as gone for 59.0s more
"
    );
    let empty = Fake::start(|_| (200, r#"{"Paused":null}"#.into()));
    assert_eq!(text(&orders(&empty.client(), Format::Pretty).expect("an answer")), "No orders stand\n");
}

const NO: &str = r#"{"Server":"id-1","Safe":false,"FailureTolerance":1,
    "Reasons":[{"Code":"is-leader","Text":"it is the leader"}]}"#;
const YES: &str = r#"{"Server":"id-1","Safe":true,"FailureTolerance":1,"Reasons":[]}"#;

#[test]
fn an_autoscaler_reads_the_exit_code_and_a_person_the_reason() {
    for (status, body, code, printed) in [
        (200, YES, 0, "Safe: id-1 may be stopped; 1 more may fail then\n"),
        (409, NO, 1, "Not safe: id-1 must not be stopped now\n   it is the leader [is-leader]\n"),
    ] {
        let fake = Fake::start(move |_| (status, body.into()));
        let args: StopArgs = args(&["n1", "--http-addr", &fake.address()]);
        let outcome = safe_to_stop(&args).expect("an answer");
        assert_eq!((outcome.code, text(&outcome)), (code, printed));
    }
}

fn draining(times: usize) -> Fake {
    let asked = AtomicUsize::new(0);
    Fake::start(move |request| match request.target.contains("safe-to-stop") {
        false => (200, "{}".into()),
        true if asked.fetch_add(1, Ordering::Relaxed) < times => (409, NO.into()),
        true => (200, YES.into()),
    })
}

#[test]
fn drain_tells_each_hindrance_once_and_ends_when_it_is_safe() {
    let fake = draining(2);
    let mut progress = Vec::new();
    let outcome = drain_at(&fake.client(), &args(&["n1"]), &mut progress).expect("drained");
    assert_eq!(String::from_utf8(progress).expect("text"), "Draining: n1\n   it is the leader [is-leader]\n");
    assert_eq!((outcome.code, text(&outcome)), (0, "Drained: n1 may be stopped; 1 more may fail then\n"));
}

#[test]
fn a_drain_that_takes_too_long_says_what_is_in_the_way() {
    let fake = draining(usize::MAX);
    let args = args(&["n1", "--timeout", "0s"]);
    let error = drain_at(&fake.client(), &args, &mut Vec::new()).expect_err("too long").to_string();
    assert!(error.contains("it is the leader [is-leader]") && error.contains("uncordon n1"), "{error}");
}

#[test]
fn bad_durations_are_refused_before_anything_is_sent() {
    for line in [&["--for", "30"][..], &["--for=-5m"], &["--in", "soon"], &["--end", "--for", "5m"]] {
        let parsed = Line::<MaintenanceArgs>::try_parse_from([&["verb"], line].concat());
        assert_eq!(parsed.expect_err("refused").exit_code(), 2, "{line:?}");
    }
}
