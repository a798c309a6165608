//! How many zones may be lost, told by a promoter that knows zones.

use autopilot::testing::Situation;
use autopilot::{Changes, Promoter, PromoterInput, ServerState, StablePromoter};

struct Zones;

impl Promoter for Zones {
    fn name(&self) -> &str {
        "zones"
    }

    fn changes(&self, input: &PromoterInput<'_>) -> Changes {
        StablePromoter.changes(input)
    }

    fn failure_domain(&self, server: &ServerState) -> Option<String> {
        server.meta.get("zone").cloned()
    }
}

fn main() {
    let mut situation = Situation::new("n1").meta("n1", "zone", "a");
    for (server, zone) in [("n2", "a"), ("n3", "b")] {
        situation = situation.voter(server).meta(server, "zone", zone);
    }
    let state = situation.state(&Zones);
    println!("servers that may fail: {}", state.failure_tolerance);
    if let Some(tolerance) = &state.domain_tolerance {
        println!("zones that may fail: {} at worst, {} at best", tolerance.worst, tolerance.best);
        for (zone, told) in &tolerance.domains {
            let goes_on = if told.expendable { "goes on" } else { "stops" };
            println!("without zone {zone} the cluster {goes_on}");
        }
    }
}
