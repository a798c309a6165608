//! The checker on histories whose verdict is known: by their name, by how they were made, or by trying every order.

mod anomalies;
mod generated;
mod naive;

use super::*;

use Action::{CompareAndSet, Delete, Get, Put};
use Answer::{Done, Found, Held};

/// One operation on key 0.
fn op(client: u32, action: Action, invoked: u64, end: End) -> Operation {
    Operation { client, key: 0, action, invoked, end }
}

/// One that was answered.
fn did(client: u32, action: Action, times: std::ops::RangeInclusive<u64>, answer: Answer) -> Operation {
    op(client, action, *times.start(), End::Answered(*times.end(), answer))
}

fn accepted(history: &[Operation]) {
    assert_eq!(check(history, STEPS_MAX), Verdict::Linearizable, "{}", shown(history));
}

fn refused(history: &[Operation]) -> Violation {
    match check(history, STEPS_MAX) {
        Verdict::Violation(violation) => violation,
        verdict => panic!("{verdict:?}: {}", shown(history)),
    }
}

fn shown(history: &[Operation]) -> String {
    history.iter().map(|operation| format!("\n  {operation}")).collect()
}
