//! Autopilot in the simulator: the pure rounds of [`autopilot::core`] on whichever server leads, an application that
//! gossips late, in part and wrongly, and machines that come, go and do not come back.
//!
//! What the driver over tokio does with deadlines and tasks is done here with events: [`crate::world`] holds the rounds and
//! the machines, this module what they are about.

pub mod people;
pub mod policy;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use autopilot::core::Run;
use autopilot::{
    Action, ChangePolicy, ClusterView, Config, Hand, HealthPolicy, KnownServer, NodeStatus, Plan,
    PlannedStep, RemovalPolicy, ServerId, State, Step,
};
use raft::Time;
use raft::core::RequestId;
use rand::RngExt;

use crate::check::autopilot::Watch;
use crate::random::{Random, between, chance, stream};
use people::Lie;
pub use people::People;
pub use policy::Policy;

/// How autopilot is set up in one run.
#[derive(Clone, Debug)]
pub struct Flight {
    /// The tunables that the application gives.
    pub config: Config,
    /// How often the state is computed.
    pub update: Duration,
    /// How often members may be changed.
    pub reconcile: Duration,
    /// How long a question to the application takes at most.
    pub query: Duration,
    /// How long a change may take before its outcome counts as unknown.
    pub change: Duration,
    /// How often gossip is exchanged.
    pub gossip: Duration,
    /// After how long without gossip a server is said to have failed.
    pub suspicion: Duration,
    /// Whether the application measures the members itself, as well as it can.
    pub measures: bool,
    /// The policy.
    pub policy: Policy,
    /// Mean time between what happens to machines, people and the application; zero for nothing.
    pub fleet_every: Duration,
    /// Whether the application keeps ledgers in the replicated state. Then a run begins once everything is applied that was
    /// stored before.
    pub ledgers: bool,
    /// How much time lies between two ledgers at least, unless an order stands that no ledger has; storing may be skipped.
    pub ledger_every: Duration,
    /// Mean time between what people order and ask; zero for nothing.
    pub people_every: Duration,
}

impl Flight {
    /// For directed scenarios: nothing happens by itself, everything is answered at once.
    #[must_use]
    pub fn calm() -> Self {
        let ms = Duration::from_millis;
        Self {
            config: Config {
                last_contact_threshold: ms(200),
                server_stabilization_time: Duration::from_secs(2),
                ..Config::reference()
            },
            update: ms(200),
            reconcile: ms(1000),
            query: Duration::ZERO,
            change: ms(2000),
            gossip: ms(100),
            suspicion: ms(500),
            measures: false,
            policy: Policy::Stable,
            fleet_every: Duration::ZERO,
            ledgers: false,
            ledger_every: Duration::ZERO,
            people_every: Duration::ZERO,
        }
    }

    /// How long one change may have to wait, whatever is configured.
    #[must_use]
    pub fn patience(&self) -> Duration {
        let Config { health, removal, changes, server_stabilization_time, .. } = &self.config;
        let dead = removal.voter_after.max(removal.nonvoter_after).unwrap_or_default();
        let slow = health.suspension + health.joining + removal.cool_down + dead;
        let windows = [(removal.budget, removal.window), (changes.max, changes.window)];
        let limits = windows.iter().filter(|(max, _)| *max > 0).map(|(_, window)| *window);
        let flaps = if health.flap_limit > 0 { health.flap_half_life * 6 } else { Duration::ZERO };
        let limits: Duration = limits.sum();
        // The longest pause, and the last window.
        let orders = if self.people_every.is_zero() { Duration::ZERO } else { Duration::from_secs(5) };
        *server_stabilization_time * 2 + self.reconcile * 3 + self.suspicion + slow + limits + flaps + orders
    }

