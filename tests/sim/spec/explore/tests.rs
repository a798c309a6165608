use super::*;

fn bounds(servers: usize, changes: u8, terms: u64, log: usize) -> Bounds {
    let rules = Rules::default();
    Bounds { servers, changes, terms, log, joint: true, rules, states: 20_000_000, threads: 2 }
}

fn finds(bounds: Bounds, rule: &str) -> Violation {
    let rules = bounds.rules.without(rule).expect("a rule");
    let sound = explore(&bounds, |_| {});
    assert!(sound.exhausted && sound.violation.is_none(), "{:?}", sound.violation);
    let outcome = explore(&Bounds { rules, ..bounds }, |_| {});
    outcome.violation.unwrap_or_else(|| panic!("{rule} is not missed: {:?}", outcome.progress))
}

#[test]
fn every_state_of_a_small_cluster_is_sound() {
    let outcome = explore(&bounds(3, 1, 2, 3), |_| {});
    assert!(outcome.exhausted, "{:?}", outcome.progress);
    assert!(outcome.violation.is_none(), "{:?}", outcome.violation);
    assert!(outcome.progress.states > 10_000, "{:?}", outcome.progress);
}

#[test]
fn one_majority_of_a_joint_configuration_is_not_enough() {
    let violation = finds(bounds(3, 1, 2, 3), "joint-needs-both");
    assert!(["leader completeness", "state machine safety"].contains(&violation.invariant), "{violation:?}");
}

#[test]
fn a_voter_must_compare_logs() {
    let violation = finds(bounds(3, 0, 2, 2), "newer-log-wins");
    assert_eq!(violation.invariant, "leader completeness");
}

#[test]
fn figure_8_is_found() {
    let violation = finds(bounds(3, 0, 4, 2), "own-term-commit");
    assert_eq!(violation.invariant, "leader completeness");
}

/// M01: two leaders each take out another server of four, and each of them commits with a half. The first of them leads
/// already here; `sim explore` finds the same from the very beginning.
#[test]
fn a_change_before_an_own_commit_splits_a_cluster_of_four() {
    let sound = Bounds { joint: false, ..bounds(4, 2, 3, 2) };
    let mut state = beginning(4, 4);
    let hears = |node| Action::UpdateTerm { node, term: raft::Term(1) };
    let votes = |node| [hears(node), Action::HandleVote { node, candidate: 0 }, Action::SendVote { node }];
    let elected = [Action::Timeout { node: 0 }, Action::RequestVote { node: 0 }].into_iter();
    let elected = elected.chain(votes(1)).chain(votes(2)).chain([hears(3), Action::BecomeLeader { node: 0 }]);
    for action in elected {
        assert_eq!(action.enabled(&state, sound.rules), Ok(()));
        action.apply(&mut state);
    }
    // It knows that what it began with is committed.
    state.servers[0].commit = 1;
    let beginnings = [Place { state, changes: 0 }];
    let outcome = explore_from(&beginnings, &sound, |_| {});
    assert!(outcome.exhausted && outcome.violation.is_none(), "{:?}", outcome.violation);
    let rules = sound.rules.without("own-term-before-change").expect("a rule");
    let outcome = explore_from(&beginnings, &Bounds { rules, ..sound }, |_| {});
    let violation = outcome.violation.expect("two halves");
    assert_eq!(violation.invariant, "leader completeness");
    let changes = violation.path.iter().flatten().filter(|a| matches!(a, Action::ChangeConfiguration { .. }));
    assert_eq!(changes.count(), 2);
}

#[test]
fn servers_under_other_names_are_the_same_state() {
    let bounds = bounds(3, 1, 2, 3);
    let coder = code::Coder::new(3);
    let mut frontier = beginnings(&bounds);
    for _ in 0..4 {
        let mut next = Vec::new();
        for place in &frontier {
            let code = coder.encode(place);
            assert_eq!(coder.encode(&coder.decode(&code)), code);
            assert_eq!(coder.encode(&coder.tidied(place)), code);
            assert_eq!(coder.encode(&turned(place)), code);
            moves::all(place, &bounds, |_, place| next.push(place));
        }
        frontier = next.into_iter().step_by(7).collect();
    }
}

/// The same with every server called by the next number.
fn turned(place: &Place) -> Place {
    let next = |node: usize| (node + 1) % 3;
    let set = |nodes: Nodes| Nodes::of(nodes.iter().map(next));
    let log = |log: &[Entry]| -> Vec<Entry> {
        let content = |content| match content {
            Content::Members(m) => {
                Content::Members(Members { voters: set(m.voters), leaving: set(m.leaving), ..m })
            }
            plain @ Content::Plain(_) => plain,
        };
        log.iter().map(|entry| Entry { content: content(entry.content), ..*entry }).collect()
    };
    let (state, mut other) = (&place.state, place.clone());
    for (node, server) in state.servers.iter().enumerate() {
        other.state.servers[next(node)] =
            Server { log: log(&server.log), voted_for: server.voted_for.map(next), ..server.clone() };
    }
    let sent = &mut other.state.sent;
    sent.campaigns = state.sent.campaigns.iter().map(|((t, n), end)| ((*t, next(*n)), *end)).collect();
    sent.votes = state.sent.votes.iter().map(|(t, a, b)| (*t, next(*a), next(*b))).collect();
    sent.held = state.sent.held.iter().map(|((t, n), held)| ((*t, next(*n)), *held)).collect();
    for led in sent.led.values_mut() {
        (led.leader, led.log) = (next(led.leader), log(&led.log));
    }
    other.state.decided = log(&state.decided);
    other
}
