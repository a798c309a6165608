//! M1: one uncommitted configuration in a leader's log, so a joint one is committed before it is left. M2: consecutive
//! configurations share a server in any two quorums; a joint one is entered from what it leaves and left for what it leads to. M3: no change before an own-term entry is committed. M8: who has no vote does not lead once that is committed.

use std::collections::BTreeSet;

use raft::core::{EntryKind, Role, Write};
use raft::{Configuration, Server, ServerId, Suffrage};

use super::commit::Commit;
use super::{Step, Verdict};

/// Judges one step.
///
/// # Errors
/// A leader with two changes in flight, or one that should have stepped down.
pub fn stepped(step: &Step<'_>, commit: &Commit) -> Verdict {
    let core = step.core();
    if core.role() != Role::Leader {
        return Ok(());
    }
    if step.before.last != core.last() {
        let log = &step.server().log;
        // Above what is committed anywhere: a new leader learns late what the old one had committed.
        let committed = commit.last().unwrap_or_default().index;
        let above = log.entries.iter().rev().take_while(|entry| entry.id.index > committed);
        let changes = above.filter(|entry| matches!(entry.kind, EntryKind::Configuration(_))).count();
        if changes > 1 {
            return Err(format!("{} leads with {changes} configurations in flight", core.me().id));
        }
    }
    if core.configuration_index() <= core.commit_index() && !core.configuration().is_voter(&core.me().id) {
        return Err(format!("{} leads although it has no vote in the committed configuration", core.me().id));
    }
    Ok(())
}

/// Judges a write, before it is taken in.
///
/// # Errors
/// A configuration that a leader may not append yet, or that shares no quorum with the one before.
pub fn writes(step: &Step<'_>, write: &Write) -> Verdict {
    if !write.entries.iter().any(|entry| matches!(entry.kind, EntryKind::Configuration(_))) {
        return Ok(());
    }
    let (core, server) = (step.core(), step.server());
    // The core's own snapshot: a newer one may be stored that it has not accepted yet.
    let snapshot = core.snapshot();
    let mut log = server.log.clone_without_entries_of(write);
    for entry in &write.entries {
        if let EntryKind::Configuration(next) = &entry.kind {
            let (_, current) = log.configuration(snapshot);
            if !current.is_empty() && !quorums_intersect(&current, next) {
                return Err(format!("{} goes from {current:?} to {next:?} at {}", core.me().id, entry.id));
            }
            if !current.is_empty() {
                judge_joint(&current, next).map_err(|sentence| format!("{}: {sentence}", core.me().id))?;
            }
            let leads = step.before.role == Role::Leader && entry.id.term == step.before.term;
            if leads && log.term_at(step.before.commit.max(core.commit_index())) != Some(entry.id.term) {
                return Err(format!(
                    "{} changes members at {} before an entry of its term is committed",
                    core.me().id,
                    entry.id
                ));
            }
        }
        log.entries.push_back(entry.clone());
    }
    Ok(())
}

/// Judges the way into a joint configuration and out of it (M1, M04).
fn judge_joint(current: &Configuration, next: &Configuration) -> Verdict {
    if current.is_joint() && *next != current.settled() {
        return Err(format!("a joint configuration is left for {next:?}: {current:?}"));
    }
    if next.is_joint() && next.outgoing() != current.servers() {
        return Err(format!("{next:?} does not leave {current:?}"));
    }
    Ok(())
}

/// Whether these servers are more than half of the voters, while joint of both sets. Its own arithmetic: the core's is
/// what is judged.
pub fn is_quorum(configuration: &Configuration, holds: impl Fn(&ServerId) -> bool) -> bool {
    let mut sets = vec![configuration.servers()];
    if configuration.is_joint() {
        sets.push(configuration.outgoing());
    }
    sets.into_iter().all(|set| {
        let voters = set.iter().filter(|server| server.suffrage == Suffrage::Voter);
        let (yes, no): (Vec<&Server>, Vec<&Server>) = voters.partition(|server| holds(&server.id));
        yes.len() > no.len()
    })
}

