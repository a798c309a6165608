//! Histories made by hand: what is wrong by the name of its anomaly, and what only looks wrong.

use super::*;

#[test]
fn stale_read() {
    let history =
        [did(1, Put(1), 0..=1, Done), did(1, Put(2), 2..=3, Done), did(2, Get, 4..=5, Found(Some(1)))];
    let violation = refused(&history);
    assert_eq!((violation.key, violation.explained, violation.value), (0, 2, Some(2)));
    assert_eq!(violation.stuck, [history[2].clone()]);
    let sentence = violation.to_string();
    assert!(sentence.contains("4..5 client 2 key 0 get: 1"), "{sentence}");
}

#[test]
fn stale_read_of_an_absent_key() {
    refused(&[did(1, Put(1), 0..=1, Done), did(2, Get, 2..=3, Found(None))]);
}

#[test]
fn lost_update() {
    // Both read 1 and wrote on top of it; the first update is gone without anybody having overwritten it knowingly.
    refused(&[
        did(1, Put(1), 0..=1, Done),
        did(1, CompareAndSet(Some(1), 2), 2..=6, Held(true)),
        did(2, CompareAndSet(Some(1), 3), 3..=7, Held(true)),
        did(3, Get, 8..=9, Found(Some(3))),
    ]);
}

#[test]
fn acknowledged_write_lost() {
    refused(&[
        did(1, Put(1), 0..=1, Done),
        did(2, Put(2), 2..=3, Done),
        did(3, Get, 4..=5, Found(Some(1))),
        did(3, Get, 6..=7, Found(Some(1))),
    ]);
}

#[test]
fn two_successful_cas_on_one_value() {
    refused(&[
        did(1, Put(1), 0..=1, Done),
        did(1, CompareAndSet(Some(1), 2), 2..=10, Held(true)),
        did(2, CompareAndSet(Some(1), 3), 2..=10, Held(true)),
    ]);
    refused(&[
        did(1, CompareAndSet(None, 2), 2..=10, Held(true)),
        did(2, CompareAndSet(None, 3), 2..=10, Held(true)),
    ]);
}

#[test]
fn cas_that_fails_although_the_value_is_there() {
    refused(&[did(1, Put(1), 0..=1, Done), did(2, CompareAndSet(Some(1), 2), 2..=3, Held(false))]);
}

#[test]
fn dirty_read_of_a_refused_write() {
    refused(&[op(1, Put(1), 0, End::Refused), did(2, Get, 1..=2, Found(Some(1)))]);
    refused(&[
        did(1, Put(1), 0..=1, Done),
        did(1, CompareAndSet(Some(7), 2), 2..=3, Held(false)),
        did(2, Get, 4..=5, Found(Some(2))),
    ]);
}

#[test]
fn read_of_a_value_nobody_wrote() {
    refused(&[did(1, Put(1), 0..=1, Done), did(2, Get, 0..=2, Found(Some(7)))]);
}

#[test]
fn read_from_the_future() {
    refused(&[did(2, Get, 0..=1, Found(Some(1))), did(1, Put(1), 2..=3, Done)]);
    refused(&[did(2, Get, 0..=1, Found(Some(1))), op(1, Put(1), 2, End::Unknown)]);
}

#[test]
fn non_monotonic_reads_of_one_client() {
    refused(&[
        did(1, Put(1), 0..=1, Done),
        did(1, Put(2), 2..=10, Done),
        did(2, Get, 3..=4, Found(Some(2))),
        did(2, Get, 5..=6, Found(Some(1))),
    ]);
}

#[test]
fn reads_of_two_clients_that_disagree_about_the_order() {
    refused(&[
        did(1, Put(1), 0..=9, Done),
        did(2, Put(2), 0..=9, Done),
        did(3, Get, 10..=11, Found(Some(1))),
        did(4, Get, 12..=13, Found(Some(2))),
    ]);
}

#[test]
fn own_write_not_read() {
    refused(&[did(1, Put(1), 0..=1, Done), did(1, Put(2), 2..=3, Done), did(1, Get, 4..=5, Found(Some(1)))]);
}

#[test]
fn value_resurrected_after_a_deletion() {
    refused(&[
        did(1, Put(1), 0..=1, Done),
        did(1, Delete, 2..=3, Done),
        did(2, Get, 4..=5, Found(None)),
        did(2, Get, 6..=7, Found(Some(1))),
    ]);
}

