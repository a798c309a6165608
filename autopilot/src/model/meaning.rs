//! What each reason code means: the one list that the documentation is made from.

use super::Reason;

impl Reason {
    /// Every code with its meaning, as a sentence without a full stop; the codes of health last. Stable: codes are
    /// added, never renamed.
    pub const MEANINGS: &[(&str, &str)] = &[
        ("policy", "the promoter wants it; its own words follow"),
        ("stale", "the server is in the configuration and unknown to the application"),
        ("failed", "the application knows the server and reports it as down or gone"),
        ("requested", "a person or the application asked for it"),
        ("healthy", "every health rule holds"),
        ("probation", "healthy, but not for `server_stabilization_time` without a break yet"),
        ("grace", "dead, but not for `server_stabilization_time` yet, and nobody asked for its removal"),
        ("next-round", "nothing speaks against it; members are changed in a later round"),
        ("one-step-at-a-time", "another step comes first"),
        ("cool-down", "the same step failed a moment ago and is not repeated at once"),
        ("not-wanted", "the promoter did not ask for it"),
        ("never-votes", "the promoter says that this server must never vote"),
        ("kept-by-policy", "the promoter wants the dead server to stay"),
        (
            "promoter-fault",
            "the promoter panicked, did not answer or asked for nonsense; that part of its answer is ignored",
        ),
        ("not-leader", "this server does not lead, or not in the term in which autopilot was started"),
        ("leader-not-ready", "the leader has not committed an entry of its own term yet"),
        ("change-in-progress", "an earlier change of members is not committed yet"),
        ("reconciliation-disabled", "changes by autopilot are switched off"),
        ("cleanup-disabled", "`cleanup_dead_servers` is off"),
        ("no-config", "the application gave no configuration, so nothing is changed"),
        ("unsupported", "the engine cannot do this"),
        ("is-leader", "it is the leader, which autopilot never demotes or removes"),
        ("is-staging", "the engine is catching it up on its own"),
        ("not-voter", "it does not vote, so it can neither lead nor lose its vote"),
        ("already-voter", "it votes already"),
        ("no-quorum", "fewer voters are healthy than make a quorum, so nothing can be committed"),
        ("quorum-after", "fewer healthy voters than make a quorum would be left"),
        ("min-quorum", "fewer voters than `min_quorum` would be left"),
        ("application-knows-nobody", "the application reports no servers at all, so nothing is removed"),
        ("application-misses-leader", "the application does not know the leader, so nothing is removed"),
        ("application-error", "the application did not say which servers it knows, so nothing is removed"),
        (
            "status-unknown",
            "the application cannot tell whether the server is alive; only the dead are removed",
        ),
        (
            "still-answers",
            "the application takes the server for dead, but it answers the leader, so it stays",
        ),
        ("overtaken", "the cluster is not any more what the step was proposed for"),
        ("not-dead", "the application does not report the server as down or gone, so it stays"),
        ("engine-refused", "the engine did not make the change"),
        ("cordoned", "somebody ordered that the server gets neither a vote nor leadership"),
        ("drained", "somebody ordered that the server gives its vote and leadership away"),
        (
            "maintenance",
            "somebody works on the server or the cluster in a maintenance window, so it is left alone",
        ),
        ("paused", "somebody paused autopilot; it goes on by itself"),
        ("rate-limit", "`changes.max` steps were taken within `changes.window`"),
        (
            "removal-budget",
            "`removal.budget` dead servers lost their vote or membership within `removal.window`, for whatever cause",
        ),
        ("removal-cool-down", "a dead voter was taken out less than `removal.cool_down` ago"),
        (
            "floor",
            "fewer voters would be left than the largest number that was seen stable; it goes once another server votes in its place",
        ),
        ("not-replaced", "`removal.only_when_replaced` is on and nobody votes in its place yet"),
        ("replaces", "it takes the vote of another server, in one step"),
        (
            "suspended",
            "the leader was paused, its clock jumped, or it was cut off from most servers a moment ago, so nothing is taken away",
        ),
        ("joining", "it has never been healthy yet and makes progress, so it is not removed"),
        (
            "not-corroborated",
            "fewer than `health.witnesses` other servers call it dead, or more of them hear from it",
        ),
        ("flapping", "it turned unhealthy `health.flap_limit` times lately, the older ones counting less"),
        ("ledger-taken", "an earlier leader left its health history, and this one goes on from there"),
        (
            "ledger-refused",
            "the health history of an earlier leader is foreign, corrupt or too old, so this one starts without it",
        ),
        (
            "orders-unread",
            "the application did not yet say what an earlier leader left, and an order in it may forbid the step, so nothing is changed",
        ),
        ("no-successor", "no other voter is fit to lead, so leadership stays"),
        ("no-state", "nothing is known about the cluster now"),
        ("not-member", "it is no member, so nothing depends on it"),
        ("draining", "it still votes or leads; its vote and leadership are being given away"),
        ("drain-done", "a drained server has neither vote nor leadership any more and may be stopped"),
        ("no-leader", "there is no leader's log to compare with, so nobody is called healthy"),
        ("not-alive", "the application does not report the server as alive"),
        ("no-stats", "nothing was measured for three rounds, or ever"),
        ("no-contact", "the leader has never heard from the server"),
        ("last-contact", "the leader has not heard from the server for `last_contact_threshold`"),
        ("last-term", "the last entry of its log is from another term than the leader's last entry"),
        ("trailing-logs", "its log is more than `max_trailing_logs` entries behind the leader's"),
        (
            "recent-misses",
            "this measurement is good, but `health.bad_samples` of the last `health.samples` were not",
        ),
    ];

    /// Every code, those of [`HealthReason`](super::HealthReason) last.
    pub const CODES: &[&str] = &Self::codes();

    /// What a code means.
    #[must_use]
    pub fn meaning(&self) -> &'static str {
        let code = self.code();
        Self::MEANINGS.iter().find(|(name, _)| *name == code).map_or("", |(_, meaning)| meaning)
    }

    const fn codes() -> [&'static str; Self::MEANINGS.len()] {
        let mut codes = [""; Self::MEANINGS.len()];
        let mut at = 0;
        while at < codes.len() {
            codes[at] = Self::MEANINGS[at].0;
            at += 1;
        }
        codes
    }
}
