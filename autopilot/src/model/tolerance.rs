//! How many failure domains may be lost.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// How many whole failure domains, such as zones or racks, may be lost at once.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DomainTolerance {
    /// How many may be lost before the cluster stops, if the worst ones are.
    pub worst: usize,
    /// How many if those are lost that matter least. A voter in no domain counts as one of its own in both.
    pub best: usize,
    /// The domains with voters or members, by name.
    pub domains: BTreeMap<String, DomainState>,
}

/// One failure domain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DomainState {
    /// How many of its servers vote.
    pub voters: usize,
    /// How many of those are healthy.
    pub healthy_voters: usize,
    /// How many of its servers stand by: healthy, without a vote, and may have one.
    pub standbys: usize,
    /// Whether the cluster goes on without this domain alone.
    pub expendable: bool,
}