    /// What a seed decides. `heartbeat` and `delay` are those of its Raft and its network.
    #[must_use]
    pub fn from_seed(seed: u64, heartbeat: Duration, delay: Duration) -> Self {
        let r = &mut stream(seed, "flight");
        let ms = Duration::from_millis;
        let update = ms([150, 200, 300, 500][r.random_range(0..4)]);
        let gossip = between(r, ms(60), ms(300));
        Self {
            config: Config {
                cleanup_dead_servers: !chance(r, 100),
                last_contact_threshold: heartbeat * 3 + delay * 4,
                max_trailing_logs: [3, 10, 50, 250][r.random_range(0..4)],
                min_quorum: [0, 0, 0, 2, 3, 4][r.random_range(0..6)],
                server_stabilization_time: between(r, ms(600), ms(3000)),
                health: health(seed),
                removal: removal(seed),
                changes: changes(seed),
            },
            update,
            reconcile: update * r.random_range(1..5),
            query: between(r, Duration::ZERO, update / 2),
            change: ms(2000),
            gossip,
            suspicion: gossip * r.random_range(3..8),
            measures: chance(r, 400),
            policy: [Policy::Stable, Policy::Stable, Policy::ReadReplicas, Policy::Wilful]
                [r.random_range(0..4)],
            fleet_every: between(r, ms(500), ms(5000)),
            ledgers: !chance(&mut stream(seed, "ledgers"), 300),
            ledger_every: between(&mut stream(seed, "ledger every"), ms(300), ms(4000)),
            people_every: people_every(seed),
        }
    }
}

fn people_every(seed: u64) -> Duration {
    let r = &mut stream(seed, "people every");
    let ms = Duration::from_millis;
    if chance(r, 400) { Duration::ZERO } else { between(r, ms(300), ms(4000)) }
}

fn health(seed: u64) -> HealthPolicy {
    let r = &mut stream(seed, "health");
    let witnesses = [0, 0, 0, 1, 2][stream(seed, "witnesses").random_range(0..5)];
    if chance(r, 500) {
        return HealthPolicy { witnesses, ..HealthPolicy::reference() };
    }
    let ms = Duration::from_millis;
    HealthPolicy {
        flap_limit: [0, 2, 3][r.random_range(0..3)],
        flap_half_life: between(r, ms(1000), ms(8000)),
        suspension: [Duration::ZERO, between(r, ms(200), ms(2000))][r.random_range(0..2)],
        joining: [Duration::ZERO, between(r, ms(500), ms(3000))][r.random_range(0..2)],
        witnesses,
        ..HealthPolicy::default()
    }
}

fn removal(seed: u64) -> RemovalPolicy {
    let r = &mut stream(seed, "removal");
    if chance(r, 400) {
        return RemovalPolicy::reference();
    }
    let ms = Duration::from_millis;
    let after = |r: &mut Random| chance(r, 500).then(|| between(r, ms(600), ms(4000)));
    RemovalPolicy {
        floor_from_size: chance(r, 500),
        only_when_replaced: chance(r, 200),
        swap: chance(r, 700),
        voter_after: after(r),
        nonvoter_after: after(r),
        replica_after: after(r),
        budget: [0, 1, 3][r.random_range(0..3)],
        window: between(r, ms(1000), ms(8000)),
        cool_down: [Duration::ZERO, between(r, ms(200), ms(2000))][r.random_range(0..2)],
    }
}

fn changes(seed: u64) -> ChangePolicy {
    let r = &mut stream(seed, "changes");
    let max = [0, 2, 30][r.random_range(0..3)];
    ChangePolicy { max, window: between(r, Duration::from_millis(1000), Duration::from_secs(8)) }
}

/// What a run of autopilot waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The time of the next look.
    Idle,
    /// The application's answers.
    Asking,
    /// The application, to take the new state, before the step is performed.
    Telling,
    /// The outcome of a change.
    Changing {
        /// The request.
        request: RequestId,
        /// Its step; `None` for a server that the application adds.
        step: Option<Step>,
    },
}

