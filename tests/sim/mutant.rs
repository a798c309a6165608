//! Planted defects. A checker counts only once it has found one.
//!
//! Those named here break what the simulator promises to the core, in the way in which a real driver, disk or network layer
//! breaks it; [`Mutant::Core`] breaks a rule inside the core.

use std::sync::OnceLock;

/// One defect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mutant {
    /// The disk reports writes that are not durable yet; a crash loses them (catalogue R05, D01).
    DiskLies,
    /// A restart forgets whom the server voted for (E01).
    VoteForgotten,
    /// A restart forgets term and vote (E03, D12).
    TermForgotten,
    /// A restart loses the last entries of the log (D07).
    TailForgotten,
    /// A restart finds the log of the last snapshot and nothing after it (D12).
    OldDisk,
    /// A restart finds configurations as no-ops (D10, M4).
    ConfigurationForgotten,
    /// Answers of one peer are paired with the wrong requests (R08).
    AnswersMixedUp,
    /// A refused vote arrives as granted (E05).
    GrantForged,
    /// A refused append arrives as done (R04).
    AckForged,
    /// An entry's command changes on its way.
    EntryAltered,
    /// The state machine leaves an entry out.
    ApplySkips,
    /// The state machine applies an entry twice (D13).
    ApplyRepeats,
    /// An installed snapshot holds an older state than it says (P01).
    SnapshotStale,
    /// A snapshot names the newest configuration instead of the one at its last entry (M6).
    SnapshotConfigurationAhead,
    /// A client is told that its command was refused although it is in the log.
    RefusalLies,
    /// A client is told that its command is applied when it is only in the log.
    EarlyAnswer,
    /// A client relies on a lease without looking at the clock after it has read (L07).
    LeaseEndIgnored,
    /// Clocks run faster and slower than the configuration says (L06).
    ClocksRunAway,
    /// A restart finds joint configurations without the members that are being left, as a codec would that does not know
    /// of them (M03).
    OutgoingForgotten,
    /// A read that was confirmed is served from a snapshot that was installed meanwhile (D15).
    ReadsOutliveRestore,
    /// A snapshot from outside that came too late to be restored stays on the disk (D15).
    RestoreLeftLying,
    /// Somebody hands leadership over again and again (V5).
    Restless,
    /// A server that believes it leads answers reads from what it holds and asks nobody (L10).
    UnconfirmedReads,
    /// A confirmed read is served before its index is applied (L08, L13).
    EarlyReads,
    /// After the faults are over one server still hears nothing (V3).
    DeafForever,
    /// A server's timers stop after a restart (V1).
    TimersStop,
    /// The core itself breaks a rule.
    Core(raft::core::Mutant),
    /// Autopilot breaks a rule.
    Autopilot(autopilot::core::Mutant),
}

impl Mutant {
    /// Those around the core.
    pub const AROUND: [Self; 26] = [
        Self::DiskLies,
        Self::VoteForgotten,
        Self::TermForgotten,
        Self::TailForgotten,
        Self::OldDisk,
        Self::ConfigurationForgotten,
        Self::AnswersMixedUp,
        Self::GrantForged,
        Self::AckForged,
        Self::EntryAltered,
        Self::ApplySkips,
        Self::ApplyRepeats,
        Self::SnapshotStale,
        Self::SnapshotConfigurationAhead,
        Self::RefusalLies,
        Self::EarlyAnswer,
        Self::LeaseEndIgnored,
        Self::ClocksRunAway,
        Self::OutgoingForgotten,
        Self::ReadsOutliveRestore,
        Self::RestoreLeftLying,
        Self::Restless,
        Self::UnconfirmedReads,
        Self::EarlyReads,
        Self::DeafForever,
        Self::TimersStop,
    ];

    /// All of them.
    pub fn all() -> impl Iterator<Item = Self> {
        let core = raft::core::Mutant::ALL.iter().map(|mutant| Self::Core(*mutant));
        let autopilot = autopilot::core::Mutant::ALL.iter().map(|mutant| Self::Autopilot(*mutant));
        Self::AROUND.into_iter().chain(core).chain(autopilot)
    }