/// Whether every quorum of one and every quorum of the other share a server.
///
/// # Panics
/// With more than 20 servers: it goes through all sets of them.
#[must_use]
pub fn quorums_intersect(a: &Configuration, b: &Configuration) -> bool {
    let everyone: BTreeSet<&ServerId> = a.everyone().chain(b.everyone()).map(|server| &server.id).collect();
    let everyone: Vec<&ServerId> = everyone.into_iter().collect();
    assert!(everyone.len() <= 20, "few enough servers to go through all sets of them");
    let position = |id: &ServerId| everyone.iter().position(|known| *known == id).unwrap_or_default();
    // More servers never make less of a quorum, so it is enough to look at sets and at what each leaves over.
    (0_u32..1 << everyone.len()).all(|set| {
        let inside = |id: &ServerId| set & (1 << position(id)) != 0;
        !(is_quorum(a, inside) && is_quorum(b, |id| !inside(id)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(names: &str) -> Vec<Server> {
        names.chars().map(|c| Server::voter(c.to_string(), format!("{c}:1"))).collect()
    }

    fn voters(names: &str) -> Configuration {
        Configuration::new(set(names))
    }

    /// By going through all pairs of quorums.
    fn slowly(a: &Configuration, b: &Configuration) -> bool {
        let names: Vec<ServerId> = "abcdef".chars().map(|c| c.to_string().into()).collect();
        let majority = |chosen: &[&ServerId], set: &[Server]| {
            2 * set.iter().filter(|server| chosen.contains(&&server.id)).count() > set.len()
        };
        let quorums = |c: &Configuration| {
            (0_u32..64)
                .filter(|set| {
                    let chosen = names.iter().enumerate().filter(|(i, _)| set & (1 << i) != 0);
                    let chosen: Vec<&ServerId> = chosen.map(|(_, id)| id).collect();
                    c.electorates().all(|set| majority(&chosen, set))
                })
                .collect::<Vec<u32>>()
        };
        let right = quorums(b);
        quorums(a).iter().all(|x| right.iter().all(|y| x & y != 0))
    }

    #[test]
    fn sets_and_what_they_leave_over_are_all_pairs_of_quorums() {
        let sets = ["a", "ab", "abc", "abcd", "abcde", "bc", "cde", "def", "abf", "abcdef", "ef"];
        let mut all: Vec<Configuration> = sets.into_iter().map(voters).collect();
        for (new, old) in [("cde", "abc"), ("abc", "def"), ("abf", "abc"), ("ef", "a"), ("abcde", "abc")] {
            all.push(Configuration::joint(set(new), set(old)));
        }
        for a in &all {
            for b in &all {
                assert_eq!(quorums_intersect(a, b), slowly(a, b), "{a:?} {b:?}");
            }
        }
    }

    #[test]
    fn a_joint_configuration_shares_quorums_with_both_sides_which_share_none() {
        let (old, new) = (voters("abc"), voters("cde"));
        let joint = Configuration::joint(set("cde"), set("abc"));
        assert!(!quorums_intersect(&old, &new));
        assert!(quorums_intersect(&old, &joint) && quorums_intersect(&joint, &new));
        assert!(judge_joint(&old, &joint).is_ok() && judge_joint(&joint, &new).is_ok());
        assert!(judge_joint(&joint, &voters("cd")).is_err(), "it leads to one configuration only");
        assert!(judge_joint(&new, &joint).is_err(), "it leaves the one before it");
    }

    #[test]
    fn a_quorum_of_one_set_is_none_of_a_joint_configuration() {
        let joint = Configuration::joint(set("cde"), set("abc"));
        let holds = |names: &'static str| is_quorum(&joint, move |id| names.contains(id.as_str()));
        assert!(holds("abde") && holds("acd"));
        assert!(!holds("abc") && !holds("cde") && !holds("abd"));
    }
}
