//! The autopilot configuration as it goes over HTTP: Consul's keys, and three groups beside them that are ours.

use std::time::Duration;

use autopilot::{ChangePolicy, HealthPolicy, RemovalPolicy};
use serde::{Deserialize, Serialize};

use super::duration::GoDuration;
use crate::kv::{AutopilotSettings, Versioned};

/// Body of the autopilot configuration, both ways. A key left out takes its default, as in Consul.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default, deny_unknown_fields)]
pub(super) struct AutopilotConfiguration {
    cleanup_dead_servers: bool,
    last_contact_threshold: GoDuration,
    max_trailing_logs: u64,
    min_quorum: u64,
    server_stabilization_time: GoDuration,
    redundancy_zone_tag: String,
    disable_upgrade_migration: bool,
    upgrade_version_tag: String,
    health: Health,
    removal: Removal,
    changes: Changes,
    /// Ignored on input.
    create_index: u64,
    /// Ignored on input; the condition is the parameter `cas`.
    modify_index: u64,
}

/// What makes health steady. See [`HealthPolicy`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default, deny_unknown_fields)]
struct Health {
    bad_samples: u32,
    samples: u32,
    recovery_percent: u32,
    flap_limit: u32,
    flap_half_life: GoDuration,
    suspension: GoDuration,
    joining: GoDuration,
    witnesses: usize,
}

/// What keeps removals from surprising. See [`RemovalPolicy`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default, deny_unknown_fields)]
struct Removal {
    floor_from_size: bool,
    only_when_replaced: bool,
    swap: bool,
    voter_after: Option<GoDuration>,
    nonvoter_after: Option<GoDuration>,
    replica_after: Option<GoDuration>,
    budget: usize,
    window: GoDuration,
    cool_down: GoDuration,
}

/// How fast members may be changed. See [`ChangePolicy`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default, deny_unknown_fields)]
struct Changes {
    max: usize,
    window: GoDuration,
}

impl Default for AutopilotConfiguration {
    fn default() -> Self {
        Self::from(Versioned { value: AutopilotSettings::default(), create_index: 0, modify_index: 0 })
    }
}

impl Default for Health {
    fn default() -> Self {
        AutopilotSettings::default().health.into()
    }
}

impl Default for Removal {
    fn default() -> Self {
        AutopilotSettings::default().removal.into()
    }
}

impl Default for Changes {
    fn default() -> Self {
        AutopilotSettings::default().changes.into()
    }
}

impl From<HealthPolicy> for Health {
    fn from(policy: HealthPolicy) -> Self {
        Self {
            bad_samples: policy.bad_samples,
            samples: policy.samples,
            recovery_percent: policy.recovery_percent,
            flap_limit: policy.flap_limit,
            flap_half_life: GoDuration(policy.flap_half_life),
            suspension: GoDuration(policy.suspension),
            joining: GoDuration(policy.joining),
            witnesses: policy.witnesses,
        }
    }
}

impl From<Health> for HealthPolicy {
    fn from(body: Health) -> Self {
        Self {
            bad_samples: body.bad_samples,
            samples: body.samples,
            recovery_percent: body.recovery_percent,
            flap_limit: body.flap_limit,
            flap_half_life: body.flap_half_life.0,
            suspension: body.suspension.0,
            joining: body.joining.0,
            witnesses: body.witnesses,
        }
    }
}

impl From<RemovalPolicy> for Removal {
    fn from(policy: RemovalPolicy) -> Self {
        Self {
            floor_from_size: policy.floor_from_size,
            only_when_replaced: policy.only_when_replaced,
            swap: policy.swap,
            voter_after: policy.voter_after.map(GoDuration),
            nonvoter_after: policy.nonvoter_after.map(GoDuration),
            replica_after: policy.replica_after.map(GoDuration),
            budget: policy.budget,
            window: GoDuration(policy.window),
            cool_down: GoDuration(policy.cool_down),
        }
    }
}

