//! The search for an order, for one key.
//!
//! An order is built from the front. What may come next is every operation that began before the first end among those
//! left; operations of unknown outcome may come at any time after they began, or never. Four things keep it short, none
//! of which can miss an order:
//!
//! - reads, and conditions that did not hold, are taken at once when they fit: wherever an order has them, it can have
//!   them here;
//! - of equal actions only the one that ends first is tried: two of them can change places;
//! - values that no answer and no condition mentions are one value: nobody can tell them apart;
//! - a set of ordered operations with the value they lead to is looked at once.

use std::collections::BTreeSet;

use super::history::{Action, Answer, End, Key, Operation, Value, after, explains};
use super::{Verdict, Violation};

/// An operation that must or may be ordered.
#[derive(Clone, Copy, Debug)]
struct Step {
    action: Action,
    invoked: u64,
    /// When it ended, and with what; `None` for an unknown outcome.
    answered: Option<(u64, Answer)>,
    /// Which of the given operations it is.
    original: usize,
}

/// How far an order has come.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    /// The operations already ordered, one bit each.
    ordered: Vec<u64>,
    held: Option<Value>,
    /// The first operation that must be ordered and is not.
    first: usize,
}

impl Place {
    fn has(&self, step: usize) -> bool {
        self.ordered[step / 64] >> (step % 64) & 1 == 1
    }

    fn with(&self, step: usize, held: Option<Value>) -> Self {
        let mut next = self.clone();
        next.take(step, held);
        next
    }

    fn take(&mut self, step: usize, held: Option<Value>) {
        self.ordered[step / 64] |= 1 << (step % 64);
        self.held = held;
    }
}

struct Search {
    /// First those that must be ordered, then those that may, both by the time of their beginning.
    steps: Vec<Step>,
    must: usize,
}

pub(super) fn search(key: Key, operations: &[&Operation], steps: u64) -> Verdict {
    let search = Search::new(operations);
    let mut seen = BTreeSet::new();
    let start = Place { ordered: vec![0; search.steps.len().div_ceil(64)], held: None, first: 0 };
    // With each place the write that led to it.
    let mut places = vec![(start.clone(), None)];
    let mut best = (start, None);
    while let Some((mut place, wrote)) = places.pop() {
        search.take_what_fits(&mut place);
        if place.first == search.must {
            return Verdict::Linearizable;
        }
        if seen.len() as u64 >= steps {
            return Verdict::Unknown { key };
        }
        if !seen.insert(place.clone()) {
            continue;
        }
        if search.explained(&place) > search.explained(&best.0) {
            best = (place.clone(), wrote);
        }
        // The last one is looked at first: those that must come before those that may.
        for step in search.next(&place).into_iter().rev() {
            let held = after(search.steps[step].action, place.held);
            places.push((place.with(step, held), Some(step)));
        }
    }
    Verdict::Violation(search.violation(key, &best.0, best.1, operations))
}

impl Search {
    /// Values that nobody mentions become one: the smallest that nobody mentions.
    fn new(operations: &[&Operation]) -> Self {
        let told_apart = mentioned(operations);
        let other = (0..).zip(&told_apart).find(|(n, known)| n != *known);
        let other = other.map_or(told_apart.len() as u64, |(n, _)| n);
        let merge = |value| if told_apart.contains(&value) { value } else { other };
        let mut steps: Vec<Step> = operations
            .iter()
            .enumerate()
            .filter_map(|(original, operation)| {
                let action = match operation.action {
                    Action::Put(value) => Action::Put(merge(value)),
                    Action::CompareAndSet(expected, value) => Action::CompareAndSet(expected, merge(value)),
                    Action::Get | Action::Delete => operation.action,
                };
                let answered = match operation.end {
                    End::Answered(at, answer) => Some((at, answer)),
                    End::Unknown if action != Action::Get => None,
                    End::Unknown | End::Refused => return None,
                };
                Some(Step { action, invoked: operation.invoked, answered, original })
            })
            .collect();
        steps.sort_by_key(|step| (step.answered.is_none(), step.invoked));
        let must = steps.iter().take_while(|step| step.answered.is_some()).count();
        Self { steps, must }
    }