#[test]
fn unknown_write_applied_twice() {
    refused(&[
        op(1, Put(1), 0, End::Unknown),
        did(2, Get, 1..=2, Found(Some(1))),
        did(2, Put(2), 3..=4, Done),
        did(2, Get, 5..=6, Found(Some(1))),
        did(2, Get, 7..=8, Found(Some(1))),
        did(3, Put(3), 9..=10, Done),
        did(2, Get, 11..=12, Found(Some(1))),
    ]);
    refused(&[
        op(1, CompareAndSet(None, 1), 0, End::Unknown),
        did(2, Get, 1..=2, Found(Some(1))),
        did(2, Delete, 3..=4, Done),
        did(2, Get, 5..=6, Found(Some(1))),
    ]);
}

#[test]
fn unknown_write_seen_and_then_not() {
    refused(&[
        did(1, Put(1), 0..=1, Done),
        op(2, Put(2), 2, End::Unknown),
        did(3, Get, 3..=4, Found(Some(2))),
        did(3, Get, 5..=6, Found(Some(1))),
    ]);
}

#[test]
fn split_brain() {
    // A deposed leader acknowledges to its client what the others never see.
    refused(&[
        did(1, Put(1), 0..=1, Done),
        did(1, Get, 2..=3, Found(Some(1))),
        did(2, Put(2), 4..=5, Done),
        did(1, Put(3), 6..=7, Done),
        did(2, Get, 8..=9, Found(Some(2))),
    ]);
}

#[test]
fn answers_that_an_action_cannot_have() {
    refused(&[did(1, Put(1), 0..=1, Held(true))]);
    refused(&[did(1, Get, 0..=1, Done)]);
    refused(&[op(1, Put(1), 5, End::Answered(4, Done))]);
}

#[test]
fn only_the_wrong_key_is_named() {
    let mut history = vec![did(1, Put(1), 0..=1, Done), did(1, Get, 2..=3, Found(Some(1)))];
    history.push(Operation { key: 9, ..did(1, Get, 4..=5, Found(Some(1))) });
    assert_eq!(refused(&history).key, 9);
}

#[test]
fn an_empty_history_and_one_without_answers_are_right() {
    accepted(&[]);
    accepted(&[op(1, Put(1), 0, End::Unknown), op(1, Get, 1, End::Unknown), op(2, Put(2), 3, End::Refused)]);
}

#[test]
fn concurrent_writes_may_come_in_either_order() {
    for last in [1, 2] {
        accepted(&[
            did(1, Put(1), 0..=9, Done),
            did(2, Put(2), 0..=9, Done),
            did(3, Get, 10..=11, Found(Some(last))),
        ]);
    }
}

#[test]
fn a_write_of_what_is_there_already_may_still_change_something_later() {
    accepted(&[did(1, Delete, 0..=9, Done), did(2, Put(1), 0..=9, Done), did(3, Get, 10..=11, Found(None))]);
    accepted(&[
        did(1, Put(1), 0..=1, Done),
        did(1, Put(1), 2..=9, Done),
        did(2, Put(2), 2..=9, Done),
        did(3, Get, 10..=11, Found(Some(1))),
    ]);
}

#[test]
fn a_read_may_see_a_write_that_has_not_ended() {
    accepted(&[did(1, Put(1), 0..=9, Done), did(2, Get, 1..=2, Found(Some(1)))]);
    accepted(&[
        did(1, Put(1), 0..=9, Done),
        did(2, Get, 1..=2, Found(None)),
        did(3, Get, 3..=4, Found(Some(1))),
    ]);
}

#[test]
fn a_read_that_began_early_may_see_the_old_value_late() {
    accepted(&[
        did(1, Put(1), 0..=1, Done),
        did(2, Get, 2..=20, Found(Some(1))),
        did(1, Put(2), 3..=4, Done),
        did(3, Get, 5..=6, Found(Some(2))),
    ]);
}

#[test]
fn what_ends_when_another_begins_is_concurrent() {
    accepted(&[did(1, Put(1), 0..=5, Done), did(2, Get, 5..=6, Found(None))]);
}