impl From<Removal> for RemovalPolicy {
    fn from(body: Removal) -> Self {
        let after = |duration: Option<GoDuration>| -> Option<Duration> { duration.map(|d| d.0) };
        Self {
            floor_from_size: body.floor_from_size,
            only_when_replaced: body.only_when_replaced,
            swap: body.swap,
            voter_after: after(body.voter_after),
            nonvoter_after: after(body.nonvoter_after),
            replica_after: after(body.replica_after),
            budget: body.budget,
            window: body.window.0,
            cool_down: body.cool_down.0,
        }
    }
}

impl From<ChangePolicy> for Changes {
    fn from(policy: ChangePolicy) -> Self {
        Self { max: policy.max, window: GoDuration(policy.window) }
    }
}

impl From<Changes> for ChangePolicy {
    fn from(body: Changes) -> Self {
        Self { max: body.max, window: body.window.0 }
    }
}

impl From<Versioned<AutopilotSettings>> for AutopilotConfiguration {
    fn from(stored: Versioned<AutopilotSettings>) -> Self {
        let settings = stored.value;
        Self {
            cleanup_dead_servers: settings.cleanup_dead_servers,
            last_contact_threshold: GoDuration(settings.last_contact_threshold),
            max_trailing_logs: settings.max_trailing_logs,
            min_quorum: settings.min_quorum,
            server_stabilization_time: GoDuration(settings.server_stabilization_time),
            redundancy_zone_tag: settings.redundancy_zone_tag,
            disable_upgrade_migration: settings.disable_upgrade_migration,
            upgrade_version_tag: settings.upgrade_version_tag,
            health: settings.health.into(),
            removal: settings.removal.into(),
            changes: settings.changes.into(),
            create_index: stored.create_index,
            modify_index: stored.modify_index,
        }
    }
}

impl From<AutopilotConfiguration> for AutopilotSettings {
    fn from(body: AutopilotConfiguration) -> Self {
        Self {
            cleanup_dead_servers: body.cleanup_dead_servers,
            last_contact_threshold: body.last_contact_threshold.0,
            max_trailing_logs: body.max_trailing_logs,
            min_quorum: body.min_quorum,
            server_stabilization_time: body.server_stabilization_time.0,
            redundancy_zone_tag: body.redundancy_zone_tag,
            disable_upgrade_migration: body.disable_upgrade_migration,
            upgrade_version_tag: body.upgrade_version_tag,
            health: body.health.into(),
            removal: body.removal.into(),
            changes: body.changes.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_goes_out_and_comes_back() {
        let settings = AutopilotSettings {
            health: HealthPolicy { flap_limit: 7, witnesses: 2, ..HealthPolicy::reference() },
            removal: RemovalPolicy { only_when_replaced: true, ..RemovalPolicy::default() },
            changes: ChangePolicy { max: 9, window: Duration::from_secs(90) },
            ..AutopilotSettings::default()
        };
        let stored = Versioned { value: settings.clone(), create_index: 4, modify_index: 12 };
        let text = serde_json::to_string(&AutopilotConfiguration::from(stored)).expect("JSON");
        assert!(text.contains(r#""VoterAfter":"30s","NonvoterAfter":null"#), "{text}");
        let back: AutopilotConfiguration = serde_json::from_str(&text).expect("its own text");
        assert_eq!(AutopilotSettings::from(back), settings);
    }

    #[test]
    fn what_is_left_out_takes_its_default_and_what_is_unknown_is_refused() {
        let read = |text| serde_json::from_str::<AutopilotConfiguration>(text).map(AutopilotSettings::from);
        assert_eq!(read("{}").expect("empty"), AutopilotSettings::default());
        let partial = read(r#"{"Removal":{"Budget":1},"Health":{"Samples":5}}"#).expect("partial");
        let expected = AutopilotSettings {
            removal: RemovalPolicy { budget: 1, ..AutopilotSettings::removal_default() },
            health: HealthPolicy { samples: 5, ..HealthPolicy::default() },
            ..AutopilotSettings::default()
        };
        assert_eq!(partial, expected);
        assert!(read(r#"{"Removal":{"Budgt":1}}"#).is_err());
    }
}
