//! M1: one uncommitted configuration in a leader's log. M2: consecutive configurations share a server in any two
//! quorums. M3: no change before an own-term entry is committed. M8: who has no vote does not lead once that is committed.

use std::collections::BTreeSet;

use raft::core::{EntryKind, Role, Write};
use raft::{Configuration, ServerId};

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
    let snapshot = server.disk.newest().map(|snapshot| &snapshot.meta);
    let mut log = server.log.clone_without_entries_of(write);
    for entry in &write.entries {
        if let EntryKind::Configuration(next) = &entry.kind {
            let (_, current) = log.configuration(snapshot);
            if !current.is_empty() && !quorums_intersect(&current, next) {
                return Err(format!("{} goes from {current:?} to {next:?} at {}", core.me().id, entry.id));
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

/// Whether every quorum of one and every quorum of the other share a server.
#[must_use]
pub fn quorums_intersect(a: &Configuration, b: &Configuration) -> bool {
    let voters =
        |c: &Configuration| c.voters().map(|server| server.id.clone()).collect::<BTreeSet<ServerId>>();
    let (left, right) = (voters(a), voters(b));
    let shared = left.intersection(&right).count();
    // Two quorums that avoid each other take as much as they can from what is not shared.
    let from_shared = |c: &Configuration, own: usize| c.quorum().saturating_sub(own);
    let needed = from_shared(a, left.len() - shared) + from_shared(b, right.len() - shared);
    needed > shared
}

#[cfg(test)]
mod tests {
    use raft::Server;

    use super::*;

    fn voters(names: &str) -> Configuration {
        Configuration::new(names.chars().map(|c| Server::voter(c.to_string(), format!("{c}:1"))).collect())
    }

    /// By going through all pairs of quorums.
    fn slowly(a: &Configuration, b: &Configuration) -> bool {
        let names: Vec<ServerId> = "abcdef".chars().map(|c| c.to_string().into()).collect();
        let quorums = |c: &Configuration| {
            (0_u32..64)
                .filter(|set| {
                    let chosen = names.iter().enumerate().filter(|(i, _)| set & (1 << i) != 0);
                    chosen.filter(|(_, id)| c.is_voter(id)).count() >= c.quorum()
                })
                .collect::<Vec<u32>>()
        };
        let right = quorums(b);
        quorums(a).iter().all(|x| right.iter().all(|y| x & y != 0))
    }

    #[test]
    fn counting_agrees_with_going_through_all_quorums() {
        let sets = ["a", "ab", "abc", "abcd", "abcde", "bc", "cde", "def", "abf", "abcdef", "ef"];
        for a in sets {
            for b in sets {
                assert_eq!(
                    quorums_intersect(&voters(a), &voters(b)),
                    slowly(&voters(a), &voters(b)),
                    "{a} {b}"
                );
            }
        }
    }
}
