//! The definition itself, tried out: every subset of the unknown operations, every order, every pair of times.

use super::*;
use crate::linearizable::history::{after, explains};

/// Whether some order explains a short history of one key.
pub(super) fn linearizable(history: &[Operation]) -> bool {
    let counted: Vec<&Operation> = history.iter().filter(|operation| operation.end != End::Refused).collect();
    let unknown: Vec<usize> = (0..counted.len()).filter(|n| counted[*n].end == End::Unknown).collect();
    (0..1_usize << unknown.len()).any(|left_out| {
        let left_out: Vec<usize> =
            (0..unknown.len()).filter(|bit| left_out >> bit & 1 == 1).map(|bit| unknown[bit]).collect();
        let taken: Vec<&Operation> =
            (0..counted.len()).filter(|n| !left_out.contains(n)).map(|n| counted[n]).collect();
        some_order(&mut Vec::new(), &taken)
    })
}

/// Whether what was ordered so far can be continued with everything else.
fn some_order<'a>(ordered: &mut Vec<&'a Operation>, all: &[&'a Operation]) -> bool {
    if ordered.len() == all.len() {
        return respects_time(ordered) && runs(ordered);
    }
    for next in all {
        if !ordered.iter().any(|known| std::ptr::eq(*known, *next)) {
            ordered.push(next);
            let found = some_order(ordered, all);
            ordered.pop();
            if found {
                return true;
            }
        }
    }
    false
}

fn respects_time(order: &[&Operation]) -> bool {
    (0..order.len()).all(|late| {
        (0..late).all(|early| order[late].answered().is_none_or(|end| end >= order[early].invoked))
    })
}

fn runs(order: &[&Operation]) -> bool {
    let mut held = None;
    order.iter().all(|operation| {
        let fits = match operation.end {
            End::Answered(_, answer) => explains(operation.action, held, answer),
            End::Refused | End::Unknown => true,
        };
        held = after(operation.action, held);
        fits
    })
}
