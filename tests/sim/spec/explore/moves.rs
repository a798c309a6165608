//! The steps of the search: actions that belong together, each taken as the specification writes it.

use raft::Term;

use super::super::{Action, Members, Node, Nodes, Role, Rules, State};
use super::{Bounds, Place};

/// A step is a few actions.
type Actions = [Option<Action>; 3];

/// Tells `then` every step that may be made from here, and where it leads.
pub(super) fn all(place: &Place, bounds: &Bounds, mut then: impl FnMut(&[Action], Place)) {
    let mut attempt = |actions: Actions, changes: u8| {
        let actions: Vec<Action> = actions.into_iter().flatten().collect();
        if let Some(mut state) = made(&place.state, &actions, bounds.rules) {
            if let [Action::BecomeLeader { node }] = actions[..] {
                know(&mut state, node);
            }
            then(&actions, Place { state, changes });
        }
    };
    let same = place.changes;
    for node in 0..bounds.servers {
        own(place, bounds, node, &mut |actions| attempt(actions, same));
        for candidate in (0..bounds.servers).filter(|candidate| *candidate != node) {
            vote(&place.state, node, candidate, &mut |actions| attempt(actions, same));
        }
        append(&place.state, node, &mut |actions| attempt(actions, same));
        if place.changes < bounds.changes {
            change(&place.state, bounds, node, &mut |actions| attempt(actions, same + 1));
        }
    }
}

/// A new leader knows everything to be committed that is and that its log holds: more than any follower may have been told.
fn know(state: &mut State, leader: Node) {
    let server = &mut state.servers[leader];
    server.commit = server.log.iter().zip(&state.decided).take_while(|(own, decided)| own == decided).count();
}

/// Where a step leads, if all of it is allowed.
fn made(state: &State, actions: &[Action], rules: Rules) -> Option<State> {
    let (first, rest) = actions.split_first()?;
    first.enabled(state, rules).ok()?;
    let mut state = state.clone();
    first.apply(&mut state);
    for action in rest {
        action.enabled(&state, rules).ok()?;
        action.apply(&mut state);
    }
    Some(state)
}

/// What a server does by itself: campaign, lead, append, commit; and hearing of a newer term.
fn own(place: &Place, bounds: &Bounds, node: Node, attempt: &mut impl FnMut(Actions)) {
    let server = &place.state.servers[node];
    if server.term < Term(bounds.terms) {
        // A leader gives up first; a server that gives up and does nothing else has done nothing that others see.
        let gives_up = (server.role == Role::Leader).then_some(Action::StepDown { node });
        attempt([gives_up, Some(Action::Timeout { node }), Some(Action::RequestVote { node })]);
    }
    let newest = place.state.sent.terms.iter().filter(|term| **term > server.term);
    for term in newest {
        attempt([Some(Action::UpdateTerm { node, term: *term }), None, None]);
    }
    match server.role {
        Role::Candidate => attempt([Some(Action::BecomeLeader { node }), None, None]),
        Role::Leader => {
            let sends = Some(Action::AppendEntries { node });
            if server.log.len() < bounds.log {
                attempt([Some(Action::ClientRequest { node, content: 0 }), sends, None]);
                attempt([Some(Action::LeaveJoint { node }), sends, None]);
            }
            for to in server.commit + 1..=server.log.len() {
                attempt([Some(Action::AdvanceCommit { node, to }), sends, None]);
            }
        }
        Role::Follower => {}
    }
}

/// A server hears of a term, if that is what it takes.
fn hears(state: &State, node: Node, term: Term) -> Option<Action> {
    (state.servers[node].term < term).then_some(Action::UpdateTerm { node, term })
}

/// A candidate's request for a vote arrives, and so does the vote: until the candidate leads it makes no difference when.
fn vote(state: &State, node: Node, candidate: Node, attempt: &mut impl FnMut(Actions)) {
    let term = state.servers[candidate].term;
    if state.servers[candidate].role == Role::Candidate && state.servers[node].term <= term {
        let grants = Action::HandleVote { node, candidate };
        attempt([hears(state, node, term), Some(grants), Some(Action::SendVote { node })]);
    }
}

/// A leader's request arrives, of whatever term and however late; and so does the answer.
fn append(state: &State, node: Node, attempt: &mut impl FnMut(Actions)) {
    for (term, led) in &state.sent.led {
        if led.leader == node || *term < state.servers[node].term {
            continue;
        }
        for through in 1..=led.log.len() {
            let takes = Action::HandleAppend { node, term: *term, after: 0, through, commit: 0 };
            let answers = Action::Acknowledge { node, through };
            attempt([hears(state, node, *term), Some(takes), Some(answers)]);
        }
    }
}

/// A leader changes members: one server more or less, or through a joint configuration.
fn change(state: &State, bounds: &Bounds, node: Node, attempt: &mut impl FnMut(Actions)) {
    let server = &state.servers[node];
    if server.role != Role::Leader || server.log.len() >= bounds.log {
        return;
    }
    let (_, present) = server.members();
    for voters in (1..1_u64 << bounds.servers).map(Nodes) {
        let members = match voters.difference(present.voters).len() {
            0 => continue,
            1 => Members::of(voters),
            _ if bounds.joint => Members { voters, leaving: present.voters, ..Members::default() },
            _ => continue,
        };
        let sends = Some(Action::AppendEntries { node });
        attempt([Some(Action::ChangeConfiguration { node, members }), sends, None]);
    }
}
