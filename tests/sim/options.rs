//! What a seed decides before anything happens.

use std::time::Duration;

use rand::RngExt;

use crate::mutant::Mutant;
use crate::pilot::Flight;
use crate::random::{between, chance, stream};

/// The shape of one run.
#[derive(Clone, Debug)]
pub struct Options {
    /// Decides everything random.
    pub seed: u64,
    /// Events before the faults stop.
    pub events: u64,
    /// Servers in the first configuration.
    pub voters: usize,
    /// Servers that may join later.
    pub spares: usize,
    /// Whether every voter is bootstrapped, or only the first.
    pub bootstrap_all: bool,
    /// Every server's tunables.
    pub config: raft::Config,
    /// Lost messages in a thousand.
    pub loss: u32,
    /// Doubled messages in a thousand.
    pub duplicates: u32,
    /// Messages in a thousand that take up to a second.
    pub late: u32,
    /// How long a message takes at least and, unless late, at most.
    pub delay: (Duration, Duration),
    /// When a sender gives up waiting for an answer.
    pub request_timeout: Duration,
    /// How long a write takes.
    pub disk: (Duration, Duration),
    /// How long applying a batch takes at most.
    pub apply: Duration,
    /// Entries between snapshots.
    pub snapshot_every: u64,
    /// Mean time between requests of clients; zero for no clients.
    pub client_every: Duration,
    /// Mean time between faults; zero for none.
    pub fault_every: Duration,
    /// Mean time between the operator's backups and restores; zero for none.
    pub restore_every: Duration,
    /// Whether clients change members and hand leadership over.
    pub changes: bool,
    /// How far clocks may run fast or slow, in parts per million.
    pub drift: i64,
    /// Whether the cluster is watched for a long time after it has settled.
    pub aftermath: bool,
    /// Whether the real stores run on a simulated file system, or a model stands for them.
    pub files: bool,
    /// The size of the log's segments.
    pub segment_bytes: u64,
    /// How autopilot is set up, where it flies.
    pub autopilot: Option<Flight>,
    /// Faults that do not happen, by their number; where there is a list, each fault draws its own numbers.
    pub skip: Option<std::collections::BTreeSet<u64>>,
    /// The only checker whose findings count; all of them when `None`.
    pub only: Option<&'static str>,
    /// The planted defect.
    pub mutant: Option<Mutant>,
    /// Whether to print every event.
    pub trace: bool,
}

impl Options {
    /// What the swarm runs under this seed.
    #[must_use]
    pub fn from_seed(seed: u64, events: u64) -> Self {
        let mut random = stream(seed, "options");
        let r = &mut random;
        let ms = Duration::from_millis;
        let mut config = Self::calm(1, 0).config;
        config.pre_vote = !chance(r, 250);
        config.heartbeat_interval = [ms(50), ms(50), ms(130)][stream(seed, "heartbeats").random_range(0..3)];
        config.append_entries_max = [1, 2, 8, 64][r.random_range(0..4)];
        config.append_bytes_max = [100, 1_000, 1 << 20][r.random_range(0..3)];
        config.inflight_max = [1, 2, 4, 16][r.random_range(0..4)];
        config.trailing_logs = [0, 1, 5, 50][r.random_range(0..4)];
        config.uncommitted_bytes_max = [2_000, 20_000, 1 << 20][r.random_range(0..3)];
        config.lease_reads = chance(&mut stream(seed, "leases"), 500);
        let slow = chance(r, 300);
        Self {
            seed,
            events,
            voters: [1, 2, 3, 3, 3, 4, 5, 5][r.random_range(0..8)],
            spares: r.random_range(0..=3),
            bootstrap_all: chance(r, 500),
            config,
            loss: [0, 5, 30, 100][r.random_range(0..4)],
            duplicates: [0, 10, 100][r.random_range(0..3)],
            late: [0, 5, 30][r.random_range(0..3)],
            delay: (Duration::from_micros(100), between(r, ms(1), if slow { ms(60) } else { ms(10) })),
            request_timeout: between(r, ms(100), ms(1000)),
            disk: (Duration::from_micros(20), between(r, ms(1), if slow { ms(80) } else { ms(8) })),
            apply: between(r, ms(0), ms(10)),
            snapshot_every: [5, 20, 60, 200][r.random_range(0..4)],
            client_every: between(r, ms(1), ms(30)),
            fault_every: between(r, ms(50), ms(1500)),
            restore_every: {
                let r = &mut stream(seed, "restores");
                if chance(r, 250) { between(r, ms(200), ms(4000)) } else { Duration::ZERO }
            },
            changes: chance(r, 700),
            drift: [0, 0, 2_000, 20_000][r.random_range(0..4)],
            aftermath: chance(&mut stream(seed, "aftermath"), 100),
            files: true,
            segment_bytes: [200, 2_000, 20_000, 1 << 20][r.random_range(0..4)],
            autopilot: None,
            skip: None,
            only: None,
            mutant: None,
            trace: false,
        }
        .with_limits()
    }

