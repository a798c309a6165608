//! Would `min_quorum = 3` have prevented last night? Records of rounds are decided again under another configuration.

use std::time::Duration;

use autopilot::testing::Situation;
use autopilot::{Config, Record, Round, StablePromoter, replay};

fn main() {
    // Three voters of which one dies; `Autopilot::records` gives such records of a running autopilot.
    let night = Situation::plain("n1").voter("n2").voter("n3").failed("n3");
    let records: Vec<Record> = (0..3)
        .map(|minute| {
            let mut inputs = night.inputs.clone();
            inputs.now = inputs.now + Duration::from_secs(60 * minute);
            let step = Round::run(&inputs, &StablePromoter).plan.step;
            Record { inputs, step }
        })
        .collect();
    let config = Config { min_quorum: 3, ..Config::reference() };
    for round in replay(&records, Some(&config), &StablePromoter) {
        if let (true, Some(then)) = (round.differs(), &round.then) {
            println!("then: {}", then.step);
        }
        for decision in &round.decisions {
            println!("with min_quorum 3: {decision}");
        }
    }
}
