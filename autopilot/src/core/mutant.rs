//! Defects that a test plants in the rounds, each one condition in one line; what finds them is in `docs/testing.md`.
//!
//! Without the feature `__mutants`, which is for this project's simulator only, [`mutated`] is false whatever it is asked,
//! and the compiler removes every trace of this. With it a defect is there only within `with_mutant`, on the thread that
//! called it: a round has no state of its own that could carry it.
#![cfg_attr(not(feature = "__mutants"), allow(unreachable_pub, reason = "public with the feature only"))]

/// One defect, named after what autopilot does wrong; the comment names the item of the fault catalogue, or the defect of
/// the reference library (S, L), that it retells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mutant {
    /// A05: a server of which the application cannot tell counts as alive.
    UnknownIsAlive,
    /// A05, S4: a server of which the application cannot tell counts as dead.
    UnknownIsDead,
    /// Health: how long ago the leader heard from a server does not matter.
    ContactIgnored,
    /// Health: how far behind a log is does not matter.
    TrailingLogsIgnored,
    /// S3: a measurement has no age.
    OldStatsKept,
    /// S1: since when a server is stable never moves after the first sight.
    StableSinceSticks,
    /// A04: right after an election nobody has a probation, joiners neither.
    EverybodySparedAtFirst,
    /// A04: probation counts from the start of the run.
    ProbationFromStart,
    /// A04: there is no probation.
    NoProbation,
    /// A03: a server is removed on the first sample that shows it dead.
    NoGrace,
    /// A03: a server that the application does not know counts as gone on purpose.
    StaleIsLeft,
    /// A08: that a server still answers the leader is no reason to keep it.
    AnswersIgnored,
    /// A08: stale voters count against no limit.
    StaleVotersAreFree,
    /// S4: an application that knows nobody, or not the leader, is believed.
    BlindApplicationTrusted,
    /// A14: an application that did not answer is believed with its last answer.
    OldKnownServersTrusted,
    /// A12: members are removed although those who are healthy make no quorum.
    ActsWithoutQuorum,
    /// A02: what is left after a change need not be a quorum.
    QuorumAfterIgnored,
    /// A02: members without a vote count for the quorum.
    NonvotersCount,
    /// A02: the quorum is that of the healthy voters.
    QuorumOfTheHealthy,
    /// A01: `min_quorum` is not looked at.
    MinQuorumIgnored,
    /// S5: the leader is demoted.
    LeaderDemoted,
    /// S4: the leader is removed.
    LeaderRemoved,
    /// A06, A11: the reported tolerance counts dead voters.
    ToleranceCountsTheDead,
    /// A16, M02: the next step does not wait for the change before.
    ActsWhileChanging,
    /// A12, L7: a change does not say on which configuration it was decided.
    ConfigurationIndexIgnored,
    /// A10: a decision is carried out however old it is.
    OldDecisionsPerformed,
    /// A04: a run that stood still counts that time as watched.
    GapsIgnored,
    /// A13: a step that failed is tried again at once.
    CoolDownForgotten,
    /// Members change although reconciliation is off.
    SwitchIgnored,
    /// Dead servers are removed although `cleanup_dead_servers` is off.
    CleanupSwitchIgnored,
    /// Without a configuration the defaults act.
    ActsWithoutConfig,
    /// S5: leadership goes to whomever the promoter names.
    TransferToTheUnfit,
    /// Orders: a cordoned server gets a vote, or leadership.
    CordonIgnored,
    /// Orders: a drained server that would be fit gets its vote back, or leadership.
    DrainedVotesAgain,
    /// Orders: nothing is done about a drained server.
    DrainForgotten,
    /// Orders: a pause is not looked at.
    PauseIgnored,
    /// Orders: maintenance windows are not looked at.
    MaintenanceIgnored,
    /// Whoever asks may stop, whether the others are a quorum or not.
    StopWithoutQuorum,
    /// Two that ask whether they may stop are both let go.
    ReleasedForgotten,
    /// Limits: a flapping server gets its vote like any other.
    FlapsIgnored,
    /// Limits: the budget of removals is not looked at.
    BudgetIgnored,
    /// Limits: the next dead voter goes right after the one before.
    RemovalCoolDownIgnored,
    /// Limits: any number of steps within any time.
    RateIgnored,
    /// Limits: dead voters go before others vote in their place.
    FloorIgnored,
    /// Limits: `removal.only_when_replaced` is not looked at.
    ReplacementIgnored,
    /// Limits: who was ill itself a moment ago takes things away.
    SuspensionIgnored,
    /// Limits: a leader that stood still trusts what it sees.
    StandingStillIsNoDoubt,
    /// A15: a leader that was cut off trusts what it sees.
    CutOffIsNoDoubt,
    /// Ledger: the next leader knows of no orders.
    OrdersLost,
    /// Ledger: the next leader starts with whole budgets.
    LimitsLost,
    /// Ledger: the next leader takes in again who was taken out.
    TombstonesLost,
    /// Ledger: who turned unhealthy keeps the credit of an earlier leader.
    CreditKept,
    /// Witnesses: nobody is listened to.
    WitnessesIgnored,
    /// Witnesses: one is enough where more are asked for.
    OneWitnessEnough,
    /// Witnesses: those who hear from the server do not count.
    LivingWitnessesIgnored,
}