#[test]
fn an_unknown_write_may_take_effect_much_later_or_never() {
    let unknown = op(1, Put(1), 0, End::Unknown);
    let second = did(2, Put(2), 10..=11, Done);
    accepted(&[unknown.clone(), second.clone(), did(2, Get, 12..=13, Found(Some(2)))]);
    accepted(&[unknown, second, did(2, Get, 12..=13, Found(Some(2))), did(2, Get, 14..=15, Found(Some(1)))]);
}

#[test]
fn an_unknown_write_nobody_read_can_explain_a_failed_cas() {
    let failed = did(2, CompareAndSet(Some(1), 3), 4..=5, Held(false));
    accepted(&[did(1, Put(1), 0..=1, Done), op(1, Put(2), 2, End::Unknown), failed.clone()]);
    accepted(&[did(1, Put(1), 0..=1, Done), op(1, Delete, 2, End::Unknown), failed.clone()]);
    // And one of two equal ones is enough, also when the other begins too late.
    accepted(&[
        did(1, Put(1), 0..=1, Done),
        op(1, Put(2), 2, End::Unknown),
        failed,
        op(4, Put(9), 30, End::Unknown),
    ]);
}

#[test]
fn an_unknown_cas_holds_only_on_its_value() {
    let unknown = op(1, CompareAndSet(Some(1), 2), 0, End::Unknown);
    accepted(&[unknown.clone(), did(2, Put(1), 1..=2, Done), did(2, Get, 3..=4, Found(Some(2)))]);
    refused(&[unknown, did(2, Put(5), 1..=2, Done), did(2, Get, 3..=4, Found(Some(2)))]);
}

#[test]
fn a_chain_of_concurrent_cas_has_one_order() {
    let mut history: Vec<Operation> = (0..40)
        .map(|n| did(1, CompareAndSet(Some(n), n + 1), 10 - n % 7..=1000 + n % 5, Held(true)))
        .collect();
    history.push(did(1, Put(0), 0..=1000, Done));
    history.push(did(2, Get, 2000..=2001, Found(Some(40))));
    accepted(&history);
    history.push(did(2, Get, 2002..=2003, Found(Some(39))));
    assert_eq!(refused(&history).explained, 42);
}

#[test]
fn many_concurrent_writes_that_nobody_reads_are_no_trouble() {
    let mut history: Vec<Operation> = (1..400).map(|n| did(1, Put(n), n..=n + 1000, Done)).collect();
    history.extend((1000..1200).map(|n| op(2, Put(n), n - 900, End::Unknown)));
    history.push(did(3, Get, 3000..=3001, Found(Some(7))));
    accepted(&history);
    history.push(did(3, Get, 3002..=3003, Found(Some(8))));
    history.push(did(3, Get, 3004..=3005, Found(Some(7))));
    refused(&history);
}

#[test]
fn a_search_that_is_too_long_is_given_up() {
    // Writes that are all read, all concurrent, and a read that none of their orders explains.
    let mut history: Vec<Operation> = (1..=16).map(|n| did(1, Put(n), 0..=1000, Done)).collect();
    history.extend((1..=16).map(|n| did(2, Get, 0..=1000, Found(Some(n)))));
    history.push(did(3, Get, 2000..=2001, Found(Some(99))));
    assert_eq!(check(&history, 100), Verdict::Unknown { key: 0 });
    let elsewhere = Operation { key: 1, ..did(1, Get, 0..=1, Found(Some(1))) };
    history.push(elsewhere);
    let Verdict::Violation(violation) = check(&history, 100) else { panic!("the other key is wrong") };
    assert_eq!(violation.key, 1);
}

#[test]
fn a_wrong_history_is_cut_to_what_matters() {
    let mut history: Vec<Operation> = Vec::new();
    for n in 0..50 {
        let at = n * 10;
        history.push(did(1, Put(n), at..=at + 3, Done));
        history.push(did(2, Get, at + 4..=at + 5, Found(Some(n))));
        history.push(Operation { key: 1, ..did(3, Put(n), at..=at + 3, Done) });
    }
    let stale = did(2, Get, 206..=207, Found(Some(3)));
    history.push(stale.clone());
    let short = shorten(&history, STEPS_MAX);
    assert!(matches!(check(&short, STEPS_MAX), Verdict::Violation(_)));
    assert_eq!(short.len(), 3, "{}", shown(&short));
    assert!(short.contains(&stale) && short[0].action == Put(3) && short[0].key == 0);
    let right = &history[..history.len() - 1];
    assert_eq!(shorten(right, STEPS_MAX), right);
}
