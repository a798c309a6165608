//! Makes a wrong history short enough to read.

use super::history::{Action, Answer, End, Operation};
use super::{Verdict, check};

/// A shorter history that is wrong for the same reason, or the given one if it is not wrong: of the key that is wrong,
/// up to the first answer that has no explanation, without operations that are not needed.
///
/// Sound because each cut leaves a linearizable history linearizable: cutting off the end (what had not ended by then is
/// of unknown outcome), leaving out what changes nothing, and leaving out a write whose value no answer and no condition
/// mentions, as long as no condition is said to have failed.
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
    let mut before = usize::MAX;
    while short.len() < before {
        before = short.len();
        for at in (0..before).rev() {
            if may_go(&short, at) {
                let mut without = short.clone();
                without.remove(at);
                if wrong(&without) {
                    short = without;
                }
            }
        }
    }
    short
}

/// Whether the history stays linearizable without this operation, if it is.
fn may_go(history: &[Operation], at: usize) -> bool {
    let writes = match history[at].action {
        _ if history[at].changes_nothing() => return true,
        Action::Put(value) | Action::CompareAndSet(_, value) => Some(value),
        Action::Get | Action::Delete => None,
    };
    !history.iter().any(|operation| match (operation.action, operation.end) {
        (_, End::Answered(_, Answer::Held(false))) => true,
        (Action::CompareAndSet(expected, _), _) => expected == writes,
        (_, End::Answered(_, Answer::Found(found))) => found == writes,
        _ => false,
    })
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
