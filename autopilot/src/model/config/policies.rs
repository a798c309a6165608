//! The groups of tunables beyond the plain ones.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{ConfigError, within};
use crate::model::duration_text;

const DAY: Duration = Duration::from_secs(86_400);

/// What keeps health from flapping and from being taken at its word when the looker itself is in doubt.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HealthPolicy {
    /// A healthy server turns unhealthy when so many of its last `samples` measurements broke a rule. Default: 2; from 1
    /// to `samples`.
    ///
    /// 1 lets a single late heartbeat cost a server its probation; `samples` hides one that is late half of the time.
    /// What the application says about a server counts at once.
    pub bad_samples: u32,
    /// How many measurements are looked back on. Default: 3; from 1 to 32.
    pub samples: u32,
    /// An unhealthy server must be within this part of `last_contact_threshold` and `max_trailing_logs` to be healthy
    /// again, in percent. Default: 75; from 1 to 100.
    ///
    /// 100 lets a server at the limit go back and forth; below the heartbeat interval as a part of
    /// `last_contact_threshold`, nobody recovers.
    pub recovery_percent: u32,
    /// A server that turned unhealthy so often counts as flapping and gets no vote until the count has decayed to half
    /// of this. Default: 3; from 0, which is never, to 1,000.
    pub flap_limit: u32,
    /// After this time such a count is half of what it was. Default: 5 min; from 1 s to a day.
    #[serde(with = "duration_text")]
    pub flap_half_life: Duration,
    /// How long nothing is removed or demoted after the leader was paused, its clock jumped, or it was cut off from most
    /// servers. Default: 10 s; 0 is not at all; at most a day.
    ///
    /// Too short, and what a leader finds after waking up from a pause, everybody silent, is taken for their death.
    #[serde(with = "duration_text")]
    pub suspension: Duration,
    /// A member that has never been healthy counts as joining, and is not removed, for this long after the last sign of
    /// progress: entries arriving, or a snapshot being on its way. Default: 30 s; 0 is not at all; at most a day.
    #[serde(with = "duration_text")]
    pub joining: Duration,
    /// How many other servers must call a server dead before it is removed or loses its vote for it. Default: 0, nobody
    /// is asked; at most 1,000. The application gathers their word, see `ApplicationIntegration::witnesses`.
    pub witnesses: usize,
}

impl HealthPolicy {
    /// One sample decides, nobody counts flaps, nothing is suspended, joining members are ordinary ones.
    #[must_use]
    pub const fn reference() -> Self {
        Self {
            bad_samples: 1,
            samples: 1,
            recovery_percent: 100,
            flap_limit: 0,
            flap_half_life: Duration::from_secs(300),
            suspension: Duration::ZERO,
            joining: Duration::ZERO,
            witnesses: 0,
        }
    }

    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        within((1..=32).contains(&self.samples), "health.samples", "from 1 to 32", self.samples)?;
        let bad = (1..=self.samples).contains(&self.bad_samples);
        within(bad, "health.bad_samples", "from 1 to health.samples", self.bad_samples)?;
        let percent = (1..=100).contains(&self.recovery_percent);
        within(percent, "health.recovery_percent", "from 1 to 100", self.recovery_percent)?;
        within(self.flap_limit <= 1_000, "health.flap_limit", "at most 1000", self.flap_limit)?;
        let half_life = (Duration::from_secs(1)..=DAY).contains(&self.flap_half_life);
        within(
            half_life,
            "health.flap_half_life",
            "from 1s to a day",
            duration_text::short(self.flap_half_life),
        )?;
        at_most_a_day("health.suspension", self.suspension)?;
        at_most_a_day("health.joining", self.joining)?;
        within(self.witnesses <= 1_000, "health.witnesses", "at most 1000", self.witnesses)
    }
}

impl Default for HealthPolicy {
    fn default() -> Self {
        Self {
            bad_samples: 2,
            samples: 3,
            recovery_percent: 75,
            flap_limit: 3,
            flap_half_life: Duration::from_secs(300),
            suspension: Duration::from_secs(10),
            joining: Duration::from_secs(30),
            witnesses: 0,
        }
    }
}

