//! Every policy, and the default one, in every small cluster.

use autopilot::StablePromoter;
use autopilot::testing::promoter_conformance;
use promoter_plugins::ReadReplicas;

#[test]
fn the_default_promoter_conforms() {
    promoter_conformance(&StablePromoter);
}

#[test]
fn read_replicas_conform() {
    promoter_conformance(&ReadReplicas::default());
}
