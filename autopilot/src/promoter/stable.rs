use super::{Changes, Promoter, PromoterInput};
use crate::model::duration_text::short;

/// The default policy: whoever is healthy for long enough votes. It never takes a vote and never moves leadership.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StablePromoter;

impl Promoter for StablePromoter {
    fn name(&self) -> &str {
        "stable"
    }

    fn changes(&self, input: &PromoterInput<'_>) -> Changes {
        let mut changes = Changes::default();
        for server in input.state.servers.values().filter(|server| server.is_promotable(input.now)) {
            let healthy_for = short(input.now.since(server.health.stable_since));
            changes.promote(&server.id, format!("healthy for {healthy_for}"));
        }
        changes
    }
}
