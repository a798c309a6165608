//! Quorum arithmetic over the voters of one configuration, which may be joint. Non-voters never count.

use raft_types::{Configuration, Server, Suffrage};

/// The highest value that a quorum of the voters has reached, of both sets while joint; `None` without voters.
pub(super) fn reached_by_quorum<T: Ord + Copy>(
    configuration: &Configuration,
    value: impl Fn(&Server) -> T,
) -> Option<T> {
    let reached = |servers: &[Server]| {
        let voters = servers.iter().filter(|server| server.suffrage == Suffrage::Voter);
        let mut values: Vec<T> = voters.map(&value).collect();
        values.sort_unstable_by(|a, b| b.cmp(a));
        values.get(values.len() / 2).copied()
    };
    // `None` is less than any value, so a set without voters decides nothing.
    configuration.electorates().map(reached).min().flatten()
}

/// Whether a quorum of the voters satisfies a condition.
pub(super) fn has_quorum(configuration: &Configuration, holds: impl Fn(&Server) -> bool) -> bool {
    reached_by_quorum(configuration, holds) == Some(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Counts, for every candidate value, who is at least there.
    fn naive(configuration: &Configuration, value: impl Fn(&Server) -> u64) -> Option<u64> {
        let voters = configuration.voters_count();
        let reached =
            |v: u64| configuration.voters().filter(|s| value(s) >= v).count() * 2 > voters && voters > 0;
        configuration.voters().map(&value).filter(|v| reached(*v)).max()
    }

    #[test]
    fn a_joint_configuration_needs_both_quorums() {
        let set = |ids: &str| ids.chars().map(|c| Server::voter(c.to_string(), format!("{c}:1"))).collect();
        let joint = Configuration::joint(set("cde"), set("abc"));
        let holds = |yes: &str| has_quorum(&joint, |server| yes.contains(server.id.as_str()));
        assert!(holds("abde") && holds("cad"));
        assert!(!holds("abc") && !holds("cde") && !holds("de"));
    }

    #[test]
    fn agrees_with_counting_for_every_small_cluster() {
        for voters in 0..=5_usize {
            let mut servers: Vec<Server> =
                (0..voters).map(|n| Server::voter(n.to_string(), format!("{n}:1"))).collect();
            servers.push(Server::nonvoter("9", "9:1"));
            let configuration = Configuration::new(servers);
            for assignment in 0..4_u64.pow(6) {
                let value = |server: &Server| {
                    let n: u32 = server.id.as_str().parse().expect("a number");
                    assignment / 4_u64.pow(n.min(5)) % 4
                };
                assert_eq!(reached_by_quorum(&configuration, value), naive(&configuration, value));
            }
        }
    }
}
