//! Makes a wrong history short enough to read.

use super::history::{End, Operation};
use super::{Verdict, check};

/// A shorter history that is wrong for the same reason, or the given one if it is not wrong: of the key that is wrong,
/// up to the first answer that has no explanation, without the reads that are not needed.
///
/// Sound because a linearizable history stays so when its end is cut off (what had not ended by then is of unknown outcome)
/// and when operations that change nothing are left out.
#[must_use]
pub fn shorten(history: &[Operation], steps: u64) -> Vec<Operation> {
    let Verdict::Violation(violation) = check(history, steps) else { return history.to_vec() };
    let wrong = |history: &[Operation]| matches!(check(history, steps), Verdict::Violation(_));
    let mut short: Vec<Operation> =
        history.iter().filter(|operation| operation.key == violation.key).cloned().collect();
    let mut ends: Vec<u64> = short.iter().filter_map(Operation::answered).collect();
    ends.sort_unstable();
    // The more is cut off, the less can be wrong: a binary search finds the first answer that is.
    let enough = ends.partition_point(|end| !wrong(&until(&short, *end)));
    if let Some(cut) = ends.get(enough).map(|end| until(&short, *end)).filter(|cut| wrong(cut)) {
        short = cut;
    }
    short.sort_by_key(|operation| operation.invoked);
    let mut at = short.len();
    while at > 0 {
        at -= 1;
        if short[at].changes_nothing() {
            let mut without = short.clone();
            without.remove(at);
            if wrong(&without) {
                short = without;
            }
        }
    }
    short
}

/// What had happened by a time.
fn until(history: &[Operation], time: u64) -> Vec<Operation> {
    let begun = history.iter().filter(|operation| operation.invoked <= time);
    begun
        .map(|operation| {
            let late = operation.answered().is_some_and(|at| at > time);
            Operation { end: if late { End::Unknown } else { operation.end }, ..operation.clone() }
        })
        .collect()
}
