//! The tunables of autopilot.
//!
//! The plain ones carry the names and defaults of Consul's autopilot configuration. The groups beside them are what the
//! plain rules lack; [`Config::reference`] switches all of that off.

mod policies;

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::duration_text;

pub use policies::{ChangePolicy, HealthPolicy, RemovalPolicy};

/// How autopilot judges servers. The names and defaults are those of Consul's autopilot configuration.
///
/// In text formats durations are written as people write them, for example `200ms` or `1m 30s`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Whether dead servers are removed without being asked. Default: true.
    pub cleanup_dead_servers: bool,
    /// A server that the leader has not heard from for longer is unhealthy. Default: 200 ms; at least 1 ms.
    ///
    /// Below twice the heartbeat interval, healthy servers look unhealthy now and then and their probation starts
    /// over each time; far above it, a dead server keeps counting as healthy for that long.
    #[serde(with = "duration_text")]
    pub last_contact_threshold: Duration,
    /// A server whose log is further behind the leader's, in entries, is unhealthy. Default: 250.
    ///
    /// Below what is in flight under load, healthy servers look unhealthy; far above, a server gets its vote long
    /// before it can help to commit anything.
    pub max_trailing_logs: u64,
    /// Autopilot never takes a step that leaves fewer voters than this. Default: 0, none configured: then the largest
    /// size that was seen stable is the floor for removals, see [`RemovalPolicy::floor_from_size`].
    ///
    /// Above the number of voters, no dead voter is ever removed.
    pub min_quorum: usize,
    /// How long a server must be healthy without a break before it gets its vote, and, unless [`RemovalPolicy`] says
    /// otherwise, how long one that did not leave on purpose must be dead before it is removed. Default: 10 s.
    ///
    /// Zero promotes at once, also servers that come and go; very long delays the replacement of a failed voter.
    #[serde(with = "duration_text")]
    pub server_stabilization_time: Duration,
    /// What makes health steady.
    pub health: HealthPolicy,
    /// What keeps removals from surprising.
    pub removal: RemovalPolicy,
    /// How fast members may be changed.
    pub changes: ChangePolicy,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            cleanup_dead_servers: true,
            last_contact_threshold: Duration::from_millis(200),
            max_trailing_logs: 250,
            min_quorum: 0,
            server_stabilization_time: Duration::from_secs(10),
            health: HealthPolicy::default(),
            removal: RemovalPolicy::default(),
            changes: ChangePolicy::default(),
        }
    }
}

impl Config {
    /// The shortest `last_contact_threshold`.
    pub const LAST_CONTACT_THRESHOLD_MIN: Duration = Duration::from_millis(1);

    /// The plain rules of hashicorp/raft-autopilot: one sample decides about health, a dead voter goes once it has been
    /// dead for `server_stabilization_time`, down to the quorum, and nothing limits how often.
    #[must_use]
    pub fn reference() -> Self {
        Self {
            health: HealthPolicy::reference(),
            removal: RemovalPolicy::reference(),
            changes: ChangePolicy::reference(),
            ..Self::default()
        }
    }

    /// Checks that the values make sense.
    ///
    /// # Errors
    /// Names the first value that does not.
    pub fn validate(&self) -> Result<(), ConfigError> {
        if self.last_contact_threshold < Self::LAST_CONTACT_THRESHOLD_MIN {
            return Err(ConfigError::LastContactThreshold { value: self.last_contact_threshold });
        }
        self.health.validate()?;
        self.removal.validate()?;
        self.changes.validate()
    }
}

/// What is wrong with a [`Config`]. Nothing was changed; a retry fails again.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConfigError {
    /// With a shorter threshold every server would always be unhealthy.
    #[error("last_contact_threshold must be at least 1ms, not {}", humantime::format_duration(*.value))]
    LastContactThreshold {
        /// The refused value.
        value: Duration,
    },
    /// The value is outside the range that is documented at the field.
    #[error("{field} must be {range}, not {value}")]
    OutOfRange {
        /// The field, with its group.
        field: &'static str,
        /// The range.
        range: &'static str,
        /// The refused value.
        value: String,
    },
}

/// Refuses a value that is out of its range.
fn within(
    fits: bool,
    field: &'static str,
    range: &'static str,
    value: impl fmt::Display,
) -> Result<(), ConfigError> {
    if fits { Ok(()) } else { Err(ConfigError::OutOfRange { field, range, value: value.to_string() }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_written_as_people_write_them() {
        let text = serde_json::to_string(&Config::default()).unwrap();
        let plain = r#"{"cleanup_dead_servers":true,"last_contact_threshold":"200ms","max_trailing_logs":250,"min_quorum":0,"server_stabilization_time":"10s","#;
        assert!(text.starts_with(plain), "{text}");
        assert_eq!(serde_json::from_str::<Config>(&text).unwrap(), Config::default());
        let partial: Config = serde_json::from_str(r#"{"server_stabilization_time":"1m 30s"}"#).unwrap();
        assert_eq!(partial.server_stabilization_time, Duration::from_secs(90));
        let error = serde_json::from_str::<Config>(r#"{"server_stabilization_time":"soon"}"#).unwrap_err();
        assert!(error.to_string().contains("\"soon\" is not a duration"), "{error}");
        assert!(serde_json::from_str::<Config>(r#"{"min_quorom":3}"#).is_err());
    }

    #[test]
    fn a_threshold_that_nobody_can_meet_is_refused() {
        assert_eq!(Config::default().validate(), Ok(()));
        let config = Config { last_contact_threshold: Duration::ZERO, ..Config::default() };
        assert!(config.validate().unwrap_err().to_string().contains("at least 1ms"));
    }

    #[test]
    fn the_plain_rules_are_valid_and_one_call_away() {
        assert_eq!(Config::reference().validate(), Ok(()));
        let text = serde_json::to_string(&Config::reference()).unwrap();
        assert_eq!(serde_json::from_str::<Config>(&text).unwrap(), Config::reference());
    }

    #[test]
    fn values_out_of_range_are_named() {
        type Edit = fn(&mut Config);
        let cases: [(&str, Edit); 9] = [
            ("health.samples", |c| c.health.samples = 0),
            ("health.samples", |c| c.health.samples = 33),
            ("health.bad_samples", |c| c.health.bad_samples = 4),
            ("health.recovery_percent", |c| c.health.recovery_percent = 101),
            ("health.flap_half_life", |c| c.health.flap_half_life = Duration::ZERO),
            ("health.witnesses", |c| c.health.witnesses = 1_001),
            ("removal.window", |c| c.removal.window = Duration::ZERO),
            ("removal.budget", |c| c.removal.budget = 257),
            ("changes.max", |c| c.changes.max = 257),
        ];
        for (field, edit) in cases {
            let mut config = Config::default();
            edit(&mut config);
            let error = config.validate().unwrap_err().to_string();
            assert!(error.starts_with(field), "{error}");
        }
    }
}
