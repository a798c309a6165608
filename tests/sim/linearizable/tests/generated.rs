//! Histories made by chance: right ones by construction, wrong ones by one change, and short ones of any kind, judged by
//! trying every order.

use rand::RngExt;

use super::*;
use crate::linearizable::history::after;
use crate::random::{Random, chance, stream};

/// Runs actions one after another on real registers, and gives each an interval around the moment at which it happened.
/// Some outcomes are hidden from the client; of those some never happened.
fn made(random: &mut Random, operations: u64, keys: u32, values: Option<u64>) -> Vec<Operation> {
    let mut registers = std::collections::BTreeMap::new();
    let mut history = Vec::new();
    for n in 1..=operations {
        let key = random.random_range(0..keys);
        let held: Option<Value> = registers.get(&key).copied().flatten();
        let value = values.map_or(n, |few| random.random_range(1..=few));
        let action = match random.random_range(0..10) {
            0..=2 => Put(value),
            3..=5 => Get,
            6 | 7 => CompareAndSet(held, value),
            8 => CompareAndSet(Some(random.random_range(1..=operations)), value),
            _ => Delete,
        };
        let moment = n * 10;
        let (early, late) = (random.random_range(0..60), random.random_range(0..60));
        let answer = match action {
            Put(_) | Delete => Done,
            Get => Found(held),
            CompareAndSet(expected, _) => Held(held == expected),
        };
        let fate = random.random_range(0..20);
        let end = match fate {
            0 => End::Refused,
            1 | 2 => End::Unknown,
            _ => End::Answered(moment + late, answer),
        };
        if fate > 1 {
            registers.insert(key, after(action, held));
        }
        let invoked = moment.saturating_sub(early);
        history.push(Operation { client: random.random_range(0..5), key, action, invoked, end });
    }
    history
}

#[test]
fn what_a_real_register_did_is_accepted() {
    for seed in 0..300 {
        let mut random = stream(seed, "right");
        let values = chance(&mut random, 300).then_some(4);
        let history = made(&mut random, 150, 3, values);
        assert_eq!(check(&history, STEPS_MAX), Verdict::Linearizable, "seed {seed}: {}", shown(&history));
    }
}

/// Changes one thing such that no order is left, whatever the rest is.
fn broken(random: &mut Random, history: &[Operation]) -> Option<Vec<Operation>> {
    let mut wrong = history.to_vec();
    let reads: Vec<usize> =
        (0..wrong.len()).filter(|n| matches!(wrong[*n].end, End::Answered(_, Found(_)))).collect();
    let at = *reads.get(random.random_range(0..reads.len().max(1)))?;
    let (key, invoked) = (wrong[at].key, wrong[at].invoked);
    let End::Answered(ended, _) = wrong[at].end else { return None };
    let of_key = |operation: &&Operation| operation.key == key;
    let writes = |operation: &Operation, value: Value| match operation.action {
        Put(written) | CompareAndSet(_, written) => written == value,
        Get | Delete => false,
    };
    let found = match random.random_range(0..3) {
        // A value that nobody wrote.
        0 => 1_000_000,
        // A value whose only write begins after the read has ended.
        1 => {
            let later = wrong.iter().filter(of_key).find(|o| o.invoked > ended && !o.changes_nothing())?;
            match later.action {
                Put(value) | CompareAndSet(_, value) => value,
                Get | Delete => return None,
            }
        }
        // A value that a later write had certainly replaced before the read began.
        _ => {
            let before = |o: &&Operation, time: u64| o.answered().is_some_and(|at| at < time);
            let new = wrong
                .iter()
                .filter(of_key)
                .find(|o| before(o, invoked) && matches!(o.action, Put(_)) && !o.changes_nothing())?;
            let old = wrong.iter().filter(of_key).find(|o| before(o, new.invoked) && !o.changes_nothing())?;
            match old.action {
                Put(value) | CompareAndSet(_, value) => value,
                Get | Delete => return None,
            }
        }
    };
    let one_writer = wrong.iter().filter(of_key).filter(|o| writes(o, found)).count() <= 1;
    wrong[at].end = End::Answered(ended, Found(Some(found)));
    one_writer.then_some(wrong)
}

#[test]
fn one_change_that_leaves_no_order_is_refused() {
    let mut tried = 0;
    for seed in 0..600 {
        let mut random = stream(seed, "wrong");
        let history = made(&mut random, 60, 2, None);
        let Some(wrong) = broken(&mut random, &history) else { continue };
        tried += 1;
        let verdict = check(&wrong, STEPS_MAX);
        assert!(matches!(verdict, Verdict::Violation(_)), "seed {seed}: {verdict:?} {}", shown(&wrong));
        let short = shorten(&wrong, STEPS_MAX);
        assert!(short.len() <= wrong.len() && matches!(check(&short, STEPS_MAX), Verdict::Violation(_)));
    }
    assert!(tried > 300, "only {tried} histories could be broken");
}

/// A short history of one key in which times, values and answers are drawn from few.
fn any(random: &mut Random) -> Vec<Operation> {
    let count = random.random_range(1..=7);
    let value = |random: &mut Random| random.random_range(1..=3);
    let maybe = |random: &mut Random| Some(random.random_range(0..=3)).filter(|value| *value > 0);
    (0..count)
        .map(|client| {
            let action = match random.random_range(0..6) {
                0 | 1 => Put(value(random)),
                2 | 3 => Get,
                4 => CompareAndSet(maybe(random), value(random)),
                _ => Delete,
            };
            let answer = match action {
                Put(_) | Delete => Done,
                Get => Found(maybe(random)),
                CompareAndSet(..) => Held(chance(random, 500)),
            };
            let invoked = random.random_range(0..8);
            let end = match random.random_range(0..8) {
                0 => End::Refused,
                1 | 2 => End::Unknown,
                _ => End::Answered(invoked + random.random_range(0..6), answer),
            };
            op(client, action, invoked, end)
        })
        .collect()
}

#[test]
fn short_histories_are_judged_as_by_trying_every_order() {
    let (mut right, mut wrong) = (0, 0);
    for seed in 0..4000 {
        let mut random = stream(seed, "any");
        let history =
            if chance(&mut random, 300) { made(&mut random, 6, 1, Some(3)) } else { any(&mut random) };
        let expected = naive::linearizable(&history);
        let verdict = check(&history, STEPS_MAX);
        assert_eq!(
            verdict == Verdict::Linearizable,
            expected,
            "seed {seed}: {verdict:?} {}",
            shown(&history)
        );
        *(if expected { &mut right } else { &mut wrong }) += 1;
    }
    assert!(right > 500 && wrong > 500, "{right} right, {wrong} wrong");
}