#[cfg_attr(not(feature = "__mutants"), allow(dead_code, reason = "for the simulator"))]
impl Mutant {
    /// All of them.
    pub const ALL: &[Self] = &[
        Self::UnknownIsAlive,
        Self::UnknownIsDead,
        Self::ContactIgnored,
        Self::TrailingLogsIgnored,
        Self::OldStatsKept,
        Self::StableSinceSticks,
        Self::EverybodySparedAtFirst,
        Self::ProbationFromStart,
        Self::NoProbation,
        Self::NoGrace,
        Self::StaleIsLeft,
        Self::AnswersIgnored,
        Self::StaleVotersAreFree,
        Self::BlindApplicationTrusted,
        Self::OldKnownServersTrusted,
        Self::ActsWithoutQuorum,
        Self::QuorumAfterIgnored,
        Self::NonvotersCount,
        Self::QuorumOfTheHealthy,
        Self::MinQuorumIgnored,
        Self::LeaderDemoted,
        Self::LeaderRemoved,
        Self::ToleranceCountsTheDead,
        Self::ActsWhileChanging,
        Self::ConfigurationIndexIgnored,
        Self::OldDecisionsPerformed,
        Self::GapsIgnored,
        Self::CoolDownForgotten,
        Self::SwitchIgnored,
        Self::CleanupSwitchIgnored,
        Self::ActsWithoutConfig,
        Self::TransferToTheUnfit,
        Self::CordonIgnored,
        Self::DrainedVotesAgain,
        Self::DrainForgotten,
        Self::PauseIgnored,
        Self::MaintenanceIgnored,
        Self::StopWithoutQuorum,
        Self::ReleasedForgotten,
        Self::FlapsIgnored,
        Self::BudgetIgnored,
        Self::RemovalCoolDownIgnored,
        Self::RateIgnored,
        Self::FloorIgnored,
        Self::ReplacementIgnored,
        Self::SuspensionIgnored,
        Self::StandingStillIsNoDoubt,
        Self::CutOffIsNoDoubt,
        Self::OrdersLost,
        Self::LimitsLost,
        Self::TombstonesLost,
        Self::CreditKept,
        Self::WitnessesIgnored,
        Self::OneWitnessEnough,
        Self::LivingWitnessesIgnored,
    ];

    /// Its name on the command line and in the documentation: `no-grace` for `NoGrace`.
    #[must_use]
    pub fn name(self) -> String {
        let mut name = String::new();
        for letter in format!("{self:?}").chars() {
            if letter.is_ascii_uppercase() && !name.is_empty() {
                name.push('-');
            }
            name.push(letter.to_ascii_lowercase());
        }
        name
    }
}

#[cfg(feature = "__mutants")]
thread_local! {
    static PLANTED: std::cell::Cell<Option<Mutant>> = const { std::cell::Cell::new(None) };
}

/// Runs `f` with this defect planted, on this thread.
#[cfg(feature = "__mutants")]
pub fn with_mutant<T>(mutant: Option<Mutant>, f: impl FnOnce() -> T) -> T {
    /// Takes the defect out again, also after a panic.
    struct Guard(Option<Mutant>);
    impl Drop for Guard {
        fn drop(&mut self) {
            PLANTED.set(self.0);
        }
    }
    let _guard = Guard(PLANTED.replace(mutant));
    f()
}

/// Whether this defect is planted.
#[cfg(feature = "__mutants")]
pub(super) fn mutated(mutant: Mutant) -> bool {
    PLANTED.get() == Some(mutant)
}

/// Whether this defect is planted: without the feature it never is.
#[cfg(not(feature = "__mutants"))]
pub(super) const fn mutated(mutant: Mutant) -> bool {
    let _ = mutant;
    false
}
