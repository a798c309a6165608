//! A story counts only if it fails when what it retells happens again: each of these is told with the planted defects that
//! it is about, and must fail with each of them. One is told so by hand with
//! `PLANT=commits-old-terms cargo test -p simulation --test scenarios r01`.

use std::process::Command;

use simulation::mutant::Mutant;

/// Stories, and the defects that each of them finds.
const FOUND: &[(&str, &[&str])] = &[
    ("autopilot::a01_servers_that_die_one_after_the_other_leave_min_quorum_voters", &["min-quorum-ignored"]),
    ("autopilot::a03_a_slow_rolling_reboot_ends_with_everybody_voting", &["no-grace"]),
    (
        "autopilot::a04_a_new_leader_watches_a_joiner_for_the_whole_time",
        &["everybody-spared-at-first", "no-probation"],
    ),
    (
        "autopilot::a05_what_the_application_does_not_know_changes_nothing",
        &["unknown-is-alive", "unknown-is-dead"],
    ),
    (
        "autopilot::a06_replacements_that_come_faster_than_the_dead_go_end_well",
        &["tolerance-counts-the-dead"],
    ),
    ("autopilot::a08_a_blind_application_costs_no_live_server_its_place", &["answers-ignored"]),
    ("autopilot::a11_ghosts_are_told_of_where_nobody_cleans_up", &["cleanup-switch-ignored"]),
    (
        "autopilot::a12_a_decision_on_another_configuration_is_refused",
        &["configuration-index-ignored", "expected-ignored"],
    ),
    (
        "autopilot::a13_a_step_that_always_fails_is_tried_seldom_and_stops_nobody_else",
        &["cool-down-forgotten"],
    ),
    ("autopilot::a_pause_or_a_clock_that_jumps_is_no_probation", &["gaps-ignored"]),
    ("autopilot::the_leader_that_a_demotion_names_keeps_its_vote", &["leader-demoted"]),
    (
        "completions::r10_a_follower_acknowledges_what_its_disk_holds_in_whatever_order_its_writes_are_reported",
        &["old-completion-counts", "truncation-not-written"],
    ),
    (
        "elections::e02_e03_a_vote_survives_a_restart",
        &[
            "answers-before-durable",
            "asks-before-durable",
            "own-vote-not-recorded",
            "term-forgotten",
            "vote-forgotten",
            "vote-not-written",
            "votes-before-durable",
        ],
    ),
    ("elections::e13_a_removed_server_disturbs_nobody", &["pre-vote-moves-term"]),
    (
        "elections::e18_a_late_timeout_now_is_ignored",
        &["anybodys-timeout-now-obeyed", "old-timeout-now-obeyed"],
    ),
    (
        "elections::l02_a_transfer_to_a_server_that_does_not_catch_up_fails_and_writes_go_on",
        &["transfer-never-ends"],
    ),
    (
        "elections::l10_a_leader_alone_serves_no_read",
        &["check-quorum-one-short", "no-check-quorum", "reads-unconfirmed", "unconfirmed-reads"],
    ),
    (
        "follower_reads::l09_l13_a_read_that_comes_while_a_request_is_on_its_way_has_one_of_its_own",
        &["follower-read-joins-old-request", "old-answers-confirm-reads"],
    ),
    (
        "follower_reads::l09_l13_an_answer_to_an_earlier_request_confirms_no_later_read",
        &["old-read-index-accepted"],
    ),
    ("follower_reads::l13_a_crash_of_the_leader_or_the_asker_ends_every_read", &["follower-reads-forgotten"]),
    ("follower_reads::l13_a_read_whose_index_does_not_arrive_ends_in_time", &["read-at-own-commit"]),
    ("follower_reads::l13_a_session_that_goes_from_server_to_server_never_reads_backwards", &["early-reads"]),
    (
        "joint::a_quorum_of_one_side_commits_nothing",
        &[
            "joint-commits-by-new-only",
            "joint-commits-by-old-only",
            "joint-elected-by-new-only",
            "joint-elected-by-old-only",
            "joint-quorum-of-new-only",
            "joint-reads-by-new-only",
        ],
    ),
    ("joint::a_transfer_to_a_server_that_loses_its_vote_fails", &["joint-transfer-kept"]),
    (
        "joint::m03_nothing_else_changes_while_joint",
        &["joint-change-answered-early", "joint-left-twice", "joint-never-left", "outgoing-forgotten"],
    ),
    (
        "joint::m04_a_joint_configuration_is_not_left_when_only_what_is_before_it_is_committed",
        &["joint-left-uncommitted"],
    ),
    ("leases::a_lease_asks_nobody_and_runs_out", &["lease-one-short"]),
    (
        "leases::l01_nothing_is_appended_while_leadership_moves",
        &["transfers-too-early", "writes-during-transfer"],
    ),
    ("leases::l02_leadership_goes_to_no_learner", &["transfers-to-anybody"]),
    ("leases::l03_l04_a_lease_ends_where_a_transfer_begins", &["lease-outlives-transfer"]),
    ("leases::l05_a_late_answer_makes_no_lease", &["contact-when-answered"]),
    ("leases::l06_clocks_may_run_as_unevenly_as_configured", &["lease-too-long"]),
    ("leases::l07_a_pause_outlives_the_lease", &["lease-end-ignored"]),
    (
        "leases::l08_a_fresh_leader_has_no_lease_before_an_entry_of_its_term_is_committed",
        &["lease-before-ready"],
    ),
    (
        "leases::l08_a_read_at_a_fresh_leader_waits_for_an_entry_of_its_term",
        &["read-index-too-old", "reads-before-ready"],
    ),
    ("leases::l09_answers_to_an_earlier_round_confirm_no_later_read", &["read-joins-old-round"]),
    (
        "leases::l11_the_lease_of_an_earlier_term_of_its_own_is_over",
        &["contact-when-answered", "live-leader-deposed"],
    ),
    ("membership::m01_no_change_before_an_entry_of_the_own_term_is_committed", &["changes-before-ready"]),
    ("membership::m01_two_leaders_cannot_take_each_others_majority_away", &["changes-before-ready"]),
    ("membership::m02_a_second_change_waits_for_the_first", &["two-changes-in-flight"]),
    ("membership::m08_a_leader_removes_itself_and_steps_down", &["leads-without-vote"]),
    ("membership::m08_a_leader_that_crashes_over_its_own_removal_leads_again", &["undecided-removal-bars"]),
    ("membership::m11_learners_never_count", &["nonvoters-commit"]),
    (
        "membership::m18_when_the_newest_configuration_is_truncated_the_one_before_is_in_force",
        &["configuration-survives-truncation"],
    ),
    ("readiness::l12_what_a_deposed_leader_still_decides_changes_no_member", &["acts-without-quorum"]),
    (
        "replication::r01_an_entry_of_an_older_term_is_not_committed_by_counting",
        &["commits-old-terms", "prev-term-unchecked"],
    ),
    ("replication::r02_an_older_request_removes_nothing_that_was_acknowledged", &["truncates-what-matches"]),
    ("replication::r06_a_leader_counts_itself_only_for_what_is_on_its_disk", &["counts-itself-unsynced"]),
    ("replication::r13_a_deposed_leaders_own_entry_at_the_tail_is_found_and_replaced", &["conflict-kept"]),
    (
        "replication::r13_a_request_that_ends_before_the_conflict_commits_nothing_of_the_conflict",
        &["commits-unmatched"],
    ),
    ("replication::r15_an_idle_cluster_heals_a_follower_that_is_behind", &["commit-told-once"]),
    (
        "resizing::m05_a_cluster_grows_to_eight_and_shrinks_to_one_each_time_without_its_leader",
        &["change-answered-early"],
    ),
    (
        "restarts::d13_a_restart_at_any_moment_applies_everything_once",
        &["apply-repeats", "snapshot-drops-suffix"],
    ),
    (
        "snapshots::m09_a_member_that_never_answers_can_be_removed_in_the_middle_of_a_snapshot",
        &["removed-followed"],
    ),
    ("snapshots::p01_a_snapshot_replaces_a_history_that_did_not_happen", &["snapshot-stale"]),
    ("snapshots::p01_a_snapshot_that_ends_within_another_history_replaces_all_of_it", &["rule7-missing"]),
    (
        "snapshots::p04_p05_an_uncommitted_configuration_does_not_survive_the_snapshot_that_replaced_it",
        &["configuration-survives-snapshot"],
    ),
    (
        "snapshots::p05_a_snapshot_names_the_configuration_at_its_last_entry",
        &["snapshot-configuration-ahead"],
    ),
    (
        "snapshots::p08_p09_a_leader_without_a_log_serves_a_fresh_member_once",
        &["compacts-beyond-snapshot", "snapshot-never-sent", "snapshot-sent-again"],
    ),
    ("snapshots::p12_an_older_snapshot_changes_nothing", &["older-snapshot-installed"]),
    (
        "snapshots::r03_a_request_that_reaches_from_before_the_snapshot_to_beyond_it_is_taken",
        &["compacted-is-conflict"],
    ),
    (
        "snapshots::r03_p14_a_request_that_begins_before_the_snapshot_is_no_conflict",
        &["compacted-is-appended"],
    ),
    ("streams::d04_a_leader_whose_disk_fails_is_silent_and_another_leads", &["storage-failure-ignored"]),
    ("streams::m10_learners_are_served_while_voters_change", &["new-member-forgotten"]),
    (
        "streams::r05_neither_an_append_nor_a_heartbeat_moves_the_match_before_the_sync",
        &["acks-before-durable", "disk-lies", "heartbeat-matches"],
    ),
    ("streams::r08_answers_of_an_earlier_life_prove_nothing", &["answers-mixed-up"]),
    ("streams::r09_a_refusal_that_names_less_than_matches_takes_nothing_back", &["refusal-rewinds-match"]),
    (
        "streams::r11_a_whole_window_of_lost_requests_is_made_good_without_a_new_command",
        &["paused-forever", "window-leaks"],
    ),
    ("streams::r16_what_was_acknowledged_survives_any_number_of_leaders", &["no-entry-of-own-term"]),
    (
        "streams::r18_what_waited_to_be_acknowledged_in_an_older_term_is_not_in_the_newer_one",
        &["old-answers-survive"],
    ),
    (
        "streams::r19_everybody_who_waits_at_a_deposed_leader_is_told_once",
        &["change-forgotten", "proposals-forgotten", "reads-forgotten", "transfer-forgotten"],
    ),
    ("streams::r20_what_is_not_committed_is_bounded", &["uncommitted-never-freed", "uncommitted-unlimited"]),
    (
        "votes::e01_a_vote_outlives_meeting_the_leader_and_a_candidate_keeps_its_own",
        &["vote-forgotten-on-step-down", "votes-twice"],
    ),
    (
        "votes::e04_requests_of_an_older_term_change_nothing",
        &["old-candidate-granted", "old-leader-obeyed", "vote-keeps-old-term"],
    ),
    (
        "votes::e05_a_vote_that_comes_many_times_counts_once",
        &["elected-one-short", "grant-forged", "refusals-count"],
    ),
    ("votes::e06_a_granted_pre_vote_is_no_vote", &["pre-votes-count-as-votes"]),
    ("votes::e06_a_pre_vote_granted_in_one_round_does_not_count_in_the_next", &["old-votes-count"]),
    (
        "votes::e10_logs_are_compared_by_term_and_then_by_length",
        &["longer-log-wins", "newer-term-wins", "pre-vote-ignores-log", "vote-ignores-log"],
    ),
    ("votes::e11_e12_a_voter_that_nobody_else_knows_can_be_elected", &["only-known-voters-granted"]),
    ("votes::e16_a_server_that_is_no_voter_never_campaigns", &["nonvoter-campaigns"]),
];

/// Whether a story fails when it is told with a defect, in a process of its own.
fn spoils(defect: &str, story: &str) -> bool {
    let this = std::env::current_exe().expect("the path of this test");
    let told = Command::new(this).args(["--exact", story]).env("PLANT", defect).output().expect("it runs");
    let said = String::from_utf8_lossy(&told.stdout);
    assert!(said.contains("running 1 test\n"), "there is no story {story}");
    said.contains(&format!("test {story} ... FAILED"))
}

#[test]
fn every_defect_spoils_the_story_that_retells_it() {
    let mut missed = Vec::new();
    for (story, defects) in FOUND {
        for defect in *defects {
            assert!(Mutant::named(defect).is_some(), "there is no defect {defect}");
            if !spoils(defect, story) {
                missed.push(format!("{story} does not find {defect}"));
            }
        }
    }
    assert!(missed.is_empty(), "{}", missed.join("\n"));
}