    /// Tight limits, and clocks that run as fast and as slow as leases allow.
    fn with_limits(mut self) -> Self {
        let r = &mut stream(self.seed, "limits");
        let config = &mut self.config;
        config.inflight_bytes_max = [1, 500, 16 << 20][r.random_range(0..3)];
        config.clock_drift_permille = [20, 50, 200][r.random_range(0..3)];
        if config.lease_reads && self.drift == 20_000 {
            self.drift = i64::from(config.clock_drift_permille) * 1000;
        }
        // Room for what snapshots leave in memory, and not much more.
        let room = (usize::try_from(self.snapshot_every + config.trailing_logs).unwrap_or(0) + 5) * 1200;
        config.log_bytes_max = [room, 512 << 20][r.random_range(0..2)];
        self
    }

    /// What the swarm runs under this seed with autopilot. Clients and faults are rarer, so that more time passes, and
    /// members are changed by autopilot and by people, not at random.
    #[must_use]
    pub fn flown(seed: u64, events: u64) -> Self {
        let base = Self::from_seed(seed, events);
        let mut random = stream(seed, "flown");
        let r = &mut random;
        let ms = Duration::from_millis;
        Self {
            voters: [1, 2, 3, 3, 3, 4, 5, 5][r.random_range(0..8)],
            spares: r.random_range(0..=2),
            events: events * 3,
            client_every: between(r, ms(20), ms(150)),
            fault_every: between(r, ms(800), ms(8000)),
            changes: false,
            restore_every: Duration::ZERO,
            // Damage at rest needs somebody who looks after it, which is not what this is about.
            files: false,
            autopilot: Some(Flight::from_seed(seed, base.config.heartbeat_interval, base.delay.1)),
            ..base
        }
    }

    /// What the swarm runs under this seed to find this defect. One of the core or of autopilot has nothing to do with files,
    /// and the model of a disk is faster.
    #[must_use]
    pub fn for_mutant(mutant: Mutant, seed: u64, events: u64) -> Self {
        match mutant.autopilot() {
            Some(_) => Self::flown(seed, events),
            None => Self { files: mutant.core().is_none(), ..Self::from_seed(seed, events) },
        }
    }

    /// A calm cluster for directed scenarios: every message takes 1 ms, every write 100 µs; no faults, no clients. With the
    /// defect that [`Mutant::planted`] names, if it names one.
    #[must_use]
    pub fn calm(voters: usize, spares: usize) -> Self {
        let ms = Duration::from_millis(1);
        let write = Duration::from_micros(100);
        let mutant = Mutant::planted();
        Self {
            seed: 1,
            events: u64::MAX,
            voters,
            spares,
            bootstrap_all: true,
            config: raft::Config::default(),
            loss: 0,
            duplicates: 0,
            late: 0,
            delay: (ms, ms),
            request_timeout: Duration::from_millis(200),
            disk: (write, write),
            apply: Duration::ZERO,
            snapshot_every: u64::MAX,
            client_every: Duration::ZERO,
            fault_every: Duration::ZERO,
            changes: false,
            restore_every: Duration::ZERO,
            drift: 0,
            aftermath: false,
            files: !mutant.is_some_and(Mutant::spoils_disk),
            segment_bytes: 4096,
            autopilot: None,
            skip: None,
            only: None,
            mutant,
            trace: false,
        }
    }
}