/// A run of autopilot on one server.
#[derive(Debug)]
pub struct Pilot {
    /// Names the run.
    pub number: u64,
    /// The incarnation of its server.
    pub epoch: u64,
    /// What it carries from round to round: the library's own.
    pub run: Run,
    /// The newest state; empty before the first look is over.
    pub state: State,
    /// The newest plan.
    pub plan: Plan,
    /// What it waits for.
    pub stage: Stage,
    /// How many looks were published.
    pub looks: u64,
    /// Until when the first look waits for answers, by its server's clock.
    pub first_deadline: Time,
    /// When the look under way began.
    pub look_began: Time,
    /// What was refused in the last round, so that a refusal is counted once.
    pub refused: BTreeSet<(ServerId, Action, &'static str)>,
    /// Whom it asked the engine to add last.
    pub admitting: Option<ServerId>,
    /// The orders that stand.
    pub hand: Hand,
    /// Whether the application was asked for the ledger of an earlier leader.
    pub took_over: bool,
    /// Whether what is known is to be stored at the end of this round.
    pub keep_due: bool,
    /// When that was done last, in true time.
    pub kept_at: Time,
    /// What the checkers know of this run.
    pub watch: Watch,
}

/// What one server hears in gossip. Forgotten when it stops.
#[derive(Clone, Debug, Default)]
pub struct Gossip {
    /// The incarnation that heard it.
    pub epoch: u64,
    /// When each was last heard of, directly or through others.
    pub heard: BTreeMap<usize, Time>,
    /// When each was first heard of.
    pub met: BTreeMap<usize, Time>,
    /// Who said that it leaves.
    pub left: BTreeSet<usize>,
    /// When each was last heard of directly.
    pub direct: BTreeMap<usize, Time>,
    /// In which of its lives each is, the newest that anybody heard of.
    pub lives: BTreeMap<usize, u64>,
}

/// A falsehood in the application of one server.
#[derive(Clone, Copy, Debug)]
pub struct Rumour {
    /// Until when.
    pub until: Time,
    /// What is said: a status, or that there is no such server.
    pub status: Option<NodeStatus>,
}

/// What the application of one server answers badly, and until when.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ills {
    /// It does not say which servers it knows.
    pub mute_until: Time,
    /// It knows nobody.
    pub blank_until: Time,
    /// It hears no gossip.
    pub deaf_until: Time,
    /// It says what it said at the second of these times.
    pub frozen: (Time, Time),
    /// It gives no configuration.
    pub no_config_until: Time,
    /// It measures nobody, or only some.
    pub blind_until: Time,
}

/// All machines and what runs on them beside Raft.
#[derive(Debug)]
pub struct Fleet {
    /// Where what happens to machines comes from.
    pub random: Random,
    /// The runs of autopilot by server.
    pub pilots: BTreeMap<usize, Pilot>,
    /// Gossip by the server that hears it.
    pub gossip: BTreeMap<usize, Gossip>,
    /// Falsehoods by who tells them and about whom.
    pub rumours: BTreeMap<(usize, usize), Rumour>,
    /// What applications answer badly.
    pub ills: BTreeMap<usize, Ills>,
    /// Servers that are about to leave, on purpose.
    pub leaving: BTreeSet<usize>,
    /// Servers that never come back.
    pub gone: BTreeSet<usize>,
    /// Members that a person took out: they stay out.
    pub kept_out: BTreeSet<usize>,
    /// The people around.
    pub people: People,
    /// Who lies when asked about others.
    pub lies: BTreeMap<usize, Lie>,
    /// How many of the members, in a thousand, are measured where measuring goes wrong.
    pub measured_by_chance: u32,
    /// The server about which the engine refuses every change, and until when.
    pub refused: Option<(ServerId, Time)>,
    /// Until when people have switched reconciliation off.
    pub switched_off_until: Time,
    /// A person changes members between the next decision and its step.
    pub rival_next: bool,
    /// The server that decides next stands still for this long before it acts.
    pub freeze_next: Option<Duration>,
    pub(crate) next_pilot: u64,
}