    /// Whether stories find it (`tests/scenarios/identity.rs`) and random runs need not: who takes whom for whom matters only
    /// beside a lost disk, an address that moved or a second cluster, and few servers are left behind by a restore.
    #[must_use]
    pub const fn is_told(self) -> bool {
        use raft::core::Mutant as Core;
        matches!(
            self,
            Self::Core(
                Core::IncarnationIgnored
                    | Core::WipedIsFounder
                    | Core::LossUnnoticed
                    | Core::SnapshotIdentityUnchecked
                    | Core::ActsOnOlderLife
                    | Core::EpochIgnored
                    | Core::RestoreReadUnproved
            )
        )
    }

    /// Whether the usual number of seeds may miss it, which is no failure then: servers are taken from a cluster only where the
    /// others can go on, and seldom while its application is blind; few restores come too late, or while confirmed reads wait. That those who hear from a server count is told in
    /// `tests/scenarios/orders.rs`.
    #[must_use]
    pub const fn is_rare(self) -> bool {
        use autopilot::core::Mutant as Autopilot;
        matches!(
            self,
            Self::ReadsOutliveRestore
                | Self::RestoreLeftLying
                | Self::Autopilot(
                    Autopilot::BlindApplicationTrusted
                        | Autopilot::StaleVotersAreFree
                        | Autopilot::LivingWitnessesIgnored
                )
        )
    }

    /// The defect with which directed scenarios are told, from the environment: `PLANT=votes-twice`. It shows that a scenario
    /// fails when what it retells happens again.
    ///
    /// # Panics
    /// If there is no defect of that name.
    #[must_use]
    pub fn planted() -> Option<Self> {
        static PLANTED: OnceLock<Option<Mutant>> = OnceLock::new();
        *PLANTED.get_or_init(|| {
            let name = std::env::var("PLANT").ok()?;
            Some(Self::named(&name).unwrap_or_else(|| panic!("there is no defect {name:?}")))
        })
    }

    /// The defect of a core, if it is one.
    #[must_use]
    pub const fn core(self) -> Option<raft::core::Mutant> {
        match self {
            Self::Core(mutant) => Some(mutant),
            _ => None,
        }
    }

    /// The defect of autopilot, if it is one.
    #[must_use]
    pub const fn autopilot(self) -> Option<autopilot::core::Mutant> {
        match self {
            Self::Autopilot(mutant) => Some(mutant),
            _ => None,
        }
    }

    /// Whether it changes what a restart finds, which only the model of a disk allows.
    #[must_use]
    pub const fn spoils_disk(self) -> bool {
        matches!(
            self,
            Self::VoteForgotten
                | Self::TermForgotten
                | Self::TailForgotten
                | Self::OldDisk
                | Self::ConfigurationForgotten
                | Self::OutgoingForgotten
        )
    }

    /// Its name on the command line and in the documentation.
    #[must_use]
    pub fn name(self) -> String {
        let name = match self {
            Self::Core(mutant) => return mutant.name(),
            Self::Autopilot(mutant) => return mutant.name(),
            Self::DiskLies => "disk-lies",
            Self::VoteForgotten => "vote-forgotten",
            Self::TermForgotten => "term-forgotten",
            Self::TailForgotten => "tail-forgotten",
            Self::OldDisk => "old-disk",
            Self::ConfigurationForgotten => "configuration-forgotten",
            Self::AnswersMixedUp => "answers-mixed-up",
            Self::GrantForged => "grant-forged",
            Self::AckForged => "ack-forged",
            Self::EntryAltered => "entry-altered",
            Self::ApplySkips => "apply-skips",
            Self::ApplyRepeats => "apply-repeats",
            Self::SnapshotStale => "snapshot-stale",
            Self::SnapshotConfigurationAhead => "snapshot-configuration-ahead",
            Self::RefusalLies => "refusal-lies",
            Self::EarlyAnswer => "early-answer",
            Self::LeaseEndIgnored => "lease-end-ignored",
            Self::ClocksRunAway => "clocks-run-away",
            Self::OutgoingForgotten => "outgoing-forgotten",
            Self::RestoreLeftLying => "restore-left-lying",
            Self::ReadsOutliveRestore => "reads-outlive-restore",
            Self::Restless => "restless",
            Self::UnconfirmedReads => "unconfirmed-reads",
            Self::EarlyReads => "early-reads",
            Self::DeafForever => "deaf-forever",
            Self::TimersStop => "timers-stop",
        };
        name.to_owned()
    }

    /// The defect of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::all().find(|mutant| mutant.name() == name)
    }
}
