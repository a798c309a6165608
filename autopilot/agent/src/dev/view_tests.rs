//! Tests of the pictures.

use super::*;
use crate::cli::wire::Reason;

fn facts(name: &str, fate: Fate) -> Facts {
    Facts {
        name: name.to_owned(),
        id: format!("id-{name}"),
        http: format!("127.0.0.1:80{}", &name[1..]),
        pid: 42,
        fate,
    }
}

fn reason(code: &str, text: &str) -> Reason {
    Reason { code: code.to_owned(), text: text.to_owned() }
}

fn member(name: &str, status: &str, stable_for: &str) -> ServerState {
    ServerState {
        id: format!("id-{name}"),
        name: name.to_owned(),
        status: status.to_owned(),
        healthy: true,
        stable_for: stable_for.to_owned(),
        ..ServerState::default()
    }
}

fn sample() -> (Vec<Facts>, AutopilotState) {
    let facts = vec![
        facts("n1", Fate::Killed),
        facts("n2", Fate::Running),
        facts("n3", Fate::Running),
        facts("n4", Fate::Running),
        facts("n5", Fate::Running),
        facts("n6", Fate::Ended("exit status: 1".to_owned())),
    ];
    let mut sick = member("n3", "voter", "");
    sick.healthy = false;
    sick.reasons = vec![reason("last-contact", "silent for 3s")];
    let mut waiting = member("n4", "non-voter", "1.234567s");
    waiting.blocked_by = Some(reason("probation", "probation, 1.8s left of 3s"));
    let members = [member("n1", "voter", "1m2s"), member("n2", "leader", "61s"), sick, waiting];
    let state = AutopilotState {
        healthy: true,
        failure_tolerance: 1,
        servers: members.into_iter().map(|member| (member.id.clone(), member)).collect(),
        ..AutopilotState::default()
    };
    (facts, state)
}

#[test]
fn the_table_says_what_each_server_is_and_the_lines_below_why() {
    let (facts, state) = sample();
    assert_eq!(
        table(&facts, Some(&state)).text(Palette::PLAIN),
        "\
Server  Role      Voter  Health     Stable for  HTTP                  PID
n1      dead      yes    unknown    1m02s       -                     -
n2      leader    yes    healthy    1m01s       http://127.0.0.1:802  42
n3      follower  yes    unhealthy  -           http://127.0.0.1:803  42
n4      follower  no     healthy    1.2s        http://127.0.0.1:804  42
n5      -         -      -          -           http://127.0.0.1:805  42
n6      dead      -      -          -           -                     -
"
    );
    let plan =
        ["promote server n4 at 127.0.0.1:4 in 1.8s: healthy for 3.0s, as long as asked (promoter stable)"];
    let plan = plan.map(str::to_owned);
    let mut picture = picture(&facts, &state, &[], &[]);
    picture.plan = Some(&plan);
    assert_eq!(
        sentences(&picture, Palette::PLAIN, 80),
        [
            "n1      killed; autopilot has not removed it yet",
            "n3      unhealthy: silent for 3s",
            "n4      no vote yet: probation, 1.8s left of 3s",
            "n5      not a member yet",
            "n6      exit status: 1; removed from the cluster",
            "Next    promote server n4 at 127.0.0.1:4 in 1.8s: healthy for 3.0s, as long as",
            "        asked (promoter stable)",
        ]
    );
    picture.plan = Some(&[]);
    let lines = sentences(&picture, Palette::PLAIN, 80);
    assert_eq!(lines.last().map(String::as_str), Some("Next    nothing is to be done"));
}

#[test]
fn the_table_fits_eighty_columns() {
    let mut server = facts("n1", Fate::Running);
    (server.http, server.pid) = ("127.0.0.1:65535".to_owned(), 4_194_304);
    let mut member = member("n1", "voter", "59m59s");
    member.healthy = false;
    let state = AutopilotState {
        servers: [(member.id.clone(), member)].into_iter().collect(),
        ..AutopilotState::default()
    };
    let widest = table(&[server], Some(&state)).text(Palette::PLAIN).lines().map(|l| l.chars().count()).max();
    assert!(widest.is_some_and(|widest| widest <= 80), "{widest:?}");
}