    fn explained(&self, place: &Place) -> usize {
        (0..self.must).filter(|step| place.has(*step)).count()
    }

    /// The time before which everything that may come next began.
    fn horizon(&self, place: &Place) -> u64 {
        let mut horizon = u64::MAX;
        for step in (place.first..self.must).filter(|step| !place.has(*step)) {
            let Step { invoked, answered, .. } = self.steps[step];
            if invoked > horizon {
                break;
            }
            horizon = answered.map_or(horizon, |(at, _)| horizon.min(at));
        }
        horizon
    }

    /// Those that must be ordered and may come next.
    fn answered_next(&self, place: &Place) -> Vec<usize> {
        let horizon = self.horizon(place);
        let began = |step: &usize| self.steps[*step].invoked <= horizon;
        (place.first..self.must).take_while(began).filter(|step| !place.has(*step)).collect()
    }

    /// Orders whatever fits and can never change anything, again and again: each one may let the next begin. A write
    /// of what the key holds already is not among them: later it may change something.
    fn take_what_fits(&self, place: &mut Place) {
        loop {
            let mut taken = false;
            for step in self.answered_next(place) {
                let Step { action, answered, .. } = self.steps[step];
                let Some((_, answer)) = answered else { continue };
                let reads = matches!((action, answer), (Action::Get, _) | (_, Answer::Held(false)));
                if reads && explains(action, place.held, answer) {
                    place.take(step, place.held);
                    taken = true;
                }
            }
            while place.first < self.must && place.has(place.first) {
                place.first += 1;
            }
            if !taken {
                return;
            }
        }
    }

    /// What writes and may come next; of what has no answer only what would change something now.
    fn next(&self, place: &Place) -> Vec<usize> {
        let horizon = self.horizon(place);
        let mut answered = self.answered_next(place);
        answered.sort_by_key(|step| self.steps[*step].answered.map(|(at, _)| at));
        let unknown = (self.must..self.steps.len())
            .take_while(|step| self.steps[*step].invoked <= horizon)
            .filter(|step| !place.has(*step));
        let mut tried = BTreeSet::new();
        let mut found = Vec::new();
        for step in answered.into_iter().chain(unknown) {
            let Step { action, answered, .. } = self.steps[step];
            let fits = match answered {
                Some((_, answer)) => action != Action::Get && explains(action, place.held, answer),
                None => after(action, place.held) != place.held,
            };
            if fits && tried.insert(action) {
                found.push(step);
            }
        }
        found
    }

    fn violation(
        &self,
        key: Key,
        best: &Place,
        wrote: Option<usize>,
        operations: &[&Operation],
    ) -> Violation {
        let stuck = self.answered_next(best);
        let original = |step: usize| operations[self.steps[step].original];
        // As it was written, not as it was merged.
        let value = wrote.and_then(|step| match original(step).action {
            Action::Put(value) | Action::CompareAndSet(_, value) => Some(value),
            Action::Get | Action::Delete => None,
        });
        Violation {
            key,
            explained: self.explained(best),
            value,
            stuck: stuck.into_iter().map(|step| original(step).clone()).collect(),
        }
    }
}

/// The values that some answer or condition names.
fn mentioned(operations: &[&Operation]) -> BTreeSet<Value> {
    let found = operations.iter().filter_map(|operation| match operation.end {
        End::Answered(_, Answer::Found(value)) => value,
        End::Answered(..) | End::Refused | End::Unknown => None,
    });
    let expected = operations.iter().filter_map(|operation| match operation.action {
        Action::CompareAndSet(expected, _) => expected,
        Action::Put(_) | Action::Get | Action::Delete => None,
    });
    found.chain(expected).collect()
}
