//! Tests of the questions to autopilot, against a fake server and against files.

use autopilot::Round;
use autopilot::testing::Situation;
use clap::Parser;

use super::super::fake::Fake;
use super::*;

fn text(outcome: &Outcome) -> &str {
    std::str::from_utf8(&outcome.out).expect("text")
}

/// A failed voter under the plain rules, by which it goes at once.
fn night() -> Situation {
    let mut situation = Situation::new("n1").voter("n2").voter("n3").failed("n3");
    situation.inputs.config = Some(Config::reference());
    situation
}

#[test]
fn explain_prints_a_sentence_and_its_code_for_each_fact() {
    let fake = Fake::start(|_| {
        let body = r#"[{"ID":"id-2","Name":"n2","Facts":[{"Topic":"vote","Code":"probation",
            "Text":"It does not vote: probation.","EarliestIn":"6s"}]}]"#;
        (200, body.into())
    });
    let outcome = explain(&fake.client(), Some("n2"), Format::Pretty).expect("an answer");
    assert_eq!(text(&outcome), "id-2 (n2)\n   It does not vote: probation. [probation]\n");
    assert_eq!(fake.requests(), ["GET /v1/operator/autopilot/explain?server=n2"]);
}

#[test]
fn plan_prints_every_step_and_apply_sends_the_plan_back() {
    let proposal = Proposal::compute(&night().inputs, &StablePromoter);
    let body = serde_json::to_string(&proposal).expect("JSON");
    let answer = body.clone();
    let fake = Fake::start(move |request| {
        match request.method.as_str() {
        "GET" => (200, answer.clone()),
        _ => (200, r#"{"performed":[{"step":{"action":"demote","id":"n3"},"index":9}],"left":1,"stopped":{"code":"overtaken","index":12}}"#.into()),
    }
    });
    let printed = plan(&fake.client(), Format::Pretty).expect("an answer");
    assert!(text(&printed).contains("1. remove failed voter n3, now"), "{}", text(&printed));
    let file = std::env::temp_dir().join(format!("autopilot-plan-{}.json", std::process::id()));
    std::fs::write(&file, &body).expect("written");
    let outcome = apply(&fake.client(), &file).expect("an answer");
    std::fs::remove_file(&file).expect("removed");
    assert_eq!(serde_json::from_slice::<Proposal>(&fake.last_body()).expect("the plan"), proposal);
    assert!(text(&outcome).ends_with("[overtaken]\n1 done, 1 left\n"), "{}", text(&outcome));
    assert_eq!(outcome.code, 2, "it did not do all that was due");
}

#[derive(Debug, Parser)]
struct Line {
    #[command(flatten)]
    args: ReplayArgs,
}

#[test]
fn replay_tells_which_rounds_would_have_done_something_else() {
    let inputs = night().inputs;
    let step = Round::run(&inputs, &StablePromoter).plan.step;
    assert!(step.is_some());
    let file = std::env::temp_dir().join(format!("autopilot-records-{}.jsonl", std::process::id()));
    let line = serde_json::to_string(&Record { inputs, step }).expect("JSON");
    std::fs::write(&file, line + "\n").expect("written");
    let run = |flags: &[&str]| {
        let name = file.to_str().expect("text");
        let line = Line::try_parse_from([&["replay", name], flags].concat()).expect("good flags");
        replay_file(&line.args).expect("replayed")
    };
    let same = run(&[]);
    assert_eq!((text(&same), same.code), ("1 rounds, 0 would have done something else\n", 0));
    let stricter = run(&["--min-quorum", "3"]);
    assert_eq!(stricter.code, 2);
    assert!(text(&stricter).contains("then remove failed voter n3, now nothing"), "{}", text(&stricter));
    assert!(text(&stricter).contains("min-quorum: would leave 2 voters"), "{}", text(&stricter));
    std::fs::write(&file, "{}\n").expect("written");
    let line = Line::try_parse_from(["replay", file.to_str().expect("text")]).expect("good flags");
    let error = replay_file(&line.args).expect_err("not a record").to_string();
    std::fs::remove_file(&file).expect("removed");
    assert!(error.contains("line 1 of"), "{error}");
}