#[test]
fn a_server_that_was_asked_to_stop_is_not_called_dead() {
    let (_, state) = sample();
    let text = table(&[facts("n2", Fate::Stopped)], Some(&state)).text(Palette::PLAIN);
    assert!(text.ends_with("n2      stopped  yes    unknown  1m01s       -     -\n"), "{text}");
}

#[test]
fn without_a_state_the_remarks_say_what_is_known() {
    let (facts, _) = sample();
    let lines = remarks(&facts, None, Palette::PLAIN, 80);
    assert_eq!(lines.last().map(String::as_str), Some("n6      exit status: 1"));
}

fn timeline(count: u64) -> Vec<Moment> {
    (1..=count)
        .map(|at| Moment { at: Duration::from_secs(at), voice: Voice::Dev, text: format!("moment {at}") })
        .collect()
}

fn picture<'a>(
    facts: &'a [Facts],
    state: &'a AutopilotState,
    timeline: &'a [Moment],
    hints: &'a [String],
) -> Picture<'a> {
    Picture {
        title: "autopilot dev",
        at: Duration::from_millis(12_345),
        facts,
        state: Some(state),
        plan: None,
        problem: None,
        timeline,
        hints,
    }
}

#[test]
fn a_frame_fits_its_terminal() {
    let (facts, state) = sample();
    let timeline = timeline(30);
    let hints = vec!["hint".to_owned()];
    let picture = picture(&facts, &state, &timeline, &hints);
    for height in 0..40 {
        for width in [0, 1, 10, 80, 300] {
            let lines = frame(&picture, Palette::PLAIN, width, height);
            assert!(lines.len() <= height.saturating_sub(1).max(1), "{width} x {height}");
            assert!(lines.iter().all(|line| line.chars().count() <= width), "{width} x {height}");
        }
    }
}

#[test]
fn a_frame_shows_the_newest_moments_and_the_hints() {
    let (facts, state) = sample();
    let timeline = timeline(30);
    let hints = vec!["hint".to_owned()];
    let lines = frame(&picture(&facts, &state, &timeline, &hints), Palette::PLAIN, 80, 24);
    assert_eq!(lines[0], "autopilot dev  12.3s  healthy, may lose 1 server");
    assert_eq!(lines[lines.len() - 3..], ["   30.00s  moment 30", "", "hint"]);
    assert_eq!(lines.len(), 23);
    assert!(lines.contains(&"n4      no vote yet: probation, 1.8s left of 3s".to_owned()), "{lines:?}");
    let low = frame(&picture(&facts, &state, &timeline, &hints), Palette::PLAIN, 80, 14);
    assert_eq!(low.last().map(String::as_str), Some("   30.00s  moment 30"), "hints give way first");
}

#[test]
fn the_headline_says_when_nobody_answers() {
    let (facts, state) = sample();
    let mut picture = picture(&facts, &state, &[], &[]);
    picture.problem = Some("n2: it is \u{1b}gone");
    let lines = frame(&picture, Palette::PLAIN, 80, 40);
    assert_eq!(lines[0], "autopilot dev  12.3s  no answer from a leader (n2: it is \u{fffd}gone)");
    picture.problem = None;
    picture.state = None;
    assert_eq!(frame(&picture, Palette::PLAIN, 80, 40)[0], "autopilot dev  12.3s  no leader yet");
}

#[test]
fn redrawing_goes_up_and_clears_the_rest() {
    let lines = ["a".to_owned(), "b".to_owned()];
    assert_eq!(redraw(0, &lines), "\x1b[2Ka\r\n\x1b[2Kb\r\n\x1b[J");
    assert_eq!(redraw(3, &lines[..1]), "\x1b[3A\r\x1b[2Ka\r\n\x1b[J");
}

#[test]
fn autopilots_own_words_are_marked() {
    let moment =
        Moment { at: Duration::from_millis(1_500), voice: Voice::Autopilot, text: "promoted n4".into() };
    assert_eq!(moment.line(Palette::PLAIN, 80), "    1.50s  autopilot: promoted n4");
    assert_eq!(moment.line(Palette::PLAIN, 10), "    1.50s…");
}
