//! A dead voter is replaced, not removed: by one step where the engine can, and otherwise by two.

use std::time::Duration;

use autopilot::testing::Situation;
use autopilot::{Proposal, StablePromoter};

fn main() {
    let alone = Situation::new("n1").voter("n2").voter("n3").failed("n3");
    let state = alone.round(&StablePromoter);
    for decision in &state.plan.decisions {
        println!("alone: {decision}");
    }
    for atomic in [true, false] {
        let mut situation = alone.clone().nonvoter("n4").healthy_for("n4", Duration::from_secs(60));
        situation.inputs.capabilities.atomic = atomic;
        println!("{}", if atomic { "In one step." } else { "One by one." });
        println!("{}", Proposal::compute(&situation.inputs, &StablePromoter));
    }
}
