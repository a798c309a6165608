//! What one run was shown, look by look, and what follows from it: health by the documented rules, since when it lasts,
//! since when somebody answers nobody.

use std::collections::{BTreeMap, BTreeSet};

use autopilot::{Config, Configuration, EntryId, Inputs, NodeStatus, ServerId, ServerStats};
use raft::Time;

/// One member over time.
#[derive(Clone, Copy, Debug)]
pub struct Member {
    /// The newest measurement, and when it was made.
    pub sample: Option<(ServerStats, Time)>,
    /// Whether the newest measurements broke a rule, the newest last, and when the newest was taken. Looks in quick
    /// succession count as one.
    pub broken: [bool; 2],
    /// See `broken`.
    pub judged_at: Time,
    /// Since which look it was healthy in every one.
    pub healthy_since: Option<Time>,
    /// Since which look it was unhealthy in every one.
    pub unhealthy_since: Option<Time>,
    /// When it last answered the leader, as the engine showed it.
    pub answered_at: Option<Time>,
}

/// What one run was shown.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// The time of the last look.
    pub looked_at: Option<Time>,
    /// The members.
    pub members: BTreeMap<ServerId, Member>,
    /// Since which look the leader was in contact with a quorum in every one.
    pub quorum_since: Option<Time>,
}

impl Observed {
    /// Takes a look in.
    pub fn look(&mut self, inputs: &Inputs) {
        let gap = self.looked_at.is_some_and(|at| inputs.now.since(at) > inputs.stats_age_max);
        if gap {
            self.members.values_mut().for_each(|m| (m.healthy_since, m.unhealthy_since) = (None, None));
            self.quorum_since = None;
        }
        self.looked_at = Some(inputs.now);
        let before = std::mem::take(&mut self.members);
        for server in inputs.view.configuration.everyone() {
            let member = look_at(inputs, before.get(&server.id), &server.id);
            self.members.insert(server.id.clone(), member);
        }
        let in_contact = |id: &ServerId| {
            let contact = inputs.view.stats.get(id).and_then(|stats| stats.last_contact);
            *id == inputs.view.id || contact.is_some_and(|contact| contact <= inputs.stats_age_max * 2)
        };
        let quorum = is_quorum(&inputs.view.configuration, in_contact);
        self.quorum_since = quorum.then(|| self.quorum_since.unwrap_or(inputs.now));
    }

    /// Takes these members for healthy from now on, by the word of an earlier leader, until a look shows something else.
    pub fn expect<'a>(&mut self, healthy: impl Iterator<Item = &'a ServerId>, now: Time) {
        let seen = Member {
            sample: None,
            broken: [false, false],
            judged_at: Time::ZERO,
            healthy_since: Some(now),
            unhealthy_since: None,
            answered_at: None,
        };
        self.members.extend(healthy.map(|id| (id.clone(), seen)));
    }

    /// Whether this member was healthy at the last look.
    #[must_use]
    pub fn is_healthy(&self, id: &ServerId) -> bool {
        self.members.get(id).is_some_and(|member| member.healthy_since.is_some())
    }

    /// The voters that were not healthy at the last look.
    #[must_use]
    pub fn dead_voters(&self, configuration: &Configuration) -> BTreeSet<ServerId> {
        configuration.voters().map(|s| s.id.clone()).filter(|id| !self.is_healthy(id)).collect()
    }

    /// How many voters of this configuration could fail, by what was seen at the last look.
    #[must_use]
    pub fn tolerance(&self, configuration: &Configuration) -> usize {
        let healthy = configuration.voters().filter(|server| self.is_healthy(&server.id)).count();
        healthy.saturating_sub(configuration.quorum())
    }
}

fn look_at(inputs: &Inputs, before: Option<&Member>, id: &ServerId) -> Member {
    let own = inputs.view.is_leader && inputs.view.id == *id;
    let measured = inputs.fetched.as_ref().unwrap_or(&inputs.view.stats).get(id).copied();
    let sample = match measured {
        _ if own => Some((of_the_leader(inputs), inputs.now)),
        Some(stats) => Some((stats, inputs.now)),
        None => before.and_then(|before| before.sample),
    };
    let (broken, judged_at) = note(inputs, before, sample);
    let since = |holds: bool, since: Option<Time>| holds.then(|| since.unwrap_or(inputs.now));
    let healthy = is_healthy(inputs, id, sample, broken);
    let contact = inputs.view.stats.get(id).and_then(|stats| stats.last_contact);
    let answered = contact.map(|contact| before_by(inputs.now, contact));
    Member {
        sample,
        broken,
        judged_at,
        healthy_since: since(healthy, before.and_then(|before| before.healthy_since)),
        unhealthy_since: since(!healthy, before.and_then(|before| before.unhealthy_since)),
        answered_at: answered.max(before.and_then(|before| before.answered_at)),
    }
}

fn before_by(now: Time, age: std::time::Duration) -> Time {
    Time::from_nanos(now.as_nanos().saturating_sub(u64::try_from(age.as_nanos()).unwrap_or(u64::MAX)))
}

fn of_the_leader(inputs: &Inputs) -> ServerStats {
    let EntryId { term, index } = inputs.view.last;
    ServerStats { last_contact: Some(std::time::Duration::ZERO), last_term: term, last_index: index }
}

/// Takes a measurement in.
fn note(inputs: &Inputs, before: Option<&Member>, sample: Option<(ServerStats, Time)>) -> ([bool; 2], Time) {
    let now = breaks(inputs, sample);
    match before {
        None => ([now, now], inputs.now),
        Some(before) if inputs.now.since(before.judged_at) < inputs.stats_age_max / 6 => {
            ([before.broken[0], now], before.judged_at)
        }
        Some(before) => ([before.broken[1], now], inputs.now),
    }
}

/// Whether a measurement breaks a rule of health, as `docs/autopilot.md` has them.
fn breaks(inputs: &Inputs, sample: Option<(ServerStats, Time)>) -> bool {
    let default = Config::default();
    let config = inputs.config.as_ref().unwrap_or(&default);
    let Some((stats, _)) = sample else { return true };
    let heard = stats.last_contact.is_some_and(|contact| contact <= config.last_contact_threshold);
    let last = inputs.view.last;
    let near = last.index.0.saturating_sub(stats.last_index.0) <= config.max_trailing_logs;
    !heard || !near || stats.last_term != last.term
}

/// Whether a member can be healthy by any reading: alive by the word of the application, measured, and the newest
/// measurement is good, or the only bad one of the last two where one may be.
fn is_healthy(
    inputs: &Inputs,
    id: &ServerId,
    sample: Option<(ServerStats, Time)>,
    broken: [bool; 2],
) -> bool {
    let alone = inputs.config.as_ref().is_none_or(|config| config.health.bad_samples > 1);
    let alive = inputs.known.servers.get(id).is_some_and(|known| known.node_status == NodeStatus::Alive);
    let fresh = sample.is_some_and(|(_, at)| inputs.now.since(at) <= inputs.stats_age_max);
    let good = !broken[1] || (alone && !broken[0]);
    inputs.view.is_leader && alive && fresh && good
}

/// Whether the servers of which this holds are a quorum of every set of voters.
pub fn is_quorum(configuration: &Configuration, holds: impl Fn(&ServerId) -> bool) -> bool {
    configuration.electorates().all(|set| {
        let voters = || set.iter().filter(|server| server.suffrage == autopilot::Suffrage::Voter);
        voters().filter(|server| holds(&server.id)).count() > voters().count() / 2
    })
}
