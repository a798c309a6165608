//! A policy of one's own: one voter in each rack. Pure, so it is tested without a cluster.

use autopilot::testing::{Situation, promoter_conformance};
use autopilot::{Changes, Promoter, PromoterInput};

struct OnePerRack;

impl Promoter for OnePerRack {
    fn name(&self) -> &str {
        "one-per-rack"
    }

    fn changes(&self, input: &PromoterInput<'_>) -> Changes {
        let mut changes = Changes::default();
        for (rack, servers) in input.state.by_metadata("rack") {
            if servers.iter().any(|server| server.is_healthy_voter()) {
                continue;
            }
            if let Some(candidate) = servers.iter().find(|server| server.is_promotable(input.now)) {
                changes.promote(&candidate.id, format!("rack {rack} has no healthy voter"));
            }
        }
        changes // a wish; what is not safe is refused, with the reason
    }
}

fn main() {
    promoter_conformance(&OnePerRack);
    let situation = Situation::new("n1")
        .meta("n1", "rack", "a")
        .voter("n2")
        .meta("n2", "rack", "b")
        .nonvoter("n3")
        .meta("n3", "rack", "b")
        .nonvoter("n4")
        .meta("n4", "rack", "c");
    for decision in situation.round(&OnePerRack).plan.decisions {
        println!("{decision}");
    }
}