/// What keeps removals from surprising. Only what autopilot does on its own is limited; a person who asks may do more,
/// except to cost the quorum or go below `min_quorum`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RemovalPolicy {
    /// Where `min_quorum` is 0, whether the largest number of voters that was seen all stable is the floor: a dead
    /// voter then stays until another server votes in its place. Default: true.
    ///
    /// A voter that a person removes or demotes, that leaves on purpose, or that the promoter demotes lowers the
    /// floor. A leader that has seen no stable size yet takes the voters of the configuration, an even number for one
    /// less: that is how a cluster looks in the midst of a replacement.
    pub floor_from_size: bool,
    /// Whether a dead voter goes only when as many voters stay as there were when all were stable, whatever
    /// `min_quorum` allows. Default: false.
    pub only_when_replaced: bool,
    /// Whether a stable member without a vote takes the place of a dead voter in a single step, where the engine can
    /// change several members at once. Default: true.
    pub swap: bool,
    /// How long a voter must be dead. Default: 30 s; absent: `server_stabilization_time`. At most 365 days.
    ///
    /// Shorter than a restart, and every restart costs a vote.
    #[serde(with = "duration_text::optional")]
    pub voter_after: Option<Duration>,
    /// The same for a member without a vote. Default: absent.
    #[serde(with = "duration_text::optional")]
    pub nonvoter_after: Option<Duration>,
    /// The same for a member that the promoter says must never vote, such as a read replica. Default: absent.
    #[serde(with = "duration_text::optional")]
    pub replica_after: Option<Duration>,
    /// How many dead servers, for whatever cause, may lose their membership or their vote within `window`. Default: 5;
    /// 0 is without limit; at most 256.
    pub budget: usize,
    /// See `budget`. Default: 10 min; from 1 s to a day.
    #[serde(with = "duration_text")]
    pub window: Duration,
    /// How long after one dead voter lost its vote or its membership the next may. Default: 10 s; at most a day.
    #[serde(with = "duration_text")]
    pub cool_down: Duration,
}

impl RemovalPolicy {
    /// Dead servers go after `server_stabilization_time`, as far as the quorum and `min_quorum` allow, all at once.
    #[must_use]
    pub const fn reference() -> Self {
        Self {
            floor_from_size: false,
            only_when_replaced: false,
            swap: false,
            voter_after: None,
            nonvoter_after: None,
            replica_after: None,
            budget: 0,
            window: Duration::from_secs(600),
            cool_down: Duration::ZERO,
        }
    }

    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        for (field, after) in [
            ("removal.voter_after", self.voter_after),
            ("removal.nonvoter_after", self.nonvoter_after),
            ("removal.replica_after", self.replica_after),
        ] {
            let after = after.unwrap_or_default();
            within(after <= DAY * 365, field, "at most 365 days", duration_text::short(after))?;
        }
        let max = crate::model::CHANGES_REMEMBERED_MAX;
        within(self.budget <= max, "removal.budget", "at most 256", self.budget)?;
        let window = (Duration::from_secs(1)..=DAY).contains(&self.window);
        within(window, "removal.window", "from 1s to a day", duration_text::short(self.window))?;
        at_most_a_day("removal.cool_down", self.cool_down)
    }
}

impl Default for RemovalPolicy {
    fn default() -> Self {
        Self {
            floor_from_size: true,
            only_when_replaced: false,
            swap: true,
            voter_after: Some(Duration::from_secs(30)),
            nonvoter_after: None,
            replica_after: None,
            budget: 5,
            window: Duration::from_secs(600),
            cool_down: Duration::from_secs(10),
        }
    }
}

/// How fast autopilot changes members on its own, removals included.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ChangePolicy {
    /// How many steps it takes within `window`. Default: 30; 0 is without limit; at most 256.
    pub max: usize,
    /// See `max`. Default: 1 min; from 1 s to a day.
    #[serde(with = "duration_text")]
    pub window: Duration,
}

impl ChangePolicy {
    /// Without limit.
    #[must_use]
    pub const fn reference() -> Self {
        Self { max: 0, window: Duration::from_secs(60) }
    }

    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        let max = crate::model::CHANGES_REMEMBERED_MAX;
        within(self.max <= max, "changes.max", "at most 256", self.max)?;
        let window = (Duration::from_secs(1)..=DAY).contains(&self.window);
        within(window, "changes.window", "from 1s to a day", duration_text::short(self.window))
    }
}

impl Default for ChangePolicy {
    fn default() -> Self {
        Self { max: 30, window: Duration::from_secs(60) }
    }
}

fn at_most_a_day(field: &'static str, value: Duration) -> Result<(), ConfigError> {
    within(value <= DAY, field, "at most a day", duration_text::short(value))
}