impl Fleet {
    /// Machines on which nothing runs yet.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            random: stream(seed, "fleet"),
            pilots: BTreeMap::new(),
            gossip: BTreeMap::new(),
            rumours: BTreeMap::new(),
            ills: BTreeMap::new(),
            leaving: BTreeSet::new(),
            gone: BTreeSet::new(),
            kept_out: BTreeSet::new(),
            people: People::new(seed),
            lies: BTreeMap::new(),
            measured_by_chance: 300,
            refused: None,
            switched_off_until: Time::ZERO,
            rival_next: false,
            freeze_next: None,
            next_pilot: 0,
        }
    }

    /// Ends everything that is wrong with applications, engines and people.
    pub fn heal(&mut self) {
        self.rumours.clear();
        self.ills.clear();
        self.lies.clear();
        self.people.waiting.clear();
        self.refused = None;
        self.switched_off_until = Time::ZERO;
        self.rival_next = false;
        self.freeze_next = None;
    }
}

/// Something that happens beside Raft.
#[derive(Clone, Debug)]
pub enum Flying {
    /// A server's supervisor looks whether it leads.
    Supervise {
        /// Which server.
        node: usize,
        /// Of which incarnation.
        epoch: u64,
    },
    /// A look begins.
    Look {
        /// On which server.
        node: usize,
        /// Of which run.
        pilot: u64,
        /// Whether it only looks, whatever is due.
        refresh: bool,
    },
    /// The answers are there.
    Decide {
        /// On which server.
        node: usize,
        /// Of which run.
        pilot: u64,
        /// What was asked for.
        asked: Box<Questions>,
    },
    /// The application has taken the state; the step is performed.
    Act {
        /// On which server.
        node: usize,
        /// Of which run.
        pilot: u64,
        /// The step.
        planned: Box<PlannedStep>,
    },
    /// A change takes too long.
    Deadline {
        /// On which server.
        node: usize,
        /// Of which run.
        pilot: u64,
        /// Which change.
        request: RequestId,
    },
    /// A server exchanges gossip.
    Gossip {
        /// Which.
        node: usize,
        /// Of which incarnation.
        epoch: u64,
    },
    /// Something happens to a machine, an application or a person.
    Fleet,
    /// A server goes down for a while.
    Down {
        /// Which.
        node: usize,
        /// For how long.
        lasts: Duration,
    },
    /// A server that wants to leave looks whether it may.
    Depart {
        /// Which.
        node: usize,
        /// When it stops waiting.
        patience: Time,
    },
    /// A new machine is started.
    Spawn,
    /// What a run knows is stored.
    Keep {
        /// On which server.
        node: usize,
        /// Of which run.
        pilot: u64,
    },
    /// Somebody gives an order or asks something.
    People,
    /// Orders that wait are given.
    Orders,
}

/// What a look asked and was answered, but for the measurements.
#[derive(Clone, Debug)]
pub struct Questions {
    /// When, by the server's clock.
    pub at: Time,
    /// What the round is for.
    pub mode: autopilot::Mode,
    /// What the engine showed.
    pub view: ClusterView,
    /// What the application gave as configuration.
    pub config: Option<Config>,
    /// Whom it knows.
    pub known: Result<Vec<KnownServer>, String>,
}

impl Flying {
    /// The server whose process must run for this to happen.
    #[must_use]
    pub const fn node(&self) -> Option<usize> {
        match self {
            Self::Supervise { node, .. }
            | Self::Look { node, .. }
            | Self::Decide { node, .. }
            | Self::Act { node, .. }
            | Self::Deadline { node, .. }
            | Self::Keep { node, .. }
            | Self::Gossip { node, .. } => Some(*node),
            Self::Fleet
            | Self::Down { .. }
            | Self::Depart { .. }
            | Self::Spawn
            | Self::People
            | Self::Orders => None,
        }
    }
}
