//! What must hold in every state of the specification, whatever happened before.

use super::{Content, Entry, Members, Role, Rules, State};

/// The first invariant that is broken: its name, and what is wrong. Those that only restate a rule are not asked for once that
/// rule is switched off: what counts then is the harm that it does.
#[must_use]
pub fn broken(state: &State, rules: Rules) -> Option<(&'static str, String)> {
    let found = |name, sentence: Option<String>| sentence.map(|sentence| (name, sentence));
    found("election safety", election_safety(state))
        .or_else(|| found("log matching", log_matching(state)))
        .or_else(|| found("leader completeness", leader_completeness(state)))
        .or_else(|| found("state machine safety", state_machine_safety(state)))
        .or_else(|| found("M1", one_uncommitted_change(state, rules)))
        .or_else(|| found("M2", neighbours_share_a_server(state, rules)))
        .or_else(|| found("M3", own_entry_before_a_change(state, rules)))
}

/// What may break when a server becomes leader.
#[must_use]
pub fn of_a_leader(state: &State) -> Option<String> {
    election_safety(state).or_else(|| leader_completeness(state))
}

/// What may break when entries are committed.
#[must_use]
pub fn of_a_commit(state: &State) -> Option<String> {
    state_machine_safety(state)
}

/// A term has at most one leader.
fn election_safety(state: &State) -> Option<String> {
    let leaders = || state.servers.iter().enumerate().filter(|(_, server)| server.role == Role::Leader);
    leaders().find_map(|(node, server)| {
        let other = leaders().find(|(other, second)| *other != node && second.term == server.term);
        let other = other.map(|(other, _)| other);
        let said = state.sent.led.get(&server.term).map(|led| led.leader).filter(|leader| *leader != node);
        other.or(said).map(|other| format!("{node} and {other} both lead in term {}", server.term))
    })
}

/// Entries with the same index and term have the same content and the same entries before them.
fn log_matching(state: &State) -> Option<String> {
    let logs =
        || state.servers.iter().map(|server| &server.log).chain(state.sent.led.values().map(|led| &led.log));
    for (number, a) in logs().enumerate() {
        for b in logs().skip(number + 1) {
            let same = a.iter().zip(b).rposition(|(a, b)| a.term == b.term).map_or(0, |at| at + 1);
            if a[..same] != b[..same] {
                return Some(format!("two logs are equal in term at {same}, and differ: {a:?} and {b:?}"));
            }
        }
    }
    None
}

/// A leader holds everything that was committed in earlier terms.
fn leader_completeness(state: &State) -> Option<String> {
    state.servers.iter().enumerate().filter(|(_, server)| server.role == Role::Leader).find_map(
        |(node, server)| {
            let earlier =
                state.decided_in.iter().rposition(|term| *term < server.term).map_or(0, |at| at + 1);
            let lacks = (0..earlier).find(|at| server.log.get(*at) != state.decided.get(*at))?;
            let index = lacks + 1;
            Some(format!("{node} leads in term {} without the entry committed at {index}", server.term))
        },
    )
}

/// What is committed at an index never changes.
fn state_machine_safety(state: &State) -> Option<String> {
    state.contradicted.then(|| "two different entries were committed at one index".to_owned())
}

fn configurations(log: &[Entry]) -> impl Iterator<Item = (usize, Members)> {
    log.iter().enumerate().filter_map(|(at, entry)| match entry.content {
        Content::Members(members) => Some((at + 1, members)),
        Content::Plain(_) => None,
    })
}

/// M1: no log holds two configurations that are not committed.
fn one_uncommitted_change(state: &State, rules: Rules) -> Option<String> {
    let two =
        |log: &[Entry]| configurations(log).filter(|(index, _)| *index > state.decided.len()).count() > 1;
    let node =
        state.servers.iter().position(|server| two(&server.log)).filter(|_| rules.one_change_at_a_time)?;
    Some(format!("the log of {node} holds two configurations that are not committed"))
}

/// M2: configurations next to each other in a log share a server in any two majorities.
fn neighbours_share_a_server(state: &State, rules: Rules) -> Option<String> {
    if !rules.joint_needs_both || !rules.one_server_at_a_time {
        return None;
    }
    state.servers.iter().enumerate().find_map(|(node, server)| {
        let neighbours = configurations(&server.log).zip(configurations(&server.log).skip(1));
        let (index, _) =
            neighbours.map(|((_, a), (index, b))| (index, can_part(a, b))).find(|(_, part)| *part)?;
        Some(format!("the configuration at {index} of {node} and the one before it can decide apart"))
    })
}

/// Whether a majority of one configuration and a majority of another need not share a server.
#[must_use]
pub fn can_part(a: Members, b: Members) -> bool {
    let everyone = a.voters.0 | a.leaving.0 | b.voters.0 | b.leaving.0;
    let rules = Rules::default();
    let mut side = everyone;
    loop {
        let (one, other) = (super::Nodes(side), super::Nodes(everyone & !side));
        if a.agreed(rules, |node| one.contains(node)) && b.agreed(rules, |node| other.contains(node)) {
            return true;
        }
        if side == 0 {
            return false;
        }
        side = (side - 1) & everyone;
    }
}

/// M3: a configuration comes after an entry of its own term.
fn own_entry_before_a_change(state: &State, rules: Rules) -> Option<String> {
    if !rules.own_term_before_change {
        return None;
    }
    state.servers.iter().enumerate().find_map(|(node, server)| {
        let early = |(index, _): &(usize, Members)| {
            *index > 1 && server.log[index - 2].term != server.log[index - 1].term
        };
        let (index, _) = configurations(&server.log).find(early)?;
        Some(format!("the configuration at {index} of {node} is the first entry of its term"))
    })
}
